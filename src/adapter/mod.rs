//! [`Adapter`]: a PEFT LoRA adapter, `ΔW = scaling · B A`.
//!
//! A layer of `[out, in]` has `A` (r × in) and `B` (out × r), in tensors `base_model.model.<module>.lora_A.weight` and
//! `.lora_B.weight`. An embedding's are `lora_embedding_A` (r × vocabulary) and `lora_embedding_B` (width × r), and its
//! `ΔW = scaling · (B A)ᵀ`, of the shape `[vocabulary, width]` that the base stores.

mod config;
mod factors;
mod pattern;
mod write;

pub use config::{LoraConfig, TargetModules};
pub use pattern::Patterns;
pub use write::{NewAdapter, NewLayer};

use crate::checkpoint::{Checkpoint, Dtype, Kind, Place, Role};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use factors::{Factors, Name, PREFIX};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// An adapter with its settings and layers. Reading the factors happens on demand.
#[derive(Debug)]
pub struct Adapter {
    /// Its settings.
    pub config: LoraConfig,
    /// The adapted layers in natural order.
    pub layers: Vec<LoraLayer>,
    /// Tensors that are saved whole beside the factors (`modules_to_save`, biases).
    pub saved: Vec<String>,
    checkpoint: Arc<Checkpoint>,
    trainable: u64,
}

/// One adapted layer.
#[derive(Clone, Debug)]
pub struct LoraLayer {
    /// The base's name of the module.
    pub module: String,
    /// `[out, in]`, of an embedding `[vocabulary, width]`.
    pub shape: [usize; 2],
    /// Rank: rows of A.
    pub r: usize,
    /// α after `alpha_pattern`.
    pub lora_alpha: f64,
    /// `α / r` or `α / √r`.
    pub scaling: f64,
    /// Storage type of the factors; the coarser one if they differ.
    pub dtype: Dtype,
    /// True for an embedding.
    pub embedding: bool,
    /// Number of its block.
    pub layer: Option<usize>,
    /// What it does there.
    pub role: Role,
    /// Elements of A and B, and of a bias or magnitude vector if there is one.
    pub parameters: u64,
    /// True when a magnitude vector belongs to it (DoRA): ΔW is then not B·A.
    pub dora: bool,
    a: String,
    b: String,
}

impl Adapter {
    /// Opens a folder with `adapter_config.json` and `adapter_model.safetensors`, or one of these files.
    ///
    /// # Errors
    /// As [`Checkpoint::open`] and [`from_checkpoint`](Self::from_checkpoint).
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_checkpoint(Arc::new(Checkpoint::open(path)?))
    }

    /// Takes an opened checkpoint as an adapter. Reads no factors.
    ///
    /// # Errors
    /// When it is not a LoRA adapter with its config, when a factor is missing, has the wrong shape or type, or when
    /// ranks disagree, between A and B or with the config.
    pub fn from_checkpoint(checkpoint: Arc<Checkpoint>) -> Result<Self> {
        let path = checkpoint.path();
        if checkpoint.kind() != Kind::Adapter {
            let message = "found a model, expected an adapter: adapter_config.json and adapter_model.safetensors";
            return Err(Error::file(path, message));
        }
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        let Some(json) = checkpoint.adapter_config() else {
            let message =
                "found no adapter_config.json that can be read, expected one beside the weights: r and α stand in it";
            return Err(Error::file(folder, message));
        };
        let config = LoraConfig::parse(json, &folder.join("adapter_config.json"))?;
        let mut factors: BTreeMap<&str, Factors> = BTreeMap::new();
        let (mut saved, mut trainable, mut named) = (Vec::new(), 0u64, None);
        for tensor in checkpoint.tensors() {
            let Some(name) = Name::parse(&tensor.name) else {
                saved.push(tensor.name.strip_prefix(PREFIX).unwrap_or(&tensor.name).to_owned());
                continue;
            };
            if *named.get_or_insert(name.adapter) != name.adapter {
                let message = "found the tensors of more than one adapter, expected one adapter in a file";
                return Err(Error::tensor(checkpoint.file_of(tensor), &tensor.name, message));
            }
            trainable = trainable.saturating_add(tensor.elements());
            factors.entry(name.module).or_default().add(&checkpoint, name.part, tensor)?;
        }
        if factors.is_empty() {
            let message = "found no lora_A and lora_B tensors, expected base_model.model.<module>.lora_A.weight and .lora_B.weight";
            return Err(Error::file(checkpoint.file_of(&checkpoint.tensors()[0]), message));
        }
        let layers = factors.into_iter().map(|(module, factors)| factors.layer(module, &config, &checkpoint));
        let mut layers = layers.collect::<Result<Vec<LoraLayer>>>()?;
        layers.sort_by_cached_key(|layer| Place::new(&layer.module, layer.role));
        Ok(Self { config, layers, saved, trainable, checkpoint })
    }

    /// The adapter's folder or file.
    pub fn path(&self) -> &Path {
        self.checkpoint.path()
    }

    /// What a person would call it.
    pub fn name(&self) -> String {
        self.checkpoint.name()
    }

    /// The files behind it.
    pub fn checkpoint(&self) -> &Arc<Checkpoint> {
        &self.checkpoint
    }

    /// Elements of all LoRA tensors: what was trained.
    pub fn trainable(&self) -> u64 {
        self.trainable
    }

    /// A layer by its module's name.
    pub fn layer(&self, module: &str) -> Option<&LoraLayer> {
        self.layers.iter().find(|layer| layer.module == module)
    }

    /// Why a layer's ΔW is not `scaling · B A`, if it is not.
    pub fn problem(&self, layer: &LoraLayer) -> Option<String> {
        (layer.dora || self.config.use_dora).then(|| {
            "a DoRA adapter: its magnitude vectors rescale the whole weight, so ΔW is not B·A and is not computed here".to_owned()
        })
    }

    /// What a person should know before reading ΔW from this adapter.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(init) = self.config.init_lora_weights.as_deref().filter(|init| changes_base(init)) {
            notes.push(format!(
                "made with init_lora_weights {init:?}: B·A is relative to a base that the initialisation has changed"
            ));
        }
        if !self.saved.is_empty() {
            notes.push(format!(
                "{} tensors are saved whole and not part of B·A: {}",
                self.saved.len(),
                some(&self.saved)
            ));
        }
        notes
    }

    /// `(B, A)` with `ΔW = scaling · B A`: B is out × r, A is r × in. An embedding's are transposed to fit that.
    ///
    /// # Errors
    /// NaN and Inf, counted; for DoRA, where B·A is not ΔW; a file that has become shorter.
    pub fn factors(&self, layer: &LoraLayer) -> Result<(Matrix, Matrix)> {
        if let Some(problem) = self.problem(layer) {
            return Err(Error::tensor(self.path(), &layer.module, problem));
        }
        let (b, a) = (self.read(&layer.b)?, self.read(&layer.a)?);
        let (b, a) = if layer.embedding { (a.transposed(), b.transposed()) } else { (b, a) };
        let [out, inner] = layer.shape;
        if b.shape() == [out, layer.r] && a.shape() == [layer.r, inner] {
            Ok((b, a))
        } else {
            Err(Error::tensor(self.path(), &layer.module, "there is no such layer in this adapter"))
        }
    }

    fn read(&self, name: &str) -> Result<Matrix> {
        let tensor = self.checkpoint.tensor(name);
        let tensor =
            tensor.ok_or_else(|| Error::tensor(self.path(), name, "there is no such tensor in this adapter"))?;
        self.checkpoint.tensor_matrix(tensor, &())
    }
}

/// Initialisations that subtract the first B·A from the base.
fn changes_base(init: &str) -> bool {
    ["pissa", "olora", "corda", "loftq", "lora_ga"].iter().any(|name| init.to_ascii_lowercase().starts_with(name))
}

/// The first few of a list.
fn some(names: &[String]) -> String {
    const MOST: usize = 3;
    let more = if names.len() > MOST { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(MOST)].join(", "))
}
