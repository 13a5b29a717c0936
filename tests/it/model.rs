//! Losses and logits against transformers 5.23 and peft 0.21 (torch 2.15, f32, eager attention): `expected.json`.

use crate::support::fixtures;
use rankscope::adapter::Adapter;
use rankscope::checkpoint::Checkpoint;
use rankscope::model::ops::bf16::Unit;
use rankscope::model::{Backward, Batch, Cache, Cpu, Decoder, Dropout, Engine as _, Frozen, Grads, Pool, Processor};
use rankscope::quant::Scheme;
use rankscope::train::{Rows, Sampling, data, generate};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Model folders with the numbers expected of them: three in the repository, all ten where the whole reference is.
fn folders() -> Vec<(PathBuf, Value)> {
    let read = |path: PathBuf| std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let all = read(fixtures().join("losses.json")).unwrap();
    let mut folders: Vec<(PathBuf, Value)> =
        ["llama", "gpt2", "gemma3"].iter().map(|name| (fixtures().join(name), all[name].clone())).collect();
    if let Some(root) = std::env::var_os("RANKSCOPE_REFERENCE") {
        for entry in std::fs::read_dir(root).unwrap() {
            let folder = entry.unwrap().path();
            if let Some(expected) =
                read(folder.join("expected.json")).filter(|expected| expected.get("adapter_loss").is_some())
            {
                folders.push((folder, expected));
            }
        }
    }
    folders
}

fn ids(expected: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(expected["input_ids"].clone()).unwrap()
}

fn loss(decoder: &Decoder, rows: &[Vec<u32>]) -> f64 {
    let ids: Vec<u32> = rows.concat();
    let labels: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    let (params, pool) = (&decoder.params, Pool::default());
    let batch = Batch { ids: &ids, labels: &labels, seq: rows[0].len(), starts: &[] };
    decoder.loss(&Cpu::new(params, &pool), batch).unwrap().mean()
}

fn close(found: f64, expected: &Value, what: &str) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() < 3e-4, "{what}: found {found}, expected {expected}");
}

fn logits_close(decoder: &Decoder, rows: &[Vec<u32>], expected: &Value, what: &str) {
    let pool = Pool::default();
    let on = Cpu::new(&decoder.params, &pool);
    for (row, expected) in rows.iter().zip(expected.as_array().unwrap()) {
        // In two pieces, so that the cache is used.
        let mut cache = Cache::new(&on, decoder, row.len()).unwrap();
        decoder.next(&on, &row[..29], &mut cache).unwrap();
        for &id in &row[29..39] {
            decoder.next(&on, &[id], &mut cache).unwrap();
        }
        let logits = decoder.next(&on, &row[39..], &mut cache).unwrap();
        for (at, (&found, expected)) in logits.iter().zip(expected.as_array().unwrap()).enumerate() {
            let expected = expected.as_f64().unwrap();
            assert!(
                (f64::from(found) - expected).abs() < 1e-3,
                "{what}, logit {at}: found {found}, expected {expected}"
            );
        }
    }
}

#[test]
fn losses_and_logits_are_those_of_transformers() {
    for (folder, expected) in folders() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let rows = ids(&expected);
        let mut decoder = Decoder::load(&Checkpoint::open(&folder).unwrap(), Frozen::AsStored, &()).unwrap();
        let base = loss(&decoder, &rows);
        close(base, &expected["loss"], &name);
        logits_close(&decoder, &rows, &expected["last_logits"], &name);
        decoder.attach(&Adapter::open(&folder.with_file_name(format!("{name}-adapter"))).unwrap()).unwrap();
        let adapted = loss(&decoder, &rows);
        println!(
            "{name}: loss {base:.6} ({}), with adapter {adapted:.6} ({})",
            expected["loss"], expected["adapter_loss"]
        );
        close(adapted, &expected["adapter_loss"], &format!("{name} with adapter"));
        logits_close(&decoder, &rows, &expected["adapter_last_logits"], &format!("{name} with adapter"));
        assert_eq!(decoder.params.elements() as u64, expected["adapter_trainable"].as_u64().unwrap());
    }
}

#[test]
fn a_folder_of_bitsandbytes_gives_its_loss() {
    // The one in the repository is cut to its first block.
    let Some(root) = std::env::var_os("RANKSCOPE_REFERENCE") else { return };
    let folder = Path::new(&root).join("llama-bnb4");
    let expected: Value = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let decoder = Decoder::load(&Checkpoint::open(&folder).unwrap(), Frozen::AsStored, &()).unwrap();
    close(loss(&decoder, &ids(&expected)), &expected["loss"], "llama-bnb4");
}

#[test]
fn what_does_not_fit_is_said() {
    let llama = Checkpoint::open(&fixtures().join("llama")).unwrap();
    let mut decoder = Decoder::load(&llama, Frozen::AsStored, &()).unwrap();
    let pool = Pool::default();
    let long = vec![3; 257];
    let on = Cpu::new(&decoder.params, &pool);
    let error = decoder.loss(&on, Batch { ids: &long, labels: &[3; 257], seq: 257, starts: &[] }).unwrap_err();
    assert_eq!(error.to_string(), "a sequence of 257 tokens; the model allows 256");
    let error = decoder.loss(&on, Batch { ids: &[3, 320], labels: &[3, 3], seq: 2, starts: &[] }).unwrap_err();
    assert_eq!(error.to_string(), "token id 320 is outside the model's vocabulary of 320");
    let other = Adapter::open(&fixtures().join("gpt2-adapter")).unwrap();
    let error = decoder.attach(&other).unwrap_err().to_string();
    assert!(error.contains("the model has no such linear layer; it has names such as"), "{error}");
}

fn gradient(decoder: &Decoder, batch: Batch, checkpointing: bool, dropout: Option<Dropout>) -> (f64, Grads) {
    let pool = Pool::default();
    let on = Cpu { dropout, ..Cpu::new(&decoder.params, &pool) };
    let mut grads = decoder.params.zeros();
    let sum = decoder.gradient(&on, batch, Backward { scale: 1.0, checkpointing }, &mut grads).unwrap();
    (sum, grads)
}

/// Products whose factors are rounded to 8 bits, by every unit that this processor has: losses and gradients as near as that.
#[test]
fn in_bf16_losses_and_gradients_are_near() {
    for (folder, expected) in folders() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let mut decoder =
            Decoder::load(&Checkpoint::open(&folder).unwrap(), Frozen::FourBit(Scheme::default()), &()).unwrap();
        decoder.attach(&Adapter::open(&folder.with_file_name(format!("{name}-adapter"))).unwrap()).unwrap();
        let ids = ids(&expected).concat();
        let labels: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
        let batch = Batch { ids: &ids, labels: &labels, seq: ids.len() / 2, starts: &[] };
        let found = |unit: Option<Unit>| {
            let pool = Pool::default();
            let on = Cpu { unit, ..Cpu::new(&decoder.params, &pool) };
            let mut grads = decoder.params.zeros();
            let backward = Backward { scale: 1.0, checkpointing: false };
            (decoder.gradient(&on, batch, backward, &mut grads).unwrap(), grads)
        };
        let (expected, exact) = found(None);
        for unit in Unit::all() {
            let (sum, grads) = found(Some(unit));
            let square = |of: &mut dyn Iterator<Item = f32>| of.map(|x| f64::from(x * x)).sum::<f64>();
            let apart = square(&mut grads.0.iter().flatten().zip(exact.0.iter().flatten()).map(|(a, b)| a - b));
            let off = (apart / square(&mut exact.0.iter().flatten().copied())).sqrt();
            println!("{name} by {}: loss {sum:.5} ({expected:.5}), gradients within {off:.1e}", unit.name());
            assert!((sum / expected - 1.0).abs() < 4e-3, "{name} by {}: {sum}, {expected}", unit.name());
            assert!(off > 0.0 && off < 0.04, "{name} by {}: gradients differ by {off:.2e}", unit.name());
        }
    }
}

/// `(loss(p + h·v) − loss(p − h·v)) / 2h` against `gradient · v`, v along the gradient of one parameter after the other.
fn slopes_agree(name: &str, decoder: &mut Decoder, batch: Batch, dropout: Option<Dropout>) {
    slopes_agree_within(0.05, name, decoder, batch, dropout);
}

/// The same for changes of the loss of about twice `change`.
fn slopes_agree_within(change: f64, name: &str, decoder: &mut Decoder, batch: Batch, dropout: Option<Dropout>) {
    let (sum, grads) = gradient(decoder, batch, false, dropout);
    if dropout.is_none() {
        let pool = Pool::default();
        let found = decoder.loss(&Cpu::new(&decoder.params, &pool), batch).unwrap().sum;
        assert!((sum - found).abs() < 1e-4 * sum, "{name}: {sum}");
    }
    for number in 0..decoder.params.list.len() {
        let g = &grads.0[number];
        let norm = g.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        // A change of the loss that is large against f32's rounding and small against its curvature.
        // What stands in an exponent is not moved far: the loss then changes by little more than f32 tells.
        let (far, most) = (change / norm, 0.3);
        let (h, blur) = if far < most { (far, 0.0) } else { (most, 1e-3) };
        let before = decoder.params.list[number].value.clone();
        let at = |sign: f64, decoder: &mut Decoder| {
            let along = |(&x, &g): (&f32, &f32)| (f64::from(x) + sign * h * f64::from(g) / norm) as f32;
            decoder.params.list[number].value = before.iter().zip(g).map(along).collect();
            gradient(decoder, batch, false, dropout).0
        };
        let slope = (at(1.0, decoder) - at(-1.0, decoder)) / (2.0 * h);
        decoder.params.list[number].value = before;
        let what = &decoder.params.list[number];
        assert!(
            (slope - norm).abs() < 0.02 * norm + blur,
            "{name} {} {:?}: slope {slope}, gradient {norm}",
            what.name,
            what.kind
        );
    }
}

/// Two sequences, a part of each to be predicted.
fn batch_of(rows: &[Vec<u32>]) -> (Vec<u32>, Vec<i32>) {
    let ids: Vec<u32> = rows.iter().flat_map(|row| row[..37].to_vec()).collect();
    let labels = ids.iter().enumerate().map(|(at, &id)| if at % 37 > 4 { id as i32 } else { -100 }).collect();
    (ids, labels)
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    for (folder, expected) in folders() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let (ids, labels) = batch_of(&ids(&expected));
        let batch = Batch { ids: &ids, labels: &labels, seq: 37, starts: &[] };
        let mut full = Decoder::load(&checkpoint, Frozen::Nothing, &()).unwrap();
        slopes_agree(&format!("{name}, every parameter"), &mut full, batch, None);
        let mut adapted = Decoder::load(&checkpoint, Frozen::FourBit(Scheme::default()), &()).unwrap();
        adapted.attach(&Adapter::open(&folder.with_file_name(format!("{name}-adapter"))).unwrap()).unwrap();
        slopes_agree(&format!("{name}, adapter"), &mut adapted, batch, None);
        slopes_agree(&format!("{name}, dropout"), &mut adapted, batch, Some(Dropout { p: 0.2, seed: 3 }));
        let short = Batch { ids: &ids[..5], labels: &labels[..5], seq: 5, starts: &[] };
        let few = Batch { labels: &[3; 5], ..short };
        slopes_agree(&format!("{name}, few tokens"), &mut adapted, few, None);
        let (kept, again) = (gradient(&adapted, batch, false, None), gradient(&adapted, batch, true, None));
        assert_eq!(kept.0, again.0);
        assert!(kept.1.0 == again.1.0, "{name}: checkpointing changes the gradient");
    }
}

/// `llama` with another scaling of its rotary embedding.
fn with_rope(scaling: Value, folder: &Path) -> Checkpoint {
    for entry in std::fs::read_dir(fixtures().join("llama")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config.as_object_mut().unwrap().remove("rope_parameters");
    config["rope_theta"] = 10000.0.into();
    config["rope_scaling"] = scaling;
    std::fs::write(&path, config.to_string()).unwrap();
    Checkpoint::open(folder).unwrap()
}

#[test]
fn long_contexts_turn_as_in_transformers() {
    // transformers 5.24: inv_freq and attention_scaling of model.rotary_emb, the losses of 12 and of 40 ids.
    let yarn = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64});
    let other = json!({"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32, "beta_fast": 16, "beta_slow": 2,
        "mscale": 0.8, "mscale_all_dim": 0.5, "truncate": false});
    let longrope = json!({"rope_type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
        "long_factor": [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0], "original_max_position_embeddings": 16});
    let cases = [
        (
            yarn,
            [1.0, 0.23717082, 0.049999997, 0.0079056947, 0.0024999999, 0.00079056947, 0.00025000001, 7.9056947e-05],
            1.138629436111989,
            [6.01106595993042, 6.545196533203125],
        ),
        (
            other,
            [1.0, 0.03952847, 0.0125, 0.0039528473, 0.00125, 0.00039528473, 0.00012500001, 3.9528473e-05],
            1.0565079928608092,
            [5.9903669357299805, 6.370333194732666],
        ),
        (
            longrope,
            [1.0, 0.28747976, 0.083333336, 0.024325214, 0.0071428572, 0.0021081853, 0.00062499999, 0.00018601633],
            std::f64::consts::SQRT_2,
            [6.102221488952637, 6.256444931030273],
        ),
    ];
    for (scaling, frequencies, scale, losses) in cases {
        let folder = tempfile::tempdir().unwrap();
        let name = scaling["rope_type"].to_string();
        let decoder = Decoder::load(&with_rope(scaling, folder.path()), Frozen::AsStored, &()).unwrap();
        let rope = &decoder.spec.ropes[0];
        assert!((f64::from(rope.scale) - scale).abs() < 1e-6, "{name}");
        for (found, expected) in rope.frequencies.iter().zip(frequencies) {
            assert!((f64::from(*found) / expected - 1.0).abs() < 1e-6, "{name}: {found} against {expected}");
        }
        let row = |count: u32| (0..count).map(|i| (i * 29 + 7) % 300 + 3).collect::<Vec<_>>();
        for (count, expected) in [(12, losses[0]), (40, losses[1])] {
            let found = loss(&decoder, &[row(count)]);
            assert!((found - expected).abs() < 3e-5, "{name}, {count}: {found} against {expected}");
        }
        // Token by token beyond the original length: the same as all at once.
        let (pool, ids) = (Pool::default(), row(20));
        let on = Cpu::new(&decoder.params, &pool);
        let new = || Cache::new(&on, &decoder, 30).unwrap();
        let mut cache = new();
        for at in 0..20 {
            let next = if cache.goes_on(&decoder, 1) {
                &ids[at..=at]
            } else {
                cache = new();
                &ids[..=at]
            };
            let found = decoder.next(&on, next, &mut cache).unwrap();
            let expected = decoder.next(&on, &ids[..=at], &mut new()).unwrap();
            assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{name}, after {at}");
        }
    }
}

#[test]
fn a_base_that_grows_turns_as_in_transformers() {
    let folder = tempfile::tempdir().unwrap();
    with_rope(json!({"rope_type": "dynamic", "factor": 4.0}), folder.path());
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["max_position_embeddings"] = 16.into();
    std::fs::write(&path, config.to_string()).unwrap();
    let decoder = Decoder::load(&Checkpoint::open(folder.path()).unwrap(), Frozen::AsStored, &()).unwrap();
    // transformers 5.24: inv_freq of model.rotary_emb after 40 ids, the loss of them, what model.generate gives after 12 with its
    // cache, and logits of a sequence of 12 ids and then one after the other up to 30.
    let expected =
        [1.0, 0.23948134, 0.057351321, 0.013734572, 0.0032891738, 0.00078769581, 0.00018863846, 4.5175391e-05];
    for (found, expected) in decoder.spec.ropes[0].frequencies_of(40).iter().zip(expected) {
        assert!((f64::from(*found) / expected - 1.0).abs() < 1e-5, "{found} against {expected}");
    }
    let row = |count: u32| (0..count).map(|i| (i * 29 + 7) % 300 + 3).collect::<Vec<_>>();
    let found = loss(&decoder, &[row(40)]);
    assert!((found - 6.5225830078125).abs() < 3e-5, "{found}");
    let sampling = Sampling { most: 20, temperature: 0.0, seed: 0, eos: None };
    let ids = generate(&Processor::new(&decoder, None).unwrap(), &decoder, &row(12), sampling, &()).unwrap();
    let expected = [48, 87, 144, 140, 41, 279, 63, 175, 96, 87, 102, 240, 240, 240, 240, 240, 240, 240, 240, 240];
    assert_eq!(ids, expected);
    let (pool, ids) = (Pool::default(), row(30));
    let on = Cpu::new(&decoder.params, &pool);
    let mut cache = Cache::new(&on, &decoder, 30).unwrap();
    let mut logits = decoder.next(&on, &ids[..12], &mut cache).unwrap();
    for at in 12..30 {
        logits = decoder.next(&on, &ids[at..=at], &mut cache).unwrap();
    }
    for (found, expected) in
        logits.iter().zip([-1.4416202, 1.3781599, -1.9019475, 0.497_905, 0.189_813_3, -0.393_736_2])
    {
        assert!((found - expected).abs() < 1e-4, "{found} against {expected}");
    }
}

#[test]
fn packed_rows_do_not_see_each_other() {
    for (folder, expected) in folders() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let decoder = Decoder::load(&Checkpoint::open(&folder).unwrap(), Frozen::Nothing, &()).unwrap();
        packed_as_apart(&name, &decoder, &ids(&expected));
    }
}

/// Families that mix tokens by more than attention: with a state, keys of other blocks, inputs beside the stream.
#[test]
fn hybrids_go_on_pack_and_have_the_slopes_of_their_loss() {
    for name in ["qwen3_5", "gemma4", "lfm2", "falcon_h1"] {
        let checkpoint = Checkpoint::open(&fixtures().join("families").join(name)).unwrap();
        let mut decoder = Decoder::load(&checkpoint, Frozen::Nothing, &()).unwrap();
        let row = |from: u32| (0..40).map(|at| (from + at * 7 + at * at) % 60 + 3).collect::<Vec<u32>>();
        packed_as_apart(name, &decoder, &[row(0), row(5)]);
        let (pool, ids) = (Pool::default(), row(11));
        let on = Cpu::new(&decoder.params, &pool);
        let mut grown = Cache::new(&on, &decoder, 40).unwrap();
        decoder.next(&on, &ids[..17], &mut grown).unwrap();
        for at in 17..40 {
            let found = decoder.next(&on, &ids[at..=at], &mut grown).unwrap();
            let whole = decoder.next(&on, &ids[..=at], &mut Cache::new(&on, &decoder, 40).unwrap()).unwrap();
            let worst = found.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{name}, after {at}: logits differ by {worst}");
        }
        let (ids, labels) = batch_of(&[row(2), row(9)]);
        let batch = Batch { ids: &ids, labels: &labels, seq: 37, starts: &[] };
        let (kept, again) = (gradient(&decoder, batch, false, None), gradient(&decoder, batch, true, None));
        assert!(kept.0 == again.0 && kept.1.0 == again.1.0, "{name}: checkpointing changes the gradient");
        // Gemma 4 is steep.
        slopes_agree_within(if name == "gemma4" { 0.01 } else { 0.02 }, name, &mut decoder, batch, None);
    }
}

/// Rows of data that share sequences give the loss and the gradient that they give apart.
fn packed_as_apart(name: &str, decoder: &Decoder, rows: &[Vec<u32>]) {
    let parts: [&[u32]; 5] = [&rows[0][..9], &rows[1][..20], &rows[0][9..17], &rows[1][3..30], &rows[0][..4]];
    let labels = |ids: &[u32]| ids.iter().map(|&id| id as i32).collect::<Vec<_>>();
    let (mut alone, mut apart) = (0.0, decoder.params.zeros());
    for part in parts {
        let batch = Batch { ids: part, labels: &labels(part), seq: part.len(), starts: &[] };
        let (sum, grads) = gradient(decoder, batch, false, None);
        alone += sum;
        for (to, from) in apart.0.iter_mut().flatten().zip(grads.0.iter().flatten()) {
            *to += from;
        }
    }
    // 9 + 20 + 8 in one sequence, 27 + 4 and six of padding in the other.
    let mut packed = parts.concat();
    packed.extend([0; 6]);
    let mut labels = labels(&packed);
    labels[68..].fill(-100);
    let starts: Vec<u32> = [(0, 9), (9, 20), (29, 8), (0, 27), (27, 4)]
        .into_iter()
        .flat_map(|(start, count)| std::iter::repeat_n(start, count))
        .chain(31..37)
        .collect();
    let batch = Batch { ids: &packed, labels: &labels, seq: 37, starts: &starts };
    assert_eq!(batch.predictions(), 68 - 5);
    let (together, grads) = gradient(decoder, batch, true, None);
    assert!((together - alone).abs() < 1e-5 * alone, "{name}: {together} against {alone}");
    for ((found, expected), param) in grads.0.iter().zip(&apart.0).zip(&decoder.params.list) {
        let largest = expected.iter().fold(1e-3f32, |most, x| most.max(x.abs()));
        let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-3 * largest, "{name} {}: {worst} of {largest}", param.name);
    }
    let wrong = Batch { starts: &[1; 74], ..batch };
    let pool = Pool::default();
    assert!(decoder.loss(&Cpu::new(&decoder.params, &pool), wrong).is_err());
}

/// A token is counted where the softmax of the model's own logits, made one token at a time, gives it more than half.
#[test]
fn answers_with_more_than_half_of_the_probability_are_counted() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    let model = Checkpoint::open(&demo.join("tales-2m-pirate")).unwrap();
    let decoder = Decoder::load(&model, Frozen::AsStored, &()).unwrap();
    let rows = data::read(&demo.join("data/pirate.eval.jsonl"), &model, 40, &()).unwrap().rows;
    let row = &rows.rows[0];
    let engine = Processor::default();
    let mut sequence = engine.sequence(&decoder, 64).unwrap();
    let (mut expected, mut sum) = (0, 0.0);
    for at in 1..row.ids.len() {
        let logits = sequence.next(&row.ids[..at], 1).unwrap();
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let all: f64 = logits.iter().map(|l| f64::from(l - most).exp()).sum();
        let p = f64::from(logits[row.ids[at] as usize] - most).exp() / all;
        expected += usize::from(p > 0.5);
        sum -= p.ln();
    }
    let loss = engine.loss(&decoder, Rows::pad(&[row]).batch(), &()).unwrap();
    assert!(expected > 5 && expected < loss.count - 5, "{expected} of {}: nothing is told apart", loss.count);
    assert_eq!((loss.count, loss.sure), (row.ids.len() - 1, expected));
    assert!((loss.sum - sum).abs() < 1e-3 * sum, "{} {sum}", loss.sum);
    assert!((loss.sure() - expected as f64 / loss.count as f64).abs() < 1e-12);
}
