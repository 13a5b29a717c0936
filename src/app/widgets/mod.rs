//! Visual building blocks: they know matrices and numbers, not checkpoints or jobs.

pub mod colormap;
pub mod derived;
pub mod figure;
pub mod heatmap;
pub mod legend;
pub mod levels;
pub mod low_rank;
pub mod map;
pub mod menu;
pub mod picture;
pub mod picture_svg;
pub mod plot;
mod plot_legend;
pub mod png;
pub mod pyramid;
pub mod range;
pub mod rank_line;
pub mod rows;
pub mod stats;
pub mod swatch;
pub mod table;
pub mod text;
pub mod tile_cache;
pub mod tiles;
