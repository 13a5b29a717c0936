//! Help (F1): what one sees, the keys, the terms.

use eframe::egui::{self, Grid, Id, Modal, RichText, ScrollArea, Ui};

use crate::app::look::glossary::{self, Term};
use crate::app::look::theme::Colors;

const KEYS: [(&str, &str); 12] = [
    ("Ctrl+O, Ctrl+Shift+O", "open a folder, a file"),
    ("Ctrl+L", "open by typing a path"),
    ("Ctrl+K", "all commands"),
    ("[  and  ]", "rank down, up"),
    ("Ctrl+1 … Ctrl+5", "Learn, Spectrum, Parameters, Quantization, Train"),
    ("Space", "in Train: start, pause, resume"),
    ("Ctrl+B", "module list"),
    ("Ctrl+click, Shift+click, Ctrl+A", "choose several modules"),
    ("wheel, drag, double click", "zoom, move, show all of a heatmap or plot"),
    ("arrows, + and −, 0", "the same for a heatmap with the focus"),
    ("Ctrl +, Ctrl −, Ctrl 0", "larger, smaller, normal size"),
    ("Ctrl+Q", "quit"),
];

const TERMS: [Term; 16] = [
    glossary::DELTA,
    glossary::RANK,
    glossary::SCALING,
    glossary::TARGETS,
    glossary::SIGMA,
    glossary::ENERGY,
    glossary::ERROR,
    glossary::APPROXIMATION,
    glossary::RESIDUAL,
    glossary::TRAINABLE,
    glossary::LOSS,
    glossary::LEARNING_RATE,
    glossary::GRADIENT,
    glossary::SPEED,
    glossary::HELD,
    glossary::RANKS,
];

/// Paints it while `open`.
pub fn ui(ui: &Ui, open: &mut bool) {
    if !*open {
        return;
    }
    let response = Modal::new(Id::unique("help")).show(ui.ctx(), |ui| {
        ui.set_width(620.0);
        ui.horizontal(|ui| {
            ui.heading("Help");
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| ui.button("Close").clicked()).inner
        })
        .inner
            | ScrollArea::vertical()
                .max_height(ui.ctx().content_rect().height() - 160.0)
                .show(ui, |ui| {
                    ui.label(
                        "Rank is a dial, and everything answers to it. Choose modules on the left; turn r above or drag \
                         the line in the plot of singular values. Rest the pointer on any quantity for its definition.",
                    );
                    ui.add_space(8.0);
                    ui.label(RichText::new("Keys").strong());
                    Grid::new("keys").num_columns(2).spacing([24.0, 5.0]).show(ui, |ui| {
                        for (keys, what) in KEYS {
                            ui.label(RichText::new(keys).monospace());
                            ui.label(what);
                            ui.end_row();
                        }
                    });
                    ui.add_space(8.0);
                    ui.label(RichText::new("Terms").strong());
                    for term in TERMS {
                        ui.add_space(4.0);
                        ui.label(RichText::new(term.name).color(Colors::of(ui).accent));
                        ui.label(term.definition);
                        if !term.formula.is_empty() {
                            ui.label(RichText::new(term.formula).monospace());
                        }
                        ui.label(RichText::new(term.source).small().color(Colors::of(ui).weak));
                    }
                    false
                })
                .inner
    });
    if response.inner || response.should_close() {
        *open = false;
    }
}
