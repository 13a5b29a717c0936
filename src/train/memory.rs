//! What a run will need, what it did need, and the two side by side in the run's folder.

use super::run_folder::MEMORY;
use super::store::write_whole;
use super::{Method, Settings, lora};
use crate::adapter::Adapter;
use crate::checkpoint::Checkpoint;
use crate::device::{self, Device};
use crate::error::{Error, Result};
use crate::model::gpu::Formats;
pub use crate::plan::memory::{CONTEXT, Memory, context};
use crate::plan::memory::{Load, Optimizer, Place, Precision};
use crate::plan::{Layout, Pairs, memory};
use crate::units;
use serde_json::{Value, json};
use std::path::Path;

/// What `settings` load the memory with, for sequences of up to `longest` tokens.
pub fn load(settings: &Settings, longest: usize) -> Load {
    Load {
        method: settings.method,
        batch: settings.batch,
        seq: longest.min(settings.seq).max(1),
        checkpointing: settings.checkpointing,
        optimizer: Optimizer::AdamW,
        scheme: settings.scheme().unwrap_or_default(),
        precision: Precision::F32,
        dropout: settings.dropout > 0.0,
        threads: rayon::current_num_threads(),
        process: device::resident().unwrap_or(memory::PROCESS),
        place: Place::Processor,
        dora: settings.dora,
    }
}

/// The run of `settings` for sequences of up to `longest` tokens; the program is counted as large as it is now.
///
/// # Errors
/// A model or targets that cannot be used.
pub fn predict(checkpoint: &Checkpoint, settings: &Settings, longest: usize) -> Result<Memory> {
    predict_for(checkpoint, settings, longest, None)
}

/// What a run trains and loads the memory with.
///
/// # Errors
/// A model or targets that cannot be used.
pub fn planned(checkpoint: &Checkpoint, settings: &Settings, longest: usize) -> Result<(Layout, Pairs, Load)> {
    let layout = Layout::of(checkpoint)?;
    let mut load = load(settings, longest);
    // Without levels the weights stay as they are stored.
    if settings.method == Method::Qlora && settings.scheme().is_none() {
        load.method = Method::Lora;
    }
    let pairs = match settings.method {
        Method::Full => Pairs::default(),
        _ => lora::pairs(&layout, settings)?,
    };
    if let Some(path) = &settings.init_adapter {
        load.dora = Adapter::open(path)?.config.use_dora;
    }
    Ok((layout, pairs, load))
}

/// As [`predict`]; with formats, of the memory of a GPU that keeps numbers so.
///
/// # Errors
/// A model or targets that cannot be used.
pub fn predict_for(
    checkpoint: &Checkpoint,
    settings: &Settings,
    longest: usize,
    gpu: Option<Formats>,
) -> Result<Memory> {
    let (layout, pairs, mut load) = planned(checkpoint, settings, longest)?;
    if let Some(formats) = gpu {
        load = Load { process: context(&formats), place: Place::Gpu(formats), ..load };
    }
    let mut memory = memory::predict(&layout, &pairs, &load)?;
    // The first values are kept beside the trained ones; on a GPU the processor keeps them.
    if settings.mutates_base() && gpu.is_none() {
        memory.adapters *= 2;
    }
    Ok(memory)
}

/// Refuses a run that cannot fit, unless forced.
///
/// # Errors
/// Bad input with the numbers and what would make it fit.
pub fn check(memory: &Memory, force: bool) -> Result<()> {
    // The program is there already.
    check_in(memory, Device::cpu().memory, device::resident().unwrap_or(0), force)
}

/// The same for the memory of whatever computes, of which `already` bytes are had.
///
/// # Errors
/// As [`check`].
pub fn check_in(memory: &Memory, there: Option<device::Memory>, already: u64, force: bool) -> Result<()> {
    let Some(free) = there.map(|memory| memory.free) else { return Ok(()) };
    let need = memory.total().saturating_sub(already);
    if force || need <= free {
        return Ok(());
    }
    let weights = memory.weights + memory.constants;
    let largest = [
        (weights, "--method qlora keeps the weights in 4 bits"),
        (memory.trained(), "a smaller --rank or fewer --targets train less"),
        (memory.activations, "--checkpointing on, a smaller --batch or --seq keep less"),
    ];
    let advice = largest.iter().max_by_key(|(bytes, _)| *bytes).map_or("", |(_, advice)| advice);
    Err(Error::usage(format!(
        "the run needs about {} of memory (weights {}, trained {}, activations {}), {} are free; {advice}, --force tries all the same",
        units::bytes(need),
        units::bytes(weights),
        units::bytes(memory.trained()),
        units::bytes(memory.activations),
        units::bytes(free)
    )))
}

/// What was predicted for a run and what it needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Before the first step.
    pub predicted: Memory,
    /// The most that the process had from then on, where the system tells.
    pub measured: Option<u64>,
    /// Buffers of the passes that were kept in the end: what activations, logits and workspace stand for.
    pub buffers: u64,
}

impl Record {
    /// `predicted / measured − 1`.
    pub fn error(&self) -> Option<f64> {
        let measured = self.measured.filter(|&measured| measured > 0)?;
        Some(self.predicted.total() as f64 / measured as f64 - 1.0)
    }

    /// Writes it into a run's folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let parts: serde_json::Map<String, Value> =
            self.predicted.parts().iter().map(|part| (part.name.to_owned(), json!(part.bytes))).collect();
        let document = json!({
            "predicted": {"total": self.predicted.total(), "parts": parts},
            "measured": self.measured,
            "buffers": self.buffers,
            "error": self.error(),
        });
        write_whole(&folder.join(MEMORY), format!("{document:#}\n").as_bytes())
    }

    /// The record of a finished run; `None` where there is none, as in older runs.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(MEMORY);
        if !path.exists() {
            return Ok(None);
        }
        let json = crate::checkpoint::json::object(&path)?;
        let part = |name: &str| json["predicted"]["parts"][name].as_u64().unwrap_or(0);
        let predicted = Memory {
            weights: part("weights"),
            constants: part("constants"),
            adapters: part("adapters"),
            gradients: part("gradients"),
            optimizer: part("optimizer"),
            activations: part("activations"),
            logits: part("logits"),
            workspace: part("workspace"),
            process: part("process"),
        };
        let (measured, buffers) = (json["measured"].as_u64(), json["buffers"].as_u64().unwrap_or(0));
        Ok(Some(Self { predicted, measured, buffers }))
    }
}
