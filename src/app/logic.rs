//! What the window decides between two frames: taking in news, carrying out commands, starting work.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use eframe::egui;

use crate::checkpoint::hub::Ask;
use crate::delta::{DeltaSet, Entry, Source};
use crate::error::Error;
use crate::figure::html::Piece;
use crate::job::Job;
use crate::plan::{self, Targets};
use crate::spectrum::{AUTO_EXACT, Method, Options};
use crate::units;
use crate::workspace::{self, Event, Opened, Request, Workspace};

use super::effect::{Effect, Place};
use super::look::settings::Settings;
use super::shell::commands::Now;
use super::shell::{drops, keys};
use super::view::{Message, Round};
use super::work::export::Chapter;
use super::work::jobs::{self, Found};
use super::{App, Tab};

/// All modules are computed unasked when that takes about this long at most, in seconds.
const UNASKED: f64 = 30.0;
/// Opening a model computes its first module when it has so many cells at most.
const UNASKED_CELLS: usize = 1 << 24;
/// Up to this `min(out, in)` every singular vector is kept.
const ALL_VECTORS: usize = 1024;

impl App {
    /// One round: results in, effects out.
    pub(super) fn decide(&mut self, ctx: &egui::Context) {
        let dropped = drops::dropped(ctx);
        if !dropped.is_empty() {
            self.dropped(ctx, dropped);
        }
        let now = Now { workspace: &self.workspace, settings: &self.settings };
        keys::read(ctx, now, &self.tabs, &self.shell.dock, &mut self.effects);
        self.receive();
        for effect in self.effects.take() {
            self.carry_out(ctx, effect);
        }
        match self.exporter.logic(ctx) {
            Some(Ok(text)) => self.say(&text),
            Some(Err(error)) => self.complain(&error),
            None => {}
        }
        self.begin();
        self.in_tabs(ctx, |tabs, round| tabs.iter_mut().for_each(|tab| tab.logic(round)));
        self.cost.update(&self.workspace);
    }

    /// Lets tabs look at the rest, and ask for something.
    fn in_tabs<T>(&mut self, ctx: &egui::Context, act: impl FnOnce(&mut [Box<dyn Tab>], &mut Round<'_>) -> T) -> T {
        let mut round = Round {
            ctx,
            ending: self.ending.load(Ordering::Relaxed),
            workspace: &self.workspace,
            shown: &self.shown,
            settings: &mut self.settings,
            board: &mut self.board,
            effects: &mut self.effects,
        };
        act(&mut self.tabs, &mut round)
    }

    /// Files that were dropped on the window: a tab may know what they are; else they are opened.
    fn dropped(&mut self, ctx: &egui::Context, paths: Vec<PathBuf>) {
        if !self.in_tabs(ctx, |tabs, round| tabs.iter_mut().any(|tab| tab.dropped(&paths, round))) {
            paths.into_iter().for_each(|path| self.effects.open(path));
        }
    }

    /// Asks every tab what it knows, and where the page goes.
    fn report(&mut self, ctx: &egui::Context) {
        let Some(base) = self.workspace.base() else { return };
        let (name, dial) = (base.name(), self.workspace.dial().clone());
        let layout = self.workspace.layout().cloned();
        let delta = self.workspace.delta().map(|delta| match delta.source() {
            Source::Weight => "none: the weights themselves".to_owned(),
            Source::Tuned(model) => format!("{}, a tuned model", model.name()),
            Source::Adapter(adapter) => format!("{}, an adapter", adapter.name()),
        });
        let count = self.cost.count().and_then(|count| count.as_ref().ok()).map(|count| count.trainable);
        let start = base.path().parent().map(Path::to_path_buf);
        let title = name.clone();
        let first: Chapter = Box::new(move |report| {
            let row = |name: &str, value: String| vec![name.to_owned(), value];
            let mut rows = vec![row("what", "of this session".to_owned()), row("model", name)];
            if let Some(layout) = layout {
                rows.push(row("parameters", units::exact(layout.parameters)));
            }
            rows.extend(delta.map(|delta| row("ΔW", delta)));
            rows.push(row("rank r", dial.r.to_string()));
            rows.push(row(
                "α, scaling s",
                format!("{}, {}", dial.alpha, units::real(dial.scaling.factor(dial.alpha, dial.r), 3)),
            ));
            rows.push(row("targets", super::shared::targets::name(&dial.targets)));
            rows.extend(count.map(|count| row("trainable parameters", units::exact(count))));
            report.section("What was looked at", vec![Piece::table(rows)]);
            Ok(())
        });
        let mut chapters = vec![first];
        self.in_tabs(ctx, |tabs, round| chapters.extend(tabs.iter().filter_map(|tab| tab.report(round))));
        self.exporter.report(&title, start.as_deref(), chapters);
    }

    /// Turns to a tab, and to a part of it.
    fn show(&mut self, ctx: &egui::Context, place: Place) {
        let Some(at) = self.tabs.iter().position(|tab| tab.id() == place.tab) else {
            return log::error!("no tab is called {}", place.tab);
        };
        self.shell.dock.show(at);
        if !place.part.is_empty() {
            self.in_tabs(ctx, |tabs, round| tabs[at].show(place.part, round));
        }
    }

    fn receive(&mut self) {
        if let Some(result) = self.looking.as_mut().and_then(Job::take) {
            self.looking = None;
            self.system = result.unwrap_or_default();
        }
        if let Some(found) = self.beside.as_mut().and_then(Job::take) {
            self.beside = None;
            self.board.beside = found.unwrap_or_default().into();
        }
        if let Some(Err(error)) = self.forgetting.as_mut().and_then(Job::take) {
            self.complain(&error);
        }
        let answer = self.dialog.as_mut().and_then(|(question, dialog)| Some((*question, dialog.take()?)));
        if let Some((question, result)) = answer {
            self.dialog = None;
            match result {
                Ok(Some(path)) => self.effects.push(Effect::Open(question.request(path))),
                Ok(None) => {}
                Err(error) => self.complain(&error),
            }
        }
        for event in self.jobs.events() {
            match event {
                jobs::Event::Opened(request, Ok(opened)) => self.opened(request, opened),
                jobs::Event::Opened(_, Err(error))
                | jobs::Event::Analysed(_, Err(error))
                | jobs::Event::SweepEnded(_, Err(error))
                    if error.is_cancelled() =>
                {
                    self.shell.path.answer(None);
                    self.say("Cancelled.");
                }
                jobs::Event::Opened(_, Err(error)) => self.not_opened(&error),
                jobs::Event::Found(name, Found::Picture(picture)) => self.shown.set_delta(&name, picture),
                jobs::Event::Found(name, Found::Spectrum(spectrum, factors)) => {
                    self.shown.set_factors(&name, factors);
                    self.workspace.apply(Event::Spectrum(name, Ok(spectrum)));
                }
                jobs::Event::Analysed(name, Err(error)) => {
                    self.complain(&error);
                    self.workspace.apply(Event::Spectrum(name, Err(error)));
                }
                jobs::Event::Analysed(name, Ok(())) => self.workspace.apply(Event::Stopped(vec![name])),
                jobs::Event::Swept(name, result) => self.workspace.apply(Event::Spectrum(name, result)),
                jobs::Event::SweepEnded(names, result) => {
                    match result {
                        Ok(()) => self.say(&match self.workspace.known() {
                            1 => "1 spectrum computed.".to_owned(),
                            known => format!("{known} spectra computed."),
                        }),
                        Err(error) => self.complain(&error),
                    }
                    self.workspace.apply(Event::Stopped(names));
                }
            }
        }
    }

    fn opened(&mut self, request: Option<Request>, opened: Opened) {
        let other = match opened.delta.source() {
            Source::Weight => None,
            Source::Tuned(tuned) => Some(tuned.path().to_path_buf()),
            Source::Adapter(adapter) => Some(adapter.path().to_path_buf()),
        };
        if request.is_some() {
            self.settings.remember(opened.base.path(), other.as_deref());
        }
        let misfits = opened.delta.entries().iter().filter(|e| e.problem.is_some()).count();
        let name = opened.base.name();
        let against = other.as_deref().and_then(Path::file_name).map(|n| format!(" with {}", n.to_string_lossy()));
        let mut text = format!("{name}{} is open.", against.unwrap_or_default());
        if misfits > 0 {
            text.push_str(&format!(" {misfits} modules do not fit; the list says why."));
        }
        self.shell.notices.clear();
        self.shell.path.answer(None);
        (self.asked, self.restored) = (false, false);
        self.jobs.forget();
        self.shown.clear();
        let base = opened.base.path().to_path_buf();
        self.board.beside = Arc::default();
        self.beside =
            Some(Job::spawn("Looking beside the base", self.jobs.wake(), move |_| Ok(workspace::beside(&base))));
        self.workspace.apply(Event::Opened(Box::new(opened)));
        self.sweep_wanted = self.workspace.delta().is_some_and(|d| estimate(d, d.entries().iter()) < UNASKED);
        self.say(&text);
    }

    /// A path that was typed is answered where it was typed. What was open last time may be gone: then the sample is opened.
    fn not_opened(&mut self, error: &Error) {
        if std::mem::take(&mut self.restored) {
            self.effects.push(Effect::OpenSample);
        }
        if self.shell.path.is_asked() {
            let text = sentence(error);
            self.shell.path.answer(Some(&text));
            self.message = Message { text, bad: true };
        } else {
            self.complain(error);
        }
    }

    fn carry_out(&mut self, ctx: &egui::Context, effect: Effect) {
        crate::defect::did(effect.name());
        match effect {
            Effect::Open(Request::Hub(ask)) => {
                let Ask { endpoint, cache, .. } = self.hub.clone();
                let ask = Ask { endpoint: ask.endpoint.or(endpoint), cache: ask.cache.or(cache), ..ask };
                self.jobs.open(Request::Hub(ask), self.workspace.base().cloned());
            }
            Effect::Open(request) => self.jobs.open(request, self.workspace.base().cloned()),
            Effect::OpenSample => self.jobs.open_sample(self.data_dir.clone()),
            Effect::Ask(question) => {
                let start = self.workspace.base().and_then(|base| base.path().parent().map(Path::to_path_buf));
                self.dialog = Some((question, question.open(start.as_deref(), &self.jobs.wake())));
            }
            Effect::Select(selection) => {
                self.asked = true;
                self.workspace.apply(Event::Selected(selection));
            }
            Effect::Analyse => {
                (self.asked, self.demanded) = (true, true);
                self.shown.expect_again();
            }
            Effect::Turn(dial) => self.workspace.apply(Event::Dial(dial)),
            Effect::Step(by) => {
                let mut dial = self.workspace.dial().clone();
                dial.r = dial.r.saturating_add_signed(by);
                self.workspace.apply(Event::Dial(dial));
            }
            Effect::AnalyseAll => (self.sweep_wanted, self.demanded) = (true, true),
            Effect::AnalyseExactly => self.analyse(Method::Exact, None),
            Effect::MoreVectors(rank) => self.analyse(Method::Auto, Some(rank)),
            Effect::Cancel(id) => {
                // Whoever stops one thing does not want the next one to begin.
                if self.jobs.cancel(id) {
                    self.sweep_wanted = false;
                } else if let Some(job) = self.tabs.iter().flat_map(|tab| tab.running()).find(|job| job.id() == id) {
                    job.cancel();
                }
            }
            Effect::Show(place) => self.show(ctx, place),
            Effect::Run(tab, command) => self.in_tabs(ctx, |tabs, round| {
                tabs.iter_mut().filter(|known| known.id() == tab).for_each(|tab| tab.run(command, round));
            }),
            Effect::Theme(theme) => {
                self.settings.theme = theme;
                ctx.set_theme(theme);
            }
            Effect::Scale(scale) => {
                self.settings.scale = scale.clamp(*Settings::SCALES.start(), *Settings::SCALES.end());
                ctx.set_zoom_factor(self.settings.scale);
            }
            Effect::ForgetRecent => self.settings.recent.clear(),
            Effect::ForgetDefect => {
                self.system.defect = None;
                let home = self.data_dir.clone();
                self.forgetting =
                    Some(Job::spawn("Removing a report", self.jobs.wake(), move |_| crate::defect::forget(&home)));
            }
            Effect::ToggleModules if self.cramped => self.shell.listed = !self.shell.listed,
            Effect::ToggleModules => self.settings.show_modules = !self.settings.show_modules,
            Effect::TogglePalette => self.shell.palette.toggle(),
            Effect::ToggleHelp => self.shell.help = !self.shell.help,
            Effect::TogglePathField => self.shell.path.toggle(),
            Effect::AskHub => self.shell.path.get(),
            Effect::Export(export) => {
                if let Some(text) = self.exporter.begin(ctx, export) {
                    self.say(text);
                }
            }
            Effect::Report => self.report(ctx),
            Effect::ExportShown(name, take) => self.effects.want(name, take),
            Effect::Rule(rule) => self.settings.map_rule = rule.name().to_owned(),
            Effect::Say(text) => self.say(&text),
            Effect::Complain(error) => self.complain(&error),
            Effect::Quit => ctx.send_viewport_cmd(egui::ViewportCommand::Close),
        }
    }

    /// Starts what is wanted and not there: first the module that is looked at, then all others. Where no spectrum is
    /// looked at, none is begun unless somebody asks: the processor is for what is in front.
    fn begin(&mut self) {
        let Some(delta) = self.workspace.delta().cloned() else { return };
        let in_front = |at: usize| self.shell.dock.is_seen(at);
        if !self.demanded && !self.tabs.iter().enumerate().any(|(at, tab)| tab.shows_spectra() && in_front(at)) {
            // One that was begun for another module is in the way of what is looked at now.
            let current = self.workspace.selection().current();
            if let Some(name) = self.jobs.analysing().filter(|name| Some(*name) != current).map(str::to_owned) {
                self.jobs.leave();
                self.shown.expect_again();
                self.workspace.apply(Event::Stopped(vec![name]));
            }
            return;
        }
        if let Some(name) = self.workspace.selection().current().map(str::to_owned)
            && self.jobs.analysing() != Some(&name)
            && delta.entry(&name).is_some_and(|e| e.problem.is_none())
            && self.shown.wants(&name)
            && (self.asked || delta.entry(&name).is_some_and(small))
        {
            self.shown.expect(&name);
            self.analyse(Method::Auto, None);
        }
        if self.sweep_wanted && !self.jobs.is_sweeping() && self.jobs.analysing().is_none() {
            self.sweep_wanted = false;
            let names: Vec<String> = delta
                .entries()
                .iter()
                .filter(|e| e.problem.is_none() && self.workspace.latest(&e.name).is_none())
                .map(|e| e.name.clone())
                .collect();
            if !names.is_empty() {
                self.workspace.apply(Event::Started(names.clone()));
                self.jobs.sweep(delta, names, Options::default());
            }
        }
        self.demanded &= self.sweep_wanted;
    }

    fn analyse(&mut self, method: Method, vectors: Option<usize>) {
        let Some(delta) = self.workspace.delta().cloned() else { return };
        let Some(entry) = self.workspace.selection().current().and_then(|name| delta.entry(name)) else { return };
        let side = entry.shape[0].min(entry.shape[1]);
        let first = if side <= ALL_VECTORS { side } else { self.workspace.dial().r.clamp(64, 256) };
        let vectors = vectors.unwrap_or(first).min(side);
        let top = (side > AUTO_EXACT && method == Method::Auto).then_some(vectors.max(64));
        self.workspace.apply(Event::Started(vec![entry.name.clone()]));
        let pictured = self.shown.name() == Some(&entry.name);
        self.jobs.analyse(Arc::clone(&delta), &entry.name, Options { method, top, vectors }, pictured);
    }

    fn say(&mut self, text: &str) {
        self.message = Message { text: text.to_owned(), bad: false };
    }

    fn complain(&mut self, error: &Error) {
        let text = sentence(error);
        log::warn!("{text}");
        self.shell.notices.push(&text);
        self.message = Message { text, bad: true };
    }
}

/// An error as a sentence on screen.
fn sentence(error: &Error) -> String {
    let mut text = error.to_string();
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

/// A module that is computed as soon as a model is open; a larger one takes memory that nobody has asked for.
fn small(entry: &Entry) -> bool {
    entry.shape[0] * entry.shape[1] <= UNASKED_CELLS
}

/// Seconds that the spectra of `entries` take, roughly: products at 40 and eigenvalues at 15 GFLOP/s.
fn estimate<'a>(delta: &DeltaSet, entries: impl Iterator<Item = &'a Entry>) -> f64 {
    entries
        .map(|entry| {
            let [m, n] = entry.shape.map(|x| x as f64);
            let (short, long) = (m.min(n), m.max(n));
            match delta.source() {
                Source::Adapter(_) => 2e-3 + (m + n) * 64.0 * 64.0 * 2.0 / 15e9,
                _ if short <= AUTO_EXACT as f64 => short * short * long / 40e9 + 1.4 * short.powi(3) / 15e9,
                _ => m * n * 64.0 * 24.0 / 60e9,
            }
        })
        .sum()
}

/// What the dial's adapter costs, kept until the model, the targets or the rank change.
#[derive(Default)]
pub struct Cost {
    key: Option<(u64, Targets, usize)>,
    adapted: Option<Result<plan::Selection, Error>>,
    count: Option<Result<plan::Count, Error>>,
}

impl Cost {
    fn update(&mut self, workspace: &Workspace) {
        let Some(layout) = workspace.layout() else { return };
        let dial = workspace.dial();
        let key = (workspace.generation(), dial.targets.clone(), dial.r);
        if self.key.as_ref() == Some(&key) {
            return;
        }
        let same = self.key.as_ref().is_some_and(|k| (k.0, &k.1) == (key.0, &key.1));
        if !same {
            self.adapted = Some(plan::Selection::new(layout, &dial.targets));
        }
        self.count = self.adapted.as_ref().map(|adapted| match adapted {
            Ok(selection) => selection.count(dial.r),
            Err(error) => Err(error.clone()),
        });
        self.key = Some(key);
    }

    /// Trainable parameters and what follows from them.
    pub fn count(&self) -> Option<&Result<plan::Count, Error>> {
        self.count.as_ref()
    }

    /// The modules that the targets name.
    pub fn adapted(&self) -> Option<&Result<plan::Selection, Error>> {
        self.adapted.as_ref()
    }
}
