//! The question how a run is to be taken to a cluster: engine, launcher, GPUs; what it needs of each, and what will differ.

use std::ops::RangeInclusive;

use eframe::egui::{self, Button, Checkbox, ComboBox, DragValue, Id, Modal, RichText, ScrollArea, Ui};

use super::View;
use super::state::{Action, Handed, JobChoice, Purpose};
use crate::app::look::theme::Colors;
use crate::app::shared::typed::{Look, Typed};
use crate::app::widgets::table::{Entry, Head, Order, Table};
use crate::export::job::{ENGINES, LAUNCHERS, Strategy};
use crate::plan::memory::cluster::{Count, total};
use crate::plan::memory::{Largest, Verdict};
use crate::units;

/// What the question remembers between frames.
#[derive(Default)]
pub struct JobPage {
    folder: Typed,
    ranks: Typed,
    rates: Typed,
    order: Order,
}

/// Width of a list or a field.
const CELL: f32 = 180.0;

const HEADS: [Head<'static>; 6] = [
    head("GPUs", "GPUs in all, each with a batch of its own", true, 60.0),
    head("spread by", "DDP: a whole copy on each; FSDP2, ZeRO-3: shards", false, 90.0),
    head("each", "Memory of each GPU", true, 100.0),
    head("", "Against the memory of a GPU", false, 100.0),
    head("batch", "The largest batch of each GPU; ≥: larger ones are not looked for", true, 90.0),
    head("context", "The longest sequence; max: as long as the model's config allows", true, 100.0),
];

const fn head(title: &'static str, tip: &'static str, number: bool, width: f32) -> Head<'static> {
    Head { title, tip, number, width }
}

impl JobPage {
    /// Asks, while somebody wants to take a run to a cluster.
    pub fn ui(&mut self, ui: &Ui, view: &mut View<'_>) {
        let Some(handed) = view.state.handed() else { return };
        let mut asks = Vec::new();
        let response = Modal::new(Id::unique("cluster")).show(ui.ctx(), |ui| {
            ui.set_width(640.0);
            ui.label(RichText::new(format!("Take {} to a cluster", handed.name)).text_style(egui::TextStyle::Heading));
            ui.add_space(4.0);
            match &handed.written {
                Some(written) => {
                    ui.label(format!("{} files are in {}.", written.files.len(), written.out.display()));
                    ui.label("Copy the folder there, install requirements.txt, and run:");
                    ui.label(RichText::new(&written.command).monospace());
                    ui.add_space(6.0);
                    differs(ui, written);
                    ui.add_space(8.0);
                    if ui.button("Close").clicked() {
                        asks.push(Action::CloseJob);
                    }
                }
                None => self.question(ui, handed, &mut asks),
            }
        });
        if response.should_close() {
            asks.push(Action::CloseJob);
        }
        asks.into_iter().for_each(|ask| view.actions.push(ask));
    }

    fn question(&mut self, ui: &mut Ui, handed: &Handed, asks: &mut Vec<Action>) {
        ui.label(
            "A folder with the settings, the data and the scripts, for another engine on other machines. \
             What comes back is listed in History.",
        );
        ui.add_space(8.0);
        let mut choice = handed.choice.clone();
        let spacing = egui::vec2(12.0, 8.0);
        egui::Grid::new("cluster").num_columns(4).spacing(spacing).min_col_width(96.0).show(ui, |ui| {
            combo(ui, "Engine", true, &mut choice.engine, &ENGINES.map(|engine| engine.title));
            combo(ui, "Started by", true, &mut choice.launcher, &LAUNCHERS.map(|launcher| launcher.title));
            ui.end_row();
            let (engine, launcher) = (choice.engine(), choice.launcher());
            number(ui, "Machines", launcher.nodes, &mut choice.nodes, 1..=128, "");
            number(ui, "GPUs of each", launcher.many, &mut choice.gpus, 1..=16, "");
            ui.end_row();
            let mut strategy = Strategy::ALL.iter().position(|one| *one == choice.strategy).unwrap_or(0);
            let names: Vec<&str> = Strategy::ALL.iter().map(|strategy| strategy.title()).collect();
            combo(ui, "Spread by", engine.shards && choice.world() > 1, &mut strategy, &names);
            choice.strategy = Strategy::ALL.get(strategy).copied().unwrap_or_default();
            let mut room = choice.room as usize;
            number(ui, "Memory of a GPU", true, &mut room, 4..=1024, " GiB");
            choice.room = room as u64;
            ui.end_row();
            typed(ui, "Ranks", &mut self.ranks, &mut choice.ranks, "one run; or 4, 16, 64");
            typed(ui, "Learning rates", &mut self.rates, &mut choice.rates, "one; or a list, or auto");
            ui.end_row();
        });
        ui.add_space(2.0);
        ui.horizontal_wrapped(|ui| {
            ui.add(Checkbox::new(&mut choice.texts, "Data as texts"))
                .on_hover_text("For the engine's own tokenizer and template. Without it token ids and labels go along, so that masks cannot differ");
            ui.add_space(12.0);
            ui.add(Checkbox::new(&mut choice.initial_adapter, "With the first A and B"))
                .on_hover_text("The run begins there exactly as it would here; without it another generator draws A");
        });
        ui.add_space(8.0);
        self.memory(ui, handed, &choice);
        ui.add_space(8.0);
        ui.horizontal(|ui| {
            ui.label(RichText::new("Folder").color(Colors::of(ui).weak));
            let width = ui.available_width() - 84.0;
            if let Some(text) =
                self.folder.ui(ui, "Folder of the job", &choice.out, "a new or an empty folder", Look::Line(width))
            {
                choice.out = text;
            }
            let browse = ui.button("Browse…").on_hover_text("Choose the folder around it");
            if browse.accessible_name("Browse for the folder of the job").clicked() {
                asks.push(Action::Choose(Purpose::Job));
            }
        });
        if let Some(problem) = &handed.problem {
            ui.label(RichText::new(problem).color(Colors::of(ui).bad));
        }
        ui.add_space(10.0);
        let mut write = false;
        ui.horizontal(|ui| {
            let text = if handed.writing { "Writing the folder …" } else { "Write the folder" };
            write = ui.add_enabled(!handed.writing, Button::new(text)).clicked();
            if ui.button("Cancel").clicked() {
                asks.push(Action::CloseJob);
            }
        });
        if choice != handed.choice {
            asks.push(Action::ChooseJob(Box::new(choice)));
        }
        if write {
            asks.push(Action::WriteJob);
        }
    }

    /// What each GPU needs, and what counts of GPUs allow.
    fn memory(&mut self, ui: &mut Ui, handed: &Handed, choice: &JobChoice) {
        let weak = Colors::of(ui).weak;
        let Some(((gpus, room), memory)) = &handed.memory else {
            ui.label(RichText::new("Counting the memory of each GPU …").color(weak));
            return;
        };
        if let Some((_, terms, _)) = memory.iter().find(|(strategy, ..)| *strategy == choice.strategy) {
            let parts: Vec<String> = terms
                .iter()
                .filter(|term| term.bytes > 0)
                .map(|term| format!("{} {}", term.name, units::bytes(term.bytes)))
                .collect();
            let line = match gpus {
                1 => format!("One GPU: {}.", units::bytes(total(terms))),
                gpus => format!("{gpus} GPUs by {}: {} each.", choice.strategy.title(), units::bytes(total(terms))),
            };
            let all: Vec<String> = terms.iter().map(ToString::to_string).collect();
            ui.label(RichText::new(line).strong()).on_hover_text(all.join("\n"));
            ui.label(RichText::new(parts.join(" · ")).small().color(weak)).on_hover_text(all.join("\n"));
        }
        let rows: Vec<(Strategy, Count)> =
            memory.iter().flat_map(|(strategy, _, counts)| counts.iter().map(|count| (*strategy, *count))).collect();
        let mut rows = rows;
        // One GPU holds all of it, whatever the way to spread it.
        rows.retain(|(strategy, count)| count.gpus > 1 || *strategy == Strategy::Ddp);
        rows.sort_by_key(|(_, count)| count.gpus);
        let room = room << 30;
        let entry = |row: usize, column: usize| {
            let (strategy, count) = &rows[row];
            let known = |n: Option<usize>| Entry::number(n.map(|n| n as f64), |n| units::exact(n as u64));
            match column {
                0 => known(Some(count.gpus)),
                1 if count.gpus == 1 => Entry::text("–"),
                1 => Entry::text(strategy.title()),
                2 => Entry::number(Some(count.bytes as f64), |bytes| units::bytes(bytes as u64)),
                3 => Entry::text(Verdict::of(count.bytes, room).as_str()),
                4 => {
                    let batch = count.largest.batch.map(|batch| batch as f64);
                    Entry::number(batch, |_| count.largest.sequences(|batch| units::exact(batch as u64)))
                }
                _ => {
                    let seq = count.largest.seq.map(|seq| seq as f64);
                    Entry::number(seq, |_| count.largest.context(|seq| units::exact(seq as u64)))
                }
            }
        };
        let name = |row: usize| match rows[row].1.gpus {
            1 => "1 GPU".to_owned(),
            gpus => format!("{gpus} GPUs, {}", rows[row].0.title()),
        };
        let selected = |row: usize| {
            let (strategy, count) = &rows[row];
            count.gpus == choice.world() && (count.gpus == 1 || *strategy == choice.strategy)
        };
        let table =
            Table { id: "gpus", heads: &HEADS, rows: rows.len(), entry: &entry, name: &name, selected: &selected };
        let mut order = self.order;
        ui.allocate_ui(egui::vec2(ui.available_width(), 220.0), |ui| table.ui(ui, &mut order));
        self.order = order;
        let marks = Largest::marks(rows.iter().map(|(_, count)| &count.largest));
        let mut note = "Batch and context: the largest with the rest as it is".to_owned();
        for mark in marks {
            note += &format!("; {mark}");
        }
        note += ". Activations are this engine's on a GPU in bf16; another engine needs others.";
        ui.label(RichText::new(note).small().color(weak));
    }
}

/// What is not the same there.
fn differs(ui: &mut Ui, written: &crate::export::job::Written) {
    ui.label(RichText::new("Not the same there").strong());
    ScrollArea::vertical().id_salt("differs").max_height(260.0).show(ui, |ui| {
        for one in &written.differs {
            ui.label(format!("{}: here {}, there {}", one.setting, one.here, one.there));
            ui.label(RichText::new(&one.why).small().color(Colors::of(ui).weak));
        }
    });
}

/// A label and a list, the cells of a grid.
fn combo(ui: &mut Ui, label: &str, on: bool, at: &mut usize, names: &[&str]) {
    ui.label(RichText::new(label).color(Colors::of(ui).weak));
    ui.add_enabled_ui(on, |ui| {
        let shown = names.get(*at).copied().unwrap_or_default();
        let response = ComboBox::from_id_salt(label).selected_text(shown).width(CELL).show_ui(ui, |ui| {
            for (number, name) in names.iter().enumerate() {
                ui.selectable_value(at, number, *name);
            }
        });
        response.response.accessible_name(label);
    });
}

fn number(ui: &mut Ui, label: &str, on: bool, value: &mut usize, range: RangeInclusive<usize>, unit: &str) {
    let text = ui.label(RichText::new(label).color(Colors::of(ui).weak));
    ui.add_enabled(on, DragValue::new(value).range(range).suffix(unit)).labelled_by(text.id);
}

fn typed(ui: &mut Ui, label: &str, field: &mut Typed, value: &mut String, hint: &str) {
    ui.label(RichText::new(label).color(Colors::of(ui).weak));
    let name = format!("{label} of a sweep there");
    if let Some(text) = field.ui(ui, &name, value, hint, Look::Line(CELL)) {
        *value = text;
    }
}
