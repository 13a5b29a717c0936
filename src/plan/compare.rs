//! Two updates of one model, module by module: what their directions share; and one update against its base.

use super::extract::Changed;
use crate::checkpoint::{Checkpoint, Module};
use crate::delta::{self, DeltaSet, DeltaWeight, Dense};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::{Part, Progress};
use crate::spectrum::subspaces::{self, Amplification, Familiar};
use crate::spectrum::{self, Vectors};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Which singular vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Side {
    /// U: what the update writes into, the module's output.
    #[default]
    Left,
    /// V: what the update reads, the module's input.
    Right,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Left, Self::Right];

    /// As on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }

    /// The vectors of this side.
    pub fn of(self, vectors: &Vectors) -> &Matrix {
        match self {
            Self::Left => &vectors.u,
            Self::Right => &vectors.v,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Side {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|side| side.as_str() == text);
        found.ok_or_else(|| Error::usage(format!("side \"{text}\"; expected left or right")))
    }
}

/// φ of one module.
#[derive(Clone, Debug, PartialEq)]
pub struct Similarity {
    /// The module.
    pub name: String,
    /// φ(i, j): row `i − 1` of the first update, column `j − 1` of the second.
    pub phi: Matrix,
    /// Dimensions that the directions live in: two random ones have `φ(i, j) = max(i, j) / dimensions`.
    pub dimensions: usize,
}

/// Directions of some updates are compared up to this many where nobody says how many.
pub const DIRECTIONS: usize = 64;

/// The modules that both updates have, in the order of the first: their names in either.
///
/// # Errors
/// Bad input when there is none, with a name of each.
pub fn common(a: &Changed, b: &Changed) -> Result<Vec<(String, String)>> {
    let (first, second) = (a.names(), b.names());
    let found = delta::common(&first, &second);
    if found.is_empty() {
        let one = |names: &[String]| names.first().cloned().unwrap_or_else(|| "none".to_owned());
        let message = format!(
            "the two have no module in common: one has {}, the other {}; expected two updates of one model",
            one(&first),
            one(&second)
        );
        return Err(Error::usage(message));
    }
    Ok(found)
}

/// φ of a module, by its name in either, over the top `k` directions of both updates. Directions whose σ is rounding are left
/// out.
///
/// # Errors
/// A module that one of them does not have or that has another size; NaN and Inf; cancellation.
pub fn similarity(
    a: &Changed,
    b: &Changed,
    (name, other): (&str, &str),
    k: usize,
    side: Side,
    progress: &dyn Progress,
) -> Result<Similarity> {
    let first = directions(a, name, k, side, &Part::new(progress, 0, 2))?;
    let second = directions(b, other, k, side, &Part::new(progress, 1, 2))?;
    if first.rows() != second.rows() {
        return Err(Error::usage(format!(
            "{name} has {} dimensions in one and {} in the other; expected two updates of one model",
            first.rows(),
            second.rows()
        )));
    }
    let dimensions = first.rows();
    Ok(Similarity { name: name.to_owned(), phi: subspaces::similarity(&first, &second)?, dimensions })
}

/// The top directions with something in them.
fn directions(of: &Changed, name: &str, k: usize, side: Side, progress: &dyn Progress) -> Result<Matrix> {
    /// Below this share of σ₁ a direction is rounding.
    const FLOOR: f64 = 1e-6;
    if let Changed::Adapter(adapter) = of
        && let Some(problem) = adapter.layer(name).and_then(|layer| adapter.problem(layer))
    {
        return Err(Error::tensor(adapter.path(), name, problem).and("expected --base"));
    }
    let delta = of.load(name, &Part::new(progress, 0, 2))?;
    let (sigma, vectors) = spectrum::leading(&delta, k, &Part::new(progress, 1, 2))?;
    let largest = sigma.first().copied().unwrap_or(0.0);
    let known = sigma.iter().take_while(|&&s| s > FLOOR * largest && s > 0.0).count();
    let all = side.of(&vectors);
    Ok(Matrix::from_fn(all.rows(), known.min(all.cols()), |i, j| all.get(i, j)))
}

/// What the ΔW of module `name` does to its weight, along its top `r` directions.
///
/// # Errors
/// A module without ΔW; NaN and Inf; cancellation.
pub fn amplification(set: &DeltaSet, name: &str, r: usize, progress: &dyn Progress) -> Result<Amplification> {
    let delta = Changed::Models(set).load(name, &Part::new(progress, 0, 3))?;
    let (sigma, vectors) = spectrum::leading(&delta, r, &Part::new(progress, 1, 3))?;
    let frobenius = match &delta {
        DeltaWeight::Dense(dense) => dense.matrix.frobenius(),
        DeltaWeight::LowRank(_) => {
            let rest = spectrum::residual(&delta, &sigma, &vectors, &())?;
            (sigma.iter().map(|s| s * s).sum::<f64>() + rest * rest).sqrt()
        }
    };
    drop(delta);
    let base = set.base().matrix(module(set.base(), name)?, &Part::new(progress, 2, 3))?;
    subspaces::amplification(frobenius, &vectors, r, &base)
}

/// How familiar the base is with each of the top `k` directions of the tuned weight of module `name`.
///
/// Takes every singular vector of the base weight: minutes for a large one.
///
/// # Errors
/// A module without ΔW; NaN and Inf; cancellation.
pub fn familiar(set: &DeltaSet, name: &str, k: usize, side: Side, progress: &dyn Progress) -> Result<Vec<Familiar>> {
    tuned_directions(set, name, k, side, progress).map(|(_, _, familiar)| familiar)
}

/// The top `k` singular values and vectors of the tuned weight of module `name`, and how familiar the base is with each.
///
/// # Errors
/// As [`familiar`].
pub(super) fn tuned_directions(
    set: &DeltaSet,
    name: &str,
    k: usize,
    side: Side,
    progress: &dyn Progress,
) -> Result<(Vec<f64>, Vectors, Vec<Familiar>)> {
    let base = set.base().matrix(module(set.base(), name)?, &())?;
    let mut tuned = Changed::Models(set).load(name, &Part::new(progress, 0, 4))?.dense(&())?.into_owned();
    tuned.data_mut().iter_mut().zip(base.data()).for_each(|(to, base)| *to += base);
    let dense = |matrix: Matrix| {
        let epsilon = f64::from(f32::EPSILON);
        DeltaWeight::Dense(Dense { matrix: Arc::new(matrix), epsilon, rounding_std: None })
    };
    let (sigma, top) = spectrum::leading(&dense(tuned), k, &Part::new(progress, 1, 4))?;
    progress.step(2, 4)?;
    let all = base.rows().min(base.cols());
    let (_, known) = spectrum::leading(&dense(base), all, &Part::new(progress, 2, 4))?;
    progress.step(3, 4)?;
    let familiar = subspaces::familiar(side.of(&top), side.of(&known))?;
    Ok((sigma, top, familiar))
}

fn module<'a>(base: &'a Checkpoint, name: &str) -> Result<&'a Module> {
    base.module(name).ok_or_else(|| Error::tensor(base.path(), name, "there is no such module"))
}
