//! The kinds of adapters that PEFT has beside LoRA, and the variants of LoRA whose ΔW is not `s · B A`.

use crate::checkpoint::{Checkpoint, Tensor};
use serde_json::Value;
use std::collections::HashSet;

/// A variant of LoRA, by the key of `adapter_config.json` that turns it on.
#[derive(Debug, PartialEq, Eq)]
pub struct Variant {
    /// The key; it counts as on unless it is null, false or empty.
    pub key: &'static str,
    /// The field's name for it.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Why it cannot be put into the weights, if it cannot.
    pub unmergeable: Option<&'static str>,
    /// Whether `s · B A` may be replaced by another pair of the same product, as long as the config stays.
    pub product: bool,
}

/// Every variant that changes what a reader must do. What only changes training (VeLoRA, EVA, MiCA, orthogonal starts) is not
/// here: such files are plain LoRA.
pub static VARIANTS: [Variant; 5] = [
    Variant {
        key: "alora_invocation_tokens",
        name: "aLoRA",
        about: "the pairs work only behind the invocation tokens",
        unmergeable: Some(
            "its pairs are active only from the invocation tokens on, so that no single weight stands for it",
        ),
        product: true,
    },
    Variant {
        key: "kasa_config",
        name: "KaSA",
        about: "ΔW is s · B diag(σ) A, and the base has lost its r smallest directions",
        unmergeable: None,
        product: false,
    },
    Variant {
        key: "arrow_config",
        name: "Arrow",
        about: "a router chooses among pairs for each token",
        unmergeable: Some("a router chooses among its pairs for each token, so that no single weight stands for it"),
        product: false,
    },
    Variant {
        key: "monteclora_config",
        name: "MonteCLoRA",
        about: "A is drawn anew in every pass of training",
        unmergeable: Some("its A is drawn at random around the mean that the file holds"),
        product: false,
    },
    Variant {
        key: "layer_replication",
        name: "layer_replication",
        about: "the base has some of its blocks more than once",
        unmergeable: Some(
            "its base has some blocks more than once (layer_replication), and such a base is not built here",
        ),
        product: true,
    },
];

/// A kind of PEFT's beside LoRA.
struct Other {
    /// Its `peft_type`.
    name: &'static str,
    /// What it trains.
    trains: &'static str,
    /// Tensors that its file holds and training leaves as they are, by a part of their name. Whole numbers are never trained.
    fixed: &'static [&'static str],
}

/// PEFT's other kinds (0.21.2, and BONE of older ones).
const OTHERS: [Other; 43] = [
    Other { name: "ADALORA", trains: "B · diag(E) · A with a rank that shrinks", fixed: &[] },
    Other { name: "ADAMSS", trains: "subspaces of each weight", fixed: &["adamss_newB"] },
    Other { name: "ADAPTION_PROMPT", trains: "prompts inside the upper blocks", fixed: &[] },
    Other { name: "BEFT", trains: "one bias for each block", fixed: &[] },
    Other { name: "BOFT", trains: "orthogonal butterfly factors in front of each weight", fixed: &[] },
    Other { name: "BONE", trains: "blocks that are added to each weight", fixed: &[] },
    Other { name: "C3A", trains: "circular convolutions", fixed: &[] },
    Other { name: "CARTRIDGE", trains: "keys and values in front of the input", fixed: &[] },
    Other { name: "CPT", trains: "tokens in front of the input, from a context", fixed: &[] },
    Other { name: "DEFT", trains: "projections out of each weight's directions", fixed: &[] },
    Other { name: "DELORA", trains: "directions with one strength", fixed: &["delora_w_norm"] },
    Other { name: "FOURIERFT", trains: "a few Fourier coefficients of ΔW", fixed: &[] },
    Other { name: "FROD", trains: "full-rank rotations with shared factors", fixed: &["frod_V"] },
    Other { name: "GLORA", trains: "scales, shifts and low-rank factors together", fixed: &[".zeros"] },
    Other { name: "GRALORA", trains: "a pair for each block of the weight", fixed: &[] },
    Other { name: "HIRA", trains: "ΔW = W ∘ (B A)", fixed: &[] },
    Other { name: "HRA", trains: "Householder reflections in front of each weight", fixed: &[] },
    Other { name: "IA3", trains: "one factor for each channel of activations", fixed: &[] },
    Other { name: "LILY", trains: "pairs that layers share", fixed: &[] },
    Other { name: "LN_TUNING", trains: "the norms themselves", fixed: &[] },
    Other { name: "MISS", trains: "one small block for many of the weight", fixed: &[] },
    Other {
        name: "MULTITASK_PROMPT_TUNING",
        trains: "virtual tokens in front of the input, shared by tasks",
        fixed: &[],
    },
    Other { name: "OFT", trains: "an orthogonal matrix in front of each weight", fixed: &[] },
    Other { name: "OSF", trains: "the small singular directions of each weight", fixed: &[] },
    Other { name: "PEANUT", trains: "a small network for each weight", fixed: &[] },
    Other { name: "POLY", trains: "several pairs and how they are mixed", fixed: &[] },
    Other { name: "PREFIX_TUNING", trains: "keys and values in front of every block's own", fixed: &[] },
    Other { name: "PROMPT_TUNING", trains: "virtual tokens in front of the input", fixed: &[] },
    Other { name: "PSOFT", trains: "a rotation inside the main directions of each weight", fixed: &[] },
    Other { name: "PVERA", trains: "scales of shared random factors, drawn at random", fixed: &["pvera_A", "pvera_B"] },
    Other { name: "P_TUNING", trains: "a network that makes virtual tokens", fixed: &[] },
    Other { name: "RANDLORA", trains: "scales of many random factors", fixed: &["randlora_A", "randlora_B"] },
    Other { name: "ROAD", trains: "rotations of pairs of channels", fixed: &[] },
    Other { name: "SHADOW", trains: "a small model beside the large one", fixed: &[] },
    Other { name: "SHIRA", trains: "a few single weights", fixed: &[] },
    Other { name: "SUPERTUNING", trains: "a few single weights that were chosen before", fixed: &[] },
    Other {
        name: "TINYLORA",
        trains: "a few numbers that all layers share",
        fixed: &["tinylora_A", "tinylora_B", "tinylora_P"],
    },
    Other { name: "TRAINABLE_TOKENS", trains: "rows of the embedding", fixed: &[] },
    Other { name: "UNILORA", trains: "one vector that all pairs are drawn from", fixed: &[] },
    Other { name: "VBLORA", trains: "pairs made of a shared bank of vectors", fixed: &[] },
    Other { name: "VERA", trains: "scales of shared random factors", fixed: &["vera_A", "vera_B"] },
    Other { name: "WAVEFT", trains: "a few wavelet coefficients of ΔW", fixed: &[] },
    Other { name: "XLORA", trains: "a network that mixes adapters for each token", fixed: &[".lora_model."] },
];

/// What to say of an adapter of another kind, whose config is `json`.
pub(super) fn another(peft_type: &str, json: &Value, checkpoint: &Checkpoint) -> String {
    let name: String = peft_type.chars().take(40).collect();
    let Some(other) = OTHERS.iter().find(|other| other.name == peft_type) else {
        let held = checkpoint.parameters();
        return format!(
            "found an adapter that holds {held} values, with peft_type {name}, expected LORA, LOHA or LOKR"
        );
    };
    let trained = other.trained(json, checkpoint);
    // What P-tuning trained was a network; its last outputs are what is kept.
    let unit = if peft_type == "P_TUNING" { "values that its network made" } else { "parameters" };
    format!(
        "found an adapter of {trained} {unit} with peft_type {name} ({}), expected LORA, LOHA or LOKR",
        other.trains
    )
}

impl Other {
    /// Parameters that were trained, as PEFT counts them.
    fn trained(&self, json: &Value, checkpoint: &Checkpoint) -> u64 {
        let is_trained =
            |tensor: &&Tensor| tensor.dtype.is_readable() && !self.fixed.iter().any(|part| tensor.name.contains(part));
        let tensors = checkpoint.tensors().iter().filter(is_trained);
        match self.name {
            // Layers share factors, and the file has a copy for each.
            "LILY" => {
                let mut seen = HashSet::new();
                let own = |tensor: &&Tensor| checkpoint.bytes_of(tensor).map_or(true, |bytes| seen.insert(bytes));
                tensors.filter(own).map(Tensor::elements).sum()
            }
            // The first of its virtual tokens stay as they are.
            "CARTRIDGE" => {
                let kept = json.get("num_frozen_tokens").and_then(Value::as_u64).unwrap_or(0);
                let rows = |tensor: &Tensor| tensor.shape.first().map_or(1, |&rows| rows.max(1) as u64);
                tensors
                    .map(|tensor| tensor.elements() - tensor.elements() / rows(tensor) * kept.min(rows(tensor)))
                    .sum()
            }
            _ => tensors.map(Tensor::elements).sum(),
        }
    }
}

/// What an initialisation takes out of the base when training begins, so that the adapter alone is not the change of the original.
/// PEFT does it again when such an adapter is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenOut {
    /// The r largest singular directions (PiSSA, arXiv 2404.02948).
    Principal,
    /// `s · Q_r R_r` of the weight's QR decomposition (OLoRA, arXiv 2406.01775).
    Qr,
    /// The r smallest singular directions (KaSA, arXiv 2412.06071).
    Smallest,
    /// What depends on data, chance or a quantization, and cannot be found again from the base.
    Unknown,
}

impl TakenOut {
    /// By the value of `init_lora_weights`.
    pub fn by(init: &str) -> Option<Self> {
        let init = init.to_ascii_lowercase();
        match init.as_str() {
            "pissa" => Some(Self::Principal),
            "olora" => Some(Self::Qr),
            _ => ["pissa", "olora", "corda", "loftq", "lora_ga"]
                .iter()
                .any(|name| init.starts_with(name))
                .then_some(Self::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_says_something() {
        assert!(OTHERS.is_sorted_by_key(|other| other.name));
        assert_eq!(TakenOut::by("PiSSA"), Some(TakenOut::Principal));
        assert_eq!(TakenOut::by("pissa_niter_4"), Some(TakenOut::Unknown));
        assert_eq!(TakenOut::by("gaussian"), None);
    }
}
