//! The Parameters tab: counts for each rank and set of targets, and 175B against 4.7M.

mod bars;
mod model;
mod table;

use std::sync::LazyLock;

use eframe::egui::{ComboBox, Layout, RichText, ScrollArea, Ui};

use crate::app::export::Source;
use crate::app::glossary;
use crate::app::theme::Colors;
use crate::app::widgets::menu::Take;
use crate::app::{Features, View};
use crate::plan::{self, Layout as Model, Preset};
use crate::units;
use crate::workspace::Workspace;

use model::{Bar, Counts};

/// GPT-3 as the LoRA paper tunes it.
const GPT3: &str = "gpt3-175b";

static GPT3_COUNTS: LazyLock<Option<Counts>> = LazyLock::new(|| Model::preset(GPT3).ok().map(|m| Counts::of(&m)));

/// What the tab remembers between frames.
#[derive(Default)]
pub struct Parameters {
    /// A published model in place of the open one.
    preset: Option<&'static Preset>,
    key: Option<(u64, Option<&'static str>)>,
    counts: Option<Counts>,
}

impl Parameters {
    /// Counts anew when another model is open or chosen.
    pub fn think(&mut self, workspace: &Workspace, _features: &Features) {
        let key = (workspace.generation(), self.preset.map(|p| p.id));
        if self.key == Some(key) {
            return;
        }
        self.key = Some(key);
        self.counts = match self.preset {
            Some(preset) => Some(Counts::of(&preset.layout())),
            None => workspace.layout().map(|layout| Counts::of(layout)),
        };
    }

    /// Paints the tab.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            if ui.available_width() > 860.0 {
                ui.columns(2, |columns| {
                    self.counts_ui(&mut columns[0], view);
                    against(&mut columns[1], view);
                });
            } else {
                self.counts_ui(ui, view);
                ui.add_space(20.0);
                against(ui, view);
            }
        });
    }

    fn counts_ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        ui.horizontal(|ui| {
            let label = ui.label(RichText::new("Trainable parameters of").strong());
            label.clone().on_hover_ui(|ui| glossary::TRAINABLE.ui(ui));
            let open = view.workspace.base().map_or_else(|| "no open model".to_owned(), |base| base.name());
            let shown = self.preset.map_or(open.as_str(), |p| p.title);
            let before = self.preset.map(|p| p.id);
            let combo = ComboBox::from_id_salt("model").selected_text(shown).width(190.0).height(420.0);
            let combo = combo.show_ui(ui, |ui| {
                if ui.selectable_label(self.preset.is_none(), open.as_str()).clicked() {
                    self.preset = None;
                }
                let mut family = "";
                for preset in plan::presets() {
                    if preset.family != family {
                        family = preset.family;
                        ui.label(RichText::new(family).small().color(Colors::of(ui).weak));
                    }
                    if ui.selectable_label(self.preset.is_some_and(|p| p.id == preset.id), preset.title).clicked() {
                        self.preset = Some(preset);
                    }
                }
            });
            combo.response.accessible_name("Model to count");
            if before != self.preset.map(|p| p.id) {
                // Counting happens in `think`, which the next frame calls.
                ui.ctx().request_repaint();
            }
            if let Some(counts) = &self.counts {
                ui.with_layout(Layout::right_to_left(eframe::egui::Align::Center), |ui| {
                    let area = ui.clip_rect();
                    view.export(ui, "parameter counts", &Take::TABLE, area, || Source::Table(counts.rows()));
                });
            }
        });
        ui.add_space(4.0);
        match &self.counts {
            Some(counts) => {
                let weak = Colors::of(ui).weak;
                let all = format!("{} parameters in all", units::exact(counts.parameters));
                ui.label(RichText::new(all).color(weak));
                table::ui(ui, view, counts, self.preset.is_none());
            }
            None => {
                ui.label("Open a model, or choose a published one.");
            }
        }
    }
}

fn against(ui: &mut Ui, view: &mut View<'_>) {
    let Some(gpt3) = GPT3_COUNTS.as_ref() else { return };
    let bars = bars_of(view, gpt3);
    let area = ui.available_rect_before_wrap().intersect(ui.clip_rect());
    ui.horizontal(|ui| {
        ui.label(RichText::new("175B against 4.7M").strong());
        ui.with_layout(Layout::right_to_left(eframe::egui::Align::Center), |ui| {
            view.export(ui, "175B against 4.7M", &Take::PLOT, area, || Source::Figure(Box::new(model::figure(&bars))));
        });
    });
    if let Some(least) = gpt3.columns[0].count(1) {
        let text = format!(
            "Full fine-tuning of GPT-3 changes every parameter. LoRA at r = 1 on the query and value projections of all \
             layers trains {}: {} times fewer.",
            units::exact(least.trainable),
            units::exact(gpt3.parameters / least.trainable)
        );
        ui.label(RichText::new(text).color(Colors::of(ui).weak));
    }
    ui.add_space(8.0);
    bars::ui(ui, &bars);
}

fn bars_of(view: &View<'_>, gpt3: &Counts) -> Vec<Bar> {
    let base = view.workspace.base().map(|base| (base.name(), base.parameters()));
    let dial = view.workspace.dial();
    let adapter = match view.cost {
        Some(Ok(count)) => {
            Some((format!("LoRA r = {} on {}", dial.r, super::rank::name(&dial.targets)), count.trainable))
        }
        _ => None,
    };
    model::bars(base.as_ref().map(|(name, n)| (name.as_str(), *n)), adapter, gpt3)
}
