//! Chapter 8, third page: whether 4 bits are faster, measured; and what a phone can hold.

use eframe::egui::{Grid, RichText, Ui};

use super::View;
use super::pieces::{said, weak};
use super::state::{Action, RunFrom, SpeedRow};
use crate::app::look::theme::Colors;
use crate::figure::number::short;
use crate::units;

/// Memory of a usual phone, of which a part is the system's.
const PHONE: u64 = 8_000_000_000;

/// Paints it.
pub fn ui(ui: &mut Ui, view: &mut View<'_>) {
    let speed = &view.state.speed;
    ui.horizontal_wrapped(|ui| {
        if speed.running().is_some() {
            ui.spinner();
            weak(ui, "The bundled model writes 48 tokens, three times in each form …");
        } else if ui.button("Measure it here").clicked() {
            view.actions.push(Action::Measure);
        }
        if let Some(problem) = speed.problem() {
            ui.label(RichText::new(format!("{problem}.")).color(Colors::of(ui).bad));
        }
    });
    let rows = speed.rows();
    if !rows.is_empty() {
        ui.add_space(4.0);
        Grid::new("speed").num_columns(3).spacing([28.0, 6.0]).show(ui, |ui| {
            for head in ["weights", "memory of the weights", "speed"] {
                weak(ui, head);
            }
            ui.end_row();
            for row in rows {
                ui.label(name(row));
                ui.label(RichText::new(units::bytes(row.bytes as u64)).monospace());
                ui.label(RichText::new(format!("{} tokens/s", short(row.tokens_per_s, 3))).monospace());
                ui.end_row();
            }
        });
    }
    ui.add_space(6.0);
    let [sixteen, four, adapter] = view.state.ways.phone();
    let fits = |bytes: u64| if bytes < PHONE { "fits" } else { "does not fit" };
    ui.label(format!(
        "On a phone: LLaMA 7B takes {} in 16 bits, which {} 8 GB; in 4 bits it takes {}, and an adapter of rank 8 {} more: {}.",
        units::bytes(sixteen),
        fits(sixteen),
        units::bytes(four),
        units::bytes(adapter),
        fits(four + adapter),
    ));
    said(ui, "LoRA and QLoRA make a model faster.", &truth(rows));
}

fn name(row: &SpeedRow) -> &'static str {
    match row.kept {
        RunFrom::AsStored => "as stored; merged is the same",
        RunFrom::FourBit => "in 4 bits (NF4)",
        RunFrom::Adapter => "as stored, an adapter beside them",
    }
}

/// What the measurement says.
fn truth(rows: &[SpeedRow]) -> String {
    let [stored, four, adapter] = rows else {
        return "They make training cheaper. Measure what they do to writing: 4 bits save memory; each weight has to be turned \
                back into a number before it is used."
            .to_owned();
    };
    let against = |row: &SpeedRow| {
        let ratio = row.tokens_per_s / stored.tokens_per_s;
        match ratio {
            0.95..1.05 => "as fast".to_owned(),
            ratio if ratio < 1.0 => format!("{} slower", units::percent(1.0 - ratio)),
            ratio => format!("{} faster", units::percent(ratio - 1.0)),
        }
    };
    format!(
        "Here, in 4 bits: {} of the memory, {}. With the adapter beside the weights: {}; merged, it is the first row again. Where a \
         large model waits for its memory, as on many GPUs, reading fewer bytes can be faster; the arithmetic never is.",
        units::percent(four.bytes as f64 / stored.bytes.max(1) as f64),
        against(four),
        against(adapter),
    )
}
