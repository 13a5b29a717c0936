//! [`AdamW`], decoupled, as in torch.
//!
//! ```text
//! p ← p (1 − lr λ)    m ← β₁ m + (1 − β₁) g    v ← β₂ v + (1 − β₂) g²
//! p ← p − lr/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
//! ```

use super::params::{Grads, Params};

/// The moments of every parameter, in `f32`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdamW {
    /// Steps done.
    pub t: u64,
    /// Means of gradients.
    pub m: Vec<Vec<f32>>,
    /// Means of their squares.
    pub v: Vec<Vec<f32>>,
}

/// How a run updates its parameters.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Learning rate.
    pub lr: f64,
    /// λ.
    pub weight_decay: f64,
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε.
    pub eps: f64,
    /// The global norm to which gradients are scaled down, as torch's `clip_grad_norm_`; 0 for never.
    pub max_norm: f64,
}

/// One update, in the numbers that it is computed with.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// Learning rate, divided by `1 − β₁ᵗ`.
    pub step: f32,
    /// What parameters are multiplied by first: `1 − lr λ`.
    pub decay: f32,
    /// β₁.
    pub beta1: f32,
    /// β₂.
    pub beta2: f32,
    /// `√(1 − β₂ᵗ)`.
    pub root2: f32,
    /// ε.
    pub eps: f32,
    /// The global norm to which gradients are scaled down; 0 for never.
    pub max_norm: f64,
}

impl Rates {
    /// The update number `t`, from 1.
    pub fn update(&self, t: u64) -> Update {
        let corrected = |beta: f64| 1.0 - beta.powf(t as f64);
        Update {
            step: (self.lr / corrected(self.beta1)) as f32,
            decay: (1.0 - self.lr * self.weight_decay) as f32,
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            root2: corrected(self.beta2).sqrt() as f32,
            eps: self.eps as f32,
            max_norm: self.max_norm,
        }
    }
}

/// `sqrt(Σ g²)` over all gradients, in `f64`.
pub fn norm(grads: &Grads) -> f64 {
    grads.0.iter().flatten().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt()
}

impl AdamW {
    /// Nothing learned yet.
    pub fn new(params: &Params) -> Self {
        let zeros = params.zeros().0;
        Self { t: 0, m: zeros.clone(), v: zeros }
    }

    /// One step with gradients whose norm is `norm`, and which are scaled down where that is too large.
    pub fn step(&mut self, params: &mut Params, grads: &Grads, norm: f64, update: &Update) {
        self.t += 1;
        let Update { step, decay, beta1, beta2, root2, eps, max_norm } = *update;
        let factor = if max_norm > 0.0 { (max_norm / (norm + 1e-6)).min(1.0) } else { 1.0 } as f32;
        for (((param, g), m), v) in params.list.iter_mut().zip(&grads.0).zip(&mut self.m).zip(&mut self.v) {
            for (((p, &g), m), v) in param.value.iter_mut().zip(g).zip(m).zip(v) {
                let g = g * factor;
                *p *= decay;
                *m += (g - *m) * (1.0 - beta1);
                *v = *v * beta2 + g * g * (1.0 - beta2);
                *p -= step * *m / (v.sqrt() / root2 + eps);
            }
        }
    }
}
