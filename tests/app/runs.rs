//! What one does with runs in the Train tab: where they are kept, begun again at a checkpoint, looked at, sampled, merged; and a
//! disk that takes no more.

use std::path::{Path, PathBuf};

use eframe::App as _;
use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers, OutputCommand};
use egui_kittest::kittest::Queryable as _;
use rankscope::adapter::Adapter;
use rankscope::app::{App, Start};
use rankscope::checkpoint::Checkpoint;
use rankscope::model::{Decoder, Frozen};
use rankscope::train::film::Frame;
use rankscope::train::{Method, Sample, Sampling, Settings, Text, generate, run};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::fixtures::fixture;
use crate::settings::Kept;
use crate::support::*;
use crate::training::{data, lines_from, number_in, ready, runs, step, window};

/// A run of eight steps that is on the disk already, with a checkpoint and a spectrum every second step.
fn done(folder: &Path) -> Settings {
    let settings = Settings {
        model: fixture("llama"),
        data: data(folder),
        out: folder.join("runs/first"),
        method: Method::Lora,
        rank: 2,
        lr: 5e-3,
        targets: "q_proj,v_proj".into(),
        steps: Some(8),
        save_every: 2,
        film_every: 2,
        ..Settings::default()
    };
    run::run(settings.clone(), run::Start::default(), &(), &mut |_| Ok(())).unwrap();
    settings
}

/// Chooses a run in the list and looks at it.
fn open(window: &mut Window, row: &str) {
    click(window, Role::Button, "History");
    until(window, "the run", |w| w.query_by_role_and_label(Role::Row, row).is_some());
    window.get_by_role_and_label(Role::Row, row).click_accesskit();
    window.step();
    window.step();
    click(window, Role::Button, "Open");
    until(window, "its steps", |w| step(w) > 0);
}

/// Opens the menu of what a run gives and takes something from it.
fn take(window: &mut Window, what: &str) {
    click(window, Role::Button, "Export ▾");
    click(window, Role::Button, what);
}

fn lines<T: DeserializeOwned>(run: &Path, file: &str) -> Vec<T> {
    let text = std::fs::read_to_string(run.join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_new_run_begins_at_a_checkpoint_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let first = done(folder.path());
    let mut window = window(folder.path());
    open(&mut window, "first, finished");
    take(&mut window, "New run from step 4");
    until(&mut window, "its end", |w| says(w, "first-from-4-1 is finished.") && is_quiet(w));
    let second = folder.path().join("runs/first-from-4-1");
    assert_eq!(lines_from(&second), (1..=8).collect::<Vec<_>>());
    let losses = |run: &Path| -> Vec<f64> {
        lines::<serde_json::Value>(run, "metrics.jsonl").iter().map(|line| line["loss"].as_f64().unwrap()).collect()
    };
    assert_eq!(losses(&second), losses(&first.out), "the same settings from the same state give the same bits");
    assert!(!second.join("checkpoints/step-2").exists() && second.join("checkpoints/step-6").is_dir());
    assert!(first.out.join("adapter_model.safetensors").is_file(), "the first run stays as it is");
}

#[test]
fn a_run_and_a_checkpoint_are_opened_in_spectrum() {
    let folder = tempfile::tempdir().unwrap();
    let first = done(folder.path());
    let film: Vec<Frame> = lines(&first.out, "film.jsonl");
    let mut window = window(folder.path());
    open(&mut window, "first, finished");
    let check = |window: &Window, at: usize| {
        let expected = &film.iter().find(|frame| frame.step == at).unwrap().modules[Q];
        let found = &spectrum(window, Q).sigma;
        for (found, expected) in found.iter().zip(expected) {
            assert!((found / f64::from(*expected) - 1.0).abs() < 1e-3, "step {at}: {found} {expected}");
        }
    };
    take(&mut window, "ΔW of step 4 in Spectrum");
    until(&mut window, "ΔW of step 4", |w| known(w) == (4, 4) && is_quiet(w) && says(w, "Heatmap ΔW"));
    check(&window, 4);
    press(&mut window, Modifiers::COMMAND, Key::Num6);
    click(&mut window, Role::Button, "ΔW in Spectrum");
    let result = |w: &Window| match w.state().workspace().delta().unwrap().source() {
        rankscope::delta::Source::Adapter(adapter) => adapter.path() == first.out,
        _ => false,
    };
    until(&mut window, "ΔW of the run", |w| result(w) && known(w) == (4, 4) && is_quiet(w));
    check(&window, 8);
}

#[test]
fn a_persons_prompts_are_gone_on_with_before_during_and_after() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = ready(&folder, 8);
    click(&mut window, Role::Button, "LoRA");
    get(&window, Role::TextInput, "Sample prompts").focus();
    window.step();
    get(&window, Role::TextInput, "Sample prompts").type_text("the rank of");
    window.step();
    press(&mut window, Modifiers::NONE, Key::Escape);
    number_in(&mut window, "Sample every", 4);
    click(&mut window, Role::Button, "Start the run");
    until(&mut window, "its end", |w| says(w, "is finished.") && is_quiet(w));
    assert!(says(&window, "Samples") && says(&window, "before") && says(&window, "after"));
    assert!(!texts(&window).iter().any(|text| text == "step 4"), "the cursor is at the end");
    get(&window, Role::Slider, "Step at the cursor").set_value_accesskit(5.0);
    window.step();
    window.step();
    for when in ["before", "step 4", "after"] {
        assert!(texts(&window).iter().any(|text| text == when), "{when}: {:?}", texts(&window));
    }
    let run = runs(folder.path()).remove(0);
    let samples: Vec<Sample> = lines(&run, "samples.jsonl");
    assert_eq!(samples.iter().map(|sample| sample.step).collect::<Vec<_>>(), [0, 4, 8]);
    assert!(samples.iter().all(|sample| sample.prompt == "the rank of"));
    // Before the first step the pairs change nothing: what the base itself would write.
    let base = Checkpoint::open(&fixture("llama")).unwrap();
    let decoder = Decoder::load(&base, Frozen::AsStored, &()).unwrap();
    let text = Text::open(&fixture("llama")).unwrap();
    let sampling = Sampling { most: 48, temperature: 0.0, seed: 0, eos: text.eos };
    let ids =
        generate(&rankscope::model::Processor::default(), &decoder, &text.ids("the rank of").unwrap(), sampling, &())
            .unwrap();
    // transformers 5.23: generate(max_new_tokens=8, do_sample=False) after "the rank of"
    assert_eq!(ids[..8], [213, 227, 107, 107, 107, 290, 37, 8]);
    assert_eq!(samples[0].text, text.text(&ids).unwrap());
    assert_ne!(samples[0].text, samples[2].text, "eight steps change what is written");
}

#[test]
fn a_run_is_merged_from_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let first = done(folder.path());
    let mut window = window(folder.path());
    open(&mut window, "first, finished");
    take(&mut window, "Write the merged model…");
    let field = get(&window, Role::TextInput, "Folder of the merged model").value();
    assert_eq!(field.as_deref(), folder.path().join("runs/first-merged").to_str());
    // Where something lies already nothing is written.
    write(&mut window, "Folder of the merged model", folder.path().to_str().unwrap());
    click(&mut window, Role::Button, "Write the model");
    until(&mut window, "a refusal", |w| says(w, "there is something in this folder already"));
    let out = folder.path().join("merged");
    write(&mut window, "Folder of the merged model", out.to_str().unwrap());
    click(&mut window, Role::Button, "Write the model");
    until(&mut window, "its end", |w| says(w, "The merged model is in ") && is_quiet(w));
    let (base, merged) = (Checkpoint::open(&fixture("llama")).unwrap(), Checkpoint::open(&out).unwrap());
    let adapter = Adapter::open(&first.out).unwrap();
    let weight = |model: &Checkpoint, name: &str| model.matrix(model.module(name).unwrap(), &()).unwrap();
    let (before, after) = (weight(&base, Q), weight(&merged, Q));
    let layer = adapter.layers.iter().find(|layer| layer.module.ends_with(Q)).unwrap();
    let (b, a) = adapter.factors(layer).unwrap();
    let [rows, cols] = before.shape();
    let mut most = 0f64;
    for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
        let delta: f64 = (0..layer.r).map(|i| f64::from(b.get(row, i)) * f64::from(a.get(i, col))).sum();
        let expected = f64::from(before.get(row, col)) + layer.scaling * delta;
        most = most.max(delta.abs());
        // Stored in bf16: half of the last of eight bits.
        assert!((f64::from(after.get(row, col)) - expected).abs() <= expected.abs() / 256.0 + 1e-6);
    }
    assert!(most > 1e-3, "the run has changed this weight by {most} at most");
    assert!(weight(&base, K) == weight(&merged, K), "what was not trained stays");
    // The same as a GGUF file, whose reader is the checkpoint's own.
    take(&mut window, "Write the merged model…");
    let out = folder.path().join("as-gguf");
    write(&mut window, "Folder of the merged model", out.to_str().unwrap());
    click(&mut window, Role::ComboBox, "Form of the merged model");
    click(&mut window, Role::Button, "GGUF, Q8_0");
    click(&mut window, Role::Button, "Write the model");
    until(&mut window, "its end", |w| says(w, ".gguf") && is_quiet(w));
    let file = std::fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
    let stored = weight(&Checkpoint::open(&file).unwrap(), Q);
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let error = norm(&mut stored.data().iter().zip(after.data()).map(|(a, b)| a - b));
    assert!(error < 0.02 * norm(&mut after.data().iter().copied()), "{error}");
}

/// A window as after a start of the program with what it kept.
pub fn again(kept: Kept, folder: &Path) -> Window {
    let request = Some(pair("llama", "llama-tuned"));
    let start = Start { request, data_dir: Some(folder.to_path_buf()), ..Start::default() };
    let kept: &'static Kept = Box::leak(Box::new(kept));
    let mut window = builder().with_size([1280.0, 1600.0]).build_eframe(|cc| {
        cc.storage = Some(kept);
        App::new(cc, start)
    });
    settle(&mut window);
    press(&mut window, Modifiers::COMMAND, Key::Num6);
    window
}

#[test]
fn a_person_chooses_where_runs_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere: TempDir = tempfile::tempdir().unwrap();
    let kept_in: PathBuf = elsewhere.path().join("my runs");
    let mut window = ready(&folder, 4);
    click(&mut window, Role::Button, "History");
    until(&mut window, "the field", |w| w.query_by_role_and_label(Role::TextInput, "Folder for new runs").is_some());
    let choose = |window: &mut Window, path: &str| {
        write(window, "Folder for new runs", path);
        press(window, Modifiers::NONE, Key::Enter);
    };
    choose(&mut window, "runs of mine");
    until(&mut window, "a refusal", |w| says(w, "expected a whole path"));
    choose(&mut window, folder.path().join("data.jsonl/runs").to_str().unwrap());
    until(&mut window, "a refusal", |w| says(w, "cannot write"));
    choose(&mut window, kept_in.to_str().unwrap());
    until(&mut window, "a new folder", |w| says(w, &format!("New runs go to {}.", kept_in.display())));
    click(&mut window, Role::Button, "Run");
    click(&mut window, Role::Button, "Start the run");
    until(&mut window, "its end", |w| says(w, "is finished.") && is_quiet(w));
    assert!(runs(folder.path()).is_empty(), "nothing where runs went before");
    let there: Vec<_> = std::fs::read_dir(&kept_in).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(there.len(), 1);
    // After a restart it is as before.
    let mut kept = Kept::default();
    window.state_mut().save(&mut kept);
    drop(window);
    let mut window = again(kept, folder.path());
    click(&mut window, Role::Button, "History");
    let row = format!("{}, finished", there[0].to_str().unwrap());
    until(&mut window, "the run", |w| w.query_by_role_and_label(Role::Row, &row).is_some());
    let field = get(&window, Role::TextInput, "Folder for new runs").value();
    assert_eq!(field.as_deref(), kept_in.to_str());
    // Back again: what was kept elsewhere is still listed.
    click(&mut window, Role::Button, "The program's own folder");
    until(&mut window, "the own folder", |w| says(w, &format!("New runs go to {}", folder.path().display())));
    until(&mut window, "the run", |w| w.query_by_role_and_label(Role::Row, &row).is_some());
    click(&mut window, Role::Button, "Other folders of runs");
    click(&mut window, Role::Button, &format!("Forget {}", kept_in.display()));
    until(&mut window, "an empty list", |w| says(w, "No runs yet"));
    assert!(kept_in.join(&there[0]).is_dir(), "what is listed no more is still there");
}

#[test]
fn a_disk_that_takes_no_more_is_said_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = ready(&folder, 100_000);
    number_in(&mut window, "Checkpoint every", 0);
    click(&mut window, Role::Button, "Start the run");
    until(&mut window, "numbers", |w| step(w) > 2);
    click(&mut window, Role::Button, "Stop");
    until(&mut window, "the end", |w| says(w, "stopped") && is_quiet(w));
    let run = runs(folder.path()).remove(0);
    let saved = lines_from(&run).len();
    click(&mut window, Role::Button, "Resume");
    until(&mut window, "further steps", |w| step(w) > saved + 1);
    click(&mut window, Role::Button, "Pause");
    let at = || lines_from(&run).len();
    until(&mut window, "a rest", |w| {
        // A step that was begun may still end.
        let before = at();
        std::thread::sleep(std::time::Duration::from_secs(1));
        says(w, "paused") && at() == before
    });
    let held = at();
    // Where the next checkpoint is to be written nothing can be: a stand-in for a full disk.
    let blocked = run.join("checkpoints").join(format!(".step-{held}"));
    std::fs::write(&blocked, "in the way").unwrap();
    click(&mut window, Role::Button, "Stop");
    until(&mut window, "the reason", |w| says(w, "The run could not go on: ") && is_quiet(w));
    let kept = format!(
        "cannot write: not a directory; make room there, and “Resume” continues after step {saved}, whose checkpoint is kept"
    );
    assert!(says(&window, &kept), "{:?}", texts(&window));
    assert!(says(&window, "failed") && says(&window, "What it has written stays where it is."));
    assert_eq!(lines_from(&run).len(), held, "the steps since are still on the screen and on the disk");
    // With room again it goes on after the checkpoint.
    std::fs::remove_file(&blocked).unwrap();
    click(&mut window, Role::Button, "Resume");
    until(&mut window, "further steps", |w| step(w) > held + 1);
    click(&mut window, Role::Button, "Stop");
    until(&mut window, "the end", |w| says(w, "stopped") && is_quiet(w));
    assert_eq!(lines_from(&run), (1..=lines_from(&run).len()).collect::<Vec<_>>(), "no step is missing or double");
}

#[test]
fn the_metrics_of_a_run_are_copied_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let settings = done(folder.path());
    let mut window = window(folder.path());
    open(&mut window, "first, finished");
    until(&mut window, "all steps", |w| step(w) == 8 && says(w, "Step 8 is too early to tell whether r = 2 fits."));
    click(&mut window, Role::Button, "Copy or save metrics");
    window.get_by_role_and_label(Role::Button, "Copy as TSV").click();
    let on_the_clipboard = |window: &Window| {
        window.output().platform_output.commands.iter().find_map(|command| match command {
            OutputCommand::CopyText(text) => Some(text.clone()),
            _ => None,
        })
    };
    until(&mut window, "a copy", |w| on_the_clipboard(w).is_some());
    let copied = on_the_clipboard(&window).unwrap();
    let mut rows = copied.lines().map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    let heads = rows.next().unwrap();
    let rows: Vec<_> = rows.collect();
    let written: Vec<serde_json::Value> = lines(&settings.out, "metrics.jsonl");
    let written: Vec<_> = written.iter().filter(|line| line.get("loss").is_some()).collect();
    assert_eq!((rows.len(), written.len()), (8, 8));
    for (row, line) in rows.iter().zip(written) {
        for what in ["step", "loss", "lr", "grad_norm", "tokens"] {
            let at = heads.iter().position(|head| head == what).unwrap();
            assert_eq!(row[at].parse::<f64>().unwrap(), line[what].as_f64().unwrap(), "{what} in {row:?}");
        }
    }
}

#[test]
fn a_note_is_written_before_the_window_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let settings = done(folder.path());
    let mut window = window(folder.path());
    click(&mut window, Role::Button, "History");
    let row = "first, finished";
    until(&mut window, "the run", |w| w.query_by_role_and_label(Role::Row, row).is_some());
    window.get_by_role_and_label(Role::Row, row).click_accesskit();
    window.step();
    window.step();
    write(&mut window, "Notes", "the one to keep");
    press(&mut window, Modifiers::NONE, Key::Tab);
    window.state_mut().on_exit(None);
    assert_eq!(std::fs::read_to_string(settings.out.join("note.txt")).unwrap(), "the one to keep");
}
