//! [`Applied`]: a base with an adapter in its weights, tensor by tensor. What is merged, evaluated and generated from is this.
//!
//! | an adapter has | the base's tensor becomes |
//! |---|---|
//! | a pair | `W + s · B A` |
//! | a pair whose beginning was taken out of the base (PiSSA, OLoRA, KaSA) | `W − (that part) + s · B A` |
//! | a pair with magnitudes (DoRA) | `m ∘ (W + s B A) / ‖W + s B A‖` |
//! | a bias of B (`lora_bias`) | `bias + s · b` |
//! | a pair for a stack of experts | each expert's `W + s · B A`, where the base stores it |
//! | a weight or bias that is saved whole | what is saved |
//! | trained tokens | the embedding with these rows |
//!
//! Where embedding and head are one weight and only one of them was trained, the result has two.

use super::ops::gemm::{self, Out, View};
use crate::adapter::{Adapter, LoraLayer, Part, Saved, TakenOut, TrainedTokens};
use crate::checkpoint::{Checkpoint, Module, NameMap, Role};
use crate::delta::{self, DeltaWeight, Dense, Entry};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::Progress;
use crate::spectrum;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A base with an adapter in it. Reads no weights until they are asked for.
pub struct Applied<'a> {
    base: &'a Checkpoint,
    adapter: &'a Adapter,
    /// By the full name of the tensor.
    edits: BTreeMap<String, Edit<'a>>,
    config: Option<Value>,
    notes: Vec<String>,
}

/// How a tensor comes about.
struct Edit<'a> {
    start: Start<'a>,
    steps: Vec<Step<'a>>,
    /// Sizes as a file stores them.
    shape: Vec<usize>,
    /// The base does not have it.
    added: bool,
}

/// Where it begins.
enum Start<'a> {
    /// A weight of the base.
    Weight(&'a Module),
    /// A bias or another tensor of the base.
    Tensor(String),
    /// What the adapter has saved.
    Saved(&'a Saved),
    /// The experts that stand in one tensor, by any of them.
    Stack(&'a Module),
}

/// What then happens to it.
enum Step<'a> {
    /// What the initialisation took out of the base, for pairs of this rank and scaling.
    TakeOut(TakenOut, usize, f64),
    Pair(&'a LoraLayer, Part),
    /// One of the experts that stand in one tensor.
    Expert(usize, &'a LoraLayer, Part),
    Bias(&'a LoraLayer),
    Rows(&'a TrainedTokens),
}

/// A linear layer of the base that gets a pair as a branch.
pub struct Placed<'a> {
    /// The base's name of the module.
    pub module: String,
    /// The adapter's layer.
    pub layer: &'a LoraLayer,
}

impl<'a> Applied<'a> {
    /// Matches an adapter with its base.
    ///
    /// # Errors
    /// For what cannot be put into weights (aLoRA, an unconverted PiSSA, …) and for modules that do not fit, by name.
    pub fn new(base: &'a Checkpoint, adapter: &'a Adapter) -> Result<Self> {
        if let Some(why) = adapter.unmergeable() {
            return Err(Error::file(adapter.path(), why));
        }
        let entries = delta::fitted(base, adapter)?;
        let mut applied = Self { base, adapter, edits: BTreeMap::new(), config: None, notes: Vec::new() };
        applied.save()?;
        for entry in &entries {
            applied.pair(entry)?;
        }
        applied.tokens()?;
        applied.untie();
        applied.sizes();
        Ok(applied)
    }

    /// Names and sizes of the tensors that are not the base's, as a file stores them; `true` for those that the base lacks.
    pub fn changed(&self) -> impl Iterator<Item = (&str, &[usize], bool)> {
        self.edits.iter().map(|(name, edit)| (name.as_str(), edit.shape.as_slice(), edit.added))
    }

    /// `config.json` of the result, where it is not the base's.
    pub fn config(&self) -> Option<&Value> {
        self.config.as_ref()
    }

    /// What a person should know about the result.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The values of a tensor in the order in which a file stores them; `None` where they are the base's.
    ///
    /// # Errors
    /// NaN and Inf in the base or the adapter, counted; cancellation.
    pub fn values(&self, tensor: &str, progress: &dyn Progress) -> Result<Option<Vec<f32>>> {
        let Some(edit) = self.edits.get(tensor) else { return Ok(None) };
        let (mut matrix, transposed) = match &edit.start {
            Start::Weight(module) => (self.base.matrix(module, progress)?, module.is_transposed()),
            Start::Tensor(name) => (self.read(name)?, false),
            Start::Saved(saved) => {
                let matrix = self.adapter.read(&saved.tensor)?;
                let transposed = self.module(tensor).is_some_and(Module::is_transposed);
                // Pairs are added as `[out, in]`.
                let turn = transposed && !edit.steps.is_empty();
                (if turn { matrix.transposed() } else { matrix }, turn)
            }
            Start::Stack(module) => return self.stack(module, &edit.steps, progress).map(Some),
        };
        for step in &edit.steps {
            matrix = self.step(step, matrix)?;
        }
        Ok(Some(if transposed { matrix.transposed() } else { matrix }.into_data()))
    }

    fn step(&self, step: &Step, mut matrix: Matrix) -> Result<Matrix> {
        match step {
            Step::TakeOut(what, r, scaling) => take_out(matrix, *what, *r, *scaling),
            Step::Pair(layer, part) => {
                let (b, a) = self.adapter.part(layer, part)?;
                add(matrix.data_mut(), &b, &a, layer.scaling);
                match self.adapter.magnitude(layer)? {
                    Some(magnitude) => delta::rescaled(matrix, &magnitude, layer.columns),
                    None => Ok(matrix),
                }
            }
            Step::Expert(..) => Err(Error::failure("an expert of no stack")),
            Step::Bias(layer) => {
                let bias = self.adapter.bias(layer)?.unwrap_or_default();
                let scaling = layer.scaling as f32;
                matrix.data_mut().iter_mut().zip(&bias).for_each(|(x, b)| *x += scaling * b);
                Ok(matrix)
            }
            Step::Rows(tokens) => {
                let values = self.adapter.read(&tokens.tensor)?;
                let width = tokens.width;
                for (from, &row) in values.data().chunks(width.max(1)).zip(&tokens.rows) {
                    if let Some(to) = matrix.data_mut().get_mut(row * width..(row + 1) * width) {
                        to.copy_from_slice(from);
                    }
                }
                Ok(matrix)
            }
        }
    }

    /// The tensor of several experts with their pairs in it.
    fn stack(&self, module: &Module, steps: &[Step], progress: &dyn Progress) -> Result<Vec<f32>> {
        self.base.stacked(module, &|slice| {
            let mut matrix = self.base.matrix(slice, progress)?;
            let number = slice.slice().map(|slice| slice.number);
            for step in steps {
                if let Step::Expert(own, layer, part) = step
                    && Some(*own) == number
                {
                    let (b, a) = self.adapter.part(layer, part)?;
                    add(matrix.data_mut(), &b, &a, layer.scaling);
                }
            }
            Ok(matrix)
        })
    }

    /// The branches of linear layers in blocks, where nothing else changes their weights; those of a stack of experts once.
    pub fn branches(&self) -> Vec<Placed<'a>> {
        let mut branches: Vec<Placed> = Vec::new();
        for (name, edit) in &self.edits {
            match (edit.branch(), edit.stack()) {
                (Some(layer), _) => branches.push(Placed { module: module_name(name).to_owned(), layer }),
                (None, Some(layer)) if !branches.iter().any(|known| std::ptr::eq(known.layer, layer)) => {
                    branches.push(Placed { module: layer.module.clone(), layer });
                }
                _ => {}
            }
        }
        branches
    }

    /// The base with everything in its weights that is no [branch](Self::branches); `None` where that is nothing. Only what
    /// differs is in memory.
    ///
    /// # Errors
    /// As [`values`](Self::values).
    pub fn overlay(&self) -> Result<Option<Checkpoint>> {
        let mut changed = Vec::new();
        for (name, edit) in self.edits.iter().filter(|(_, edit)| edit.branch().or(edit.stack()).is_none()) {
            if let Some(values) = self.values(name, &())? {
                changed.push((name.clone(), edit.shape.clone(), values));
            }
        }
        if changed.is_empty() {
            return Ok(None);
        }
        self.base.overlaid(changed, self.config.clone()).map(Some)
    }

    /// A tensor of the base that is no weight of a module, or one.
    fn read(&self, name: &str) -> Result<Matrix> {
        let tensor = self.base.tensor(name);
        let tensor = tensor.ok_or_else(|| Error::tensor(self.base.path(), name, "there is no such tensor"))?;
        self.base.tensor_matrix(tensor, &())
    }

    fn module(&self, tensor: &str) -> Option<&'a Module> {
        self.base.module(module_name(tensor))
    }

    fn find_module(&self, name: &str) -> Option<&'a Module> {
        let modules = self.base.modules();
        NameMap::new(modules.iter().map(|module| module.name.as_str())).find(name).map(|at| &modules[at])
    }

    /// The full name of a module's tensor.
    fn tensor_of(&self, module: &str) -> String {
        let bare = self.base.tensor(module).is_some();
        if bare { module.to_owned() } else { format!("{module}.weight") }
    }

    /// The edit of a weight, begun with the base's own.
    fn weight(&mut self, module: &'a Module) -> &mut Edit<'a> {
        let name = self.tensor_of(&module.name);
        let mut shape = module.shape.clone();
        if module.is_transposed() {
            shape.reverse();
        }
        let edit = || Edit { start: Start::Weight(module), steps: Vec::new(), shape, added: false };
        self.edits.entry(name).or_insert_with(edit)
    }

    /// Tensors that are saved whole.
    fn save(&mut self) -> Result<()> {
        let tensors = self.base.tensors();
        let names = NameMap::new(tensors.iter().map(|tensor| tensor.name.as_str()));
        for saved in &self.adapter.saved {
            let wrong = |message: String| Error::tensor(self.adapter.path(), &saved.tensor, message);
            let mut edit =
                Edit { start: Start::Saved(saved), steps: Vec::new(), shape: saved.shape.clone(), added: false };
            let name = match names.find(&saved.name) {
                Some(at) => {
                    let stored = &tensors[at];
                    let module = self.module(&stored.name);
                    let mut expected = module.map_or_else(|| stored.shape.clone(), |module| module.shape.clone());
                    if module.is_some_and(Module::is_transposed) {
                        expected.reverse();
                    }
                    let rows = saved.shape.len() == expected.len() && saved.shape.get(1..) == expected.get(1..);
                    if !rows || (saved.shape != expected && saved.shape.len() > 2) {
                        return Err(wrong(format!("found shape {:?}, the base's is {expected:?}", saved.shape)));
                    }
                    stored.name.clone()
                }
                None => {
                    edit.added = true;
                    let tied = self.base.tied_head().is_some() && Role::of(&saved.name) == Role::Head;
                    if !tied && saved.trained {
                        self.notes.push(format!("{} is new: the base has no such tensor", saved.name));
                    }
                    saved.name.clone()
                }
            };
            self.edits.insert(name, edit);
        }
        Ok(())
    }

    /// A layer's pair, and the bias of its B.
    fn pair(&mut self, entry: &Entry) -> Result<()> {
        let adapter = self.adapter;
        let wrong = |message: String| Error::tensor(adapter.path(), &entry.name, message);
        let layer = adapter.layer(entry.other());
        let layer = layer.ok_or_else(|| wrong("there is no such layer in this adapter".to_owned()))?;
        let part = entry.part().clone();
        let module = self.base.module(entry.base());
        let module = module.ok_or_else(|| wrong("the base has no such module".to_owned()))?;
        if let Some(slice) = module.slice() {
            let content = self.base.contents().find(|content| {
                content.module.is_some_and(|other| other.slice().is_some() && self.base.same_tensor(other, module))
            });
            let content = content.ok_or_else(|| wrong("the base has no such experts".to_owned()))?;
            let start = || Edit { start: Start::Stack(module), steps: Vec::new(), shape: content.shape, added: false };
            let edit = self.edits.entry(content.name).or_insert_with(start);
            edit.steps.push(Step::Expert(slice.number, layer, part));
            return Ok(());
        }
        let step = Step::Pair(layer, part);
        if entry.base() == entry.name {
            let first = adapter.taken_out().filter(|_| !layer.embedding && layer.kernel.is_empty());
            let edit = self.weight(module);
            // A base that is saved with the pair is saved as the initialisation has left it.
            let left = matches!(edit.start, Start::Saved(saved) if saved.base_layer);
            edit.steps.extend(first.filter(|_| !left).map(|what| Step::TakeOut(what, layer.r, layer.scaling)));
            edit.steps.push(step);
        } else {
            // A head that is the embedding in the base gets weights of its own.
            let shape = module.shape.clone();
            let edit = || Edit { start: Start::Weight(module), steps: Vec::new(), shape, added: true };
            self.edits.entry(format!("{}.weight", entry.name)).or_insert_with(edit).steps.push(step);
        }
        if let Some(bias) = adapter.bias(layer)? {
            let name = format!("{}.bias", module.name);
            let Some(tensor) = self.base.tensor(&name).filter(|tensor| tensor.elements() == bias.len() as u64) else {
                return Err(wrong("lora_bias adds to a bias, and the base's layer has none".to_owned()));
            };
            let shape = tensor.shape.clone();
            let edit = || Edit { start: Start::Tensor(name.clone()), steps: Vec::new(), shape, added: false };
            self.edits.entry(name.clone()).or_insert_with(edit).steps.push(Step::Bias(layer));
        }
        Ok(())
    }

    /// Rows of embeddings.
    fn tokens(&mut self) -> Result<()> {
        for tokens in &self.adapter.tokens {
            let wrong = |message: String| Error::tensor(self.adapter.path(), &tokens.tensor, message);
            let Some(module) = self.find_module(&tokens.module) else {
                return Err(wrong(format!("the base {} has no such embedding", self.base.name())));
            };
            let &[rows, width] = &module.shape[..] else { return Err(wrong("the base's is no matrix".to_owned())) };
            if width != tokens.width || tokens.rows.iter().any(|&row| row >= rows) {
                let last = tokens.rows.iter().max().copied().unwrap_or(0);
                return Err(wrong(format!(
                    "found rows of {} values up to row {last}, the base's embedding is {rows} × {width}",
                    tokens.width
                )));
            }
            self.weight(module).steps.push(Step::Rows(tokens));
        }
        Ok(())
    }

    /// Where the head is the embedding and only one of them was trained: PEFT leaves the other as it was, so that the result has
    /// two weights. Trained tokens go into both.
    fn untie(&mut self) {
        let Some(embedding) = self.base.tied_head() else { return };
        let name = self.tensor_of(&embedding.name);
        let heads = |edits: &BTreeMap<String, Edit>| {
            edits.iter().find(|(name, edit)| edit.added && Role::of(name) == Role::Head).map(|(name, _)| name.clone())
        };
        let head = heads(&self.edits);
        let trained = self.edits.get(&name).is_some_and(|edit| {
            matches!(edit.start, Start::Saved(saved) if saved.trained)
                || edit.steps.iter().any(|step| !matches!(step, Step::Rows(_)))
        });
        if self.adapter.config.ensure_weight_tying || (head.is_none() && !trained) || !self.has_head() {
            return;
        }
        let rows = |edit: &Edit<'a>| {
            let rows = edit.steps.iter().filter_map(|step| match step {
                Step::Rows(tokens) => Some(*tokens),
                _ => None,
            });
            rows.collect::<Vec<_>>()
        };
        let tokens = self.edits.get(&name).map(rows).unwrap_or_default();
        match head {
            Some(head) => {
                if let Some(edit) = self.edits.get_mut(&head) {
                    edit.steps.extend(tokens.into_iter().map(Step::Rows));
                }
            }
            None => {
                let steps = tokens.into_iter().map(Step::Rows).collect();
                let shape = embedding.shape.clone();
                let edit = Edit { start: Start::Weight(embedding), steps, shape, added: true };
                self.edits.insert("lm_head.weight".to_owned(), edit);
            }
        }
        self.set(|config| {
            config.insert("tie_word_embeddings".to_owned(), Value::Bool(false));
        });
        self.notes.push(
            "the head is the embedding in the base and only one of them was trained: the result has both, \
             tie_word_embeddings is false"
                .to_owned(),
        );
    }

    /// Whether the model has an output head over its vocabulary: a classifier does not use a tied one.
    fn has_head(&self) -> bool {
        let architecture = self.base.architecture().unwrap_or_default();
        architecture.is_empty()
            || ["CausalLM", "LMHeadModel", "ConditionalGeneration"].iter().any(|end| architecture.ends_with(end))
    }

    /// Sizes that the config states and the adapter has changed.
    fn sizes(&mut self) {
        let embedding = self.base.modules().iter().find(|module| module.role == Role::Embedding && module.is_matrix());
        let rows = embedding.and_then(|module| {
            let edit = self.edits.get(&self.tensor_of(&module.name))?;
            edit.shape.first().copied().filter(|rows| module.shape.first() != Some(rows))
        });
        if let Some(rows) = rows {
            self.set(|config| {
                let text = config.get_mut("text_config").and_then(Value::as_object_mut);
                let inner = text.filter(|text| text.contains_key("vocab_size"));
                match inner {
                    Some(text) => drop(text.insert("vocab_size".to_owned(), Value::from(rows))),
                    None => drop(config.insert("vocab_size".to_owned(), Value::from(rows))),
                }
            });
            self.notes.push(format!("the vocabulary has {rows} tokens now"));
        }
        // The head of a classifier that the base came without, or with another number of classes.
        let classes = self.edits.iter().find_map(|(name, edit)| {
            let head = ["score.weight", "classifier.weight", "classifier.out_proj.weight"];
            let is_head = head.iter().any(|end| name == end || name.ends_with(&format!(".{end}")));
            let other = edit.added || self.base.tensor(name).is_none_or(|tensor| tensor.shape != edit.shape);
            (is_head && other).then(|| edit.shape.first().copied()).flatten()
        });
        if let Some(classes) = classes {
            self.set(|config| {
                let named = config.get("id2label").and_then(Value::as_object).map(serde_json::Map::len);
                if named != Some(classes) {
                    let label = |number: usize| format!("LABEL_{number}");
                    let ids: serde_json::Map<String, Value> =
                        (0..classes).map(|at| (at.to_string(), Value::from(label(at)))).collect();
                    let labels: serde_json::Map<String, Value> =
                        (0..classes).map(|at| (label(at), Value::from(at))).collect();
                    config.insert("id2label".to_owned(), Value::Object(ids));
                    config.insert("label2id".to_owned(), Value::Object(labels));
                }
            });
        }
    }

    fn set(&mut self, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
        let base = || self.base.config().cloned();
        let mut config = self.config.take().or_else(base).unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        if let Some(object) = config.as_object_mut() {
            change(object);
        }
        self.config = Some(config);
    }
}

impl<'a> Edit<'a> {
    /// The layer, where this is a pair on a linear layer's own weight and nothing else.
    fn branch(&self) -> Option<&'a LoraLayer> {
        let Start::Weight(module) = &self.start else { return None };
        match &self.steps[..] {
            [Step::Pair(layer, part)]
                if module.linear && !self.added && !layer.dora && !layer.embedding && *part == Part::default() =>
            {
                Some(layer)
            }
            _ => None,
        }
    }
}

impl<'a> Edit<'a> {
    /// The stack of experts, where the pairs of one are all that changes this.
    fn stack(&self) -> Option<&'a LoraLayer> {
        let of = |step: &Step<'a>| match step {
            Step::Pair(layer, _) | Step::Expert(_, layer, _) if layer.experts.is_some() && !layer.dora => Some(*layer),
            _ => None,
        };
        let first = of(self.steps.first()?)?;
        self.steps.iter().all(|step| of(step).is_some_and(|layer| std::ptr::eq(layer, first))).then_some(first)
    }
}

fn module_name(tensor: &str) -> &str {
    tensor.strip_suffix(".weight").unwrap_or(tensor)
}

/// A weight `[out, in]` without what an initialisation of rank `r` took out of it.
///
/// # Errors
/// A decomposition that does not converge.
fn take_out(weight: Matrix, what: TakenOut, r: usize, scaling: f64) -> Result<Matrix> {
    let [out, inner] = weight.shape();
    let r = r.min(out).min(inner);
    match what {
        TakenOut::Unknown => Err(Error::failure("what the initialisation took out of the base is not known")),
        TakenOut::Principal | TakenOut::Smallest => {
            let all = out.min(inner);
            let range = if what == TakenOut::Principal { 0..r } else { all - r..all };
            let dense = Dense { matrix: Arc::new(weight), epsilon: f64::from(f32::EPSILON), rounding_std: None };
            let (sigma, vectors) = spectrum::leading(&DeltaWeight::Dense(dense.clone()), range.end, &())?;
            // Directions that the weight does not have are nothing to take out.
            let (first, r) = (range.start, vectors.count().min(range.end).saturating_sub(range.start));
            let b = Matrix::from_fn(out, r, |i, k| (f64::from(vectors.u.get(i, first + k)) * sigma[first + k]) as f32);
            let a = Matrix::from_fn(r, inner, |k, j| vectors.v.get(j, first + k));
            let mut rest = Matrix::clone(&dense.matrix);
            add(rest.data_mut(), &b, &a, -1.0);
            Ok(rest)
        }
        TakenOut::Qr => {
            // Q_r R_r is the weight's part in the span of its first r columns.
            let mut basis: Vec<Vec<f64>> = Vec::with_capacity(r);
            for k in 0..r {
                let mut column: Vec<f64> = (0..out).map(|i| f64::from(weight.get(i, k))).collect();
                // Twice: once leaves errors of the size of the cancellation.
                for _ in 0..2 {
                    for known in &basis {
                        let dot: f64 = known.iter().zip(&column).map(|(a, b)| a * b).sum();
                        column.iter_mut().zip(known).for_each(|(x, q)| *x -= dot * q);
                    }
                }
                let norm = column.iter().map(|x| x * x).sum::<f64>().sqrt();
                column.iter_mut().for_each(|x| *x /= norm.max(f64::MIN_POSITIVE));
                basis.push(column);
            }
            let q = Matrix::from_fn(out, r, |i, k| basis[k][i] as f32);
            let rows = Matrix::from_fn(r, inner, |k, j| {
                basis[k].iter().enumerate().map(|(i, q)| q * f64::from(weight.get(i, j))).sum::<f64>() as f32
            });
            let mut rest = weight;
            add(rest.data_mut(), &q, &rows, -scaling);
            Ok(rest)
        }
    }
}

/// `W += s · B A`, all threads.
fn add(values: &mut [f32], b: &Matrix, a: &Matrix, scaling: f64) {
    let (out, r, inner) = (b.rows(), a.rows(), a.cols());
    let (b, a) = (View::dense(b.data(), out, r), View::dense(a.data(), r, inner));
    gemm::parallel(Out::dense(values, out, inner), true, scaling as f32, b, a);
}
