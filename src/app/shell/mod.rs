//! What stands around the tabs: bars, the list of modules, keys, the palette, the help.

pub mod commands;
pub mod defect;
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
pub mod welcome;

/// What the shell remembers between frames: looks, never data.
pub struct Shell {
    /// The module list.
    pub modules: modules::ModuleList,
    /// The rank bar.
    pub rank: rank::RankBar,
    /// The field for a path.
    pub path: path::PathField,
    /// The tabs of the centre.
    pub dock: dock::Dock,
    /// The palette.
    pub palette: palette::Palette,
    /// The help is open.
    pub help: bool,
    /// What did not work.
    pub notices: notice::Notices,
    /// The module list was asked for where there is little room.
    pub listed: bool,
}

impl Shell {
    /// Around so many tabs.
    pub fn new(tabs: usize) -> Self {
        Self {
            modules: modules::ModuleList::default(),
            rank: rank::RankBar::default(),
            path: path::PathField::default(),
            dock: dock::Dock::new(tabs),
            palette: palette::Palette::default(),
            help: false,
            notices: notice::Notices::default(),
            listed: false,
        }
    }
}
