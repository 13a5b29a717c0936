//! The GPU's decoder against the processor's, and against PEFT's, on a machine that runs the same kernels as C.
//!
//! What this cannot show: that the kernels run on a GPU, and how fast; `tests/cuda.rs` does that where there is one.

#![cfg(target_os = "linux")]

mod emulated;

use emulated::Emulated;
use rankscope::adapter::Adapter;
use rankscope::checkpoint::Checkpoint;
use rankscope::model::gpu::{self, Gpu, Kind};
use rankscope::model::{self, Backward, Batch, Decoder, Dropout, Frozen, Grads, Pool, Run};
use rankscope::quant::Scheme;
use rankscope::train::{Method, Row, Rows, Settings, Trainer};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Model folders: three in the repository, all ten where the whole reference is.
fn folders() -> Vec<(PathBuf, Value)> {
    let all = json(&fixtures().join("losses.json"));
    if let Some(root) = std::env::var_os("RANKSCOPE_REFERENCE") {
        let folders = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
        let expected = |folder: PathBuf| {
            let file = folder.join("expected.json");
            file.is_file().then(|| (folder, json(&file))).filter(|(_, value)| value.get("adapter_loss").is_some())
        };
        return folders.filter_map(expected).collect();
    }
    ["llama", "gpt2", "gemma3"].iter().map(|name| (fixtures().join(name), all[name].clone())).collect()
}

fn adapter(folder: &Path) -> Adapter {
    let name = folder.file_name().unwrap().to_string_lossy();
    Adapter::open(&folder.with_file_name(format!("{name}-adapter"))).unwrap()
}

fn on(machine: Arc<Emulated>, real: Kind, decoder: &Decoder) -> gpu::Model {
    gpu::Model::put(Gpu::new(machine, real), decoder).unwrap()
}

/// Two sequences, a part of each to be predicted.
fn batch_of(expected: &Value) -> (Vec<u32>, Vec<i32>) {
    let rows: Vec<Vec<u32>> = serde_json::from_value(expected["input_ids"].clone()).unwrap();
    let ids: Vec<u32> = rows.iter().flat_map(|row| row[..37].to_vec()).collect();
    let labels = ids.iter().enumerate().map(|(at, &id)| if at % 37 > 4 { id as i32 } else { -100 }).collect();
    (ids, labels)
}

/// `‖a − b‖ / ‖b‖` over everything, and the same of the worst tensor (against the largest one's norm a value, so that a
/// gradient that is nothing beside the others may be noise).
fn distance(a: &Grads, b: &Grads) -> (f64, f64) {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let (mut all, mut of_all, mut worst) = (0.0, 0.0, 0f64);
    let largest = b.0.iter().map(|b| square(&mut b.iter().map(|&x| f64::from(x))) / b.len() as f64).fold(0.0, f64::max);
    for (a, b) in a.0.iter().zip(&b.0) {
        let apart = square(&mut a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)));
        let size = square(&mut b.iter().map(|&b| f64::from(b)));
        worst = worst.max((apart / size.max(1e-4 * largest * b.len() as f64)).sqrt());
        (all, of_all) = (all + apart, of_all + size);
    }
    ((all / of_all).sqrt(), worst)
}

fn compare(name: &str, decoder: &Decoder, batch: Batch, dropout: Option<Dropout>, checkpointing: bool) {
    let backward = Backward { scale: 1.0 / batch.predictions() as f32, checkpointing };
    let pool = Pool::default();
    let mut expected = decoder.params.zeros();
    let run = Run { dropout, ..Run::new(&decoder.params, &pool) };
    let loss = decoder.gradient(&run, batch, backward, &mut expected).unwrap();
    // In bf16 every value between two operations is rounded to 8 bits: single gradients are off by a few percent.
    for (real, loss_off, off, worst_off) in [(Kind::F32, 2e-6, 2e-5, 2e-4), (Kind::Bf16, 4e-3, 0.04, 0.25)] {
        let Some(machine) = Emulated::new() else { return };
        let mut model = on(machine, real, decoder);
        model.clear().unwrap();
        model.gradient(batch, backward, dropout).unwrap();
        let found = model.read_grads().unwrap();
        let (all, worst) = distance(&found, &expected);
        if dropout.is_none() {
            let sum = model.loss(batch).unwrap();
            let apart = (sum / loss.sum - 1.0).abs();
            println!("{name} {real:?}: loss {sum:.5} ({:.5}), gradients {all:.1e}, worst {worst:.1e}", loss.sum);
            assert!(apart < loss_off, "{name} {real:?}: loss {sum} against {}", loss.sum);
        }
        assert!(all < off && worst < worst_off, "{name} {real:?}: gradients differ by {all:.2e}, worst {worst:.2e}");
    }
}

#[test]
fn losses_and_gradients_are_those_of_the_processor() {
    for (folder, expected) in folders() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let (ids, labels) = batch_of(&expected);
        let batch = Batch { ids: &ids, labels: &labels, seq: 37, starts: &[] };
        let full = Decoder::load(&checkpoint, Frozen::Nothing, &()).unwrap();
        compare(&format!("{name}, every parameter"), &full, batch, None, false);
        let mut adapted = Decoder::load(&checkpoint, Frozen::FourBit(Scheme::default()), &()).unwrap();
        adapted.attach(&adapter(&folder)).unwrap();
        compare(&format!("{name}, adapter"), &adapted, batch, None, true);
        compare(&format!("{name}, dropout"), &adapted, batch, Some(Dropout { p: 0.2, seed: 3 }), false);
        // Rows of 9 and 28 tokens in the first sequence, of 20 and 17 in the second.
        let starts: Vec<u32> = [(0, 9), (9, 28), (0, 20), (20, 17)].iter().flat_map(|&(at, n)| vec![at; n]).collect();
        compare(&format!("{name}, packed"), &adapted, Batch { starts: &starts, ..batch }, None, false);
        compare(&format!("{name}, packed, every parameter"), &full, Batch { starts: &starts, ..batch }, None, true);
    }
}

#[test]
fn logits_come_one_token_after_the_other() {
    for (folder, expected) in folders() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let mut decoder = Decoder::load(&Checkpoint::open(&folder).unwrap(), Frozen::AsStored, &()).unwrap();
        decoder.attach(&adapter(&folder)).unwrap();
        let rows: Vec<Vec<u32>> = serde_json::from_value(expected["input_ids"].clone()).unwrap();
        let row = &rows[0];
        let Some(machine) = Emulated::new() else { return };
        let model = on(machine, Kind::F32, &decoder);
        let (mut ours, mut theirs) =
            (gpu::Cache::new(&model, row.len()).unwrap(), model::Cache::new(&decoder, row.len()));
        for part in [&row[..29], &row[29..30], &row[30..31], &row[31..]] {
            let found = model.next(part, &mut ours).unwrap();
            let expected = decoder.next(&Pool::default(), part, &mut theirs).unwrap();
            let apart = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 1e-4, "{name}: logits differ by {apart}");
        }
        assert!(model.next(&[3], &mut ours).unwrap_err().to_string().contains("the model allows"));
    }
}

struct Reference {
    run: Value,
    settings: Settings,
    rows: Rows,
}

/// What `qlora/run.json` records: torch 2.15, peft 0.21, bitsandbytes 0.50.
fn reference() -> Reference {
    let run = json(&fixtures().join("qlora/run.json"));
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

fn trainer(settings: Settings, rows: Rows, real: Kind) -> Option<Trainer> {
    let machine = Emulated::new()?;
    let checkpoint = Checkpoint::open(&fixtures().join("llama")).unwrap();
    let mut trainer = Trainer::new(&checkpoint, settings, rows, &()).unwrap();
    trainer.onto(machine, real).unwrap();
    Some(trainer)
}

#[test]
fn thirty_steps_are_those_of_peft_and_bitsandbytes() {
    for (real, off, norm_off) in [(Kind::F32, 5e-3, 0.01), (Kind::Bf16, 0.03, 0.05)] {
        let Reference { run, settings, rows } = reference();
        let Some(mut trainer) = trainer(Settings { checkpointing: true, ..settings }, rows, real) else { return };
        let expected = |key: &str, at: usize| run[key][at].as_f64().unwrap();
        let (mut worst, mut worst_norm) = (0f64, 0f64);
        for at in 0..30 {
            let step = trainer.step().unwrap();
            let (loss, norm) = (expected("loss", at), expected("grad_norm", at));
            worst = worst.max((step.loss - loss).abs());
            worst_norm = worst_norm.max((step.grad_norm / norm - 1.0).abs());
            assert!((step.loss - loss).abs() < off, "{real:?} step {at}: loss {} against {loss}", step.loss);
            assert!((step.grad_norm / norm - 1.0).abs() < norm_off, "{real:?} {at}: {} against {norm}", step.grad_norm);
        }
        println!("{real:?}: losses within {worst:.1e}, norms within {:.2} %", 100.0 * worst_norm);
    }
}
