//! Matrix products with factors rounded to bf16 and sums in `f32`, by AVX512-BF16 or by AMX tiles.
//!
//! Both units take pairs of neighbouring values along the sum, so factors are packed first: *lines* (rows of `a`, columns of
//! `b`) in panels of `LINES`, and along the sum in blocks of `LINES` values, two to a word.
//!
//! ```text
//! block of a:  [line 32][pair 16]      block of b:  [pair 16][line 32]      c: 32 × 32 values a block of each
//! ```
//!
//! What is packed at once has one size, whatever the factors' are: `WIDE` panels of `b` for all threads, `HIGH` of `a` for
//! each, `DEPTH` blocks of either; so it counts for nothing beside activations. Every element is summed in one order,
//! however many threads there are.

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "x86_64")]
pub use x86::Unit;

use super::gemm::{Out, View};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

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
/// Blocks along the sum that are packed at once.
const DEPTH: usize = 16;
/// Words of a packed panel: 32 KiB.
const PANEL: usize = DEPTH * BLOCK;
/// Panels of `a` that one thread packs at once.
const HIGH: usize = 8;
/// Panels of `b` that are packed at once.
const WIDE: usize = 32;

/// A factor as it is packed: value `k` of line `i` is at `i · line + k · step`, and one of these is 1.
struct Lines<'a> {
    data: &'a [f32],
    count: usize,
    depth: usize,
    line: usize,
    step: usize,
}

impl<'a> Lines<'a> {
    fn of(view: View<'a>) -> Self {
        let (data, [count, depth], [line, step]) = view.parts();
        let last = count.saturating_sub(1) * line + depth.saturating_sub(1) * step;
        assert!(count == 0 || depth == 0 || last < data.len(), "a factor outside its buffer");
        assert!(line == 1 || step == 1, "a factor with gaps");
        Self { data, count, depth, line, step }
    }

    /// Packs a panel of `blocks` from block `first` on.
    fn pack(&self, unit: Unit, panel: usize, first: usize, blocks: usize, by_pair: bool, to: &mut [u32]) {
        for (block, to) in to.chunks_exact_mut(BLOCK).take(blocks).enumerate() {
            unit.pack(self, [panel * LINES, (first + block) * LINES], by_pair, to);
        }
    }
}

/// Memory for `PANELS` packed panels, used again and again.
struct Packed<const PANELS: usize>(Vec<u32>);

/// Memory that waits to be used again.
static WAITING: Mutex<Vec<Vec<u32>>> = Mutex::new(Vec::new());

impl<const PANELS: usize> Packed<PANELS> {
    /// Words, with some to spare for a begin at a multiple of 64 bytes.
    const LENGTH: usize = PANELS * PANEL + 16;

    fn take() -> Self {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        let at = waiting.iter().position(|words| words.len() == Self::LENGTH);
        Self(at.map_or_else(|| vec![0; Self::LENGTH], |at| waiting.swap_remove(at)))
    }

    fn words(&mut self) -> &mut [u32] {
        let first = self.0.as_ptr().align_offset(64).min(16);
        &mut self.0[first..][..PANELS * PANEL]
    }
}

impl<const PANELS: usize> Drop for Packed<PANELS> {
    fn drop(&mut self) {
        WAITING.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.0));
    }
}

/// 32 × 32 values of `c`, and `blocks` of either factor, one behind the other.
struct Tile {
    a: *const u32,
    b: *const u32,
    blocks: usize,
    /// Rows that count.
    rows: usize,
    c: *mut f32,
    stride: usize,
    /// Whether what is in `c` stays.
    keep: bool,
}

/// Where a product goes.
#[derive(Clone, Copy)]
struct Target {
    c: *mut f32,
    rows: usize,
    cols: usize,
    stride: usize,
    alpha: f32,
}

// SAFETY: `product` gives every piece of `c` to one thread.
unsafe impl Sync for Target {}

impl Target {
    /// Adds a tile, or begins with it.
    ///
    /// # Safety
    /// The panels are packed, `blocks` of each; the tile is in `c`, and nobody else uses it meanwhile; the thread is in a session.
    unsafe fn add(&self, unit: Unit, [row, col]: [usize; 2], a: &[u32], b: &[u32], blocks: usize, keep: bool) {
        let (rows, width) = (LINES.min(self.rows - row), LINES.min(self.cols - col));
        let (a, b, stride) = (a.as_ptr(), b.as_ptr(), self.stride);
        let c = self.c.wrapping_add(row * stride + col);
        if self.alpha == 1.0 && rows == LINES && width == LINES {
            // SAFETY: the caller's.
            unsafe { unit.multiply(&Tile { a, b, blocks, rows, c, stride, keep }) };
            return;
        }
        let mut values = [0f32; LINES * LINES];
        // SAFETY: the caller's, with a whole tile of its own.
        unsafe {
            unit.multiply(&Tile { a, b, blocks, rows, c: values.as_mut_ptr(), stride: LINES, keep: false });
        }
        for (at, values) in values.chunks_exact(LINES).take(rows).enumerate() {
            // SAFETY: `width` values of `rows` rows are in `c`, and nobody else uses them.
            let to = unsafe { std::slice::from_raw_parts_mut(c.wrapping_add(at * stride), width) };
            for (to, value) in to.iter_mut().zip(values) {
                *to = self.alpha * value + if keep { *to } else { 0.0 };
            }
        }
    }
}

/// Whether a product is worth rounding for: not where a side is as thin as a rank, which `f32` does as fast.
pub fn pays(a: &View, b: &View) -> bool {
    let (_, [rows, depth], _) = a.parts();
    let (_, [_, cols], _) = b.parts();
    rows.min(depth).min(cols) > LINES
}

/// `c = keep·c + alpha · a·b`, on all threads; `keep` is whether what is in `c` stays.
pub fn product(unit: Unit, c: Out, keep: bool, alpha: f32, a: View, b: View) {
    let (data, [rows, cols], stride) = c.parts();
    let (a, b) = (Lines::of(a), Lines::of(b.t()));
    assert!(a.count == rows && a.depth == b.depth && b.count == cols, "shapes of a product");
    assert!(rows == 0 || cols <= stride && (rows - 1) * stride + cols <= data.len(), "a product outside its buffer");
    if rows == 0 || cols == 0 {
        return;
    }
    let (high, wide, deep) = (rows.div_ceil(LINES), cols.div_ceil(LINES), a.depth.div_ceil(LINES));
    if deep == 0 && !keep {
        data.chunks_mut(stride).for_each(|row| row[..cols].fill(0.0));
    }
    let target = Target { c: data.as_mut_ptr(), rows, cols, stride, alpha };
    let mut packed = Packed::<WIDE>::take();
    for columns in pieces(0..wide, WIDE) {
        for depth in pieces(0..deep, DEPTH) {
            let packed = &mut packed.words()[..columns.len() * PANEL];
            packed.par_chunks_exact_mut(PANEL).zip(columns.clone()).for_each(|(to, panel)| {
                b.pack(unit, panel, depth.start, depth.len(), true, to);
            });
            let (packed, target, keep) = (&*packed, &target, keep || depth.start > 0);
            // Where there are few rows, threads share the columns.
            let shares = rayon::current_num_threads().div_ceil(high.div_ceil(HIGH)).min(columns.len());
            let share = columns.len().div_ceil(shares);
            let pieces: Vec<_> = pieces(0..high, HIGH)
                .flat_map(|panels| pieces(0..columns.len(), share).map(move |columns| (panels.clone(), columns)))
                .collect();
            pieces.into_par_iter().for_each(|(panels, share)| {
                let mut of_a = Packed::<HIGH>::take();
                let of_a = of_a.words();
                for (to, panel) in of_a.chunks_exact_mut(PANEL).zip(panels.clone()) {
                    a.pack(unit, panel, depth.start, depth.len(), false, to);
                }
                unit.session(|| {
                    for at in share {
                        let column = (columns.start + at) * LINES;
                        let of_b = &packed[at * PANEL..][..PANEL];
                        for (of_a, panel) in of_a.chunks_exact(PANEL).zip(panels.clone()) {
                            // SAFETY: both panels were just packed; the tile begins within `c`, which was found to hold all
                            // rows and columns, and belongs to this piece alone.
                            unsafe { target.add(unit, [panel * LINES, column], of_a, of_b, depth.len(), keep) };
                        }
                    }
                });
            });
        }
    }
}

/// A range, `most` at a time.
fn pieces(range: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(most).map(move |first| first..(first + most).min(range.end))
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

    /// Every order of either factor, edges on all sides, and what lies beside `c`.
    #[test]
    fn products_of_rounded_factors() {
        for unit in Unit::all() {
            for (m, n, k) in [(1, 1, 1), (33, 70, 45), (64, 96, 32), (300, 40, 600), (8, 1100, 70), (5, 3, 0)] {
                let (a, b) = (values(m * k + 7, 1), values(n * k + 7, 2));
                // Rows of either factor run along the sum, or across it.
                let left: [(View, [usize; 2]); 2] =
                    [(View::dense(&a, m, k), [k, 1]), (View::dense(&a, k, m).t(), [1, m])];
                let right: [(View, [usize; 2]); 2] =
                    [(View::dense(&b, k, n), [1, n]), (View::dense(&b, n, k).t(), [k, 1])];
                for ((left, [row, step]), (right, [column, down])) in
                    left.iter().flat_map(|left| right.iter().map(move |right| (*left, *right)))
                {
                    for (keep, alpha) in [(false, 1.0), (true, 1.0), (true, 0.5)] {
                        let mut c = values(m * (n + 5), 3);
                        let before = c.clone();
                        product(unit, Out::new(&mut c, m, n, n + 5), keep, alpha, left, right);
                        for (at, (&found, &before)) in c.iter().zip(&before).enumerate() {
                            let (r, col) = (at / (n + 5), at % (n + 5));
                            let term = |i: usize| rounded(a[r * row + i * step]) * rounded(b[col * column + i * down]);
                            let sum = || (0..k).map(term).sum::<f64>() * f64::from(alpha);
                            let kept = if keep || col >= n { f64::from(before) } else { 0.0 };
                            let expected = kept + if col < n { sum() } else { 0.0 };
                            let off = (f64::from(found) - expected).abs();
                            assert!(off < 1e-3, "{}: {m} {n} {k} at {r}, {col}: {found}, {expected}", unit.name());
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
                let (a, b) = (View::dense(&a, m, k), View::dense(&b, n, k).t());
                pool.install(|| product(unit, Out::dense(&mut c, m, n), false, 1.0, a, b));
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
        product(unit, Out::dense(&mut c, 2, 2), false, 1.0, a, b);
    }
}
