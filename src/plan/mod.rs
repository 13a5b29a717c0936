//! What a rank costs: parameter counts for any model and set of target modules, and the LoRA paper's table.
//!
//! A [`Layout`] is the list of a model's weights with their shapes: of an open checkpoint, of a published
//! architecture ([`presets`]) or of a `config.json`. [`Targets`] says which of them get an adapter; selecting them
//! once gives a [`Selection`], which answers for every rank at no cost:
//!
//! ```text
//! trainable(r) = Σ over selected weights of r · (d_in + d_out)
//! ```

pub mod advise;
pub mod anchors;
pub mod budget;
pub mod combine;
pub mod compare;
pub mod config;
mod count;
pub mod doctor;
pub mod energy;
pub mod extract;
pub mod intruders;
mod layout;
mod left_out;
pub mod memory;
pub mod paper;
mod presets;
pub mod report;
pub mod serve;
mod stacks;
mod targets;

pub use count::{Count, Selection, count};
pub use layout::{Layout, Weight};
pub use memory::{Load, Memory, Method, Pairs};
pub use presets::{Preset, find, of_sizes, presets};
pub use targets::Targets;
