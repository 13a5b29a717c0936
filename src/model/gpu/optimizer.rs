//! [`Update`]: AdamW beside the parameters, without anybody waiting for the norm by which gradients are clipped.

use super::machine::Kind;
use super::pass::Model;
use crate::error::Result;

/// What one update is told.
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
    pub max_norm: f32,
}

/// Groups over which the squares of the gradient are added up.
const PARTS: usize = 512;

impl Model {
    /// Clips and updates; then waits, once, for the sum of the losses and the norm of the gradient before clipping. Where one
    /// of them is NaN or infinite, nothing has changed.
    ///
    /// # Errors
    /// When the machine's memory does not suffice.
    pub fn update(&mut self, update: Update) -> Result<(f64, f64)> {
        let shelf = &self.gpu.shelf;
        let count = self.arena.count;
        if self.arena.moments.is_none() {
            self.arena.moments = Some((shelf.zeros(Kind::F32, count)?, shelf.zeros(Kind::F32, count)?));
        }
        let (Some(g), Some((m, v))) = (&self.arena.g, &self.arena.moments) else { return Ok((0.0, 0.0)) };
        let parts = shelf.take(Kind::F32, 2 * PARTS)?;
        let [g, m, v, p, totals] = [g, m, v, &self.arena.p, &self.totals].map(|tensor| tensor.all().address);
        let (working, parts) = (self.arena.working.as_ref().map_or(0, |w| w.all().address), parts.all().address);
        let words = [count as u64];
        self.gpu.run("squares", PARTS, &[g, parts], &[], &[], &words)?;
        self.gpu.run("sum_parts", 1, &[parts, totals], &[1, PARTS], &[], &[])?;
        let Update { step, decay, beta1, beta2, root2, eps, max_norm } = update;
        let fractions = [max_norm, step, decay, 1.0 - beta1, 1.0 - beta2, eps, root2];
        let groups = count.div_ceil(256).clamp(1, 1 << 14);
        self.gpu.run("adamw", groups, &[p, g, m, v, working, totals], &[], &fractions, &words)?;
        let [loss, squares] = self.read_totals()?;
        Ok((loss, squares.sqrt()))
    }

    /// The moments: none before the first update.
    ///
    /// # Errors
    /// When the machine does not answer.
    #[allow(clippy::type_complexity)]
    pub fn read_moments(&self) -> Result<Option<(Vec<Vec<f32>>, Vec<Vec<f32>>)>> {
        let Some((m, v)) = &self.arena.moments else { return Ok(None) };
        Ok(Some((self.arena.read(&self.gpu, m)?, self.arena.read(&self.gpu, v)?)))
    }

    /// Takes moments, as [`read_moments`](Self::read_moments) gives them.
    ///
    /// # Errors
    /// When the machine's memory does not suffice.
    pub fn put_moments(&mut self, m: &[Vec<f32>], v: &[Vec<f32>]) -> Result<()> {
        let shelf = &self.gpu.shelf;
        let count = self.arena.count;
        let moments = (shelf.zeros(Kind::F32, count)?, shelf.zeros(Kind::F32, count)?);
        self.arena.write(&self.gpu, &moments.0, m)?;
        self.arena.write(&self.gpu, &moments.1, v)?;
        self.arena.moments = Some(moments);
        Ok(())
    }
}
