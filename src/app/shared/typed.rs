//! [`Typed`]: a text field whose text counts once it is done.

use std::sync::Arc;

use eframe::egui::text::{LayoutJob, TextFormat};
use eframe::egui::{FontId, Galley, Response, TextBuffer, TextEdit, TextStyle, Ui, WidgetInfo};

use crate::app::look::theme::Colors;

/// Width of a field's margins.
const MARGINS: f32 = 16.0;

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
    /// A path in one line, so wide: while nobody types, what is too long loses its first folders and not the file's name.
    Path(f32),
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
        let response = field(ui, name, now, &mut self.text, hint, look);
        (response.lost_focus() && self.text != now).then(|| self.text.clone())
    }
}

/// A field for a path that counts as it is typed.
pub fn path(ui: &mut Ui, name: &str, text: &mut String, hint: &str, width: f32) -> Response {
    let before = text.clone();
    field(ui, name, &before, text, hint, Look::Path(width))
}

fn field(ui: &mut Ui, name: &str, before: &str, text: &mut String, hint: &str, look: Look) -> Response {
    let id = ui.make_persistent_id(("typed", name));
    let typing = ui.memory(|memory| memory.has_focus(id));
    let width = match look {
        Look::Line(width) | Look::Path(width) => width.min(ui.available_width()),
        Look::Lines(_) => ui.available_width(),
    };
    let mut path = |ui: &Ui, text: &dyn TextBuffer, _: f32| path_in(ui, text.as_str(), width - MARGINS);
    let edit = match look {
        Look::Line(width) => TextEdit::singleline(text).desired_width(width),
        // No text is no path: the hint is laid out by the field itself.
        Look::Path(width) if typing || text.is_empty() => TextEdit::singleline(text).desired_width(width),
        Look::Path(width) => TextEdit::singleline(text).desired_width(width).layouter(&mut path),
        Look::Lines(rows) => TextEdit::multiline(text).desired_rows(rows).desired_width(f32::INFINITY),
    };
    // Seen as a field on the ground of the tab too.
    let response = ui.add(edit.id(id).hint_text(hint));
    response.widget_info(|| WidgetInfo::text_edit(true, before, text.as_str(), name));
    response.accessible_name(name)
}

/// A path laid out so that its end is seen: folders weak, the file's name as text.
fn path_in(ui: &Ui, text: &str, room: f32) -> Arc<Galley> {
    let font = TextStyle::Body.resolve(ui.style());
    let (folder, name) = fitted(text, |text| width(ui, &font, text) <= room);
    let (weak, strong) = (Colors::of(ui).weak, ui.visuals().text_color());
    let mut job = LayoutJob::default();
    for (part, color) in [(folder.as_str(), weak), (name, strong)] {
        job.append(part, 0.0, TextFormat { font_id: font.clone(), color, ..TextFormat::default() });
    }
    ui.fonts_mut(|fonts| fonts.layout_job(job))
}

fn width(ui: &Ui, font: &FontId, text: &str) -> f32 {
    ui.painter().layout_no_wrap(text.to_owned(), font.clone(), ui.visuals().text_color()).size().x
}

/// The folder, without as many of its first parts as do not fit, and the name.
fn fitted(path: &str, fits: impl Fn(&str) -> bool) -> (String, &str) {
    let cut = path.rfind(['/', '\\']).map_or(0, |at| at + 1);
    let (folder, name) = path.split_at(cut);
    let mut rest = folder;
    let mut shown = folder.to_owned();
    while !rest.is_empty() && !fits(&format!("{shown}{name}")) {
        rest = rest.split_once(['/', '\\']).map_or("", |(_, rest)| rest);
        shown = format!("…/{rest}");
    }
    (shown, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_keeps_its_end() {
        let within = |most: usize| move |text: &str| text.chars().count() <= most;
        assert_eq!(fitted("/home/a/data/rows.jsonl", within(40)), ("/home/a/data/".to_owned(), "rows.jsonl"));
        assert_eq!(fitted("/home/a/data/rows.jsonl", within(18)), ("…/data/".to_owned(), "rows.jsonl"));
        assert_eq!(fitted("/home/a/data/rows.jsonl", within(3)), ("…/".to_owned(), "rows.jsonl"));
        assert_eq!(fitted("rows.jsonl", within(3)), (String::new(), "rows.jsonl"));
        assert_eq!(fitted("", within(3)), (String::new(), ""));
    }
}
