//! The tabs of the centre, one folder each: what a tab knows (`state`) and what it paints.

pub mod learn;
pub mod parameters;
pub mod quantization;
pub mod spectrum;
pub mod train;
