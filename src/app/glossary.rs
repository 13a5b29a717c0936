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
    formula: "E(r) = Σ_{i≤r} σᵢ² / Σ σᵢ²",
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
    formula: "ΔW_r = Σ_{i≤r} σᵢ uᵢ vᵢ*",
    source: "Eckart & Young 1936",
};

/// The residual.
pub const RESIDUAL: Term = Term {
    name: "Residual",
    definition: "What rank r cannot say. Its size is the tail of the singular values.",
    formula: "ΔW − ΔW_r,   ‖·‖² = Σ_{i>r} σᵢ²",
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
    formula: "G = Σ dyᵀ x",
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
    formula: "φ(i, j) = ‖U_A[:, :i]ᵀ U_B[:, :j]‖_F² / min(i, j)",
    source: "LoRA, arXiv 2106.09685, §7.2",
};

/// What ΔW amplifies.
pub const AMPLIFICATION: Term = Term {
    name: "Amplification factor",
    definition: "ΔW's size against what the weight has in ΔW's own directions: a large factor means that fine-tuning \
                 strengthens what the base had learned and hardly used.",
    formula: "‖ΔW‖_F / ‖Uᵀ W V‖_F, U and V the top r singular vectors of ΔW",
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
