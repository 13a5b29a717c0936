//! The visual building blocks, driven by name as a person with a screen reader would drive them. No display is needed.

#[path = "widgets/gallery.rs"]
mod gallery;
#[path = "widgets/heatmap.rs"]
mod heatmap;
#[path = "widgets/support.rs"]
mod support;
