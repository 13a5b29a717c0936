//! `rankscope eval`: the loss of a model on data.

use super::screen::Screen;
use crate::adapter::Adapter;
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::{Decoder, Frozen, Pool};
use crate::train::{data, evaluate};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Eval {
    /// The model: a folder as on the hub
    model: PathBuf,

    /// JSON lines (input_ids, text, prompt and completion, instruction and output, messages) or plain text
    #[arg(long, value_name = "FILE")]
    data: PathBuf,

    /// An adapter for it
    #[arg(long, value_name = "ADAPTER")]
    adapter: Option<PathBuf>,

    /// Longest sequence in tokens
    #[arg(long, default_value_t = 512)]
    seq: usize,

    /// Sequences at once
    #[arg(long, default_value_t = 4)]
    batch: usize,
}

impl Eval {
    pub fn run(self, screen: &Screen) -> Result<()> {
        let checkpoint = Checkpoint::open(&self.model)?;
        let data = data::read(&self.data, &checkpoint, self.seq, &())?;
        for note in &data.notes {
            screen.message(&format!("{}: {note}", self.data.display()));
        }
        let mut decoder = Decoder::load(&checkpoint, Frozen::AsStored, screen)?;
        if let Some(path) = &self.adapter {
            decoder.attach(&Adapter::open(path)?)?;
        }
        let loss = evaluate(&decoder, &data.rows, self.batch, &Pool::default(), screen)?;
        screen.finish();
        if screen.json {
            let (mean, tokens) = (loss.mean(), loss.count);
            return screen.document(&json!({"loss": mean, "perplexity": mean.exp(), "tokens": tokens}));
        }
        screen.print(&format!(
            "loss {:.6}, perplexity {:.4}, over {} tokens\n",
            loss.mean(),
            loss.mean().exp(),
            loss.count
        ))
    }
}
