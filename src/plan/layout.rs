//! [`Layout`]: a model's weights and their shapes, as far as counting goes.

use super::presets;
use super::shape::Shape;
use crate::checkpoint::{Checkpoint, Dtype, Kind, Role};
use crate::error::{Error, Result};
use std::path::Path;

/// One weight of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// The module's name, without `.weight`: `model.layers.0.self_attn.q_proj`.
    pub name: String,
    /// What the module does.
    pub role: Role,
    /// Its block, counted from 0; `None` outside the blocks.
    pub layer: Option<usize>,
    /// Rows of the weight: the size of the module's output; the length of a vector.
    pub d_out: usize,
    /// Columns of the weight: the size of the module's input; 1 for a vector.
    pub d_in: usize,
    /// Whether this is the weight of a linear layer inside the model: no embedding, head, norm or stack of matrices.
    pub linear: bool,
    /// Elements of the weight and, in a preset, of its bias; 0 for a stored copy of another weight.
    pub parameters: u64,
    /// How it is stored; in a preset BF16, as most models are published.
    pub dtype: Dtype,
}

impl Weight {
    /// True for what LoRA can be put on: a linear layer, an embedding or a head.
    pub fn adaptable(&self) -> bool {
        let table = matches!(self.role, Role::Embedding | Role::Head) && self.d_in > 1;
        (self.linear || table) && self.max_rank() > 0
    }

    /// The largest rank that `B·A` of this shape can have, `min(d_out, d_in)`.
    pub fn max_rank(&self) -> usize {
        self.d_out.min(self.d_in)
    }

    /// `d_in + d_out`: what one unit of rank costs.
    pub fn cost(&self) -> u64 {
        self.d_in as u64 + self.d_out as u64
    }

    /// The last part of the name, which is what `target_modules` usually names: `q_proj`.
    pub fn leaf(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

/// A model's weights and their shapes.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// The model's name, for a person.
    pub name: String,
    /// All parameters of the model; tied weights count once.
    pub parameters: u64,
    /// Every weight, in the order of the model.
    pub weights: Vec<Weight>,
    /// A sentence about where the numbers come from or what they leave out.
    pub note: Option<String>,
    /// The sizes of the decoder, where a `config.json` or a preset gives them.
    pub shape: Option<Shape>,
}

impl Layout {
    /// The weights of an open model.
    ///
    /// # Errors
    /// Bad input when it is an adapter.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        if checkpoint.kind() == Kind::Adapter {
            return Err(Error::file(checkpoint.path(), "is an adapter; expected the model that it was trained on"));
        }
        let weights: Vec<Weight> = checkpoint
            .modules()
            .iter()
            .map(|module| {
                let [d_out, d_in] = if let [length] = module.shape[..] { [length, 1] } else { module.matrix_shape() };
                Weight {
                    name: module.name.clone(),
                    role: module.role,
                    layer: module.layer,
                    d_out,
                    d_in,
                    linear: module.linear,
                    parameters: module.parameters,
                    dtype: module.dtype,
                }
            })
            .collect();
        let stacks = checkpoint.modules().iter().filter(|module| module.shape.len() > 2).count();
        let note = (stacks > 0).then(|| {
            format!(
                "{stacks} weights are stacks of matrices, such as the experts of a mixture; LoRA leaves them alone here"
            )
        });
        let shape = checkpoint.config().and_then(|config| Shape::of_config(config).ok());
        Ok(Self { name: checkpoint.name(), parameters: checkpoint.parameters(), weights, note, shape })
    }

    /// The published architecture with this identifier or name: `gpt3-175b`, `Llama-3.1-8B`, `meta-llama/Llama-3.1-8B`.
    ///
    /// # Errors
    /// Bad input when there is none by that name; the sentence names some that are close.
    pub fn preset(name: &str) -> Result<Self> {
        presets::find(name).map(presets::Preset::layout)
    }

    /// The model that a hub `config.json` describes, without its weights.
    ///
    /// # Errors
    /// Bad input when the file cannot be read, is not JSON, lacks a size, or names an architecture that is not known here.
    pub fn of_config(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(|error| Error::read(path, "open", &error))?;
        let config = serde_json::from_slice(&text)
            .map_err(|error| Error::file(path, format!("is not JSON ({error}); expected a model's config.json")))?;
        let shape = Shape::of_config(&config).map_err(|message| Error::file(path, message))?;
        let name = path.parent().and_then(Path::file_name).unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self::from_shape(name, &shape))
    }

    /// The model that these sizes describe.
    pub fn from_shape(name: impl Into<String>, shape: &Shape) -> Self {
        let weights = shape.weights();
        let parameters = weights.iter().map(|weight| weight.parameters).sum();
        Self { name: name.into(), parameters, weights, note: None, shape: Some(*shape) }
    }

    /// `Σ d_out · d_in` over the linear layers of the blocks: what QLoRA quantizes. The head stays out.
    pub fn linear_parameters(&self) -> u64 {
        let linear = self.weights.iter().filter(|weight| weight.linear);
        linear.map(|weight| weight.d_out as u64 * weight.d_in as u64).sum()
    }

    /// Number of blocks.
    pub fn layers(&self) -> usize {
        self.weights.iter().filter_map(|weight| weight.layer).max().map_or(0, |last| last + 1)
    }

    /// The distinct last names of linear layers, in the model's order: what an error can offer.
    pub fn leaves(&self) -> Vec<&str> {
        let mut leaves: Vec<&str> = Vec::new();
        for weight in self.weights.iter().filter(|weight| weight.linear) {
            if !leaves.contains(&weight.leaf()) {
                leaves.push(weight.leaf());
            }
        }
        leaves
    }
}
