//! Heads of attention on [`OnGpu`]: where their rows lie, and what is done to rows of queries, keys and values before they are split where the kernel that
//! splits them does not do it on its way.

use super::gpu_buffers::{Cache, Kept};
use super::{Cols, OnGpu, Place};
use crate::error::{Error, Result};
use crate::model::decoder::{Attention, NormWeights};
use crate::model::gpu::{Apart, HeadsOf, Parts, Positions, Tensor, Turning};
use crate::model::ops::attention::{Row, Rules};
use crate::spec::AttentionSpec;

/// True where norms, rotary embedding and what else is done to queries and keys is not what one kernel does: one norm of each head before the
/// rotary embedding of a head's first values.
fn in_steps(attention: &Attention) -> bool {
    let spec = &attention.spec;
    let norms = [&attention.q_norm, &attention.k_norm, &attention.v_norm];
    let alike = norms
        .iter()
        .flat_map(|norm| norm.as_ref())
        .all(|of| of.spec.width == spec.head_dim && of.spec.copies == 1 && !of.is_centred());
    let both = attention.q_norm.is_some() == attention.k_norm.is_some() && attention.v_norm.is_none();
    // Without scales it is the same before the rotary embedding as after it.
    let after = spec.norm_after_rope && norms.iter().any(|norm| norm.as_ref().is_some_and(|norm| norm.spec.weight));
    let other = spec.clip > 0.0 || spec.query_scaling.is_some() || spec.rope_offset > 0;
    !alike || !both || after || other || spec.shares_keys || spec.reads_keys_of.is_some()
}

/// Queries with their key and value as neighbours: `[q … q k v]` of each group.
struct Grouped {
    groups: usize,
    /// Columns of a group's queries, and of a head.
    queries: usize,
    head_dim: usize,
}

impl Grouped {
    /// First column and width of queries, keys and values in a group, and their first in a row that has all queries first.
    fn parts(&self) -> [[usize; 3]; 3] {
        let Self { groups, queries, head_dim } = *self;
        let keys = groups * queries;
        [[0, queries, 0], [queries, head_dim, keys], [queries + head_dim, head_dim, keys + groups * head_dim]]
    }
}

impl<'m> OnGpu<'m> {
    pub(super) fn heads<'a>(
        &'a self,
        attention: &'a Attention,
        place: Place<'a, Self>,
        capacity: usize,
    ) -> Result<HeadsOf<'a>> {
        let steps = in_steps(attention);
        let norms = match (&attention.q_norm, &attention.k_norm) {
            (Some(q), Some(k)) if !steps => Some((self.weights.norm(q)?, self.weights.norm(k)?)),
            _ => None,
        };
        let AttentionSpec { head_dim: d, heads, kv_heads, value_dim, .. } = attention.spec;
        // Queries in groups with their key and value are read where they lie.
        let group = heads / kv_heads;
        let (row, q_group) = match (attention.row(), attention.is_regrouped() && !steps) {
            // Values of another width than keys: as wide as these, see `widened`.
            (_, false) if value_dim != d => {
                let stride = (heads + 2 * kv_heads) * d;
                (Row { stride, q: (0, d), k: (heads * d, d), v: ((heads + kv_heads) * d, d) }, None)
            }
            (row, false) => (row, None),
            (Row { stride, .. }, true) => {
                let step = (group + 2) * d;
                (Row { stride, q: (0, d), k: (group * d, step), v: ((group + 1) * d, step) }, Some(step))
            }
        };
        let angles = if steps { None } else { attention.spec.rope.and_then(|rope| place.angles.get(rope)) };
        let sinks = attention.sinks.as_ref();
        let trained = sinks.and_then(|sinks| sinks.trained());
        Ok(HeadsOf {
            row,
            q_group,
            rules: Rules { value_dim: d, ..attention.rules() },
            angles,
            norms,
            seq: place.seq,
            first: place.first,
            capacity,
            positions: place.positions,
            starts: place.starts,
            sinks: sinks.map(|_| self.weights.vector(&attention.o.module, "sinks", self.params)).transpose()?,
            d_sinks: trained.and_then(|number| self.params.gradient(number)),
        })
    }

    pub(super) fn attend(
        &self,
        attention: &Attention,
        place: Place<Self>,
        qkv: Tensor,
        cache: Option<&Cache>,
    ) -> Result<(Tensor, Kept)> {
        let heads = self.heads(attention, place, cache.map_or(place.seq, |cache| cache.capacity))?;
        let kv = cache.and_then(|cache| cache.keys_values.as_ref()).map(|(keys, values)| (keys, values));
        let (qkv, raw) = self.prepared(attention, place, qkv)?;
        let wide = self.wide_rows(attention, &qkv)?;
        let split = heads.split(self.ctx(), wide.as_ref().unwrap_or(&qkv), kv)?;
        drop(wide);
        let shared = attention.spec.shares_keys;
        let (rows, shared) = match (raw, in_steps(attention)) {
            (raw, true) => (raw, shared.then_some(qkv)),
            (_, false) => (Some(qkv), None),
        };
        let attended = heads.forward(self.gpu, &split, kv)?;
        let narrow = self.narrowed(attention, &attended)?;
        Ok((narrow.unwrap_or(attended), Kept { rows, shared, split }))
    }

    pub(super) fn attend_backward(
        &self,
        attention: &Attention,
        place: Place<Self>,
        kept: Kept,
        attended: Tensor,
        d_attended: &Tensor,
        shared: Option<&Tensor>,
    ) -> Result<Tensor> {
        let of = self.heads(attention, place, place.seq)?;
        let Kept { rows, shared: own_keys, split } = kept;
        drop(own_keys);
        let [own, d_own] = [&attended, d_attended].map(|of| self.widened(attention, of));
        let (own, d_own) = (own?, d_own?);
        let d = {
            let (attended, d_attended) = (own.as_ref().unwrap_or(&attended), d_own.as_ref().unwrap_or(d_attended));
            let rows = rows.as_ref().filter(|_| !in_steps(attention));
            of.backward(self.ctx(), rows, &split, attended, d_attended)?
        };
        drop((own, d_own, split, attended));
        let d = d.ok_or_else(|| Error::failure("attention with a cache has no way back"))?;
        let d = self.narrow_rows(attention, d)?;
        if let Some(shared) = shared {
            let (stride, first) = (attention.spec.row(), attention.spec.queries());
            let width = stride - first;
            let from = (shared.all(), Apart::rows(width));
            self.gpu.copy_parts(from, (d.from(first), Apart::rows(stride)), [place.rows, 1, width], true)?;
        }
        self.prepared_backward(attention, place, rows, d)
    }

    /// Norms, clipping, rotary embedding and scaling one after the other; what rows were before the norms is kept where the way back needs it.
    fn prepared(&self, attention: &Attention, place: Place<Self>, qkv: Tensor) -> Result<(Tensor, Option<Tensor>)> {
        if !in_steps(attention) {
            return Ok((qkv, None));
        }
        let spec = &attention.spec;
        let qkv = self.regrouped(attention, qkv, false)?;
        if spec.norm_after_rope {
            self.turn(attention, place, &qkv, false)?;
        }
        let raw = if attention.keeps_raw() { Some(self.gpu.copy(&qkv)?) } else { None };
        if let Some(raw) = &raw {
            self.normalize(attention, place.rows, raw, &qkv)?;
        }
        if spec.clip > 0.0 {
            self.gpu.clip(&qkv, spec.clip)?;
        }
        if !spec.norm_after_rope {
            self.turn(attention, place, &qkv, false)?;
        }
        self.scale_queries(attention, place, &qkv)?;
        Ok((qkv, raw))
    }

    fn prepared_backward(
        &self,
        attention: &Attention,
        place: Place<Self>,
        raw: Option<Tensor>,
        d: Tensor,
    ) -> Result<Tensor> {
        if !in_steps(attention) {
            return Ok(d);
        }
        let (spec, after) = (&attention.spec, attention.spec.norm_after_rope);
        self.scale_queries(attention, place, &d)?;
        if !after {
            self.turn(attention, place, &d, true)?;
        }
        if let Some(raw) = raw.as_ref().filter(|_| spec.clip > 0.0) {
            let clipped = self.gpu.copy(raw)?;
            self.normalize(attention, place.rows, raw, &clipped)?;
            self.gpu.clip_backward(&clipped, &d, spec.clip)?;
        }
        if let Some(raw) = &raw {
            for (norm, copy, first, parts) in head_norms(attention, place.rows) {
                self.weights.norm(norm)?.backward_parts(self.ctx(), copy, raw.from(first), d.from(first), parts)?;
            }
        }
        if after {
            self.turn(attention, place, &d, true)?;
        }
        self.regrouped(attention, d, true)
    }

    fn normalize(&self, attention: &Attention, rows: usize, raw: &Tensor, to: &Tensor) -> Result<()> {
        for (norm, copy, first, parts) in head_norms(attention, rows) {
            self.weights.norm(norm)?.forward_parts(self.ctx(), copy, raw.from(first), to.from(first), parts)?;
        }
        Ok(())
    }

    /// Turns queries and keys by their positions, or back.
    fn turn(&self, attention: &Attention, place: Place<Self>, rows: &Tensor, back: bool) -> Result<()> {
        let Some(angles) = attention.spec.rope.and_then(|rope| place.angles.get(rope)) else { return Ok(()) };
        let (row, spec) = (attention.row(), &attention.spec);
        // Keys of another block have been turned there.
        let keys = if spec.reads_keys_of.is_some() { 0 } else { spec.kv_heads };
        for ((offset, step), heads) in [(row.q, spec.heads), (row.k, keys)] {
            let apart = Apart { stride: row.stride, step };
            let of = Turning { rows: place.rows, heads, apart, back };
            self.gpu.turn(rows.from(offset + spec.rope_offset), of, positions(place), angles)?;
        }
        Ok(())
    }

    /// Queries grow with their position; so does their gradient.
    fn scale_queries(&self, attention: &Attention, place: Place<Self>, rows: &Tensor) -> Result<()> {
        let Some(scaling) = attention.spec.query_scaling else { return Ok(()) };
        let of = [attention.spec.queries(), attention.row().stride];
        self.gpu.scale_queries(rows, of, positions(place), scaling)
    }

    /// Rows in the order of their projection become rows in the order of [`Attention::row`], or `back`.
    fn regrouped(&self, attention: &Attention, rows: Tensor, back: bool) -> Result<Tensor> {
        if !attention.is_regrouped() {
            return Ok(rows);
        }
        let AttentionSpec { heads, kv_heads: groups, head_dim, .. } = attention.spec;
        let (queries, stride) = (heads / groups * head_dim, attention.spec.row());
        let (to, count) = (self.gpu.alloc(rows.len())?, rows.len() / stride);
        let step = queries + 2 * head_dim;
        for [in_group, width, in_row] in (Grouped { groups, queries, head_dim }).parts() {
            let (grouped, apart) = (Apart { stride, step }, Apart { stride, step: width });
            let of = [count, groups, width];
            match back {
                false => {
                    self.gpu.copy_parts((rows.from(in_group), grouped), (to.from(in_row), apart), of, false)?;
                }
                true => self.gpu.copy_parts((rows.from(in_row), apart), (to.from(in_group), grouped), of, false)?,
            }
        }
        Ok(to)
    }

    /// Rows whose values are as wide as their keys, where those of the family are narrower: the rest is 0.
    fn wide_rows(&self, attention: &Attention, of: &Tensor) -> Result<Option<Tensor>> {
        let Some(Widths { narrow, wide, heads, first, d, value }) = Widths::of(attention)? else { return Ok(None) };
        let (to, rows) = (self.gpu.alloc(of.len() / narrow * wide)?, of.len() / narrow);
        to.all().clear()?;
        let whole = (to.all(), Apart::rows(wide));
        self.gpu.copy_parts((of.all(), Apart::rows(narrow)), whole, [rows, 1, first], false)?;
        let (from, into) = (Apart { stride: narrow, step: value }, Apart { stride: wide, step: d });
        self.gpu.copy_parts((of.from(first), from), (to.from(first), into), [rows, heads, value], false)?;
        Ok(Some(to))
    }

    /// The way back.
    fn narrow_rows(&self, attention: &Attention, of: Tensor) -> Result<Tensor> {
        let Some(Widths { narrow, wide, heads, first, d, value }) = Widths::of(attention)? else { return Ok(of) };
        let (to, rows) = (self.gpu.alloc(of.len() / wide * narrow)?, of.len() / wide);
        let whole = (to.all(), Apart::rows(narrow));
        self.gpu.copy_parts((of.all(), Apart::rows(wide)), whole, [rows, 1, first], false)?;
        let (from, into) = (Apart { stride: wide, step: d }, Apart { stride: narrow, step: value });
        self.gpu.copy_parts((of.from(first), from), (to.from(first), into), [rows, heads, value], false)?;
        Ok(to)
    }

    /// What attention gave or gets back, with each head as wide as a key.
    fn widened(&self, attention: &Attention, of: &Tensor) -> Result<Option<Tensor>> {
        let AttentionSpec { head_dim: d, value_dim: value, .. } = attention.spec;
        if value == d {
            return Ok(None);
        }
        let (to, rows) = (self.gpu.alloc(of.len() / value * d)?, of.len() / value);
        to.all().clear()?;
        self.gpu.copy_parts((of.all(), Apart::rows(value)), (to.all(), Apart::rows(d)), [rows, 1, value], false)?;
        Ok(Some(to))
    }

    /// The same without what was added.
    fn narrowed(&self, attention: &Attention, of: &Tensor) -> Result<Option<Tensor>> {
        let AttentionSpec { head_dim: d, value_dim: value, .. } = attention.spec;
        if value == d {
            return Ok(None);
        }
        self.gpu.columns(of, of.len() / d, Cols::all(d), value).map(Some)
    }
}

/// Rows whose values are narrower than their keys.
struct Widths {
    /// Of a row, as it is and with values as wide as keys.
    narrow: usize,
    wide: usize,
    /// Heads of values, and the first column of theirs.
    heads: usize,
    first: usize,
    /// Of a head's key and value.
    d: usize,
    value: usize,
}

impl Widths {
    fn of(attention: &Attention) -> Result<Option<Self>> {
        let AttentionSpec { heads, kv_heads, head_dim: d, value_dim: value, .. } = attention.spec;
        if value == d {
            return Ok(None);
        }
        if value > d {
            return Err(Error::usage(format!(
                "heads whose values ({value}) are wider than their keys ({d}) are not computed on a GPU here: --device cpu"
            )));
        }
        let first = (heads + kv_heads) * d;
        Ok(Some(Self { narrow: attention.spec.row(), wide: first + kv_heads * d, heads: kv_heads, first, d, value }))
    }
}

fn positions<'a>(place: Place<'a, OnGpu<'_>>) -> Positions<'a> {
    Positions { seq: place.seq, first: place.first, starts: place.starts }
}

/// The norms of queries, keys and values, whose scales of them, where their first group lies in a row, and the groups.
fn head_norms(attention: &Attention, rows: usize) -> impl Iterator<Item = (&NormWeights, usize, usize, Parts)> {
    let (row, spec) = (attention.row(), &attention.spec);
    let parts = [
        (&attention.q_norm, row.q, spec.heads),
        (&attention.k_norm, row.k, spec.kv_heads),
        (&attention.v_norm, row.v, spec.kv_heads),
    ];
    parts.into_iter().filter_map(|(norm, at, heads)| Some((norm.as_ref()?, at, heads))).flat_map(
        move |(norm, (offset, step), heads)| {
            let copies = norm.spec.copies;
            // A norm for each head; one as wide as all heads is one group of them.
            let many = if copies > 1 || norm.spec.width != spec.head_dim { 1 } else { heads };
            let parts = Parts { rows, many, stride: row.stride, step: if many == 1 { 0 } else { step } };
            (0..copies).map(move |copy| (norm, copy, offset + copy * step, parts))
        },
    )
}
