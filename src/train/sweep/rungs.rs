//! Successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943): all points are trained for a quarter of the steps, the better
//! half of them for another quarter, the better half of those to the end. A point that learns slowly at first may be given up
//! wrongly; what was saved is said.

use super::{OnSweep, SweepEvent};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::progress::{Part, Progress};
use crate::train::logs::Record;
use crate::train::run::{self, Start};
use crate::train::run_folder::{METRICS, RunFolder};
use crate::train::{Settings, history};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

/// What halving came to.
pub(super) struct Halved {
    /// Every run, and the step after which it was given up.
    pub runs: Vec<(Settings, Option<usize>)>,
    /// Steps that were not taken.
    pub saved: usize,
}

/// Trains `all`, which differ in rank, rate and seed.
///
/// # Errors
/// As [`run::run`]; runs too short to be judged on the way.
pub(super) fn halving(
    all: &[Settings],
    checkpoint: &Checkpoint,
    force: bool,
    progress: &dyn Progress,
    on_event: OnSweep<'_>,
) -> Result<Halved> {
    let Some(first) = all.first() else { return Ok(Halved { runs: Vec::new(), saved: 0 }) };
    let steps = run::steps(first, checkpoint, &())?;
    let quarter = steps / 4;
    if quarter == 0 {
        return Err(Error::usage(format!(
            "halving judges runs after a quarter of their steps; expected 4 steps or more, found {steps}"
        )));
    }
    let settings = |one: &Settings| Settings { eval_every: quarter, steps: Some(steps), ..one.clone() };
    let mut runs: Vec<(Settings, Option<usize>)> = all.iter().map(|one| (settings(one), None)).collect();
    let rungs = [quarter, 2 * quarter, steps];
    for (index, &rung) in rungs.iter().enumerate() {
        let part = Part::new(progress, index as u64, rungs.len() as u64);
        let going: Vec<usize> = (0..runs.len()).filter(|&at| runs[at].1.is_none()).collect();
        for (number, &at) in going.iter().enumerate() {
            up_to(&runs[at].0, rung, steps, force, &Part::new(&part, number as u64, going.len() as u64), on_event)?;
        }
        if rung < steps {
            for at in worse_half(&runs, &going, rung)? {
                runs[at].1 = Some(rung);
            }
        }
    }
    let saved = runs.iter().filter_map(|(_, given_up)| *given_up).map(|step| steps - step).sum();
    Ok(Halved { runs, saved })
}

/// Runs of the points whose mean loss over their seeds is in the worse half after a rung.
fn worse_half(runs: &[(Settings, Option<usize>)], going: &[usize], rung: usize) -> Result<Vec<usize>> {
    let mut points: Vec<(Vec<usize>, f64)> = Vec::new();
    for &at in going {
        let (one, loss) = (&runs[at].0, loss_at(&runs[at].0, rung)?);
        let same = |members: &[usize]| {
            members.first().is_some_and(|&other| (runs[other].0.rank, runs[other].0.lr) == (one.rank, one.lr))
        };
        match points.iter_mut().find(|(members, _)| same(members)) {
            Some((members, sum)) => {
                members.push(at);
                *sum += loss;
            }
            None => points.push((vec![at], loss)),
        }
    }
    points.sort_by(|a, b| (a.1 / a.0.len() as f64).total_cmp(&(b.1 / b.0.len() as f64)));
    let kept = points.len().div_ceil(2);
    Ok(points.into_iter().skip(kept).flat_map(|(members, _)| members).collect())
}

/// The held-out loss of a run after a step, whatever it did since.
fn loss_at(settings: &Settings, step: usize) -> Result<f64> {
    let lines = RunFolder::new(&settings.out).lines_until(METRICS, step)?;
    let found = String::from_utf8_lossy(&lines).lines().rev().find_map(|line| Record::parse(line)?.eval_loss);
    found.ok_or_else(|| {
        Error::file(&settings.out, format!("found no held-out loss after step {step}: there are no held-out rows"))
    })
}

fn up_to(
    settings: &Settings,
    rung: usize,
    steps: usize,
    force: bool,
    progress: &dyn Progress,
    on_event: OnSweep<'_>,
) -> Result<()> {
    let before = history::Past::read(&settings.out).ok();
    let done = before.as_ref().map_or(0, |past| past.done);
    if done >= rung && loss_at(settings, rung).is_ok() {
        return Ok(());
    }
    on_event(SweepEvent::Run(settings.rank, Box::new(settings.clone())))?;
    let until = UpTo {
        whole: progress,
        rung: rung as u64,
        steps: steps as u64,
        stage: Mutex::default(),
        reached: AtomicBool::new(false),
    };
    let start = Start { resume: before.is_some(), force };
    match run::run(settings.clone(), start, &until, &mut |event| on_event(SweepEvent::Event(event))) {
        Err(error) if error.is_cancelled() && until.reached.load(Ordering::Relaxed) => Ok(()),
        result => result.map(drop),
    }
}

/// Ends a run, with its checkpoint, before the step after a rung.
struct UpTo<'a> {
    whole: &'a dyn Progress,
    rung: u64,
    steps: u64,
    stage: Mutex<String>,
    reached: AtomicBool,
}

impl Progress for UpTo<'_> {
    fn step(&self, done: u64, total: u64) -> Result<()> {
        self.whole.step(done, total)?;
        // Between two steps: what comes after a step, an evaluation, has a name.
        let between = self.stage.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if between && total == self.steps && done >= self.rung && done < self.steps {
            self.reached.store(true, Ordering::Relaxed);
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        self.whole.check()
    }

    fn stage(&self, name: &str) {
        name.clone_into(&mut self.stage.lock().unwrap_or_else(PoisonError::into_inner));
        self.whole.stage(name);
    }
}
