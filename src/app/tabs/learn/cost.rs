//! Chapter 2: what training keeps, as bars against real GPUs.

use eframe::egui::{
    Align2, FontFamily, FontId, Rect, RichText, Sense, Slider, Stroke, Ui, WidgetInfo, accesskit::Role, pos2, vec2,
};

use super::View;
use super::state::{Action, BLOCKS, COST_RANK, Chapter, GPU, Kept, cost_parameters};
use crate::app::look::palette;
use crate::app::look::theme::{self, Colors};
use crate::app::widgets::swatch::swatch;
use crate::units;

use super::parts::Part;
use super::pieces::{beside, said, stage, weak};

/// GPUs that the bars are held against.
const GPUS: [(&str, u64); 4] =
    [("RTX 4090", 24 << 30), ("A100, H100", 80 << 30), ("H200", 141 << 30), ("8 × H100", 640 << 30)];

/// Paints it.
pub fn ui(ui: &mut Ui, view: &mut View<'_>) {
    let cost = &view.state.cost;
    let mut asked = None;
    let memory = match cost.memory() {
        Ok(memory) => memory,
        Err(error) => {
            ui.label(format!("{error}."));
            return;
        }
    };
    stage(ui, |ui| {
        ui.horizontal_wrapped(|ui| {
            let label = ui.label(RichText::new("Size of the model").strong());
            let mut blocks = cost.blocks();
            ui.spacing_mut().slider_width = (ui.available_width() - 260.0).clamp(140.0, 340.0);
            let slider = Slider::new(&mut blocks, BLOCKS).logarithmic(true).smart_aim(false);
            let slider = slider.custom_formatter(|blocks, _| units::count(cost_parameters(blocks as usize)));
            if ui.add(slider).labelled_by(label.id).changed() {
                asked = Some(blocks);
            }
            for (name, blocks) in [("7B", 32), ("175B", 96)] {
                if ui.button(name).clicked() {
                    asked = Some(blocks);
                }
            }
        });
        weak(
            ui,
            format!(
                "{} parameters, {} blocks of width {}",
                units::count(cost.parameters()),
                cost.blocks(),
                units::exact(128 * cost.blocks() as u64)
            ),
        );
        ui.add_space(6.0);
        bars(ui, memory);
        legend(ui);
    });
    let [full, _, qlora] = memory;
    let now = format!(
        "Full tuning of {} keeps {}; an “80 GB” GPU holds 80 GiB = {}.",
        units::count(cost.parameters()),
        units::bytes(full.total()),
        units::bytes(GPU)
    );
    let truth = format!(
        "That is to run it. At {}: {} for the weights in 16 bit, but {} to tune all of them: {} bytes for each. With QLoRA at r = \
         {COST_RANK}, {}. Activations come on top of all of these.",
        units::count(cost.parameters()),
        units::bytes(2 * cost.parameters()),
        units::bytes(full.total()),
        full.total() / cost.parameters().max(1),
        units::bytes(qlora.total()),
    );
    beside(
        ui,
        |ui| super::goal(ui, view, Chapter::Cost, &now),
        |ui| said(ui, "a model takes 2 bytes a parameter.", &truth),
    );
    if let Some(blocks) = asked {
        view.actions.push(Action::Cost(blocks));
    }
}

/// Parts of a bar in their order, with their colours.
fn parts(ui: &Ui, memory: &Kept) -> [(&'static str, u64, eframe::egui::Color32); 4] {
    let dark = ui.visuals().dark_mode;
    [
        ("weights", memory.weights, Part::Base.color(ui)),
        ("adapter A, B", memory.adapters, Part::B.color(ui)),
        ("gradients", memory.gradients, Part::Delta.color(ui)),
        ("Adam's averages", memory.optimizer, palette::series(4, dark)),
    ]
}

fn bars(ui: &mut Ui, memory: &[Kept; 3]) {
    const NAME: f32 = 64.0;
    const ROW: f32 = 44.0;
    const LABEL: f32 = 14.0;
    const AXIS: f32 = 16.0;
    let colors = Colors::of(ui);
    let across = ui.available_rect_before_wrap().x_range();
    let across = across.min + NAME..=across.max - 84.0;
    // From 1 GB to 10 TB, on a log axis: the bars grow with the model, and the GPUs stand still.
    let x = |bytes: u64| {
        let share = ((bytes.max(1) as f32).log10() - 9.0).clamp(0.0, 4.0) / 4.0;
        across.start() + share * (across.end() - across.start())
    };
    let strong = FontId::new(13.0, FontFamily::Name(theme::STRONG.into()));
    let text = ui.visuals().text_color();
    // Their names stand in as many rows as neighbours need: none lies on another.
    let mut ends: Vec<f32> = Vec::new();
    let names = GPUS.map(|(name, bytes)| {
        let words = format!("{name}, {} GB", bytes >> 30);
        let galley = ui.painter().layout_no_wrap(words, FontId::proportional(11.0), colors.weak);
        let (left, right) = (x(bytes) - galley.size().x / 2.0, x(bytes) + galley.size().x / 2.0);
        let row = ends.iter().position(|&end| left > end + 6.0).unwrap_or(ends.len());
        match ends.get_mut(row) {
            Some(end) => *end = right,
            None => ends.push(right),
        }
        (x(bytes), row, galley)
    });
    let head = LABEL * ends.len() as f32 + 8.0;
    let (room, _) = ui.allocate_exact_size(vec2(ui.available_width(), head + 3.0 * ROW + AXIS), Sense::hover());
    let line = Rect::from_x_y_ranges(across.clone(), room.top() + head..=room.bottom() - AXIS);
    let top = |row: usize| room.top() + LABEL * row as f32;
    for &(at, row, _) in &names {
        ui.painter().vline(at, top(row) + 13.0..=line.bottom(), Stroke::new(1.0, colors.weak));
    }
    for (at, row, galley) in names {
        let place = Align2::CENTER_TOP.anchor_size(pos2(at, top(row)), galley.size());
        // No line goes through a name.
        ui.painter().rect_filled(place.expand2(vec2(2.0, 0.0)), 0, ui.visuals().faint_bg_color);
        ui.painter().galley(place.min, galley, colors.weak);
    }
    for (decade, name) in ["1 GB", "10 GB", "100 GB", "1 TB", "10 TB"].into_iter().enumerate() {
        let at = pos2(line.left() + line.width() * decade as f32 / 4.0, line.bottom() + 2.0);
        ui.painter().text(at, Align2::CENTER_TOP, name, FontId::proportional(11.0), colors.weak);
    }
    for (i, (name, memory)) in ["full", "LoRA", "QLoRA"].into_iter().zip(memory).enumerate() {
        let top = line.top() + ROW * i as f32 + 6.0;
        let row = Rect::from_min_max(pos2(room.left(), top), pos2(room.right(), top + 28.0));
        ui.painter().text(row.left_center(), Align2::LEFT_CENTER, name, strong.clone(), text);
        let total = memory.total();
        // The length is the whole on the axis, its parts are shares of it.
        let (mut from, width) = (line.left(), x(total) - line.left());
        for (_, bytes, color) in parts(ui, memory) {
            let to = from + width * bytes as f32 / total.max(1) as f32;
            ui.painter().rect_filled(Rect::from_x_y_ranges(from..=to, row.y_range()), 0, color);
            from = to;
        }
        let gpus = total.div_ceil(GPU);
        let tight = gpus == 1 && total > GPU / 10 * 9;
        let color = if tight {
            colors.warn
        } else if gpus == 1 {
            colors.good
        } else {
            colors.bad
        };
        let galley = ui.painter().layout_no_wrap(units::bytes(total), strong.clone(), color);
        let at = Align2::LEFT_CENTER.anchor_size(pos2(x(total) + 8.0, row.center().y), galley.size());
        // No line goes through the number.
        ui.painter().rect_filled(at.expand(2.0), 2, ui.visuals().faint_bg_color);
        ui.painter().galley(at.min, galley, color);
        let response = ui.interact(row, ui.scope_id().with(("bar", i)), Sense::hover());
        let detail: Vec<String> = parts(ui, memory)
            .iter()
            .filter(|(_, bytes, _)| *bytes > 0)
            .map(|(part, bytes, _)| format!("{part} {}", units::bytes(*bytes)))
            .collect();
        let on = match gpus {
            1 if tight => "tight on one GPU of 80 GB: activations come on top".to_owned(),
            1 => "fits one GPU of 80 GB".to_owned(),
            _ => format!("takes {gpus} GPUs of 80 GB"),
        };
        let said = format!("{name}: {}, {on}; {}", units::bytes(total), detail.join(", "));
        response.widget_info(|| WidgetInfo::labeled(Role::Label, true, &said));
        response.on_hover_text(said);
    }
}

fn legend(ui: &mut Ui) {
    ui.horizontal_wrapped(|ui| {
        for (name, _, color) in parts(ui, &Kept::default()) {
            swatch(ui, color, name);
        }
    });
}
