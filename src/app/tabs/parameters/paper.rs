//! The LoRA paper's table of every way to tune GPT-3, beside its own formulas; and quality against parameters.

use std::sync::LazyLock;

use eframe::egui::{Align, Layout, RichText, Ui, vec2};

use super::View;
use crate::app::look::theme::Colors;
use crate::app::widgets::menu::Take;
use crate::app::widgets::table::{Entry, Head, Order, Table};
use crate::app::work::export::Source;
use crate::figure::{Axis, Figure, Mark, Series, Style};
use crate::plan::paper::{PaperRow, table};
use crate::units;

/// Which accuracy is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Task {
    #[default]
    WikiSql,
    Mnli,
}

impl Task {
    const ALL: [(Self, &'static str); 2] = [(Self::WikiSql, "WikiSQL"), (Self::Mnli, "MNLI-m")];

    fn of(self, row: &PaperRow) -> f64 {
        match self {
            Self::WikiSql => row.wikisql,
            Self::Mnli => row.mnli,
        }
    }
}

/// What the section remembers.
#[derive(Default)]
pub struct Paper {
    order: Order,
    task: Task,
}

const HEADS: [Head<'static>; 8] = [
    Head { title: "method", tip: "As the paper calls it", number: false, width: 84.0 },
    Head { title: "setting", tip: "Hyper-parameters, in the paper's letters", number: false, width: 120.0 },
    Head {
        title: "formula",
        tip: "What the paper's formula (§5.1) gives for GPT-3 175B: d = 12288, L = 96",
        number: true,
        width: 126.0,
    },
    Head { title: "printed", tip: "What table 15 prints", number: true, width: 88.0 },
    Head { title: "difference", tip: "formula − printed", number: true, width: 104.0 },
    Head { title: "WikiSQL", tip: "Accuracy on the validation set, %", number: true, width: 60.0 },
    Head { title: "MNLI-m", tip: "Accuracy on the validation set, %", number: true, width: 60.0 },
    Head { title: "where they disagree", tip: "Why formula and print differ", number: false, width: 160.0 },
];

fn entry(row: &PaperRow, column: usize) -> Entry {
    let exact = |n: u64| units::exact(n);
    match column {
        0 => Entry::text(row.method),
        1 => Entry::text(&row.setting).tip(row.expression),
        2 => Entry::number(Some(row.formula as f64), |_| exact(row.formula)).tip(row.expression),
        3 => Entry::number(Some(row.printed_parameters as f64), |_| row.printed.to_owned()),
        4 => {
            let difference = row.difference();
            let sign = if difference < 0 { "−" } else { "+" };
            Entry::number(Some(difference as f64), |_| format!("{sign}{}", exact(difference.unsigned_abs())))
        }
        5 => Entry::number(Some(row.wikisql), |x| format!("{x:.1}")),
        6 => Entry::number(Some(row.mnli), |x| format!("{x:.1}")),
        _ => match row.note {
            Some(note) => Entry::sentence(note),
            None => Entry::text(""),
        },
    }
}

fn rows() -> Vec<Vec<String>> {
    let heads = HEADS.iter().map(|head| head.title.to_owned()).collect();
    let cells = table().iter().map(|row| (0..HEADS.len()).map(|column| entry(row, column).text).collect());
    std::iter::once(heads).chain(cells).collect()
}

/// Methods in the order of the table.
static METHODS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut methods: Vec<&'static str> = Vec::new();
    for row in table() {
        if !methods.contains(&row.method) {
            methods.push(row.method);
        }
    }
    methods
});

fn figure(task: Task) -> Figure {
    let name = Task::ALL.iter().find(|(other, _)| *other == task).map_or("", |(_, name)| name);
    let mut figure = Figure {
        title: format!("{name} accuracy against trainable parameters, GPT-3 175B"),
        x: Axis::log("trainable parameters"),
        y: Axis::linear(format!("{name} accuracy, %")),
        ..Figure::default()
    };
    for method in METHODS.iter() {
        let points = table().iter().filter(|row| row.method == *method);
        let points: Vec<[f64; 2]> = points.map(|row| [row.formula as f64, task.of(row)]).collect();
        figure.series.push(Series::line(*method, points).style(Style::Points));
    }
    let full = table().iter().find(|row| row.method == "Fine-Tune");
    figure.marks.extend(full.map(|row| Mark { name: "full fine-tuning".into(), at: task.of(row), vertical: false }));
    figure
}

impl Paper {
    /// Paints the section.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let wide = ui.available_width() > 1360.0;
        if wide {
            let room = ui.available_size();
            ui.horizontal_top(|ui| {
                ui.allocate_ui(vec2(room.x * 0.64, room.y), |ui| ui.vertical(|ui| self.table(ui, view)));
                ui.add_space(16.0);
                ui.allocate_ui(vec2(ui.available_width(), room.y), |ui| ui.vertical(|ui| self.plot(ui, view)));
            });
        } else {
            let height = ui.available_height();
            ui.allocate_ui(vec2(ui.available_width(), height * 0.45), |ui| self.plot(ui, view));
            ui.add_space(8.0);
            self.table(ui, view);
        }
    }

    fn table(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let area = ui.available_rect_before_wrap();
        ui.horizontal(|ui| {
            ui.label(RichText::new("Every way that the LoRA paper tunes GPT-3 175B").strong())
                .on_hover_text("Table 15 of arXiv 2106.09685v2, beside what its formulas give");
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                view.export(ui, "the paper's table", &Take::TABLE, area, || Source::Table(rows()));
            });
        });
        let all = table();
        Table {
            id: "paper",
            heads: &HEADS,
            rows: all.len(),
            entry: &|row, column| entry(&all[row], column),
            name: &|row| format!("{} {}", all[row].method, all[row].setting),
            selected: &|_| false,
        }
        .ui(ui, &mut self.order);
    }

    fn plot(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let figure = figure(self.task);
        let area = ui.available_rect_before_wrap();
        ui.horizontal(|ui| {
            ui.label(RichText::new("Quality against parameters").strong());
            for (task, name) in Task::ALL {
                ui.selectable_value(&mut self.task, task, name);
            }
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                view.export(ui, "quality against parameters", &Take::PLOT, area, || {
                    Source::Figure(Box::new(figure.clone()))
                });
            });
        });
        let weak = Colors::of(ui).weak;
        let text = "More parameters are not better for prefixes: past about 3M PrefixEmbed falls, past 20M PrefixLayer does. LoRA is flat from 4.7M on.";
        ui.label(RichText::new(text).small().color(weak));
        figure.ui(ui, "quality", |_| ());
    }
}
