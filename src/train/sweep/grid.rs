//! [`Grid`]: which runs a sweep takes.

use crate::error::{Error, Result};
use crate::plan::advise::rate;
use crate::train::{Alpha, Settings};
use serde::{Deserialize, Serialize};

/// Rank × learning rate × seed, under one convention for α.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grid {
    /// Ranks, in order.
    pub ranks: Vec<usize>,
    /// Learning rates.
    pub rates: Rates,
    /// How α follows the rank; as the settings have it by default: α/r, or α/√r, stays.
    pub alpha: Option<Alpha>,
    /// Seeds of each point, from that of the settings on; 0 and 1 are one.
    pub seeds: usize,
    /// Successive halving: after a quarter and a half of the steps the worse half of the points is given up.
    pub halving: bool,
}

/// Learning rates of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rates {
    /// That of the settings at every rank.
    #[default]
    One,
    /// These at every rank.
    Each(Vec<f64>),
    /// Three for each rank, half a power of ten apart, around what that of the settings is worth at it.
    Ladder,
}

/// One run of a sweep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The rank.
    pub r: usize,
    /// Its learning rate.
    pub lr: f64,
    /// The seed.
    pub seed: u64,
}

/// More points than this are a mistake in a list.
const MOST: usize = 4096;

impl Grid {
    /// Ranks alone.
    pub fn of_ranks(ranks: Vec<usize>) -> Self {
        Self { ranks, ..Self::default() }
    }

    /// The convention for α.
    pub fn alpha(&self, settings: &Settings) -> Alpha {
        self.alpha.unwrap_or_else(|| Alpha::of(settings))
    }

    /// Its runs: the largest rank first, whose result is cut down to the others.
    ///
    /// # Errors
    /// No rank, or more runs than anybody means.
    pub fn points(&self, settings: &Settings) -> Result<Vec<Point>> {
        let seeds = self.seeds.max(1) as u64;
        let mut points = Vec::new();
        for &r in self.ranks.iter().rev() {
            for lr in self.rates(settings, r) {
                for seed in 0..seeds {
                    points.push(Point { r, lr, seed: settings.seed.wrapping_add(seed) });
                }
            }
            if points.len() > MOST {
                return Err(Error::usage(format!(
                    "a sweep of more than {MOST} runs; expected fewer ranks, rates or seeds"
                )));
            }
        }
        if points.is_empty() { Err(Error::usage("no ranks; expected some, such as 1,2,4,8")) } else { Ok(points) }
    }

    fn rates(&self, settings: &Settings, r: usize) -> Vec<f64> {
        match &self.rates {
            Rates::One => vec![settings.lr],
            Rates::Each(rates) => rates.clone(),
            Rates::Ladder => {
                let alpha = self.alpha(settings);
                let here = (settings.rank, alpha.scaling(settings.rank));
                let middle = rate::moved(settings.lr, here, (r, alpha.scaling(r)));
                [10f64.powf(-0.5), 1.0, 10f64.powf(0.5)].map(|factor| rate::digit(middle * factor)).to_vec()
            }
        }
    }

    /// The settings of one of its runs, in a folder of its own.
    pub fn settings(&self, settings: &Settings, point: Point) -> Settings {
        let mut name = format!("r-{}", point.r);
        if self.rates != Rates::One {
            name += &format!("-lr-{:e}", point.lr);
        }
        if self.seeds > 1 {
            name += &format!("-seed-{}", point.seed);
        }
        let mut one = Settings {
            rank: point.r,
            lr: point.lr,
            seed: point.seed,
            out: settings.out.join(name),
            ..settings.clone()
        };
        // Every seed is judged on the same rows.
        one.split_seed = Some(settings.split_seed.unwrap_or(settings.seed)).filter(|split| *split != point.seed);
        match self.alpha {
            Some(alpha) => alpha.set(&mut one),
            // α/r stays as it is with the dial's rank: the ranks differ in rank alone.
            None => one.alpha = settings.alpha.map(|alpha| alpha * point.r as f64 / settings.rank as f64),
        }
        one
    }
}

/// Learning rates as a person writes them: `1e-4, 3e-4`, or `auto` for a ladder.
///
/// # Errors
/// Bad input that names what is no rate.
pub fn rates(text: &str) -> Result<Rates> {
    if text.trim() == "auto" {
        return Ok(Rates::Ladder);
    }
    let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    let rate = |word: &str| {
        let rate = word.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate > 0.0);
        rate.ok_or_else(|| {
            Error::usage(format!("learning rate {word:?}; expected numbers such as 1e-4,3e-4,1e-3, or auto"))
        })
    };
    let mut rates = words.map(rate).collect::<Result<Vec<_>>>()?;
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    Ok(if rates.is_empty() { Rates::One } else { Rates::Each(rates) })
}

/// Ranks as a person writes them: `1, 2, 4 8`; each once, in order.
///
/// # Errors
/// Bad input that names what is no rank.
pub fn ranks(text: &str) -> Result<Vec<usize>> {
    let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    let rank = |word: &str| {
        let r: Option<usize> = word.parse().ok().filter(|&r| r > 0);
        r.ok_or_else(|| Error::usage(format!("rank {word:?}; expected whole numbers above 0, such as 1,2,4,8")))
    };
    let mut ranks = words.map(rank).collect::<Result<Vec<_>>>()?;
    ranks.sort_unstable();
    ranks.dedup();
    if ranks.is_empty() { Err(Error::usage("no ranks; expected some, such as 1,2,4,8")) } else { Ok(ranks) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_and_rates_are_read_as_they_are_written() {
        assert_eq!(ranks("8, 1 2,4,2").unwrap(), [1, 2, 4, 8]);
        assert!(ranks("1, x").unwrap_err().to_string().contains("rank \"x\""));
        assert!(ranks("0").is_err() && ranks(" ").is_err());
        assert_eq!(rates("1e-3,1e-4").unwrap(), Rates::Each(vec![1e-4, 1e-3]));
        assert_eq!((rates("auto").unwrap(), rates("").unwrap()), (Rates::Ladder, Rates::One));
        assert!(rates("1e-3,-1").unwrap_err().to_string().contains("\"-1\""));
    }

    #[test]
    fn a_grid_has_a_run_for_each_point() {
        let settings = Settings { lr: 1e-2, rank: 16, seed: 5, out: "sweep".into(), ..Settings::default() };
        let grid = Grid { ranks: vec![4, 64], rates: Rates::Ladder, seeds: 2, ..Grid::default() };
        let points = grid.points(&settings).unwrap();
        assert_eq!((points.len(), points[0].r, points[1].seed), (12, 64, 6));
        // With s as it is, a higher rank wants a lower rate.
        assert!(points[2].lr < points[8].lr, "{points:?}");
        let one = grid.settings(&settings, points[1]);
        assert_eq!((one.split_seed, one.alpha()), (Some(5), 128.0));
        assert!(one.out.to_str().unwrap().contains("r-64-lr-"), "{}", one.out.display());
        let fixed = Grid { alpha: Some(Alpha::Fixed(32.0)), ..Grid::of_ranks(vec![4]) };
        let one = fixed.settings(&settings, fixed.points(&settings).unwrap()[0]);
        assert_eq!((one.alpha, one.split_seed, one.out.to_str()), (Some(32.0), None, Some("sweep/r-4")));
        assert!(Grid::default().points(&settings).is_err());
    }
}
