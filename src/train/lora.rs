//! New LoRA pairs on a decoder, and what PEFT needs to know of them.

use super::Settings;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::model::Decoder;
use crate::plan::{Layout, Selection, Targets};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use regex::Regex;

/// Gives the targets of `settings` new pairs: A from the seed, B zero.
///
/// # Errors
/// Targets that match nothing, with what there is; a rank above what a module's size allows.
pub fn add(decoder: &mut Decoder, checkpoint: &Checkpoint, settings: &Settings) -> Result<()> {
    let layout = Layout::of(checkpoint)?;
    let targets: Targets = settings.targets.parse()?;
    let selection = Selection::new(&layout, &targets)?;
    let ranks = Ranks::new(settings)?;
    let mut places = Vec::new();
    for &place in &selection.places {
        let name = &layout.weights[place].name;
        let found = decoder.linears().position(|linear| linear.module == *name);
        let found = found.ok_or_else(|| {
            Error::usage(format!(
                "target {name} is no linear layer of a block; embeddings and heads are not trained by pairs here"
            ))
        })?;
        places.push(found);
    }
    places.sort_unstable();
    for at in places {
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
        // Each module draws from a generator of its own: more targets do not change the others' A.
        let name = module
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut rng = StdRng::seed_from_u64(settings.seed ^ name);
        let bound = 1.0 / (inner as f32).sqrt();
        let a = Matrix::from_fn(r, inner, |_, _| rng.random_range(-bound..bound));
        let alpha = settings.alpha();
        let scaling = alpha / if settings.rslora { (r as f64).sqrt() } else { r as f64 };
        decoder.branch(at, a, Matrix::zeros(out, r), alpha, scaling as f32);
    }
    Ok(())
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

/// Ranks by PEFT's `rank_pattern`.
struct Ranks {
    patterns: Vec<(Regex, usize)>,
    r: usize,
}

impl Ranks {
    fn new(settings: &Settings) -> Result<Self> {
        let pattern = |(key, &r): (&String, &usize)| {
            let regex = Regex::new(&format!(r"^(?:.*\.)?(?:{key})$"));
            let regex = regex.map_err(|_| {
                Error::usage(format!("the key {key:?} of rank-pattern is not a pattern that can be read"))
            })?;
            if r == 0 { Err(Error::usage(format!("rank 0 for {key:?}; expected 1 or more"))) } else { Ok((regex, r)) }
        };
        Ok(Self { patterns: settings.rank_pattern.iter().map(pattern).collect::<Result<_>>()?, r: settings.rank })
    }

    fn of(&self, module: &str) -> usize {
        self.patterns.iter().find(|(regex, _)| regex.is_match(module)).map_or(self.r, |&(_, r)| r)
    }
}
