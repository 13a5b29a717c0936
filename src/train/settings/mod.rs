//! [`Settings`]: everything that decides a run, in one table.
//!
//! A setting is one entry of [`settings!`]: name, type, default, help (its documentation), control, range and the methods that
//! it has an effect on. The struct and `run.toml`, the flags and their help, the rows of the window and
//! [`Settings::check`] follow from it.

mod about;
mod value;

pub use crate::plan::Method;
pub use about::{About, Choice, Control, Group, Setting, Shown, Switch, Touches};
pub use value::Named;

use super::data::{Columns, DataOptions, HoldOut, LossOn};
use crate::device;
use crate::error::{Error, Result};
use crate::model::ComputeDtype;
use crate::quant::{Format, QuantType, Scheme};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use value::Value;

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
    /// A uniform in ±1/√in_features (Kaiming with a = √5, as in PEFT), B zero.
    #[default]
    Default,
    /// The largest directions of the base weight, of which the rest is frozen.
    Pissa,
    /// What 4 bits leave of the base weight, its largest directions.
    Loftq,
}

/// 4-bit type of the frozen weights under `qlora`.
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

/// Where the metrics of a run go beside its own files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportTo {
    /// Nowhere else.
    #[default]
    None,
    /// Event files in the run's folder.
    Tensorboard,
}

impl ReportTo {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// Declares [`Settings`], its defaults and the table [`SETTINGS`]. An entry is its documentation (the first line is the short
/// help, the rest the reason), name, field, type, default, what serde is to know, and an [`About`].
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:literal $([$($serde:tt)+])? $field:ident: $type:ty = $default:expr, $about:expr;)+) => {
        /// A run.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Settings {$(
            $(#[doc = $doc])+
            #[serde(rename = $name $(, $($serde)+)?)]
            pub $field: $type,
        )+}

        impl Default for Settings {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        /// Every setting, in the order of `run.toml`.
        pub static SETTINGS: &[Setting] = &[$(
            Setting {
                name: $name,
                docs: &[$($doc),+],
                about: $about,
                get: |settings| Value::get(&settings.$field),
                set: |settings, text| Value::parse(text).map(|value| settings.$field = value),
                number: |settings| Value::number(&settings.$field),
            },
        )+];
    };
}

/// Steps between two of something.
const fn every(label: &'static str) -> About {
    About::new(Group::Logging, label, Control::Whole("steps")).within(0.0, 1e9)
}

settings! {
    /// Base model: a folder as on the Hugging Face Hub, or a file of weights
    "model" model: PathBuf = PathBuf::new(),
        About::new(Group::Data, "Base model", Control::Path("MODEL")).positional().shown(Shown::Dial);

    /// Training data: JSON lines or array, CSV, TSV, Parquet or plain text; columns as TRL and LLaMA-Factory name them
    ///
    /// input_ids; text; prompt and completion; instruction, input and output; messages; conversations.
    "data" data: PathBuf = PathBuf::new(),
        About::new(Group::Data, "Data file", Control::Path("FILE")).shown(Shown::Custom);

    /// Held-out data for the evaluation loss
    ///
    /// Without it a share of the training rows is held out.
    "eval-data" [skip_serializing_if = "Option::is_none"] eval_data: Option<PathBuf> = None,
        About::new(Group::Data, "Held-out data", Control::Path("FILE"));

    /// Columns of the data whose names do not say what they are for: prompt=question,completion=answer
    ///
    /// Text, prompt, completion, instruction, input, output, messages, conversations, system and tools are known by their names.
    "columns" [skip_serializing_if = "Columns::is_empty"] columns: Columns = Columns::default(),
        About::new(Group::Data, "Columns", Control::Text("FOR=NAME,…")).shown(Shown::More);

    /// Chat template in place of the model's own: chatml, llama3, alpaca, plain, or a file
    ///
    /// A base that was never taught to chat has none.
    "chat-template" [skip_serializing_if = "Option::is_none"] chat_template: Option<String> = None,
        About::new(Group::Data, "Chat template", Control::Text("NAME|FILE")).shown(Shown::More);

    /// What is predicted of a conversation or a pair
    ///
    /// A model that is to answer learns answers, not questions.
    "loss-on" [skip_serializing_if = "LossOn::is_default"] loss_on: LossOn = LossOn::default(),
        About::new(Group::Data, "Loss on", Control::Choice(LossOn::choices)).shown(Shown::More);

    /// Share of the training rows that is held out where there is no file for that, such as 10%; 0 for none
    ///
    /// A tenth where the run is evaluated on its way. The seed decides which rows.
    "hold-out" [skip_serializing_if = "Option::is_none"] hold_out: Option<HoldOut> = None,
        About::new(Group::Data, "Hold out", Control::Text("SHARE")).shown(Shown::Custom);

    /// Folder of the run: run.toml, metrics.jsonl, checkpoints, the adapter
    "out" out: PathBuf = PathBuf::new(),
        About::new(Group::Data, "Name of the run", Control::Path("DIR")).shown(Shown::Custom);

    /// What is trained
    "method" method: Method = Method::default(),
        About::new(Group::Method, "Method", Control::Choice(Method::choices)).shown(Shown::Custom);

    /// LoRA rank r: A is [r, in_features], B is [out_features, r]
    ///
    /// 16 is enough for most tasks, and cheap to truncate later.
    "rank" rank: usize = 16,
        About::new(Group::Adapter, "Rank", Control::Whole("")).within(1.0, 1e6).touches(Touches::Adapter).shown(Shown::Dial);

    /// LoRA α: the update B·A is scaled by α/r; 2r by default
    ///
    /// r under LoftQ, whose A and B repair the rounding at a scaling of 1.
    "alpha" [skip_serializing_if = "Option::is_none"] alpha: Option<f64> = None,
        About::new(Group::Adapter, "α", Control::Real).above_zero().touches(Touches::Adapter).shown(Shown::Dial);

    /// Scale the update by α/√r instead of α/r (rank-stabilized LoRA)
    ///
    /// Keeps gradients of one size at large ranks.
    "rslora" rslora: bool = false,
        About::new(Group::Adapter, "rsLoRA", Control::Switch(Switch::Flag)).touches(Touches::Adapter).shown(Shown::Dial);

    /// Modules that get an adapter: names such as q_proj,v_proj, or attention, all-linear, or a /regex/
    ///
    /// All linear layers are QLoRA's choice.
    "targets" targets: String = "all-linear".to_owned(),
        About::new(Group::Adapter, "Targets", Control::Text("TARGETS")).touches(Touches::Adapter).shown(Shown::Dial);

    /// Dropout probability of the adapter's input (lora_dropout)
    ///
    /// Helps on small data: 0.05 to 0.1.
    "dropout" dropout: f64 = 0.0,
        About::new(Group::Adapter, "Dropout", Control::Real).below_one().touches(Touches::Adapter).shown(Shown::More);

    /// Train a magnitude for every row of the weight as well (DoRA, use_dora)
    ///
    /// Closer to full fine-tuning at small ranks; a step takes longer.
    "dora" [skip_serializing_if = "std::ops::Not::not"] dora: bool = false,
        About::new(Group::Adapter, "DoRA", Control::Switch(Switch::Flag)).touches(Touches::Adapter).shown(Shown::More);

    /// Ranks of some modules by PEFT's rank_pattern: a JSON file of patterns and ranks
    ///
    /// Modules that match no pattern get the rank of the run.
    "rank-pattern" [skip_serializing_if = "BTreeMap::is_empty"] rank_pattern: BTreeMap<String, usize> = BTreeMap::new(),
        About::new(Group::Adapter, "Rank pattern", Control::Patterns).touches(Touches::Adapter).shown(Shown::More);

    /// Initial A and B (init_lora_weights)
    "init" init: Init = Init::default(),
        About::new(Group::Adapter, "Initial A and B", Control::Choice(Init::choices)).touches(Touches::Adapter).shown(Shown::More);

    /// LoftQ iterations: how often it quantizes and repairs in turn
    ///
    /// One, as in PEFT.
    "loftq-iterations" [skip_serializing_if = "is_one"] loftq_iterations: usize = 1,
        About::new(Group::Adapter, "LoftQ iterations", Control::Whole("")).within(1.0, 100.0).touches(Touches::Adapter).shown(Shown::More);

    /// Begin with A and B of this adapter
    ///
    /// Its ranks and targets then count.
    "init-adapter" [skip_serializing_if = "Option::is_none"] init_adapter: Option<PathBuf> = None,
        About::new(Group::Adapter, "Initial adapter", Control::Path("DIR")).touches(Touches::Adapter).shown(Shown::More);

    /// Peak learning rate
    ///
    /// 2e-4 is QLoRA's for 7B; a small model takes ten times as much.
    "lr" lr: f64 = 2e-4,
        About::new(Group::Rate, "Peak", Control::Exponent).above_zero();

    /// Learning rate after the warm-up
    "schedule" schedule: Schedule = Schedule::default(),
        About::new(Group::Rate, "Schedule", Control::Choice(Schedule::choices));

    /// Warm-up steps, in which the learning rate rises linearly to its peak
    ///
    /// Adam's moments are empty at first.
    "warmup" warmup: usize = 0,
        About::new(Group::Rate, "Warm-up", Control::Whole("steps")).within(0.0, 1e9);

    /// AdamW weight decay, decoupled
    ///
    /// Pulls weights towards zero a little each step; 0.01 is torch's default.
    "weight-decay" weight_decay: f64 = 0.01,
        About::new(Group::Optimizer, "Weight decay", Control::Real).not_negative().shown(Shown::More);

    /// AdamW β₁: decay rate of the first moment
    ///
    /// How long Adam remembers gradients.
    "beta1" beta1: f64 = 0.9,
        About::new(Group::Optimizer, "β₁", Control::Real).below_one().shown(Shown::More);

    /// AdamW β₂: decay rate of the second moment
    ///
    /// How long Adam remembers squares of gradients; 0.95 for short runs.
    "beta2" beta2: f64 = 0.999,
        About::new(Group::Optimizer, "β₂", Control::Real).below_one().shown(Shown::More);

    /// AdamW ε: added to the square root of the second moment
    ///
    /// Keeps Adam's division finite.
    "eps" eps: f64 = 1e-8,
        About::new(Group::Optimizer, "ε", Control::Exponent).above_zero().shown(Shown::More);

    /// Clip the gradient to this global norm; 0 for never
    ///
    /// One bad batch does no harm. QLoRA uses 0.3.
    "max-grad-norm" max_grad_norm: f64 = 1.0,
        About::new(Group::Optimizer, "Clip gradient", Control::Real).not_negative().shown(Shown::More);

    /// Sequences of a micro-batch
    ///
    /// More rows at once: a smoother gradient for more memory.
    "batch" batch: usize = 4,
        About::new(Group::Length, "Batch", Control::Whole("rows")).within(1.0, 65_536.0);

    /// Micro-batches of an optimizer step (gradient accumulation)
    ///
    /// A larger batch without its memory.
    "accumulate" accumulate: usize = 1,
        About::new(Group::Length, "Accumulate", Control::Whole("")).within(1.0, 65_536.0);

    /// Longest sequence in tokens
    ///
    /// Longer rows are truncated.
    "seq" seq: usize = 512,
        About::new(Group::Length, "Sequence", Control::Whole("tokens")).within(2.0, 1_048_576.0);

    /// Pack several rows into a sequence, without attention from one to another
    ///
    /// Less padding where rows are short.
    "packing" [skip_serializing_if = "std::ops::Not::not"] packing: bool = false,
        About::new(Group::Length, "Packing", Control::Switch(Switch::Flag)).shown(Shown::More);

    /// Optimizer steps
    ///
    /// One to three epochs is usual; more makes the model repeat its rows.
    "steps" [skip_serializing_if = "Option::is_none"] steps: Option<usize> = None,
        About::new(Group::Length, "Length", Control::Whole("steps")).within(1.0, 1e9).shown(Shown::Custom);

    /// Passes over the training data, where no steps are given
    ///
    /// One to three is usual; more makes the model repeat its rows.
    "epochs" epochs: f64 = 1.0,
        About::new(Group::Length, "Length", Control::Real).above_zero().shown(Shown::Custom);

    /// Seed of A, of the order of rows and of dropout
    ///
    /// The same seed gives the same run.
    "seed" seed: u64 = 0,
        About::new(Group::Length, "Seed", Control::Whole("")).shown(Shown::More);

    /// Seed of which rows are held out where no file is given; that of the run by default
    ///
    /// Runs that differ in their seed alone are judged on the same rows.
    "split-seed" [skip_serializing_if = "Option::is_none"] split_seed: Option<u64> = None,
        About::new(Group::Length, "Seed of the held-out rows", Control::Whole("")).shown(Shown::More);

    /// A new order of the rows in every epoch
    "shuffle" shuffle: bool = true,
        About::new(Group::Length, "Shuffle", Control::Switch(Switch::No("Keep the rows in the order of the file"))).flag("no-shuffle").shown(Shown::More);

    /// Steps between evaluations on the held-out rows; 0 for one at the end
    ///
    /// A loss that only falls on training rows is memory, not learning.
    "eval-every" eval_every: usize = 0, every("Evaluate every");

    /// Stop when the held-out loss has not fallen for this many evaluations; 0 for never
    ///
    /// From there on it only gets worse on held-out rows.
    "patience" [skip_serializing_if = "is_zero"] patience: usize = 0,
        About::new(Group::Logging, "Patience", Control::Whole("evaluations")).within(0.0, 1e6);

    /// The result is the checkpoint with the lowest held-out loss, not the last step
    ///
    /// A run that is too long ends worse than its best point.
    "keep-best" [skip_serializing_if = "std::ops::Not::not"] keep_best: bool = false,
        About::new(Group::Logging, "Keep the best", Control::Switch(Switch::Flag));

    /// Text of the base's own kind: its loss before the run and after says what is forgotten
    "forget-data" [skip_serializing_if = "Option::is_none"] forget_data: Option<PathBuf> = None,
        About::new(Group::Data, "Forgetting is measured on", Control::Path("FILE")).shown(Shown::More);

    /// Steps between checkpoints; 0 for none
    ///
    /// What a power cut costs at most; a stop saves one anyway.
    "save-every" save_every: usize = 100, every("Checkpoint every").logging();

    /// Steps between singular values of ΔW in film.jsonl; 0 for none
    ///
    /// Singular values of ΔW under the loss; a few milliseconds each.
    "film-every" film_every: usize = 10, every("Film every").logging();

    /// A prompt that the model continues before and after the run; may be repeated
    ///
    /// What the model writes, before the run and after.
    "prompts" [skip_serializing_if = "Vec::is_empty"] prompts: Vec<String> = Vec::new(),
        About::new(Group::Logging, "Sample prompts", Control::Lines("TEXT")).flag("prompt").logging();

    /// Steps between such samples during the run; 0 for none
    "sample-every" sample_every: usize = 0, every("Sample every").logging();

    /// Where metrics go beside metrics.jsonl: tensorboard writes event files into the run's folder
    ///
    /// tensorboard --logdir shows them beside other runs; wandb sync and Trackio read event files too.
    "report-to" [skip_serializing_if = "ReportTo::is_none"] report_to: ReportTo = ReportTo::default(),
        About::new(Group::Logging, "Report to", Control::Choice(ReportTo::choices)).logging().shown(Shown::More);

    /// 4-bit type of the frozen weights under qlora
    "quant" quant: Quant = Quant::default(),
        About::new(Group::Quantization, "4-bit type", Control::Choice(Quant::choices)).touches(Touches::FourBit);

    /// Weights that share a quantization scale (block size)
    ///
    /// 64 is QLoRA's; larger ones save memory and lose precision.
    "block" block: usize = 64,
        About::new(Group::Quantization, "Block", Control::Sizes(&Format::BLOCKS)).within(2.0, 1_048_576.0).touches(Touches::FourBit).shown(Shown::More);

    /// Quantize the scales to 8 bits as well (double quantization)
    ///
    /// Saves 0.37 bit a weight.
    "double-quant" double_quant: bool = true,
        About::new(Group::Quantization, "Double quantization", Control::Switch(Switch::OnOff)).touches(Touches::FourBit).shown(Shown::More);

    /// Gradient checkpointing: keep only the inputs of blocks and compute the rest again
    ///
    /// A third more time for much less memory.
    "checkpointing" checkpointing: bool = false,
        About::new(Group::Method, "Checkpointing", Control::Switch(Switch::OnOff)).shown(Shown::More);

    /// Data type of weights and activations on a GPU; bf16 by default
    ///
    /// What is trained is kept in 32 bits. The processor computes in f32; asked for bf16, it rounds the factors of large products (AVX512-BF16 or AMX).
    "dtype" [skip_serializing_if = "Option::is_none"] dtype: Option<ComputeDtype> = None,
        About::new(Group::Method, "Precision", Control::Choice(ComputeDtype::choices)).shown(Shown::Custom);

    /// Compute threads; all cores by default
    ///
    /// Part of the run: how work is divided decides how sums are rounded, and a resumed run computes on as many as before.
    "threads" [skip_serializing_if = "Option::is_none"] threads: Option<usize> = None,
        About::new(Group::Method, "Threads", Control::Whole("")).within(1.0, 4096.0).global().shown(Shown::More);

    /// Where to compute: auto, cpu, cuda:N, vulkan:N, metal:N or dx12:N
    "device" [skip] device: device::Choice = device::Choice::Auto,
        About::new(Group::Method, "Device", Control::Text("DEVICE")).global().shown(Shown::Custom);
}

/// So that runs of before can be resumed.
fn is_one(count: &usize) -> bool {
    *count == 1
}

/// The same.
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Settings {
    /// How the data are read.
    pub fn data_options(&self) -> DataOptions {
        DataOptions { columns: self.columns.clone(), chat_template: self.chat_template.clone(), loss_on: self.loss_on }
    }

    /// The share of the training rows that is held out.
    pub fn held_out(&self) -> HoldOut {
        let evaluates = self.eval_every > 0;
        self.hold_out.unwrap_or(if evaluates { HoldOut::TENTH } else { HoldOut::NONE })
    }

    /// Whether a run that is resumed may have another value of the setting of this name.
    pub fn is_logging(name: &str) -> bool {
        SETTINGS.iter().any(|setting| setting.name == name && setting.about.logging)
    }

    /// Finds values that cannot be.
    ///
    /// # Errors
    /// Bad input that names the setting, what it is and what is allowed.
    pub fn check(&self) -> Result<()> {
        for setting in SETTINGS {
            setting.check(self).map_err(Error::usage)?;
        }
        if self.scheme().is_some_and(|scheme| !scheme.blocksize.is_multiple_of(2)) {
            return Err(Error::usage(format!("block {}; expected an even number of weights, as 64", self.block)));
        }
        if self.init != Init::Default {
            let init = self.init.choice().name;
            if self.method == Method::Full || self.init == Init::Loftq && self.scheme().is_none() {
                let with = if self.init == Init::Pissa { "lora or qlora" } else { "qlora" };
                return Err(Error::usage(format!("init {init} goes with method {with}")));
            }
            if self.init_adapter.is_some() {
                return Err(Error::usage(format!("init {init} and init-adapter both give the first A and B")));
            }
        }
        // Without evaluations on the way there is nothing to choose by.
        if self.eval_every == 0 && (self.patience > 0 || self.keep_best) {
            let name = if self.patience > 0 { "patience" } else { "keep-best" };
            return Err(Error::usage(format!("{name} looks at evaluations on the way; expected eval-every above 0")));
        }
        if self.dora && (self.method == Method::Full || self.init != Init::Default) {
            return Err(Error::usage("dora goes with method lora or qlora and with init default"));
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

    /// Optimizer steps in all, for so many rows.
    pub fn steps_for(&self, rows: usize) -> usize {
        let each = (self.batch * self.accumulate).max(1);
        self.steps.unwrap_or_else(|| ((rows as f64 * self.epochs) / each as f64).ceil().max(1.0) as usize)
    }

    /// How frozen weights are quantized, if they are.
    pub fn scheme(&self) -> Option<Scheme> {
        let quant_type = match (self.method, self.quant) {
            (Method::Qlora, Quant::Nf4) => QuantType::Nf4,
            (Method::Qlora, Quant::Fp4) => QuantType::Fp4,
            (Method::Qlora, Quant::None) | (Method::Lora | Method::Full, _) => return None,
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
mod tests;
