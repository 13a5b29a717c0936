//! The Quantization tab: a weight, what a few bits make of it, the error; and below, what that means.
//!
//! ```text
//! format · block · double quantization      the module's numbers
//! W | Ŵ | error, linked                     levels and weights
//! Formats · Error · Block sizes · All modules · Against ΔW · What QLoRA quantizes
//! ```

mod against;
mod controls;
mod formats;
mod levels;
mod modules;
mod pictures;
mod roles;
mod spread;
mod state;

use std::sync::Arc;

use eframe::egui::{Align2, Color32, FontId, Rect, RichText, ScrollArea, Ui, pos2};

use crate::app::look::theme::Colors;
use crate::app::shared::coloring::Coloring;
use crate::app::shared::layout::{self, GAP, is_cramped, one_below_the_other, split, within};
use crate::app::tabs::{Part, Tab};
use crate::app::view::{self, Round};
use crate::app::widgets::menu::Take;
use crate::app::work::export::{Chapter, Source};
use crate::figure::html::Piece;
use crate::figure::{Axis, Figure, Mark, Series, Style};
use crate::job::{Running, Wake};
use crate::quant::Group;
use crate::workspace::Workspace;

use against::Against;
use formats::Formats;
use modules::Modules;
use pictures::Pictures;
use roles::RolesView;
use state::{Action, BlockPoint, Choice, Need, Quantization, SWEPT, has_delta};

/// What the views of this tab look at.
type View<'a> = view::View<'a, Quantization, Action>;

/// All modules are computed unasked up to so many cells.
const UNASKED: usize = 1 << 26;

/// In less height the pictures beside each other would be stamps.
const LOW: f32 = 490.0;

/// What the tab remembers between frames: looks, never data.
#[derive(Default)]
struct Looks {
    choice: Choice,
    pictures: Pictures,
    lower: Lower,
    formats: Formats,
    modules: Modules,
    against: Against,
    roles: RolesView,
    /// The figures of the numbers that are there, and which these are.
    key: Option<(u64, usize)>,
    levels: Vec<Figure>,
    spread: Vec<Figure>,
    sweep: Option<(usize, Figure)>,
}

/// What the lower half shows.
#[derive(Clone, Copy, Default, PartialEq)]
enum Lower {
    #[default]
    Formats,
    Spread,
    Blocks,
    Modules,
    Against,
    Roles,
}

impl Lower {
    const ALL: [(Self, Part, &'static str); 6] = [
        (Self::Formats, Part { id: "formats", title: "Formats" }, "Every format on this weight, at matched bits."),
        (Self::Spread, Part { id: "spread", title: "Where the error is" }, "Its histogram; rows, columns and blocks."),
        (Self::Blocks, Part { id: "blocks", title: "Block sizes" }, "What a larger block costs, and what it saves."),
        (Self::Modules, Part { id: "modules", title: "All modules" }, "The error of every module, format by format."),
        (Self::Against, Part { id: "against", title: "Against ΔW" }, "Does rounding drown the update?"),
        (Self::Roles, Part { id: "roles", title: "What QLoRA quantizes" }, "The frozen base, not the adapter."),
    ];
}

/// The tab.
pub struct QuantizationTab {
    state: Quantization,
    actions: Vec<Action>,
    looks: Looks,
    coloring: Coloring,
}

impl QuantizationTab {
    /// Nothing yet; `wake` makes the window look again.
    pub fn new(wake: &Wake) -> Self {
        Self {
            state: Quantization::new(Arc::clone(wake)),
            actions: Vec::new(),
            looks: Looks::default(),
            coloring: Coloring::new(wake),
        }
    }
}

impl Tab for QuantizationTab {
    fn id(&self) -> &'static str {
        "quantization"
    }

    fn title(&self) -> &'static str {
        "Quantization"
    }

    fn parts(&self) -> Vec<Part> {
        Lower::ALL.map(|(_, part, _)| part).to_vec()
    }

    fn show(&mut self, part: &str, _: &mut Round<'_>) {
        let found = Lower::ALL.into_iter().find(|(_, known, _)| known.id == part);
        self.looks.lower = found.map_or(self.looks.lower, |(lower, ..)| lower);
    }

    fn logic(&mut self, round: &mut Round<'_>) {
        self.looks.pictures.deliver(round.ctx, self.coloring.tiles());
        for action in std::mem::take(&mut self.actions) {
            self.state.carry_out(action, round);
        }
        self.state.logic();
        self.coloring.follow(self.state.shots().map(|(subject, version, _)| (subject, version)));
        self.coloring.begin(self.looks.pictures.required());
        self.looks.logic(round.workspace, &self.state);
    }

    fn ui(&mut self, ui: &mut Ui, view: &mut view::View<'_>) {
        view.within(&self.state, &mut self.actions, |view| self.looks.ui(ui, view));
    }

    fn report(&self, round: &Round<'_>) -> Option<Chapter> {
        let name = round.workspace.selection().current()?.to_owned();
        let formats = self.state.formats();
        if formats.is_empty() {
            return None;
        }
        let formats = formats::said(formats);
        Some(Box::new(move |report| {
            report.section(format!("Rounding {name}"), vec![Piece::table(formats)]);
            Ok(())
        }))
    }

    fn running(&self) -> Vec<&dyn Running> {
        self.state.running()
    }

    fn is_busy(&self) -> bool {
        self.coloring.is_busy() || !self.state.running().is_empty()
    }

    fn is_painted(&self) -> bool {
        self.looks.pictures.required().is_empty()
    }

    fn is_waiting(&self) -> bool {
        self.coloring.is_ready() && !self.is_painted()
    }
}

impl Looks {
    /// Prepares what changes with the workspace; nothing is painted.
    fn logic(&mut self, workspace: &Workspace, quantization: &Quantization) {
        self.modules.logic(workspace);
        let facts = quantization.facts();
        let version = quantization.shots().map_or(0, |(_, version, _)| version);
        if self.key != Some((version, facts.len())) && !facts.is_empty() {
            self.key = Some((version, facts.len()));
            self.levels = facts.iter().map(levels::figure).collect();
            self.spread = spread::figures(facts).to_vec();
        }
        let points = quantization.blocks();
        if self.sweep.as_ref().is_none_or(|(count, _)| *count != points.len()) {
            self.sweep = Some((points.len(), sweep(points)));
        }
    }

    /// Paints the tab.
    fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        if view.workspace.delta().is_none() {
            ui.label(
                RichText::new("Open a model to see what a few bits make of its weights.").color(Colors::of(ui).weak),
            );
            return;
        }
        controls::ui(ui, &mut self.choice);
        pictures::facts(ui, view);
        ui.add_space(2.0);
        let room = ui.available_rect_before_wrap();
        if is_cramped(room) || room.height() < LOW {
            let pictures = (room.width() - 130.0) / 3.0 + 110.0;
            one_below_the_other(ui, &[pictures, 420.0, 280.0], |ui, part| match part {
                0 => self.pictures.ui(ui, view, &mut self.choice),
                1 => self.lower_ui(ui, view),
                _ => levels::ui(ui, view, &self.levels),
            });
        } else {
            self.side_by_side(ui, view, room);
        }
        // After everything that may have changed the choice.
        let need = Need::Look(self.choice);
        if view.state.is_missing(&need, view.workspace) {
            view.actions.push(Action::Look(self.choice));
        }
    }

    fn side_by_side(&mut self, ui: &mut Ui, view: &mut View<'_>, room: Rect) {
        let cut = room.top() + (room.height() * 0.56).max(240.0).min(room.height() - 120.0);
        let upper = Rect::from_min_max(room.min, pos2(room.right(), cut - GAP / 2.0));
        let lower = Rect::from_min_max(pos2(room.left(), cut + GAP / 2.0), room.max);
        // Three square pictures; what is left belongs to the histogram.
        let pictures = (3.0 * (upper.height() - 110.0) + 130.0).clamp(upper.width() * 0.5, upper.width() * 0.72);
        let parts = split(upper, &[pictures / upper.width(), 1.0 - pictures / upper.width()]);
        within(ui, parts[0], |ui| self.pictures.ui(ui, view, &mut self.choice));
        within(ui, parts[1], |ui| levels::ui(ui, view, &self.levels));
        within(ui, lower, |ui| self.lower_ui(ui, view));
        ui.advance_cursor_after_rect(room);
    }

    fn lower_ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        ui.horizontal_wrapped(|ui| {
            for (lower, Part { title, .. }, tip) in Lower::ALL {
                ui.selectable_value(&mut self.lower, lower, title).on_hover_text(tip);
            }
        });
        let need = match self.lower {
            Lower::Formats => self.formats.need(&self.choice),
            Lower::Spread => Need::Look(self.choice),
            Lower::Blocks => Need::Blocks { double_quant: self.choice.a.double_quant },
            Lower::Modules => self.modules.need(&self.choice),
            Lower::Against => self.against.need(view, &self.choice),
            Lower::Roles => self.roles.need(view, &self.choice),
        };
        let about_delta = matches!(self.lower, Lower::Against | Lower::Roles);
        if about_delta && !has_delta(view.workspace) {
            let text = "This compares with ΔW. Open a tuned model or an adapter for the base (Ctrl+O).";
            ui.label(RichText::new(text).color(Colors::of(ui).weak));
            return;
        }
        if !ready(ui, view, &need) {
            return;
        }
        match self.lower {
            Lower::Formats => self.formats.ui(ui, view, &mut self.choice),
            Lower::Spread => self.spread_ui(ui, view),
            Lower::Blocks => {
                if let Some((_, figure)) = &self.sweep {
                    let block = match self.choice.a.group {
                        Group::Block(block) if self.choice.a.format.has_free_block() => Some(block),
                        _ => None,
                    };
                    let mut figure = figure.clone();
                    figure.marks.extend(block.map(|block| Mark {
                        name: "shown".into(),
                        at: block as f64,
                        vertical: true,
                    }));
                    plot(ui, view, &figure, "error by block size");
                }
            }
            Lower::Modules => self.modules.ui(ui, view, &self.choice),
            Lower::Against => self.against.ui(ui, view),
            Lower::Roles => {
                ScrollArea::vertical().id_salt("roles").auto_shrink(false).show(ui, |ui| {
                    self.roles.ui(ui, view, &self.choice);
                });
            }
        }
    }

    fn spread_ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        if self.spread.is_empty() {
            return;
        }
        let room = ui.available_rect_before_wrap();
        let parts = split(room, &[0.34, 0.33, 0.33]);
        for (figure, part) in self.spread.iter().zip(parts) {
            within(ui, part, |ui| plot(ui, view, figure, &figure.title));
        }
        ui.advance_cursor_after_rect(room);
    }
}

/// Asks for what is missing and says what is the matter; true when there is something to be painted.
fn ready(ui: &mut Ui, view: &mut View<'_>, need: &Need) -> bool {
    let quantization = view.state;
    let weak = Colors::of(ui).weak;
    if quantization.is_missing(need, view.workspace) {
        if matches!(need, Need::Look(_)) {
            return false;
        }
        if quantization.looking().is_some() {
            // The pictures come first. What is there of another choice stays meanwhile.
            computing(ui, weak);
            return true;
        }
        let cells = |shape: [usize; 2]| shape[0] * shape[1];
        let all: usize = view.workspace.delta().map_or(0, |set| set.entries().iter().map(|e| cells(e.shape)).sum());
        if matches!(need, Need::Modules { .. }) && all > UNASKED {
            ui.label(
                RichText::new("Computes the error of every module in several formats; a large model takes minutes.")
                    .color(weak),
            );
            if ui.button("Compute all modules").clicked() {
                view.actions.push(Action::Need(need.clone()));
            }
        } else {
            view.actions.push(Action::Need(need.clone()));
        }
        return false;
    }
    if let Some(error) = quantization.error(need) {
        let stopped = error.is_cancelled();
        let text = if stopped { "Stopped.".to_owned() } else { error.to_string() };
        let color = if stopped { weak } else { Colors::of(ui).bad };
        ui.horizontal(|ui| {
            ui.label(RichText::new(text).color(color));
            if stopped && ui.button("Compute again").clicked() {
                view.actions.push(Action::Again(need.clone()));
            }
        });
        return stopped;
    }
    if !quantization.is_current(need, view.workspace) {
        computing(ui, weak);
    }
    true
}

/// In the corner: what is below does not move.
fn computing(ui: &Ui, weak: Color32) {
    let at = pos2(ui.max_rect().right(), ui.max_rect().top() + 12.0);
    ui.painter().text(at, Align2::RIGHT_CENTER, "computing …", FontId::proportional(11.0), weak);
}

/// Relative error by block size, a line for each format.
fn sweep(points: &[BlockPoint]) -> Figure {
    let mut figure = Figure {
        title: "Error by block size".into(),
        x: Axis::log("weights that share a scale"),
        y: Axis::linear("‖Ŵ − W‖ / ‖W‖"),
        ..Figure::default()
    };
    for format in SWEPT {
        let of = points.iter().filter(|point| point.format == format);
        let line: Vec<[f64; 2]> = of.map(|point| [point.block as f64, point.relative]).collect();
        let name = if format == crate::quant::Format::Q4_0 { "Q4_0's rule" } else { format.title() };
        if !line.is_empty() {
            figure.series.push(Series::line(name, line).style(Style::LinePoints));
        }
    }
    figure
}

/// A figure under its title, with its ⋯ menu.
fn plot(ui: &mut Ui, view: &mut View<'_>, figure: &Figure, id: &str) {
    let area = ui.available_rect_before_wrap();
    layout::title(ui, &figure.title, |ui| {
        view.export(ui, id, &Take::PLOT, area, || Source::Figure(Box::new(figure.clone())));
    });
    figure.ui(ui, id, |_| {});
}
