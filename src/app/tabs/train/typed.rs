//! [`Typed`]: a text field whose text counts once it is done.

use eframe::egui::{TextEdit, Ui, WidgetInfo};

/// A text as it is being typed, and what it was last taken from.
#[derive(Default)]
pub struct Typed {
    text: String,
    from: String,
}

/// How a field looks.
pub enum Look {
    /// One line, so wide.
    Line(f32),
    /// So many lines, as wide as there is room.
    Lines(usize),
}

impl Typed {
    /// The text as it stands in the field.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A field; the text once it is done.
    pub fn ui(&mut self, ui: &mut Ui, name: &str, now: &str, hint: &str, look: Look) -> Option<String> {
        if self.from != now {
            (self.text, self.from) = (now.to_owned(), now.to_owned());
        }
        let edit = match look {
            Look::Line(width) => TextEdit::singleline(&mut self.text).desired_width(width),
            Look::Lines(rows) => TextEdit::multiline(&mut self.text).desired_rows(rows).desired_width(f32::INFINITY),
        };
        // Seen as a field on the ground of the tab too.
        let response = ui.add(edit.hint_text(hint));
        response.widget_info(|| WidgetInfo::text_edit(true, now, &self.text, name));
        let response = response.accessible_name(name);
        (response.lost_focus() && self.text != now).then(|| self.text.clone())
    }
}
