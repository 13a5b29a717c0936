//! The number line of chapter 8: weights that can be dragged above, the levels of each format below, and lines from each weight to
//! the level that it gets.

use eframe::egui::accesskit::{Action, ActionData, Role};
use eframe::egui::{
    Align2, CursorIcon, EventFilter, FontFamily, FontId, Key, Rect, Sense, Stroke, Ui, WidgetInfo, pos2, vec2,
};

use super::state::{Bits, COUNT, REACH};
use crate::app::look::theme::{self, Colors};
use crate::figure::number::{short, ticks};
use crate::units;

use super::parts::Part;

const TOP: f32 = 58.0;
const TRACK: f32 = 58.0;
const NAME: f32 = 64.0;
const ERROR: f32 = 84.0;
const HANDLE: f32 = 8.0;

/// Paints it in the width there is; says which weight was moved where.
pub fn ui(ui: &mut Ui, bits: &Bits) -> Option<(usize, f64)> {
    let tracks = bits.tracks();
    let size = vec2(ui.available_width(), TOP + TRACK * tracks.len() as f32 + 6.0);
    let (room, _) = ui.allocate_exact_size(size, Sense::hover());
    let line = Rect::from_min_max(pos2(room.left() + NAME, room.top()), pos2(room.right() - ERROR, room.bottom()));
    let reach = REACH as f32 * 1.06;
    let x = |value: f64| line.center().x + value as f32 / reach * line.width() / 2.0;
    let value = |x: f32| f64::from((x - line.center().x) / (line.width() / 2.0) * reach);
    let colors = Colors::of(ui);
    let text = ui.visuals().text_color();
    let strong = FontFamily::Name(theme::STRONG.into());
    let y = room.top() + TOP - 14.0;
    ui.painter().hline(line.x_range(), y, Stroke::new(1.0, colors.weak));
    for tick in ticks(-REACH, REACH, 8) {
        ui.painter().vline(x(tick), y - 3.0..=y + 3.0, Stroke::new(1.0, colors.weak));
        let at = pos2(x(tick), room.top());
        ui.painter().text(at, Align2::CENTER_TOP, short(tick, 2), FontId::proportional(11.0), colors.weak);
    }
    ui.painter().text(pos2(room.left(), y), Align2::LEFT_CENTER, "weights", FontId::new(13.0, strong.clone()), text);
    // The best of the formats stands out.
    let best = tracks.iter().map(|track| track.error).fold(f64::INFINITY, f64::min);
    for (i, track) in tracks.iter().enumerate() {
        let level = room.top() + TOP + TRACK * i as f32 + 34.0;
        let title = track.format.title().split(' ').next().unwrap_or_default();
        let at = pos2(room.left(), level);
        ui.painter().text(at, Align2::LEFT_CENTER, title, FontId::new(13.0, strong.clone()), text);
        ui.painter().hline(line.x_range(), level, Stroke::new(1.0, colors.line));
        for &at in &track.levels {
            ui.painter().vline(x(at), level - 8.0..=level + 8.0, Stroke::new(2.0, Part::Base.color(ui)));
        }
        for (weight, got) in bits.weights().iter().zip(track.values) {
            let off = (weight - got).abs() / bits.absmax().max(1e-9);
            let color = if off > 0.04 { colors.bad } else { colors.good };
            let from = pos2(x(*weight), level - 26.0);
            ui.painter().line_segment([from, pos2(x(got), level - 9.0)], Stroke::new(1.4, color));
            ui.painter().circle_filled(from, 2.5, Part::Delta.color(ui));
            ui.painter().circle_filled(pos2(x(got), level), 4.0, Part::Delta.color(ui));
        }
        let color = if track.error <= best { colors.good } else { text };
        let error = units::percent(track.error);
        let at = pos2(room.right(), level - 6.0);
        ui.painter().text(at, Align2::RIGHT_CENTER, &error, FontId::new(15.0, strong.clone()), color);
        let at = pos2(room.right(), level + 9.0);
        ui.painter().text(at, Align2::RIGHT_CENTER, "error", FontId::proportional(11.0), colors.weak);
        let row = Rect::from_min_max(pos2(room.left(), level - 14.0), pos2(room.right(), level + 14.0));
        let response = ui.interact(row, ui.scope_id().with(("track", i)), Sense::hover());
        let said = format!("{title}: {} levels, error {error}", track.levels.len());
        response.widget_info(|| WidgetInfo::labeled(Role::Label, true, &said));
    }
    let mut moved = None;
    for at in 0..COUNT {
        if let Some(to) = handle(ui, bits, at, pos2(x(bits.weights()[at]), y), &value) {
            moved = Some((at, to));
        }
    }
    moved
}

/// One weight: dragged, or moved by arrow keys, or set through the accessibility tree.
fn handle(ui: &mut Ui, bits: &Bits, at: usize, place: eframe::egui::Pos2, value: &dyn Fn(f32) -> f64) -> Option<f64> {
    let now = bits.weights()[at];
    let id = ui.scope_id().with(("weight", at));
    let grip = Rect::from_center_size(place, vec2(2.0 * HANDLE + 2.0, 2.0 * HANDLE + 14.0));
    let response = ui.interact(grip, id, Sense::drag()).on_hover_and_drag_cursor(CursorIcon::ResizeHorizontal);
    let mut new = now;
    if response.drag_started() {
        response.request_focus();
    }
    if let Some(pos) = response.interact_pointer_pos().filter(|_| response.dragged()) {
        new = value(pos.x);
    }
    if response.has_focus() {
        let arrows = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|m| m.set_focus_lock_filter(id, arrows));
        ui.input(|i| {
            let presses = |key| i.num_presses(key) as f64;
            let fine =
                presses(Key::ArrowRight) + presses(Key::ArrowUp) - presses(Key::ArrowLeft) - presses(Key::ArrowDown);
            new += 0.02 * fine + 0.2 * (presses(Key::PageUp) - presses(Key::PageDown));
        });
    }
    ui.input(|i| {
        new += 0.02 * i.num_accesskit_action_requests(id, Action::Increment) as f64;
        new -= 0.02 * i.num_accesskit_action_requests(id, Action::Decrement) as f64;
        for request in i.accesskit_action_requests(id, Action::SetValue) {
            if let Some(ActionData::NumericValue(asked)) = request.data {
                new = asked;
            }
        }
    });
    let new = (new.clamp(-REACH, REACH) * 1000.0).round() / 1000.0;
    response.widget_info(|| WidgetInfo::slider(true, now, format!("Weight {}", at + 1)));
    ui.ctx().accesskit_node_builder(response.id, |node| {
        node.set_min_numeric_value(-REACH);
        node.set_max_numeric_value(REACH);
        node.set_numeric_value_step(0.02);
        for action in [Action::SetValue, Action::Increment, Action::Decrement] {
            node.add_action(action);
        }
    });
    let color = Part::Delta.color(ui);
    let active = response.hovered() || response.dragged() || response.has_focus();
    if active {
        ui.painter().circle_filled(place, HANDLE + 4.0, color.gamma_multiply(0.3));
        let above = place - vec2(0.0, HANDLE + 6.0);
        ui.painter().text(
            above,
            Align2::CENTER_BOTTOM,
            short(now, 3),
            FontId::proportional(12.0),
            ui.visuals().text_color(),
        );
    }
    ui.painter().circle(place, HANDLE - 1.0, color, Stroke::new(1.5, ui.visuals().extreme_bg_color));
    if response.has_focus() {
        ui.painter().circle_stroke(place, HANDLE + 3.0, ui.visuals().selection.stroke);
    }
    (new != now).then_some(new)
}
