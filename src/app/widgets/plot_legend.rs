//! The legend of a plot: a line of names above it, each with its sample; a click hides what it names.

use std::collections::BTreeSet;

use eframe::egui::{Color32, FontId, Id, Rect, Sense, Shape, Stroke, Ui, WidgetInfo, accesskit::Role, pos2, vec2};

use super::legend::SMALL;
use super::text::middle;
use crate::figure::{Figure, Style};

/// Names that are not drawn.
pub type Hidden = BTreeSet<String>;

/// So many names are listed at most: more are told apart by nobody.
const MOST: usize = 12;
/// Letters of a name.
const LETTERS: usize = 44;
const SAMPLE: f32 = 14.0;

/// Paints it; returns what is hidden.
pub fn ui(ui: &mut Ui, id: &str, figure: &Figure) -> Hidden {
    let key = ui.scope_id().with(("hidden in", id));
    let mut hidden: Hidden = ui.data(|data| data.get_temp(key)).unwrap_or_default();
    let dark = ui.visuals().dark_mode;
    let quiet = ui.visuals().text_color();
    let of_series = figure.series.iter().enumerate();
    let mut items: Vec<(&str, Color32, Style)> = Vec::new();
    for (i, series) in of_series.filter(|(_, series)| !series.points.is_empty() && !series.name.is_empty()) {
        // A line and its points are one thing.
        if !items.iter().any(|(name, ..)| *name == series.name) {
            items.push((&series.name, figure.color(i, dark).into(), series.style));
        }
    }
    items.extend(figure.marks.iter().map(|mark| (mark.name.as_str(), quiet, Style::Dashed)));
    if items.len() < 2 {
        return hidden;
    }
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(12.0, 2.0);
        for &(name, color, style) in items.iter().take(MOST) {
            if item(ui, key.with(name), name, color, style, !hidden.contains(name)) && !hidden.remove(name) {
                hidden.insert(name.to_owned());
            }
        }
        if items.len() > MOST {
            ui.small(format!("and {} more", items.len() - MOST));
        }
    });
    ui.data_mut(|data| data.insert_temp(key, hidden.clone()));
    hidden
}

/// A sample and a name; true when it was clicked.
fn item(ui: &mut Ui, id: Id, name: &str, color: Color32, style: Style, seen: bool) -> bool {
    let ink = if seen { ui.visuals().text_color() } else { ui.visuals().weak_text_color() };
    let text = ui.painter().layout_no_wrap(middle(name, LETTERS), FontId::proportional(SMALL), ink);
    let size = vec2(SAMPLE + 5.0 + text.size().x, text.size().y.max(14.0));
    let (_, rect) = ui.allocate_space(size);
    let response = ui.interact(rect, id, Sense::click());
    let color = if seen { color } else { color.gamma_multiply(0.3) };
    sample(ui, Rect::from_min_size(rect.min, vec2(SAMPLE, rect.height())), color, style);
    let at = pos2(rect.left() + SAMPLE + 5.0, rect.center().y - text.size().y / 2.0);
    ui.painter().galley(at, text, ink);
    if response.has_focus() {
        ui.painter().rect_stroke(rect.expand(2.0), 3, ui.visuals().selection.stroke, eframe::egui::StrokeKind::Outside);
    }
    response.widget_info(|| WidgetInfo::selected(Role::CheckBox, true, seen, name));
    response.on_hover_text(format!("{name}\nA click hides it, or shows it again")).clicked()
}

/// How a series is drawn, in small.
fn sample(ui: &Ui, rect: Rect, color: Color32, style: Style) {
    let (painter, y) = (ui.painter(), rect.center().y);
    let stroke = Stroke::new(2.0, color);
    match style {
        Style::Points => {
            painter.circle_filled(rect.center(), 3.5, color);
        }
        Style::Dashed => {
            let line = [pos2(rect.left(), y), pos2(rect.right(), y)];
            painter.extend(Shape::dashed_line(&line, stroke, 4.0, 2.5));
        }
        Style::Line | Style::LinePoints | Style::Area => {
            painter.hline(rect.x_range(), y, stroke);
        }
    }
}
