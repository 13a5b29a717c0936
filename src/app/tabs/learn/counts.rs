//! Chapter 7: GPT-3's matrices and a rank, counted; what the paper's methods reach with how many parameters.

use eframe::egui::{Button, Grid, Rect, RichText, ScrollArea, Ui, UiBuilder, pos2, vec2};

use super::View;
use super::state::{Action, Chapter, Counts, CountsEdit, MATRICES, RANKS};
use crate::app::look::theme::Colors;

use crate::app::widgets::menu::Take;
use crate::app::work::export::Source;
use crate::figure::{Axis, Figure, Mark, Series, Style};
use crate::plan::{anchors, paper};
use crate::units;

use super::pieces::{beside, choice, figure, legend, right, said, stage, weak};

/// Which plot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shown {
    #[default]
    Parameters,
    Paper,
    Cut,
    Table,
}

/// Which plot is looked at.
#[derive(Default)]
pub struct Looks {
    shown: Shown,
    /// The count whose row of the table was scrolled to.
    lit: u64,
}

const LEFT: f32 = 270.0;
const HEIGHT: f32 = 292.0;

/// Paints it.
pub fn ui(ui: &mut Ui, view: &mut View<'_>, looks: &mut Looks) {
    let counts = &view.state.counts;
    let mut edit = None;
    let drawn = match looks.shown {
        Shown::Parameters => quality(counts),
        Shown::Paper => by_rank(counts.r),
        Shown::Cut => by_cut(counts.r),
        Shown::Table => Figure::default(),
    };
    stage(ui, |ui| {
        let room = ui.available_rect_before_wrap();
        let wide = room.width() > LEFT + 330.0;
        let (left, mut plot) = if wide {
            let cut = room.left() + LEFT;
            let bottom = room.top() + HEIGHT;
            (
                Rect::from_min_max(room.min, pos2(cut, bottom)),
                Rect::from_min_max(pos2(cut + 18.0, room.top()), pos2(room.right(), bottom)),
            )
        } else {
            let cut = room.top() + 250.0;
            (
                Rect::from_min_max(room.min, pos2(room.right(), cut)),
                Rect::from_min_size(pos2(room.left(), cut), vec2(room.width(), HEIGHT)),
            )
        };
        let painted = ui.scope_builder(UiBuilder::new().max_rect(left), |ui| edit = dial(ui, counts)).response.rect;
        if !wide {
            // Below what was painted, however many lines that takes.
            plot = plot.translate(vec2(0.0, (painted.bottom() + 12.0 - plot.top()).max(0.0)));
        }
        ui.scope_builder(UiBuilder::new().max_rect(plot), |ui| {
            ui.horizontal(|ui| {
                let of = [
                    (Shown::Parameters, "by method"),
                    (Shown::Paper, "by rank"),
                    (Shown::Cut, "cut adapter"),
                    (Shown::Table, "table"),
                ];
                if let Some(shown) = choice(ui, looks.shown, &of) {
                    looks.shown = shown;
                }
                right(ui, |ui| match looks.shown {
                    Shown::Table => view.export(ui, "the paper's table", &Take::TABLE, plot, || Source::Table(rows())),
                    _ => view.export(ui, &drawn.title, &Take::PLOT, plot, || Source::Figure(Box::new(drawn.clone()))),
                });
            });
            if looks.shown == Shown::Table {
                table(ui, counts, &mut looks.lit);
                return;
            }
            legend(ui, &drawn);
            drawn.ui(ui, "learn counts", |_| {});
        });
        ui.advance_cursor_after_rect(left.union(plot));
    });
    let found: Vec<String> = counts
        .ways()
        .iter()
        .map(|(n, r)| format!("{n} {} at r = {r}", if *n == 1 { "matrix" } else { "matrices" }))
        .collect();
    let now = if found.is_empty() { "No way found yet.".to_owned() } else { format!("Found: {}.", found.join("; ")) };
    beside(
        ui,
        |ui| super::goal(ui, view, Chapter::Counts, &now),
        |ui| said(ui, "10,000 times fewer, at r = 8.", &truth(counts.parameters())),
    );
    if let Some(edit) = edit {
        view.actions.push(Action::Counts(edit));
    }
}

/// What else is often said.
pub fn more(ui: &mut Ui) {
    said(
        ui,
        "adapters came before LoRA, so they do the same.",
        "They train as few numbers, but they are layers of their own, and each token has to pass them: 20.7 % and 30.3 % more time \
         for a short text (LoRA paper, table 1). B A stands beside a weight and can be merged into it: no more time at all. And \
         full tuning is not always the most accurate: on GPT-3 its 73.8 % are within the range of LoRA's 73.4 % to 74.0 %. On a \
         new voice it can be far ahead: Train, Compare measures that.",
    );
}

/// Every row of the paper's table beside what its own formula gives.
fn table(ui: &mut Ui, counts: &Counts, lit: &mut u64) {
    let colors = Colors::of(ui);
    let now = counts.count().as_ref().map_or(0, |count| count.trainable);
    ScrollArea::vertical().id_salt("paper").auto_shrink(false).show(ui, |ui| {
        ui.spacing_mut().item_spacing.y = 2.0;
        Grid::new("paper rows").num_columns(4).spacing(vec2(14.0, 2.0)).striped(true).min_row_height(17.0).show(
            ui,
            |ui| {
                for title in ["method", "setting", "formula gives", "printed"] {
                    ui.label(RichText::new(title).small().color(colors.weak));
                }
                ui.end_row();
                for row in paper::table() {
                    // Another method's row with the same count is not what was chosen.
                    let mine = row.method == "LoRA" && row.formula == now;
                    let color = if mine { colors.rank } else { ui.visuals().text_color() };
                    let text = |text: &str| RichText::new(text).size(12.0).color(color);
                    let method = ui.label(text(row.method));
                    if mine && std::mem::replace(lit, now) != now {
                        method.scroll_to_me(Some(eframe::egui::Align::Center));
                    }
                    ui.label(text(&row.setting));
                    ui.label(text(&units::exact(row.formula)));
                    let printed = ui.label(text(row.printed));
                    if let Some(note) = row.note {
                        printed.on_hover_text(note);
                    }
                    ui.end_row();
                }
            },
        );
    });
}

/// The choice and what it costs.
fn dial(ui: &mut Ui, counts: &Counts) -> Option<CountsEdit> {
    let mut edit = None;
    weak(ui, "Adapt, in each of 96 blocks");
    ui.horizontal(|ui| {
        for (i, name) in MATRICES.into_iter().enumerate() {
            let text = RichText::new(format!("W{name}")).size(15.0);
            let button =
                Button::selectable(counts.chosen[i], text).min_size(vec2(48.0, 34.0)).frame_when_inactive(true);
            if ui.add(button).accessible_name(format!("Adapt {name}")).clicked() {
                edit = Some(CountsEdit::Toggle(i));
            }
        }
    });
    ui.add_space(6.0);
    weak(ui, "at rank");
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 4.0;
        for r in RANKS {
            let button =
                Button::selectable(counts.r == r, r.to_string()).min_size(vec2(30.0, 28.0)).frame_when_inactive(true);
            if ui.add(button).accessible_name(format!("Rank {r}")).clicked() {
                edit = Some(CountsEdit::Rank(r));
            }
        }
    });
    ui.add_space(10.0);
    let colors = Colors::of(ui);
    match counts.count() {
        Ok(count) => {
            figure(ui, &units::count(count.trainable), &units::exact(count.trainable), colors.rank);
            ui.add_space(4.0);
            let words = format!("96 × {} × {} × (12,288 + 12,288)", counts.matrices(), counts.r);
            ui.label(RichText::new(words).color(colors.weak));
            ui.add_space(4.0);
            let fewer = counts.parameters() / count.trainable.max(1);
            ui.label(format!("{} of 175B: {} times fewer", units::percent(count.percent / 100.0), units::exact(fewer)));
            ui.label(format!("a file of {} in 16 bit", units::bytes(count.adapter_bytes_f16)));
        }
        Err(error) => {
            ui.label(RichText::new(format!("{error}.")).color(colors.warn));
        }
    }
    edit
}

/// The table's cells, headings first: what is copied.
fn rows() -> Vec<Vec<String>> {
    let titles = ["method", "setting", "formula gives", "printed", "WikiSQL", "MNLI-m"].map(str::to_owned).to_vec();
    let row = |row: &paper::PaperRow| {
        let numbers = [row.formula.to_string(), row.printed.to_owned(), row.wikisql.to_string(), row.mnli.to_string()];
        [row.method.to_owned(), row.setting.clone()].into_iter().chain(numbers).collect()
    };
    std::iter::once(titles).chain(paper::table().iter().map(row)).collect()
}

/// Accuracy against trainable parameters, for every method of the paper.
fn quality(counts: &Counts) -> Figure {
    let x = Axis::log("trainable parameters");
    let y = Axis::linear("accuracy on WikiSQL, %");
    let mut figure = Figure { title: "Quality against parameters".into(), x, y, quiet: true, ..Figure::default() };
    for method in ["LoRA", "Adapter H", "PrefixLayer", "PrefixEmbed", "Fine-Tune"] {
        let rows = paper::table().iter().filter(|row| row.method == method);
        let points = rows.map(|row| [row.formula as f64, row.wikisql]).collect();
        figure.series.push(Series::line(method, points).style(Style::Points));
    }
    if let Ok(count) = counts.count() {
        figure.marks.push(Mark { name: "your choice".into(), at: count.trainable as f64, vertical: true });
    }
    figure
}

fn points(all: &[(usize, f64)]) -> Vec<[f64; 2]> {
    all.iter().map(|&(r, accuracy)| [r as f64, accuracy]).collect()
}

/// Accuracy against rank on a task that hardly needs any.
fn by_rank(r: usize) -> Figure {
    let (x, y) = (Axis::log("rank"), Axis::linear("accuracy on WikiSQL, %"));
    let mut figure = Figure { title: "GPT-3 trained at each rank".into(), x, y, quiet: true, ..Figure::default() };
    for row in &anchors::WIKISQL {
        figure.series.push(Series::line(row.matrices, points(&row.points)).style(Style::LinePoints));
    }
    figure.marks.push(Mark { name: "your rank".into(), at: r as f64, vertical: true });
    figure
}

/// Accuracy of one adapter cut down: what its strongest directions are worth, not what training at that rank would reach.
fn by_cut(r: usize) -> Figure {
    let (x, y) = (Axis::log("rank"), Axis::linear("accuracy on GSM8K, %"));
    let title = "Llama 3.2 3B: an adapter of rank 64, cut".into();
    let mut figure = Figure { title, x, y, quiet: true, ..Figure::default() };
    let cut = Series::line("trained at 64, cut to r", points(&anchors::GSM8K_CUT));
    figure.series.push(cut.style(Style::LinePoints));
    let direct = Series::line("trained at 32", points(&[anchors::GSM8K_DIRECT]));
    figure.series.push(direct.style(Style::Points));
    figure.marks.push(Mark { name: "your rank".into(), at: r as f64, vertical: true });
    figure
}

/// Three comparisons that are told as one.
fn truth(all: u64) -> String {
    let [least, four, eight] = [1, 4, 8].map(|r| paper::lora(2 * paper::L, paper::D, r));
    format!(
        "Three settings told as one. On q and v: r = 1 trains {} ({} times fewer), r = 8 trains {} ({}), and the paper's 10,000 \
         compares files at r = 4: {} against {} is {}.",
        units::count(least),
        units::exact(all / least),
        units::count(eight),
        units::exact(all / eight),
        units::bytes(2 * all),
        units::bytes(2 * four),
        units::exact(all / four),
    )
}
