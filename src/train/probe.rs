//! Before any training: the gradient of the frozen model on a few batches of a person's own data, module by module, its
//! spectrum, and the ranks that it suggests.
//!
//! The first steps of LoRA move along the top singular directions of this gradient (LoRA-GA, arXiv 2407.05000): a module
//! whose gradient lies in a few directions needs few, and one with little gradient matters little. It says nothing of how
//! the gradient turns later.

use super::data::{Padded, Rows};
use super::{Method, Settings, data};
use crate::checkpoint::Checkpoint;
use crate::delta::{DeltaWeight, Dense};
use crate::error::{Error, Result};
use crate::model::{Batch, Decoder, Engine, Frozen, Linear, Processor};
use crate::plan::budget::{self, Offer};
use crate::plan::{Layout, Selection, Targets};
use crate::progress::{Part, Progress};
use crate::spectrum::{self, Options, Spectrum};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The gradient of one module.
#[derive(Clone, Debug)]
pub struct Found {
    /// The module.
    pub name: String,
    /// Of its gradient.
    pub spectrum: Spectrum,
    /// Its share of the energy of all gradients.
    pub share: f64,
    /// The rank that a budget gives it; 0 for a module better left alone.
    pub suggested: usize,
}

/// What a probe found.
#[derive(Clone, Debug)]
pub struct Probed {
    /// Module by module, in the order of the model.
    pub modules: Vec<Found>,
    /// Mean loss of the frozen model on these batches.
    pub loss: f64,
    /// Share of the predicted tokens that it gives more than half of the probability to.
    pub sure: f64,
    /// Predicted tokens.
    pub tokens: usize,
    /// Trainable parameters of the suggested ranks.
    pub trainable: u64,
    /// Sentences about the data.
    pub notes: Vec<String>,
}

/// Probes `settings.model` with the first `batches` micro-batches of `settings.data`, in the order that a run would see
/// them. Ranks are suggested for `budget` trainable parameters, by default those of `settings.rank` everywhere.
///
/// # Errors
/// Settings, a model or data that cannot be used, targets that match nothing, a budget too small; and cancellation.
pub fn probe(settings: &Settings, batches: usize, budget: Option<u64>, progress: &dyn Progress) -> Result<Probed> {
    probe_with(settings, batches, budget, &Options::default(), progress)
}

/// The same, with spectra as `options` want them.
///
/// # Errors
/// As [`probe`].
pub fn probe_with(
    settings: &Settings,
    batches: usize,
    budget: Option<u64>,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Probed> {
    settings.check()?;
    if batches == 0 {
        return Err(Error::usage("batches 0; expected 1 or more"));
    }
    let checkpoint = Checkpoint::open(&settings.model)?;
    let layout = Layout::of(&checkpoint)?;
    let targets: Targets = settings.targets.parse()?;
    let selection = Selection::new(&layout, &targets)?;
    let budget = match budget {
        Some(budget) => budget,
        None => selection.count(settings.rank)?.trainable,
    };
    let data::Data { rows, notes, .. } =
        data::read_with(&settings.data, &checkpoint, settings.seq, &settings.data_options(), progress)?;
    let frozen = match (settings.method, settings.scheme()) {
        (Method::Qlora, Some(scheme)) => Frozen::FourBit(scheme),
        _ => Frozen::AsStored,
    };
    let mut decoder = Decoder::load(&checkpoint, frozen, &Part::new(progress, 0, 10))?;
    let names: Vec<String> = selection.weights(&layout).map(|weight| weight.name.clone()).collect();
    let wanted: HashSet<&str> = names.iter().map(String::as_str).collect();
    let watched = decoder.watch(|name| wanted.contains(name));
    if watched < names.len() {
        let parts = |linear: &'_ Linear| linear.parts.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let inside: Vec<String> =
            decoder.linears().flat_map(|linear| parts(linear).into_iter().chain([linear.module.clone()])).collect();
        let other = names.iter().find(|name| !inside.contains(name)).cloned().unwrap_or_default();
        return Err(Error::usage(format!(
            "target {other} is no linear layer of a block; embeddings and heads are not probed here"
        )));
    }
    let padded = micro_batches(&rows, settings, batches);
    let tokens: usize = padded.iter().map(|padded| padded.batch().predictions()).sum();
    if tokens == 0 {
        return Err(Error::file(&settings.data, "the first batches predict nothing; expected rows with labels"));
    }
    let all: Vec<Batch> = padded.iter().map(Padded::batch).collect();
    let mut spectra: Vec<(String, Spectrum)> = Vec::with_capacity(names.len());
    let rest = Rest { whole: progress, last: Mutex::new((1, 10)) };
    let engine = Processor::default();
    let loss = engine.weight_gradients(&decoder, &all, 1.0 / tokens as f32, &rest, &mut |module, gradient| {
        let dense = Dense { matrix: Arc::new(gradient), epsilon: f64::from(f32::EPSILON), rounding_std: None };
        let found = spectrum::spectrum(&DeltaWeight::Dense(dense), options, &Still(&rest));
        spectra.push((module.to_owned(), found.map_err(|error| about(module, error))?));
        Ok(())
    })?;
    let mut modules = Vec::with_capacity(spectra.len());
    for name in &names {
        let at = spectra.iter().position(|(found, _)| found == name);
        let at = at.ok_or_else(|| Error::failure(format!("the gradient of {name} was lost")))?;
        modules.push(spectra.swap_remove(at));
    }
    let offers: Vec<Offer> = modules.iter().map(|(name, spectrum)| Offer::of(name, spectrum)).collect();
    let ranks = budget::allocate(&offers, budget)?;
    let energy: f64 = offers.iter().map(|offer| offer.energy).sum();
    let found = modules.into_iter().zip(&offers).zip(&ranks.r).map(|(((name, spectrum), offer), &suggested)| Found {
        name,
        spectrum,
        share: if energy > 0.0 { offer.energy / energy } else { 0.0 },
        suggested,
    });
    Ok(Probed {
        modules: found.collect(),
        loss: loss.mean(),
        sure: loss.sure(),
        tokens,
        trainable: ranks.trainable,
        notes,
    })
}

fn about(module: &str, error: Error) -> Error {
    if error.is_cancelled() { error } else { Error::failure(format!("the gradient of {module}: {error}")) }
}

/// The first micro-batches of a run.
fn micro_batches(rows: &Rows, settings: &Settings, batches: usize) -> Vec<Padded> {
    // No row twice: the gradient of the data set has no more to say.
    let count = (batches * settings.batch).min(rows.rows.len());
    let rows = rows.at(0, count, settings.shuffle.then_some(settings.seed));
    rows.chunks(settings.batch).map(Rows::pad).collect()
}

/// After the model is loaded: nine tenths of the work.
struct Rest<'a> {
    whole: &'a dyn Progress,
    last: Mutex<(u64, u64)>,
}

impl Progress for Rest<'_> {
    fn step(&self, done: u64, total: u64) -> Result<()> {
        let total = total.max(1);
        let now = (total.saturating_add(done.min(total).saturating_mul(9)), total.saturating_mul(10));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = now;
        self.whole.step(now.0, now.1)
    }

    fn check(&self) -> Result<()> {
        self.whole.check()
    }
}

/// Inside a decomposition the count stands, and a cancellation is seen.
struct Still<'a>(&'a Rest<'a>);

impl Progress for Still<'_> {
    fn step(&self, _done: u64, _total: u64) -> Result<()> {
        let (done, total) = *self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.whole.step(done, total)
    }

    fn check(&self) -> Result<()> {
        self.0.whole.check()
    }
}
