//! The table of all formats on the current module.

use eframe::egui::{Align, Layout, RichText, Ui};

use super::View;
use super::state::{Choice, FormatRow, Need};
use crate::app::look::theme::Colors;
use crate::app::widgets::menu::Take;
use crate::app::widgets::table::{Entry, Head, Order, Table};
use crate::app::work::export::Source;
use crate::figure::number;
use crate::quant::Measures;
use crate::units;

/// What the table remembers between frames.
pub struct Formats {
    order: Order,
    matched: bool,
}

impl Default for Formats {
    /// At the same number of bits: the only fair comparison.
    fn default() -> Self {
        Self { order: Order(None), matched: true }
    }
}

const HEADS: [Head<'static>; 10] = [
    head("Format", "How the values are written; click a row to show it.", false, 130.0),
    head("block", "Weights that share a scale.", true, 52.0),
    head(
        "bits/weight",
        "Codes, scales, zero points and nested constants; not the codebook, which is the same for all.",
        true,
        82.0,
    ),
    head("relative error", "‖Ŵ − W‖ / ‖W‖", true, 96.0),
    head("RMSE", "√ mean (ŵ − w)²", true, 76.0),
    head("max", "max |ŵ − w|", true, 76.0),
    head("median", "Half of the |ŵ − w| are smaller.", true, 76.0),
    head("95 %", "95 % of the |ŵ − w| are not larger.", true, 76.0),
    head("SQNR dB", "20 log₁₀ (‖W‖ / ‖Ŵ − W‖); 6.02 dB are one bit.", true, 70.0),
    head("bias", "mean (ŵ − w)", true, 76.0),
];

/// So many bits per weight apart, formats still compete.
const NEAR: f64 = 0.75;

const fn head(title: &'static str, tip: &'static str, number: bool, width: f32) -> Head<'static> {
    Head { title, tip, number, width }
}

impl Formats {
    /// What the table needs.
    pub fn need(&self, choice: &Choice) -> Need {
        Need::Formats { like: choice.a, matched: self.matched }
    }

    /// Paints the table; a click on a row shows its format.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>, choice: &mut Choice) {
        let mut rows: Vec<&FormatRow> = view.state.formats().iter().collect();
        let shown = rows.iter().find(|row| row.recipe == choice.a && row.stored.is_none()).map_or(4.0, |row| row.bits);
        // Those of about as many bits first, the best of them on top; then the others.
        let error = |row: &FormatRow| row.result.as_ref().map_or(f64::INFINITY, |found| found.relative_rmse);
        rows.sort_by(|a, b| {
            let far = |row: &FormatRow| (row.bits - shown).abs() > NEAR;
            // What is really stored on top.
            let own = |row: &FormatRow| row.stored.is_none();
            own(a).cmp(&own(b)).then(far(a).cmp(&far(b))).then(error(a).total_cmp(&error(b)))
        });
        let entry = |row: usize, column: usize| cell(rows[row], column);
        let name = |row: usize| match &rows[row].stored {
            Some(stored) => format!("As stored: {stored}"),
            None => format!("Format {}", rows[row].recipe),
        };
        let selected = |row: usize| match rows[row].stored {
            Some(_) => choice.stored,
            None => !choice.stored && (rows[row].recipe == choice.a || Some(rows[row].recipe) == choice.b),
        };
        let table =
            Table { id: "formats", heads: &HEADS, rows: rows.len(), entry: &entry, name: &name, selected: &selected };
        let area = ui.available_rect_before_wrap();
        ui.horizontal(|ui| {
            ui.checkbox(&mut self.matched, "at matched bits").on_hover_text(
                "Every format that leaves the choice gets the block at which it comes nearest to the bits per weight of the format that is shown. \
                 Otherwise all get its block.",
            );
            let weak = Colors::of(ui).weak;
            ui.label(RichText::new("click a row to show it; with Ctrl, beside the other").small().color(weak));
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                view.export(ui, "formats", &Take::TABLE, area, || Source::Table(cells(&rows)));
            });
        });
        if let Some(row) = table.ui(ui, &mut self.order).filter(|&row| rows[row].result.is_ok()) {
            let beside = ui.input(|i| i.modifiers.command);
            choice.stored = rows[row].stored.is_some();
            if choice.stored {
                return;
            }
            if beside { choice.b = Some(rows[row].recipe) } else { choice.a = rows[row].recipe }
        }
    }
}

fn cell(row: &FormatRow, column: usize) -> Entry {
    let measure = |pick: fn(&Measures) -> f64, write: fn(f64) -> String| match &row.result {
        Ok(found) => Entry::number(Some(pick(found)), write),
        Err(problem) => Entry::number(None, write).tip(problem.clone()),
    };
    let short = |x: f64| number::whole(x, 3);
    match column {
        0 if let Some(stored) = &row.stored => {
            Entry::text(format!("as stored: {stored}")).tip("What the open tuned model really holds of this weight")
        }
        1 if row.stored.is_some() => Entry::text(""),
        0 => {
            let double = if row.recipe.double_quant { " + double" } else { "" };
            let tip = row.result.as_ref().err().cloned().unwrap_or_else(|| row.recipe.format.rule().to_owned());
            Entry::text(format!("{}{double}", row.recipe.format.title())).tip(tip)
        }
        1 => Entry { text: row.recipe.group_text(), key: None, ..Entry::default() },
        2 => Entry::number(Some(row.bits), |x| format!("{x:.3}")),
        3 => measure(|m| m.relative_rmse, units::percent),
        4 => measure(|m| m.rmse, short),
        5 => measure(|m| m.max_abs, short),
        6 => measure(|m| m.median, short),
        7 => measure(|m| m.p95, short),
        8 => measure(|m| m.sqnr_db, |x| number::whole(x, 4)),
        _ => measure(|m| m.bias, short),
    }
}

/// The table as it is read.
pub fn said(rows: &[FormatRow]) -> Vec<Vec<String>> {
    let heads = HEADS.iter().map(|head| head.title.to_owned()).collect();
    let line = |row: &FormatRow| (0..HEADS.len()).map(|column| cell(row, column).text).collect();
    std::iter::once(heads).chain(rows.iter().map(line)).collect()
}

/// The table in full precision: what is copied.
fn cells(rows: &[&FormatRow]) -> Vec<Vec<String>> {
    let mut all = vec![
        [
            "format",
            "block",
            "bits_per_weight",
            "relative_rmse",
            "rmse",
            "max_abs",
            "median",
            "p95",
            "sqnr_db",
            "cosine",
            "bias",
        ]
        .map(String::from)
        .to_vec(),
    ];
    for row in rows {
        let mut line = match &row.stored {
            Some(stored) => vec![format!("stored {stored}"), String::new(), row.bits.to_string()],
            None => vec![row.recipe.format.to_string(), row.recipe.group_text(), row.bits.to_string()],
        };
        match &row.result {
            Ok(m) => line.extend(
                [m.relative_rmse, m.rmse, m.max_abs, m.median, m.p95, m.sqnr_db, m.cosine, m.bias]
                    .map(|x| x.to_string()),
            ),
            Err(problem) => line.push(problem.clone()),
        }
        all.push(line);
    }
    all
}
