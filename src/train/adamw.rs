//! [`AdamW`], decoupled, as in torch.
//!
//! ```text
//! p ← p (1 − lr λ)    m ← β₁ m + (1 − β₁) g    v ← β₂ v + (1 − β₂) g²
//! p ← p − lr/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
//! ```

use super::Settings;
use crate::model::{Grads, Params};

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

    /// One step with gradients that are first multiplied by `factor`.
    pub fn step(&mut self, params: &mut Params, grads: &Grads, factor: f32, lr: f64, settings: &Settings) {
        self.t += 1;
        let (beta1, beta2) = (settings.beta1 as f32, settings.beta2 as f32);
        let corrected1 = 1.0 - settings.beta1.powf(self.t as f64);
        let root2 = (1.0 - settings.beta2.powf(self.t as f64)).sqrt() as f32;
        let (step, decay) = ((lr / corrected1) as f32, (1.0 - lr * settings.weight_decay) as f32);
        let eps = settings.eps as f32;
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
