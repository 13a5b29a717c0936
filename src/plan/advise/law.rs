//! `L(r, ℓ) = b + C · r^−α · ℓ^−β`: the law of loss, rank and length (arXiv 2605.30260), fitted to a person's own sweep.
//!
//! The exponents are found on a grid, `b` and `C` by least squares for each pair of them: four numbers, of which none is certain
//! where there are few points. So at least four ranks are asked for, and what the fit leaves is said.

/// A run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Rank.
    pub r: usize,
    /// Length: steps.
    pub steps: usize,
    /// Held-out loss.
    pub loss: f64,
}

/// The law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Law {
    /// What no rank gets below.
    pub b: f64,
    /// Height of what a rank can mend.
    pub c: f64,
    /// Exponent of the rank: the loss falls as `r^−α`.
    pub alpha: f64,
    /// Exponent of the length; 0 where all runs are of one length.
    pub beta: f64,
    /// Share of the differences between the points that it explains.
    pub r2: f64,
}

/// Fewer ranks than this say nothing about a law of three numbers.
const RANKS: usize = 4;

impl Law {
    /// The law through these points; `None` where they are too few, or it does not hold.
    pub fn fit(points: &[Point]) -> Option<Self> {
        let mut ranks: Vec<usize> = points.iter().map(|point| point.r).collect();
        ranks.sort_unstable();
        ranks.dedup();
        let one_length = points.iter().all(|point| point.steps == points[0].steps);
        if ranks.len() < RANKS || points.iter().any(|point| !point.loss.is_finite()) {
            return None;
        }
        let steps = |at: u32| 0.05 * f64::from(at);
        let betas: Vec<f64> = if one_length { vec![0.0] } else { (0..=40).map(steps).collect() };
        let mean = points.iter().map(|point| point.loss).sum::<f64>() / points.len() as f64;
        let spread: f64 = points.iter().map(|point| (point.loss - mean).powi(2)).sum();
        let mut best: Option<(f64, Self)> = None;
        for alpha in (1..=60).map(steps) {
            for &beta in &betas {
                let x: Vec<f64> =
                    points.iter().map(|p| (p.r as f64).powf(-alpha) * (p.steps as f64).powf(-beta)).collect();
                let middle = x.iter().sum::<f64>() / x.len() as f64;
                let across: f64 = x.iter().map(|x| (x - middle).powi(2)).sum();
                let both: f64 = x.iter().zip(points).map(|(x, p)| (x - middle) * (p.loss - mean)).sum();
                if across <= 0.0 {
                    continue;
                }
                let c = both / across;
                let b = mean - c * middle;
                let left: f64 = x.iter().zip(points).map(|(x, p)| (p.loss - b - c * x).powi(2)).sum();
                if c > 0.0 && b >= 0.0 && best.is_none_or(|(least, _)| left < least) {
                    let r2 = if spread > 0.0 { 1.0 - left / spread } else { 0.0 };
                    best = Some((left, Self { b, c, alpha, beta, r2 }));
                }
            }
        }
        // A law that explains less than half is none.
        best.map(|(_, law)| law).filter(|law| law.r2 > 0.5)
    }

    /// The loss that it expects.
    pub fn loss(&self, r: f64, steps: f64) -> f64 {
        self.b + self.c * r.powf(-self.alpha) * steps.powf(-self.beta)
    }

    /// The rank whose loss is within `share` of the least that any rank would reach at this length.
    pub fn rank_within(&self, share: f64) -> f64 {
        // Of the runs' own length: C is stated for it where β is 0.
        (self.c / (share * self.b).max(1e-12)).powf(1.0 / self.alpha)
    }

    /// In a sentence.
    pub fn sentence(&self) -> String {
        format!(
            "The law {:.3} + {:.3} · r^−{:.2}{} explains {:.0} % of the differences between ranks.",
            self.b,
            self.c,
            self.alpha,
            if self.beta > 0.0 { format!(" · steps^−{:.2}", self.beta) } else { String::new() },
            100.0 * self.r2
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_law_is_found_again() {
        let law = Law { b: 1.1, c: 0.8, alpha: 0.7, beta: 0.0, r2: 1.0 };
        let point = |r: usize, steps: usize| Point { r, steps, loss: law.loss(r as f64, steps as f64) };
        let found = Law::fit(&[1, 2, 4, 8, 16, 64].map(|r| point(r, 200))).unwrap();
        assert!((found.b - 1.1).abs() < 1e-6 && (found.c - 0.8).abs() < 1e-6 && (found.alpha - 0.7).abs() < 1e-6);
        assert!(found.r2 > 0.999_999 && found.sentence().contains("r^−0.70"), "{found:?}");
        assert!((found.loss(found.rank_within(0.02), 200.0) / found.b - 1.02).abs() < 1e-9);
        let with_length = Law { beta: 0.5, ..law };
        let point = |r: usize, steps: usize| Point { r, steps, loss: with_length.loss(r as f64, steps as f64) };
        let points: Vec<Point> = [1, 2, 4, 8].iter().flat_map(|&r| [100, 400, 900].map(|n| point(r, n))).collect();
        let found = Law::fit(&points).unwrap();
        assert!((found.beta - 0.5).abs() < 1e-6 && (found.alpha - 0.7).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn too_few_points_and_noise_give_no_law() {
        let point = |r, loss| Point { r, steps: 10, loss };
        assert_eq!(Law::fit(&[point(1, 2.0), point(2, 1.5), point(4, 1.2)]), None);
        assert_eq!(Law::fit(&[point(1, 1.0), point(2, 2.0), point(4, 1.0), point(8, 2.0)]), None, "it rises");
        assert_eq!(Law::fit(&[]), None);
    }
}
