//! The Train tab: a run that one can watch, trust, compare and take away.
//!
//! ```text
//! Run      set-up | header, loss, lr, gradient, speed, memory; film; samples   (one cursor through all of them)
//! Compare  several runs over each other, and their spectra
//! Sweep    loss against rank and against trainable parameters
//! History  every run on the disk
//! ```

mod closing;
mod compare;
mod film;
mod header;
mod history;
mod merging;
mod outlook;
mod plots;
mod prepared;
mod preview;
mod samples;
mod setup;
pub mod state;
mod sweep;
mod typed;

use eframe::egui::{self, Align, Layout, Rect, RichText, ScrollArea, Ui, UiBuilder, pos2};

use crate::app::effect::Command;
use crate::app::look::theme::Colors;
use crate::app::tabs::train::state::{Ask, short};
use crate::app::{Features, View};
use crate::workspace::Workspace;

pub use closing::closing;

use prepared::Prepared;

/// Width of the set-up.
const SETUP: f32 = 336.0;
/// Space between the set-up and the run.
const GAP: f32 = 20.0;

/// The parts of the tab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Segment {
    #[default]
    Run,
    Compare,
    Sweep,
    History,
}

impl Segment {
    const ALL: [(Self, &'static str, &'static str); 4] = [
        (Self::Run, "Run", "Set up a run and watch it"),
        (Self::Compare, "Compare", "Runs over each other: LoRA, QLoRA and full on the same data"),
        (Self::Sweep, "Sweep", "Loss against rank"),
        (Self::History, "History", "Every run on the disk"),
    ];
}

/// What the tab remembers between frames: looks, never data.
#[derive(Default)]
pub struct TrainTab {
    segment: Segment,
    prepared: Prepared,
    setup: setup::Setup,
    compare: compare::Compare,
    history: history::History,
    sweep: sweep::SweepLook,
    merging: merging::Merging,
}

impl TrainTab {
    /// Prepares what changes with the runs; nothing is painted.
    pub fn think(&mut self, workspace: &Workspace, features: &Features) {
        let training = &features.training;
        self.prepared.update(training, workspace.selection().current());
        self.compare.think(training);
        self.sweep.think(training);
    }

    /// Paints the tab.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let runs = view.features.training.runs().map_or(0, <[_]>::len);
        ui.horizontal(|ui| {
            for (segment, name, tip) in Segment::ALL {
                let text =
                    if segment == Segment::History && runs > 0 { format!("{name} ({runs})") } else { name.into() };
                let button = ui.selectable_label(self.segment == segment, text).on_hover_text(tip);
                if button.accessible_name(name).clicked() {
                    self.segment = segment;
                }
            }
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                if self.segment != Segment::Run
                    && let Some(folder) = view.features.training.going_on()
                    && ui.link(format!("{} goes on", short(folder))).clicked()
                {
                    view.commands.push(Command::Training(Ask::Show(folder.to_path_buf())));
                    self.segment = Segment::Run;
                }
            });
        });
        offer(ui, view, &mut self.segment);
        self.merging.ui(ui, view);
        ui.add_space(6.0);
        match self.segment {
            Segment::Run => self.run(ui, view),
            Segment::Compare => self.compare.ui(ui, view),
            Segment::Sweep => self.sweep.ui(ui, view),
            Segment::History => {
                if self.history.ui(ui, view) {
                    self.segment = Segment::Run;
                }
            }
        }
    }

    fn run(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        space(ui, view);
        let room = ui.available_rect_before_wrap();
        let left = Rect::from_min_max(room.min, pos2(room.left() + SETUP.min(room.width() * 0.42), room.bottom()));
        let right = Rect::from_min_max(pos2(left.right() + GAP, room.top()), room.max);
        within(ui, left, |ui| self.setup.ui(ui, view));
        let line = Colors::of(ui).line;
        ui.painter().vline(left.right() + GAP / 2.0, room.y_range(), egui::Stroke::new(1.0, line));
        within(ui, right, |ui| {
            ScrollArea::vertical().id_salt("run").auto_shrink(false).show(ui, |ui| {
                if view.features.training.shown().is_some() {
                    let prepared = &mut self.prepared;
                    header::ui(ui, view);
                    plots::loss(ui, view, prepared);
                    film::ui(ui, view, prepared);
                    plots::others(ui, view, prepared);
                    samples::ui(ui, view, prepared);
                } else {
                    empty(ui, view);
                }
            });
        });
        ui.advance_cursor_after_rect(room);
    }
}

/// The space bar starts, holds and goes on, unless something else has the keys.
fn space(ui: &Ui, view: &mut View<'_>) {
    if ui.ctx().egui_wants_keyboard_input() || !ui.input(|input| input.key_pressed(egui::Key::Space)) {
        return;
    }
    let training = &view.features.training;
    let ask = match training.live() {
        Some(live) => Ask::Hold(!live.is_held()),
        None => Ask::Start,
    };
    view.commands.push(Command::Training(ask));
}

/// Nothing runs yet: what would be trained on.
fn empty(ui: &mut Ui, view: &mut View<'_>) {
    let weak = Colors::of(ui).weak;
    if let Some((_, reason)) = view.features.training.failure() {
        header::failure(ui, reason);
    }
    ui.label(RichText::new("No run yet").text_style(egui::TextStyle::Heading));
    ui.label(
        RichText::new(
            "Choose data on the left and start. Loss, learning rate, gradient, speed and memory appear here while the run \
             goes on, with the singular values of ΔW under the loss.",
        )
        .color(weak),
    );
    ui.add_space(12.0);
    preview::ui(ui, view);
}

/// Runs that were cut off before this window began.
fn offer(ui: &mut Ui, view: &mut View<'_>, segment: &mut Segment) {
    let training = &view.features.training;
    if training.live().is_some() {
        return;
    }
    let Some(past) = training.interrupted().iter().find_map(|folder| training.past(folder)) else { return };
    let colors = Colors::of(ui);
    egui::Frame::new()
        .fill(colors.card)
        .stroke(egui::Stroke::new(1.0, colors.warn))
        .inner_margin(8)
        .corner_radius(6)
        .show(ui, |ui| {
            ui.horizontal_wrapped(|ui| {
                let of = if past.steps > 0 { format!(" of {}", past.steps) } else { String::new() };
                let from = match past.checkpoints.last() {
                    Some(step) => format!("it can go on after its checkpoint at step {step}"),
                    None => "it has no checkpoint and would begin again".to_owned(),
                };
                ui.label(RichText::new("⚠").color(colors.warn));
                ui.label(format!("{} was cut off at step {}{of}: {from}.", past.name(), past.done));
                if ui.button("Go on").clicked() {
                    view.commands.push(Command::Training(Ask::GoOn(past.folder.clone())));
                    *segment = Segment::Run;
                }
                if ui.button("Leave it").clicked() {
                    view.commands.push(Command::Training(Ask::PutAside(past.folder.clone())));
                }
            });
        });
}

fn within(ui: &mut Ui, rect: Rect, add: impl FnOnce(&mut Ui)) {
    ui.scope_builder(UiBuilder::new().max_rect(rect), |ui| {
        ui.set_clip_rect(ui.clip_rect().intersect(rect.expand(2.0)));
        add(ui);
    });
}
