//! What the choice of a rank needs: memory, ranks under a budget, gradients, what updates share, an adapter's scales.
//!
//! Everything is computed in jobs; the last answer stays until the next one is there.

mod memory;
mod ranks;
mod save;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::adapter::Adapter;
use crate::delta::Source;
use crate::error::Result;
use crate::job::{Job, Running, Wake};
use crate::plan::budget::Target;
use crate::plan::doctor::{self, Diagnosis};
use crate::plan::extract::Extracted;
use crate::plan::serve::{RUNTIMES, Runtime, Verdict};
use crate::plan::{Load, Preset, Targets};
use crate::train::probe::Probed;

use crate::app::effect::{Effect, Place};
use crate::app::view::{Proposal, Round, Spread};
use crate::app::work::dialog::{Dialog, Kind};
use crate::app::work::export::Chapter;

pub use memory::Needs;
pub use ranks::{Choice, RULES};
pub use save::Product;

/// What the tabs ask for.
#[derive(Clone, Debug)]
pub enum Action {
    /// Count and predict for a published model in place of the open one.
    Model(Option<&'static Preset>),
    /// Batch, sequence and so on of the predicted run.
    Load(Load),
    /// So many trainable parameters, or a share of the energy; `None` for 95 %.
    Budget(Option<Target>),
    /// Gradients of the frozen model on this data.
    Probe(Probe),
    /// Count the tokens of this data.
    Tokens(PathBuf),
    /// Choose a path with the system's dialog.
    Browse(Asked),
    /// Train with the ranks that a probe has suggested.
    UseProbed,
    /// Train one rank for all and a rank for each, to compare them.
    TrainBoth(Option<Spread>),
    /// Make something of the plan.
    Make(Product, PathBuf),
}

/// What a path is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The data of a probe.
    Data,
    /// Where a product goes that is chosen afterwards.
    Place,
    /// This product, which is made there at once.
    Product(Product),
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

/// What is computed and known for the tab; panels look at it and push [`Action`]s.
pub struct Planning {
    wake: Wake,
    generation: u64,
    preset: Option<&'static Preset>,
    memory: memory::Memory,
    ranks: ranks::Ranks,
    diagnosis: Option<Examined>,
    /// The adapter that was examined, or is.
    examined: Option<Arc<Adapter>>,
    examining: Option<Job<Examined>>,
    probe: Option<Job<Probed>>,
    probed: Option<Probed>,
    counting: Option<Job<Tokens>>,
    tokens: Option<Tokens>,
    dialog: Option<(Asked, Dialog)>,
    /// The path that the dialog gave, for one round.
    chosen: Option<(Asked, PathBuf)>,
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
            diagnosis: None,
            examined: None,
            examining: None,
            probe: None,
            probed: None,
            counting: None,
            tokens: None,
            dialog: None,
            chosen: None,
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

    /// The open adapter's scales.
    pub fn diagnosis(&self) -> Option<&Diagnosis> {
        self.diagnosis.as_ref().map(|examined| &examined.diagnosis)
    }

    /// What each program that serves adapters does with the open one.
    pub fn served(&self) -> &[(&'static str, Vec<Verdict>)] {
        self.diagnosis.as_ref().map_or(&[], |examined| &examined.served)
    }

    /// What a person has just chosen in the dialog.
    pub fn chosen(&self, asked: Asked) -> Option<&PathBuf> {
        self.chosen.as_ref().filter(|(of, _)| *of == asked).map(|(_, path)| path)
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
    pub fn logic(&mut self, round: &mut Round<'_>) {
        if self.generation != round.workspace.generation() {
            self.generation = round.workspace.generation();
            (self.probe, self.probed, self.counting, self.tokens, self.made) = (None, None, None, None, None);
            (self.diagnosis, self.examined, self.examining) = (None, None, None);
        }
        self.memory.logic(self.preset, round.workspace, &self.wake);
        self.ranks.logic(round.workspace, &self.wake);
        self.examine(round);
        self.chosen = None;
        if let Some((asked, dialog)) = &mut self.dialog
            && let Some(answer) = dialog.take()
        {
            let asked = *asked;
            self.dialog = None;
            match (answer, asked) {
                (Ok(Some(path)), Asked::Product(product)) => self.make(product, path, round),
                (Ok(path), _) => self.chosen = path.map(|path| (asked, path)),
                (Err(error), _) => round.complain(error),
            }
            round.effects.wake();
        }
        if let Some(found) = round.finished(&mut self.probe) {
            self.probed = Some(found);
        }
        if let Some(found) = round.finished(&mut self.counting) {
            self.tokens = Some(found);
        }
        if let Some(made) = round.finished(&mut self.making) {
            round.say(made.text);
            self.made = made.adapter.or(self.made.take());
        }
    }

    /// Carries out what was asked for.
    pub fn carry_out(&mut self, action: Action, round: &mut Round<'_>) {
        match action {
            Action::Model(preset) => self.preset = preset,
            Action::Load(load) => self.memory.load = load,
            Action::Budget(budget) => self.ranks.budget = budget,
            Action::Probe(probe) => match save::probe(&probe, round, &self.wake) {
                Ok(job) => self.probe = Some(job),
                Err(error) => round.complain(error),
            },
            Action::Tokens(path) => match save::tokens(path, round, &self.wake) {
                Ok(job) => self.counting = Some(job),
                Err(error) => round.complain(error),
            },
            Action::Browse(asked) => {
                let start = round.workspace.base().and_then(|base| base.path().parent().map(Path::to_path_buf));
                let (title, kind) = match asked {
                    Asked::Data => ("Data to probe with", Kind::File(&[("All files", &["*"])])),
                    Asked::Place => ("Write to a new folder or file", Kind::Save("ranks".to_owned(), &[])),
                    Asked::Product(product) => (product.title(), Kind::Save(product.file().to_owned(), &[])),
                };
                self.dialog = Some((asked, Dialog::open(title, kind, start.as_deref(), &self.wake)));
            }
            Action::UseProbed => self.use_probed(round),
            Action::TrainBoth(spread) => {
                round.board.proposal = Some(Proposal { spread, ..Proposal::default() });
                round.effects.push(Effect::Show(Place::part("train", "compare")));
            }
            Action::Make(product, path) => self.make(product, path, round),
        }
    }

    /// What is to be kept, or spent.
    pub fn target(&self) -> Target {
        self.ranks.budget.unwrap_or(ranks::USUAL)
    }

    /// Ranks and memory, for a report of the session.
    pub fn report(&self, round: &Round<'_>) -> Option<Chapter> {
        save::chapter(self.ranks.choice.as_ref(), self.memory.needs.as_ref(), round)
    }

    fn make(&mut self, product: Product, path: PathBuf, round: &mut Round<'_>) {
        let choice = self.ranks.choice.as_ref().and_then(|choice| choice.as_ref().ok());
        let plan = save::Plan { choice, needs: self.memory.needs.as_ref(), probed: self.probed.as_ref() };
        match save::make(product, path, &plan, round, &self.wake) {
            Ok(job) => self.making = Some(job),
            Err(error) => round.complain(error),
        }
    }

    /// The dial takes the modules that the probe gives a rank, and the next run these ranks.
    fn use_probed(&mut self, round: &mut Round<'_>) {
        let Some(probed) = &self.probed else { return };
        let suggested = probed.modules.iter().filter(|module| module.suggested > 0);
        let rank_pattern: BTreeMap<String, usize> =
            suggested.map(|module| (module.name.clone(), module.suggested)).collect();
        if rank_pattern.is_empty() {
            return;
        }
        let mut dial = round.workspace.dial().clone();
        dial.targets = Targets::Custom(rank_pattern.keys().cloned().collect());
        round.effects.push(Effect::Turn(dial));
        round.say(format!("Ranks of {} modules stand in Train.", rank_pattern.len()));
        round.board.proposal = Some(Proposal { rank_pattern, ..Proposal::default() });
        round.effects.push(Effect::Show(Place::part("train", "data")));
    }

    /// Looks at the scales of an adapter that was opened, once.
    fn examine(&mut self, round: &mut Round<'_>) {
        round.quietly(&mut self.examining, &mut self.diagnosis);
        let Some(Source::Adapter(adapter)) = round.workspace.delta().map(|delta| delta.source()) else { return };
        if self.examined.as_ref().is_some_and(|known| Arc::ptr_eq(known, adapter)) {
            return;
        }
        self.examined = Some(Arc::clone(adapter));
        let (adapter, layout) = (Arc::clone(adapter), round.workspace.layout().cloned());
        let base = round.workspace.base().cloned();
        self.examining = Some(Job::spawn("Looking at scales", Arc::clone(&self.wake), move |progress| {
            let diagnosis = doctor::examine(&adapter, layout.as_deref(), progress)?;
            let verdicts = |runtime: &'static Runtime| (runtime.name, runtime.verdicts(&adapter, base.as_deref()));
            Ok(Examined { diagnosis, served: RUNTIMES.iter().map(verdicts).collect() })
        }));
    }

    /// The jobs that a person can see and stop.
    pub fn running(&self) -> Vec<&dyn Running> {
        let probe = self.probe.iter().map(|job| job as &dyn Running);
        let counting = self.counting.iter().map(|job| job as &dyn Running);
        let making = self.making.iter().map(|job| job as &dyn Running);
        probe.chain(counting).chain(making).collect()
    }

    /// True while what follows the dial is on its way: memory and ranks, too short a work for the status bar.
    pub fn is_following(&self) -> bool {
        self.memory.is_working() || self.ranks.is_working()
    }
}

/// What was found in an adapter.
struct Examined {
    diagnosis: Diagnosis,
    served: Vec<(&'static str, Vec<Verdict>)>,
}
