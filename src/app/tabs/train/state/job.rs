//! [`Handed`]: a run that is to be taken to a cluster, until its folder is written.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::app::view::Round;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::export::job::{ENGINES, Engine, Job, LAUNCHERS, Launcher, Strategy, Variant, Written};
use crate::model::ComputeDtype;
use crate::plan::memory::cluster::{COUNTS, Count, Term, counts, per_gpu};
use crate::plan::memory::{CONTEXT, Load, Place, Precision};
use crate::train::Settings;
use crate::train::history::Past;
use crate::train::memory::planned;
use crate::train::sweep::{self, Grid};

use super::Training;

/// What a person chooses.
#[derive(Clone, Debug, PartialEq)]
pub struct JobChoice {
    /// What trains, its place among the engines.
    pub engine: usize,
    /// What starts it, its place among the launchers.
    pub launcher: usize,
    /// Machines.
    pub nodes: usize,
    /// GPUs of each.
    pub gpus: usize,
    /// How the model is spread.
    pub strategy: Strategy,
    /// Texts, not ids.
    pub texts: bool,
    /// The first A and B go along.
    pub initial_adapter: bool,
    /// Ranks of a sweep as a person writes them; empty for one run.
    pub ranks: String,
    /// Its learning rates.
    pub rates: String,
    /// Memory of a GPU in GiB.
    pub room: u64,
    /// The folder.
    pub out: String,
}

impl JobChoice {
    /// The runs of a sweep; none where no ranks and no rates are given.
    fn variants(&self, settings: &Settings) -> Result<Vec<Variant>> {
        let (ranks, rates) = (self.ranks.trim(), self.rates.trim());
        if ranks.is_empty() && rates.is_empty() {
            return Ok(Vec::new());
        }
        let ranks = if ranks.is_empty() { vec![settings.rank] } else { sweep::ranks(ranks)? };
        Variant::all(&Grid { ranks, rates: sweep::rates(rates)?, ..Grid::default() }, settings)
    }

    /// What its launcher and its engine do: one process, one machine, whole models.
    fn settled(mut self) -> Self {
        self.gpus = if self.launcher().many { self.gpus } else { 1 };
        self.nodes = if self.launcher().nodes { self.nodes } else { 1 };
        self.strategy = if self.engine().shards { self.strategy } else { Strategy::Ddp };
        self
    }

    /// GPUs in all.
    pub fn world(&self) -> usize {
        self.nodes * self.gpus
    }

    /// Its engine.
    pub fn engine(&self) -> &'static Engine {
        ENGINES.get(self.engine).copied().unwrap_or(ENGINES[0])
    }

    /// Its launcher.
    pub fn launcher(&self) -> &'static Launcher {
        LAUNCHERS.get(self.launcher).copied().unwrap_or(LAUNCHERS[0])
    }
}

/// Memory of a GPU by strategy: the parts with these GPUs, and what each count of GPUs allows.
pub type ByStrategy = Vec<(Strategy, Vec<Term>, Vec<Count>)>;

/// A run that is to be taken to a cluster.
pub struct Handed {
    /// Its name.
    pub name: String,
    settings: Settings,
    /// What is chosen.
    pub choice: JobChoice,
    /// Predicted memory, with the GPUs and the room that it is for; the last one while a new one is counted.
    pub memory: Option<((usize, u64), ByStrategy)>,
    asked: Option<(usize, u64)>,
    /// Its folder is being written.
    pub writing: bool,
    /// Why it was not.
    pub problem: Option<String>,
    /// What was written.
    pub written: Option<Written>,
}

impl Training {
    /// The run that is to be taken to a cluster.
    pub fn handed(&self) -> Option<&Handed> {
        self.handed.as_ref()
    }

    /// Asks about a run on the disk, or the one that is set up; or asks no more.
    pub(super) fn offer_job(&mut self, run: Option<PathBuf>, round: &mut Round<'_>) {
        let Some(run) = run else {
            let Some(draft) = &self.draft else { return };
            let settings = draft.settings.clone();
            let name =
                if draft.name.trim().is_empty() { Self::made_up(&settings) } else { draft.name.trim().to_owned() };
            return self.hand(name, settings, round);
        };
        let read = move || {
            let past = Past::read(&run)?;
            let described = past.is_described();
            let settings = past.settings.clone();
            if described {
                Ok((past.name(), settings))
            } else {
                Err(Error::file(&run, "says nothing of its model and method"))
            }
        };
        self.in_background("Reading a run", read, |training, (name, settings), round| {
            training.hand(name, settings, round)
        });
    }

    fn hand(&mut self, name: String, settings: Settings, round: &mut Round<'_>) {
        let name = name.replace('/', "-");
        let out = self.runs_folder().join(format!("{name}-cluster")).display().to_string();
        let choice = JobChoice {
            engine: 0,
            launcher: 1,
            nodes: 1,
            gpus: 2,
            strategy: Strategy::Ddp,
            texts: false,
            initial_adapter: false,
            ranks: String::new(),
            rates: String::new(),
            room: 80,
            out,
        };
        let (memory, asked, problem, written) = Default::default();
        self.handed = Some(Handed { name, settings, choice, memory, asked, writing: false, problem, written });
        self.count_job(round);
    }

    /// Takes in what is chosen.
    pub(super) fn choose_job(&mut self, choice: JobChoice, round: &mut Round<'_>) {
        if let Some(handed) = &mut self.handed {
            (handed.choice, handed.problem) = (choice.settled(), None);
        }
        self.count_job(round);
    }

    /// Counts the memory anew where the GPUs have changed.
    fn count_job(&mut self, _: &mut Round<'_>) {
        let Some(handed) = &mut self.handed else { return };
        let key = (handed.choice.world(), handed.choice.room);
        if handed.asked == Some(key) {
            return;
        }
        handed.asked = Some(key);
        let settings = handed.settings.clone();
        let count = move || memory(&settings, key);
        self.in_background("Counting memory", count, move |training, memory, _| {
            if let Some(handed) = training.handed.as_mut().filter(|handed| handed.asked == Some(key)) {
                handed.memory = Some((key, memory));
            }
        });
    }

    /// Begins to write the folder.
    pub(super) fn write_job(&mut self) {
        let Some(handed) = &mut self.handed else { return };
        let choice = &handed.choice;
        let many = choice.world() > 1;
        let variants = match choice.variants(&handed.settings) {
            Ok(variants) => variants,
            Err(error) => return handed.problem = Some(error.to_string()),
        };
        let job = Job {
            engine: choice.engine(),
            launcher: choice.launcher(),
            nodes: choice.nodes,
            gpus: choice.gpus,
            strategy: many.then_some(choice.strategy),
            texts: choice.texts,
            initial_adapter: choice.initial_adapter,
            variants,
            out: PathBuf::from(choice.out.trim()),
        };
        handed.problem = self.exports.job(handed.settings.clone(), job).err().map(|error| error.to_string());
        handed.writing = handed.problem.is_none();
    }

    /// Takes in why the folder is not there; false where none was being written.
    pub(super) fn job_failed(&mut self, error: &Error) -> bool {
        let Some(handed) = self.handed.as_mut().filter(|handed| handed.writing) else { return false };
        handed.writing = false;
        handed.problem = Some(error.to_string());
        true
    }

    /// The folder is there.
    pub(super) fn job_written(&mut self, written: Written) {
        if let Some(handed) = &mut self.handed {
            (handed.writing, handed.written) = (false, Some(written));
        }
    }
}

/// Beside the window: opens the model.
fn memory(settings: &Settings, (gpus, room): (usize, u64)) -> Result<ByStrategy> {
    let checkpoint = Checkpoint::open(&settings.model)?;
    let (layout, pairs, load) = planned(&checkpoint, settings, settings.seq)?;
    let place = Place::Gpu(ComputeDtype::Bf16.into());
    let load = Load { process: CONTEXT, place, precision: Precision::Bf16, ..load };
    let all: BTreeSet<usize> = COUNTS.into_iter().chain([gpus]).collect();
    let all: Vec<usize> = all.into_iter().collect();
    let one = |&strategy: &Strategy| {
        let terms = per_gpu(&layout, &pairs, &load, strategy, gpus)?;
        let counts = counts(&layout, &pairs, &load, strategy, &all, room << 30)?;
        Ok((strategy, terms, counts))
    };
    Strategy::ALL.iter().map(one).collect()
}
