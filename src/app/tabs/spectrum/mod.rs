//! The Spectrum tab: singular values, rules, the map of all modules, ΔW | approximation | residual.

mod directions;
mod facts;
pub(in crate::app::tabs) mod modules_map;
mod pictures;
mod prepared;
mod rules;
mod sigma;
pub mod state;

use eframe::egui::{Align, Context, Layout, Rect, RichText, Ui, pos2};

use crate::app::View;
use crate::app::shared::layout::{GAP, is_cramped, one_below_the_other, split, within};
use crate::app::widgets::menu::Take;
use crate::app::widgets::tiles::{TileBatch, TileJob};
use crate::app::work::export::Source;
use crate::spectrum::RuleId;
use crate::workspace::Workspace;

use directions::Directions;
use modules_map::Map;
use pictures::Pictures;
use prepared::Prepared;

/// What the tab remembers between frames.
pub struct SpectrumTab {
    pictures: Pictures,
    prepared: Prepared,
    map: Map,
    directions: Directions,
    /// The directions of the module in place of the map.
    directed: bool,
    log_x: bool,
}

impl Default for SpectrumTab {
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

impl SpectrumTab {
    /// Hands over coloured tiles.
    pub fn deliver(&mut self, ctx: &Context, tiles: Vec<TileBatch>) {
        self.pictures.deliver(ctx, tiles);
    }

    /// The tiles that are missing for what was last painted.
    pub fn required(&self) -> Vec<TileJob> {
        self.pictures.required()
    }

    /// Prepares what changes with the workspace.
    pub fn think(&mut self, workspace: &Workspace, rule: RuleId) {
        self.prepared.update(workspace, self.log_x, rule);
        self.map.think(workspace);
    }

    /// Paints the tab.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        facts::ui(ui, view);
        ui.add_space(2.0);
        let room = ui.available_rect_before_wrap();
        if is_cramped(room) {
            let pictures = (room.width() - 170.0) / 3.0 + 100.0;
            return one_below_the_other(ui, &[280.0, pictures, 420.0, 320.0], |ui, part| match part {
                0 => sigma::ui(ui, view, &self.prepared, &mut self.log_x),
                1 => self.pictures.ui(ui, view),
                2 => self.rules(ui, view),
                _ => self.map(ui, view),
            });
        }
        let cut = room.top() + (room.height() * 0.5).max(240.0).min(room.height() - 120.0);
        let upper = Rect::from_min_max(room.min, pos2(room.right(), cut - GAP / 2.0));
        let lower = Rect::from_min_max(pos2(room.left(), cut + GAP / 2.0), room.max);
        let parts = split(upper, &[0.42, 0.58]);
        within(ui, parts[0], |ui| sigma::ui(ui, view, &self.prepared, &mut self.log_x));
        within(ui, parts[1], |ui| self.rules(ui, view));
        // Three square pictures and their legend; what is left belongs to the map.
        let pictures = (3.0 * (lower.height() - 90.0) + 200.0).min(lower.width() * 0.74);
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
            ui.selectable_value(&mut self.directed, false, "All modules");
            let tip = "What this update shares with another one, what it does to its base";
            ui.selectable_value(&mut self.directed, true, "Directions").on_hover_text(tip);
        });
        if self.directed {
            self.directions.ui(ui, view);
        } else {
            self.map.ui(ui, view, &self.prepared);
        }
    }
}
