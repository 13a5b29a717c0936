//! BERT, RoBERTa and DistilBERT: encoders. Their sizes are known, so that memory can be predicted; they are not trained here.

use super::build::{Qkv, Traits, Up, build};
use super::keys::Keys;
use crate::error::Result;
use crate::spec::ModelSpec;

const BERT: Traits = Traits {
    stem: "bert.",
    embedding: "embeddings.word_embeddings",
    positions: Some(("embeddings.position_embeddings", 0)),
    layers: "encoder.layer",
    norm: None,
    norms: [None, Some("attention.output.LayerNorm"), None, Some("output.LayerNorm")],
    attention: "attention",
    qkv: Qkv::Apart(["self.query", "self.key", "self.value"]),
    o: "output.dense",
    mlp: "",
    up: Up::Plain("intermediate.dense"),
    down: "output.dense",
    activation: ("hidden_act", "gelu"),
    kv_keys: &[],
    tied: true,
    rope: None,
    longest: 512,
    ..Traits::LLAMA.layer_norm("layer_norm_eps").biased(true)
};

/// `bert`.
pub(super) fn bert(keys: &Keys) -> Result<ModelSpec> {
    encoder(keys, BERT)
}

/// `roberta`, `xlm-roberta`: position 0 is row 2.
pub(super) fn roberta(keys: &Keys) -> Result<ModelSpec> {
    encoder(keys, Traits { stem: "roberta.", positions: Some(("embeddings.position_embeddings", 2)), ..BERT })
}

/// `distilbert`.
pub(super) fn distilbert(keys: &Keys) -> Result<ModelSpec> {
    let distilled = Traits {
        stem: "distilbert.",
        layers: "transformer.layer",
        norms: [None, Some("sa_layer_norm"), None, Some("output_layer_norm")],
        qkv: Qkv::Apart(["q_lin", "k_lin", "v_lin"]),
        o: "out_lin",
        mlp: "ffn.",
        up: Up::Plain("lin1"),
        down: "lin2",
        activation: ("activation", "gelu"),
        ..BERT
    };
    encoder(keys, distilled)
}

fn encoder(keys: &Keys, traits: Traits) -> Result<ModelSpec> {
    // Token types, the pooler and what a task adds stand in no decoder's spec: they are seen in the file alone.
    if keys.has("embeddings").is_none() {
        return Err(
            keys.wrong("found an encoder, whose parameters are counted from its weights; expected them beside it")
        );
    }
    let mut spec = build(keys, traits)?;
    spec.not_run = Some("found an encoder, which is not trained here; expected a decoder".to_owned());
    Ok(spec)
}
