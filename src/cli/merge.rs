//! `rankscope merge`: a model with an adapter merged into its weights.

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
    /// The base model: a folder as on the hub
    #[arg(long, value_name = "MODEL")]
    base: PathBuf,

    /// The adapter
    #[arg(long, value_name = "ADAPTER")]
    adapter: PathBuf,

    /// Folder for the merged model
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Type of the tensors written; each one's own by default
    #[arg(long, value_parser = ["f32", "f16", "bf16"])]
    dtype: Option<String>,
}

impl Merge {
    pub fn run(self, screen: &Screen) -> Result<()> {
        let (base, adapter) = (Checkpoint::open(&self.base)?, Adapter::open(&self.adapter)?);
        let dtype = self.dtype.as_deref().map(|name| match name {
            "f16" => Dtype::F16,
            "bf16" => Dtype::BF16,
            _ => Dtype::F32,
        });
        let written = write_model(&base, &Change::Adapter(&adapter), dtype, &self.out, screen);
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
