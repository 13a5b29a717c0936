//! Matrix products by the units that multiply bf16, AVX512-BF16 or AMX tiles, with sums in `f32`.
//!
//! Both units take pairs of neighbouring values along the sum, so factors are packed first: *lines* (rows of `a`, columns of
//! `b`) in panels of `LINES`, and along the sum in blocks of `LINES` values, two to a word.
//!
//! ```text
//! block of a:  [line 32][pair 16]      block of b:  [pair 16][line 32]      c: 32 × 32 values a block of each
//! ```
//!
//! [`rounded`] multiplies factors as they are in bf16. [`exact`] loses no more than a product in `f32`: a value is the sum of three
//! in bf16, `x = x₁ + x₂ + x₃` of 8 bits each, and what is multiplied is
//!
//! ```text
//! a₁ b₁ + a₁ b₂ + a₂ b₁ + a₁ b₃ + a₂ b₂ + a₃ b₁      what is left out is below 2⁻²⁴ |a b|
//! a₁ b₁ + a₂ b₁ + a₃ b₁                              where b is bf16, as frozen weights are
//! ```
//!
//! Tiles do as many products in bf16 as sixteen vectors of `f32`, so that six of them are two to three times as fast; infinity becomes
//! NaN there.
//!
//! What is packed at once has one size, whatever the factors' are: `WIDE` panels of `b` and `HIGH` of `a`, for each thread where
//! nothing is rounded; so it counts for nothing beside activations. Every element is summed in one order, however many threads
//! there are.

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "x86_64")]
pub use x86::Unit;

use super::gemm::{Out, Values, View};
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

    fn exact() -> Option<Self> {
        None
    }

    /// As in a message.
    pub fn name(self) -> &'static str {
        match self {}
    }

    fn session<T>(self, _: impl FnOnce() -> T) -> T {
        match self {}
    }

    fn pack<const TERMS: usize>(self, _: &Lines, _: [usize; 2], _: bool, _: &mut [u32]) -> bool {
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
/// Terms of a value, blocks along the sum and words of a panel where nothing is lost: 48 KiB.
const TERMS: usize = 3;
const SPLIT_DEPTH: usize = 8;
const SPLIT_PANEL: usize = SPLIT_DEPTH * TERMS * BLOCK;
/// Panels of `a` that one thread packs at once.
const HIGH: usize = 8;
/// Panels of `b` that are packed at once.
const WIDE: usize = 32;

/// A factor as it is packed: value `k` of line `i` is at `i · line + k · step`, and one of these is 1.
struct Lines<'a> {
    data: Values<'a>,
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

    /// Packs a panel of some blocks in so many terms; gives whether any of them but the first is more than zero.
    fn pack<const TERMS: usize>(
        &self,
        unit: Unit,
        panel: usize,
        blocks: Range<usize>,
        by_pair: bool,
        to: &mut [u32],
    ) -> bool {
        let mut more = false;
        for (block, to) in blocks.zip(to.chunks_exact_mut(TERMS * BLOCK)) {
            more |= unit.pack::<TERMS>(self, [panel * LINES, block * LINES], by_pair, to);
        }
        more
    }
}

impl Lines<'_> {
    /// Packs panels in all terms, in the order in which values lie; `terms` says how many of each panel's are more than zero.
    fn pack_split(
        &self,
        unit: Unit,
        panels: Range<usize>,
        depth: Range<usize>,
        by_pair: bool,
        to: &mut [u32],
        terms: &mut [usize],
    ) {
        let block = |panel: usize, block: usize, to: &mut [u32], terms: &mut usize| {
            let to = &mut to[(block - depth.start) * TERMS * BLOCK..][..TERMS * BLOCK];
            if unit.pack::<TERMS>(self, [panel * LINES, block * LINES], by_pair, to) {
                *terms = TERMS;
            }
        };
        terms.fill(1);
        let each = to.chunks_exact_mut(SPLIT_PANEL).zip(terms).zip(panels);
        if self.step == 1 {
            each.for_each(|((to, terms), panel)| depth.clone().for_each(|at| block(panel, at, to, terms)));
            return;
        }
        let mut each: Vec<_> = each.collect();
        for at in depth.clone() {
            each.iter_mut().for_each(|((to, terms), panel)| block(*panel, at, to, terms));
        }
    }
}

/// Memory for packed panels, used again and again.
struct Packed(Vec<u32>);

/// Memory that waits to be used again.
static WAITING: Mutex<Vec<Vec<u32>>> = Mutex::new(Vec::new());

impl Packed {
    fn take(words: usize) -> Self {
        // Some to spare for a begin at a multiple of 64 bytes.
        let length = words + 16;
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        let at = waiting.iter().position(|words| words.len() == length);
        let found = at.map(|at| waiting.swap_remove(at));
        drop(waiting);
        Self(found.unwrap_or_else(|| vec![0; length]))
    }

    fn words(&mut self) -> &mut [u32] {
        let first = self.0.as_ptr().align_offset(64).min(16);
        let length = self.0.len() - 16;
        &mut self.0[first..][..length]
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        WAITING.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.0));
    }
}

/// 32 × 32 values of `c`, and `blocks` of either factor, one behind the other.
struct Tile {
    a: *const u32,
    b: *const u32,
    blocks: usize,
    /// Terms of a value of `a`, and those of one of `b` that are multiplied.
    terms: [usize; 2],
    /// Rows that count.
    rows: usize,
    c: *mut f32,
    stride: usize,
    /// Whether what is in `c` stays.
    keep: bool,
}

/// What is multiplied of two panels: as in [`Tile`].
#[derive(Clone, Copy)]
struct Blocks {
    blocks: usize,
    terms: [usize; 2],
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

// SAFETY: `rounded` and `exact` give every piece of `c` to one thread.
unsafe impl Sync for Target {}

impl Target {
    /// Adds a tile, or begins with it.
    ///
    /// # Safety
    /// The panels are packed, `blocks` of each in as many terms; the tile is in `c`, and nobody else uses it meanwhile; the thread is
    /// in a session.
    unsafe fn add(&self, unit: Unit, [row, col]: [usize; 2], (a, b): (&[u32], &[u32]), of: Blocks, keep: bool) {
        let Blocks { blocks, terms } = of;
        let (rows, width) = (LINES.min(self.rows - row), LINES.min(self.cols - col));
        let (a, b, stride) = (a.as_ptr(), b.as_ptr(), self.stride);
        let c = self.c.wrapping_add(row * stride + col);
        if self.alpha == 1.0 && rows == LINES && width == LINES {
            // SAFETY: the caller's.
            unsafe { unit.multiply(&Tile { a, b, blocks, terms, rows, c, stride, keep }) };
            return;
        }
        let mut values = [0f32; LINES * LINES];
        // SAFETY: the caller's, with a whole tile of its own.
        unsafe {
            unit.multiply(&Tile { a, b, blocks, terms, rows, c: values.as_mut_ptr(), stride: LINES, keep: false });
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

/// Multiplications below which packing costs more than it brings where nothing is lost.
const MANY: usize = 1 << 24;

/// The unit for a product in `f32` that loses nothing, where it pays: AMX alone is that much faster than vectors of `f32`.
pub fn splits(a: &View, b: &View) -> Option<Unit> {
    let (_, [rows, depth], _) = a.parts();
    let (_, [_, cols], _) = b.parts();
    if pays_exact([rows, depth, cols]) && are_lines(a, b) { Unit::exact() } else { None }
}

/// Whether weights of `[out, in]` that are kept in bf16 are multiplied with so many rows as they are.
pub fn reads_halves(rows: usize, [out, width]: [usize; 2]) -> bool {
    pays_exact([rows, out, width]) && Unit::exact().is_some()
}

fn pays_exact(sides: [usize; 3]) -> bool {
    sides.iter().all(|&side| side >= LINES) && sides.iter().product::<usize>() >= MANY
}

/// Whether lines of both factors can be packed, those of `a` in all terms.
fn are_lines(a: &View, b: &View) -> bool {
    let is_line = |view: &View| {
        let (_, _, [row, col]) = view.parts();
        row == 1 || col == 1
    };
    is_line(a) && is_line(b) && matches!(a.parts().0, Values::F32(_))
}

/// The factors and the target of a product, and how many panels it has: of `a`, of `b` and blocks along the sum.
fn sides<'a>(
    c: Out,
    keep: bool,
    alpha: f32,
    a: View<'a>,
    b: View<'a>,
) -> Option<(Lines<'a>, Lines<'a>, Target, [usize; 3])> {
    let (data, [rows, cols], stride) = c.parts();
    let (a, b) = (Lines::of(a), Lines::of(b.t()));
    assert!(a.count == rows && a.depth == b.depth && b.count == cols, "shapes of a product");
    assert!(rows == 0 || cols <= stride && (rows - 1) * stride + cols <= data.len(), "a product outside its buffer");
    if rows == 0 || cols == 0 {
        return None;
    }
    let deep = a.depth.div_ceil(LINES);
    if deep == 0 && !keep {
        data.chunks_mut(stride).for_each(|row| row[..cols].fill(0.0));
    }
    let target = Target { c: data.as_mut_ptr(), rows, cols, stride, alpha };
    Some((a, b, target, [rows.div_ceil(LINES), cols.div_ceil(LINES), deep]))
}

/// `c = keep·c + alpha · a·b` of factors rounded to bf16, on all threads; `keep` is whether what is in `c` stays.
pub fn rounded(unit: Unit, c: Out, keep: bool, alpha: f32, a: View, b: View) {
    let Some((a, b, target, [high, wide, deep])) = sides(c, keep, alpha, a, b) else { return };
    let mut packed = Packed::take(WIDE * PANEL);
    for columns in pieces(0..wide, WIDE) {
        for depth in pieces(0..deep, DEPTH) {
            let packed = &mut packed.words()[..columns.len() * PANEL];
            packed.par_chunks_exact_mut(PANEL).zip(columns.clone()).for_each(|(to, panel)| {
                b.pack::<1>(unit, panel, depth.clone(), true, to);
            });
            let (packed, target, keep) = (&*packed, &target, keep || depth.start > 0);
            // Where there are few rows, threads share the columns.
            let shares = rayon::current_num_threads().div_ceil(high.div_ceil(HIGH)).min(columns.len());
            let share = columns.len().div_ceil(shares);
            let pieces: Vec<_> = pieces(0..high, HIGH)
                .flat_map(|panels| pieces(0..columns.len(), share).map(move |columns| (panels.clone(), columns)))
                .collect();
            pieces.into_par_iter().for_each(|(panels, share)| {
                let mut of_a = Packed::take(HIGH * PANEL);
                let of_a = of_a.words();
                for (to, panel) in of_a.chunks_exact_mut(PANEL).zip(panels.clone()) {
                    a.pack::<1>(unit, panel, depth.clone(), false, to);
                }
                let of = Blocks { blocks: depth.len(), terms: [1; 2] };
                unit.session(|| {
                    for at in share {
                        let column = (columns.start + at) * LINES;
                        let of_b = &packed[at * PANEL..][..PANEL];
                        for (of_a, panel) in of_a.chunks_exact(PANEL).zip(panels.clone()) {
                            // SAFETY: both panels were just packed; the tile begins within `c`, which was found to hold all
                            // rows and columns, and belongs to this piece alone.
                            unsafe { target.add(unit, [panel * LINES, column], (of_a, of_b), of, keep) };
                        }
                    }
                });
            });
        }
    }
}

/// `c = keep·c + alpha · a·b` as exact as in `f32`, on so many threads, each of which has rows and columns of its own and packs what
/// it needs; `keep` is whether what is in `c` stays.
#[allow(clippy::too_many_arguments, reason = "a product, what does it and on how many threads")]
pub fn exact(unit: Unit, c: Out, keep: bool, alpha: f32, a: View, b: View, threads: usize) {
    assert!(are_lines(&a, &b), "factors with gaps, or the left one in bf16");
    let Some((a, b, target, [high, wide, deep])) = sides(c, keep, alpha, a, b) else { return };
    if threads <= 1 {
        return piece(unit, &target, keep, (&a, &b), [0..high, 0..wide], deep);
    }
    // The longer side is shared first: what the other one packs is packed by each.
    let shares = |most: usize, panels: usize| most.min(panels.div_ceil(HIGH / 2)).max(1);
    let (rows, columns) = if high > wide {
        let rows = shares(threads, high);
        (rows, shares(threads / rows, wide))
    } else {
        let columns = shares(threads, wide);
        (shares(threads / columns, high), columns)
    };
    let tasks: Vec<[Range<usize>; 2]> = pieces(0..high, high.div_ceil(rows))
        .flat_map(|rows| pieces(0..wide, wide.div_ceil(columns)).map(move |columns| [rows.clone(), columns]))
        .collect();
    tasks.into_par_iter().for_each(|part| piece(unit, &target, keep, (&a, &b), part, deep));
}

/// Some panels of rows and columns of a product, on one thread.
fn piece(
    unit: Unit,
    target: &Target,
    keep: bool,
    (a, b): (&Lines, &Lines),
    [rows, columns]: [Range<usize>; 2],
    deep: usize,
) {
    let (mut of_a, mut of_b) = (
        Packed::take(HIGH.min(rows.len().next_power_of_two()) * SPLIT_PANEL),
        Packed::take(WIDE.min(columns.len().next_power_of_two()) * SPLIT_PANEL),
    );
    let (of_a, of_b) = (of_a.words(), of_b.words());
    let mut terms = [1; WIDE];
    unit.session(|| {
        for columns in pieces(columns, WIDE) {
            for depth in pieces(0..deep, SPLIT_DEPTH) {
                let keep = keep || depth.start > 0;
                b.pack_split(unit, columns.clone(), depth.clone(), true, of_b, &mut terms);
                for panels in pieces(rows.clone(), HIGH) {
                    a.pack_split(unit, panels.clone(), depth.clone(), false, of_a, &mut [1; HIGH]);
                    for ((of_b, terms), column) in of_b.chunks_exact(SPLIT_PANEL).zip(terms).zip(columns.clone()) {
                        let of = Blocks { blocks: depth.len(), terms: [TERMS, terms] };
                        for (of_a, panel) in of_a.chunks_exact(SPLIT_PANEL).zip(panels.clone()) {
                            // SAFETY: both panels were just packed; the tile begins within `c`, which was found to hold all
                            // rows and columns, and belongs to this piece alone.
                            unsafe { target.add(unit, [panel * LINES, column * LINES], (of_a, of_b), of, keep) };
                        }
                    }
                }
            }
        }
    });
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

    fn nearest(x: f32) -> f64 {
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
                        rounded(unit, Out::new(&mut c, m, n, n + 5), keep, alpha, left, right);
                        for (at, (&found, &before)) in c.iter().zip(&before).enumerate() {
                            let (r, col) = (at / (n + 5), at % (n + 5));
                            let term = |i: usize| nearest(a[r * row + i * step]) * nearest(b[col * column + i * down]);
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

    /// Split factors against sums in f64, and against the error that `f32` itself may have.
    #[test]
    fn products_of_split_factors_lose_nothing() {
        let Some(unit) = Unit::exact() else { return };
        for halves in [false, true] {
            for (m, n, k) in [(33, 70, 45), (64, 96, 32), (300, 40, 600), (40, 1100, 70), (520, 64, 64)] {
                // Values of all sizes: 24 bits count.
                let fine = |count: usize, seed: usize| -> Vec<f32> {
                    let values = values(count, seed).into_iter().enumerate();
                    values.map(|(at, x)| (x + x * x * 1e-3).exp2() * if at % 3 == 0 { -x } else { 1.0 }).collect()
                };
                let a = fine(m * k, 1);
                let mut b = fine(n * k, 2);
                if halves {
                    b.iter_mut().for_each(|x| *x = half::bf16::from_f32(*x).to_f32());
                }
                let right = [(View::dense(&b, k, n), [1, n]), (View::dense(&b, n, k).t(), [k, 1])];
                let left = [(View::dense(&a, m, k), [k, 1]), (View::dense(&a, k, m).t(), [1, m])];
                for ((left, [row, step]), (right, [column, down])) in
                    left.iter().flat_map(|left| right.iter().map(move |right| (*left, *right)))
                {
                    for (keep, alpha, threads) in [(false, 1.0, 1), (true, 0.5, 3)] {
                        let mut c = values(m * (n + 5), 3);
                        let before = c.clone();
                        exact(unit, Out::new(&mut c, m, n, n + 5), keep, alpha, left, right, threads);
                        if halves {
                            // Kept in bf16, read as they are.
                            let bits: Vec<u16> = b.iter().map(|x| (x.to_bits() >> 16) as u16).collect();
                            let right =
                                if down == 1 { View::halves(&bits, n, k).t() } else { View::halves(&bits, k, n) };
                            let mut other = before.clone();
                            exact(unit, Out::new(&mut other, m, n, n + 5), keep, alpha, left, right, threads);
                            assert!(c == other, "{m} {n} {k}: bf16 as it is kept");
                        }
                        for (at, (&found, &before)) in c.iter().zip(&before).enumerate() {
                            let (r, col) = (at / (n + 5), at % (n + 5));
                            let term =
                                |i: usize| f64::from(a[r * row + i * step]) * f64::from(b[col * column + i * down]);
                            let (mut sum, mut size) = (0.0, 0.0);
                            if col < n {
                                (0..k).for_each(|i| (sum, size) = (sum + term(i), size + term(i).abs()));
                            }
                            let kept = if keep || col >= n { f64::from(before) } else { 0.0 };
                            let expected = kept + f64::from(alpha) * sum;
                            let off = (f64::from(found) - expected).abs();
                            let most = 2f64.powi(-24) * (size + kept.abs()) * 8.0 + 1e-30;
                            assert!(
                                off <= most,
                                "{m} {n} {k} at {r}, {col}: {found}, {expected}, off by {off:e} of {most:e}"
                            );
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
                pool.install(|| super::rounded(unit, Out::dense(&mut c, m, n), false, 1.0, a, b));
                c.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            };
            assert_eq!(on(1), on(3));
        }
        let Some(unit) = Unit::exact() else { return };
        let on = |threads: usize| {
            let mut c = vec![0.0; m * n];
            let (a, b) = (View::dense(&a, m, k), View::dense(&b, n, k).t());
            exact(unit, Out::dense(&mut c, m, n), false, 1.0, a, b, threads);
            c.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        for threads in [2, 3, 7] {
            assert!(on(1) == on(threads), "{threads}");
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
        super::rounded(unit, Out::dense(&mut c, 2, 2), false, 1.0, a, b);
    }
}
