//! What the next run will take: memory by part against the device, and time.

use eframe::egui::{self, Rect, RichText, Sense, Ui, WidgetInfo, pos2, vec2};

use super::View;
use super::state::{Draft, Fit};
use crate::app::look::palette;
use crate::app::look::theme::Colors;
use crate::app::widgets::swatch::swatch;
use crate::device::Choice;
use crate::train::Method;
use crate::train::forecast::Speed;
use crate::train::memory::Memory;
use crate::units;

/// The colours of the parts: those of the Parameters tab, where what is trained is A and B with what belongs to them.
const COLORS: [usize; 6] = [0, 2, 5, 6, 7, 8];

/// The parts of the memory, as a person reads them.
pub fn parts(memory: &Memory) -> [(&'static str, u64, &'static str); 6] {
    [
        (
            "weights",
            memory.weights + memory.constants,
            "The frozen weights as they are kept: 4 bits under QLoRA, as stored under LoRA",
        ),
        ("trained", memory.trained(), "Everything that is trained, its gradient and Adam's two moments, in 32 bits"),
        ("activations", memory.activations, "What the blocks keep for the way back"),
        ("logits", memory.logits, "Scores of the vocabulary, a piece at a time"),
        ("buffers", memory.workspace, "The largest weight in 32 bits, while it is multiplied"),
        (
            "program",
            memory.process,
            "What this program has already, scratch of matrix products, and what the allocator rounds up; on a GPU its own \
             system and cuBLAS",
        ),
    ]
}

/// Paints it.
pub fn ui(ui: &mut Ui, view: &mut View<'_>, draft: &Draft) {
    let outlook = view.state.outlook();
    let colors = Colors::of(ui);
    match &outlook.memory {
        Some(Ok(memory)) => {
            let total = memory.total();
            ui.horizontal_wrapped(|ui| {
                ui.label(RichText::new("Memory").strong());
                ui.label(format!("about {}", units::bytes(total)));
                let (word, color) = match outlook.fit() {
                    Some(Fit::Fits) => ("fits", colors.good),
                    Some(Fit::Tight) => ("tight", colors.warn),
                    Some(Fit::Not) => ("does not fit", colors.bad),
                    None => ("", colors.weak),
                };
                ui.label(RichText::new(word).color(color).strong());
                if let Some(free) = outlook.free {
                    ui.label(RichText::new(format!("{} free", units::bytes(free))).small().color(colors.weak));
                }
            });
            bar(ui, memory);
            if outlook.fit() == Some(Fit::Not) {
                ui.label(RichText::new(advice(memory, draft)).small().color(colors.bad));
            }
        }
        Some(Err(error)) => {
            ui.label(RichText::new(error.to_string()).color(colors.bad));
        }
        None => {}
    }
    time(ui, view, draft);
}

/// What would make it fit.
fn advice(memory: &Memory, draft: &Draft) -> &'static str {
    let most = memory.weights.max(memory.trained()).max(memory.activations);
    if most == memory.activations {
        "Turn checkpointing on, or make the batch or the sequence smaller."
    } else if most == memory.trained() && draft.settings.method == Method::Full {
        "A full fine-tune keeps four numbers for every weight: LoRA and QLoRA keep them for A and B alone."
    } else if most == memory.trained() {
        "A smaller rank or fewer targets train less."
    } else {
        "QLoRA keeps the weights in 4 bits."
    }
}

/// The parts beside each other.
fn bar(ui: &mut Ui, memory: &Memory) {
    let dark = ui.visuals().dark_mode;
    let total = memory.total().max(1) as f32;
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 12.0), Sense::hover());
    let mut left = rect.left();
    for (index, (name, bytes, tip)) in parts(memory).into_iter().enumerate() {
        let right = left + rect.width() * bytes as f32 / total;
        let part = Rect::from_min_max(pos2(left, rect.top()), pos2(right, rect.bottom()));
        ui.painter().rect_filled(part, 0.0, palette::memory(COLORS[index], dark));
        let response = ui.interact(part, ui.scope_id().with(("memory", index)), Sense::hover());
        response
            .widget_info(|| WidgetInfo::labeled(egui::Role::Label, true, format!("{name}: {}", units::bytes(bytes))));
        response.on_hover_text(format!("{name}: {}\n{tip}", units::bytes(bytes)));
        left = right;
    }
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(10.0, 2.0);
        for (index, (name, bytes, tip)) in parts(memory).into_iter().enumerate() {
            let text = format!("{name} {}", units::bytes(bytes));
            swatch(ui, palette::memory(COLORS[index], dark), &text).on_hover_text(tip);
        }
    });
}

/// Steps, and how long they will take.
fn time(ui: &mut Ui, view: &View<'_>, draft: &Draft) {
    let training = view.state;
    let outlook = training.outlook();
    let Some(preview) = outlook.preview.latest() else { return };
    let s = &draft.settings;
    let steps = preview.steps(s);
    let tokens = preview.tokens_of_a_step(s) * steps as f64;
    let device = if outlook.device.as_ref().is_some_and(|device| device.choice != Choice::Cpu) { "gpu" } else { "cpu" };
    let runs = training.runs().unwrap_or_default();
    let speed = Speed::of_runs(runs.iter(), s, device).or_else(|| outlook.speed());
    let source = match speed {
        Some(Speed { runs: 0, .. }) | None => {
            "from the operations of a step and the speed of a matrix product measured here at several moments; the first \
             steps will tell better"
                .to_owned()
        }
        Some(Speed { runs: 1, .. }) => "from the speed of an earlier run of this model".to_owned(),
        Some(Speed { runs, .. }) => format!("from the speed of {runs} earlier runs of this model"),
    };
    let epochs = steps as f64 * (s.batch * s.accumulate) as f64 / preview.rows.max(1) as f64;
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new("Time").strong());
        if let Some(speed) = speed {
            ui.label(units::duration_range(speed.times(tokens))).on_hover_text(source);
        }
        let text = format!("{steps} steps, {} epochs", units::real(epochs, 2));
        ui.label(RichText::new(text).small().color(Colors::of(ui).weak));
    });
}
