//! A sweep over ranks: loss against rank and against trainable parameters, and the largest rank truncated to the others.

use std::path::PathBuf;

use eframe::egui::{Align, Button, ComboBox, Layout, RichText, ScrollArea, TextEdit, Ui, WidgetInfo, vec2};

use super::View;
use super::state::{Action, Task, Training};
use crate::app::look::theme::Colors;

use crate::app::widgets::menu::Take;
use crate::app::widgets::table::{Entry, Head, Order, Table};
use crate::app::work::export::Source;
use crate::figure::{Axis, Figure, Series, Style, number};
use crate::train::sweep::Row;
use crate::units;

use super::compare::plot;
use super::plots::columns;

/// Height of the plots.
const PLOTS: f32 = 300.0;

const HEADS: [Head<'static>; 6] = [
    head("r", "Rank", 40.0),
    head("trained", "Elements that are trained", 80.0),
    head("last loss", "Of the last step", 80.0),
    head("held out", "Loss on held-out rows of the run at this rank", 80.0),
    head("truncated", "Loss on held-out rows of the largest rank's adapter, cut to this rank", 90.0),
    head("95 % energy", "Directions that hold 95 % of the energy of ΔW: the mean over the modules", 90.0),
];

const fn head(title: &'static str, tip: &'static str, width: f32) -> Head<'static> {
    Head { title, tip, number: true, width }
}

/// What the sweep's part of the tab remembers between frames.
#[derive(Default)]
pub struct SweepLook {
    key: Option<(PathBuf, Vec<Row>)>,
    by_rank: Figure,
    by_count: Figure,
    order: Order,
}

impl SweepLook {
    /// Follows the sweep.
    pub fn logic(&mut self, training: &Training) {
        if self.key.as_ref() == training.sweep() {
            return;
        }
        self.key = training.sweep().cloned();
        let Some((_, rows)) = &self.key else { return };
        self.by_rank = figure(rows, "Loss against rank", "rank r", |row| row.r as f64);
        self.by_count =
            figure(rows, "Loss against trained parameters", "trained parameters", |row| row.trainable as f64);
    }

    /// Paints it.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        start(ui, view);
        choice(ui, view);
        let Some((_, rows)) = &self.key else {
            ui.add_space(8.0);
            ui.label(
                "A sweep trains at each rank on the data and the seed that are set up under Run, and then cuts the largest \
                 rank's adapter down to each of the others: often that beats training at the small rank.",
            );
            return;
        };
        if rows.is_empty() {
            ui.add_space(8.0);
            ui.label(RichText::new("The first run has not ended yet.").color(Colors::of(ui).weak));
            return;
        }
        ScrollArea::vertical().id_salt("sweep").auto_shrink(false).show(ui, |ui| {
            if let Some(text) = sentence(rows) {
                ui.label(text);
            }
            columns(ui, PLOTS, |ui, index| match index {
                0 => plot(ui, view, "Loss against rank", &self.by_rank),
                _ => plot(ui, view, "Loss against trained parameters", &self.by_count),
            });
            ui.add_space(6.0);
            let area = ui.clip_rect();
            ui.horizontal(|ui| {
                ui.label(RichText::new("Ranks").strong());
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    view.export(ui, "sweep", &Take::TABLE, area, || Source::Table(cells(rows)));
                });
            });
            let entry = |row: usize, column: usize| entry(&rows[row], column);
            let name = |row: usize| format!("r = {}", rows[row].r);
            let count = rows.len();
            let table =
                Table { id: "sweep", heads: &HEADS, rows: count, entry: &entry, name: &name, selected: &|_| false };
            let mut order = self.order;
            let room = vec2(ui.available_width(), 30.0 + 24.0 * count as f32);
            let clicked = ui.allocate_ui(room, |ui| table.ui(ui, &mut order)).inner;
            self.order = order;
            if let Some(row) = clicked {
                view.actions.push(Action::Show(rows[row].adapter.clone()));
            }
        });
    }
}

fn start(ui: &mut Ui, view: &mut View<'_>) {
    let training = view.state;
    let Some(before) = training.draft() else { return };
    let mut draft = before.clone();
    let problem = training.refusal(&draft, view.workspace);
    ui.horizontal_wrapped(|ui| {
        let label = ui.label("Ranks");
        let edit = TextEdit::singleline(&mut draft.ranks).hint_text("1, 2, 4, 8").desired_width(180.0);
        let response = ui.add(edit.background_color(ui.visuals().panel_fill));
        response.widget_info(|| WidgetInfo::text_edit(true, "", &draft.ranks, "Ranks of the sweep"));
        response.labelled_by(label.id).accessible_name("Ranks of the sweep");
        let button = ui.add_enabled(problem.is_none(), Button::new("Start the sweep"));
        if button.on_disabled_hover_text(problem.clone().unwrap_or_default()).clicked() {
            view.actions.push(Action::StartSweep);
        }
        let weak = Colors::of(ui).weak;
        let going = training.live().filter(|live| matches!(live.task, Task::Sweep(..)));
        if let Some(live) = going {
            let at = training.going_on().map_or_else(String::new, |folder| training.name_of(folder));
            let track = training.shown().filter(|track| Some(track.folder.as_path()) == training.going_on());
            let step = track.and_then(|track| Some(format!(", step {} of {}", track.last()?.step.step, track.steps)));
            ui.label(RichText::new(format!("{at}{}", step.unwrap_or_default())).color(weak));
            if ui.add_enabled(!live.is_stopping(), Button::new("Stop")).clicked() {
                view.actions.push(Action::Stop);
            }
        } else {
            ui.label(RichText::new("α / r stays as it is on the rank bar.").color(weak));
        }
    });
    if let Some(problem) = problem.filter(|_| training.live().is_none()) {
        ui.label(RichText::new(problem).small().color(Colors::of(ui).weak));
    }
    if draft != *before {
        view.actions.push(Action::Set(Box::new(draft)));
    }
}

/// Sweeps on the disk.
fn choice(ui: &mut Ui, view: &mut View<'_>) {
    let training = view.state;
    let sweeps: Vec<&PathBuf> = training.sweeps().collect();
    if sweeps.is_empty() {
        return;
    }
    let name = |folder: &PathBuf| folder.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let shown = training.sweep().map_or_else(|| "Choose a sweep".to_owned(), |(folder, _)| name(folder));
    let mut asked = None;
    ui.horizontal(|ui| {
        let label = ui.label(RichText::new("Shown").color(Colors::of(ui).weak));
        let combo = ComboBox::from_id_salt("sweeps").selected_text(shown).width(200.0).show_ui(ui, |ui| {
            for folder in sweeps {
                if ui.selectable_label(training.sweep().is_some_and(|(s, _)| s == folder), name(folder)).clicked() {
                    asked = Some(folder.clone());
                }
            }
        });
        combo.response.labelled_by(label.id).accessible_name("Sweep");
    });
    if let Some(folder) = asked {
        view.actions.push(Action::ShowSweep(folder));
    }
}

fn figure(rows: &[Row], title: &str, x: &str, at: fn(&Row) -> f64) -> Figure {
    let mut figure = Figure { title: title.into(), x: Axis::log(x), y: Axis::linear("loss"), ..Figure::default() };
    let line = |name: &str, value: &dyn Fn(&Row) -> Option<f64>| {
        let points: Vec<[f64; 2]> = rows.iter().filter_map(|row| Some([at(row), value(row)?])).collect();
        Series::line(name, points).style(Style::LinePoints)
    };
    let most = rows.last().map_or(0, |row| row.r);
    figure.series.push(line("held out, trained at r", &|row| row.eval_loss).color(1));
    let cut = line(&format!("held out, r = {most} cut to r"), &|row| match row.truncated_eval_loss {
        Some(loss) => Some(loss),
        // The largest rank is its own truncation.
        None if row.r == most && rows.iter().any(|row| row.truncated_eval_loss.is_some()) => row.eval_loss,
        None => None,
    });
    if !cut.points.is_empty() {
        figure.series.push(cut.color(2));
    }
    figure.series.push(line("train, last step", &|row| Some(row.last_loss)).style(Style::Dashed).color(6));
    figure
}

/// Which ranks do nearly as well as the best, and what truncation gives.
fn sentence(rows: &[Row]) -> Option<String> {
    /// Losses closer than this share are called the same.
    const SAME: f64 = 1.02;
    // One rank alone is the best of none.
    rows.get(1)?;
    let best = rows.iter().filter_map(|row| row.eval_loss).min_by(f64::total_cmp)?;
    let enough = rows.iter().find(|row| row.eval_loss.is_some_and(|loss| loss <= best * SAME))?;
    let most = rows.last()?.r;
    let better =
        rows.iter().filter(|row| row.truncated_eval_loss.zip(row.eval_loss).is_some_and(|(cut, own)| cut < own));
    let better: Vec<String> = better.map(|row| row.r.to_string()).collect();
    let cut = rows.iter().any(|row| row.truncated_eval_loss.is_some());
    let truncation = match (cut, better.as_slice()) {
        (false, _) => String::new(),
        (true, []) => format!(" Cutting r = {most} down beats training at none of the smaller ranks here."),
        (true, better) => format!(" Cutting r = {most} down beats training at r = {}.", better.join(", ")),
    };
    Some(format!(
        "On held-out rows r = {} comes within 2 % of the best loss ({}) at this learning rate and number of steps.{truncation}",
        enough.r,
        number::short(best, 4)
    ))
}

fn entry(row: &Row, column: usize) -> Entry {
    let loss = |loss: Option<f64>| Entry::number(loss, |loss| number::whole(loss, 4));
    match column {
        0 => Entry::number(Some(row.r as f64), |r| format!("{r:.0}")),
        1 => Entry::number(Some(row.trainable as f64), |n| units::exact(n as u64)),
        2 => loss(Some(row.last_loss)),
        3 => loss(row.eval_loss),
        4 => loss(row.truncated_eval_loss),
        _ => Entry::number(Some(row.energy_95), |rank| number::short(rank, 3)),
    }
}

fn cells(rows: &[Row]) -> Vec<Vec<String>> {
    let heads = HEADS.iter().map(|head| head.title.to_owned()).collect();
    let row = |row: &Row| (0..HEADS.len()).map(|column| entry(row, column).text).collect();
    std::iter::once(heads).chain(rows.iter().map(row)).collect()
}
