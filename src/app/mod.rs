//! The window.

pub mod widgets;
