//! Predicted memory: stacked bars for full, LoRA and QLoRA, real GPUs beside them, and the largest of everything that fits.

use eframe::egui::{
    Align2, ComboBox, DragValue, FontId, Grid, Rect, RichText, ScrollArea, Sense, Stroke, Ui, WidgetInfo, pos2, vec2,
};

use super::View;
use super::state::{Action, Needs};
use crate::app::look::glossary;
use crate::app::look::palette;
use crate::app::look::theme::Colors;
use crate::app::widgets::menu::Take;
use crate::app::widgets::swatch::swatch;
use crate::app::work::export::Source;
use crate::plan::memory::{CONTEXT, GPUS, Largest, Optimizer, Precision, Verdict};
use crate::plan::{Load, Memory, Method};
use crate::units;

use super::measured;

/// What the section remembers.
pub struct MemoryTab {
    /// Whether full fine-tuning is drawn: it dwarfs the others.
    full: bool,
}

impl Default for MemoryTab {
    fn default() -> Self {
        Self { full: true }
    }
}

const NAMES: [&str; 3] = ["Full", "LoRA", "QLoRA"];
const BAR: f32 = 26.0;
const ROW: f32 = 44.0;
const LEFT: f32 = 56.0;

impl MemoryTab {
    /// Paints the section.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        self.controls(ui, view);
        ui.add_space(6.0);
        let needs = match view.state.needs() {
            Some(Ok(needs)) => needs.clone(),
            Some(Err(error)) => {
                ui.label(RichText::new(error.to_string()).color(Colors::of(ui).bad));
                return;
            }
            None => {
                ui.label(RichText::new("Predicting …").color(Colors::of(ui).weak));
                return;
            }
        };
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            self.bars(ui, view, &needs);
            ui.add_space(14.0);
            measured::ui(ui, view);
            ui.add_space(14.0);
            rooms(ui, view, &needs);
        });
    }

    fn controls(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let mut load = *view.state.load();
        let before = load;
        let weak = Colors::of(ui).weak;
        ui.horizontal_wrapped(|ui| {
            let number = |ui: &mut Ui, name: &str, value: &mut usize, most: usize, tip: &str| {
                let label = ui.label(RichText::new(name).color(weak));
                let drag = DragValue::new(value).range(1..=most).speed(0.2);
                ui.add(drag).on_hover_text(tip).labelled_by(label.id);
            };
            number(ui, "batch", &mut load.batch, 4096, "Sequences of a micro-batch");
            number(ui, "sequence", &mut load.seq, 1 << 20, "Tokens of a sequence");
            ui.checkbox(&mut load.checkpointing, "checkpointing")
                .on_hover_text("Keep only the blocks' inputs and compute the rest again: a third more time");
            ui.checkbox(&mut load.scheme.double_quant, "double quantization")
                .on_hover_text("QLoRA's scales in 8 bits: 0.373 bit less for each weight at block 64");
            let combo = ComboBox::from_id_salt("optimizer").selected_text(load.optimizer.as_str()).width(96.0);
            let combo = combo.show_ui(ui, |ui| {
                for optimizer in Optimizer::ALL {
                    let name = if optimizer.is_here() {
                        optimizer.as_str().to_owned()
                    } else {
                        format!("{optimizer} (elsewhere)")
                    };
                    ui.selectable_value(&mut load.optimizer, optimizer, name);
                }
            });
            combo
                .response
                .on_hover_text("What the optimizer keeps; this engine has adamw")
                .accessible_name("Optimizer");
            let name = |precision| if precision == Precision::F32 { "f32" } else { "bf16" };
            let combo = ComboBox::from_id_salt("precision").selected_text(name(load.precision)).width(64.0);
            let combo = combo.show_ui(ui, |ui| {
                ui.selectable_value(&mut load.precision, Precision::F32, "f32");
                ui.selectable_value(&mut load.precision, Precision::Bf16, "bf16 (on a GPU)");
            });
            combo.response.on_hover_text("Type of what is trained and of activations").accessible_name("Precision");
            ui.checkbox(&mut self.full, "show full").on_hover_text("Full fine-tuning dwarfs the others");
        });
        if load != before {
            view.actions.push(Action::Load(load));
        }
    }

    fn bars(&mut self, ui: &mut Ui, view: &mut View<'_>, needs: &Needs) {
        let area = ui.available_rect_before_wrap();
        let dark = ui.visuals().dark_mode;
        let colors = Colors::of(ui);
        ui.horizontal(|ui| {
            let title = format!(
                "Memory of {}, rank {} on {}",
                needs.model,
                needs.r,
                crate::app::shared::targets::name(&needs.targets)
            );
            ui.label(RichText::new(title).strong()).on_hover_ui(|ui| glossary::MEMORY.ui(ui));
            ui.with_layout(eframe::egui::Layout::right_to_left(eframe::egui::Align::Center), |ui| {
                view.export(ui, "memory", &[Take::CopyPng, Take::SavePng, Take::CopyTsv, Take::SaveCsv], area, || {
                    Source::Table(rows(needs))
                });
            });
        });
        let shown: Vec<usize> = (0..3).filter(|&at| self.full || at > 0).collect();
        let most = shown.iter().map(|&at| needs.needs[at].parts.total()).max().unwrap_or(1) as f64 * 1.08;
        let height = ROW * shown.len() as f32 + 34.0;
        let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::hover());
        let plot = Rect::from_min_max(
            pos2(rect.left() + LEFT, rect.top() + 16.0),
            pos2(rect.right() - 90.0, rect.bottom() - 18.0),
        );
        let x = |bytes: f64| plot.left() + (bytes / most) as f32 * plot.width();
        let font = FontId::proportional(11.0);
        // GPUs as lines, as far as they are apart.
        let mut last = f32::NEG_INFINITY;
        for gpu in &GPUS {
            let at = x(gpu.bytes() as f64);
            if at > plot.right() || at - last < 44.0 {
                continue;
            }
            last = at;
            ui.painter().vline(at, plot.y_range(), Stroke::new(1.0, colors.line));
            ui.painter().text(
                pos2(at, plot.top() - 2.0),
                Align2::CENTER_BOTTOM,
                format!("{} GB card", gpu.gib),
                font.clone(),
                colors.weak,
            );
        }
        for (row, &at) in shown.iter().enumerate() {
            let need = &needs.needs[at];
            let top = plot.top() + ROW * row as f32 + (ROW - BAR) / 2.0;
            let text = ui.visuals().text_color();
            ui.painter().text(
                pos2(plot.left() - 10.0, top + BAR / 2.0),
                Align2::RIGHT_CENTER,
                NAMES[at],
                FontId::proportional(13.0),
                text,
            );
            let mut from = 0.0;
            for (number, part) in need.parts.parts().iter().enumerate() {
                let to = from + part.bytes as f64;
                let body = Rect::from_min_max(pos2(x(from), top), pos2(x(to), top + BAR));
                if body.width() > 0.2 {
                    ui.painter().rect_filled(body, 0.0, palette::memory(number, dark));
                }
                from = to;
            }
            let total = need.parts.total();
            let end = pos2(x(total as f64) + 6.0, top + BAR / 2.0);
            ui.painter().text(end, Align2::LEFT_CENTER, units::bytes(total), FontId::proportional(12.0), text);
            let whole =
                Rect::from_min_max(pos2(plot.left(), top), pos2(x(total as f64).max(plot.left() + 4.0), top + BAR));
            let response = ui.interact(whole, ui.scope_id().with(("memory", at)), Sense::hover());
            let name = format!("{} needs {}", NAMES[at], units::bytes(total));
            response.widget_info(|| WidgetInfo::labeled(eframe::egui::Role::Label, true, &name));
            response.on_hover_ui(|ui| parts(ui, NAMES[at], &need.parts, Method::ALL[at]));
        }
        // The legend, with the sizes of the method that is chosen.
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing.x = 14.0;
            for (number, part) in needs.needs[2].parts.parts().iter().enumerate() {
                let engine = if part.engine { "*" } else { "" };
                let name = format!("{}{engine}", said(part.name, Method::Qlora));
                swatch(ui, palette::memory(number, dark), &name);
            }
            ui.label(
                RichText::new("* estimated for Rankscope's own engine, without this window").small().color(colors.weak),
            );
        });
    }
}

/// A part by the name that papers use. What a full fine-tune trains are the weights themselves.
fn said(part: &'static str, method: Method) -> &'static str {
    match part {
        "constants" => "quantization scales, norms",
        "adapters" if method == Method::Full => "weights",
        "adapters" => "adapter A, B",
        "optimizer" => "Adam's averages",
        "workspace" => "buffers",
        "process" => "program",
        other => other,
    }
}

fn parts(ui: &mut Ui, name: &str, memory: &Memory, method: Method) {
    ui.label(RichText::new(name).strong());
    Grid::new("parts").num_columns(2).show(ui, |ui| {
        for part in memory.parts().into_iter().filter(|part| part.bytes > 0) {
            ui.label(said(part.name, method));
            ui.label(RichText::new(units::bytes(part.bytes)).monospace());
            ui.end_row();
        }
    });
}

/// Verdicts for real GPUs and this machine.
fn rooms(ui: &mut Ui, view: &mut View<'_>, needs: &Needs) {
    let colors = Colors::of(ui);
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new("What it fits into").strong());
        ui.label(RichText::new("largest rank, batch and context of").small().color(colors.weak));
        for (method, name) in Method::ALL.into_iter().zip(NAMES) {
            if ui.selectable_label(needs.load.method == method, name).clicked() {
                view.actions.push(Action::Load(Load { method, ..needs.load }));
            }
        }
    });
    let number = |n: Option<usize>| n.map_or_else(|| "–".to_owned(), |n| units::exact(n as u64));
    Grid::new("rooms").num_columns(8).spacing([20.0, 3.0]).striped(true).show(ui, |ui| {
        for title in ["memory", "size", "Full", "LoRA", "QLoRA", "rank", "batch", "context"] {
            ui.label(RichText::new(title).small().color(colors.weak));
        }
        ui.end_row();
        for room in &needs.rooms {
            ui.label(&room.name);
            let size = room.sold.map_or_else(|| units::bytes(room.bytes), |gib| format!("{gib} GB"));
            ui.label(RichText::new(size).monospace()).on_hover_text(units::bytes(room.bytes));
            for (verdict, name) in room.verdicts.into_iter().zip(NAMES) {
                let color = match verdict {
                    Verdict::Fits => colors.good,
                    Verdict::Tight => colors.warn,
                    Verdict::DoesNot => colors.bad,
                };
                let label = ui.label(RichText::new(verdict.as_str()).color(color));
                let name = format!("{name} {} {}", verdict.as_str(), room.name);
                label.widget_info(|| WidgetInfo::labeled(eframe::egui::Role::Label, true, &name));
            }
            let any = room.largest.rank.is_some_and(|most| most >= needs.largest);
            let rank = if any { "any".to_owned() } else { number(room.largest.rank) };
            ui.label(RichText::new(rank).monospace()).on_hover_text(number(room.largest.rank));
            let context = room.largest.context(|seq| units::exact(seq as u64));
            let batch = room.largest.sequences(|batch| units::exact(batch as u64));
            for most in [batch, context] {
                ui.label(RichText::new(most).monospace());
            }
            ui.end_row();
        }
    });
    let marks = Largest::marks(needs.rooms.iter().map(|room| &room.largest));
    let mut note = "Each of rank, batch and context with the others as they are".to_owned();
    for mark in marks {
        note += &format!("; {mark}");
    }
    note += &format!(
        ". Tight: less than a tenth to spare. A card of 8 GB holds 8 GiB, 8.59 GB. On a GPU {} are added for the driver's context and \
         cuBLAS, an estimate.",
        units::bytes(CONTEXT)
    );
    ui.label(RichText::new(note).small().color(colors.weak));
}

/// The parts as a table: what is copied.
fn rows(needs: &Needs) -> Vec<Vec<String>> {
    let mut rows = vec![["part", "full", "lora", "qlora"].map(str::to_owned).to_vec()];
    for (at, part) in needs.needs[0].parts.parts().iter().enumerate() {
        let cells = needs.needs.iter().map(|need| need.parts.parts()[at].bytes.to_string());
        rows.push(std::iter::once(part.name.to_owned()).chain(cells).collect());
    }
    rows
}
