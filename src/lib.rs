//! Rankscope: rank is a dial, and everything answers to it.

pub mod app;
pub mod error;
pub mod matrix;
pub mod progress;
