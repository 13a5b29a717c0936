//! The files of `assets/demo`, within the program: an installed binary needs nothing beside it.

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        /// Name below the sample's folder, and content.
        pub const FILES: &[(&str, &[u8])] =
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

/// A number that is another whenever some byte is: FNV-1a over names and contents, eight bytes at a time.
pub fn fingerprint() -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut mix = |word: u64| hash = (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    for (name, bytes) in FILES {
        for part in [name.as_bytes(), bytes] {
            let (words, rest) = part.as_chunks::<8>();
            words.iter().for_each(|word| mix(u64::from_le_bytes(*word)));
            rest.iter().for_each(|byte| mix(u64::from(*byte)));
            mix(part.len() as u64);
        }
    }
    hash
}
