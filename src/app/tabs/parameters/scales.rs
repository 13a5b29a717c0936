//! The scale doctor: effective scales of the open adapter's modules and what is amiss with them.

use eframe::egui::{Button, Layout, RichText, Ui};

use super::View;
use crate::app::effect::Effect as Open;
use crate::app::look::theme::Colors;
use crate::app::shared::blank;
use crate::app::shared::names::{common_prefix, in_table};
use crate::app::widgets::menu::Take;
use crate::app::widgets::table::{Entry, Head, Order, Table};
use crate::app::work::dialog::Question;
use crate::app::work::export::Source;
use crate::plan::doctor::{Diagnosis, Weight};
use crate::plan::serve::{Effect, Verdict};
use crate::units;

/// What the section remembers.
#[derive(Default)]
pub struct Scales {
    order: Order,
}

const HEADS: [Head<'static>; 5] = [
    Head { title: "module", tip: "As the base names it", number: false, width: 260.0 },
    Head { title: "r", tip: "Rank after rank_pattern", number: true, width: 40.0 },
    Head { title: "α", tip: "lora_alpha after alpha_pattern", number: true, width: 50.0 },
    Head { title: "scale s", tip: "α/r, or α/√r with rsLoRA: what multiplies B·A", number: true, width: 70.0 },
    Head {
        title: "s ‖B‖ ‖A‖",
        tip: "No norm of ΔW is larger; 0 for a B that was never trained",
        number: true,
        width: 90.0,
    },
];

fn entry(found: &Diagnosis, row: usize, column: usize) -> Entry {
    let scale = &found.scales[row];
    let real = |x: f64| Entry::number(Some(x).filter(|x| x.is_finite()), |x| units::real(x, 4));
    match column {
        0 => Entry::text(&scale.module),
        1 => Entry::number(Some(scale.r as f64), |n| format!("{n:.0}")),
        2 => real(scale.lora_alpha),
        3 => real(scale.scaling),
        _ => real(scale.bound),
    }
}

impl Scales {
    /// Paints the section.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let colors = Colors::of(ui);
        let Some(found) = view.state.diagnosis() else {
            const PARTS: [(&str, &str); 3] = [
                (
                    "Findings",
                    "α left at its default, rsLoRA that other programs ignore, patterns that match nothing, a B of zeros",
                ),
                ("Will it be served?", "what vLLM, llama.cpp, Ollama, MLX and others do with this adapter"),
                ("Scales", "rank, α and s of every module, with the norm that ΔW cannot pass"),
            ];
            blank::ui(ui, "No adapter is open", "Open an adapter on this base: it is checked at once.", &PARTS);
            ui.horizontal_wrapped(|ui| {
                for beside in view.board.beside.iter().filter(|beside| beside.is_adapter()) {
                    let text = RichText::new(format!("Check {}", beside.name())).strong();
                    let button = Button::new(text.color(ui.visuals().extreme_bg_color)).fill(colors.accent);
                    if ui.add(button).clicked() {
                        view.effects.push(Open::Open(beside.request()));
                    }
                }
                if ui.button("Open an adapter…").clicked() {
                    view.effects.push(Open::Ask(Question::AdapterFolder));
                }
            });
            return;
        };
        if found.findings.is_empty() {
            ui.label(RichText::new("✓ No problem found.").color(colors.good));
        }
        for finding in &found.findings {
            let (mark, color) = match finding.weight {
                Weight::Warning => ("!", colors.warn),
                Weight::Note => ("·", colors.weak),
            };
            ui.horizontal_wrapped(|ui| {
                ui.label(RichText::new(mark).strong().color(color));
                ui.label(&finding.text);
                ui.label(RichText::new(&finding.advice).color(colors.weak));
            });
        }
        served(ui, view.state.served());
        ui.add_space(8.0);
        let area = ui.available_rect_before_wrap();
        ui.horizontal(|ui| {
            ui.label(RichText::new("Effective scales").strong());
            ui.with_layout(Layout::right_to_left(eframe::egui::Align::Center), |ui| {
                view.export(ui, "scales", &Take::TABLE, area, || Source::Table(rows(found)));
            });
        });
        let prefix = common_prefix(found.scales.iter().map(|scale| scale.module.as_str()));
        Table {
            id: "scales",
            heads: &HEADS,
            rows: found.scales.len(),
            entry: &|row, column| match column {
                0 => in_table(entry(found, row, 0), prefix),
                _ => entry(found, row, column),
            },
            name: &|row| format!("{}: scale {}", found.scales[row].module, units::real(found.scales[row].scaling, 4)),
            selected: &|_| false,
        }
        .ui(ui, &mut self.order);
    }
}

/// What each program that serves adapters does with this one: those that apply all of it first.
fn served(ui: &mut Ui, served: &[(&str, Vec<Verdict>)]) {
    let colors = Colors::of(ui);
    ui.add_space(6.0);
    ui.label(RichText::new("Will it be served?").strong());
    for (name, verdicts) in served {
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new(*name).strong());
            let Some(worst) = verdicts.first() else {
                ui.label(RichText::new("✓ applies all of it").color(colors.good));
                return;
            };
            let color = if worst.effect == Effect::Refuses { colors.bad } else { colors.warn };
            ui.label(RichText::new(worst.effect.as_str()).color(color));
            for verdict in verdicts {
                ui.label(&verdict.text).on_hover_text(verdict.source);
            }
        });
    }
    let command = "rankscope doctor --for NAME --repair DIR writes a copy that is applied whole";
    ui.label(RichText::new(command).small().color(colors.weak));
}

fn rows(found: &Diagnosis) -> Vec<Vec<String>> {
    let heads = HEADS.iter().map(|head| head.title.to_owned()).collect();
    let cells =
        (0..found.scales.len()).map(|row| (0..HEADS.len()).map(|column| entry(found, row, column).text).collect());
    std::iter::once(heads).chain(cells).collect()
}
