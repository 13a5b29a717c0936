//! Runs of other programs: `fixtures/foreign`, which TRL and mlx-lm have written, and what goes wrong with such folders.

use crate::support::{copied, copy, fixture, rankscope};
use rankscope::train::history::{Follow, Past, Phase, Written};
use rankscope::train::list::list;
use rankscope::train::run::Event;
use rankscope::train::{Method, Record};
use serde_json::{Value, json};
use std::path::Path;

fn events(folder: &Path) -> (Vec<Record>, Vec<usize>, Vec<String>) {
    let (mut records, mut frames, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for event in Follow::new(folder).events() {
        match event {
            Event::Step(record) => records.push(record),
            Event::Frame(frame) => frames.push(frame.step),
            Event::Note(note) => notes.push(note),
            _ => {}
        }
    }
    (records, frames, notes)
}

/// trl 1.16.0: twelve steps, evaluated and saved every four.
#[test]
fn a_run_of_trl_is_at_home() {
    let folder = fixture("foreign/trl");
    let past = Past::read(&folder).unwrap();
    assert_eq!((past.made_by(), &past.phase, past.done, past.steps), ("TRL", &Phase::Finished, 12, 12));
    assert_eq!(
        (past.checkpoints.as_slice(), past.settings.rank, past.settings.method),
        (&[4, 8, 12][..], 2, Method::Lora)
    );
    assert_eq!(past.settings.alpha, Some(4.0));
    assert!(["q_proj,v_proj", "v_proj,q_proj"].contains(&past.settings.targets.as_str()), "{}", past.settings.targets);
    let (records, frames, notes) = events(&folder);
    let state: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("checkpoint-12/trainer_state.json")).unwrap())
            .unwrap();
    let losses: Vec<f64> = state["log_history"].as_array().unwrap().iter().filter_map(|e| e["loss"].as_f64()).collect();
    assert_eq!(records.iter().map(|record| record.step.loss).collect::<Vec<_>>(), losses);
    assert_eq!(records.iter().filter(|record| record.eval_loss.is_some()).count(), 3);
    assert!(records.iter().all(|record| record.step.lr > 0.0 && record.step.grad_norm > 0.0 && record.step.tokens > 0));
    // The event file knows when.
    assert!(records[11].seconds.unwrap() > records[0].seconds.unwrap());
    assert_eq!((frames, notes), (vec![4, 8, 12], vec![]));
    assert!(past.weights(Some(8)).unwrap().ends_with("checkpoint-8"));
}

/// mlx-lm 0.32.2 on a processor; its output was kept in a file.
#[test]
fn a_run_of_mlx_is_at_home() {
    let folder = fixture("foreign/mlx");
    let past = Past::read(&folder).unwrap();
    assert_eq!((past.made_by(), &past.phase, past.done), ("mlx-lm", &Phase::Finished, 12));
    assert_eq!((past.settings.rank, past.settings.alpha(), past.settings.lr), (2, 4.0, 1e-3));
    let (records, frames, _) = events(&folder);
    let train: Vec<(usize, f64)> =
        records.iter().filter(|r| r.step.loss.is_finite()).map(|r| (r.step.step, r.step.loss)).collect();
    assert_eq!(train, [(2, 9.378), (4, 7.243), (6, 7.273), (8, 7.304), (10, 7.656), (12, 5.987)]);
    assert_eq!((past.eval_loss, frames), (Some(6.631), vec![4, 8, 12]));
}

/// The event file alone says the same as the state, in single precision.
#[test]
fn an_event_file_alone_is_a_run() {
    let folder = fixture("foreign/trl/runs/log");
    let past = Past::read(&folder).unwrap();
    assert_eq!((past.made_by(), past.done, past.is_described()), ("TensorBoard", 12, false));
    let (alone, whole) = (events(&folder).0, events(&fixture("foreign/trl")).0);
    assert_eq!(alone.len(), whole.len());
    for (a, b) in alone.iter().zip(&whole) {
        assert!(
            (a.step.loss - b.step.loss).abs() < 1e-5 * b.step.loss && a.eval_loss.is_some() == b.eval_loss.is_some()
        );
    }
}

#[test]
fn what_is_half_written_is_waited_for() {
    let folder = copy("foreign/trl");
    let root = folder.path();
    std::fs::remove_file(root.join("adapter_model.safetensors")).unwrap();
    let late = tempfile::tempdir().unwrap();
    std::fs::rename(root.join("checkpoint-12"), late.path().join("checkpoint-12")).unwrap();
    std::fs::remove_dir_all(root.join("runs")).unwrap();
    let mut follow = Follow::new(root);
    let mut look = || {
        let (mut steps, mut frames) = (0, Vec::new());
        follow.look(&mut |written| match written {
            Written::Again => steps = 0,
            Written::Event(Event::Step(_)) => steps += 1,
            Written::Event(Event::Frame(frame)) => frames.push(frame.step),
            Written::Event(event) => panic!("{event:?}"),
        });
        (steps, frames)
    };
    let mut first = look();
    while first.1.len() < 2 {
        first.1.extend(look().1);
    }
    assert_eq!(first, (8, vec![4, 8]));
    assert_eq!(look(), (0, vec![]));
    // A checkpoint comes, file by file, each in pieces.
    let new = root.join("checkpoint-12");
    std::fs::create_dir(&new).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors", "trainer_state.json"] {
        let bytes = std::fs::read(late.path().join("checkpoint-12").join(name)).unwrap();
        std::fs::write(new.join(name), &bytes[..bytes.len() / 2]).unwrap();
        let (steps, frames) = look();
        assert!(steps == 0 && (frames.is_empty() || name == "trainer_state.json"), "{name}");
        if name == "adapter_model.safetensors" {
            std::fs::write(new.join(name), &bytes).unwrap();
            assert_eq!(look(), (0, vec![12]));
        }
        std::fs::write(new.join(name), &bytes).unwrap();
    }
    assert_eq!(look().0, 4);
    // The disk goes away: what was read stays, and is said once.
    let gone = root.to_path_buf();
    drop(folder);
    let mut notes = Vec::new();
    for _ in 0..3 {
        follow.look(&mut |written| match written {
            Written::Event(Event::Note(note)) => notes.push(note),
            other => panic!("{other:?}"),
        });
    }
    assert!(notes.len() == 1 && notes[0].contains("what was read of it stays"), "{notes:?} {}", gone.display());
}

#[test]
fn folders_that_are_wrong_get_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let sentence = Past::read(folder.path()).unwrap_err().to_string();
    assert!(sentence.contains("found no run, expected run.toml"), "{sentence}");
    let ran = rankscope(&["runs", folder.path().to_str().unwrap()]);
    assert!(ran.status == 2 && ran.stderr.contains("found no run"), "{}", ran.stderr);
    // A state of a later version.
    let root = folder.path();
    std::fs::write(root.join("trainer_state.json"), json!({"history": {"version": 9}}).to_string()).unwrap();
    std::fs::File::open(root.join("trainer_state.json")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let notes = events(root).2;
    assert!(notes[0].contains("found no list log_history"), "{notes:?}");
    // An event file that was cut.
    let bytes = std::fs::read(fixture("foreign/trl/runs/log/events.out.tfevents.1.host.0")).unwrap();
    let cut = tempfile::tempdir().unwrap();
    let path = cut.path().join("events.out.tfevents.1.host.0");
    std::fs::write(&path, &bytes[..bytes.len() - 30]).unwrap();
    std::fs::File::open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let (records, _, notes) = events(cut.path());
    assert!(records.len() >= 11 && notes[0].contains("ends within a record"), "{notes:?}");
}

/// Ten thousand checkpoints are listed at once and looked at again for next to nothing.
#[test]
fn ten_thousand_checkpoints_stall_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for step in 1..=10_000 {
        std::fs::create_dir(folder.path().join(format!("checkpoint-{step}"))).unwrap();
    }
    std::fs::write(
        folder.path().join("checkpoint-10000/trainer_state.json"),
        r#"{"log_history": [{"step": 3, "loss": 1.5}]}"#,
    )
    .unwrap();
    let past = Past::read(folder.path()).unwrap();
    assert_eq!((past.checkpoints.len(), past.last.unwrap().step.loss), (10_000, 1.5));
    let mut lister = rankscope::train::list::Lister::default();
    let folders = [folder.path().to_path_buf()];
    lister.list(&folders);
    std::thread::sleep(std::time::Duration::from_millis(60));
    lister.list(&folders);
    let look = || {
        let begin = std::time::Instant::now();
        assert_eq!(lister.list(&folders).len(), 1);
        begin.elapsed()
    };
    // Every 1.5 s in the window: 1 % of a core is 15 ms. This is a build without optimization; other programs run too.
    let fastest = std::iter::repeat_with(look).take(20).min().unwrap();
    assert!(fastest.as_millis() < 15, "{fastest:?}");
}

#[test]
fn the_command_lists_and_reports() {
    let runs = list(&[fixture("foreign")]);
    assert_eq!(runs.len(), 3);
    let ran = rankscope(&["runs", "--json", fixture("foreign").to_str().unwrap()]);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    let made_by: Vec<&str> =
        document["runs"].as_array().unwrap().iter().map(|run| run["made_by"].as_str().unwrap()).collect();
    assert!(
        ran.status == 0 && ["TRL", "mlx-lm", "torchtune"].iter().all(|maker| made_by.contains(maker)),
        "{}",
        ran.stdout
    );
    let trl = document["runs"].as_array().unwrap().iter().find(|run| run["made_by"] == "TRL").unwrap();
    assert_eq!(
        (&trl["state"], &trl["checkpoints"], &trl["steps"]),
        (&json!("finished"), &json!([4, 8, 12]), &json!(12))
    );
}

/// By their classes: llamafactory 0.9.5, axolotl 0.19.0, trl 1.16.0; Unsloth 2026.10 pickles its arguments under TRL's name, with one of its own.
#[test]
fn a_program_is_told_by_the_class_of_its_arguments() {
    let folder = copy("foreign/trl");
    let maker = |written: &[u8]| {
        std::fs::write(folder.path().join("training_args.bin"), written).unwrap();
        Past::read(folder.path()).unwrap().made_by()
    };
    for (written, expected) in [
        ("cllamafactory.hparams.training_args\nTrainingArguments\n", "LLaMA-Factory"),
        ("caxolotl.core.training_args\nAxolotlTrainingArguments\n", "axolotl"),
        ("ctrl.trainer.sft_config\nSFTConfig\n", "TRL"),
        ("ctrl.trainer.sft_config\nSFTConfig\nX\x12unsloth_num_chunks", "Unsloth"),
        ("cUnslothSFTTrainer\nUnslothSFTConfig\n", "Unsloth"),
        ("ctransformers.training_args\nTrainingArguments\n", "Trainer"),
        ("", "Trainer"),
    ] {
        assert_eq!(maker(written.as_bytes()), expected, "{written}");
    }
}

/// torchtune 0.6.1, `lora_finetune_single_device` on the processor: two epochs of five steps, a folder and a log as its recipe writes them.
#[test]
fn a_run_of_torchtune_is_at_home() {
    let whole = fixture("foreign/torchtune");
    let past = Past::read(&whole).unwrap();
    assert_eq!((past.made_by(), past.done, past.checkpoints.as_slice()), ("torchtune", 10, &[5, 10][..]));
    assert_eq!((past.settings.rank, past.settings.alpha), (2, Some(4.0)));
    let (records, frames, _) = events(&whole);
    let last = records.last().unwrap();
    assert_eq!((records.len(), last.step.loss, last.step.lr), (10, 6.202919960021973, 0.0));
    assert_eq!((last.step.grad_norm, last.tokens_per_s), (0.07845539599657059, 1404.8221435546875));
    assert_eq!(frames, [5, 10]);
    // While it writes: the last line is not there yet.
    let folder = tempfile::tempdir().unwrap();
    copied(&whole, folder.path());
    let log = folder.path().join("logs/log_1.txt");
    let lines = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, &lines[..lines.rfind("grad_norm").unwrap()]).unwrap();
    assert_eq!(Past::read(folder.path()).unwrap().done, 9);
}
