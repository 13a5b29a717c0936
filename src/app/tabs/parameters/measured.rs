//! Runs that have ended: the memory that was predicted before the first step beside the most that was measured.

use eframe::egui::{Grid, RichText, Ui};

use super::View;
use crate::app::look::theme::Colors;
use crate::app::widgets::menu::Take;
use crate::app::work::export::Source;
use crate::train::history::Past;
use crate::train::memory::Record;
use crate::units;

/// Runs that are listed; the Train tab's history has all of them.
const MOST: usize = 5;
/// A prediction that is no further off is called right.
const NEAR: f64 = 0.1;

/// Paints the list, the newest first.
pub fn ui(ui: &mut Ui, view: &mut View<'_>) {
    let colors = Colors::of(ui);
    let area = ui.available_rect_before_wrap();
    let runs = view.board.runs.as_deref().unwrap_or_default();
    let found: Vec<(&Past, Record, u64)> =
        runs.iter().filter_map(|past| past.memory.and_then(|record| Some((past, record, record.measured?)))).collect();
    let listed = &found[..found.len().min(MOST)];
    ui.horizontal(|ui| {
        ui.label(RichText::new("Predicted and measured").strong());
        let text = match (found.len(), listed.len()) {
            (0, _) => "No run has ended yet; each one will be compared here.".to_owned(),
            (all, shown) if all > shown => format!("the newest {shown} of {all} runs that have ended"),
            (1, _) => "1 run that has ended".to_owned(),
            (all, _) => format!("{all} runs that have ended"),
        };
        ui.label(RichText::new(text).small().color(colors.weak));
        if !found.is_empty() {
            ui.with_layout(eframe::egui::Layout::right_to_left(eframe::egui::Align::Center), |ui| {
                view.export(ui, "memory of runs", &[Take::CopyTsv, Take::SaveCsv], area, || {
                    Source::Table(rows(&found))
                });
            });
        }
    });
    if listed.is_empty() {
        return;
    }
    Grid::new("measured").num_columns(7).spacing([20.0, 3.0]).striped(true).show(ui, |ui| {
        for title in ["run", "method", "rank", "batch × sequence", "predicted", "measured", "difference"] {
            ui.label(RichText::new(title).small().color(colors.weak));
        }
        ui.end_row();
        for (past, record, measured) in listed {
            let off = record.error().unwrap_or_default();
            let color = if off.abs() <= NEAR { colors.good } else { colors.warn };
            ui.label(past.name());
            ui.label(past.settings.method.as_str());
            ui.label(RichText::new(rank(past)).monospace());
            ui.label(RichText::new(format!("{} × {}", past.settings.batch, past.settings.seq)).monospace());
            ui.label(RichText::new(units::bytes(record.predicted.total())).monospace());
            ui.label(RichText::new(units::bytes(*measured)).monospace());
            ui.label(RichText::new(signed(off)).monospace().color(color));
            ui.end_row();
        }
    });
    let note = "Predicted: before the first step, in all. Measured: the most that the process had from then on; of a GPU's memory where one computed. The program may have needed more for something else meanwhile.";
    ui.label(RichText::new(note).small().color(colors.weak));
}

fn rank(past: &Past) -> String {
    if past.settings.method == crate::train::Method::Full { "–".to_owned() } else { past.settings.rank.to_string() }
}

/// `+4.2 %`.
fn signed(share: f64) -> String {
    let sign = if share < 0.0 { "−" } else { "+" };
    format!("{sign}{}", units::percent(share.abs()))
}

fn rows(found: &[(&Past, Record, u64)]) -> Vec<Vec<String>> {
    let titles = ["run", "method", "rank", "batch", "seq", "predicted", "measured", "predicted / measured - 1"];
    let lines = found.iter().map(|(past, record, measured)| {
        let settings = &past.settings;
        vec![
            past.name(),
            settings.method.as_str().to_owned(),
            rank(past),
            settings.batch.to_string(),
            settings.seq.to_string(),
            record.predicted.total().to_string(),
            measured.to_string(),
            record.error().unwrap_or_default().to_string(),
        ]
    });
    std::iter::once(titles.map(str::to_owned).to_vec()).chain(lines).collect()
}
