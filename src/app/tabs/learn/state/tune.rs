//! Chapter 9: three short runs of the bundled model, at ranks 1, 8 and 64, one after the other; then the largest cut down.

use std::path::PathBuf;
use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::demo::{self, Set, tune};
use crate::error::{Error, Result};
use crate::job::{Running, Stream, Wake};
use crate::model::Decoder;
use crate::progress::{Part, Progress};
use crate::spectrum::{self, Options};
use crate::train::{self, Method, data, shorten};

/// The ranks that are tried.
pub const RANKS: [usize; 3] = [1, 8, 64];
/// Steps of each run at first: enough for the loss to fall clearly, few enough to wait for.
const STEPS: usize = 120;
/// How many there can be.
pub const MOST_STEPS: usize = 1000;
/// The rank that the largest adapter is cut down to.
const CUT: usize = 1;
/// What the status bar says.
const TITLE: &str = "Tuning at ranks 1, 8 and 64";

/// How the learning rate is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rates {
    /// One that suits each rank.
    #[default]
    Each,
    /// The largest rank's for all: the usual mistake.
    One,
}

impl Rates {
    /// The peak rate at a rank.
    pub fn of(self, set: Set, rank: usize) -> f64 {
        let largest = RANKS.into_iter().max().unwrap_or(rank);
        tune::rate(set, if self == Self::Each { rank } else { largest })
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Edit {
    /// Other data.
    Set(Set),
    /// Another choice of rates.
    Rates(Rates),
    /// Another number of steps.
    Steps(usize),
    /// Begin.
    Start,
    /// Stop.
    Stop,
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Phase {
    /// Not begun.
    #[default]
    Waiting,
    /// It goes on.
    Running,
    /// At its end.
    Done,
}

/// One run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// How far it is.
    pub phase: Phase,
    /// Numbers that are trained.
    pub trainable: usize,
    /// Step and loss.
    pub losses: Vec<[f64; 2]>,
    /// The loss at the end, on held-out rows; of facts on the rows that were trained, as others cannot be known.
    pub held_out: Option<f64>,
    /// Singular values of ΔW of [`Tune::module`], at the end.
    pub sigma: Vec<f64>,
}

/// What the largest adapter is worth when only its strongest directions are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shorter {
    /// The rank it was cut down to.
    pub rank: usize,
    /// The share of all energy that is left.
    pub energy: f64,
    /// The held-out loss that is left.
    pub loss: f64,
}

/// What to run.
#[derive(Clone, Debug)]
struct Plan {
    home: PathBuf,
    set: Set,
    rates: Rates,
    steps: usize,
}

enum Event {
    Began(usize, usize),
    Step(usize, [f64; 2]),
    Ended(usize, f64, String, Vec<f64>),
    Shorter(Shorter),
}

/// The chapter's runs.
pub struct Tune {
    wake: Wake,
    home: PathBuf,
    /// The data.
    pub set: Set,
    /// The learning rates.
    pub rates: Rates,
    /// Steps of each run.
    pub steps: usize,
    runs: [Run; RANKS.len()],
    module: String,
    shorter: Option<Shorter>,
    stream: Option<Stream<Event>>,
    problem: Option<String>,
    version: u64,
}

impl Tune {
    /// Nothing has run; the bundled model lies under `home`.
    pub fn new(wake: Wake, home: PathBuf) -> Self {
        Self {
            wake,
            home,
            set: Set::Pirate,
            rates: Rates::default(),
            steps: STEPS,
            runs: Default::default(),
            module: String::new(),
            shorter: None,
            stream: None,
            problem: None,
            version: 0,
        }
    }

    /// Everything as at first.
    pub fn restart(&mut self) {
        let version = self.version + 1;
        *self = Self { version, ..Self::new(Arc::clone(&self.wake), std::mem::take(&mut self.home)) };
    }

    /// Takes in what was asked for.
    pub fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Set(set) => self.set = set,
            Edit::Rates(rates) => self.rates = rates,
            Edit::Steps(steps) => self.steps = steps.clamp(1, MOST_STEPS),
            Edit::Stop => self.cancel(),
            Edit::Start if self.stream.is_none() => {
                self.runs = Default::default();
                (self.shorter, self.problem) = (None, None);
                let plan = Plan { home: self.home.clone(), set: self.set, rates: self.rates, steps: self.steps };
                let work = move |progress: &dyn Progress, send: &mut dyn FnMut(Event)| three(&plan, progress, send);
                self.stream = Some(Stream::spawn(TITLE, Arc::clone(&self.wake), work));
            }
            Edit::Start => {}
        }
        self.version += 1;
    }

    /// Takes in what has come; what is worth saying about the end.
    pub fn logic(&mut self) -> Option<String> {
        let stream = self.stream.as_mut()?;
        let end = stream.take();
        let events: Vec<Event> = stream.items().collect();
        let some = !events.is_empty() || end.is_some();
        for event in events {
            self.take(event);
        }
        let mut said = None;
        if let Some(result) = end {
            self.stream = None;
            for run in &mut self.runs {
                if run.phase == Phase::Running {
                    run.phase = Phase::Waiting;
                }
            }
            said = Some(match result {
                Ok(()) => "Three ranks were tuned.".to_owned(),
                Err(error) if error.is_cancelled() => "Cancelled.".to_owned(),
                Err(error) => {
                    self.problem = Some(error.to_string());
                    format!("{error}.")
                }
            });
        }
        self.version += u64::from(some);
        said
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Began(at, trainable) => {
                self.runs[at].phase = Phase::Running;
                self.runs[at].trainable = trainable;
            }
            Event::Step(at, point) => self.runs[at].losses.push(point),
            Event::Ended(at, held_out, module, sigma) => {
                self.module = module;
                let run = &mut self.runs[at];
                (run.phase, run.held_out, run.sigma) = (Phase::Done, Some(held_out), sigma);
            }
            Event::Shorter(shorter) => self.shorter = Some(shorter),
        }
    }

    /// One for each of [`RANKS`].
    pub fn runs(&self) -> &[Run; RANKS.len()] {
        &self.runs
    }

    /// The module whose singular values are shown.
    pub fn module(&self) -> &str {
        &self.module
    }

    /// The largest adapter, cut down.
    pub fn shorter(&self) -> Option<Shorter> {
        self.shorter
    }

    /// Why the runs ended.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Counts what has changed.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// True while runs go on.
    pub fn is_running(&self) -> bool {
        self.stream.is_some()
    }

    /// The runs, as a job.
    pub fn running(&self) -> Option<&dyn Running> {
        self.stream.as_ref().map(|stream| stream.job() as &dyn Running)
    }

    /// Stops them.
    pub fn cancel(&self) {
        if let Some(stream) = &self.stream {
            stream.job().cancel();
        }
    }

    /// All three are at their end.
    pub fn reached(&self) -> bool {
        self.runs.iter().all(|run| run.phase == Phase::Done)
    }
}

/// The three runs in memory, and the cut. Nothing is written: the Train tab is for runs that stay.
fn three(plan: &Plan, progress: &dyn Progress, send: &mut dyn FnMut(Event)) -> Result<()> {
    let sample = demo::sample(&plan.home, &())?;
    let set = sample.sets.iter().find(|data| data.set == plan.set);
    let set = set.ok_or_else(|| Error::failure("the bundled data have no such set"))?;
    let base = Checkpoint::open(&sample.base)?;
    let rows = data::read(&set.train, &base, tune::SEQ, &())?.rows;
    let judged = if plan.set == Set::Facts { rows.clone() } else { data::read(&set.eval, &base, tune::SEQ, &())?.rows };
    let parts = RANKS.len() as u64 + 1;
    for (at, rank) in RANKS.into_iter().enumerate() {
        let batch = if plan.set == Set::Facts { 16 } else { 8 };
        let (steps, lr) = (plan.steps, plan.rates.of(plan.set, rank));
        let run = tune::Tune { method: Method::Qlora, rank, lr, steps, batch, seed: 0 };
        let part = Part::new(progress, at as u64, parts);
        let mut begun = false;
        let each = &mut |trainer: &train::Trainer, loss: f64| {
            if !std::mem::replace(&mut begun, true) {
                send(Event::Began(at, trainer.decoder.params.elements()));
            }
            send(Event::Step(at, [trainer.done as f64, loss]));
            Ok(())
        };
        let mut trainer = tune::tune(&base, rows.clone(), &run, each, &part)?;
        let loss = trainer.evaluate(&judged, &())?.mean();
        let (module, sigma) = sigma(&trainer.decoder)?;
        send(Event::Ended(at, loss, module, sigma));
        if at + 1 == RANKS.len() {
            let part = Part::new(progress, parts - 1, parts);
            let energy = shorten::shorten(&mut trainer.decoder, CUT, &part)?;
            let loss = trainer.evaluate(&judged, &())?.mean();
            send(Event::Shorter(Shorter { rank: CUT, energy, loss }));
        }
    }
    progress.step(1, 1)
}

/// Singular values of ΔW of the middle value projection, or of the middle layer.
fn sigma(decoder: &Decoder) -> Result<(String, Vec<f64>)> {
    let adapted: Vec<_> = decoder.linears().filter(|linear| linear.branch.is_some()).collect();
    let named: Vec<_> = adapted.iter().filter(|linear| linear.module.ends_with("v_proj")).collect();
    let linear = named.get(named.len() / 2).copied().or(adapted.get(adapted.len() / 2));
    let linear = linear.ok_or_else(|| Error::failure("the model has no adapted layer"))?;
    let delta = linear.delta(&decoder.params)?;
    let delta = delta.ok_or_else(|| Error::failure("the layer has no adapter"))?;
    let found = spectrum::spectrum(&delta, &Options::default(), &())?;
    Ok((linear.module.clone(), found.sigma))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_ranks_and_a_cut() {
        let home = tempfile::tempdir().unwrap();
        let plan = Plan { home: home.path().to_path_buf(), set: Set::Pirate, rates: Rates::Each, steps: 3 };
        let mut tune = Tune::new(Arc::new(|| {}), plan.home.clone());
        three(&plan, &(), &mut |event| tune.take(event)).unwrap();
        assert!(tune.reached() && tune.runs().iter().all(|run| run.losses.len() == 3));
        // r (in + out) numbers for each layer: they grow with the rank alone.
        let [one, eight, many] = tune.runs().each_ref().map(|run| run.trainable);
        assert_eq!([8 * one, 64 * one], [eight, many]);
        assert_eq!(tune.runs().each_ref().map(|run| run.sigma.len()), RANKS);
        let shorter = tune.shorter().unwrap();
        assert!(shorter.energy > 0.0 && shorter.energy < 1.0 && shorter.loss.is_finite());
    }

    #[test]
    fn stopping_leaves_what_was_seen() {
        struct Stop;
        impl Progress for Stop {
            fn step(&self, done: u64, total: u64) -> Result<()> {
                // In the first of four parts, after its first step.
                if done * 4 > total / 2 { Err(Error::Cancelled) } else { Ok(()) }
            }
        }
        let home = tempfile::tempdir().unwrap();
        let plan = Plan { home: home.path().to_path_buf(), set: Set::Extract, rates: Rates::One, steps: 4 };
        let mut tune = Tune::new(Arc::new(|| {}), plan.home.clone());
        let ended = three(&plan, &Stop, &mut |event| tune.take(event));
        assert!(ended.unwrap_err().is_cancelled() && !tune.reached());
        assert!(!tune.runs()[0].losses.is_empty());
    }
}
