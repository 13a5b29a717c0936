//! The Train tab with the real engine on a tiny model: a run is started, watched, held, stopped, gone on with, found again.

use std::path::{Path, PathBuf};

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers};
use rankscope::app::{App, Start};
use rankscope::train::run;
use rankscope::train::{Settings, status};
use serde_json::json;

use crate::safetensors::fixture;
use crate::support::*;

/// Rows of ids that the small Llama can learn.
fn data(folder: &Path) -> PathBuf {
    let row = |row: u32| json!({"input_ids": (0..24).map(|at| (row * 31 + at * 7) % 300 + 3).collect::<Vec<u32>>()});
    let path = folder.join("data.jsonl");
    std::fs::write(&path, (0..40).map(|at| format!("{}\n", row(at))).collect::<String>()).unwrap();
    path
}

/// A window with the small Llama and the Train tab in front; its runs are kept in `folder`.
fn window(folder: &Path) -> Window {
    let start =
        Start { request: Some(pair("llama", "llama-tuned")), data_dir: Some(folder.to_path_buf()), ..Start::default() };
    let mut window = builder().with_size([1280.0, 1600.0]).build_eframe(|cc| App::new(cc, start));
    settle(&mut window);
    press(&mut window, Modifiers::COMMAND, Key::Num5);
    window
}

fn lines_from(run: &Path) -> Vec<usize> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let step = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["step"].as_u64().map(|s| s as usize);
    text.lines().filter_map(step).collect()
}

#[test]
fn a_run_that_was_cut_off_is_offered() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        model: fixture("llama"),
        data: data(folder.path()),
        out: folder.path().join("runs/cut"),
        rank: 2,
        targets: "q_proj".into(),
        steps: Some(8),
        save_every: 2,
        ..Settings::default()
    };
    run::run(settings.clone(), run::Start::default(), &(), &mut |_| Ok(())).unwrap();
    // As after a kill: no end was noted, and nothing after the last checkpoint is there.
    let mut left = status::Status::read(&settings.out).unwrap();
    left.state = status::State::Running;
    left.write(&settings.out).unwrap();
    std::fs::remove_file(settings.out.join("adapter_model.safetensors")).unwrap();
    let mut window = window(folder.path());
    until(&mut window, "the offer", |w| says(w, "cut was cut off at step 8 of 8") && says(w, "checkpoint at step 6"));
    click(&mut window, Role::Button, "Go on");
    until(&mut window, "the end", |w| says(w, "cut is finished.") && is_quiet(w));
    assert!(settings.out.join("adapter_model.safetensors").is_file());
    assert_eq!(lines_from(&settings.out), (1..=8).collect::<Vec<_>>());
    click(&mut window, Role::Button, "ΔW in Spectrum");
    until(&mut window, "its ΔW", |w| is_quiet(w) && says(w, "Spectrum of 2 modules") || known(w) == (2, 2));
}
