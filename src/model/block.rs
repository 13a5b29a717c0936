//! One block, forward and backward, on any [`Backend`].
//!
//! ```text
//! x ─ norm ─ mixer (─ norm) ─ + x ─► x₁           mixer: qkv ─ (norms) ─ rope ─ attention ─ o
//! x₁ ─ norm ─ feed-forward (─ norm) ─ + x₁ ─► next x      feed-forward: gate, up ─ act ─ down
//! ```
//!
//! In a parallel block the second norm reads x (or the feed-forward what the first norm gave), and both are added. The tape
//! keeps what cannot be had again cheaply; normalized inputs and what stands between the feed-forward's projections are
//! computed again.

use super::backend::{Backend, Cols, Place};
use super::decoder::{Attention, Block, FeedForward, Mixer, Mlp, NormWeights};
use super::linear::Linear;
use super::watch::parent;
use crate::error::Result;

/// What a block's pass forward keeps for the pass backward, beside its input.
pub(super) struct Tape<B: Backend> {
    heads: Option<(B::Heads, B::Buf)>,
    /// What gates the attention's output.
    gate: Option<B::Buf>,
    /// The mixer's output before its norm.
    mixed: Option<B::Buf>,
    /// After the mixer; `None` where the block is parallel.
    middle: Option<B::Buf>,
    up: Option<B::Buf>,
    /// The feed-forward's output before its norm.
    down: Option<B::Buf>,
}

/// What a norm gives, or what would go into it where there is none.
enum Normed<'a, T> {
    Own(T),
    Input(&'a T),
}

impl<T> std::ops::Deref for Normed<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Own(own) => own,
            Self::Input(input) => input,
        }
    }
}

fn normed<'a, B: Backend>(on: &B, norm: Option<&NormWeights>, x: &'a B::Buf) -> Result<Normed<'a, B::Buf>> {
    match norm {
        Some(norm) => Ok(Normed::Own(on.norm(norm, x)?)),
        None => Ok(Normed::Input(x)),
    }
}

/// The way back: `dx += …`.
fn normed_backward<B: Backend>(
    on: &B,
    norm: Option<&NormWeights>,
    x: &B::Buf,
    dy: &B::Buf,
    dx: &mut B::Buf,
    grads: &mut B::Grads,
) -> Result<()> {
    match norm {
        Some(norm) => on.norm_backward(norm, x, dy, dx, true, grads),
        None => on.add(dx, dy, 1.0),
    }
}

impl Block {
    /// What the feed-forward reads is normalized by this.
    fn second_norm(&self) -> Option<&NormWeights> {
        self.norm_ffn.as_ref().or(self.norm_in.as_ref().filter(|_| self.parallel))
    }

    /// Room for keys and values, where there is attention.
    pub(super) fn cache<B: Backend>(&self, on: &B, positions: usize) -> Result<Option<B::Cache>> {
        match &self.mixer {
            Some(Mixer::Attention(attention)) => on.cache(attention, positions).map(Some),
            None => Ok(None),
        }
    }

    /// The block's output, and the tape.
    pub(super) fn forward<B: Backend>(
        &self,
        on: &B,
        place: Place<B>,
        x: &B::Buf,
        cache: Option<&mut B::Cache>,
    ) -> Result<(B::Buf, Tape<B>)> {
        let (mut heads, mut gate, mut mixed, mut out) = (None, None, None, None);
        if let Some(Mixer::Attention(attention)) = &self.mixer {
            let qkv = {
                let h = normed(on, self.norm_in.as_ref(), x)?;
                gate = attention.project_gate(on, place.rows, &h)?;
                attention.project(on, place.rows, &h)?
            };
            let (attended, kept) = on.attention(attention, place, qkv, cache)?;
            let width = attention.spec.width();
            on.see(|| parent(&attention.o.module), &attended, width, Cols::all(width));
            let gated = gate.as_ref().map(|gate| on.gate(&attended, gate)).transpose()?;
            let mut sum = on.copy(x)?;
            let read = gated.as_ref().unwrap_or(&attended);
            mixed = self.added(on, &attention.o, read, self.norm_mixed.as_ref(), &mut sum)?;
            (heads, out) = (Some((kept, attended)), Some(sum));
        }
        let mut out = match out {
            Some(out) => out,
            None => on.copy(x)?,
        };
        let middle = if self.parallel { None } else { Some(on.copy(&out)?) };
        let (mut up, mut down) = (None, None);
        if let Some(FeedForward::Dense(mlp)) = &self.ffn {
            let rows = mlp.project(on, place.rows, &*normed(on, self.second_norm(), middle.as_ref().unwrap_or(x))?)?;
            let between = on.activation(mlp.nonlinear(), &rows)?;
            on.see(|| parent(&mlp.down.module), &between, mlp.spec.width, Cols::all(mlp.spec.width));
            down = self.added(on, &mlp.down, &between, self.norm_out.as_ref(), &mut out)?;
            up = Some(rows);
        }
        Ok((out, Tape { heads, gate, mixed, middle, up, down }))
    }

    /// Adds `s · linear(x)` to `out`, through a norm where there is one: then what went into the norm is given.
    fn added<B: Backend>(
        &self,
        on: &B,
        linear: &Linear,
        x: &B::Buf,
        norm: Option<&NormWeights>,
        out: &mut B::Buf,
    ) -> Result<Option<B::Buf>> {
        let whole = Cols::all(linear.shape[0]);
        let kept = if norm.is_none() && self.residual_scale == 1.0 {
            linear.forward(on, x, out, whole, true)?;
            None
        } else {
            let mut projected = on.alloc(on.len(out))?;
            linear.forward(on, x, &mut projected, whole, false)?;
            on.see(|| linear.module.clone(), &projected, whole.stride, whole);
            on.add(out, &*normed(on, norm, &projected)?, self.residual_scale)?;
            norm.is_some().then_some(projected)
        };
        on.see(|| linear.module.clone(), out, whole.stride, whole);
        Ok(kept)
    }

    /// The gradient by what a projection gave, from the one by the stream `d` that it was added to; `None` where that is `d`.
    fn branch_gradient<B: Backend>(
        &self,
        on: &B,
        norm: Option<&NormWeights>,
        before: Option<&B::Buf>,
        d: &B::Buf,
        grads: &mut B::Grads,
    ) -> Result<Option<B::Buf>> {
        let scaled = if self.residual_scale == 1.0 {
            None
        } else {
            let mut scaled = on.copy(d)?;
            on.scale(&mut scaled, self.residual_scale)?;
            Some(scaled)
        };
        let (Some(norm), Some(before)) = (norm, before) else { return Ok(scaled) };
        let mut dx = on.alloc(on.len(d))?;
        on.norm_backward(norm, before, scaled.as_ref().unwrap_or(d), &mut dx, false, grads)?;
        Ok(Some(dx))
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
        let Tape { heads, mut gate, mixed, middle, up, down } = tape;
        // Parallel blocks: both branches get the gradient of the output, and add to it.
        let out_gradient = if self.parallel { Some(on.copy(d)?) } else { None };
        if let (Some(FeedForward::Dense(mlp)), Some(mut up)) = (&self.ffn, up) {
            let from = middle.as_ref().unwrap_or(x);
            {
                let d_down = self.branch_gradient(on, self.norm_out.as_ref(), down.as_ref(), d, grads)?;
                let mut d_between = on.alloc(place.rows * mlp.spec.width)?;
                {
                    let between = on.activation(mlp.nonlinear(), &up)?;
                    let dy = (d_down.as_ref().unwrap_or(d), Cols::all(mlp.down.shape[0]));
                    mlp.down.backward(on, &between, dy, Some((&mut d_between, false)), grads)?;
                }
                on.activation_backward(mlp.nonlinear(), &mut up, &d_between)?;
            }
            let h = normed(on, self.second_norm(), from)?;
            let mut dh = on.alloc(on.len(from))?;
            for (index, part) in mlp.up.iter().enumerate() {
                let at = Cols { first: part.offset, stride: mlp.spec.up_width() };
                part.linear.backward(on, &h, (&up, at), Some((&mut dh, index > 0)), grads)?;
            }
            drop(h);
            normed_backward(on, self.second_norm(), from, &dh, d, grads)?;
        }
        let (Some(Mixer::Attention(attention)), Some((heads, attended))) = (&self.mixer, heads) else { return Ok(()) };
        let d_qkv = {
            let d_out = out_gradient.as_ref().unwrap_or(d);
            let d_mixed = self.branch_gradient(on, self.norm_mixed.as_ref(), mixed.as_ref(), d_out, grads)?;
            let mut d_attended = on.alloc(on.len(&attended))?;
            let dy = (d_mixed.as_ref().unwrap_or(d_out), Cols::all(attention.o.shape[0]));
            let gated = gate.as_ref().map(|gate| on.gate(&attended, gate)).transpose()?;
            let read = gated.as_ref().unwrap_or(&attended);
            attention.o.backward(on, read, dy, Some((&mut d_attended, false)), grads)?;
            if let Some(gate) = &mut gate {
                on.gate_backward(&attended, gate, &mut d_attended)?;
            }
            on.attention_backward(attention, place, heads, attended, &d_attended, grads)?
        };
        let h = normed(on, self.norm_in.as_ref(), x)?;
        let trained = self.norm_in.as_ref().is_some_and(NormWeights::is_trained);
        let mut dh = if wanted || trained { Some(on.alloc(on.len(x))?) } else { None };
        for (index, part) in attention.projections.iter().enumerate() {
            let at = Cols { first: part.offset, stride: attention.spec.row() };
            let dx = dh.as_mut().map(|dh| (dh, index > 0));
            part.linear.backward(on, &h, (&d_qkv, at), dx, grads)?;
        }
        if let (Some(linear), Some(d_gate)) = (&attention.gate, &gate) {
            let dx = dh.as_mut().map(|dh| (dh, true));
            linear.backward(on, &h, (d_gate, Cols::all(attention.spec.width())), dx, grads)?;
        }
        match dh {
            Some(dh) => normed_backward(on, self.norm_in.as_ref(), x, &dh, d, grads),
            None => Ok(()),
        }
    }
}

/// Fills the columns of rows, part by part.
fn project<B: Backend>(
    on: &B,
    parts: &[super::decoder::Part],
    rows: usize,
    stride: usize,
    h: &B::Buf,
) -> Result<B::Buf> {
    let mut to = on.alloc(rows * stride)?;
    for part in parts {
        let at = Cols { first: part.offset, stride };
        part.linear.forward(on, h, &mut to, at, false)?;
        on.see(|| part.linear.module.clone(), &to, part.linear.shape[0], at);
    }
    Ok(to)
}

impl Attention {
    fn project_gate<B: Backend>(&self, on: &B, rows: usize, h: &B::Buf) -> Result<Option<B::Buf>> {
        let Some(gate) = &self.gate else { return Ok(None) };
        let width = self.spec.width();
        let mut to = on.alloc(rows * width)?;
        gate.forward(on, h, &mut to, Cols::all(width), false)?;
        on.see(|| gate.module.clone(), &to, width, Cols::all(width));
        Ok(Some(to))
    }

    fn project<B: Backend>(&self, on: &B, rows: usize, h: &B::Buf) -> Result<B::Buf> {
        project(on, &self.projections, rows, self.spec.row(), h)
    }
}

impl Mlp {
    fn project<B: Backend>(&self, on: &B, rows: usize, h: &B::Buf) -> Result<B::Buf> {
        project(on, &self.up, rows, self.spec.up_width(), h)
    }
}
