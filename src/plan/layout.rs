//! [`Layout`]: a model's weights and their shapes, as far as counting goes.

use super::presets;
use crate::checkpoint::{Checkpoint, Dtype, Group, Kind, Place, Role, expert_of, layer_of};
use crate::error::{Error, Result};
use crate::guard;
use crate::spec::{ModelSpec, ModuleSpec, RecurrenceSpec, goes_to_four_bits};
use std::path::Path;
use std::sync::Arc;

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
    /// One copy of a module of a spec.
    fn of_module(name: String, module: &ModuleSpec) -> Self {
        let [d_out, d_in] = module.shape;
        Self {
            name,
            role: module.role,
            layer: module.layer,
            d_out,
            d_in,
            linear: module.linear,
            parameters: module.parameters() / module.copies as u64,
            dtype: Dtype::BF16,
        }
    }

    /// True for what LoRA can be put on: a linear layer, an embedding or a head.
    pub fn adaptable(&self) -> bool {
        let table = matches!(self.role, Role::Embedding | Role::Head) && self.d_in > 1;
        (self.linear || table) && self.max_rank() > 0
    }

    /// Whether it is the kernel of a convolution inside a mixer: `[channels, rows that one sees]`, kept as it is computed with.
    pub fn is_kernel(&self) -> bool {
        self.leaf().ends_with("conv1d") || self.name.ends_with(".conv.conv")
    }

    /// The largest rank that `B·A` of this shape can have, `min(d_out, d_in)`.
    pub fn max_rank(&self) -> usize {
        self.d_out.min(self.d_in)
    }

    /// `d_in + d_out`: what one unit of rank costs. Gate and up projections of experts are one weight of twice as many rows for
    /// PEFT, which gives it twice the rank: either then costs `d_in + 2 d_out`.
    pub fn cost(&self) -> u64 {
        self.d_in as u64 + self.d_out as u64 * if self.is_fused() { 2 } else { 1 }
    }

    /// The rank that a pair has here where `r` is asked for: no more than the smaller side. Gate and up of an expert have half of that
    /// of the pair that they share.
    pub fn clipped_rank(&self, r: usize) -> usize {
        match self.is_fused() {
            true => r.min(self.d_out).min(self.d_in.div_ceil(2)),
            false => r.min(self.max_rank()),
        }
    }

    /// What a pair of rank `r` costs where it has no more than the smaller side, as here.
    pub fn clipped_cost(&self, r: usize) -> u64 {
        match self.is_fused() {
            // Half of the pair that gate and up have.
            true => self.cost() * r.saturating_mul(2).min(2 * self.d_out).min(self.d_in) as u64 / 2,
            false => self.cost() * r.min(self.max_rank()) as u64,
        }
    }

    fn is_fused(&self) -> bool {
        self.is_expert() && matches!(self.role, Role::Gate | Role::Up)
    }

    /// Whether QLoRA keeps it in 4 bits.
    pub fn goes_to_four_bits(&self) -> bool {
        goes_to_four_bits(self.linear, self.role, self.d_out)
    }

    /// Whether it is a matrix of one expert of a mixture.
    pub fn is_expert(&self) -> bool {
        expert_of(&self.name).is_some()
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
    /// What the decoder computes, where a `config.json` or a preset says it.
    pub spec: Option<Arc<ModelSpec>>,
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
        let spec = checkpoint.spec().ok().map(Arc::clone);
        Ok(Self { name: checkpoint.name(), parameters: checkpoint.parameters(), weights, note, spec })
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
        let text = guard::text(path, guard::MOST)?;
        let config = serde_json::from_str(&text)
            .map_err(|error| Error::file(path, format!("is not JSON ({error}); expected a model's config.json")))?;
        let spec = ModelSpec::of_config(&config, path, None)?;
        let name = path.parent().and_then(Path::file_name).unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self::from_spec(name, spec))
    }

    /// The model that a spec describes.
    pub fn from_spec(name: impl Into<String>, spec: ModelSpec) -> Self {
        let modules = spec.modules().flat_map(|module| module.names().map(move |name| Weight::of_module(name, module)));
        let norms = spec.norms().filter(|norm| norm.weight);
        let norms = norms.flat_map(|norm| norm.tensors().map(move |(name, values)| (norm, name, values)));
        let norms = norms.map(|(norm, name, values)| Weight {
            layer: layer_of(&name),
            name,
            role: Role::Norm,
            d_out: norm.width,
            d_in: 1,
            linear: false,
            parameters: values as u64 * if norm.bias { 2 } else { 1 },
            dtype: Dtype::BF16,
        });
        let tensors = spec.blocks.iter().filter_map(|block| block.recurrence()).flat_map(RecurrenceSpec::tensors);
        let tensors = tensors.map(|(name, count)| Weight {
            name: name.to_owned(),
            role: Role::of(name),
            layer: layer_of(name),
            d_out: count,
            d_in: 1,
            linear: false,
            parameters: count as u64,
            dtype: Dtype::BF16,
        });
        let mut weights: Vec<Weight> = modules.chain(norms).chain(tensors).collect();
        weights.sort_by_cached_key(|weight| Place::new(&weight.name, weight.role));
        Self { name: name.into(), parameters: spec.parameters(), weights, note: None, spec: Some(Arc::new(spec)) }
    }

    /// `Σ d_out · d_in` over the linear layers of the blocks: what QLoRA quantizes. The head stays out.
    pub fn linear_parameters(&self) -> u64 {
        let linear = self.weights.iter().filter(|weight| weight.goes_to_four_bits());
        linear.map(|weight| weight.d_out as u64 * weight.d_in as u64).sum()
    }

    /// Whether `all-linear` means a linear weight as PEFT takes it. transformers keeps experts and their routers as parameters: of
    /// most families PEFT makes these targets' parameters, and the MLPs of the same names beside them are left out; of the
    /// others it leaves experts and routers alone. Where it refuses a Mamba mixer's `out_proj`, that is none either.
    pub fn in_all_linear(&self, weight: &Weight) -> bool {
        if self.spec.as_ref().is_some_and(|spec| spec.refused_by_peft(weight.leaf())) {
            return false;
        }
        let Some(experts) = self.spec.as_ref().and_then(|spec| spec.experts().next()) else { return true };
        let router = weight.role == Role::Router && weight.d_out > 1;
        match experts.peft.converted {
            true => router || weight.is_expert() || weight.role.group() != Group::Mlp,
            false => !weight.is_expert() && (!router || experts.peft.linear_router),
        }
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
