//! Mixers with a state on [`OnGpu`]: convolution, recurrence, gate and norm.

use super::gpu_buffers::Cache;
use super::{OnGpu, Place};
use crate::error::{Error, Result};
use crate::model::decoder::Recurrence;
use crate::model::gpu::{Apart, Channels, FactorsOf, Gating, Scanning, Span, Tensor};
use crate::model::weight::Vector;
use crate::spec::RecurrenceKind;

/// What a recurrence keeps for the way back.
pub struct Recurred {
    /// What the projections gave, in the order of [`RecurrenceSpec`](crate::spec::RecurrenceSpec).
    rows: Tensor,
    /// What the convolution gave.
    conv: Tensor,
    scanned: Option<Scanned>,
}

struct Scanned {
    /// `[rows, g | f]`.
    factors: Tensor,
    /// States that some rows begin with; none where a sequence grows.
    kept: Option<Tensor>,
    /// What the recurrence gave.
    y: Tensor,
}

impl OnGpu<'_> {
    fn vector_of(&self, of: &Recurrence, what: &str) -> Result<Span<'_>> {
        self.weights.vector(&of.o.module, what, self.params)
    }

    fn gradient_of(&self, vector: Option<&Vector>) -> Option<Span<'_>> {
        vector.and_then(Vector::trained).and_then(|number| self.params.gradient(number))
    }

    fn factors_of<'a>(&'a self, of: &Recurrence) -> Result<FactorsOf<'a>> {
        let (delta, beta, limit) = match of.spec.kind {
            RecurrenceKind::Delta { beta } => (true, beta, [0.0; 2]),
            RecurrenceKind::State { limit } => (false, 0.0, limit),
            RecurrenceKind::Short => return Err(Error::failure("a short convolution has no decay")),
        };
        let (a_log, dt_bias) = (self.vector_of(of, "vector 0")?, self.vector_of(of, "vector 1")?);
        Ok(FactorsOf { a_log, dt_bias, stride: of.spec.row(), delta, beta, limit })
    }

    fn scanning<'a>(&'a self, of: &Recurrence, place: Place<'a, Self>) -> Result<Option<Scanning<'a>>> {
        let Some(scan) = of.scan() else { return Ok(None) };
        let skip = match of.spec.kind {
            RecurrenceKind::State { .. } => Some(self.vector_of(of, "vector 2")?),
            _ => None,
        };
        let (seq, starts) = (place.seq, place.starts.map(Tensor::all));
        Ok(Some(Scanning { scan, sequences: place.rows / seq, seq, starts, skip }))
    }

    fn gating<'a>(&'a self, of: &Recurrence, rows: usize) -> Result<Gating<'a>> {
        let (spec, norm) = (&of.spec, of.spec.norm.as_ref());
        let weight = of.norm.as_ref().map(|_| self.vector_of(of, "norm")).transpose()?;
        let group = norm.map_or(spec.value_dim, |norm| norm.group);
        let (norm_first, eps) = (norm.is_some_and(|norm| norm.first), norm.map_or(0.0, |norm| norm.eps));
        Ok(Gating { weight, rows, width: spec.width(), stride: spec.row(), group, norm_first, eps })
    }

    /// The pieces of the convolution, with the first of their channels.
    fn pieces<'a>(
        &'a self,
        of: &Recurrence,
        place: Place<'a, Self>,
        stride: usize,
    ) -> Result<Vec<(usize, Channels<'a>)>> {
        let (spec, mut first, mut pieces) = (&of.spec, 0, Vec::new());
        let (channels, _) = spec.channels();
        let bias = of.conv_bias.as_ref().map(|_| self.vector_of(of, "bias of the convolution")).transpose()?;
        for number in 0..of.conv.len() {
            let weight = self.vector_of(of, &format!("convolution {number}"))?;
            let own = weight.len() / spec.conv.kernel;
            let bias = bias.map(|bias| bias.from(first).first(own));
            let (kernel, starts) = (spec.conv.kernel, place.starts.map(Tensor::all));
            let (rows, seq, out_stride) = (place.rows, place.seq, channels);
            pieces.push((first, Channels { weight, bias, kernel, stride, out_stride, rows, seq, starts }));
            first += own;
        }
        Ok(pieces)
    }

    /// `B ∘ x` of a short convolution, by itself.
    fn multiplied(&self, of: &Recurrence, rows: &Tensor) -> Result<Option<Tensor>> {
        if of.spec.kind != RecurrenceKind::Short {
            return Ok(None);
        }
        let (width, stride) = (of.spec.width(), of.spec.row());
        let count = rows.len() / stride;
        let to = self.gpu.alloc(count * width)?;
        let (b, x) = ((rows.all(), stride), (rows.from(2 * width), stride));
        self.gpu.multiply_columns(b, x, (to.all(), width), count, width)?;
        Ok(Some(to))
    }

    /// What the convolution reads: the rows that hold its channels, the first of these, and the columns of a row.
    fn convolved<'a>(of: &Recurrence, rows: &'a Tensor, multiplied: Option<&'a Tensor>) -> (Span<'a>, usize) {
        match multiplied {
            Some(multiplied) => (multiplied.all(), of.spec.width()),
            None => (rows.from(of.spec.channels().1), of.spec.row()),
        }
    }

    pub(super) fn run_recurrence(
        &self,
        of: &Recurrence,
        place: Place<Self>,
        rows: Tensor,
        cache: Option<&mut Cache>,
    ) -> Result<Recurred> {
        let (spec, gpu) = (&of.spec, self.gpu);
        let (channels, _) = spec.channels();
        let rows = self.ordered(of, rows, false)?;
        let rows = self.scaled(of, rows)?;
        let given = gpu.alloc(place.rows * channels)?;
        let short = spec.kind == RecurrenceKind::Short;
        let before = spec.conv.kernel - 1;
        let mut cache = cache;
        if let Some(cache) = cache.as_deref_mut().filter(|cache| cache.window.is_none()) {
            let window = gpu.alloc(before * channels)?;
            window.all().clear()?;
            cache.window = Some(window);
        }
        {
            let multiplied = self.multiplied(of, &rows)?;
            let (read, stride) = Self::convolved(of, &rows, multiplied.as_ref());
            let window = cache.as_deref().and_then(|cache| cache.window.as_ref()).filter(|_| before > 0);
            for (first, piece) in self.pieces(of, place, stride)? {
                let earlier = window.map(|window| window.from(first));
                gpu.conv(piece, read.from(first), earlier, !short, given.from(first))?;
            }
            if let Some(window) = window {
                let moved = self.moved(window, (read, stride), place.rows, channels)?;
                if let Some(cache) = cache.as_deref_mut() {
                    cache.window = Some(moved);
                }
            }
        }
        let Some(scanning) = self.scanning(of, place)? else {
            return Ok(Recurred { rows, conv: given, scanned: None });
        };
        let factors = gpu.scan_factors(self.factors_of(of)?, &rows)?;
        if let Some(cache) = cache.as_deref_mut().filter(|cache| cache.state.is_none()) {
            cache.state = Some(gpu.zeros_f32(scanning.scan.state())?);
        }
        let running = cache.as_deref().and_then(|cache| cache.state.as_ref());
        let (y, kept) = gpu.scan(scanning, &given, &factors, running)?;
        Ok(Recurred { rows, conv: given, scanned: Some(Scanned { factors, kept, y }) })
    }

    /// The last rows that a convolution has seen, after some more.
    fn moved(&self, window: &Tensor, (read, stride): (Span, usize), rows: usize, channels: usize) -> Result<Tensor> {
        let many = window.len() / channels;
        let new = many.min(rows);
        let to = self.gpu.alloc(window.len())?;
        let own = Apart::rows(channels);
        if new < many {
            let rest = [many - new, 1, channels];
            self.gpu.copy_parts((window.from(new * channels), own), (to.all(), own), rest, false)?;
        }
        let from = (read.from((rows - new) * stride), Apart::rows(stride));
        self.gpu.copy_parts(from, (to.from((many - new) * channels), own), [new, 1, channels], false)?;
        Ok(to)
    }

    /// Columns of rows in the order of the spec, or `back`.
    fn ordered(&self, of: &Recurrence, rows: Tensor, back: bool) -> Result<Tensor> {
        match self.weights.order(&of.o.module) {
            Some(order) => self.gpu.reorder(order, &rows, back),
            None => Ok(rows),
        }
    }

    /// Columns times what the spec says.
    fn scaled(&self, of: &Recurrence, rows: Tensor) -> Result<Tensor> {
        match of.spec.scales.is_empty() {
            true => Ok(rows),
            false => self.gpu.scale_columns_by(&rows, self.vector_of(of, "scales")?),
        }
    }

    pub(super) fn recurrence_output(&self, of: &Recurrence, kept: &Recurred) -> Result<Tensor> {
        let (width, stride) = (of.spec.width(), of.spec.row());
        let rows = kept.rows.len() / stride;
        match &kept.scanned {
            Some(scanned) => self.gpu.gated(self.gating(of, rows)?, &scanned.y, kept.rows.from(of.spec.gate())),
            None => {
                let out = self.gpu.alloc(rows * width)?;
                let (c, conv) = ((kept.rows.from(width), stride), (kept.conv.all(), width));
                self.gpu.multiply_columns(c, conv, (out.all(), width), rows, width)?;
                Ok(out)
            }
        }
    }

    pub(super) fn recurrence_backward(
        &self,
        of: &Recurrence,
        place: Place<Self>,
        kept: Recurred,
        d: Tensor,
    ) -> Result<Tensor> {
        let (spec, gpu, count) = (&of.spec, self.gpu, place.rows);
        let (width, stride, (channels, first)) = (spec.width(), spec.row(), spec.channels());
        let Recurred { rows, conv: given, scanned } = kept;
        let d_rows = gpu.alloc(rows.len())?;
        let d_given = match (self.scanning(of, place)?, scanned) {
            (Some(scanning), Some(Scanned { factors, kept: Some(kept), y })) => {
                let (z, dz) = (rows.from(spec.gate()), d_rows.from(spec.gate()));
                gpu.gated_backward(self.gating(of, count)?, &y, z, &d, dz, self.gradient_of(of.norm.as_ref()))?;
                drop(y);
                let d_given = gpu.alloc(count * channels)?;
                let d_factors = gpu.scan_backward(scanning, &given, &factors, &kept, &d, &d_given)?;
                drop((factors, kept));
                if let Some(sums) = self.gradient_of(of.vectors.get(2)) {
                    gpu.skip_sums(scanning, &given, &d, sums)?;
                }
                gpu.scan_factors_backward(self.factors_of(of)?, &rows, &d_factors, &d_rows)?;
                let heads = spec.value_heads;
                for number in 0..2 {
                    if let Some(sums) = self.gradient_of(of.vectors.get(number)) {
                        gpu.sum_floats(d_factors.from(number * heads), 2 * heads, count, sums)?;
                    }
                }
                d_given
            }
            (None, None) => {
                let by = gpu.alloc(count * width)?;
                let (dy, c) = ((d.all(), width), (rows.from(width), stride));
                gpu.multiply_columns(dy, (given.all(), width), (d_rows.from(width), stride), count, width)?;
                gpu.multiply_columns(dy, c, (by.all(), width), count, width)?;
                by
            }
            _ => return Err(Error::failure("a recurrence that grows has no way back")),
        };
        drop((given, d));
        let multiplied = self.multiplied(of, &rows)?;
        let (read, read_stride) = Self::convolved(of, &rows, multiplied.as_ref());
        let by_product = if multiplied.is_some() { Some(gpu.alloc(count * width)?) } else { None };
        let to = by_product.as_ref().map_or(d_rows.from(first), Tensor::all);
        for (number, (at, piece)) in self.pieces(of, place, read_stride)?.into_iter().enumerate() {
            let (x, d, dx) = (read.from(at), d_given.from(at), to.from(at));
            if spec.kind != RecurrenceKind::Short {
                gpu.conv_slopes(piece, x, d)?;
            }
            gpu.conv_backward(piece, x, d, dx, self.gradient_of(of.conv.get(number)))?;
        }
        if let Some(sums) = self.gradient_of(of.conv_bias.as_ref()) {
            gpu.add_column_sums(sums, d_given.all(), count, channels)?;
        }
        if let Some(by) = &by_product {
            let (by, b, x) = ((by.all(), width), (rows.all(), stride), (rows.from(2 * width), stride));
            gpu.multiply_columns(by, x, (d_rows.all(), stride), count, width)?;
            gpu.multiply_columns(by, b, (d_rows.from(2 * width), stride), count, width)?;
        }
        drop((by_product, multiplied, d_given, rows));
        let d_rows = self.scaled(of, d_rows)?;
        self.ordered(of, d_rows, true)
    }
}
