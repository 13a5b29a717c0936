//! Any bytes as the beginning of a safetensors file: an answer, never a panic, and what is let through holds together.
//!
//! The reader's own files are compiled here instead of the whole package, so that a build takes seconds, not the window
//! and its dependencies.
#![no_main]
#![allow(dead_code, unused_imports)] // the rest of those files

use libfuzzer_sys::fuzz_target;
use std::path::Path;

mod checkpoint;
#[path = "../../../src/error.rs"]
mod error;

fuzz_target!(|data: &[u8]| {
    // The bytes as they are; then as the JSON of a header of the right length with some data behind it.
    check(data);
    let (json, rest) = data.split_at(data.len() - data.len().min(16));
    check(&[&(json.len() as u64).to_le_bytes(), json, rest].concat());
});

fn check(bytes: &[u8]) {
    let Ok(header) = checkpoint::header::Header::parse(bytes, bytes.len() as u64, Path::new("fuzzed")) else { return };
    let mut at = header.entries.first().map_or(bytes.len() as u64, |entry| entry.begin);
    for entry in &header.entries {
        assert_eq!(entry.begin, at, "tensors lie end to end");
        at += entry.bytes;
    }
    assert_eq!(at, bytes.len() as u64, "and fill the file");
    // Whatever is let through, the reference implementation accepts.
    assert!(safetensors::SafeTensors::read_metadata(bytes).is_ok());
}
