//! The plots of σ and of the cumulative energy, with the rank line that can be dragged.

use eframe::egui::{Layout, RichText, Ui, UiBuilder};

use super::View;
use crate::app::effect::Effect;
use crate::app::look::glossary;
use crate::app::look::theme::Colors;
use crate::app::widgets::menu::Take;
use crate::app::widgets::rank_line::RankLine;
use crate::app::work::export::Source;
use crate::figure::Figure;

use super::prepared::Prepared;

/// Share of the height that σ gets.
const UPPER: f32 = 0.6;

/// Paints both plots into the room there is; returns whether the axis of indices is to be logarithmic.
pub fn ui(ui: &mut Ui, view: &mut View<'_>, prepared: &Prepared, log_x: &mut bool) {
    let room = ui.available_rect_before_wrap();
    ui.horizontal(|ui| {
        let title = format!("Singular values of {}", super::facts::delta_name(view));
        ui.label(RichText::new(title).strong()).on_hover_ui(|ui| glossary::SIGMA.ui(ui));
        ui.with_layout(Layout::right_to_left(eframe::egui::Align::Center), |ui| {
            let area = room;
            view.export(ui, "singular values", &Take::PLOT, area, || Source::Figure(Box::new(prepared.both())));
            ui.toggle_value(log_x, "log index").on_hover_text("Spread out the first singular values");
        });
    });
    let room = ui.available_rect_before_wrap();
    let cut = room.top() + room.height() * UPPER;
    let (upper, lower) = room.split_top_bottom_at_y(cut);
    ui.scope_builder(UiBuilder::new().max_rect(upper.with_max_y(upper.bottom() - 2.0)), |ui| {
        plot(ui, view, &prepared.sigma, "sigma");
    });
    ui.scope_builder(UiBuilder::new().max_rect(lower.with_min_y(lower.top() + 2.0)), |ui| {
        plot(ui, view, &prepared.energy, "energy");
    });
    ui.advance_cursor_after_rect(room);
}

fn plot(ui: &mut Ui, view: &mut View<'_>, figure: &Figure, id: &str) {
    if figure.series.is_empty() {
        ui.centered_and_justified(|ui| {
            ui.label(RichText::new("No spectrum yet").color(Colors::of(ui).weak));
        });
        return;
    }
    let line = RankLine::new(view.workspace.dial().r, view.workspace.max_rank()).handle(id == "sigma");
    let (response, _) = figure.ui(ui, id, |plot| line.veil(plot, &figure.x));
    if let Some(r) = line.show(ui, &response, &figure.x) {
        let mut dial = view.workspace.dial().clone();
        dial.r = r;
        view.effects.push(Effect::Turn(dial));
    }
}
