//! One file a family: its `config.json` becomes a [`ModelSpec`]. A new family is one file and one line of `FAMILIES`.
//!
//! Most families are Llama but for a few `Traits`; what a trait does not say is changed in the finished spec.

mod build;
mod keys;
mod nearest;
mod recurrent;
#[cfg(test)]
mod tests;

mod apertus;
mod arcee;
mod bert;
mod bloom;
mod cohere;
mod deepseek;
mod ernie4_5;
mod exaone4;
mod experts;
mod falcon;
mod gemma;
mod gemma4;
mod glm;
mod gpt2;
mod gpt_bigcode;
mod gpt_neo;
mod gpt_neox;
mod gptj;
mod granite;
mod helium;
mod hunyuan;
mod internlm3;
mod lfm2;
mod llama;
mod llama4;
mod mamba;
mod ministral;
mod mistral;
mod muse_glimmer;
mod nanochat;
mod nemotron;
mod nemotron_h;
mod olmo;
mod olmo_hybrid;
mod opt;
mod phi;
mod phi3;
mod qwen;
mod qwen3_5;
mod seed_oss;
mod smollm3;
mod stablelm;
mod starcoder2;

use super::{ModelSpec, Rope};
use crate::error::{Error, Result};
use keys::Keys;
use serde_json::Value;
use std::path::Path;

/// A family: the names that its config has for it, and how that becomes a spec.
pub(crate) struct Family {
    /// `model_type`.
    model_type: &'static str,
    /// The causal language models among `architectures`, without the common endings (see [`language_model`]).
    architectures: &'static [&'static str],
    read: fn(&Keys) -> Result<ModelSpec>,
}

const fn family(
    model_type: &'static str,
    architectures: &'static [&'static str],
    read: fn(&Keys) -> Result<ModelSpec>,
) -> Family {
    Family { model_type, architectures, read }
}

/// Every family that is known.
static FAMILIES: &[Family] = &[
    family("llama", &["LlamaForCausalLM"], llama::llama),
    family("mistral", &["MistralForCausalLM"], mistral::mistral),
    family("mixtral", &["MixtralForCausalLM"], experts::mixtral),
    family("qwen2_moe", &["Qwen2MoeForCausalLM"], experts::qwen2_moe),
    family("qwen3_moe", &["Qwen3MoeForCausalLM"], experts::qwen3_moe),
    family("olmoe", &["OlmoeForCausalLM"], experts::olmoe),
    family("phimoe", &["PhimoeForCausalLM"], experts::phimoe),
    family("dots1", &["Dots1ForCausalLM"], experts::dots1),
    family("hunyuan_v1_moe", &["HunYuanMoEV1ForCausalLM"], experts::hunyuan),
    family("minimax_m2", &["MiniMaxM2ForCausalLM"], experts::minimax_m2),
    family("glm4_moe", &["Glm4MoeForCausalLM"], experts::glm4_moe),
    family("granitemoe", &["GraniteMoeForCausalLM"], experts::granitemoe),
    family("granitemoehybrid", &["GraniteMoeHybridForCausalLM"], experts::granitemoehybrid),
    family("nemotron_h", &["NemotronHForCausalLM"], nemotron_h::nemotron_h),
    family("ernie4_5_moe", &["Ernie4_5_MoeForCausalLM"], experts::ernie4_5),
    family("gpt_oss", &["GptOssForCausalLM"], experts::gpt_oss),
    family("llama4_text", &["Llama4ForCausalLM"], llama4::text),
    family("deepseek_v2", &["DeepseekV2ForCausalLM"], deepseek::v2),
    family("deepseek_v3", &["DeepseekV3ForCausalLM"], deepseek::v3),
    family("glm4_moe_lite", &["Glm4MoeLiteForCausalLM"], deepseek::glm4_moe_lite),
    family("mistral4", &["Mistral4ForCausalLM"], deepseek::mistral4),
    family("qwen2", &["Qwen2ForCausalLM"], qwen::qwen2),
    family("qwen3", &["Qwen3ForCausalLM"], qwen::qwen3),
    family("phi3", &["Phi3ForCausalLM"], phi3::phi3),
    family("gemma", &["GemmaForCausalLM"], gemma::gemma),
    family("gemma2", &["Gemma2ForCausalLM"], gemma::gemma2),
    family("gemma3_text", &["Gemma3ForCausalLM"], gemma::gemma3),
    family("ministral", &["MinistralForCausalLM"], ministral::ministral),
    family("ministral3", &["Ministral3ForCausalLM"], ministral::ministral3),
    family("qwen2_vl_text", &[], qwen::qwen2_vl),
    family("qwen2_5_vl_text", &[], qwen::qwen2_vl),
    family("qwen3_vl_text", &[], qwen::qwen3_vl),
    family("smollm3", &["SmolLM3ForCausalLM"], smollm3::smollm3),
    family("olmo", &["OlmoForCausalLM"], olmo::olmo),
    family("olmo2", &["Olmo2ForCausalLM"], olmo::olmo2),
    family("olmo3", &["Olmo3ForCausalLM"], olmo::olmo3),
    family("granite", &["GraniteForCausalLM"], granite::granite),
    family("phi", &["PhiForCausalLM"], phi::phi),
    family("glm", &["GlmForCausalLM"], glm::glm),
    family("glm4", &["Glm4ForCausalLM"], glm::glm4),
    family("cohere", &["CohereForCausalLM"], cohere::cohere),
    family("cohere2", &["Cohere2ForCausalLM"], cohere::cohere2),
    family("starcoder2", &["Starcoder2ForCausalLM"], starcoder2::starcoder2),
    family("stablelm", &["StableLmForCausalLM"], stablelm::stablelm),
    family("seed_oss", &["SeedOssForCausalLM"], seed_oss::seed_oss),
    family("arcee", &["ArceeForCausalLM"], arcee::arcee),
    family("exaone4", &["Exaone4ForCausalLM"], exaone4::exaone4),
    family("ernie4_5", &["Ernie4_5ForCausalLM"], ernie4_5::ernie4_5),
    family("hunyuan_v1_dense", &["HunYuanDenseV1ForCausalLM"], hunyuan::dense),
    family("nemotron", &["NemotronForCausalLM"], nemotron::nemotron),
    family("helium", &["HeliumForCausalLM"], helium::helium),
    family("internlm3", &["InternLM3ForCausalLM", "LlamaForCausalLM"], internlm3::internlm3),
    family("nanochat", &["NanoChatForCausalLM"], nanochat::nanochat),
    family("apertus", &["ApertusForCausalLM"], apertus::apertus),
    family("muse_glimmer_text", &[], muse_glimmer::text),
    family("gemma4_text", &["Gemma4ForCausalLM"], gemma4::gemma4),
    family("gemma4_unified_text", &["Gemma4UnifiedForCausalLM"], gemma4::unified),
    family("qwen3_5_text", &["Qwen3_5ForCausalLM"], qwen3_5::qwen3_5),
    family("qwen3_next", &["Qwen3NextForCausalLM"], qwen3_5::qwen3_next),
    family("qwen3_5_moe_text", &["Qwen3_5MoeForCausalLM"], qwen3_5::qwen3_5_moe),
    family("olmo_hybrid", &["OlmoHybridForCausalLM"], olmo_hybrid::olmo_hybrid),
    family("lfm2", &["Lfm2ForCausalLM"], lfm2::lfm2),
    family("lfm2_moe", &["Lfm2MoeForCausalLM"], experts::lfm2),
    family("bamba", &["BambaForCausalLM"], mamba::bamba),
    family("falcon_h1", &["FalconH1ForCausalLM"], mamba::falcon_h1),
    family("opt", &["OPTForCausalLM"], opt::opt),
    family("gptj", &["GPTJForCausalLM"], gptj::gptj),
    family("falcon", &["FalconForCausalLM"], falcon::falcon),
    family("bloom", &["BloomForCausalLM"], bloom::bloom),
    family("gpt_neo", &["GPTNeoForCausalLM"], gpt_neo::gpt_neo),
    family("gpt_bigcode", &["GPTBigCodeForCausalLM"], gpt_bigcode::gpt_bigcode),
    family("gpt2", &["GPT2LMHeadModel", "GPT2Model"], gpt2::gpt2),
    family("gpt3", &[], gpt2::gpt3),
    family("gpt_neox", &["GPTNeoXForCausalLM"], gpt_neox::gpt_neox),
    family("bert", &["BertForSequenceClassification", "BertForMaskedLM", "BertModel"], bert::bert),
    family("roberta", &["RobertaForSequenceClassification", "RobertaForMaskedLM", "RobertaModel"], bert::roberta),
    family(
        "distilbert",
        &["DistilBertForSequenceClassification", "DistilBertForMaskedLM", "DistilBertModel"],
        bert::distilbert,
    ),
];

/// Models of several parts whose text goes through the decoder alone: their `model_type`, and the class of the whole.
const WRAPPERS: &[(&str, &str)] = &[
    ("gemma3", "Gemma3ForConditionalGeneration"),
    ("gemma4", "Gemma4ForConditionalGeneration"),
    ("gemma4_unified", "Gemma4UnifiedForConditionalGeneration"),
    ("llava", "LlavaForConditionalGeneration"),
    ("llama4", "Llama4ForConditionalGeneration"),
    ("mistral3", "Mistral3ForConditionalGeneration"),
    ("muse_glimmer", "MuseGlimmerForConditionalGeneration"),
    ("qwen3_5", "Qwen3_5ForConditionalGeneration"),
    ("qwen3_5_moe", "Qwen3_5MoeForConditionalGeneration"),
    ("qwen2_vl", "Qwen2VLForConditionalGeneration"),
    ("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration"),
    ("qwen3_vl", "Qwen3VLForConditionalGeneration"),
];

/// Where models of several parts keep the decoder's config.
const NESTED: [&str; 4] = ["text_config", "llm_config", "language_config", "thinker_config"];

/// The decoder's part of a config.
pub(crate) fn decoder(config: &Value) -> &Value {
    NESTED.iter().find_map(|key| config.get(key).filter(|value| value.is_object())).unwrap_or(config)
}

/// A decoder of the config's family with sizes that stand for any: whether its head is the embedding, and whether its weights
/// are stored as `[in, out]`, where the config's own sizes are missing. `None` for a family that is not known.
pub(crate) fn of_family(config: &Value) -> Option<ModelSpec> {
    let kind = decoder(config).get("model_type").and_then(Value::as_str)?;
    let mut any = serde_json::json!({"model_type": kind, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 1, "vocab_size": 8});
    for part in [decoder(config), config] {
        if let Some(tied) = part.get("tie_word_embeddings").filter(|tied| tied.is_boolean()) {
            any["tie_word_embeddings"] = tied.clone();
        }
    }
    let family = FAMILIES.iter().find(|family| family.model_type == kind)?;
    (family.read)(&Keys::new(&any, &any, Path::new("config.json"), None)).ok()
}

impl ModelSpec {
    /// What the `config.json` at `path` says; `has` tells whether the checkpoint has a module by a name, where there is
    /// a checkpoint: prefixes differ between versions of transformers.
    ///
    /// # Errors
    /// When the family is not known, or a size is missing or makes no sense. A setting that is not computed here is no
    /// error, but [`ModelSpec::not_run`].
    pub fn of_config(config: &Value, path: &Path, has: Option<&dyn Fn(&str) -> bool>) -> Result<Self> {
        let raw = decoder(config);
        let keys = Keys::new(raw, config, path, has);
        let architecture = config.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
        let Some(kind) = raw.get("model_type").and_then(Value::as_str).filter(|kind| !kind.is_empty()) else {
            let found =
                FAMILIES.iter().find(|family| family.architectures.iter().any(|name| Some(*name) == architecture));
            let Some(family) = found else {
                let named =
                    architecture.map_or_else(|| "neither model_type nor architectures".to_owned(), str::to_owned);
                return Err(keys.wrong(format!("found {named}, expected the \"model_type\" of a decoder")));
            };
            return family.spec(&keys, architecture);
        };
        match FAMILIES.iter().find(|family| family.model_type == kind) {
            Some(family) => family.spec(&keys, architecture),
            None => Err(nearest::unknown(kind, config, path, has)),
        }
    }

    /// That it can be run.
    ///
    /// # Errors
    /// [`not_run`](Self::not_run), about the file at `path`.
    pub fn runs(&self, path: &Path) -> Result<()> {
        match &self.not_run {
            Some(message) => Err(Error::file(path, message)),
            None => Ok(()),
        }
    }
}

impl Family {
    fn spec(&self, keys: &Keys, architecture: Option<&str>) -> Result<ModelSpec> {
        let mut spec = (self.read)(keys)?;
        spec.model_type = self.model_type.to_owned();
        if spec.ropes.iter().any(Rope::is_growing) {
            spec.max_positions = keys::LARGEST as usize;
        }
        spec.not_run = keys.not_run().or(spec.not_run);
        if let Some(found) = architecture
            && let Some(message) = self.other(keys, found)
        {
            spec.not_run = Some(message);
        }
        Ok(spec)
    }

    /// What is wrong with a class of this name, if anything is: another head, or another model around the decoder.
    fn other(&self, keys: &Keys, architecture: &str) -> Option<String> {
        let known = self.architectures.contains(&architecture);
        if known || keys.wrapped() && WRAPPERS.iter().any(|(_, class)| *class == architecture) {
            return None;
        }
        let expected = self.architectures.first().copied().unwrap_or("no architecture");
        Some(format!("found architecture {architecture}, expected {expected}"))
    }
}
