//! The GPU's decoder against the processor's, and against PEFT's: on a machine that runs the same kernels as C, on a GPU
//! where there is one (`RANKSCOPE_CUDA=required` fails where there is none), and through a driver that stands in for one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails says where by panicking")]
#![cfg(target_os = "linux")]

#[cfg(feature = "cuda")]
mod driver;
mod emulated;
mod kernels;
#[path = "../it/support.rs"]
mod support;
mod training;
#[cfg(feature = "wgpu")]
mod vulkan;

use emulated::Emulated;
use rankscope::adapter::Adapter;
use rankscope::checkpoint::Checkpoint;
#[cfg(feature = "wgpu")]
use rankscope::device::Api;
use rankscope::model::gpu::{self, Gpu, Machine};
use rankscope::model::{Backward, Batch, ComputeDtype, Cpu, Decoder, Dropout, Engine, Frozen, Grads, Pool, Processor};
use rankscope::quant::Scheme;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "wgpu")]
use std::sync::OnceLock;
use support::fixtures;

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

/// What Vulkan shows first, were it only a driver that computes on the processor.
#[cfg(feature = "wgpu")]
fn vulkan() -> Option<Arc<dyn Machine>> {
    // One for all tests: its kernels are compiled once.
    static MACHINE: OnceLock<Option<Arc<gpu::wgpu::Wgpu>>> = OnceLock::new();
    let machine = MACHINE.get_or_init(|| match gpu::wgpu::Wgpu::open(Api::Vulkan, 0) {
        Ok(machine) => Some(machine),
        Err(why) => {
            assert!(std::env::var_os("RANKSCOPE_REQUIRE_PIXELS").is_none(), "{why}");
            eprintln!("nothing is tested on Vulkan: {why}");
            None
        }
    });
    machine.clone().map(|machine| machine as Arc<dyn Machine>)
}

#[cfg(not(feature = "wgpu"))]
fn vulkan() -> Option<Arc<dyn Machine>> {
    None
}

/// Every machine that there is; with `RANKSCOPE_CUDA=only` that one, with `RANKSCOPE_VULKAN=only` that.
fn machines() -> Vec<Arc<dyn Machine>> {
    let cuda = std::env::var("RANKSCOPE_CUDA").ok();
    let mut machines: Vec<Arc<dyn Machine>> = Vec::new();
    if cuda.as_deref() != Some("only") {
        let vulkan = vulkan();
        if std::env::var("RANKSCOPE_VULKAN").as_deref() == Ok("only") {
            return vulkan.into_iter().collect();
        }
        machines.extend(Emulated::new().map(|machine| machine as Arc<dyn Machine>));
        machines.extend(vulkan);
    }
    #[cfg(feature = "cuda")]
    match gpu::cuda::Cuda::open(0) {
        Ok(machine) => machines.push(machine),
        Err(why) => {
            assert!(cuda.is_none(), "{why}");
            eprintln!("nothing is tested on a GPU: {why}");
        }
    }
    machines
}

/// Attention and logits go in many pieces: what is small here must do what is large elsewhere.
fn on(machine: &Arc<dyn Machine>, dtype: ComputeDtype, decoder: &Decoder) -> gpu::Model {
    let mut gpu = Gpu::isolated(Arc::clone(machine), dtype);
    (gpu.scores, gpu.logits) = (3000, 2000);
    gpu::Model::new(gpu, decoder).unwrap()
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

/// How far losses, all gradients and the worst of them may be from the processor's. In bf16 every value between two operations is
/// rounded to 8 bits: single gradients are off by a few percent.
const DTYPES: [(ComputeDtype, f64, f64, f64); 2] =
    [(ComputeDtype::F32, 5e-6, 5e-5, 5e-4), (ComputeDtype::Bf16, 4e-3, 0.04, 0.25)];

fn compare(name: &str, decoder: &Decoder, batch: Batch, dropout: Option<Dropout>, checkpointing: bool) {
    compare_in(&DTYPES, name, decoder, batch, dropout, checkpointing);
}

fn compare_in(
    dtypes: &[(ComputeDtype, f64, f64, f64)],
    name: &str,
    decoder: &Decoder,
    batch: Batch,
    dropout: Option<Dropout>,
    checkpointing: bool,
) {
    let backward = Backward { scale: 1.0 / batch.predictions() as f32, checkpointing };
    let pool = Pool::default();
    let mut expected = decoder.params.zeros();
    let cpu = Cpu { dropout, ..Cpu::new(&decoder.params, &pool) };
    let loss = decoder.gradient(&cpu, batch, backward, &mut expected).unwrap();
    for machine in machines() {
        for &(dtype, loss_off, off, worst_off) in dtypes {
            // What computes in f32 all the same has been there.
            if dtype == ComputeDtype::Bf16 && machine.formats(dtype).compute == ComputeDtype::F32 && dropout.is_some() {
                continue;
            }
            let mut model = on(&machine, dtype, decoder);
            model.clear(&decoder.params).unwrap();
            model.gradient(decoder, batch, backward, dropout, &()).unwrap();
            let found = model.read_grads().unwrap();
            let (all, worst) = distance(&found, &expected);
            let name = format!("{name} on {} in {}", machine.name(), dtype.name());
            if dropout.is_none() {
                let sum = model.loss(decoder, batch, &()).unwrap().sum;
                println!("{name}: loss {sum:.5} ({loss:.5}), gradients {all:.1e}, worst {worst:.1e}");
                assert!((sum / loss - 1.0).abs() < loss_off, "{name}: loss {sum} against {loss}");
            }
            assert!(all < off && worst < worst_off, "{name}: gradients differ by {all:.2e}, worst {worst:.2e}");
        }
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

/// All rows of a family's reference, which predict all but their first tokens.
fn whole_rows(expected: &Value) -> (usize, Vec<u32>, Vec<i32>) {
    let rows: Vec<Vec<u32>> = serde_json::from_value(expected["input_ids"].clone()).unwrap();
    let (seq, ids) = (rows[0].len(), rows.concat());
    let label = |(at, &id): (usize, &u32)| if at % seq > 1 { id as i32 } else { -100 };
    let labels = ids.iter().enumerate().map(label).collect();
    (seq, ids, labels)
}

/// How far a family may be from the processor in f32.
fn of_family(name: &str) -> &'static [(ComputeDtype, f64, f64, f64)] {
    // Gemma 4's small values make its gradients as far apart where sums are taken in another order: see `held` in tests/it/train.rs.
    if name.starts_with("gemma4") { &[(ComputeDtype::F32, 5e-6, 5e-4, 5e-3)] } else { &DTYPES[..1] }
}

/// Families whose blocks are more than attention over heads and an MLP.
const MORE: [&str; 12] = [
    "deepseek_v3",
    "falcon_h1",
    "gemma4",
    "gemma4_moe",
    "gpt_oss",
    "granitemoehybrid",
    "lfm2_moe",
    "llama4",
    "nemotron_h",
    "olmo3",
    "qwen3_5",
    "qwen3_moe",
];

#[test]
fn every_method_of_families_with_more_is_that_of_the_processor() {
    for name in MORE {
        let base = fixtures().join("families").join(name);
        let (seq, ids, labels) = whole_rows(&json(&base.join("expected.json")));
        let checkpoint = Checkpoint::open(&base).unwrap();
        // Two rows of data in every sequence.
        let starts: Vec<u32> = (0..ids.len()).map(|at| if at % seq < 9 { 0 } else { 9 }).collect();
        let batch = Batch { ids: &ids, labels: &labels, seq, starts: &starts };
        let full = Decoder::load(&checkpoint, Frozen::Nothing, &()).unwrap();
        compare_in(of_family(name), &format!("{name}, every parameter"), &full, batch, None, true);
        let mut adapted = Decoder::load(&checkpoint, Frozen::FourBit(Scheme::default()), &()).unwrap();
        adapted.attach(&adapter(&base)).unwrap();
        compare_in(of_family(name), &format!("{name}, 4 bits"), &adapted, batch, None, false);
        let whole = Batch { starts: &[], ..batch };
        // PEFT has no dropout of what adapts experts, and training refuses it. With this seed Gemma 4's gradients are as near as without
        // dropout; with others they are up to 2e-3 apart, and as far on one machine from the other.
        let dropout = adapted.experts().next().is_none().then_some(Dropout { p: 0.2, seed: 4 });
        compare_in(of_family(name), &format!("{name}, whole rows"), &adapted, whole, dropout, false);
        one_after_the_other(name, &adapted, &ids[..seq]);
    }
}

#[test]
fn dora_is_that_of_the_processor() {
    let folder = fixtures().join("llama");
    let (ids, labels) = batch_of(&json(&fixtures().join("losses.json"))["llama"]);
    let batch = Batch { ids: &ids, labels: &labels, seq: 37, starts: &[] };
    for frozen in [Frozen::AsStored, Frozen::FourBit(Scheme::default())] {
        let mut decoder = Decoder::load(&Checkpoint::open(&folder).unwrap(), frozen, &()).unwrap();
        decoder.attach(&Adapter::open(&fixtures().join("dora/initial")).unwrap()).unwrap();
        compare("DoRA", &decoder, batch, None, false);
        compare("DoRA, dropout", &decoder, batch, Some(Dropout { p: 0.2, seed: 3 }), true);
    }
}

/// Families in `families/`, and all where `RANKSCOPE_BASES` names the folder of `make_bases.py`: those that are not computed on a
/// GPU say so.
#[test]
fn families_are_those_of_the_processor_or_refused_by_name() {
    let folders = [Some(fixtures().join("families")), std::env::var_os("RANKSCOPE_BASES").map(PathBuf::from)];
    let entries = folders.into_iter().flatten().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut bases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    bases.retain(|base| base.join("expected.json").is_file());
    bases.sort();
    let mut computed = Vec::new();
    for base in bases {
        let name = base.file_name().unwrap().to_string_lossy().into_owned();
        let expected = json(&base.join("expected.json"));
        let loaded = Checkpoint::open(&base).and_then(|it| Decoder::load(&it, Frozen::AsStored, &()));
        let Ok(mut decoder) = loaded.map_err(|error| println!("{name}: {error}")) else { continue };
        if decoder.attach(&adapter(&base)).map_err(|error| println!("{name}: {error}")).is_err() {
            continue;
        }
        let refused = machines()
            .first()
            .and_then(|machine| gpu::Model::new(Gpu::new(Arc::clone(machine), ComputeDtype::F32), &decoder).err());
        if let Some(error) = refused {
            println!("{name}: {error}");
            assert!(error.to_string().contains("is computed on the processor here, not on a GPU"), "{name}: {error}");
            continue;
        }
        let (seq, ids, labels) = whole_rows(&expected);
        let batch = Batch { ids: &ids, labels: &labels, seq, starts: &[] };
        compare_in(of_family(&name), &name, &decoder, batch, None, false);
        computed.push(name);
    }
    for name in ["apertus", "bloom", "cohere2", "falcon", "gemma3_whole", "granite", "nanochat", "qwen2_5_vl"] {
        assert!(computed.iter().any(|computed| computed == name), "{name} is not computed: {computed:?}");
    }
    println!("{} families: {}", computed.len(), computed.join(", "));
}

#[test]
fn logits_come_one_token_after_the_other() {
    for (folder, expected) in folders() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let mut decoder = Decoder::load(&Checkpoint::open(&folder).unwrap(), Frozen::AsStored, &()).unwrap();
        decoder.attach(&adapter(&folder)).unwrap();
        let rows: Vec<Vec<u32>> = serde_json::from_value(expected["input_ids"].clone()).unwrap();
        let row = &rows[0];
        one_after_the_other(&name, &decoder, row);
    }
}

/// Logits of a row that grows, beside the processor's.
fn one_after_the_other(name: &str, decoder: &Decoder, row: &[u32]) {
    let first = row.len().min(29);
    for machine in machines() {
        let model = on(&machine, ComputeDtype::F32, decoder);
        let processor = Processor::default();
        let mut ours = model.sequence(decoder, row.len()).unwrap();
        let mut theirs = processor.sequence(decoder, row.len()).unwrap();
        let mut pieces = vec![(first - 2, &row[..first - 2]), (1, &row[..first - 1]), (1, &row[..first])];
        if row.len() > first {
            pieces.push((row.len() - first, row));
        }
        for (new, all) in pieces {
            let found = ours.next(all, new).unwrap();
            let expected = theirs.next(all, new).unwrap();
            let apart = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 2e-4, "{name}: logits differ by {apart}");
        }
        let more = [row, &[3]].concat();
        assert!(ours.next(&more, 1).unwrap_err().to_string().contains("the model allows"));
    }
}

#[test]
fn memory_that_does_not_suffice_is_a_sentence() {
    let decoder = Decoder::load(&Checkpoint::open(&fixtures().join("llama")).unwrap(), Frozen::AsStored, &()).unwrap();
    let Some(machine) = Emulated::with_memory(200_000) else { return };
    let error = gpu::Model::new(Gpu::new(machine, ComputeDtype::F32), &decoder).unwrap_err();
    assert_eq!(error.status(), 1);
    let error = error.to_string();
    for part in ["memory of this processor as a GPU does not suffice", "more are needed beside", "are free", "--batch"]
    {
        assert!(error.contains(part), "{error}");
    }
}
