//! Matrix products over views into buffers.
//!
//! Where the processor has AMX tiles they do it, with factors split into bf16 terms that lose nothing ([`bf16::exact`]).

use super::bf16;
use gemm::Parallelism;
use rayon::prelude::*;
use std::borrow::Cow;

/// Values that a product reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Values<'a> {
    F32(&'a [f32]),
    /// The upper halves of `f32`.
    Bf16(&'a [u16]),
}

impl<'a> Values<'a> {
    pub(super) fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(bits) => bits.len(),
        }
    }

    fn skip(self, count: usize) -> Self {
        match self {
            Self::F32(values) => Self::F32(values.get(count..).unwrap_or_default()),
            Self::Bf16(bits) => Self::Bf16(bits.get(count..).unwrap_or_default()),
        }
    }

    /// The values, in memory of their own where they are not `f32`.
    fn wide(self) -> Cow<'a, [f32]> {
        match self {
            Self::F32(values) => Cow::Borrowed(values),
            Self::Bf16(bits) => Cow::Owned(bits.iter().map(|&bits| f32::from_bits(u32::from(bits) << 16)).collect()),
        }
    }
}

/// A matrix in a buffer: element (r, c) is at `r · row + c · col`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    data: Values<'a>,
    rows: usize,
    cols: usize,
    row: usize,
    col: usize,
}

impl<'a> View<'a> {
    /// Rows of `cols` values, `stride` apart.
    pub fn new(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        Self { data: Values::F32(data), rows, cols, row: stride, col: 1 }
    }

    /// Rows of bf16, one after the other: a weight that [`bf16`] multiplies as it is kept. Elsewhere it becomes `f32` first, each time.
    pub fn halves(bits: &'a [u16], rows: usize, cols: usize) -> Self {
        Self { data: Values::Bf16(bits), rows, cols, row: cols, col: 1 }
    }

    /// Rows one after the other.
    pub fn dense(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::new(data, rows, cols, cols)
    }

    /// Rows and columns exchanged.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row: self.col, col: self.row, ..self }
    }

    /// Values, rows and columns, and the distances of both.
    pub(super) fn parts(self) -> (Values<'a>, [usize; 2], [usize; 2]) {
        (self.data, [self.rows, self.cols], [self.row, self.col])
    }

    fn skip_rows(self, rows: usize, count: usize) -> Self {
        Self { data: self.data.skip(rows * self.row), rows: count, ..self }
    }
}

/// True when every element of such a view lies in a buffer of `length` values.
fn fits(length: usize, rows: usize, cols: usize, row: usize, col: usize) -> bool {
    rows == 0 || cols == 0 || (rows - 1) * row + (cols - 1) * col < length
}

/// Where a product goes: rows of `cols` values, `stride` apart.
#[derive(Debug)]
pub struct Out<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a> Out<'a> {
    /// Rows of `cols` values, `stride` apart.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize, stride: usize) -> Self {
        Self { data, rows, cols, stride }
    }

    /// Rows one after the other.
    pub fn dense(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::new(data, rows, cols, cols)
    }

    /// Values, rows and columns, and the distance of rows.
    pub(super) fn parts(self) -> (&'a mut [f32], [usize; 2], usize) {
        (self.data, [self.rows, self.cols], self.stride)
    }
}

/// `c = keep·c + alpha · a·b` on one thread; `keep` is whether what is in `c` stays.
pub fn product(c: Out, keep: bool, alpha: f32, a: View, b: View) {
    match bf16::splits(&a, &b) {
        Some(unit) => bf16::exact(unit, c, keep, alpha, a, b, 1),
        None => call(c, keep, alpha, a, b, Parallelism::None),
    }
}

/// As [`product`], on all threads of the pool. Every element is summed in the same order however many there are.
pub fn parallel(c: Out, keep: bool, alpha: f32, a: View, b: View) {
    let threads = rayon::current_num_threads();
    // A product too small to share.
    let small = a.rows.saturating_mul(a.cols).saturating_mul(b.cols) < 1 << 18;
    if threads == 1 || small {
        return product(c, keep, alpha, a, b);
    }
    if let Some(unit) = bf16::splits(&a, &b) {
        return bf16::exact(unit, c, keep, alpha, a, b, threads);
    }
    if c.rows >= 32 * threads {
        // Each thread takes rows of its own: no meeting points inside.
        let rows = c.rows.div_ceil(threads).next_multiple_of(16);
        let (cols, stride, all) = (c.cols, c.stride, c.rows);
        c.data.par_chunks_mut(rows * stride).enumerate().for_each(|(index, data)| {
            let first = index * rows;
            if first < all {
                let count = rows.min(all - first);
                product(Out { data, rows: count, cols, stride }, keep, alpha, a.skip_rows(first, count), b);
            }
        });
        return;
    }
    call(c, keep, alpha, a, b, Parallelism::Rayon(threads));
}

fn call(c: Out, keep: bool, alpha: f32, a: View, b: View, parallelism: Parallelism) {
    assert!(a.rows == c.rows && a.cols == b.rows && b.cols == c.cols, "shapes of a product: {a:?} {b:?}");
    assert!(c.cols <= c.stride && fits(c.data.len(), c.rows, c.cols, c.stride, 1), "a product outside its buffer");
    assert!(fits(a.data.len(), a.rows, a.cols, a.row, a.col), "a factor outside its buffer");
    assert!(fits(b.data.len(), b.rows, b.cols, b.row, b.col), "a factor outside its buffer");
    if c.rows == 0 || c.cols == 0 {
        return;
    }
    let (of_a, of_b) = (a.data.wide(), b.data.wide());
    // SAFETY: every element of the three views was just found to lie in its slice; `c` is borrowed for writing, its
    // elements do not overlap (its rows are no longer than their distance), and it cannot be `a` or `b`.
    unsafe {
        gemm::gemm(
            c.rows,
            c.cols,
            a.cols,
            c.data.as_mut_ptr(),
            1,
            c.stride as isize,
            keep,
            of_a.as_ptr(),
            a.col as isize,
            a.row as isize,
            of_b.as_ptr(),
            b.col as isize,
            b.row as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| (((i + seed) * 7919) % 1000) as f32 / 500.0 - 1.0).collect()
    }

    #[test]
    fn strides_and_transposes() {
        let (m, n, k) = (137, 70, 45);
        let (a, b) = (values(m * (k + 3), 1), values(n * k, 2));
        let mut c = values(m * (n + 5), 3);
        let before = c.clone();
        parallel(Out::new(&mut c, m, n, n + 5), true, 0.5, View::new(&a, m, k, k + 3), View::dense(&b, n, k).t());
        for r in 0..m {
            for col in 0..n + 5 {
                let sum: f64 =
                    (0..k).map(|i| f64::from(a[r * (k + 3) + i]) * f64::from(b[col.min(n - 1) * k + i])).sum();
                let was = f64::from(before[r * (n + 5) + col]);
                let expected = if col < n { was + 0.5 * sum } else { was };
                assert!((f64::from(c[r * (n + 5) + col]) - expected).abs() < 1e-5);
            }
        }
    }

    #[test]
    #[should_panic(expected = "outside its buffer")]
    fn a_view_outside_is_refused() {
        product(
            Out::dense(&mut [0.0; 3], 2, 2),
            false,
            1.0,
            View::dense(&[0.0; 4], 2, 2),
            View::dense(&[0.0; 4], 2, 2),
        );
    }
}
