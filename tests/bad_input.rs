//! Files that lie, are cut, or do not belong together: each gives one sentence that names file and tensor, with exit
//! status 2, and the rest goes on.

mod safetensors;

use rankscope::adapter::Adapter;
use rankscope::checkpoint::Checkpoint;
use rankscope::checkpoint::header::Header;
use rankscope::delta::{DeltaSet, DeltaWeight, Source};
use rankscope::error::{Error, Result};
use safetensors::{
    adapter, change_header, change_json, copy, f32s, file, fixture, model, position, raw, tensors, zeros,
};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// The sentence of an error that is the input's fault; it must name all of `parts`.
#[track_caller]
fn says<T>(result: Result<T>, parts: &[&str]) -> String {
    let Err(error) = result else { panic!("expected an error that names {parts:?}") };
    assert_eq!(error.status(), 2, "{error}");
    let sentence = error.to_string();
    for part in parts {
        assert!(sentence.contains(part), "{part:?} is missing from: {sentence}");
    }
    assert!(!sentence.contains('\n') && sentence.len() < 1000, "{sentence}");
    sentence
}

/// Opens bytes as `w.safetensors`.
#[track_caller]
fn file_says(bytes: &[u8], parts: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let sentence = says(Checkpoint::open(&path), parts);
    assert!(sentence.contains("w.safetensors: "), "{sentence}");
    sentence
}

/// A file whose header says this of tensor `a`, with 16 bytes of data.
#[track_caller]
fn tensor_says(stated: &str, parts: &[&str]) {
    let sentence = file_says(&file(&format!("{{\"a\":{stated}}}"), &[0; 16]), parts);
    assert!(sentence.contains("w.safetensors: a: "), "{sentence}");
}

#[test]
fn files_that_are_too_short_or_something_else() {
    file_says(b"", &["found 0 bytes", "at least the 8"]);
    file_says(b"abc", &["found 3 bytes"]);
    file_says(&[0; 8], &["header cannot be read"]);
    file_says(&[255; 8], &["header of 18446744073709551615", "cut short"]);
    file_says(&[9, 0, 0, 0, 0, 0, 0, 0, b'{', b'}'], &["found 2 bytes", "header of 9"]);
    file_says(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", &["git-lfs pointer"]);
    file_says(b"<!DOCTYPE html><html>not found</html>", &["not a safetensors file"]);
    file_says(b"\x80\x02}q\x00(X\x01\x00\x00\x00", &["not a safetensors file"]);
    file_says(&file("{}", b""), &["found no tensors"]);
    file_says(&file("{\"__metadata__\":{\"format\":\"pt\"}}", b""), &["found no tensors"]);
}

#[test]
fn headers_that_are_not_json() {
    file_says(&[&[4, 0, 0, 0, 0, 0, 0, 0], [b'{', 0xff, b'"', b'}'].as_slice()].concat(), &["not UTF-8", "at 9"]);
    file_says(&file("{\"a\"", b""), &["header cannot be read"]);
    file_says(&file("[]", b""), &["expected a JSON object"]);
    file_says(&file("7", b""), &["expected a JSON object"]);
    file_says(&file("{} x", b""), &["trailing characters"]);
    file_says(&file(&"[".repeat(5000), b""), &["header cannot be read"]);
    file_says(&file(&format!("{{\"a\":{}", "{\"b\":".repeat(5000)), b""), &["header cannot be read"]);
    file_says(&file("{\"__metadata__\":{\"a\":1}}", b""), &["__metadata__"]);
}

#[test]
fn a_header_over_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    std::fs::write(&path, 100_000_001u64.to_le_bytes()).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(200_000_000).unwrap();
    says(Checkpoint::open(&path), &["w.safetensors", "header of 100000001 bytes", "at most 100000000"]);
}

#[test]
fn tensors_that_contradict_themselves() {
    tensor_says("{}", &["missing field"]);
    tensor_says("7", &["invalid type"]);
    tensor_says(r#"{"dtype":"F32","shape":[4]}"#, &["data_offsets"]);
    tensor_says(r#"{"dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16]}"#, &["duplicate field"]);
    tensor_says(r#"{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}"#, &["-4"]);
    tensor_says(r#"{"dtype":"F32","shape":[4.0],"data_offsets":[0,16]}"#, &["4.0"]);
    tensor_says(r#"{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,16]}"#, &["header cannot be read"]);
    tensor_says(r#"{"dtype":"F32","shape":[4],"data_offsets":[0]}"#, &["header cannot be read"]);
    tensor_says(r#"{"dtype":"F32","shape":[4],"data_offsets":[0,16,16]}"#, &["header cannot be read"]);
    tensor_says(
        r#"{"dtype":"F33","shape":[4],"data_offsets":[0,16]}"#,
        &["found dtype \"F33\"", "expected one of F64, F32"],
    );
    tensor_says(r#"{"dtype":"NF4","shape":[4],"data_offsets":[0,2]}"#, &["found dtype \"NF4\""]);
    tensor_says(r#"{"dtype":"F32","shape":[4],"data_offsets":[16,0]}"#, &["data_offsets [16, 0]"]);
    tensor_says(r#"{"dtype":"F32","shape":[5],"data_offsets":[0,20]}"#, &["[0, 20] go beyond the file", "16 bytes"]);
    tensor_says(
        r#"{"dtype":"F32","shape":[3],"data_offsets":[0,16]}"#,
        &["found 16 bytes, expected 12 for shape [3] in F32"],
    );
    tensor_says(r#"{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,16]}"#, &["overflows"]);
    tensor_says(r#"{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}"#, &["overflows"]);
    tensor_says(r#"{"dtype":"F4","shape":[31],"data_offsets":[0,16]}"#, &["whole byte"]);
    tensor_says(&format!(r#"{{"dtype":"{}","shape":[4],"data_offsets":[0,16]}}"#, "X".repeat(100_000)), &["…"]);
    tensor_says(r#"{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,16]}"#, &["3 more sizes"]);
}

#[test]
fn tensors_that_contradict_each_other() {
    let two = |a: [u64; 2], b: [u64; 2]| {
        let stated =
            |[begin, end]: [u64; 2]| json!({"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]});
        file(&json!({"a": stated(a), "b": stated(b)}).to_string(), &[0; 16])
    };
    file_says(&two([0, 10], [8, 16]), &[": b: ", "overlap those of a", "end at 10"]);
    file_says(&two([0, 16], [0, 16]), &[": b: ", "overlap"]);
    file_says(&two([0, 6], [8, 16]), &[": b: ", "start at 8, expected 6"]);
    file_says(&two([2, 8], [8, 16]), &[": a: ", "start at 2, expected 0"]);
    file_says(&two([0, 8], [8, 12]), &["found 16 bytes of data, expected the 12"]);
    let twice =
        r#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"a":{"dtype":"U8","shape":[8],"data_offsets":[8,16]}}"#;
    file_says(&file(twice, &[0; 16]), &[": a: ", "twice"]);
}

#[test]
fn a_real_file_cut_anywhere() {
    let bytes = std::fs::read(fixture("llama/model-00003-of-00003.safetensors")).unwrap();
    let path = Path::new("cut");
    for length in (0..bytes.len()).step_by(61).chain(0..200) {
        let cut = &bytes[..length];
        assert_eq!(Header::parse(cut, length as u64, path).unwrap_err().status(), 2, "{length}");
    }
    assert!(Header::parse(&bytes, bytes.len() as u64, path).is_ok());
    let folder = copy("llama");
    std::fs::write(folder.path().join("model-00002-of-00003.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
    says(
        Checkpoint::open(folder.path()),
        &["model-00002-of-00003.safetensors: lm_head.weight", "beyond the file, which has"],
    );
}

#[test]
fn paths_that_lead_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    says(Checkpoint::open(&folder.path().join("none")), &["none: cannot open: there is no such file or folder"]);
    says(Checkpoint::open(folder.path()), &["holds no weights", "expected model.safetensors"]);
    says(Adapter::open(folder.path()), &["holds no weights"]);
    std::fs::write(folder.path().join("config.json"), "{}").unwrap();
    says(Checkpoint::open(folder.path()), &["holds no weights"]);
    says(Checkpoint::open(&folder.path().join("config.json")), &["holds no weights"]);
    std::fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
    says(Checkpoint::open(folder.path()), &["holds no safetensors weights", "found pytorch_model.bin"]);
    says(Checkpoint::open(&folder.path().join("pytorch_model.bin")), &["pytorch_model.bin", "another kind"]);
    for name in ["a.safetensors", "b.safetensors"] {
        std::fs::write(folder.path().join(name), tensors(&[zeros("w", &[1])])).unwrap();
    }
    says(Checkpoint::open(folder.path()), &["found 2 .safetensors files and no index"]);
    std::fs::create_dir_all(folder.path().join("hub/snapshots")).unwrap();
    says(Checkpoint::open(&folder.path().join("hub")), &["no snapshot"]);
}

#[cfg(unix)]
#[test]
fn files_that_cannot_be_read() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let device = folder.path().join("device.safetensors");
    symlink("/dev/zero", &device).unwrap();
    says(Checkpoint::open(&device), &["device.safetensors: found a pipe or device, expected a file"]);
    let dangling = folder.path().join("dangling.safetensors");
    symlink("nowhere", &dangling).unwrap();
    says(Checkpoint::open(&dangling), &["dangling.safetensors: cannot open"]);
    let path = folder.path().join("locked.safetensors");
    std::fs::write(&path, tensors(&[zeros("w", &[1])])).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::File::open(&path).is_ok() {
        eprintln!("skipped in part: this user may read every file");
        return;
    }
    says(Checkpoint::open(&path), &["locked.safetensors: cannot open: permission denied"]);
}

#[test]
fn an_index_that_does_not_fit_its_shards() {
    const INDEX: &str = "model.safetensors.index.json";
    let change = |change: fn(&mut Value), parts: &[&str]| {
        let folder = copy("llama");
        change_json(&folder.path().join(INDEX), change);
        says(Checkpoint::open(folder.path()), parts);
    };
    let folder = copy("llama");
    std::fs::remove_file(folder.path().join("model-00002-of-00003.safetensors")).unwrap();
    says(Checkpoint::open(folder.path()), &["model-00002-of-00003.safetensors", "named in the index", "not there"]);
    change(
        |index| {
            index["weight_map"].as_object_mut().unwrap().retain(|_, shard| shard != "model-00002-of-00003.safetensors")
        },
        &[INDEX, "model-00002-of-00003.safetensors is missing from the index"],
    );
    change(
        |index| index["weight_map"]["lm_head.weight"] = json!("../../secret.safetensors"),
        &[INDEX, "lm_head.weight", "\"../../secret.safetensors\"", "own folder"],
    );
    change(
        |index| index["weight_map"]["lm_head.weight"] = json!("/etc/passwd"),
        &[INDEX, "lm_head.weight", "/etc/passwd"],
    );
    change(|index| index["weight_map"]["lm_head.weight"] = json!(3), &[INDEX, "cannot be read"]);
    change(
        |index| index["weight_map"]["model.extra.weight"] = json!("model-00001-of-00003.safetensors"),
        &["model-00001-of-00003.safetensors: model.extra.weight", "not in this shard"],
    );
    change(
        |index| index["weight_map"]["lm_head.weight"] = json!("model-00001-of-00003.safetensors"),
        &["is missing from the index"],
    );
    change(
        |index| index["weight_map"]["model.norm.weight"] = json!("model-00003-of-00003.safetensors"),
        &["model-00003-of-00003.safetensors: model.norm.weight", "not in this shard"],
    );
    change(|index| index["weight_map"] = json!({}), &[INDEX, "empty weight_map"]);
    change(|index| *index = json!({"metadata": {}}), &[INDEX, "no weight_map"]);
    change(|index| *index = json!([1]), &[INDEX, "expected a JSON object"]);
    let folder = copy("llama");
    let index = folder.path().join(INDEX);
    std::fs::write(&index, r#"{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}"#).unwrap();
    says(Checkpoint::open(folder.path()), &[INDEX, "twice"]);
    std::fs::write(&index, "{").unwrap();
    says(Checkpoint::open(folder.path()), &[INDEX, "cannot be read"]);
    std::fs::write(&index, [b'"', 0xff]).unwrap();
    says(Checkpoint::open(folder.path()), &[INDEX, "not UTF-8"]);
}

#[test]
fn a_tensor_in_two_shards() {
    let folder = tempfile::tempdir().unwrap();
    for (name, other) in
        [("model-00001-of-00002.safetensors", "x.weight"), ("model-00002-of-00002.safetensors", "y.weight")]
    {
        std::fs::write(folder.path().join(name), tensors(&[zeros("both.weight", &[2]), zeros(other, &[2])])).unwrap();
    }
    let map = json!({"x.weight": "model-00001-of-00002.safetensors", "y.weight": "model-00002-of-00002.safetensors"});
    std::fs::write(folder.path().join("model.safetensors.index.json"), json!({"weight_map": map}).to_string()).unwrap();
    says(
        Checkpoint::open(folder.path()),
        &["model-00002-of-00002.safetensors: both.weight", "also in", "model-00001-of-00002.safetensors"],
    );
}

#[test]
fn configs_that_cannot_be_read() {
    let folder = copy("llama");
    for (text, part) in
        [("{", "not valid JSON"), ("[]", "found a list, expected a JSON object"), ("", "not valid JSON")]
    {
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        says(Checkpoint::open(folder.path()), &["config.json", part]);
    }
    std::fs::write(
        folder.path().join("config.json"),
        r#"{"hidden_size": "wide", "architectures": 3, "model_type": []}"#,
    )
    .unwrap();
    let odd = Checkpoint::open(folder.path()).unwrap();
    assert_eq!((odd.architecture(), odd.parameters()), (None, 127_296), "odd values count as missing");
    let shard = folder.path().join("model-00003-of-00003.safetensors");
    std::fs::write(folder.path().join("config.json"), "{").unwrap();
    assert!(Checkpoint::open(&shard).is_ok(), "a file of its own does not need the config");
}

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
fn shapes_and_vocabularies_that_differ_are_said_per_module() {
    let folder = copy("llama");
    let path = folder.path().join("model-00003-of-00003.safetensors");
    std::fs::write(&path, tensors(&[zeros("lm_head.weight", &[322, 64])])).unwrap();
    let path = folder.path().join("model-00001-of-00003.safetensors");
    change_header(&path, |header| header["model.layers.0.self_attn.k_proj.weight"]["shape"] = json!([64, 32]));
    let base = Arc::new(Checkpoint::open(folder.path()).unwrap());
    let tuned = Arc::new(Checkpoint::open(&fixture("llama-tuned")).unwrap());
    let set = DeltaSet::new(base, Source::Tuned(tuned)).unwrap();
    let problem = |name: &str| set.entry(name).unwrap().problem.clone();
    assert_eq!(problem("lm_head").as_deref(), Some("found vocabulary 320, expected 322"));
    assert_eq!(problem("model.layers.0.self_attn.k_proj").as_deref(), Some("found shape [32, 64], expected [64, 32]"));
    assert_eq!(set.misfits().count(), 2);
    says(set.load(set.entry("lm_head").unwrap(), &()), &["lm_head: found vocabulary 320, expected 322"]);
    let rest: Vec<_> = set.entries().iter().filter(|entry| entry.problem.is_none()).collect();
    assert_eq!(rest.len(), 14);
    assert!(rest.iter().all(|entry| set.load(entry, &()).is_ok()));
    assert!(set.check_adapter().is_ok(), "a tuned model may fit in part");
}

#[test]
fn models_that_do_not_belong_together() {
    let open = |name: &str| Arc::new(Checkpoint::open(&fixture(name)).unwrap());
    says(DeltaSet::new(open("llama"), Source::Tuned(open("gpt2"))), &["gpt2", "belongs to another base than llama"]);
    says(
        DeltaSet::new(open("llama-adapter"), Source::Weight),
        &["llama-adapter", "found an adapter, expected a model as the base"],
    );
    says(
        DeltaSet::new(open("llama"), Source::Tuned(open("llama-adapter"))),
        &["found an adapter, expected a tuned model"],
    );
    says(Adapter::open(&fixture("llama")), &["llama", "found a model, expected an adapter"]);
}

#[test]
fn an_adapter_for_another_base() {
    let base = |name: &str| Arc::new(Checkpoint::open(&fixture(name)).unwrap());
    let adapter = |name: &str| Source::Adapter(Arc::new(Adapter::open(&fixture(name)).unwrap()));
    says(
        DeltaSet::new(base("gpt2"), adapter("llama-adapter")),
        &[
            "llama-adapter: this adapter belongs to another base than gpt2: 14 of its 14 modules do not fit",
            "no such module",
            "../llama",
        ],
    );
    // The same names, and most shapes: q, k, v and o are wider in gemma3.
    let set = DeltaSet::new(base("gemma3"), adapter("llama-adapter")).unwrap();
    says(
        set.check_adapter(),
        &[
            "llama-adapter",
            "another base than gemma3",
            "8 of its 14 modules",
            "q_proj: found shape [64, 64], expected [128, 64]",
        ],
    );
    assert!(set.load(set.entry("model.layers.0.mlp.up_proj").unwrap(), &()).is_ok(), "the rest still works");
    says(set.load(set.entry("model.layers.0.self_attn.q_proj").unwrap(), &()), &["q_proj", "found shape [64, 64]"]);
    assert!(DeltaSet::new(base("llama"), adapter("llama-adapter")).unwrap().check_adapter().is_ok());
}

const A: &str = "base_model.model.layers.0.q_proj.lora_A.weight";
const B: &str = "base_model.model.layers.0.q_proj.lora_B.weight";

#[test]
fn adapters_whose_factors_do_not_fit() {
    let config = || json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]});
    #[track_caller]
    fn open(config: &Value, list: &[safetensors::Stored], parts: &[&str]) {
        let folder = adapter(config, list);
        says(Adapter::open(folder.path()), parts);
    }
    open(&config(), &[zeros(A, &[2, 8]), zeros(B, &[8, 3])], &[A, B, "found rank 2 (its rows), expected rank 3"]);
    open(&config(), &[zeros(A, &[3, 8]), zeros(B, &[8, 3])], &[A, "found rank 3", "expected 2", "rank_pattern"]);
    open(&config(), &[zeros(A, &[2, 8])], &[A, "found A without B"]);
    open(&config(), &[zeros(B, &[8, 2])], &[B, "found B without A"]);
    open(&config(), &[zeros(A, &[0, 8]), zeros(B, &[8, 0])], &[A, "empty", "[0, 8]"]);
    open(&config(), &[zeros(A, &[2, 2, 2]), zeros(B, &[8, 2])], &[A, "found shape [2, 2, 2], expected two sizes"]);
    open(&config(), &[raw(A, "I8", &[2, 8], &[0; 16]), zeros(B, &[8, 2])], &[A, "I8"]);
    let twice = "layers.0.q_proj.lora_A.weight";
    open(&config(), &[zeros(A, &[2, 8]), zeros(twice, &[2, 8]), zeros(B, &[8, 2])], &["same factor"]);
    let other = "base_model.model.layers.0.q_proj.lora_B.second.weight";
    open(&config(), &[zeros(A, &[2, 8]), zeros(other, &[8, 2])], &["more than one adapter"]);
    let embedding = "base_model.model.layers.0.q_proj.lora_embedding_B";
    open(&config(), &[zeros(A, &[2, 8]), zeros(embedding, &[8, 2])], &[A, "one factor of an embedding"]);
    open(&config(), &[zeros("lora_unet_x.lora_down.weight", &[2, 8])], &["found no lora_A and lora_B"]);
    open(&config(), &[zeros("base_model.model.x.lora_magnitude_vector", &[2])], &["neither A nor B"]);
    let whole = || [zeros(A, &[2, 8]), zeros(B, &[8, 2])];
    open(&Value::Null, &whole(), &["no adapter_config.json"]);
    open(&json!([]), &whole(), &["adapter_config.json", "found a list"]);
    for (key, value, part) in [
        ("r", json!(0), "found r 0"),
        ("r", json!(-1), "found r -1"),
        ("r", json!("2"), "found r \"2\""),
        ("r", json!(3), "found rank 2 (its rows), expected 3"),
        ("lora_alpha", json!([]), "found lora_alpha a list"),
        ("peft_type", json!("IA3"), "peft_type IA3"),
        ("rank_pattern", json!({"q_proj": 0}), "rank_pattern"),
        ("rank_pattern", json!({"q_proj": 5}), "expected 5"),
        ("rank_pattern", json!({"*": 5}), "\"*\""),
        ("alpha_pattern", json!([1]), "alpha_pattern"),
        ("target_modules", json!(3), "target_modules"),
        ("use_qalora", json!(true), "QALoRA"),
    ] {
        let mut config = config();
        config[key] = value;
        open(&config, &whole(), &[part]);
    }
    let folder = adapter(&config(), &whole());
    std::fs::remove_file(folder.path().join("adapter_model.safetensors")).unwrap();
    says(Adapter::open(folder.path()), &["found adapter_config.json but no weights"]);
}

#[test]
fn adapters_whose_values_cannot_be_used() {
    let base = model(&Value::Null, &[zeros("layers.0.q_proj.weight", &[8, 8])]);
    let base = Arc::new(Checkpoint::open(base.path()).unwrap());
    let load = |config: &Value, list: &[safetensors::Stored]| -> Result<DeltaWeight> {
        let folder = adapter(config, list);
        let adapter = Arc::new(Adapter::open(folder.path())?);
        let set = DeltaSet::new(Arc::clone(&base), Source::Adapter(adapter))?;
        set.check_adapter()?;
        set.load(&set.entries()[0], &())
    };
    let config = json!({"peft_type": "LORA", "r": 2});
    let good = || vec![zeros(A, &[2, 8]), zeros(B, &[8, 2])];
    assert!(load(&config, &good()).is_ok());
    let mut values = [0.0; 16];
    values[9] = f32::NAN;
    says(
        load(&config, &[f32s(A, &[2, 8], &values), zeros(B, &[8, 2])]),
        &[A, "found 1 NaN among 16 values, first at row 1, column 1"],
    );
    says(load(&json!({"r": 2, "use_dora": true}), &good()), &["layers.0.q_proj", "DoRA", "magnitude"]);
    let mut dora = good();
    dora.push(zeros("base_model.model.layers.0.q_proj.lora_magnitude_vector", &[8]));
    says(load(&config, &dora), &["DoRA"]);
    // A rank over min(out, in) is no use but PEFT trains it: it loads.
    let wide = load(&json!({"r": 20}), &[zeros(A, &[20, 8]), zeros(B, &[8, 20])]);
    assert_eq!(wide.unwrap().shape(), [8, 8]);
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
    let read = |list: &[safetensors::Stored]| -> Result<f32> {
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

/// xorshift64*: the same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }

    /// A few changes of the kinds that break parsers.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        const PIECES: [&str; 14] = [
            "0",
            "-1",
            "18446744073709551615",
            "9223372036854775807",
            "1e9",
            "[",
            "]",
            "{",
            "}",
            "\"",
            ",",
            "null",
            "F64",
            "\\u0000",
        ];
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = b"0123456789,[]{}\":-"[self.below(18)],
                2 => {
                    let piece = PIECES[self.below(PIECES.len())];
                    bytes.splice(at..at, piece.bytes());
                }
                3 => {
                    let end = (at + 1 + self.below(20)).min(bytes.len());
                    bytes.drain(at..end);
                }
                4 => {
                    let end = (at + 1 + self.below(60)).min(bytes.len());
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
                _ => bytes.truncate(at.max(1)),
            }
        }
    }
}

/// What a header that was let through must keep, and what the reference implementation says of it.
fn holds(header: &Header, bytes: &[u8]) {
    let mut at = header.entries.first().map_or(0, |entry| entry.begin);
    for entry in &header.entries {
        assert_eq!(entry.begin, at);
        let bits = entry.shape.iter().product::<usize>() * entry.dtype.bits();
        assert_eq!(entry.bytes as usize * 8, bits);
        at += entry.bytes;
    }
    assert!(header.entries.is_empty() || at == bytes.len() as u64);
    assert!(
        ::safetensors::SafeTensors::read_metadata(bytes).is_ok(),
        "the safetensors crate refuses what was let through"
    );
}

#[test]
fn mutated_headers_never_panic() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let fixed = [
        tensors(&[zeros("a.weight", &[2, 3]), raw("b", "BF16", &[4], &[0; 8]), raw("c", "I64", &[0, 9], &[])]),
        std::fs::read(fixture("gpt2/model-00003-of-00003.safetensors")).unwrap()[..600].to_vec(),
    ];
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..20_000 {
        let mut bytes = fixed[round % 2].clone();
        // Most rounds keep the length right, so that the change gets past the first check.
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let (mut json, data) = (bytes[8..8 + length].to_vec(), bytes[8 + length..].to_vec());
        if round % 5 == 0 {
            random.mutate(&mut bytes);
        } else {
            random.mutate(&mut json);
            bytes = [&(json.len() as u64).to_le_bytes(), json.as_slice(), &data].concat();
        }
        // The second file is 67 016 bytes long, of which 600 are here.
        let file_len = (bytes.len() + round % 2 * 66_416) as u64;
        match Header::parse(&bytes, file_len, Path::new("mutated")) {
            Ok(header) => {
                accepted += 1;
                if round % 2 == 0 {
                    holds(&header, &bytes);
                }
            }
            Err(Error::Failed { message, .. }) => {
                refused += 1;
                assert!(!message.is_empty() && message.len() < 1000, "{message}");
            }
            Err(Error::Cancelled) => panic!("nobody cancelled"),
        }
    }
    assert!(accepted > 100 && refused > 10_000, "{accepted} accepted, {refused} refused");
}

#[test]
fn mutated_files_never_panic() {
    let mut random = Random(42);
    let folder = copy("llama-bnb4");
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let states = position(&path, "model.layers.0.mlp.down_proj.weight.absmax");
    let (mut opened, mut read) = (0, 0);
    for round in 0..600 {
        let mut bytes = whole.clone();
        if round % 2 == 0 {
            // Only values and 4-bit states: the length stays.
            for _ in 0..20 {
                let at = states + random.below(bytes.len() - states);
                bytes[at] = b"0123456789,[]{}\":-\x00\xff"[random.below(20)];
            }
        } else {
            random.mutate(&mut bytes);
        }
        std::fs::write(&path, bytes).unwrap();
        if let Ok(checkpoint) = Checkpoint::open(folder.path()) {
            opened += 1;
            read += checkpoint.modules().iter().filter(|module| checkpoint.matrix(module, &()).is_ok()).count();
        }
    }
    assert!(opened > 10 && read > 100, "{opened} opened, {read} weights read");
}

#[test]
fn mutated_configs_never_panic() {
    let mut random = Random(7);
    let (folder, base) = (copy("llama-adapter"), copy("llama"));
    let (config, model_config) = (folder.path().join("adapter_config.json"), base.path().join("config.json"));
    let index = base.path().join("model.safetensors.index.json");
    let whole = [&config, &model_config, &index].map(|path| std::fs::read(path).unwrap());
    let mut opened = 0;
    for _ in 0..700 {
        for (path, whole) in [&config, &model_config, &index].into_iter().zip(&whole) {
            let mut bytes = whole.clone();
            random.mutate(&mut bytes);
            std::fs::write(path, bytes).unwrap();
            let result =
                if *path == config { Adapter::open(folder.path()).err() } else { Checkpoint::open(base.path()).err() };
            match result {
                None => opened += 1,
                Some(error) => assert_eq!(error.status(), 2, "{error}"),
            }
            std::fs::write(path, whole).unwrap();
        }
    }
    assert!(opened > 10, "{opened}");
}
