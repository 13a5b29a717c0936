//! The kernels of `kernels.cu`, described once: what each takes, how long its buffers are, and how its work is shared out.
//!
//! From here come the structs by which [`super::ops`] and its neighbours call them, the checks before every launch, and the
//! parameters in the source that is compiled ([`source`]). A length is the last element that the kernel can touch, whatever
//! its buffers hold.

use super::describe::{
    Access, BufferParam, Kernel, ParamElement, Record, constants, declarations, enums, kernels, records, span_type,
};
use super::kernels_rows::ROWS;
use super::kernels_state::{STATE, STATE_RECORDS};
use super::launch::{Bind, Check, Scalar, Size, append, each, fixed, per_columns, per_row, strided};
use super::machine::Groups;
use super::memory::Span;
use super::ops::Gpu;
use crate::error::Result;
use crate::model::ops::activation::Activation;

/// The kernels as CUDA C, with their parameters; `BF16` is defined or not.
pub fn source() -> String {
    let mut text = declarations(CONSTANTS, ENUMS, RECORDS, KERNELS);
    let files = [
        ("kernels.cu", include_str!("kernels.cu")),
        ("kernels_rows.cu", include_str!("kernels_rows.cu")),
        ("kernels_state.cu", include_str!("kernels_state.cu")),
    ];
    for (name, file) in files {
        text.push_str(&format!("#line 1 \"{name}\"\n{file}"));
    }
    text
}

/// Every kernel.
pub const KERNELS: &[&Kernel] = &joined::<{ COMMON.len() + ROWS.len() + STATE.len() }>(&[COMMON, ROWS, STATE]);

/// The structs that kernels take.
pub(super) const RECORDS: &[Record] =
    &[COMMON_RECORDS[0], COMMON_RECORDS[1], COMMON_RECORDS[2], STATE_RECORDS[0], STATE_RECORDS[1]];

const fn joined<const N: usize>(lists: &[&[&'static Kernel]]) -> [&'static Kernel; N] {
    let (mut all, mut at, mut list) = ([COMMON[0]; N], 0, 0);
    while list < lists.len() {
        let mut number = 0;
        while number < lists[list].len() {
            all[at] = lists[list][number];
            (at, number) = (at + 1, number + 1);
        }
        list += 1;
    }
    all
}

constants! {
    /// Threads of a workgroup at most.
    THREADS_MAX = 256;
    /// Widest head.
    HEAD_DIM_MAX = 512;
    /// Widest side of a recurrence's state.
    STATE_DIM_MAX = 512;
    /// Rows from one state that a recurrence keeps to the next.
    STATE_ROWS = 32;
    /// Columns that a workgroup adds up.
    COLUMNS = 32;
    /// 8-bit scales of a scale, where scales are quantized themselves.
    NESTED_BLOCK = 256;
    /// Parts in which the squares of the gradient are added up.
    SQUARES_PARTS = 512;
}

enums! {
    Activation = activation { Silu = SILU, GeluTanh = GELU_TANH, Gelu = GELU, Relu = RELU, Relu2 = RELU2, Xielu = XIELU, ClampedSwiglu = CLAMPED }
}

records! { COMMON_RECORDS;
    /// What is normalized together: `width` values of each group of each row.
    GroupLayout = group_layout {
        rows,
        /// Groups of a row.
        many,
        width,
        /// From row to row.
        stride,
        /// From group to group.
        step,
    }

    /// Where queries, keys and values lie in the rows of a token, and where the products want them.
    HeadLayout = head_layout {
        sequences,
        /// Rows of a sequence.
        seq,
        /// Position of a sequence's first row.
        first,
        /// Rows that keys and values have room for.
        capacity,
        /// From token to token.
        stride,
        /// First query head in a row, from head to head, and from the first of a group to that of the next.
        q_offset,
        q_step,
        q_group,
        k_offset,
        k_step,
        v_offset,
        v_step,
        heads,
        kv_heads,
        head_dim,
        /// Pairs of a head that are turned by position.
        half,
        /// 1 where neighbours are pairs, 0 where a pair is half of what is turned apart.
        interleaved,
        /// Rows of the tables of angles.
        positions,
    }

    /// A block of attention scores: query rows of all sequences and heads, and the keys that they may see.
    ScoreBlock = score_block {
        sequences,
        kv_heads,
        /// Query heads of a key head.
        group,
        /// Rows of a sequence.
        seq,
        /// First query row of the block in its sequence.
        first,
        /// Query rows of the block.
        rows,
        /// Position of the first query row.
        position,
        /// First key.
        lo,
        keys,
        /// A row sees itself and the `window − 1` positions before it.
        window,
        /// A row sees nothing before the multiple of this that its position reaches.
        chunk,
    }
}

impl GroupLayout<Size> {
    fn count(&self) -> Size {
        self.rows * self.many
    }

    fn values(&self) -> Size {
        strided(self.rows, strided(self.many, self.width, self.step), self.stride)
    }
}

impl HeadLayout<Size> {
    fn tokens(&self) -> Size {
        self.sequences * self.seq
    }

    /// Heads of a token: of queries, keys and values.
    fn groups(&self) -> Groups {
        per_row(self.tokens() * (self.heads + self.kv_heads * 2), self.head_dim)
    }

    /// Rows of queries, keys and values as they are projected.
    fn rows(&self) -> Size {
        let end = |heads: Size, offset: Size, step: Size| offset + strided(heads, self.head_dim, step);
        let group = strided(self.heads.div_ceil(self.kv_heads), self.head_dim, self.q_step);
        let q = self.q_offset + strided(self.kv_heads, group, self.q_group);
        let k = end(self.kv_heads, self.k_offset, self.k_step);
        let v = end(self.kv_heads, self.v_offset, self.v_step);
        strided(self.tokens(), q.max(k).max(v), self.stride)
    }

    fn queries(&self) -> Size {
        self.tokens() * self.heads * self.head_dim
    }

    fn keys(&self) -> Size {
        self.sequences * self.kv_heads * self.capacity * self.head_dim
    }

    fn angles(&self) -> Size {
        self.positions * self.half
    }

    fn fits(&self) -> bool {
        self.heads % self.kv_heads == 0
            && self.head_dim <= HEAD_DIM_MAX
            && self.half * 2 <= self.head_dim
            && self.first + self.seq <= self.capacity
    }

    /// The tables reach as far as positions go, which `starts` may shorten.
    fn turned_by(&self, cosines: Option<Span>, sines: Option<Span>, starts: Option<Span>) -> bool {
        self.half == 0
            || cosines.is_some()
                && sines.is_some()
                && self.positions > 0
                && (starts.is_some() || self.first + self.seq <= self.positions)
    }
}

impl ScoreBlock<Size> {
    fn groups(&self) -> Groups {
        per_row(self.query_rows(), self.keys)
    }

    fn query_rows(&self) -> Size {
        self.sequences * self.kv_heads * self.rows * self.group
    }

    fn scores(&self) -> Size {
        self.query_rows() * self.keys
    }

    fn fits(&self) -> bool {
        self.first + self.rows <= self.seq
            && self.lo <= self.position
            && self.position + self.rows <= self.lo + self.keys
            && self.chunk > 0
    }
}

/// Scales of a weight: a row's begin `by_row − 1` after the last row's, or with 0 run on over the rows.
fn scales_of(count: Size, in_features: Size, block: Size, by_row: Size) -> Size {
    if by_row == 0 {
        return count.div_ceil(block);
    }
    strided(count.div_ceil(in_features), in_features.div_ceil(block), by_row - 1)
}

/// Of `count` scales, those that are kept in f32.
fn absmax_of(count: Size, nested: bool) -> Size {
    if nested { count.div_ceil(NESTED_BLOCK) } else { count }
}

fn up_width(width: Size, gated: bool) -> Size {
    width * if gated { 2 } else { 1 }
}

kernels! { COMMON;
    /// 4-bit codes, the first in the high nibble, become values: level · scale.
    Dequantize = dequantize(in_features: usize, block: usize, by_row: usize, count: u64, offset: f32) {
        codes: read U8[count.div_ceil(2)] in words,
        scales: read U8[scales_of(count, in_features, block, by_row)] or none,
        absmax: read F32[absmax_of(scales_of(count, in_features, block, by_row), scales.is_some())],
        map: read F32[Size(256)] or none,
        levels: read F32[Size(16)],
        out: write Compute[count] in words,
    } over [each(count.div_ceil(8))] where [
        count <= u32::MAX as usize;
        scales.is_some() == map.is_some()
    ];

    /// f32 to what weights are computed in.
    Convert = convert(count: u64) {
        from: read F32[count],
        to: write Compute[count],
    } over [each(count)];

    /// Rows of the embedding, scaled, with the positions' rows added where there are any.
    Embed = embed(tokens: usize, width: usize, vocab: usize, seq: usize, first: usize, positions_rows: usize, scale: f32) {
        ids: read Index(vocab)[tokens],
        table: read Weight[vocab * width],
        positions: read Weight[positions_rows * width] or none,
        out: write Compute[tokens * width],
        starts: read I32[tokens] or none,
    } over [each(tokens * width)] where [
        seq > 0;
        positions.is_none() || positions_rows > 0;
        positions.is_none() || starts.is_some() || first + seq <= positions_rows
    ];

    /// Adds rows of gradient to the embedding's, or without ids to the positions', a thread a column: tokens come in order.
    EmbedBackward = embed_backward(tokens: usize, width: usize, rows: usize, seq: usize, scale: f32) {
        ids: read Index(rows)[tokens] or none,
        d: read Compute[tokens * width],
        gradient: update F32[rows * width],
        starts: read I32[tokens] or none,
    } over [per_columns(width, 64)] where [
        seq > 0 && rows > 0;
        ids.is_some() || starts.is_some() || seq <= rows
    ];

    /// `out[n] = from[index[n]]`, row by row.
    Gather = gather(rows: usize, width: usize, from_rows: usize) {
        index: read Index(from_rows)[rows],
        from: read Compute[from_rows * width],
        out: write Compute[rows * width],
    } over [each(rows * width)];

    /// `out[index[n]] = from[n]`; no row stands twice in the index.
    Scatter = scatter(rows: usize, width: usize, out_rows: usize) {
        index: read Index(out_rows)[rows],
        from: read Compute[rows * width],
        out: update Compute[out_rows * width],
    } over [each(rows * width)];

    /// `to += scale · from`.
    Add = add(count: u64, scale: f32) {
        to: update Compute[count],
        from: read Compute[count],
    } over [each(count)];

    /// `to *= scale`.
    Scale = scale(count: u64, factor: f32) {
        to: update Compute[count],
    } over [each(count)];

    /// Adds a bias to every row, times the row's weight where there are weights.
    AddBias = add_bias(rows: usize, width: usize, stride: usize) {
        to: update Compute[strided(rows, width, stride)],
        bias: read F32[width],
        weights: read F32[rows] or none,
    } over [each(rows * width)] where [width <= stride];

    /// `sums += Σ x` over rows: each row times its weight, each value times that of `along`, the sum divided by `by`, where these are given.
    ColumnSums = column_sums(rows: usize, width: usize, stride: usize) {
        x: read Compute[strided(rows, width, stride)],
        weights: read F32[rows] or none,
        along: read Compute[rows * width] or none,
        by: read F32[width] or none,
        sums: update F32[width],
    } over [per_columns(width, COLUMNS)];

    /// RMSNorm, or LayerNorm where `centred`: `y = (x − mean) · scale · (weight + plus) + bias`, of every group of every row.
    NormForward = norm_forward(groups: GroupLayout, centred: bool, plus: f32, eps: f32) {
        x: read Compute[groups.values()],
        weight: read F32[groups.width],
        bias: read F32[groups.width] or none,
        y: update Compute[groups.values()],
    } over [per_row(groups.count(), groups.width)];

    /// `dx = keep · dx + …`, in the place of `dy` where that is not given; mean and scale of every group go to `stats` where that is.
    NormBackward = norm_backward(groups: GroupLayout, centred: bool, keep: bool, plus: f32, eps: f32) {
        x: read Compute[groups.values()],
        weight: read F32[groups.width],
        dy: read Compute[groups.values()] or none,
        dx: update Compute[groups.values()],
        stats: write F32[groups.count() * 2] or none,
    } over [per_row(groups.count(), groups.width)] where [dy.is_some() || !keep];

    /// `dw += Σ dy · (x − mean) · scale` over groups.
    NormWeights = norm_weights(groups: GroupLayout) {
        x: read Compute[groups.values()],
        dy: read Compute[groups.values()],
        stats: read F32[groups.count() * 2],
        dw: update F32[groups.width],
    } over [per_columns(groups.width, COLUMNS)];

    /// Queries and keys are normalized (where there are weights) and turned by position; all three are laid out for products.
    HeadsForward = heads_forward(layout: HeadLayout, q_plus: f32, k_plus: f32, eps: f32) {
        x: read Compute[layout.rows()],
        q_weight: read F32[layout.head_dim] or none,
        k_weight: read F32[layout.head_dim] or none,
        cosines: read F32[layout.angles()] or none,
        sines: read F32[layout.angles()] or none,
        q: write Compute[layout.queries()],
        k: update Compute[layout.keys()],
        v: update Compute[layout.keys()],
        starts: read I32[layout.tokens()] or none,
    } over [layout.groups()] where [
        layout.fits();
        layout.turned_by(cosines, sines, starts)
    ];

    /// The way back, from gradients by what the products got. Scales of the norms go to `stats`, [token][query and key
    /// heads], where that is given.
    HeadsBackward = heads_backward(layout: HeadLayout, q_plus: f32, k_plus: f32, eps: f32) {
        x: read Compute[layout.rows()] or none,
        q_weight: read F32[layout.head_dim] or none,
        k_weight: read F32[layout.head_dim] or none,
        cosines: read F32[layout.angles()] or none,
        sines: read F32[layout.angles()] or none,
        dq: read F32[layout.queries()],
        dk: read F32[layout.keys()],
        dv: read F32[layout.keys()],
        dx: update Compute[layout.rows()],
        stats: update F32[layout.tokens() * (layout.heads + layout.kv_heads)] or none,
        starts: read I32[layout.tokens()] or none,
    } over [layout.groups()] where [
        layout.fits();
        x.is_some() || q_weight.is_none() && k_weight.is_none();
        layout.turned_by(cosines, sines, starts)
    ];

    /// Gradients of the norms' weights, of queries or of keys: `dw[i] += Σ over tokens and heads`, a workgroup a column i.
    HeadsWeights = heads_weights(layout: HeadLayout, of_keys: bool) {
        x: read Compute[layout.rows()],
        cosines: read F32[layout.angles()] or none,
        sines: read F32[layout.angles()] or none,
        gradient: read F32[if of_keys { layout.keys() } else { layout.queries() }],
        stats: read F32[layout.tokens() * (layout.heads + layout.kv_heads)],
        dw: update F32[layout.head_dim],
        starts: read I32[layout.tokens()] or none,
    } over [per_row(layout.head_dim, Size(THREADS_MAX))] where [
        layout.fits();
        layout.turned_by(cosines, sines, starts);
        layout.tokens() * (layout.heads + layout.kv_heads * 2) <= i32::MAX as usize
    ];

    /// Probabilities from scores and from a head's sink, where there are sinks; to scores `alibi` times a head's slope and the way to the key is added
    /// first, of places and slopes that are `rounded` to bf16 where the family has them so.
    Softmax = softmax(block: ScoreBlock, cap: f32, alibi: f32, rounded: bool) {
        scores: read F32[block.scores()],
        p: write Compute[block.scores()],
        starts: read I32[block.sequences * block.seq] or none,
        sinks: read F32[block.kv_heads * block.group] or none,
    } over [block.groups()] where [block.fits()];

    /// Probabilities again, and the gradient by the scores before their scale: `p (dp − along)`, times the cap's slope. A sink's share of
    /// each row times `along` goes to `shares`.
    SoftmaxBackward = softmax_backward(block: ScoreBlock, cap: f32, alibi: f32, rounded: bool) {
        scores: read F32[block.scores()],
        dp: read F32[block.scores()],
        along: read F32[block.sequences * block.kv_heads * block.seq * block.group],
        p: write Compute[block.scores()],
        ds: write Compute[block.scores()],
        starts: read I32[block.sequences * block.seq] or none,
        sinks: read F32[block.kv_heads * block.group] or none,
        shares: write F32[block.query_rows()] or none,
    } over [block.groups()] where [block.fits()];

    /// From [sequence][kv head][row][query head of the group][dim] to rows of tokens.
    JoinHeads = join_heads(sequences: usize, seq: usize, heads: usize, kv_heads: usize, head_dim: usize) {
        from: read Compute[sequences * seq * heads * head_dim],
        to: write Compute[sequences * seq * heads * head_dim],
    } over [each(sequences * seq * heads * head_dim)] where [heads % kv_heads == 0];

    /// The way back for a gradient, and `along = Σ out · d` of every row and head.
    SplitHeads = split_heads(sequences: usize, seq: usize, heads: usize, kv_heads: usize, head_dim: usize) {
        out: read Compute[sequences * seq * heads * head_dim],
        d: read Compute[sequences * seq * heads * head_dim],
        to: write Compute[sequences * seq * heads * head_dim],
        along: write F32[sequences * seq * heads],
    } over [per_row(sequences * seq * heads, head_dim)] where [heads % kv_heads == 0];

    /// The nonlinearity of an MLP, gated (`f(gate) ∘ up`) or not (`f(up)`); the last numbers are α₊ and α₋ of an xIELU.
    ActivationForward = activation_forward(
        rows: usize, width: usize, gated: bool, function: Activation, positive: f32, negative: f32
    ) {
        up: read Compute[rows * up_width(width, gated)],
        out: write Compute[rows * width],
    } over [each(rows * width)];

    /// What went in becomes the gradient by it.
    ActivationBackward = activation_backward(
        rows: usize, width: usize, gated: bool, function: Activation, positive: f32, negative: f32
    ) {
        up: update Compute[rows * up_width(width, gated)],
        d: read Compute[rows * width],
    } over [each(rows * width)];

    /// `to = keep · to + dropped(from)`.
    Dropout = dropout(keep: bool, count: u64, key: u64, scale: f32, p: f32) {
        from: read Compute[count],
        to: update Compute[count],
    } over [each(count)];

    /// `losses[row] = log Σ e^l − l[target]`, and the gradient times `scale` where it is wanted.
    CrossEntropy = cross_entropy(rows: usize, vocab: usize, cap: f32, scale: f32) {
        logits: read F32[rows * vocab],
        targets: read Index(vocab)[rows],
        losses: write F32[rows],
        d: write Compute[rows * vocab] or none,
    } over [per_row(rows, vocab)];

    /// Adds a bias to every row of logits.
    AddLogitBias = add_logit_bias(rows: usize, vocab: usize) {
        logits: update F32[rows * vocab],
        bias: read F32[vocab],
    } over [each(rows * vocab)];

    /// `cap · tanh(l / cap)` in place.
    CapLogits = cap_logits(count: u64, cap: f32) {
        logits: update F32[count],
    } over [each(count)];

    /// `totals[which] += Σ values`, in f64.
    Sum = sum(which: usize, count: u64) {
        values: read F32[count],
        totals: update F64[which + 1],
    } over [fixed(1)];

    /// Σ values², a part each workgroup, in f64.
    Squares = squares(count: u64) {
        values: read F32[count],
        parts: write F64[Size(SQUARES_PARTS)],
    } over [fixed(SQUARES_PARTS)];

    /// `totals[which] = Σ parts`.
    SumParts = sum_parts(which: usize, count: usize) {
        parts: read F64[count],
        totals: update F64[which + 1],
    } over [fixed(1)];

    /// AdamW; gradients are clipped here, to a norm of `max_norm` where that is not 0, from their squares in `totals[1]`.
    AdamW = adamw(
        count: u64, max_norm: f32, step: f32, decay: f32, one_minus_beta1: f32, one_minus_beta2: f32, eps: f32, root2: f32
    ) {
        p: update F32[count],
        g: read F32[count],
        m: update F32[count],
        v: update F32[count],
        working: write Compute[count] or none,
        totals: read F64[Size(2)],
    } over [each(count)];
}
