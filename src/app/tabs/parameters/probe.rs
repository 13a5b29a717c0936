//! Before any training: gradients of the frozen model on one's own data, and how much data there is for the rank.

use eframe::egui::{Button, DragValue, Layout, RichText, Ui};

use super::View;
use super::state::{Action, Asked, Probe, Product};
use crate::app::effect::Effect;
use crate::app::look::glossary;
use crate::app::look::theme::Colors;
use crate::app::shared::blank;
use crate::app::shared::names::{common_prefix, in_table};
use crate::app::widgets::menu::Take;
use crate::app::widgets::table::{Entry, Head, Order, Table};
use crate::app::work::export::Source;
use crate::train::probe::Probed;
use crate::units;
use crate::workspace::Selection;

use crate::app::shared::path::clean;
use crate::app::shared::typed;

/// What the section remembers.
pub struct ProbeTab {
    data: String,
    /// Nobody has named data yet.
    fresh: bool,
    batches: usize,
    batch: usize,
    seq: usize,
    order: Order,
}

impl Default for ProbeTab {
    fn default() -> Self {
        Self { data: String::new(), fresh: true, batches: 4, batch: 4, seq: 512, order: Order::default() }
    }
}

const HEADS: [Head<'static>; 7] = [
    Head { title: "module", tip: "A click chooses it", number: false, width: 220.0 },
    Head {
        title: "of the gradient",
        tip: "Share of the energy of all gradients: where training pulls most",
        number: true,
        width: 100.0,
    },
    Head { title: "‖gradient‖", tip: "Frobenius norm", number: true, width: 80.0 },
    Head { title: "stable", tip: "Σσ² / σ₁²: about how many directions pull", number: true, width: 60.0 },
    Head { title: "90 %", tip: "Directions that hold 90 % of its energy", number: true, width: 50.0 },
    Head { title: "99 %", tip: "Directions that hold 99 % of its energy", number: true, width: 50.0 },
    Head {
        title: "suggested r",
        tip: "Its rank when as many parameters as the dial's are spent where the gradient has most energy; 0: better left alone",
        number: true,
        width: 90.0,
    },
];

fn entry(found: &Probed, row: usize, column: usize) -> Entry {
    let module = &found.modules[row];
    let whole = |n: Option<usize>| Entry::number(n.map(|n| n as f64), |n| format!("{n:.0}"));
    match column {
        0 => Entry::text(&module.name),
        1 => Entry::number(Some(module.share), units::percent),
        2 => Entry::number(Some(module.spectrum.frobenius), |x| units::real(x, 3)),
        3 => Entry::number(Some(module.spectrum.stable_rank()), |x| units::real(x, 3)),
        4 => whole(module.spectrum.energy_rank(0.9)),
        5 => whole(module.spectrum.energy_rank(0.99)),
        _ => whole(Some(module.suggested)),
    }
}

impl ProbeTab {
    /// Paints the section.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let colors = Colors::of(ui);
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new("Data").strong());
            typed::path(ui, "Data", &mut self.data, "a file of JSON lines, or plain text", 240.0);
            let of_train =
                view.board.draft.as_ref().map(|draft| draft.data.clone()).filter(|data| !data.as_os_str().is_empty());
            if let Some(path) = view.state.chosen(Asked::Data) {
                self.data = path.display().to_string();
            }
            // At first the data that are set up anyway.
            if let Some(data) = of_train.as_ref().filter(|_| self.fresh && self.data.is_empty()) {
                self.data = data.display().to_string();
                self.fresh = false;
            }
            let browse = ui.button("Browse…").on_hover_text("Choose the data file");
            if browse.accessible_name("Browse for data to probe with").clicked() {
                view.actions.push(Action::Browse(Asked::Data));
            }
            if let Some(data) = of_train
                && ui.button("As in Train").on_hover_text(data.display().to_string()).clicked()
            {
                self.data = data.display().to_string();
            }
            let number = |ui: &mut Ui, name: &str, value: &mut usize, most: usize| {
                let label = ui.label(RichText::new(name).color(colors.weak));
                ui.add(DragValue::new(value).range(1..=most).speed(0.2)).labelled_by(label.id);
            };
            number(ui, "batches", &mut self.batches, 1000);
            number(ui, "batch", &mut self.batch, 1000);
            number(ui, "sequence", &mut self.seq, 1 << 17);
            let ready = !self.data.trim().is_empty() && view.workspace.base().is_some();
            let text = RichText::new("Probe gradients").strong();
            let begins = ready && !view.state.is_probing();
            let button = match begins && view.state.probed().is_none() {
                true => Button::new(text.color(ui.visuals().extreme_bg_color)).fill(colors.accent),
                false => Button::new(text),
            };
            let probe = ui.add_enabled(begins, button).accessible_name("Probe gradients");
            let probe = probe.on_hover_ui(|ui| glossary::PROBE.ui(ui));
            if probe.clicked() {
                let (batches, batch, seq) = (self.batches, self.batch, self.seq);
                let probe = Probe { data: clean(&self.data), batches, batch, seq };
                view.actions.push(Action::Probe(probe));
            }
            if ui.add_enabled(ready, Button::new("Count tokens")).clicked() {
                view.actions.push(Action::Tokens(clean(&self.data)));
            }
        });
        if let Some(tokens) = view.state.tokens() {
            let trainable = view.cost.and_then(|cost| cost.as_ref().ok()).map_or(0, |count| count.trainable);
            let text = format!(
                "{} rows, {} tokens. {}",
                units::exact(tokens.rows as u64),
                units::exact(tokens.tokens as u64),
                tokens.against(trainable)
            );
            ui.label(text).on_hover_ui(|ui| glossary::CAPACITY.ui(ui));
        }
        ui.add_space(6.0);
        let Some(found) = view.state.probed() else {
            if view.state.is_probing() {
                let text = "Probing: forward through the frozen model, backward block by block …";
                ui.label(RichText::new(text).color(colors.weak));
                return;
            }
            const PARTS: [(&str, &str); 4] = [
                ("Loss", "of the frozen model on your data"),
                ("Gradients", "how much of the pull each module gets, and in how many directions"),
                (
                    "Suggested ranks",
                    "a rank for each module where the pull is, for as many parameters as the dial takes",
                ),
                ("Tokens", "how much there is to learn, beside what the rank can hold"),
            ];
            let about = "A probe shows, before any training, in which modules your data pulls and in how many directions: one forward \
                         and one backward pass through the frozen model for each batch.";
            blank::ui(ui, "Not probed yet", about, &PARTS);
            // What came with the open model is one click away.
            let sets = &*view.board.sets;
            if !sets.is_empty() {
                ui.horizontal_wrapped(|ui| {
                    ui.label(RichText::new("Came with this model:").color(colors.weak));
                    for set in sets {
                        if ui.button(set.name).on_hover_text(set.about).clicked() {
                            self.data = set.train.display().to_string();
                        }
                    }
                });
            }
            return;
        };
        let area = ui.available_rect_before_wrap();
        ui.horizontal(|ui| {
            let text = format!(
                "Loss {:.4} over {} tokens; the suggested ranks train {} parameters",
                found.loss,
                units::exact(found.tokens as u64),
                units::exact(found.trainable)
            );
            ui.label(RichText::new(text).strong()).on_hover_text(found.notes.join("\n"));
            ui.with_layout(Layout::right_to_left(eframe::egui::Align::Center), |ui| {
                view.export(ui, "gradients", &Take::TABLE, area, || Source::Table(rows(found)));
                let tip = "These ranks for a new training: rank_pattern and alpha_pattern";
                let write = ui.add_enabled(!view.state.is_making(), Button::new("Write LoraConfig…"));
                if write.on_hover_text(tip).clicked() {
                    view.actions.push(Action::Browse(Asked::Product(Product::Probed)));
                }
                let tip =
                    "The dial's targets become the modules with a rank, and the next run in Train takes these ranks";
                if ui.button("Use in Train").on_hover_text(tip).clicked() {
                    view.actions.push(Action::UseProbed);
                }
            });
        });
        let workspace = view.workspace;
        let prefix = common_prefix(found.modules.iter().map(|module| module.name.as_str()));
        let chosen = Table {
            id: "probe",
            heads: &HEADS,
            rows: found.modules.len(),
            entry: &|row, column| match column {
                0 => in_table(entry(found, row, 0), prefix),
                _ => entry(found, row, column),
            },
            name: &|row| format!("{}: rank {} suggested", found.modules[row].name, found.modules[row].suggested),
            selected: &|row| workspace.selection().contains(&found.modules[row].name),
        }
        .ui(ui, &mut self.order);
        if let Some(row) = chosen {
            view.effects.push(Effect::Select(Selection::one(&found.modules[row].name)));
        }
    }
}

fn rows(found: &Probed) -> Vec<Vec<String>> {
    let heads = HEADS.iter().map(|head| head.title.to_owned()).collect();
    let cells =
        (0..found.modules.len()).map(|row| (0..HEADS.len()).map(|column| entry(found, row, column).text).collect());
    std::iter::once(heads).chain(cells).collect()
}
