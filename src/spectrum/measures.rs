//! Numbers that say how many directions a spectrum really uses.
//!
//! `E(k) = Σ_{i≤k} σ_i² / Σσ²` is the share of energy in the first `k` directions. By Eckart–Young no matrix of rank `k` comes
//! closer to ΔW than `U_k S_k V_kᵀ`, whose relative error is `sqrt(1 - E(k))` in the Frobenius norm.
//!
//! `Σσ² = ‖ΔW‖_F²` is known without any decomposition, so energies are exact for approximate spectra too; what would need
//! the unknown singular values is `None`, never a guess.

use super::{Spectrum, noise};

/// Below this share of σ₁ a value of an `f32` matrix tells of rounding in the computation, not of ΔW.
const FLOOR: f64 = 1e-7;

/// Every measure of one spectrum. `None`: it cannot be known from the singular values that there are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranks {
    /// Smallest `k` with `E(k) ≥ 0.90`.
    pub energy_90: Option<usize>,
    /// Smallest `k` with `E(k) ≥ 0.95`.
    pub energy_95: Option<usize>,
    /// Smallest `k` with `E(k) ≥ 0.99`.
    pub energy_99: Option<usize>,
    /// `Σσ² / σ₁²`; 0 for a zero matrix.
    pub stable: f64,
    /// Roy & Vetterli 2007: `exp(-Σ q ln q)` with `q = σ / Σσ`; 0 for a zero matrix.
    pub effective: Option<f64>,
    /// `(Σσ²)² / Σσ⁴`; 0 for a zero matrix.
    pub participation: Option<f64>,
    /// How many `σ > max(m, n) · ε · σ₁`, with ε of the dtype that the weights are stored in.
    pub numerical: Option<usize>,
    /// Gavish & Donoho's optimal threshold for noise of unknown strength. Never of `B·A`, whose median singular value is 0.
    pub gavish_donoho: Option<usize>,
    /// How many σ stand above the edge `s (√m + √n)` of the noise that storing both models in few bits has left.
    pub rounding: Option<usize>,
}

impl Spectrum {
    /// `Σσ²`, zeros and unlisted values included.
    pub fn energy_total(&self) -> f64 {
        if self.is_complete() { self.known().map(|s| s * s).sum() } else { self.frobenius * self.frobenius }
    }

    /// `E(k)`, between 0 and 1. A zero matrix has all its energy in no direction: 1.
    ///
    /// Beyond the known values of an approximate spectrum this is the energy of all known ones: a lower bound.
    pub fn energy(&self, k: usize) -> f64 {
        let total = self.energy_total();
        if total == 0.0 {
            return 1.0;
        }
        (self.known().take(k).map(|s| s * s).sum::<f64>() / total).min(1.0)
    }

    /// `E(0), E(1), …, E(known)`: the whole curve in one pass.
    pub fn energy_curve(&self) -> Vec<f64> {
        let total = self.energy_total();
        let share = |sum: f64| if total == 0.0 { 1.0 } else { (sum / total).min(1.0) };
        let sums = self.known().scan(0.0, |sum, s| {
            *sum += s * s;
            Some(share(*sum))
        });
        std::iter::once(share(0.0)).chain(sums).collect()
    }

    /// `‖ΔW - ΔW_k‖_F / ‖ΔW‖_F = sqrt(1 - E(k))`: what the best matrix of rank `k` misses; 0 for a zero matrix.
    ///
    /// Summed from the tail where that is known, so that small errors keep their digits.
    pub fn relative_error(&self, k: usize) -> f64 {
        let total = self.energy_total();
        if total == 0.0 { 0.0 } else { (self.tail_energy(k) / total).min(1.0).sqrt() }
    }

    /// `Σ_{i>k} σ_i²`: the squared Frobenius error of the best matrix of rank `k`.
    pub fn tail_energy(&self, k: usize) -> f64 {
        if self.is_complete() {
            let beyond = self.known_len().saturating_sub(k);
            // From 0: the sum of nothing is −0 otherwise.
            self.known().rev().take(beyond).fold(0.0, |sum, s| sum + s * s)
        } else {
            (self.energy_total() - self.known().take(k).map(|s| s * s).sum::<f64>()).max(0.0)
        }
    }

    /// `σ_{k+1}`: the spectral norm of what the best matrix of rank `k` misses. `None` where it is not known.
    pub fn spectral_error(&self, k: usize) -> Option<f64> {
        self.known().nth(k).or_else(|| self.is_complete().then_some(0.0))
    }

    /// Smallest `k` with `E(k) ≥ share`; `None` when the known values do not reach it. 0 for a zero matrix.
    pub fn energy_rank(&self, share: f64) -> Option<usize> {
        let target = share * self.energy_total();
        let mut sum = 0.0;
        if sum >= target {
            return Some(0);
        }
        for (index, s) in self.known().enumerate() {
            sum += s * s;
            if sum >= target {
                return Some(index + 1);
            }
        }
        // All there is: a share of 1 that rounding keeps out of reach.
        self.is_complete().then(|| self.count_above(0.0).unwrap_or(0))
    }

    /// How many `σ > threshold`; `None` when unknown ones could be above it too.
    pub fn count_above(&self, threshold: f64) -> Option<usize> {
        let count = self.known().take_while(|&s| s > threshold).count();
        // No unknown value is larger than the smallest known one, nor than all the energy that is left.
        let settled = self.is_complete() || count < self.known_len() || self.tail_energy(count).sqrt() <= threshold;
        settled.then_some(count)
    }

    /// The largest singular value, the spectral norm; 0 when there is none.
    pub fn largest(&self) -> f64 {
        self.known().next().unwrap_or(0.0)
    }

    /// `Σσ² / σ₁²`.
    pub fn stable_rank(&self) -> f64 {
        let largest = self.largest();
        if largest > 0.0 { self.energy_total() / (largest * largest) } else { 0.0 }
    }

    /// `exp(-Σ q ln q)`, `q = σ / Σσ`.
    pub fn effective_rank(&self) -> Option<f64> {
        if !self.is_complete() {
            return None;
        }
        let sum: f64 = self.known().sum();
        if sum == 0.0 {
            return Some(0.0);
        }
        let entropy: f64 = self.known().map(|s| s / sum).filter(|&q| q > 0.0).map(|q| -q * q.ln()).sum();
        Some(entropy.exp())
    }

    /// `(Σσ²)² / Σσ⁴`.
    pub fn participation_ratio(&self) -> Option<f64> {
        if !self.is_complete() {
            return None;
        }
        // In units of σ₁: no power overflows or vanishes.
        let largest = self.largest();
        if largest == 0.0 {
            return Some(0.0);
        }
        let (two, four) = self.known().map(|s| (s / largest).powi(2)).fold((0.0, 0.0), |(a, b), p| (a + p, b + p * p));
        Some(two * two / four)
    }

    /// Singular values above [`numerical_threshold`](Self::numerical_threshold); `None` where the rule does not apply: the type of
    /// a large matrix may be so coarse that the threshold lies above every singular value.
    pub fn numerical_rank(&self) -> Option<usize> {
        let applies = self.numerical_threshold() < self.largest() || self.largest() == 0.0;
        applies.then(|| self.count_above(self.numerical_threshold())).flatten()
    }

    /// `max(m, n) · ε · σ₁`.
    pub fn numerical_threshold(&self) -> f64 {
        self.shape[0].max(self.shape[1]) as f64 * self.epsilon * self.largest()
    }

    /// `s (√m + √n)`, the largest singular value that rounding noise alone would show.
    pub fn rounding_edge(&self) -> Option<f64> {
        let [m, n] = self.shape;
        self.rounding_std.filter(|_| !self.low_rank).map(|s| noise::edge(m, n, s))
    }

    /// `λ*(β) √n s` with the rounding noise as the known noise.
    pub fn known_noise_threshold(&self) -> Option<f64> {
        let [m, n] = self.shape;
        self.rounding_std.filter(|_| !self.low_rank).map(|s| noise::known_threshold(m, n, s))
    }

    /// `ω(β) · median(σ)`: `None` for `B·A`, for an approximate spectrum, and where more than half of the values are zero.
    pub fn unknown_noise_threshold(&self) -> Option<f64> {
        let full = self.full_rank();
        if self.low_rank || !self.is_complete() || full == 0 || self.known_len() < full {
            return None;
        }
        let at = |index| self.known().nth(index).unwrap_or(0.0);
        let median = (at((full - 1) / 2) + at(full / 2)) / 2.0;
        (median > FLOOR * self.largest()).then(|| noise::unknown_threshold(self.shape[0], self.shape[1], median))
    }

    /// All measures at once.
    pub fn ranks(&self) -> Ranks {
        Ranks {
            energy_90: self.energy_rank(0.90),
            energy_95: self.energy_rank(0.95),
            energy_99: self.energy_rank(0.99),
            stable: self.stable_rank(),
            effective: self.effective_rank(),
            participation: self.participation_ratio(),
            numerical: self.numerical_rank(),
            gavish_donoho: self.unknown_noise_threshold().and_then(|t| self.count_above(t)),
            rounding: self.rounding_edge().and_then(|t| self.count_above(t)),
        }
    }
}
