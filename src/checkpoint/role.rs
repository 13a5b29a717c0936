//! Roles, blocks and experts read from names, where nothing says better: for models of unknown families.

use crate::spec::Role;

impl Role {
    /// The role that a name stands for, with or without `.weight` and the suffixes of adapters.
    pub fn of(name: &str) -> Self {
        let lower = name.split(".lora_").next().unwrap_or(name).to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('.').filter(|part| !SUFFIXES.contains(part)).collect();
        let Some((&last, parents)) = parts.split_last() else { return Self::Other };
        let parent = parents.last().copied().unwrap_or_default();
        let attention = parents.iter().any(|part| part.contains("att"));
        if last.contains("norm") || last.starts_with("ln") {
            return Self::Norm;
        }
        match last {
            "q_proj" | "query" | "wq" | "q" | "q_lin" | "q_attn" | "query_proj" | "to_q" | "q_a_proj" | "q_b_proj" => {
                Self::Q
            }
            "k_proj" | "key" | "wk" | "k" | "k_lin" | "key_proj" | "to_k" => Self::K,
            "v_proj" | "value" | "wv" | "v" | "v_lin" | "value_proj" | "to_v" => Self::V,
            "qkv_proj" | "qkv" | "wqkv" | "c_attn" | "query_key_value" | "w_pack" | "qkv_lin" => Self::Qkv,
            "in_proj" if attention => Self::Qkv,
            "in_proj_qkv" | "in_proj_qkvz" => Self::Qkv,
            "in_proj" | "in_proj_z" | "in_proj_a" | "in_proj_b" | "in_proj_ba" => Self::In,
            "a_proj" | "b_proj" | "g_proj" if attention => Self::In,
            "kv_a_proj_with_mqa" | "kv_b_proj" | "kv_proj" | "to_kv" => Self::Kv,
            "o_proj" | "out_proj" | "o" | "out_lin" | "to_out" => Self::O,
            "c_proj" if parent == "mlp" => Self::Down,
            "c_proj" => Self::O,
            "wo" if attention => Self::O,
            "dense" => match parent {
                "output" if parents.iter().rev().nth(1) != Some(&"attention") => Self::Down,
                "intermediate" => Self::Up,
                _ if attention => Self::O,
                _ => Self::Other,
            },
            "gate_proj" | "w1" | "wi_0" => Self::Gate,
            "up_proj" | "w3" | "wi_1" | "wi" | "c_fc" | "fc1" | "fc_in" | "dense_h_to_4h" | "lin1" => Self::Up,
            "gate_up_proj" | "w12" => Self::GateUp,
            "down_proj" | "w2" | "wo" | "fc2" | "fc_out" | "dense_4h_to_h" | "lin2" => Self::Down,
            "gate" | "router" | "shared_expert_gate" => Self::Router,
            "lm_head" | "embed_out" | "output_layer" | "score" => Self::Head,
            "output" if parents.is_empty() => Self::Head,
            "decoder" if parent == "predictions" => Self::Head,
            "wte" | "wpe" | "shared" | "relative_attention_bias" => Self::Embedding,
            _ if last.contains("embed") => Self::Embedding,
            _ => Self::Other,
        }
    }
}

/// Parts of a tensor's name that say nothing about its role.
const SUFFIXES: [&str; 3] = ["weight", "bias", "base_layer"];

/// Number of the block that a name belongs to: the first number under `layers`, `h`, `block`, ….
pub(crate) fn layer(name: &str) -> Option<usize> {
    Some(place(name)?.1)
}

/// What stands before the block number (`model.layers`), and the number.
pub(super) fn place(name: &str) -> Option<(&str, usize)> {
    let mut begin = 0;
    let mut parent = "";
    for part in name.split('.') {
        let blocks = parent == "h" || ["layer", "layers", "block", "blocks"].iter().any(|end| parent.ends_with(end));
        if blocks && let Ok(number) = part.parse::<usize>() {
            return Some((name.get(..begin - 1)?, number));
        }
        parent = part;
        begin += part.len() + 1;
    }
    None
}

/// Number of the expert that a name belongs to.
pub(crate) fn expert(name: &str) -> Option<usize> {
    let (_, rest) = name.split_once("experts.")?;
    rest.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_many_architectures() {
        use Role::*;
        for (name, role) in [
            ("model.layers.0.self_attn.q_proj", Q),
            ("model.layers.0.self_attn.q_proj.lora_A.weight", Q),
            ("model.layers.0.self_attn.q_proj.lora_A.mine.weight", Q),
            ("model.layers.0.self_attn.qkv_proj", Qkv),
            ("model.layers.0.self_attn.q_norm", Norm),
            ("model.layers.0.mlp.gate_up_proj", GateUp),
            ("model.layers.0.post_attention_layernorm", Norm),
            ("model.embed_tokens", Embedding),
            ("lm_head", Head),
            ("model.norm", Norm),
            ("transformer.h.0.attn.c_attn", Qkv),
            ("transformer.h.0.attn.c_proj", O),
            ("transformer.h.0.mlp.c_fc", Up),
            ("transformer.h.0.mlp.c_proj", Down),
            ("h.0.ln_1", Norm),
            ("wpe", Embedding),
            ("gpt_neox.embed_in", Embedding),
            ("embed_out", Head),
            ("gpt_neox.layers.0.attention.query_key_value", Qkv),
            ("gpt_neox.layers.0.attention.dense", O),
            ("gpt_neox.layers.0.mlp.dense_h_to_4h", Up),
            ("gpt_neox.layers.0.mlp.dense_4h_to_h", Down),
            ("transformer.word_embeddings", Embedding),
            ("transformer.word_embeddings_layernorm", Norm),
            ("transformer.h.0.self_attention.dense", O),
            ("model.decoder.layers.0.self_attn.out_proj", O),
            ("model.decoder.layers.0.fc1", Up),
            ("bert.encoder.layer.0.attention.self.query", Q),
            ("bert.encoder.layer.0.attention.output.dense", O),
            ("bert.encoder.layer.0.intermediate.dense", Up),
            ("bert.encoder.layer.0.output.dense", Down),
            ("bert.encoder.layer.0.output.LayerNorm", Norm),
            ("bert.pooler.dense", Other),
            ("cls.predictions.decoder", Head),
            ("model.layers.0.block_sparse_moe.gate", Router),
            ("model.layers.0.block_sparse_moe.experts.3.w2", Down),
            ("encoder.block.0.layer.0.SelfAttention.o", O),
            ("decoder.block.0.layer.2.DenseReluDense.wo", Down),
            ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias", Embedding),
            ("layers.0.attention.wo", O),
            ("layers.0.feed_forward.w1", Gate),
            ("tok_embeddings", Embedding),
            ("output", Head),
            ("anything", Other),
            ("", Other),
        ] {
            assert_eq!(Role::of(name), role, "{name}");
        }
    }

    #[test]
    fn blocks_and_experts() {
        assert_eq!(place("model.layers.12.mlp.experts.3.w1"), Some(("model.layers", 12)));
        assert_eq!(layer("encoder.block.4.layer.1.DenseReluDense.wi"), Some(4));
        assert_eq!(layer("h.7.ln_1"), Some(7));
        assert_eq!(layer("classifier.0"), None);
        assert_eq!(layer("model.norm"), None);
        assert_eq!(layer("model.layers.99999999999999999999999.x"), None);
        assert_eq!(expert("model.layers.12.mlp.experts.3.w1"), Some(3));
        assert_eq!(expert("model.layers.12.mlp.gate"), None);
    }
}
