//! Opening by typing a path: for whoever has it on the clipboard, and where there is no system dialog.

use eframe::egui::text::{CCursor, CCursorRange};
use eframe::egui::text_edit::TextEditState;
use eframe::egui::{Frame, Key, Margin, Panel, RichText, TextEdit, Ui, WidgetInfo, vec2};

use crate::app::effect::Effect;
use crate::app::look::theme::Colors;
use crate::app::shared::path::clean;
use crate::app::view::View;
use crate::checkpoint::hub::Ask;
use crate::workspace::Request;

/// What fetching does.
const GET: &str = "Fetches weights, config and tokenizer from the hub into its own cache, and opens them. A fetch that was cancelled \
                   goes on where it stopped. HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE are heard.";

/// What the field remembers between frames.
#[derive(Default)]
pub struct PathField {
    open: bool,
    focus: bool,
    /// It was opened to fetch a model: Enter does so.
    getting: bool,
    text: String,
    /// What stands in the field is being opened.
    asked: bool,
    /// Why it could not be.
    problem: Option<String>,
}

impl PathField {
    /// Opens the field for the name of a repository.
    pub fn get(&mut self) {
        (self.open, self.focus, self.getting, self.problem) = (true, true, true, None);
    }

    /// Opens the field, or closes it.
    pub fn toggle(&mut self) {
        self.getting = false;
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
            .hint_text("a file of weights, the folder of a model or adapter, or owner/name on the hub")
            .desired_width((ui.available_width() - 320.0).max(160.0))
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
        let open = ui.button("Open").clicked() || (enter && !self.getting);
        if open && ready {
            view.effects.push(Effect::Open(Request::Any(path.clone())));
            self.asked = true;
        }
        let ask = Ask::parse(&self.text);
        let get = ui
            .add_enabled(ask.is_some(), eframe::egui::Button::new("Get"))
            .on_hover_text(GET)
            .on_disabled_hover_text("owner/name; behind it :file of several GGUF files, @revision")
            .accessible_name("Get from the hub");
        if let Some(ask) = ask.filter(|_| get.clicked() || (enter && self.getting)) {
            view.effects.push(Effect::Open(Request::Hub(ask)));
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
