//! Matrix products with factors rounded to bf16 and sums in `f32`, by AVX512-BF16 or by AMX tiles.
//!
//! Both units take pairs of neighbouring values along the sum, so a factor is packed first: *lines* (rows of `a`, columns of
//! `b`) in panels of [`LINES`], and along the sum in blocks of [`LINES`] values, two to a word.
//!
//! ```text
//! block of a:  [line 32][pair 16]      block of b:  [pair 16][line 32]      c: 32 × 32 values a block of each
//! ```
//!
//! Every element is summed in one order, however many threads there are.

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "x86_64")]
pub use x86::Unit;

use super::gemm::{Out, View};
use super::{Buf, Pool};
use rayon::prelude::*;
use std::ops::Range;

/// What multiplies bf16: on this architecture nothing does.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {}

#[cfg(not(target_arch = "x86_64"))]
impl Unit {
    /// Those that this processor has, the fastest first.
    pub fn all() -> Vec<Self> {
        Vec::new()
    }

    /// As in a message.
    pub fn name(self) -> &'static str {
        match self {}
    }

    fn session<T>(self, _: impl FnOnce() -> T) -> T {
        match self {}
    }

    fn pack(self, _: &Lines, _: [usize; 2], _: bool, _: &mut [u32]) {
        match self {}
    }

    unsafe fn multiply(self, _: &Tile) {
        match self {}
    }
}

/// Lines of a panel, and values of a block along the sum.
const LINES: usize = 32;
/// Words of a block.
const BLOCK: usize = LINES * LINES / 2;
/// Blocks along the sum that are added up before the next columns of `c`: a panel of either factor is 32 KiB of them.
const DEPTH: usize = 16;
/// Panels of rows that stay near while the columns of `b` go by.
const HIGH: usize = 8;

/// Reads rows of a matrix that is decoded as it is needed.
pub type Read<'a> = dyn Fn(Range<usize>, &mut [f32]) + Sync + 'a;

#[derive(Clone, Copy)]
enum Values<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u16]),
    Decoded(&'a Read<'a>),
}

/// A factor: element (r, c) is at `r · row + c · col`.
#[derive(Clone, Copy)]
pub struct Factor<'a> {
    values: Values<'a>,
    rows: usize,
    cols: usize,
    row: usize,
    col: usize,
}

impl<'a> From<View<'a>> for Factor<'a> {
    fn from(view: View<'a>) -> Self {
        let (data, [rows, cols], [row, col]) = view.parts();
        Self { values: Values::F32(data), rows, cols, row, col }
    }
}

impl<'a> Factor<'a> {
    /// Rows of bf16 values, one after the other.
    pub fn bf16(bits: &'a [u16], rows: usize, cols: usize) -> Self {
        Self { values: Values::Bf16(bits), rows, cols, row: cols, col: 1 }
    }

    /// Rows that `read` gives as `f32`.
    pub fn decoded(read: &'a Read<'a>, rows: usize, cols: usize) -> Self {
        Self { values: Values::Decoded(read), rows, cols, row: cols, col: 1 }
    }

    /// Rows and columns exchanged.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row: self.col, col: self.row, ..self }
    }

    fn lines(self) -> Lines<'a> {
        Lines { values: self.values, count: self.rows, depth: self.cols, line: self.row, step: self.col }
    }
}

/// A factor as it is packed: value `k` of line `i` is at `i · line + k · step`, and one of these is 1.
#[derive(Clone, Copy)]
struct Lines<'a> {
    values: Values<'a>,
    count: usize,
    depth: usize,
    line: usize,
    step: usize,
}

impl Lines<'_> {
    fn check(&self) {
        let length = match self.values {
            Values::F32(data) => data.len(),
            Values::Bf16(bits) => bits.len(),
            Values::Decoded(_) => return,
        };
        let last = (self.count.max(1) - 1) * self.line + (self.depth.max(1) - 1) * self.step;
        assert!(self.count == 0 || self.depth == 0 || last < length, "a factor outside its buffer");
        assert!(self.line == 1 || self.step == 1, "a factor with gaps");
    }
}

/// A factor in blocks.
struct Packed {
    words: Buf,
    /// The first word at a multiple of 64 bytes.
    first: usize,
    /// Words from panel to panel, and from block to block along the sum.
    panel: usize,
    block: usize,
}

fn as_words(values: &mut [f32]) -> &mut [u32] {
    // SAFETY: of one size and alignment, and every pattern of bits is a number of either.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
}

impl Packed {
    /// `by_pair` is the order of `b`.
    fn new(unit: Unit, pool: &Pool, lines: Lines, by_pair: bool) -> Self {
        lines.check();
        let (panels, blocks) = (lines.count.div_ceil(LINES), lines.depth.div_ceil(LINES));
        // What is decoded row by row is packed row by row: where rows run across the sum, its blocks are the outer order. An odd
        // distance keeps them apart in the cache.
        let decoded = if let Values::Decoded(read) = lines.values { Some(read) } else { None };
        let across = decoded.is_some() && lines.step != 1;
        let (panel, block) = if across { (BLOCK, (panels | 1) * BLOCK) } else { (blocks * BLOCK, BLOCK) };
        let (pieces, piece) = if across { (blocks, block) } else { (panels, panel) };
        let mut words = pool.take(pieces * piece + LINES / 2);
        let first = words.as_ptr().align_offset(64).min(LINES / 2);
        let to = &mut as_words(&mut words)[first..][..pieces * piece];
        to.par_chunks_mut(piece.max(1)).enumerate().for_each(|(at, to)| {
            let Some(read) = decoded else {
                for (block, to) in to.chunks_exact_mut(BLOCK).enumerate() {
                    unit.pack(&lines, [at * LINES, block * LINES], by_pair, to);
                }
                return;
            };
            let (rows, cols) = if across { (lines.depth, lines.count) } else { (lines.count, lines.depth) };
            let rows = at * LINES..rows.min((at + 1) * LINES);
            let mut values = pool.take(rows.len() * cols);
            read(rows.clone(), &mut values);
            let values = Values::F32(&values);
            if across {
                let lines = Lines { values, depth: rows.len(), line: 1, step: cols, ..lines };
                for (panel, to) in to.chunks_exact_mut(BLOCK).take(panels).enumerate() {
                    unit.pack(&lines, [panel * LINES, 0], by_pair, to);
                }
            } else {
                let lines = Lines { values, count: rows.len(), line: cols, step: 1, ..lines };
                for (block, to) in to.chunks_exact_mut(BLOCK).enumerate() {
                    unit.pack(&lines, [0, block * LINES], by_pair, to);
                }
            }
        });
        Self { words, first, panel, block }
    }

    fn at(&self, panel: usize, block: usize) -> *const u32 {
        self.words[self.first + panel * self.panel + block * self.block..].as_ptr().cast()
    }
}

/// 32 × 32 values of `c`, `blocks` of either factor.
struct Tile {
    a: *const u32,
    b: *const u32,
    a_block: usize,
    b_block: usize,
    blocks: usize,
    /// Rows that count.
    rows: usize,
    c: *mut f32,
    stride: usize,
    /// Whether what is in `c` stays.
    keep: bool,
}

/// Where threads write, each its own elements.
#[derive(Clone, Copy)]
struct Target(*mut f32);
// SAFETY: `product` gives every piece of `c` to one thread.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    fn at(self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// `c = keep·c + alpha · a·b`, on all threads; `keep` is whether what is in `c` stays.
pub fn product(unit: Unit, pool: &Pool, c: Out, keep: bool, alpha: f32, a: Factor, b: Factor) {
    let (data, [rows, cols], stride) = c.parts();
    assert!(a.rows == rows && a.cols == b.rows && b.cols == cols, "shapes of a product");
    assert!(rows == 0 || cols <= stride && (rows - 1) * stride + cols <= data.len(), "a product outside its buffer");
    if rows == 0 || cols == 0 {
        return;
    }
    let blocks = a.cols.div_ceil(LINES);
    if blocks == 0 {
        if !keep {
            data.chunks_mut(stride).for_each(|row| row[..cols].fill(0.0));
        }
        return;
    }
    let (high, wide) = (rows.div_ceil(LINES), cols.div_ceil(LINES));
    let a = Packed::new(unit, pool, a.lines(), false);
    let b = Packed::new(unit, pool, b.t().lines(), true);
    // Pieces of `c`: several a thread, so that none waits long for another.
    let down = high.div_ceil(HIGH);
    let across = (4 * rayon::current_num_threads()).div_ceil(down).min(wide);
    let width = wide.div_ceil(across);
    let target = Target(data.as_mut_ptr());
    (0..down * across).into_par_iter().for_each(|piece| {
        let (panels, columns) = (piece % down * HIGH, piece / down * width);
        let panels = panels..(panels + HIGH).min(high);
        let columns = columns..(columns + width).min(wide);
        unit.session(|| {
            for block in (0..blocks).step_by(DEPTH) {
                let keep = keep || block > 0;
                for column in columns.clone() {
                    for panel in panels.clone() {
                        let (row, col) = (panel * LINES, column * LINES);
                        let (count, width) = (LINES.min(rows - row), LINES.min(cols - col));
                        let mut tile = Tile {
                            a: a.at(panel, block),
                            b: b.at(column, block),
                            a_block: a.block,
                            b_block: b.block,
                            blocks: DEPTH.min(blocks - block),
                            rows: count,
                            c: target.at(row * stride + col),
                            stride,
                            keep,
                        };
                        if alpha == 1.0 && count == LINES && width == LINES {
                            // SAFETY: all of the tile is in `c`, found to be as long above, and no other piece has it; the
                            // blocks are in the packed factors.
                            unsafe { unit.multiply(&tile) };
                            continue;
                        }
                        let mut values = [0f32; LINES * LINES];
                        let c = std::mem::replace(&mut tile.c, values.as_mut_ptr());
                        (tile.stride, tile.keep) = (LINES, false);
                        // SAFETY: the tile is `values`.
                        unsafe { unit.multiply(&tile) };
                        for (at, values) in values.chunks_exact(LINES).take(count).enumerate() {
                            // SAFETY: `width` values of `count` rows are in `c`, and no other piece has them.
                            let to = unsafe { std::slice::from_raw_parts_mut(c.wrapping_add(at * stride), width) };
                            for (to, value) in to.iter_mut().zip(values) {
                                *to = alpha * value + if keep { *to } else { 0.0 };
                            }
                        }
                    }
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| (((i + seed) * 7919) % 1000) as f32 / 500.0 - 1.0).collect()
    }

    fn rounded(x: f32) -> f64 {
        half::bf16::from_f32(x).to_f64()
    }

    /// Every order of either factor, every kind of values, edges on all sides, and what lies beside `c`.
    #[test]
    fn products_of_rounded_factors() {
        let pool = Pool::default();
        for unit in Unit::all() {
            for (m, n, k) in [(1, 1, 1), (33, 70, 45), (64, 96, 32), (300, 40, 1100), (8, 130, 600), (5, 3, 0)] {
                let (a, b) = (values(m * k + 7, 1), values(n * k + 7, 2));
                let bits: Vec<u16> = b.iter().map(|&x| half::bf16::from_f32(x).to_bits()).collect();
                let read = |rows: Range<usize>, width: usize, out: &mut [f32]| {
                    out.copy_from_slice(&b[rows.start * width..rows.end * width]);
                };
                let (of_n, of_k) = (
                    |rows: Range<usize>, out: &mut [f32]| read(rows, k, out),
                    |rows: Range<usize>, out: &mut [f32]| read(rows, n, out),
                );
                let down = |r: usize, i: usize| r * k + i;
                let left: [(Factor, &dyn Fn(usize, usize) -> usize); 2] = [
                    (View::dense(&a, m, k).into(), &down),
                    (Factor::from(View::dense(&a, k, m)).t(), &|r, i| i * m + r),
                ];
                // Of these, rows are columns of the product, or run along the sum.
                let right: [(Factor, bool); 6] = [
                    (Factor::from(View::dense(&b, n, k)).t(), true),
                    (View::dense(&b, k, n).into(), false),
                    (Factor::bf16(&bits, n, k).t(), true),
                    (Factor::bf16(&bits, k, n), false),
                    (Factor::decoded(&of_n, n, k).t(), true),
                    (Factor::decoded(&of_k, k, n), false),
                ];
                for (left, place) in &left {
                    for (right, by_column) in &right {
                        for (keep, alpha) in [(false, 1.0), (true, 1.0), (true, 0.5)] {
                            let mut c = values(m * (n + 5), 3);
                            let before = c.clone();
                            product(unit, &pool, Out::new(&mut c, m, n, n + 5), keep, alpha, *left, *right);
                            for (at, (&found, &before)) in c.iter().zip(&before).enumerate() {
                                let (r, col) = (at / (n + 5), at % (n + 5));
                                let term = |i: usize| {
                                    let at = if *by_column { col * k + i } else { i * n + col };
                                    rounded(a[place(r, i)]) * rounded(b[at])
                                };
                                let before = f64::from(before);
                                let expected = if col >= n {
                                    before
                                } else {
                                    (0..k).map(term).sum::<f64>() * f64::from(alpha) + if keep { before } else { 0.0 }
                                };
                                let off = (f64::from(found) - expected).abs();
                                assert!(off < 2e-4, "{}: {m} {n} {k} at {r}, {col}: {found}, {expected}", unit.name());
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_same_bits_on_any_number_of_threads() {
        let (m, n, k) = (200, 330, 700);
        let (a, b) = (values(m * k, 1), values(n * k, 2));
        for unit in Unit::all() {
            let on = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut c = vec![0.0; m * n];
                let b = Factor::from(View::dense(&b, n, k)).t();
                pool.install(|| {
                    let to = Out::dense(&mut c, m, n);
                    product(unit, &Pool::default(), to, false, 1.0, View::dense(&a, m, k).into(), b);
                });
                c.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            };
            assert_eq!(on(1), on(3));
        }
    }

    #[test]
    #[should_panic(expected = "outside its buffer")]
    fn a_factor_outside_is_refused() {
        let unit = Unit::all().first().copied();
        let Some(unit) = unit else { panic!("nothing multiplies bf16 here: outside its buffer") };
        let (a, b) = (values(4, 1), values(3, 2));
        let mut c = [0.0; 4];
        let (a, b) = (View::dense(&a, 2, 2), View::dense(&b, 2, 2));
        product(unit, &Pool::default(), Out::dense(&mut c, 2, 2), false, 1.0, a.into(), b.into());
    }
}
