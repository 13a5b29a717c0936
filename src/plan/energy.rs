//! Energy that is kept against the parameters it takes: one rank for all modules, and the best ranks for as many parameters.

use super::budget::{self, Offer, Ranks};
use crate::error::Result;
use crate::figure::{Axis, Figure, Series, Style};

/// Both curves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// Of one rank for all modules: the rank, trained parameters, share of the energy of all ΔW.
    pub uniform: Vec<(usize, u64, f64)>,
    /// Of the best ranks for as many parameters: parameters, share.
    pub best: Vec<(u64, f64)>,
}

impl Curve {
    /// At the powers of two below `most`, and at `most`.
    ///
    /// # Errors
    /// Bad input when there is nothing to adapt.
    pub fn of(offers: &[Offer], most: usize) -> Result<Self> {
        let ranks = (0..usize::BITS).map(|i| 1usize << i).take_while(|&r| r < most).chain([most.max(1)]);
        let uniform: Vec<(usize, u64, f64)> = ranks
            .map(|r| {
                let ranks = Ranks::of(offers, offers.iter().map(|offer| r.min(offer.max_rank())).collect());
                (r, ranks.trainable, ranks.energy)
            })
            .collect();
        let best =
            uniform.iter().map(|&(_, n, _)| Ok((n, budget::allocate(offers, n)?.energy))).collect::<Result<_>>()?;
        Ok(Self { uniform, best })
    }

    /// As a plot. Beyond `edge` parameters a larger rank copies rounding noise alone: that part is shaded.
    pub fn figure(&self, edge: Option<f64>) -> Figure {
        let percent = |n: u64, share: f64| [n as f64, 100.0 * share];
        let uniform: Vec<[f64; 2]> = self.uniform.iter().map(|&(_, n, share)| percent(n, share)).collect();
        let best = self.best.iter().map(|&(n, share)| percent(n, share)).collect();
        let end = uniform.last().map_or(0.0, |point| point[0]);
        let noise = edge.filter(|&edge| edge < end).map(|edge| {
            Series::line("only rounding noise", vec![[edge, 100.0], [end, 100.0]]).style(Style::Area).color(6)
        });
        Figure {
            title: "Energy of the change that is kept, against parameters".into(),
            x: Axis::log("parameters"),
            y: Axis::linear("% of the energy"),
            series: [
                Series::line("best ranks", best).color(2),
                Series::line("one rank for all", uniform).style(Style::LinePoints).color(1),
            ]
            .into_iter()
            .chain(noise)
            .collect(),
            ..Figure::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_ranks_keep_no_less_than_one_for_all() {
        let offer = |name: &str, sigma: [f64; 3]| Offer {
            name: name.into(),
            shape: [4, 4],
            copies: 1,
            energy: sigma.iter().map(|s| s * s).sum(),
            sigma: sigma.to_vec(),
        };
        let offers = [offer("a", [3.0, 2.0, 1.0]), offer("b", [1.0, 0.5, 0.1])];
        let curve = Curve::of(&offers, 3).unwrap();
        assert_eq!(
            curve.uniform.iter().map(|point| (point.0, point.1)).collect::<Vec<_>>(),
            [(1, 16), (2, 32), (3, 48)]
        );
        assert!(curve.uniform.iter().zip(&curve.best).all(|(one, best)| best.1 >= one.2 - 1e-12));
        // Two directions of a: 13 of 15.26.
        assert!((curve.best[0].1 - 13.0 / 15.26).abs() < 1e-9, "{curve:?}");
        assert_eq!(curve.figure(Some(40.0)).series.len(), 3);
        assert_eq!(curve.figure(Some(48.0)).series.len(), 2, "no noise within what is drawn");
        assert!(Curve::of(&[], 3).is_err());
    }
}
