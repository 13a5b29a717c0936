//! Gradients by frozen weights, `dW = Σ dyᵀ x`, of several batches, without keeping all of them.
//!
//! ```text
//! forward    every batch, only the blocks' inputs are kept
//! backward   block by block, from the last: every batch goes through the block again, its weights' gradients add up,
//!            are handed over one by one, and are gone before the next block
//! ```
//!
//! So what is held beside a checkpointed step of these batches is one block's gradient.

use super::block::Place;
use super::decoder::Decoder;
use super::linear::{Linear, Run};
use super::ops::{Buf, Pool};
use super::params::Grads;
use super::pass::{Batch, Loss};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::Progress;

impl Decoder {
    /// Marks the linear layers whose gradients are wanted; gives how many there are.
    pub fn watch(&mut self, wanted: impl Fn(&str) -> bool) -> usize {
        let mut count = 0;
        for block in &mut self.blocks {
            let mut slot = 0;
            for linear in Self::linears_mut(std::slice::from_mut(block)) {
                linear.watched = wanted(&linear.module).then(|| {
                    slot += 1;
                    slot - 1
                });
            }
            count += slot;
        }
        count
    }

    /// The summed loss of `batches`; `found` gets the gradient of `scale` times it by each watched weight, `[out, in]`.
    ///
    /// # Errors
    /// Ids outside the vocabulary, sequences longer than the model allows, a model of which anything is trained, what
    /// `found` says; and cancellation.
    pub fn weight_gradients(
        &self,
        pool: &Pool,
        batches: &[Batch],
        scale: f32,
        progress: &dyn Progress,
        found: &mut dyn FnMut(&Linear, Matrix) -> Result<()>,
    ) -> Result<Loss> {
        if !self.params.list.is_empty() {
            return Err(Error::failure("a model is probed before anything in it is trained"));
        }
        let run = Run::new(&self.params, pool);
        let layers = self.blocks.len();
        let tables: Vec<_> = batches.iter().map(|batch| self.tables(batch.longest(), batch.longest())).collect();
        let steps = (batches.len() * 3 * layers) as u64;
        let mut done = 0u64;
        let (mut all, mut loss) = (Vec::new(), Loss::default());
        for (batch, tables) in batches.iter().zip(&tables) {
            self.spec.check(batch)?;
            let place = Place { seq: batch.seq, first: 0, starts: batch.starts, tables };
            let mut inputs = vec![self.embed(&run, batch, 0)];
            for layer in 0..layers {
                progress.step(done, steps)?;
                let out = self.block_forward(&run, layer, place, &inputs[layer], None).0;
                inputs.push(out);
                done += 1;
            }
            let mut d = pool.zeros(batch.ids.len() * self.spec.hidden);
            let part = self.end(&run, *batch, scale, &inputs[layers], &mut d);
            loss = Loss { sum: loss.sum + part.sum, count: loss.count + part.count };
            inputs.pop();
            all.push((place, inputs, d));
        }
        for layer in (0..layers).rev() {
            let watched = |linear: &&Linear| linear.watched.is_some();
            let block = self.linears_of(layer).filter(watched);
            let mut grads = Grads(block.map(|linear| vec![0.0; linear.shape[0] * linear.shape[1]]).collect());
            for (place, inputs, d) in &mut all {
                progress.step(done, steps)?;
                let Some(x) = inputs.pop() else { break };
                let tape = self.block_forward(&run, layer, *place, &x, None).1;
                let d: &mut Buf = d;
                self.block_backward(&run, layer, *place, &x, tape, d, layer > 0, &mut grads);
                done += 2;
            }
            for (linear, gradient) in self.linears_of(layer).filter(watched).zip(grads.0) {
                let [out, inner] = linear.shape;
                found(linear, Matrix::new(out, inner, gradient)?)?;
            }
        }
        progress.step(1, 1)?;
        Ok(loss)
    }

    /// Norm, head and loss; `d` becomes the gradient by the last block's output `x`.
    fn end(&self, run: &Run, batch: Batch, scale: f32, x: &Buf, d: &mut Buf) -> Loss {
        let mut nothing = Grads::default();
        let h = self.norm_forward(run, &self.norm, x);
        let mut dh = run.pool.zeros(h.len());
        let loss = self.head_loss(run, &h, &batch.targets(), scale, Some((&mut dh, &mut nothing)));
        self.norm_backward(run.params, &self.norm, x, &dh, (d, false), &mut nothing);
        loss
    }

    /// The linear layers of one block, in order.
    fn linears_of(&self, layer: usize) -> impl Iterator<Item = &Linear> {
        let block = &self.blocks[layer];
        let qkv = block.qkv.iter().map(|part| &part.linear);
        let up = block.up.iter().map(|part| &part.linear);
        qkv.chain([&block.o]).chain(up).chain([&block.down])
    }
}
