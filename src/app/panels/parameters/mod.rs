//! The Parameters tab.

mod model;

use eframe::egui::Ui;

use crate::app::View;
use crate::workspace::Workspace;

/// What the tab remembers between frames.
#[derive(Default)]
pub struct Parameters {}

impl Parameters {
    /// Prepares what changes with the workspace.
    pub fn think(&mut self, _workspace: &Workspace) {}

    /// Paints the tab.
    pub fn ui(&mut self, ui: &mut Ui, _view: &mut View<'_>) {
        ui.label("soon");
    }
}
