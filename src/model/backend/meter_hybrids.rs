//! Mixers with a state and their like on [`Meter`]: the buffers that the processor takes, in its order.

use super::meter::{Meter, Sized};
use super::{Buffers, Cols, Hybrids, Place};
use crate::error::Result;
use crate::model::decoder::{Attention, Recurrence};
use std::ops::Range;

/// What a recurrence keeps.
#[derive(Debug)]
pub struct MeteredRecurrence {
    rows: Sized,
    conv: Sized,
    /// Factors, what was given, what chunks begin with.
    scanned: Option<(Sized, Sized, Vec<Sized>)>,
}

impl Buffers for Meter {
    type Buf = Sized;
    type Ids = usize;
    type Grads = ();
    type Angles = ();
    /// Rows of queries, keys and values, and a copy where they are normalized.
    type Heads = (Sized, Option<Sized>);
    type Cache = ();
    /// Scores and weights, and the rows of each expert: as if all were chosen equally often.
    type Routes = (Sized, Sized, Vec<Range<usize>>);
    type Recurred = MeteredRecurrence;
    type Logits = Sized;
    type Losses = ();
    type Sum = ();
}

impl Hybrids for Meter {
    fn keys_values(&self, attention: &Attention, heads: &Self::Heads) -> Result<Sized> {
        let spec = &attention.spec;
        Ok(self.take(heads.0.count / spec.row() * (spec.row() - spec.queries())))
    }

    fn copy_columns(&self, _from: (&Sized, Cols), _to: (&mut Sized, Cols), _width: usize, _add: bool) -> Result<()> {
        Ok(())
    }

    fn split_gate(&self, attention: &Attention, rows: Sized) -> Result<(Sized, Sized)> {
        let spec = &attention.spec;
        let count = rows.count / spec.projected();
        Ok((self.take(count * spec.row()), self.take(count * spec.width())))
    }

    fn join_gate(&self, _attention: &Attention, qkv: Sized, gate: Sized) -> Result<Sized> {
        Ok(self.take(qkv.count + gate.count))
    }

    fn recur(
        &self,
        of: &Recurrence,
        place: Place<Self>,
        rows: Sized,
        _cache: Option<&mut ()>,
    ) -> Result<MeteredRecurrence> {
        let spec = &of.spec;
        let rows = if of.order.is_some() { self.take(rows.count) } else { rows };
        let conv = self.take(place.rows * spec.channels().0);
        let Some(scan) = of.scan() else {
            drop(self.take(rows.count));
            return Ok(MeteredRecurrence { rows, conv, scanned: None });
        };
        let sequences = place.rows / place.seq;
        let (factors, y) = (self.take(place.rows * 2 * spec.value_heads), self.take(place.rows * spec.width()));
        let own = scan.buffers(place.seq, sequences, self.threads, false);
        let mut own: Vec<Sized> = own.into_iter().map(|count| self.take(count)).collect();
        self.count(scan.flops(place.seq, sequences, false));
        own.truncate(1);
        Ok(MeteredRecurrence { rows, conv, scanned: Some((factors, y, own)) })
    }

    fn recurred(&self, of: &Recurrence, kept: &MeteredRecurrence) -> Result<Sized> {
        Ok(self.take(kept.rows.count / of.spec.row() * of.spec.width()))
    }

    fn recur_backward(
        &self,
        of: &Recurrence,
        place: Place<Self>,
        kept: MeteredRecurrence,
        d: Sized,
        (): &mut (),
    ) -> Result<Sized> {
        let MeteredRecurrence { rows, conv, scanned } = kept;
        let d_rows = self.take(rows.count);
        let d_conv = match (of.scan(), scanned) {
            (Some(scan), Some((factors, y, states))) => {
                drop(y);
                let sequences = place.rows / place.seq;
                let (d_conv, d_factors) = (self.take(conv.count), self.take(factors.count));
                let own = scan.buffers(place.seq, sequences, self.threads, true);
                let own: Vec<Sized> = own.into_iter().map(|count| self.take(count)).collect();
                self.count(scan.flops(place.seq, sequences, true));
                drop((own, factors, states, d_factors));
                d_conv
            }
            _ => {
                drop(self.take(rows.count));
                d
            }
        };
        drop((conv, d_conv));
        Ok(if of.order.is_some() { rows } else { d_rows })
    }

    fn state(&self, _of: &Recurrence) -> Result<()> {
        Ok(())
    }
}
