//! Blocks of [`WIDTH`] columns and the orthonormal basis that they are added to.

use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

use super::kernels::{self, Lane, Rows, WIDTH};

/// A tall matrix of [`WIDTH`] columns.
pub type Block = Vec<Lane>;

/// A small square, `f64`.
type Square = [[f64; WIDTH]; WIDTH];

/// A column whose square is this share of what it was before its predecessors were taken out depends on them.
const DEPENDENT: f64 = 1e-9;

/// More passes than two are rare: a block that lies in the basis but for rounding.
const PASSES: usize = 8;

/// Orthonormal columns, row-major with room for more.
pub struct Basis {
    rows: usize,
    cols: usize,
    stride: usize,
    data: Vec<f32>,
}

impl Basis {
    /// Of no columns.
    pub fn new(rows: usize) -> Self {
        Self { rows, cols: 0, stride: 1, data: vec![0.0; rows] }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    fn view(&self) -> Rows<'_> {
        Rows { data: &self.data, stride: self.stride, cols: self.cols }
    }

    /// `Q x`.
    pub fn times(&self, x: &[Lane]) -> Block {
        kernels::times(self.view(), x)
    }

    /// Appends an orthonormal block.
    pub fn push(&mut self, block: &[Lane]) {
        if self.cols + WIDTH > self.stride {
            let stride = (2 * self.stride).max(16 * WIDTH);
            let mut data = vec![0.0; self.rows * stride];
            if self.cols > 0 {
                for (to, from) in data.chunks_mut(stride).zip(self.data.chunks(self.stride)) {
                    to[..self.cols].copy_from_slice(&from[..self.cols]);
                }
            }
            (self.stride, self.data) = (stride, data);
        }
        for (to, from) in self.data.chunks_mut(self.stride).zip(block) {
            to[self.cols..self.cols + WIDTH].copy_from_slice(from);
        }
        self.cols += WIDTH;
    }

    /// Makes `x` orthonormal and orthogonal to the basis. Returns the coefficients `[C; R]` of what it was:
    /// `x_old = Q C + x_new R`, `(cols + WIDTH) × WIDTH`.
    ///
    /// Columns that turn out to depend on others are replaced by random ones, with coefficients zero.
    pub fn orthonormalize(&self, x: &mut Block, rng: &mut StdRng) -> Vec<[f64; WIDTH]> {
        let mut coefficients = vec![[0.0; WIDTH]; self.cols];
        let mut r = identity();
        // Columns whose length after a projection says how much of them was new.
        let mut compared = false;
        for _ in 0..PASSES {
            if self.cols > 0 {
                let c = kernels::transposed_times(self.view(), x);
                let inside = kernels::times(self.view(), &c);
                for (x, inside) in x.iter_mut().zip(&inside) {
                    x.iter_mut().zip(inside).for_each(|(x, inside)| *x -= inside);
                }
                for (total, c) in coefficients.iter_mut().zip(&c) {
                    add_row_times(total, &c.map(f64::from), &r);
                }
            }
            let (upper, dependent) = cholesky(&kernels::block_gram(x));
            let lost: Vec<usize> = (0..WIDTH).filter(|&j| dependent[j] || (compared && upper[j][j] < 1e-3)).collect();
            if !lost.is_empty() {
                for &j in &lost {
                    if dependent[j] {
                        hand_over(&mut r, &upper, &dependent, j);
                    }
                    r[j] = [0.0; WIDTH];
                    let scale = 1.0 / (self.rows as f32).sqrt();
                    for x in x.iter_mut() {
                        let random: f32 = StandardNormal.sample(rng);
                        x[j] = scale * random;
                    }
                }
                compared = false;
                continue;
            }
            kernels::block_times(x, &inverse(&upper));
            r = product(&upper, &r);
            if compared && (0..WIDTH).all(|j| upper[j][j] > 0.5) {
                break;
            }
            compared = true;
        }
        coefficients.extend_from_slice(&r);
        coefficients
    }
}

fn identity() -> Square {
    std::array::from_fn(|i| std::array::from_fn(|j| if i == j { 1.0 } else { 0.0 }))
}

/// `total += row · r`.
fn add_row_times(total: &mut [f64; WIDTH], row: &[f64; WIDTH], r: &Square) {
    for (&c, r) in row.iter().zip(r) {
        total.iter_mut().zip(r).for_each(|(total, r)| *total += c * r);
    }
}

fn product(a: &Square, b: &Square) -> Square {
    let mut out = [[0.0; WIDTH]; WIDTH];
    for (out, a) in out.iter_mut().zip(a) {
        add_row_times(out, a, b);
    }
    out
}

/// Upper `R` with `RᵀR = G`, leaving out columns that depend on earlier ones: those get a unit diagonal and are named.
fn cholesky(g: &Square) -> (Square, [bool; WIDTH]) {
    let mut r = [[0.0; WIDTH]; WIDTH];
    let mut dependent = [false; WIDTH];
    for j in 0..WIDTH {
        for i in 0..j {
            if !dependent[i] {
                let sum: f64 = (0..i).filter(|&l| !dependent[l]).map(|l| r[l][i] * r[l][j]).sum();
                r[i][j] = (g[i][j] - sum) / r[i][i];
            }
        }
        let rest = g[j][j] - (0..j).map(|l| r[l][j] * r[l][j]).sum::<f64>();
        dependent[j] = !(rest > DEPENDENT * g[j][j] && g[j][j] > f64::MIN_POSITIVE);
        r[j][j] = if dependent[j] { 1.0 } else { rest.sqrt() };
    }
    (r, dependent)
}

/// Column `j` is a combination of earlier ones: its share of what the block was goes to them.
fn hand_over(r: &mut Square, upper: &Square, dependent: &[bool; WIDTH], j: usize) {
    let mut weights = [0.0; WIDTH];
    for i in (0..j).rev().filter(|&i| !dependent[i]) {
        let sum: f64 = (i + 1..j).filter(|&l| !dependent[l]).map(|l| upper[i][l] * weights[l]).sum();
        weights[i] = (upper[i][j] - sum) / upper[i][i];
    }
    let row = r[j];
    for (r, weight) in r.iter_mut().zip(weights) {
        r.iter_mut().zip(&row).for_each(|(r, x)| *r += weight * x);
    }
}

/// The inverse of an upper triangle.
fn inverse(r: &Square) -> Square {
    let mut out = [[0.0; WIDTH]; WIDTH];
    for j in 0..WIDTH {
        out[j][j] = 1.0 / r[j][j];
        for i in (0..j).rev() {
            let sum: f64 = (i + 1..=j).map(|l| r[i][l] * out[l][j]).sum();
            out[i][j] = -sum / r[i][i];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    fn gram_error(block: &Block, basis: &Basis) -> f64 {
        let g = kernels::block_gram(block);
        let own = (0..WIDTH).flat_map(|i| (0..WIDTH).map(move |j| (i, j)));
        let own = own.map(|(i, j)| (g[i][j] - f64::from(u8::from(i == j))).abs()).fold(0.0, f64::max);
        let cross = kernels::transposed_times(basis.view(), block);
        cross.as_flattened().iter().map(|x| f64::from(x.abs())).fold(own, f64::max)
    }

    /// `Q C + x R` is what went in.
    fn restored(basis: &Basis, x: &Block, coefficients: &[[f64; WIDTH]]) -> Block {
        let narrow: Block = coefficients.iter().map(|row| row.map(|c| c as f32)).collect();
        let (c, r) = narrow.split_at(basis.cols());
        let mut out = if basis.cols() > 0 { basis.times(c) } else { vec![[0.0; WIDTH]; x.len()] };
        for (out, x) in out.iter_mut().zip(x) {
            for (x, r) in x.iter().zip(r) {
                out.iter_mut().zip(r).for_each(|(out, r)| *out += x * r);
            }
        }
        out
    }

    #[test]
    fn blocks_become_orthonormal_whatever_they_were() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut basis = Basis::new(300);
        let mut random = |basis: &Basis, kind: usize| -> Block {
            let mut x: Block = (0..300).map(|_| std::array::from_fn(|_| rng.random_range(-1.0..1.0))).collect();
            match kind {
                // A zero block.
                1 => x.iter_mut().for_each(|row| *row = [0.0; WIDTH]),
                // Equal columns, one of zeros.
                2 => x.iter_mut().for_each(|row| *row = std::array::from_fn(|j| if j == 3 { 0.0 } else { row[j % 5] })),
                // Inside the basis.
                3 => x = basis.times(&x[..basis.cols()]),
                // Very different lengths.
                4 => x.iter_mut().for_each(|row| *row = std::array::from_fn(|j| row[j] * 10f32.powi(-(j as i32)))),
                _ => {}
            }
            x
        };
        let mut other = StdRng::seed_from_u64(2);
        for kind in [0, 1, 2, 3, 4, 3, 0, 1] {
            let before = random(&basis, kind);
            let mut x = before.clone();
            let coefficients = basis.orthonormalize(&mut x, &mut other);
            assert!(gram_error(&x, &basis) < 1e-5, "kind {kind}: {}", gram_error(&x, &basis));
            let back = restored(&basis, &x, &coefficients);
            for (a, b) in before.as_flattened().iter().zip(back.as_flattened()) {
                assert!((a - b).abs() < 1e-4, "kind {kind}: {a} {b}");
            }
            basis.push(&x);
        }
        assert_eq!(basis.cols(), 8 * WIDTH);
    }
}
