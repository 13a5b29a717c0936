//! `rankscope generate`: goes on with a text.

use super::screen::Screen;
use crate::adapter::Adapter;
use crate::checkpoint::Checkpoint;
use crate::device::Choice;
use crate::error::{Error, Result};
use crate::model::gpu::{self, Kind};
use crate::model::{Decoder, Frozen};
use crate::train::{Sampling, Text, generate};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Generate {
    /// The model: a folder as on the hub
    model: PathBuf,

    /// An adapter for it
    #[arg(long, value_name = "ADAPTER")]
    adapter: Option<PathBuf>,

    /// The text to go on with
    #[arg(long)]
    prompt: String,

    /// Tokens at most
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_new_tokens: usize,

    /// 0 always takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,

    /// Of the draws
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// The prompt is a person's turn of a conversation, through the model's chat template
    #[arg(long)]
    chat: bool,

    /// What a GPU keeps weights and activations as: bf16 or f32
    #[arg(long, value_parser = super::kind, value_name = "f32|bf16")]
    dtype: Option<Kind>,
}

impl Generate {
    pub fn run(self, screen: &Screen, device: Choice) -> Result<()> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(Error::usage(format!("temperature {}; expected 0 or more", self.temperature)));
        }
        let place = gpu::open(device, self.dtype)?;
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
