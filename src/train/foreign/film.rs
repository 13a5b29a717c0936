//! Frames of the spectrum film from the checkpoints of a run.

use super::Saved;
use crate::adapter::{Adapter, LoraLayer};
use crate::checkpoint::{Checkpoint, Kind};
use crate::delta::{DeltaSet, DeltaWeight, Entry, LowRank, Source};
use crate::error::{Error, Result};
use crate::spectrum::{self, Options};
use crate::train::film::Frame;
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;

/// Operations that a frame of a whole model may take.
const WORK: f64 = 2e10;
/// Singular values of a whole weight's change.
const TOP: usize = 64;

/// The spectra of a checkpoint: of `s · B A` of every pair; of a whole model those of its change from `base`, of modules evenly
/// through the model, as many as can be afforded.
///
/// # Errors
/// A checkpoint that is being written or cannot be read; a whole model whose base is not here.
pub(super) fn of_checkpoint(saved: &Saved, base: &Path) -> Result<Frame> {
    let checkpoint = Arc::new(Checkpoint::open(&saved.path)?);
    let modules = match checkpoint.kind() {
        Kind::Adapter => pairs(&Adapter::from_checkpoint(checkpoint)?),
        Kind::Model => whole(base, checkpoint)?,
    };
    if modules.is_empty() {
        return Err(Error::file(&saved.path, "found nothing whose singular values can be taken"));
    }
    Ok(Frame { step: saved.step, modules: modules.into_iter().collect() })
}

type Modules = Vec<(String, Vec<f32>)>;

fn sigma(delta: &DeltaWeight, top: Option<usize>) -> Result<Vec<f32>> {
    let found = spectrum::spectrum(delta, &Options { top, ..Options::default() }, &())?;
    Ok(found.sigma.iter().map(|&sigma| sigma as f32).collect())
}

/// Those that have none, such as a stack of experts, are left out.
fn pairs(adapter: &Adapter) -> Modules {
    let one = |layer: &LoraLayer| {
        let (b, a) = adapter.factors(layer)?;
        let pair = LowRank { b, a, scaling: layer.scaling, epsilon: f64::from(f32::EPSILON) };
        Ok((layer.module.clone(), sigma(&DeltaWeight::LowRank(pair), None)?))
    };
    let found =
        |result: Result<(String, Vec<f32>)>| result.inspect_err(|error| log::debug!("not filmed: {error}")).ok();
    adapter.layers.par_iter().map(one).filter_map(found).collect()
}

fn whole(base: &Path, tuned: Arc<Checkpoint>) -> Result<Modules> {
    if !base.exists() {
        let message = "is a whole model: the film of its change needs the base model, which is not on this machine";
        return Err(Error::file(tuned.path(), message));
    }
    let set = DeltaSet::new(Arc::new(Checkpoint::open(base)?), Source::Tuned(tuned))?;
    let entries: Vec<&Entry> = set.entries().iter().filter(|entry| entry.linear && entry.problem.is_none()).collect();
    let work = |entry: &Entry| {
        let [m, n] = entry.shape.map(|side| side as f64);
        8.0 * m * n * (TOP as f64).min(m.min(n))
    };
    let total: f64 = entries.iter().map(|entry| work(entry)).sum();
    let every = (total / WORK).ceil().max(1.0) as usize;
    let one = |entry: &Entry| Ok((entry.name.clone(), sigma(&set.load(entry, &())?, Some(TOP))?));
    entries.into_iter().step_by(every).map(one).collect()
}
