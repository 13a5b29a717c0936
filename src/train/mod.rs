//! Training: full, LoRA and QLoRA, step for step what PEFT and bitsandbytes do.
//!
//! ```text
//! Settings ─┬─ Decoder (frozen, 4-bit or trained) + pairs ─┐
//!           └─ Rows ───────────────────────────────────────┴─ Trainer: lr → micro-steps → clip → step
//! ```

pub mod data;
pub mod film;
mod generate;
pub mod history;
mod init;
mod lora;
pub mod memory;
pub mod merge;
mod notes;
pub mod pace;
pub mod prequantized;
pub mod probe;
pub mod roles;
pub mod run;
mod samples;
mod settings;
pub mod shorten;
pub mod status;
pub mod store;
pub mod sweep;
mod trainer;

pub use data::{Message, Padded, Piece, Preview, Row, Rows, Text};
pub use generate::{Sampling, generate};
pub use samples::Sample;
pub use settings::{Init, Method, Quant, Schedule, Settings};
pub use trainer::{Step, Trainer, evaluate};
