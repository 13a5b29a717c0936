//! The map of all modules: block × projection, coloured by the rank that a rule asks for.

use eframe::egui::{Align, Button, ComboBox, Layout, RichText, Ui};

use super::View;
use crate::app::effect::Effect;
use crate::app::look::theme::Colors;
use crate::app::shared::module_map::{Maps, Shown};
use crate::app::widgets::map::Cell;
use crate::app::widgets::menu::Take;
use crate::app::work::export::Source;
use crate::delta::DeltaSet;
use crate::spectrum::RuleId;
use crate::workspace::{Selection, Workspace};

use super::prepared::Prepared;

/// The places of the modules, laid out once for a model.
#[derive(Default)]
pub struct Map {
    generation: Option<u64>,
    maps: Maps,
    /// The map has all of the tab.
    pub large: bool,
}

impl Map {
    /// Lays the map out anew when another model is open.
    pub fn logic(&mut self, workspace: &Workspace) {
        if self.generation == Some(workspace.generation()) {
            return;
        }
        self.generation = Some(workspace.generation());
        let entries = workspace.delta().map_or(&[][..], |delta| delta.entries());
        self.maps = Maps::of(entries.iter().map(|entry| (entry.name.as_str(), entry.layer)));
    }

    /// Paints the map into the room there is.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>, prepared: &Prepared) {
        let Some(delta) = view.workspace.delta().cloned() else { return };
        let area = ui.max_rect();
        ui.horizontal(|ui| {
            if self.large || !self.maps.has_experts() {
                ui.label(RichText::new("coloured by").color(Colors::of(ui).weak));
            }
            rule(ui, view);
            self.maps.fold(ui);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                view.export(
                    ui,
                    "map of modules",
                    &[Take::CopyPng, Take::SavePng, Take::CopyTsv, Take::SaveCsv],
                    area,
                    || Source::Table(self.rows(&delta, prepared)),
                );
            });
        });
        // Not what failed: that would fail again.
        let missing =
            |name: &str| view.workspace.spectrum(name).is_none_or(|s| s.latest().is_none() && s.error().is_none());
        let left = delta.entries().iter().filter(|e| e.problem.is_none() && missing(&e.name)).count();
        if left > 0 && !view.jobs.is_sweeping() {
            ui.horizontal(|ui| {
                let weak = Colors::of(ui).weak;
                ui.label(RichText::new(format!("{left} modules are not computed")).small().color(weak));
                if ui.add(Button::new("Compute all")).clicked() {
                    view.effects.push(Effect::AnalyseAll);
                }
            });
        }
        if self.maps.is_empty() {
            ui.label(RichText::new("No module stands in a numbered block.").color(Colors::of(ui).weak));
            return;
        }
        let workspace = view.workspace;
        let cell = |at: usize| match &delta.entries()[at] {
            entry if entry.problem.is_some() => Cell::Unknown,
            entry => match prepared.rank(&entry.name) {
                Some(Some(rank)) => Cell::Value(rank as f64),
                Some(None) => Cell::Unknown,
                None if workspace.spectrum(&entry.name).is_some_and(|s| s.error().is_some()) => Cell::Unknown,
                None => Cell::Pending,
            },
        };
        let selected = |at: usize| workspace.selection().contains(&delta.entries()[at].name);
        let shown = Shown { title: "Map of all modules", quantity: "rank", cell: &cell, selected: &selected };
        if let Some(chosen) = self.maps.ui(ui, &shown) {
            let names: Vec<String> = chosen.iter().map(|&at| delta.entries()[at].name.clone()).collect();
            let mut selection = workspace.selection().clone();
            if ui.input(|i| i.modifiers.command) {
                names.iter().for_each(|name| selection.toggle(name));
            } else {
                selection = Selection::of(names);
            }
            view.effects.push(Effect::Select(selection));
        }
    }

    fn rows(&self, delta: &DeltaSet, prepared: &Prepared) -> Vec<Vec<String>> {
        let mut rows = vec![vec!["module".to_owned(), "rank".to_owned()]];
        for entry in self.maps.places().map(|i| &delta.entries()[i]) {
            let rank = prepared.rank(&entry.name).flatten().map_or_else(String::new, |r| r.to_string());
            rows.push(vec![entry.name.clone(), rank]);
        }
        rows
    }
}

fn rule(ui: &mut Ui, view: &mut View<'_>) {
    let now = view.settings.map_rule();
    let response =
        ComboBox::from_id_salt("map rule").selected_text(now.name()).width(120.0).height(360.0).show_ui(ui, |ui| {
            for rule in RuleId::ALL {
                if ui.selectable_label(rule == now, rule.name()).on_hover_text(rule.formula()).clicked() {
                    view.effects.push(Effect::Rule(rule));
                }
            }
        });
    response
        .response
        .on_hover_text(format!("The rule that colours the map: {}", now.formula()))
        .accessible_name("Rule of the map");
}
