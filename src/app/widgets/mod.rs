//! Visual building blocks: they know matrices and numbers, not checkpoints or jobs.

mod anchors;
pub mod colormap;
pub mod fonts;
pub mod heatmap;
pub mod legend;
pub mod levels;
pub mod low_rank;
pub mod number;
pub mod picture;
pub mod pyramid;
pub mod range;
pub mod stats;
pub mod tile_cache;
pub mod tiles;
