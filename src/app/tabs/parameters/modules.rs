//! Every module that the dial's targets name: its shape, what it trains at the dial's rank, how large that is on disk.

use eframe::egui::{Layout as Direction, RichText, Ui};

use super::View;
use crate::app::effect::Effect;
use crate::app::look::theme::Colors;
use crate::app::shared::names::{common_prefix, in_table};
use crate::app::widgets::menu::Take;
use crate::app::widgets::table::{Entry, Head, Order, Table};
use crate::app::widgets::text::middle;
use crate::app::work::export::Source;
use crate::plan::{Layout, Selection, Weight};
use crate::units;
use crate::workspace::Selection as Chosen;

/// What the section remembers.
#[derive(Default)]
pub struct Modules {
    order: Order,
}

const HEADS: [Head<'static>; 7] = [
    Head { title: "module", tip: "As the checkpoint names it", number: false, width: 230.0 },
    Head { title: "shape", tip: "[out, in]", number: true, width: 96.0 },
    Head { title: "r", tip: "The dial's rank, as far as the shape allows it", number: true, width: 36.0 },
    Head { title: "trainable", tip: "r (d_in + d_out)", number: true, width: 84.0 },
    Head { title: "of the weight", tip: "trainable / parameters", number: true, width: 84.0 },
    Head { title: "in f32", tip: "Bytes of A and B, 4 for each value", number: true, width: 70.0 },
    Head { title: "in f16", tip: "2 bytes for each value", number: true, width: 70.0 },
];

fn entry(weight: &Weight, r: usize, column: usize) -> Entry {
    let r = r.min(weight.max_rank());
    let trainable = weight.cost() * r as u64;
    let number = |n: u64| Entry::number(Some(n as f64), |_| units::exact(n));
    let size = |n: u64| Entry::number(Some(n as f64), |_| units::bytes(n));
    match column {
        0 => Entry::text(&weight.name),
        1 => Entry::number(Some(weight.d_out as f64 * weight.d_in as f64), |_| {
            units::shape(&[weight.d_out, weight.d_in])
        }),
        2 => number(r as u64),
        3 => number(trainable),
        4 => Entry::number(Some(trainable as f64 / weight.parameters.max(1) as f64), units::percent),
        5 => size(4 * trainable),
        _ => size(2 * trainable),
    }
}

impl Modules {
    /// Paints the section.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>, layout: &Layout, selection: Option<&Selection>, open: bool) {
        let r = view.workspace.dial().r;
        let Some(selection) = selection else {
            ui.label(RichText::new("The targets name no module of this model.").color(Colors::of(ui).weak));
            return;
        };
        let weights: Vec<&Weight> = selection.weights(layout).collect();
        let trainable: u64 = weights.iter().map(|weight| weight.cost() * r.min(weight.max_rank()) as u64).sum();
        let rows = || {
            let heads = HEADS.iter().map(|head| head.title.to_owned()).collect();
            let cells =
                weights.iter().map(|weight| (0..HEADS.len()).map(|column| entry(weight, r, column).text).collect());
            std::iter::once(heads).chain(cells).collect()
        };
        let area = ui.available_rect_before_wrap();
        ui.horizontal_wrapped(|ui| {
            let text = format!("{} modules of {} at rank {r}", weights.len(), middle(&layout.name, 28));
            ui.label(RichText::new(text).strong());
            let all = format!(
                "{} trainable, {} of the model; the adapter: {} in f32, {} in f16",
                units::exact(trainable),
                units::percent(trainable as f64 / layout.parameters.max(1) as f64),
                units::bytes(4 * trainable),
                units::bytes(2 * trainable)
            );
            ui.label(RichText::new(all).color(Colors::of(ui).weak));
            ui.with_layout(Direction::right_to_left(eframe::egui::Align::Center), |ui| {
                view.export(ui, "modules", &Take::TABLE, area, || Source::Table(rows()));
            });
        });
        let workspace = view.workspace;
        let prefix = common_prefix(weights.iter().map(|weight| weight.name.as_str()));
        let chosen = Table {
            id: "modules",
            heads: &HEADS,
            rows: weights.len(),
            entry: &|row, column| match column {
                0 => in_table(entry(weights[row], r, 0), prefix),
                _ => entry(weights[row], r, column),
            },
            name: &|row| format!("{}: {} trainable", weights[row].name, units::exact(weights[row].cost() * r as u64)),
            selected: &|row| open && workspace.selection().contains(&weights[row].name),
        }
        .ui(ui, &mut self.order);
        if let Some(row) = chosen.filter(|_| open) {
            view.effects.push(Effect::Select(Chosen::one(&weights[row].name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_of_the_paper() {
        let layout = Layout::preset("gpt3-175b").unwrap();
        let q = layout.weights.iter().find(|weight| weight.leaf() == "q_proj").unwrap();
        // 2 · 12288 · 8 parameters.
        let texts: Vec<String> = (3..7).map(|column| entry(q, 8, column).text).collect();
        assert_eq!(texts, ["196,608", "0.13 %", "786 kB", "393 kB"]);
    }
}
