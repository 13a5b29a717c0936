//! New LoRA pairs on a decoder, and what PEFT needs to know of them.

use super::init::{self, Pair};
use super::{Init, Settings};
use crate::adapter::{Adapter, Budget, Patterns, Scaling};
use crate::checkpoint::{Checkpoint, Dtype, Module, NameMap, expert_of};
use crate::error::{Error, Result};
use crate::hash::fnv1a;
use crate::matrix::Matrix;
use crate::model::{Decoder, Linear, Weight};
use crate::plan::{Layout, Pairs, Selection, Targets};
use crate::progress::Progress;
use crate::quant::{Quantized, Reading};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, HashMap};

/// Gives the targets of `settings` new pairs: A from the seed, B zero; or those of PiSSA or LoftQ, which change what is frozen. A
/// rank above a module's smaller side is that side there, with the same scaling.
///
/// # Errors
/// Targets that match nothing, with what there is; one of an expert's gate and up alone, which are one parameter; dropout, DoRA
/// and other beginnings for experts, which PEFT's `target_parameters` do not have (nor dropout and DoRA for other parameters); weights in 4 bits where PiSSA or LoftQ need
/// them whole; and cancellation.
pub fn add(decoder: &mut Decoder, checkpoint: &Checkpoint, settings: &Settings, progress: &dyn Progress) -> Result<()> {
    let layout = Layout::of(checkpoint)?;
    let targets: Targets = settings.targets.parse()?;
    let selection = Selection::new(&layout, &targets)?;
    let ranks = Ranks::new(settings)?;
    // Where targets are named by what they do, an image encoder beside the decoder is not meant.
    let lenient = !matches!(targets, Targets::Custom(_)) && checkpoint.spec().is_ok_and(|spec| spec.is_part);
    let chosen = chosen(decoder, selection.weights(&layout).map(|weight| weight.name.as_str()), lenient)?;
    let (count, mut pairs) = (chosen.len() as u64, Vec::new());
    let plain = settings.dropout == 0.0 && !settings.dora && settings.init == Init::Default;
    let peft = decoder.spec.peft_names();
    for (number, Chosen { at, module, shape: [out, inner], parts, expert }) in chosen.into_iter().enumerate() {
        if expert && !plain {
            return Err(Error::usage(format!(
                "dropout, dora and another init than the default are not for experts ({module}): PEFT adapts them as parameters, which have none of these; \
                 leave them out, or target other modules"
            )));
        }
        if peft.is_parameter(&module) && (settings.dropout != 0.0 || settings.dora) {
            return Err(Error::usage(format!(
                "dropout and dora are not for {module}: PEFT adapts it as a parameter, which has neither; leave them out, or target other modules"
            )));
        }
        let asked: usize = parts.iter().map(|part| ranks.of(part)).sum();
        let (alpha, scaling) = (settings.alpha() * parts.len() as f64, Scaling::new(settings.rslora));
        let factor = scaling.factor(alpha, asked);
        let r = asked.min(out.min(inner));
        let alpha = if r == asked { alpha } else { scaling.alpha(factor, r) };
        if settings.init != Init::Default {
            progress.step(number as u64, count)?;
            let (Pair { a, b }, weight) = from_weight(checkpoint, &module, r, factor as f32, settings)?;
            decoder.freeze(at, weight);
            decoder.branch(at, a, b, alpha, factor as f32, None);
            continue;
        }
        // Each module draws from a generator of its own: more targets do not change the others' A.
        let mut rng = StdRng::seed_from_u64(settings.seed ^ fnv1a(module.as_bytes()));
        let bound = 1.0 / (inner as f32).sqrt();
        let a = Matrix::from_fn(r, inner, |_, _| rng.random_range(-bound..bound));
        // B is 0, so that the norms of the rows are those of W alone.
        match settings.dora {
            true => {
                let magnitude = decoder.row_norms(at);
                decoder.branch(at, a, Matrix::zeros(out, r), alpha, factor as f32, magnitude);
            }
            false => pairs.push((at, a, Matrix::zeros(out, r), alpha, factor as f32)),
        }
    }
    decoder.branch_all(pairs);
    Ok(())
}

/// A linear layer that gets a pair.
struct Chosen {
    at: usize,
    module: String,
    shape: [usize; 2],
    /// The modules of the layout that it is: itself, or an expert's gate and up.
    parts: Vec<String>,
    expert: bool,
}

/// The layers that modules of the layout are, in the order of the model.
fn chosen<'a>(decoder: &Decoder, names: impl Iterator<Item = &'a str>, lenient: bool) -> Result<Vec<Chosen>> {
    let linears: Vec<&Linear> = decoder.linears().collect();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (at, linear) in linears.iter().enumerate() {
        places.insert(&linear.module, at);
        places.extend(linear.parts.iter().map(|(name, _)| (name.as_str(), at)));
    }
    let mut found: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for name in names {
        match places.get(name) {
            Some(&at) => found.entry(at).or_default().push(name.to_owned()),
            None if lenient => {}
            None => {
                return Err(Error::usage(format!(
                    "target {name} is no linear layer of a block; embeddings and heads are not trained by pairs here"
                )));
            }
        }
    }
    let of = |(at, parts): (usize, Vec<String>)| {
        let linear = linears[at];
        if let Some((missing, _)) = linear.parts.iter().find(|(name, _)| !parts.contains(name)) {
            return Err(Error::usage(format!(
                "target {} without {missing}: they are one parameter for PEFT, gate_up_proj, which has one pair; target both",
                parts[0]
            )));
        }
        let expert = expert_of(&linear.module).is_some();
        Ok(Chosen { at, module: linear.module.clone(), shape: linear.shape, parts, expert })
    };
    found.into_iter().map(of).collect()
}

/// A sentence about pairs whose rank is their module's smaller side, where a larger one was asked for.
pub fn clipped(decoder: &Decoder, settings: &Settings) -> Option<String> {
    let ranks = Ranks::new(settings).ok()?;
    let smaller = |linear: &&Linear| {
        let asked: usize = match &linear.parts[..] {
            [] => ranks.of(&linear.module),
            parts => parts.iter().map(|(name, _)| ranks.of(name)).sum(),
        };
        linear.pair().is_some_and(|pair| pair.r < asked && pair.r == linear.shape[0].min(linear.shape[1]))
    };
    let all: Vec<&Linear> = decoder.linears().filter(smaller).collect();
    let first = all.first().filter(|_| settings.init_adapter.is_none())?;
    let [out, inner] = first.shape;
    Some(format!(
        "rank {} is above the smaller side of {} modules, such as {} of {out} × {inner}: their pairs have rank {} and the same scaling",
        settings.rank,
        all.len(),
        first.module,
        out.min(inner)
    ))
}

/// The pairs that [`add`] would make, or those of the adapter that the run begins with.
///
/// # Errors
/// Targets that match nothing; a pattern that cannot be read; an adapter that cannot be opened.
pub fn pairs(layout: &Layout, settings: &Settings) -> Result<Pairs> {
    if let Some(path) = &settings.init_adapter {
        let adapter = Adapter::open(path)?;
        let names = NameMap::new(layout.weights.iter().map(|weight| weight.name.as_str()));
        let layers = adapter.layers.iter().flat_map(|layer| match layer.experts {
            None => names.find(&layer.module).map(|at| (at, layer.r)).into_iter().collect(),
            Some(experts) => of_stack(&names, &layer.module, layer.r, experts),
        });
        return Ok(Pairs(layers.collect()));
    }
    let targets: Targets = settings.targets.parse()?;
    let ranks = Ranks::new(settings)?;
    let places = Selection::new(layout, &targets)?.places;
    let rank = |place: usize| layout.weights[place].clipped_rank(ranks.of(&layout.weights[place].name));
    Ok(Pairs(places.into_iter().map(|place| (place, rank(place))).collect()))
}

/// The places of a stack's experts, and the rank that each has: half of it where gate and up stand apart.
fn of_stack(names: &NameMap, module: &str, r: usize, experts: usize) -> Vec<(usize, usize)> {
    let (stem, parameter) = module.rsplit_once('.').unwrap_or_default();
    let leaves: [(&str, usize); 5] = match parameter {
        "down_proj" => [("down_proj", r), ("w2", r), ("", 0), ("", 0), ("", 0)],
        "up_proj" => [("up_proj", r), ("", 0), ("", 0), ("", 0), ("", 0)],
        _ => [
            ("gate_up_proj", r),
            ("gate_proj", r.div_ceil(2)),
            ("up_proj", r / 2),
            ("w1", r.div_ceil(2)),
            ("w3", r / 2),
        ],
    };
    let of = |expert: usize| {
        let found = leaves.iter().filter(|(leaf, _)| !leaf.is_empty());
        found.filter_map(move |(leaf, r)| Some((names.find(&format!("{stem}.{expert}.{leaf}"))?, *r)))
    };
    (0..experts).flat_map(of).collect()
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
