//! Tokenizers of GGUF files beside llama.cpp.

use crate::checkpoint::gguf::tokenizer;
use serde_json::{Map, Value, json};

/// The file says which llama.cpp made it.
fn of_llama_cpp() -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama-cpp-splits.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn metadata(reference: &Value, pre: &str) -> Map<String, Value> {
    let mut metadata = Map::new();
    for (key, value) in [
        ("model", json!("gpt2")),
        ("pre", json!(pre)),
        ("tokens", reference["tokens"].clone()),
        ("merges", reference["merges"].clone()),
        ("add_bos_token", json!(false)),
    ] {
        metadata.insert(format!("tokenizer.ggml.{key}"), value);
    }
    metadata
}

#[test]
fn texts_are_split_as_llama_cpp_splits_them() {
    let reference = of_llama_cpp();
    let (mut known, mut unknown) = (0, Vec::new());
    for (pre, expected) in reference["ids"].as_object().unwrap() {
        let Ok(built) = tokenizer::build(&metadata(&reference, pre)) else {
            unknown.push(pre.as_str());
            continue;
        };
        let capitals = built.tokenizer["pre_tokenizer"].to_string().contains(r"\\p{Lu}");
        let built = serde_json::from_value::<tokenizers::Tokenizer>(built.tokenizer);
        let built = built.unwrap_or_else(|error| panic!("{pre}: {error}"));
        for (text, ids) in reference["texts"].as_array().unwrap().iter().zip(expected.as_array().unwrap()) {
            let text = text.as_str().unwrap();
            // Qwen's own tokenizers compose letters and accents first, and expressions with capitals mean those of all scripts
            // and accents too, as is done here; llama.cpp does not compose, and has rewritten capitals for ASCII.
            let own = (pre.contains("qwen") || capitals) && text.contains('\u{301}');
            if own || (capitals && text.contains('\u{e31}')) {
                continue;
            }
            let encoding = built.encode(text, false).unwrap();
            let tokens: Vec<&str> = ids
                .as_array()
                .unwrap()
                .iter()
                .map(|id| reference["tokens"][id.as_u64().unwrap() as usize].as_str().unwrap())
                .collect();
            assert_eq!(encoding.get_tokens(), tokens, "{pre}: {text:?}");
        }
        known += 1;
    }
    unknown.sort_unstable();
    assert_eq!(unknown, ["afmoe", "chameleon", "gemma4", "kimi-k2", "superbpe", "youtu"]);
    assert_eq!(known, 49);
}
