//! `rankscope convert`: an adapter in another program's format.

use super::screen::Screen;
use crate::adapter::{Adapter, export};
use crate::checkpoint::{Checkpoint, Kind};
use crate::error::{Error, Result};
use crate::units::bytes;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Args)]
pub struct Convert {
    /// Adapter: a folder or file of PEFT, mlx-lm or diffusers
    path: PathBuf,

    /// Target format: peft, mlx (mlx-lm), gguf (llama.cpp, Ollama) or kohya (image models)
    #[arg(long, value_name = "FORMAT", value_parser = clap::builder::PossibleValuesParser::new(export::formats()))]
    to: String,

    /// Output folder; for gguf and kohya also a file
    #[arg(long, value_name = "PATH")]
    out: PathBuf,

    /// Base model: required for gguf; peft takes module names from it
    #[arg(long, value_name = "MODEL")]
    base: Option<PathBuf>,
}

impl Convert {
    pub fn run(self, screen: &Screen) -> Result<()> {
        let checkpoint = Arc::new(Checkpoint::open(&self.path)?);
        if checkpoint.kind() == Kind::Model {
            return Err(Error::file(&self.path, "found a model, expected an adapter: models are not converted here"));
        }
        let adapter = Adapter::from_checkpoint(checkpoint)?;
        let folder = |path: &std::path::Path| path.canonicalize().ok();
        if folder(&self.out).is_some_and(|out| Some(out) == folder(&self.path)) {
            return Err(Error::file(&self.out, "this is what is read; expected another place to write to"));
        }
        let base = self.base.as_deref().map(Checkpoint::open).transpose()?;
        let made = adapter.export(&self.to, base.as_ref(), &self.out, screen);
        screen.finish();
        let made = made?;
        if screen.json {
            return screen.document(&json!({
                "kind": "adapter",
                "from": adapter.format,
                "to": self.to,
                "out": made.path,
                "tensors": made.tensors,
                "bytes": made.bytes,
                "notes": made.notes,
            }));
        }
        for note in &made.notes {
            screen.message(&format!("note: {note}"));
        }
        let size = bytes(made.bytes);
        screen.print(&format!("{} tensors, {size}\n{}\n", made.tensors, made.path.display()))
    }
}
