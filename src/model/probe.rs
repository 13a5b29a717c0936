//! Gradients by frozen weights, `dW = Σ dyᵀ x`, of several batches, without keeping all of them.
//!
//! ```text
//! forward    every batch, only the blocks' inputs are kept
//! backward   block by block, from the last: every batch goes through the block again, its weights' gradients add up,
//!            are handed over one by one, and are gone before the next block
//! ```
//!
//! So what is held beside a checkpointed step of these batches is one block's gradient.

use super::backend::{Backend, Cpu};
use super::decoder::Decoder;
use super::pass::{Batch, Input, Loss, Targets};
use super::watch::InputSquares;
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::Progress;
use std::collections::HashMap;

impl Decoder {
    /// Marks the linear layers whose gradients are wanted, those that are one product with them included; gives how many modules
    /// there are then.
    pub fn watch(&mut self, wanted: impl Fn(&str) -> bool) -> usize {
        let mut count = 0;
        for block in &mut self.blocks {
            let mut slot = 0;
            for linear in block.linears_mut() {
                let any = wanted(&linear.module) || linear.parts.iter().any(|(name, _)| wanted(name));
                linear.watched = any.then(|| {
                    slot += 1;
                    slot - 1
                });
            }
            count += block
                .linears()
                .filter(|linear| linear.watched.is_some())
                .map(|linear| linear.parts.len().max(1))
                .sum::<usize>();
        }
        count
    }

    /// Mean squares of what goes into each watched linear layer, channel by channel, by the checkpoint's names of its modules.
    /// Padding counts as any token does: batches of one row have none.
    ///
    /// # Errors
    /// As [`loss`](Self::loss); and cancellation.
    pub fn input_squares(
        &self,
        on: &Cpu,
        batches: &[Batch],
        progress: &dyn Progress,
    ) -> Result<HashMap<String, Vec<f64>>> {
        let squares = InputSquares::default();
        for (at, batch) in batches.iter().enumerate() {
            progress.step(at as u64, batches.len() as u64)?;
            self.loss(&Cpu { inputs: Some(&squares), ..*on }, *batch)?;
        }
        let mut means = squares.means();
        for linear in self.linears().filter(|linear| !linear.parts.is_empty()) {
            if let Some(mean) = means.remove(&linear.module) {
                means.extend(linear.parts.iter().map(|(name, _)| (name.clone(), mean.clone())));
            }
        }
        Ok(means)
    }

    /// The summed loss of `batches`; `found` gets the gradient of `scale` times it by each watched weight, `[out, in]`.
    ///
    /// # Errors
    /// Ids outside the vocabulary, sequences longer than the model allows, a model of which anything is trained, what
    /// `found` says; and cancellation.
    pub fn weight_gradients<B: Backend>(
        &self,
        on: &B,
        batches: &[Batch],
        scale: f32,
        progress: &dyn Progress,
        found: &mut dyn FnMut(&str, Matrix) -> Result<()>,
    ) -> Result<Loss> {
        if !self.params.list.is_empty() {
            return Err(Error::failure("a model is probed before anything in it is trained"));
        }
        let layers = self.blocks.len();
        let all: Vec<Input<B>> =
            batches.iter().map(|batch| Input::new(on, &self.spec, batch)).collect::<Result<_>>()?;
        let steps = (batches.len() * 3 * layers) as u64;
        let mut done = 0u64;
        let (mut passes, mut loss) = (Vec::new(), Loss::default());
        for (batch, input) in batches.iter().zip(&all) {
            let mut inputs = vec![self.begin(on, input)?.0];
            for (layer, block) in self.blocks.iter().enumerate() {
                progress.step(done, steps)?;
                inputs.push(block.forward(on, input.place(), &inputs[layer], None)?.0);
                done += 1;
            }
            let Some(x) = inputs.pop() else { continue };
            let mut sure = 0;
            let (sum, d) = self.end(on, &Targets::new(on, batch)?, scale, &x, &mut on.grads(&[])?, Some(&mut sure))?;
            loss = loss + Loss { sum: on.wait(sum)?, count: batch.predictions(), sure };
            passes.push((input.place(), inputs, d));
        }
        for (layer, block) in self.blocks.iter().enumerate().rev() {
            let watched = || block.linears().filter(|linear| linear.watched.is_some());
            let mut grads = on.grads(&watched().map(|linear| linear.shape).collect::<Vec<_>>())?;
            for (place, inputs, d) in &mut passes {
                progress.step(done, steps)?;
                let Some(x) = inputs.pop() else { break };
                let tape = block.forward(on, *place, &x, None)?.1;
                block.backward(on, *place, &x, tape, d, layer > 0, &mut grads)?;
                done += 2;
            }
            for (linear, gradient) in watched().zip(on.read_grads(grads)?) {
                let [out, width] = linear.shape;
                if linear.parts.is_empty() {
                    found(&linear.module, Matrix::new(out, width, gradient)?)?;
                    continue;
                }
                for (name, rows) in &linear.parts {
                    let part = gradient[rows.start * width..rows.end * width].to_vec();
                    found(name, Matrix::new(rows.len(), width, part)?)?;
                }
            }
        }
        progress.step(1, 1)?;
        Ok(loss)
    }
}
