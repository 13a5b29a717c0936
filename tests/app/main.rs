//! The window, driven by name as a person with a screen reader would drive it: no display and no graphics card needed.
//! Laying out a text with a sign that no font has fails the test that does it: the harness is left at that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails says where by panicking")]

#[path = "../it/support.rs"]
mod fixtures;

mod bad_input;
mod cancelling;
mod choose;
mod cluster;
mod commands;
mod hub;
mod idle;
mod learn;
mod names;
mod narrow;
mod opening;
mod parameters;
mod pixels;
mod planning;
mod quantization;
mod rank;
mod runs;
mod selecting;
mod settings;
mod support;
mod training;
