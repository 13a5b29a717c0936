//! Experts on [`OnGpu`]. Which expert a token goes to is decided on the processor, from the router's logits, by the same code as there:
//! how many rows each expert's products have must be known here before they are launched, so that a mixture waits for its
//! machine once forward and once back.

use super::OnGpu;
use super::gpu_buffers::Routes;
use crate::error::{Error, Result};
use crate::model::decoder::Experts;
use crate::model::gpu::{Span, Tensor};
use crate::model::linear::Linear;
use crate::model::ops::{Pool, experts};
use crate::model::weight::Vector;
use std::borrow::Cow;
use std::ops::Range;

impl OnGpu<'_> {
    /// The values of a vector, read back where they are trained here.
    fn read<'a>(&self, vector: &'a Vector) -> Result<Cow<'a, [f32]>> {
        match vector {
            Vector::Frozen(values) => Ok(Cow::Borrowed(values)),
            Vector::Trained(number, plus) => {
                let values = self.params.master(*number).values()?;
                Ok(values.into_iter().map(|x| x + plus).collect())
            }
        }
    }

    pub(super) fn choose(&self, of: &Experts, logits: Tensor) -> Result<Routes> {
        let (gpu, spec) = (self.gpu, &of.spec);
        let tokens = logits.len() / spec.count;
        let rows = tokens * spec.chosen;
        if gpu.is_dry() {
            drop(logits);
            let (token, row) = (gpu.zero_indices(rows)?, gpu.zero_indices(rows)?);
            let ranges = super::meter::spread(rows, spec.count);
            return Ok(Routes { chosen: None, weights: gpu.alloc_f32(rows)?, token, row, ranges, tokens });
        }
        let pool = Pool::default();
        let scores = pool.copy(&logits.all().values()?);
        drop(logits);
        let mut chosen = experts::Routes::new(&spec.routing, spec.chosen, &of.bias, scores, spec.count, &pool);
        if let Some(scales) = &of.scales {
            chosen.scale(&self.read(scales)?);
        }
        let (token, row) = (gpu.upload_indices(chosen.tokens())?, gpu.upload_indices(chosen.rows_of_choices())?);
        let weights = gpu.upload(chosen.weights())?;
        Ok(Routes { weights, token, row, ranges: chosen.ranges(), tokens, chosen: Some(chosen) })
    }

    /// Rows of `width` values, each its token's.
    pub(super) fn rows_of_tokens(&self, routes: &Routes, x: &Tensor, width: usize) -> Result<Tensor> {
        let to = self.gpu.alloc(routes.weights.len() * width)?;
        self.gpu.gather(routes.token.all(), x, width, to.all())?;
        Ok(to)
    }

    fn down_bias(&self, linear: &Linear) -> Result<Span<'_>> {
        self.weights.bias(linear, self.params)
    }

    pub(super) fn add_bias_of_expert(
        &self,
        routes: &Routes,
        rows: Range<usize>,
        to: &Tensor,
        linear: &Linear,
    ) -> Result<()> {
        let (bias, width) = (self.down_bias(linear)?, linear.shape[0]);
        let weights = routes.weights.from(rows.start).first(rows.len());
        self.gpu.add_weighted_bias(to.from(rows.start * width), bias, weights)
    }

    pub(super) fn bias_of_expert_backward(
        &self,
        routes: &Routes,
        rows: Range<usize>,
        d: &Tensor,
        (linear, bias): (&Linear, &Vector),
        dw: &Tensor,
    ) -> Result<()> {
        let (values, width) = (self.down_bias(linear)?, linear.shape[0]);
        let (d, of) = (d.from(rows.start * width), rows.start..rows.end);
        self.gpu.bias_along(d, values, dw.from(of.start).first(of.len()))?;
        match bias.trained().and_then(|number| self.params.gradient(number)) {
            Some(sums) => self.gpu.add_weighted_sums(sums, d, routes.weights.from(of.start).first(of.len())),
            None => Ok(()),
        }
    }

    /// The gradient by the router's logits.
    pub(super) fn choose_backward(&self, of: &Experts, routes: Routes, dw: Tensor) -> Result<Tensor> {
        let (gpu, spec) = (self.gpu, &of.spec);
        let Routes { chosen, tokens, .. } = routes;
        let to = gpu.alloc(tokens * spec.count)?;
        let Some(chosen) = chosen else { return Ok(to) };
        let mut dw = dw.all().values()?;
        if let Some(scales) = &of.scales {
            let gradient = scales.trained().and_then(|number| self.params.gradient(number));
            let mut sums = gradient.map(Span::values).transpose()?;
            chosen.scale_backward(&spec.routing, &self.read(scales)?, &mut dw, sums.as_deref_mut());
            if let (Some(gradient), Some(sums)) = (gradient, sums) {
                gpu.write_rounded(gradient, &sums)?;
            }
        }
        let d = chosen.backward(&spec.routing, &dw);
        if d.len() != to.len() {
            return Err(Error::failure(format!("{} gradients of logits, expected {}", d.len(), to.len())));
        }
        gpu.write_rounded(to.all(), &d)?;
        Ok(to)
    }
}
