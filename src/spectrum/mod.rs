//! The spectrum of ΔW: its singular values, what they say about its rank, and what a rank leaves out.
//!
//! ```text
//!   DeltaWeight ──► spectrum() ──► Spectrum { σ₁ ≥ σ₂ ≥ … } ──► ranks(), rules(), energy(r)
//!                      │                     └─► Vectors { U, V } ──► U_r S_r V_rᵀ, the best of rank r
//!                      └─ svd/: gram (exact), krylov (top k), factored (B·A)
//! ```
//!
//! Only `svd/` names a linear-algebra crate.

pub mod by_hand;
pub mod measures;
pub mod noise;
pub mod planted;
pub mod rounding;
pub mod rules;
pub mod subspaces;
mod svd;
mod sweep;

use std::fmt;
use std::str::FromStr;

use crate::delta::{DeltaWeight, Dense, LowRank};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::Progress;
use crate::room;

pub use measures::Ranks;
pub use rules::{Parameters, Rule, RuleId, rule_rank};
pub use sweep::sweep;

/// [`Method::Auto`] computes the whole spectrum of a full ΔW up to this many singular values, and the top ones beyond.
pub const AUTO_EXACT: usize = 2048;

/// Singular values of an approximate spectrum when nobody says how many.
pub const TOP: usize = 64;

/// How the singular values are found.
///
/// An adapter's `B·A` is always taken apart through its factors: that is exact and costs `O((m + n) r²)`, so no method is
/// cheaper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Factored for `B·A`; exact up to `min(m, n) =` [`AUTO_EXACT`]; randomized beyond, unless most values are wanted.
    #[default]
    Auto,
    /// Every singular value.
    Exact,
    /// The largest singular values, by a randomized block Krylov space. Where that would not be cheaper than all of them
    /// (`k > min(m, n) / 16`, or a matrix under 512), all of them are computed.
    Randomized,
}

impl Method {
    /// Every method, in the order that a menu shows.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Exact, Self::Randomized];

    /// The word of the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Exact => "exact",
            Self::Randomized => "randomized",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|method| method.as_str() == text)
            .ok_or_else(|| Error::usage(format!("method “{text}”: expected auto, exact or randomized")))
    }
}

/// What is wanted of a spectrum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How.
    pub method: Method,
    /// How many singular values to list. `None`: all that the method finds, [`TOP`] for the randomized one.
    pub top: Option<usize>,
    /// How many leading pairs of singular vectors to keep; 0 for none. A randomized spectrum keeps no more than it lists.
    pub vectors: usize,
}

/// Leading singular vectors: `ΔW ≈ Σ_i σ_i u_i v_iᵀ`.
///
/// Columns have length 1; of a pair whose σ is rounding (under 1e-6 of σ₁) one may be zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Vectors {
    /// Left ones, `m × k`: column `i` belongs to `σ_i`.
    pub u: Matrix,
    /// Right ones, `n × k`.
    pub v: Matrix,
}

impl Vectors {
    /// How many pairs there are.
    pub fn count(&self) -> usize {
        self.u.cols()
    }
}

/// The singular values of one ΔW, largest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrum {
    /// `[m, n]`.
    pub shape: [usize; 2],
    /// How it was computed: "gram f64", "block krylov", "factored".
    pub method: &'static str,
    /// True when the values are those of a complete decomposition, to rounding; false for the largest ones of an iteration.
    pub exact: bool,
    /// `‖ΔW‖_F = sqrt(Σσ²)`, known exactly whatever the method.
    pub frobenius: f64,
    /// The listed singular values, largest first.
    pub sigma: Vec<f64>,
    /// ε of the dtype that the weights were stored in.
    pub epsilon: f64,
    /// Standard deviation of the rounding noise in each element of ΔW, where base and tuned model give one.
    pub rounding_std: Option<f64>,
    /// ΔW came as `B·A`: all singular values beyond the list are zero, and there is no noise floor to speak of.
    pub low_rank: bool,
    /// Largest relative error that is to be expected of a listed value, for an approximate spectrum.
    pub tolerance: Option<f64>,
    /// The leading singular vectors, where they were asked for.
    pub vectors: Option<Vectors>,
    /// Computed but not listed, as `top` asked for less: the measures still know them.
    rest: Vec<f64>,
}

impl Spectrum {
    /// A complete spectrum from its values: what a test or a picture needs. Negative and unordered values are put right.
    pub fn from_sigma(shape: [usize; 2], mut sigma: Vec<f64>) -> Self {
        sigma.iter_mut().for_each(|s| *s = s.abs());
        sigma.sort_by(|a, b| b.total_cmp(a));
        sigma.truncate(shape[0].min(shape[1]));
        Self {
            shape,
            method: "given",
            exact: true,
            frobenius: sigma.iter().map(|s| s * s).sum::<f64>().sqrt(),
            sigma,
            epsilon: f64::from(f32::EPSILON),
            rounding_std: None,
            low_rank: false,
            tolerance: None,
            vectors: None,
            rest: Vec::new(),
        }
    }

    /// `min(m, n)`: how many singular values there are, zeros included.
    pub fn full_rank(&self) -> usize {
        self.shape[0].min(self.shape[1])
    }

    /// Every known singular value, listed or not, largest first.
    pub fn known(&self) -> impl DoubleEndedIterator<Item = f64> + Clone + '_ {
        self.sigma.iter().chain(&self.rest).copied()
    }

    /// How many singular values are known.
    pub fn known_len(&self) -> usize {
        self.sigma.len() + self.rest.len()
    }

    /// True when no singular value is unknown: those beyond the known ones are zero.
    pub fn is_complete(&self) -> bool {
        self.exact
    }

    /// Lists `top` values and keeps the others for the measures only.
    fn list(mut self, top: Option<usize>) -> Self {
        if let Some(top) = top
            && top < self.sigma.len()
        {
            self.rest = self.sigma.split_off(top);
        }
        self
    }
}

/// The singular values of ΔW, and the leading singular vectors where asked for.
///
/// Everything is accumulated in `f64`. Errors against an `f64` decomposition, as a share of σ₁: `B·A` 1e-14, exact 1e-7;
/// randomized aims at 1e-3 of each listed value and says so in [`Spectrum::tolerance`].
///
/// # Errors
/// [`Error::Cancelled`], seen between panels, blocks and steps; a failure when ΔW holds NaN or infinity.
pub fn spectrum(delta: &DeltaWeight, options: &Options, progress: &dyn Progress) -> Result<Spectrum> {
    svd::check_room()?;
    match delta {
        DeltaWeight::LowRank(low) => of_factors(low, options, progress),
        DeltaWeight::Dense(dense) => of_matrix(dense, options, progress),
    }
}

/// The `k` leading triplets of ΔW without the rest of its spectrum: what pictures of a larger rank need.
///
/// Fewer than `k` where ΔW has no more. Values are good to about 1e-6, relative; see [`Vectors`] for the columns.
///
/// # Errors
/// As [`spectrum`].
pub fn leading(delta: &DeltaWeight, k: usize, progress: &dyn Progress) -> Result<(Vec<f64>, Vectors)> {
    let found = match delta {
        DeltaWeight::LowRank(_) => {
            let found = spectrum(delta, &Options { vectors: k, ..Options::default() }, progress)?;
            (found.sigma, found.vectors)
        }
        DeltaWeight::Dense(dense) => {
            let w = &dense.matrix;
            let frobenius = svd::frobenius(w);
            if !frobenius.is_finite() {
                return Err(not_finite());
            }
            let k = k.min(w.rows().min(w.cols()));
            let found = if frobenius == 0.0 {
                svd::zero(w, k, k)
            } else if is_tame(frobenius) && svd::krylov::vectors_pay(w.rows().min(w.cols()), k) {
                svd::krylov::vectors(w, k, progress)?
            } else {
                svd::gram::decompose(w, k, progress)?
            };
            (found.sigma, found.vectors)
        }
    };
    let (mut sigma, vectors) = found;
    let vectors = vectors
        .unwrap_or_else(|| Vectors { u: Matrix::zeros(delta.shape()[0], 0), v: Matrix::zeros(delta.shape()[1], 0) });
    sigma.truncate(vectors.count());
    Ok((sigma, vectors))
}

/// `‖ΔW − U S Vᵀ‖_F`: what these triplets leave of ΔW. Of `B·A` that is what its other singular values hold.
///
/// # Errors
/// Cancellation; a decomposition that fails.
pub fn residual(delta: &DeltaWeight, sigma: &[f64], vectors: &Vectors, progress: &dyn Progress) -> Result<f64> {
    match delta {
        DeltaWeight::Dense(dense) => svd::residual::norm(&dense.matrix, sigma, vectors, progress),
        DeltaWeight::LowRank(_) => {
            let all = spectrum(delta, &Options::default(), progress)?;
            Ok(all.tail_energy(vectors.count()).sqrt())
        }
    }
}

/// Products in `f32` neither overflow nor vanish.
fn is_tame(frobenius: f64) -> bool {
    (1e-15..1e15).contains(&frobenius)
}

fn of_factors(low: &LowRank, options: &Options, progress: &dyn Progress) -> Result<Spectrum> {
    let (b, a) = (&low.b, &low.a);
    if b.cols() != a.rows() {
        return Err(Error::failure(format!(
            "B has {} columns and A {} rows: expected the same rank",
            b.cols(),
            a.rows()
        )));
    }
    if !(svd::is_finite(b) && svd::is_finite(a) && low.scaling.is_finite()) {
        return Err(not_finite());
    }
    progress.step(0, 1)?;
    let found = svd::factored::decompose(b, a, low.scaling, options.vectors)?;
    progress.step(1, 1)?;
    Ok(Spectrum {
        shape: [b.rows(), a.cols()],
        method: "factored",
        exact: true,
        frobenius: found.sigma.iter().map(|s| s * s).sum::<f64>().sqrt(),
        sigma: found.sigma,
        epsilon: low.epsilon,
        rounding_std: None,
        low_rank: true,
        tolerance: None,
        vectors: found.vectors,
        rest: Vec::new(),
    }
    .list(options.top))
}

fn of_matrix(dense: &Dense, options: &Options, progress: &dyn Progress) -> Result<Spectrum> {
    let w = &dense.matrix;
    // The Gram matrix of the short side in f64 and its reduction.
    let side = w.rows().min(w.cols());
    room::check(side.saturating_mul(side).saturating_mul(2 * size_of::<f64>()))?;
    let frobenius = svd::frobenius(w);
    if !frobenius.is_finite() {
        return Err(not_finite());
    }
    let short = w.rows().min(w.cols());
    let k = options.top.unwrap_or(TOP).min(short);
    let cheaper = is_tame(frobenius) && svd::krylov::pays(short, k);
    let approximate = match options.method {
        Method::Exact => false,
        Method::Auto => short > AUTO_EXACT && cheaper,
        Method::Randomized => cheaper,
    };
    let (method, found) = if frobenius == 0.0 {
        ("zero", svd::zero(w, if approximate { k } else { short }, options.vectors))
    } else if approximate {
        ("block krylov", svd::krylov::top(w, k, options.vectors, progress)?)
    } else {
        (svd::gram::METHOD, svd::gram::decompose(w, options.vectors, progress)?)
    };
    let exact = !approximate || frobenius == 0.0;
    Ok(Spectrum {
        shape: w.shape(),
        method,
        exact,
        frobenius,
        sigma: found.sigma,
        epsilon: dense.epsilon,
        rounding_std: dense.rounding_std,
        low_rank: false,
        tolerance: found.tolerance,
        vectors: found.vectors,
        rest: Vec::new(),
    }
    .list(options.top))
}

fn not_finite() -> Error {
    Error::failure("ΔW holds NaN or infinite values: it has no singular values")
}

#[cfg(test)]
mod measures_tests;
#[cfg(test)]
mod tests;
