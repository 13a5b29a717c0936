//! Every run on the disk: listed, filtered, opened, laid over others, noted, deleted.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use eframe::egui::{self, Align, Button, Id, Layout, Modal, RichText, TextEdit, Ui, WidgetInfo};

use super::View;
use super::state::{Action, Purpose, in_words, method_name};
use crate::app::look::theme::Colors;
use crate::app::widgets::menu::Take;
use crate::app::widgets::table::{Entry, Head, Order, Table};
use crate::app::work::export::Source;
use crate::figure::number;
use crate::plan::Targets;
use crate::train::Method;
use crate::train::history::{Past, Phase};
use crate::units;

use crate::app::shared::typed::{Look, Typed};

/// Columns of the table.
const HEADS: [Head<'static>; 15] = [
    head("run", "Its folder's name", false, 140.0),
    head("made by", "The program that trained it", false, 88.0),
    head("state", "finished, stopped, failed, interrupted, running", false, 76.0),
    head("held out", "The last loss on held-out rows", true, 60.0),
    head("loss", "Of the last step", true, 54.0),
    head("steps", "Steps done", true, 60.0),
    head("method", "LoRA, QLoRA or full", false, 54.0),
    head("r", "Rank; the elements that are trained are under the pointer", true, 30.0),
    head("α", "lora_alpha", true, 34.0),
    head("rate", "Peak learning rate", true, 56.0),
    head("targets", "Modules that get a pair A, B", false, 88.0),
    head("data", "The training data", false, 88.0),
    head("model", "The base model", false, 76.0),
    head(
        "its loss",
        "The training loss from the first step to the last, each run between its own least and most",
        false,
        70.0,
    ),
    head("when", "When it last wrote something", false, 76.0),
];

const fn head(title: &'static str, tip: &'static str, number: bool, width: f32) -> Head<'static> {
    Head { title, tip, number, width }
}

/// What the list remembers between frames.
#[derive(Default)]
pub struct History {
    filter: String,
    order: Order,
    chosen: Option<PathBuf>,
    /// The notes of the chosen run as they are being typed.
    note: (Option<PathBuf>, String),
    deleting: Option<PathBuf>,
    /// The folder for new runs as it is being typed.
    home: Typed,
}

impl History {
    /// Paints the list; true when a run is to be looked at.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) -> bool {
        let Some(all) = view.state.runs() else {
            ui.label(RichText::new("Looking through the folders of runs …").color(Colors::of(ui).weak));
            return false;
        };
        self.folders(ui, view);
        if all.is_empty() {
            ui.add_space(8.0);
            ui.label(RichText::new("No runs yet").text_style(egui::TextStyle::Heading));
            ui.label(
                "Every run is kept here with its settings, metrics and notes: those of this window, and those that \
                 rankscope train writes into one of these folders. Runs of Trainer, TRL, Unsloth, LLaMA-Factory, axolotl, \
                 mlx-lm and torchtune in an added folder are listed beside them.",
            );
            return false;
        }
        let words: Vec<String> = self.filter.to_lowercase().split_whitespace().map(str::to_owned).collect();
        let runs: Vec<&Past> = all.iter().filter(|past| matches(past, &words)).collect();
        let opened = self.chosen(ui, view);
        let colors = Colors::of(ui);
        let columns = columns(all, ui.available_width(), ui.spacing().item_spacing.x);
        let heads: Vec<Head<'_>> = columns.iter().map(|&column| HEADS[column]).collect();
        let entry = |row: usize, at: usize| match (columns[at], &runs[row].phase) {
            (column @ 2, phase) => cell(runs[row], column).colored(match phase {
                Phase::Finished => colors.good,
                Phase::Running => colors.accent,
                Phase::Stopped | Phase::Interrupted => colors.warn,
                Phase::Failed(_) => colors.bad,
            }),
            (column, _) => cell(runs[row], column),
        };
        let name = |row: usize| format!("{}, {}", runs[row].name(), runs[row].phase.word());
        let training = view.state;
        let selected =
            |row: usize| self.chosen.as_ref() == Some(&runs[row].folder) || training.is_compared(&runs[row].folder);
        let table =
            Table { id: "runs", heads: &heads, rows: runs.len(), entry: &entry, name: &name, selected: &selected };
        let mut order = self.order;
        let clicked = table.ui(ui, &mut order);
        self.order = order;
        if let Some(row) = clicked {
            let folder = runs[row].folder.clone();
            if ui.input(|input| input.modifiers.command) {
                let on = !training.is_compared(&folder);
                view.actions.push(Action::Compare(folder, on));
            } else {
                self.chosen = Some(folder);
            }
        }
        self.delete(ui, view);
        opened
    }

    fn folders(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        ui.horizontal(|ui| {
            let edit = TextEdit::singleline(&mut self.filter).hint_text("Filter: name, model, method, state, note");
            let response = ui.add(edit.desired_width(300.0));
            response.widget_info(|| WidgetInfo::text_edit(true, "", &self.filter, "Filter runs"));
            response.accessible_name("Filter runs");
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let runs = view.state.runs().unwrap_or_default();
                let area = ui.clip_rect();
                view.export(ui, "runs", &Take::TABLE, area, || Source::Table(rows(runs)));
                let add =
                    ui.button("Add a folder…").on_hover_text("Runs in another folder are listed too; they stay there");
                if add.clicked() {
                    view.actions.push(Action::Choose(Purpose::Runs));
                }
                if !view.settings.run_folders.is_empty() {
                    others(ui, view);
                }
            });
        });
        self.home(ui, view);
    }

    /// Where new runs go.
    fn home(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let training = view.state;
        let (now, elsewhere) = (training.runs_folder().display().to_string(), training.is_kept_elsewhere());
        let mut ask = None;
        ui.horizontal(|ui| {
            ui.label(RichText::new("New runs go to").color(Colors::of(ui).weak));
            let width = (ui.available_width() - if elsewhere { 280.0 } else { 84.0 }).max(120.0);
            let hint = "a folder; the program's own where nothing stands here";
            if let Some(text) = self.home.ui(ui, "Folder for new runs", &now, hint, Look::Path(width)) {
                ask = Some(Action::Keep(Some(text.trim()).filter(|text| !text.is_empty()).map(PathBuf::from)));
            }
            let browse = ui.button("Browse…").on_hover_text("Choose the folder that new runs are kept in");
            if browse.accessible_name("Browse for a folder for new runs").clicked() {
                ask = Some(Action::Choose(Purpose::Keep));
            }
            let tip = "New runs go where they went at first; those of this folder stay, and are listed as before";
            if elsewhere && ui.button("The program's own folder").on_hover_text(tip).clicked() {
                ask = Some(Action::Keep(None));
            }
        });
        if let Some(ask) = ask {
            view.actions.push(ask);
        }
    }

    /// What can be done with the chosen run.
    fn chosen(&mut self, ui: &mut Ui, view: &mut View<'_>) -> bool {
        let training = view.state;
        let Some(past) = self.chosen.as_ref().and_then(|folder| training.past(folder)) else {
            ui.label(
                RichText::new("Choose a run. Ctrl and a click lay it over others in Compare.")
                    .color(Colors::of(ui).weak),
            );
            return false;
        };
        let (folder, idle) = (past.folder.clone(), training.live().is_none());
        let mut asks = Vec::new();
        let mut opened = false;
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new(past.name()).strong());
            if ui.button("Open").on_hover_text("Look at it in Run").clicked() {
                asks.push(Action::Show(folder.clone()));
                opened = true;
            }
            let mut on = training.is_compared(&folder);
            if ui.checkbox(&mut on, "Compare").on_hover_text("Lay it over others in Compare").changed() {
                asks.push(Action::Compare(folder.clone(), on));
            }
            if past.can_go_on() && ui.add_enabled(idle, Button::new("Resume")).clicked() {
                asks.push(Action::GoOn(folder.clone()));
                opened = true;
            }
            // Of a run that was stopped its newest checkpoint can be looked at.
            let step = past.in_place_of_result();
            let there = past.weights(step).is_some();
            if ui.add_enabled(there, Button::new("ΔW in Spectrum")).clicked() {
                asks.push(Action::Spectrum(folder.clone(), step));
            }
            let ours = past.foreign.is_none();
            let deletable = ours && past.phase != Phase::Running;
            let delete = ui.add_enabled(deletable, Button::new("Delete…"));
            let why = if ours { "It is still training" } else { "Another program's run is only looked at" };
            if delete.on_disabled_hover_text(why).clicked() {
                self.deleting = Some(folder.clone());
            }
        });
        if let Phase::Failed(reason) = &past.phase {
            ui.label(RichText::new(in_words(reason)).small().color(Colors::of(ui).bad));
        }
        if past.foreign.is_some() {
            // Nothing is written into another program's folder.
            asks.into_iter().for_each(|ask| view.actions.push(ask));
            return opened;
        }
        if self.note.0.as_ref() != Some(&folder) {
            self.note = (Some(folder.clone()), past.note.clone());
        }
        let edit = TextEdit::singleline(&mut self.note.1).hint_text("Notes").desired_width(f32::INFINITY);
        let response = ui.add(edit);
        response.widget_info(|| WidgetInfo::text_edit(true, "", &self.note.1, "Notes"));
        if response.accessible_name("Notes").lost_focus() && self.note.1 != past.note {
            asks.push(Action::Note(folder, self.note.1.clone()));
        }
        asks.into_iter().for_each(|ask| view.actions.push(ask));
        opened
    }

    fn delete(&mut self, ui: &Ui, view: &mut View<'_>) {
        let Some(folder) = self.deleting.clone() else { return };
        let response = Modal::new(Id::unique("delete run")).show(ui.ctx(), |ui| {
            ui.set_width(420.0);
            let name = view.state.name_of(&folder);
            ui.label(RichText::new(format!("Delete {name}?")).text_style(egui::TextStyle::Heading));
            ui.add_space(6.0);
            ui.label("Its settings, metrics, checkpoints and result are removed from the disk. This cannot be undone.");
            ui.label(RichText::new(folder.display().to_string()).small().color(Colors::of(ui).weak));
            ui.add_space(10.0);
            ui.horizontal(|ui| {
                let text = RichText::new("Delete the run").color(Colors::of(ui).bad);
                if ui.button(text).clicked() {
                    view.actions.push(Action::Delete(folder.clone()));
                    self.deleting = None;
                }
                if ui.button("Keep it").clicked() {
                    self.deleting = None;
                }
            });
        });
        if response.should_close() {
            self.deleting = None;
        }
    }
}

/// The columns that tell runs apart: who made them and the model only where they differ. Where there is not the room for all, `spacing`
/// between them, some are left out: what they say can still be searched for.
fn columns(all: &[Past], room: f32, spacing: f32) -> Vec<usize> {
    const MODEL: usize = 12;
    const MADE_BY: usize = 1;
    /// α, targets, data: these go first.
    const FIRST: [usize; 3] = [8, 10, 11];
    let foreign = all.iter().any(|past| past.foreign.is_some());
    let models = all.windows(2).any(|pair| pair[0].settings.model != pair[1].settings.model);
    let shown = |column: &usize| match *column {
        MODEL => models,
        MADE_BY => foreign,
        _ => true,
    };
    let mut columns: Vec<usize> = (0..HEADS.len()).filter(shown).collect();
    for left_out in FIRST {
        if columns.iter().map(|&column| HEADS[column].width + spacing).sum::<f32>() > room {
            columns.retain(|&column| column != left_out);
        }
    }
    columns
}

/// Folders that are listed beside the one for new runs.
fn others(ui: &mut Ui, view: &mut View<'_>) {
    let text = match view.settings.run_folders.len() {
        1 => "1 more folder ▾".to_owned(),
        count => format!("{count} more folders ▾"),
    };
    let menu = ui.menu_button(text, |ui| {
        ui.set_min_width(280.0);
        ui.label(RichText::new("Listed too").small().color(Colors::of(ui).weak));
        for folder in &view.settings.run_folders {
            ui.horizontal(|ui| {
                ui.label(folder.display().to_string());
                let button = ui.small_button("Forget").on_hover_text("It is listed no more; nothing is deleted");
                if button.accessible_name(format!("Forget {}", folder.display())).clicked() {
                    view.actions.push(Action::ForgetFolder(folder.clone()));
                }
            });
        }
    });
    menu.response.accessible_name("Other folders of runs");
}

/// True when every word is found somewhere in what the list says about a run.
fn matches(past: &Past, words: &[String]) -> bool {
    let shown: Vec<String> = (0..HEADS.len()).map(|column| cell(past, column).text).collect();
    let text = format!("{} {}", shown.join(" "), past.note).to_lowercase();
    words.iter().all(|word| text.contains(word.as_str()))
}

fn cell(past: &Past, column: usize) -> Entry {
    let s = &past.settings;
    let last = |path: &std::path::Path| path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let pair = past.is_described() && s.method != Method::Full;
    match column {
        0 => Entry::text(past.name()).tip(past.folder.display().to_string()),
        1 => Entry::text(past.made_by()),
        2 => Entry::text(past.phase.word()),
        3 => Entry::number(past.eval_loss, |loss| number::whole(loss, 4)),
        4 => Entry::number(past.last.map(|record| record.step.loss), |loss| number::whole(loss, 4)),
        5 => Entry::number(Some(past.done as f64), |done| match past.steps {
            0 => format!("{done:.0}"),
            steps => format!("{done:.0}/{steps}"),
        }),
        6 => Entry::text(if past.is_described() { method_name(s.method) } else { "" }),
        7 => {
            let r = Entry::number(pair.then_some(s.rank as f64), |r| format!("{r:.0}"));
            if past.trainable > 0 { r.tip(format!("{} trained", units::exact(past.trainable as u64))) } else { r }
        }
        8 => Entry::number(pair.then(|| s.alpha()), |alpha| number::short(alpha, 4)),
        9 => Entry::number(past.is_described().then_some(s.lr), |lr| format!("{lr:.1e}")),
        10 => Entry::text(if pair { targets(&s.targets) } else { String::new() }).tip(s.targets.clone()),
        11 => Entry::text(last(&s.data)).tip(s.data.display().to_string()),
        12 => Entry::text(last(&s.model)).tip(s.model.display().to_string()),
        13 => match (past.curve.first(), past.curve.last()) {
            (Some(&first), Some(&last)) => {
                let [first, last] = [first, last].map(|loss| number::short(f64::from(loss), 3));
                Entry::curve(&past.curve, format!("{first} to {last}"))
            }
            _ => Entry::text("–"),
        },
        _ => {
            let since = SystemTime::now().duration_since(past.modified).unwrap_or_default();
            Entry { text: ago(since), key: Some(-since.as_secs_f64()), ..Entry::default() }
        }
    }
}

/// Targets in words, where there is a word for them.
fn targets(text: &str) -> String {
    match text.parse() {
        Ok(Targets::Custom(_)) | Err(_) => text.to_owned(),
        Ok(known) => crate::app::shared::targets::name(&known),
    }
}

/// `3 min ago`.
fn ago(since: Duration) -> String {
    match since.as_secs() {
        0..60 => "just now".to_owned(),
        s @ 60..3600 => format!("{} min ago", s / 60),
        s @ 3600..86_400 => format!("{} h ago", s / 3600),
        s => format!("{} days ago", s / 86_400),
    }
}

/// The list as it is read.
pub fn said(runs: &[Past]) -> Vec<Vec<String>> {
    let columns = columns(runs, f32::INFINITY, 0.0);
    let heads = columns.iter().map(|&column| HEADS[column].title.to_owned()).collect();
    let row = |past: &Past| columns.iter().map(|&column| cell(past, column).text).collect();
    std::iter::once(heads).chain(runs.iter().map(row)).collect()
}

/// The list for a file.
fn rows(runs: &[Past]) -> Vec<Vec<String>> {
    let heads = HEADS.iter().map(|head| head.title.to_owned()).chain(["note".to_owned(), "folder".to_owned()]);
    let row = |past: &Past| {
        let cells = (0..HEADS.len()).map(|column| cell(past, column).text);
        cells.chain([past.note.clone(), past.folder.display().to_string()]).collect()
    };
    std::iter::once(heads.collect()).chain(runs.iter().map(row)).collect()
}
