//! The best set of ranks for a number of trainable parameters.
//!
//! Keeping direction `i` of a module is worth `σ_i²` and costs `d_in + d_out`, whatever else is kept. So directions are
//! taken in the order of `σ_i² / (d_in + d_out)` until the budget is spent. Where every module costs the same that is the
//! best there is; otherwise it is within the last direction of it (the greedy rule of the fractional knapsack).

use crate::error::{Error, Result};
use crate::spectrum::Spectrum;
use crate::units::exact;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A module that could get a rank.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Its name.
    pub name: String,
    /// `[out, in]`.
    pub shape: [usize; 2],
    /// How many of this shape get the rank together: the experts of a parameter.
    pub copies: usize,
    /// Its singular values, largest first, as far as they are known.
    pub sigma: Vec<f64>,
    /// `Σσ²` over all of them, known or not.
    pub energy: f64,
}

impl Offer {
    /// A module whose spectrum is known.
    pub fn of(name: &str, spectrum: &Spectrum) -> Self {
        let energy = spectrum.energy_total();
        Self { name: name.to_owned(), shape: spectrum.shape, copies: 1, sigma: spectrum.known().collect(), energy }
    }

    /// What a unit of rank costs, `d_in + d_out` of each copy.
    pub fn cost(&self) -> u64 {
        self.copies as u64 * (self.shape[0] as u64 + self.shape[1] as u64)
    }

    /// `min(out, in)`.
    pub fn max_rank(&self) -> usize {
        self.shape[0].min(self.shape[1])
    }

    /// `Σ_{i≤r} σ_i²`.
    pub fn kept(&self, r: usize) -> f64 {
        self.sigma.iter().take(r).map(|s| s * s).sum()
    }
}

/// Ranks for some modules, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranks {
    /// One for each offer; 0 for a module that is left alone.
    pub r: Vec<usize>,
    /// `Σ r (d_in + d_out)`.
    pub trainable: u64,
    /// Share of all modules' energy that is kept, `Σ Σ_{i≤r} σ_i² / Σ Σ σ²`; 1 where there is none.
    pub energy: f64,
}

impl Ranks {
    /// What these ranks cost and keep.
    pub fn of(offers: &[Offer], r: Vec<usize>) -> Self {
        let pairs = || offers.iter().zip(&r);
        let trainable = pairs().map(|(offer, &r)| offer.cost() * r as u64).sum();
        let total: f64 = offers.iter().map(|offer| offer.energy).sum();
        let kept: f64 = pairs().map(|(offer, &r)| offer.kept(r)).sum();
        let energy = if total > 0.0 { (kept / total).min(1.0) } else { 1.0 };
        Self { trainable, energy, r }
    }
}

/// The next direction of a module.
struct Next {
    worth: f64,
    place: usize,
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Next {}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Next {
    /// The most worth first; of equals the earlier module.
    fn cmp(&self, other: &Self) -> Ordering {
        self.worth.total_cmp(&other.worth).then(other.place.cmp(&self.place))
    }
}

/// The best ranks for at most `budget` trainable parameters. Directions without energy are not taken.
///
/// # Errors
/// Bad input when there is nothing to adapt, or the budget does not even pay rank 1 of the smallest module.
pub fn allocate(offers: &[Offer], budget: u64) -> Result<Ranks> {
    let cheapest = offers.iter().min_by_key(|offer| offer.cost());
    let cheapest = cheapest.ok_or_else(|| Error::usage("there is no module to give a rank to"))?;
    if budget < cheapest.cost() {
        return Err(Error::usage(format!(
            "a budget of {} parameters is too small for rank 1 anywhere: the smallest module, {} of {} × {}, takes {}",
            exact(budget),
            cheapest.name,
            cheapest.shape[0],
            cheapest.shape[1],
            exact(cheapest.cost())
        )));
    }
    let next = |place: usize, r: usize| {
        let sigma = offers[place].sigma.get(r).copied().filter(|&s| s > 0.0)?;
        Some(Next { worth: sigma * sigma / offers[place].cost() as f64, place })
    };
    let mut ranks = vec![0; offers.len()];
    let mut left = budget;
    let mut heap: BinaryHeap<Next> = (0..offers.len()).filter_map(|place| next(place, 0)).collect();
    while let Some(Next { place, .. }) = heap.pop() {
        let cost = offers[place].cost();
        // What is too dear now stays too dear: its module gets no more.
        if cost <= left {
            left -= cost;
            ranks[place] += 1;
            heap.extend(next(place, ranks[place]));
        }
    }
    Ok(Ranks::of(offers, ranks))
}

/// What is to be kept, as a person says it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// So many trainable parameters.
    Parameters(u64),
    /// This share of the energy of all changes.
    Energy(f64),
}

impl Target {
    /// `95%`, or a budget as [`parse`] reads it.
    ///
    /// # Errors
    /// Bad input when it is neither.
    pub fn parse(text: &str, width: u64) -> Result<Self> {
        let Some(percent) = text.trim().strip_suffix('%') else { return parse(text, width).map(Self::Parameters) };
        let share = percent.trim().parse::<f64>().ok().map(|percent| percent / 100.0);
        let share = share.filter(|share| *share > 0.0 && *share <= 1.0);
        share
            .map(Self::Energy)
            .ok_or_else(|| Error::usage(format!("{text}; expected a share above 0 % and up to 100 %, such as 95%")))
    }

    /// The best ranks for it.
    ///
    /// # Errors
    /// As [`allocate`].
    pub fn ranks(self, offers: &[Offer]) -> Result<Ranks> {
        match self {
            Self::Parameters(budget) => allocate(offers, budget),
            Self::Energy(share) => reach(offers, share),
        }
    }
}

/// The fewest parameters that keep this share of all energy: directions in the order of `σ² / (d_in + d_out)` until it is there, or
/// all that are known.
///
/// # Errors
/// Bad input when there is nothing to adapt.
fn reach(offers: &[Offer], share: f64) -> Result<Ranks> {
    let all: u64 = offers.iter().map(|offer| offer.cost() * offer.sigma.len() as u64).sum();
    let every = allocate(offers, all.max(1))?;
    // What a budget keeps grows with it.
    let (mut low, mut high) = (0, every.trainable);
    let target = share.min(every.energy) - 1e-12;
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        match allocate(offers, middle) {
            Ok(ranks) if ranks.energy >= target => high = middle,
            _ => low = middle,
        }
    }
    allocate(offers, high)
}

/// The largest rank that every module can have within the budget; where a module is smaller it has its own largest.
/// `None` when not even rank 1 fits everywhere.
pub fn uniform(offers: &[Offer], budget: u64) -> Option<(usize, Ranks)> {
    let most = offers.iter().map(Offer::max_rank).max()?;
    let at = |r: usize| Ranks::of(offers, offers.iter().map(|offer| r.min(offer.max_rank())).collect());
    let (mut low, mut high) = (0, most + 1);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if at(middle).trainable <= budget { low = middle } else { high = middle }
    }
    (low > 0).then(|| (low, at(low)))
}

/// A budget as a person writes it: `4718592`, `4.7M` parameters, or `10MB` of an adapter whose values take `width` bytes.
///
/// # Errors
/// Bad input when it is no such number.
pub fn parse(text: &str, width: u64) -> Result<u64> {
    let wrong = || {
        Error::usage(format!(
            "budget \"{text}\"; expected trainable parameters, such as 4718592 or 4.7M, or the adapter's size, such as 10MB"
        ))
    };
    let plain = text.trim().replace(['_', ','], "");
    let split = plain.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(plain.len());
    let (number, unit) = plain.split_at(split);
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let (scale, bytes) = match unit.trim().to_ascii_lowercase().as_str() {
        "" => (1.0, false),
        "k" => (1e3, false),
        "m" => (1e6, false),
        "b" | "g" => (1e9, false),
        "kb" => (1e3, true),
        "mb" => (1e6, true),
        "gb" => (1e9, true),
        "kib" => (1024.0, true),
        "mib" => (1024.0 * 1024.0, true),
        "gib" => (1024.0 * 1024.0 * 1024.0, true),
        _ => return Err(wrong()),
    };
    let parameters = number * scale / if bytes { width as f64 } else { 1.0 };
    if parameters.is_finite() && (1.0..1e15).contains(&parameters) { Ok(parameters as u64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    fn offer(shape: [usize; 2], sigma: Vec<f64>) -> Offer {
        let energy = sigma.iter().map(|s| s * s).sum();
        Offer { name: format!("m{}x{}", shape[0], shape[1]), shape, copies: 1, sigma, energy }
    }

    fn random(rng: &mut StdRng, shape: [usize; 2]) -> Offer {
        let mut sigma: Vec<f64> = (0..shape[0].min(shape[1])).map(|_| rng.random_range(0.0..1.0f64).powi(3)).collect();
        sigma.sort_by(|a, b| b.total_cmp(a));
        offer(shape, sigma)
    }

    /// The most energy of any set of ranks within the budget.
    fn brute_force(offers: &[Offer], budget: u64) -> f64 {
        let mut best = 0f64;
        let mut ranks = vec![0usize; offers.len()];
        loop {
            let all = Ranks::of(offers, ranks.clone());
            if all.trainable <= budget {
                best = best.max(all.energy);
            }
            let Some(at) = (0..offers.len()).find(|&at| ranks[at] < offers[at].max_rank()) else { return best };
            ranks[at] += 1;
            ranks[..at].fill(0);
        }
    }

    #[test]
    fn a_share_of_the_energy_is_reached_with_the_fewest_parameters() {
        let offer = |name: &str, sigma: &[f64]| Offer {
            name: name.into(),
            shape: [4, 4],
            copies: 1,
            sigma: sigma.to_vec(),
            energy: sigma.iter().map(|s| s * s).sum(),
        };
        // 9, 4, 1 and 1: 13 of 15 are 86.7 %.
        let offers = [offer("a", &[3.0, 1.0]), offer("b", &[2.0, 1.0])];
        let of = |text: &str| Target::parse(text, 4).unwrap().ranks(&offers).unwrap();
        assert_eq!((of("86%").r, of("86%").trainable), (vec![1, 1], 16));
        assert_eq!(of("60%").r, [1, 0]);
        assert_eq!(of("100%").trainable, 32);
        assert_eq!(of("16").r, [1, 1]);
        assert!(
            Target::parse("0%", 4).is_err() && Target::parse("101%", 4).is_err() && Target::parse("x%", 4).is_err()
        );
    }

    #[test]
    fn equal_costs_give_the_best_there_is() {
        let mut rng = StdRng::seed_from_u64(1);
        for case in 0..40 {
            let offers: Vec<Offer> = (0..3).map(|_| random(&mut rng, [4, 5])).collect();
            let budget = 9 * (1 + case % 12);
            let found = allocate(&offers, budget).unwrap();
            assert!(found.trainable <= budget);
            let best = brute_force(&offers, budget);
            assert!((found.energy - best).abs() < 1e-12, "case {case}: {} against {best}", found.energy);
        }
    }

    #[test]
    fn other_costs_are_within_one_direction() {
        let mut rng = StdRng::seed_from_u64(2);
        for case in 0..60u64 {
            let offers = [random(&mut rng, [3, 4]), random(&mut rng, [4, 9]), random(&mut rng, [5, 3])];
            let budget = 8 + case % 60;
            let found = allocate(&offers, budget).unwrap();
            assert!(found.trainable <= budget);
            let total: f64 = offers.iter().map(|offer| offer.energy).sum();
            let largest = offers.iter().map(|offer| offer.sigma[0].powi(2)).fold(0.0, f64::max) / total;
            let best = brute_force(&offers, budget);
            assert!(found.energy <= best + 1e-12 && best - found.energy <= largest, "case {case}");
        }
    }

    #[test]
    fn too_small_a_budget_says_so() {
        let offers = [offer([8, 8], vec![1.0; 8]), offer([4, 6], vec![1.0; 4])];
        let error = allocate(&offers, 9).unwrap_err();
        assert_eq!(error.status(), 2);
        assert_eq!(
            error.to_string(),
            "a budget of 9 parameters is too small for rank 1 anywhere: the smallest module, m4x6 of 4 × 6, takes 10"
        );
        assert_eq!(allocate(&offers, 10).unwrap().r, [0, 1]);
        assert!(allocate(&[], 10).is_err());
        assert_eq!(uniform(&offers, 25), None);
        assert_eq!(uniform(&offers, 26).unwrap().0, 1);
        // The smaller module stops at its own largest rank.
        assert_eq!(uniform(&offers, 1000).unwrap().1.r, [8, 4]);
    }

    #[test]
    fn directions_without_energy_are_not_bought() {
        let offers = [offer([4, 4], vec![2.0, 0.0, 0.0, 0.0]), offer([4, 4], vec![0.0; 4])];
        let found = allocate(&offers, 1000).unwrap();
        assert_eq!((found.r, found.trainable, found.energy), (vec![1, 0], 8, 1.0));
    }

    #[test]
    fn budgets_are_read() {
        assert_eq!(parse("4718592", 4).unwrap(), 4_718_592);
        assert_eq!(parse("4.7M", 4).unwrap(), 4_700_000);
        assert_eq!(parse("10 MB", 4).unwrap(), 2_500_000);
        assert_eq!(parse("1MiB", 2).unwrap(), 524_288);
        assert_eq!(parse("1_000", 4).unwrap(), 1000);
        for text in ["", "x", "10XB", "-5", "0", "NaN", "1e99"] {
            assert_eq!(parse(text, 4).unwrap_err().status(), 2, "{text}");
        }
    }
}
