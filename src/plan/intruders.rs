//! Intruders (arXiv 2410.21228): top directions of a tuned weight that the base had nothing like. They come with forgetting; scaled down,
//! the base's own text gets better at little cost to the task.
//!
//! ```text
//! W + ΔW = Σ σᵢ uᵢ vᵢᵀ     damped by λ:  ΔW − (1 − λ) Σ_{i an intruder} σᵢ uᵢ vᵢᵀ     rank r + their number
//! ```

use super::compare::{self, Side};
use crate::delta::{DeltaSet, LowRank};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::Progress;
use serde::Serialize;

/// An intruder of one module.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Intruder {
    /// Its place among the tuned weight's directions, from 1.
    pub place: usize,
    /// Its σ in the tuned weight.
    pub sigma: f64,
    /// The largest cosine with any direction of the base.
    pub cosine: f64,
    /// Its left vector.
    #[serde(skip)]
    pub u: Vec<f32>,
    /// Its right vector.
    #[serde(skip)]
    pub v: Vec<f32>,
}

/// Those among the top `k` directions of the tuned weight of module `name` whose cosine with every direction of the base is under
/// `epsilon`.
///
/// # Errors
/// As [`compare::familiar`].
pub fn find(set: &DeltaSet, name: &str, k: usize, epsilon: f64, progress: &dyn Progress) -> Result<Vec<Intruder>> {
    let (sigma, vectors, familiar) = compare::tuned_directions(set, name, k, Side::Left, progress)?;
    let column = |of: &Matrix, i: usize| (0..of.rows()).map(|row| of.get(row, i)).collect::<Vec<f32>>();
    let found = familiar.iter().enumerate().filter(|(_, one)| one.is_intruder(epsilon));
    Ok(found
        .map(|(i, one)| Intruder {
            place: i + 1,
            sigma: sigma.get(i).copied().unwrap_or(0.0),
            cosine: one.cosine,
            u: column(&vectors.u, i),
            v: column(&vectors.v, i),
        })
        .collect())
}

/// ΔW with its intruders scaled by λ, scaled by 1: a direction more for each of them.
///
/// # Errors
/// λ that is no share.
pub fn damped(delta: &LowRank, intruders: &[Intruder], lambda: f64) -> Result<LowRank> {
    if !(0.0..=1.0).contains(&lambda) {
        return Err(Error::usage(format!("scale {lambda}; expected a number from 0 (taken out) to 1 (left as it is)")));
    }
    let r = delta.a.rows();
    let width = r + intruders.len();
    let b = Matrix::from_fn(delta.b.rows(), width, |row, i| {
        if i < r {
            delta.b.get(row, i) * delta.scaling as f32
        } else {
            let one = &intruders[i - r];
            -((1.0 - lambda) * one.sigma) as f32 * one.u[row]
        }
    });
    let a = Matrix::from_fn(
        width,
        delta.a.cols(),
        |i, col| if i < r { delta.a.get(i, col) } else { intruders[i - r].v[col] },
    );
    Ok(LowRank { b, a, scaling: 1.0, epsilon: delta.epsilon })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::DeltaWeight;

    #[test]
    fn an_intruder_is_scaled_and_nothing_else() {
        let (b, a) = (Matrix::from_fn(3, 1, |row, _| row as f32), Matrix::from_fn(1, 2, |_, col| 1.0 + col as f32));
        let delta = LowRank { b, a, scaling: 2.0, epsilon: f64::from(f32::EPSILON) };
        let one = Intruder { place: 1, sigma: 4.0, cosine: 0.1, u: vec![1.0, 0.0, 0.0], v: vec![0.0, 1.0] };
        let dense = |low: LowRank| DeltaWeight::LowRank(low).dense(&()).unwrap().into_owned();
        let (before, after) = (dense(delta.clone()), dense(damped(&delta, std::slice::from_ref(&one), 0.25).unwrap()));
        for (at, (x, y)) in before.data().iter().zip(after.data()).enumerate() {
            // Row 0, column 1: three quarters of σ are gone.
            let off = if at == 1 { 3.0 } else { 0.0 };
            assert!((x - y - off).abs() < 1e-6, "{at}: {x} {y}");
        }
        assert!(damped(&delta, &[one], 1.5).unwrap_err().to_string().contains("scale 1.5"));
    }
}
