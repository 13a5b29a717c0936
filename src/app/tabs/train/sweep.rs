//! A sweep over ranks: loss against rank and against trainable parameters, and the largest rank truncated to the others.

use std::path::PathBuf;

use eframe::egui::{Align, Button, ComboBox, DragValue, Layout, RichText, ScrollArea, TextEdit, Ui, WidgetInfo, vec2};

use super::View;
use super::state::{Action, Task, Training};
use crate::app::effect::Effect;
use crate::app::look::theme::Colors;
use crate::app::shared::blank;

use crate::app::widgets::menu::Take;
use crate::app::widgets::table::{Entry, Head, Order, Table};
use crate::app::work::export::Source;
use crate::figure::{Axis, Figure, Series, Style, number};
use crate::plan::anchors;
use crate::train::sweep::{Mean, Row, best_of_ranks};
use crate::units;

use super::compare::plot;
use super::plots::columns;

/// Height of the plots.
const PLOTS: f32 = 300.0;

const HEADS: [Head<'static>; 10] = [
    head("r", "Rank", 40.0),
    head("rate", "Peak learning rate", 60.0),
    head("seed", "Of A and of the order of rows", 40.0),
    head("trained", "Elements that are trained", 80.0),
    head("last loss", "Of the last step", 80.0),
    head("held out", "Loss on held-out rows of the run at this rank", 80.0),
    head(
        "p > ½",
        "Held-out answer tokens that get more than half of the probability: greedy decoding says these right",
        60.0,
    ),
    head("truncated", "Loss on held-out rows of the largest rank's adapter, cut to this rank", 90.0),
    head("forgot", "Loss on text of the base's own kind, after less before", 70.0),
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
        let best = best_of_ranks(rows);
        if let (Some(low), Some(high)) = (best.first(), best.last()) {
            let least = best.iter().map(|mean| mean.loss).fold(f64::INFINITY, f64::min);
            self.by_rank.series.extend(anchors::behind(least, [low.r, high.r]));
        }
        let name = "trained parameters";
        self.by_count = figure(rows, "Loss against trained parameters", name, |row| row.trainable as f64);
    }

    /// Paints it.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        start(ui, view);
        choice(ui, view);
        let Some((_, rows)) = &self.key else {
            const PARTS: [(&str, &str); 3] = [
                ("Loss against rank", "each rank at its own best learning rate, and the largest rank cut down to it"),
                ("Loss against trained parameters", "what a larger rank buys"),
                ("A table", "every run: held-out loss, answers that are right, what was forgotten"),
            ];
            let about = "A sweep trains at each rank on the data that are set up under Run, each at three learning rates around what is \
                         expected of it: at one rate for all ranks, most of what looks like an effect of rank is the rate. Then it cuts \
                         the largest rank's adapter down to each of the others.";
            return blank::ui(ui, "No sweep yet", about, &PARTS);
        };
        if rows.is_empty() {
            ui.add_space(8.0);
            ui.label(RichText::new("The first run has not ended yet.").color(Colors::of(ui).weak));
            return;
        }
        ScrollArea::vertical().id_salt("sweep").auto_shrink(false).show(ui, |ui| {
            verdict(ui, view, rows);
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
            let name = |row: usize| format!("r = {}, rate {:.0e}, seed {}", rows[row].r, rows[row].lr, rows[row].seed);
            let count = rows.len();
            let table =
                Table { id: "sweep", heads: &HEADS, rows: count, entry: &entry, name: &name, selected: &|_| false };
            let mut order = self.order;
            let room = vec2(ui.available_width(), Table::height(ui, count));
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
        let response = ui.add(edit);
        response.widget_info(|| WidgetInfo::text_edit(true, "", &draft.ranks, "Ranks of the sweep"));
        response.labelled_by(label.id).accessible_name("Ranks of the sweep");
        let weak = Colors::of(ui).weak;
        let label = ui.label("Rates");
        let tip = "auto: three for each rank, half a power of ten apart, around what Run's rate is worth at it; a list: the same for all ranks; \
                   empty: Run's rate at every rank";
        let edit = TextEdit::singleline(&mut draft.rates).hint_text("one for all").desired_width(110.0);
        let response = ui.add(edit).on_hover_text(tip);
        response.widget_info(|| WidgetInfo::text_edit(true, "", &draft.rates, "Learning rates of the sweep"));
        response.labelled_by(label.id).accessible_name("Learning rates of the sweep");
        let label = ui.label("Seeds");
        let seeds = DragValue::new(&mut draft.seeds).range(1..=20).speed(0.05);
        ui.add(seeds).labelled_by(label.id).on_hover_text("Runs of every point: their mean is compared, the furthest is drawn");
        let tip = "Gives up the worse half of the points after a quarter of the steps, and again after half";
        ui.checkbox(&mut draft.halving, "Halving").on_hover_text(tip);
        ui.add_space(4.0);
        let text = RichText::new("Start the sweep").strong();
        let primary = Button::new(match problem {
            None => text.color(ui.visuals().extreme_bg_color),
            Some(_) => text,
        });
        let primary = if problem.is_none() { primary.fill(Colors::of(ui).accent) } else { primary };
        let button = ui.add_enabled(problem.is_none(), primary).accessible_name("Start the sweep");
        if button.on_disabled_hover_text(problem.clone().unwrap_or_default()).clicked() {
            view.actions.push(Action::StartSweep);
        }
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
    if training.sweep_left() > 0
        && training.live().is_none()
        && let Some((folder, _)) = training.sweep()
    {
        ui.horizontal(|ui| {
            ui.label(
                RichText::new(format!("{} runs of this sweep are left.", training.sweep_left()))
                    .color(Colors::of(ui).warn),
            );
            if ui.button("Resume it").clicked() {
                view.actions.push(Action::ResumeSweep(folder.clone()));
            }
        });
    }
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

/// Each rank at its best rate, with the furthest seed; every point; and the largest rank cut down.
fn figure(rows: &[Row], title: &str, x: &str, at: fn(&Row) -> f64) -> Figure {
    let best = best_of_ranks(rows);
    let of_rank = |r: usize| rows.iter().find(|row| row.r == r).map_or(r as f64, at);
    // Marks where something was trained, as the table has it.
    let marks = best.iter().map(|mean| (of_rank(mean.r), written(of_rank(mean.r)))).collect();
    let y = Axis::of_losses("loss", rows.iter().flat_map(|row| [row.eval_loss, row.truncated_eval_loss]).flatten());
    let mut figure = Figure { title: title.into(), x: Axis::log(x).marked(marks), y, ..Figure::default() };
    let (points, spread): (Vec<[f64; 2]>, Vec<f64>) =
        best.iter().map(|mean| ([of_rank(mean.r), mean.loss], mean.spread)).unzip();
    let held_out = Series::line("held out, best rate of each rank", points).style(Style::LinePoints).color(1);
    figure.series.push(Series { spread, ..held_out });
    let points: Vec<[f64; 2]> = rows.iter().filter_map(|row| Some([at(row), row.eval_loss?])).collect();
    if points.len() > best.len() {
        figure.series.push(Series::line("every run", points).style(Style::Points).color(6));
    }
    let most = best.last().map_or(0, |mean| mean.r);
    let cut = best.iter().filter_map(|mean| {
        let row = rows.iter().find(|row| row.r == mean.r && row.truncated_eval_loss.is_some());
        let own = mean.r == most && rows.iter().any(|row| row.truncated_eval_loss.is_some());
        // The largest rank is its own truncation.
        let loss = row.and_then(|row| row.truncated_eval_loss).or_else(|| own.then_some(mean.loss))?;
        Some([of_rank(mean.r), loss])
    });
    let cut = Series::line(format!("held out, r = {most} cut to r"), cut.collect()).style(Style::LinePoints);
    if !cut.points.is_empty() {
        figure.series.push(cut.color(2));
    }
    figure
}

/// A rank or a count at a mark.
fn written(value: f64) -> String {
    if value < 1000.0 { format!("{value:.0}") } else { units::count(value as u64) }
}

/// Losses closer than this share are called the same.
const SAME: f64 = 1.02;

/// Which rank does nearly as well as the best, what to try next, and what truncation gives.
fn verdict(ui: &mut Ui, view: &mut View<'_>, rows: &[Row]) {
    let means = best_of_ranks(rows);
    // One rank alone is the best of none.
    let (Some(last), Some(best)) = (means.last(), means.iter().min_by(|a, b| a.loss.total_cmp(&b.loss))) else {
        return;
    };
    if means.len() < 2 {
        return;
    }
    let enough = means.iter().find(|mean| mean.loss <= best.loss * SAME).unwrap_or(best);
    ui.horizontal_wrapped(|ui| {
        let Mean { r, lr, .. } = *enough;
        let short = number::short(best.loss, 4);
        if best.r == last.r {
            ui.label(format!("r = {} has the lowest loss ({short}), and is the largest that was tried.", best.r));
            let next = 2 * best.r;
            if ui.button(format!("Try r = {next}")).on_hover_text("Adds it to the ranks of the next sweep").clicked()
                && let Some(draft) = view.state.draft()
            {
                let mut draft = draft.clone();
                draft.ranks = format!("{}, {next}", draft.ranks.trim_end_matches([',', ' ']));
                view.actions.push(Action::Set(Box::new(draft)));
            }
        } else {
            ui.label(format!("On held-out rows r = {r} comes within 2 % of the best loss ({short}, r = {}), each rank at its own best rate.", best.r));
        }
        if ui.button(format!("Take r = {r}")).on_hover_text(format!("Turns the dial to it, and Run's rate to {lr:.0e}")).clicked() {
            let mut dial = view.workspace.dial().clone();
            dial.alpha *= r as f64 / dial.r.max(1) as f64;
            dial.r = r;
            view.effects.push(Effect::Turn(dial));
            if let Some(draft) = view.state.draft() {
                let mut draft = draft.clone();
                draft.settings.lr = lr;
                view.actions.push(Action::Set(Box::new(draft)));
            }
        }
    });
    let row = |mean: &Mean| rows.iter().find(|row| row.r == mean.r).and_then(|row| row.truncated_eval_loss);
    if means.iter().any(|mean| row(mean).is_some()) {
        let better = means.iter().filter(|mean| row(mean).is_some_and(|cut| cut < mean.loss));
        let better: Vec<String> = better.map(|mean| mean.r.to_string()).collect();
        ui.label(match better.as_slice() {
            [] => format!("Cutting r = {} down beats training at none of the smaller ranks here.", last.r),
            better => format!("Cutting r = {} down beats training at r = {}.", last.r, better.join(", ")),
        });
    }
}

fn entry(row: &Row, column: usize) -> Entry {
    let loss = |loss: Option<f64>| Entry::number(loss, |loss| number::whole(loss, 4));
    match column {
        0 => Entry::number(Some(row.r as f64), |r| format!("{r:.0}")),
        1 => Entry::number(Some(row.lr), |lr| format!("{lr:.0e}")),
        2 => Entry::number(Some(row.seed as f64), |seed| format!("{seed:.0}")),
        3 => Entry::number(Some(row.trainable as f64), |n| units::exact(n as u64)),
        4 => loss(Some(row.last_loss)),
        5 => loss(row.eval_loss),
        6 => Entry::number(row.eval_sure, units::percent),
        7 => loss(row.truncated_eval_loss),
        8 => Entry::number(row.forget_loss.map(|[before, after]| after - before), |off| number::signed(off, 3)),
        _ => Entry::number(Some(row.energy_95), |rank| number::short(rank, 3)),
    }
}

fn cells(rows: &[Row]) -> Vec<Vec<String>> {
    let heads = HEADS.iter().map(|head| head.title.to_owned()).collect();
    let row = |row: &Row| (0..HEADS.len()).map(|column| entry(row, column).text).collect();
    std::iter::once(heads).chain(rows.iter().map(row)).collect()
}
