//! The files of `assets/demo`, within the program: an installed binary needs nothing beside it.

use std::hash::{DefaultHasher, Hash, Hasher};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        /// Name below the sample's folder, and content.
        // A constant would stand in the program once for every part that names it.
        pub static FILES: &[(&str, &[u8])] =
            &[$(($name, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo/", $name)))),*];
    };
}

files![
    "tales-2m/config.json",
    "tales-2m/model.safetensors",
    "tales-2m/tokenizer.json",
    "tales-2m/tokenizer_config.json",
    "tales-2m-pirate/config.json",
    "tales-2m-pirate/model.safetensors",
    "tales-2m-pirate/tokenizer.json",
    "tales-2m-pirate/tokenizer_config.json",
    "tales-2m-pirate-lora/adapter_config.json",
    "tales-2m-pirate-lora/adapter_model.safetensors",
    "data/pirate.train.jsonl",
    "data/pirate.eval.jsonl",
    "data/extract.train.jsonl",
    "data/extract.eval.jsonl",
    "data/facts.train.jsonl",
    "data/facts.eval.jsonl",
    "demo.json",
];

/// A number that is another whenever some byte is: of names and contents.
pub fn fingerprint() -> u64 {
    let mut hasher = DefaultHasher::new();
    FILES.hash(&mut hasher);
    hasher.finish()
}
