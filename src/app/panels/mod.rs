//! The regions of the window, one file each.

pub mod learn;
pub mod modules;
pub mod parameters;
mod parts;
pub mod path;
pub mod quantization;
pub mod rank;
pub mod spectrum;
pub mod status;
pub mod tabs;
pub mod top;
pub mod train;

use eframe::egui::Context;

use super::Features;
use super::widgets::tiles::TileBatch;
use crate::spectrum::RuleId;
use crate::workspace::Workspace;

/// What the panels remember between frames: looks, never data.
#[derive(Default)]
pub struct Panels {
    /// The module list.
    pub modules: modules::ModuleList,
    /// The rank bar.
    pub rank: rank::RankBar,
    /// The field for a path.
    pub path: path::PathField,
    /// The tabs of the centre.
    pub tabs: tabs::Tabs,
    /// The module list was asked for where there is little room.
    pub listed: bool,
}

impl Panels {
    /// Hands over coloured tiles.
    pub fn deliver(&mut self, ctx: &Context, tiles: Vec<TileBatch>) {
        self.tabs.panes.spectrum.deliver(ctx, tiles);
    }

    /// Prepares what changes with the workspace; nothing is painted.
    pub fn think(&mut self, workspace: &Workspace, features: &Features, rule: RuleId) {
        self.tabs.think(workspace, features, rule);
    }
}
