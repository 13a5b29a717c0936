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

/// Columns, row-major with room for more.
pub struct Basis {
    rows: usize,
    cols: usize,
    stride: usize,
    data: Vec<f32>,
}

impl Basis {
    /// Of no columns, with room for `room`.
    pub fn new(rows: usize, room: usize) -> Self {
        let stride = room.max(WIDTH);
        Self { rows, cols: 0, stride, data: vec![0.0; rows * stride] }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    fn view(&self) -> Rows<'_> {
        self.last(self.cols)
    }

    /// The last `cols` columns.
    fn last(&self, cols: usize) -> Rows<'_> {
        Rows { data: &self.data[self.cols - cols..], stride: self.stride, cols }
    }

    /// `Q x`.
    pub fn times(&self, x: &[Lane]) -> Block {
        kernels::times(self.view(), x)
    }

    /// Appends a block.
    pub fn push(&mut self, block: &[Lane]) {
        if self.cols + WIDTH > self.stride {
            let stride = 2 * self.stride;
            let mut data = vec![0.0; self.rows * stride];
            for (to, from) in data.chunks_mut(stride).zip(self.data.chunks(self.stride)) {
                to[..self.cols].copy_from_slice(&from[..self.cols]);
            }
            (self.stride, self.data) = (stride, data);
        }
        for (to, from) in self.data.chunks_mut(self.stride).zip(block) {
            to[self.cols..self.cols + WIDTH].copy_from_slice(from);
        }
        self.cols += WIDTH;
    }

    /// Makes `x` orthonormal and orthogonal to the basis, whose columns are orthonormal.
    ///
    /// All but the last `near` columns have next to nothing of `x` in them: the first projection leaves them out. Columns
    /// that turn out to depend on others are replaced by random ones.
    pub fn orthonormalize(&self, x: &mut Block, near: usize, rng: &mut StdRng) {
        let mut with = self.last(near.min(self.cols));
        // Columns whose length after a projection says how much of them was new.
        let mut compared = false;
        for _ in 0..PASSES {
            if self.cols > 0 {
                let c = kernels::transposed_times(with, x);
                let inside = kernels::times(with, &c);
                for (x, inside) in x.iter_mut().zip(&inside) {
                    x.iter_mut().zip(inside).for_each(|(x, inside)| *x -= inside);
                }
            }
            with = self.view();
            let (upper, dependent) = cholesky(&kernels::block_product(x, x));
            let lost: Vec<usize> = (0..WIDTH).filter(|&j| dependent[j] || (compared && upper[j][j] < 1e-3)).collect();
            if !lost.is_empty() {
                for &j in &lost {
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
            if compared && (0..WIDTH).all(|j| upper[j][j] > 0.5) {
                break;
            }
            compared = true;
        }
    }
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
        let g = kernels::block_product(block, block);
        let own = (0..WIDTH).flat_map(|i| (0..WIDTH).map(move |j| (i, j)));
        let own = own.map(|(i, j)| (g[i][j] - f64::from(u8::from(i == j))).abs()).fold(0.0, f64::max);
        let cross = kernels::transposed_times(basis.view(), block);
        cross.as_flattened().iter().map(|x| f64::from(x.abs())).fold(own, f64::max)
    }

    #[test]
    fn blocks_become_orthonormal_whatever_they_were() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut basis = Basis::new(300, 40);
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
            basis.orthonormalize(&mut x, basis.cols(), &mut other);
            assert!(gram_error(&x, &basis) < 1e-5, "kind {kind}: {}", gram_error(&x, &basis));
            if kind == 0 {
                // What went in is in the span of the basis and what came out.
                let mut rest = before;
                for part in [basis.view(), Rows { data: x.as_flattened(), stride: WIDTH, cols: WIDTH }] {
                    let inside = kernels::times(part, &kernels::transposed_times(part, &rest));
                    if part.cols > 0 {
                        let rest = rest.as_flattened_mut().iter_mut();
                        rest.zip(inside.as_flattened()).for_each(|(rest, inside)| *rest -= inside);
                    }
                }
                assert!(rest.as_flattened().iter().all(|x| x.abs() < 1e-4));
            }
            basis.push(&x);
        }
        assert_eq!(basis.cols(), 8 * WIDTH);
    }
}
