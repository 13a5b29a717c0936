//! [`DeltaSet`]: what changed, module by module. Two checkpoints, an adapter on its base, or the weight itself.
//!
//! Matching reads no weights: what does not fit is known, and said per module, before anything is computed.

mod dora;
mod matching;
mod subtract;
mod weight;

pub use dora::rescaled;
pub use matching::common;
pub use weight::{DeltaWeight, Dense, LowRank};

use crate::adapter::{Adapter, LoraLayer, Part};
use crate::checkpoint::{Checkpoint, Kind, Module, Role};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::Progress;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use subtract::Side;

/// Where ΔW comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Nothing changed it: the weight itself.
    Weight,
    /// Another checkpoint of the same model, `ΔW = tuned − base`.
    Tuned(Arc<Checkpoint>),
    /// An adapter, `ΔW = scaling · B A`.
    Adapter(Arc<Adapter>),
}

/// A base model and what changed it, matched.
#[derive(Clone, Debug)]
pub struct DeltaSet {
    base: Arc<Checkpoint>,
    source: Source,
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
}

/// One module's ΔW, not computed yet.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The base's name of the module.
    pub name: String,
    /// `[out, in]` of ΔW; of what was found, where that does not fit the base.
    pub shape: [usize; 2],
    /// Number of its block.
    pub layer: Option<usize>,
    /// What it does there.
    pub role: Role,
    /// True for a matrix that multiplies activations inside the model: no embedding or head.
    pub linear: bool,
    /// Why ΔW cannot be computed, if it cannot.
    pub problem: Option<String>,
    /// True when base and source do not belong together here: a missing module, another shape.
    pub misfit: bool,
    why: Option<Misfit>,
    /// Name in the tuned checkpoint or the adapter.
    other: Option<String>,
    /// The base's weight that it is compared with, where that has another name: the embedding, for a head tied to it.
    of: Option<String>,
    /// Which part of an adapter's layer it is.
    part: Part,
}

/// How base and source do not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misfit {
    /// One of them has no such module.
    Missing,
    /// Embeddings of another number of tokens.
    Vocabulary,
    /// Another shape.
    Shape,
}

impl DeltaSet {
    /// Matches a base with what changed it. Reads no weights.
    ///
    /// # Errors
    /// When nothing fits: a source for another base, or of another kind than expected, or no matrix at all.
    pub fn new(base: Arc<Checkpoint>, source: Source) -> Result<Self> {
        if base.kind() != Kind::Model {
            return Err(Error::file(base.path(), "found an adapter, expected a model as the base"));
        }
        let entries = match &source {
            Source::Weight => matching::weights(&base),
            Source::Tuned(tuned) if tuned.kind() != Kind::Model => {
                return Err(Error::file(tuned.path(), "found an adapter, expected a tuned model"));
            }
            Source::Tuned(tuned) => matching::tuned(&base, tuned),
            Source::Adapter(adapter) => matching::adapter(&base, adapter),
        };
        let by_name = entries.iter().enumerate().map(|(at, entry)| (entry.name.clone(), at)).collect();
        let set = Self { base, source, entries, by_name };
        match set.entries.iter().all(|entry| entry.misfit) {
            true if set.entries.is_empty() => {
                Err(Error::file(set.path(), "found no matrix, expected weights with two sizes"))
            }
            true => Err(set.does_not_fit()),
            false => Ok(set),
        }
    }

    /// The base model.
    pub fn base(&self) -> &Arc<Checkpoint> {
        &self.base
    }

    /// What changed it.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Every module with two sizes, in the base's order; of an adapter, the modules that it adapts.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// An entry by the base's name of its module.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.by_name.get(name).map(|&at| &self.entries[at])
    }

    /// The entries where base and source do not belong together.
    pub fn misfits(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.misfit)
    }

    /// Whether an adapter belongs to this base: a module that the base does not have is a module left out, one of another shape
    /// is another base.
    ///
    /// # Errors
    /// For an adapter with a shape that is not the base's: how many do not fit, the first of them, and which base the adapter
    /// names.
    pub fn check_adapter(&self) -> Result<()> {
        let shape = |entry: &Entry| entry.why == Some(Misfit::Shape);
        match self.source {
            Source::Adapter(_) if self.misfits().any(shape) => Err(self.does_not_fit()),
            _ => Ok(()),
        }
    }

    /// A layer of the adapter with a part of it: where an entry's ΔW is found.
    fn layer<'a>(&self, adapter: &'a Adapter, entry: &Entry) -> Result<&'a LoraLayer> {
        let other = entry.other.as_deref().unwrap_or(&entry.name);
        adapter.layer(other).ok_or_else(|| Error::tensor(adapter.path(), other, NOT_THERE))
    }

    /// Computes ΔW of one entry: reads the weights of this module and no others.
    ///
    /// # Errors
    /// The entry's problem; NaN and Inf, counted, with file and tensor; cancellation.
    pub fn load(&self, entry: &Entry, progress: &dyn Progress) -> Result<DeltaWeight> {
        if let Some(problem) = &entry.problem {
            return Err(Error::tensor(self.path(), &entry.name, problem));
        }
        let other = entry.other.as_deref().unwrap_or(&entry.name);
        match &self.source {
            Source::Weight => {
                let module = find(&self.base, &entry.name)?;
                let matrix = self.base.matrix(module, progress)?;
                Ok(DeltaWeight::Dense(Dense {
                    matrix: Arc::new(matrix),
                    epsilon: module.epsilon(),
                    rounding_std: None,
                }))
            }
            Source::Tuned(tuned) => {
                let (before, after) = (find(&self.base, entry.base())?, find(tuned, other)?);
                let base = Side { reader: self.base.reader(before)?, dtype: before.dtype };
                let side = Side { reader: tuned.reader(after)?, dtype: after.dtype };
                subtract::subtract(&base, &side, after.epsilon(), progress).map(DeltaWeight::Dense)
            }
            Source::Adapter(adapter) => {
                let layer = self.layer(adapter, entry)?;
                let (b, a) = adapter.part(layer, &entry.part)?;
                let epsilon = layer.dtype.epsilon().unwrap_or(f64::from(f32::EPSILON));
                let pair = LowRank { b, a, scaling: layer.scaling, epsilon };
                match adapter.magnitude(layer)? {
                    None => Ok(DeltaWeight::LowRank(pair)),
                    Some(magnitude) => {
                        let base = self.base.matrix(find(&self.base, entry.base())?, progress)?;
                        dora::difference(base, pair, &magnitude, layer.columns, progress).map(DeltaWeight::Dense)
                    }
                }
            }
        }
    }

    /// True when nothing of a module has changed. Reads as far as the first difference, of a changed module that is little.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn is_unchanged(&self, entry: &Entry, progress: &dyn Progress) -> Result<bool> {
        /// Values that are compared at a time.
        const STEP: usize = 1 << 20;
        let other = entry.other.as_deref().unwrap_or(&entry.name);
        match &self.source {
            Source::Weight => Ok(false),
            Source::Adapter(adapter) => {
                let layer = self.layer(adapter, entry)?;
                let (b, a) = adapter.part(layer, &entry.part)?;
                let zero = |matrix: &Matrix| matrix.data().iter().all(|&x| x == 0.0);
                // Magnitudes alone change a weight too.
                Ok(!layer.dora && (zero(&b) || zero(&a)))
            }
            Source::Tuned(tuned) => {
                let (before, after) = (find(&self.base, entry.base())?, find(tuned, other)?);
                let (base, tuned) = (self.base.reader(before)?, tuned.reader(after)?);
                let [rows, cols] = tuned.shape();
                let step = (STEP / cols.max(1)).max(1);
                for first in (0..rows).step_by(step) {
                    progress.step(first as u64, rows as u64)?;
                    let range = first..(first + step).min(rows);
                    let mut both = [vec![0f32; range.len() * cols], vec![0f32; range.len() * cols]];
                    base.rows(range.clone(), &mut both[0])?;
                    tuned.rows(range, &mut both[1])?;
                    if both[0] != both[1] {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    /// Where the source is.
    fn path(&self) -> &Path {
        match &self.source {
            Source::Weight => self.base.path(),
            Source::Tuned(tuned) => tuned.path(),
            Source::Adapter(adapter) => adapter.path(),
        }
    }

    /// The sentence about what does not fit.
    fn does_not_fit(&self) -> Error {
        let (what, named) = match &self.source {
            Source::Adapter(adapter) => ("adapter", adapter.config.base_model_name_or_path.as_deref()),
            _ => ("model", None),
        };
        Error::file(self.path(), does_not_fit(&self.base, &self.entries, what, named))
    }
}

/// The layers of an adapter beside what they change in its base; every one of them fits.
///
/// # Errors
/// For an adapter that does not fit whole: which modules, and whether it is another base's.
pub fn fitted(base: &Checkpoint, adapter: &Adapter) -> Result<Vec<Entry>> {
    let entries = matching::adapter(base, adapter);
    if entries.iter().any(|entry| entry.misfit) {
        let named = adapter.config.base_model_name_or_path.as_deref();
        return Err(Error::file(adapter.path(), does_not_fit(base, &entries, "adapter", named)));
    }
    Ok(entries)
}

/// What is said of entries that do not fit. That it belongs to another base is said when nothing fits or a shape differs.
fn does_not_fit(base: &Checkpoint, entries: &[Entry], what: &str, named: Option<&str>) -> String {
    let misfits = || entries.iter().filter(|entry| entry.misfit);
    let (count, all, name) = (misfits().count(), entries.len(), base.name());
    let named = named.map(|base| format!("; it says that it was made for {base}")).unwrap_or_default();
    let of = |why: Misfit| misfits().find(|entry| entry.why == Some(why));
    let shape = of(Misfit::Shape);
    let first = shape.or_else(|| misfits().next());
    let first = first.map(|entry| format!("; {}: {}", entry.name, entry.problem.as_deref().unwrap_or_default()));
    let first = first.unwrap_or_default();
    if misfits().all(|entry| entry.why == Some(Misfit::Vocabulary)) {
        return format!(
            "{count} of the {all} modules of this {what} do not fit {name}, whose vocabulary has another size{first}{named}"
        );
    }
    if shape.is_none() && count < all {
        return format!("{count} of the {all} modules of this {what} are not in {name}{first}{named}");
    }
    let has = base.modules().iter().find(|module| module.linear).filter(|_| shape.is_none());
    let has = has.map(|module| format!("; the base has names such as {}", module.name)).unwrap_or_default();
    format!(
        "this {what} belongs to another base than {name}: {count} of its {all} modules do not fit{first}{has}{named}"
    )
}

impl Entry {
    /// The base's name of the weight that it changes.
    pub fn base(&self) -> &str {
        self.of.as_deref().unwrap_or(&self.name)
    }

    /// The name of its layer in the adapter, or of its weight in the tuned model.
    pub fn other(&self) -> &str {
        self.other.as_deref().unwrap_or(&self.name)
    }

    /// Which part of the adapter's layer it is.
    pub fn part(&self) -> &Part {
        &self.part
    }
}

/// What is said when an entry of one set is given to another.
const NOT_THERE: &str = "there is no such module";

fn find<'a>(checkpoint: &'a Checkpoint, name: &str) -> Result<&'a Module> {
    checkpoint.module(name).ok_or_else(|| Error::tensor(checkpoint.path(), name, NOT_THERE))
}
