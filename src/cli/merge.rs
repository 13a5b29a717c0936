//! `rankscope merge`: a model with an adapter merged into its weights.

use super::choice;
use super::screen::Screen;
use crate::adapter::Adapter;
use crate::checkpoint::{Checkpoint, Dtype};
use crate::error::Result;
use crate::train::merge::{Change, write_model};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Merge {
    /// Base model: a folder as on the Hugging Face Hub
    #[arg(long, value_name = "MODEL")]
    base: PathBuf,

    /// Adapter to merge
    #[arg(long, value_name = "ADAPTER")]
    adapter: PathBuf,

    /// Output folder for the merged model
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Data type of the merged model [default: that of each tensor]
    #[arg(long, value_parser = choice::written())]
    dtype: Option<Dtype>,
}

impl Merge {
    pub fn run(self, screen: &Screen) -> Result<()> {
        let (base, adapter) = (Checkpoint::open(&self.base)?, Adapter::open(&self.adapter)?);
        let written = write_model(&base, &Change::Adapter(&adapter), self.dtype, &self.out, screen);
        screen.finish();
        let notes = written?;
        let layers = adapter.layers.len();
        if screen.json {
            return screen.document(&json!({"out": self.out, "merged": layers, "notes": notes}));
        }
        for note in &notes {
            screen.message(&format!("note: {note}"));
        }
        screen.print(&format!("{layers} layers merged\n{}\n", self.out.display()))
    }
}
