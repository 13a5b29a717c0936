//! One block, forward and backward, on any [`Backend`].
//!
//! ```text
//! x ─ norm ─ mixer (─ norm) ─ + x ─► x₁
//! x₁ ─ norm ─ feed-forward (─ norm) ─ + x₁ ─► next x
//! ```
//!
//! In a parallel block the second norm reads x (or the feed-forward what the first norm gave), and both are added. The tape
//! keeps what cannot be had again cheaply; normalized inputs and what stands between the feed-forward's projections are
//! computed again. What a half computes is its own affair ([`mixer`](super::mixer), [`ffn`](super::ffn)): `forward` up to its
//! last projection, `output` with it, `backward` all of it.

use super::backend::{Backend, Cols, Place};
use super::decoder::{Block, NormWeights};
use super::ffn;
use super::half::{Gradient, Held, Reads};
use super::mixer;
use super::per_layer;
use crate::error::Result;

/// What a block's pass forward keeps for the pass backward, beside its input.
pub(super) struct Tape<B: Backend> {
    mixer: Option<mixer::Tape<B>>,
    /// The mixer's output before its norm.
    mixed: Option<B::Buf>,
    /// After the mixer; `None` where the block is parallel.
    middle: Option<B::Buf>,
    ffn: Option<ffn::Tape<B>>,
    /// The feed-forward's output before its norm.
    ffn_out: Option<B::Buf>,
    per_layer: Option<per_layer::Tape<B>>,
}

impl Block {
    /// What the feed-forward reads is normalized by this.
    fn second_norm(&self) -> Option<&NormWeights> {
        self.norm_ffn.as_ref().or(self.norm_in.as_ref().filter(|_| self.parallel))
    }

    /// Room for what the mixer keeps of a sequence that grows.
    pub(super) fn cache<B: Backend>(&self, on: &B, positions: usize) -> Result<Option<B::Cache>> {
        self.mixer.as_ref().map(|mixer| mixer.cache(on, positions)).transpose().map(Option::flatten)
    }

    /// The block's output, and the tape.
    pub(super) fn forward<B: Backend>(
        &self,
        on: &B,
        place: Place<B>,
        x: &B::Buf,
        cache: Option<&mut B::Cache>,
    ) -> Result<(B::Buf, Tape<B>)> {
        let (mut tape, mut mixed, mut out) = (None, None, None);
        if let Some(mixer) = &self.mixer {
            let reads = Reads { norm: self.norm_in.as_ref(), x };
            let kept = mixer.forward(on, place, &reads, cache)?;
            let mut sum = reads.carried(on, self.normed)?;
            mixed = self.added(
                on,
                self.norm_mixed.as_ref(),
                || mixer.name(),
                &mut sum,
                |y, keep| mixer.output(on, &kept, y, keep),
            )?;
            (tape, out) = (Some(kept), Some(sum));
        }
        let mut out = match out {
            Some(out) => out,
            None => on.copy(x)?,
        };
        let middle = if self.parallel { None } else { Some(on.copy(&out)?) };
        let (mut ffn_tape, mut ffn_out) = (None, None);
        if let Some(ffn) = &self.ffn {
            let reads = Reads { norm: self.second_norm(), x: middle.as_ref().unwrap_or(x) };
            let kept = ffn.forward(on, place.rows, &reads)?;
            if self.normed {
                out = reads.carried(on, true)?;
            }
            ffn_out = self.added(
                on,
                self.norm_out.as_ref(),
                || ffn.name(),
                &mut out,
                |y, keep| ffn.output(on, &kept, y, keep),
            )?;
            ffn_tape = Some(kept);
        }
        let per_layer = self.per_layer.as_ref().map(|part| part.forward(on, place, &mut out)).transpose()?;
        if self.scalar != 1.0 {
            on.scale(&mut out, self.scalar)?;
        }
        Ok((out, Tape { mixer: tape, mixed, middle, ffn: ffn_tape, ffn_out, per_layer }))
    }

    /// Adds `s ·` what `write` gives to `out`, through a norm where there is one: then what went into the norm is given. `write`
    /// adds where its second argument is true.
    fn added<B: Backend>(
        &self,
        on: &B,
        norm: Option<&NormWeights>,
        name: impl Fn() -> String,
        out: &mut B::Buf,
        write: impl FnOnce(&mut B::Buf, bool) -> Result<()>,
    ) -> Result<Option<B::Buf>> {
        let whole = Cols::all(self.width);
        let kept = if norm.is_none() && self.residual_scale == 1.0 {
            write(out, true)?;
            None
        } else {
            let mut given = on.alloc(on.len(out))?;
            write(&mut given, false)?;
            on.see(&name, &given, whole.stride, whole);
            on.add(out, &*Reads::<B> { norm, x: &given }.values(on)?, self.residual_scale)?;
            norm.is_some().then_some(given)
        };
        on.see(name, out, whole.stride, whole);
        Ok(kept)
    }

    /// The gradient by what a half gave, from the one by the stream `d` that it was added to.
    fn half_gradient<'a, B: Backend>(
        &self,
        on: &B,
        norm: Option<&NormWeights>,
        before: Option<&B::Buf>,
        d: &'a B::Buf,
        grads: &mut B::Grads,
    ) -> Result<Held<'a, B::Buf>> {
        let scaled = if self.residual_scale == 1.0 {
            Held::Borrowed(d)
        } else {
            let mut scaled = on.copy(d)?;
            on.scale(&mut scaled, self.residual_scale)?;
            Held::Own(scaled)
        };
        let (Some(norm), Some(before)) = (norm, before) else { return Ok(scaled) };
        let mut dx = on.alloc(on.len(d))?;
        on.norm_backward(norm, before, &scaled, &mut dx, false, grads)?;
        Ok(Held::Own(dx))
    }

    /// Turns the gradient by the block's output, in `d`, into the one by its input `x`. Where `wanted` is false nobody
    /// needs that, and `d` is left in between.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn backward<B: Backend>(
        &self,
        on: &B,
        place: Place<B>,
        x: &B::Buf,
        tape: Tape<B>,
        d: &mut B::Buf,
        wanted: bool,
        grads: &mut B::Grads,
    ) -> Result<()> {
        let Tape { mixer, mixed, middle, ffn, ffn_out, per_layer } = tape;
        if self.scalar != 1.0 {
            on.scale(d, self.scalar)?;
        }
        if let (Some(part), Some(tape)) = (&self.per_layer, per_layer) {
            part.backward(on, place, tape, d, grads)?;
        }
        // Parallel blocks: both halves get the gradient of the output, and add to it.
        let out_gradient = if self.parallel { Some(on.copy(d)?) } else { None };
        if let (Some(half), Some(tape)) = (&self.ffn, ffn) {
            let reads = Reads { norm: self.second_norm(), x: middle.as_ref().unwrap_or(x) };
            let dy = self.half_gradient(on, self.norm_out.as_ref(), ffn_out.as_ref(), d, grads)?;
            let Gradient { by_values, by_stream } = half.backward(on, place.rows, &reads, tape, dy, grads)?;
            reads.carried_backward(on, self.normed, &by_values, d, grads)?;
            if let Some(by_stream) = by_stream {
                on.add(d, &by_stream, 1.0)?;
            }
        }
        let (Some(half), Some(tape)) = (&self.mixer, mixer) else { return Ok(()) };
        let reads = Reads { norm: self.norm_in.as_ref(), x };
        let from = out_gradient.as_ref().unwrap_or(d);
        let dy = self.half_gradient(on, self.norm_mixed.as_ref(), mixed.as_ref(), from, grads)?;
        match half.backward(on, place, &reads, tape, dy, wanted || reads.is_trained(), grads)? {
            Some(dh) => reads.carried_backward(on, self.normed, &dh, d, grads),
            None => Ok(()),
        }
    }
}
