//! A `tokenizer.json` as llama.cpp's metadata, the way back of [`tokenizer`](super::tokenizer).

use super::splits::{self, Split};
use super::tokenizer::{CONTROL, USER_DEFINED};
use super::write::Value;
use serde_json::Value as Json;

/// Kinds of `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Keys and values of a file's metadata.
pub(crate) type Pairs = Vec<(String, Value)>;

/// Keys and values for a vocabulary of `size` tokens; a sentence for what llama.cpp has no word for.
///
/// # Errors
/// A tokenizer of a kind that is not written here, in a sentence.
pub(crate) fn pairs(tokenizer: &Json, config: &Json, size: usize) -> Result<(Pairs, Vec<String>), String> {
    let model = &tokenizer["model"];
    let kind = model["type"].as_str().unwrap_or("BPE");
    let vocabulary =
        model["vocab"].as_object().ok_or("found no vocabulary in tokenizer.json, expected one by token")?;
    if kind != "BPE" {
        return Err(format!("found a tokenizer of type {kind}, expected BPE for a GGUF file"));
    }
    let mut tokens: Vec<Option<(String, i32)>> = vec![None; size];
    let mut put = |id: &Json, token: &str, kind: i32| {
        let slot = id.as_u64().and_then(|id| usize::try_from(id).ok()).and_then(|id| tokens.get_mut(id));
        match slot {
            Some(slot) => *slot = Some((token.to_owned(), kind)),
            None => log::debug!("left out: token {token:?}, beyond the embedding"),
        }
    };
    let pieces = model["byte_fallback"].as_bool().unwrap_or(false);
    let unknown = model["unk_token"].as_str();
    for (token, id) in vocabulary {
        let byte = pieces && token.len() == 6 && token.starts_with("<0x") && token.ends_with('>');
        let kind = if byte {
            BYTE
        } else if Some(token.as_str()) == unknown {
            UNKNOWN
        } else {
            NORMAL
        };
        put(id, token, kind);
    }
    for added in tokenizer["added_tokens"].as_array().into_iter().flatten() {
        let Some(token) = added["content"].as_str() else { continue };
        let special = added["special"].as_bool().unwrap_or(true);
        let kind = if Some(token) == unknown {
            UNKNOWN
        } else if special {
            CONTROL as i32
        } else {
            USER_DEFINED as i32
        };
        put(&added["id"], token, kind);
    }
    let merges: Vec<String> = model["merges"].as_array().into_iter().flatten().filter_map(merge).collect();
    let (words, kinds): (Vec<String>, Vec<i32>) = tokens
        .into_iter()
        .enumerate()
        .map(|(id, token)| token.unwrap_or_else(|| (format!("[PAD{id}]"), UNUSED)))
        .unzip();
    let mut pairs = Vec::new();
    let mut notes = Vec::new();
    let mut add = |key: &str, value: Value| pairs.push((format!("tokenizer.{key}"), value));
    add("ggml.model", if pieces { "llama" } else { "gpt2" }.into());
    if pieces {
        // llama.cpp merges the pair whose result has the highest score: the order of the merges, counted down.
        let mut ranks = std::collections::HashMap::new();
        for (rank, merge) in merges.iter().enumerate() {
            ranks.entry(merge.replacen(' ', "", 1)).or_insert(rank);
        }
        let score = |word: &String| ranks.get(word).map_or(-(merges.len() as f32), |rank| -(*rank as f32));
        add("ggml.scores", Value::F32s(words.iter().map(score).collect()));
        add(
            "ggml.add_space_prefix",
            Value::Bool(
                tokenizer["normalizer"].to_string().contains("Prepend")
                    || tokenizer["pre_tokenizer"].to_string().contains("Metaspace"),
            ),
        );
    } else {
        let ignore_merges = model["ignore_merges"].as_bool().unwrap_or(false);
        let split = Split::of(&tokenizer["pre_tokenizer"], ignore_merges);
        if split.is_some_and(|split| split.ignore_merges != ignore_merges) {
            notes.push(
                "llama.cpp merges the pieces of words that are tokens otherwise than this tokenizer: tokens may differ"
                    .to_owned(),
            );
        }
        if split.is_none() {
            notes.push("llama.cpp knows no name for how this tokenizer splits text: tokenizer.ggml.pre is default, and tokens may differ".to_owned());
        }
        if splits::puts_a_blank(&tokenizer["pre_tokenizer"]) {
            notes.push("this tokenizer puts a blank before a text, which llama.cpp does not do: begin a prompt with a blank there".to_owned());
        }
        add("ggml.pre", split.map_or("default", |split| split.names[0]).into());
        add("ggml.merges", Value::Texts(merges));
    }
    let id_of = |token: &str| words.iter().position(|word| word == token);
    for (key, name) in [("bos", "bos_token"), ("eos", "eos_token"), ("unknown", "unk_token"), ("padding", "pad_token")]
    {
        let token = &config[name];
        let token = token.as_str().or_else(|| token["content"].as_str());
        if let Some(id) = token.and_then(id_of) {
            add(&format!("ggml.{key}_token_id"), Value::U32(id as u32));
        }
    }
    let bos = config["bos_token"].as_str().or_else(|| config["bos_token"]["content"].as_str());
    let first = tokenizer["post_processor"].to_string();
    let by_template = bos.is_some_and(|bos| first.contains(&Json::from(bos).to_string()));
    let adds = config["add_bos_token"].as_bool().unwrap_or(by_template);
    add("ggml.add_bos_token", Value::Bool(adds));
    if config["add_eos_token"].as_bool() == Some(true) {
        add("ggml.add_eos_token", Value::Bool(true));
    }
    if let Some(template) = config["chat_template"].as_str() {
        add("chat_template", template.into());
    }
    add("ggml.token_type", Value::I32s(kinds));
    add("ggml.tokens", Value::Texts(words));
    Ok((pairs, notes))
}

/// `a b`, as older and newer files write it.
fn merge(merge: &Json) -> Option<String> {
    match merge {
        Json::String(text) => Some(text.clone()),
        Json::Array(two) => Some(format!("{} {}", two.first()?.as_str()?, two.get(1)?.as_str()?)),
        _ => None,
    }
}
