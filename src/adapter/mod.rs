//! [`Adapter`]: a LoRA adapter, `ΔW = scaling · B A`, by whichever program wrote it.
//!
//! A layer of `[out, in]` has `A` (r × in) and `B` (out × r); PEFT's tensors are `base_model.model.<module>.lora_A.weight` and
//! `.lora_B.weight`, the names of other programs are read by their `dialect`. An embedding's are `lora_embedding_A`
//! (r × vocabulary) and `lora_embedding_B` (width × r), and its `ΔW = scaling · (B A)ᵀ`, of the shape `[vocabulary, width]`
//! that the base stores. A convolution's are matrices over its flattened kernel. The experts of a mixture have one pair for
//! all of them (`target_parameters`): A (experts · r × in), expert after expert, and B (out × r · experts), whose columns run
//! through the experts first.
//!
//! What is trained beside the pairs is in [`Adapter::saved`] (weights and biases that replace the base's) and
//! [`Adapter::tokens`] (rows of an embedding).

mod config;
mod dialect;
mod diffusers;
pub mod export;
mod factors;
mod gguf;
mod kinds;
mod kohya;
mod lycoris;
mod mlx;
mod pattern;
mod peft;
mod scaling;
mod source;
mod write;

pub use config::{BlockDiagonal, PeftConfig, TargetModules, TokenIndices};
pub use kinds::{TakenOut, Variant};
pub use pattern::{Budget, Pattern, Patterns};
pub use scaling::Scaling;
pub use write::{Kept, NewAdapter, NewLayer, Pair, stacked};

use crate::checkpoint::{Checkpoint, Dtype, Kind, Place, Role, Tensor, names};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::spec::PeftNames;
use dialect::Dialect;
use factors::{Common, Factors, Source, Stacked};
use peft::Whole;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// An adapter with its settings and layers. Reading the factors happens on demand.
#[derive(Debug)]
pub struct Adapter {
    /// Its settings.
    pub config: PeftConfig,
    /// The adapted layers in natural order.
    pub layers: Vec<LoraLayer>,
    /// Tensors that are saved whole beside the factors: `modules_to_save`, biases, copies of embeddings.
    pub saved: Vec<Saved>,
    /// Rows of embeddings that were trained (`trainable_token_indices`).
    pub tokens: Vec<TrainedTokens>,
    /// Layers whose tensors cannot be used, and why; the others are all in [`layers`](Self::layers).
    pub broken: Vec<(String, Error)>,
    /// Which program's names the file has: `PEFT`, `mlx-lm`, ….
    pub format: &'static str,
    checkpoint: Arc<Checkpoint>,
    trainable: u64,
}

/// One adapted layer.
#[derive(Clone, Debug)]
pub struct LoraLayer {
    /// The module's name, as it was trained; of a stack of experts with the parameter's name behind it.
    pub module: String,
    /// `[out, in]`, of an embedding `[vocabulary, width]`, of a convolution `[out, in · kernel]`, of experts each one's.
    pub shape: [usize; 2],
    /// Rank.
    pub r: usize,
    /// α after `alpha_pattern`.
    pub lora_alpha: f64,
    /// `α / r` or `α / √r`.
    pub scaling: f64,
    /// Storage type of the factors; the coarser one if they differ.
    pub dtype: Dtype,
    /// True for an embedding.
    pub embedding: bool,
    /// Sizes of a convolution's kernel; empty for a linear layer.
    pub kernel: Vec<usize>,
    /// How many experts have a pair of this rank each, where the layer is a stack of them.
    pub experts: Option<usize>,
    /// Number of its block.
    pub layer: Option<usize>,
    /// What it does there.
    pub role: Role,
    /// Elements of A and B, and of a bias, magnitude vector or diagonal if there is one.
    pub parameters: u64,
    /// True when a magnitude vector belongs to it (DoRA): ΔW is then not B·A.
    pub dora: bool,
    /// The rows of its B stand in the order of llama.cpp's rotary embedding, and how many heads they are is in the base alone: see
    /// [`Part::heads`].
    pub turned: bool,
    /// Its magnitudes are those of columns: an embedding's, and LyCORIS' with `wd_on_out=False`.
    pub columns: bool,
    source: Source,
    bias: Option<String>,
    magnitude: Option<String>,
    diagonal: Option<String>,
}

/// A tensor that an adapter holds whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The base's name of it, wrappers left out: `lm_head.weight`, `model.layers.0.self_attn.q_proj.bias`.
    pub name: String,
    /// Name of the tensor in the file.
    pub tensor: String,
    /// Sizes.
    pub shape: Vec<usize>,
    /// True for what was trained; false for a copy of an embedding or head that PEFT writes beside its pair.
    pub trained: bool,
    /// It lies inside a wrapped layer in PEFT's model.
    pub(crate) base_layer: bool,
}

/// Rows of an embedding that an adapter holds: they replace the base's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainedTokens {
    /// The embedding.
    pub module: String,
    /// Which rows.
    pub rows: Vec<usize>,
    /// Name of the tensor in the file, `[rows, width]`.
    pub tensor: String,
    /// Width of the embedding.
    pub width: usize,
}

/// Which part of a layer's ΔW is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The number of an expert, for a stack of them.
    pub expert: Option<usize>,
    /// Rows of ΔW, where a base stores what the layer joins apart (gate above up).
    pub rows: Option<std::ops::Range<usize>>,
    /// The base's weight is the transpose: `ΔW = scaling · Aᵀ Bᵀ` (PEFT takes Llama 4's experts so).
    pub turned: bool,
    /// Heads of the base, for a layer whose rows are [`turned`](LoraLayer::turned).
    pub heads: Option<usize>,
}

impl LoraLayer {
    /// Whether its matrix is, or may be, that of a convolution's flattened kernel: LoHa and LoKr do not say it.
    pub fn is_flat(&self) -> bool {
        !self.kernel.is_empty() || matches!(self.source, Source::Hadamard(..) | Source::Kronecker(..))
    }
}

impl Adapter {
    /// Opens a folder with `adapter_config.json` and the weights, or one of these files.
    ///
    /// # Errors
    /// As [`Checkpoint::open`] and [`from_checkpoint`](Self::from_checkpoint).
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_checkpoint(Arc::new(Checkpoint::open(path)?))
    }

    /// Takes an opened checkpoint as an adapter. Reads no factors. A layer whose tensors do not fit each other or the config is
    /// put among the [`broken`](Self::broken) ones.
    ///
    /// # Errors
    /// When it is no LoRA adapter with its config, holds more than one adapter, or no layer of it can be used.
    pub fn from_checkpoint(checkpoint: Arc<Checkpoint>) -> Result<Self> {
        let path = checkpoint.path();
        if let Some(message) = lycoris::another(&checkpoint).filter(|_| checkpoint.config().is_none()) {
            let known = |tensor: &Tensor| names::is_factor(&tensor.name);
            if !checkpoint.tensors().iter().any(known) {
                return Err(Error::file(path, message));
            }
        }
        if checkpoint.kind() != Kind::Adapter {
            let message = "found a model, expected an adapter: adapter_config.json and adapter_model.safetensors";
            return Err(Error::file(path, message));
        }
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        let dialect = Dialect::of(&checkpoint);
        let dialect::Settings { mut config, scale } = (dialect.settings)(&checkpoint, folder)?;
        let mut factors: BTreeMap<String, Factors> = BTreeMap::new();
        let (mut whole, mut named): (Vec<&Tensor>, Option<Option<&str>>) = (Vec::new(), None);
        for tensor in checkpoint.tensors() {
            let Some(name) = (dialect.parse)(&tensor.name) else {
                whole.push(tensor);
                continue;
            };
            if name.part != dialect::Piece::Foreign && *named.get_or_insert(name.adapter) != name.adapter {
                let message = "found the tensors of more than one adapter, expected one adapter in a file";
                return Err(Error::tensor(checkpoint.file_of(tensor), &tensor.name, message));
            }
            factors.entry(name.module).or_default().add(name.part, tensor);
        }
        if factors.is_empty() {
            let message = "found no lora_A and lora_B tensors, expected base_model.model.<module>.lora_A.weight and .lora_B.weight";
            return Err(Error::file(checkpoint.file_of(&checkpoint.tensors()[0]), message));
        }
        let (mut layers, mut broken) = (Vec::new(), Vec::new());
        let common = Common { checkpoint: &checkpoint, config: &config, scale, transposed: dialect.transposed };
        let stacks: BTreeMap<String, std::result::Result<Option<Stacked>, String>> = factors
            .iter()
            .map(|(module, tensors)| (module.clone(), stack_of(module, tensors, &factors, &config)))
            .collect();
        for (module, tensors) in factors {
            let layer = match stacks.get(&module) {
                Some(Err(message)) => Err(Error::tensor(path, &module, message.as_str())),
                Some(Ok(Some(stack))) => {
                    let stacked = Some(Stacked { name: stack.name.clone() });
                    tensors.layer(&module, stacked, &common)
                }
                _ => tensors.layer(&module, None, &common),
            };
            match layer {
                Ok(layer) => layers.push(layer),
                Err(error) => broken.push((module, error)),
            }
        }
        if layers.is_empty() {
            let first = broken.into_iter().next().map(|(_, error)| error);
            return Err(first.unwrap_or_else(|| Error::file(path, "found no layer that can be read")));
        }
        if gguf::is_turned(&checkpoint) {
            layers.iter_mut().for_each(|layer| layer.turned = matches!(layer.role, Role::Q | Role::K));
        }
        layers.sort_by_cached_key(|layer: &LoraLayer| Place::new(&layer.module, layer.role));
        if scale != dialect::Scale::Config {
            config.r = usual(layers.iter().map(|layer| layer.r as u64)).unwrap_or(8) as usize;
            let alpha = usual(layers.iter().map(|layer| layer.lora_alpha.to_bits()));
            config.lora_alpha = alpha.map_or(8.0, f64::from_bits);
        }
        let Beside { saved, tokens, broken: more } = Beside::of(&whole, &layers, &config, &checkpoint);
        broken.extend(more);
        let trainable = layers.iter().map(|layer| layer.parameters).sum::<u64>()
            + saved.iter().filter(|saved| saved.trained).map(|saved| elements(&saved.shape)).sum::<u64>()
            + tokens.iter().map(|tokens| (tokens.rows.len() * tokens.width) as u64).sum::<u64>();
        Ok(Self { config, layers, saved, tokens, broken, format: dialect.name, trainable, checkpoint })
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

    /// What was trained, as PEFT's `print_trainable_parameters` counts it: factors, magnitudes, biases, modules that are saved
    /// whole, rows of embeddings.
    pub fn trainable(&self) -> u64 {
        self.trainable
    }

    /// A layer by its module's name.
    pub fn layer(&self, module: &str) -> Option<&LoraLayer> {
        self.layers.iter().find(|layer| layer.module == module)
    }

    /// Why a layer's ΔW cannot be had from the adapter alone, if it cannot.
    pub fn problem(&self, layer: &LoraLayer) -> Option<String> {
        layer.dora.then(|| {
            "a DoRA adapter: its magnitude vectors rescale the whole weight, so ΔW is not B·A and needs the base"
                .to_owned()
        })
    }

    /// Why this adapter cannot be put into the weights of its base, if it cannot.
    pub fn unmergeable(&self) -> Option<String> {
        if self.taken_out() == Some(TakenOut::Unknown) {
            return Some(self.unconverted());
        }
        let variant = self.config.variants().find_map(|variant| Some((variant, variant.unmergeable?)));
        if let Some((variant, why)) = variant {
            return Some(format!("an adapter by {} ({}): {why}", variant.name, variant.key));
        }
        let (module, error) = self.broken.first()?;
        Some(format!("{} of its modules cannot be read, the first is {module}: {error}", self.broken.len()))
    }

    /// What its initialisation took out of the base, where that is not undone in the file.
    pub fn taken_out(&self) -> Option<TakenOut> {
        let kasa = self.config.variants().any(|variant| variant.name == "KaSA");
        let init = || self.config.init_lora_weights.as_deref().and_then(TakenOut::by);
        if kasa { Some(TakenOut::Smallest) } else { init() }
    }

    fn unconverted(&self) -> String {
        format!(
            "made with init_lora_weights {:?}, which takes the first B·A out of the base: on the base as it was it would count \
             twice. Save it once more with path_initial_model_for_weight_conversion, PEFT then writes an adapter for the original",
            self.config.init_lora_weights.as_deref().unwrap_or_default()
        )
    }

    /// What is known of PEFT's names without the base: the layers that are adapted as parameters.
    pub fn peft_names(&self) -> PeftNames {
        let weights = self.layers.iter().filter(|layer| layer.experts.is_none()).map(|layer| &layer.module);
        PeftNames::of_parameters(weights.filter(|module| self.config.is_parameter(module)).cloned())
    }

    /// Why its pairs cannot be replaced by smaller ones, if they cannot.
    pub fn unresizable(&self) -> Option<String> {
        let variant = self.config.variants().find(|variant| !variant.product);
        match (variant, self.taken_out()) {
            (Some(variant), _) => Some(format!(
                "an adapter by {} ({}): {}, which a smaller pair alone does not keep",
                variant.name, variant.key, variant.about
            )),
            (None, Some(_)) => Some(self.unconverted()),
            (None, None) => {
                let layer = self.layers.iter().find(|layer| layer.columns && !layer.embedding)?;
                let what =
                    "its magnitudes are those of columns (LyCORIS' wd_on_out=False), which PEFT has no place for";
                Some(format!("{}: {what}", layer.module))
            }
        }
    }

    /// What a person should know before reading ΔW from this adapter.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let init = self.config.init_lora_weights.as_deref().unwrap_or_default();
        if TakenOut::by(init).is_some() {
            notes.push(format!(
                "made with init_lora_weights {init:?}: B·A is relative to a base that the initialisation has changed"
            ));
        }
        notes.extend(self.config.variants().map(|variant| format!("{}: {}", variant.name, variant.about)));
        let whole: Vec<String> =
            self.saved.iter().filter(|saved| saved.trained).map(|saved| saved.name.clone()).collect();
        if !whole.is_empty() {
            notes.push(format!("{} tensors are saved whole and not part of B·A: {}", whole.len(), some(&whole)));
        }
        let turned = self.layers.iter().filter(|layer| layer.turned).count();
        if turned > 0 {
            notes.push(format!(
                "the rows of {turned} query and key layers are in llama.cpp's order, and the file does not say how many heads they are: \
                 beside the base they are put in order"
            ));
        }
        for tokens in &self.tokens {
            notes.push(format!("{} rows of {} were trained beside the pairs", tokens.rows.len(), tokens.module));
        }
        notes.extend(self.broken.iter().map(|(module, error)| format!("left out: {module}: {error}")));
        notes
    }

    /// `(B, A)` with `ΔW = scaling · B A`: B is out × r, A is r × in. An embedding's are transposed to fit that. KaSA's diagonal
    /// is in A. DoRA's ΔW is another: see [`magnitude`](Self::magnitude).
    ///
    /// # Errors
    /// NaN and Inf, counted; a stack of experts, which has many pairs; a file that has become shorter.
    pub fn factors(&self, layer: &LoraLayer) -> Result<(Matrix, Matrix)> {
        self.part(layer, &Part::default())
    }

    /// As [`factors`](Self::factors), for a part of a layer: one expert, some rows.
    ///
    /// # Errors
    /// As [`factors`](Self::factors); a part that the layer does not have.
    pub fn part(&self, layer: &LoraLayer, part: &Part) -> Result<(Matrix, Matrix)> {
        let wrong = |message: &str| Error::tensor(self.path(), &layer.module, message);
        let (mut b, mut a) = self.pair(&layer.source)?;
        if let Some(diagonal) = &layer.diagonal {
            let sigma = self.read(diagonal)?;
            let width = a.cols();
            for (row, sigma) in a.data_mut().chunks_mut(width.max(1)).zip(sigma.data()) {
                row.iter_mut().for_each(|x| *x *= sigma);
            }
        }
        match (layer.experts, part.expert) {
            (None, None) => {}
            (Some(count), Some(expert)) if expert < count => {
                let r = layer.r;
                if a.rows() != count * r || b.cols() != count * r {
                    return Err(wrong("there is no such layer in this adapter"));
                }
                a = Matrix::from_fn(r, a.cols(), |k, j| a.get(expert * r + k, j));
                b = Matrix::from_fn(b.rows(), r, |i, k| b.get(i, k * count + expert));
            }
            _ => return Err(wrong("a stack of experts has a pair for each of them")),
        }
        let (mut b, a) = if layer.embedding { (a.transposed(), b.transposed()) } else { (b, a) };
        if let Some(heads) = part.heads.filter(|&heads| layer.turned && b.rows().is_multiple_of(2 * heads.max(1))) {
            let rows = b.rows();
            let view = crate::checkpoint::View::Heads(heads.max(1));
            b = Matrix::from_fn(rows, b.cols(), |row, k| b.get(view.stored_row(row, rows), k));
        }
        let [out, inner] = layer.shape;
        if b.shape() != [out, layer.r] || a.shape() != [layer.r, inner] {
            return Err(wrong("there is no such layer in this adapter"));
        }
        if part.turned {
            return Ok((a.transposed(), b.transposed()));
        }
        match &part.rows {
            None => Ok((b, a)),
            Some(rows) if rows.start <= rows.end && rows.end <= out => {
                Ok((Matrix::from_fn(rows.len(), layer.r, |i, k| b.get(rows.start + i, k)), a))
            }
            Some(_) => Err(wrong("it has fewer rows")),
        }
    }

    /// The pairs of all experts of a stack, read once.
    ///
    /// # Errors
    /// As [`factors`](Self::factors); a layer that is no stack.
    pub fn experts(&self, layer: &LoraLayer) -> Result<Vec<(Matrix, Matrix)>> {
        let wrong = || Error::tensor(self.path(), &layer.module, "there is no such stack of experts in this adapter");
        let (count, r) = (layer.experts.ok_or_else(wrong)?, layer.r);
        let (b, a) = self.pair(&layer.source)?;
        if a.rows() != count * r || b.cols() != count * r {
            return Err(wrong());
        }
        let of = |expert: usize| {
            let own = Matrix::from_fn(r, a.cols(), |k, j| a.get(expert * r + k, j));
            (Matrix::from_fn(b.rows(), r, |i, k| b.get(i, k * count + expert)), own)
        };
        Ok((0..count).map(of).collect())
    }

    /// DoRA's magnitudes, one for each output (of an embedding for each column): `W′ = m ∘ (W + s B A) / ‖W + s B A‖`, the
    /// norm being that of each row (arXiv 2402.09353).
    ///
    /// # Errors
    /// NaN and Inf, counted; a file that has become shorter.
    pub fn magnitude(&self, layer: &LoraLayer) -> Result<Option<Vec<f32>>> {
        layer.magnitude.as_ref().map(|name| self.read(name).map(Matrix::into_data)).transpose()
    }

    /// The bias of B (`lora_bias`): `scaling` times it is added to the base's bias.
    ///
    /// # Errors
    /// NaN and Inf, counted; a file that has become shorter.
    pub fn bias(&self, layer: &LoraLayer) -> Result<Option<Vec<f32>>> {
        layer.bias.as_ref().map(|name| self.read(name).map(Matrix::into_data)).transpose()
    }

    /// A tensor of the file as `f32`, as [`Checkpoint::tensor_matrix`] shapes it: of [`saved`](Self::saved),
    /// [`tokens`](Self::tokens).
    ///
    /// # Errors
    /// NaN and Inf, counted; a file that has become shorter.
    pub fn read(&self, name: &str) -> Result<Matrix> {
        let tensor = self.checkpoint.tensor(name);
        let tensor =
            tensor.ok_or_else(|| Error::tensor(self.path(), name, "there is no such tensor in this adapter"))?;
        self.checkpoint.tensor_matrix(tensor, &())
    }
}

/// The parameter of a module that a pair belongs to, when it is one of a stack of experts. PEFT wraps the parameters of one
/// module one around the other, the first one innermost, and writes no names: `experts.base_layer.lora_A` is `gate_up_proj`'s
/// where `experts.lora_A` is `down_proj`'s.
fn stack_of(
    module: &str,
    tensors: &Factors,
    all: &BTreeMap<String, Factors>,
    config: &PeftConfig,
) -> std::result::Result<Option<Stacked>, String> {
    const WRAPPER: &str = ".base_layer";
    let stem = module.trim_end_matches(WRAPPER);
    let depth = (module.len() - stem.len()) / WRAPPER.len();
    if config.target_parameters.is_empty() || (depth == 0 && stem.rsplit('.').next() != Some("experts")) {
        return Ok(None);
    }
    let last = |name: &'_ str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let mut parameters: Vec<String> = Vec::new();
    for target in &config.target_parameters {
        let full = format!("{stem}.{}", last(target));
        let meant = full == *target || full.strip_suffix(target.as_str()).is_some_and(|before| before.ends_with('.'));
        if meant && last(target) != "weight" && !parameters.contains(&last(target)) {
            parameters.push(last(target));
        }
    }
    // In the order in which transformers' modules have them.
    let order = ["gate_up_proj", "gate_up_proj_bias", "up_proj", "down_proj", "down_proj_bias"];
    parameters.sort_by_key(|name| (order.iter().position(|known| known == name).unwrap_or(order.len()), name.clone()));
    let deepest = (0..).take_while(|n| all.contains_key(&format!("{stem}{}", WRAPPER.repeat(*n)))).count();
    let rows = tensors.rows().unwrap_or(0);
    if parameters.len() != deepest {
        // Names in a pattern that one of the parameters does not match: what the config lists cannot be told apart.
        let fits = |name: &&String| rows.is_multiple_of(config.rank_of(&format!("{stem}.{name}")));
        let known: Vec<&String> = parameters.iter().filter(fits).collect();
        return match (deepest, &known[..]) {
            (1, [only]) => Ok(Some(Stacked { name: format!("{stem}.{only}") })),
            _ => Err(format!(
                "found pairs for {deepest} parameters, but target_parameters names {}: {}",
                parameters.len(),
                some(&parameters)
            )),
        };
    }
    let name = parameters.get(deepest - 1 - depth).ok_or("found a pair for no parameter of target_parameters")?;
    Ok(Some(Stacked { name: format!("{stem}.{name}") }))
}

/// What is saved beside the pairs.
#[derive(Default)]
struct Beside {
    saved: Vec<Saved>,
    tokens: Vec<TrainedTokens>,
    broken: Vec<(String, Error)>,
}

impl Beside {
    fn of(whole: &[&Tensor], layers: &[LoraLayer], config: &PeftConfig, checkpoint: &Checkpoint) -> Self {
        let (mut beside, mut seen) = (Self::default(), std::collections::BTreeSet::new());
        let adapted = |module: &str| layers.iter().any(|layer| layer.module == module);
        for tensor in whole {
            match peft::whole(&tensor.name) {
                Whole::Unused => {}
                Whole::Rows { module } => {
                    let rows = config.trainable_token_indices.of(&module).unwrap_or_default().to_vec();
                    match tensor.shape[..] {
                        [found, width] if found == rows.len() && tensor.dtype.is_readable() => {
                            let tensor = tensor.name.clone();
                            beside.tokens.push(TrainedTokens { module, rows, tensor, width });
                        }
                        _ => {
                            let message = format!(
                                "found shape {:?} of {}, expected a row for each of the {} ids in trainable_token_indices",
                                tensor.shape,
                                tensor.dtype,
                                rows.len()
                            );
                            let error = Error::tensor(checkpoint.file_of(tensor), &tensor.name, message);
                            beside.broken.push((module, error));
                        }
                    }
                }
                Whole::Tensor { name, base_layer } => {
                    let module = name.rsplit_once('.').map_or(name.as_str(), |(module, _)| module);
                    let bias = name.ends_with(".bias") || name == "bias";
                    let by_bias = bias
                        && match config.bias.as_str() {
                            "all" => true,
                            "lora_only" => adapted(module),
                            _ => false,
                        };
                    let trained = by_bias || (!base_layer && to_save(module, &config.modules_to_save));
                    // A bias of a saved module stands there twice with `bias: all`.
                    if !seen.insert((name.clone(), base_layer)) {
                        continue;
                    }
                    let shape = tensor.shape.clone();
                    beside.saved.push(Saved { name, tensor: tensor.name.clone(), shape, trained, base_layer });
                }
            }
        }
        beside
    }
}

impl Saved {
    /// Whether it belongs to a module that one name of `modules_to_save` means.
    pub fn is_of(&self, end: &str) -> bool {
        let module = self.name.rsplit_once('.').map_or(self.name.as_str(), |(module, _)| module);
        to_save(module, &[end.to_owned()])
    }
}

/// Whether PEFT saves a module whole: its name, or that of one it is part of, ends with one of `modules_to_save`.
fn to_save(module: &str, modules_to_save: &[String]) -> bool {
    let ends = |name: &str| modules_to_save.iter().any(|end| name.ends_with(end.as_str()));
    ends(module) || module.match_indices('.').any(|(at, _)| ends(&module[..at]))
}

fn elements(shape: &[usize]) -> u64 {
    shape.iter().fold(1u64, |product, &size| product.saturating_mul(size as u64))
}

/// The most frequent of some values, of equals the first.
fn usual(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut counts: Vec<(u64, usize)> = Vec::new();
    for value in values {
        match counts.iter_mut().find(|(known, _)| *known == value) {
            Some((_, count)) => *count += 1,
            None => counts.push((value, 1)),
        }
    }
    counts.iter().rev().max_by_key(|(_, count)| *count).map(|(value, _)| *value)
}

/// The first few of a list.
fn some(names: &[String]) -> String {
    const MAX: usize = 3;
    let more = if names.len() > MAX { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(MAX)].join(", "))
}
