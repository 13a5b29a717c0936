//! The Train tab with the real engine on a tiny model: a run is started, watched, held, stopped, gone on with, found again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use eframe::App as _;
use eframe::egui::accesskit::Role;
use eframe::egui::{DroppedFile, Key, Modifiers, ViewportEvent, ViewportId};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use rankscope::app::{App, Start};
use rankscope::train::run::{self, Event};
use rankscope::train::{Settings, status};
use serde_json::json;
use tempfile::TempDir;

use crate::fixtures::fixture;
use crate::runs::again;
use crate::settings::Kept;
use crate::support::*;

/// Rows of ids that the small Llama can learn.
pub fn data(folder: &Path) -> PathBuf {
    let row = |row: u32| json!({"input_ids": (0..24).map(|at| (row * 31 + at * 7) % 300 + 3).collect::<Vec<u32>>()});
    let path = folder.join("data.jsonl");
    std::fs::write(&path, (0..40).map(|at| format!("{}\n", row(at))).collect::<String>()).unwrap();
    path
}

/// A window with the small Llama and the Train tab in front; its runs are kept in `folder`.
pub fn window(folder: &Path) -> Window {
    let start =
        Start { request: Some(pair("llama", "llama-tuned")), data_dir: Some(folder.to_path_buf()), ..Start::default() };
    // What an untrained model writes has signs of any script.
    let builder = builder().allow_missing_glyphs().with_size([1280.0, 1600.0]);
    let mut window = builder.build_eframe(|cc| App::new(cc, start));
    settle(&mut window);
    press(&mut window, Modifiers::COMMAND, Key::Num6);
    window
}

/// Sets a number.
pub fn number_in(window: &mut Window, name: &str, value: usize) {
    get(window, Role::SpinButton, name).set_value_accesskit(value as f64);
    window.step();
    window.step();
}

/// A window with data chosen and a run of so many steps set up.
pub fn ready(folder: &TempDir, steps: usize) -> Window {
    let path = data(folder.path());
    let mut window = window(folder.path());
    write(&mut window, "Data file", path.to_str().unwrap());
    press(&mut window, Modifiers::NONE, Key::Enter);
    until(&mut window, "the data", |w| says(w, "36 rows, "));
    number_in(&mut window, "Length of the run", steps);
    window
}

/// The step that the run is at, as the screen says.
pub fn step(window: &Window) -> usize {
    let text = texts(window).into_iter().find(|text| text.starts_with("step ") && text.contains(" of "));
    text.and_then(|text| text.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

pub fn runs(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("runs")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_run_is_watched_held_stopped_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = ready(&folder, 1500);
    assert!(says(&window, "1,000") || says(&window, "tokens"), "{:?}", texts(&window));
    click(&mut window, Role::Button, "Start the run");
    until(&mut window, "numbers", |w| step(w) > 3 && says(w, "tokens/s"));
    for plot in ["Loss", "Learning rate", "Gradient norm", "Speed", "Memory"] {
        get(&window, Role::Image, plot);
    }
    until(&mut window, "the film", |w| says(w, "Spectrum film"));
    get(&window, Role::Image, &format!("Singular values of ΔW of {Q}"));
    // Held: nothing moves, and the window rests.
    click(&mut window, Role::Button, "Pause");
    until(&mut window, "a rest", |w| says(w, "paused") && !delay(w).is_zero());
    let lines = || std::fs::read_to_string(runs(folder.path())[0].join("metrics.jsonl")).unwrap().lines().count();
    std::thread::sleep(std::time::Duration::from_millis(100));
    let held = lines();
    std::thread::sleep(std::time::Duration::from_millis(150));
    assert_eq!(lines(), held, "a held run writes nothing");
    click(&mut window, Role::Button, "Resume");
    until(&mut window, "further steps", |w| step(w) > held + 2);
    click(&mut window, Role::Button, "Stop");
    until(&mut window, "the end", |w| says(w, "stopped") && is_quiet(w));
    let run = runs(folder.path()).remove(0);
    let stopped = lines();
    assert!(stopped < 1500 && run.join("checkpoints").join(format!("step-{stopped}")).is_dir());
    // Another window finds it, and goes on with it.
    drop(window);
    let mut window = self::window(folder.path());
    until(&mut window, "an offer", |w| says(w, &format!("was stopped at step {stopped} of 1500")));
    click(&mut window, Role::Button, "History");
    let name = run.file_name().unwrap().to_str().unwrap().to_owned();
    let row = format!("{name}, stopped");
    until(&mut window, "the run on the disk", |w| says(w, &row));
    window.get_by_role_and_label(Role::Row, &row).click_accesskit();
    window.step();
    window.step();
    // The row's, not that of the offer above it.
    window.get_all_by_role_and_label(Role::Button, "Resume").last().unwrap().click_accesskit();
    until(&mut window, "the first part and more", |w| step(w) > stopped + 2);
    assert_eq!(lines_from(&run), (1..=lines_from(&run).len()).collect::<Vec<_>>(), "no step is missing or double");
    click(&mut window, Role::Button, "Stop");
    until(&mut window, "the end", is_quiet);
}

pub fn lines_from(run: &Path) -> Vec<usize> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let step = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["step"].as_u64().map(|s| s as usize);
    text.lines().filter_map(step).collect()
}

#[test]
fn closing_asks_and_saves() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = ready(&folder, 100_000);
    click(&mut window, Role::Button, "Start the run");
    until(&mut window, "numbers", |w| step(w) > 2);
    let close = |window: &mut Window| {
        let input = window.input_mut();
        input.viewports.entry(ViewportId::ROOT).or_default().events.push(ViewportEvent::Close);
        window.step();
        window.input_mut().viewports.entry(ViewportId::ROOT).or_default().events.clear();
        window.step();
    };
    close(&mut window);
    click(&mut window, Role::Button, "Keep it running");
    let at = step(&window);
    until(&mut window, "further steps", |w| step(w) > at);
    close(&mut window);
    click(&mut window, Role::Button, "Save a checkpoint and close");
    until(&mut window, "the end", is_quiet);
    let run = runs(folder.path()).remove(0);
    let saved = std::fs::read_dir(run.join("checkpoints")).unwrap().count();
    assert!(saved > 0, "no checkpoint");
    assert!(!status::is_running(&run));
}

#[test]
fn a_signal_of_the_system_closes_and_saves() {
    let folder = tempfile::tempdir().unwrap();
    let start = Start {
        request: Some(pair("llama", "llama-tuned")),
        data_dir: Some(folder.path().to_path_buf()),
        ..Start::default()
    };
    let ending = Arc::clone(&start.ending);
    // What an untrained model writes has signs of any script.
    let builder = builder().allow_missing_glyphs().with_size([1280.0, 1600.0]);
    let mut window = builder.build_eframe(|cc| App::new(cc, start));
    settle(&mut window);
    press(&mut window, Modifiers::COMMAND, Key::Num6);
    let path = data(folder.path());
    write(&mut window, "Data file", path.to_str().unwrap());
    press(&mut window, Modifiers::NONE, Key::Enter);
    until(&mut window, "the data", |w| says(w, "36 rows, "));
    number_in(&mut window, "Length of the run", 100_000);
    click(&mut window, Role::Button, "Start the run");
    until(&mut window, "numbers", |w| step(w) > 2);
    ending.store(true, std::sync::atomic::Ordering::Relaxed);
    let closes = |w: &Window| {
        let commands = w.output().viewport_output.get(&ViewportId::ROOT).map(|output| output.commands.clone());
        commands.is_some_and(|commands| commands.contains(&eframe::egui::ViewportCommand::Close))
    };
    let closed = std::cell::Cell::new(false);
    until(&mut window, "the end", |w| {
        closed.set(closed.get() || closes(w));
        closed.get() && is_quiet(w)
    });
    let run = runs(folder.path()).remove(0);
    assert!(std::fs::read_dir(run.join("checkpoints")).unwrap().count() > 0, "no checkpoint");
    assert!(!status::is_running(&run));
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
    click(&mut window, Role::Button, "Resume");
    until(&mut window, "the end", |w| says(w, "cut is finished.") && is_quiet(w));
    assert!(settings.out.join("adapter_model.safetensors").is_file());
    assert_eq!(lines_from(&settings.out), (1..=8).collect::<Vec<_>>());
    click(&mut window, Role::Button, "ΔW in Spectrum");
    until(&mut window, "its ΔW", |w| is_quiet(w) && says(w, "Spectrum of 2 modules") || known(w) == (2, 2));
}

#[test]
fn data_that_is_gone_or_wrong_is_said_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = ready(&folder, 50);
    // Gone between the preview and the start.
    std::fs::remove_file(folder.path().join("data.jsonl")).unwrap();
    click(&mut window, Role::Button, "Start the run");
    until(&mut window, "a refusal", |w| says(w, "data.jsonl: cannot open: there is no such file or folder"));
    let bad = folder.path().join("bad.jsonl");
    std::fs::write(&bad, "{\"input_ids\": [1, 2, 3]}\n{\"input_ids\": [1, 99999]}\n").unwrap();
    write(&mut window, "Data file", bad.to_str().unwrap());
    press(&mut window, Modifiers::NONE, Key::Enter);
    until(&mut window, "a refusal", |w| says(w, "line 2: token id 99999 is outside the model's vocabulary of 320"));
    assert!(get(&window, Role::Button, "Start the run").accesskit_node().is_disabled());
}

/// A table whose columns have names of their own: two menus say which is which, and what is held out is of this file.
#[test]
fn columns_are_chosen_and_rows_held_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = ready(&folder, 50_000);
    let path = folder.path().join("asked.csv");
    let rows: String = (0..20).map(|at| format!("what is {at},the rank of {at}\n")).collect();
    std::fs::write(&path, format!("question,answer\n{rows}")).unwrap();
    write(&mut window, "Data file", path.to_str().unwrap());
    press(&mut window, Modifiers::NONE, Key::Enter);
    until(&mut window, "a refusal", |w| says(w, "found question, answer; expected text, prompt and completion"));
    for (menu, column) in [("Prompt", "question"), ("Completion", "answer")] {
        // What the column before changes has come.
        until(&mut window, "a rest", is_quiet);
        click(&mut window, Role::ComboBox, menu);
        until(&mut window, "its menu", |w| w.query_by_role_and_label(Role::Button, column).is_some());
        click(&mut window, Role::Button, column);
    }
    until(&mut window, "the rows", |w| says(w, "18 rows, ") && says(w, "2 rows are held out"));
    write(&mut window, "Hold out", "25%");
    press(&mut window, Modifiers::NONE, Key::Enter);
    until(&mut window, "a larger share", |w| says(w, "15 rows, ") && says(w, "5 rows are held out"));
    // What the model is asked during the run stands in these rows, up to the answer.
    click(&mut window, Role::Button, "Start the run");
    let settings = || rankscope::train::run_folder::RunFolder::new(runs(folder.path()).first()?).settings().ok();
    until(&mut window, "its settings", |_| settings().is_some());
    let settings = settings().unwrap();
    assert_eq!(settings.columns.to_string(), "completion=answer,prompt=question");
    assert!(settings.hold_out.is_some_and(|share| share.share() == 0.25) && settings.eval_data.is_none());
    assert!(settings.prompts.len() == 2 && settings.prompts.iter().all(|prompt| prompt.starts_with("what is ")));
    click(&mut window, Role::Button, "Stop");
    until(&mut window, "the end", is_quiet);
}

/// What the system hands over when a file is dropped.
#[derive(Debug)]
struct Dropped(PathBuf);

impl DroppedFile for Dropped {
    fn path(&self) -> &Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        Err("nobody reads it".into())
    }
}

#[test]
fn a_run_of_another_program_is_watched_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let path = data(folder.path());
    let mut window = window(folder.path());
    // Dropped on the window, a data file is chosen.
    window.input_mut().dropped_files.push(Arc::new(Dropped(path.clone())));
    until(&mut window, "the data", |w| says(w, "36 rows, "));
    let settings = Settings {
        model: fixture("llama"),
        data: path,
        out: folder.path().join("runs/elsewhere"),
        targets: "q_proj,v_proj".into(),
        rank: 2,
        steps: Some(60),
        eval_every: 10,
        ..Settings::default()
    };
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let theirs = settings.clone();
    let other = std::thread::spawn(move || {
        let wait = std::sync::Mutex::new(wait);
        run::run(theirs, run::Start::default(), &(), &mut |event| {
            // Stands still in the middle until it has been seen.
            if matches!(event, Event::Step(record) if record.step.step == 30) {
                wait.lock().unwrap().recv().unwrap();
            }
            Ok(())
        })
    });
    click(&mut window, Role::Button, "History");
    until(&mut window, "its state", |w| says(w, "elsewhere, running"));
    window.get_by_role_and_label(Role::Row, "elsewhere, running").click_accesskit();
    window.step();
    window.step();
    click(&mut window, Role::Button, "Open");
    until(&mut window, "its steps", |w| says(w, "running in another program") && step(w) == 30);
    go.send(()).unwrap();
    until(&mut window, "its end", |w| step(w) == 60 && says(w, "finished"));
    other.join().unwrap().unwrap();
    click(&mut window, Role::Button, "History");
    click(&mut window, Role::Button, "Delete…");
    click(&mut window, Role::Button, "Keep it");
    assert!(settings.out.is_dir());
    click(&mut window, Role::Button, "Delete…");
    click(&mut window, Role::Button, "Delete the run");
    until(&mut window, "an empty list", |w| says(w, "No runs yet"));
    assert!(!settings.out.exists());
}

#[test]
fn methods_are_compared_and_ranks_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = ready(&folder, 12);
    click(&mut window, Role::Button, "Compare");
    click(&mut window, Role::Button, "Train LoRA, QLoRA and full");
    until(&mut window, "three runs", |w| says(w, "full is finished.") && is_quiet(w));
    get(&window, Role::Image, "Loss on held-out rows");
    until(&mut window, "the sentence", |w| says(w, "The full run spreads this module's ΔW"));
    click(&mut window, Role::Button, "Sweep");
    write(&mut window, "Ranks of the sweep", "1, 2");
    click(&mut window, Role::Button, "Start the sweep");
    until(&mut window, "its end", |w| says(w, "is finished.") && says(w, "On held-out rows r = ") && is_quiet(w));
    get(&window, Role::Image, "Loss against rank");
    // Three rates at each rank.
    let rows = |r: usize| {
        let all = window.get_all_by_role(Role::Row).filter(|row| {
            row.accesskit_node().label().is_some_and(|label| label.starts_with(&format!("r = {r}, rate ")))
        });
        all.map(|row| row.rect().top()).collect::<Vec<f32>>()
    };
    assert_eq!((rows(1).len(), rows(2).len()), (3, 3));
    assert!(rows(2)[0] > rows(1)[2]);
}

/// Every setting of the table that the window shows as a row has one, and it changes what is set up.
#[test]
fn every_setting_has_its_row() {
    use rankscope::train::{Control, SETTINGS, Shown};
    let folder = tempfile::tempdir().unwrap();
    let mut window = window(folder.path());
    // Tall enough for the whole form.
    window.set_size(eframe::egui::vec2(1280.0, 4000.0));
    settle(&mut window);
    window.get_by_label("More settings").click_accesskit();
    settle(&mut window);
    for setting in SETTINGS.iter().filter(|setting| matches!(setting.about.shown, Shown::Row | Shown::More)) {
        let label = setting.about.label;
        let role = match setting.about.control {
            Control::Switch(_) => Role::CheckBox,
            Control::Path(_) | Control::Text(_) | Control::Lines(_) | Control::Patterns => Role::TextInput,
            Control::Choice(_) | Control::Sizes(_) => Role::ComboBox,
            Control::Whole(_) | Control::Real | Control::Exponent => Role::SpinButton,
        };
        assert!(window.query_by_role_and_label(role, label).is_some(), "no {role:?} {label}: {:?}", texts(&window));
    }
    number_in(&mut window, "LoftQ iterations", 3);
    write(&mut window, "Rank pattern", "layers.0.*q_proj = 2");
    click(&mut window, Role::CheckBox, "Packing");
    settle(&mut window);
    // What is painted comes from what is set up.
    assert_eq!(number(&window, Role::SpinButton, "LoftQ iterations"), 3.0);
    let pattern = get(&window, Role::TextInput, "Rank pattern").accesskit_node().value();
    assert_eq!(pattern.as_deref(), Some("layers.0.*q_proj = 2"));
}

/// Data and a run are two pages: a run that begins comes to the front, other data do too.
#[test]
fn data_can_be_looked_at_after_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = ready(&folder, 2);
    assert!(says(&window, "The data as the model will see it"));
    click(&mut window, Role::Button, "Start the run");
    until(&mut window, "its end", |w| says(w, "finished") && is_quiet(w));
    assert!(says(&window, "Cursor at step") && !says(&window, "The data as the model will see it"));
    click(&mut window, Role::Button, "Data");
    assert!(says(&window, "The data as the model will see it") && !says(&window, "Cursor at step"));
    click(&mut window, Role::Button, "Run");
    let other = folder.path().join("other.txt");
    std::fs::write(&other, "{\"input_ids\": [5, 6, 7, 8, 9]}\n".repeat(30)).unwrap();
    let other = {
        std::fs::rename(&other, other.with_extension("jsonl")).unwrap();
        other.with_extension("jsonl")
    };
    write(&mut window, "Data file", other.to_str().unwrap());
    press(&mut window, Modifiers::NONE, Key::Enter);
    until(&mut window, "the other rows", |w| {
        says(w, "The data as the model will see it") && says(w, "27 rows to train on")
    });
}

/// A run that was stopped is offered whatever tab is in front, until a person has said no once.
#[test]
fn a_stopped_run_is_offered_on_every_tab_and_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = ready(&folder, 100_000);
    click(&mut window, Role::Button, "Start the run");
    until(&mut window, "numbers", |w| step(w) > 1);
    click(&mut window, Role::Button, "Stop");
    until(&mut window, "the end", |w| says(w, "stopped") && is_quiet(w));
    // Meanwhile its checkpoint can be asked.
    click(&mut window, Role::Button, "Talk to it");
    until(&mut window, "the page", |w| says(w, "This run has no result yet: its checkpoint at step "));
    assert!(
        says(&window, ", step ") && window.query_by_role_and_label(Role::Button, "Write the merged model…").is_none()
    );
    let mut kept = Kept::default();
    window.state_mut().save(&mut kept);
    drop(window);
    let mut window = again(kept, folder.path());
    press(&mut window, Modifiers::COMMAND, Key::Num3);
    until(&mut window, "an offer in Spectrum", |w| says(w, "was stopped at step"));
    click(&mut window, Role::Button, "Leave it");
    assert!(!says(&window, "was stopped at step"));
    let mut kept = Kept::default();
    window.state_mut().save(&mut kept);
    drop(window);
    let mut window = again(kept, folder.path());
    click(&mut window, Role::Button, "History");
    until(&mut window, "the runs", |w| says(w, ", stopped"));
    assert!(!says(&window, "was stopped at step"), "it was left");
}

/// What tuning has forgotten: new directions are found, scaled down, and written as an adapter of their own.
#[test]
fn new_directions_are_scaled_down() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        model: fixture("llama"),
        data: data(folder.path()),
        out: folder.path().join("runs/loud"),
        rank: 2,
        lr: 0.1,
        targets: "q_proj,v_proj".into(),
        steps: Some(20),
        ..Settings::default()
    };
    run::run(settings, run::Start::default(), &(), &mut |_| Ok(())).unwrap();
    let mut window = window(folder.path());
    click(&mut window, Role::Button, "Forgetting");
    until(&mut window, "the adapter", |w| says(w, "loud"));
    assert!(says(&window, "Without such text only the loss of the task is measured."));
    write(&mut window, "Text of the base's own kind", folder.path().join("data.jsonl").to_str().unwrap());
    assert!(!says(&window, "Without such text only the loss of the task is measured."));
    click(&mut window, Role::Button, "Look for new directions");
    until(&mut window, "the directions", |w| says(w, "strong directions are new, in ") && is_quiet(w));
    get(&window, Role::Image, "Both losses against the scale of the new directions");
    assert!(says(&window, "as before") && !says(&window, "not measured"));
    get(&window, Role::Slider, "Scale of the new directions").set_value_accesskit(0.0);
    window.step();
    window.step();
    click(&mut window, Role::Button, "Save the scaled adapter");
    until(&mut window, "the adapter", |w| {
        says(w, "The adapter with its new directions scaled by 0.0 is in ") && is_quiet(w)
    });
    let written = runs(folder.path()).into_iter().find(|run| run.to_string_lossy().ends_with("mended-1")).unwrap();
    assert!(rankscope::adapter::Adapter::open(&written).unwrap().trainable() > 0);
}
