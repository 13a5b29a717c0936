//! What the Train tab knows and does: runs, their history, comparisons and sweeps.
//!
//! ```text
//! Draft ─ Outlook (data, memory, time) ─► Task ─► Live ─ LiveEvent ─► Track ◄─ Follow ─ RunList (run folders)
//! Action ─ Errand (the disk, beside the window) ─► Training
//! ```

mod action;
mod background;
mod damping;
mod draft;
mod export;
mod job;
mod live;
mod pause;
mod run_list;
mod several;
mod track;
mod words;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eframe::egui;

use crate::demo::{DataSet, Sample};
use crate::error::{Error, Result};
use crate::job::{Running, Wake};
use crate::train::history::{self, Past};
use crate::train::sweep::{self, Row};
use crate::train::{Method, Settings};
use crate::workspace::{Request, Workspace};

use crate::app::effect::{Effect, Place};
use crate::app::shared::talk::Talk;
use crate::app::view::Round;

pub use action::{Action, Partner};
pub use damping::{Damping, Subject, TOP};
pub use draft::{Draft, Fit, Outlook, method_name};
pub use export::{FORMATS, Form, GGUFS, Purpose, metrics, short};
pub use job::{Handed, JobChoice};
pub use live::{Live, Task};
pub use run_list::RunList;
pub use track::{Track, smoothed};
pub use words::in_words;

use background::BackgroundTasks;
use export::Exports;
use live::LiveEvent;

/// What is computed and known for the tab; panels look at it and push [`Action`]s.
pub struct Training {
    wake: Wake,
    home: PathBuf,
    /// Where a person wants runs to be kept.
    kept: Option<PathBuf>,
    draft: Option<Draft>,
    outlook: Outlook,
    live: Option<Live>,
    run_list: RunList,
    tracks: Vec<Track>,
    /// The run that is looked at.
    shown: Option<PathBuf>,
    /// Runs laid over each other.
    compared: Vec<PathBuf>,
    /// Rows of the sweep that was last begun or looked at, and its folder.
    sweep: Option<(PathBuf, Vec<Row>)>,
    /// Runs of it that are still to be done, while it does not go on.
    sweep_left: usize,
    /// Why the last run could not go on, with its folder.
    failure: Option<(PathBuf, String)>,
    /// Runs whose program was gone when this window began, and that nobody has put aside.
    interrupted: Vec<PathBuf>,
    looked: bool,
    /// Data sets that came with the open model, and which opening they were looked for at.
    sets: (u64, Arc<[DataSet]>),
    exports: Exports,
    background: BackgroundTasks,
    /// A run that is to be merged, and the folder for the model, until a person says so.
    merging: Option<(PathBuf, PathBuf)>,
    /// A run that is to be taken to a cluster.
    handed: Option<Handed>,
    closing: Closing,
    talk: Talk,
    damping: Damping,
}

/// A folder for a new run that is still to be found.
struct FreeFolder {
    home: PathBuf,
    named: String,
    otherwise: String,
}

impl FreeFolder {
    /// The first path that is not there yet. For background tasks: it asks the disk.
    fn claim(self) -> PathBuf {
        let Self { home, named, otherwise } = self;
        if !named.is_empty() && !home.join(&named).exists() {
            return home.join(named);
        }
        let base = if named.is_empty() { otherwise } else { named };
        (1..).map(|n| home.join(format!("{base}-{n}"))).find(|path| !path.exists()).unwrap_or(home)
    }
}

/// Closing the window while a run goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Closing {
    /// Nobody wants to.
    #[default]
    No,
    /// The question is on the screen.
    Asked,
    /// As soon as the run has saved its checkpoint.
    Soon,
    /// Now.
    Now,
}

impl Training {
    /// Nothing yet; `wake` makes the window look again, runs are kept in a folder within `home`.
    pub fn new(wake: Wake, home: PathBuf) -> Self {
        Self {
            run_list: RunList::new(Arc::clone(&wake)),
            exports: Exports::new(Arc::clone(&wake)),
            talk: Talk::new(Arc::clone(&wake)),
            damping: Damping::new(Arc::clone(&wake)),
            wake,
            home,
            kept: None,
            draft: None,
            outlook: Outlook::default(),
            live: None,
            tracks: Vec::new(),
            shown: None,
            compared: Vec::new(),
            sweep: None,
            sweep_left: 0,
            failure: None,
            interrupted: Vec::new(),
            looked: false,
            sets: (0, Arc::default()),
            background: BackgroundTasks::default(),
            merging: None,
            handed: None,
            closing: Closing::No,
        }
    }

    /// Takes in what has come and begins what is wanted.
    pub fn logic(&mut self, round: &mut Round<'_>) {
        let mut draft = self.draft.take().unwrap_or_else(|| Draft::from_kept(&round.settings.training));
        self.bundled(round.workspace);
        let proposal = round.board.proposal.take();
        if let Some(proposal) = &proposal {
            draft.take_over(proposal);
        }
        self.outlook.logic(&mut draft, round.workspace, &self.wake);
        if round.board.draft.as_deref() != Some(&draft.settings) {
            round.board.draft = Some(Arc::new(draft.settings.clone()));
        }
        if proposal.is_some() {
            round.settings.training = draft.kept();
        }
        self.draft = Some(draft);
        if let Some(spread) = proposal.and_then(|proposal| proposal.spread) {
            self.start_spread(spread, round);
        }
        self.kept.clone_from(&round.settings.runs);
        let folders = self.folders(&round.settings.run_folders);
        self.run_list.watch(&folders);
        if self.run_list.logic(&mut self.tracks) {
            self.looked_at_the_disk(&round.settings.put_aside);
        }
        self.receive(round);
        self.finish_background(round);
        self.talk.logic();
        self.damping.logic(round);
        if let Some(news) = self.exports.logic() {
            match news {
                Ok(export::Found::Said(text)) => round.effects.push(Effect::Say(text)),
                Ok(export::Found::Job(written)) => self.job_written(*written),
                Ok(export::Found::Path(purpose, path)) => self.chosen(purpose, path, round),
                Ok(export::Found::Pair(model, tuned)) => {
                    round.effects.push(Effect::Open(Request::Pair(model, tuned)));
                    round.effects.push(Effect::Show(Place::tab("spectrum")));
                }
                Err(error) if self.job_failed(&error) => {}
                Err(error) => round.effects.push(Effect::Complain(error)),
            }
        }
        self.close(round.ctx, round.ending);
        round.board.runs.clone_from(&self.run_list.runs);
        round.board.sets.clone_from(&self.sets.1);
    }

    /// Looks for data sets that came with the open model; the first of them is chosen where none is.
    fn bundled(&mut self, workspace: &Workspace) {
        let generation = workspace.generation();
        if self.sets.0 == generation {
            return;
        }
        self.sets = (generation, Arc::default());
        let Sample { base, mut sets, .. } = Sample::at(&self.home);
        if workspace.base().is_none_or(|open| open.path() != base) {
            return;
        }
        let there = move || {
            sets.retain(|set| set.train.is_file());
            Ok(sets)
        };
        self.in_background("Looking for data", there, move |training, sets, _| {
            if training.sets.0 != generation {
                return;
            }
            if let (Some(first), Some(draft)) = (sets.first(), &mut training.draft)
                && draft.settings.data.as_os_str().is_empty()
            {
                draft.train_on(&training.home, first);
            }
            training.sets.1 = sets.into();
        });
    }

    /// Data sets that came with the open model.
    pub fn sets(&self) -> &[DataSet] {
        &self.sets.1
    }

    /// Folders of runs: where new ones go, the program's own, and those that were added.
    fn folders(&self, more: &[PathBuf]) -> Vec<PathBuf> {
        let mut folders = vec![self.runs_folder()];
        for folder in std::iter::once(self.own_folder()).chain(more.iter().cloned()) {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        folders
    }

    /// Where new runs go.
    pub fn runs_folder(&self) -> PathBuf {
        self.kept.clone().unwrap_or_else(|| self.own_folder())
    }

    /// Where new runs go when nobody chooses.
    fn own_folder(&self) -> PathBuf {
        self.home.join("runs")
    }

    /// True when a person has chosen where new runs go.
    pub fn is_kept_elsewhere(&self) -> bool {
        self.kept.is_some()
    }

    /// The run whose merged model is about to be written, and where to.
    pub fn merging(&self) -> Option<(&Path, &Path)> {
        self.merging.as_ref().map(|(run, out)| (run.as_path(), out.as_path()))
    }

    fn looked_at_the_disk(&mut self, put_aside: &[PathBuf]) {
        let Some(runs) = &self.run_list.runs else { return };
        if !std::mem::replace(&mut self.looked, true) {
            let cut = |past: &&history::Past| past.phase == history::Phase::Interrupted && past.done > 0;
            // What was done last was stopped, by a person or with the window. Of several runs the page that began them says so.
            let alone = |past: &history::Past| !past.name().contains('/');
            let stopped = runs.first().filter(|past| past.phase == history::Phase::Stopped && past.done < past.steps);
            let stopped = stopped.filter(|past| alone(past));
            let left = runs.iter().filter(cut).chain(stopped).filter(|past| !put_aside.contains(&past.folder));
            self.interrupted = left.map(|past| past.folder.clone()).collect();
        }
        self.interrupted.retain(|folder| runs.iter().any(|past| past.folder == *folder && past.can_go_on()));
        // A run that another program has begun, or gone on with, is read as long as it is looked at.
        let wanted: Vec<PathBuf> = self.shown.iter().chain(&self.compared).cloned().collect();
        let going: Vec<PathBuf> = runs
            .iter()
            .filter(|past| past.phase == history::Phase::Running && wanted.contains(&past.folder))
            .map(|past| past.folder.clone())
            .collect();
        for track in &mut self.tracks {
            if let Some(past) = runs.iter().find(|past| past.folder == track.folder).filter(|past| past.steps > 0) {
                (track.steps, track.trainable) = (past.steps, past.trainable);
                track.predicted = past.predicted;
            }
        }
        for folder in going {
            if !self.is_live(&folder) && !self.run_list.is_reading(&folder) {
                self.open(&folder);
            }
        }
    }

    fn receive(&mut self, round: &mut Round<'_>) {
        let Some(live) = &mut self.live else { return };
        // The end before the news: none is missed.
        let end = live.end();
        for event in live.events() {
            match event {
                LiveEvent::Begins(settings) => {
                    let folder = settings.out.clone();
                    self.run_list.leave(&folder);
                    match self.tracks.iter_mut().find(|track| track.is_of(&folder)) {
                        Some(track) => track.settings = *settings,
                        None => self.tracks.push(Track::new(*settings)),
                    }
                    self.shown = Some(folder.clone());
                    live.current = Some(folder);
                }
                LiveEvent::Event(event) => {
                    let current = live.current.as_ref();
                    if let Some(track) = self.tracks.iter_mut().find(|track| current.is_some_and(|f| track.is_of(f))) {
                        track.take(event);
                        live.time_left = track.time_left();
                    }
                }
                LiveEvent::Rows(rows) => self.sweep = Some((live.task.folder().clone(), rows)),
            }
        }
        if let Some(result) = end {
            self.ended(result, round);
        }
    }

    fn ended(&mut self, result: Result<()>, round: &mut Round<'_>) {
        let Some(live) = self.live.take() else { return };
        let folder = live.task.folder().clone();
        if result.is_err() && matches!(live.task, Task::Sweep(..)) {
            // What is left stands in its folder.
            let left = folder.clone();
            let read = move || Ok(sweep::Group::read(&left).map_or(0, |group| group.missing()));
            self.in_background("Reading a sweep", read, |training, left, _| training.sweep_left = left);
        }
        let name = history::name(&folder);
        match result {
            Ok(()) => round.effects.push(Effect::Say(format!("{name} is finished."))),
            Err(Error::Cancelled) => round.effects.push(Effect::Say(format!("{name} is stopped; it can go on."))),
            Err(error) => {
                let reason = in_words(&error.to_string());
                self.failure = Some((folder, reason.clone()));
                round.effects.push(Effect::Complain(Error::failure(reason)));
            }
        }
        self.run_list.look_again();
        self.outlook.look_again(&self.wake);
        let mut queue = if live.is_stopping() { VecDeque::new() } else { live.queue };
        if let Some(next) = queue.pop_front() {
            self.begin(next, queue);
        }
    }

    fn begin(&mut self, task: Task, queue: VecDeque<Task>) {
        if let Task::Sweep(settings, _) = &task {
            self.sweep = Some((settings.out.clone(), Vec::new()));
            self.sweep_left = 0;
        }
        self.live = Some(Live::start(task, queue, Arc::clone(&self.wake)));
    }

    /// The name of a new run's folder: this one, or one that is made up.
    fn free_folder(&self, name: &str, otherwise: &str) -> FreeFolder {
        let clean = |text: &str| -> String {
            let good = |c: char| c.is_alphanumeric() || "-_.".contains(c);
            text.trim().chars().map(|c| if good(c) { c } else { '-' }).collect::<String>().trim_matches('.').to_owned()
        };
        FreeFolder { home: self.runs_folder(), named: clean(name), otherwise: clean(otherwise) }
    }

    fn made_up(settings: &Settings) -> String {
        let model = settings.model.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match settings.method {
            Method::Full => format!("{model}-full"),
            Method::Lora => format!("{model}-lora-r{}", settings.rank),
            Method::Qlora => format!("{model}-qlora-r{}", settings.rank),
        }
    }

    /// Reads a run from its files.
    fn open(&mut self, folder: &Path) {
        match self.run_list.find(folder) {
            _ if self.is_live(folder) => {}
            Some(past) => self.opened(past.clone()),
            None => {
                let folder = folder.to_path_buf();
                let read = move || Past::read(&folder);
                self.in_background("Reading a run", read, |training, past, _| training.opened(past));
            }
        }
    }

    /// Reads the rest of a run from its files.
    fn opened(&mut self, past: Past) {
        let folder = past.folder.clone();
        if self.is_live(&folder) {
            return;
        }
        let (made_by, described) = (past.made_by(), past.is_described());
        let (steps, trainable, predicted) = (past.steps, past.trainable, past.predicted);
        let mut track = Track::new(past.settings);
        (track.made_by, track.described) = (made_by, described);
        (track.steps, track.trainable, track.predicted) = (steps, trainable, predicted);
        // What is drawn of it is made anew.
        track.version = self.tracks.iter().find(|old| old.is_of(&folder)).map_or(0, |old| old.version + 1);
        self.tracks.retain(|track| !track.is_of(&folder));
        self.tracks.push(track);
        self.run_list.read(&folder);
    }

    fn is_live(&self, folder: &Path) -> bool {
        self.going_on().is_some_and(|live| live == folder)
    }

    /// The folder of the run that goes on in this window.
    pub fn going_on(&self) -> Option<&Path> {
        self.live.as_ref()?.current.as_deref()
    }

    /// What was asked of models, and answered.
    pub fn talk(&self) -> &Talk {
        &self.talk
    }

    /// New directions of an adapter, and what scaling them does.
    pub fn damping(&self) -> &Damping {
        &self.damping
    }

    /// The next run as it is set up.
    pub fn draft(&self) -> Option<&Draft> {
        self.draft.as_ref()
    }

    /// What is known about it.
    pub fn outlook(&self) -> &Outlook {
        &self.outlook
    }

    /// What goes on in this window.
    pub fn live(&self) -> Option<&Live> {
        self.live.as_ref()
    }

    /// Why no run can begin with this set-up, now.
    pub fn refusal(&self, draft: &Draft, workspace: &Workspace) -> Option<String> {
        match self.live {
            Some(_) => Some("A run is training already.".to_owned()),
            None => self.outlook.problem(draft, workspace),
        }
    }

    /// The run that is looked at.
    pub fn shown(&self) -> Option<&Track> {
        let folder = self.shown.as_ref()?;
        self.tracks.iter().find(|track| track.is_of(folder))
    }

    /// What the disk says about a run.
    pub fn past(&self, folder: &Path) -> Option<&Past> {
        self.run_list.find(folder)
    }

    /// The name of a run that is known, as it was read with the run; of another one its folder's.
    pub fn name_of(&self, folder: &Path) -> String {
        let track = self.tracks.iter().find(|track| track.is_of(folder)).map(Track::name);
        track.or_else(|| self.past(folder).map(Past::name)).unwrap_or_else(|| export::short(folder))
    }

    /// All runs, the newest first; `None` before the first look.
    pub fn runs(&self) -> Option<&[Past]> {
        self.run_list.runs.as_deref()
    }

    /// Runs laid over each other.
    pub fn compared(&self) -> impl Iterator<Item = &Track> {
        self.compared.iter().filter_map(|folder| self.tracks.iter().find(|track| track.is_of(folder)))
    }

    /// True for a run that is laid over others.
    pub fn is_compared(&self, folder: &Path) -> bool {
        self.compared.iter().any(|compared| compared == folder)
    }

    /// The sweep that was last begun or looked at.
    pub fn sweep(&self) -> Option<&(PathBuf, Vec<Row>)> {
        self.sweep.as_ref()
    }

    /// Runs of it that are still to be done, while it does not go on.
    pub fn sweep_left(&self) -> usize {
        self.sweep_left
    }

    /// Folders of sweeps on the disk.
    pub fn sweeps(&self) -> impl Iterator<Item = &PathBuf> {
        self.run_list.sweeps.iter()
    }

    /// Why the last run could not go on.
    pub fn failure(&self) -> Option<&(PathBuf, String)> {
        self.failure.as_ref()
    }

    /// Runs whose program was gone when this window began.
    pub fn interrupted(&self) -> &[PathBuf] {
        &self.interrupted
    }

    /// True while the question is to be on the screen whether a run is to end with the window.
    pub fn asks_to_close(&self) -> bool {
        self.closing == Closing::Asked
    }

    /// True while the window waits for a checkpoint to close.
    pub fn closes_soon(&self) -> bool {
        self.closing == Closing::Soon
    }

    /// A run does not end with the window unless a person says so; then it saves a checkpoint first.
    fn close(&mut self, ctx: &egui::Context, ending: bool) {
        // The system does not wait for an answer.
        if ending && !matches!(self.closing, Closing::Soon | Closing::Now) {
            self.closing = Closing::Soon;
            self.live.iter().for_each(Running::cancel);
        }
        let requested = ctx.input(|input| input.viewport().close_requested());
        if requested && self.live.is_some() && self.closing != Closing::Now {
            ctx.send_viewport_cmd(egui::ViewportCommand::CancelClose);
            if self.closing == Closing::No {
                self.closing = Closing::Asked;
            }
        }
        if self.live.is_none() {
            match self.closing {
                Closing::Soon => {
                    self.closing = Closing::Now;
                    ctx.send_viewport_cmd(egui::ViewportCommand::Close);
                }
                Closing::Asked => self.closing = Closing::No,
                Closing::No | Closing::Now => {}
            }
        }
    }

    /// The jobs that a person can see and stop.
    pub fn running(&self) -> Vec<&dyn Running> {
        let live = self.live.iter().map(|live| live as &dyn Running);
        let reading = self.outlook.reading().into_iter();
        let writing = self.exports.running().into_iter().map(|job| job as &dyn Running);
        live.chain(reading)
            .chain(writing)
            .chain(self.talk.running())
            .chain(self.damping.running())
            .chain(self.background.running())
            .collect()
    }
}
