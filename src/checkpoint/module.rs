//! [`Module`]: one weight of a model, with its place and role.

use super::four_bit::{SIDE, State};
use super::packed::{All, Packed};
use super::role::{expert, place};
use super::{Dtype, Group, Role, Tensor};
use crate::spec::families::{decoder, of_family};
use crate::spec::{ModelSpec, ModuleSpec};
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::HashMap;

/// One weight. Linear ones read `[out, in]`, however the file stores them.
#[derive(Clone, Debug)]
pub struct Module {
    /// The checkpoint's own name, without `.weight`.
    pub name: String,
    /// `[out, in]` for a matrix; the stored sizes for everything else.
    pub shape: Vec<usize>,
    /// Storage type; NF4 or FP4 for a 4-bit weight.
    pub dtype: Dtype,
    /// Number of its block.
    pub layer: Option<usize>,
    /// What it does there.
    pub role: Role,
    /// True for a matrix that multiplies activations inside the model: no embedding, head or norm.
    pub linear: bool,
    /// What it adds to [`Checkpoint::parameters`](super::Checkpoint::parameters): its elements, 4-bit ones as what they
    /// stand for; 0 for a tied copy and for integers.
    pub parameters: u64,
    /// Bytes in the file, without the constants of a 4-bit weight.
    pub bytes: u64,
    /// True when the config says that this is another name for the embedding.
    pub tied: bool,
    /// Why its values cannot be read, if they cannot.
    pub problem: Option<String>,
    /// How it is stored, in words, where that is more than its type.
    pub about: Option<String>,
    /// Position in the checkpoint's tensors.
    pub(super) tensor: usize,
    /// Stored as `[in, out]`.
    pub(super) transposed: bool,
    pub(super) state: Option<State>,
    pub(super) packed: Option<Packed>,
    pub(super) slice: Option<Slice>,
}

/// Which part of a tensor a module is that stands with others in it: an expert's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Its number.
    pub number: usize,
    /// How many there are.
    pub of: usize,
    /// A plain file has each as `[in, out]`.
    pub transposed: bool,
}

impl Module {
    /// As a matrix: `[out, in]`, a vector as one row, more than two sizes as `[first, product of the others]`.
    pub fn matrix_shape(&self) -> [usize; 2] {
        matrix_shape(&self.shape)
    }

    /// ε of the type that its values have: the storage type, or for 4-bit codes the type they were made from. 2^-23
    /// where nothing is known.
    pub fn epsilon(&self) -> f64 {
        let packed = self.packed.as_ref().map_or(self.dtype, |packed| packed.original);
        let dtype = self.state.as_ref().map_or(packed, |state| state.original);
        dtype.epsilon().unwrap_or(f64::from(f32::EPSILON))
    }

    /// True when the file stores it as `[in, out]` (transformers' Conv1D).
    pub fn is_transposed(&self) -> bool {
        self.transposed
    }

    /// Which part of a tensor it is, where several modules stand in one.
    pub fn slice(&self) -> Option<Slice> {
        self.slice
    }

    /// True when it has exactly two sizes.
    pub fn is_matrix(&self) -> bool {
        self.shape.len() == 2
    }
}

/// See [`Module::matrix_shape`].
pub(super) fn matrix_shape(shape: &[usize]) -> [usize; 2] {
    match *shape {
        [] => [1, 1],
        [cols] => [1, cols],
        [rows, ref others @ ..] => [rows, product(others)],
    }
}

/// Product of sizes; 0 when one of them is 0, however large the others are.
pub(super) fn product(sizes: &[usize]) -> usize {
    if sizes.contains(&0) { 0 } else { sizes.iter().fold(1, |product, &size| product.saturating_mul(size)) }
}

/// The modules of a checkpoint in natural order, and its parameters, biases included.
pub(super) struct Modules {
    pub(super) list: Vec<Module>,
    pub(super) parameters: u64,
}

/// What the linear weights are called of models that store them as `[in, out]` (transformers' Conv1D).
const CONV1D_NAMES: [&str; 4] = ["c_attn", "c_proj", "c_fc", "q_attn"];

impl Modules {
    /// Sorts tensors into weights, biases, buffers and quantization constants; `states` are the 4-bit ones by tensor, `packed` those
    /// in several tensors. In a GGUF file (`gguf`) linear weights are always `[out, in]`.
    pub(super) fn new(
        tensors: &[Tensor],
        states: &HashMap<usize, State>,
        packed: &All,
        spec: Option<&ModelSpec>,
        config: Option<&Value>,
        gguf: bool,
    ) -> Self {
        let names = Names(tensors.iter().map(|t| (t.name.as_str(), t)).collect());
        let family = config.and_then(of_family);
        let conv1d = !gguf && conv1d(tensors, family.as_ref());
        let known: HashMap<String, Known> = spec.map(known).unwrap_or_default();
        let stacks: HashMap<&str, &ModuleSpec> = spec
            .iter()
            .flat_map(|spec| spec.modules())
            .filter_map(|module| Some((module.stack.as_deref()?, module)))
            .collect();
        let mut list = Vec::new();
        let mut parameters = 0u64;
        for (index, tensor) in tensors.iter().enumerate() {
            if names.is_constant(&tensor.name) || is_buffer(tensor) || packed.sides.contains(&index) {
                continue;
            }
            let state = states.get(&index);
            let (packed, problem) = match packed.weights.get(&index) {
                None => (None, None),
                Some(Ok(packed)) => (Some(packed), None),
                Some(Err(problem)) => (None, Some(problem.clone())),
            };
            if is_bias(&tensor.name) {
                parameters = parameters.saturating_add(if tensor.dtype.is_float() { tensor.elements() } else { 0 });
                continue;
            }
            let weight = tensor.name.strip_suffix(".weight");
            let name = packed.map_or(weight.unwrap_or(&tensor.name), |packed| &packed.name).to_owned();
            if weight.is_none() && state.is_none() && packed.is_none() && problem.is_none() && !tensor.dtype.is_float()
            {
                continue;
            }
            let mut shape = state.map_or(&tensor.shape, |state| &state.shape).clone();
            if let Some(packed) = packed {
                shape.clone_from(&packed.shape);
            }
            if let &[count, first, second] = &shape[..] {
                let of = stacks.get(name.as_str()).copied();
                let fits = |module: &ModuleSpec| {
                    let [out, inner] = module.shape;
                    count == module.copies
                        && [first, second] == if module.transposed { [inner, out] } else { [out, inner] }
                };
                let mxfp4 = packed.is_some_and(|packed| packed.dtype == Dtype::Mxfp4);
                let of = of.filter(|module| fits(module));
                if state.is_none() && count > 0 && (of.is_some() || mxfp4) {
                    let transposed = of.map_or(mxfp4, |module| module.transposed);
                    let side = if transposed { [second, first] } else { [first, second] };
                    let elements = product(&shape) as u64;
                    list.extend((0..count).map(|number| {
                        let name = of.map_or_else(|| copy_name(&name, number), |module| module.expert(number));
                        let role = of.map_or_else(|| Role::of(&name), |module| module.role);
                        Module {
                            layer: super::role::layer(&name),
                            role,
                            linear: true,
                            parameters: elements / count as u64,
                            bytes: tensor.bytes / count as u64,
                            tied: false,
                            problem: problem
                                .clone()
                                .or_else(|| names.problem(tensor, &name, &shape, None, packed.is_some())),
                            about: packed.map(|packed| packed.about.clone()),
                            dtype: packed.map_or(tensor.dtype, |packed| packed.dtype),
                            packed: packed.cloned(),
                            tensor: index,
                            transposed: transposed && packed.is_none(),
                            state: None,
                            shape: side.to_vec(),
                            slice: Some(Slice { number, of: count, transposed }),
                            name,
                        }
                    }));
                    continue;
                }
            }
            let matrix = shape.len() == 2;
            let Known { role, layer, linear, transposed } = known.get(&name).copied().unwrap_or_else(|| {
                let (role, layer) = (Role::of(&name), super::role::layer(&name));
                let last = name.rsplit('.').next().unwrap_or_default();
                let transposed = conv1d && layer.is_some() && CONV1D_NAMES.contains(&last);
                Known { role, layer, linear: !matches!(role, Role::Embedding | Role::Head | Role::Norm), transposed }
            });
            let (linear, transposed) =
                (linear && matrix, transposed && matrix && !gguf && state.is_none() && packed.is_none());
            if transposed {
                shape.reverse();
            }
            let counts = state.is_some() || packed.is_some() || tensor.dtype.is_float();
            let whole = || packed.map_or_else(|| tensor.elements(), |packed| product(&packed.shape) as u64);
            let elements = state.map_or_else(whole, |state| state.elements() as u64);
            list.push(Module {
                layer,
                role,
                linear,
                parameters: if counts { elements } else { 0 },
                bytes: tensor.bytes,
                tied: false,
                problem: problem.or_else(|| names.problem(tensor, &name, &shape, state, packed.is_some())),
                about: packed.map(|packed| packed.about.clone()),
                dtype: state.map_or(packed.map_or(tensor.dtype, |packed| packed.dtype), |state| state.dtype),
                packed: packed.cloned(),
                tensor: index,
                transposed,
                state: state.cloned(),
                slice: None,
                shape,
                name,
            });
        }
        tie(&mut list, spec.or(family.as_ref()), config);
        list.sort_by_cached_key(|module| Place::new(&module.name, module.role));
        let weights = list.iter().fold(0u64, |sum, module| sum.saturating_add(module.parameters));
        Self { parameters: parameters.saturating_add(weights), list }
    }
}

/// `experts.gate_up_proj` is that of all experts, `experts.3.gate_up_proj` that of one.
fn copy_name(name: &str, number: usize) -> String {
    match name.rsplit_once('.') {
        Some((module, leaf)) => format!("{module}.{number}.{leaf}"),
        None => format!("{name}.{number}"),
    }
}

/// Tensors by name.
struct Names<'a>(HashMap<&'a str, &'a Tensor>);

impl Names<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn has_beside(&self, module: &str, end: &str) -> bool {
        self.has(&format!("{module}{end}"))
    }

    /// True for scales, codebooks and the like of a quantized weight.
    fn is_constant(&self, name: &str) -> bool {
        if SIDE.iter().any(|end| name.strip_suffix(end).is_some_and(|weight| self.has(weight))) {
            return true;
        }
        let Some((module, last)) = name.rsplit_once('.') else { return false };
        match last {
            "weight_scale" | "weight_scale_inv" | "weight_scale_2" | "weight_zero_point" => {
                self.has_beside(module, ".weight")
            }
            "scales" | "qzeros" | "g_idx" => self.has_beside(module, ".qweight"),
            _ => false,
        }
    }

    fn problem(
        &self,
        tensor: &Tensor,
        name: &str,
        shape: &[usize],
        state: Option<&State>,
        packed: bool,
    ) -> Option<String> {
        if shape.contains(&0) {
            return Some(format!("the tensor is empty: found shape {shape:?}, expected at least one value"));
        }
        if let Some(state) = state {
            let (found, expected) = (tensor.bytes, (state.elements() as u64).div_ceil(2));
            let wrong = found != expected;
            return wrong
                .then(|| format!("found {found} bytes of {} codes, expected {expected} for {shape:?}", state.dtype));
        }
        if packed {
            return None;
        }
        if !tensor.dtype.is_readable() {
            return Some(format!("found values of type {}, expected floating-point ones", tensor.dtype));
        }
        let scale = [".weight_scale_inv", ".weight_scale"].into_iter().find(|end| self.has_beside(name, end))?;
        Some(format!("its values are to be multiplied by {name}{scale}, and how is not known for {}", tensor.dtype))
    }
}

/// What a model stores but does not learn.
fn is_buffer(tensor: &Tensor) -> bool {
    let (parent, last) = tensor.name.rsplit_once('.').unwrap_or(("", &tensor.name));
    match last {
        // The constants of an xIELU, what evens out the load of experts (ERNIE alone counts it), Gemma 4's scale of a block.
        "beta" | "eps" if parent.ends_with("act_fn") => true,
        "e_score_correction_bias" => !parent.ends_with("moe_statics"),
        "expert_bias" | "layer_scalar" => true,
        "inv_freq"
        | "rope_freqs"
        | "masked_bias"
        | "running_mean"
        | "running_var"
        | "num_batches_tracked"
        | "position_ids" => true,
        // The causal mask of GPT-2 and GPT-NeoX, [1, 1, n, n].
        "bias" => tensor.shape.len() == 4 && (parent.ends_with("attn") || parent.ends_with("attention")),
        _ => false,
    }
}

fn is_bias(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last == "bias" || last == "beta" || last.ends_with("_bias")
}

/// Whether linear weights are stored as `[in, out]`: by the family, else by the shape of the fused projection.
fn conv1d(tensors: &[Tensor], family: Option<&ModelSpec>) -> bool {
    if let Some(family) = family {
        return family.modules().any(|module| module.transposed);
    }
    let wide = |shape: &[usize]| matches!(*shape, [rows, cols] if rows.checked_mul(3) == Some(cols));
    tensors.iter().any(|t| t.name.ends_with(".attn.c_attn.weight") && wide(&t.shape))
}

/// What a spec says of a weight.
#[derive(Clone, Copy)]
struct Known {
    role: Role,
    layer: Option<usize>,
    linear: bool,
    transposed: bool,
}

/// Every weight that a spec names.
fn known(spec: &ModelSpec) -> HashMap<String, Known> {
    let norm = Known { role: Role::Norm, layer: None, linear: false, transposed: false };
    let norms = spec.norms().flat_map(|norm| norm.tensors().map(|(name, _)| name));
    let norms =
        norms.map(|name| (super::role::layer(&name), name)).map(|(layer, name)| (name, Known { layer, ..norm }));
    let modules = spec.modules().flat_map(|module| {
        let known =
            Known { role: module.role, layer: module.layer, linear: module.linear, transposed: module.transposed };
        module.names().map(move |name| (name, known))
    });
    norms.chain(modules).collect()
}

/// Types of model beside the families whose head is the embedding unless the config says otherwise, in transformers.
const TIED: [&str; 8] = ["gemma3n_text", "mpt", "bert", "roberta", "distilbert", "electra", "albert", "t5"];

/// Whether the head is the embedding.
pub(super) fn is_tied(spec: Option<&ModelSpec>, config: Option<&Value>) -> bool {
    if let Some(spec) = spec {
        return spec.head.is_none();
    }
    let Some(config) = config else { return false };
    let decoder = decoder(config);
    let said = [decoder, config].into_iter().find_map(|part| part.get("tie_word_embeddings").and_then(Value::as_bool));
    said.unwrap_or_else(|| decoder.get("model_type").and_then(Value::as_str).is_some_and(|kind| TIED.contains(&kind)))
}

/// Marks the second names of a tied embedding.
fn tie(list: &mut [Module], spec: Option<&ModelSpec>, config: Option<&Value>) {
    let tied = is_tied(spec, config);
    let embeddings: Vec<(String, Vec<usize>)> = list
        .iter()
        .filter(|m| m.role == Role::Embedding && m.is_matrix() && !is_position(&m.name))
        .map(|m| (m.name.clone(), m.shape.clone()))
        .collect();
    for module in list.iter_mut() {
        let copy = match module.role {
            Role::Head => tied && embeddings.iter().any(|(_, shape)| *shape == module.shape),
            // T5 and BART store their one embedding up to three times.
            Role::Embedding => {
                module.name.ends_with("coder.embed_tokens")
                    && embeddings.iter().any(|(name, shape)| name.ends_with("shared") && *shape == module.shape)
            }
            _ => false,
        };
        if copy {
            module.tied = true;
            module.parameters = 0;
        }
    }
}

fn is_position(name: &str) -> bool {
    name.ends_with("wpe") || name.contains("position") || name.contains("token_type")
}

/// Where a weight stands in a list: embeddings, blocks in order, what follows them, the head.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    stage: u8,
    decoder: bool,
    stack: String,
    layer: usize,
    part: u8,
    cross: bool,
    expert: Option<usize>,
    role: usize,
    name: Natural,
}

impl Place {
    /// The place of a weight by its name and role.
    pub(crate) fn new(name: &str, role: Role) -> Self {
        let place = place(name);
        let (stack, layer) = place.unwrap_or_default();
        let stage = match role {
            _ if place.is_some() => 1,
            Role::Embedding => 0,
            Role::Norm if name.contains("embed") => 0,
            Role::Head => 3,
            _ => 2,
        };
        let part = match (role, role.group()) {
            (_, Group::Attention) => 0,
            (Role::Router, _) => 1,
            (_, Group::Mlp) => 2,
            (Role::Embedding, _) if is_position(name) => 4,
            (Role::Embedding, _) => 3,
            (Role::Norm, _) => 5,
            _ => 6,
        };
        Self {
            stage,
            decoder: stack.contains("decoder"),
            stack: stack.to_owned(),
            layer,
            part,
            cross: name.contains("cross") || name.contains("EncDec") || name.contains("encoder_attn"),
            expert: expert(name),
            role: Role::ALL.iter().position(|&other| other == role).unwrap_or_default(),
            name: Natural(name.to_owned()),
        }
    }
}

/// A name that sorts as a person would: 2 before 10.
#[derive(PartialEq, Eq)]
pub(super) struct Natural(pub(super) String);

impl Ord for Natural {
    fn cmp(&self, other: &Self) -> Ordering {
        natord::compare(&self.0, &other.0).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Natural {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
