//! The library and the command line, in one binary: golden numbers of other programs, bad input, the rules of the house.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails says where by panicking")]

/// As the program has it, which the fuzz tests fill and empty a million times.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod advise;
mod bad_input;
mod cases;
mod checkpoints;
mod cli;
mod deltas;
mod demo;
mod experts;
mod export;
mod floors;
mod foreign;
mod hub;
mod interrupt;
mod model;
mod plan;
mod planning;
mod quant;
mod run;
mod sentences;
mod serving;
mod spectrum;
mod support;
mod talk;
mod train;
