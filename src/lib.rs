//! Rankscope: rank is a dial, and everything answers to it.

pub mod adapter;
pub mod checkpoint;
pub mod delta;
pub mod device;
pub mod error;
pub mod matrix;
pub mod plan;
pub mod progress;
pub mod quant;
