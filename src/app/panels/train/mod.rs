//! The Train tab.

use eframe::egui::Ui;

use crate::app::{Features, View};
use crate::workspace::Workspace;

/// What the tab remembers between frames: looks, never data.
#[derive(Default)]
pub struct TrainTab {}

impl TrainTab {
    /// Prepares what changes with the workspace; nothing is painted.
    pub fn think(&mut self, _workspace: &Workspace, _features: &Features) {}

    /// Paints the tab.
    pub fn ui(&mut self, _ui: &mut Ui, _view: &mut View<'_>) {}
}
