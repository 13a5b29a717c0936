//! Whole runs: their files, going on after a stop, data files good and bad, merging.

use crate::support::fixtures;
use rankscope::adapter::Adapter;
use rankscope::checkpoint::{Checkpoint, Dtype};
use rankscope::device::Choice;
use rankscope::error::{Error, Result};
use rankscope::model::{Batch, Decoder, Engine, Frozen, Processor};
use rankscope::progress::Progress;
use rankscope::train::merge::{Change, write_model};
use rankscope::train::run::{Event, Start, Summary, run};
use rankscope::train::run_folder::RunFolder;
use rankscope::train::{Init, Method, Sampling, Settings, Text, data, generate};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

fn write(folder: &Path, name: &str, lines: &[serde_json::Value]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    path
}

fn settings(folder: &Path) -> Settings {
    let rows: Vec<_> = (0..9u32)
        .map(|row| json!({"input_ids": (0..20).map(|at| (row * 31 + at * 7) % 300 + 3).collect::<Vec<_>>()}))
        .collect();
    Settings {
        model: fixtures().join("llama"),
        data: write(folder, "data.jsonl", &rows),
        out: folder.join("run"),
        rank: 4,
        lr: 5e-3,
        batch: 2,
        steps: Some(12),
        save_every: 5,
        eval_every: 4,
        dropout: 0.1,
        device: Choice::Cpu,
        ..Settings::default()
    }
}

fn go(settings: &Settings, resume: bool, progress: &dyn Progress) -> Result<Summary> {
    run(settings.clone(), Start { resume, force: false }, progress, &mut |_| Ok(()))
}

/// The rows that a run without held-out data holds out.
fn held_out(settings: &Settings, model: &Checkpoint) -> rankscope::train::Rows {
    let mut read = data::read(&settings.data, model, 64, &()).unwrap();
    data::HoldOut::TENTH.take(&mut read.rows, settings.seed)
}

/// A run reads its data by its own columns and template, and holds out what it says.
#[test]
fn a_run_reads_its_data_as_its_settings_say() {
    let folder = tempfile::tempdir().unwrap();
    let model = Checkpoint::open(&fixtures().join("llama")).unwrap();
    let line = |at: usize| json!({"question": format!("say {at}"), "answer": "the rank"});
    let path = write(folder.path(), "asked.jsonl", &(0..8).map(line).collect::<Vec<_>>());
    let settings = |hold_out: &str, loss_on| Settings {
        data: path.clone(),
        seq: 64,
        columns: "prompt=question,completion=answer".parse().unwrap(),
        hold_out: hold_out.parse().ok(),
        loss_on,
        ..Settings::default()
    };
    let read = |settings: Settings| rankscope::train::run::read(&settings, &model, &()).unwrap();
    let (kept, held) = read(settings("25%", data::LossOn::Completions));
    assert_eq!((kept.rows.rows.len(), held.unwrap().rows.len()), (6, 2));
    let (all, none) = read(settings("0%", data::LossOn::All));
    assert!(none.is_none() && all.rows.rows.len() == 8);
    assert!(all.rows.rows[0].predictions() > kept.rows.rows[0].predictions());
    // Without a word nothing is held out, and a tenth where the run evaluates.
    let (all, none) = read(settings("", data::LossOn::Completions));
    assert!(none.is_none() && all.rows.rows.len() == 8);
    let (kept, held) = read(Settings { eval_every: 2, ..settings("", data::LossOn::Completions) });
    assert_eq!((kept.rows.rows.len(), held.unwrap().rows.len()), (7, 1));
}

/// Stops at the n-th question.
struct StopAt(AtomicU64);

impl Progress for StopAt {
    fn step(&self, _: u64, _: u64) -> Result<()> {
        self.check()
    }

    /// Within a step as well.
    fn check(&self) -> Result<()> {
        if self.0.fetch_sub(1, Ordering::Relaxed) == 0 { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// `metrics.jsonl` without what a clock says.
fn metrics(settings: &Settings) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(settings.out.join("metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        let line_of = line.as_object_mut().unwrap();
        line_of.remove("tokens_per_s");
        // The buffers at their most: a run that goes on has not seen what came before.
        line_of.remove("held_bytes");
        line
    };
    text.lines().map(line).collect()
}

/// What a run writes, without what a clock says.
fn written(settings: &Settings) -> (Vec<serde_json::Value>, [Vec<u8>; 3]) {
    let file = |name: &str| std::fs::read(settings.out.join(name)).unwrap();
    (metrics(settings), ["adapter_model.safetensors", "film.jsonl", "samples.jsonl"].map(file))
}

/// Stopped while it reads, loads, samples, trains, evaluates; with and without a checkpoint of its own.
#[test]
fn a_stopped_run_goes_on_as_if_it_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = vec!["the rank of".to_owned(), "a matrix".to_owned()];
    let whole = Settings { prompts, sample_every: 6, ..settings(folder.path()) };
    let all = StopAt(AtomicU64::new(u64::MAX));
    go(&whole, false, &all).unwrap();
    let questions = u64::MAX - all.0.into_inner();
    assert_eq!(metrics(&whole).len(), 12);
    assert_eq!(metrics(&whole).iter().filter(|line| line.get("eval_loss").is_some()).count(), 3);
    let mut stopped = 0;
    for part in 0..16 {
        let at = part * questions / 16;
        let part = Settings { out: folder.path().join(format!("stopped-{at}")), ..whole.clone() };
        assert!(go(&part, false, &StopAt(AtomicU64::new(at))).unwrap_err().is_cancelled(), "{at} of {questions}");
        assert!(!part.out.join("adapter_model.safetensors").exists());
        if part.out.join("run.toml").exists() {
            stopped += 1;
            // A checkpoint comes first: no step that was logged is done again.
            let saved = RunFolder::new(&part.out).checkpoints().last().copied().unwrap_or(0);
            assert!(saved >= metrics(&part).len(), "stopped at {at}: step {saved} is saved");
            // As after a power cut: lines after the last checkpoint, a folder that was being written.
            std::fs::create_dir_all(part.out.join("checkpoints/.step-99")).unwrap();
            go(&part, true, &()).unwrap();
            assert!(written(&part) == written(&whole), "stopped at {at} of {questions}");
            assert!(!part.out.join("checkpoints/.step-99").exists());
        }
    }
    assert!(stopped >= 8, "the run was stopped only {stopped} times after its beginning");
    let other = go(&Settings { lr: 1.0, ..whole.clone() }, true, &()).unwrap_err().to_string();
    assert!(other.ends_with("the run was begun with other settings: lr was 0.005, now 1"), "{other}");
    assert!(go(&whole, false, &()).unwrap_err().to_string().contains("--resume"));
}

/// A run with a checkpoint at 5 that was stopped after step 7, in its own folder.
fn stopped(folder: &Path, name: &str) -> Settings {
    let part = Settings { out: folder.join(name), eval_every: 0, ..settings(folder) };
    let result = run(part.clone(), Start::default(), &(), &mut |event| match event {
        Event::Step(record) if record.step.step == 7 => Err(Error::Cancelled),
        _ => Ok(()),
    });
    assert!(result.unwrap_err().is_cancelled());
    assert_eq!(RunFolder::new(&part.out).checkpoints(), [5, 7]);
    part
}

#[test]
fn a_run_is_known_by_any_spelling_of_its_paths_and_after_a_move() {
    let folder = tempfile::tempdir().unwrap();
    let whole = Settings { eval_every: 0, ..settings(folder.path()) };
    go(&whole, false, &()).unwrap();
    let part = stopped(folder.path(), "part");
    let moved = folder.path().join("moved");
    std::fs::rename(&part.out, &moved).unwrap();
    let copy = folder.path().join("copy.jsonl");
    std::fs::copy(&part.data, &copy).unwrap();
    let spelled = Settings {
        out: folder.path().join("./moved/"),
        model: fixtures().join("../fixtures/llama/"),
        data: copy,
        ..part
    };
    go(&spelled, true, &()).unwrap();
    assert!(written(&spelled) == written(&whole));
}

#[test]
fn changed_data_are_said_and_taken_only_when_forced() {
    let folder = tempfile::tempdir().unwrap();
    let part = stopped(folder.path(), "part");
    let mut text = std::fs::read_to_string(&part.data).unwrap();
    text = text.replacen("23", "24", 1);
    std::fs::write(&part.data, text).unwrap();
    let error = go(&part, true, &()).unwrap_err();
    assert_eq!(error.status(), 2);
    let says = "data.jsonl is not what the run began with (of the same size, with another content); --force resumes";
    assert!(error.to_string().contains(says), "{error}");
    let mut notes = Vec::new();
    let forced = Start { resume: true, force: true };
    run(part, forced, &(), &mut |event| {
        if let Event::Note(note) = event {
            notes.push(note);
        }
        Ok(())
    })
    .unwrap();
    assert!(notes.iter().any(|note| note.contains("is not what the run began with")), "{notes:?}");
}

#[test]
fn a_broken_checkpoint_gives_way_to_the_one_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let whole = Settings { eval_every: 0, ..settings(folder.path()) };
    go(&whole, false, &()).unwrap();
    let part = stopped(folder.path(), "part");
    let state = RunFolder::new(&part.out).checkpoint(7).join("state.safetensors");
    let bytes = std::fs::read(&state).unwrap();
    std::fs::write(&state, &bytes[..bytes.len() / 2]).unwrap();
    let (mut notes, mut steps) = (Vec::new(), Vec::new());
    run(part.clone(), Start { resume: true, force: false }, &(), &mut |event| {
        match event {
            Event::Note(note) => notes.push(note),
            Event::Step(record) => steps.push(record.step.step),
            _ => {}
        }
        Ok(())
    })
    .unwrap();
    let note = notes.iter().find(|note| note.contains("going on after step 5")).unwrap();
    assert!(note.contains("state.safetensors"), "{note}");
    assert_eq!(steps[0], 6);
    assert!(written(&part) == written(&whole));
    // None that is whole: nothing is begun again in silence.
    let part = stopped(folder.path(), "none");
    for step in [5, 7] {
        std::fs::write(RunFolder::new(&part.out).checkpoint(step).join("state.json"), "{").unwrap();
    }
    let error = go(&part, true, &()).unwrap_err().to_string();
    assert!(error.contains("step-7") && error.contains("no other checkpoint is whole"), "{error}");
}

/// Sums are rounded by how work is divided: the number of threads is a part of the run.
#[test]
fn a_run_goes_on_with_as_many_threads_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let threads = rayon::current_num_threads() + 1;
    let whole = Settings { eval_every: 0, threads: Some(threads), ..settings(folder.path()) };
    go(&whole, false, &()).unwrap();
    let part = Settings { out: folder.path().join("part"), ..whole.clone() };
    let result = run(part.clone(), Start::default(), &(), &mut |event| match event {
        Event::Step(record) if record.step.step == 6 => Err(Error::Cancelled),
        _ => Ok(()),
    });
    assert!(result.unwrap_err().is_cancelled());
    let other = Settings { threads: Some(1), ..part.clone() };
    let error = go(&other, true, &()).unwrap_err().to_string();
    assert!(error.contains(&format!("threads was {threads}, now 1")), "{error}");
    go(&Settings { threads: None, ..part.clone() }, true, &()).unwrap();
    assert!(written(&part) == written(&whole));
}

/// A run that goes on says first what it had written.
#[test]
fn a_run_that_goes_on_tells_what_came_before() {
    let folder = tempfile::tempdir().unwrap();
    let part = stopped(folder.path(), "part");
    let (mut earlier, mut steps) = (Vec::new(), Vec::new());
    run(part, Start { resume: true, force: false }, &(), &mut |event| {
        match event {
            Event::Earlier(events) => earlier = events,
            Event::Step(record) => steps.push(record.step.step),
            _ => {}
        }
        Ok(())
    })
    .unwrap();
    let step = |event: &Event| if let Event::Step(record) = event { Some(record.step.step) } else { None };
    let before: Vec<usize> = earlier.iter().filter_map(step).collect();
    assert_eq!([before, steps].concat(), (1..=12).collect::<Vec<_>>());
    assert!(earlier.iter().any(|event| matches!(event, Event::Frame(_))));
}

#[test]
fn the_adapter_written_is_the_model_trained() {
    let folder = tempfile::tempdir().unwrap();
    let method = Method::Lora;
    let settings = Settings { method, rslora: true, targets: "q_proj,v_proj".into(), ..settings(folder.path()) };
    let settings = Settings { rank_pattern: [("layers.1.*v_proj".to_owned(), 2)].into(), ..settings };
    let mut last = None;
    let mut told = |event: Event| {
        if let Event::Step(record) = event {
            last = record.eval_loss;
        }
        Ok(())
    };
    let summary = run(settings.clone(), Start::default(), &(), &mut told).unwrap();
    assert_eq!(summary.eval_loss, last);
    let adapter = Adapter::open(&settings.out).unwrap();
    assert_eq!((adapter.config.r, adapter.config.scaling.is_rslora()), (4, true));
    assert_eq!(adapter.layer("model.layers.1.self_attn.v_proj").unwrap().r, 2);
    assert_eq!(adapter.layers.len(), 4);
    let base = Checkpoint::open(&settings.model).unwrap();
    let held_out = held_out(&settings, &base);
    assert_eq!(held_out.rows.len(), 1);
    let loss = |decoder: &Decoder| {
        let ids = &held_out.rows[0].ids;
        let labels: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
        Processor::default().loss(decoder, Batch { ids, labels: &labels, seq: 20, starts: &[] }, &()).unwrap().mean()
    };
    let mut decoder = Decoder::load(&base, Frozen::AsStored, &()).unwrap();
    decoder.attach(&adapter).unwrap();
    assert!((loss(&decoder) - last.unwrap()).abs() < 1e-5, "{} {last:?}", loss(&decoder));
    let merged = folder.path().join("merged");
    write_model(&base, &Change::Adapter(&adapter), Some(Dtype::F32), &merged, &()).unwrap();
    let merged = Decoder::load(&Checkpoint::open(&merged).unwrap(), Frozen::AsStored, &()).unwrap();
    assert!((loss(&merged) - loss(&decoder)).abs() < 1e-5);
    let itself = write_model(&base, &Change::Adapter(&adapter), None, &settings.model, &()).unwrap_err().to_string();
    assert!(itself.contains("the base itself"), "{itself}");
}

#[test]
fn a_full_run_writes_a_model() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llama", "gpt2"] {
        let settings = Settings {
            method: Method::Full,
            model: fixtures().join(name),
            out: folder.path().join(name),
            steps: Some(2),
            ..settings(folder.path())
        };
        let summary = go(&settings, false, &()).unwrap();
        let (before, after) = (Checkpoint::open(&settings.model).unwrap(), Checkpoint::open(&settings.out).unwrap());
        assert_eq!(before.parameters(), after.parameters());
        assert!(summary.last_loss.is_finite());
        let decoder = Decoder::load(&after, Frozen::AsStored, &()).unwrap();
        let held_out = held_out(&settings, &after);
        let loss = rankscope::train::evaluate(&Processor::default(), &decoder, &held_out, 2, &()).unwrap().mean();
        // The tensors were rounded to bf16 again.
        assert!((loss - summary.eval_loss.unwrap()).abs() < 0.02, "{name}: {loss} {:?}", summary.eval_loss);
    }
}

#[test]
fn every_form_of_data() {
    let folder = tempfile::tempdir().unwrap();
    let model = Checkpoint::open(&fixtures().join("llama")).unwrap();
    let text = Text::open(&fixtures().join("llama")).unwrap();
    let read = |name: &str, lines: &[serde_json::Value]| {
        data::read(&write(folder.path(), name, lines), &model, 64, &()).unwrap()
    };
    let asked = |row: &rankscope::train::Row| {
        let ids: Vec<u32> = row.labels().into_iter().filter(|&label| label >= 0).map(|label| label as u32).collect();
        assert!(row.ids.iter().zip(row.labels()).all(|(&id, label)| label == -100 || label == id as i32));
        text.text(&ids).unwrap()
    };
    // transformers 5.23: AutoTokenizer("llama")("the rank of a matrix").input_ids
    assert_eq!(text.ids("the rank of a matrix").unwrap(), [86, 262, 275, 272, 223, 67, 223, 293, 84, 289]);
    let rows = read("text.jsonl", &[json!({"text": "the rank of a matrix"})]).rows.rows;
    assert_eq!(rows[0].ids, [86, 262, 275, 272, 223, 67, 223, 293, 84, 289, 1]);
    assert_eq!(asked(&rows[0]), "the rank of a matrix");
    let rows = read("pair.jsonl", &[json!({"prompt": "the rank of", "completion": " a matrix"})]).rows.rows;
    assert_eq!(rows[0].ids, [86, 262, 275, 272, 223, 67, 223, 293, 84, 289, 1]);
    assert_eq!(asked(&rows[0]), " a matrix");
    assert_eq!(rows[0].labels().last(), Some(&1));
    let alpaca = Checkpoint::open(&fixtures().join("llama")).unwrap();
    let line = [json!({"instruction": "say", "input": "", "output": "rank"})];
    let rows = data::read(&write(folder.path(), "alpaca.jsonl", &line), &alpaca, 256, &()).unwrap().rows.rows;
    assert_eq!(asked(&rows[0]), "rank");
    let messages = json!([{"role": "user", "content": "what"}, {"role": "assistant", "content": "rank"}, {"role": "user", "content": "and"}, {"role": "assistant", "content": "columns"}]);
    let rows = read("chat.jsonl", &[json!({"messages": messages})]).rows.rows;
    assert_eq!(asked(&rows[0]), "rankcolumns");
    assert_eq!(
        text.render(messages.as_array().unwrap(), true).unwrap(),
        "<|user|>what</s><|assistant|>rank</s><|user|>and</s><|assistant|>columns</s><|assistant|>"
    );
    let plain = folder.path().join("plain.txt");
    std::fs::write(&plain, "the rank of a matrix is the number of independent columns it has. ".repeat(9)).unwrap();
    let rows = data::read(&plain, &model, 32, &()).unwrap().rows.rows;
    assert!(rows.len() > 3 && rows[..rows.len() - 1].iter().all(|row| row.ids.len() == 32));
    let read = read(
        "cut.jsonl",
        &[
            json!({"input_ids": vec![5; 80]}),
            json!({"input_ids": [7]}),
            json!({"input_ids": [7, 8], "labels": [-100, 8]}),
        ],
    );
    assert_eq!((read.rows.rows.len(), read.left_out, read.cut), (2, 1, 1));
    assert_eq!(read.notes, ["line 1 is cut from 80 to 64 tokens", "line 2 is left out: nothing is to be predicted"]);
}

#[test]
fn bad_data_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    let model = Checkpoint::open(&fixtures().join("llama")).unwrap();
    let refused = |text: &str, model: &Checkpoint| {
        std::fs::write(&path, text).unwrap();
        let error = data::read(&path, model, 64, &()).unwrap_err();
        assert_eq!(error.status(), 2);
        error.to_string().split_once("data.jsonl: ").map_or_else(|| error.to_string(), |(_, rest)| rest.to_owned())
    };
    assert_eq!(refused("", &model), "the file is empty, expected rows or text");
    assert!(refused("{\"input_ids\": [1, 2]}\n{\"input_ids\": [1,", &model).starts_with("line 2: not valid JSON"));
    assert_eq!(
        refused("{\"input_ids\": [1, 320]}", &model),
        "line 1: token id 320 is outside the model's vocabulary of 320"
    );
    assert_eq!(refused("{\"input_ids\": [1, 2], \"labels\": [1]}", &model), "line 1: 1 labels for 2 input_ids");
    let mixed = "{\"input_ids\": [1, 2]}\n\n{\"text\": \"a\"}";
    assert_eq!(refused(mixed, &model), "line 3: no input_ids; found text, expected the columns of the rows before");
    assert!(refused("{\"words\": 3}", &model).starts_with("line 1: found words; expected text"));
    assert_eq!(
        refused("{\"input_ids\": [4]}", &model),
        "no row can be used; line 1 is left out: nothing is to be predicted"
    );
    assert!(refused("{\"text\": 4}", &model).contains("text is a number, expected a text"));
    let small = folder.path().join("small");
    std::fs::create_dir(&small).unwrap();
    for entry in std::fs::read_dir(fixtures().join("llama")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, small.join(path.file_name().unwrap())).unwrap();
    }
    let config = std::fs::read_to_string(small.join("config.json")).unwrap();
    std::fs::write(small.join("config.json"), config.replace("\"vocab_size\": 320", "\"vocab_size\": 100")).unwrap();
    // Only a token that occurs matters.
    let error = refused("{\"text\": \"the rank\"}", &Checkpoint::open(&small).unwrap());
    assert!(error.starts_with("line 1: token ") && error.contains("beyond the 100 rows"), "{error}");
    let bare = Checkpoint::open(&fixtures().join("gpt2")).unwrap();
    assert!(refused("{\"text\": \"a\"}", &bare).contains("found no tokenizer.json"));
}

#[test]
fn greedy_text_is_that_of_transformers() {
    let decoder = Decoder::load(&Checkpoint::open(&fixtures().join("llama")).unwrap(), Frozen::AsStored, &()).unwrap();
    let sampling = Sampling { most: 8, temperature: 0.0, seed: 0, eos: Some(1) };
    // transformers 5.23: generate(max_new_tokens=8, do_sample=False) after "the rank of"
    let found = generate(&Processor::default(), &decoder, &[86, 262, 275, 272], sampling, &()).unwrap();
    assert_eq!(found, [213, 227, 107, 107, 107, 290, 37, 8]);
    let drawn = |seed| {
        generate(&Processor::default(), &decoder, &[86, 262], Sampling { temperature: 1.0, seed, ..sampling }, &())
            .unwrap()
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    assert!(generate(&Processor::default(), &decoder, &[], sampling, &()).is_err());
    let full = generate(&Processor::default(), &decoder, &[5; 250], Sampling { most: 100, eos: None, ..sampling }, &())
        .unwrap();
    assert_eq!(full.len(), 6, "the model allows 256 positions");
}

#[test]
fn the_command_line_trains_and_evaluates() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let call = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_rankscope")).args(arguments).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), stdout, String::from_utf8(output.stderr).unwrap())
    };
    let (model, data, out) =
        (settings.model.to_str().unwrap(), settings.data.to_str().unwrap(), settings.out.to_str().unwrap());
    let train = ["train", model, "--data", data, "--out", out, "--rank", "4", "--steps", "3", "--batch", "2", "--json"];
    let (status, stdout, stderr) = call(&train);
    assert_eq!(status, 0, "{stderr}");
    assert!(stderr.contains("parameters are trained in 3 steps; about"), "{stderr}");
    let last: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!((last["steps"].as_u64(), last["adapter"].as_str()), (Some(3), Some(out)));
    assert!(last["tokens_per_s"].as_f64().unwrap() > 0.0 && last["first_loss"].as_f64().unwrap() > 0.0);
    assert!(!cfg!(target_os = "linux") || last["peak_bytes"].as_u64().unwrap() > 1 << 20);
    let loss = |arguments: &[&str]| {
        let (status, stdout, stderr) = call(&[&["eval", model, "--data", data, "--json"], arguments].concat());
        assert_eq!(status, 0, "{stderr}");
        let found: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(found["tokens"], 9 * 19);
        found["loss"].as_f64().unwrap()
    };
    assert!(loss(&["--adapter", out]) < loss(&[]));
    let (status, _, stderr) = call(&train);
    assert_eq!(status, 2);
    assert!(stderr.contains("there is a run in this folder"), "{stderr}");
    let (status, _, stderr) = call(&["train", model, "--data", data, "--out", out, "--rank", "4", "--device", "cuda"]);
    assert_eq!(status, 2);
    assert!(stderr.starts_with("error: "), "{stderr}");
}

#[test]
fn packed_rows_make_fewer_steps() {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        Settings { packing: true, seq: 64, steps: None, eval_every: 0, dropout: 0.0, ..settings(folder.path()) };
    let mut notes = Vec::new();
    let mut told = |event: Event| {
        if let Event::Note(note) = event {
            notes.push(note);
        }
        Ok(())
    };
    let summary = run(settings, Start::default(), &(), &mut told).unwrap();
    assert!(
        notes.iter().any(|note| note.ends_with("data.jsonl: 9 rows are packed into 3 sequences of up to 64 tokens")),
        "{notes:?}"
    );
    assert_eq!(summary.steps, 2);
}

#[test]
fn rows_longer_than_the_model_allows_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let data = write(folder.path(), "long.jsonl", &[json!({"input_ids": vec![5; 300]})]);
    let settings = Settings { data, ..settings(folder.path()) };
    let error = go(&settings, false, &()).unwrap_err();
    assert_eq!(error.status(), 2);
    assert!(error.to_string().contains("a row of 300 tokens; the model allows 256: --seq 256"), "{error}");
    assert!(!settings.out.exists());
}

#[test]
fn an_adapter_of_pissa_fits_the_base_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        Settings { method: Method::Lora, init: Init::Pissa, targets: "attention".into(), ..settings(folder.path()) };
    let summary = go(&settings, false, &()).unwrap();
    let adapter = Adapter::open(&settings.out).unwrap();
    assert_eq!((adapter.config.r, adapter.config.lora_alpha), (8, 16.0));
    let base = Checkpoint::open(&settings.model).unwrap();
    let mut decoder = Decoder::load(&base, Frozen::AsStored, &()).unwrap();
    decoder.attach(&adapter).unwrap();
    let held_out = held_out(&settings, &base);
    let loss = rankscope::train::evaluate(&Processor::default(), &decoder, &held_out, 2, &()).unwrap().mean();
    // What was frozen is the residual rounded to bf16.
    assert!((loss - summary.eval_loss.unwrap()).abs() < 0.02, "{loss} {:?}", summary.eval_loss);
    // Stopped and resumed it is the same.
    let stopped = Settings { out: folder.path().join("stopped"), ..settings.clone() };
    let part = run(stopped.clone(), Start::default(), &(), &mut |event| match event {
        Event::Step(record) if record.step.step == 7 => Err(Error::Cancelled),
        _ => Ok(()),
    });
    assert!(part.unwrap_err().is_cancelled());
    go(&stopped, true, &()).unwrap();
    assert_eq!(metrics(&stopped), metrics(&settings));
}

/// A disk that is full: no file may be larger than so many KiB.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_stops_a_run_that_can_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let whole = Settings { save_every: 3, ..settings(folder.path()) };
    go(&whole, false, &()).unwrap();
    let part = Settings { out: folder.path().join("part"), ..whole.clone() };
    // Up to a first checkpoint, then with too little room for another.
    let mut saved = 0;
    let stopped = run(part.clone(), Start::default(), &(), &mut |event| {
        saved += usize::from(matches!(event, Event::Saved(_)));
        if saved == 1 { Err(Error::failure("enough")) } else { Ok(()) }
    });
    assert_eq!(stopped.unwrap_err().to_string(), "enough");
    let program = env!("CARGO_BIN_EXE_rankscope");
    let out = part.out.to_str().unwrap();
    let script = format!("ulimit -f 60; exec {program} train --resume --out {out}");
    let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let last = stderr.lines().last().unwrap();
    assert!(last.starts_with("error: ") && last.contains("cannot write: file too large"), "{last}");
    assert!(last.ends_with("make room there, and --resume goes on after step 3, whose checkpoint is kept"), "{last}");
    let checkpoints: Vec<_> =
        std::fs::read_dir(part.out.join("checkpoints")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(checkpoints, ["step-3"]);
    go(&part, true, &()).unwrap();
    assert_eq!(metrics(&part), metrics(&whole));
    let result = |settings: &Settings| std::fs::read(settings.out.join("adapter_model.safetensors")).unwrap();
    assert!(result(&part) == result(&whole));
}
