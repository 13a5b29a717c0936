//! Training: full, LoRA and QLoRA, step for step what PEFT and bitsandbytes do.
//!
//! ```text
//! Settings ─┬─ Decoder (frozen, 4-bit or trained) + pairs ─┐
//!           └─ Rows ───────────────────────────────────────┴─ Trainer: lr → micro-steps → clip → step
//! ```

pub mod advise;
mod alpha;
mod best;
pub mod calibrate;
pub mod damp;
pub mod data;
pub mod film;
pub mod forecast;
pub mod foreign;
mod generate;
pub mod gguf;
pub mod history;
mod init;
mod inputs;
pub mod list;
mod logs;
mod lora;
pub mod memory;
pub mod merge;
pub mod merge_check;
mod notes;
pub mod pace;
pub mod prequantized;
pub mod probe;
pub mod python;
pub mod repair;
pub mod roles;
pub mod run;
pub mod run_folder;
mod samples;
pub mod saved;
mod settings;
pub mod shorten;
mod sketch;
mod stage;
pub mod status;
pub mod store;
pub mod sweep;
pub mod talk;
pub mod tfevents;
mod trainer;

pub use alpha::Alpha;
pub use data::{Message, Padded, Piece, Preview, Row, Rows, Text};
pub use generate::{Sampling, generate, stream};
pub use logs::Record;
pub use samples::Sample;
pub use settings::{
    About, Choice, Control, Group, Init, Method, Named, Quant, ReportTo, SETTINGS, Schedule, Setting, Settings, Shown,
    Switch, Touches,
};
pub use trainer::{Step, Trainer, evaluate};
