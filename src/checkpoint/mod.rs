//! [`Checkpoint`]: the header now, bytes on demand.
//!
//! ```text
//! path ─ folder ─ which files        config.json ─ ModelSpec
//!          └─ shard ─ header ─ Tensor ─┐
//!                                      ├─ Module: name, [out, in], block, role
//!                   four_bit ─ State ──┘      └─ Reader ─ rows or a Matrix of f32
//! ```

mod dtype;
mod fault;
mod folder;
mod four_bit;
mod ggml;
pub(crate) mod gguf;
pub mod header;
pub mod hub;
pub(crate) mod json;
mod module;
pub(crate) mod names;
mod overlay;
mod packed;
mod pickle;
pub(crate) mod read;
mod role;
mod shard;
mod tensor;
pub mod write;

pub use crate::spec::{Group, Role};
pub use dtype::Dtype;
pub use folder::BESIDE;
pub use ggml::BlockType;
pub use gguf::Tokenizer as EmbeddedTokenizer;
pub(crate) use module::Place;
pub use module::{Module, Slice};
pub use names::NameMap;
pub use read::Reader;
pub(crate) use role::{expert as expert_of, layer as layer_of};
pub use tensor::Tensor;
pub(crate) use tensor::View;

use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::Progress;
use crate::room;
use crate::spec::ModelSpec;
use folder::Found;
use module::{Modules, Natural};
use packed::All;
use read::Values;
use shard::Shard;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A model's own weights.
    Model,
    /// The factors of an adapter.
    Adapter,
}

impl Kind {
    /// `model` or `adapter`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Adapter => "adapter",
        }
    }
}

/// A model or an adapter on disk: a `.safetensors` or `.gguf` file, or a hub folder with one or many of them.
///
/// Opening reads headers and the small JSON files beside them, nothing else; weights are read from mapped memory when
/// they are asked for. A file that is cut or written over meanwhile is found out.
pub struct Checkpoint {
    path: PathBuf,
    name: String,
    kind: Kind,
    format: String,
    config: Option<serde_json::Value>,
    spec: Result<Arc<ModelSpec>>,
    adapter_config: Option<serde_json::Value>,
    metadata: HashMap<String, String>,
    shards: Vec<Shard>,
    tensors: Vec<Tensor>,
    by_name: HashMap<String, usize>,
    modules: Vec<Module>,
    module_by_name: HashMap<String, usize>,
    dtypes: BTreeMap<Dtype, usize>,
    /// Positions of tensors that belong to a packed weight and are not its codes.
    sides: HashSet<usize>,
    parameters: u64,
    /// Values that stand in place of the files', by the tensor's name: see [`overlaid`](Self::overlaid).
    memory: HashMap<String, Vec<u8>>,
}

/// The folder or file without its ending; `org/name` in the hub's cache.
fn name_of(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    for part in path.components().rev() {
        if let Some(repository) = part.as_os_str().to_string_lossy().strip_prefix("models--") {
            return repository.replace("--", "/");
        }
    }
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// One tensor of a plain file; see [`Checkpoint::contents`].
pub struct Content<'a> {
    /// Its name.
    pub name: String,
    /// Its sizes, outermost first.
    pub shape: Vec<usize>,
    /// The type it has, or had before it was packed.
    pub dtype: Dtype,
    /// The tensor that holds its values or codes.
    pub tensor: &'a Tensor,
    /// The module that it is the weight of.
    pub module: Option<&'a Module>,
}

impl Checkpoint {
    /// Opens a `.safetensors` or `.gguf` file, a hub folder (a model's or an adapter's), a hub cache folder, or one of the JSON
    /// files in such a folder.
    ///
    /// # Errors
    /// A sentence that names the file, and the tensor where there is one, for everything that is missing, malformed or
    /// contradicts itself.
    pub fn open(path: &Path) -> Result<Self> {
        let found = Found::at(path)?;
        let mut shards = Vec::with_capacity(found.shards.len());
        let mut tensors: Vec<Tensor> = Vec::new();
        let (mut gguf, mut metadata) = (None, HashMap::new());
        for (index, file) in found.shards.iter().enumerate() {
            let (shard, contents) = Shard::open(file)?;
            shards.push(shard);
            gguf = gguf.or(contents.gguf);
            metadata.extend(contents.metadata);
            tensors.extend(contents.entries.into_iter().map(|entry| Tensor {
                name: entry.name,
                dtype: entry.dtype,
                shape: entry.shape,
                bytes: entry.bytes,
                begin: entry.begin,
                view: entry.view,
                shard: index,
            }));
        }
        let (made, purpose) = gguf.unzip();
        let gguf = made.is_some();
        let made = made.map(|config| gguf::rotary(config, &tensors, &shards));
        let (config, adapter_config) = match purpose.as_deref() {
            None => (found.config, found.adapter_config),
            Some("model") => (made, None),
            Some("adapter") => (None, made),
            Some(purpose) => {
                let message = format!("found a GGUF file of type {purpose}, expected a model's weights or an adapter");
                return Err(Error::file(&found.path, message));
            }
        };
        if tensors.is_empty() {
            let kind = adapter_config.as_ref().and_then(|json| json.get("peft_type")?.as_str());
            let hint = match kind {
                _ if gguf => " (a file that holds a vocabulary alone)",
                // PEFT writes them into folders beside an empty file.
                Some("XLORA") => {
                    " (of an adapter with peft_type XLORA, a network that mixes other adapters for each token)"
                }
                _ => "",
            };
            return Err(Error::file(&found.path, format!("found no tensors{hint}, expected at least one")));
        }
        tensors.sort_by_cached_key(|tensor| Natural(tensor.name.clone()));
        let by_name = tensor::by_name(&tensors, &shards)?;
        if let Some(index) = &found.index {
            tensor::agrees(index, &by_name, &tensors, &shards)?;
        }
        // Some models carry adapters of their own: with a config.json they are models.
        let factors = || tensors.iter().any(|tensor| names::is_factor(&tensor.name));
        let adapter = adapter_config.is_some() || (config.is_none() && factors());
        let kind = if adapter { Kind::Adapter } else { Kind::Model };
        let spec = spec(&found.path, config.as_ref(), &by_name);
        let mut dtypes = BTreeMap::new();
        for tensor in &tensors {
            *dtypes.entry(tensor.dtype).or_default() += 1;
        }
        let states = tensor::states(&tensors, &by_name, &shards)?;
        let bytes = |tensor: &Tensor| Some(shards.get(tensor.shard)?.bytes(tensor.range()).ok()?.to_vec());
        let packed = All::find(&tensors, &by_name, config.as_ref(), &metadata, &bytes);
        let is_side = |tensor: &Tensor| four_bit::SIDE.iter().any(|end| tensor.name.ends_with(end));
        let mut sides = packed.sides.clone();
        if !states.is_empty() {
            sides.extend((0..tensors.len()).filter(|&at| is_side(&tensors[at])));
        }
        let modules = Modules::new(&tensors, &states, &packed, spec.as_deref().ok(), config.as_ref(), gguf);
        let pickled = |file: &PathBuf| file.file_name().is_some_and(|name| folder::is_pickle(&name.to_string_lossy()));
        let format = match gguf {
            true => "gguf",
            false if found.shards.iter().any(pickled) => "torch.save",
            false => "safetensors",
        };
        let parts = match shards.len() {
            1 => None,
            n => Some(format!("{n} shards")),
        };
        let format =
            [Some(format.to_owned()), parts].into_iter().flatten().chain(packed.about()).collect::<Vec<_>>().join(", ");
        let module_by_name = modules.list.iter().enumerate().map(|(at, module)| (module.name.clone(), at)).collect();
        Ok(Self {
            name: name_of(&found.path),
            path: found.path,
            kind,
            format,
            config,
            spec,
            adapter_config,
            metadata,
            shards,
            tensors,
            by_name,
            parameters: modules.parameters,
            modules: modules.list,
            module_by_name,
            dtypes,
            memory: HashMap::new(),
            sides,
        })
    }

    /// The file, or the folder (of a hub cache folder, the snapshot).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a person would call it: the folder or file without its ending; `org/name` in the hub's cache.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// A model or an adapter.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `safetensors`, `torch.save` or `gguf`; `safetensors, 3 shards`.
    pub fn format(&self) -> &str {
        &self.format
    }

    /// `LlamaForCausalLM`, when `config.json` says it.
    pub fn architecture(&self) -> Option<&str> {
        self.config.as_ref()?.get("architectures")?.get(0)?.as_str()
    }

    /// `config.json` as it is.
    pub fn config(&self) -> Option<&serde_json::Value> {
        self.config.as_ref()
    }

    /// What `config.json` says that the model computes.
    ///
    /// # Errors
    /// When there is no such file, the family is not known, or a size is missing or makes no sense.
    pub fn spec(&self) -> Result<&Arc<ModelSpec>> {
        self.spec.as_ref().map_err(Clone::clone)
    }

    /// Heads of queries, and of keys and values, where all blocks have the same.
    pub fn heads(&self) -> Option<[usize; 2]> {
        let mut all = self.spec.as_ref().ok()?.blocks.iter().filter_map(|block| block.attention());
        let first = all.next().map(|attention| [attention.heads, attention.kv_heads])?;
        all.all(|attention| [attention.heads, attention.kv_heads] == first).then_some(first)
    }

    /// `adapter_config.json` as it is; of a GGUF adapter what its metadata say.
    pub fn adapter_config(&self) -> Option<&serde_json::Value> {
        self.adapter_config.as_ref()
    }

    /// A text that a safetensors file holds beside its tensors (`__metadata__`).
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Elements of all floating-point weights, biases and norms included; tied ones once, 4-bit ones as what they
    /// stand for, buffers and quantization constants not.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// Bytes of all tensors together.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes).sum()
    }

    /// Tensors of each type, as stored.
    pub fn dtypes(&self) -> &BTreeMap<Dtype, usize> {
        &self.dtypes
    }

    /// The weights in natural order: embeddings, block after block, head. No biases, buffers or constants.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// Bytes of a weight as it is stored, scales and the like counted.
    pub fn stored_bytes(&self, module: &Module) -> u64 {
        let sides = || {
            let begin = format!("{}.weight.", module.name);
            self.tensors
                .iter()
                .filter(move |tensor| tensor.name.starts_with(&begin))
                .map(|tensor| tensor.bytes)
                .sum::<u64>()
        };
        match (&module.packed, &module.state) {
            (Some(packed), _) => {
                packed.parts.iter().filter_map(|&at| self.tensors.get(at)).map(|tensor| tensor.bytes).sum()
            }
            (None, Some(_)) => module.bytes + sides(),
            (None, None) => module.bytes,
        }
    }

    /// A weight by its name, without `.weight`.
    pub fn module(&self, name: &str) -> Option<&Module> {
        self.module_by_name.get(name).map(|&at| &self.modules[at])
    }

    /// The input embedding whose weights are the output head's too: where the config says so and no head is stored.
    pub fn tied_head(&self) -> Option<&Module> {
        let tied = module::is_tied(self.spec.as_deref().ok(), self.config.as_ref());
        let stored = self.modules.iter().any(|module| module.role == Role::Head && !module.tied);
        let words = |module: &&Module| module.role == Role::Embedding && module.is_matrix() && !module.tied;
        if tied && !stored { self.modules.iter().find(words) } else { None }
    }

    /// Every tensor as stored, by name.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// A tensor by its full name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.by_name.get(name).map(|&at| &self.tensors[at])
    }

    /// The tokenizer that lies in the weights' own file, of a GGUF model; `None` where it lies beside them.
    ///
    /// # Errors
    /// When the file holds none, or one that is not known here.
    pub fn tokenizer(&self) -> Option<Result<EmbeddedTokenizer>> {
        self.shards.first()?.tokenizer()
    }

    /// What a plain file of the same model holds: packed weights as what they stand for, without their scales and codes.
    pub fn contents(&self) -> impl Iterator<Item = Content<'_>> {
        let by_codes: HashMap<usize, &Module> = self.modules.iter().map(|module| (module.tensor, module)).collect();
        self.tensors.iter().enumerate().filter(|(at, _)| !self.sides.contains(at)).map(move |(at, tensor)| {
            let module = by_codes.get(&at).copied();
            let plain =
                Content { name: tensor.name.clone(), shape: tensor.shape.clone(), dtype: tensor.dtype, tensor, module };
            match module {
                Some(Module { packed: Some(packed), .. }) => {
                    let end = if packed.shape.len() == 2 { ".weight" } else { "" };
                    Content {
                        name: format!("{}{end}", packed.name),
                        shape: packed.shape.clone(),
                        dtype: packed.original,
                        ..plain
                    }
                }
                Some(Module { state: Some(state), .. }) => {
                    Content { shape: state.shape.clone(), dtype: state.original, ..plain }
                }
                _ => plain,
            }
        })
    }

    /// Values of what [`contents`](Self::contents) names, in the order in which a plain file holds them.
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix).
    pub fn values(&self, content: &Content, progress: &dyn Progress) -> Result<Vec<f32>> {
        match content.module.filter(|module| module.packed.is_some() || module.state.is_some()) {
            Some(module) if module.slice.is_some() => self.stacked(module, &|slice| self.matrix(slice, progress)),
            Some(module) => Ok(self.matrix(module, progress)?.into_data()),
            None => Ok(self.tensor_matrix(content.tensor, progress)?.into_data()),
        }
    }

    /// All modules that stand in one tensor with this one, in their order; `None` where it stands alone.
    pub fn slices(&self, module: &Module) -> Option<Vec<&Module>> {
        let of = module.slice?.of;
        let mut slices: Vec<&Module> =
            self.modules.iter().filter(|other| other.tensor == module.tensor && other.slice.is_some()).collect();
        slices.sort_by_key(|other| other.slice.map(|slice| slice.number));
        (slices.len() == of).then_some(slices)
    }

    /// Whether two modules stand in one tensor.
    pub fn same_tensor(&self, one: &Module, other: &Module) -> bool {
        one.tensor == other.tensor
    }

    /// The values of a tensor that `module` stands in with others, in the order of a plain file, from each one's `[out, in]`.
    ///
    /// # Errors
    /// What `matrix` says.
    pub fn stacked(&self, module: &Module, matrix: &dyn Fn(&Module) -> Result<Matrix>) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        for slice in self.slices(module).unwrap_or_default() {
            let matrix = matrix(slice)?;
            let turned = slice.slice.is_some_and(|slice| slice.transposed);
            values.extend(if turned { matrix.transposed() } else { matrix }.into_data());
        }
        Ok(values)
    }

    /// Gives back the memory of what was read: whoever has a copy of the weights needs the file's no more. They can be
    /// read again all the same.
    pub fn rest(&self) {
        self.shards.iter().for_each(Shard::rest);
    }

    /// A copy of the bytes of a tensor.
    ///
    /// # Errors
    /// When the file has changed since it was opened, or memory does not suffice.
    pub fn copy_of(&self, tensor: &Tensor) -> Result<Vec<u8>> {
        let bytes = self.bytes_of(tensor)?;
        room::check(bytes.len()).map_err(|error| error.in_tensor(self.file_of(tensor), &tensor.name))?;
        let copy = bytes.to_vec();
        self.unchanged(tensor)?;
        Ok(copy)
    }

    /// Makes sure that the bytes of a tensor are still those of the file that was opened: to be asked after they were used.
    ///
    /// # Errors
    /// When the file was cut or written since.
    pub fn unchanged(&self, tensor: &Tensor) -> Result<()> {
        self.shard(tensor)?.unchanged()
    }

    /// The file that holds a tensor.
    pub fn file_of(&self, tensor: &Tensor) -> &Path {
        self.shards.get(tensor.shard).map_or(&self.path, Shard::path)
    }

    /// The bytes of a tensor as they lie in the file, not aligned.
    ///
    /// # Errors
    /// When the file has changed since it was opened. It may change while they are used: ask [`unchanged`](Self::unchanged) then.
    pub fn bytes_of(&self, tensor: &Tensor) -> Result<&[u8]> {
        match self.memory.get(&tensor.name) {
            Some(bytes) => Ok(bytes),
            None => self.shard(tensor)?.bytes(tensor.range()),
        }
    }

    /// A weight as `f32`, `[out, in]` (see [`Module::matrix_shape`] for what is not a matrix).
    ///
    /// # Errors
    /// When its type cannot be read, it is empty, it holds NaN or Inf (counted, with the first place), or the file has
    /// become shorter; and cancellation.
    pub fn matrix(&self, module: &Module, progress: &dyn Progress) -> Result<Matrix> {
        self.reader(module)?.matrix(progress)
    }

    /// Some rows of a weight as `f32`, NaN and Inf as they are.
    ///
    /// # Errors
    /// As [`reader`](Self::reader), and when the rows are not there.
    pub fn rows(&self, module: &Module, rows: Range<usize>) -> Result<Matrix> {
        let reader = self.reader(module)?;
        let [all, cols] = reader.shape();
        let count = rows.len().min(all);
        let mut data = vec![0.0; count * cols];
        reader.rows(rows, &mut data)?;
        Matrix::new(count, cols, data)
    }

    /// A weight made ready to be read row by row.
    ///
    /// # Errors
    /// When its type cannot be read, it is empty, or the file has become shorter.
    pub fn reader(&self, module: &Module) -> Result<Reader<'_>> {
        let own = || self.module(&module.name).is_some_and(|own| own.tensor == module.tensor);
        let tensor = self.tensors.get(module.tensor);
        let tensor =
            tensor.filter(|tensor| if module.slice.is_some() { own() } else { tensor.name.starts_with(&module.name) });
        let tensor =
            tensor.filter(|tensor| tensor.bytes / module.slice.map_or(1, |slice| slice.of as u64) == module.bytes);
        let tensor = tensor
            .ok_or_else(|| Error::tensor(&self.path, &module.name, "there is no such weight in this checkpoint"))?;
        if let Some(problem) = &module.problem {
            return Err(Error::tensor(self.file_of(tensor), &tensor.name, problem));
        }
        let mut reader = self.plain_reader(tensor, module.matrix_shape())?;
        reader.transposed = module.transposed;
        if let Some(slice) = module.slice {
            reader.before = slice.number * module.shape[0];
            if module.packed.is_none() {
                let bytes = reader.bytes.len() / slice.of;
                reader.bytes = &reader.bytes[slice.number * bytes..][..bytes];
                if !reader.range.is_empty() {
                    let begin = reader.range.start + slice.number * bytes;
                    reader.range = begin..begin + bytes;
                }
            }
        }
        if let Some(packed) = &module.packed {
            let parts = packed.parts.iter().filter_map(|&part| self.tensors.get(part)).map(|part| self.bytes_of(part));
            reader.values = Values::Packed(Arc::clone(&packed.decode), parts.collect::<Result<_>>()?);
        }
        if let Some(state) = &module.state {
            let beside = |end: &str| {
                let tensor = self.tensor(&format!("{}{end}", tensor.name))?;
                Some((tensor.dtype, self.bytes_of(tensor).ok()?))
            };
            let constants = state.with(beside);
            let weight = constants.map_err(|(end, message)| {
                Error::tensor(self.file_of(tensor), &format!("{}{end}", tensor.name), message)
            })?;
            reader.values = Values::FourBit(weight);
        }
        Ok(reader)
    }

    /// A tensor as it is stored, as `f32`; one of more or fewer than two sizes as [`Module::matrix_shape`] has it.
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix).
    pub fn tensor_matrix(&self, tensor: &Tensor, progress: &dyn Progress) -> Result<Matrix> {
        let problem = if tensor.shape.contains(&0) {
            Some(format!("the tensor is empty: found shape {:?}, expected at least one value", tensor.shape))
        } else if !tensor.dtype.is_readable() {
            Some(format!("found values of type {}, expected floating-point ones", tensor.dtype))
        } else {
            None
        };
        match problem {
            Some(problem) => Err(Error::tensor(self.file_of(tensor), &tensor.name, problem)),
            None => self.plain_reader(tensor, module::matrix_shape(&tensor.shape))?.matrix(progress),
        }
    }

    fn plain_reader<'a>(&'a self, tensor: &'a Tensor, shape: [usize; 2]) -> Result<Reader<'a>> {
        let values = Values::Plain(tensor.dtype);
        let range = if self.memory.contains_key(&tensor.name) { 0..0 } else { tensor.range() };
        let bytes = self.bytes_of(tensor)?;
        Ok(Reader {
            shard: self.shard(tensor)?,
            tensor: &tensor.name,
            bytes,
            range,
            values,
            shape,
            transposed: false,
            view: tensor.view,
            before: 0,
        })
    }

    fn shard(&self, tensor: &Tensor) -> Result<&Shard> {
        let shard = self.shards.get(tensor.shard);
        shard.ok_or_else(|| Error::tensor(&self.path, &tensor.name, "there is no such tensor in this checkpoint"))
    }
}

/// What the `config.json` of a folder says of a checkpoint with these tensors.
fn spec(path: &Path, config: Option<&serde_json::Value>, by_name: &HashMap<String, usize>) -> Result<Arc<ModelSpec>> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let Some(config) = config else {
        return Err(Error::file(
            folder,
            "found no config.json, expected one beside the weights: it says what the model computes",
        ));
    };
    let has = |name: &str| by_name.contains_key(&format!("{name}.weight")) || by_name.contains_key(name);
    ModelSpec::of_config(config, &folder.join("config.json"), Some(&has)).map(Arc::new)
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint")
            .field("path", &self.path)
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}
