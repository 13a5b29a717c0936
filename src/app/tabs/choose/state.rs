//! What the tab knows and does: the question, the answer, and what is made of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::adapter::Scaling;
use crate::delta::Source;
use crate::error::{Error, Result};
use crate::figure::html::Report;
use crate::job::{Job, Running, Wake};
use crate::plan::advise::{Advice, Facts, section};
use crate::plan::config;
use crate::spectrum::Spectrum;
use crate::train::advise::{Question, SiblingFrom, advise};
use crate::train::store::write_whole;
use crate::train::{Method, Settings};
use crate::workspace::Workspace;

use crate::app::effect::{Effect, Place};
use crate::app::view::{Proposal, Round};

/// Models with fewer parameters are looked at in full without being asked: it takes a second.
pub const SMALL: u64 = 50_000_000;

/// What the views ask for.
#[derive(Clone, Debug)]
pub enum Action {
    /// Turn the dial to the answer and fill the Train tab.
    Take,
    /// The same, and a sweep around it set up.
    Check,
    /// Look at the gradients of a large model too.
    Gradients,
    /// Write the answer as a page, into the program's folder of reports.
    Report,
    /// Write PEFT's LoraConfig.
    Config,
}

/// An answer with what it rests on.
#[derive(Debug)]
pub struct Answer {
    /// What is known.
    pub facts: Facts,
    /// The answer.
    pub advice: Advice,
}

/// What the answer depends on.
#[derive(Clone, PartialEq)]
struct Key {
    generation: u64,
    settings: Settings,
    runs: Vec<PathBuf>,
    spectra: usize,
    gradients: bool,
}

/// The tab's state.
pub struct Choosing {
    wake: Wake,
    home: PathBuf,
    key: Option<Key>,
    job: Option<Job<Answer>>,
    answer: Option<Arc<Answer>>,
    failure: Option<Error>,
    gradients: bool,
    writing: Option<Job<String>>,
}

impl Choosing {
    /// Nothing yet.
    pub fn new(wake: Wake, home: &Path) -> Self {
        Self {
            wake,
            home: home.to_path_buf(),
            key: None,
            job: None,
            answer: None,
            failure: None,
            gradients: false,
            writing: None,
        }
    }

    /// The last answer: it stays until the next one is there.
    pub fn answer(&self) -> Option<&Arc<Answer>> {
        self.answer.as_ref()
    }

    /// Why there is none.
    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// True while a new answer is on its way.
    pub fn is_working(&self) -> bool {
        self.job.is_some()
    }

    /// What is done for it.
    pub fn stage(&self) -> String {
        let stage = self.job.as_ref().map(Job::stage).unwrap_or_default();
        if stage.is_empty() { "thinking".to_owned() } else { stage }
    }

    /// How far the work is, from 0 to 1.
    pub fn fraction(&self) -> f32 {
        self.job.as_ref().and_then(|job| job.status().fraction).unwrap_or(0.0)
    }

    /// True where the gradients of the data were not looked at, and could be.
    pub fn offers_gradients(&self) -> bool {
        let known = |answer: &Arc<Answer>| !answer.facts.gradients.is_empty() || answer.facts.data.is_none();
        !self.gradients && self.answer.as_ref().is_some_and(|answer| !known(answer))
    }

    /// True where a sibling is open whose spectra are not known yet.
    pub fn wants_spectra(&self, workspace: &Workspace) -> bool {
        workspace.delta().is_some_and(|delta| !matches!(delta.source(), Source::Weight)) && workspace.known() == 0
    }

    /// Jobs that a person can see and stop.
    pub fn running(&self) -> Vec<&dyn Running> {
        let writing = self.writing.iter().map(|job| job as &dyn Running);
        self.job.iter().map(|job| job as &dyn Running).chain(writing).collect()
    }

    /// Takes in what has come; asks anew where the question is another and somebody looks.
    pub fn logic(&mut self, round: &mut Round<'_>, seen: bool) {
        if let Some(result) = self.job.as_mut().and_then(Job::take) {
            self.job = None;
            match result {
                Ok(answer) => (self.answer, self.failure) = (Some(Arc::new(answer)), None),
                Err(error) if error.is_cancelled() => {}
                Err(error) => self.failure = Some(error),
            }
        }
        if let Some(text) = round.finished(&mut self.writing) {
            round.say(text);
        }
        if !seen {
            return;
        }
        let (workspace, Some(draft)) = (round.workspace, round.board.draft.clone()) else { return };
        let Some(base) = workspace.base() else { return };
        let small = base.parameters() < SMALL;
        let runs = round.board.runs.as_deref().unwrap_or_default();
        let key = Key {
            generation: workspace.generation(),
            settings: asked(&draft, base.path()),
            runs: runs.iter().map(|past| past.folder.clone()).collect(),
            // Each new spectrum of a large model would begin a new answer: the last one does.
            spectra: if workspace.known() == workspace.delta().map_or(0, |delta| delta.entries().len()) || small {
                workspace.known()
            } else {
                0
            },
            gradients: self.gradients || small,
        };
        if self.key.as_ref() == Some(&key) {
            return;
        }
        if self.key.as_ref().is_none_or(|before| before.generation != key.generation) {
            (self.answer, self.gradients) = (None, false);
        }
        let question = Question {
            settings: key.settings.clone(),
            sibling: spectra(workspace),
            room: None,
            runs: key.runs.clone(),
            batches: usize::from(key.gradients),
        };
        self.key = Some(key);
        self.failure = None;
        self.job = Some(Job::spawn("Choosing a rank", Arc::clone(&self.wake), move |progress| {
            let (facts, advice) = advise(&question, progress)?;
            Ok(Answer { facts, advice })
        }));
    }

    /// Does what a view has asked for.
    pub fn carry_out(&mut self, action: Action, round: &mut Round<'_>) {
        let Some(answer) = self.answer.clone() else { return };
        match action {
            Action::Take => take(&answer.advice, false, round),
            Action::Check => take(&answer.advice, true, round),
            Action::Gradients => self.gradients = true,
            Action::Report => self.write("which-rank.html", move || {
                let mut report = Report::new(format!("Which rank for {}", answer.facts.layout.name));
                section(&mut report, &answer.advice);
                report.html()
            }),
            Action::Config => self.write("lora_config.json", move || {
                let document = config::advised(&answer.facts.layout, &answer.facts.selection, &answer.advice);
                serde_json::to_string_pretty(&document).map_err(|error| Error::failure(error.to_string()))
            }),
        }
    }

    fn write(&mut self, name: &'static str, text: impl FnOnce() -> Result<String> + Send + 'static) {
        let path = self.home.join("advice").join(name);
        self.writing = Some(Job::spawn(format!("Writing {name}"), Arc::clone(&self.wake), move |_| {
            write_whole(&path, text()?.as_bytes())?;
            Ok(format!("{} is written.", path.display()))
        }));
    }
}

/// Turns the dial to the answer, and has the Train tab take over the rest.
fn take(advice: &Advice, check: bool, round: &mut Round<'_>) {
    let mut dial = round.workspace.dial().clone();
    (dial.r, dial.alpha, dial.scaling) = (advice.r, advice.alpha, Scaling::new(advice.rslora));
    if let Ok(targets) = advice.targets.parse() {
        dial.targets = targets;
    }
    round.effects.push(Effect::Turn(dial));
    let ranks = if check { vec![(advice.r / 4).max(1), advice.r, 4 * advice.r] } else { Vec::new() };
    round.board.proposal = Some(Proposal { lr: Some(advice.lr), ranks, ..Proposal::default() });
    round.effects.push(Effect::Show(Place::part("train", if check { "sweep" } else { "run" })));
    round.say(format!("r = {}, α = {} and rate {:.0e} stand in Train.", advice.r, advice.alpha, advice.lr));
}

/// Of the next run as it is set up what the answer depends on: all linear layers are asked about, whatever the dial says, and a
/// full fine-tune has no rank.
fn asked(draft: &Settings, base: &Path) -> Settings {
    let fresh = Settings::default();
    Settings {
        model: base.to_path_buf(),
        method: if draft.method == Method::Full { Method::Lora } else { draft.method },
        rank: fresh.rank,
        alpha: None,
        rslora: false,
        targets: fresh.targets,
        lr: fresh.lr,
        out: PathBuf::new(),
        init_adapter: None,
        rank_pattern: fresh.rank_pattern,
        prompts: Vec::new(),
        ..draft.clone()
    }
}

/// The spectra that are known of an open sibling.
fn spectra(workspace: &Workspace) -> Option<SiblingFrom> {
    let delta = workspace.delta()?;
    let (name, adapter) = match delta.source() {
        Source::Weight => return None,
        Source::Tuned(model) => (model.name(), None),
        Source::Adapter(adapter) => (adapter.name(), adapter.layers.iter().map(|layer| layer.r).max()),
    };
    let linear = delta.entries().iter().filter(|entry| entry.linear);
    let known: Vec<(String, Arc<Spectrum>)> =
        linear.filter_map(|entry| Some((entry.name.clone(), Arc::clone(workspace.latest(&entry.name)?)))).collect();
    (!known.is_empty()).then_some(SiblingFrom::Spectra { name, adapter, known })
}
