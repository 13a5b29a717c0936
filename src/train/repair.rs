//! [`repair`]: a copy of an adapter that a runtime applies whole, checked by reading it again.
//!
//! Plain pairs are written with one rank and one scale: smaller ranks get zeros, and where scales differ B carries the difference, so that
//! ΔW stays what it was and no pattern, no rsLoRA and no name is left to be understood. What is more than plain pairs (weights saved
//! whole, magnitudes, biases, rows of embeddings, experts, initialisations that changed the base) no runtime applies beside its base: it is
//! merged, and the copy is a model.

use super::merge::{Change, write_model};
use crate::adapter::{Adapter, LoraLayer, NewAdapter, NewLayer, PeftConfig, Scaling, TargetModules};
use crate::checkpoint::{Checkpoint, Dtype, NameMap};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::model::Applied;
use crate::plan::serve::Form;
use crate::progress::{Part, Progress};
use std::path::{Path, PathBuf};

/// What was written, and how it was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Repaired {
    /// The folder or file.
    pub path: PathBuf,
    /// True for a model with the adapter merged in, because no adapter holds all of it.
    pub merged: bool,
    /// Modules that were compared.
    pub modules: usize,
    /// The largest `‖ΔW′ x − ΔW x‖ / ‖ΔW x‖` of a module, for the same random x; of a merged model `‖W′ − W‖ / ‖W‖` of a tensor
    /// that it changes.
    pub largest: f64,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Vectors that each module's ΔW is compared on.
const PROBES: usize = 4;

/// Writes a copy of the form that a runtime takes, and reads it again.
///
/// # Errors
/// A base that is needed and not given, an adapter that no weights stand for; what reading and writing say; and a copy that does not say
/// what the adapter says.
pub fn repair(
    adapter: &Adapter,
    base: Option<&Checkpoint>,
    form: Form,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Repaired> {
    if let Some(why) = not_plain(adapter) {
        let base = base.ok_or_else(|| {
            Error::usage(format!("{why}, which no runtime applies beside its base: it must be merged; expected --base"))
        })?;
        return merged(adapter, base, &why, out, progress);
    }
    let written = Part::new(progress, 0, 2);
    let (path, notes) = match form {
        Form::Peft => {
            plain(adapter, base, out, &written)?;
            (out.to_path_buf(), Vec::new())
        }
        Form::Gguf | Form::Mlx => {
            let made = adapter.export(form.as_str(), base, out, &written)?;
            (made.path, made.notes)
        }
    };
    let copy = Adapter::open(&path)?;
    let largest = difference(adapter, &copy, base, &Part::new(progress, 1, 2))?;
    /// What rounding to the type of the factors and f32 sums may leave.
    const SAME: f64 = 2e-3;
    if largest.is_nan() || largest > SAME {
        return Err(Error::file(&path, format!("the copy's ΔW differs by {largest:e}, expected the adapter's own")));
    }
    Ok(Repaired { path, merged: false, modules: copy.layers.len(), largest, notes })
}

/// What an adapter has beyond plain pairs, if anything.
fn not_plain(adapter: &Adapter) -> Option<String> {
    let saved = adapter.saved.iter().find(|saved| saved.trained).map(|saved| format!("{} is saved whole", saved.name));
    let tokens = || adapter.tokens.first().map(|tokens| format!("rows of {} were trained", tokens.module));
    let layer = |meant: fn(&LoraLayer) -> bool, what: &str| {
        adapter.layers.iter().find(|layer| meant(layer)).map(|layer| format!("{} has {what}", layer.module))
    };
    saved
        .or_else(tokens)
        .or_else(|| layer(|layer| layer.dora, "magnitudes (DoRA)"))
        .or_else(|| layer(|layer| layer.experts.is_some(), "a pair for a stack of experts"))
        .or_else(|| layer(|layer| layer.embedding, "a pair on an embedding"))
        .or_else(|| layer(|layer| !layer.kernel.is_empty(), "a convolution's pair"))
        .or_else(|| adapter.config.lora_bias.then(|| "B has a bias (lora_bias)".to_owned()))
        .or_else(|| adapter.unresizable())
}

/// One rank, one scale, the base's own names.
fn plain(adapter: &Adapter, base: Option<&Checkpoint>, out: &Path, progress: &dyn Progress) -> Result<()> {
    let modules: Vec<String> =
        base.map(|base| base.modules().iter().map(|module| module.name.clone()).collect()).unwrap_or_default();
    let names = NameMap::new(modules.iter().map(String::as_str));
    let r = adapter.layers.iter().map(|layer| layer.r).max().unwrap_or(1);
    let scaling = adapter.layers.first().map_or(1.0, |layer| layer.scaling);
    // α as a whole number, where B can carry the rest.
    let alpha = (scaling * r as f64).round().max(1.0);
    let each = |layer: &LoraLayer| NewLayer {
        module: names.find(&layer.module).map_or_else(|| layer.module.clone(), |at| modules[at].clone()),
        shape: layer.shape,
        r,
        lora_alpha: alpha,
        ..NewLayer::default()
    };
    let layers: Vec<NewLayer> = adapter.layers.iter().map(each).collect();
    let config = PeftConfig {
        scaling: Scaling::Rank,
        block_diagonal: None,
        inference_mode: true,
        bias: "none".to_owned(),
        target_modules: TargetModules::Unsaid,
        modules_to_save: Vec::new(),
        json: serde_json::Map::new(),
        ..adapter.config.clone()
    };
    let new = match base {
        Some(base) => NewAdapter::of(base, layers, config),
        None => NewAdapter::alone(layers, config),
    };
    let total = adapter.layers.len() as u64;
    new.write(out, Dtype::F32, &|at| {
        progress.step(at as u64, total)?;
        let layer = &adapter.layers[at];
        let (b, a) = adapter.part(layer, &layer.in_order(base))?;
        let factor = layer.scaling * r as f64 / alpha;
        let b = Matrix::from_fn(
            b.rows(),
            r,
            |i, k| {
                if k < b.cols() { (f64::from(b.get(i, k)) * factor) as f32 } else { 0.0 }
            },
        );
        let a = Matrix::from_fn(r, a.cols(), |k, j| if k < a.rows() { a.get(k, j) } else { 0.0 });
        Ok((b, a).into())
    })
}

/// The largest relative difference of ΔW x, module by module.
fn difference(adapter: &Adapter, copy: &Adapter, base: Option<&Checkpoint>, progress: &dyn Progress) -> Result<f64> {
    let names = NameMap::new(copy.layers.iter().map(|layer| layer.module.as_str()));
    let mut largest = 0f64;
    for (at, layer) in adapter.layers.iter().enumerate() {
        progress.step(at as u64, adapter.layers.len() as u64)?;
        let found = names.find(&layer.module).map(|at| &copy.layers[at]);
        let found = found.ok_or_else(|| Error::tensor(copy.path(), &layer.module, "the copy does not have it"))?;
        let (b, a) = adapter.part(layer, &layer.in_order(base))?;
        let (b2, a2) = copy.part(found, &found.in_order(base))?;
        for probe in 0..PROBES {
            let x: Vec<f64> = (0..a.cols())
                .map(|j| if crate::hash::mixed((probe * a.cols() + j) as u64 + 1) & 1 == 0 { 1.0 } else { -1.0 })
                .collect();
            let first = product(&b, &a, layer.scaling, &x);
            let second = product(&b2, &a2, found.scaling, &x);
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
            let apart = norm(&mut first.iter().zip(&second).map(|(a, b)| a - b));
            let size = norm(&mut first.iter().copied());
            largest = largest.max(if size > 0.0 { apart / size } else { apart });
        }
    }
    Ok(largest)
}

/// `s B A x`.
fn product(b: &Matrix, a: &Matrix, scaling: f64, x: &[f64]) -> Vec<f64> {
    let dot = |row: &[f32], x: &[f64]| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>();
    let inner: Vec<f64> = (0..a.rows()).map(|k| dot(a.row(k), x)).collect();
    (0..b.rows()).map(|i| scaling * dot(b.row(i), &inner)).collect()
}

/// A model with the adapter in it.
fn merged(adapter: &Adapter, base: &Checkpoint, why: &str, out: &Path, progress: &dyn Progress) -> Result<Repaired> {
    let mut notes = write_model(base, &Change::Adapter(adapter), None, out, &Part::new(progress, 0, 2))?;
    let (copy, applied) = (Checkpoint::open(out)?, Applied::new(base, adapter)?);
    let (mut largest, mut modules) = (0f64, 0);
    for (name, ..) in applied.changed() {
        progress.step(1, 2)?;
        let tensor = copy.tensor(name).ok_or_else(|| Error::tensor(out, name, "the copy does not have it"))?;
        let Some(expected) = applied.values(name, &())? else { continue };
        let found = copy.tensor_matrix(tensor, &())?;
        let sums = expected.iter().zip(found.data()).fold((0f64, 0f64), |(apart, size), (a, b)| {
            (apart + (f64::from(*a) - f64::from(*b)).powi(2), size + f64::from(*a).powi(2))
        });
        largest = largest.max((sums.0 / sums.1.max(f64::MIN_POSITIVE)).sqrt());
        modules += 1;
    }
    notes.insert(0, format!("{why}: the copy is a model with the adapter merged in"));
    Ok(Repaired { path: out.to_path_buf(), merged: true, modules, largest, notes })
}
