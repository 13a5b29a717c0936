//! Conversations as text, by the model's own chat template or a known one.
//!
//! ```text
//! messages, tools ─► template (bounded, a thread of its own) ─► text ─► spans: what the assistant says
//! ```

mod budget;
mod filters;
mod format;
pub mod known;
mod lists;
mod methods;
mod operators;
mod python;
mod spans;
mod template;
#[cfg(test)]
mod tests;
mod tuple;

pub use spans::{Spoken, Turn, is_assistant, spoken};
pub use template::{Conversation, Rendered, Template};
