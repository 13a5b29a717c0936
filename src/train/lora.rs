//! New LoRA pairs on a decoder, and what PEFT needs to know of them.

use super::init::{self, Pair};
use super::{Init, Settings};
use crate::adapter::{Adapter, Budget, Patterns, Scaling};
use crate::checkpoint::{Checkpoint, Dtype, Module, NameMap};
use crate::error::{Error, Result};
use crate::hash::fnv1a;
use crate::matrix::Matrix;
use crate::model::{Decoder, Weight};
use crate::plan::{Layout, Pairs, Selection, Targets};
use crate::progress::Progress;
use crate::quant::{Quantized, Reading};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Gives the targets of `settings` new pairs: A from the seed, B zero; or those of PiSSA or LoftQ, which change what is frozen.
///
/// # Errors
/// Targets that match nothing, with what there is; a rank above what a module's size allows; weights in 4 bits where PiSSA or
/// LoftQ need them whole; and cancellation.
pub fn add(decoder: &mut Decoder, checkpoint: &Checkpoint, settings: &Settings, progress: &dyn Progress) -> Result<()> {
    let layout = Layout::of(checkpoint)?;
    let targets: Targets = settings.targets.parse()?;
    let selection = Selection::new(&layout, &targets)?;
    let ranks = Ranks::new(settings)?;
    let mut places = Vec::new();
    // Where targets are named by what they do, an image encoder beside the decoder is not meant.
    let inside = |name: &str| decoder.linears().any(|linear| linear.module == name);
    let custom = matches!(targets, Targets::Custom(_));
    for &place in &selection.places {
        let name = &layout.weights[place].name;
        if !custom && checkpoint.spec().is_ok_and(|spec| spec.is_part) && !inside(name) {
            continue;
        }
        let found = decoder.linears().position(|linear| linear.module == *name);
        let found = found.ok_or_else(|| {
            Error::usage(format!(
                "target {name} is no linear layer of a block; embeddings and heads are not trained by pairs here"
            ))
        })?;
        places.push(found);
    }
    places.sort_unstable();
    let count = places.len() as u64;
    for (number, at) in places.into_iter().enumerate() {
        let Some((module, [out, inner])) =
            decoder.linears().nth(at).map(|linear| (linear.module.clone(), linear.shape))
        else {
            continue;
        };
        let r = ranks.of(&module);
        if r > out.min(inner) {
            let message = format!("rank {r} for {module} of {out} × {inner}; expected {} or less", out.min(inner));
            return Err(Error::usage(message));
        }
        let alpha = settings.alpha();
        let scaling = Scaling::new(settings.rslora).factor(alpha, r) as f32;
        if settings.init != Init::Default {
            progress.step(number as u64, count)?;
            let (Pair { a, b }, weight) = from_weight(checkpoint, &module, r, scaling, settings)?;
            decoder.freeze(at, weight);
            decoder.branch(at, a, b, alpha, scaling, None);
            continue;
        }
        // Each module draws from a generator of its own: more targets do not change the others' A.
        let mut rng = StdRng::seed_from_u64(settings.seed ^ fnv1a(module.as_bytes()));
        let bound = 1.0 / (inner as f32).sqrt();
        let a = Matrix::from_fn(r, inner, |_, _| rng.random_range(-bound..bound));
        // B is 0, so that the norms of the rows are those of W alone.
        let magnitude = if settings.dora { decoder.row_norms(at) } else { None };
        decoder.branch(at, a, Matrix::zeros(out, r), alpha, scaling, magnitude);
    }
    Ok(())
}

/// The pairs that [`add`] would make, or those of the adapter that the run begins with.
///
/// # Errors
/// Targets that match nothing; a pattern that cannot be read; an adapter that cannot be opened.
pub fn pairs(layout: &Layout, settings: &Settings) -> Result<Pairs> {
    if let Some(path) = &settings.init_adapter {
        let adapter = Adapter::open(path)?;
        let names = NameMap::new(layout.weights.iter().map(|weight| weight.name.as_str()));
        let layers = adapter.layers.iter().filter_map(|layer| Some((names.find(&layer.module)?, layer.r)));
        return Ok(Pairs(layers.collect()));
    }
    let targets: Targets = settings.targets.parse()?;
    let ranks = Ranks::new(settings)?;
    let places = Selection::new(layout, &targets)?.places;
    Ok(Pairs(places.into_iter().map(|place| (place, ranks.of(&layout.weights[place].name))).collect()))
}

/// Finds a rank that is too large for a target, without loading the model.
///
/// # Errors
/// Targets that match nothing; a rank above what a module's size allows.
pub fn check_rank(checkpoint: &Checkpoint, settings: &Settings, r: usize) -> Result<()> {
    let layout = Layout::of(checkpoint)?;
    let targets: Targets = settings.targets.parse()?;
    for &place in &Selection::new(&layout, &targets)?.places {
        let weight = &layout.weights[place];
        if r > weight.max_rank() {
            let most = weight.max_rank();
            return Err(Error::usage(format!("rank {r} for {}; expected {most} or less", weight.name)));
        }
    }
    Ok(())
}

/// The first pair of a module by PiSSA or LoftQ, and what is frozen beside it.
fn from_weight(
    checkpoint: &Checkpoint,
    name: &str,
    r: usize,
    scaling: f32,
    settings: &Settings,
) -> Result<(Pair, Weight)> {
    let whole = |module: &&Module| !matches!(module.dtype, Dtype::NF4 | Dtype::FP4);
    let module = checkpoint.module(name).filter(whole).ok_or_else(|| {
        let message = "the weight is stored in 4 bits; pissa and loftq start from a base that is not quantized yet";
        Error::tensor(checkpoint.path(), name, message)
    })?;
    let w = checkpoint.matrix(module, &())?;
    match settings.scheme() {
        Some(scheme) if settings.init == Init::Loftq => {
            let (pair, quantized) = init::loftq(&w, r, scheme, settings.loftq_iterations, &())?;
            Ok((pair, Weight::FourBit(quantized)))
        }
        scheme => {
            let (pair, residual) = init::pissa(w, r, scaling, &())?;
            let weight = match scheme {
                Some(scheme) => {
                    let quantized = Quantized::new(residual.data(), residual.shape(), scheme)?;
                    Weight::FourBit(quantized.with_reading(Reading::Bitsandbytes))
                }
                None => Weight::rounded(residual, module.dtype),
            };
            Ok((pair, weight))
        }
    }
}

/// Ranks by PEFT's `rank_pattern`.
struct Ranks {
    patterns: Patterns<usize>,
    r: usize,
}

impl Ranks {
    fn new(settings: &Settings) -> Result<Self> {
        if let Some((key, _)) = settings.rank_pattern.iter().find(|(_, r)| **r == 0) {
            return Err(Error::usage(format!("rank 0 for {key:?}; expected 1 or more")));
        }
        let keys = settings.rank_pattern.iter().map(|(key, &r)| (key.clone(), r));
        let patterns = Patterns::new(keys, &mut Budget::default());
        let patterns = patterns.map_err(|message| Error::usage(format!("rank-pattern: {message}")))?;
        Ok(Self { patterns, r: settings.rank })
    }

    fn of(&self, module: &str) -> usize {
        self.patterns.get(module).copied().unwrap_or(self.r)
    }
}
