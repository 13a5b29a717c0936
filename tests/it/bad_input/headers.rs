//! Headers that lie.

use super::says;
use crate::support::{copy, file, fixture};
use rankscope::checkpoint::Checkpoint;
use rankscope::checkpoint::header::Header;
use serde_json::json;
use std::path::Path;

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
