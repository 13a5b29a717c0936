//! [`NewAdapter`]: an adapter that is yet to be written, as PEFT reads it.

use super::export::{Exported, Job};
use super::factors::Source;
use super::{Adapter, LoraLayer, Patterns, PeftConfig, Saved, Scaling, TargetModules, TrainedTokens, usual};
use crate::checkpoint::names::PEFT;
use crate::checkpoint::write::{Planned, Tensor, can_store, write_lazily, write_whole};
use crate::checkpoint::{Checkpoint, Dtype, NameMap};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::spec::PeftNames;
use serde_json::Value;
use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// One layer to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewLayer {
    /// The base's name of the module.
    pub module: String,
    /// `[out, in]`, of an embedding `[vocabulary, width]`.
    pub shape: [usize; 2],
    /// Rank.
    pub r: usize,
    /// α.
    pub lora_alpha: f64,
    /// True for an embedding.
    pub embedding: bool,
    /// Sizes of a convolution's kernel; empty for a linear layer.
    pub kernel: Vec<usize>,
    /// True when B has a bias.
    pub bias: bool,
    /// True when there is a magnitude vector (DoRA).
    pub magnitude: bool,
    /// How many experts have a pair of this rank and shape each, where the layer is a parameter that has all of them: its name is
    /// then the module's with the parameter's behind it, and its pair is [`stacked`].
    pub experts: Option<usize>,
}

/// The pairs of all experts as PEFT's `target_parameters` store them: A expert after expert, `[experts · r, in]`, and B with the
/// expert's number running fastest, `[out, r · experts]`.
pub fn stacked(pairs: &[(Matrix, Matrix)]) -> (Matrix, Matrix) {
    let count = pairs.len().max(1);
    let (out, r, inner) = pairs.first().map_or((0, 0, 0), |(b, a)| (b.rows(), a.rows(), a.cols()));
    let b = Matrix::from_fn(out, r * count, |i, k| pairs[k % count].0.get(i, k / count));
    (b, Matrix::from_fn(r * count, inner, |k, j| pairs[k / r.max(1)].1.get(k % r.max(1), j)))
}

/// The values of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// out × r.
    pub b: Matrix,
    /// r × in.
    pub a: Matrix,
    /// The bias of B, where the layer has one.
    pub bias: Option<Vec<f32>>,
    /// DoRA's magnitudes, where the layer has them.
    pub magnitude: Option<Vec<f32>>,
}

impl From<(Matrix, Matrix)> for Pair {
    fn from((b, a): (Matrix, Matrix)) -> Self {
        Self { b, a, bias: None, magnitude: None }
    }
}

/// What stands behind a module in the name of the parameter that PEFT adapts in its place.
pub(super) const WEIGHT: &str = ".weight";

/// A tensor that goes into the file as another adapter has it.
#[derive(Clone, Debug)]
struct Carried {
    name: String,
    from: Arc<Checkpoint>,
    tensor: String,
}

/// Settings and layers of an adapter.
#[derive(Clone, Debug, Default)]
pub struct NewAdapter {
    /// The layers.
    pub layers: Vec<NewLayer>,
    /// What is said beside ranks, α and target modules, which follow from the layers.
    pub config: PeftConfig,
    /// All modules of the base: a last name stands for every module that has it.
    pub modules: Vec<String>,
    /// What PEFT calls modules, and which of them it adapts as parameters.
    pub names: PeftNames,
    /// What goes into the file as another adapter has it: see [`carry`](Self::carry).
    pub kept: Kept,
}

/// What is taken over from another adapter.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    tensors: Vec<Carried>,
    /// Ranks and α of layers that are carried over as they are.
    ranks: Vec<(String, usize, f64)>,
}

impl NewAdapter {
    /// Of layers that have the base's names.
    pub fn of(base: &Checkpoint, layers: Vec<NewLayer>, config: PeftConfig) -> Self {
        let modules = base.modules().iter().map(|module| module.name.clone()).collect();
        let names = base.spec().map(|spec| spec.peft_names()).unwrap_or_default();
        Self { layers, config, modules, names, ..Self::default() }
    }

    /// Of layers of which nobody knows in what they are: each has the name that the file gets.
    pub fn alone(layers: Vec<NewLayer>, config: PeftConfig) -> Self {
        let modules = layers.iter().map(|layer| layer.module.clone()).collect();
        Self { layers, config, modules, ..Self::default() }
    }

    /// Takes over what another adapter holds beside the pairs that are written anew: saved weights and biases, rows of
    /// embeddings, and the stacks of experts.
    pub fn carry(&mut self, adapter: &Adapter) {
        let (from, tensors) = (adapter.checkpoint(), &mut self.kept.tensors);
        let mut carry = |name: String, tensor: &str| {
            tensors.push(Carried { name, from: Arc::clone(from), tensor: tensor.to_owned() });
        };
        for saved in &adapter.saved {
            carry(saved.peft_name(), &saved.tensor);
        }
        for tokens in &adapter.tokens {
            carry(tokens.peft_name(), &tokens.tensor);
        }
        for layer in adapter.layers.iter().filter(|layer| layer.experts.is_some()) {
            // The two factors keep PEFT's own names, which say which parameter they belong to.
            let Source::Pair { a, b } = &layer.source else { continue };
            for factor in [a, b] {
                let name = crate::checkpoint::names::unwrapped(&factor.tensor);
                carry(format!("{PEFT}{name}"), &factor.tensor);
            }
            let alpha = self.config.scaling.alpha(layer.scaling, layer.r);
            self.kept.ranks.push((layer.module.clone(), layer.r, alpha));
        }
    }

    /// `Σ r (d_in + d_out)`, biases and magnitudes.
    pub fn trainable(&self) -> u64 {
        let one = |layer: &NewLayer| {
            let [out, inner] = layer.shape.map(|size| size as u64);
            let width = if layer.embedding { inner } else { out };
            let pairs = layer.experts.unwrap_or(1) as u64;
            pairs * (out + inner) * layer.r as u64 + width * (u64::from(layer.bias) + u64::from(layer.magnitude))
        };
        self.layers.iter().map(one).sum()
    }

    /// `adapter_config.json` by PEFT's names: what most layers have in `r` and `lora_alpha`, the others in the patterns.
    pub fn to_json(&self) -> Value {
        let r = usual(self.layers.iter().map(|layer| layer.r as u64)).unwrap_or(8) as usize;
        let alpha = usual(self.layers.iter().map(|layer| layer.lora_alpha.to_bits())).map_or(8.0, f64::from_bits);
        let (mut ranks, mut alphas) = (Vec::new(), Vec::new());
        let layers = self.layers.iter().map(|layer| (&layer.module, layer.r, layer.lora_alpha));
        for (module, own_r, own_alpha) in
            layers.chain(self.kept.ranks.iter().map(|(name, r, alpha)| (name, *r, *alpha)))
        {
            if own_r != r {
                ranks.push((self.target(module), own_r));
            }
            if own_alpha != alpha {
                alphas.push((self.target(module), own_alpha));
            }
        }
        let target_modules = match &self.config.target_modules {
            TargetModules::Unsaid => TargetModules::Names(self.targets()),
            said => said.clone(),
        };
        let named = self.layers.iter().filter(|layer| self.is_parameter(layer)).map(|layer| self.target(&layer.module));
        // Another adapter's weights among them follow from the layers, as its target modules do; its stacks are carried over.
        let mut parameters = self.config.target_parameters.clone();
        parameters.retain(|name| !name.ends_with(WEIGHT));
        parameters.extend(named);
        let config = PeftConfig {
            target_parameters: parameters,
            r,
            lora_alpha: alpha,
            rank_pattern: Patterns::names(ranks),
            alpha_pattern: Patterns::names(alphas),
            target_modules,
            use_dora: self.layers.iter().any(|layer| layer.magnitude),
            lora_bias: self.layers.iter().any(|layer| layer.bias),
            ..self.config.clone()
        };
        config.to_json()
    }

    /// The shortest names that mean these layers and no others: the last part of a name where every module that has it
    /// is among them, otherwise the whole name.
    pub fn targets(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for layer in self.layers.iter().filter(|layer| !self.is_parameter(layer)) {
            let leaf = leaf(&layer.module);
            let there = self.modules.iter().filter(|name| self::leaf(name) == leaf).count();
            let here = self.layers.iter().filter(|other| self::leaf(&other.module) == leaf).count();
            let name = if there <= here { leaf.to_owned() } else { self.names.class(&layer.module) };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.sort();
        names
    }

    /// What the config calls a module, or the parameter that PEFT adapts in its place.
    fn target(&self, module: &str) -> String {
        let name = self.names.class(module);
        if self.names.is_parameter(module) { format!("{name}{WEIGHT}") } else { name }
    }

    fn is_parameter(&self, layer: &NewLayer) -> bool {
        layer.experts.is_some() || self.names.is_parameter(&layer.module)
    }

    /// What a layer's tensors are named by. PEFT wraps the parameters of one module one around the other, the first one innermost,
    /// and writes no names of them.
    fn stem(&self, layer: &NewLayer) -> String {
        let (Some(_), Some((module, parameter))) = (layer.experts, layer.module.rsplit_once('.')) else {
            return layer.module.clone();
        };
        let outer = format!("{module}.down_proj");
        let both = parameter != "down_proj" && self.layers.iter().any(|other| other.module == outer);
        if both { format!("{module}.base_layer") } else { module.to_owned() }
    }

    /// Writes both files into `folder`. `factors` gives the values of a layer, one layer after the other: no more than one pair
    /// is in memory.
    ///
    /// # Errors
    /// When there are no layers, what `factors` says, or when a file cannot be written; nothing is left behind then.
    pub fn write(&self, folder: &Path, dtype: Dtype, factors: &(dyn Fn(usize) -> Result<Pair> + Sync)) -> Result<()> {
        if self.layers.is_empty() {
            return Err(Error::failure("there are no layers to write an adapter of"));
        }
        // In the order of the file, so that the tensors of a layer come one after the other.
        let mut order: Vec<usize> = (0..self.layers.len()).collect();
        order.sort_by(|&a, &b| self.layers[a].module.cmp(&self.layers[b].module));
        let mut slots: Vec<(Slot, Planned)> = Vec::new();
        for at in order {
            let stem = self.names.class(&self.stem(&self.layers[at]));
            let planned = self.layers[at].planned(&stem, dtype);
            slots.extend(planned.map(|(piece, planned)| (Slot::Layer(at, piece), planned)));
        }
        for (at, carried) in self.kept.tensors.iter().enumerate() {
            let tensor = carried.find()?;
            let dtype = if can_store(tensor.dtype) { tensor.dtype } else { Dtype::F32 };
            slots.push((Slot::Carried(at), (carried.name.clone(), tensor.shape.clone(), dtype)));
        }
        let planned: Vec<Planned> = slots.iter().map(|(_, planned)| planned.clone()).collect();
        let last: Mutex<Option<(usize, Pair)>> = Mutex::new(None);
        write_lazily(&folder.join("adapter_model.safetensors"), &planned, &(), &|at, _| {
            let (slot, (name, shape, dtype)) = &slots[at];
            let &(layer, piece) = match slot {
                Slot::Carried(at) => return self.kept.tensors[*at].copy(shape, *dtype),
                Slot::Layer(layer, piece) => &(*layer, *piece),
            };
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.as_ref().is_none_or(|(number, _)| *number != layer) {
                *last = None;
                let pair = factors(layer)?;
                self.layers[layer].check(&pair)?;
                *last = Some((layer, pair));
            }
            let Some((_, pair)) = last.as_ref() else { return Err(Error::failure("a layer was lost")) };
            // An embedding's A and B are the transposes of the other's factor.
            let values = match (piece, self.layers[layer].embedding) {
                (Piece::A, false) => Cow::Borrowed(pair.a.data()),
                (Piece::B, false) => Cow::Borrowed(pair.b.data()),
                (Piece::A, true) => Cow::Owned(pair.b.transposed().into_data()),
                (Piece::B, true) => Cow::Owned(pair.a.transposed().into_data()),
                (Piece::Bias, _) => Cow::Borrowed(pair.bias.as_deref().unwrap_or_default()),
                (Piece::Magnitude, _) => Cow::Borrowed(pair.magnitude.as_deref().unwrap_or_default()),
            };
            Ok(Tensor::new(name.clone(), shape.clone(), &values, *dtype))
        })?;
        let config = serde_json::to_string_pretty(&self.to_json());
        let config = config.map_err(|error| Error::failure(error.to_string()))?;
        write_whole(&folder.join("adapter_config.json"), config.as_bytes())
    }
}

impl Saved {
    /// The name that PEFT writes.
    pub fn peft_name(&self) -> String {
        let name = match self.name.rsplit_once('.') {
            Some((module, leaf)) if self.base_layer => format!("{module}.base_layer.{leaf}"),
            _ => self.name.clone(),
        };
        format!("{}{name}", PEFT)
    }
}

impl TrainedTokens {
    /// The name that PEFT writes.
    pub fn peft_name(&self) -> String {
        format!("{}{}.token_adapter.trainable_tokens_delta", PEFT, self.module)
    }
}

/// Where a tensor of the file comes from.
enum Slot {
    Layer(usize, Piece),
    Carried(usize),
}

#[derive(Clone, Copy)]
enum Piece {
    A,
    B,
    Bias,
    Magnitude,
}

impl Carried {
    fn find(&self) -> Result<&crate::checkpoint::Tensor> {
        let missing = || Error::tensor(self.from.path(), &self.tensor, "there is no such tensor in this adapter");
        self.from.tensor(&self.tensor).ok_or_else(missing)
    }

    fn copy(&self, shape: &[usize], dtype: Dtype) -> Result<Tensor<'static>> {
        let tensor = self.find()?;
        if tensor.dtype == dtype {
            let bytes = Cow::Owned(self.from.copy_of(tensor)?);
            return Ok(Tensor { name: self.name.clone(), shape: shape.to_vec(), dtype, bytes });
        }
        let values = self.from.tensor_matrix(tensor, &())?.into_data();
        Ok(Tensor::new(self.name.clone(), shape.to_vec(), &values, dtype))
    }
}

impl NewLayer {
    /// Names, sizes and type of its tensors in the file.
    fn planned(&self, stem: &str, dtype: Dtype) -> impl Iterator<Item = (Piece, Planned)> + use<> {
        let [out, inner] = self.shape;
        let name = |part: &str| format!("{PEFT}{stem}.{part}");
        let r = self.r * self.experts.unwrap_or(1);
        let mut list = Vec::with_capacity(4);
        if self.embedding {
            list.push((Piece::A, (name("lora_embedding_A"), vec![self.r, out], dtype)));
            list.push((Piece::B, (name("lora_embedding_B"), vec![inner, self.r], dtype)));
        } else {
            let kernel: usize = self.kernel.iter().product::<usize>().max(1);
            let a = [&[r, inner / kernel], &self.kernel[..]].concat();
            let b = [&[out, r], &vec![1; self.kernel.len()][..]].concat();
            list.push((Piece::A, (name("lora_A.weight"), a, dtype)));
            list.push((Piece::B, (name("lora_B.weight"), b, dtype)));
        }
        let width = if self.embedding { inner } else { out };
        if self.bias {
            list.push((Piece::Bias, (name("lora_B.bias"), vec![width], dtype)));
        }
        if self.magnitude {
            list.push((Piece::Magnitude, (name("lora_magnitude_vector"), vec![width], dtype)));
        }
        list.into_iter()
    }

    fn check(&self, pair: &Pair) -> Result<()> {
        let width = if self.embedding { self.shape[1] } else { self.shape[0] };
        let length = |values: &Option<Vec<f32>>, there: bool| {
            values.as_ref().map_or(!there, |values| there && values.len() == width)
        };
        let r = self.r * self.experts.unwrap_or(1);
        let fits = ([pair.b.rows(), pair.a.cols()], pair.b.cols(), pair.a.rows()) == (self.shape, r, r)
            && length(&pair.bias, self.bias)
            && length(&pair.magnitude, self.magnitude);
        if fits { Ok(()) } else { Err(Error::failure(format!("the factors of {} have another size", self.module))) }
    }
}

fn leaf(module: &str) -> &str {
    module.rsplit('.').next().unwrap_or(module)
}

/// Writes the adapter as PEFT reads it: the same pairs, saved tensors and trained tokens under PEFT's names. With the base, names
/// of other programs become the base's.
///
/// # Errors
/// What reading and writing say.
pub(super) fn export(job: &Job) -> Result<Exported> {
    let adapter = job.adapter;
    let modules: Vec<String> =
        job.base.map(|base| base.modules().iter().map(|module| module.name.clone()).collect()).unwrap_or_default();
    let names = NameMap::new(modules.iter().map(String::as_str));
    let mut notes = Vec::new();
    let layers: Vec<&LoraLayer> = adapter.layers.iter().filter(|layer| layer.experts.is_none()).collect();
    let mut new = Vec::with_capacity(layers.len());
    for layer in &layers {
        let found = names.find(&layer.module).map(|at| modules[at].clone());
        if found.is_none() && job.base.is_some() {
            notes.push(format!("{} is not in the base and keeps its name", layer.module));
        }
        new.push(NewLayer {
            module: found.unwrap_or_else(|| layer.module.clone()),
            shape: layer.shape,
            r: layer.r,
            lora_alpha: layer.scaling * layer.r as f64,
            embedding: layer.embedding,
            kernel: layer.kernel.clone(),
            bias: adapter.bias(layer)?.is_some(),
            magnitude: layer.dora,
            experts: None,
        });
    }
    let known = adapter.format == "PEFT" && modules.is_empty();
    let config = PeftConfig {
        scaling: Scaling::Rank,
        block_diagonal: None,
        inference_mode: true,
        target_modules: if known { adapter.config.target_modules.clone() } else { TargetModules::Unsaid },
        ..adapter.config.clone()
    };
    let mut written = match job.base {
        Some(base) => NewAdapter::of(base, new, config),
        None => NewAdapter { names: adapter.peft_names(), ..NewAdapter::alone(new, config) },
    };
    written.carry(adapter);
    let coarse = |layer: &&&LoraLayer| layer.dtype == Dtype::F32 || !can_store(layer.dtype);
    let dtype = if layers.iter().any(|layer| coarse(&layer)) {
        Dtype::F32
    } else {
        layers.first().map_or(Dtype::F32, |layer| layer.dtype)
    };
    let total = layers.len() as u64;
    written.write(job.out, dtype, &|at| {
        job.progress.step(at as u64, total)?;
        let (b, a) = adapter.part(layers[at], &job.in_order(layers[at])?)?;
        Ok(Pair { b, a, bias: adapter.bias(layers[at])?, magnitude: adapter.magnitude(layers[at])? })
    })?;
    let bytes = std::fs::metadata(job.out.join("adapter_model.safetensors")).map_or(0, |about| about.len());
    let tensors =
        written.layers.iter().map(|layer| 2 + usize::from(layer.bias) + usize::from(layer.magnitude)).sum::<usize>()
            + written.kept.tensors.len();
    Ok(Exported { path: job.out.to_path_buf(), tensors, bytes, notes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn layer(module: &str, r: usize, lora_alpha: f64) -> NewLayer {
        NewLayer { module: module.to_owned(), shape: [4, 3], r, lora_alpha, ..NewLayer::default() }
    }

    #[test]
    fn what_is_usual_stands_once() {
        let modules = ["h.0.q", "h.1.q", "h.2.q", "h.0.k", "h.1.k"].map(str::to_owned).to_vec();
        let layers =
            vec![layer("h.0.q", 2, 2.0), layer("h.1.q", 2, 2.0), layer("h.2.q", 1, 1.0), layer("h.0.k", 2, 0.5)];
        let config = NewAdapter { layers, modules, ..NewAdapter::default() }.to_json();
        assert_eq!(config["r"], 2);
        assert_eq!(config["lora_alpha"], 2);
        assert_eq!(config["rank_pattern"], json!({"h.2.q": 1}));
        assert_eq!(config["alpha_pattern"], json!({"h.2.q": 1, "h.0.k": 0.5}));
        // h.1.k has no pair: k alone would mean it too.
        assert_eq!(config["target_modules"], json!(["h.0.k", "q"]));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let embedding = NewLayer { embedding: true, shape: [5, 3], ..layer("model.embed_tokens", 2, 2.0) };
        let conv = NewLayer { kernel: vec![3, 3], shape: [4, 18], ..layer("conv", 2, 2.0) };
        let full = NewLayer { bias: true, magnitude: true, ..layer("model.layers.2.mlp.up_proj", 2, 2.0) };
        let layers = vec![layer("model.layers.10.mlp.up_proj", 1, 1.0), embedding, conv, full];
        let config = PeftConfig { scaling: Scaling::Rank, ..PeftConfig::default() };
        let adapter = NewAdapter { layers: layers.clone(), config, ..NewAdapter::default() };
        let value = |layer: usize, part: usize, i: usize, j: usize| (1000 * layer + 100 * part + 10 * i + j) as f32;
        let factors = |at: usize| {
            let NewLayer { shape: [out, inner], r, bias, magnitude, .. } = layers[at];
            let b = Matrix::from_fn(out, r, |i, j| value(at, 0, i, j));
            let a = Matrix::from_fn(r, inner, |i, j| value(at, 1, i, j));
            let vector = |there: bool, x: f32| there.then(|| vec![x; out]);
            Ok(Pair { b, a, bias: vector(bias, 1.5), magnitude: vector(magnitude, 2.5) })
        };
        adapter.write(folder.path(), Dtype::F32, &factors).unwrap();
        // One layer is DoRA's, for PEFT all of them are then.
        let path = folder.path().join("adapter_config.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"use_dora\": true") && text.contains("\"lora_bias\": true"), "{text}");
        std::fs::write(&path, text.replace("\"use_dora\": true", "\"use_dora\": false")).unwrap();
        let read = Adapter::open(folder.path()).unwrap();
        assert_eq!((read.layers.len(), read.trainable()), (4, adapter.trainable()));
        for (at, expected) in layers.iter().enumerate() {
            let layer = read.layer(&expected.module).unwrap();
            assert_eq!((layer.r, layer.lora_alpha, layer.scaling), (expected.r, expected.lora_alpha, 1.0));
            assert_eq!((&layer.kernel, layer.shape), (&expected.kernel, expected.shape));
            let Pair { b, a, bias, magnitude } = factors(at).unwrap();
            assert_eq!(read.factors(layer).unwrap(), (b, a));
            assert_eq!((read.bias(layer).unwrap(), read.magnitude(layer).unwrap()), (bias, magnitude));
        }
        let wrong = |_: usize| Ok((Matrix::zeros(1, 1), Matrix::zeros(1, 1)).into());
        let error = adapter.write(folder.path(), Dtype::F32, &wrong).unwrap_err();
        assert!(error.to_string().contains("another size"), "{error}");
    }
}
