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
use crate::model::half::{Held, Reads};
use crate::model::linear::Linear;
use crate::model::weight::Vector;
use crate::spec::{ExpertsSpec, MlpSpec};

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

/// A mixture.
#[derive(Debug)]
pub struct Experts {
    /// What it computes.
    pub spec: ExpertsSpec,
    /// Logits of experts.
    pub router: Linear,
    /// Added to scores for the choice; none where nothing is.
    pub bias: Vec<f32>,
    /// The experts.
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
        self.router.forward(on, &h, &mut logits, Cols::all(self.spec.count), false)?;
        on.see(|| self.router.module.clone(), &logits, self.spec.count, Cols::all(self.spec.count));
        let routes = on.route(self, logits)?;
        let stride = self.mlp().up_width();
        let mut up = on.alloc(tokens * self.spec.chosen * stride)?;
        {
            let rows = self.rows(on, &routes, &h)?;
            for (expert, range) in self.each.iter().zip(on.ranges(&routes)).filter(|(_, range)| !range.is_empty()) {
                let at = Cols { first: range.start * stride, stride };
                expert.up.forward_rows(on, &rows, range, &mut up, at, false)?;
            }
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
        let (hidden, routes) = (self.hidden(), &tape.routes);
        {
            let between = self.between(on, routes, &tape.up)?;
            let mut down = on.alloc(on.len(&between) / self.mlp().width * hidden)?;
            for (expert, range) in self.each.iter().zip(on.ranges(routes)).filter(|(_, range)| !range.is_empty()) {
                let at = Cols { first: range.start * hidden, stride: hidden };
                expert.down.forward_rows(on, &between, range.clone(), &mut down, at, false)?;
                if let Some(bias) = &expert.down_bias {
                    on.add_expert_bias(routes, range, &mut down, bias)?;
                }
            }
            on.combine(routes, &down, hidden, y, keep)?;
        }
        let (Some(shared), Some(tape)) = (&self.shared, &tape.shared) else { return Ok(()) };
        match &tape.gate {
            None => shared.mlp.output(on, &tape.up, y, true),
            Some(gate) => {
                let mut given = on.alloc(on.len(y))?;
                shared.mlp.output(on, &tape.up, &mut given, false)?;
                on.add(y, &on.gate(&given, gate)?, 1.0)
            }
        }
    }

    pub(super) fn backward<B: Backend>(
        &self,
        on: &B,
        tokens: usize,
        reads: &Reads<B>,
        tape: Tape<B>,
        dy: Held<B::Buf>,
        grads: &mut B::Grads,
    ) -> Result<B::Buf> {
        let Tape { routes, mut up, mut shared } = tape;
        let (hidden, width, stride) = (self.hidden(), self.mlp().width, self.mlp().up_width());
        let ranges = on.ranges(&routes);
        let chosen = || self.each.iter().zip(&ranges).filter(|(_, range)| !range.is_empty());
        let rows = on.len(&up) / stride;
        let mut dw = on.zeros(rows)?;
        {
            let mut d_between = on.alloc(rows * width)?;
            {
                let d_rows = on.dispatch(&routes, &dy, hidden)?;
                let between = self.between(on, &routes, &up)?;
                for (expert, range) in chosen() {
                    let at = Cols { first: range.start * hidden, stride: hidden };
                    let dx = Some((&mut d_between, false));
                    expert.down.backward_rows(on, &between, range.clone(), (&d_rows, at), dx, grads)?;
                    if let Some(bias) = &expert.down_bias {
                        on.expert_bias_backward(&routes, range.clone(), &d_rows, bias, &mut dw, grads)?;
                    }
                }
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
                None => half.mlp.inside_backward(on, tokens, &mut tape.up, &dy, grads)?,
                Some(gate) => {
                    let mut d = on.copy(&dy)?;
                    {
                        let mut given = on.alloc(on.len(&dy))?;
                        half.mlp.output(on, &tape.up, &mut given, false)?;
                        on.gate_backward(&given, gate, &mut d)?;
                    }
                    half.mlp.inside_backward(on, tokens, &mut tape.up, &d, grads)?;
                }
            }
        }
        drop(dy);
        let h = reads.values(on)?;
        let mut dh = on.alloc(on.len(reads.x))?;
        {
            let mut d_rows = on.alloc(rows * hidden)?;
            {
                let read = self.rows(on, &routes, &h)?;
                for (expert, range) in chosen() {
                    let at = Cols { first: range.start * stride, stride };
                    let dx = Some((&mut d_rows, false));
                    expert.up.backward_rows(on, &read, range.clone(), (&up, at), dx, grads)?;
                }
            }
            if self.spec.routing.on_input {
                let read = on.dispatch(&routes, &h, hidden)?;
                on.weigh_backward(&routes, &read, &mut d_rows, hidden, &mut dw)?;
            }
            on.combine(&routes, &d_rows, hidden, &mut dh, false)?;
        }
        drop(up);
        let d_logits = on.route_backward(self, routes, dw)?;
        let at = Cols::all(self.spec.count);
        self.router.backward(on, &h, (&d_logits, at), Some((&mut dh, true)), grads)?;
        if let (Some(half), Some(tape)) = (&self.shared, shared) {
            half.mlp.up_backward(on, &h, &tape.up, &mut dh, true, grads)?;
            if let (Some(linear), Some(d_gate)) = (&half.gate, &tape.gate) {
                linear.backward(on, &h, (d_gate, Cols::all(1)), Some((&mut dh, true)), grads)?;
            }
        }
        Ok(dh)
    }
}
