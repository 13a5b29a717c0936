//! The tokenizer of a GGUF file, as `tokenizer.json` and `tokenizer_config.json` would say it.
//!
//! | `tokenizer.ggml.model` | what it is | here |
//! |---|---|---|
//! | `gpt2` | byte-level BPE with merges; `tokenizer.ggml.pre` names how text is split first | [`Split`] |
//! | `llama` | SentencePiece's BPE: merges follow from the scores, unknown bytes are tokens of their own | |

use super::splits::Split;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// What would stand beside the weights of a folder.
pub struct Tokenizer {
    /// `tokenizer.json`.
    pub tokenizer: Value,
    /// `tokenizer_config.json`.
    pub config: Value,
}

/// Kinds of `tokenizer.ggml.token_type`.
pub(super) const CONTROL: i64 = 3;
pub(super) const USER_DEFINED: i64 = 4;

/// Builds it from the metadata of a file.
///
/// # Errors
/// A sentence when the file holds no tokenizer, or one that is not known here.
pub(crate) fn build(metadata: &Map<String, Value>) -> Result<Tokenizer, String> {
    let get = |key: &str| metadata.get(&format!("tokenizer.ggml.{key}"));
    let list = |key: &str| get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let model = get("model").and_then(Value::as_str).ok_or("the file holds no tokenizer")?;
    let tokens: Vec<&str> = list("tokens").iter().filter_map(Value::as_str).collect();
    if tokens.is_empty() {
        return Err("the file holds no tokens".to_owned());
    }
    let kinds: Vec<i64> = list("token_type").iter().filter_map(Value::as_i64).collect();
    let kind = |id: usize| kinds.get(id).copied().unwrap_or(1);
    let flag = |key: &str, default: bool| get(key).and_then(Value::as_bool).unwrap_or(default);
    let id = |key: &str| {
        get(key).and_then(Value::as_u64).and_then(|id| usize::try_from(id).ok()).filter(|&id| id < tokens.len())
    };
    let vocabulary: Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id.into())).collect();
    let (bos, eos) = (id("bos_token_id"), id("eos_token_id"));
    let sentencepiece = model == "llama";
    let pre = get("pre").and_then(Value::as_str).unwrap_or("default");
    let parts = match model {
        "gpt2" => byte_level(&vocabulary, list("merges"), pre)?,
        "llama" => {
            let scores: Vec<f64> = list("scores").iter().filter_map(Value::as_f64).collect();
            sentence_piece(&vocabulary, &tokens, &scores, flag("add_space_prefix", true), id("unknown_token_id"))
        }
        other => return Err(format!("found a tokenizer of type {other}, expected gpt2 or llama")),
    };
    let added =
        tokens.iter().enumerate().filter(|&(id, _)| matches!(kind(id), CONTROL | USER_DEFINED) || Some(id) == eos);
    let added: Vec<Value> = added
        .map(|(id, content)| {
            let special = kind(id) != USER_DEFINED;
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special })
        })
        .collect();
    let begins = sentencepiece || (model == "gpt2" && Split::named(pre).is_some_and(|split| split.bos));
    let around = [(flag("add_bos_token", begins), bos, true), (flag("add_eos_token", false), eos, false)];
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.splitter,
        "post_processor": template(&around, &tokens),
        "decoder": parts.decoder,
        "model": parts.model,
    });
    let mut config = Map::new();
    for (key, id) in [
        ("bos_token", bos),
        ("eos_token", eos),
        ("pad_token", id("padding_token_id")),
        ("unk_token", id("unknown_token_id")),
    ] {
        if let Some(id) = id {
            config.insert(key.to_owned(), tokens[id].into());
        }
    }
    if let Some(template) = metadata.get("tokenizer.chat_template").filter(|template| template.is_string()) {
        config.insert("chat_template".to_owned(), template.clone());
    }
    Ok(Tokenizer { tokenizer, config: Value::Object(config) })
}

struct Parts {
    normalizer: Value,
    splitter: Value,
    decoder: Value,
    model: Value,
}

fn byte_level(vocabulary: &Map<String, Value>, merges: &[Value], pre: &str) -> Result<Parts, String> {
    let split = Split::named(pre)
        .ok_or_else(|| format!("found a tokenizer that splits text as {pre}, which is not known here"))?;
    Ok(Parts {
        normalizer: if pre.contains("qwen") { json!({ "type": "NFC" }) } else { Value::Null },
        splitter: split.pre_tokenizer(),
        decoder: json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true }),
        model: json!({ "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": split.ignore_merges, "vocab": vocabulary, "merges": merges }),
    })
}

fn sentence_piece(
    vocabulary: &Map<String, Value>,
    tokens: &[&str],
    scores: &[f64],
    prefix: bool,
    unknown: Option<usize>,
) -> Parts {
    let mut normalizers = vec![json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" })];
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if prefix {
        normalizers.insert(0, json!({ "type": "Prepend", "prepend": "▁" }));
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    Parts {
        normalizer: json!({ "type": "Sequence", "normalizers": normalizers }),
        splitter: Value::Null,
        decoder: json!({ "type": "Sequence", "decoders": decoders }),
        model: json!({ "type": "BPE", "dropout": null, "unk_token": unknown.map(|id| tokens[id]), "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "vocab": vocabulary,
            "merges": merges(tokens, scores) }),
    }
}

/// The merges that SentencePiece's scores stand for: every way to make a piece of two others, the best piece first.
fn merges(tokens: &[&str], scores: &[f64]) -> Vec<[String; 2]> {
    /// No piece is longer: the ways to make one are as many as its characters.
    const LONGEST: usize = 256;
    let ids: HashMap<&str, usize> = tokens.iter().enumerate().map(|(id, token)| (*token, id)).collect();
    let mut found = Vec::new();
    for (id, token) in tokens.iter().enumerate().filter(|(_, token)| token.len() <= LONGEST) {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(&l), Some(&r)) = (ids.get(left), ids.get(right)) {
                found.push((scores.get(id).copied().unwrap_or(f64::NEG_INFINITY), id, l, r));
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then((b.2, b.3).cmp(&(a.2, a.3))));
    found.into_iter().map(|(_, _, l, r)| [tokens[l].to_owned(), tokens[r].to_owned()]).collect()
}

/// Puts the beginning and the end of a text around it, where the model wants them.
fn template(around: &[(bool, Option<usize>, bool)], tokens: &[&str]) -> Value {
    let mut single = vec![json!({ "Sequence": { "id": "A", "type_id": 0 } })];
    let mut pair =
        vec![json!({ "Sequence": { "id": "A", "type_id": 0 } }), json!({ "Sequence": { "id": "B", "type_id": 1 } })];
    let mut special = Map::new();
    for &(wanted, id, first) in around {
        let Some(id) = id.filter(|_| wanted) else { continue };
        let token = json!({ "SpecialToken": { "id": tokens[id], "type_id": 0 } });
        let end = single.len();
        single.insert(if first { 0 } else { end }, token.clone());
        let end = pair.len();
        pair.insert(if first { 0 } else { end }, token);
        special.insert(tokens[id].to_owned(), json!({ "id": tokens[id], "ids": [id], "tokens": [tokens[id]] }));
    }
    json!({ "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special })
}
