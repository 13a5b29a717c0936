//! What an earlier start has left of a defect, for whoever wants to report it.

use eframe::egui::{Frame, Margin, Panel, RichText, Ui};

use crate::app::effect::Effect;
use crate::app::look::theme::Colors;
use crate::app::view::View;

/// Paints the offer while there is a report.
pub fn ui(ui: &mut Ui, view: &mut View<'_>) {
    #[cfg(feature = "inspection")]
    provoke(ui);
    let Some(report) = &view.system.defect else { return };
    let colors = Colors::of(ui);
    let bar = Frame::new().fill(colors.card).inner_margin(Margin::symmetric(12, 7));
    Panel::top("defect").frame(bar).show(ui, |ui| {
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new("⚠").color(colors.warn));
            ui.label("Rankscope met a defect the last time. The report holds the version, the system and the last commands, and nothing of your files. Nothing was sent.")
                .on_hover_text(report);
            if ui.button("Copy the report").clicked() {
                ui.ctx().copy_text(report.clone());
                view.effects.push(Effect::Say("The report is on the clipboard.".to_owned()));
            }
            if ui.button("Forget it").clicked() {
                view.effects.push(Effect::ForgetDefect);
            }
        });
    });
}

/// For whoever tries the report: Ctrl+Shift+F12.
#[cfg(feature = "inspection")]
#[allow(clippy::panic, reason = "what it is for")]
fn provoke(ui: &Ui) {
    use eframe::egui::{Key, Modifiers};
    if ui.input_mut(|input| input.consume_key(Modifiers::COMMAND | Modifiers::SHIFT, Key::F12)) {
        panic!("asked for by hand");
    }
}
