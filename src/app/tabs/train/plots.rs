//! Loss, learning rate, gradient norm, speed and memory on one axis, with the cursor through all of them.

use eframe::egui::{self, DragValue, Rect, RichText, Stroke, Ui, UiBuilder, pos2};

use super::View;
use super::state::Track;
use crate::app::look::glossary::{self, Term};
use crate::app::look::theme::Colors;
use crate::app::shared::layout;
use crate::app::widgets::menu::Take;
use crate::app::work::export::Source;
use crate::figure::Figure;
use crate::units;

use super::prepared::Prepared;

/// Narrower, the axis and the cursor stand in two lines.
const AXIS: f32 = 560.0;
/// Height of the loss.
const LOSS: f32 = 196.0;
/// Height of the smaller plots.
const SMALL: f32 = 138.0;

/// Paints the loss, with what is across and where the cursor is.
pub fn loss(ui: &mut Ui, view: &mut View<'_>, prepared: &mut Prepared) {
    let Some(track) = view.state.shown() else { return };
    axis(ui, track, prepared);
    let at = track.at(prepared.step(track));
    let record = at.map(|at| &track.records[at]);
    let loss = at.zip(record).map_or_else(String::new, |(at, record)| {
        let smooth = prepared.smooth.get(at).copied().unwrap_or(f64::NAN);
        let eval = track.records[..=at].iter().rev().find_map(|record| record.eval_loss);
        let eval = eval.map_or_else(String::new, |loss| format!(" · held out {}", units::real(loss, 4)));
        format!("{} · smoothed {}{eval}", units::real(record.step.loss, 4), units::real(smooth, 4))
    });
    block(
        ui,
        view,
        prepared,
        LOSS,
        Plot {
            name: "Loss",
            value: &loss,
            term: Some(glossary::LOSS),
            pick: |p| &p.loss,
            full: Some(Prepared::full_loss),
        },
    );
}

/// Paints the rest.
pub fn others(ui: &mut Ui, view: &mut View<'_>, prepared: &mut Prepared) {
    let Some(track) = view.state.shown() else { return };
    ui.add_space(6.0);
    ui.separator();
    let record = track.at(prepared.step(track)).map(|at| &track.records[at]);
    let text = |value: Option<String>| value.unwrap_or_default();
    let lr = text(record.map(|record| units::real(record.step.lr, 3)));
    let grad = text(record.map(|record| units::real(record.step.grad_norm, 3)));
    let speed = text(record.map(|record| format!("{:.0} tokens/s", record.tokens_per_s)));
    let held = text(record.filter(|record| record.held > 0).map(|record| {
        let held = units::bytes(record.held);
        if track.predicted > 0 { format!("{held} of {} predicted", units::bytes(track.predicted)) } else { held }
    }));
    let plots = [
        Plot { name: "Learning rate", value: &lr, term: Some(glossary::LEARNING_RATE), pick: |p| &p.lr, full: None },
        Plot { name: "Gradient norm", value: &grad, term: Some(glossary::GRADIENT), pick: |p| &p.grad, full: None },
        Plot { name: "Speed", value: &speed, term: Some(glossary::SPEED), pick: |p| &p.speed, full: None },
        Plot {
            name: "Memory",
            value: &held,
            term: Some(glossary::HELD),
            pick: |p| &p.memory,
            full: Some(Prepared::full_memory),
        },
    ];
    for pair in plots.chunks(2) {
        columns(ui, SMALL, |ui, index| block(ui, view, prepared, SMALL, pair[index]));
    }
}

/// Two columns of one height.
pub fn columns(ui: &mut Ui, height: f32, mut add: impl FnMut(&mut Ui, usize)) {
    const GAP: f32 = 14.0;
    let room = ui.available_rect_before_wrap();
    let row = Rect::from_min_size(room.min, egui::vec2(room.width(), height));
    let half = (row.width() - GAP) / 2.0;
    for index in 0..2 {
        let left = row.left() + index as f32 * (half + GAP);
        let part = Rect::from_min_max(pos2(left, row.top()), pos2(left + half, row.bottom()));
        ui.scope_builder(UiBuilder::new().max_rect(part).id_salt(("column", index)), |ui| add(ui, index));
    }
    ui.advance_cursor_after_rect(row);
}

/// Steps or seconds; how much is smoothed; where the cursor is.
fn axis(ui: &mut Ui, track: &Track, prepared: &mut Prepared) {
    let weak = Colors::of(ui).weak;
    let mut changed = false;
    layout::sides(ui, AXIS, |ui, right| {
        if right {
            return cursor(ui, track, prepared);
        }
        ui.label(RichText::new("Across").color(weak));
        changed |= ui.selectable_value(&mut prepared.by_time, false, "steps").clicked();
        changed |= ui.selectable_value(&mut prepared.by_time, true, "time").clicked();
        ui.add_space(8.0);
        let label = ui.label(RichText::new("Smoothing").color(weak));
        let drag = DragValue::new(&mut prepared.window).range(1.0..=1000.0).speed(0.5).max_decimals(0).suffix(" steps");
        changed |=
            ui.add(drag).labelled_by(label.id).on_hover_text("Exponential mean over about so many steps").changed();
    });
    if changed {
        prepared.stale();
        ui.ctx().request_repaint();
    }
}

/// Where the cursor is; from right to left.
fn cursor(ui: &mut Ui, track: &Track, prepared: &mut Prepared) {
    let (step, last) = (prepared.step(track), track.last().map_or(0, |record| record.step.step));
    if prepared.cursor.is_some() && ui.button("Newest").on_hover_text("The cursor follows the run again").clicked() {
        prepared.cursor = None;
    }
    let mut chosen = step;
    ui.spacing_mut().slider_width = (ui.available_width() - 150.0).clamp(60.0, 220.0);
    let slider = egui::Slider::new(&mut chosen, 0..=last.max(1))
        .smart_aim(false)
        .handle_shape(egui::style::HandleShape::Rect { aspect_ratio: 0.5 });
    let response = ui.add(slider).on_hover_text("The step that all numbers are of; drag in any plot");
    if response.accessible_name("Step at the cursor").changed() {
        prepared.cursor = (chosen < last).then_some(chosen);
    }
    ui.label(RichText::new("Cursor at step").color(Colors::of(ui).weak));
}

/// A plot with its name, the number at the cursor, and its menu.
#[derive(Clone, Copy)]
pub struct Plot<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it shows at the cursor.
    pub value: &'a str,
    /// What it means.
    pub term: Option<Term>,
    /// Where it is among the prepared ones.
    pub pick: fn(&Prepared) -> &Figure,
    /// How it is made with every point, for a file.
    pub full: Option<fn(&Prepared, &Track) -> Figure>,
}

/// Paints a plot; a click or a drag in it moves the cursor.
pub fn block(ui: &mut Ui, view: &mut View<'_>, prepared: &mut Prepared, height: f32, plot: Plot<'_>) {
    let Some(track) = view.state.shown() else { return };
    let top = ui.available_rect_before_wrap().min;
    let area = Rect::from_min_size(top, egui::vec2(ui.available_width(), height));
    layout::measured(ui, plot.name, plot.value, plot.term, |ui| {
        view.export(ui, &plot.name.to_lowercase(), &Take::PLOT, area, || {
            let full = plot.full.map_or_else(|| prepared.full_curve(track, plot.name), |full| full(prepared, track));
            Source::Figure(Box::new(full))
        });
    });
    let left = height - (ui.available_rect_before_wrap().top() - top.y);
    let figure = (plot.pick)(prepared);
    let rect =
        Rect::from_min_size(ui.available_rect_before_wrap().min, egui::vec2(ui.available_width(), left.max(40.0)));
    let mut moved = None;
    ui.scope_builder(UiBuilder::new().max_rect(rect), |ui| {
        if figure.series.iter().all(|series| series.points.is_empty()) {
            let text = if track.records.is_empty() { "Begins with the first step" } else { "Not measured" };
            ui.centered_and_justified(|ui| ui.label(RichText::new(text).color(Colors::of(ui).weak)));
            return;
        }
        let (response, _) = figure.ui(ui, plot.name, |_| {});
        let frame = *response.transform.frame();
        let x = response.transform.position_from_point_x(prepared.x(track, prepared.step(track)));
        if frame.x_range().contains(x) && !track.records.is_empty() {
            let color = Colors::of(ui).accent;
            ui.painter().with_clip_rect(frame).vline(x, frame.y_range(), Stroke::new(1.0, color));
        }
        let held = response.response.dragged_by(egui::PointerButton::Primary) || response.response.clicked();
        if let Some(pos) = response.response.interact_pointer_pos().filter(|_| held) {
            moved = prepared.step_at(track, response.transform.value_from_position(pos).x);
        }
    });
    ui.advance_cursor_after_rect(rect);
    if let Some(step) = moved {
        let last = track.last().map_or(0, |record| record.step.step);
        prepared.cursor = (step < last).then_some(step);
        ui.ctx().request_repaint();
    }
}
