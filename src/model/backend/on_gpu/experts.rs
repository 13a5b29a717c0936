//! Experts and latents.

use super::*;
use crate::model::backend::{ExpertOps, LatentOps};

impl<'m> ExpertOps for OnGpu<'m> {
    fn route(&self, experts: &Experts, logits: Tensor) -> Result<Routes> {
        self.only_thought_of(EXPERTS)?;
        let spec = &experts.spec;
        let rows = logits.len() / spec.count * spec.chosen;
        let (weights, tokens) = (self.gpu.alloc(rows)?, self.gpu.alloc_f32(rows)?);
        Ok(Routes { scores: logits, weights, tokens, ranges: crate::model::backend::meter::spread(rows, spec.count) })
    }

    fn ranges(&self, routes: &Routes) -> Vec<Range<usize>> {
        routes.ranges.clone()
    }

    fn dispatch(&self, routes: &Routes, _x: &Tensor, width: usize) -> Result<Tensor> {
        self.only_thought_of(EXPERTS)?;
        self.gpu.alloc(routes.weights.len() * width)
    }

    fn combine(&self, _: &Routes, _from: &Tensor, _width: usize, _to: &mut Tensor, _keep: bool) -> Result<()> {
        self.only_thought_of(EXPERTS)
    }

    fn weigh(&self, _: &Routes, _rows: &mut Tensor, _width: usize) -> Result<()> {
        self.only_thought_of(EXPERTS)
    }

    fn weigh_backward(&self, _: &Routes, _x: &Tensor, _d: &mut Tensor, _width: usize, _dw: &mut Tensor) -> Result<()> {
        self.only_thought_of(EXPERTS)
    }

    fn add_expert_bias(&self, _: &Routes, _rows: Range<usize>, _to: &mut Tensor, _bias: &Vector) -> Result<()> {
        self.only_thought_of(EXPERTS)
    }

    fn expert_bias_backward(
        &self,
        _: &Routes,
        _rows: Range<usize>,
        _d: &Tensor,
        _bias: &Vector,
        _dw: &mut Tensor,
        _grads: &mut Grads,
    ) -> Result<()> {
        self.only_thought_of(EXPERTS)
    }

    fn route_backward(&self, _experts: &Experts, routes: Routes, _dw: Tensor) -> Result<Tensor> {
        self.only_thought_of(EXPERTS)?;
        Ok(routes.scores)
    }
}

impl<'m> LatentOps for OnGpu<'m> {
    fn columns(&self, _x: &Tensor, rows: usize, _at: Cols, width: usize) -> Result<Tensor> {
        self.only_thought_of("latent attention")?;
        self.gpu.alloc(rows * width)
    }

    fn put_columns(&self, _from: &Tensor, _width: usize, _to: &mut Tensor, _at: Cols) -> Result<()> {
        self.only_thought_of("latent attention")
    }

    fn join_latent(&self, row: LatentRow, q: &Tensor, _given: &Tensor, _kv: &Tensor) -> Result<Tensor> {
        self.only_thought_of("latent attention")?;
        self.gpu.alloc(q.len() / row.queries() * row.stride())
    }

    fn split_latent(&self, row: LatentRow, d: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
        self.only_thought_of("latent attention")?;
        let (gpu, rows) = (self.gpu, d.len() / row.stride());
        let (dq, given) = (gpu.alloc(rows * row.queries())?, gpu.alloc(rows * row.given())?);
        Ok((dq, given, gpu.alloc(rows * (row.rank + row.rope))?))
    }
}
