//! What a run will need, predicted from the buffers that it really keeps.

use super::{Method, Settings};
use crate::checkpoint::Checkpoint;
use crate::device::{self, Device};
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::model::gpu::{Kind, LOGITS, SCORES};
use crate::plan::{Layout, Selection, Targets};

/// Predicted bytes, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Frozen weights as they are kept.
    pub weights: u64,
    /// Everything trained, its gradient and two moments, in `f32`.
    pub trained: u64,
    /// What the blocks keep for the way back, and what one of them needs meanwhile.
    pub activations: u64,
    /// A piece of logits.
    pub logits: u64,
    /// The largest weight as `f32`, and the head's where it is not kept so.
    pub workspace: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.trained + self.activations + self.logits + self.workspace
    }
}

/// For sequences of up to `longest` tokens, on the processor.
///
/// # Errors
/// A model or targets that cannot be used.
pub fn predict(checkpoint: &Checkpoint, settings: &Settings, longest: usize) -> Result<Memory> {
    predict_for(checkpoint, settings, longest, None)
}

/// What a GPU's own system takes, with cuBLAS: about so much.
const CONTEXT: u64 = 600 << 20;

/// For sequences of up to `longest` tokens; with a kind, on a GPU that keeps weights and activations so.
///
/// # Errors
/// A model or targets that cannot be used.
pub fn predict_for(checkpoint: &Checkpoint, settings: &Settings, longest: usize, real: Option<Kind>) -> Result<Memory> {
    let config = ModelConfig::of(checkpoint)?;
    let layout = Layout::of(checkpoint)?;
    let elements = |linear: bool| -> u64 {
        layout.weights.iter().filter(|weight| weight.linear == linear).map(|weight| weight.parameters).sum()
    };
    let stored = |dtype: &str| if matches!(dtype, "F16" | "BF16") { 2 } else { 4 };
    let width = checkpoint.modules().iter().map(|module| stored(module.dtype.name())).min().unwrap_or(4);
    let width = real.map_or(width, |real| real.bytes() as u64);
    let (linear, other) = (elements(true), elements(false));
    let (weights, trainable) = match (settings.method, settings.scheme()) {
        (Method::Full, _) => (0, linear + other),
        (_, scheme) => {
            let targets: Targets = settings.targets.parse()?;
            let per_rank = Selection::new(&layout, &targets)?.per_rank;
            let linear_bytes = match scheme {
                None => linear * width,
                Some(scheme) => {
                    let constants = if scheme.double_quant { 1.0 + 4.0 / 256.0 } else { 4.0 };
                    linear / 2 + (linear as f64 * constants / scheme.blocksize as f64) as u64
                }
            };
            (linear_bytes + other * width, per_rank * settings.rank as u64)
        }
    };
    let tokens = (settings.batch * longest.min(settings.seq)) as u64;
    let (hidden, up) = (config.hidden as u64, config.up_width() as u64);
    let attention = (config.qkv_width() * if config.qk_norm { 2 } else { 1 } + config.attention_width()) as u64;
    let norms = if config.family.is_gemma() { 2 * hidden } else { 0 };
    // One block's tape: its input, the stream after attention, q, k, v, what was attended, gate and up.
    let tape = 2 * hidden + attention + up + norms;
    // Meanwhile, backward: gradients of the same, the MLP's inner values twice, and the heads' gradients apart.
    let meanwhile = 4 * hidden + up / 2 * 3 + 4 * config.attention_width() as u64;
    let blocks = config.blocks.len() as u64;
    let kept = if settings.checkpointing { blocks * hidden + tape } else { blocks * tape };
    let vocab = config.vocab as u64;
    let largest =
        layout.weights.iter().filter(|weight| weight.linear).map(|weight| weight.parameters).max().unwrap_or(0);
    let head = if settings.method != Method::Full && width == 2 { vocab * hidden } else { 0 };
    if let Some(real) = real {
        // Beside the tape: heads laid out, and their gradients in f32; scores and their gradients in pieces.
        let size = real.bytes() as u64;
        let laid_out = (config.qkv_width() + config.attention_width()) as u64;
        let kept = if settings.checkpointing { kept + laid_out } else { kept + blocks * laid_out };
        let scores = (tokens * longest.min(settings.seq) as u64 * config.heads as u64).min(SCORES as u64);
        let heads = 4 * config.qkv_width() as u64;
        return Ok(Memory {
            weights,
            // The values as they are multiplied stand beside those in f32.
            trained: trainable * if real == Kind::F32 { 16 } else { 16 + size },
            activations: tokens * (size * (kept + meanwhile) + heads) + scores * (8 + 2 * size),
            logits: (tokens * vocab).min((LOGITS as u64).max(vocab)) * (4 + size),
            workspace: size * largest + CONTEXT,
        });
    }
    Ok(Memory {
        weights,
        trained: 16 * trainable,
        activations: 4 * tokens * (kept + meanwhile),
        logits: 4 * (tokens * vocab).min((1 << 22).max(vocab)),
        workspace: 4 * (largest + head),
    })
}

/// Refuses a run that cannot fit into the machine's memory, unless forced.
///
/// # Errors
/// Bad input with the numbers and what would make it fit.
pub fn check(memory: &Memory, force: bool) -> Result<()> {
    check_in(memory, Device::cpu().memory, force)
}

/// The same, for the memory of whatever computes.
///
/// # Errors
/// As [`check`].
pub fn check_in(memory: &Memory, there: Option<device::Memory>, force: bool) -> Result<()> {
    let Some(free) = there.map(|memory| memory.free) else { return Ok(()) };
    if force || memory.total() <= free {
        return Ok(());
    }
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let largest = [
        (memory.weights, "--method qlora keeps the weights in 4 bits"),
        (memory.trained, "a smaller --rank or fewer --targets train less"),
        (memory.activations, "--checkpointing on, a smaller --batch or --seq keep less"),
    ];
    let advice = largest.iter().max_by_key(|(bytes, _)| *bytes).map_or("", |(_, advice)| advice);
    Err(Error::usage(format!(
        "the run needs about {:.1} GB (weights {:.1}, trained {:.1}, activations {:.1}), {:.1} GB are free; {advice}, --force tries all the same",
        gb(memory.total()),
        gb(memory.weights),
        gb(memory.trained),
        gb(memory.activations),
        gb(free)
    )))
}
