//! `rankscope convert`: an adapter or a model in another program's format.

use super::choice;
use super::screen::Screen;
use crate::adapter::{Adapter, export};
use crate::checkpoint::{Checkpoint, Dtype, Kind};
use crate::error::{Error, Result};
use crate::train::gguf;
use crate::train::merge::{Change, write_model_in};
use crate::units::bytes;
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Formats that models are written in, beside those of adapters.
const MODELS: [&str; 2] = ["gguf", "safetensors"];

fn formats() -> PossibleValuesParser {
    export::formats().chain(["safetensors"]).into()
}

#[derive(Debug, Args)]
pub struct Convert {
    /// Adapter (PEFT, mlx-lm, kohya, diffusers, GGUF) or model: a folder or file
    path: PathBuf,

    /// Target format: of an adapter peft, mlx (mlx-lm), gguf (llama.cpp, Ollama) or kohya (image models); of a model gguf or safetensors
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    to: String,

    /// Output folder; for gguf and kohya also a file
    #[arg(long, value_name = "PATH")]
    out: PathBuf,

    /// Base model of the adapter: required for gguf; peft takes module names from it
    #[arg(long, value_name = "MODEL")]
    base: Option<PathBuf>,

    /// Adapter to merge into the model first
    #[arg(long, value_name = "ADAPTER", conflicts_with = "base")]
    adapter: Option<PathBuf>,

    /// Data type of a GGUF model's weights [default: f16]
    #[arg(long = "type", value_name = "TYPE", value_parser = PossibleValuesParser::new(gguf::kinds()))]
    kind: Option<String>,

    /// Data type of a safetensors model [default: that of each tensor]
    #[arg(long, value_parser = choice::written())]
    dtype: Option<Dtype>,

    /// Largest safetensors file in GB; what is larger is written in several, with an index
    #[arg(long, value_name = "GB", default_value = "5")]
    shard_size: f64,
}

/// What was written, for the document.
struct Made {
    kind: &'static str,
    from: String,
    path: PathBuf,
    tensors: usize,
    bytes: u64,
    notes: Vec<String>,
}

impl Convert {
    pub fn run(self, screen: &Screen) -> Result<()> {
        let checkpoint = Arc::new(Checkpoint::open(&self.path)?);
        let same = |path: &Path| path.canonicalize().ok();
        if same(&self.out).is_some_and(|out| Some(out) == same(&self.path)) {
            return Err(Error::file(&self.out, "this is what is read; expected another place to write to"));
        }
        let made = match checkpoint.kind() {
            Kind::Model => self.model(&checkpoint, screen),
            Kind::Adapter => self.adapter(checkpoint, screen),
        };
        screen.finish();
        let Made { kind, from, path, tensors, bytes: size, notes } = made?;
        if screen.json {
            return screen.document(&json!({
                "kind": kind,
                "from": from,
                "to": self.to,
                "out": path,
                "tensors": tensors,
                "bytes": size,
                "notes": notes,
            }));
        }
        for note in &notes {
            screen.message(&format!("note: {note}"));
        }
        screen.print(&format!("{tensors} tensors, {}\n{}\n", bytes(size), path.display()))
    }

    fn adapter(&self, checkpoint: Arc<Checkpoint>, screen: &Screen) -> Result<Made> {
        if self.adapter.is_some() || self.kind.is_some() || self.dtype.is_some() {
            return Err(Error::usage("--adapter, --type and --dtype go with a model, and this is an adapter"));
        }
        if self.to == "safetensors" {
            return Err(Error::usage("an adapter is written as peft, mlx, gguf or kohya; safetensors is for models"));
        }
        let adapter = Adapter::from_checkpoint(checkpoint)?;
        let base = self.base.as_deref().map(Checkpoint::open).transpose()?;
        let made = adapter.export(&self.to, base.as_ref(), &self.out, screen)?;
        let export::Exported { path, tensors, bytes, notes } = made;
        Ok(Made { kind: "adapter", from: adapter.format.to_owned(), path, tensors, bytes, notes })
    }

    fn model(&self, model: &Checkpoint, screen: &Screen) -> Result<Made> {
        if !MODELS.contains(&self.to.as_str()) {
            let message =
                format!("found a model, which is written as {}; {} is for adapters", MODELS.join(" or "), self.to);
            return Err(Error::file(&self.path, message));
        }
        if self.base.is_some() {
            return Err(Error::usage("--base goes with an adapter; --adapter merges one into this model"));
        }
        let adapter = self.adapter.as_deref().map(Adapter::open).transpose()?;
        let change = adapter.as_ref().map_or(Change::Nothing, Change::Adapter);
        let from = model.format().to_owned();
        if self.to == "gguf" {
            if self.dtype.is_some() {
                return Err(Error::usage("--dtype goes with safetensors; the types of a GGUF model are --type"));
            }
            let made = gguf::write(model, &change, self.kind.as_deref().unwrap_or("f16"), &self.out, screen)?;
            let gguf::Written { path, tensors, bytes, notes } = made;
            return Ok(Made { kind: "model", from, path, tensors, bytes, notes });
        }
        if self.kind.is_some() {
            return Err(Error::usage("--type goes with gguf; the type of a safetensors model is --dtype"));
        }
        if !(self.shard_size.is_finite() && self.shard_size > 0.0) {
            return Err(Error::usage(format!("shard-size {}; expected a number of GB above 0", self.shard_size)));
        }
        let limit = (self.shard_size * 1e9) as u64;
        let notes = write_model_in(model, &change, self.dtype, &self.out, limit, screen)?;
        let written = Checkpoint::open(&self.out)?;
        let (tensors, bytes) = (written.tensors().len(), written.bytes());
        Ok(Made { kind: "model", from, path: self.out.clone(), tensors, bytes, notes })
    }
}
