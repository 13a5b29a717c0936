//! The rules by which people choose a rank, side by side, each with what it would choose here.

use std::fmt;

use super::Spectrum;

/// A rule for choosing a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleId {
    /// 90 % of the energy.
    Energy90,
    /// 95 % of the energy.
    Energy95,
    /// 99 % of the energy.
    Energy99,
    /// Σσ² / σ₁².
    Stable,
    /// Roy & Vetterli.
    Effective,
    /// (Σσ²)² / Σσ⁴.
    Participation,
    /// σ above what the storage dtype can tell from zero.
    Numerical,
    /// Optimal threshold, noise measured by the median.
    GavishDonoho,
    /// Optimal threshold, noise taken to be rounding.
    GavishDonohoRounding,
    /// Edge of the rounding noise.
    RoundingEdge,
    /// kohya `resize_lora.py`, `sv_ratio`.
    KohyaRatio,
    /// kohya `resize_lora.py`, `sv_cumulative`.
    KohyaCumulative,
    /// kohya `resize_lora.py`, `sv_fro`.
    KohyaFro,
    /// PEFT `convert_to_lora`.
    Peft,
    /// mergekit `--sv-epsilon`.
    Mergekit,
}

/// The numbers that rules of other tools take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// `sv_ratio p`: keep σ > σ₁ / p.
    pub kohya_ratio: f64,
    /// `sv_cumulative p`: keep a share p of Σσ.
    pub kohya_cumulative: f64,
    /// `sv_fro p`: keep a share p of ‖ΔW‖_F, p² of the energy.
    pub kohya_fro: f64,
    /// `convert_to_lora(rank=t)`: keep a share t of the energy.
    pub peft: f64,
    /// `--sv-epsilon e`: keep σ > e, in absolute terms.
    pub mergekit: f64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            // Where the smallest kept direction moves the weights a twentieth as far as the largest.
            kohya_ratio: 20.0,
            // A tenth of the sum is left out, as a tenth of the energy is by the rules above.
            kohya_cumulative: 0.9,
            // 0.9 of the norm is 0.81 of the energy: the name misleads, so it is shown beside energy 90 %.
            kohya_fro: 0.9,
            // Beside energy 90 %: the same number by another name.
            peft: 0.9,
            // mergekit's own default: nothing but exact zeros is dropped.
            mergekit: 0.0,
        }
    }
}

/// One rule, applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Which.
    pub id: RuleId,
    /// What it is called.
    pub name: &'static str,
    /// The measure itself where it is a real number (stable, effective, participation), else the rank.
    pub value: Option<f64>,
    /// The rank that it asks for; a real-valued measure is rounded up. `None`: cannot be known, see `note`.
    pub rank: Option<usize>,
    /// What that says about this ΔW, for a learner.
    pub meaning: String,
    /// How it is defined.
    pub formula: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// The number that the rule takes, by its tool's name.
    pub parameter: Option<(&'static str, f64)>,
    /// Why it has no answer, or what to mind.
    pub note: Option<String>,
}

/// Name, formula, source.
type Card = (&'static str, &'static str, &'static str);

impl RuleId {
    /// Every rule, in the order of the table.
    pub const ALL: [Self; 15] = [
        Self::Energy90,
        Self::Energy95,
        Self::Energy99,
        Self::Stable,
        Self::Effective,
        Self::Participation,
        Self::Numerical,
        Self::GavishDonoho,
        Self::GavishDonohoRounding,
        Self::RoundingEdge,
        Self::KohyaRatio,
        Self::KohyaCumulative,
        Self::KohyaFro,
        Self::Peft,
        Self::Mergekit,
    ];

    const fn card(self) -> Card {
        match self {
            Self::Energy90 => ("Energy 90 %", "smallest k with σ₁² + … + σ_k² ≥ 0.90 Σσ²", ECKART_YOUNG),
            Self::Energy95 => ("Energy 95 %", "smallest k with σ₁² + … + σ_k² ≥ 0.95 Σσ²", ECKART_YOUNG),
            Self::Energy99 => ("Energy 99 %", "smallest k with σ₁² + … + σ_k² ≥ 0.99 Σσ²", ECKART_YOUNG),
            Self::Stable => ("Stable rank", "Σσ² / σ₁²", "Rudelson & Vershynin 2007, J. ACM 54(4)"),
            Self::Effective => ("Effective rank", "exp(-Σ q ln q), q = σ / Σσ", "Roy & Vetterli 2007, EUSIPCO"),
            Self::Participation => {
                ("Participation ratio", "(Σσ²)² / Σσ⁴", "Bell & Dean 1970, Discuss. Faraday Soc. 50; of the σ²")
            }
            Self::Numerical => (
                "Numerical rank",
                "σ > max(m, n) · ε · σ₁, ε of the storage dtype",
                "numpy.linalg.matrix_rank; Golub & Van Loan",
            ),
            Self::GavishDonoho => {
                ("Gavish–Donoho", "σ > ω(β) · median(σ), β = min/max of m, n", "Gavish & Donoho 2014, arXiv 1305.5870")
            }
            Self::GavishDonohoRounding => (
                "Gavish–Donoho, rounding noise",
                "σ > λ*(β) √max(m, n) · s, s of the rounding",
                "Gavish & Donoho 2014, arXiv 1305.5870",
            ),
            Self::RoundingEdge => (
                "Rounding edge",
                "σ > s (√m + √n), s² = mean(ulp_base² + ulp_tuned²) / 12",
                "Bai & Yin 1993; Marchenko & Pastur 1967",
            ),
            Self::KohyaRatio => ("kohya sv_ratio", "σ > σ₁ / p", KOHYA),
            Self::KohyaCumulative => ("kohya sv_cumulative", "smallest k with σ₁ + … + σ_k ≥ p Σσ", KOHYA),
            Self::KohyaFro => ("kohya sv_fro", "smallest k with σ₁² + … + σ_k² ≥ p² Σσ²", KOHYA),
            Self::Peft => {
                ("PEFT convert_to_lora", "smallest k with σ₁² + … + σ_k² ≥ t Σσ²", "PEFT, convert_to_lora(rank=t)")
            }
            Self::Mergekit => {
                ("mergekit sv-epsilon", "σ > e, an absolute number", "mergekit-extract-lora --sv-epsilon")
            }
        }
    }

    /// What the rule is called.
    pub const fn name(self) -> &'static str {
        self.card().0
    }

    /// Its definition.
    pub const fn formula(self) -> &'static str {
        self.card().1
    }

    /// Where it comes from.
    pub const fn source(self) -> &'static str {
        self.card().2
    }

    fn parameter(self, parameters: &Parameters) -> Option<(&'static str, f64)> {
        match self {
            Self::KohyaRatio => Some(("sv_ratio", parameters.kohya_ratio)),
            Self::KohyaCumulative => Some(("sv_cumulative", parameters.kohya_cumulative)),
            Self::KohyaFro => Some(("sv_fro", parameters.kohya_fro)),
            Self::Peft => Some(("rank", parameters.peft)),
            Self::Mergekit => Some(("sv-epsilon", parameters.mergekit)),
            _ => None,
        }
    }
}

const ECKART_YOUNG: &str = "Eckart & Young 1936, Psychometrika 1(3)";
const KOHYA: &str = "kohya-ss/sd-scripts, networks/resize_lora.py";

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The rank that a rule asks for with its usual parameters: what an all-modules map is coloured by.
pub fn rule_rank(spectrum: &Spectrum, id: RuleId) -> Option<usize> {
    value(spectrum, id, &Parameters::default()).map(whole)
}

/// The measure behind the rule; a count is a whole number.
fn value(s: &Spectrum, id: RuleId, parameters: &Parameters) -> Option<f64> {
    let count = match id {
        RuleId::Energy90 => s.energy_rank(0.90),
        RuleId::Energy95 => s.energy_rank(0.95),
        RuleId::Energy99 => s.energy_rank(0.99),
        RuleId::Stable => return Some(s.stable_rank()),
        RuleId::Effective => return s.effective_rank(),
        RuleId::Participation => return s.participation_ratio(),
        RuleId::Numerical => s.numerical_rank(),
        RuleId::GavishDonoho => s.unknown_noise_threshold().and_then(|t| s.count_above(t)),
        RuleId::GavishDonohoRounding => s.known_noise_threshold().and_then(|t| s.count_above(t)),
        RuleId::RoundingEdge => s.rounding_edge().and_then(|t| s.count_above(t)),
        RuleId::KohyaRatio => s.count_above(s.largest() / parameters.kohya_ratio),
        RuleId::KohyaCumulative => sum_rank(s, parameters.kohya_cumulative),
        RuleId::KohyaFro => s.energy_rank(parameters.kohya_fro * parameters.kohya_fro),
        RuleId::Peft => s.energy_rank(parameters.peft),
        RuleId::Mergekit => s.count_above(parameters.mergekit),
    };
    count.map(|count| count as f64)
}

/// A measure as a rank: rounded up, save for what rounding in the last digits adds.
fn whole(value: f64) -> usize {
    (value * (1.0 - 1e-9)).ceil() as usize
}

/// Smallest `k` with `Σ_{i≤k} σ_i ≥ share · Σσ`; `Σσ` needs every value.
fn sum_rank(s: &Spectrum, share: f64) -> Option<usize> {
    if !s.is_complete() {
        return None;
    }
    let target = share * s.known().sum::<f64>();
    let mut sum = 0.0;
    let mut count = 0;
    for sigma in s.known() {
        if sum >= target {
            break;
        }
        sum += sigma;
        count += 1;
    }
    Some(count)
}

impl Spectrum {
    /// The table of rules with their usual parameters.
    pub fn rules(&self) -> Vec<Rule> {
        self.rules_with(&Parameters::default())
    }

    /// The table of rules.
    pub fn rules_with(&self, parameters: &Parameters) -> Vec<Rule> {
        RuleId::ALL.into_iter().map(|id| self.rule(id, parameters)).collect()
    }

    /// One rule.
    pub fn rule(&self, id: RuleId, parameters: &Parameters) -> Rule {
        let value = value(self, id, parameters);
        let rank = value.map(whole);
        let (name, formula, source) = id.card();
        let meaning = match (value, rank) {
            (Some(value), Some(rank)) => meaning(id, value, rank, parameters),
            _ => "No answer for this spectrum.".into(),
        };
        let parameter = id.parameter(parameters);
        Rule { id, name, value, rank, meaning, formula, source, parameter, note: self.note(id, rank) }
    }

    fn note(&self, id: RuleId, rank: Option<usize>) -> Option<String> {
        let known = self.known_len();
        if rank.is_some() {
            let words = match id {
                RuleId::KohyaFro => "A share of the norm, not of the energy: 0.9 here is 0.81 of the energy.",
                RuleId::KohyaRatio | RuleId::KohyaCumulative if rank == Some(0) => {
                    "The tool itself never keeps fewer than 1."
                }
                RuleId::Mergekit => {
                    "Depends on the scale of the weights: the same number means another thing in another model."
                }
                RuleId::GavishDonoho if self.rounding_std.is_none() => {
                    "Takes the smaller half of the values for noise."
                }
                _ => return None,
            };
            return Some(words.into());
        }
        let words = match id {
            RuleId::Numerical if self.numerical_threshold() >= self.largest() => {
                let side = self.shape[0].max(self.shape[1]);
                format!("No σ exceeds {:.0} σ₁: the type is too coarse.", side as f64 * self.epsilon)
            }
            RuleId::GavishDonoho if self.low_rank => "Not for adapters: it needs noise to compare with.".into(),
            RuleId::GavishDonoho if self.is_complete() => {
                "More than half of the singular values are zero: there is no noise to measure.".into()
            }
            RuleId::GavishDonohoRounding | RuleId::RoundingEdge if self.low_rank => {
                "B·A is no difference of two rounded models.".into()
            }
            RuleId::GavishDonohoRounding | RuleId::RoundingEdge if self.rounding_std.is_none() => {
                "Needs a base and a tuned model beside it.".into()
            }
            _ => format!("Needs more than the {known} largest singular values: compute the exact spectrum."),
        };
        Some(words)
    }
}

/// One short line: it stands in a narrow column.
fn meaning(id: RuleId, value: f64, rank: usize, parameters: &Parameters) -> String {
    let directions = if rank == 1 { "1 direction".to_owned() } else { format!("{rank} directions") };
    let carry = |share: f64| {
        let verb = if rank == 1 { "carries" } else { "carry" };
        format!("{directions} {verb} {:.0} % of the energy.", share * 100.0)
    };
    let exceed = |what: &str| match rank {
        0 => format!("No direction exceeds {what}."),
        1 => format!("1 direction exceeds {what}."),
        _ => format!("{rank} directions exceed {what}."),
    };
    match id {
        RuleId::Energy90 => carry(0.90),
        RuleId::Energy95 => carry(0.95),
        RuleId::Energy99 => carry(0.99),
        RuleId::Stable => format!("{value:.2} times the energy of the strongest one."),
        RuleId::Effective => format!("Spread as widely as {value:.2} equal σ."),
        RuleId::Participation => format!("Energy as on {value:.2} equal directions."),
        RuleId::Numerical => exceed("the storage type's zero"),
        RuleId::GavishDonoho => exceed("the noise"),
        RuleId::GavishDonohoRounding => exceed("the rounding noise clearly"),
        RuleId::RoundingEdge => exceed("what rounding alone gives"),
        RuleId::KohyaRatio => exceed(&format!("1/{} of the strongest", parameters.kohya_ratio)),
        RuleId::KohyaCumulative => {
            format!("{directions} add up to {:.0} % of Σσ.", parameters.kohya_cumulative * 100.0)
        }
        RuleId::KohyaFro => carry(parameters.kohya_fro * parameters.kohya_fro),
        RuleId::Peft => carry(parameters.peft),
        RuleId::Mergekit => exceed(&format!("the absolute value {}", parameters.mergekit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(sigma: &[f64], id: RuleId) -> Option<usize> {
        rule_rank(&Spectrum::from_sigma([sigma.len(), sigma.len()], sigma.to_vec()), id)
    }

    #[test]
    fn other_tools_cuts_by_hand() {
        // Σσ = 100, Σσ² = 4 · 16² + 36² = 2320.
        let sigma = [36.0, 16.0, 16.0, 16.0, 16.0];
        assert_eq!(rank(&sigma, RuleId::KohyaRatio), Some(5), "16 > 36/20");
        assert_eq!(rank(&sigma, RuleId::KohyaCumulative), Some(5), "84 < 90");
        assert_eq!(rank(&sigma, RuleId::KohyaFro), Some(4), "0.779 < 0.81 ≤ 0.890");
        assert_eq!(rank(&sigma, RuleId::Peft), Some(5), "0.890 < 0.9");
        assert_eq!(rank(&sigma, RuleId::Energy90), Some(5));
        assert_eq!(rank(&[3.0, 0.1, 0.0], RuleId::Mergekit), Some(2));
        assert_eq!(rank(&[3.0, 0.15, 0.1], RuleId::KohyaRatio), Some(1), "0.15 is not above 3/20");
    }

    #[test]
    fn real_measures_round_up_but_not_past_themselves() {
        assert_eq!(rank(&[1.0; 6], RuleId::Effective), Some(6));
        assert_eq!(rank(&[1.0; 7], RuleId::Participation), Some(7));
        assert_eq!(rank(&[2.0, 1.0], RuleId::Stable), Some(2), "1.25");
    }

    #[test]
    fn every_rule_has_a_card_and_an_answer_or_a_reason() {
        let mut spectrum = Spectrum::from_sigma([4, 6], vec![4.0, 2.0, 1.0, 0.5]);
        for _ in 0..2 {
            let rules = spectrum.rules();
            assert_eq!(rules.len(), RuleId::ALL.len());
            for rule in rules {
                assert!(!rule.name.is_empty() && !rule.formula.is_empty() && !rule.source.is_empty());
                assert!(rule.rank.is_some() || rule.note.is_some(), "{}", rule.name);
                assert_eq!(rule.rank, rule_rank(&spectrum, rule.id));
                assert!(rule.meaning.ends_with('.'));
            }
            spectrum.low_rank = true;
        }
        assert_eq!(rule_rank(&spectrum, RuleId::GavishDonoho), None, "never on B·A");
    }

    #[test]
    fn too_coarse_a_type_has_no_numerical_rank() {
        // bfloat16 at 2048: max(m, n) · ε is 2048 · 2⁻⁸ = 8, more than any σ over σ₁.
        let mut spectrum = Spectrum::from_sigma([2048, 2048], vec![4.0, 2.0, 1.0]);
        spectrum.epsilon = 2f64.powi(-8);
        let rule = spectrum.rule(RuleId::Numerical, &Parameters::default());
        assert_eq!(rule.rank, None);
        assert!(rule.note.unwrap().contains("too coarse"));
        spectrum.epsilon = f64::from(f32::EPSILON);
        assert_eq!(spectrum.rule(RuleId::Numerical, &Parameters::default()).rank, Some(3));
    }

    #[test]
    fn a_zero_matrix_asks_for_nothing() {
        let spectrum = Spectrum::from_sigma([3, 3], vec![0.0; 3]);
        for rule in spectrum.rules() {
            assert!(matches!(rule.rank, None | Some(0)), "{}", rule.name);
        }
    }
}
