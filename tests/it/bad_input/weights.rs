//! Values that cannot be used.

use super::says;
use crate::support::{Stored, copy, f32s, fixture, model, position, raw, zeros};
use rankscope::checkpoint::Checkpoint;
use rankscope::delta::{DeltaSet, Source};
use rankscope::error::Result;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

#[test]
fn nan_and_inf_are_counted_and_the_rest_goes_on() {
    let folder = copy("llama");
    let path = folder.path().join("model-00001-of-00003.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let begin = position(&path, "model.layers.0.self_attn.q_proj.weight");
    for (row, col, bits) in [(3, 7, 0x7fc0u16), (3, 8, 0xffc1), (63, 63, 0x7f80), (60, 0, 0x7fff)] {
        bytes[begin + 2 * (row * 64 + col)..][..2].copy_from_slice(&bits.to_le_bytes());
    }
    std::fs::write(&path, bytes).unwrap();
    let broken = Arc::new(Checkpoint::open(folder.path()).unwrap());
    let module = broken.module("model.layers.0.self_attn.q_proj").unwrap();
    says(
        broken.matrix(module, &()),
        &[
            "model-00001-of-00003.safetensors: model.layers.0.self_attn.q_proj.weight: found 3 NaN and 1 Inf among 4096 values, first at row 3, column 7",
        ],
    );
    let base = Arc::new(Checkpoint::open(&fixture("llama")).unwrap());
    for (base, tuned) in [(&base, &broken), (&broken, &base)] {
        let set = DeltaSet::new(Arc::clone(base), Source::Tuned(Arc::clone(tuned))).unwrap();
        let (good, bad): (Vec<_>, Vec<_>) =
            set.entries().iter().map(|entry| (entry, set.load(entry, &()))).partition(|(_, r)| r.is_ok());
        assert_eq!((good.len(), bad.len()), (15, 1));
        let (_, error) = bad.into_iter().next().unwrap();
        says(error, &["model-00001-of-00003.safetensors", "q_proj.weight", "found 3 NaN and 1 Inf among 4096 values"]);
    }
    let list = [f32s("a.weight", &[2, 2], &[1e38, 3e38, 1.0, -3e38])];
    let (a, b) =
        (model(&Value::Null, &list), model(&Value::Null, &[f32s("a.weight", &[2, 2], &[0.0, -3e38, 1.0, 3e38])]));
    let open = |path: &Path| Arc::new(Checkpoint::open(path).unwrap());
    let set = DeltaSet::new(open(a.path()), Source::Tuned(open(b.path()))).unwrap();
    says(
        set.load(&set.entries()[0], &()),
        &["a.weight − base", "found 2 Inf among 4 values, first at row 0, column 1"],
    );
}

#[test]
fn empty_and_integer_tensors_are_listed_and_refused() {
    let list =
        [zeros("empty.weight", &[0, 8]), raw("table.weight", "I32", &[2, 2], &[0; 16]), zeros("good.weight", &[2, 2])];
    let folder = model(&Value::Null, &list);
    let checkpoint = Arc::new(Checkpoint::open(folder.path()).unwrap());
    says(
        checkpoint.matrix(checkpoint.module("empty").unwrap(), &()),
        &["model.safetensors: empty.weight: the tensor is empty: found shape [0, 8]"],
    );
    says(checkpoint.tensor_matrix(checkpoint.tensor("empty.weight").unwrap(), &()), &["empty.weight", "empty"]);
    says(checkpoint.tensor_matrix(checkpoint.tensor("table.weight").unwrap(), &()), &["table.weight", "I32"]);
    let set = DeltaSet::new(Arc::clone(&checkpoint), Source::Weight).unwrap();
    let problem = |name: &str| set.entry(name).unwrap().problem.clone().unwrap_or_default();
    assert!(problem("empty").contains("empty"));
    assert!(problem("table").contains("I32"));
    assert_eq!(problem("good"), "");
    says(set.load(set.entry("empty").unwrap(), &()), &["empty"]);
    assert!(set.load(set.entry("good").unwrap(), &()).is_ok());
    let same = DeltaSet::new(Arc::clone(&checkpoint), Source::Tuned(checkpoint)).unwrap();
    assert_eq!(same.entries().iter().filter(|entry| entry.problem.is_some()).count(), 2);
    let vectors = model(&Value::Null, &[zeros("norm.weight", &[4])]);
    says(DeltaSet::new(Arc::new(Checkpoint::open(vectors.path()).unwrap()), Source::Weight), &["found no matrix"]);
}

#[test]
fn a_file_that_shrinks_while_it_is_open() {
    let folder = copy("llama");
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let module = checkpoint.module("lm_head").unwrap();
    assert!(checkpoint.matrix(module, &()).is_ok());
    let shard = folder.path().join("model-00003-of-00003.safetensors");
    std::fs::File::options().write(true).open(shard).unwrap().set_len(100).unwrap();
    says(
        checkpoint.matrix(module, &()),
        &["model-00003-of-00003.safetensors", "found 100 bytes", "cut while it was open"],
    );
}

#[test]
fn four_bit_weights_that_do_not_add_up() {
    let state = json!({
        "quant_type": "nf4", "blocksize": 4, "dtype": "float32", "shape": [2, 4], "nested_blocksize": 256, "nested_offset": 0.5
    });
    const STATE: &str = "w.weight.quant_state.bitsandbytes__nf4";
    let list = |state: &str, codes: usize, absmax: usize| {
        vec![
            raw("w.weight", "U8", &[codes, 1], &vec![0; codes]),
            raw("w.weight.absmax", "U8", &[absmax], &vec![0; absmax]),
            zeros("w.weight.quant_map", &[16]),
            zeros("w.weight.nested_absmax", &[1]),
            zeros("w.weight.nested_quant_map", &[256]),
            raw(STATE, "U8", &[state.len()], state.as_bytes()),
        ]
    };
    let read = |list: &[Stored]| -> Result<f32> {
        let folder = model(&Value::Null, list);
        let checkpoint = Checkpoint::open(folder.path())?;
        let [module] = checkpoint.modules() else { panic!("one weight") };
        checkpoint.matrix(module, &()).map(|matrix| matrix.get(1, 3))
    };
    let good = state.to_string();
    assert_eq!(read(&list(&good, 4, 2)).unwrap(), 0.0);
    says(read(&list(&good, 3, 2)), &["w.weight", "found 3 bytes of NF4 codes, expected 4 for [2, 4]"]);
    says(read(&list(&good, 4, 3)), &["w.weight.absmax", "found 3 bytes of U8, expected 2"]);
    for missing in 1..5 {
        let mut list = list(&good, 4, 2);
        let gone = list.remove(missing);
        says(read(&list), &[&gone.name, "not there"]);
    }
    let mut without = list(&good, 4, 2);
    without.remove(0);
    says(read(&without), &[STATE, "its weight w.weight is not there"]);
    for (key, value, part) in [
        ("quant_type", json!("nf5"), "quant_type"),
        ("dtype", json!(null), "dtype"),
        ("blocksize", json!(0), "found blocksize 0"),
        ("blocksize", json!(-64), "blocksize"),
        ("shape", json!([2, "4"]), "shape"),
        ("shape", json!([u64::MAX, 2]), "overflows"),
        ("nested_blocksize", json!(0), "nested_blocksize"),
        ("nested_offset", json!(null), "nested_offset"),
    ] {
        let mut state = state.clone();
        state[key] = value;
        says(read(&list(&state.to_string(), 4, 2)), &[STATE, part]);
    }
    says(read(&list("{", 4, 2)), &[STATE, "not valid JSON"]);
    says(read(&list(&" ".repeat(70_000), 4, 2)), &[STATE, "found 70000 bytes"]);
}
