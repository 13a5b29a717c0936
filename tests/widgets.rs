//! The visual building blocks, driven by name as a person with a screen reader would drive them. No display is needed.

#[path = "widgets/gallery.rs"]
mod gallery;
#[path = "widgets/heatmap.rs"]
mod heatmap;
#[path = "widgets/panels.rs"]
mod panels;
#[path = "widgets/pixels.rs"]
mod pixels;
#[path = "widgets/plot.rs"]
mod plot;
#[path = "widgets/support.rs"]
mod support;
