//! The command palette (Ctrl+K): everything that can be done, by typing a part of its name.

use eframe::egui::{self, Id, Key, Modal, RichText, TextEdit, Ui, WidgetInfo, vec2};

use crate::workspace::Request;

use crate::app::View;
use crate::app::effect::{Command, Question, Tab};
use crate::app::look::theme::Colors;

/// One thing that can be done.
struct Item {
    title: String,
    keys: &'static str,
    command: Command,
}

/// What the palette remembers between frames.
#[derive(Default)]
pub struct Palette {
    /// Shown.
    pub open: bool,
    text: String,
    place: usize,
}

impl Palette {
    /// Opens it empty, or closes it.
    pub fn toggle(&mut self) {
        *self = Self { open: !self.open, ..Self::default() };
    }

    /// Paints it over everything else.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        if !self.open {
            return;
        }
        let response = Modal::new(Id::unique("palette")).show(ui.ctx(), |ui| {
            ui.set_width(460.0);
            let edit = ui.add(
                TextEdit::singleline(&mut self.text)
                    .hint_text("What would you like to do?")
                    .desired_width(f32::INFINITY)
                    .margin(vec2(10.0, 8.0)),
            );
            edit.widget_info(|| WidgetInfo::text_edit(true, "", &self.text, "Command"));
            let edit = edit.accessible_name("Command");
            edit.request_focus();
            if edit.changed() {
                self.place = 0;
            }
            let items: Vec<Item> = items(view).into_iter().filter(|i| matches(&i.title, &self.text)).collect();
            self.place = self.place.min(items.len().saturating_sub(1));
            let (up, down, enter) = ui.input_mut(|i| {
                (
                    i.consume_key(egui::Modifiers::NONE, Key::ArrowUp),
                    i.consume_key(egui::Modifiers::NONE, Key::ArrowDown),
                    i.key_pressed(Key::Enter),
                )
            });
            if down && self.place + 1 < items.len() {
                self.place += 1;
            }
            if up {
                self.place = self.place.saturating_sub(1);
            }
            let mut chosen = None;
            egui::ScrollArea::vertical().max_height(360.0).show(ui, |ui| {
                for (i, item) in items.iter().enumerate() {
                    if row(ui, item, i == self.place, (up || down) && i == self.place) || (enter && i == self.place) {
                        chosen = Some(item.command.clone());
                    }
                }
                if items.is_empty() {
                    ui.label(RichText::new("Nothing of that name.").color(Colors::of(ui).weak));
                }
            });
            chosen
        });
        self.open = response.inner.is_none() && !response.should_close();
        if let Some(command) = response.inner {
            view.commands.push(command);
        }
    }
}

fn row(ui: &mut Ui, item: &Item, current: bool, scroll: bool) -> bool {
    let response = ui
        .horizontal(|ui| {
            let response = ui.selectable_label(current, &item.title);
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                ui.label(RichText::new(item.keys).small().color(Colors::of(ui).weak));
            });
            response
        })
        .inner;
    if scroll {
        response.scroll_to_me(None);
    }
    response.clicked()
}

fn matches(title: &str, text: &str) -> bool {
    let title = title.to_lowercase();
    text.to_lowercase().split_whitespace().all(|word| title.contains(word))
}

fn items(view: &View<'_>) -> Vec<Item> {
    let item = |title: &str, keys, command| Item { title: title.into(), keys, command };
    let mut items = vec![
        item("Open folder…", "Ctrl+O", Command::Ask(Question::Folder)),
        item("Open file…", "Ctrl+Shift+O", Command::Ask(Question::File)),
        item("Open path…", "Ctrl+L", Command::TogglePathField),
        item("Open the bundled sample", "", Command::OpenSample),
    ];
    if view.workspace.opened().is_some() {
        items.extend([
            item("Compare with a tuned model…", "", Command::Ask(Question::TunedFolder)),
            item("Open an adapter…", "", Command::Ask(Question::AdapterFolder)),
            item("Look at the weights themselves", "", Command::Open(Request::Weight)),
            item("Compute the spectra of all modules", "", Command::AnalyseAll),
            item("Compute every singular value of this module", "", Command::AnalyseExactly),
        ]);
    }
    items.extend(Tab::ALL.iter().zip(["Ctrl+1", "Ctrl+2", "Ctrl+3", "Ctrl+4", "Ctrl+5"]).map(|(&tab, keys)| Item {
        title: format!("Show {}", tab.title()),
        keys,
        command: Command::Show(tab),
    }));
    items.extend([
        item("Light theme", "", Command::Theme(egui::ThemePreference::Light)),
        item("Dark theme", "", Command::Theme(egui::ThemePreference::Dark)),
        item("Theme of the system", "", Command::Theme(egui::ThemePreference::System)),
        item("Larger", "Ctrl++", Command::Scale(view.settings.scale * 1.1)),
        item("Smaller", "Ctrl+−", Command::Scale(view.settings.scale / 1.1)),
        item("Normal size", "Ctrl+0", Command::Scale(1.0)),
        item("Show or hide the module list", "Ctrl+B", Command::ToggleModules),
        item("Help", "F1", Command::ToggleHelp),
        item("Quit", "Ctrl+Q", Command::Quit),
    ]);
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_must_occur() {
        assert!(matches("Open folder…", "fol op"));
        assert!(!matches("Open folder…", "open file"));
        assert!(matches("anything", ""));
    }
}
