//! Conversations as text, by the model's own chat template or a known one.
//!
//! ```text
//! messages, tools ─► template (bounded, a thread of its own) ─► text ─► spans: what the assistant says
//! ```

mod budget;
mod filters;
pub mod known;
mod methods;
mod operators;
mod python;
mod spans;
mod template;
#[cfg(test)]
mod tests;

pub use spans::{Spoken, Turn, is_assistant, spoken};
pub use template::{Conversation, Rendered, Template};
