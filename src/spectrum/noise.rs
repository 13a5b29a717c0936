//! What pure noise looks like to an SVD.
//!
//! The singular values of an `m × n` matrix of independent noise with standard deviation `s` fill the Marchenko–Pastur bulk
//! `s √n [1 - √β, 1 + √β]`, `β = m/n ≤ 1`: its upper end is the edge `s (√m + √n)` (Bai & Yin 1993). A direction of ΔW is worth
//! keeping above Gavish & Donoho's threshold (arXiv 1305.5870), which is a little beyond the edge: closer to it the noise has
//! turned the direction so far that leaving it out loses less than keeping it.

/// `s (√m + √n)`.
pub fn edge(m: usize, n: usize, s: f64) -> f64 {
    s * ((m as f64).sqrt() + (n as f64).sqrt())
}

/// `β = min/max`, at most 1.
fn aspect(m: usize, n: usize) -> f64 {
    m.min(n) as f64 / m.max(n).max(1) as f64
}

/// Threshold on σ for noise of standard deviation `s`: `λ*(β) √n s`, with `n` the longer side.
pub fn known_threshold(m: usize, n: usize, s: f64) -> f64 {
    lambda(aspect(m, n)) * (m.max(n) as f64).sqrt() * s
}

/// Threshold on σ for noise of unknown strength: `ω(β) · median(σ)`.
pub fn unknown_threshold(m: usize, n: usize, median: f64) -> f64 {
    omega(aspect(m, n)) * median
}

/// `λ*(β) = sqrt(2 (β+1) + 8β / ((β+1) + sqrt(β² + 14β + 1)))`; 2.3094 for a square.
pub fn lambda(beta: f64) -> f64 {
    (2.0 * (beta + 1.0) + 8.0 * beta / ((beta + 1.0) + (beta * beta + 14.0 * beta + 1.0).sqrt())).sqrt()
}

/// `ω(β) = λ*(β) / sqrt(μ_β)`, with the Marchenko–Pastur median `μ_β`; 2.8584 for a square.
pub fn omega(beta: f64) -> f64 {
    lambda(beta) / median(beta).sqrt()
}

/// The median `μ_β` of the Marchenko–Pastur distribution of `σ² / (n s²)`, `0 < β ≤ 1`.
///
/// Density `sqrt((β₊ - t)(t - β₋)) / (2π β t)` on `[β₋, β₊]`, `β± = (1 ± √β)²`. With `t = 1 + β - 2√β cos θ` it becomes the smooth
/// `2 sin²θ / (π t)` on `[0, π]`, which is summed by Simpson's rule up to where the half is reached.
pub fn median(beta: f64) -> f64 {
    const STEPS: usize = 2000;
    if beta <= 0.0 {
        return 1.0;
    }
    let root = beta.sqrt();
    let at = |theta: f64| 1.0 + beta - 2.0 * root * theta.cos();
    let density = |theta: f64| {
        let t = at(theta);
        // sin² θ / t at θ → 0 of a square: both vanish, their ratio is 1.
        if t < 1e-12 { 2.0 / std::f64::consts::PI } else { 2.0 * theta.sin().powi(2) / (std::f64::consts::PI * t) }
    };
    let h = std::f64::consts::PI / STEPS as f64;
    let mut sum = 0.0;
    for step in 0..STEPS {
        let theta = step as f64 * h;
        let slice =
            |width: f64| width / 6.0 * (density(theta) + 4.0 * density(theta + width / 2.0) + density(theta + width));
        let next = sum + slice(h);
        if next >= 0.5 {
            // Bisection inside the slice.
            let (mut low, mut high) = (0.0, h);
            for _ in 0..50 {
                let middle = (low + high) / 2.0;
                if sum + slice(middle) < 0.5 { low = middle } else { high = middle }
            }
            return at(theta + low);
        }
        sum = next;
    }
    at(std::f64::consts::PI)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Gavish & Donoho's paper (table IV and section I).
    #[test]
    fn thresholds_are_the_published_ones() {
        for (beta, expected) in [(1.0, 2.8584), (0.5, 2.1712), (0.25, 1.8369)] {
            assert!((omega(beta) - expected).abs() < 1e-4, "ω({beta}) = {}", omega(beta));
        }
        assert!((lambda(1.0) - 2.3094).abs() < 1e-4);
        assert!((lambda(1.0) - 4.0 / 3f64.sqrt()).abs() < 1e-12);
    }

    /// Scipy: `quad` of the density and `brentq` on its integral.
    #[test]
    fn median_is_inside_the_bulk_and_falls_to_one() {
        assert!((median(1.0) - 0.652_755).abs() < 1e-4, "{}", median(1.0));
        assert!((median(1e-4) - 1.0).abs() < 1e-3);
        for beta in [0.01, 0.1, 0.3, 0.9] {
            let (low, high) = ((1.0 - f64::sqrt(beta)).powi(2), (1.0 + f64::sqrt(beta)).powi(2));
            assert!(median(beta) > low && median(beta) < high);
        }
    }

    #[test]
    fn edges_do_not_depend_on_orientation() {
        assert_eq!(edge(4, 9, 2.0), 10.0);
        assert_eq!(known_threshold(100, 400, 0.5), known_threshold(400, 100, 0.5));
        assert_eq!(unknown_threshold(100, 400, 0.5), unknown_threshold(400, 100, 0.5));
    }
}
