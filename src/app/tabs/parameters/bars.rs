//! Parameter counts as bars on one log axis: 175B beside 4.7M.

use eframe::egui::{self, Align2, FontId, Pos2, Rect, RichText, Sense, Stroke, Ui, WidgetInfo, pos2, vec2};

use crate::app::look::theme::Colors;
use crate::units;

use super::model::Bar;

const ROW: f32 = 46.0;
const BAR: f32 = 14.0;
const AXIS: f32 = 34.0;

/// Paints the bars; a bar's length is the logarithm of its count, so each grid line is ten times the one before.
pub fn ui(ui: &mut Ui, bars: &[Bar]) {
    let most = bars.iter().map(|b| b.count).max().unwrap_or(1).max(10);
    let decades = (most as f64).log10().ceil() as i32;
    let size = vec2(ui.available_width(), ROW * bars.len() as f32 + AXIS);
    let (rect, _) = ui.allocate_exact_size(size, Sense::hover());
    let plot = Rect::from_min_max(rect.min, pos2(rect.right() - 8.0, rect.bottom() - AXIS));
    let x = |count: f64| plot.left() + (count.max(1.0).log10() / f64::from(decades)) as f32 * plot.width();
    let colors = Colors::of(ui);
    for decade in 0..=decades {
        let at = x(10f64.powi(decade));
        ui.painter().vline(at, plot.y_range(), Stroke::new(1.0, colors.line));
        if decade % 3 == 0 {
            let text = ["1", "1K", "1M", "1B", "1T"].get(decade as usize / 3).copied().unwrap_or("");
            let place = pos2(at, plot.bottom() + 4.0);
            ui.painter().text(place, Align2::CENTER_TOP, text, FontId::proportional(11.0), colors.weak);
        }
    }
    let label = pos2(plot.center().x, rect.bottom());
    let text = "parameters, each line ten times the one before";
    ui.painter().text(label, Align2::CENTER_BOTTOM, text, FontId::proportional(11.0), colors.weak);
    for (i, bar) in bars.iter().enumerate() {
        let top = plot.top() + ROW * i as f32;
        let row = Rect::from_min_size(pos2(plot.left(), top), vec2(plot.width(), ROW));
        paint(ui, row, x(bar.count as f64), bar, colors);
        let response = ui.interact(row, ui.scope_id().with(("bar", i)), Sense::hover());
        let name = format!("{}: {} parameters", bar.label, units::exact(bar.count));
        response.widget_info(|| WidgetInfo::labeled(egui::Role::Label, true, &name));
        response.on_hover_ui(|ui| {
            ui.label(RichText::new(&bar.label).strong());
            ui.label(format!("{} parameters", units::exact(bar.count)));
            ui.label(&bar.source);
        });
    }
}

fn paint(ui: &Ui, row: Rect, end: f32, bar: &Bar, colors: Colors) {
    let painter = ui.painter();
    let text = ui.visuals().text_color();
    let line = Pos2::new(row.left() + 4.0, row.top() + 11.0);
    painter.text(line, Align2::LEFT_CENTER, &bar.label, FontId::proportional(12.5), text);
    let top = row.top() + 21.0;
    let body = Rect::from_min_max(pos2(row.left(), top), pos2(end.max(row.left() + 2.0), top + BAR));
    let color = if bar.adapter { colors.rank } else { colors.accent };
    painter.rect_filled(body, 2.0, color);
    let inside = body.right() + 70.0 > row.right();
    let (at, align, ink) = if inside {
        (pos2(body.right() - 6.0, body.center().y), Align2::RIGHT_CENTER, ui.visuals().extreme_bg_color)
    } else {
        (pos2(body.right() + 6.0, body.center().y), Align2::LEFT_CENTER, text)
    };
    painter.text(at, align, units::count(bar.count), FontId::proportional(12.0), ink);
}
