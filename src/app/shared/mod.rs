//! What several tabs show.

pub mod blank;
pub mod coloring;
pub mod layout;
pub mod module_map;
pub mod names;
pub mod path;
pub mod talk;
pub mod targets;
pub mod typed;
