//! Losses and logits against transformers 5.23 and peft 0.21 (torch 2.15, f32, eager attention): `expected.json`.

use rankscope::adapter::Adapter;
use rankscope::checkpoint::Checkpoint;
use rankscope::model::{Backward, Batch, Cache, Decoder, Dropout, Frozen, Grads, Pool, Run};
use rankscope::quant::Scheme;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

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
    decoder
        .loss(&Pool::default(), Batch { ids: &ids, labels: &labels, seq: rows[0].len(), starts: &[] })
        .unwrap()
        .mean()
}

fn close(found: f64, expected: &Value, what: &str) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() < 3e-4, "{what}: found {found}, expected {expected}");
}

fn logits_close(decoder: &Decoder, rows: &[Vec<u32>], expected: &Value, what: &str) {
    for (row, expected) in rows.iter().zip(expected.as_array().unwrap()) {
        // In two pieces, so that the cache is used.
        let mut cache = Cache::new(decoder, row.len());
        decoder.next(&Pool::default(), &row[..29], &mut cache).unwrap();
        for &id in &row[29..39] {
            decoder.next(&Pool::default(), &[id], &mut cache).unwrap();
        }
        let logits = decoder.next(&Pool::default(), &row[39..], &mut cache).unwrap();
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
    let error = decoder.loss(&pool, Batch { ids: &long, labels: &[3; 257], seq: 257, starts: &[] }).unwrap_err();
    assert_eq!(error.to_string(), "a sequence of 257 tokens; the model allows 256");
    let error = decoder.loss(&pool, Batch { ids: &[3, 320], labels: &[3, 3], seq: 2, starts: &[] }).unwrap_err();
    assert_eq!(error.to_string(), "token id 320 is outside the model's vocabulary of 320");
    let other = Adapter::open(&fixtures().join("gpt2-adapter")).unwrap();
    let error = decoder.attach(&other).unwrap_err().to_string();
    assert!(error.contains("made for another base"), "{error}");
}

fn gradient(decoder: &Decoder, batch: Batch, checkpointing: bool, dropout: Option<Dropout>) -> (f64, Grads) {
    let pool = Pool::default();
    let run = Run { dropout, ..Run::new(&decoder.params, &pool) };
    let mut grads = decoder.params.zeros();
    let loss = decoder.gradient(&run, batch, Backward { scale: 1.0, checkpointing }, &mut grads).unwrap();
    (loss.sum, grads)
}

/// `(loss(p + h·v) − loss(p − h·v)) / 2h` against `gradient · v`, v along the gradient of one parameter after the other.
fn slopes_agree(name: &str, decoder: &mut Decoder, batch: Batch, dropout: Option<Dropout>) {
    let (sum, grads) = gradient(decoder, batch, false, dropout);
    if dropout.is_none() {
        assert!((sum - decoder.loss(&Pool::default(), batch).unwrap().sum).abs() < 1e-4 * sum, "{name}: {sum}");
    }
    for number in 0..decoder.params.list.len() {
        let g = &grads.0[number];
        let norm = g.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        // A change of the loss that is large against f32's rounding and small against its curvature.
        let h = 0.05 / norm;
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
            (slope / norm - 1.0).abs() < 0.02,
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
