//! A colour and its name, in one piece: no line of a legend ends between them.

use eframe::egui::{Color32, Rect, Response, Sense, TextStyle, Ui, WidgetInfo, accesskit::Role, pos2, vec2};

use crate::app::look::theme::Colors;

/// Paints it.
pub fn swatch(ui: &mut Ui, color: Color32, text: &str) -> Response {
    let (font, ink) = (TextStyle::Small.resolve(ui.style()), Colors::of(ui).weak);
    let words = ui.painter().layout_no_wrap(text.to_owned(), font, ink);
    let (rect, response) = ui.allocate_exact_size(vec2(12.0 + words.size().x, words.size().y), Sense::hover());
    let dot = Rect::from_center_size(pos2(rect.left() + 4.0, rect.center().y), vec2(8.0, 8.0));
    ui.painter().rect_filled(dot, 2.0, color);
    ui.painter().galley(pos2(rect.left() + 12.0, rect.top()), words, ink);
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, text));
    response
}
