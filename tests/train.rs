//! Training against torch 2.15, peft 0.21 and bitsandbytes 0.50: `qlora/run.json`.

use rankscope::checkpoint::Checkpoint;
use rankscope::train::{Method, Row, Rows, Settings, Trainer};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

struct Reference {
    run: Value,
    settings: Settings,
    rows: Rows,
}

fn reference() -> Reference {
    let run: Value = serde_json::from_slice(&std::fs::read(fixtures().join("qlora/run.json")).unwrap()).unwrap();
    let data: Vec<Vec<u32>> = serde_json::from_value(run["data"].clone()).unwrap();
    let settings = Settings {
        method: Method::Qlora,
        init_adapter: Some(fixtures().join("qlora/initial")),
        lr: 2e-3,
        warmup: 5,
        batch: 4,
        steps: Some(30),
        shuffle: false,
        ..Settings::default()
    };
    Reference { run, settings, rows: Rows { rows: data.into_iter().map(Row::all).collect() } }
}

fn trainer(settings: Settings, rows: Rows) -> Trainer {
    Trainer::new(&Checkpoint::open(&fixtures().join("llama")).unwrap(), settings, rows, &()).unwrap()
}

#[test]
fn thirty_steps_are_those_of_peft_and_bitsandbytes() {
    let Reference { run, settings, rows } = reference();
    let mut trainer = trainer(settings, rows);
    let expected = |key: &str, at: usize| run[key][at].as_f64().unwrap();
    for at in 0..30 {
        let step = trainer.step().unwrap();
        let (loss, norm) = (expected("loss", at), expected("grad_norm", at));
        println!("{at}: loss {:.6} ({loss:.6}), gradient {:.5} ({norm:.5})", step.loss, step.grad_norm);
        assert!((step.loss - loss).abs() < 5e-3, "step {at}: loss {} against {loss}", step.loss);
        assert!((step.grad_norm / norm - 1.0).abs() < 0.01, "step {at}: norm {} against {norm}", step.grad_norm);
        assert!((step.lr - expected("lr", at)).abs() < 1e-12);
    }
}

#[test]
fn the_same_run_twice_gives_the_same_bits() {
    let run = |settings: Settings| {
        let mut trainer = trainer(settings, reference().rows);
        for _ in 0..4 {
            trainer.step().unwrap();
        }
        trainer.decoder.params.list.into_iter().map(|param| param.value).collect::<Vec<_>>()
    };
    let new = Settings { init_adapter: None, dropout: 0.1, shuffle: true, accumulate: 2, ..reference().settings };
    let once = run(new.clone());
    assert!(once == run(new.clone()));
    assert!(once == run(Settings { checkpointing: true, ..new.clone() }));
    assert!(once != run(Settings { seed: 1, ..new }));
    // Two micro-batches are one batch of twice the size, but for the order of sums.
    let halves = run(Settings { accumulate: 2, batch: 2, ..reference().settings });
    let wholes = run(reference().settings);
    for (half, whole) in halves.iter().flatten().zip(wholes.iter().flatten()) {
        assert!((half - whole).abs() < 2e-4, "{half} {whole}");
    }
}

#[test]
fn every_method_learns() {
    for method in [Method::Full, Method::Lora, Method::Qlora] {
        let settings = Settings { method, init_adapter: None, lr: 5e-3, ..reference().settings };
        let mut trainer = trainer(settings, reference().rows);
        let first = trainer.step().unwrap().loss;
        let last = (0..29).map(|_| trainer.step().unwrap().loss).last().unwrap();
        assert!(last < 0.6 * first, "{method:?}: {first} to {last}");
        let held_out = trainer.evaluate(&reference().rows, &()).unwrap();
        assert!((held_out.mean() - last).abs() < 0.3, "{method:?}: {last}, {}", held_out.mean());
    }
}

#[test]
fn what_cannot_be_is_said() {
    let refused = |settings: Settings| {
        let checkpoint = Checkpoint::open(&fixtures().join("llama")).unwrap();
        Trainer::new(&checkpoint, settings, reference().rows, &()).err().unwrap().to_string()
    };
    let base = || Settings { init_adapter: None, ..reference().settings };
    let error = refused(Settings { rank: 33, ..base() });
    assert_eq!(error, "rank 33 for model.layers.0.self_attn.k_proj of 32 × 64; expected 32 or less");
    let error = refused(Settings { targets: "query".into(), ..base() });
    assert!(error.contains("query") && error.contains("q_proj"), "{error}");
    let error = refused(Settings { init_adapter: Some(fixtures().join("gpt2-adapter")), ..base() });
    assert!(error.contains("made for another base"), "{error}");
    let mut diverging = trainer(Settings { lr: 1e30, max_grad_norm: 0.0, warmup: 0, ..base() }, reference().rows);
    let error = (0..9).find_map(|_| diverging.step().err()).unwrap().to_string();
    assert!(error.contains("diverged at step"), "{error}");
}
