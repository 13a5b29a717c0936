//! [`Action`]: what the tab asks for, and how it is carried out.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::app::effect::{Effect, Place};
use crate::app::shared::talk::Edit as TalkEdit;
use crate::app::view::Round;
use crate::app::work::system::open_folder;
use crate::demo;
use crate::error::{Error, Result};
use crate::job::Running as _;
use crate::model::Frozen;
use crate::train::Settings;
use crate::train::history;
use crate::train::run::Start;
use crate::train::sweep::Group;
use crate::train::talk::{Question, Side, Tuned};
use crate::workspace::Request;

use super::export::{Form, Purpose};
use super::{Closing, Draft, JobChoice, Subject, Task, Training};

/// What the tab asks for.
#[derive(Clone, Debug)]
pub enum Action {
    /// The next run is set up like this.
    Set(Box<Draft>),
    /// Train on this file.
    Data(PathBuf),
    /// Data, runs, models or adapters that were dropped on the window.
    Dropped(Vec<PathBuf>),
    /// Train on a data set that came with the model.
    Bundled(usize),
    /// Action for a path with the system's dialog.
    Choose(Purpose),
    /// Read the data file again.
    ReadAgain,
    /// Begin the run that is set up.
    Start,
    /// Begin LoRA, QLoRA and full, one after the other, on the same data and seed.
    StartMethods,
    /// Begin a run for each rank.
    StartSweep,
    /// Look for an adapter's new directions, and what scaling them down does.
    LookForNew(Box<Subject>),
    /// No more of it.
    StopLooking,
    /// Write the adapter with its new directions scaled.
    WriteScaled(f64),
    /// Measure what is forgotten on the bundled base's own text.
    OwnText,
    /// Hold the run between two steps, or let it go on.
    Hold(bool),
    /// End the run with a checkpoint.
    Stop,
    /// Go on with a run after its last checkpoint.
    GoOn(PathBuf),
    /// Begin a new run at a checkpoint of another.
    Branch(PathBuf, usize),
    /// Look at a run.
    Show(PathBuf),
    /// Set up the next run as this one was.
    Again(PathBuf),
    /// Lay a run over others, or take it away.
    Compare(PathBuf, bool),
    /// Look at a sweep.
    ShowSweep(PathBuf),
    /// Go on with a sweep that was stopped.
    ResumeSweep(PathBuf),
    /// Keep what a person has noted about a run.
    Note(PathBuf, String),
    /// Delete a run.
    Delete(PathBuf),
    /// Keep new runs in this folder, or in the program's own again.
    Keep(Option<PathBuf>),
    /// Ask where the model of a run with its adapter merged in is to go; or ask no more.
    OfferMerge(Option<PathBuf>),
    /// Write the model of a run with its adapter merged in.
    Merge(PathBuf, PathBuf, Form),
    /// Ask how a run, or the one that is set up, is to be taken to a cluster.
    OfferJob(Option<PathBuf>),
    /// Ask no more.
    CloseJob,
    /// How it is to be taken there.
    ChooseJob(Box<JobChoice>),
    /// Write its folder.
    WriteJob,
    /// Look for runs in this folder no more.
    ForgetFolder(PathBuf),
    /// Do not offer any more to go on with this run.
    PutAside(PathBuf),
    /// Look at ΔW of a run, or of one of its checkpoints.
    Spectrum(PathBuf, Option<usize>),
    /// Ask a run's model and its base.
    Talk(TalkEdit, Partner),
    /// Show a folder in the system's file manager.
    OpenFolder(PathBuf),
    /// Close the window, with a checkpoint; or do not.
    Close(bool),
}

/// Whom one talks to.
#[derive(Clone, Debug, PartialEq)]
pub enum Partner {
    /// The base and the result of a run.
    Run(PathBuf),
    /// The open base, and what ΔW comes from.
    Open(PathBuf, Option<Tuned>),
}

impl Training {
    /// Carries out what was asked for.
    pub fn carry_out(&mut self, action: Action, round: &mut Round<'_>) {
        match action {
            Action::Set(draft) => self.set(*draft, round),
            Action::Data(path) => {
                let at = path.clone();
                self.in_background(
                    "Looking at a path",
                    move || Ok(is_run(&at)),
                    move |training, run, round| {
                        if run { training.add_run(&path, round) } else { training.data(path, round) }
                    },
                );
            }
            Action::Dropped(paths) => {
                let look = move || Ok(paths.into_iter().map(|path| (is_run(&path), path)).collect::<Vec<_>>());
                self.in_background("Looking at what was dropped", look, |training, paths, round| {
                    paths.into_iter().for_each(|(run, path)| training.dropped(run, path, round));
                });
            }
            Action::Bundled(number) => {
                let mut draft = self.draft.clone().unwrap_or_default();
                if let Some(set) = self.sets.1.get(number) {
                    draft.train_on(&self.home, set);
                    self.outlook.read_again();
                    self.set(draft, round);
                }
            }
            Action::Choose(purpose) => self.exports.choose(purpose),
            Action::ReadAgain => self.outlook.read_again(),
            Action::Start => self.start(round),
            Action::StartMethods => self.start_methods(round),
            Action::StartSweep => self.start_sweep(round),
            Action::LookForNew(subject) => self.damping.begin(*subject),
            Action::StopLooking => self.damping.stop(),
            Action::WriteScaled(scale) => self.write_scaled(scale),
            Action::OwnText => {
                let home = self.home.clone();
                self.in_background(
                    "Writing text",
                    move || demo::own_text(&home),
                    |training, path, round| {
                        let mut draft = training.draft.clone().unwrap_or_default();
                        draft.settings.forget_data = Some(path);
                        training.set(draft, round);
                    },
                );
            }
            Action::Hold(held) => {
                if let Some(live) = &self.live {
                    live.hold(held);
                }
            }
            Action::Stop => {
                if let Some(live) = &self.live {
                    live.cancel();
                }
            }
            Action::GoOn(folder) => self.go_on(folder, round),
            Action::Branch(folder, step) => self.branch(folder, step, round),
            Action::Show(folder) => self.show(&folder),
            Action::Again(folder) => {
                self.in_background("Reading a run", move || history::settings(&folder), Self::again)
            }
            Action::Compare(folder, on) => self.compare(&folder, on),
            Action::ShowSweep(folder) => {
                let read = move || Ok((Group::read(&folder).unwrap_or_default(), folder));
                self.in_background("Reading a sweep", read, |training, (group, folder), _| {
                    training.sweep_left = group.missing();
                    training.sweep = Some((folder, group.rows));
                });
            }
            Action::ResumeSweep(folder) => self.resume_sweep(folder, round),
            Action::Note(folder, note) => {
                let write = move || history::write_note(&folder, &note);
                self.in_background("Writing a note", write, |training, (), _| training.run_list.look_again());
            }
            Action::Delete(folder) => self.delete(folder),
            Action::Keep(folder) => self.keep(folder, round),
            Action::OfferMerge(run) => {
                self.merging = run.map(|run| {
                    let out = self.merged_folder(&self.runs_folder(), &run);
                    (run, out)
                });
            }
            Action::Merge(run, out, form) => {
                let at = out.clone();
                let device = self.draft.as_ref().map(|draft| draft.settings.device).unwrap_or_default();
                self.in_background(
                    "Looking at a folder",
                    move || is_free_for_a_model(&at),
                    move |training, (), round| match training.exports.merge(run, out, form, device) {
                        Ok(()) => training.merging = None,
                        Err(error) => round.effects.push(Effect::Complain(error)),
                    },
                );
            }
            Action::OfferJob(run) => self.offer_job(run, round),
            Action::CloseJob => self.handed = None,
            Action::ChooseJob(choice) => self.choose_job(*choice, round),
            Action::WriteJob => self.write_job(),
            Action::ForgetFolder(folder) => round.settings.run_folders.retain(|known| *known != folder),
            Action::PutAside(folder) => {
                self.interrupted.retain(|known| *known != folder);
                round.settings.put_aside(&folder);
            }
            Action::Spectrum(folder, step) => {
                self.in_background(
                    "Reading a run",
                    move || {
                        let past = history::Past::read(&folder)?;
                        let has_base = past.settings.model.exists();
                        Ok((past, has_base))
                    },
                    move |training, (past, has_base), round| {
                        training.spectrum(&past, has_base, step, round);
                    },
                );
            }
            Action::Talk(TalkEdit::Stop, _) => self.talk.stop(),
            Action::Talk(TalkEdit::Ask(question), partner) => self.ask(question, partner),
            Action::OpenFolder(folder) => {
                let show = move || open_folder(&folder);
                self.in_background("Opening a folder", show, |_, (), _| {});
            }
            Action::Close(true) => {
                self.closing = Closing::Soon;
                if let Some(live) = &self.live {
                    live.cancel();
                }
            }
            Action::Close(false) => self.closing = Closing::No,
        }
    }

    fn set(&mut self, draft: Draft, round: &mut Round<'_>) {
        round.settings.training = draft.kept();
        self.draft = Some(draft);
    }

    fn data(&mut self, path: PathBuf, round: &mut Round<'_>) {
        let mut draft = self.draft.clone().unwrap_or_default();
        Draft::other_data(&mut draft.settings, path);
        self.outlook.read_again();
        self.set(draft, round);
    }

    fn dropped(&mut self, run: bool, path: PathBuf, round: &mut Round<'_>) {
        let part = if run {
            self.add_run(&path, round);
            "run"
        } else if is_data(&path) {
            self.data(path, round);
            "data"
        } else {
            return round.effects.open(path);
        };
        round.effects.push(Effect::Show(Place::part("train", part)));
    }

    fn delete(&mut self, folder: PathBuf) {
        let name = history::name(&folder);
        let (gone, title) = (folder.clone(), format!("Deleting {name}"));
        self.in_background(
            title,
            move || history::delete(&gone),
            move |training, (), round| {
                training.forget(&folder);
                training.run_list.look_again();
                round.effects.push(Effect::Say(format!("{name} is deleted.")));
            },
        );
    }

    fn forget(&mut self, folder: &Path) {
        self.run_list.leave(folder);
        self.tracks.retain(|track| !track.is_of(folder));
        self.compared.retain(|compared| compared != folder);
        if self.shown.as_deref() == Some(folder) {
            self.shown = None;
        }
    }

    /// What the dialog gave.
    pub(super) fn chosen(&mut self, purpose: Purpose, path: PathBuf, round: &mut Round<'_>) {
        match purpose {
            Purpose::Data => self.carry_out(Action::Data(path), round),
            Purpose::Runs => self.add_folder(path, round),
            Purpose::Keep => self.keep(Some(path), round),
            Purpose::Job => {
                if let Some(handed) = &self.handed {
                    let out = path.join(format!("{}-cluster", handed.name)).display().to_string();
                    self.choose_job(JobChoice { out, ..handed.choice.clone() }, round);
                }
            }
            Purpose::Merged(run) => {
                let out = self.merged_folder(&path, &run);
                self.merging = Some((run, out));
            }
            Purpose::Adapter(run, format) => {
                if let Err(error) = self.exports.save(run, format, &path) {
                    round.effects.push(Effect::Complain(error));
                }
            }
        }
    }

    fn ask(&mut self, question: Question, partner: Partner) {
        let device = self.draft.as_ref().map(|draft| draft.settings.device).unwrap_or_default();
        let names = self.names_of(&partner);
        self.talk.ask(names, question, device, move || match partner {
            Partner::Run(folder) => Side::of_run(&folder).map(Vec::from),
            Partner::Open(base, tuned) => {
                let side = |tuned| Side { base: base.clone(), tuned, frozen: Frozen::AsStored };
                let both = std::iter::once(None).chain(tuned.map(Some));
                Ok(both.map(side).collect())
            }
        });
    }

    /// How the sides are called.
    pub fn names_of(&self, partner: &Partner) -> Vec<String> {
        let bits = |past: &history::Past| past.settings.scheme().map_or("", |_| ", in 4 bits");
        match partner {
            Partner::Run(folder) => {
                let bits = self.past(folder).map_or("", bits);
                vec![format!("Base{bits}"), format!("Tuned: {}", self.tuned_name(folder))]
            }
            Partner::Open(base, tuned) => {
                let tuned = tuned.as_ref().map(|tuned| match tuned {
                    Tuned::Adapter(path) | Tuned::Model(path) => format!("Tuned: {}", super::short(path)),
                });
                std::iter::once(format!("Base: {}", super::short(base))).chain(tuned).collect()
            }
        }
    }

    /// The name of a run, with the step where its newest checkpoint is asked in place of a result.
    pub fn tuned_name(&self, run: &Path) -> String {
        let name = self.name_of(run);
        match self.past(run).and_then(history::Past::in_place_of_result) {
            Some(step) => format!("{name}, step {step}"),
            None => name,
        }
    }

    /// A folder within `around` for the merged model of a run.
    fn merged_folder(&self, around: &Path, run: &Path) -> PathBuf {
        around.join(format!("{}-merged", history::name(run).replace('/', "-")))
    }

    /// New runs go elsewhere from now on; those that are there already stay, and are listed as before.
    fn keep(&mut self, folder: Option<PathBuf>, round: &mut Round<'_>) {
        let own = self.own_folder();
        let Some(folder) = folder.filter(|folder| *folder != own) else { return self.kept_in(None, round) };
        let at = folder.clone();
        self.in_background(
            "Looking at a folder",
            move || history::can_hold_runs(&at),
            |training, (), round| {
                training.kept_in(Some(folder), round);
            },
        );
    }

    fn kept_in(&mut self, folder: Option<PathBuf>, round: &mut Round<'_>) {
        let before = self.runs_folder();
        self.kept.clone_from(&folder);
        round.settings.runs = folder;
        let now = self.runs_folder();
        round.settings.run_folders.retain(|known| *known != now);
        if before != now {
            self.add_folder(before, round);
            round.effects.push(Effect::Say(format!("New runs go to {}.", now.display())));
        }
    }

    fn add_folder(&mut self, path: PathBuf, round: &mut Round<'_>) {
        let known = &mut round.settings.run_folders;
        if path != self.runs_folder() && path != self.own_folder() && !known.contains(&path) {
            known.push(path);
        }
    }

    /// A run that was dropped on the window, or chosen.
    fn add_run(&mut self, path: &Path, round: &mut Round<'_>) {
        let around = path.parent().map_or_else(|| path.to_path_buf(), Path::to_path_buf);
        self.add_folder(around, round);
        self.show(path);
    }

    /// False, with a sentence, while something is trained already.
    pub(super) fn is_free(&self, round: &mut Round<'_>) -> bool {
        if self.live.is_some() {
            let busy = Error::usage("a run is training in this window already; stop it first, or wait");
            round.effects.push(Effect::Complain(busy));
        }
        self.live.is_none()
    }

    /// The settings of the draft, ready to run in this folder.
    pub(super) fn ready(&mut self, round: &mut Round<'_>) -> Option<Draft> {
        let draft = self.draft.clone()?;
        if !self.is_free(round) {
            return None;
        }
        if let Some(problem) = self.outlook.problem(&draft, round.workspace) {
            round.effects.push(Effect::Complain(Error::usage(problem)));
            return None;
        }
        self.failure = None;
        Some(draft)
    }

    fn start(&mut self, round: &mut Round<'_>) {
        let Some(mut draft) = self.ready(round) else { return };
        let free = self.free_folder(&draft.name, &Self::made_up(&draft.settings));
        self.in_background(
            "Looking for a folder",
            move || Ok(free.claim()),
            |training, out, round| {
                draft.settings.out = out;
                training.begin_next(Task::Run(Box::new(draft.settings), Start::default()), VecDeque::new(), round);
            },
        );
    }

    fn write_scaled(&mut self, scale: f64) {
        let Some(subject) = self.damping.subject() else { return };
        let name = history::name(&subject.adapter).replace('/', "-");
        let free = self.free_folder("", &format!("{name}-mended"));
        self.in_background(
            "Looking for a folder",
            move || Ok(free.claim()),
            move |training, out, _| {
                training.damping.write(scale, out);
            },
        );
    }

    /// Begins, unless something else has begun meanwhile.
    pub(super) fn begin_next(&mut self, task: Task, queue: VecDeque<Task>, round: &mut Round<'_>) -> bool {
        let free = self.is_free(round);
        if free {
            self.begin(task, queue);
        }
        free
    }

    fn go_on(&mut self, folder: PathBuf, round: &mut Round<'_>) {
        if self.is_free(round) {
            self.in_background("Reading a run", move || history::Past::read(&folder), Self::go_on_with);
        }
    }

    fn go_on_with(&mut self, past: history::Past, round: &mut Round<'_>) {
        if !self.is_free(round) {
            return;
        }
        let (folder, settings) = (past.folder.clone(), past.settings.clone());
        self.opened(past);
        self.run_list.leave(&folder);
        self.interrupted.retain(|known| *known != folder);
        self.shown = Some(folder);
        // Where it computes is no part of a run: it goes on where the next run would.
        let device = self.draft.as_ref().map(|draft| draft.settings.device).unwrap_or_default();
        let task = Task::Run(Box::new(Settings { device, ..settings }), Start { resume: true, force: false });
        self.begin(task, VecDeque::new());
    }

    fn branch(&mut self, folder: PathBuf, step: usize, round: &mut Round<'_>) {
        if !self.is_free(round) {
            return;
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let free = self.free_folder("", &format!("{name}-from-{step}"));
        let copy = move || history::Past::read(&history::branch(&folder, step, &free.claim())?.out);
        self.in_background(format!("Copying {name} as it was at step {step}"), copy, Self::go_on_with);
    }

    fn show(&mut self, folder: &Path) {
        if !self.tracks.iter().any(|track| track.is_of(folder)) {
            self.open(folder);
        }
        self.shown = Some(folder.to_path_buf());
    }

    fn again(&mut self, settings: Settings, round: &mut Round<'_>) {
        let mut dial = round.workspace.dial().clone();
        dial.r = settings.rank;
        dial.alpha = settings.alpha();
        dial.scaling = crate::workspace::Scaling::new(settings.rslora);
        if let Ok(targets) = settings.targets.parse() {
            dial.targets = targets;
        }
        if round.workspace.base().is_none_or(|base| base.path() != settings.model) {
            round.effects.open(settings.model.clone());
        }
        round.effects.push(Effect::Turn(dial));
        let before = self.draft.clone().unwrap_or_default();
        let settings = Settings { device: before.settings.device, ..settings };
        let draft = Draft { settings, name: String::new(), ..before };
        self.set(draft, round);
    }

    fn compare(&mut self, folder: &Path, on: bool) {
        self.compared.retain(|compared| compared != folder);
        if on {
            if !self.tracks.iter().any(|track| track.is_of(folder)) {
                self.open(folder);
            }
            self.compared.push(folder.to_path_buf());
        }
    }

    fn spectrum(&mut self, past: &history::Past, has_base: bool, step: Option<usize>, round: &mut Round<'_>) {
        match (past.weights(step), step) {
            (Some(weights), _) => {
                // The spectra of an adapter need no base; one that another program has used may not be here.
                let request = match has_base || past.foreign.is_none() {
                    true => Request::Pair(past.settings.model.clone(), weights),
                    false => Request::Any(weights),
                };
                round.effects.push(Effect::Open(request));
                round.effects.push(Effect::Show(Place::tab("spectrum")));
            }
            (None, Some(step)) if past.foreign.is_none() => self.exports.checkpoint(past.settings.clone(), step),
            (None, _) => {
                let error = Error::file(&past.folder, "the run has no result yet; choose one of its checkpoints");
                round.effects.push(Effect::Complain(error));
            }
        }
    }
}

/// True for a file that is data rather than a model: dropped on the window it goes to the Train tab.
fn is_data(path: &Path) -> bool {
    let ends = |name: &&str| path.extension().is_some_and(|end| end.eq_ignore_ascii_case(name));
    // A model's own files end in .json as well.
    let model = path.file_stem().is_some_and(|stem| stem.to_string_lossy().contains("config"));
    let data = ["jsonl", "ndjson", "csv", "tsv", "parquet", "txt", "text", "md"];
    data.iter().any(&ends) || ends(&"json") && !model && !path.to_string_lossy().ends_with(".index.json")
}

/// True for the folder of a run, of this program or another. One that holds nothing but an adapter is opened as that.
fn is_run(path: &Path) -> bool {
    let Ok(past) = history::Past::read(path) else { return false };
    match &past.foreign {
        None => path.join("metrics.jsonl").is_file(),
        Some(foreign) => foreign.result.is_none() || !foreign.checkpoints.is_empty() || past.last.is_some(),
    }
}

fn is_free_for_a_model(folder: &Path) -> Result<()> {
    if folder.as_os_str().is_empty() {
        return Err(Error::usage("no folder to write the merged model to"));
    }
    if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::file(folder, "there is something in this folder already; choose a new or an empty one"));
    }
    Ok(())
}
