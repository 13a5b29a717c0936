//! Training: full, LoRA and QLoRA, step for step what PEFT and bitsandbytes do.
//!
//! ```text
//! Settings ─┬─ Decoder (frozen, 4-bit or trained) + pairs ─┐
//!           └─ Rows ───────────────────────────────────────┴─ Trainer: lr → micro-steps → clip → step
//! ```

pub mod adamw;
pub mod data;
mod generate;
mod gpu;
mod init;
mod lora;
pub mod memory;
pub mod merge;
mod notes;
pub mod prequantized;
pub mod roles;
mod rows;
pub mod run;
mod settings;
pub mod store;
mod text;
mod trainer;

pub use generate::{Sampling, generate};
pub use gpu::evaluate as evaluate_on_gpu;
pub use rows::{Padded, Row, Rows};
pub use settings::{Init, Method, Quant, Schedule, Settings};
pub use text::{Message, Text};
pub use trainer::{Step, Trainer, evaluate};
