//! `rankscope eval`: the loss of a model on data.

use super::screen::Screen;
use super::settings::{Evaluation, Given};
use crate::adapter::Adapter;
use crate::checkpoint::Checkpoint;
use crate::device::Choice;
use crate::error::Result;
use crate::model::gpu;
use crate::model::{Decoder, Frozen};
use crate::train::{data, evaluate};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Eval {
    /// Model: a folder as on the Hugging Face Hub
    model: PathBuf,

    /// Evaluation data: JSON lines, a JSON array, CSV, TSV, Parquet (input_ids, text, prompt and completion, instruction and output,
    /// messages, conversations), or plain text
    #[arg(long, value_name = "FILE")]
    data: PathBuf,

    /// Adapter of the model
    #[arg(long, value_name = "ADAPTER")]
    adapter: Option<PathBuf>,

    #[command(flatten)]
    given: Given<Evaluation>,
}

impl Eval {
    pub fn run(self, screen: &Screen, device: Choice) -> Result<()> {
        let settings = self.given.settings()?;
        let place = gpu::open(device, settings.dtype)?;
        if let Some(note) = place.brief() {
            screen.message(note);
        }
        let checkpoint = Checkpoint::open(&self.model)?;
        let data = data::read_with(&self.data, &checkpoint, settings.seq, &settings.data_options(), screen)?;
        for note in &data.notes {
            screen.message(&format!("{}: {note}", self.data.display()));
        }
        let decoder = match &self.adapter {
            Some(path) => Decoder::with_adapter(&checkpoint, &Adapter::open(path)?, Frozen::AsStored, screen)?,
            None => Decoder::load(&checkpoint, Frozen::AsStored, screen)?,
        };
        let loss = evaluate(&*place.engine(&decoder)?, &decoder, &data.rows, settings.batch, screen)?;
        screen.finish();
        if screen.json {
            let (mean, tokens) = (loss.mean(), loss.count);
            let (perplexity, sure) = (mean.exp(), loss.sure());
            return screen.document(&json!({"loss": mean, "perplexity": perplexity, "tokens": tokens, "sure": sure}));
        }
        screen.print(&format!(
            "loss {:.6}, perplexity {:.4}, over {} tokens, of which {} get more than half of the probability\n",
            loss.mean(),
            loss.mean().exp(),
            loss.count,
            crate::units::percent(loss.sure())
        ))
    }
}
