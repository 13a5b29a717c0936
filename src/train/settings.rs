//! [`Settings`]: everything that decides a run, by the names of the command line and of `run.toml`.

use crate::device::Choice;
use crate::error::{Error, Result};
use crate::model::gpu::Kind;
pub use crate::plan::Method;
use crate::quant::{QuantType, Scheme};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How the learning rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Half a cosine, to 0 at the last step.
    #[default]
    Cosine,
    /// A line, to 0 at the last step.
    Linear,
    /// As it is.
    Constant,
}

/// The first A and B.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// A uniform in ±1/√in (Kaiming with a = √5, as in PEFT), B zero.
    #[default]
    Default,
    /// The largest directions of the base weight, of which the rest is frozen.
    Pissa,
    /// What 4 bits leave of the base weight, its largest directions.
    Loftq,
}

/// Levels of the frozen weights under `qlora`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quant {
    /// NF4.
    #[default]
    Nf4,
    /// FP4.
    Fp4,
    /// As stored: plain LoRA.
    None,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The base model.
    pub model: PathBuf,
    /// The training data.
    pub data: PathBuf,
    /// Held-out data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_data: Option<PathBuf>,
    /// Where the run is written.
    pub out: PathBuf,
    /// What is trained.
    pub method: Method,
    /// r: 16 is enough for most tasks, and cheap to truncate later.
    pub rank: usize,
    /// α: `2 r` when it is not given; `r` for LoftQ, whose pairs repair the rounding at a scaling of 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// α/√r instead of α/r.
    pub rslora: bool,
    /// Modules that get a pair; all linear ones is QLoRA's choice.
    pub targets: String,
    /// Of the pairs' input.
    pub dropout: f64,
    /// A magnitude for every row beside the pair (DoRA).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dora: bool,
    /// Ranks of some modules, by PEFT's patterns.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rank_pattern: BTreeMap<String, usize>,
    /// The first A and B.
    pub init: Init,
    /// How often LoftQ quantizes and repairs in turn: once, as PEFT.
    #[serde(skip_serializing_if = "is_one")]
    pub loftq_iterations: usize,
    /// Or those of an adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_adapter: Option<PathBuf>,
    /// Peak learning rate: 2e-4 is QLoRA's.
    pub lr: f64,
    /// After the warm-up.
    pub schedule: Schedule,
    /// Steps over which the learning rate rises.
    pub warmup: usize,
    /// Decoupled.
    pub weight_decay: f64,
    /// Of the mean of gradients.
    pub beta1: f64,
    /// Of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of the latter.
    pub eps: f64,
    /// The global norm to which gradients are scaled down; 0 for never.
    pub max_grad_norm: f64,
    /// Sequences of a micro-batch.
    pub batch: usize,
    /// Micro-batches of a step.
    pub accumulate: usize,
    /// Longest sequence in tokens.
    pub seq: usize,
    /// Several rows in a sequence, apart from each other: less padding where rows are short.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub packing: bool,
    /// Steps; or see `epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Passes over the data, where no steps are given.
    pub epochs: f64,
    /// Of A, of the order of rows, of dropout.
    pub seed: u64,
    /// Rows in a new order every epoch.
    pub shuffle: bool,
    /// Steps between evaluations; 0 for one at the end.
    pub eval_every: usize,
    /// Steps between checkpoints; 0 for none.
    pub save_every: usize,
    /// Steps between spectra of ΔW; 0 for none.
    pub film_every: usize,
    /// Texts that the model goes on with before and after the run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<String>,
    /// And every so many steps between; 0 for never.
    pub sample_every: usize,
    /// Levels of the frozen weights.
    pub quant: Quant,
    /// Weights that share a scale.
    pub block: usize,
    /// Scales in 8 bits.
    pub double_quant: bool,
    /// Keep only the blocks' inputs and compute the rest again.
    pub checkpointing: bool,
    /// What a GPU keeps weights and activations as: bf16 if nothing is said. The processor computes in f32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Kind>,
    /// Where to compute. No part of what a run is: it may go on elsewhere.
    #[serde(skip)]
    pub device: Choice,
}

/// So that runs of before can be resumed.
fn is_one(count: &usize) -> bool {
    *count == 1
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: PathBuf::new(),
            data: PathBuf::new(),
            eval_data: None,
            out: PathBuf::new(),
            method: Method::default(),
            rank: 16,
            alpha: None,
            rslora: false,
            targets: "all-linear".to_owned(),
            dropout: 0.0,
            dora: false,
            rank_pattern: BTreeMap::new(),
            init: Init::default(),
            loftq_iterations: 1,
            init_adapter: None,
            lr: 2e-4,
            schedule: Schedule::default(),
            warmup: 0,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            max_grad_norm: 1.0,
            batch: 4,
            accumulate: 1,
            seq: 512,
            packing: false,
            steps: None,
            epochs: 1.0,
            seed: 0,
            shuffle: true,
            eval_every: 0,
            save_every: 100,
            film_every: 10,
            prompts: Vec::new(),
            sample_every: 0,
            quant: Quant::default(),
            block: 64,
            double_quant: true,
            checkpointing: false,
            dtype: None,
            device: Choice::Auto,
        }
    }
}

impl Settings {
    /// Settings that only say what is looked at: a run that goes on may have others.
    pub const WATCHING: [&str; 4] = ["film-every", "prompts", "sample-every", "save-every"];

    /// Finds values that cannot be.
    ///
    /// # Errors
    /// Bad input that names the setting, what it is and what is allowed.
    pub fn check(&self) -> Result<()> {
        let at_least_one = [("rank", self.rank), ("batch", self.batch), ("accumulate", self.accumulate)];
        for (name, value) in at_least_one {
            if value == 0 {
                return Err(Error::usage(format!("{name} 0; expected 1 or more")));
            }
        }
        if self.seq < 2 {
            return Err(Error::usage(format!(
                "seq {}; expected 2 or more: a token is predicted from those before it",
                self.seq
            )));
        }
        let between = |name: &str, value: f64, low: f64, below: f64| {
            if (low..below).contains(&value) {
                Ok(())
            } else {
                Err(Error::usage(format!("{name} {value}; expected a number from {low} and below {below}")))
            }
        };
        if self.init != Init::Default {
            let init = if self.init == Init::Pissa { "pissa" } else { "loftq" };
            if self.method == Method::Full || self.init == Init::Loftq && self.scheme().is_none() {
                let with = if self.init == Init::Pissa { "lora or qlora" } else { "qlora" };
                return Err(Error::usage(format!("init {init} goes with method {with}")));
            }
            if self.init_adapter.is_some() {
                return Err(Error::usage(format!("init {init} and init-adapter both give the first A and B")));
            }
        }
        if self.dora && (self.method == Method::Full || self.init != Init::Default) {
            return Err(Error::usage("dora goes with method lora or qlora and with init default"));
        }
        if self.loftq_iterations == 0 {
            return Err(Error::usage("loftq-iterations 0; expected 1 or more"));
        }
        between("dropout", self.dropout, 0.0, 1.0)?;
        between("beta1", self.beta1, 0.0, 1.0)?;
        between("beta2", self.beta2, 0.0, 1.0)?;
        for (name, value) in [("lr", self.lr), ("eps", self.eps), ("epochs", self.epochs), ("alpha", self.alpha())] {
            if !(value.is_finite() && value > 0.0) {
                return Err(Error::usage(format!("{name} {value}; expected a number above 0")));
            }
        }
        for (name, value) in [("weight-decay", self.weight_decay), ("max-grad-norm", self.max_grad_norm)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::usage(format!("{name} {value}; expected 0 or more")));
            }
        }
        Ok(())
    }

    /// α.
    pub fn alpha(&self) -> f64 {
        let times = if self.init == Init::Loftq { 1.0 } else { 2.0 };
        self.alpha.unwrap_or(times * self.rank as f64)
    }

    /// Whether the frozen weights differ from the base's, so that the adapter is written as the difference from its
    /// beginning, of rank 2r, which fits the base as it is.
    pub fn mutates_base(&self) -> bool {
        match self.init {
            Init::Default => false,
            Init::Pissa => true,
            Init::Loftq => self.loftq_iterations > 1,
        }
    }

    /// How frozen weights are quantized, if they are.
    pub fn scheme(&self) -> Option<Scheme> {
        let quant_type = match (self.method, self.quant) {
            (Method::Qlora, Quant::Nf4) => QuantType::Nf4,
            (Method::Qlora, Quant::Fp4) => QuantType::Fp4,
            _ => return None,
        };
        Some(Scheme { quant_type, blocksize: self.block, double_quant: self.double_quant })
    }

    /// The learning rate of step `step` (from 0) of `steps`: `lr · (step + 1) / warmup` at first, then the schedule.
    pub fn lr_at(&self, step: usize, steps: usize) -> f64 {
        if step < self.warmup {
            return self.lr * (step + 1) as f64 / self.warmup as f64;
        }
        let done = (step - self.warmup) as f64 / steps.saturating_sub(self.warmup).max(1) as f64;
        match self.schedule {
            Schedule::Cosine => self.lr * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Schedule::Linear => self.lr * (1.0 - done),
            Schedule::Constant => self.lr,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_toml_holds_everything() {
        let settings = Settings { steps: Some(30), warmup: 5, alpha: Some(16.0), ..Settings::default() };
        let text = toml::to_string(&settings).unwrap();
        assert_eq!(toml::from_str::<Settings>(&text).unwrap(), settings);
        assert!(toml::from_str::<Settings>("rang = 3").unwrap_err().to_string().contains("rang"));
    }

    #[test]
    fn nonsense_is_named() {
        let sentence = |settings: Settings| settings.check().unwrap_err().to_string();
        assert_eq!(sentence(Settings { batch: 0, ..Settings::default() }), "batch 0; expected 1 or more");
        assert!(sentence(Settings { lr: f64::NAN, ..Settings::default() }).starts_with("lr NaN"));
        assert!(sentence(Settings { dropout: 1.0, ..Settings::default() }).starts_with("dropout 1"));
        assert!(Settings::default().check().is_ok());
    }

    #[test]
    fn the_rate_falls_to_zero() {
        let settings = Settings { lr: 1.0, warmup: 4, ..Settings::default() };
        assert_eq!(settings.lr_at(0, 12), 0.25);
        assert_eq!(settings.lr_at(4, 12), 1.0);
        assert!((settings.lr_at(8, 12) - 0.5).abs() < 1e-12);
        assert_eq!(Settings { schedule: Schedule::Linear, ..settings }.lr_at(8, 12), 0.5);
    }
}
