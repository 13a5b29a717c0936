//! What the model writes after the prompts: before, at the cursor, and last.

use eframe::egui::{self, RichText, Ui};

use super::View;
use crate::app::look::theme::Colors;
use crate::train::Sample;

use super::prepared::Prepared;

/// Paints them.
pub fn ui(ui: &mut Ui, view: &mut View<'_>, prepared: &mut Prepared) {
    let Some(track) = view.state.shown() else { return };
    if track.samples.is_empty() {
        return;
    }
    let colors = Colors::of(ui);
    ui.add_space(6.0);
    ui.separator();
    ui.label(RichText::new("Samples").text_style(egui::TextStyle::Heading))
        .on_hover_text("What the model adds to each prompt, always taking the likeliest token");
    let mut prompts: Vec<&str> = Vec::new();
    for sample in &track.samples {
        if !prompts.contains(&sample.prompt.as_str()) {
            prompts.push(&sample.prompt);
        }
    }
    let step = prepared.step(track);
    for prompt in prompts {
        let all: Vec<&Sample> = track.samples.iter().filter(|sample| sample.prompt == prompt).collect();
        let (first, last) = (all.first(), all.last());
        let here = all.iter().rev().find(|sample| sample.step <= step);
        egui::Frame::new().fill(ui.visuals().panel_fill).inner_margin(8).corner_radius(6).show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.label(RichText::new(prompt).strong());
            let mut shown: Vec<&Sample> = Vec::new();
            for sample in [first, here, last].into_iter().flatten() {
                if shown.iter().any(|other| other.step == sample.step) {
                    continue;
                }
                shown.push(sample);
                ui.horizontal_wrapped(|ui| {
                    let when = match sample.step {
                        0 => "before".to_owned(),
                        step if step == track.steps => "after".to_owned(),
                        step => format!("step {step}"),
                    };
                    ui.label(RichText::new(when).small().color(colors.weak));
                    // A part of a character cannot be shown.
                    let text = sample.text.trim().replace(char::REPLACEMENT_CHARACTER, "·");
                    ui.label(if text.is_empty() { "(nothing)".to_owned() } else { text });
                });
            }
        });
        ui.add_space(4.0);
    }
}
