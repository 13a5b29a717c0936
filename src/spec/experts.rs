//! [`ExpertsSpec`]: a router, the experts that it chooses from, and what every token goes through beside them.

use super::{MlpSpec, ModuleSpec, NormSpec, PeftExperts};

/// A router and the experts that it chooses from.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertsSpec {
    /// Logits of experts, `[count, hidden]`.
    pub router: ModuleSpec,
    /// How they become choices and weights.
    pub routing: Routing,
    /// How many there are.
    pub count: usize,
    /// How many a token goes through.
    pub chosen: usize,
    /// One of them; [`ModuleSpec::copies`] says that its modules are there for each.
    pub mlp: MlpSpec,
    /// An expert that every token goes through.
    pub shared: Option<SharedSpec>,
    /// Router and experts read the stream themselves, beside what every token goes through (Gemma 4).
    pub norms: Option<ExpertNorms>,
    /// What PEFT knows them by.
    pub peft: PeftExperts,
}

/// Norms of a mixture beside an MLP, which alone reads what comes out of [`BlockSpec::norm_ffn`](super::BlockSpec::norm_ffn):
///
/// ```text
/// logits = router(norm_router(x))      y = norm_shared(mlp(h)) + norm_output(Σ w · expert(norm_input(x)))
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertNorms {
    /// Of what the router reads.
    pub router: NormSpec,
    /// Of what the experts read.
    pub input: NormSpec,
    /// Of what the experts give together.
    pub output: NormSpec,
    /// Of what the MLP gives.
    pub shared: NormSpec,
}

impl ExpertNorms {
    pub(super) fn all(&self) -> [&NormSpec; 4] {
        [&self.router, &self.input, &self.output, &self.shared]
    }
}

impl ExpertsSpec {
    /// The name of gate and up of expert `number` in one, where a file has them apart.
    pub fn fused(&self, number: usize) -> String {
        let name = self.mlp.up.first().map_or_else(String::new, |part| part.module.expert(number));
        let (module, _) = name.rsplit_once('.').unwrap_or_default();
        format!("{module}.gate_up_proj")
    }
}

/// How a router's logits become scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scores {
    /// Over all experts.
    Softmax,
    /// Of each.
    Sigmoid,
    /// One choice after the other, each by a softmax over what is left and not far below the best, as Phi-3.5-MoE computes it
    /// without noise (arXiv 2409.12136).
    Mixer {
        /// How far below counts as far.
        jitter: f32,
    },
}

/// How experts are chosen and weighed; see the operations for the formulas.
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    /// Scores of experts.
    pub scores: Scores,
    /// The checkpoint's name of what is added to scores for the choice alone, `[count]`.
    pub bias: Option<String>,
    /// The checkpoint's name of what each expert's weight is multiplied by, `[count]`, after everything else (Gemma 4).
    pub scales: Option<String>,
    /// Groups of neighbouring experts; 1 for none.
    pub groups: usize,
    /// How many groups may be chosen from.
    pub chosen_groups: usize,
    /// A group is as good as so many of its best together.
    pub group_by: usize,
    /// Weights are divided by their sum, or by this where that is more.
    pub floor: Option<f32>,
    /// Multiplies weights.
    pub scale: f32,
    /// Weights multiply what the experts read, not what they give (Llama 4).
    pub on_input: bool,
}

/// An expert that every token goes through.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedSpec {
    /// The expert.
    pub mlp: MlpSpec,
    /// `[1, hidden]`: its output is multiplied by the sigmoid of this.
    pub gate: Option<ModuleSpec>,
}
