//! The tabs of the centre: docked, to be dragged side by side.

use eframe::egui::{self, Color32, Margin, Stroke, Ui, Visuals, WidgetText};
use egui_tiles::{Behavior, SimplificationOptions, TabState, Tile, TileId, Tiles, Tree, UiResponse};

use crate::app::effect::Effect;
use crate::app::look::theme::Colors;
use crate::app::tabs::Tab;
use crate::app::view::View;
use crate::app::widgets::figure;
use crate::app::widgets::text::middle;

/// Width of all tabs beside each other.
const TABS: f32 = 520.0;
/// Width of a small letter.
const LETTER: f32 = 6.0;
/// Fewer letters say nothing of a name.
const FEWEST: usize = 12;

/// Where the tabs stand, each by its place among them.
pub struct Dock {
    tree: Tree<usize>,
}

impl Dock {
    /// So many tabs, one behind the other.
    pub fn new(tabs: usize) -> Self {
        Self { tree: Tree::new_tabs(egui::Id::unique("tabs"), (0..tabs).collect()) }
    }

    /// Brings a tab to the front.
    pub fn show(&mut self, tab: usize) {
        self.tree.make_active(|_, tile| matches!(tile, Tile::Pane(pane) if *pane == tab));
    }

    /// True for a tab that is in front, or beside the one that is.
    pub fn is_seen(&self, tab: usize) -> bool {
        let is_it = |&id: &TileId| matches!(self.tree.tiles.get(id), Some(Tile::Pane(pane)) if *pane == tab);
        self.tree.active_tiles().iter().any(is_it)
    }

    /// Paints them.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>, tabs: &mut [Box<dyn Tab>]) {
        self.tree.ui(&mut Painter { view, tabs }, ui);
    }
}

struct Painter<'a, 'v> {
    view: &'a mut View<'v>,
    tabs: &'a mut [Box<dyn Tab>],
}

impl Behavior<usize> for Painter<'_, '_> {
    fn pane_ui(&mut self, ui: &mut Ui, _: TileId, tab: &mut usize) -> UiResponse {
        let pane = ui.max_rect();
        egui::Frame::new().inner_margin(Margin::same(12)).show(ui, |ui| {
            if let Some(tab) = self.tabs.get_mut(*tab) {
                tab.ui(ui, self.view);
            }
        });
        figure::large(ui, pane);
        UiResponse::None
    }

    fn tab_title_for_pane(&mut self, tab: &usize) -> WidgetText {
        self.tabs.get(*tab).map_or("", |tab| tab.title()).into()
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

    fn tab_bg_color(&self, visuals: &Visuals, _: &Tiles<usize>, _: TileId, state: &TabState) -> Color32 {
        if state.active { visuals.extreme_bg_color } else { Color32::TRANSPARENT }
    }

    fn tab_outline_stroke(&self, _: &Visuals, _: &Tiles<usize>, _: TileId, _: &TabState) -> Stroke {
        Stroke::NONE
    }

    fn tab_bar_hline_stroke(&self, visuals: &Visuals) -> Stroke {
        visuals.widgets.noninteractive.bg_stroke
    }

    fn tab_text_color(&self, visuals: &Visuals, _: &Tiles<usize>, _: TileId, state: &TabState) -> Color32 {
        if state.active { visuals.strong_text_color() } else { visuals.weak_text_color() }
    }

    fn gap_width(&self, _: &egui::Style) -> f32 {
        1.0
    }

    fn simplification_options(&self) -> SimplificationOptions {
        SimplificationOptions { all_panes_must_have_tabs: true, ..Default::default() }
    }

    fn top_bar_right_ui(&mut self, _: &Tiles<usize>, ui: &mut Ui, _: TileId, _: &egui_tiles::Tabs, _: &mut f32) {
        if self.view.cramped {
            ui.add_space(6.0);
            let name = self.view.workspace.selection().current().unwrap_or("none is chosen").to_owned();
            let button = ui.button("Modules").on_hover_text(format!("The modules (Ctrl+B)\n{name}"));
            if button.accessible_name("Show or hide the modules").clicked() {
                self.view.effects.push(Effect::ToggleModules);
            }
            return;
        }
        ui.add_space(12.0);
        if let Some(name) = self.view.workspace.selection().current() {
            let more = self.view.workspace.selection().names().len() - 1;
            let text = if more > 0 { format!("{name}  + {more} more") } else { name.to_owned() };
            // The tabs come first: a name that leaves them no room is shortened, or left out.
            let letters = ((ui.available_width() - TABS) / LETTER) as usize;
            if letters >= FEWEST {
                let shown = egui::RichText::new(middle(&text, letters)).small().color(Colors::of(ui).weak);
                ui.label(shown).on_hover_text(text);
            }
        }
    }
}
