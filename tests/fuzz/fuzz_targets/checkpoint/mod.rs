//! The files of `src/checkpoint` that the reader of headers is made of.

#[path = "../../../../src/checkpoint/dtype.rs"]
mod dtype;
#[path = "../../../../src/checkpoint/header.rs"]
pub mod header;
#[path = "../../../../src/checkpoint/json.rs"]
pub mod json;

pub use dtype::Dtype;
