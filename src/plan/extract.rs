//! An adapter from what changed: the best of some rank of every module's ΔW, written as PEFT reads it.
//!
//! ```text
//! ΔW = U S Vᵀ    B = U_k √S_k    A = √S_k V_kᵀ    α = r, so that s = α/r = 1
//! ```
//!
//! From a tuned model that is extraction, from an adapter resizing. One ΔW is in memory at a time, and one pair (of a parameter
//! that has the experts of a block one of each).

use super::budget::{self, Offer, Ranks};
use super::left_out::{left_out, refused};
use super::stacks::{self, Spectra, Stack};
use crate::adapter::{Adapter, NewAdapter, NewLayer, Pair, PeftConfig, Scaling, TargetModules, stacked};
use crate::checkpoint::{Dtype, Role, expert_of};
use crate::delta::{DeltaSet, DeltaWeight, LowRank};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::{Part, Progress};
use crate::spectrum::{self, Method, Options};
use crate::units::exact;
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// How many directions of every module are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cut {
    /// As many, or all that a smaller module has.
    Rank(usize),
    /// The fewest that hold this share of a module's energy.
    Energy(f64),
    /// The best for so many parameters in all: see [`budget`].
    Budget(u64),
    /// Those whose σ is at least this, in whatever module: one threshold over all of them (PARA, arXiv 2604.27796).
    Threshold(f64),
}

impl Cut {
    /// # Errors
    /// Bad input for a rank of 0 or a share that is none.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Rank(0) => Err(Error::usage("rank 0 keeps nothing; expected 1 or more")),
            Self::Energy(share) if !(share > 0.0 && share <= 1.0) => {
                Err(Error::usage(format!("energy {share}; expected a share above 0 and up to 1, such as 0.9")))
            }
            Self::Threshold(sigma) if !(sigma > 0.0 && sigma.is_finite()) => {
                Err(Error::usage(format!("threshold {sigma}; expected a σ above 0, such as 0.05")))
            }
            _ => Ok(()),
        }
    }
}

/// Where ΔW comes from.
#[derive(Clone, Copy, Debug)]
pub enum Changed<'a> {
    /// Two models, or an adapter on its base.
    Models(&'a DeltaSet),
    /// An adapter, without its base.
    Adapter(&'a Adapter),
}

/// A module that can be taken.
#[derive(Clone, Debug, Default, PartialEq)]
struct Item {
    name: String,
    shape: [usize; 2],
    embedding: bool,
    kernel: Vec<usize>,
    bias: bool,
    magnitude: bool,
    /// Of a parameter that has the experts of a block.
    stack: Option<Stack>,
}

/// What is taken, and sentences about what is not.
#[derive(Default)]
struct Items {
    list: Vec<Item>,
    notes: Vec<String>,
}

/// What was kept of a module.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// `[out, in]`.
    pub shape: [usize; 2],
    /// Rank.
    pub r: usize,
    /// Share of its energy, from the residual: `1 − ‖ΔW − BA‖² / ‖ΔW‖²`.
    pub energy: f64,
    /// `‖ΔW − BA‖_F`.
    pub residual: f64,
    /// `‖ΔW‖_F²`.
    pub total: f64,
}

/// An adapter that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Extracted {
    /// Its modules.
    pub modules: Vec<Kept>,
    /// `Σ r (d_in + d_out)`.
    pub trainable: u64,
    /// What a person should know: what is not in it.
    pub notes: Vec<String>,
}

impl<'a> Changed<'a> {
    /// The modules that are taken: the linear layers of the blocks, or those that are named.
    fn items(&self, names: Option<&[String]>) -> Result<Items> {
        let wanted = |name: &str| names.is_none_or(|names| names.iter().any(|known| known == name));
        let mut items = Items::default();
        match self {
            Self::Models(set) => {
                set.check_adapter()?;
                let mut experts = HashSet::new();
                for entry in set.entries() {
                    if !(if names.is_some() { wanted(&entry.name) } else { entry.linear || entry.misfit }) {
                        continue;
                    }
                    match &entry.problem {
                        // What does not fit is named, and the rest is taken; who asks for it by name is told.
                        Some(problem) if entry.misfit && names.is_none() => {
                            items.notes.push(format!("left out: {}: {problem}", entry.name));
                        }
                        Some(problem) => return Err(Error::tensor(set.base().path(), &entry.name, problem)),
                        None if is_expert(&entry.name) => {
                            experts.insert(entry.name.clone());
                        }
                        None => items.list.push(Item {
                            name: entry.name.clone(),
                            shape: entry.shape,
                            embedding: entry.role == Role::Embedding,
                            ..Item::default()
                        }),
                    }
                }
                // PEFT's parameters are no linear layers: who names them gets them.
                let spec = names.and_then(|_| set.base().spec().ok());
                for (name, shape, stack) in spec.map(|spec| stacks::of(spec)).unwrap_or_default() {
                    if stack.each.iter().flatten().all(|name| experts.contains(name)) {
                        stack.each.iter().flatten().for_each(|name| {
                            experts.remove(name);
                        });
                        items.list.push(Item { name, shape, stack: Some(stack), ..Item::default() });
                    }
                }
                if !experts.is_empty() {
                    let why = match names {
                        None => {
                            "those of a block are one parameter to PEFT, not linear layers; targets that name them, such as /.*experts.*/, take them"
                        }
                        Some(_) => {
                            "PEFT knows the experts of a block as one parameter and loads no pair for some of them"
                        }
                    };
                    items.notes.push(format!("{} matrices of experts are left out: {why}", experts.len()));
                }
            }
            Self::Adapter(adapter) => {
                if let Some(why) = adapter.unresizable() {
                    return Err(Error::file(adapter.path(), why));
                }
                for layer in adapter.layers.iter().filter(|layer| layer.experts.is_none() && wanted(&layer.module)) {
                    items.list.push(Item {
                        name: layer.module.clone(),
                        shape: layer.shape,
                        embedding: layer.embedding,
                        kernel: layer.kernel.clone(),
                        bias: adapter.bias(layer)?.is_some(),
                        magnitude: layer.dora,
                        stack: None,
                    });
                }
                let kept: Vec<u64> = adapter.layers.iter().filter_map(stacks::parameters).collect();
                if !kept.is_empty() {
                    items.notes.push(format!(
                        "the pairs of {} stacks of experts are kept as they are: {} parameters, which a budget counts and the sum here does not",
                        kept.len(),
                        exact(kept.iter().sum())
                    ));
                }
            }
        }
        if items.list.is_empty() {
            let notes: String = items.notes.iter().map(|note| format!("; {note}")).collect();
            let message = format!("no module of these has a ΔW: there is nothing to make an adapter of{notes}");
            return Err(Error::usage(message));
        }
        Ok(items)
    }

    /// The modules with a ΔW that can be computed.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Models(set) => {
                let entries = set.entries().iter().filter(|entry| entry.problem.is_none());
                entries.map(|entry| entry.name.clone()).collect()
            }
            Self::Adapter(adapter) => {
                let pairs = adapter.layers.iter().filter(|layer| layer.experts.is_none());
                pairs.map(|layer| layer.module.clone()).collect()
            }
        }
    }

    /// The ΔW of a module; of an adapter without its base `s · B A`, which of DoRA is not all of it.
    ///
    /// # Errors
    /// When there is no such module, or its weights cannot be read; cancellation.
    pub fn load(&self, name: &str, progress: &dyn Progress) -> Result<DeltaWeight> {
        let missing = || Error::usage(format!("{name}: there is no such module"));
        match self {
            Self::Models(set) => set.load(set.entry(name).ok_or_else(missing)?, progress),
            Self::Adapter(adapter) => {
                let layer = adapter.layer(name).ok_or_else(missing)?;
                let (b, a) = adapter.factors(layer)?;
                let epsilon = layer.dtype.epsilon().unwrap_or(f64::from(f32::EPSILON));
                Ok(DeltaWeight::LowRank(LowRank { b, a, scaling: layer.scaling, epsilon }))
            }
        }
    }

    /// The ΔWs of an item: one, or each expert's.
    fn deltas<'b>(
        &'b self,
        item: &'b Item,
        progress: &'b dyn Progress,
    ) -> Box<dyn Iterator<Item = Result<DeltaWeight>> + 'b> {
        let Some(stack) = &item.stack else { return Box::new(std::iter::once(self.load(&item.name, progress))) };
        Box::new(stack.each.iter().map(move |names| {
            let parts = names.iter().map(|name| self.load(name, progress));
            stacks::joined(parts.collect::<Result<_>>()?, progress)
        }))
    }

    fn is_unchanged(&self, item: &Item) -> Result<bool> {
        let Some(stack) = &item.stack else { return self.is_same(&item.name) };
        for name in stack.each.iter().flatten() {
            if !self.is_same(name)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_same(&self, name: &str) -> Result<bool> {
        match self {
            Self::Models(set) => match set.entry(name) {
                Some(entry) => set.is_unchanged(entry, &()),
                None => Err(Error::usage(format!("{name}: there is no such module"))),
            },
            Self::Adapter(_) => match self.load(name, &())? {
                DeltaWeight::LowRank(low) => {
                    Ok([&low.b, &low.a].iter().any(|factor| factor.data().iter().all(|&x| x == 0.0)))
                }
                DeltaWeight::Dense(_) => Ok(false),
            },
        }
    }

    /// The spectra of some modules, one after the other.
    fn offers(&self, items: &[Item], method: Method, progress: &dyn Progress) -> Result<Vec<Spectra>> {
        let options = Options { method, ..Options::default() };
        let mut offers = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let part = Part::new(progress, at as u64, items.len() as u64);
            let count = item.stack.as_ref().map_or(1, |stack| stack.each.len());
            let mut each = Vec::with_capacity(count);
            for (number, delta) in self.deltas(item, &()).enumerate() {
                let part = Part::new(&part, number as u64, count as u64);
                each.push(Offer::of(&item.name, &spectrum::spectrum(&delta?, &options, &part)?));
            }
            offers.push(Spectra::new(&item.name, each, item.stack.is_some()));
        }
        Ok(offers)
    }

    /// The ranks that `cut` asks for. A spectrum that turns out too short is computed whole.
    fn ranks(&self, items: &[Item], cut: Cut, progress: &dyn Progress) -> Result<Vec<usize>> {
        if let Cut::Rank(r) = cut {
            let mut ranks = Vec::with_capacity(items.len());
            for (at, item) in items.iter().enumerate() {
                progress.step(at as u64, items.len() as u64)?;
                // A module that did not change gets no pair.
                let is_zero = self.is_unchanged(item)?;
                let most = match self {
                    Self::Adapter(adapter) => adapter.layer(&item.name).map_or(0, |layer| layer.r),
                    Self::Models(_) => usize::MAX,
                };
                ranks.push(if is_zero { 0 } else { r.min(most).min(item.shape[0]).min(item.shape[1]) });
            }
            return Ok(ranks);
        }
        // Stacks of experts are kept and are a part of the budget.
        let cut = match (cut, self) {
            (Cut::Budget(budget), Self::Adapter(adapter)) => Cut::Budget(stacks::left_of(adapter, budget)?),
            _ => cut,
        };
        let mut offers = self.offers(items, Method::Auto, &Part::new(progress, 0, 2))?;
        loop {
            let together = || offers.iter().map(|spectra| spectra.offer.clone()).collect::<Vec<_>>();
            // Of experts, which have one rank, each has all that reaches the threshold.
            let most = |spectra: &Spectra, least: f64| spectra.each.iter().map(|offer| above(offer, least)).max();
            let ranks = match cut {
                Cut::Budget(budget) => budget::allocate(&together(), budget)?.r,
                Cut::Energy(share) => offers.iter().map(|spectra| smallest(&spectra.offer, share)).collect(),
                Cut::Threshold(least) => offers.iter().map(|spectra| most(spectra, least).unwrap_or(0)).collect(),
                Cut::Rank(_) => return Err(Error::failure("a rank needs no spectrum")),
            };
            let is_short = |spectra: &Spectra, r: usize| match cut {
                Cut::Threshold(_) => spectra.each.iter().any(|offer| is_short(offer, r)),
                _ => is_short(&spectra.offer, r),
            };
            let short: Vec<usize> = (0..items.len()).filter(|&at| is_short(&offers[at], ranks[at])).collect();
            if short.is_empty() {
                return Ok(ranks);
            }
            for (done, &at) in short.iter().enumerate() {
                let part = Part::new(progress, (short.len() + done) as u64, 2 * short.len() as u64);
                offers[at] = self.offers(&items[at..=at], Method::Exact, &part)?.swap_remove(0);
            }
        }
    }

    /// Name of the base, for the config.
    fn base(&self) -> Option<String> {
        match self {
            Self::Models(set) => {
                let path = set.base().path();
                let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
                Some(path.to_string_lossy().into_owned())
            }
            Self::Adapter(adapter) => adapter.config.base_model_name_or_path.clone(),
        }
    }

    fn new_adapter(&self, layers: Vec<NewLayer>) -> NewAdapter {
        match self {
            Self::Models(set) => {
                let modules = set.base().modules();
                let config = PeftConfig {
                    base_model_name_or_path: self.base(),
                    task_type: set.base().architecture().and_then(task_type).map(str::to_owned),
                    fan_in_fan_out: modules.iter().any(|module| module.is_transposed()),
                    inference_mode: true,
                    ..PeftConfig::default()
                };
                NewAdapter::of(set.base(), layers, config)
            }
            // All that is known of the base are the adapter's own layers; what its config says beyond ranks stays.
            Self::Adapter(adapter) => {
                let whole = adapter
                    .layers
                    .iter()
                    .all(|layer| layer.experts.is_some() || layers.iter().any(|kept| kept.module == layer.module));
                let target_modules = if whole { adapter.config.target_modules.clone() } else { TargetModules::Unsaid };
                let config = PeftConfig {
                    scaling: Scaling::Rank,
                    init_lora_weights: None,
                    inference_mode: true,
                    block_diagonal: None,
                    target_modules,
                    ..adapter.config.clone()
                };
                let modules = adapter.layers.iter().map(|layer| layer.module.clone()).collect();
                let mut new =
                    NewAdapter { layers, modules, config, names: adapter.peft_names(), ..NewAdapter::default() };
                new.carry(adapter);
                new
            }
        }
    }

    /// What goes beside a pair whose scaling is 1: the bias of B, magnitudes.
    #[expect(clippy::type_complexity, reason = "two vectors that may not be there")]
    fn beside(&self, name: &str) -> Result<(Option<Vec<f32>>, Option<Vec<f32>>)> {
        let Self::Adapter(adapter) = self else { return Ok((None, None)) };
        let Some(layer) = adapter.layer(name) else { return Ok((None, None)) };
        let scaling = layer.scaling as f32;
        let bias = adapter.bias(layer)?.map(|bias| bias.into_iter().map(|x| scaling * x).collect());
        Ok((bias, adapter.magnitude(layer)?))
    }
}

/// Whether a module is the matrix of one expert: `…experts.3.up_proj`.
fn is_expert(name: &str) -> bool {
    expert_of(name).is_some() || name.ends_with(']')
}

/// The task that PEFT loads such a model for, by its class; none where there is no word for it.
fn task_type(architecture: &str) -> Option<&'static str> {
    const TASKS: [(&str, &str); 8] = [
        ("ForCausalLM", "CAUSAL_LM"),
        ("LMHeadModel", "CAUSAL_LM"),
        ("ForSequenceClassification", "SEQ_CLS"),
        ("ForTokenClassification", "TOKEN_CLS"),
        ("ForQuestionAnswering", "QUESTION_ANS"),
        ("T5ForConditionalGeneration", "SEQ_2_SEQ_LM"),
        ("BartForConditionalGeneration", "SEQ_2_SEQ_LM"),
        ("M2M100ForConditionalGeneration", "SEQ_2_SEQ_LM"),
    ];
    TASKS.iter().find(|(end, _)| architecture.ends_with(end)).map(|(_, task)| *task)
}

/// The least rank that holds this share; all that are known where they do not.
fn smallest(offer: &Offer, share: f64) -> usize {
    let target = share * offer.energy;
    let mut sum = 0.0;
    for (at, s) in offer.sigma.iter().enumerate() {
        if offer.energy == 0.0 || sum >= target {
            return at;
        }
        sum += s * s;
    }
    // A share of 1 that rounding keeps out of reach is all there is: values that are zero hold nothing.
    offer.sigma.iter().take_while(|&&s| s > 0.0).count()
}

/// How many directions have a σ of at least this.
fn above(offer: &Offer, least: f64) -> usize {
    offer.sigma.iter().take_while(|&&sigma| sigma >= least).count()
}

/// True where the list of singular values ends before it was enough.
fn is_short(offer: &Offer, r: usize) -> bool {
    r == offer.sigma.len() && r < offer.max_rank() && offer.kept(r) < offer.energy * (1.0 - 1e-12) && offer.energy > 0.0
}

/// Ranks for a plan, without writing anything: the modules, their spectra as far as needed, and the best ranks.
///
/// # Errors
/// As [`extract`].
pub fn plan(
    changed: Changed,
    names: Option<&[String]>,
    cut: Cut,
    progress: &dyn Progress,
) -> Result<(Vec<Offer>, Ranks)> {
    cut.check()?;
    let items = changed.items(names)?.list;
    let r = changed.ranks(&items, cut, &Part::new(progress, 0, 2))?;
    let offers = changed.offers(&items, Method::Auto, &Part::new(progress, 1, 2))?;
    let offers: Vec<Offer> = offers.into_iter().map(|spectra| spectra.offer).collect();
    let ranks = Ranks::of(&offers, r);
    Ok((offers, ranks))
}

/// Writes the adapter that `cut` leaves of `changed` into `out`: `names` are the modules, all linear layers of the blocks
/// by default (of an adapter all its layers).
///
/// # Errors
/// Modules that do not fit together, NaN and Inf, a budget too small, nothing that changed, a file that cannot be
/// written; and cancellation. Nothing is left behind then.
pub fn extract(
    changed: Changed,
    names: Option<&[String]>,
    cut: Cut,
    dtype: Dtype,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Extracted> {
    cut.check()?;
    let Items { list: items, mut notes } = changed.items(names)?;
    let ranks = changed.ranks(&items, cut, &Part::new(progress, 0, 2))?;
    let taken: Vec<(&Item, usize)> = items.iter().zip(ranks).filter(|(_, r)| *r > 0).collect();
    if taken.is_empty() {
        let outside = match changed {
            Changed::Models(set) => left_out(set, &[])?,
            Changed::Adapter(_) => Vec::new(),
        };
        let message = match outside.first() {
            Some(outside) => format!("no linear layer has changed; {outside}; name what is to be taken as targets"),
            None => "nothing has changed: every ΔW is zero, there is nothing to make an adapter of".to_owned(),
        };
        return Err(Error::usage(message));
    }
    if let Cut::Rank(r) = cut {
        notes.extend(clipped(r, &taken));
    }
    let layer = |&(item, r): &(&Item, usize)| NewLayer {
        module: item.name.clone(),
        shape: item.in_file(),
        r,
        lora_alpha: r as f64,
        embedding: item.embedding,
        kernel: item.kernel.clone(),
        bias: item.bias,
        magnitude: item.magnitude,
        experts: item.stack.as_ref().map(|stack| stack.each.len()),
    };
    let adapter = changed.new_adapter(taken.iter().map(layer).collect());
    let kept: Mutex<Vec<Option<Kept>>> = Mutex::new(vec![None; taken.len()]);
    let half = Part::new(progress, 1, 2);
    adapter.write(out, dtype, &|at| {
        let (item, r) = taken[at];
        let done = kept.lock().unwrap_or_else(PoisonError::into_inner).iter().flatten().count();
        let part = Part::new(&half, done.min(taken.len() - 1) as u64, taken.len() as u64);
        let (pair, found) = changed.pair(item, r, &part)?;
        kept.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(found);
        let (bias, magnitude) = changed.beside(&item.name)?;
        Ok(Pair { bias, magnitude, ..pair.into() })
    })?;
    progress.step(1, 1)?;
    let modules: Vec<Kept> = kept.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect();
    notes.extend(match changed {
        // Whoever names modules knows what is left out.
        Changed::Models(set) if names.is_none() => left_out(set, &modules)?,
        Changed::Models(_) => Vec::new(),
        Changed::Adapter(adapter) => adapter.notes(),
    });
    if let Changed::Models(set) = changed {
        notes.extend(refused(set, &modules));
    }
    let unchanged = items.len() - modules.len();
    if unchanged > 0 {
        notes.push(match cut {
            Cut::Budget(_) => format!("{unchanged} modules get no rank: others are worth more"),
            _ => format!("{unchanged} modules have not changed and get no pair"),
        });
    }
    Ok(Extracted { trainable: adapter.trainable(), modules, notes })
}

/// The sentence about a rank that some modules are too small for.
fn clipped(r: usize, taken: &[(&Item, usize)]) -> Option<String> {
    let small = || taken.iter().filter(|(item, _)| item.shape[0].min(item.shape[1]) < r);
    let (first, kept) = small().next()?;
    let more = small().count() - 1;
    let more = if more > 0 { format!(" and {more} others") } else { String::new() };
    Some(format!("rank {r} is above the smaller side of {}{more}: they have all there is, {kept} here", first.name))
}

/// B and A of one ΔW of `[out, in]`, the residual and `‖ΔW‖_F²`.
fn factors(
    delta: &DeltaWeight,
    [out, inner]: [usize; 2],
    r: usize,
    progress: &dyn Progress,
) -> Result<((Matrix, Matrix), f64, f64)> {
    let (sigma, vectors) = spectrum::leading(delta, r, &Part::new(progress, 0, 2))?;
    let residual = spectrum::residual(delta, &sigma, &vectors, &Part::new(progress, 1, 2))?;
    let energy = match delta {
        DeltaWeight::Dense(dense) => dense.matrix.frobenius().powi(2),
        DeltaWeight::LowRank(_) => sigma.iter().map(|s| s * s).sum::<f64>() + residual * residual,
    };
    let known = vectors.count();
    let root = |k: usize| sigma.get(k).map_or(0.0, |s| s.max(0.0).sqrt());
    // What has no direction is zero: a ΔW of lower rank than was asked for.
    let b =
        Matrix::from_fn(out, r, |i, k| if k < known { (f64::from(vectors.u.get(i, k)) * root(k)) as f32 } else { 0.0 });
    let a = Matrix::from_fn(
        r,
        inner,
        |k, j| if k < known { (f64::from(vectors.v.get(j, k)) * root(k)) as f32 } else { 0.0 },
    );
    Ok(((b, a), residual, energy))
}

impl Item {
    /// The shape that PEFT takes it for.
    fn in_file(&self) -> [usize; 2] {
        let [out, inner] = self.shape;
        if self.stack.as_ref().is_some_and(|stack| stack.swapped) { [inner, out] } else { self.shape }
    }
}

impl Changed<'_> {
    /// B and A of an item, and what they keep.
    fn pair(&self, item: &Item, r: usize, progress: &dyn Progress) -> Result<((Matrix, Matrix), Kept)> {
        let count = item.stack.as_ref().map_or(1, |stack| stack.each.len());
        let (mut pairs, mut residual, mut total) = (Vec::with_capacity(count), 0.0, 0.0);
        for (number, delta) in self.deltas(item, &()).enumerate() {
            let part = Part::new(progress, number as u64, count as u64);
            let (pair, left, energy) = factors(&delta?, item.shape, r, &part)?;
            pairs.push(pair);
            (residual, total) = (residual + left * left, total + energy);
        }
        let energy = if total > 0.0 { (1.0 - residual / total).max(0.0) } else { 1.0 };
        let kept = Kept { name: item.name.clone(), shape: item.shape, r, energy, residual: residual.sqrt(), total };
        let pair = match &item.stack {
            Some(stack) if stack.swapped => {
                let turned: Vec<_> = pairs.iter().map(|(b, a)| (a.transposed(), b.transposed())).collect();
                stacked(&turned)
            }
            Some(_) => stacked(&pairs),
            None => pairs.swap_remove(0),
        };
        Ok((pair, kept))
    }
}
