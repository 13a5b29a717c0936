//! The question where a run's merged model is to go.

use std::path::PathBuf;

use eframe::egui::{self, ComboBox, Id, Modal, RichText, Ui};

use super::View;
use super::state::{Action, Form, GGUFS, Purpose};
use crate::app::look::theme::Colors;

use crate::app::shared::typed::{Look, Typed};

/// What is typed meanwhile.
#[derive(Default)]
pub struct Merging {
    folder: Typed,
    gguf: Option<&'static str>,
    unchecked: bool,
}

impl Merging {
    /// Asks, while somebody wants the merged model of a run.
    pub fn ui(&mut self, ui: &Ui, view: &mut View<'_>) {
        let Some((run, out)) = view.state.merging() else { return };
        let (run, now) = (run.to_path_buf(), out.display().to_string());
        let name = view.state.name_of(&run);
        let mut ask = None;
        let response = Modal::new(Id::unique("merging")).show(ui.ctx(), |ui| {
            ui.set_width(520.0);
            ui.label(RichText::new(format!("Merge {name}")).text_style(egui::TextStyle::Heading));
            ui.add_space(6.0);
            ui.label(
                "The base model with s·B·A added into its weights: a folder that opens anywhere as a model of its own, \
                 with the base's tokenizer, in the base's own precision. Weights of 4 bits become 32 bits.",
            );
            ui.add_space(8.0);
            ui.horizontal(|ui| {
                let width = ui.available_width() - 84.0;
                self.folder.ui(ui, "Folder of the merged model", &now, "a new or an empty folder", Look::Path(width));
                let browse = ui.button("Browse…").on_hover_text("Choose the folder around it");
                if browse.accessible_name("Browse for the merged model").clicked() {
                    ask = Some(Action::Choose(Purpose::Merged(run.clone())));
                }
            });
            ui.label(RichText::new("The folder is created if needed.").small().color(Colors::of(ui).weak));
            ui.add_space(6.0);
            ui.horizontal(|ui| {
                ui.label("Written as");
                let title = |kind: Option<&str>| match kind {
                    None => "safetensors, in files of 5 GB".to_owned(),
                    Some(kind) => format!("GGUF, {}", kind.to_ascii_uppercase()),
                };
                let list = ComboBox::from_id_salt("merged form").selected_text(title(self.gguf)).width(230.0);
                let list = list.show_ui(ui, |ui| {
                    for kind in std::iter::once(None).chain(GGUFS.map(Some)) {
                        ui.selectable_value(&mut self.gguf, kind, title(kind));
                    }
                });
                list.response.accessible_name("Form of the merged model");
            });
            ui.add_space(6.0);
            let mut checked = !self.unchecked;
            ui.checkbox(&mut checked, "Check it on the run's rows").on_hover_text(
                "Loss and most likely tokens of the adapter beside the base, of the merged model, and of the merged model in 4 bits; \
                 on the rows that the run held out, or else on its data, 64 at most",
            );
            self.unchecked = !checked;
            ui.add_space(10.0);
            ui.horizontal(|ui| {
                if ui.button("Write the model").clicked() {
                    ask = Some(Action::Merge(run.clone(), PathBuf::from(self.folder.text().trim()), Form { gguf: self.gguf, checked }));
                }
                if ui.button("Cancel").clicked() {
                    ask = Some(Action::OfferMerge(None));
                }
            });
        });
        if response.should_close() {
            ask = ask.or(Some(Action::OfferMerge(None)));
        }
        if let Some(ask) = ask {
            view.actions.push(ask);
        }
    }
}
