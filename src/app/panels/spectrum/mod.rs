//! The Spectrum tab: singular values, rules, the map of all modules, ΔW | approximation | residual.

mod pictures;

use eframe::egui::{Context, Ui};

use crate::app::View;
use crate::app::widgets::tiles::{TileBatch, TileJob};
use crate::workspace::Workspace;

use pictures::Pictures;

/// What the tab remembers between frames.
#[derive(Default)]
pub struct SpectrumTab {
    pictures: Pictures,
}

impl SpectrumTab {
    /// Hands over coloured tiles.
    pub fn deliver(&mut self, ctx: &Context, tiles: Vec<TileBatch>) {
        self.pictures.deliver(ctx, tiles);
    }

    /// The tiles that are missing for what was last painted.
    pub fn required(&self) -> Vec<TileJob> {
        self.pictures.required()
    }

    /// Prepares what changes with the workspace.
    pub fn think(&mut self, _workspace: &Workspace) {}

    /// Paints the tab.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        self.pictures.ui(ui, view);
    }
}
