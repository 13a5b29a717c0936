//! Matrix products over views into buffers.

use gemm::Parallelism;
use rayon::prelude::*;

/// A matrix in a buffer: element (r, c) is at `r · row + c · col`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row: usize,
    col: usize,
}

impl<'a> View<'a> {
    /// Rows of `cols` values, `stride` apart.
    pub fn new(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        Self { data, rows, cols, row: stride, col: 1 }
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
    pub(super) fn parts(self) -> (&'a [f32], [usize; 2], [usize; 2]) {
        (self.data, [self.rows, self.cols], [self.row, self.col])
    }

    fn skip_rows(self, rows: usize, count: usize) -> Self {
        Self { data: self.data.get(rows * self.row..).unwrap_or_default(), rows: count, ..self }
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
    call(c, keep, alpha, a, b, Parallelism::None);
}

/// As [`product`], on all threads of the pool. Every element is summed in the same order however many there are.
pub fn parallel(c: Out, keep: bool, alpha: f32, a: View, b: View) {
    let threads = rayon::current_num_threads();
    // A product too small to share.
    let small = a.rows.saturating_mul(a.cols).saturating_mul(b.cols) < 1 << 18;
    if threads == 1 || small {
        return product(c, keep, alpha, a, b);
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
            a.data.as_ptr(),
            a.col as isize,
            a.row as isize,
            b.data.as_ptr(),
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
