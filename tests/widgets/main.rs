//! The visual building blocks, driven by name as a person with a screen reader would drive them. No display is needed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails says where by panicking")]

mod gallery;
mod heatmap;
mod panels;
mod pixels;
mod plot;
mod support;
