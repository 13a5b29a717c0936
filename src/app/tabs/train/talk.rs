//! Talk: the base and what was made of it, side by side; then what one does with it.

use std::path::PathBuf;

use eframe::egui::{self, Button, ComboBox, RichText, ScrollArea, TextEdit, Ui};

use super::View;
use super::state::{Action, FORMATS, Partner, Purpose};
use crate::app::effect::Effect;
use crate::app::look::theme::Colors;
use crate::app::shared::blank;
use crate::app::shared::talk::Look;
use crate::delta::Source;
use crate::demo::PROMPTS;
use crate::train::history::Past;
use crate::train::talk::Tuned;
use crate::train::{Method, python};

/// What the page remembers.
pub struct Page {
    look: Look,
    /// Who was chosen; the newest run that can be asked, or else the open model, where nobody was.
    chosen: Option<Partner>,
    python: bool,
}

impl Default for Page {
    fn default() -> Self {
        Self { look: Look::filling(), chosen: None, python: false }
    }
}

impl Page {
    /// Turns to a run.
    pub fn turn_to(&mut self, run: PathBuf) {
        self.chosen = Some(Partner::Run(run));
    }

    /// Paints it.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let all = partners(view);
        self.chosen.take_if(|chosen| !all.contains(chosen));
        let Some(now) = self.chosen.clone().or_else(|| all.first().cloned()) else {
            const PARTS: [(&str, &str); 2] = [
                ("Two answers", "of the base on the left, of the tuned model on the right, as they are written"),
                ("Use it elsewhere", "the adapter in PEFT's form or as GGUF, a merged model, lines of Python"),
            ];
            return blank::ui(ui, "Talk to it", "Open a model, or train one: then you can ask it something.", &PARTS);
        };
        ScrollArea::vertical().id_salt("talk").auto_shrink(false).show(ui, |ui| {
            ui.label(RichText::new("Talk to it").text_style(egui::TextStyle::Heading));
            ui.label(
                RichText::new("The same prompt to the base model and to what tuning has made of it.")
                    .color(Colors::of(ui).weak),
            );
            ui.add_space(6.0);
            ui.horizontal(|ui| {
                ui.label(RichText::new("Who answers").color(Colors::of(ui).weak));
                let combo = ComboBox::from_id_salt("partner").selected_text(title(view, &now)).width(320.0);
                let combo = combo.show_ui(ui, |ui| {
                    for partner in &all {
                        if ui.selectable_label(*partner == now, title(view, partner)).clicked() {
                            self.chosen = Some(partner.clone());
                        }
                    }
                });
                combo.response.accessible_name("Who answers");
            });
            ui.add_space(4.0);
            let busy = view.state.live().map(|_| "A run is training. Stop it or wait: both need the processor.");
            let past = match &now {
                Partner::Run(folder) => view.state.past(folder).cloned(),
                Partner::Open(..) => None,
            };
            let ideas = ideas(view, past.as_ref());
            let names = view.state.names_of(&now);
            if let Some(edit) = self.look.ui(ui, view.state.talk(), &names, &ideas, busy) {
                view.actions.push(Action::Talk(edit, now.clone()));
            }
            if let Some(past) = past {
                ui.add_space(6.0);
                self.with_it(ui, view, &past, ideas.first().map_or("", String::as_str));
            }
        });
    }

    /// What one does with a run's result.
    fn with_it(&mut self, ui: &mut Ui, view: &mut View<'_>, past: &Past, prompt: &str) {
        let folder = &past.folder;
        ui.separator();
        ui.label(RichText::new("Use it elsewhere").text_style(egui::TextStyle::Heading));
        let step = past.in_place_of_result();
        if let Some(step) = step {
            let text = format!(
                "This run has no result yet: its checkpoint at step {step} answers. When the run has ended, its adapter can be saved and \
                 merged here."
            );
            ui.label(RichText::new(text).color(Colors::of(ui).weak));
        }
        ui.horizontal_wrapped(|ui| {
            if step.is_some() && past.can_go_on() {
                let resume = ui.add_enabled(view.state.live().is_none(), Button::new("Resume"));
                if resume.on_hover_text("Goes on with the run after that checkpoint").clicked() {
                    view.actions.push(Action::GoOn(folder.clone()));
                }
            }
            if step.is_none() && past.settings.method != Method::Full {
                ui.menu_button("Save the adapter ▾", |ui| save(ui, view, past))
                    .response
                    .on_hover_text("A copy where you want it");
                if ui
                    .button("Write the merged model…")
                    .on_hover_text("The base with the adapter in its weights")
                    .clicked()
                {
                    view.actions.push(Action::OfferMerge(Some(folder.clone())));
                }
            }
            if ui.button("Open folder").on_hover_text(folder.display().to_string()).clicked() {
                view.actions.push(Action::OpenFolder(folder.clone()));
            }
            if ui.selectable_label(self.python, "Python").on_hover_text("The lines that load it").clicked() {
                self.python = !self.python;
            }
        });
        if !self.python {
            return;
        }
        let Some(weights) = past.newest_weights() else { return };
        let lines = python::loading(past.settings.method, &past.settings.model, &weights, prompt);
        ui.add_space(4.0);
        let mut text = lines.as_str();
        let code = TextEdit::multiline(&mut text).code_editor().desired_width(f32::INFINITY).desired_rows(6);
        ui.add(code).accessible_name("Python that loads the result");
        if ui.button("Copy").accessible_name("Copy the Python").clicked() {
            ui.ctx().copy_text(lines);
            view.effects.push(Effect::Say("The lines of Python are on the clipboard.".to_owned()));
        }
    }
}

/// The formats that an adapter can be saved in.
pub fn save(ui: &mut Ui, view: &mut View<'_>, past: &Past) {
    for format in FORMATS {
        if ui.add(Button::new(format.title)).clicked() {
            view.actions.push(Action::Choose(Purpose::Adapter(past.folder.clone(), format)));
            ui.close();
        }
    }
}

/// Runs with a result or a checkpoint, the one that is looked at first; then what is open.
fn partners(view: &View<'_>) -> Vec<Partner> {
    let training = view.state;
    let shown = training.shown().map(|track| track.folder.clone());
    let mut runs: Vec<&Past> =
        training.runs().unwrap_or_default().iter().filter(|past| past.newest_weights().is_some()).collect();
    runs.sort_by_key(|past| Some(&past.folder) != shown.as_ref());
    let runs = runs.into_iter().map(|past| Partner::Run(past.folder.clone()));
    let open = view.workspace.delta().map(|delta| {
        let base = delta.base().path().to_path_buf();
        let tuned = match delta.source() {
            Source::Weight => None,
            Source::Tuned(tuned) => Some(Tuned::Model(tuned.path().to_path_buf())),
            Source::Adapter(adapter) => Some(Tuned::Adapter(adapter.path().to_path_buf())),
        };
        Partner::Open(base, tuned)
    });
    runs.chain(open).collect()
}

fn title(view: &View<'_>, partner: &Partner) -> String {
    match partner {
        Partner::Run(folder) => view.state.tuned_name(folder),
        Partner::Open(..) => format!("what is open: {}", view.state.names_of(partner).join(" | ")),
    }
}

/// Prompts that suit: the run's own, or those of the bundled model.
fn ideas(view: &View<'_>, past: Option<&Past>) -> Vec<String> {
    let own = past.map(|past| past.settings.prompts.clone()).filter(|prompts| !prompts.is_empty());
    own.or_else(|| {
        let sets = view.state.sets();
        let bundled = sets.iter().filter_map(|set| set.prompts.first().cloned());
        (!sets.is_empty()).then(|| bundled.chain(PROMPTS.map(str::to_owned)).collect())
    })
    .unwrap_or_default()
}
