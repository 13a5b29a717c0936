//! `rankscope generate`: goes on with a text.

use super::screen::Screen;
use super::settings::{Generation, Given};
use crate::adapter::Adapter;
use crate::checkpoint::Checkpoint;
use crate::device::Choice;
use crate::error::{Error, Result};
use crate::model::gpu;
use crate::model::{Decoder, Frozen};
use crate::train::{Sampling, Text, generate};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Generate {
    /// Model: a folder as on the Hugging Face Hub
    model: PathBuf,

    /// Adapter of the model
    #[arg(long, value_name = "ADAPTER")]
    adapter: Option<PathBuf>,

    /// Prompt to continue
    #[arg(long)]
    prompt: String,

    /// Largest number of new tokens
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_new_tokens: usize,

    /// Sampling temperature; 0 is greedy decoding
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,

    /// Seed of the sampling
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Render the prompt as a user message by the model's chat template
    #[arg(long)]
    chat: bool,

    #[command(flatten)]
    given: Given<Generation>,
}

impl Generate {
    pub fn run(self, screen: &Screen, device: Choice) -> Result<()> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(Error::usage(format!("temperature {}; expected 0 or more", self.temperature)));
        }
        let place = gpu::open(device, self.given.settings()?.dtype)?;
        if let Some(note) = place.brief() {
            screen.message(note);
        }
        let checkpoint = Checkpoint::open(&self.model)?;
        let text = Text::of(&checkpoint, None)?;
        let decoder = match &self.adapter {
            Some(path) => Decoder::with_adapter(&checkpoint, &Adapter::open(path)?, Frozen::AsStored, screen)?,
            None => Decoder::load(&checkpoint, Frozen::AsStored, screen)?,
        };
        let ids = if self.chat {
            let rendered = text.render(&[json!({"role": "user", "content": self.prompt})], true)?;
            text.rendered_ids(&rendered)?
        } else {
            text.ids(&self.prompt)?
        };
        let sampling =
            Sampling { most: self.max_new_tokens, temperature: self.temperature, seed: self.seed, eos: text.eos };
        let new = generate(&*place.engine(&decoder)?, &decoder, &ids, sampling, screen)?;
        screen.finish();
        let new = text.text(&new)?;
        if screen.json { screen.document(&json!({"text": new})) } else { screen.print(&format!("{new}\n")) }
    }
}
