//! The Train tab: a run that one can watch, trust, compare and take away.
//!
//! ```text
//! Data     set-up | the rows as the model will see them
//! Run      set-up | header, loss, lr, gradient, speed, memory; film; samples   (one cursor through all of them)
//! Talk     the base and the tuned model, asked the same; then saving it
//! Compare  several runs over each other, and their spectra
//! Sweep    loss against rank and against trainable parameters
//! Forgetting  new directions of an adapter, scaled down, with both losses
//! History  every run on the disk
//! ```

mod closing;
mod compare;
mod film;
mod forgetting;
mod header;
mod history;
mod interrupted;
mod job;
mod merging;
mod outlook;
mod plots;
mod prepared;
mod preview;
mod samples;
mod setup;
mod state;
mod sweep;
mod talk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use eframe::egui::{self, Align, Key, KeyboardShortcut, Layout, Modifiers, Rect, ScrollArea, Ui, UiBuilder, pos2};

use crate::app::look::theme::Colors;
use crate::app::shared::blank;
use crate::app::tabs::{Command, Part, Tab};
use crate::app::view::{self, Round};
use crate::app::work::export::{Chapter, DRAWN};
use crate::figure::html::Piece;
use crate::job::{Running, Wake};
use crate::train::Method;
use crate::train::history::Past;

use prepared::Prepared;
use state::{Action, Training, short};

/// What the views of this tab look at.
type View<'a> = view::View<'a, Training, Action>;

/// Width of the set-up.
const SETUP: f32 = 336.0;
/// Space between the set-up and the run.
const GAP: f32 = 20.0;

/// The parts of the tab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Segment {
    #[default]
    Data,
    Run,
    Compare,
    Talk,
    Sweep,
    Forgetting,
    History,
}

impl Segment {
    const ALL: [(Self, Part, &'static str); 7] = [
        (Self::Data, Part { id: "data", title: "Data" }, "Choose data and see them as the model will"),
        (Self::Run, Part { id: "run", title: "Run" }, "Set up a run and watch it"),
        (Self::Talk, Part { id: "talk", title: "Talk" }, "The base and the tuned model answer the same prompt"),
        (
            Self::Compare,
            Part { id: "compare", title: "Compare" },
            "Runs over each other: LoRA, QLoRA and full on the same data",
        ),
        (Self::Sweep, Part { id: "sweep", title: "Sweep" }, "Loss against rank"),
        (
            Self::Forgetting,
            Part { id: "forgetting", title: "Forgetting" },
            "What tuning has forgotten, and a slider that gives some of it back",
        ),
        (Self::History, Part { id: "history", title: "History" }, "Every run on the disk"),
    ];
}

/// What the tab remembers between frames: looks, never data.
#[derive(Default)]
struct Looks {
    segment: Segment,
    /// The data and the model that are set up, and the run that is looked at: where one changes, its page comes to the front.
    set_up: Option<(PathBuf, PathBuf)>,
    shown: Option<PathBuf>,
    prepared: Prepared,
    setup: setup::Setup,
    compare: compare::Compare,
    history: history::History,
    sweep: sweep::SweepLook,
    merging: merging::Merging,
    job: job::JobPage,
    talk: talk::Page,
    forgetting: forgetting::Page,
}

/// The tab.
pub struct TrainTab {
    state: Training,
    actions: Vec<Action>,
    looks: Looks,
}

impl TrainTab {
    /// Nothing yet; `wake` makes the window look again, runs are kept in a folder within `home`.
    pub fn new(wake: &Wake, home: &Path) -> Self {
        let state = Training::new(Arc::clone(wake), home.to_path_buf());
        Self { state, actions: Vec::new(), looks: Looks::default() }
    }
}

impl TrainTab {
    /// The run that is looked at, where its result is there.
    fn result(&self) -> Option<&Past> {
        let past = self.state.past(&self.state.shown()?.folder)?;
        past.weights(None).map(|_| past)
    }

    /// What can be done with that result.
    fn of_shown(&self) -> Vec<Command> {
        let Some(past) = self.result() else { return Vec::new() };
        let command = |id, title| Command { id, title: format!("{title} {}", past.name()), keys: None, help: "" };
        let mut all = vec![command("spectrum", "Show ΔW in Spectrum of"), command("folder", "Open the folder of")];
        if past.settings.method != Method::Full && past.foreign.is_none() {
            all.push(command("merge", "Write the merged model of"));
        }
        all
    }
}

impl Tab for TrainTab {
    fn id(&self) -> &'static str {
        "train"
    }

    fn title(&self) -> &'static str {
        "Train"
    }

    fn parts(&self) -> Vec<Part> {
        Segment::ALL.map(|(_, part, _)| part).to_vec()
    }

    fn show(&mut self, part: &str, _: &mut Round<'_>) {
        let found = Segment::ALL.into_iter().find(|(_, known, _)| known.id == part);
        self.looks.segment = found.map_or(self.looks.segment, |(segment, ..)| segment);
    }

    fn commands(&self) -> Vec<Command> {
        let command = |id, title: &str, key: Option<Key>, help| Command {
            id,
            title: title.to_owned(),
            keys: key.map(|key| KeyboardShortcut::new(Modifiers::NONE, key)),
            help,
        };
        let help = "start the run that is set up, pause it, resume it";
        let mut all = self.of_shown();
        all.extend(match self.state.live() {
            Some(live) => {
                let title = if live.is_held() { "Resume the run" } else { "Pause the run" };
                let pause = command("pause", title, Some(Key::Space), help);
                vec![pause, command("stop", "Stop the run, with a checkpoint", None, "")]
            }
            None => vec![
                command("start", "Start the run that is set up", Some(Key::Space), help),
                command("methods", "Train LoRA, QLoRA and full on the same data", None, ""),
                command("sweep", "Train at several ranks (sweep)", None, ""),
                command("cluster", "Take the run that is set up to a cluster", None, ""),
            ],
        });
        all
    }

    fn run(&mut self, command: &str, _: &mut Round<'_>) {
        self.actions.extend(match command {
            "start" => Some(Action::Start),
            "methods" => Some(Action::StartMethods),
            "sweep" => Some(Action::StartSweep),
            "cluster" => Some(Action::OfferJob(None)),
            "merge" => self.result().map(|past| Action::OfferMerge(Some(past.folder.clone()))),
            "folder" => self.result().map(|past| Action::OpenFolder(past.folder.clone())),
            "spectrum" => self.result().map(|past| Action::Spectrum(past.folder.clone(), None)),
            "pause" => self.state.live().map(|live| Action::Hold(!live.is_held())),
            "stop" => Some(Action::Stop),
            _ => None,
        });
    }

    fn logic(&mut self, round: &mut Round<'_>) {
        for action in std::mem::take(&mut self.actions) {
            self.state.carry_out(action, round);
        }
        self.state.logic(round);
        self.looks.logic(&self.state, round.workspace.selection().current());
    }

    fn ui(&mut self, ui: &mut Ui, view: &mut view::View<'_>) {
        view.within(&self.state, &mut self.actions, |view| self.looks.ui(ui, view));
    }

    fn overlay(&mut self, ui: &mut Ui, view: &mut view::View<'_>) {
        view.within(&self.state, &mut self.actions, |view| closing::closing(ui, view));
    }

    fn notice(&mut self, ui: &mut Ui, view: &mut view::View<'_>) {
        view.within(&self.state, &mut self.actions, |view| interrupted::ui(ui, view));
    }

    fn report(&self, _: &Round<'_>) -> Option<Chapter> {
        let (shown, prepared) = (self.state.shown(), &self.looks.prepared);
        let figures = [&prepared.loss, &prepared.film, &prepared.ranks].map(Clone::clone);
        let run = shown.map(|track| (track.name(), header::said(track), track.samples.last().cloned()));
        let runs = self.state.runs().filter(|runs| !runs.is_empty()).map(history::said);
        if run.is_none() && runs.is_none() {
            return None;
        }
        Some(Box::new(move |report| {
            if let Some((name, said, sample)) = run {
                let drawn = figures.into_iter().filter(|figure| !figure.series.is_empty());
                let drawn = drawn.map(|figure| Piece::Drawing(figure.svg(DRAWN[0], DRAWN[1])));
                let sample = sample.map(|sample| Piece::Code { name: sample.prompt, text: sample.text });
                report.section(
                    format!("Run {name}"),
                    [Piece::table(said)].into_iter().chain(drawn).chain(sample).collect(),
                );
            }
            if let Some(runs) = runs {
                report.section("Runs", vec![Piece::table(runs)]);
            }
            Ok(())
        }))
    }

    fn running(&self) -> Vec<&dyn Running> {
        self.state.running()
    }

    fn dropped(&mut self, paths: &[PathBuf], _: &mut Round<'_>) -> bool {
        self.actions.push(Action::Dropped(paths.to_vec()));
        true
    }

    fn finish(&mut self) {
        self.state.finish();
    }
}

impl Looks {
    /// Prepares what changes with the runs; nothing is painted.
    fn logic(&mut self, training: &Training, current: Option<&str>) {
        self.turn(training);
        self.prepared.update(training, current);
        self.compare.logic(training);
        self.sweep.logic(training);
    }

    /// A run that begins is watched; other data, or another model, are looked at before anything is trained on them.
    fn turn(&mut self, training: &Training) {
        let shown = training.shown().map(|track| track.folder.clone());
        if shown.is_some() && shown != self.shown && self.segment == Segment::Data {
            self.segment = Segment::Run;
        }
        self.shown = shown;
        let set_up = training.draft().map(|draft| (draft.settings.data.clone(), draft.settings.model.clone()));
        let other = self.set_up.is_some() && set_up != self.set_up;
        if other && training.live().is_none() && self.segment == Segment::Run {
            self.segment = Segment::Data;
        }
        self.set_up = set_up;
    }

    /// Paints the tab.
    fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let runs = view.state.runs().map_or(0, <[_]>::len);
        ui.horizontal(|ui| {
            for (segment, Part { title: name, .. }, tip) in Segment::ALL {
                let text =
                    if segment == Segment::History && runs > 0 { format!("{name} ({runs})") } else { name.into() };
                let button = ui.selectable_label(self.segment == segment, text).on_hover_text(tip);
                if button.accessible_name(name).clicked() {
                    self.segment = segment;
                }
            }
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                if self.segment != Segment::Run
                    && let Some(folder) = view.state.going_on()
                    && ui.link(format!("training: {}", short(folder))).clicked()
                {
                    view.actions.push(Action::Show(folder.to_path_buf()));
                    self.segment = Segment::Run;
                }
            });
        });
        self.merging.ui(ui, view);
        self.job.ui(ui, view);
        ui.add_space(6.0);
        match self.segment {
            Segment::Data | Segment::Run => self.run(ui, view),
            Segment::Talk => self.talk.ui(ui, view),
            Segment::Compare => self.compare.ui(ui, view),
            Segment::Sweep => self.sweep.ui(ui, view),
            Segment::Forgetting => self.forgetting.ui(ui, view),
            Segment::History => {
                if self.history.ui(ui, view) {
                    self.segment = Segment::Run;
                }
            }
        }
    }

    fn run(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let room = ui.available_rect_before_wrap();
        let left = Rect::from_min_max(room.min, pos2(room.left() + SETUP.min(room.width() * 0.42), room.bottom()));
        let right = Rect::from_min_max(pos2(left.right() + GAP, room.top()), room.max);
        within(ui, left, |ui| self.setup.ui(ui, view));
        let line = Colors::of(ui).line;
        ui.painter().vline(left.right() + GAP / 2.0, room.y_range(), egui::Stroke::new(1.0, line));
        within(ui, right, |ui| match self.segment {
            Segment::Data => page(ui, "data", |ui| preview::ui(ui, view)),
            _ => self.watched(ui, view),
        });
        ui.advance_cursor_after_rect(room);
    }

    /// The run that is looked at: its head stays where it is, the rest scrolls.
    fn watched(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        if view.state.shown().is_none() {
            return page(ui, "no run", |ui| empty(ui, view));
        }
        if let Some(run) = header::ui(ui, view) {
            self.talk.turn_to(run);
            self.segment = Segment::Talk;
        }
        let prepared = &mut self.prepared;
        page(ui, "run", |ui| {
            header::notes(ui, view);
            plots::loss(ui, view, prepared);
            film::ui(ui, view, prepared);
            plots::others(ui, view, prepared);
            samples::ui(ui, view, prepared);
        });
    }
}

/// What scrolls beside the set-up.
fn page(ui: &mut Ui, id: &str, add: impl FnOnce(&mut Ui)) {
    ScrollArea::vertical().id_salt(id).auto_shrink(false).show(ui, add);
}

/// Nothing runs yet.
fn empty(ui: &mut Ui, view: &mut View<'_>) {
    const PARTS: [(&str, &str); 5] = [
        ("Loss", "of each step, smoothed, and on held-out rows"),
        ("Spectrum film", "the singular values of ΔW, step by step, under the loss"),
        ("Learning rate, gradient, speed, memory", "measured, beside what was predicted"),
        ("Samples", "what the model writes before and after"),
        ("What you take away", "the adapter, a merged model, and a talk with both"),
    ];
    if let Some((_, reason)) = view.state.failure() {
        header::failure(ui, reason);
    }
    blank::ui(ui, "No run yet", "Choose data on the left, and start with the button above them.", &PARTS);
}

fn within(ui: &mut Ui, rect: Rect, add: impl FnOnce(&mut Ui)) {
    ui.scope_builder(UiBuilder::new().max_rect(rect), |ui| {
        ui.set_clip_rect(ui.clip_rect().intersect(rect.expand(2.0)));
        add(ui);
    });
}
