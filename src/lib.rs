//! Rankscope: a desktop explorer for LoRA and QLoRA. Rank is a dial, and everything answers to it.
//!
//! # One way through
//!
//! ```text
//! file ─► Checkpoint ─► Matrix ─► DeltaWeight ─► Spectrum ─► Workspace ─► panel
//!            │                       ▲              │            ▲          │
//!            └─► Adapter ────────────┘              └─► rules    └─ Event ◄─┤ Command
//!            └─► Layout ─► Selection ─► Count                               │
//!                                                        Job (threads) ◄────┘
//! ```
//!
//! A checkpoint is opened (headers only), tensors come out of it as matrices, two checkpoints or an adapter give ΔW, ΔW
//! gives a spectrum, the spectrum is looked at. The window and the command line only look; what they compute is here.
//!
//! # Floors
//!
//! `use crate::` goes down, or stays within one folder; `tests/it/floors.rs` reads the sources and keeps this true.
//!
//! | floor | modules | what they are |
//! |---|---|---|
//! | 0 | [`defect`], [`error`], `guard`, [`hash`], `interrupt`, [`matrix`], [`progress`], [`room`], `simd`, [`units`] | the currency: the report of a panic, a sentence, files of strangers, signals, numbers that are the same everywhere, matrices, memory, progress with cancellation, wide loops, words for numbers |
//! | 1 | [`spec`], [`figure`] | what a decoder computes, as plain data: one file a family turns `config.json` into it; plots as data, and the writers of SVG, CSV and HTML |
//! | 2 | [`checkpoint`], [`device`] | safetensors files and hub folders; what there is to compute on |
//! | 3 | [`adapter`], [`quant`] | PEFT's LoRA adapters; weights in a few bits, as bitsandbytes and llama.cpp make them, and the errors of that |
//! | 4 | [`delta`] | ΔW = tuned − base, or s·B·A, or the weight itself |
//! | 5 | [`spectrum`] | singular values, measures, rules; a 3×3 by hand; planted ranks; `svd` alone names the linear-algebra crates |
//! | 6 | [`model`] | the decoder, forward and backward, on the processor or a GPU |
//! | 7 | [`plan`] | parameter counts, presets, the LoRA paper's table, memory (on the processor, on a GPU), budgets, extraction |
//! | 8 | [`train`] | full, LoRA and QLoRA: data, optimizer, the loop, run folders, film, sweep |
//! | 9 | [`demo`], [`export`], [`workspace`] | the bundled model and data, and how they are made; runs for other engines; everything loaded and computed, without interface or threads |
//! | 10 | [`job`] | the only place that starts threads; feature `gui` |
//! | 11 | [`cli`], [`app`] | the command line; the window (feature `gui`). Neither sees the other |
//!
//! # Rules of the house
//!
//! - Every kernel takes [`&dyn Progress`](progress::Progress); `Err(Cancelled)` and `?` are the whole cancellation mechanism.
//! - `logic` and `ui` are two functions: views see a `View` and push `Effect`s, a tab's own its actions; nothing else travels back.
//! - A frame waits for nothing: what touches a disk or counts long is a [`job`]; `tests/it/floors.rs` follows its calls.
//! - The last good picture stays while a new one is computed ([`workspace::Slot`]).
//! - B·A is never formed for its SVD.
//! - Nothing read from a file is trusted; errors name the file, the tensor, what was found and what was expected.

pub mod adapter;
#[cfg(feature = "gui")]
pub mod app;
pub mod checkpoint;
pub mod cli;
pub mod defect;
pub mod delta;
pub mod demo;
pub mod device;
pub mod error;
pub mod export;
pub mod figure;
mod guard;
pub mod hash;
mod interrupt;
#[cfg(feature = "gui")]
pub mod job;
pub mod matrix;
pub mod model;
pub mod plan;
pub mod progress;
pub mod quant;
pub mod room;
mod simd;
pub mod spec;
pub mod spectrum;
pub mod train;
pub mod units;
pub mod workspace;
