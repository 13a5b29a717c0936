//! `ΔL = C · r^α · ℓ^−β + b`: the law of what an adapter's rank takes off the loss of what it learns by heart, `ℓ` tokens long
//! (arXiv 2605.30260, "Parametric Memory Law"), fitted to a person's own runs.
//!
//! The loss of the base is the same for all of them, so with `L = L₀ − C · r^α · ℓ^−β` it need not be known: `L₀` is the loss that it
//! would have, less `b`. The exponents are found on a grid, `L₀` and `C` by least squares for each pair of them. Three numbers are
//! fitted, four where lengths differ: so at least four ranks are asked for, `β` is only fitted to three lengths or more, and what the fit
//! leaves is said.

/// A run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Rank.
    pub r: usize,
    /// ℓ: tokens that are to be learnt.
    pub tokens: u64,
    /// Its loss.
    pub loss: f64,
}

/// The law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Law {
    /// `L₀`: where the curve begins.
    pub start: f64,
    /// Height of what a rank takes off it; `C · ℓ^−β` where all runs are of one length.
    pub c: f64,
    /// Exponent of the rank.
    pub alpha: f64,
    /// Exponent of the length; `None` where the runs do not tell it.
    pub beta: Option<f64>,
    /// Share of the differences between the points that it explains.
    pub r2: f64,
    /// The least and the largest rank that it was fitted to.
    pub ranks: [usize; 2],
}

/// Fewer ranks than this say nothing about a law of three numbers.
pub const RANKS: usize = 4;
/// Fewer lengths say nothing about its fourth.
const LENGTHS: usize = 3;
/// It is read up to so many times beyond the ranks that it was fitted to.
const BEYOND: f64 = 4.0;
/// A law that explains less than this share is none.
const EXPLAINED: f64 = 0.5;

/// How many different ones there are.
fn count<T: Ord>(values: impl Iterator<Item = T>) -> usize {
    values.collect::<std::collections::BTreeSet<_>>().len()
}

impl Law {
    /// The law through these points; `None` where they are too few, or it does not hold: the loss does not fall with the rank, or by
    /// no such curve.
    pub fn fit(points: &[Point]) -> Option<Self> {
        let ranks = [points.iter().map(|point| point.r).min()?, points.iter().map(|point| point.r).max()?];
        let lengths = count(points.iter().map(|point| point.tokens));
        if count(points.iter().map(|point| point.r)) < RANKS
            || points.iter().any(|point| !point.loss.is_finite() || point.r == 0 || point.tokens == 0)
            || (2..LENGTHS).contains(&lengths)
        {
            return None;
        }
        let steps = |at: u32| 0.02 * f64::from(at);
        let betas: Vec<Option<f64>> = if lengths == 1 { vec![None] } else { (0..=100).map(steps).map(Some).collect() };
        let mean = points.iter().map(|point| point.loss).sum::<f64>() / points.len() as f64;
        let spread: f64 = points.iter().map(|point| (point.loss - mean).powi(2)).sum();
        let mut best: Option<(f64, Self)> = None;
        for alpha in (1..=100).map(steps) {
            for &beta in &betas {
                let taken = |p: &Point| (p.r as f64).powf(alpha) * (p.tokens as f64).powf(-beta.unwrap_or(0.0));
                let x: Vec<f64> = points.iter().map(taken).collect();
                let middle = x.iter().sum::<f64>() / x.len() as f64;
                let across: f64 = x.iter().map(|x| (x - middle).powi(2)).sum();
                let both: f64 = x.iter().zip(points).map(|(x, p)| (x - middle) * (p.loss - mean)).sum();
                if across <= 0.0 {
                    continue;
                }
                let c = -both / across;
                let start = mean + c * middle;
                let left: f64 = x.iter().zip(points).map(|(x, p)| (p.loss - start + c * x).powi(2)).sum();
                if c > 0.0 && best.is_none_or(|(least, _)| left < least) {
                    let r2 = if spread > 0.0 { 1.0 - left / spread } else { 0.0 };
                    best = Some((left, Self { start, c, alpha, beta, r2, ranks }));
                }
            }
        }
        best.map(|(_, law)| law).filter(|law| law.r2 > EXPLAINED)
    }

    /// The loss that it expects.
    pub fn loss(&self, r: f64, tokens: f64) -> f64 {
        self.start - self.c * r.powf(self.alpha) * tokens.powf(-self.beta.unwrap_or(0.0))
    }

    /// The rank whose loss it expects to be `loss`; `None` beyond four times the ranks that it was fitted to, where it says nothing.
    pub fn rank(&self, loss: f64, tokens: f64) -> Option<f64> {
        let taken = (self.start - loss) / (self.c * tokens.powf(-self.beta.unwrap_or(0.0)));
        let r = taken.max(0.0).powf(1.0 / self.alpha);
        let [low, high] = self.ranks.map(|r| r as f64);
        (low / BEYOND..=high * BEYOND).contains(&r).then_some(r)
    }

    /// In a sentence.
    pub fn sentence(&self) -> String {
        let length = self.beta.map_or_else(String::new, |beta| format!(" · tokens^−{beta:.2}"));
        format!(
            "The law loss = {:.3} − {:.3} · r^{:.2}{length} explains {:.0} % of the differences between your ranks.",
            self.start,
            self.c,
            self.alpha,
            100.0 * self.r2
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The points are the law's own.
    #[test]
    fn a_law_is_found_again() {
        let of = |r: f64, tokens: f64| 2.7 - 6.0 * r.powf(0.3) * tokens.powf(-0.24);
        let point = |r: usize, tokens: u64| Point { r, tokens, loss: of(r as f64, tokens as f64) };
        let found = Law::fit(&[1, 2, 4, 8, 16, 64].map(|r| point(r, 10_000))).unwrap();
        assert!(
            (found.start - 2.7).abs() < 1e-6
                && (found.c - 6.0 * 1e4f64.powf(-0.24)).abs() < 1e-6
                && (found.alpha - 0.3).abs() < 1e-6
        );
        assert!(found.r2 > 0.999_999 && found.beta.is_none() && found.sentence().contains("r^0.30"), "{found:?}");
        assert!((found.rank(of(32.0, 1e4), 1e4).unwrap() - 32.0).abs() < 1e-6);
        assert_eq!(found.rank(of(1000.0, 1e4), 1e4), None, "it says nothing of ranks far beyond");
        let points: Vec<Point> = [1, 2, 4, 8].iter().flat_map(|&r| [100, 400, 900].map(|n| point(r, n))).collect();
        let found = Law::fit(&points).unwrap();
        assert!((found.beta.unwrap() - 0.24).abs() < 1e-6 && (found.alpha - 0.3).abs() < 1e-6, "{found:?}");
        assert!(found.r2 > 0.999 && found.sentence().contains("tokens^"), "{found:?}");
    }

    #[test]
    fn too_few_points_and_noise_give_no_law() {
        let point = |r, loss| Point { r, tokens: 10, loss };
        assert_eq!(Law::fit(&[point(1, 2.0), point(2, 1.5), point(4, 1.2)]), None, "three ranks for three numbers");
        let twice = [point(1, 2.0), point(1, 2.1), point(2, 1.5), point(2, 1.6), point(4, 1.2)];
        assert_eq!(Law::fit(&twice), None, "seeds are no ranks");
        assert_eq!(Law::fit(&[1, 2, 4, 8].map(|r| point(r, r as f64))), None, "it rises");
        assert_eq!(Law::fit(&[point(1, 1.0), point(2, 0.1), point(4, 1.0), point(8, 0.1), point(16, 1.0)]), None);
        let falls = [(1, 2.0), (2, 1.5), (4, 1.2), (8, 1.0)].map(|(r, loss)| point(r, loss));
        assert!(Law::fit(&falls).is_some());
        let mut lengths = falls;
        lengths[3].tokens = 20;
        assert_eq!(Law::fit(&lengths), None, "two lengths say nothing of how the loss moves with it");
        lengths[0].loss = f64::NAN;
        assert_eq!(Law::fit(&lengths), None);
        assert_eq!(Law::fit(&[]), None);
    }
}
