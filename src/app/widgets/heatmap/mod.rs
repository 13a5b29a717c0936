//! Linked heatmaps of matrices of any size: one view, one cursor, tiles coloured in jobs.

mod group;
mod layout;
mod model;
mod paint;
mod view;

pub use group::{Blocks, Details, Heatmaps, Options};
pub use layout::aspect;
pub use model::Status;
pub use paint::ink;
pub use view::{Spot, View};
