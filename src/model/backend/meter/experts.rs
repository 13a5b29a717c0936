//! Experts and latents.

use super::*;
use crate::model::backend::{ExpertOps, LatentOps};

impl ExpertOps for Meter {
    fn route(&self, experts: &Experts, logits: Sized) -> Result<Self::Routes> {
        let spec = &experts.spec;
        let rows = logits.count / spec.count * spec.chosen;
        Ok((logits, self.take(rows), spread(rows, spec.count)))
    }

    fn ranges(&self, (.., ranges): &Self::Routes) -> Vec<Range<usize>> {
        ranges.clone()
    }

    fn dispatch(&self, (_, weights, _): &Self::Routes, _x: &Sized, width: usize) -> Result<Sized> {
        Ok(self.take(weights.count * width))
    }

    fn combine(&self, _: &Self::Routes, _from: &Sized, _width: usize, _to: &mut Sized, _keep: bool) -> Result<()> {
        Ok(())
    }

    fn weigh(&self, _: &Self::Routes, _rows: &mut Sized, _width: usize) -> Result<()> {
        Ok(())
    }

    fn weigh_backward(
        &self,
        _: &Self::Routes,
        _x: &Sized,
        _d: &mut Sized,
        _width: usize,
        _dw: &mut Sized,
    ) -> Result<()> {
        Ok(())
    }

    fn add_expert_bias(&self, _: &Self::Routes, _rows: Range<usize>, _to: &mut Sized, _bias: &Vector) -> Result<()> {
        Ok(())
    }

    fn expert_bias_backward(
        &self,
        _: &Self::Routes,
        _rows: Range<usize>,
        _d: &Sized,
        _bias: &Vector,
        _dw: &mut Sized,
        (): &mut (),
    ) -> Result<()> {
        Ok(())
    }

    fn route_backward(&self, _experts: &Experts, (logits, ..): Self::Routes, _dw: Sized) -> Result<Sized> {
        Ok(logits)
    }
}

impl LatentOps for Meter {
    fn columns(&self, _x: &Sized, rows: usize, _at: Cols, width: usize) -> Result<Sized> {
        Ok(self.take(rows * width))
    }

    fn put_columns(&self, _from: &Sized, _width: usize, _to: &mut Sized, _at: Cols) -> Result<()> {
        Ok(())
    }

    fn join_latent(&self, row: LatentRow, q: &Sized, _given: &Sized, _kv: &Sized) -> Result<Sized> {
        Ok(self.take(q.count / row.queries() * row.stride()))
    }

    fn split_latent(&self, row: LatentRow, d: &Sized) -> Result<(Sized, Sized, Sized)> {
        let rows = d.count / row.stride();
        let (dq, given) = (self.take(rows * row.queries()), self.take(rows * row.given()));
        Ok((dq, given, self.take(rows * (row.rank + row.rope))))
    }
}
