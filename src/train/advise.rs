//! [`advise()`]: gathers what a choice of rank rests on, and has it judged by [`plan::advise`](crate::plan::advise).
//!
//! ```text
//! model ─ Layout ────────────┐
//! data ── tokens, gradients ─┤
//! sibling ─ spectra of ΔW ───┼─► Facts ─► plan::advise ─► Advice
//! runs on the same data ─────┤
//! room on the device ────────┘
//! ```

use super::history::{self, Past};
use super::probe::{Found, probe_with};
use super::{Method, Settings, list, memory, pace, run};
use crate::checkpoint::{Checkpoint, Kind};
use crate::delta::{DeltaSet, Source};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::gpu::Kind as Dtype;
use crate::plan::advise::rate::Course;
use crate::plan::advise::{self, Advice, Answers, DataFacts, Facts, Forgetting, Grid, Pull, Room, Sibling, Tried};
use crate::plan::budget::Offer;
use crate::plan::energy::Curve;
use crate::plan::memory::{CONTEXT, Load, Place};
use crate::plan::{Layout, Selection, Targets};
use crate::progress::{Part, Progress};
use crate::spectrum::{self, Options, RuleId, Spectrum, rule_rank};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What advice is asked about.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The run that is to be chosen for: model, data, method, batch, sequence, length.
    pub settings: Settings,
    /// A tuned model or an adapter of the same base.
    pub sibling: Option<SiblingFrom>,
    /// The memory that it has to fit; what is free here where none is given.
    pub room: Option<Room>,
    /// Folders in which runs lie: those on the same model and data are taken into account.
    pub runs: Vec<PathBuf>,
    /// Micro-batches whose gradients are looked at; 0 for none.
    pub batches: usize,
}

/// Where what was tuned before comes from.
#[derive(Clone, Debug)]
pub enum SiblingFrom {
    /// A folder or file: its spectra are computed.
    Path(PathBuf),
    /// Spectra that are known.
    Spectra {
        /// Its name.
        name: String,
        /// The largest rank of an adapter; `None` for a tuned model.
        adapter: Option<usize>,
        /// By module.
        known: Vec<(String, Arc<Spectrum>)>,
    },
}

/// Gradients of matrices larger than this are not decomposed: their largest directions alone are looked at.
const WHOLE: usize = 1024;
/// Directions of a larger gradient that are looked at.
const DIRECTIONS: usize = 8;

/// Answers it, with what it rests on.
///
/// # Errors
/// A model, data or sibling that cannot be used; and cancellation.
pub fn advise(question: &Question, progress: &dyn Progress) -> Result<(Facts, Advice)> {
    let facts = gather(question, progress)?;
    let advice = advise::advise(&facts)?;
    Ok((facts, advice))
}

/// What is known.
///
/// # Errors
/// As [`advise()`].
pub fn gather(question: &Question, progress: &dyn Progress) -> Result<Facts> {
    let settings = &question.settings;
    settings.check()?;
    let checkpoint = Checkpoint::open(&settings.model)?;
    let layout = Arc::new(Layout::of(&checkpoint)?);
    let targets: Targets = settings.targets.parse()?;
    let selection = Selection::new(&layout, &targets)?;
    progress.stage("reading the data");
    let has_data = !settings.data.as_os_str().is_empty();
    let (mut data, mut longest, mut row_tokens) = (None, settings.seq, 0.0);
    if has_data {
        let (read, _) = run::read(settings, &checkpoint, &Part::new(progress, 0, 10))?;
        let rows = &read.rows.rows;
        let tokens: u64 = rows.iter().map(|row| row.ids.len() as u64).sum();
        let predicted = rows.iter().map(|row| row.predictions() as u64).sum();
        longest = rows.iter().map(|row| row.ids.len()).max().unwrap_or(settings.seq);
        row_tokens = tokens as f64 / rows.len().max(1) as f64;
        data = Some(DataFacts { rows: rows.len() as u64, tokens, predicted, answers: None });
    }
    let mut load = memory::load(settings, longest);
    if question.room.is_some() {
        // A size that somebody names is that of a card.
        load = Load { process: CONTEXT, place: Place::Gpu(Dtype::Bf16.into()), ..load };
    }
    let gradients = if has_data && question.batches > 0 && layout.spec.is_some() {
        progress.stage("looking at the gradients of your data");
        let (pulls, answers) = pulls(question, &selection, &layout, &Part::new(progress, 1, 10))?;
        data = data.map(|data| DataFacts { answers: Some(answers), ..data });
        pulls
    } else {
        Vec::new()
    };
    let sibling = match &question.sibling {
        Some(SiblingFrom::Path(path)) => {
            progress.stage("comparing with what was tuned before");
            Some(compare(&settings.model, path, &selection, &layout, &Part::rest(progress, 2, 10))?)
        }
        Some(SiblingFrom::Spectra { name, adapter, known }) => Some(summary(name.clone(), *adapter, known)?),
        None => None,
    };
    let past: Vec<Past> = list::list(&question.runs).into_iter().filter(|past| is_alike(past, settings)).collect();
    let seconds_of_run = seconds(settings, &checkpoint, row_tokens, &past);
    progress.step(1, 1)?;
    Ok(Facts {
        selection,
        targets: settings.targets.clone(),
        method: settings.method,
        load,
        course: data.as_ref().map(|data| course(settings, data)),
        data,
        room: question.room.clone().or_else(here),
        gradients,
        sibling,
        grid: Grid { tried: past.iter().filter_map(tried).collect() },
        forgetting: past.iter().filter_map(forgotten).collect(),
        seconds_of_run,
        layout,
    })
}

/// Answer tokens of a step, and steps.
fn course(settings: &Settings, data: &DataFacts) -> Course {
    let rows = (settings.batch * settings.accumulate).max(1) as f64;
    let tokens = rows * data.predicted as f64 / data.rows.max(1) as f64;
    Course { tokens, steps: settings.steps_for(data.rows as usize) as f64 }
}

/// What is free here.
fn here() -> Option<Room> {
    Device::cpu().memory.map(|memory| Room { name: "The free memory here".to_owned(), bytes: memory.free })
}

/// True for a run on the same model and the same data, judged on the same rows.
fn is_alike(past: &Past, settings: &Settings) -> bool {
    let same =
        |a: &Path, b: &Path| a == b || a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b);
    let judged = match (&past.settings.eval_data, &settings.eval_data) {
        (Some(then), Some(now)) => same(then, now),
        // Where nobody chose, a share of the data is held out.
        (_, None) | (None, Some(_)) => true,
    };
    past.foreign.is_none()
        && past.phase == history::Phase::Finished
        && past.settings.method != Method::Full
        && judged
        && same(&past.settings.model, &settings.model)
        && same(&past.settings.data, &settings.data)
}

fn tried(past: &Past) -> Option<Tried> {
    let settings = &past.settings;
    Some(Tried {
        r: settings.rank,
        lr: settings.lr,
        alpha: settings.alpha(),
        rslora: settings.rslora,
        seed: settings.seed,
        steps: past.steps,
        trainable: past.trainable as u64,
        loss: past.eval_loss?,
        sure: past.eval_sure,
    })
}

fn forgotten(past: &Past) -> Option<Forgetting> {
    let [before, after] = past.forgetting?;
    Some(Forgetting { r: past.settings.rank, lr: past.settings.lr, loss: past.eval_loss?, before, after })
}

/// The gradients of the first micro-batches, and what the model makes of their answers before any training.
fn pulls(
    question: &Question,
    selection: &Selection,
    layout: &Layout,
    progress: &dyn Progress,
) -> Result<(Vec<Pull>, Answers)> {
    let large = selection.weights(layout).any(|weight| weight.max_rank() > WHOLE);
    let options = if large {
        Options { method: spectrum::Method::Randomized, top: Some(DIRECTIONS), vectors: 0 }
    } else {
        Options::default()
    };
    let found = probe_with(&question.settings, question.batches, None, &options, progress)?;
    let pull = |Found { name, spectrum, share, .. }: Found| Pull {
        name,
        share,
        directions: spectrum.energy_rank(0.9),
        stable: spectrum.stable_rank(),
    };
    let answers = Answers { loss: found.loss, sure: found.sure, tokens: found.tokens as u64 };
    Ok((found.modules.into_iter().map(pull).collect(), answers))
}

/// The curve of energy against parameters is drawn up to this rank.
const CURVE: usize = 1024;

fn compare(
    base: &Path,
    path: &Path,
    selection: &Selection,
    layout: &Layout,
    progress: &dyn Progress,
) -> Result<Sibling> {
    let base = Arc::new(Checkpoint::open(base)?);
    let other = Arc::new(Checkpoint::open(path)?);
    let (source, adapter) = if other.kind() == Kind::Adapter {
        let adapter = Arc::new(crate::adapter::Adapter::from_checkpoint(other)?);
        let r = adapter.layers.iter().map(|layer| layer.r).max();
        (Source::Adapter(adapter), r)
    } else {
        (Source::Tuned(other), None)
    };
    let set = DeltaSet::new(base, source)?;
    set.check_adapter()?;
    let wanted = |name: &&str| set.entry(name).is_some_and(|entry| entry.problem.is_none());
    let names: Vec<String> =
        selection.weights(layout).map(|weight| weight.name.as_str()).filter(wanted).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(Error::file(
            path,
            format!("none of the modules that are to be tuned ({}) has changed in it", layout.name),
        ));
    }
    let mut spectra: Vec<(String, Arc<Spectrum>)> = Vec::new();
    let mut wrong = None;
    spectrum::sweep(&set, &names, &Options::default(), progress, &mut |name, found| match found {
        Ok(found) => spectra.push((name.to_owned(), Arc::new(found))),
        Err(error) => wrong = Some(error),
    })?;
    if let (true, Some(error)) = (spectra.is_empty(), wrong) {
        return Err(error);
    }
    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    summary(name, adapter, &spectra)
}

/// What spectra say, over all modules.
fn summary(name: String, adapter: Option<usize>, spectra: &[(String, Arc<Spectrum>)]) -> Result<Sibling> {
    let middle = |rule: RuleId| {
        let mut ranks: Vec<usize> = spectra.iter().filter_map(|(_, spectrum)| rule_rank(spectrum, rule)).collect();
        ranks.sort_unstable();
        Some([*ranks.first()?, ranks[ranks.len() / 2], *ranks.last()?])
    };
    let offers: Vec<Offer> = spectra.iter().map(|(name, spectrum)| Offer::of(name, spectrum)).collect();
    let most = offers.iter().map(Offer::max_rank).max().unwrap_or(1).min(adapter.unwrap_or(CURVE)).min(CURVE);
    Ok(Sibling {
        name,
        adapter,
        energy_90: middle(RuleId::Energy90).unwrap_or_default(),
        above_rounding: middle(RuleId::RoundingEdge),
        curve: Curve::of(&offers, most)?,
    })
}

/// How long a run takes: as earlier ones did, or by the operations of a token and the speed of a product.
fn seconds(settings: &Settings, checkpoint: &Checkpoint, row_tokens: f64, past: &[Past]) -> Option<[f64; 2]> {
    let each = (settings.batch * settings.accumulate) as f64;
    let steps = settings.steps? as f64;
    let tokens = steps * each * row_tokens;
    if tokens <= 0.0 {
        return None;
    }
    let speed = super::forecast::Speed::of_runs(past.iter(), settings, "cpu").or_else(|| {
        let operations = pace::operations(checkpoint, settings).ok()?;
        let moments: Vec<f64> = (0..3).map(|_| pace::speed()).collect();
        super::forecast::Speed::of_moments(|speed| pace::tokens_per_s(operations, speed), &moments)
    })?;
    Some(speed.times(tokens).map(|time| time.as_secs_f64()))
}
