//! The kinds of adapters that PEFT has beside LoRA, and the variants of LoRA whose ΔW is not `s · B A`.

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

/// PEFT's other kinds, and what they train.
const OTHERS: [(&str, &str); 44] = [
    ("ADALORA", "B · diag(E) · A with a rank that shrinks"),
    ("ADAMSS", "subspaces of each weight"),
    ("ADAPTION_PROMPT", "prompts inside the upper blocks"),
    ("BEFT", "one bias for each block"),
    ("BOFT", "orthogonal butterfly factors in front of each weight"),
    ("BONE", "blocks that are added to each weight"),
    ("C3A", "circular convolutions"),
    ("CARTRIDGE", "keys and values in front of the input"),
    ("CPT", "tokens in front of the input, from a context"),
    ("DEFT", "projections out of each weight's directions"),
    ("DELORA", "directions with one strength"),
    ("FOURIERFT", "a few Fourier coefficients of ΔW"),
    ("FROD", "full-rank rotations with shared factors"),
    ("GLORA", "scales, shifts and low-rank factors together"),
    ("GRALORA", "a pair for each block of the weight"),
    ("HIRA", "ΔW = W ∘ (B A)"),
    ("HRA", "Householder reflections in front of each weight"),
    ("IA3", "one factor for each channel of activations"),
    ("LILY", "pairs that layers share"),
    ("LN_TUNING", "the norms themselves"),
    ("LOHA", "ΔW = (B₁ A₁) ∘ (B₂ A₂)"),
    ("LOKR", "ΔW = C ⊗ (B A)"),
    ("MISS", "one small block for many of the weight"),
    ("MULTITASK_PROMPT_TUNING", "virtual tokens in front of the input, shared by tasks"),
    ("OFT", "an orthogonal matrix in front of each weight"),
    ("OSF", "the small singular directions of each weight"),
    ("PEANUT", "a small network for each weight"),
    ("POLY", "several pairs and how they are mixed"),
    ("PREFIX_TUNING", "keys and values in front of every block's own"),
    ("PROMPT_TUNING", "virtual tokens in front of the input"),
    ("PSOFT", "a rotation inside the main directions of each weight"),
    ("PVERA", "scales of shared random factors, drawn at random"),
    ("P_TUNING", "a network that makes virtual tokens"),
    ("RANDLORA", "scales of many random factors"),
    ("ROAD", "rotations of pairs of channels"),
    ("SHADOW", "a small model beside the large one"),
    ("SHIRA", "a few single weights"),
    ("SUPERTUNING", "a few single weights that were chosen before"),
    ("TINYLORA", "a few numbers that all layers share"),
    ("TRAINABLE_TOKENS", "rows of the embedding"),
    ("UNILORA", "one vector that all pairs are drawn from"),
    ("VBLORA", "pairs made of a shared bank of vectors"),
    ("VERA", "scales of shared random factors"),
    ("WAVEFT", "a few wavelet coefficients of ΔW"),
];

/// What to say of an adapter of another kind.
pub(super) fn another(peft_type: &str, parameters: Option<u64>) -> String {
    let trains = OTHERS.iter().find(|(name, _)| *name == peft_type).map(|(_, trains)| format!(" ({trains})"));
    let size = parameters.map(|count| format!(" of {count} parameters")).unwrap_or_default();
    let name: String = peft_type.chars().take(40).collect();
    format!("found an adapter{size} with peft_type {name}{}, expected LORA", trains.unwrap_or_default())
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
        assert!(OTHERS.is_sorted_by_key(|(name, _)| *name));
        let sentence = another("PROMPT_TUNING", Some(64));
        assert_eq!(
            sentence,
            "found an adapter of 64 parameters with peft_type PROMPT_TUNING (virtual tokens in front of the input), expected LORA"
        );
        assert!(another("NEW_THING", None).contains("peft_type NEW_THING, expected"));
        assert_eq!(TakenOut::by("PiSSA"), Some(TakenOut::Principal));
        assert_eq!(TakenOut::by("pissa_niter_4"), Some(TakenOut::Unknown));
        assert_eq!(TakenOut::by("gaussian"), None);
    }
}
