//! What the Quantization tab: a weight in a few bits, its error, and what that does to ΔW.

use crate::job::{Status, Wake};

use super::command::Round;

/// What the tab asks for.
#[derive(Clone, Debug)]
pub enum Ask {}

/// What is computed and known for the tab; panels look at it and push [`Ask`]s.
pub struct Quantization {
    _wake: Wake,
}

impl Quantization {
    /// Nothing yet; `wake` makes the window look again.
    pub fn new(wake: Wake) -> Self {
        Self { _wake: wake }
    }

    /// Takes in what has come and begins what is wanted.
    pub fn think(&mut self, _round: &mut Round<'_>) {}

    /// Carries out what was asked for.
    pub fn carry_out(&mut self, ask: Ask, _round: &mut Round<'_>) {
        match ask {}
    }

    /// The jobs that a person can see and stop.
    pub fn running(&self) -> Vec<(&str, Status)> {
        Vec::new()
    }

    /// Stops the job of this title.
    pub fn cancel(&mut self, _title: &str) {}
}
