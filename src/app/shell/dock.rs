//! The tabs of the centre: docked, to be dragged side by side.

use eframe::egui::{self, Color32, Margin, Stroke, Ui, Visuals, WidgetText};
use egui_tiles::{Behavior, SimplificationOptions, TabState, TileId, Tiles, Tree, UiResponse};

use crate::app::effect::{Command, Tab};
use crate::app::look::theme::Colors;
use crate::app::{Features, View};
use crate::spectrum::RuleId;
use crate::workspace::Workspace;

use crate::app::tabs::learn::LearnTab;
use crate::app::tabs::parameters::Parameters;
use crate::app::tabs::quantization::QuantizationTab;
use crate::app::tabs::spectrum::SpectrumTab;
use crate::app::tabs::train::TrainTab;

/// The tabs and what is in them.
pub struct Tabs {
    tree: Tree<Tab>,
    /// Their contents.
    pub panes: Panes,
}

/// The contents of the tabs.
#[derive(Default)]
pub struct Panes {
    learn: LearnTab,
    /// The Spectrum tab.
    pub spectrum: SpectrumTab,
    parameters: Parameters,
    /// The Quantization tab.
    pub quantization: QuantizationTab,
    train: TrainTab,
}

impl Default for Tabs {
    fn default() -> Self {
        let mut tabs =
            Self { tree: Tree::new_tabs(egui::Id::unique("tabs"), Tab::ALL.to_vec()), panes: Panes::default() };
        tabs.show(Tab::Spectrum);
        tabs
    }
}

impl Tabs {
    /// Brings a tab to the front.
    pub fn show(&mut self, tab: Tab) {
        self.tree.make_active(|_, tile| matches!(tile, egui_tiles::Tile::Pane(pane) if *pane == tab));
    }

    /// True for a tab that is in front, or beside the one that is.
    pub fn is_seen(&self, tab: Tab) -> bool {
        let is_it =
            |&id: &TileId| matches!(self.tree.tiles.get(id), Some(egui_tiles::Tile::Pane(pane)) if *pane == tab);
        self.tree.active_tiles().iter().any(is_it)
    }

    /// Prepares what the tabs show; nothing is painted.
    pub fn think(&mut self, workspace: &Workspace, features: &Features, rule: RuleId) {
        self.panes.learn.think(workspace, features);
        self.panes.parameters.think(workspace, features);
        self.panes.spectrum.think(workspace, rule);
        self.panes.quantization.think(workspace, features);
        self.panes.train.think(workspace, features);
    }

    /// Paints them.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let mut painter = Painter { view, panes: &mut self.panes };
        self.tree.ui(&mut painter, ui);
    }
}

struct Painter<'a, 'v> {
    view: &'a mut View<'v>,
    panes: &'a mut Panes,
}

impl Behavior<Tab> for Painter<'_, '_> {
    fn pane_ui(&mut self, ui: &mut Ui, _: TileId, tab: &mut Tab) -> UiResponse {
        egui::Frame::new().inner_margin(Margin::same(12)).show(ui, |ui| match tab {
            Tab::Learn => self.panes.learn.ui(ui, self.view),
            Tab::Spectrum => self.panes.spectrum.ui(ui, self.view),
            Tab::Parameters => self.panes.parameters.ui(ui, self.view),
            Tab::Quantization => self.panes.quantization.ui(ui, self.view),
            Tab::Train => self.panes.train.ui(ui, self.view),
        });
        UiResponse::None
    }

    fn tab_title_for_pane(&mut self, tab: &Tab) -> WidgetText {
        tab.title().into()
    }

    fn tab_bar_height(&self, _: &egui::Style) -> f32 {
        34.0
    }

    fn tab_title_spacing(&self, _: &Visuals) -> f32 {
        if self.view.cramped { 9.0 } else { 14.0 }
    }

    fn tab_bar_color(&self, visuals: &Visuals) -> Color32 {
        visuals.panel_fill
    }

    fn tab_bg_color(&self, visuals: &Visuals, _: &Tiles<Tab>, _: TileId, state: &TabState) -> Color32 {
        if state.active { visuals.extreme_bg_color } else { Color32::TRANSPARENT }
    }

    fn tab_outline_stroke(&self, _: &Visuals, _: &Tiles<Tab>, _: TileId, _: &TabState) -> Stroke {
        Stroke::NONE
    }

    fn tab_bar_hline_stroke(&self, visuals: &Visuals) -> Stroke {
        visuals.widgets.noninteractive.bg_stroke
    }

    fn tab_text_color(&self, visuals: &Visuals, _: &Tiles<Tab>, _: TileId, state: &TabState) -> Color32 {
        if state.active { visuals.strong_text_color() } else { visuals.weak_text_color() }
    }

    fn gap_width(&self, _: &egui::Style) -> f32 {
        1.0
    }

    fn simplification_options(&self) -> SimplificationOptions {
        SimplificationOptions { all_panes_must_have_tabs: true, ..Default::default() }
    }

    fn top_bar_right_ui(&mut self, _: &Tiles<Tab>, ui: &mut Ui, _: TileId, _: &egui_tiles::Tabs, _: &mut f32) {
        if self.view.cramped {
            ui.add_space(6.0);
            let name = self.view.workspace.selection().current().unwrap_or("none is chosen").to_owned();
            let button = ui.button("Modules").on_hover_text(format!("The modules (Ctrl+B)\n{name}"));
            if button.accessible_name("Show or hide the modules").clicked() {
                self.view.commands.push(Command::ToggleModules);
            }
            return;
        }
        ui.add_space(12.0);
        if let Some(name) = self.view.workspace.selection().current() {
            let more = self.view.workspace.selection().names().len() - 1;
            let text = if more > 0 { format!("{name}  + {more} more") } else { name.to_owned() };
            ui.label(egui::RichText::new(text).small().color(Colors::of(ui).weak));
        }
    }
}
