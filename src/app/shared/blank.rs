//! A page before there is anything on it: what will stand there, and from what. The button that begins it stands with it.

use eframe::egui::{Grid, RichText, TextStyle, Ui};

use crate::app::look::theme::Colors;

/// Lines are no longer than one likes to read.
const LINE: f32 = 760.0;
/// In less width what a part shows stands behind its name, and wraps.
const NARROW: f32 = 600.0;

/// Paints it: a heading, a sentence, and for each part what it shows.
pub fn ui(ui: &mut Ui, title: &str, about: &str, parts: &[(&str, &str)]) {
    let weak = Colors::of(ui).weak;
    ui.add_space(8.0);
    ui.label(RichText::new(title).text_style(TextStyle::Heading));
    ui.scope(|ui| {
        ui.set_max_width(LINE.min(ui.available_width()));
        ui.label(about);
    });
    ui.add_space(8.0);
    ui.label(RichText::new("Here will stand").color(weak));
    if ui.available_width() < NARROW {
        for (name, shows) in parts {
            ui.horizontal_wrapped(|ui| {
                ui.label(RichText::new(*name).strong());
                ui.label(RichText::new(*shows).color(weak));
            });
        }
        ui.add_space(10.0);
        return;
    }
    Grid::new(("blank", title)).num_columns(2).spacing([18.0, 6.0]).show(ui, |ui| {
        for (name, shows) in parts {
            ui.label(RichText::new(*name).strong());
            ui.label(RichText::new(*shows).color(weak));
            ui.end_row();
        }
    });
    ui.add_space(10.0);
}
