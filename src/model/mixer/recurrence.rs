//! A mixer with a state: projections ─ convolution ─ recurrence ─ gate and norm ─ o.

use crate::error::Result;
use crate::model::backend::{Backend, Cols, Place};
use crate::model::decoder::{Part, project, project_backward};
use crate::model::half::{Held, Reads};
use crate::model::linear::Linear;
use crate::model::ops::scan::{CHUNK, Scan};
use crate::model::watch::parent;
use crate::model::weight::Vector;
use crate::spec::{RecurrenceKind, RecurrenceSpec};

/// Gated DeltaNet, Mamba-2, a short convolution.
#[derive(Debug)]
pub struct Recurrence {
    /// What it computes.
    pub spec: RecurrenceSpec,
    /// What fills a row.
    pub projections: Vec<Part>,
    /// Weights of the convolution, `[channels, kernel]`, in as many pieces as the checkpoint has.
    pub conv: Vec<Vector>,
    /// Its bias.
    pub conv_bias: Option<Vector>,
    /// One value for each value head each.
    pub vectors: Vec<Vector>,
    /// Scales of the norm beside the gate.
    pub norm: Option<Vector>,
    /// Output projection.
    pub o: Linear,
    /// For each column of a row, the column of the projections that it is.
    pub order: Option<Vec<u32>>,
}

/// What is kept for the way back.
pub(in crate::model) struct Tape<B: Backend>(B::Recurred);

impl Recurrence {
    pub(super) fn linears(&self) -> Vec<&Linear> {
        self.projections.iter().map(|part| &part.linear).chain([&self.o]).collect()
    }

    pub(super) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        self.projections.iter_mut().map(|part| &mut part.linear).chain([&mut self.o]).collect()
    }

    /// The part between convolution and gate, where there is one.
    pub(in crate::model) fn scan(&self) -> Option<Scan> {
        let spec = &self.spec;
        let (keys, (stride, _)) = (spec.keys(), spec.channels());
        let (delta, at) = match spec.kind {
            RecurrenceKind::Delta { .. } => (true, [0, keys, 2 * keys]),
            // C, B and x.
            RecurrenceKind::State { .. } => (false, [spec.width() + keys, spec.width(), 0]),
            RecurrenceKind::Short => return None,
        };
        let RecurrenceSpec { key_heads, value_heads, key_dim, value_dim, .. } = *spec;
        Some(Scan { key_heads, value_heads, key_dim, value_dim, delta, chunk: CHUNK, stride, at })
    }

    pub(super) fn forward<B: Backend>(
        &self,
        on: &B,
        place: Place<B>,
        reads: &Reads<B>,
        cache: Option<&mut B::Cache>,
    ) -> Result<Tape<B>> {
        let rows = {
            let h = reads.values(on)?;
            project(on, &self.projections, place.rows, self.spec.row(), &h)?
        };
        on.recur(self, place, rows, cache).map(Tape)
    }

    pub(super) fn output<B: Backend>(&self, on: &B, tape: &Tape<B>, y: &mut B::Buf, keep: bool) -> Result<()> {
        let given = on.recurred(self, &tape.0)?;
        let width = self.spec.width();
        on.see(|| parent(&self.o.module), &given, width, Cols::all(width));
        self.o.forward(on, &given, y, Cols::all(self.o.shape[0]), keep)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn backward<B: Backend>(
        &self,
        on: &B,
        place: Place<B>,
        reads: &Reads<B>,
        tape: Tape<B>,
        dy: Held<B::Buf>,
        wanted: bool,
        grads: &mut B::Grads,
    ) -> Result<Option<B::Buf>> {
        let d_rows = {
            let mut d = on.alloc(place.rows * self.spec.width())?;
            let given = on.recurred(self, &tape.0)?;
            self.o.backward(on, &given, (&*dy, Cols::all(self.o.shape[0])), Some((&mut d, false)), grads)?;
            drop(given);
            drop(dy);
            on.recur_backward(self, place, tape.0, d, grads)?
        };
        let h = reads.values(on)?;
        project_backward(on, &self.projections, self.spec.row(), &h, &d_rows, wanted, grads)
    }
}
