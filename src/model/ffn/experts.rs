//! A mixture of experts: of each token's row only the chosen experts are computed, forward and backward.
//!
//! ```text
//! logits = router(h)      rows of tokens, expert after expert ─ gate_up ─ act ─ · weight ─ down ─ summed up by token
//! ```
//!
//! All rows lie in one buffer, so that what is held depends on their number alone and not on how they spread. The weight
//! multiplies what goes into the last product: then its gradient is a product of rows that are there anyway.

use super::Mlp;
use crate::error::Result;
use crate::model::backend::{Backend, Cols, Nonlinear};
use crate::model::decoder::NormWeights;
use crate::model::half::{Gradient, Held, Reads};
use crate::model::linear::Linear;
use crate::model::weight::Vector;
use crate::spec::{ExpertsSpec, MlpSpec};
use std::ops::Range;

/// One expert.
#[derive(Debug)]
pub struct Expert {
    /// Gate and up, or up alone, in one.
    pub up: Linear,
    /// Down; its bias is the expert's own.
    pub down: Linear,
    /// The bias of down, which the weight multiplies too.
    pub down_bias: Option<Vector>,
}

/// What every token goes through.
#[derive(Debug)]
pub struct Shared {
    /// The expert.
    pub mlp: Mlp,
    /// Its output is multiplied by the sigmoid of this.
    pub gate: Option<Linear>,
}

/// Norms of router and experts that read the stream themselves.
#[derive(Debug)]
pub struct ExpertNorms {
    /// Of what the router reads.
    pub router: NormWeights,
    /// Of what the experts read.
    pub input: NormWeights,
    /// Of what the experts give together.
    pub output: NormWeights,
    /// Of what every token goes through gives.
    pub shared: NormWeights,
}

impl ExpertNorms {
    pub(super) fn all(&self) -> [&NormWeights; 4] {
        [&self.router, &self.input, &self.output, &self.shared]
    }
}

/// A mixture.
#[derive(Debug)]
pub struct Experts {
    /// What it computes.
    pub spec: ExpertsSpec,
    /// Logits of experts.
    pub router: Linear,
    /// Added to scores for the choice; none where nothing is.
    pub bias: Vec<f32>,
    /// What each expert's weights are multiplied by.
    pub scales: Option<Vector>,
    /// Router and experts read the stream themselves; [`shared`](Self::shared) is there then.
    pub norms: Option<ExpertNorms>,
    /// The experts; in a described model one of them where all are alike.
    pub each: Vec<Expert>,
    /// What every token goes through.
    pub shared: Option<Shared>,
}

/// What is kept for the way back.
pub(in crate::model) struct Tape<B: Backend> {
    routes: B::Routes,
    /// What the first projections gave, row after row.
    up: B::Buf,
    shared: Option<SharedTape<B>>,
}

struct SharedTape<B: Backend> {
    up: B::Buf,
    gate: Option<B::Buf>,
}

/// What is read: `own` where there is one, else what comes in.
fn values<'a, B: Backend>(on: &B, own: Option<Reads<'a, B>>, h: &'a B::Buf) -> Result<Held<'a, B::Buf>> {
    own.map_or(Ok(Held::Borrowed(h)), |own| own.values(on))
}

impl Experts {
    pub(super) fn linears(&self) -> Vec<&Linear> {
        let each = self.each.iter().flat_map(|expert| [&expert.up, &expert.down]);
        let shared = self.shared.iter().flat_map(|shared| shared.mlp.linears().into_iter().chain(&shared.gate));
        [&self.router].into_iter().chain(each).chain(shared).collect()
    }

    pub(super) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let each = self.each.iter_mut().flat_map(|expert| [&mut expert.up, &mut expert.down]);
        let shared = self.shared.iter_mut();
        let shared = shared.flat_map(|shared| shared.mlp.linears_mut().into_iter().chain(&mut shared.gate));
        [&mut self.router].into_iter().chain(each).chain(shared).collect()
    }

    fn mlp(&self) -> &MlpSpec {
        &self.spec.mlp
    }

    fn nonlinear(&self) -> Nonlinear {
        let MlpSpec { activation, gated, width, alphas, .. } = self.spec.mlp;
        Nonlinear { activation, gated, width, alphas }
    }

    fn hidden(&self) -> usize {
        self.router.shape[1]
    }

    /// What router or experts read where it is not what comes in: the stream through a norm of their own.
    fn own<'a, B: Backend>(
        &'a self,
        reads: &Reads<'a, B>,
        norm: impl Fn(&'a ExpertNorms) -> &'a NormWeights,
    ) -> Option<Reads<'a, B>> {
        self.norms.as_ref().map(|norms| Reads { norm: Some(norm(norms)), x: reads.x })
    }

    /// What the experts read, row after row.
    fn rows<B: Backend>(&self, on: &B, routes: &B::Routes, h: &B::Buf) -> Result<B::Buf> {
        let mut rows = on.dispatch(routes, h, self.hidden())?;
        if self.spec.routing.on_input {
            on.weigh(routes, &mut rows, self.hidden())?;
        }
        Ok(rows)
    }

    /// What the last projections read, row after row.
    fn between<B: Backend>(&self, on: &B, routes: &B::Routes, up: &B::Buf) -> Result<B::Buf> {
        let mut between = on.activation(self.nonlinear(), up)?;
        if !self.spec.routing.on_input {
            on.weigh(routes, &mut between, self.mlp().width)?;
        }
        Ok(between)
    }

    pub(super) fn forward<B: Backend>(&self, on: &B, tokens: usize, reads: &Reads<B>) -> Result<Tape<B>> {
        let h = reads.values(on)?;
        let mut logits = on.alloc(tokens * self.spec.count)?;
        {
            let read = values(on, self.own(reads, |norms| &norms.router), &h)?;
            self.router.forward(on, &read, &mut logits, Cols::all(self.spec.count), false)?;
        }
        on.see(|| self.router.module.clone(), &logits, self.spec.count, Cols::all(self.spec.count));
        let routes = on.route(self, logits)?;
        let stride = self.mlp().up_width();
        let mut up = on.alloc(tokens * self.spec.chosen * stride)?;
        {
            let read = values(on, self.own(reads, |norms| &norms.input), &h)?;
            let rows = self.rows(on, &routes, &read)?;
            for (expert, range) in self.chosen(on, &routes) {
                let at = Cols { first: range.start * stride, stride };
                expert.up.forward_rows(on, &rows, range, &mut up, at, false)?;
            }
            on.stands_for(1.0);
        }
        let shared = self.shared.as_ref().map(|shared| -> Result<SharedTape<B>> {
            let up = shared.mlp.forward(on, tokens, &h)?;
            let gate = shared.gate.as_ref().map(|linear| -> Result<B::Buf> {
                let mut gate = on.alloc(tokens)?;
                linear.forward(on, &h, &mut gate, Cols::all(1), false)?;
                Ok(gate)
            });
            Ok(SharedTape { up, gate: gate.transpose()? })
        });
        Ok(Tape { routes, up, shared: shared.transpose()? })
    }

    pub(super) fn output<B: Backend>(&self, on: &B, tape: &Tape<B>, y: &mut B::Buf, keep: bool) -> Result<()> {
        let Some(norms) = &self.norms else {
            self.mixed(on, &tape.routes, &tape.up, y, keep)?;
            return self.beside(on, tape.shared.as_ref(), y, true);
        };
        let mut given = on.alloc(on.len(y))?;
        self.mixed(on, &tape.routes, &tape.up, &mut given, false)?;
        let mixed = on.norm(&norms.output, &given)?;
        match keep {
            true => on.add(y, &mixed, 1.0)?,
            false => *y = mixed,
        }
        self.beside(on, tape.shared.as_ref(), &mut given, false)?;
        on.add(y, &on.norm(&norms.shared, &given)?, 1.0)
    }

    /// What the experts give together.
    fn mixed<B: Backend>(&self, on: &B, routes: &B::Routes, up: &B::Buf, y: &mut B::Buf, keep: bool) -> Result<()> {
        let hidden = self.hidden();
        let between = self.between(on, routes, up)?;
        let mut down = on.alloc(on.len(&between) / self.mlp().width * hidden)?;
        for (expert, range) in self.chosen(on, routes) {
            let at = Cols { first: range.start * hidden, stride: hidden };
            expert.down.forward_rows(on, &between, range.clone(), &mut down, at, false)?;
            if let Some(bias) = &expert.down_bias {
                on.add_expert_bias(routes, range, &mut down, (&expert.down, bias))?;
            }
        }
        on.stands_for(1.0);
        on.combine(routes, &down, hidden, y, keep)
    }

    /// The experts that rows go to, and their rows. A described model may have one of them for all, which then stands for all rows.
    fn chosen<'a, B: Backend>(
        &'a self,
        on: &'a B,
        routes: &B::Routes,
    ) -> impl Iterator<Item = (&'a Expert, Range<usize>)> + use<'a, B> {
        let ranges = on.ranges(routes);
        let rows = ranges.last().map_or(0, |range| range.end);
        let left_out = ranges.len().saturating_sub(self.each.len());
        let chosen = self.each.iter().zip(ranges.into_iter().skip(left_out)).filter(|(_, range)| !range.is_empty());
        chosen.inspect(move |(_, range)| {
            if left_out > 0 {
                on.stands_for(rows as f64 / range.len() as f64);
            }
        })
    }

    /// What every token goes through.
    fn beside<B: Backend>(&self, on: &B, tape: Option<&SharedTape<B>>, y: &mut B::Buf, keep: bool) -> Result<()> {
        let (Some(shared), Some(tape)) = (&self.shared, tape) else { return Ok(()) };
        let Some(gate) = &tape.gate else { return shared.mlp.output(on, &tape.up, y, keep) };
        let mut given = on.alloc(on.len(y))?;
        shared.mlp.output(on, &tape.up, &mut given, false)?;
        let gated = on.gate(&given, gate)?;
        match keep {
            true => on.add(y, &gated, 1.0),
            false => {
                *y = gated;
                Ok(())
            }
        }
    }

    /// The gradients by what the experts give together and by what every token goes through gives, from the one by their sum
    /// behind norms.
    fn norms_backward<B: Backend>(
        &self,
        on: &B,
        norms: &ExpertNorms,
        tape: &Tape<B>,
        dy: &B::Buf,
        grads: &mut B::Grads,
    ) -> Result<(B::Buf, B::Buf)> {
        let (mut d_mixed, mut d_shared) = (on.alloc(on.len(dy))?, on.alloc(on.len(dy))?);
        let mut given = on.alloc(on.len(dy))?;
        self.mixed(on, &tape.routes, &tape.up, &mut given, false)?;
        on.norm_backward(&norms.output, &given, dy, &mut d_mixed, false, grads)?;
        self.beside(on, tape.shared.as_ref(), &mut given, false)?;
        on.norm_backward(&norms.shared, &given, dy, &mut d_shared, false, grads)?;
        Ok((d_mixed, d_shared))
    }

    pub(super) fn backward<B: Backend>(
        &self,
        on: &B,
        tokens: usize,
        reads: &Reads<B>,
        tape: Tape<B>,
        dy: Held<B::Buf>,
        grads: &mut B::Grads,
    ) -> Result<Gradient<B>> {
        let parts = self.norms.as_ref().map(|norms| self.norms_backward(on, norms, &tape, &dy, grads)).transpose()?;
        let (d_mixed, d_shared) = parts.as_ref().map_or((&*dy, &*dy), |(mixed, shared)| (mixed, shared));
        let Tape { routes, mut up, mut shared } = tape;
        let (hidden, width, stride) = (self.hidden(), self.mlp().width, self.mlp().up_width());
        let rows = on.len(&up) / stride;
        let mut dw = on.zeros(rows)?;
        {
            let mut d_between = on.alloc(rows * width)?;
            {
                let d_rows = on.dispatch(&routes, d_mixed, hidden)?;
                let between = self.between(on, &routes, &up)?;
                for (expert, range) in self.chosen(on, &routes) {
                    let at = Cols { first: range.start * hidden, stride: hidden };
                    let dx = Some((&mut d_between, false));
                    expert.down.backward_rows(on, &between, range.clone(), (&d_rows, at), dx, grads)?;
                    if let Some(bias) = &expert.down_bias {
                        on.expert_bias_backward(&routes, range.clone(), &d_rows, (&expert.down, bias), &mut dw, grads)?;
                    }
                }
                on.stands_for(1.0);
            }
            if !self.spec.routing.on_input {
                let between = on.activation(self.nonlinear(), &up)?;
                on.weigh_backward(&routes, &between, &mut d_between, width, &mut dw)?;
            }
            on.activation_backward(self.nonlinear(), &mut up, &d_between)?;
        }
        // The shared expert's gradient by what it read comes last: its own gradient first, while that by the output is there.
        if let (Some(half), Some(tape)) = (&self.shared, &mut shared) {
            match &mut tape.gate {
                None => half.mlp.inside_backward(on, tokens, &mut tape.up, d_shared, grads)?,
                Some(gate) => {
                    let mut d = on.copy(d_shared)?;
                    {
                        let mut given = on.alloc(on.len(d_shared))?;
                        half.mlp.output(on, &tape.up, &mut given, false)?;
                        on.gate_backward(&given, gate, &mut d)?;
                    }
                    half.mlp.inside_backward(on, tokens, &mut tape.up, &d, grads)?;
                }
            }
        }
        drop(parts);
        drop(dy);
        let h = reads.values(on)?;
        let (of_router, of_experts) = (self.own(reads, |norms| &norms.router), self.own(reads, |norms| &norms.input));
        let mut dh = on.alloc(on.len(reads.x))?;
        {
            let mut d_rows = on.alloc(rows * hidden)?;
            {
                let read = self.rows(on, &routes, &*values(on, of_experts, &h)?)?;
                for (expert, range) in self.chosen(on, &routes) {
                    let at = Cols { first: range.start * stride, stride };
                    let dx = Some((&mut d_rows, false));
                    expert.up.backward_rows(on, &read, range.clone(), (&up, at), dx, grads)?;
                }
                on.stands_for(1.0);
            }
            if self.spec.routing.on_input {
                let read = on.dispatch(&routes, &*values(on, self.own(reads, |norms| &norms.input), &h)?, hidden)?;
                on.weigh_backward(&routes, &read, &mut d_rows, hidden, &mut dw)?;
            }
            on.combine(&routes, &d_rows, hidden, &mut dh, false)?;
        }
        drop(up);
        let d_logits = on.route_backward(self, routes, dw, grads)?;
        let at = Cols::all(self.spec.count);
        let mut by_stream = None;
        match (&self.norms, of_router) {
            (Some(norms), Some(of_router)) => {
                let mut dx = on.alloc(on.len(reads.x))?;
                on.norm_backward(&norms.input, reads.x, &dh, &mut dx, false, grads)?;
                let read = of_router.values(on)?;
                self.router.backward(on, &read, (&d_logits, at), Some((&mut dh, false)), grads)?;
                of_router.backward(on, &dh, &mut dx, grads)?;
                by_stream = Some(dx);
            }
            _ => self.router.backward(on, &h, (&d_logits, at), Some((&mut dh, true)), grads)?,
        }
        if let (Some(half), Some(tape)) = (&self.shared, shared) {
            half.mlp.up_backward(on, &h, &tape.up, &mut dh, by_stream.is_none(), grads)?;
            if let (Some(linear), Some(d_gate)) = (&half.gate, &tape.gate) {
                linear.backward(on, &h, (d_gate, Cols::all(1)), Some((&mut dh, true)), grads)?;
            }
        }
        Ok(Gradient { by_values: dh, by_stream })
    }
}
