//! The map of all modules: layer × projection, for one format at a time.

use eframe::egui::{Align, ComboBox, Layout, RichText, Ui};

use super::View;
use super::state::{Choice, ModuleRow, Need, has_delta, mapped};
use crate::app::effect::Effect;
use crate::app::look::theme::Colors;
use crate::app::shared::module_map::{Maps, Shown};
use crate::app::widgets::map::Cell;
use crate::app::widgets::menu::Take;
use crate::app::work::export::Source;
use crate::quant::Recipe;
use crate::workspace::{Selection, Workspace};

/// What the map remembers between frames.
#[derive(Default)]
pub struct Modules {
    generation: Option<u64>,
    maps: Maps,
    /// Which of the formats.
    format: usize,
    quantity: Quantity,
    /// The formats that were asked for.
    recipes: Vec<Recipe>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Quantity {
    #[default]
    Relative,
    Sqnr,
    AgainstDelta,
}

impl Quantity {
    const ALL: [Self; 3] = [Self::Relative, Self::Sqnr, Self::AgainstDelta];

    fn name(self) -> &'static str {
        match self {
            Self::Relative => "relative error %",
            Self::Sqnr => "SQNR dB",
            Self::AgainstDelta => "‖error‖ / ‖ΔW‖",
        }
    }
}

impl Modules {
    /// Lays the map out anew when another model is open.
    pub fn logic(&mut self, workspace: &Workspace) {
        if self.generation != Some(workspace.generation()) {
            self.generation = Some(workspace.generation());
            let entries = workspace.delta().map_or(&[][..], |set| set.entries());
            self.maps = Maps::of(entries.iter().map(|entry| (entry.name.as_str(), entry.layer)));
            self.recipes.clear();
        }
    }

    /// What the map needs: once computed it stays, whatever format is shown above.
    pub fn need(&mut self, choice: &Choice) -> Need {
        if self.recipes.is_empty() {
            self.recipes = mapped(choice.a);
            self.format = 0;
        }
        Need::Modules { recipes: self.recipes.clone() }
    }

    /// True when the map does not hold the format that is shown above.
    pub fn lacks(&self, choice: &Choice) -> bool {
        !self.recipes.is_empty() && !self.recipes.contains(&choice.a)
    }

    /// Starts anew, from the format that is shown above.
    pub fn restart(&mut self) {
        self.recipes.clear();
    }

    /// Paints the map into the room there is.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>, choice: &Choice) {
        let Some(set) = view.workspace.delta().cloned() else { return };
        let area = ui.max_rect();
        let rows = view.state.modules();
        ui.horizontal(|ui| {
            let now = self.recipes.get(self.format).copied().unwrap_or(choice.a);
            let combo =
                ComboBox::from_id_salt("map format").selected_text(now.to_string()).width(150.0).show_ui(ui, |ui| {
                    for (index, recipe) in self.recipes.iter().enumerate() {
                        ui.selectable_value(&mut self.format, index, recipe.to_string());
                    }
                });
            combo.response.accessible_name("Format of the map");
            let combo = ComboBox::from_id_salt("map quantity").selected_text(self.quantity.name()).width(120.0);
            let combo = combo.show_ui(ui, |ui| {
                for quantity in Quantity::ALL {
                    if quantity != Quantity::AgainstDelta || has_delta(view.workspace) {
                        ui.selectable_value(&mut self.quantity, quantity, quantity.name());
                    }
                }
            });
            combo.response.accessible_name("Quantity of the map");
            let known = rows.len();
            if known > 0 && known < set.entries().len() {
                let text = format!("{known} of {} modules", set.entries().len());
                ui.label(RichText::new(text).small().color(Colors::of(ui).weak));
            }
            if self.lacks(choice) && ui.button(format!("Add {}", choice.a)).clicked() {
                self.restart();
            }
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let recipes = &self.recipes;
                view.export(
                    ui,
                    "errors of all modules",
                    &[Take::CopyPng, Take::SavePng, Take::CopyTsv, Take::SaveCsv],
                    area,
                    || Source::Table(table(rows, recipes)),
                );
            });
        });
        if self.maps.is_empty() {
            ui.label(RichText::new("No module stands in a numbered block.").color(Colors::of(ui).weak));
            return;
        }
        let cell = |at: usize| match rows.iter().find(|row| row.name == set.entries()[at].name) {
            None => Cell::Pending,
            Some(row) => value(row, self.format, self.quantity).map_or(Cell::Unknown, Cell::Value),
        };
        let workspace = view.workspace;
        let selected = |at: usize| workspace.selection().contains(&set.entries()[at].name);
        let shown = Shown { title: "Map of errors", quantity: self.quantity.name(), cell: &cell, selected: &selected };
        if let Some(chosen) = self.maps.ui(ui, &shown) {
            let names = chosen.iter().map(|&at| set.entries()[at].name.clone()).collect();
            view.effects.push(Effect::Select(Selection::of(names)));
        }
    }
}

fn value(row: &ModuleRow, format: usize, quantity: Quantity) -> Option<f64> {
    let found = row.errors.as_ref().ok()?.get(format)?.as_ref()?;
    let value = match quantity {
        Quantity::Relative => 100.0 * found.relative_rmse,
        Quantity::Sqnr => found.sqnr_db,
        Quantity::AgainstDelta => found.norm / row.delta.filter(|&delta| delta > 0.0)?,
    };
    value.is_finite().then_some(value)
}

fn table(rows: &[ModuleRow], recipes: &[Recipe]) -> Vec<Vec<String>> {
    let mut all = vec![vec!["module".to_owned(), "delta_norm".to_owned()]];
    all[0].extend(recipes.iter().flat_map(|r| [format!("relative_rmse {r}"), format!("error_norm {r}")]));
    for row in rows {
        let mut line = vec![row.name.clone(), row.delta.map_or_else(String::new, |d| d.to_string())];
        match &row.errors {
            Ok(errors) => line.extend(errors.iter().flat_map(|found| match found {
                Some(m) => [m.relative_rmse.to_string(), m.norm.to_string()],
                None => [String::new(), String::new()],
            })),
            Err(problem) => line.push(problem.clone()),
        }
        all.push(line);
    }
    all
}
