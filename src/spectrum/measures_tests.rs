//! Measures by hand.

use super::tests::{compute, spiked};
use super::*;

fn square(sigma: &[f64]) -> Spectrum {
    Spectrum::from_sigma([sigma.len(), sigma.len()], sigma.to_vec())
}

#[test]
fn by_hand() {
    // Σσ² = 16 + 4 + 4 + 1 = 25.
    let s = square(&[4.0, 2.0, 2.0, 1.0]);
    assert_eq!(s.frobenius, 5.0);
    assert_eq!(s.energy_curve(), [0.0, 16.0 / 25.0, 20.0 / 25.0, 24.0 / 25.0, 1.0]);
    for (k, e) in s.energy_curve().into_iter().enumerate() {
        assert_eq!(s.energy(k), e);
        assert!((s.relative_error(k) - (1.0 - e).sqrt()).abs() < 1e-15);
    }
    assert_eq!((s.energy(99), s.relative_error(99)), (1.0, 0.0));
    assert_eq!([s.spectral_error(0), s.spectral_error(3), s.spectral_error(4)], [Some(4.0), Some(1.0), Some(0.0)]);
    let ranks = s.ranks();
    assert_eq!([ranks.energy_90, ranks.energy_95, ranks.energy_99], [Some(3), Some(3), Some(4)]);
    assert_eq!([s.energy_rank(0.64), s.energy_rank(0.0), s.energy_rank(1.0)], [Some(1), Some(0), Some(4)]);
    assert_eq!(ranks.stable, 25.0 / 16.0);
    // Σσ⁴ = 256 + 16 + 16 + 1 = 289.
    assert!((ranks.participation.unwrap() - 625.0 / 289.0).abs() < 1e-12);
    // q = 4/9, 2/9, 2/9, 1/9.
    let entropy: f64 = [4.0, 2.0, 2.0, 1.0].iter().map(|s| -s / 9.0 * f64::ln(s / 9.0)).sum();
    assert!((ranks.effective.unwrap() - entropy.exp()).abs() < 1e-12);
    // Median 2, ω(1) = 2.8584: above 5.7 stands nothing.
    assert_eq!(ranks.gavish_donoho, Some(0));
    assert_eq!(ranks.rounding, None, "no noise model");
}

#[test]
fn equal_values_have_full_rank_by_every_measure() {
    let s = square(&[0.3; 50]);
    for rank in [s.stable_rank(), s.effective_rank().unwrap(), s.participation_ratio().unwrap()] {
        assert!((rank - 50.0).abs() < 1e-9);
    }
    assert_eq!(s.ranks().numerical, Some(50));
    assert_eq!(s.ranks().energy_90, Some(45));
}

#[test]
fn numerical_rank_knows_the_storage_type() {
    // max(m, n) ε σ₁ = 2 · 2⁻⁷ · 1 = 1/64 in BF16, strictly above counts.
    let mut s = square(&[1.0, 1.0 / 64.0]);
    s.epsilon = 2f64.powi(-7);
    assert_eq!(s.ranks().numerical, Some(1));
    s.epsilon = 2f64.powi(-23);
    assert_eq!(s.ranks().numerical, Some(2));
}

#[test]
fn rounding_edge_and_known_noise() {
    // Edge 0.1 (√4 + √9) = 0.5; λ*(4/9) √9 · 0.1 is a little above it.
    let mut s = Spectrum::from_sigma([4, 9], vec![2.0, 0.51, 0.5, 0.1]);
    s.rounding_std = Some(0.1);
    assert!((s.rounding_edge().unwrap() - 0.5).abs() < 1e-12);
    assert_eq!(s.ranks().rounding, Some(2));
    let threshold = s.known_noise_threshold().unwrap();
    assert!(threshold > 0.5 && threshold < 0.6, "{threshold}");
    assert_eq!(rule_rank(&s, RuleId::GavishDonohoRounding), Some(1));
    s.low_rank = true;
    assert_eq!((s.ranks().rounding, s.known_noise_threshold()), (None, None));
}

#[test]
fn gavish_donoho_finds_the_planted_rank() {
    for (m, n) in [(300, 300), (150, 600), (600, 150)] {
        let found = compute(&spiked(m, n, 21), Options::default());
        assert_eq!(found.ranks().gavish_donoho, Some(16), "{m}×{n}");
    }
}

#[test]
fn no_median_no_threshold() {
    let s = Spectrum::from_sigma([5, 5], vec![3.0, 2.0, 0.0, 0.0, 0.0]);
    assert_eq!(s.ranks().gavish_donoho, None);
}

#[test]
fn what_a_top_k_spectrum_cannot_know() {
    let mut s = Spectrum::from_sigma([10, 10], vec![4.0, 2.0, 2.0]);
    s.exact = false;
    // 24 of 25 are in the list, one more is not.
    s.frobenius = 5.0;
    let ranks = s.ranks();
    assert_eq!([ranks.energy_90, ranks.energy_95, ranks.energy_99], [Some(3), Some(3), None]);
    assert_eq!((ranks.effective, ranks.participation, ranks.gavish_donoho), (None, None, None));
    assert_eq!(ranks.stable, 25.0 / 16.0);
    assert_eq!(s.energy(3), 24.0 / 25.0);
    assert!((s.relative_error(3) - 0.2).abs() < 1e-12);
    assert_eq!(s.spectral_error(3), None);
    // An unknown value may be as large as 1, the energy that is left.
    assert_eq!(s.count_above(2.5), Some(1));
    assert_eq!(s.count_above(1.5), Some(3));
    assert_eq!(s.count_above(0.9), None);
    assert_eq!(rule_rank(&s, RuleId::KohyaCumulative), None);
    assert!(s.rules().iter().all(|rule| rule.rank.is_some() || rule.note.is_some()));
}

#[test]
fn zeros_have_rank_zero() {
    let ranks = Spectrum::from_sigma([3, 4], vec![0.0; 3]).ranks();
    assert_eq!((ranks.stable, ranks.effective, ranks.participation), (0.0, Some(0.0), Some(0.0)));
    assert_eq!([ranks.energy_90, ranks.energy_99, ranks.numerical], [Some(0); 3]);
    assert_eq!(ranks.gavish_donoho, None);
}
