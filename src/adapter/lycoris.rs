//! LyCORIS' LoHa and LoKr, whose ΔW are products of small factors and so of low rank themselves.
//!
//! | | ΔW | as B · A |
//! |---|---|---|
//! | LoHa (arXiv 2108.06098) | `s (W₁ₐ W₁ᵦ) ∘ (W₂ₐ W₂ᵦ)` | rows of B: `w₁ₐ ⊗ w₂ₐ`, columns of A: `w₁ᵦ ⊗ w₂ᵦ`; rank r² |
//! | LoKr | `s C ⊗ (W₂ₐ W₂ᵦ)` | `(C ⊗ W₂ₐ) (I ⊗ W₂ᵦ)`; rank r · columns of C |
//!
//! A second factor of LoKr that is a whole matrix is itself times the identity. The kernel of a convolution may stand in a core
//! between two factors (Tucker's decomposition): see [`with_core`].

use crate::checkpoint::{Checkpoint, Tensor};
use crate::matrix::Matrix;

/// The factors' names in a file.
pub(super) const NAMES: [&str; 13] = [
    "hada_t1",
    "hada_t2",
    "hada_w1_a",
    "hada_w1_b",
    "hada_w2_a",
    "hada_w2_b",
    "lokr_w1",
    "lokr_w1_a",
    "lokr_w1_b",
    "lokr_w2",
    "lokr_w2_a",
    "lokr_w2_b",
    "lokr_t2",
];

/// What else LyCORIS trains, by the end of a tensor's name.
const OTHERS: [(&str, &str, &str); 5] = [
    (".a1.weight", "GLoRA", "scales and low-rank factors in front of and beside each weight"),
    (".diff", "full", "the whole of each ΔW"),
    (".oft_blocks", "OFT or BOFT", "orthogonal matrices in front of each weight"),
    (".on_input", "(IA)³", "one factor for each channel of activations"),
    (".w_norm", "norms", "the norms themselves"),
];

/// The sentence about a file in which there is none of the factors that are known here.
pub(super) fn another(checkpoint: &Checkpoint) -> Option<String> {
    let found = |(end, ..): &&(&str, &str, &str)| checkpoint.tensors().iter().any(|tensor| tensor.name.ends_with(end));
    let (_, name, trains) = OTHERS.iter().find(found)?;
    // Numbers that are not trained: α and what says which side is scaled.
    let trained = |tensor: &&Tensor| !tensor.shape.is_empty() && tensor.dtype.is_readable();
    let count: u64 = checkpoint.tensors().iter().filter(trained).map(Tensor::elements).sum();
    let expected = "expected LoCon, LoHa or LoKr";
    Some(format!("found an adapter of {count} parameters by LyCORIS' {name} ({trains}), {expected}"))
}

/// `(B, A)` of LoHa: `B A = (w1_a w1_b) ∘ (w2_a w2_b)`.
pub(super) fn hadamard(w1_a: &Matrix, w1_b: &Matrix, w2_a: &Matrix, w2_b: &Matrix) -> (Matrix, Matrix) {
    let second = w2_a.cols();
    let r = w1_a.cols() * second;
    let b = Matrix::from_fn(w1_a.rows(), r, |i, k| w1_a.get(i, k / second) * w2_a.get(i, k % second));
    let a = Matrix::from_fn(r, w1_b.cols(), |k, j| w1_b.get(k / second, j) * w2_b.get(k % second, j));
    (b, a)
}

/// `(B, A)` of LoKr: `B A = c ⊗ (w2_a w2_b)`.
pub(super) fn kronecker(c: &Matrix, w2_a: &Matrix, w2_b: &Matrix) -> (Matrix, Matrix) {
    let ([rows, cols], [height, rank], width) = (c.shape(), w2_a.shape(), w2_b.cols());
    let b = Matrix::from_fn(rows * height, cols * rank, |i, k| {
        c.get(i / height, k / rank) * w2_a.get(i % height, k % rank)
    });
    let a = Matrix::from_fn(cols * rank, cols * width, |k, j| {
        if k / rank == j / width { w2_b.get(k % rank, j % width) } else { 0.0 }
    });
    (b, a)
}

/// A of a convolution whose kernel stands in a core: `A[i, (c, x)] = Σⱼ t[i, (j, x)] a[j, c]` for `t` of r × (r · kernel) and `a`
/// of r × in.
pub(super) fn with_core(t: &Matrix, a: &Matrix) -> Matrix {
    let r = a.rows().max(1);
    let kernel = (t.cols() / r).max(1);
    Matrix::from_fn(t.rows(), a.cols() * kernel, |i, at| {
        let (c, x) = (at / kernel, at % kernel);
        (0..a.rows()).map(|j| t.get(i, j * kernel + x) * a.get(j, c)).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(b: &Matrix, a: &Matrix) -> Vec<f32> {
        let at = |i: usize, j: usize| (0..a.rows()).map(|k| b.get(i, k) * a.get(k, j)).sum::<f32>();
        (0..b.rows()).flat_map(|i| (0..a.cols()).map(move |j| (i, j))).map(|(i, j)| at(i, j)).collect()
    }

    fn some(rows: usize, cols: usize, from: f32) -> Matrix {
        Matrix::from_fn(rows, cols, |i, j| from + (3 * i + 5 * j) as f32 % 7.0)
    }

    #[test]
    fn the_pairs_are_the_formulas() {
        let (w1_a, w1_b, w2_a, w2_b) = (some(3, 2, 1.0), some(2, 4, -2.0), some(3, 2, 0.5), some(2, 4, 1.5));
        let (b, a) = hadamard(&w1_a, &w1_b, &w2_a, &w2_b);
        let expected: Vec<f32> = product(&w1_a, &w1_b).iter().zip(product(&w2_a, &w2_b)).map(|(x, y)| x * y).collect();
        assert_eq!((b.shape(), a.shape()), ([3, 4], [4, 4]));
        assert_eq!(product(&b, &a), expected);

        let c = some(2, 3, -1.0);
        let (b, a) = kronecker(&c, &w2_a, &w2_b);
        let inner = product(&w2_a, &w2_b);
        let found = product(&b, &a);
        for (i, row) in found.chunks(12).enumerate() {
            for (j, &x) in row.iter().enumerate() {
                assert_eq!(x, c.get(i / 3, j / 4) * inner[i % 3 * 4 + j % 4], "{i} {j}");
            }
        }
    }
}
