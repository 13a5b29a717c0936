//! Eigenvalues of a symmetric matrix of three diagonals: the root-free QL iteration of Pal, Walker and Kahan, as in LAPACK's
//! `dsterf` (Parlett, The Symmetric Eigenvalue Problem, §8.15). It works on the squares of the off-diagonal, and needs no
//! rotation.

/// Sweeps that one eigenvalue may take; two are usual.
const SWEEPS: usize = 50;

/// All eigenvalues, unordered, of the matrix with this diagonal and the subdiagonal `off` (one shorter). `None` when it does not
/// converge, which only values that are no numbers achieve.
pub fn eigenvalues(mut diagonal: Vec<f64>, off: Vec<f64>) -> Option<Vec<f64>> {
    let n = diagonal.len();
    // In units of the largest element: squares of squares stay in range.
    let scale = diagonal.iter().chain(&off).fold(0.0f64, |most, x| most.max(x.abs()));
    if scale == 0.0 {
        return Some(diagonal);
    }
    diagonal.iter_mut().for_each(|d| *d /= scale);
    let mut squares: Vec<f64> = off.iter().map(|e| (e / scale) * (e / scale)).collect();
    let mut start = 0;
    while start < n {
        let end = block_end(&diagonal, &mut squares, start, n);
        let (d, e) = (&mut diagonal[start..end], &mut squares[start..end - 1]);
        // QL finds the first values first: small ones should be there.
        if d[d.len() - 1].abs() < d[0].abs() {
            d.reverse();
            e.reverse();
        }
        ql(d, e)?;
        start = end;
    }
    diagonal.iter_mut().for_each(|d| *d *= scale);
    Some(diagonal)
}

/// True where the square `e` couples two neighbours by no more than rounding.
fn is_small(e: f64, a: f64, b: f64) -> bool {
    const EPSILON: f64 = f64::EPSILON * f64::EPSILON / 4.0;
    e <= EPSILON * (a * b).abs() || e < f64::MIN_POSITIVE
}

/// One past the last row that hangs together with row `start`, before `limit`.
fn block_end(d: &[f64], e: &mut [f64], start: usize, limit: usize) -> usize {
    for m in start..limit - 1 {
        if is_small(e[m], d[m], d[m + 1]) {
            e[m] = 0.0;
            return m + 1;
        }
    }
    limit
}

/// Diagonalises one block in place.
fn ql(d: &mut [f64], e: &mut [f64]) -> Option<()> {
    let n = d.len();
    let mut sweeps = SWEEPS * n;
    let mut l = 0;
    while l < n {
        // Rows l..=m hang together.
        let m = block_end(d, e, l, n) - 1;
        if m == l {
            l += 1;
        } else if m == l + 1 {
            (d[l], d[m]) = pair(d[l], e[l], d[m]);
            e[l] = 0.0;
            l += 2;
        } else {
            sweeps = sweeps.checked_sub(1)?;
            sweep(&mut d[l..=m], &mut e[l..m]);
        }
    }
    Some(())
}

/// One implicitly shifted QL step on rows that hang together.
fn sweep(d: &mut [f64], e: &mut [f64]) {
    let last = e.len();
    let root = e[0].sqrt();
    let slope = (d[1] - d[0]) / (2.0 * root);
    let shift = d[0] - root / (slope + slope.hypot(1.0).copysign(slope));
    let (mut c, mut s) = (1.0, 0.0);
    let mut gamma = d[last] - shift;
    let mut p = gamma * gamma;
    for i in (0..last).rev() {
        let square = e[i];
        let r = p + square;
        if i + 1 < last {
            e[i + 1] = s * r;
        }
        let before = c;
        c = p / r;
        s = square / r;
        let old = gamma;
        gamma = c * (d[i] - shift) - s * old;
        d[i + 1] = old + (d[i] - gamma);
        p = if c == 0.0 { before * square } else { gamma * gamma / c };
    }
    e[0] = s * p;
    d[0] = shift + gamma;
}

/// Eigenvalues of `[[a, √square], [√square, b]]`, the smaller in modulus without cancellation.
fn pair(a: f64, square: f64, b: f64) -> (f64, f64) {
    let (sum, half) = (a + b, (a - b) / 2.0);
    let root = (half * half + square).sqrt();
    let large = if sum < 0.0 { sum / 2.0 - root } else { sum / 2.0 + root };
    if large == 0.0 { (root, -root) } else { (large, (a * b - square) / large) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(diagonal: Vec<f64>, off: Vec<f64>) -> Vec<f64> {
        let mut values = eigenvalues(diagonal, off).unwrap();
        values.sort_by(f64::total_cmp);
        values
    }

    #[test]
    fn second_differences_have_known_eigenvalues() {
        for n in [1, 2, 3, 4, 17, 400] {
            let found = sorted(vec![2.0; n], vec![-1.0; n.saturating_sub(1)]);
            for (k, found) in found.into_iter().enumerate() {
                let angle = (k + 1) as f64 * std::f64::consts::PI / (n + 1) as f64;
                assert!((found - (2.0 - 2.0 * angle.cos())).abs() < 1e-13, "{n}: {k}");
            }
        }
    }

    #[test]
    fn zeros_splits_and_scales() {
        assert_eq!(eigenvalues(vec![], vec![]), Some(vec![]));
        assert_eq!(sorted(vec![0.0; 4], vec![0.0; 3]), [0.0; 4]);
        assert_eq!(sorted(vec![3.0, 1.0, 2.0], vec![0.0, 0.0]), [1.0, 2.0, 3.0]);
        assert_eq!(sorted(vec![0.0, 0.0], vec![2.0]), [-2.0, 2.0]);
        for scale in [1e-150, 1.0, 1e150] {
            let found = sorted(vec![scale, scale, 5.0 * scale], vec![scale, 0.0]);
            for (found, expected) in found.into_iter().zip([0.0, 2.0, 5.0]) {
                assert!((found / scale - expected).abs() < 1e-14);
            }
        }
        assert_eq!(eigenvalues(vec![f64::NAN, 1.0, 2.0], vec![1.0, 1.0]), None);
    }
}
