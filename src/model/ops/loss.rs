//! Cross-entropy over rows of logits: `loss = log Σ e^l − l[target]`, `dl = (softmax(l) − onehot) · scale`.

use super::simd::{exp, largest, reduce, tanh, wide};
use rayon::prelude::*;

wide! {
    /// The loss of one row; the logits become their gradient.
    fn row(logits: &mut [f32], target: usize, softcap: f32, scale: f32) -> f32 {
        if softcap > 0.0 {
            for l in logits.iter_mut() {
                *l = softcap * tanh(*l / softcap);
            }
        }
        let most = largest(logits);
        let sum = reduce(logits.len(), |i| exp(logits[i] - most));
        let loss = (f64::from(sum).ln() + f64::from(most) - f64::from(logits[target])) as f32;
        // A capped logit's slope is 1 − (l / cap)².
        let of_target = if softcap > 0.0 { 1.0 - (logits[target] / softcap) * (logits[target] / softcap) } else { 1.0 };
        let factor = scale / sum;
        if softcap > 0.0 {
            for l in logits.iter_mut() {
                *l = exp(*l - most) * factor * (1.0 - (*l / softcap) * (*l / softcap));
            }
        } else {
            for l in logits.iter_mut() {
                *l = exp(*l - most) * factor;
            }
        }
        logits[target] -= scale * of_target;
        loss
    }
}

/// Where the largest of each row of `vocab` logits stands, of equals the first; 0 where they are NaN.
pub fn largest_of_rows(logits: &[f32], vocab: usize) -> Vec<u32> {
    let place = |row: &[f32]| {
        let most = largest(row);
        row.iter().position(|&l| l == most).unwrap_or(0) as u32
    };
    logits.par_chunks_exact(vocab).map(place).collect()
}

/// Below this a loss `−log p` says that its token has more than half of the probability: nothing is likelier, and greedy decoding
/// says it (arXiv 2605.30260).
pub const SURE: f32 = std::f32::consts::LN_2;

/// How many of these losses are below [`SURE`].
pub fn sure(losses: &[f32]) -> usize {
    losses.iter().filter(|&&loss| loss < SURE).count()
}

/// The losses of rows of `vocab` logits; the logits become their gradient, times `scale`. `softcap` is 0 where there is
/// none. A loss is NaN where the logits are.
pub fn cross_entropy(logits: &mut [f32], vocab: usize, targets: &[u32], softcap: f32, scale: f32) -> Vec<f32> {
    let rows = logits.par_chunks_exact_mut(vocab).zip(targets);
    rows.map(|(logits, &target)| row(logits, target as usize, softcap, scale)).collect()
}

wide! {
    /// Caps logits: `cap · tanh(l / cap)`.
    pub fn cap(logits: &mut [f32], softcap: f32) {
        for l in logits.iter_mut() {
            *l = softcap * tanh(*l / softcap);
        }
    }
}
