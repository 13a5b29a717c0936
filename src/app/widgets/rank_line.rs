//! [`RankLine`]: the rank as a line in a plot that can be dragged.

use std::ops::RangeInclusive;

use eframe::egui::accesskit::{Action, ActionData};
use eframe::egui::{
    Align2, Color32, CursorIcon, EventFilter, FontId, Id, Key, Rect, Response, Sense, Shape, Stroke, StrokeKind, Ui,
    WidgetInfo, pos2, vec2,
};
use egui_plot::{PlotBounds, PlotGeometry, PlotItem, PlotItemBase, PlotResponse, PlotTransform, PlotUi};

use super::heatmap::ink;
use crate::app::look::palette;
use crate::figure::Axis;

/// Width of what reacts to the pointer.
const GRIP: f32 = 14.0;
/// Seconds within which two clicks are one double click.
const TWO: f64 = 0.4;

/// A vertical line at the rank, over a plot whose x axis counts 1, 2, 3…
///
/// [`veil`](Self::veil) goes into the plot, [`show`](Self::show) comes after it. The line is a slider named "Rank line" for the keyboard (arrows, page
/// up and down, home, end, when focused) and for the accessibility tree.
#[derive(Clone, Copy, Debug)]
pub struct RankLine {
    rank: usize,
    max: usize,
    click: bool,
    handle: bool,
}

impl RankLine {
    /// A line at `rank` of 1…`max`.
    pub fn new(rank: usize, max: usize) -> Self {
        Self { rank: rank.clamp(1, max.max(1)), max: max.max(1), click: true, handle: true }
    }

    /// Whether the line carries a handle with its rank. It does unless told otherwise: beside another line that has one it need not.
    pub fn handle(mut self, handle: bool) -> Self {
        self.handle = handle;
        self
    }

    /// Whether a click into the plot brings the line there. It does unless told otherwise.
    pub fn click(mut self, click: bool) -> Self {
        self.click = click;
        self
    }

    /// Veils the terms that the rank leaves out; to be added to the plot after its series.
    pub fn veil(self, plot: &mut PlotUi<'_>, x: &Axis) {
        if let Some(at) = x.place(self.rank as f64) {
            plot.add(Veil { base: PlotItemBase::new(String::new()), from: at });
        }
    }

    /// Draws the line and returns the rank it was moved to.
    pub fn show<R>(self, ui: &mut Ui, plot: &PlotResponse<R>, x: &Axis) -> Option<usize> {
        let frame = *plot.transform.frame();
        let id = plot.response.id.with("rank line");
        let place = |rank: usize| plot.transform.position_from_point_x(x.place(rank as f64).unwrap_or_default());
        // Outside of what is seen the handle waits at the border.
        let at = |rank: usize| place(rank).clamp(frame.left(), frame.right());
        let grip = Rect::from_x_y_ranges(at(self.rank) - GRIP / 2.0..=at(self.rank) + GRIP / 2.0, frame.y_range());
        // A click brings the line under the pointer: the second click of two is still the plot's.
        let clicked = id.with("clicked");
        let last: Option<(f64, usize)> = ui.data(|data| data.get_temp(clicked));
        let now = ui.input(|input| input.time);
        let sense = if last.is_some_and(|(at, _)| now - at < TWO) { Sense::hover() } else { Sense::drag() };
        let mut response = ui.interact(grip, id, sense).on_hover_and_drag_cursor(CursorIcon::ResizeHorizontal);
        let rank_at = |pos: eframe::egui::Pos2| {
            let value = x.value(plot.transform.value_from_position(pos).x);
            if value.is_finite() { (value.round().max(1.0) as usize).min(self.max) } else { self.rank }
        };
        let mut rank = self.keys(ui, id, &response);
        if response.drag_started() {
            response.request_focus();
        }
        if let Some(pos) = response.interact_pointer_pos().filter(|_| response.dragged()) {
            rank = rank_at(pos);
        }
        if let Some(pos) = plot.response.interact_pointer_pos().filter(|_| self.click && plot.response.clicked()) {
            // The second click of two asks for the plot in all of the tab: what the first one did is undone.
            if plot.response.double_clicked() {
                rank = last.map_or(self.rank, |(_, before)| before);
            } else {
                ui.data_mut(|data| data.insert_temp(clicked, (now, self.rank)));
                rank = rank_at(pos);
            }
        }
        let moved = rank != self.rank;
        if moved {
            response.mark_changed();
        }
        self.name(ui, &response, rank);
        paint(ui, &response, frame, at(rank));
        if self.handle || response.has_focus() {
            paint_handle(ui, &response, frame, at(rank), place(rank), rank);
        }
        moved.then_some(rank)
    }

    /// The rank that keys and the accessibility tree ask for.
    fn keys(&self, ui: &Ui, id: Id, response: &Response) -> usize {
        let mut step = 0_i64;
        let mut rank = self.rank as i64;
        if response.has_focus() {
            let arrows = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..EventFilter::default() };
            ui.memory_mut(|m| m.set_focus_lock_filter(id, arrows));
            ui.input(|i| {
                let presses = |key| i.num_presses(key) as i64;
                step += presses(Key::ArrowRight) + presses(Key::ArrowUp);
                step -= presses(Key::ArrowLeft) + presses(Key::ArrowDown);
                step += 8 * (presses(Key::PageUp) - presses(Key::PageDown));
                if presses(Key::Home) > 0 {
                    rank = 1;
                }
                if presses(Key::End) > 0 {
                    rank = self.max as i64;
                }
            });
        }
        ui.input(|i| {
            step += i.num_accesskit_action_requests(id, Action::Increment) as i64;
            step -= i.num_accesskit_action_requests(id, Action::Decrement) as i64;
            for request in i.accesskit_action_requests(id, Action::SetValue) {
                if let Some(ActionData::NumericValue(value)) = request.data {
                    rank = value.round() as i64;
                }
            }
        });
        (rank + step).clamp(1, self.max as i64) as usize
    }

    fn name(&self, ui: &Ui, response: &Response, rank: usize) {
        response.widget_info(|| WidgetInfo::slider(ui.is_enabled(), rank as f64, "Rank line"));
        ui.ctx().accesskit_node_builder(response.id, |node| {
            node.set_min_numeric_value(1.0);
            node.set_max_numeric_value(self.max as f64);
            node.set_numeric_value_step(1.0);
            node.add_action(Action::SetValue);
            if rank < self.max {
                node.add_action(Action::Increment);
            }
            if rank > 1 {
                node.add_action(Action::Decrement);
            }
        });
    }
}

struct Veil {
    base: PlotItemBase,
    from: f64,
}

impl PlotItem for Veil {
    fn shapes(&self, ui: &Ui, transform: &PlotTransform, shapes: &mut Vec<Shape>) {
        let frame = transform.frame();
        let left = transform.position_from_point_x(self.from).max(frame.left());
        if left < frame.right() {
            let rest = Rect::from_min_max(pos2(left, frame.top()), frame.right_bottom());
            shapes.push(Shape::rect_filled(rest, 0, ui.visuals().panel_fill.gamma_multiply(0.5)));
        }
    }

    fn initialize(&mut self, _: RangeInclusive<f64>) {}

    fn color(&self) -> Color32 {
        Color32::TRANSPARENT
    }

    fn allow_hover(&self) -> bool {
        false
    }

    fn geometry(&self) -> PlotGeometry<'_> {
        PlotGeometry::None
    }

    fn bounds(&self) -> PlotBounds {
        PlotBounds::NOTHING
    }

    fn base(&self) -> &PlotItemBase {
        &self.base
    }

    fn base_mut(&mut self) -> &mut PlotItemBase {
        &mut self.base
    }
}

/// The line.
fn paint(ui: &Ui, response: &Response, frame: Rect, x: f32) {
    let color = palette::rank(ui.visuals().dark_mode);
    let active = response.dragged() || response.hovered() || response.has_focus();
    let stroke = Stroke::new(if active { 2.0 } else { 1.5 }, color);
    ui.painter().with_clip_rect(ui.clip_rect().intersect(frame.expand(12.0))).vline(x, frame.y_range(), stroke);
}

/// Its handle, with the rank. `x` is where the handle is, `place` where the rank is.
fn paint_handle(ui: &Ui, response: &Response, frame: Rect, x: f32, place: f32, rank: usize) {
    let visuals = ui.visuals();
    let color = palette::rank(visuals.dark_mode);
    let painter = ui.painter().with_clip_rect(ui.clip_rect().intersect(frame.expand(12.0)));
    let arrow = if place < frame.left() - 1.0 {
        "← "
    } else if place > frame.right() + 1.0 {
        "→ "
    } else {
        ""
    };
    let text = format!("{arrow}r = {rank}");
    let galley = painter.layout_no_wrap(text, FontId::proportional(12.0), ink(color));
    let size = galley.size() + vec2(12.0, 4.0);
    let left = (x - size.x / 2.0).clamp(frame.left(), (frame.right() - size.x).max(frame.left()));
    let handle = Rect::from_min_size(pos2(left, frame.top() + 2.0), size);
    painter.rect_filled(handle, 4, color);
    if response.has_focus() {
        painter.rect_stroke(handle.expand(2.0), 6, visuals.selection.stroke, StrokeKind::Outside);
    }
    let at = Align2::CENTER_CENTER.anchor_size(handle.center(), galley.size()).min;
    painter.galley(at, galley, ink(color));
}
