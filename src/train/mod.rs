//! Training: full, LoRA and QLoRA, step for step what PEFT and bitsandbytes do.
//!
//! ```text
//! Settings ─┬─ Decoder (frozen, 4-bit or trained) + pairs ─┐
//!           └─ Rows ───────────────────────────────────────┴─ Trainer: lr → micro-steps → clip → step
//! ```

pub mod adamw;
mod lora;
mod rows;
mod settings;
mod trainer;

pub use rows::{Padded, Row, Rows};
pub use settings::{Init, Method, Quant, Schedule, Settings};
pub use trainer::{Step, Trainer, evaluate};
