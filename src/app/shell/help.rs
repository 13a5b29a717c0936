//! Help (F1): what one sees, the keys, the terms.

use eframe::egui::{self, Grid, Id, KeyboardShortcut, Modal, RichText, ScrollArea, Ui};

use crate::app::look::glossary::{self, Term};
use crate::app::look::theme::Colors;
use crate::app::tabs::Tab;

use super::commands;

/// What no command does.
const GESTURES: [(&str, &str); 4] = [
    ("Ctrl+click, Shift+click, Ctrl+A", "choose several modules"),
    ("wheel, drag, double click", "zoom, move, show all of a heatmap; Ctrl and wheel zoom a plot"),
    ("double click on a plot", "the plot in all of the tab; Esc goes back"),
    ("arrows, + and −, 0", "the same for a heatmap with the focus"),
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
pub fn ui(ui: &Ui, open: &mut bool, tabs: &[Box<dyn Tab>]) {
    if !*open {
        return;
    }
    let response = Modal::new(Id::unique("help")).show(ui.ctx(), |ui| {
        ui.set_width(620.0);
        ui.set_max_width(620.0);
        ui.horizontal(|ui| {
            ui.heading("Help");
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| ui.button("Close").clicked()).inner
        })
        .inner
            | ScrollArea::vertical()
                .auto_shrink([false, true])
                .max_height(ui.ctx().content_rect().height() - 160.0)
                .show(ui, |ui| {
                    ui.label(
                        "Rank is a dial, and everything answers to it. Choose modules on the left; turn r above or drag \
                         the line in the plot of singular values. Rest the pointer on any quantity for its definition.",
                    );
                    ui.add_space(8.0);
                    ui.label(RichText::new("Keys").strong());
                    Grid::new("keys").num_columns(2).spacing([24.0, 5.0]).max_col_width(380.0).show(ui, |ui| {
                        for (keys, what) in keys(ui, tabs) {
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

/// A shortcut as the keys are printed: `[` for `OpenBracket`.
fn printed(shortcut: &str) -> String {
    const KEYS: [(&str, &str); 5] =
        [("OpenBracket", "["), ("CloseBracket", "]"), ("Plus", "+"), ("Equals", "="), ("Minus", "−")];
    KEYS.iter().fold(shortcut.to_owned(), |text, (name, key)| text.replace(name, key))
}

/// Every key, with what it does: of the window, of the tabs, of the mouse.
fn keys(ui: &Ui, tabs: &[Box<dyn Tab>]) -> Vec<(String, String)> {
    let format = |shortcut: &KeyboardShortcut| printed(&ui.ctx().format_shortcut(shortcut));
    let own = commands::ALL.iter().filter(|command| !command.help.is_empty());
    let own =
        own.map(|command| (command.keys.iter().map(format).collect::<Vec<_>>().join(", "), command.help.to_owned()));
    let shown = commands::tabs(tabs).map(|(shortcut, tab, _)| (format(&shortcut), format!("tab {}", tab.title())));
    let of_tabs = tabs.iter().flat_map(|tab| {
        let all = tab.commands().into_iter().filter(|command| !command.help.is_empty());
        all.filter_map(|command| Some((format(&command.keys?), format!("in {}: {}", tab.title(), command.help))))
    });
    let gestures = GESTURES.map(|(keys, what)| (keys.to_owned(), what.to_owned()));
    own.chain(shown).chain(of_tabs.collect::<Vec<_>>()).chain(gestures).collect()
}
