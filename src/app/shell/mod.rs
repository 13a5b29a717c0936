//! What stands around the tabs: bars, the list of modules, keys, the palette, the help.

pub mod dialogs;
pub mod dock;
pub mod drops;
pub mod help;
pub mod keys;
pub mod modules;
pub mod notice;
pub mod palette;
pub mod path;
pub mod rank;
pub mod status;
pub mod top;

use eframe::egui::Context;

use crate::app::Features;
use crate::app::widgets::tiles::TileBatch;
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
    pub tabs: dock::Tabs,
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
