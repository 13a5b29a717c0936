//! Thousands of damaged files, the same ones each time: an answer to each, never a panic.

use super::mutator::Random;
use crate::support::{copy, fixture, position, raw, tensors, zeros};
use rankscope::adapter::Adapter;
use rankscope::checkpoint::Checkpoint;
use rankscope::checkpoint::header::Header;
use rankscope::error::Error;
use std::path::Path;

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
