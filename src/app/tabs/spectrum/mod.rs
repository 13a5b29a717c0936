//! The Spectrum tab: singular values, rules, the map of all modules, ΔW | approximation | residual.

mod directions;
mod facts;
mod modules_map;
mod pictures;
mod prepared;
mod rules;
mod sigma;
mod state;

use eframe::egui::{Align, Layout, Rect, RichText, Ui, pos2};

use crate::app::shared::coloring::Coloring;
use crate::app::shared::layout::{GAP, is_cramped, one_below_the_other, split, within};
use crate::app::tabs::{Part, Tab};
use crate::app::view::{self, Round};
use crate::app::widgets::heatmap::aspect;
use crate::app::widgets::menu::Take;
use crate::app::work::export::{Chapter, DRAWN, Source};
use crate::checkpoint::layer_of;
use crate::figure::chart;
use crate::figure::html::Piece;
use crate::job::{Running, Wake};

use directions::Directions;
use modules_map::Map;
use pictures::Pictures;
use prepared::Prepared;
use state::{Action, Updates};

/// What the views of this tab look at.
type View<'a> = view::View<'a, Updates, Action>;

/// Of the width, what three pictures take at most.
const WIDEST: f32 = 0.74;
/// What is left for the map: its own controls.
const MAP: f32 = 260.0;
/// And at least: their controls stand above them.
const LEAST: f32 = 640.0;
/// Width of the axes and the legend beside them, height of the controls and titles above them.
const BESIDE: f32 = 200.0;
const ABOVE: f32 = 100.0;
/// No lower: the map of all modules stands beside them.
const LOWEST: f32 = 250.0;

/// What the lower right corner shows.
const LOWER: [Part; 2] = [Part { id: "map", title: "All modules" }, Part { id: "directions", title: "Directions" }];

/// What the tab remembers between frames.
struct Looks {
    pictures: Pictures,
    prepared: Prepared,
    map: Map,
    directions: Directions,
    /// The directions of the module in place of the map.
    directed: bool,
    log_x: bool,
}

impl Default for Looks {
    /// The first singular values are what matters: they get the room that a log axis gives them.
    fn default() -> Self {
        Self {
            pictures: Pictures::default(),
            prepared: Prepared::default(),
            map: Map::default(),
            directions: Directions::default(),
            directed: false,
            log_x: true,
        }
    }
}

/// The tab.
pub struct SpectrumTab {
    state: Updates,
    actions: Vec<Action>,
    looks: Looks,
    coloring: Coloring,
}

impl SpectrumTab {
    /// Nothing yet; `wake` makes the window look again.
    pub fn new(wake: &Wake) -> Self {
        Self { state: Updates::new(wake), actions: Vec::new(), looks: Looks::default(), coloring: Coloring::new(wake) }
    }
}

impl Tab for SpectrumTab {
    fn id(&self) -> &'static str {
        "spectrum"
    }

    fn title(&self) -> &'static str {
        "Spectrum"
    }

    fn parts(&self) -> Vec<Part> {
        LOWER.to_vec()
    }

    fn show(&mut self, part: &str, _: &mut Round<'_>) {
        self.looks.directed = part == LOWER[1].id;
    }

    fn logic(&mut self, round: &mut Round<'_>) {
        self.looks.pictures.deliver(round.ctx, self.coloring.tiles());
        for action in std::mem::take(&mut self.actions) {
            self.state.carry_out(action, round);
        }
        self.state.logic(round);
        let shown = round.shown.pictures(round.workspace.dial().r, self.looks.pictures.reduction());
        self.coloring.follow(shown.map(|pictures| (pictures.subject, pictures.version)));
        self.coloring.begin(self.looks.pictures.required());
        self.looks.prepared.update(round.workspace, self.looks.log_x, round.settings.map_rule());
        self.looks.map.logic(round.workspace);
    }

    fn ui(&mut self, ui: &mut Ui, view: &mut view::View<'_>) {
        view.within(&self.state, &mut self.actions, |view| self.looks.ui(ui, view));
    }

    fn report(&self, round: &Round<'_>) -> Option<Chapter> {
        let name = round.workspace.selection().current()?.to_owned();
        let prepared = &self.looks.prepared;
        if prepared.rules.is_empty() {
            return None;
        }
        let (sigma, energy, rules) = (prepared.sigma.clone(), prepared.energy.clone(), rules::said(&prepared.rules));
        let rule = round.settings.map_rule().name();
        let ranks = prepared.ranked();
        Some(Box::new(move |report| {
            let drawings = [sigma, energy].map(|figure| Piece::Drawing(figure.svg(DRAWN[0], DRAWN[1])));
            let pieces = drawings.into_iter().chain([Piece::table(rules)]);
            report.section(format!("Spectrum of {name}"), pieces.collect());
            let cells: Vec<(usize, &str, f64)> = ranks
                .iter()
                .filter_map(|(name, r)| Some((layer_of(name)?, name.rsplit('.').next().unwrap_or(name), *r as f64)))
                .collect();
            if !cells.is_empty() {
                let title = format!("Rank of every module by the rule {rule}");
                report.section("All modules", vec![Piece::Drawing(chart::map(&title, &cells))]);
            }
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
        !self.coloring.is_busy() && self.looks.pictures.required().is_empty()
    }

    fn is_waiting(&self) -> bool {
        self.coloring.is_ready() && !self.looks.pictures.required().is_empty()
    }

    fn shows_spectra(&self) -> bool {
        true
    }
}

impl Looks {
    /// Paints the tab.
    fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        facts::ui(ui, view);
        ui.add_space(2.0);
        let room = ui.available_rect_before_wrap();
        if self.map.large && !self.directed {
            return self.map(ui, view);
        }
        if is_cramped(room) {
            let pictures = (room.width() - 170.0) / 3.0 + 100.0;
            return one_below_the_other(ui, &[280.0, pictures, 420.0, 320.0], |ui, part| match part {
                0 => sigma::ui(ui, view, &self.prepared, &mut self.log_x),
                1 => self.pictures.ui(ui, view),
                2 => self.rules(ui, view),
                _ => self.map(ui, view),
            });
        }
        // Pictures of a wide matrix are low, those of a tall one narrow: what they leave belongs to the rest.
        let shape = view.workspace.selection().current().and_then(|name| view.workspace.delta()?.entry(name));
        let aspect = shape.map_or(1.0, |entry| aspect(entry.shape) as f32);
        let widest = (room.width() * WIDEST).min(room.width() - MAP);
        let needed = ((widest - BESIDE) / 3.0 / aspect + ABOVE).max(LOWEST);
        let upper = (room.height() * 0.5).max(240.0).min(room.height() - 120.0);
        let cut = room.top() + upper.max(room.height() - GAP / 2.0 - needed);
        let upper = Rect::from_min_max(room.min, pos2(room.right(), cut - GAP / 2.0));
        let lower = Rect::from_min_max(pos2(room.left(), cut + GAP / 2.0), room.max);
        let parts = split(upper, &[0.42, 0.58]);
        within(ui, parts[0], |ui| sigma::ui(ui, view, &self.prepared, &mut self.log_x));
        within(ui, parts[1], |ui| self.rules(ui, view));
        // Three pictures and their legend; what is left belongs to the map.
        let pictures = (3.0 * (lower.height() - ABOVE) * aspect + BESIDE).clamp(LEAST.min(widest), widest);
        let share = pictures / lower.width();
        let parts = split(lower, &[share, 1.0 - share]);
        within(ui, parts[0], |ui| self.pictures.ui(ui, view));
        within(ui, parts[1], |ui| self.map(ui, view));
        ui.advance_cursor_after_rect(room);
    }

    fn rules(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let area = ui.max_rect();
        ui.horizontal(|ui| {
            ui.label(RichText::new("What rank do the rules ask for?").strong());
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let rules = &self.prepared.rules;
                view.export(ui, "rules", &Take::TABLE, area, || Source::Table(rules::rows(rules)));
            });
        });
        rules::ui(ui, view, &self.prepared.rules);
    }

    fn map(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        ui.horizontal(|ui| {
            ui.selectable_value(&mut self.directed, false, LOWER[0].title);
            let tip = "What this update shares with another one, what it does to its base";
            ui.selectable_value(&mut self.directed, true, LOWER[1].title).on_hover_text(tip);
            if self.directed {
                return;
            }
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let tip = "The map in all of the tab, or in its corner again";
                if ui.selectable_label(self.map.large, "Large").on_hover_text(tip).clicked() {
                    self.map.large = !self.map.large;
                }
            });
        });
        if self.directed {
            self.directions.ui(ui, view);
        } else {
            self.map.ui(ui, view, &self.prepared);
        }
    }
}
