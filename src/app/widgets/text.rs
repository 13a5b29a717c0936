//! Text that fits into the room there is.

use eframe::egui::accesskit::Role;
use eframe::egui::{FontSelection, Label, Response, RichText, TextWrapMode, Ui, WidgetInfo, WidgetText};

/// `text` in at most `most` characters: its beginning and its end, which tells versions apart.
pub fn middle(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most || most < 3 {
        return text.to_owned();
    }
    let (first, last) = ((most - 1).div_ceil(2), (most - 1) / 2);
    let begin: String = text.chars().take(first).collect();
    let end: String = text.chars().skip(count - last).collect();
    format!("{begin}…{end}")
}

/// A label whose text loses its middle where it is too long; all of it is under the pointer then.
pub fn label(ui: &mut Ui, text: &str, style: impl Fn(RichText) -> RichText) -> Response {
    let room = ui.available_width();
    let whole = WidgetText::from(style(RichText::new(text)));
    let width =
        whole.clone().into_galley(ui, Some(TextWrapMode::Extend), f32::INFINITY, FontSelection::Default).size().x;
    if width <= room {
        return ui.add(Label::new(whole).selectable(false));
    }
    // Letters differ in width: a little fewer than would fit on average.
    let most = (text.chars().count() as f32 * room / width * 0.96) as usize;
    let shown = style(RichText::new(middle(text, most.max(3))));
    let response = ui.add(Label::new(shown).selectable(false).truncate());
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, text));
    response.on_hover_text(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_goes() {
        assert_eq!(middle("short", 10), "short");
        assert_eq!(middle("tiny-llama-1.1b-chat-v1.0-epoch-3", 15), "tiny-ll…epoch-3");
        assert_eq!(middle("äöüäöüäöü", 5).chars().count(), 5);
    }
}
