//! [`Adapter::export`]: an adapter as another program reads it. A format is one file here and one line in `FORMATS`.

use super::{Adapter, LoraLayer};
use super::{gguf, kohya, mlx, write};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::Progress;
use std::path::Path;

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// The file with the tensors, or the folder.
    pub path: std::path::PathBuf,
    /// Number of tensors.
    pub tensors: usize,
    /// Size of the file with the tensors.
    pub bytes: u64,
    /// What a person should know: what the format cannot hold.
    pub notes: Vec<String>,
}

/// An adapter on its way into a format.
pub(super) struct Job<'a> {
    pub(super) adapter: &'a Adapter,
    /// The model that it was made for, where it is there: some formats need its sizes or names.
    pub(super) base: Option<&'a Checkpoint>,
    pub(super) out: &'a Path,
    pub(super) progress: &'a dyn Progress,
}

type Write = fn(&Job) -> Result<Exported>;

/// The formats by the words of the command line.
const FORMATS: [(&str, Write); 4] =
    [("peft", write::export), ("mlx", mlx::export), ("kohya", kohya::export), ("gguf", gguf::export)];

/// The words for formats that adapters can be written in.
pub fn formats() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().map(|(name, _)| *name)
}

impl Adapter {
    /// Writes the adapter in the format `to`, into the folder or file `out`.
    ///
    /// # Errors
    /// A format that is not known, an adapter that the format cannot hold (by name), factors that cannot be read, a file that
    /// cannot be written; and cancellation.
    pub fn export(&self, to: &str, base: Option<&Checkpoint>, out: &Path, progress: &dyn Progress) -> Result<Exported> {
        let format = FORMATS.iter().find(|(name, _)| *name == to);
        let (_, write) = format.ok_or_else(|| {
            let known: Vec<&str> = formats().collect();
            Error::usage(format!("format {to:?}; expected one of {}", known.join(", ")))
        })?;
        if let Some(why) = self.unresizable() {
            return Err(Error::file(self.path(), why));
        }
        write(&Job { adapter: self, base, out, progress })
    }
}

impl Job<'_> {
    /// Refuses what a format of plain pairs cannot hold, by name.
    pub(super) fn plain(&self, format: &str, dora: bool) -> Result<()> {
        let adapter = self.adapter;
        let wrong = |name: &str, what: &str| {
            Err(Error::tensor(
                adapter.path(),
                name,
                format!("{what}, which {format} has no place for; merge the adapter"),
            ))
        };
        if let Some(saved) = adapter.saved.iter().find(|saved| saved.trained) {
            return wrong(&saved.name, "a tensor that is saved whole");
        }
        if let Some(tokens) = adapter.tokens.first() {
            return wrong(&tokens.module, "trained rows of an embedding");
        }
        for layer in &adapter.layers {
            if layer.embedding {
                return wrong(&layer.module, "a pair on an embedding");
            }
            if layer.experts.is_some() {
                return wrong(&layer.module, "one pair for a stack of experts");
            }
            if layer.dora && !dora {
                return wrong(&layer.module, "DoRA's magnitudes");
            }
            if layer.columns {
                return wrong(&layer.module, "magnitudes of columns (LyCORIS' wd_on_out=False)");
            }
            if adapter.bias(layer)?.is_some() {
                return wrong(&layer.module, "a bias of B");
            }
        }
        if !adapter.broken.is_empty() {
            return Err(Error::file(adapter.path(), adapter.unmergeable().unwrap_or_default()));
        }
        Ok(())
    }

    /// The layer with its rows in transformers' order.
    pub(super) fn in_order(&self, layer: &LoraLayer) -> Result<super::Part> {
        let part = layer.in_order(self.base);
        if layer.turned && part.heads.is_none() {
            let message = "its rows are in llama.cpp's order, and the base, which says how many heads it has, is not given; expected --base";
            return Err(Error::tensor(self.adapter.path(), &layer.module, message));
        }
        Ok(part)
    }

    /// B times `factor` and A of a layer.
    pub(super) fn scaled(&self, layer: &LoraLayer, factor: f64) -> Result<(Matrix, Matrix)> {
        let (mut b, a) = self.adapter.part(layer, &self.in_order(layer)?)?;
        if factor != 1.0 {
            b.data_mut().iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
        }
        Ok((b, a))
    }
}
