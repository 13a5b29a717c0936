//! Copying and saving plots and tables.

use eframe::egui::Context;

use super::Message;
use crate::job::Wake;

/// What is to be copied or saved.
#[derive(Clone, Debug)]
pub enum Export {}

/// Carries exports out.
pub struct Exporter {}

impl Exporter {
    /// Nothing to do yet.
    pub fn new(_wake: Wake) -> Self {
        Self {}
    }

    /// Begins one.
    pub fn begin(&mut self, _ctx: &Context, export: Export) {
        match export {}
    }

    /// Goes on with what was begun.
    pub fn think(&mut self, _ctx: &Context, _message: &mut Message) {}
}
