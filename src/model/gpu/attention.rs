//! Causal attention by batched products, with grouped keys, sliding windows and capped scores.
//!
//! Heads are laid out so that the query heads of a group are rows of one matrix beside the keys that they share: each
//! product is one call for all heads and sequences, and the sum over a group is the product's own. Query rows go in blocks
//! whose scores fit into [`Gpu::scores`]; nothing of them is kept, the way back makes them again.

use super::linear::Run;
use super::machine::{Groups, Kind};
use super::memory::{Span, Tensor};
use super::norm::Norm;
use super::ops::{Gpu, Mat};
use crate::error::Result;
use crate::model::ops::attention::{Row, Rules};
use crate::model::ops::rope::Table;

/// A head is no wider: `HEAD` of the kernels' source.
pub(super) const WIDEST: usize = 512;

/// Cosines and sines.
#[derive(Debug)]
pub(super) struct Angles {
    cos: Tensor,
    sin: Tensor,
    half: usize,
}

impl Angles {
    pub(super) fn put(gpu: &Gpu, table: &Table) -> Result<Self> {
        let (cos, sin, half) = table.values();
        Ok(Self { cos: gpu.shelf.put(cos)?, sin: gpu.shelf.put(sin)?, half })
    }
}

/// One block's attention between the rows of queries, keys and values and what comes out.
pub(super) struct Attention<'a> {
    pub row: Row,
    pub rules: Rules,
    pub angles: Option<&'a Angles>,
    pub norms: Option<(&'a Norm, &'a Norm)>,
    /// Rows of a sequence.
    pub seq: usize,
    /// Position of a sequence's first row: as many rows of keys and values are there already.
    pub first: usize,
    /// Rows that keys and values have room for.
    pub capacity: usize,
    /// No row's position is as high.
    pub positions: usize,
    /// For every row where in its sequence its own row of data begins, if that is not always 0.
    pub starts: Option<&'a Tensor>,
}

/// Queries, keys and values as the products want them.
pub(super) struct Apart {
    q: Tensor,
    /// Keys and values of their own; in a cache they are somebody else's.
    kv: Option<(Tensor, Tensor)>,
}

/// Rows of a sequence that are looked at at once, and the keys that they see.
struct Piece {
    first: usize,
    count: usize,
    lo: usize,
    keys: usize,
}

impl Attention<'_> {
    fn starts(&self) -> u64 {
        self.starts.map_or(0, |starts| starts.all().address)
    }

    fn of_group(&self) -> usize {
        self.rules.heads / self.rules.kv_heads
    }

    /// As `head_of` in the kernels' source reads them.
    fn numbers(&self, tokens: usize, which: usize) -> [usize; 16] {
        let Row { stride, q, k, v } = self.row;
        let Rules { heads, kv_heads, head_dim, .. } = self.rules;
        let half = self.angles.map_or(0, |angles| angles.half);
        let (seq, capacity, first) = (self.seq, self.capacity, self.first);
        [seq, stride, q.0, q.1, k.0, k.1, v.0, v.1, heads, kv_heads, head_dim, half, capacity, first, tokens, which]
    }

    fn norm_values<'a>(&'a self, run: Run<'a>) -> ([u64; 2], [f32; 3]) {
        let Some((q, k)) = self.norms else { return ([0; 2], [0.0; 3]) };
        let ((q_weight, q_plus), (k_weight, k_plus)) = (q.weight.values(run.arena), k.weight.values(run.arena));
        ([q_weight.address, k_weight.address], [q_plus, k_plus, q.eps])
    }

    fn angle_values(&self) -> [u64; 2] {
        self.angles.map_or([0; 2], |angles| [angles.cos.all().address, angles.sin.all().address])
    }

    fn tokens(&self, rows: Span) -> usize {
        let tokens = rows.count / self.row.stride;
        let angles = self.angles.filter(|angles| angles.half > 0);
        let covered = angles.map_or(usize::MAX, |angles| angles.cos.len() / angles.half);
        assert!(self.positions <= covered && self.first + self.seq <= self.capacity, "positions outside the tables");
        assert!(self.starts.is_none_or(|starts| starts.len() == tokens), "starts of other rows");
        tokens
    }

    /// Normalizes and turns queries and keys, and lays all three out; keys and values into `cache` where there is one.
    pub(super) fn split(&self, run: Run, rows: &Tensor, cache: Option<(&Tensor, &Tensor)>) -> Result<Apart> {
        let gpu = run.gpu;
        let Rules { heads, kv_heads, head_dim, .. } = self.rules;
        let tokens = self.tokens(rows.all());
        let q = gpu.take(tokens * heads * head_dim)?;
        let width = tokens / self.seq * kv_heads * self.capacity * head_dim;
        let kv = if cache.is_some() { None } else { Some((gpu.take(width)?, gpu.take(width)?)) };
        let (k, v) = cache.or(kv.as_ref().map(|(k, v)| (k, v))).unwrap_or((&q, &q));
        let ([q_weight, k_weight], fractions) = self.norm_values(run);
        let [cos, sin] = self.angle_values();
        let pointers = [
            rows.all().address,
            q_weight,
            k_weight,
            cos,
            sin,
            q.all().address,
            gpu.reals(k.all(), width),
            gpu.reals(v.all(), width),
            0,
            0,
            self.starts(),
        ];
        let groups = Groups::of_rows(tokens * (heads + 2 * kv_heads), head_dim);
        gpu.run("heads_forward", groups, &pointers, &self.numbers(tokens, 0), &fractions, &[])?;
        Ok(Apart { q, kv })
    }

    fn pieces(&self, scores: usize, sequences: usize) -> Vec<Piece> {
        let all = self.first + self.seq;
        let rows = (scores / (sequences * self.rules.heads * all)).clamp(1, self.seq);
        let piece = |first: usize| {
            let count = rows.min(self.seq - first);
            let end = self.first + first + count;
            let lo = self.rules.window.map_or(0, |window| (self.first + first + 1).saturating_sub(window));
            Piece { first, count, lo, keys: end - lo }
        };
        (0..self.seq).step_by(rows).map(piece).collect()
    }

    /// Rows of queries, of what comes out, or of gradients by them.
    fn rows_of<'a>(&self, tensor: &'a Tensor, piece: &Piece) -> Mat<'a> {
        let row = self.of_group() * self.rules.head_dim;
        let span = tensor.from(piece.first * row);
        Mat::dense(span, piece.count * self.of_group(), self.rules.head_dim).every(self.seq * row)
    }

    /// Keys, values, or gradients by them.
    fn keys_of<'a>(&self, tensor: &'a Tensor, piece: &Piece) -> Mat<'a> {
        let d = self.rules.head_dim;
        Mat::dense(tensor.from(piece.lo * d), piece.keys, d).every(self.capacity * d)
    }

    fn scores<'a>(&self, tensor: &'a Tensor, piece: &Piece) -> Mat<'a> {
        let rows = piece.count * self.of_group();
        Mat::dense(tensor.all(), rows, piece.keys).every(rows * piece.keys)
    }

    fn piece_numbers(&self, piece: &Piece) -> [usize; 9] {
        let window = self.rules.window.unwrap_or(i32::MAX as usize).min(i32::MAX as usize);
        let position = self.first + piece.first;
        [
            piece.count,
            self.of_group(),
            piece.keys,
            position,
            piece.lo,
            window,
            self.seq,
            piece.first,
            self.rules.kv_heads,
        ]
    }

    /// Probabilities of rows of scores, or gradients by them: a group a row.
    fn soften(&self, gpu: &Gpu, kernel: &'static str, rows: usize, piece: &Piece, pointers: &[u64]) -> Result<()> {
        let (groups, cap) = (Groups::of_rows(rows, piece.keys), self.rules.softcap);
        gpu.run(kernel, groups, pointers, &self.piece_numbers(piece), &[cap], &[])
    }

    /// What comes out, in rows of tokens.
    pub(super) fn forward(&self, gpu: &Gpu, apart: &Apart, cache: Option<(&Tensor, &Tensor)>) -> Result<Tensor> {
        let Rules { heads, kv_heads, head_dim, scale, .. } = self.rules;
        let (q, out) = (&apart.q, gpu.take(apart.q.len())?);
        let Some((k, v)) = cache.or(apart.kv.as_ref().map(|(k, v)| (k, v))) else { return Ok(out) };
        let tokens = q.len() / (heads * head_dim);
        let batch = tokens / self.seq * kv_heads;
        for piece in &self.pieces(gpu.scores, tokens / self.seq) {
            let rows = batch * piece.count * self.of_group();
            let scores = gpu.floats(rows * piece.keys)?;
            let p = gpu.take(rows * piece.keys)?;
            let queries = self.rows_of(q, piece);
            gpu.product(self.scores(&scores, piece), false, scale, queries, self.keys_of(k, piece).t(), batch)?;
            let pointers = [scores.all().address, p.all().address, self.starts()];
            self.soften(gpu, "softmax", rows, piece, &pointers)?;
            gpu.product(self.rows_of(&out, piece), false, 1.0, self.scores(&p, piece), self.keys_of(v, piece), batch)?;
        }
        let joined = gpu.take(out.len())?;
        let numbers = [tokens, self.seq, heads, kv_heads, head_dim];
        let pointers = [out.all().address, joined.all().address];
        gpu.run("join_heads", out.len().div_ceil(256).min(1 << 14), &pointers, &numbers, &[], &[])?;
        Ok(joined)
    }

    /// The gradient by the rows of queries, keys and values, from the one by what came out.
    pub(super) fn backward(
        &self,
        run: Run,
        rows: &Tensor,
        apart: &Apart,
        out: &Tensor,
        d_out: &Tensor,
    ) -> Result<Option<Tensor>> {
        let gpu = run.gpu;
        let Rules { heads, kv_heads, head_dim, scale, .. } = self.rules;
        let Apart { q, kv: Some((k, v)) } = apart else { return Ok(None) };
        let tokens = self.tokens(rows.all());
        let batch = tokens / self.seq * kv_heads;
        let (d, along) = (gpu.take(q.len())?, gpu.floats(tokens * heads)?);
        let pointers =
            [gpu.reals(out.all(), q.len()), gpu.reals(d_out.all(), q.len()), d.all().address, along.all().address];
        gpu.run(
            "split_heads",
            Groups::of_rows(tokens * heads, head_dim),
            &pointers,
            &[self.seq, heads, kv_heads, head_dim],
            &[],
            &[],
        )?;
        let dq = gpu.floats(q.len())?;
        let (dk, dv) = (gpu.shelf.zeros(Kind::F32, k.len())?, gpu.shelf.zeros(Kind::F32, v.len())?);
        for piece in &self.pieces(gpu.scores, tokens / self.seq) {
            let rows = batch * piece.count * self.of_group();
            let count = rows * piece.keys;
            let (scores, dp) = (gpu.floats(count)?, gpu.floats(count)?);
            let (p, ds) = (gpu.take(count)?, gpu.take(count)?);
            let (queries, d) = (self.rows_of(q, piece), self.rows_of(&d, piece));
            let (keys, values) = (self.keys_of(k, piece), self.keys_of(v, piece));
            gpu.product(self.scores(&scores, piece), false, scale, queries, keys.t(), batch)?;
            gpu.product(self.scores(&dp, piece), false, 1.0, d, values.t(), batch)?;
            let mut pointers = [self.starts(); 6];
            for (to, tensor) in pointers.iter_mut().zip([&scores, &dp, &along, &p, &ds]) {
                *to = tensor.all().address;
            }
            self.soften(gpu, "softmax_backward", rows, piece, &pointers)?;
            let ds = self.scores(&ds, piece);
            gpu.product(self.rows_of(&dq, piece), false, scale, ds, keys, batch)?;
            gpu.product(self.keys_of(&dk, piece), true, scale, ds.t(), queries, batch)?;
            gpu.product(self.keys_of(&dv, piece), true, 1.0, self.scores(&p, piece).t(), d, batch)?;
        }
        let d_rows = gpu.take(rows.len())?;
        let trained = |norm: &Norm| norm.weight.trained().and_then(|number| run.arena.gradient(number));
        let trained = self.norms.and_then(|(q, k)| Some([trained(q)?, trained(k)?]));
        let stats = if trained.is_some() { Some(gpu.floats(tokens * (heads + kv_heads))?) } else { None };
        let stats = stats.as_ref().map_or(0, |stats| stats.all().address);
        let ([q_weight, k_weight], fractions) = self.norm_values(run);
        let [cos, sin] = self.angle_values();
        let [dq, dk, dv] = [&dq, &dk, &dv].map(|tensor| tensor.all().address);
        let (x, d_x, starts) = (rows.all().address, d_rows.all().address, self.starts());
        let pointers = [x, q_weight, k_weight, cos, sin, dq, dk, dv, d_x, stats, starts];
        let groups = Groups::of_rows(tokens * (heads + 2 * kv_heads), head_dim);
        gpu.run("heads_backward", groups, &pointers, &self.numbers(tokens, 0), &fractions, &[])?;
        for (which, dw) in trained.into_iter().flatten().enumerate() {
            let gradient = if which == 0 { dq } else { dk };
            let dw = gpu.singles(dw, head_dim);
            let pointers = [x, 0, 0, cos, sin, gradient, stats, dw, 0, 0, starts];
            gpu.run("heads_weights", head_dim, &pointers, &self.numbers(tokens, which), &[], &[])?;
        }
        Ok(Some(d_rows))
    }
}
