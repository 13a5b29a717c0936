//! What a tab may look at: [`View`] while it paints, [`Round`] while it decides. No tab is named here.

use std::collections::BTreeMap;
use std::sync::Arc;

use eframe::egui;

use crate::demo::DataSet;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::plan;
use crate::train;
use crate::train::history::Past;
use crate::workspace::{Beside, Workspace};

use super::effect::{Effect, Effects};
use super::look::settings::Settings;
use super::widgets::menu::{self, Take};
use super::work::export::{Export, Source};
use super::work::jobs::Jobs;
use super::work::shown::Shown;
use super::work::system::SystemInfo;

/// The last thing worth saying.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// A sentence.
    pub text: String,
    /// It is about something that did not work.
    pub bad: bool,
}

/// What one tab knows and others show.
#[derive(Clone, Default)]
pub struct Board {
    /// Runs on the disk, the newest first; `None` before the first look.
    pub runs: Option<Arc<[Past]>>,
    /// Data sets that came with the open model.
    pub sets: Arc<[DataSet]>,
    /// Tuned versions and adapters that lie beside the open base.
    pub beside: Arc<[Beside]>,
    /// The next run as it is set up.
    pub draft: Option<Arc<train::Settings>>,
    /// What is proposed for it, until it is taken over.
    pub proposal: Option<Proposal>,
}

/// What the next run, or the next sweep, is to take over; rank, α and targets are the dial's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proposal {
    /// Peak learning rate; none: it stays.
    pub lr: Option<f64>,
    /// Ranks of a sweep; none for a run.
    pub ranks: Vec<usize>,
    /// A rank for each module that is named; none: it stays.
    pub rank_pattern: BTreeMap<String, usize>,
    /// Two kinds of runs that are begun at once, to be compared.
    pub spread: Option<Spread>,
}

/// One rank for all modules, and a rank for each of them, at about as many parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// The one rank.
    pub uniform: usize,
    /// A rank for each module; those that are not named get no adapter.
    pub ranks: BTreeMap<String, usize>,
}

/// Everything that may be looked at while painting, and the lists of what is asked for. Within a tab, `state` is what the tab
/// knows and `actions` are what its views ask of it.
pub struct View<'a, S = (), A = ()> {
    /// There is little room: what can be said elsewhere is.
    pub cramped: bool,
    /// What is loaded and computed.
    pub workspace: &'a Workspace,
    /// What runs for all tabs.
    pub jobs: &'a Jobs,
    /// What persists.
    pub settings: &'a Settings,
    /// The current module as a picture.
    pub shown: &'a Shown,
    /// What one tab knows and others show.
    pub board: &'a Board,
    /// What the dial's adapter costs.
    pub cost: Option<&'a Result<plan::Count>>,
    /// The modules that the dial's targets name.
    pub adapted: Option<&'a Result<plan::Selection>>,
    /// What there is to compute on, and the hub's local cache.
    pub system: &'a SystemInfo,
    /// The last message.
    pub message: &'a Message,
    /// What is asked of the window.
    pub effects: &'a mut Effects,
    /// What the tab knows.
    pub state: &'a S,
    /// What is asked of the tab.
    pub actions: &'a mut Vec<A>,
}

impl<S, A> View<'_, S, A> {
    /// The same within a tab that knows `state`. What its views ask for is carried out in the next round.
    pub fn within<T, B>(&mut self, state: &T, actions: &mut Vec<B>, paint: impl FnOnce(&mut View<'_, T, B>)) {
        paint(&mut View {
            cramped: self.cramped,
            workspace: self.workspace,
            jobs: self.jobs,
            settings: self.settings,
            shown: self.shown,
            board: self.board,
            cost: self.cost,
            adapted: self.adapted,
            system: self.system,
            message: self.message,
            effects: self.effects,
            state,
            actions,
        });
        if !actions.is_empty() {
            self.effects.wake();
        }
    }

    /// The ⋯ button of a plot, a table or a picture: what is chosen there is carried out.
    pub fn export(
        &mut self,
        ui: &mut egui::Ui,
        name: &str,
        offers: &[Take],
        area: egui::Rect,
        source: impl FnOnce() -> Source,
    ) {
        let asked = self.effects.offer(name, offers);
        if let Some(take) = menu::menu(ui, name, offers).or(asked) {
            self.effects.push(Effect::Export(Export { take, name: name.to_owned(), source: source(), area }));
        }
    }
}

/// What a tab may look at, and ask for, while it decides.
pub struct Round<'a> {
    /// The window's context.
    pub ctx: &'a egui::Context,
    /// The system wants the program to end.
    pub ending: bool,
    /// What is loaded and computed.
    pub workspace: &'a Workspace,
    /// The current module as a picture.
    pub shown: &'a Shown,
    /// What persists.
    pub settings: &'a mut Settings,
    /// What one tab knows and others show.
    pub board: &'a mut Board,
    /// What it asks the rest of the window for.
    pub effects: &'a mut Effects,
}

impl Round<'_> {
    /// Says something in the status bar.
    pub fn say(&mut self, text: impl Into<String>) {
        self.effects.push(Effect::Say(text.into()));
    }

    /// Says what did not work.
    pub fn complain(&mut self, error: Error) {
        self.effects.push(Effect::Complain(error));
    }

    /// The result of a job that has ended, and the job away; what went wrong is said.
    pub fn finished<T: Send>(&mut self, job: &mut Option<Job<T>>) -> Option<T> {
        let result = job.as_mut().and_then(Job::take)?;
        *job = None;
        match result {
            Ok(found) => return Some(found),
            Err(error) if error.is_cancelled() => self.say("Cancelled."),
            Err(error) => self.complain(error),
        }
        None
    }

    /// Takes in what a job has found that nobody asked for by name: cancelling it is no news.
    pub fn quietly<T: Send>(&mut self, job: &mut Option<Job<T>>, to: &mut Option<T>) {
        let Some(result) = job.as_mut().and_then(Job::take) else { return };
        *job = None;
        match result {
            Ok(found) => *to = Some(found),
            Err(error) if error.is_cancelled() => {}
            Err(error) => self.complain(error),
        }
    }
}
