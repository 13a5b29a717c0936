//! `rankscope advise`: one answer; `train --patience --keep-best --forget-data`; `sweep` over a grid that goes on by itself.

use crate::support::{fixtures, rankscope};
use rankscope::adapter::Adapter;
use rankscope::checkpoint::Checkpoint;
use rankscope::model::{Decoder, Frozen, Processor};
use rankscope::train::run::{Start, run};
use rankscope::train::run_folder::RunFolder;
use rankscope::train::{Settings, data, evaluate, history};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Rows whose ids the fixture's vocabulary has.
fn rows(folder: &Path, name: &str, rows: std::ops::Range<u32>) -> PathBuf {
    let line = |row: u32| {
        let ids: Vec<u32> = (0..14).map(|at| (row * 31 + at * 7) % 300 + 3).collect();
        format!("{{\"input_ids\": {ids:?}}}\n")
    };
    let path = folder.join(name);
    std::fs::write(&path, rows.map(line).collect::<String>()).unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn document(arguments: &[&str]) -> Value {
    let ran = rankscope(arguments);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn one_answer_before_any_training_and_after_a_short_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let model = fixtures().join("llama");
    let data = rows(folder.path(), "data.jsonl", 0..24);
    let report = folder.path().join("advice.html");
    let common = ["advise", text(&model), "--data", text(&data), "--seq", "16", "--memory", "8GB", "--json"];
    let tuned = fixtures().join("llama-tuned");
    let found = document(&[&common[..], &["--tuned", text(&tuned), "--report", text(&report)]].concat());
    // 24 rows of which 13 tokens each are predicted.
    assert_eq!(found["tokens"], 24 * 13);
    assert_eq!(found["fits"]["device_memory"], 8u64 << 30);
    assert_eq!(found["fits"]["verdict"], "fits");
    let (r, range) = (found["r"].as_u64().unwrap(), found["range"].as_array().unwrap());
    assert!(range[0].as_u64().unwrap() <= r && r <= range[1].as_u64().unwrap(), "{found}");
    let why = found["why"].as_array().unwrap();
    for criterion in ["rate", "capacity", "memory", "published", "gradients", "sibling", "layers"] {
        let one = why.iter().find(|one| one["criterion"] == criterion).unwrap_or_else(|| panic!("no {criterion}"));
        assert!(["value", "says", "source"].iter().all(|key| !one[*key].as_str().unwrap().is_empty()), "{one}");
    }
    assert!(found.get("measured").is_none());
    let html = std::fs::read_to_string(&report).unwrap();
    assert!(html.contains("Which rank") && html.matches("<svg").count() == why.len());

    let out = folder.path().join("tried");
    let tried = ["--try", "--steps", "6", "--ranks", "1,2", "--lrs", "1e-3,3e-2", "--batch", "2", "--out", text(&out)];
    let found = document(&[&common[..], &tried].concat());
    let measured = &found["measured"];
    assert_eq!(measured["rows"].as_array().unwrap().len(), 4);
    assert_eq!(found["why"][0]["criterion"], "measured");
    assert!([1, 2].contains(&found["r"].as_u64().unwrap()), "{found}");
    // A later question finds these runs.
    let later = document(&[&common[..], &["--runs", text(folder.path()), "--batches", "0"]].concat());
    assert_eq!((&later["r"], &later["lr"]), (&found["r"], &found["lr"]));
}

#[test]
fn a_run_stops_when_it_no_longer_learns_and_keeps_its_best() {
    let folder = tempfile::tempdir().unwrap();
    // Held-out rows are others, so that learning the rows by heart makes them worse at some point.
    let settings = Settings {
        model: fixtures().join("llama"),
        data: rows(folder.path(), "data.jsonl", 0..4),
        eval_data: Some(rows(folder.path(), "eval.jsonl", 40..50)),
        forget_data: Some(rows(folder.path(), "plain.jsonl", 70..76)),
        out: folder.path().join("run"),
        rank: 8,
        lr: 5e-2,
        batch: 2,
        steps: Some(60),
        eval_every: 2,
        patience: 3,
        keep_best: true,
        save_every: 0,
        ..Settings::default()
    };
    let summary = run(settings.clone(), Start::default(), &(), &mut |_| Ok(())).unwrap();
    let past = history::Past::read(&settings.out).unwrap();
    let evaluations: Vec<(usize, f64)> = std::fs::read_to_string(settings.out.join("metrics.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter_map(|line| Some((line["step"].as_u64()? as usize, line["eval_loss"].as_f64()?)))
        .collect();
    let best = evaluations.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert!(past.done < 60, "it went on to the end");
    assert_eq!((past.done, summary.result_step), (best.0 + 3 * 2, best.0), "{evaluations:?}");
    assert_eq!((summary.eval_loss, past.eval_loss), (Some(best.1), Some(best.1)));
    // One checkpoint: the best; the adapter that was written is that one.
    assert_eq!(RunFolder::new(&settings.out).checkpoints(), [best.0]);
    let model = Checkpoint::open(&settings.model).unwrap();
    let loss = |path: &Path| {
        let scheme = settings.scheme().map_or(Frozen::AsStored, Frozen::FourBit);
        let decoder = Decoder::with_adapter(&model, &Adapter::open(&settings.out).unwrap(), scheme, &()).unwrap();
        let rows = data::read(path, &model, settings.seq, &()).unwrap().rows;
        evaluate(&Processor::default(), &decoder, &rows, 2, &()).unwrap().mean()
    };
    assert!((loss(settings.eval_data.as_ref().unwrap()) - best.1).abs() < 1e-4);
    let [before, after] = summary.forgetting.unwrap();
    assert_eq!(past.forgetting, Some([before, after]));
    assert!((loss(settings.forget_data.as_ref().unwrap()) - after).abs() < 1e-4 && before != after);
    let refused = run(Settings { eval_every: 0, ..settings }, Start::default(), &(), &mut |_| Ok(())).unwrap_err();
    assert!(refused.to_string().contains("eval-every above 0"), "{refused}");
}

#[test]
fn a_sweep_goes_on_from_its_folder_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (fixtures().join("llama"), folder.path().join("sweep"));
    let data = rows(folder.path(), "data.jsonl", 0..20);
    let grid =
        ["--ranks", "1,2", "--lrs", "1e-3,1e-2", "--alpha", "32", "--seeds", "2", "--steps", "4", "--batch", "2"];
    let common = ["sweep", text(&model), "--data", text(&data), "--out", text(&out), "--save-every", "0"];
    let found = document(&[&common[..], &grid, &["--json"]].concat());
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 8);
    assert!(rows.iter().all(|row| row["alpha"] == 32.0 && row["eval_loss"].is_f64()), "{rows:?}");
    assert_eq!(found["best"]["seeds"], 2);
    assert!(found["cuts"].as_array().unwrap().len() > 1);
    // A run that was lost is done again, and nothing else.
    std::fs::remove_dir_all(out.join("r-1-lr-1e-3-seed-1")).unwrap();
    let again = document(&["sweep", text(&model), "--data", text(&data), "--out", text(&out), "--resume", "--json"]);
    assert_eq!(again["rows"], found["rows"]);
    let refused = rankscope(&["sweep", text(&model), "--data", text(&data), "--out", text(folder.path()), "--resume"]);
    assert!(refused.stderr.contains("no sweep that could go on"), "{}", refused.stderr);
}
