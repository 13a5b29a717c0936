//! [`Film`]: the singular values of ΔW while a run goes on, a [`Frame`] at every logged step; and [`Verdict`], what they
//! say about the rank.
//!
//! A pair's `s · B A` is taken apart through its factors (`2 (out + in) r²` operations and an r × r core). A whole weight is
//! compared with a copy of what it was: all singular values of the difference, for as many modules as `WORK` allows.

use crate::delta::{DeltaWeight, Dense, LowRank};
use crate::error::Result;
use crate::matrix::Matrix;
use crate::model::{Decoder, Kind, Linear};
use crate::spectrum::{self, Options};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Operations that a frame of a full run may take: some ten milliseconds of a processor.
const WORK: f64 = 2e9;

/// The spectra of one step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Steps done.
    pub step: usize,
    /// Singular values of ΔW by module, largest first.
    pub modules: BTreeMap<String, Vec<f32>>,
}

/// What is filmed.
pub struct Film {
    subjects: Vec<Subject>,
}

enum Subject {
    /// A pair: the place of its linear layer; and its first A and B, where it did not begin at zero beside the base.
    Pair(usize, Option<[Vec<f32>; 2]>),
    /// A trained weight: its number among the parameters, and what it was.
    Whole(usize, Vec<f32>),
}

impl Film {
    /// Of every pair; of a full run, of whole weights evenly through the model, as many as can be afforded. To be made
    /// before the first step, and before a checkpoint is restored. `moved` where the pairs began with a part of the base.
    pub fn new(decoder: &Decoder, moved: bool) -> Self {
        let first = |lora: &crate::model::branch::Lora| [lora.a, lora.b].map(|at| decoder.params.value(at).to_vec());
        let pair = |(at, linear): (usize, &Linear)| {
            let lora = linear.pair()?;
            Some(Subject::Pair(at, moved.then(|| first(lora))))
        };
        let pairs: Vec<Subject> = decoder.linears().enumerate().filter_map(pair).collect();
        if !pairs.is_empty() {
            return Self { subjects: pairs };
        }
        let list = &decoder.params.list;
        let of = |module: &str| list.iter().position(|param| param.kind == Kind::Weight && param.name == module);
        let all: Vec<usize> = decoder.linears().filter_map(|linear| of(&linear.module)).collect();
        let work = |&at: &usize| {
            let [m, n] = list[at].shape.map(|side| side as f64);
            m.min(n).powi(2) * m.max(n) * 2.4
        };
        let total: f64 = all.iter().map(work).sum();
        let every = (total / WORK).ceil().max(1.0) as usize;
        let chosen = all.into_iter().step_by(every).filter(|at| work(at) <= WORK);
        Self { subjects: chosen.map(|at| Subject::Whole(at, list[at].value.clone())).collect() }
    }

    /// The spectra as the decoder stands.
    ///
    /// # Errors
    /// A decomposition that does not converge.
    pub fn frame(&self, decoder: &Decoder, step: usize) -> Result<Frame> {
        let linears: Vec<_> = decoder.linears().collect();
        let params = &decoder.params;
        let one = |subject: &Subject| -> Result<(String, Vec<f32>)> {
            let (module, delta) = match subject {
                Subject::Pair(at, first) => {
                    let linear = linears[*at];
                    let Some(mut delta) = linear.delta(params)? else {
                        return Ok((linear.module.clone(), Vec::new()));
                    };
                    if let (Some([a0, b0]), DeltaWeight::LowRank(pair)) = (first, &delta) {
                        // B A − B₀ A₀ = [B, −B₀] [A; A₀].
                        let LowRank { b, a, scaling, epsilon } = pair;
                        let (r, [out, inner]) = (a.rows(), linear.shape);
                        let both = |row: usize, col: usize| match col.checked_sub(r) {
                            None => b.get(row, col),
                            Some(col) => -b0[row * r + col],
                        };
                        let (b, a) = (Matrix::from_fn(out, 2 * r, both), [a.data(), a0].concat());
                        let a = Matrix::new(2 * r, inner, a)?;
                        delta = DeltaWeight::LowRank(LowRank { b, a, scaling: *scaling, epsilon: *epsilon });
                    }
                    (linear.module.clone(), delta)
                }
                Subject::Whole(at, before) => {
                    let param = &params.list[*at];
                    let change = param.value.iter().zip(before).map(|(now, then)| now - then).collect();
                    let matrix = Arc::new(Matrix::new(param.shape[0], param.shape[1], change)?);
                    let dense = Dense { matrix, epsilon: f64::from(f32::EPSILON), rounding_std: None };
                    (param.name.clone(), DeltaWeight::Dense(dense))
                }
            };
            let found = spectrum::spectrum(&delta, &Options::default(), &())?;
            Ok((module, found.sigma.iter().map(|&sigma| sigma as f32).collect()))
        };
        let modules: BTreeMap<_, _> = self.subjects.par_iter().map(one).collect::<Result<_>>()?;
        Ok(Frame { step, modules })
    }
}

/// Effective rank of singular values: `exp(−Σ q ln q)`, `q = σ / Σσ` (Roy & Vetterli 2007); 0 of nothing.
pub fn effective(sigma: &[f32]) -> f64 {
    let sum: f64 = sigma.iter().map(|&s| f64::from(s)).sum();
    if sum <= 0.0 {
        return 0.0;
    }
    sigma.iter().map(|&s| f64::from(s) / sum).filter(|&q| q > 0.0).map(|q| -q * q.ln()).sum::<f64>().exp()
}

/// The smallest k whose first k values hold this share of `Σσ²`; 0 of nothing.
pub fn energy_rank(sigma: &[f32], share: f64) -> usize {
    let squares = || sigma.iter().map(|&s| f64::from(s).powi(2));
    let total: f64 = squares().sum();
    if total <= 0.0 {
        return 0;
    }
    let mut sum = 0.0;
    1 + squares().take_while(|square| (sum += square, sum < share * total).1).count().min(sigma.len().max(1) - 1)
}

/// What a spectrum says about the rank that it was trained at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing has been learnt yet.
    Nothing,
    /// The weakest direction still has this share of the strongest one's σ.
    Small(f64),
    /// So many directions hold 99 % of the energy, and the last one has this share of the first one's σ.
    Wasted(usize, f64),
    /// Neither.
    Fits(usize),
}

/// Above this share of σ₁ the last of r directions is as busy as the first ones.
const BUSY: f64 = 0.35;
/// Under this share of σ₁ the last direction carries nothing that could be noticed.
const IDLE: f64 = 0.05;

impl Verdict {
    /// Of all r singular values of a pair.
    pub fn of(sigma: &[f32]) -> Self {
        let (Some(&first), Some(&last)) = (sigma.first(), sigma.last()) else { return Self::Nothing };
        if first <= 0.0 {
            return Self::Nothing;
        }
        let share = f64::from(last / first);
        let needed = energy_rank(sigma, 0.99);
        if sigma.len() > 1 && share < IDLE && 2 * needed <= sigma.len() {
            Self::Wasted(needed, share)
        } else if share > BUSY {
            Self::Small(share)
        } else {
            Self::Fits(needed)
        }
    }

    /// The rank that a run should try next, after one of rank r.
    pub fn next(&self, r: usize) -> Option<usize> {
        match *self {
            Self::Nothing => None,
            Self::Small(_) | Self::Fits(_) => Some(2 * r),
            Self::Wasted(needed, _) => Some(needed.next_power_of_two().min(r)),
        }
    }

    /// As a sentence, for a pair of rank r.
    pub fn sentence(&self, r: usize) -> String {
        match *self {
            Self::Nothing => "ΔW is still zero.".to_owned(),
            Self::Small(_) if r == 1 => {
                "r = 1 has a single direction: whether more would be used, only a larger r can show.".to_owned()
            }
            Self::Small(share) => format!(
                "r = {r} may be too small here: its weakest direction still has {:.0} % of the strength of its \
                 strongest. A larger r would find work for more of them.",
                100.0 * share
            ),
            Self::Wasted(needed, _) => format!(
                "The energy has fallen off: {needed} of {r} directions hold 99 % of it, the last ones are almost zero. Energy is \
                 not loss: what a smaller rank would cost, only a run can say."
            ),
            Self::Fits(needed) => format!(
                "The energy has fallen off at {needed} of {r}. Whether a larger rank lowers the loss, only a run can say."
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_by_hand() {
        assert!((effective(&[1.0, 1.0, 1.0, 1.0]) - 4.0).abs() < 1e-9);
        assert!((effective(&[3.0, 0.0]) - 1.0).abs() < 1e-9);
        assert_eq!((effective(&[]), effective(&[0.0])), (0.0, 0.0));
        // 9, 1: 90 % in the first.
        assert_eq!((energy_rank(&[3.0, 1.0], 0.9), energy_rank(&[3.0, 1.0], 0.91)), (1, 2));
        assert_eq!((energy_rank(&[3.0, 1.0], 1.0), energy_rank(&[0.0; 3], 0.9), energy_rank(&[], 0.9)), (2, 0, 0));
    }

    #[test]
    fn a_verdict_for_each_shape() {
        assert_eq!(Verdict::of(&[0.0, 0.0]), Verdict::Nothing);
        assert!(matches!(Verdict::of(&[1.0, 0.9, 0.8, 0.7]), Verdict::Small(share) if (share - 0.7).abs() < 1e-6));
        assert!(matches!(Verdict::of(&[1.0, 0.5, 0.01, 0.001]), Verdict::Wasted(2, _)));
        assert_eq!(Verdict::of(&[1.0, 0.6, 0.4, 0.2]), Verdict::Fits(4));
        assert!(Verdict::of(&[1.0, 0.5, 0.01, 0.001]).sentence(4).contains("2 of 4"));
        // No verdict on the loss: that only a run can give.
        let fallen = Verdict::of(&[1.0, 0.6, 0.4, 0.2]);
        assert!(fallen.sentence(4).ends_with("only a run can say."));
        assert_eq!((fallen.next(4), Verdict::of(&[1.0, 0.5, 0.01, 0.001]).next(4)), (Some(8), Some(2)));
    }
}
