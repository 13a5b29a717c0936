//! 175B against 4.7M as areas, to scale: the small one inside the large one, and a lens on it.

use eframe::egui::{Align2, FontId, Rect, Sense, Stroke, StrokeKind, Ui, WidgetInfo, pos2, vec2};

use crate::app::look::theme::Colors;
use crate::units;

/// How many times the lens enlarges, in length.
const LENS: f32 = 24.0;

/// Paints two squares whose areas are as `whole` to `part`.
pub fn ui(ui: &mut Ui, whole: (&str, u64), part: (&str, u64)) {
    let colors = Colors::of(ui);
    let side = (ui.available_width() * 0.5).min(260.0);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), side + 40.0), Sense::hover());
    let square = Rect::from_min_size(rect.min, vec2(side, side));
    let painter = ui.painter();
    painter.rect_filled(square, 2.0, colors.accent.gamma_multiply(0.8));
    let ratio = (part.1 as f64 / whole.1.max(1) as f64).sqrt() as f32;
    let small = (side * ratio).min(side);
    let corner = pos2(square.right() - small - 6.0, square.bottom() - small - 6.0);
    let dot = Rect::from_min_size(corner, vec2(small, small));
    painter.rect_filled(dot, 0.0, colors.rank);
    let font = FontId::proportional(12.0);
    let text = ui.visuals().text_color();
    let label = |place, of: (&str, u64)| {
        let name = format!("{}: {}", of.0, units::count(of.1));
        painter.text(place, Align2::LEFT_TOP, name, font.clone(), text);
    };
    label(square.left_bottom() + vec2(0.0, 6.0), whole);
    // The lens: a ring around the dot, and the same larger beside it.
    let enlarged = (small * LENS).min(side * 0.6);
    let lens = Rect::from_min_size(
        pos2(square.right() + 36.0, square.bottom() - enlarged - 22.0),
        vec2(enlarged + 16.0, enlarged + 16.0),
    );
    let line = Stroke::new(1.0, colors.weak);
    painter.rect_stroke(dot.expand(4.0), 2.0, line, StrokeKind::Outside);
    painter.line_segment([dot.expand(4.0).right_top(), lens.left_top()], line);
    painter.line_segment([dot.expand(4.0).right_bottom(), lens.left_bottom()], line);
    painter.rect_stroke(lens, 2.0, line, StrokeKind::Inside);
    painter.rect_filled(Rect::from_center_size(lens.center(), vec2(enlarged, enlarged)), 0.0, colors.rank);
    label(lens.left_bottom() + vec2(0.0, 6.0), part);
    let times = if enlarged < small * LENS { String::new() } else { format!("{LENS:.0} times larger, ") };
    let share = units::percent(part.1 as f64 / whole.1.max(1) as f64);
    let note = format!("{times}{share} of the area");
    painter.text(lens.left_top() - vec2(0.0, 6.0), Align2::LEFT_BOTTOM, note, FontId::proportional(11.0), colors.weak);
    let name = format!(
        "Areas to scale: {} {} parameters, {} {} parameters",
        whole.0,
        units::exact(whole.1),
        part.0,
        units::exact(part.1)
    );
    response.widget_info(|| WidgetInfo::labeled(eframe::egui::Role::Image, true, &name));
}
