//! Ranks for the open model from the spectra that are known: the best under a budget beside one rank for all, and what
//! each rule would say.

use std::sync::Arc;

use crate::error::Result;
use crate::job::{Job, Wake};
use crate::plan::budget::{self, Offer, Ranks as Best, Target};
use crate::plan::energy::Curve;
use crate::plan::{Selection, Targets};
use crate::spectrum::{RuleId, Spectrum, rule_rank};
use crate::workspace::Workspace;

/// The rules whose answers stand side by side. mergekit's, any σ above 0, would always be the most.
pub const RULES: [RuleId; 8] = [
    RuleId::Energy90,
    RuleId::Energy99,
    RuleId::Stable,
    RuleId::Effective,
    RuleId::GavishDonoho,
    RuleId::RoundingEdge,
    RuleId::KohyaFro,
    RuleId::Peft,
];

/// One module.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its rank under the budget.
    pub best: usize,
    /// Energy that it keeps, of the module's own.
    pub energy: f64,
    /// Energy at one rank for all.
    pub uniform: f64,
    /// What [`RULES`] say.
    pub rules: [Option<usize>; 8],
}

impl Row {
    /// The least and the most that a rule asks for: the uncertainty.
    pub fn spread(&self) -> Option<(usize, usize)> {
        let known = || self.rules.iter().flatten();
        known().min().copied().zip(known().max().copied())
    }
}

/// Ranks for every module whose spectrum is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The modules.
    pub offers: Arc<Vec<Offer>>,
    /// The best ranks.
    pub best: Best,
    /// One rank for all, within the same budget.
    pub uniform: Option<(usize, Best)>,
    /// Module by module.
    pub rows: Vec<Row>,
    /// Trainable parameters that could be spent.
    pub budget: u64,
    /// Energy against parameters, for all of them.
    pub curve: Curve,
    /// Parameters of every direction above the noise that rounding leaves, each module at its own edge; `None` where some module
    /// was not rounded.
    pub edge: Option<u64>,
    /// Modules of the targets whose spectrum is not known.
    pub missing: usize,
}

/// What is kept where nobody says: a share that the spectra decide, not what the dial happens to take.
pub const USUAL: Target = Target::Energy(0.95);

type Key = (u64, usize, Targets, Option<Target>);

#[derive(Default)]
pub struct Ranks {
    pub budget: Option<Target>,
    pub choice: Option<Result<Choice>>,
    key: Option<Key>,
    job: Option<Job<Choice>>,
}

impl Ranks {
    /// True while a choice is on its way.
    pub fn is_working(&self) -> bool {
        self.job.is_some()
    }

    pub fn logic(&mut self, workspace: &Workspace, wake: &Wake) {
        if let Some(result) = self.job.as_mut().and_then(Job::take) {
            self.job = None;
            self.choice = Some(result);
        }
        let dial = workspace.dial();
        let key = (workspace.generation(), workspace.known(), dial.targets.clone(), self.budget);
        if self.job.is_some() || self.key.as_ref() == Some(&key) {
            return;
        }
        let same = self.key.as_ref().is_some_and(|known| known.0 == key.0);
        if !same {
            self.choice = None;
        }
        let Some(layout) = workspace.layout().cloned() else { return };
        let mut spectra: Vec<(String, Arc<Spectrum>)> = Vec::new();
        for weight in &layout.weights {
            if let Some(spectrum) = workspace.latest(&weight.name) {
                spectra.push((weight.name.clone(), Arc::clone(spectrum)));
            }
        }
        self.key = Some(key);
        if spectra.is_empty() {
            return;
        }
        let (targets, target) = (dial.targets.clone(), self.budget.unwrap_or(USUAL));
        self.job = Some(Job::spawn("Choosing ranks", Arc::clone(wake), move |_| {
            let selection = Selection::new(&layout, &targets)?;
            let names: Vec<&str> = selection.weights(&layout).map(|weight| weight.name.as_str()).collect();
            let chosen: Vec<&(String, Arc<Spectrum>)> =
                spectra.iter().filter(|(name, _)| names.contains(&name.as_str())).collect();
            choose(&chosen, names.len() - chosen.len(), target)
        }));
    }
}

fn choose(spectra: &[&(String, Arc<Spectrum>)], missing: usize, target: Target) -> Result<Choice> {
    let offers: Vec<Offer> = spectra.iter().map(|(name, spectrum)| Offer::of(name, spectrum)).collect();
    let best = target.ranks(&offers)?;
    let budget = if let Target::Parameters(budget) = target { budget } else { best.trainable };
    let uniform = budget::uniform(&offers, budget);
    let share =
        |offer: &Offer, r: usize| if offer.energy > 0.0 { (offer.kept(r) / offer.energy).min(1.0) } else { 1.0 };
    let rows = offers.iter().zip(spectra).enumerate().map(|(at, (offer, (_, spectrum)))| Row {
        best: best.r[at],
        energy: share(offer, best.r[at]),
        uniform: share(offer, uniform.as_ref().map_or(0, |(_, all)| all.r[at])),
        rules: RULES.map(|rule| rule_rank(spectrum, rule)),
    });
    let rows = rows.collect();
    let above = |(offer, (_, spectrum)): (&Offer, &&(String, Arc<Spectrum>))| {
        Some(offer.cost() * rule_rank(spectrum, RuleId::RoundingEdge)? as u64)
    };
    let edge = offers.iter().zip(spectra).map(above).sum();
    let most = offers.iter().map(Offer::max_rank).max().unwrap_or(1);
    let curve = Curve::of(&offers, most)?;
    Ok(Choice { offers: Arc::new(offers), best, uniform, rows, budget, curve, edge, missing })
}
