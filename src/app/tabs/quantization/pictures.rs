//! Weight | quantized | error, or two formats side by side, as linked heatmaps, and what is under the cursor.

use eframe::egui::{Context, Rect, RichText, Ui};

use super::View;
use super::state::{Action, CellFacts, Choice, Need, stored};
use crate::app::look::glossary::{self, Term};
use crate::app::shared::layout::{self, sides};

use crate::app::widgets::heatmap::{Heatmaps, Options, Status};
use crate::app::widgets::menu::Take;
use crate::app::widgets::range::RangeControl;
use crate::app::widgets::tiles::{TileBatch, TileJob};
use crate::app::work::export::Source;
use crate::error::Error;
use crate::figure::{ColorMap, number};
use crate::quant::Measures;
use crate::units;

/// Narrower, the controls stand in two lines.
const NARROW: f32 = 580.0;

/// What the pictures remember between frames: place, range.
pub struct Pictures {
    maps: Heatmaps,
    range: RangeControl,
    area: Rect,
}

impl Default for Pictures {
    /// Each picture has its own range: on the weight's an error is hardly seen.
    fn default() -> Self {
        Self {
            maps: Heatmaps::new("quantization-heatmaps", ["W", "quantized", "error"]),
            range: RangeControl { shared: false, ..RangeControl::default() },
            area: Rect::NOTHING,
        }
    }
}

impl Pictures {
    /// Hands over coloured tiles.
    pub fn deliver(&mut self, ctx: &Context, tiles: Vec<TileBatch>) {
        self.maps.deliver(ctx, tiles);
    }

    /// The tiles that are missing for what was last painted.
    pub fn required(&self) -> Vec<TileJob> {
        self.maps.required()
    }

    /// Paints them into the room there is.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>, choice: &mut Choice) {
        self.area = ui.available_rect_before_wrap();
        self.follow(view, choice);
        sides(ui, NARROW, |ui, right| {
            if right {
                if let Some((_, _, shots)) = view.state.shots() {
                    let area = ui.ctx().content_rect().intersect(self.area);
                    let picture = shots.maps[2].picture.clone();
                    view.export(ui, "quantization heatmaps", &Take::PLOT, area, || Source::Picture(picture));
                }
                if let Some(range) = self.maps.range() {
                    self.range.ui(ui, &range, true);
                }
                return;
            }
            choice.reduction.ui(ui);
            ui.toggle_value(&mut choice.absolute, "magnitudes").on_hover_text("Magnitudes, without signs.");
            let current = view.workspace.selection().current();
            let few = view.workspace.delta().zip(current).is_some_and(|(set, name)| stored(set, name).is_some());
            if few {
                ui.toggle_value(&mut choice.stored, "as stored").on_hover_text(
                    "The weight as the open tuned model holds it (GGUF, GPTQ, AWQ, FP8, …) in place of a format: the error of what really runs",
                );
            }
            choice.stored &= few;
            let need = Need::Look(*choice);
            let quantization = view.state;
            let stopped =
                quantization.looking().is_none() && quantization.error(&need).is_some_and(Error::is_cancelled);
            if stopped && ui.button("Compute pictures again").clicked() {
                view.actions.push(Action::Again(need));
            }
        });
        let quantization = view.state;
        let shown = quantization.fits().map(|(a, _)| a.clone());
        // Blocks of whole rows, or of one cell, are no blocks to be seen.
        let block = shown.as_ref().and_then(|fit| fit.block()).filter(|&block| block > 1);
        let cols = shown.as_ref().map_or(1, |fit| fit.shape()[1].max(1));
        let number = |row: usize, col: usize| block.map_or(0, |block| (row * cols + col) / block);
        let map = if choice.absolute { ColorMap::Viridis } else { ColorMap::Diverging };
        let options = Options {
            map,
            range: self.range,
            axes: ["out", "in"],
            details: None,
            readout: true,
            blocks: block.is_some().then_some(&number),
        };
        let foot = 16.0;
        let room = ui.available_rect_before_wrap();
        let upper = room.with_max_y(room.bottom() - foot);
        ui.scope_builder(eframe::egui::UiBuilder::new().max_rect(upper), |ui| {
            self.maps.ui(ui, &options);
        });
        let lower = room.with_min_y(room.bottom() - foot);
        ui.scope_builder(eframe::egui::UiBuilder::new().max_rect(lower), |ui| self.readout(ui, view, choice));
        ui.advance_cursor_after_rect(room);
    }

    /// One line about the cell under the cursor.
    fn readout(&self, ui: &mut Ui, view: &View<'_>, choice: &Choice) {
        let quantization = view.state;
        let spot = self.maps.spot();
        let found = spot.as_ref().and_then(|spot| quantization.cell(spot.cell[0], spot.cell[1]));
        let (Some(spot), Some((a, b))) = (spot, found) else { return };
        let [row, col] = spot.cell;
        if let Some(stored) = quantization.stored_at(row, col).filter(|_| choice.stored) {
            let [w, stored] = [a.weight, stored].map(|x| number::short(f64::from(x), 5));
            ui.label(RichText::new(format!("row {row}  column {col}  w {w}  as stored {stored}")).small());
            return;
        }
        let mut text = format!("row {row}  column {col}  w {}", number::short(f64::from(a.weight), 5));
        text += &one(if b.is_some() { "A " } else { "" }, &a);
        if let Some(b) = b {
            text += &one("B ", &b);
        }
        ui.add(eframe::egui::Label::new(RichText::new(text).monospace().size(11.0)).truncate());
    }

    fn follow(&mut self, view: &View<'_>, choice: &Choice) {
        let quantization = view.state;
        let need = Need::Look(*choice);
        let failed = quantization.error(&need).filter(|_| quantization.looking().is_none());
        let running = quantization.looking();
        let message = || match (failed, view.workspace.selection().current()) {
            (Some(error), _) if error.is_cancelled() => Status::Message("Stopped".into()),
            (Some(error), _) => Status::Failed(error.to_string()),
            (None, None) => Status::Message("Choose a module in the list".into()),
            (None, Some(_)) => Status::Computing("reading the weight".into(), running.and_then(|s| s.fraction)),
        };
        let shots = quantization.shots().filter(|_| failed.is_none());
        let Some((subject, version, shots)) =
            shots.filter(|_| quantization.is_shown(view.workspace) || running.is_some())
        else {
            for i in 0..3 {
                self.maps.hide(i);
                self.maps.set_status(i, message());
            }
            return;
        };
        for (i, shot) in shots.maps.iter().enumerate() {
            self.maps.show(i, subject, version, shot.picture.clone());
            self.maps.set_title(i, &shot.title);
            let status = match shots.sketch {
                true => Status::Computing("sketch from a part of the rows".into(), running.and_then(|s| s.fraction)),
                false => Status::Ready,
            };
            self.maps.set_status(i, status);
        }
    }
}

/// `ŵ`, error, code, block and scale of a cell.
fn one(name: &str, cell: &CellFacts) -> String {
    let short = |x: f32| number::short(f64::from(x), 4);
    let mut text =
        format!("  {name}ŵ {}  error {}", number::short(f64::from(cell.rounded), 5), short(cell.rounded - cell.weight));
    if let Some(code) = cell.code.code {
        text += &format!("  code {code}");
    }
    if let Some(block) = cell.code.block {
        text += &format!("  block {}", units::exact(block as u64));
    }
    if let Some(scale) = cell.code.scale {
        text += &format!("  scale {}", short(scale));
    }
    if let Some(zero) = cell.code.zero {
        text += &format!("  from {}", short(zero));
    }
    text
}

/// What is to be said about the whole weight in the format; a line for each of two.
pub fn facts(ui: &mut Ui, view: &View<'_>) {
    let Some(name) = view.workspace.selection().current() else { return };
    let quantization = view.state;
    let all = if quantization.is_shown(view.workspace) { quantization.facts() } else { &[] };
    // As many lines as there will be: nothing below moves when the numbers come.
    let lines = quantization.fits().map_or(1, |(_, b)| 1 + usize::from(b.is_some()));
    for index in 0..lines {
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing.x = 14.0;
            let facts = all.get(index);
            let head = match lines {
                1 => name.to_owned(),
                _ => format!(
                    "{}  {}",
                    ["A", "B"][index.min(1)],
                    facts.map_or_else(String::new, |f| f.recipe.to_string())
                ),
            };
            ui.label(RichText::new(head).strong());
            for (term, text) in facts.map(|f| measures(f.bits, &f.measures)).into_iter().flatten() {
                fact(ui, term, text);
            }
        });
    }
}

fn fact(ui: &mut Ui, (name, term): (&str, Term), text: String) {
    layout::fact(ui, name, text).on_hover_ui(|ui| term.ui(ui));
}

type Fact = ((&'static str, Term), String);

fn measures(bits: f64, m: &Measures) -> Vec<Fact> {
    let at = format!("{} at {}, {}", number::whole(m.max_abs, 3), m.max_at[0], m.max_at[1]);
    vec![
        (("bits/weight", glossary::BITS), format!("{bits:.3}")),
        (("error", glossary::RELATIVE_RMSE), units::percent(m.relative_rmse)),
        (("SQNR", glossary::SQNR), format!("{} dB", number::whole(m.sqnr_db, 4))),
        (("max", glossary::MAX_ERROR), at),
    ]
}
