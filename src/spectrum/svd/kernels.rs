//! Passes over a whole matrix: sums of squares, and products with a block of a few columns.
//!
//! General matrix products pack their operands first, which for a handful of columns costs as much as the product: these
//! read the matrix once, as it lies in memory, and run at the speed of memory. Compiled for every vector width and
//! chosen at run time.

use faer::traits::pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::matrix::Matrix;

/// Columns of a block: one AVX-512 register of `f32`.
pub const WIDTH: usize = 16;

/// One row of a block.
pub type Lane = [f32; WIDTH];

/// Rows of the matrix that are multiplied at once, so that a loaded block row is used this often.
const ROWS: usize = 8;

/// Values in one task of a sum: 256 KiB.
const CHUNK: usize = 1 << 16;

/// Tasks that a transposed product is divided into, whatever the threads: the order of its sums never changes.
const TASKS: usize = 16;

/// Values of the matrix below which a product stays on this thread.
const ALONE: usize = 1 << 17;

/// `‖W‖_F`, accumulated in `f64`; NaN or infinite when a value is.
pub fn frobenius(w: &Matrix) -> f64 {
    // Sums of chunks are added in order: the same result whatever the threads.
    let sums: Vec<f64> = w.data().par_chunks(CHUNK).map(sum_of_squares).collect();
    sums.iter().sum::<f64>().sqrt()
}

fn sum_of_squares(x: &[f32]) -> f64 {
    let mut sums = [0.0f64; WIDTH];
    let (lanes, rest) = x.as_chunks::<WIDTH>();
    for lane in lanes {
        for (sum, &x) in sums.iter_mut().zip(lane) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()
}

/// True when no value is NaN or infinite.
pub fn is_finite(w: &Matrix) -> bool {
    w.data().par_chunks(CHUNK).all(|x| x.iter().all(|x| x.is_finite()))
}

/// Rows of a matrix at a distance of `stride` values, of which the first `cols` count.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub data: &'a [f32],
    pub stride: usize,
    pub cols: usize,
}

impl<'a> Rows<'a> {
    /// A whole matrix.
    pub fn of(w: &'a Matrix) -> Self {
        Self { data: w.data(), stride: w.cols().max(1), cols: w.cols() }
    }

    fn count(&self) -> usize {
        // Where the columns are those at the end of longer rows, the last row is shorter.
        self.data.len().div_ceil(self.stride)
    }
}

/// `Y = W X`: `W` of `m × n`, `X` of `n` block rows, `Y` of `m`.
pub fn times(w: Rows, x: &[Lane]) -> Vec<Lane> {
    let arch = Arch::new();
    let mut y = vec![[0.0; WIDTH]; w.count()];
    let x = &x[..w.cols];
    let block = |(rows, y): (&[f32], &mut [Lane])| arch.dispatch(Times { rows, stride: w.stride, x, y });
    // Each task keeps whole groups of rows, and reads X once a group.
    let group = 8 * ROWS;
    if w.data.len() < ALONE {
        block((w.data, &mut y));
    } else {
        w.data.par_chunks(group * w.stride).zip(y.par_chunks_mut(group)).for_each(block);
    }
    y
}

/// Runs by the registers that the processor has: a block row is `PARTS` of them, and as many rows go together as keep all
/// sums in registers.
macro_rules! by_registers {
    ($of:ident) => {
        impl WithSimd for $of<'_> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                match WIDTH / S::F32_LANES {
                    1 => self.run::<S, 1, 8>(simd),
                    2 => self.run::<S, 2, 4>(simd),
                    4 => self.run::<S, 4, 2>(simd),
                    _ => self.run::<S, WIDTH, 1>(simd),
                }
            }
        }
    };
}

/// Inside [`WithSimd`] the compiler may use every instruction of the vector width that was chosen.
struct Times<'a> {
    rows: &'a [f32],
    stride: usize,
    x: &'a [Lane],
    y: &'a mut [Lane],
}

by_registers!(Times);

impl Times<'_> {
    #[inline(always)]
    fn run<S: Simd, const PARTS: usize, const R: usize>(self, simd: S) {
        let x = S::as_simd_f32s(self.x.as_flattened()).0;
        let x = x.as_chunks::<PARTS>().0;
        for (rows, y) in self.rows.chunks(R * self.stride).zip(self.y.chunks_mut(R)) {
            let y = S::as_mut_simd_f32s(y.as_flattened_mut()).0.as_chunks_mut::<PARTS>().0;
            if let Ok(y) = <&mut [[S::f32s; PARTS]; R]>::try_from(&mut *y) {
                *y = dot_rows::<S, PARTS, R>(simd, rows, self.stride, x);
            } else {
                for (row, y) in rows.chunks(self.stride).zip(y) {
                    [*y] = dot_rows::<S, PARTS, 1>(simd, row, self.stride, x);
                }
            }
        }
    }
}

#[inline(always)]
fn dot_rows<S: Simd, const PARTS: usize, const R: usize>(
    simd: S,
    rows: &[f32],
    stride: usize,
    x: &[[S::f32s; PARTS]],
) -> [[S::f32s; PARTS]; R] {
    let row: [&[f32]; R] = std::array::from_fn(|r| &rows[r * stride..][..x.len()]);
    let mut sums = [[simd.splat_f32s(0.0); PARTS]; R];
    for (k, x) in x.iter().enumerate() {
        for (sum, row) in sums.iter_mut().zip(&row) {
            let w = simd.splat_f32s(row[k]);
            for (sum, &x) in sum.iter_mut().zip(x) {
                *sum = simd.mul_add_f32s(w, x, *sum);
            }
        }
    }
    sums
}

/// `X = Wᵀ Y`: `W` of `m × n`, `Y` of `m` block rows, `X` of `n`.
pub fn transposed_times(w: Rows, y: &[Lane]) -> Vec<Lane> {
    let arch = Arch::new();
    let y = &y[..w.count()];
    let task = |(rows, y): (&[f32], &[Lane])| {
        let mut x = vec![[0.0; WIDTH]; w.cols];
        arch.dispatch(AddTransposed { rows, stride: w.stride, y, x: &mut x });
        x
    };
    if w.data.len() < ALONE {
        return task((w.data, y));
    }
    let group = w.count().div_ceil(TASKS).next_multiple_of(ROWS);
    sum(w.data.par_chunks(group * w.stride).zip(y.par_chunks(group)).map(task).collect())
}

/// `Y = W X` and `Z = Wᵀ Y`, reading `W` once: a few rows at a time are multiplied and, while they are near, transposed.
pub fn both_times(w: Rows, x: &[Lane]) -> (Vec<Lane>, Vec<Lane>) {
    let arch = Arch::new();
    let mut y = vec![[0.0; WIDTH]; w.count()];
    let x = &x[..w.cols];
    let task = |(rows, y): (&[f32], &mut [Lane])| {
        let mut z = vec![[0.0; WIDTH]; w.cols];
        arch.dispatch(Both { rows, stride: w.stride, x, y, z: &mut z });
        z
    };
    if w.data.len() < ALONE {
        let z = task((w.data, &mut y));
        return (y, z);
    }
    let group = w.count().div_ceil(TASKS).next_multiple_of(ROWS);
    let parts: Vec<_> = w.data.par_chunks(group * w.stride).zip(y.par_chunks_mut(group)).map(task).collect();
    (y, sum(parts))
}

/// The sum of blocks, in their order.
fn sum(parts: Vec<Vec<Lane>>) -> Vec<Lane> {
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or_default();
    let others: Vec<_> = parts.collect();
    total.par_chunks_mut(256).enumerate().for_each(|(chunk, total)| {
        for part in &others {
            for (total, part) in total.iter_mut().zip(&part[chunk * 256..]) {
                total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
            }
        }
    });
    total
}

struct Both<'a> {
    rows: &'a [f32],
    stride: usize,
    x: &'a [Lane],
    y: &'a mut [Lane],
    z: &'a mut [Lane],
}

by_registers!(Both);

impl Both<'_> {
    #[inline(always)]
    fn run<S: Simd, const PARTS: usize, const R: usize>(self, simd: S) {
        let x = S::as_simd_f32s(self.x.as_flattened()).0.as_chunks::<PARTS>().0;
        let z = S::as_mut_simd_f32s(self.z.as_flattened_mut()).0.as_chunks_mut::<PARTS>().0;
        for (rows, y) in self.rows.chunks(R * self.stride).zip(self.y.chunks_mut(R)) {
            let y = S::as_mut_simd_f32s(y.as_flattened_mut()).0.as_chunks_mut::<PARTS>().0;
            if let Ok(y) = <&mut [[S::f32s; PARTS]; R]>::try_from(&mut *y) {
                *y = dot_rows::<S, PARTS, R>(simd, rows, self.stride, x);
                add_rows(simd, rows, self.stride, y, z);
            } else {
                for (row, y) in rows.chunks(self.stride).zip(y) {
                    let product = dot_rows::<S, PARTS, 1>(simd, row, self.stride, x);
                    add_rows(simd, row, self.stride, &product, z);
                    [*y] = product;
                }
            }
        }
    }
}

struct AddTransposed<'a> {
    rows: &'a [f32],
    stride: usize,
    y: &'a [Lane],
    x: &'a mut [Lane],
}

by_registers!(AddTransposed);

impl AddTransposed<'_> {
    #[inline(always)]
    fn run<S: Simd, const PARTS: usize, const R: usize>(self, simd: S) {
        let x = S::as_mut_simd_f32s(self.x.as_flattened_mut()).0.as_chunks_mut::<PARTS>().0;
        for (rows, y) in self.rows.chunks(R * self.stride).zip(self.y.chunks(R)) {
            let y = S::as_simd_f32s(y.as_flattened()).0.as_chunks::<PARTS>().0;
            if let Ok(y) = <&[[S::f32s; PARTS]; R]>::try_from(y) {
                add_rows(simd, rows, self.stride, y, x);
            } else {
                for (row, &y) in rows.chunks(self.stride).zip(y) {
                    add_rows(simd, row, self.stride, &[y], x);
                }
            }
        }
    }
}

#[inline(always)]
fn add_rows<S: Simd, const PARTS: usize, const R: usize>(
    simd: S,
    rows: &[f32],
    stride: usize,
    y: &[[S::f32s; PARTS]; R],
    x: &mut [[S::f32s; PARTS]],
) {
    let row: [&[f32]; R] = std::array::from_fn(|r| &rows[r * stride..][..x.len()]);
    let y = *y;
    for (k, x) in x.iter_mut().enumerate() {
        let mut sum = *x;
        for (y, row) in y.iter().zip(&row) {
            let w = simd.splat_f32s(row[k]);
            for (sum, &y) in sum.iter_mut().zip(y) {
                *sum = simd.mul_add_f32s(w, y, *sum);
            }
        }
        *x = sum;
    }
}

/// `Xᵀ Y` of two blocks, in `f64`.
pub fn block_product(x: &[Lane], y: &[Lane]) -> [[f64; WIDTH]; WIDTH] {
    let arch = Arch::new();
    let task = |(x, y): (&[Lane], &[Lane])| {
        let mut sums = [[0.0f64; WIDTH]; WIDTH];
        arch.dispatch(AddProduct { x, y, sums: &mut sums });
        sums
    };
    let parts: Vec<_> = x.par_chunks(1024).zip(y.par_chunks(1024)).map(task).collect();
    let mut total = [[0.0; WIDTH]; WIDTH];
    for part in parts {
        for (total, part) in total.iter_mut().zip(&part) {
            total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
        }
    }
    total
}

struct AddProduct<'a> {
    x: &'a [Lane],
    y: &'a [Lane],
    sums: &'a mut [[f64; WIDTH]; WIDTH],
}

impl WithSimd for AddProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // So many rows of sums stay in registers.
        const ROWS: usize = 8;
        for (first, to) in self.sums.chunks_mut(ROWS).enumerate() {
            let mut sums = [[0.0f64; WIDTH]; ROWS];
            for (x, y) in self.x.iter().zip(self.y) {
                let (x, y) = (&x[first * ROWS..][..ROWS], wide(y));
                for (sums, &x) in sums.iter_mut().zip(x) {
                    add_times(sums, x, &y);
                }
            }
            to.copy_from_slice(&sums);
        }
    }
}

/// `X ← X T` for a small square `T`, summed in `f64`.
pub fn block_times(x: &mut [Lane], t: &[[f64; WIDTH]; WIDTH]) {
    let arch = Arch::new();
    x.par_chunks_mut(1024).for_each(|x| arch.dispatch(TimesSquare { x, t }));
}

struct TimesSquare<'a> {
    x: &'a mut [Lane],
    t: &'a [[f64; WIDTH]; WIDTH],
}

impl WithSimd for TimesSquare<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in self.x {
            let mut sums = [0.0f64; WIDTH];
            for (&x, t) in row.iter().zip(self.t) {
                add_times(&mut sums, x, t);
            }
            for (x, sum) in row.iter_mut().zip(sums) {
                *x = sum as f32;
            }
        }
    }
}

#[inline(always)]
fn wide(row: &Lane) -> [f64; WIDTH] {
    let mut out = [0.0; WIDTH];
    for (out, &x) in out.iter_mut().zip(row) {
        *out = f64::from(x);
    }
    out
}

/// `sums += x y`. A product of two `f32` is exact in `f64`: nothing is gained by fusing it, which a processor without such an
/// instruction does very slowly.
#[inline(always)]
fn add_times(sums: &mut [f64; WIDTH], x: f32, y: &[f64; WIDTH]) {
    let x = f64::from(x);
    for (sum, &y) in sums.iter_mut().zip(y) {
        *sum += x * y;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(i: usize, j: usize) -> f32 {
        ((i * 31 + j * 17) % 23) as f32 / 23.0 - 0.5
    }

    fn block(rows: usize) -> Vec<Lane> {
        (0..rows).map(|i| std::array::from_fn(|j| value(i + 5, j))).collect()
    }

    #[test]
    fn products_agree_with_the_definition() {
        for (m, n) in [(1, 1), (8, 8), (13, 29), (611, 403)] {
            let w = Matrix::from_fn(m, n, value);
            let (x, y) = (block(n), block(m));
            let (found, transposed) = (times(Rows::of(&w), &x), transposed_times(Rows::of(&w), &y));
            let (once, again) = both_times(Rows::of(&w), &x);
            assert_eq!(once, found);
            assert_eq!(again, transposed_times(Rows::of(&w), &found));
            for c in [0, 7, WIDTH - 1] {
                for i in [0, m / 2, m - 1] {
                    let expected: f64 = (0..n).map(|k| f64::from(w.get(i, k)) * f64::from(x[k][c])).sum();
                    assert!((f64::from(found[i][c]) - expected).abs() < 1e-4, "{m}×{n}");
                }
                for k in [0, n / 2, n - 1] {
                    let expected: f64 = (0..m).map(|i| f64::from(w.get(i, k)) * f64::from(y[i][c])).sum();
                    assert!((f64::from(transposed[k][c]) - expected).abs() < 1e-4, "{m}×{n}");
                }
            }
        }
    }

    #[test]
    fn a_stride_skips_what_does_not_count() {
        let wide = Matrix::from_fn(40, 12, value);
        let narrow = Matrix::from_fn(40, 9, value);
        let rows = Rows { data: wide.data(), stride: 12, cols: 9 };
        assert_eq!(times(rows, &block(12)), times(Rows::of(&narrow), &block(12)));
        assert_eq!(transposed_times(rows, &block(40)), transposed_times(Rows::of(&narrow), &block(40)));
        let last = Rows { data: &wide.data()[3..], stride: 12, cols: 9 };
        let narrow = Matrix::from_fn(40, 9, |i, j| value(i, j + 3));
        assert_eq!(times(last, &block(12)), times(Rows::of(&narrow), &block(12)));
        assert_eq!(transposed_times(last, &block(40)), transposed_times(Rows::of(&narrow), &block(40)));
    }

    #[test]
    fn frobenius_is_the_root_of_the_sum_of_squares() {
        let w = Matrix::from_fn(300, 411, value);
        assert!((frobenius(&w) - w.frobenius()).abs() < 1e-12 * w.frobenius());
        assert!(is_finite(&w));
        let mut broken = w;
        broken.data_mut()[70_000] = f32::NAN;
        assert!(!is_finite(&broken) && !frobenius(&broken).is_finite());
    }
}
