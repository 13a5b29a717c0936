//! What every quantity on screen means: definition, formula, source, shown as its tooltip.

use eframe::egui::{RichText, Ui};

use super::theme::Colors;

/// One quantity.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    /// Its name.
    pub name: &'static str,
    /// What it is, in a sentence or two.
    pub definition: &'static str,
    /// How it is computed.
    pub formula: &'static str,
    /// Where the definition comes from.
    pub source: &'static str,
}

impl Term {
    /// Paints the entry, as a tooltip or in the help.
    pub fn ui(&self, ui: &mut Ui) {
        ui.set_max_width(380.0);
        ui.label(RichText::new(self.name).strong());
        ui.label(self.definition);
        if !self.formula.is_empty() {
            ui.label(RichText::new(self.formula).monospace());
        }
        if !self.source.is_empty() {
            ui.label(RichText::new(self.source).small().color(Colors::of(ui).weak));
        }
    }
}

/// The change of a weight.
pub const DELTA: Term = Term {
    name: "ΔW, the change of a weight",
    definition: "What fine-tuning adds to a frozen weight: the difference of a tuned and a base model, or what an \
                 adapter contributes.",
    formula: "ΔW = W_tuned − W_base   or   ΔW = s · B A",
    source: "LoRA, arXiv 2106.09685, §4.1",
};

/// The rank.
pub const RANK: Term = Term {
    name: "Rank r",
    definition: "How many independent directions the update may have: B is out × r, A is r × in. Every view follows it.",
    formula: "ΔW ≈ B A,   r (out + in) numbers instead of out · in",
    source: "LoRA, arXiv 2106.09685, §4.1",
};

/// α and the scaling.
pub const SCALING: Term = Term {
    name: "Scaling s",
    definition: "The factor on B A. With α/r the update shrinks as r grows; rsLoRA divides by √r instead, which keeps \
                 the size of the activations at every rank.",
    formula: "s = α / r   (LoRA)      s = α / √r   (rsLoRA)",
    source: "arXiv 2106.09685, §4.1; arXiv 2312.03732",
};

/// What is adapted.
pub const TARGETS: Term = Term {
    name: "Target modules",
    definition: "The linear layers that get an adapter. The paper adapts q and v; QLoRA found all linear layers \
                 necessary to match a full fine-tune.",
    formula: "",
    source: "arXiv 2106.09685, §7.1; arXiv 2305.14314, §4",
};

/// Singular values.
pub const SIGMA: Term = Term {
    name: "Singular values σ",
    definition: "The strength of each of ΔW's directions, largest first. The best rank-r approximation keeps the first \
                 r of them.",
    formula: "ΔW = Σ σᵢ uᵢ vᵢ*,   σ₁ ≥ σ₂ ≥ …",
    source: "Eckart & Young 1936",
};

/// Energy.
pub const ENERGY: Term = Term {
    name: "Energy E(r)",
    definition: "The share of ΔW's squared size that the first r directions carry.",
    formula: "E(r) = (σ₁² + … + σ_r²) / Σ σᵢ²",
    source: "Eckart & Young 1936",
};

/// Relative error.
pub const ERROR: Term = Term {
    name: "Relative error at rank r",
    definition: "What the best rank-r approximation misses, as a share of ΔW's size in the Frobenius norm.",
    formula: "‖ΔW − ΔW_r‖ / ‖ΔW‖ = √(1 − E(r))",
    source: "Eckart & Young 1936",
};

/// Frobenius norm.
pub const FROBENIUS: Term = Term {
    name: "Frobenius norm ‖ΔW‖",
    definition: "The root of the sum of all squared entries. It needs no SVD and is always exact here.",
    formula: "‖ΔW‖ = √(Σ ΔWᵢⱼ²) = √(Σ σᵢ²)",
    source: "",
};

/// The approximation.
pub const APPROXIMATION: Term = Term {
    name: "Rank-r approximation",
    definition: "The closest matrix of rank r to ΔW: its first r directions.",
    formula: "ΔW_r = σ₁ u₁ v₁* + … + σ_r u_r v_r*",
    source: "Eckart & Young 1936",
};

/// The residual.
pub const RESIDUAL: Term = Term {
    name: "Residual",
    definition: "What rank r cannot hold. Its size is the tail of the singular values.",
    formula: "ΔW − ΔW_r,   its ‖·‖² is the sum of σᵢ² beyond r",
    source: "Eckart & Young 1936",
};

/// Trainable parameters.
pub const TRAINABLE: Term = Term {
    name: "Trainable parameters",
    definition: "The numbers in A and B over all adapted layers.",
    formula: "Σ r (in + out)",
    source: "LoRA, arXiv 2106.09685, §4.2",
};

/// What a run needs.
pub const MEMORY: Term = Term {
    name: "Memory of a run",
    definition: "Frozen weights as they are kept, what is trained with its gradient and the optimizer's moments, what the \
                 blocks keep for the way back, a piece of logits, the largest weight widened to f32. Predicted by going \
                 through the buffers of one step; after a run the measured peak stands beside it.",
    formula: "weights + constants + trained · (1 + 1 + 2) · 4 bytes + activations + logits + workspace",
    source: "QLoRA, arXiv 2305.14314; this program's own engine",
};

/// Ranks under a budget.
pub const BUDGET: Term = Term {
    name: "Budget",
    definition: "So many trainable parameters for the whole model. The best set of ranks takes singular directions in the \
                 order of what they are worth for what they cost, until the budget is spent.",
    formula: "worth of direction i: σᵢ² / (d_in + d_out)",
    source: "greedy knapsack; exact where every module costs the same",
};

/// Gradients before training.
pub const PROBE: Term = Term {
    name: "Probe",
    definition: "The gradient of the frozen model on a few batches, module by module: its singular directions are those \
                 along which the first steps of LoRA move. It needs the memory of a QLoRA step and one block's gradient.",
    formula: "G = Σ dyᵗ x",
    source: "LoRA-GA, arXiv 2407.05000",
};

/// Data against capacity.
pub const CAPACITY: Term = Term {
    name: "Data against capacity",
    definition: "Trainable parameters beside the tokens that are predicted. Far more parameters than tokens can learn the \
                 data by heart; far fewer may not hold it.",
    formula: "trainable / predicted tokens",
    source: "",
};

/// φ.
pub const SIMILARITY: Term = Term {
    name: "Subspace similarity φ(i, j)",
    definition: "How much of the first i directions of one update lies in the first j of another: 1 where the smaller \
                 space is inside the larger one; two random ones have max(i, j) / dimensions.",
    formula: "φ(i, j) = ‖Uᵗ V‖² / min(i, j), U and V the first i and j directions of the two",
    source: "LoRA, arXiv 2106.09685, §7.2",
};

/// What ΔW amplifies.
pub const AMPLIFICATION: Term = Term {
    name: "Amplification factor",
    definition: "ΔW's size against what the weight has in ΔW's own directions: a large factor means that fine-tuning \
                 strengthens what the base had learned and hardly used.",
    formula: "‖ΔW‖ / ‖Uᵗ W V‖, U and V the top r singular vectors of ΔW",
    source: "LoRA, arXiv 2106.09685, §7.3",
};

/// Directions that were not there.
pub const INTRUDER: Term = Term {
    name: "Intruder dimension",
    definition: "A top singular vector of the tuned weight that is near to no singular vector of the base: LoRA makes them, \
                 full fine-tuning seldom does, and forgetting goes with them.",
    formula: "max over the base's vectors of |cosine| < ε = 0.5",
    source: "Shuttleworth et al. 2024, arXiv 2410.21228",
};

/// Loss.
pub const LOSS: Term = Term {
    name: "Loss",
    definition: "How surprised the model is by the next token, on average over the tokens that carry loss; e to its power is \
                 the perplexity. Held out: on rows that are not trained on.",
    formula: "−mean ln p(next token | tokens before)",
    source: "",
};

/// Learning rate.
pub const LEARNING_RATE: Term = Term {
    name: "Learning rate",
    definition: "How far a step goes: the factor on Adam's direction. It rises during the warm-up, then follows the schedule.",
    formula: "w ← w − lr · m̂ / (√v̂ + ε) − lr · decay · w",
    source: "AdamW, arXiv 1711.05101",
};

/// Gradient norm.
pub const GRADIENT: Term = Term {
    name: "Gradient norm",
    definition: "The length of the gradient over everything that is trained, before it is clipped. Peaks come from odd batches; \
                 a steady rise announces divergence.",
    formula: "√(Σ g²)",
    source: "",
};

/// Speed.
pub const SPEED: Term = Term {
    name: "Tokens a second",
    definition: "Tokens of a step, without padding, by the time of the step alone: evaluation, spectra and samples are not in it.",
    formula: "",
    source: "",
};

/// A token.
pub const TOKEN: Term = Term {
    name: "Token",
    definition: "A piece of text that has a number: a word, a part of one, a sign. A model reads numbers of tokens and \
                 predicts the next one. 100 tokens of English are about 75 words.",
    formula: "p(next token | all tokens before it)",
    source: "",
};

/// How tokens are drawn.
pub const TEMPERATURE: Term = Term {
    name: "Temperature",
    definition: "0 always takes the likeliest token: the same prompt gets the same answer. Above 0 the token is drawn, and \
                 the higher the temperature, the more often an unlikely one is.",
    formula: "p = softmax(logits / temperature)",
    source: "",
};

/// Memory of a run.
pub const HELD: Term = Term {
    name: "Memory of the run",
    definition: "Measured: the weights as they are kept, everything trained with its gradient and two moments, and the buffers at \
                 their most. The dashed line is what was predicted before the run.",
    formula: "weights + 16 bytes · trained + buffers",
    source: "",
};

/// Ranks over time.
pub const RANKS: Term = Term {
    name: "Effective and energy rank",
    definition: "Effective rank: how many directions ΔW seems to have when each counts by its strength. Energy rank: how many of \
                 the strongest hold that share of Σσ².",
    formula: "exp(−Σ q ln q), q = σ / Σσ;   smallest k with E(k) ≥ 90 %",
    source: "Roy & Vetterli 2007; Eckart & Young 1936",
};

/// Bits of a weight.
pub const BITS: Term = Term {
    name: "Bits per weight",
    definition: "Everything that is stored for a weight: its code, and its part of the scales, zero points and nested constants of its block.",
    formula: "NF4, block B: 4 + 32/B;   with double quantization 4 + 8/B + 32/(256 B)",
    source: "QLoRA, arXiv 2305.14314, §3",
};

/// The error of a weight.
pub const RELATIVE_RMSE: Term = Term {
    name: "Relative error",
    definition: "The size of the rounding error as a share of the size of the weight.",
    formula: "‖Ŵ − W‖ / ‖W‖ = √(Σ (ŵ − w)² / Σ w²)",
    source: "",
};

/// The size of the error.
pub const ERROR_NORM: Term = Term {
    name: "Size of the rounding error",
    definition: "The Frobenius norm of what rounding adds to a weight, to be laid beside that of ΔW.",
    formula: "‖Ŵ − W‖ = √(Σ (ŵ − w)²)",
    source: "",
};

/// Signal to quantization noise.
pub const SQNR: Term = Term {
    name: "Signal to quantization noise",
    definition: "The relative error on a logarithmic scale. One bit more is about 6 dB.",
    formula: "SQNR = 20 log₁₀ (‖W‖ / ‖Ŵ − W‖) dB",
    source: "",
};

/// The largest error.
pub const MAX_ERROR: Term = Term {
    name: "Largest error",
    definition: "The largest magnitude of an error, and the row and column where it is.",
    formula: "max |ŵ − w|",
    source: "",
};

/// Levels of a code.
pub const LEVELS: Term = Term {
    name: "Levels and thresholds",
    definition: "How the weights lie in the range of their blocks. A weight takes the level between whose thresholds (dashed) it lies; NF4's \
                 levels are dense where a normal distribution is.",
    formula: "ŵ = level[code] · absmax,   threshold = mean of two levels",
    source: "QLoRA, arXiv 2305.14314, §3",
};

/// The error inside of ΔW's directions.
pub const INSIDE: Term = Term {
    name: "Error within ΔW's directions",
    definition: "How much of the rounding error lies where ΔW's first r directions lie. Noise without a preference puts r² of out · in there.",
    formula: "‖Uᵗ (Ŵ − W) V‖² / ‖Ŵ − W‖²",
    source: "U, V: singular vectors of ΔW",
};

/// What survives a merge.
pub const SURVIVE: Term = Term {
    name: "What survives a merge",
    definition: "The adapter is merged and the sum rounded again. An entry moves when its code changes; what arrives is the part of ΔW that the \
                 rounded weights really moved by.",
    formula: "⟨q(W + ΔW) − q(W), ΔW⟩ / ‖ΔW‖²",
    source: "",
};

/// LoftQ.
pub const LOFTQ: Term = Term {
    name: "LoftQ",
    definition: "An adapter that begins with a repair of the rounding error, alternating between rounding and the best rank-r correction.",
    formula: "Q = q(W − B A),   B A = SVD_r(W − Q)",
    source: "arXiv 2310.08659",
};

/// QLoRA.
pub const QLORA: Term = Term {
    name: "QLoRA",
    definition: "The frozen base weight is kept in 4 bits and turned back as it is needed; the adapter's A and B are trained in 16 or 32 bits.",
    formula: "y = x q⁻¹(Wᵗ) + s x Aᵗ Bᵗ",
    source: "arXiv 2305.14314",
};
