//! Experts and latents.

use super::*;
use crate::model::backend::{ExpertOps, LatentOps};

impl<'m> ExpertOps for Cpu<'m> {
    fn route(&self, experts: &Experts, logits: Buf) -> Result<Routes> {
        let spec = &experts.spec;
        Ok(Routes::new(&spec.routing, spec.chosen, &experts.bias, logits, spec.count, self.pool))
    }

    fn ranges(&self, routes: &Routes) -> Vec<Range<usize>> {
        routes.ranges()
    }

    fn dispatch(&self, routes: &Routes, x: &Buf, width: usize) -> Result<Buf> {
        let mut to = self.pool.take(routes.rows() * width);
        routes.dispatch(x, width, &mut to);
        Ok(to)
    }

    fn combine(&self, routes: &Routes, from: &Buf, width: usize, to: &mut Buf, keep: bool) -> Result<()> {
        routes.combine(from, width, to, keep);
        Ok(())
    }

    fn weigh(&self, routes: &Routes, rows: &mut Buf, width: usize) -> Result<()> {
        routes.weigh(rows, width);
        Ok(())
    }

    fn weigh_backward(&self, routes: &Routes, x: &Buf, d: &mut Buf, width: usize, dw: &mut Buf) -> Result<()> {
        routes.weigh_backward(x, d, width, dw);
        Ok(())
    }

    fn add_expert_bias(&self, routes: &Routes, rows: Range<usize>, to: &mut Buf, bias: &Vector) -> Result<()> {
        routes.add_bias(rows, to, &bias.values(self.params));
        Ok(())
    }

    fn expert_bias_backward(
        &self,
        routes: &Routes,
        rows: Range<usize>,
        d: &Buf,
        bias: &Vector,
        dw: &mut Buf,
        grads: &mut Grads,
    ) -> Result<()> {
        let db = bias.trained().map(|number| &mut grads.0[number][..]);
        routes.bias_backward(rows, d, &bias.values(self.params), dw, db);
        Ok(())
    }

    fn route_backward(&self, experts: &Experts, routes: Routes, dw: Buf) -> Result<Buf> {
        Ok(routes.backward(&experts.spec.routing, &dw))
    }
}

impl<'m> LatentOps for Cpu<'m> {
    fn columns(&self, x: &Buf, rows: usize, at: Cols, width: usize) -> Result<Buf> {
        let mut to = self.pool.take(rows * width);
        latent::columns(x, at.first, at.stride, width, &mut to);
        Ok(to)
    }

    fn put_columns(&self, from: &Buf, width: usize, to: &mut Buf, at: Cols) -> Result<()> {
        latent::put_columns(from, width, to, at.first, at.stride);
        Ok(())
    }

    fn join_latent(&self, row: LatentRow, q: &Buf, given: &Buf, kv: &Buf) -> Result<Buf> {
        let mut to = self.pool.take(q.len() / row.queries() * row.stride());
        latent::join(row, q, given, kv, &mut to);
        Ok(to)
    }

    fn split_latent(&self, row: LatentRow, d: &Buf) -> Result<(Buf, Buf, Buf)> {
        let rows = d.len() / row.stride();
        let (mut dq, mut d_given) = (self.pool.take(rows * row.queries()), self.pool.take(rows * row.given()));
        let mut d_kv = self.pool.take(rows * (row.rank + row.rope));
        latent::split(row, d, &mut dq, &mut d_given, &mut d_kv);
        Ok((dq, d_given, d_kv))
    }
}
