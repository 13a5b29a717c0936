//! Chapter 9: three short runs of the bundled model, at ranks 1, 8 and 64, one after the other; then the largest cut down. They
//! are runs like all others: they stay on the disk, and the next start shows the last three.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::adapter::{Adapter, LoraLayer};
use crate::checkpoint::Checkpoint;
use crate::delta::{DeltaWeight, LowRank};
use crate::demo::{self, DataSet, Set, tune};
use crate::device::Choice;
use crate::error::{Error, Result};
use crate::figure::number::short;
use crate::job::{Job, Running, Wake};
use crate::model::{Decoder, Frozen, Processor};
use crate::progress::{Part, Progress};
use crate::spectrum::{self, Options};
use crate::train::history::{Follow, Past, Phase as PastPhase};
use crate::train::run::{self, Start};
use crate::train::run_folder::RunFolder;
use crate::train::sweep::Group;
use crate::train::{self, Method, Settings, data, shorten, store};

/// The ranks that are tried.
pub const RANKS: [usize; 3] = [1, 8, 64];
/// Steps of each run at first: enough for the loss to fall clearly, few enough to wait for.
const STEPS: usize = 120;
/// How many there can be.
pub const MOST_STEPS: usize = 1000;
/// The rank that the largest adapter is cut down to.
const CUT: usize = 1;
/// The beginning of the names of the groups of runs.
const GROUP: &str = "learn";
/// What the cut has given, beside the runs.
const CUT_FILE: &str = "cut.json";
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cut {
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
    /// The data of runs that were there already.
    Was(Set),
    /// Where the runs are.
    Folder(PathBuf),
    Began(usize, usize),
    Step(usize, [f64; 2]),
    Ended(usize, f64, String, Vec<f64>),
    Cut(Cut),
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
    cut: Option<Cut>,
    folder: Option<PathBuf>,
    job: Option<(Job<()>, Receiver<Event>)>,
    /// What was there at the start is being read.
    reading: Option<Job<Vec<Event>>>,
    problem: Option<String>,
    version: u64,
}

impl Tune {
    /// What ran before is read; the bundled model lies under `home`.
    pub fn new(wake: Wake, home: PathBuf) -> Self {
        let at = home.clone();
        let reading = Job::spawn("Reading the runs of chapter 9", Arc::clone(&wake), move |_| before(&at));
        Self { reading: Some(reading), ..Self::fresh(wake, home) }
    }

    fn fresh(wake: Wake, home: PathBuf) -> Self {
        Self {
            wake,
            home,
            set: Set::Pirate,
            rates: Rates::default(),
            steps: STEPS,
            runs: Default::default(),
            module: String::new(),
            cut: None,
            folder: None,
            job: None,
            reading: None,
            problem: None,
            version: 0,
        }
    }

    /// Everything as at first; the runs stay where all runs are.
    pub fn restart(&mut self) {
        let version = self.version + 1;
        *self = Self { version, ..Self::fresh(Arc::clone(&self.wake), std::mem::take(&mut self.home)) };
    }

    /// Takes in what was asked for.
    pub fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Set(set) => self.set = set,
            Edit::Rates(rates) => self.rates = rates,
            Edit::Steps(steps) => self.steps = steps.clamp(1, MOST_STEPS),
            Edit::Stop => self.cancel(),
            Edit::Start if self.job.is_none() => {
                self.runs = Default::default();
                (self.folder, self.reading) = (None, None);
                (self.cut, self.problem) = (None, None);
                let plan = Plan { home: self.home.clone(), set: self.set, rates: self.rates, steps: self.steps };
                let (sender, inbox) = channel();
                let work = move |progress: &dyn Progress| three(&plan, progress, &sender);
                self.job = Some((Job::spawn(TITLE, Arc::clone(&self.wake), work), inbox));
            }
            Edit::Start => {}
        }
        self.version += 1;
    }

    /// Takes in what has come; what is worth saying about the end.
    pub fn logic(&mut self) -> Option<String> {
        if let Some(result) = self.reading.as_mut().and_then(Job::take) {
            self.reading = None;
            // What cannot be read is in History all the same.
            result.unwrap_or_default().into_iter().for_each(|event| self.take(event));
            self.version += 1;
        }
        let (job, inbox) = self.job.as_mut()?;
        let end = job.take();
        let events: Vec<Event> = inbox.try_iter().collect();
        let some = !events.is_empty() || end.is_some();
        for event in events {
            self.take(event);
        }
        let mut said = None;
        if let Some(result) = end {
            self.job = None;
            for run in &mut self.runs {
                if run.phase == Phase::Running {
                    run.phase = Phase::Waiting;
                }
            }
            said = Some(match result {
                Ok(()) => self.verdict(),
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
            Event::Was(set) => self.set = set,
            Event::Folder(folder) => self.folder = Some(folder),
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
            Event::Cut(cut) => self.cut = Some(cut),
        }
    }

    /// What the three runs have shown, in a sentence.
    pub fn verdict(&self) -> String {
        match self.best() {
            Some((rank, loss)) => {
                format!("Done: rank {rank} reached the lowest held-out loss ({}). Now ask all of them.", short(loss, 3))
            }
            None => "No run has a held-out loss yet.".to_owned(),
        }
    }

    fn best(&self) -> Option<(usize, f64)> {
        let ended = RANKS.into_iter().zip(&self.runs).filter_map(|(rank, run)| Some((rank, run.held_out?)));
        ended.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// The rank with the lowest loss, once all of them are at their end.
    pub fn lowest(&self) -> Option<usize> {
        self.best().filter(|_| self.ended().count() == RANKS.len()).map(|(rank, _)| rank)
    }

    /// Folders of the runs that are at their end.
    pub fn folders(&self) -> Vec<PathBuf> {
        let Some(group) = &self.folder else { return Vec::new() };
        self.ended().map(|rank| group.join(format!("r-{rank}"))).collect()
    }

    /// The base, and the ranks that are at their end, as they are called.
    pub fn names(&self) -> Vec<String> {
        std::iter::once("base".to_owned()).chain(self.ended().map(|rank| format!("rank {rank}"))).collect()
    }

    fn ended(&self) -> impl Iterator<Item = usize> {
        RANKS.into_iter().zip(&self.runs).filter(|(_, run)| run.phase == Phase::Done).map(|(rank, _)| rank)
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
    pub fn cut(&self) -> Option<Cut> {
        self.cut
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
        self.job.is_some()
    }

    /// The runs, as a job.
    pub fn running(&self) -> Option<&dyn Running> {
        self.job.as_ref().map(|(job, _)| job as &dyn Running)
    }

    /// Stops them.
    pub fn cancel(&self) {
        if let Some((job, _)) = &self.job {
            job.cancel();
        }
    }

    /// All three are at their end.
    pub fn reached(&self) -> bool {
        self.runs.iter().all(|run| run.phase == Phase::Done)
    }
}

/// The three runs, which stay on the disk as all runs do, and the cut.
fn three(plan: &Plan, progress: &dyn Progress, send: &Sender<Event>) -> Result<()> {
    // Nobody listens any more only when the window is gone.
    let send = |event: Event| drop(send.send(event));
    let sample = demo::sample(&plan.home, &())?;
    let set = sample.sets.iter().find(|data| data.set == plan.set);
    let set = set.ok_or_else(|| Error::failure("the bundled data have no such set"))?;
    let base = Checkpoint::open(&sample.base)?;
    let group = group(&plan.home, plan.set);
    Group { kind: "comparison".to_owned(), ..Group::default() }.write(&group)?;
    send(Event::Folder(group.clone()));
    // Facts that were not trained cannot be known: those that were are asked.
    let judged = if plan.set == Set::Facts { &set.train } else { &set.eval };
    let parts = RANKS.len() as u64 + 1;
    for (at, rank) in RANKS.into_iter().enumerate() {
        let part = Part::new(progress, at as u64, parts);
        let settings = plan.settings(&sample.base, set, judged, &group, rank);
        let out = settings.out.clone();
        let mut on_event = |event| {
            match event {
                run::Event::Started { trainable, .. } => send(Event::Began(at, trainable)),
                run::Event::Step(record) => send(Event::Step(at, [record.step.step as f64, record.step.loss])),
                _ => {}
            }
            Ok(())
        };
        let summary = run::run(settings, Start::default(), &part, &mut on_event)?;
        let loss = summary.eval_loss.ok_or_else(|| Error::failure("the run has no held-out loss"))?;
        let adapter = Adapter::open(&out)?;
        let (module, sigma) = sigma(&adapter)?;
        send(Event::Ended(at, loss, module, sigma));
        if at + 1 == RANKS.len() {
            let part = Part::new(progress, parts - 1, parts);
            let settings = RunFolder::new(&out).settings()?;
            let frozen = settings.scheme().map_or(Frozen::AsStored, Frozen::FourBit);
            let mut decoder = Decoder::with_adapter(&base, &adapter, frozen, &())?;
            let energy = shorten::shorten(&mut decoder, CUT, &part)?;
            let rows = data::read(judged, &base, tune::SEQ, &())?.rows;
            let loss = train::evaluate(&Processor::default(), &decoder, &rows, settings.batch, &())?.mean();
            let cut = Cut { rank: CUT, energy, loss };
            // Beside the runs, so that the next start has it too.
            store::write_whole(&group.join(CUT_FILE), &serde_json::to_vec(&cut).map_err(json)?)?;
            send(Event::Cut(cut));
        }
    }
    progress.step(1, 1)
}

fn json(error: serde_json::Error) -> Error {
    Error::failure(error.to_string())
}

/// The folder of a new group of runs.
fn group(home: &Path, set: Set) -> PathBuf {
    let runs = home.join("runs");
    let named = |n: u32| runs.join(format!("{GROUP}-{}-{n}", set.stem()));
    (1..).map(named).find(|path| !path.exists()).unwrap_or(runs)
}

/// What the last three runs have left on the disk; nothing where there were none.
fn before(home: &Path) -> Result<Vec<Event>> {
    let mut groups: Vec<(SystemTime, PathBuf, Set)> = Vec::new();
    for entry in home.join("runs").read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let set = Set::ALL.into_iter().find(|set| name.starts_with(&format!("{GROUP}-{}-", set.stem())));
        if let (Some(set), Ok(modified)) = (set, entry.metadata().and_then(|found| found.modified())) {
            groups.push((modified, entry.path(), set));
        }
    }
    let Some((_, group, set)) = groups.into_iter().max_by_key(|(modified, ..)| *modified) else {
        return Ok(Vec::new());
    };
    let mut events = vec![Event::Was(set), Event::Folder(group.clone())];
    for (at, rank) in RANKS.into_iter().enumerate() {
        let folder = group.join(format!("r-{rank}"));
        let Ok(past) = Past::read(&folder) else { continue };
        events.push(Event::Began(at, past.trainable));
        for event in Follow::new(&folder).events() {
            if let run::Event::Step(record) = event {
                events.push(Event::Step(at, [record.step.step as f64, record.step.loss]));
            }
        }
        if let (PastPhase::Finished, Some(loss)) = (&past.phase, past.eval_loss) {
            let (module, sigma) = sigma(&Adapter::open(&folder)?)?;
            events.push(Event::Ended(at, loss, module, sigma));
        }
    }
    let cut = std::fs::read(group.join(CUT_FILE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    events.extend(cut.map(Event::Cut));
    Ok(events)
}

impl Plan {
    fn settings(&self, base: &Path, set: &DataSet, judged: &Path, group: &Path, rank: usize) -> Settings {
        let batch = if self.set == Set::Facts { 16 } else { 8 };
        let (steps, lr) = (self.steps, self.rates.of(self.set, rank));
        let run = tune::Tune { method: Method::Qlora, rank, lr, steps, batch, seed: 0 };
        Settings {
            model: base.to_path_buf(),
            data: set.train.clone(),
            eval_data: Some(judged.to_path_buf()),
            out: group.join(format!("r-{rank}")),
            eval_every: steps,
            film_every: (steps / 20).max(1),
            // One is enough to be written before and after: at the end one asks what one likes.
            prompts: set.prompts.iter().take(1).cloned().collect(),
            device: Choice::Cpu,
            ..run.settings()
        }
    }
}

/// Singular values of ΔW of the middle value projection, or of the middle layer.
fn sigma(adapter: &Adapter) -> Result<(String, Vec<f64>)> {
    let all: Vec<&LoraLayer> = adapter.layers.iter().collect();
    let named: Vec<&LoraLayer> = all.iter().copied().filter(|layer| layer.module.ends_with("v_proj")).collect();
    let layer = named.get(named.len() / 2).or(all.get(all.len() / 2));
    let layer = layer.ok_or_else(|| Error::failure("the adapter has no layers"))?;
    let (b, a) = adapter.factors(layer)?;
    let delta = DeltaWeight::LowRank(LowRank { b, a, scaling: layer.scaling, epsilon: f64::from(f32::EPSILON) });
    let found = spectrum::spectrum(&delta, &Options::default(), &())?;
    Ok((layer.module.clone(), found.sigma))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the runs say, taken in as the window does.
    fn run(plan: &Plan, progress: &dyn Progress) -> (Tune, Result<()>) {
        let mut tune = Tune::fresh(Arc::new(|| {}), plan.home.clone());
        let (sender, inbox) = channel();
        let ended = three(plan, progress, &sender);
        inbox.try_iter().for_each(|event| tune.take(event));
        (tune, ended)
    }

    #[test]
    fn three_ranks_and_a_cut_that_the_next_start_still_has() {
        let home = tempfile::tempdir().unwrap();
        let plan = Plan { home: home.path().to_path_buf(), set: Set::Pirate, rates: Rates::Each, steps: 3 };
        let (tune, ended) = run(&plan, &());
        ended.unwrap();
        assert!(tune.reached() && tune.runs().iter().all(|run| run.losses.len() == 3));
        // r (in + out) numbers for each layer: they grow with the rank alone.
        let [one, eight, many] = tune.runs().each_ref().map(|run| run.trainable);
        assert_eq!([8 * one, 64 * one], [eight, many]);
        assert_eq!(tune.runs().each_ref().map(|run| run.sigma.len()), RANKS);
        let cut = tune.cut().unwrap();
        assert!(cut.energy > 0.0 && cut.energy < 1.0 && cut.loss.is_finite());
        assert_eq!(tune.names(), ["base", "rank 1", "rank 8", "rank 64"]);
        assert!(tune.folders().iter().all(|folder| Past::read(folder).is_ok()));

        let mut again = Tune::fresh(Arc::new(|| {}), plan.home.clone());
        before(&plan.home).unwrap().into_iter().for_each(|event| again.take(event));
        // A file's numbers are read to the last digit but one.
        let numbers = |of: &Tune| -> Vec<f64> {
            let of_run =
                |run: &Run| [run.losses.concat(), run.sigma.clone(), run.held_out.into_iter().collect()].concat();
            let cut = of.cut().unwrap();
            of.runs().iter().flat_map(of_run).chain([cut.energy, cut.loss]).collect()
        };
        let (found, expected) = (numbers(&again), numbers(&tune));
        assert!(found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a / b - 1.0).abs() < 1e-15));
        assert!(again.runs().iter().all(|run| run.phase == Phase::Done) && again.folders() == tune.folders());
        assert!(group(&plan.home, Set::Pirate).ends_with("learn-pirate-2"), "no run is overwritten");
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
        let (tune, ended) = run(&plan, &Stop);
        assert!(ended.unwrap_err().is_cancelled() && !tune.reached());
        assert!(!tune.runs()[0].losses.is_empty());
    }
}
