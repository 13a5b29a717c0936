//! Opening by typing a path: for whoever has it on the clipboard, and where there is no system dialog.

use eframe::egui::text::{CCursor, CCursorRange};
use eframe::egui::text_edit::TextEditState;
use eframe::egui::{Frame, Key, Margin, Panel, RichText, TextEdit, Ui, WidgetInfo, vec2};

use crate::app::effect::Effect;
use crate::app::look::theme::Colors;
use crate::app::shared::path::clean;
use crate::app::view::View;
use crate::workspace::Request;

/// What the field remembers between frames.
#[derive(Default)]
pub struct PathField {
    open: bool,
    focus: bool,
    text: String,
    /// What stands in the field is being opened.
    asked: bool,
    /// Why it could not be.
    problem: Option<String>,
}

impl PathField {
    /// Opens the field, or closes it.
    pub fn toggle(&mut self) {
        // A path that was wrong is there to be mended.
        self.open = !self.open || self.problem.is_some();
        self.focus = self.open;
        self.problem = None;
    }

    /// True while the window opens what stands in the field.
    pub fn is_asked(&self) -> bool {
        self.asked
    }

    /// What became of the path: the field goes once it was right, else it says why and waits for another.
    pub fn answer(&mut self, problem: Option<&str>) {
        if std::mem::take(&mut self.asked) {
            self.open = problem.is_some();
            self.focus = self.open;
            self.problem = problem.map(str::to_owned);
        }
    }

    /// Paints it under the top bar while it is open.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        if !self.open {
            return;
        }
        let bar = Frame::new().fill(ui.visuals().panel_fill).inner_margin(Margin::symmetric(12, 7));
        Panel::top("path").frame(bar).show(ui, |ui| {
            ui.horizontal(|ui| self.row(ui, view));
            if let Some(problem) = &self.problem {
                ui.label(RichText::new(problem).color(Colors::of(ui).bad));
            }
        });
    }

    fn row(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let label = ui.label(RichText::new("Path").color(Colors::of(ui).weak));
        let edit = TextEdit::singleline(&mut self.text)
            .hint_text("a .safetensors file, or a model or adapter folder")
            .desired_width((ui.available_width() - 260.0).max(160.0))
            .margin(vec2(8.0, 4.0));
        let field = ui.add(edit).labelled_by(label.id);
        field.widget_info(|| WidgetInfo::text_edit(true, "", &self.text, "Path"));
        if std::mem::take(&mut self.focus) {
            field.request_focus();
            // What is pasted or typed takes the place of what stands there.
            let mut state = TextEditState::load(ui.ctx(), field.id).unwrap_or_default();
            let all = CCursorRange::two(CCursor::new(0), CCursor::new(self.text.chars().count()));
            state.cursor.set_char_range(Some(all));
            state.store(ui.ctx(), field.id);
        }
        let enter = field.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
        let path = clean(&self.text);
        let ready = !self.text.trim().is_empty();
        let open = ui.button("Open").clicked() || enter;
        if open && ready {
            view.effects.push(Effect::Open(Request::Any(path.clone())));
            self.asked = true;
        }
        let tuned = ui
            .add_enabled(view.workspace.base().is_some(), eframe::egui::Button::new("As tuned model"))
            .on_hover_text("ΔW = this model − the open base");
        if tuned.clicked() && ready {
            view.effects.push(Effect::Open(Request::Tuned(path)));
            self.asked = true;
        }
        let escape = ui.input(|i| i.key_pressed(Key::Escape));
        if ui.button("Close").clicked() || escape {
            self.open = false;
        }
    }
}
