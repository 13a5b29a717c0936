//! What the choice of a rank needs: memory, ranks under a budget, gradients, what updates share, an adapter's scales.
//!
//! Everything is computed in jobs; the last answer stays until the next one is there.

mod memory;
mod ranks;
mod save;

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::job::{Job, Status, Wake};
use crate::plan::compare::Side;
use crate::plan::extract::Extracted;
use crate::plan::{Load, Preset};
use crate::train::probe::Probed;

use crate::app::effect::{Command, Round};

use crate::app::tabs::spectrum::state::updates;
pub use crate::app::tabs::spectrum::state::updates::Updates;
pub use memory::Needs;
pub use ranks::{Choice, RULES};
pub use save::Product;

/// What the tabs ask for.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Count and predict for a published model in place of the open one.
    Model(Option<&'static Preset>),
    /// Batch, sequence and so on of the predicted run.
    Load(Load),
    /// So many trainable parameters; `None` for what the dial's rank takes everywhere.
    Budget(Option<u64>),
    /// Gradients of the frozen model on this data.
    Probe(Probe),
    /// Count the tokens of this data.
    Tokens(PathBuf),
    /// Compare with another update of the same base.
    Compare(PathBuf),
    /// No longer.
    Forget,
    /// Left or right singular vectors.
    Side(Side),
    /// Directions of the current module's tuned weight that its base does not know.
    Intruders,
    /// Make something of the plan.
    Make(Product, PathBuf),
}

/// What a probe is to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// The data.
    pub data: PathBuf,
    /// Micro-batches.
    pub batches: usize,
    /// Sequences of each.
    pub batch: usize,
    /// Tokens of the longest.
    pub seq: usize,
}

/// How much data there is.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// The file.
    pub path: PathBuf,
    /// Rows that can be used.
    pub rows: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Tokens that are predicted.
    pub predicted: usize,
}

/// What is computed and known for the tab; panels look at it and push [`Ask`]s.
pub struct Planning {
    wake: Wake,
    generation: u64,
    preset: Option<&'static Preset>,
    memory: memory::Memory,
    ranks: ranks::Ranks,
    updates: Updates,
    probe: Option<Job<Probed>>,
    probed: Option<Probed>,
    counting: Option<Job<Tokens>>,
    tokens: Option<Tokens>,
    making: Option<Job<save::Made>>,
    made: Option<Extracted>,
}

impl Planning {
    /// Nothing yet; `wake` makes the window look again.
    pub fn new(wake: Wake) -> Self {
        Self {
            wake,
            generation: 0,
            preset: None,
            memory: memory::Memory::default(),
            ranks: ranks::Ranks::default(),
            updates: Updates::default(),
            probe: None,
            probed: None,
            counting: None,
            tokens: None,
            making: None,
            made: None,
        }
    }

    /// The published model that is counted in place of the open one.
    pub fn preset(&self) -> Option<&'static Preset> {
        self.preset
    }

    /// The run whose memory is predicted.
    pub fn load(&self) -> &Load {
        &self.memory.load
    }

    /// The memory of a run by each method, and what it fits into.
    pub fn needs(&self) -> Option<&Result<Needs>> {
        self.memory.needs.as_ref()
    }

    /// Ranks for the open model.
    pub fn choice(&self) -> Option<&Result<Choice>> {
        self.ranks.choice.as_ref()
    }

    /// The budget that a person has set.
    pub fn budget(&self) -> Option<u64> {
        self.ranks.budget
    }

    /// What a probe has found.
    pub fn probed(&self) -> Option<&Probed> {
        self.probed.as_ref()
    }

    /// True while one runs.
    pub fn is_probing(&self) -> bool {
        self.probe.is_some()
    }

    /// The data set that was counted.
    pub fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// What updates share, what they do to their base, what is amiss with their scales.
    pub fn updates(&self) -> &Updates {
        &self.updates
    }

    /// The adapter that was written last.
    pub fn made(&self) -> Option<&Extracted> {
        self.made.as_ref()
    }

    /// True while one is being written.
    pub fn is_making(&self) -> bool {
        self.making.is_some()
    }

    /// Takes in what has come and begins what is wanted.
    pub fn think(&mut self, round: &mut Round<'_>) {
        if self.generation != round.workspace.generation() {
            self.generation = round.workspace.generation();
            (self.probe, self.probed, self.counting, self.tokens, self.made) = (None, None, None, None, None);
            self.updates.forget();
        }
        self.memory.think(self.preset, round.workspace, &self.wake);
        self.ranks.think(round.workspace, &self.wake);
        self.updates.think(round, &self.wake);
        if let Some(found) = finished(&mut self.probe, round) {
            self.probed = Some(found);
        }
        if let Some(found) = finished(&mut self.counting, round) {
            self.tokens = Some(found);
        }
        if let Some(made) = finished(&mut self.making, round) {
            say(round, &made.text);
            self.made = made.adapter.or(self.made.take());
        }
    }

    /// Carries out what was asked for.
    pub fn carry_out(&mut self, ask: Ask, round: &mut Round<'_>) {
        match ask {
            Ask::Model(preset) => self.preset = preset,
            Ask::Load(load) => self.memory.load = load,
            Ask::Budget(budget) => self.ranks.budget = budget,
            Ask::Probe(probe) => match save::probe(&probe, round, &self.wake) {
                Ok(job) => self.probe = Some(job),
                Err(error) => say(round, &sentence(&error)),
            },
            Ask::Tokens(path) => match save::tokens(path, round, &self.wake) {
                Ok(job) => self.counting = Some(job),
                Err(error) => say(round, &sentence(&error)),
            },
            Ask::Compare(path) => self.updates.open(path, round, &self.wake),
            Ask::Forget => self.updates.close(),
            Ask::Side(side) => self.updates.side = side,
            Ask::Intruders => self.updates.look_for_intruders(round, &self.wake),
            Ask::Make(product, path) => {
                let choice = self.ranks.choice.as_ref().and_then(|choice| choice.as_ref().ok());
                match save::make(product, path, choice, self.memory.needs.as_ref(), round, &self.wake) {
                    Ok(job) => self.making = Some(job),
                    Err(error) => say(round, &sentence(&error)),
                }
            }
        }
    }

    /// The jobs that a person can see and stop.
    pub fn running(&self) -> Vec<(&str, Status)> {
        fn shown<T: Send>(job: Option<&Job<T>>) -> Option<(&str, Status)> {
            job.map(|job| (job.title(), job.status()))
        }
        let own = [shown(self.probe.as_ref()), shown(self.counting.as_ref()), shown(self.making.as_ref())];
        own.into_iter().flatten().chain(self.updates.running()).collect()
    }

    /// True while what follows the dial is on its way: memory and ranks, too short a work for the status bar.
    pub fn is_following(&self) -> bool {
        self.memory.is_working() || self.ranks.is_working()
    }

    /// Stops the job of this title.
    pub fn cancel(&mut self, title: &str) {
        fn stop<T: Send>(job: Option<&Job<T>>, title: &str) {
            if let Some(job) = job.filter(|job| job.title() == title) {
                job.cancel();
            }
        }
        stop(self.probe.as_ref(), title);
        stop(self.counting.as_ref(), title);
        stop(self.making.as_ref(), title);
        self.updates.cancel(title);
    }
}

/// The result of a job that has ended, and the job away; what went wrong is said.
pub fn finished<T: Send>(job: &mut Option<Job<T>>, round: &mut Round<'_>) -> Option<T> {
    let result = job.as_mut().and_then(Job::take)?;
    *job = None;
    match result {
        Ok(found) => Some(found),
        Err(error) if error.is_cancelled() => {
            say(round, "Cancelled.");
            None
        }
        Err(error) => {
            say(round, &sentence(&error));
            None
        }
    }
}

pub fn say(round: &mut Round<'_>, text: &str) {
    round.commands.push(Command::Say(text.to_owned()));
}

pub fn sentence(error: &Error) -> String {
    let text = error.to_string();
    if text.ends_with('.') { text } else { format!("{text}.") }
}
