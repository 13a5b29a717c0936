//! Branches on a decoder: those of an adapter on disk, or new ones.

use super::applied::{Applied, Placed};
use super::branch::{Beside, Dora, Lora};
use super::decoder::{Decoder, all_linears};
use super::params::Kind;
use super::weight::{Frozen, Weight};
use crate::adapter::{Adapter, LoraLayer};
use crate::checkpoint::{Checkpoint, NameMap, Role};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::Progress;

impl Decoder {
    /// Reads a model with an adapter on it. Pairs of linear layers become branches; whatever else the adapter holds goes into
    /// the weights: see [`Applied`].
    ///
    /// # Errors
    /// As [`load`](Self::load) and [`Applied::new`].
    pub fn with_adapter(
        checkpoint: &Checkpoint,
        adapter: &Adapter,
        frozen: Frozen,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let applied = Applied::new(checkpoint, adapter)?;
        let changed = applied.overlay()?;
        let mut decoder = Self::load(changed.as_ref().unwrap_or(checkpoint), frozen, progress)?;
        for Placed { module, layer } in applied.branches() {
            if layer.experts.is_some() {
                decoder.attach_stack(adapter, layer)?;
                continue;
            }
            let at = decoder.linears().position(|linear| linear.module == module);
            let at = at.ok_or_else(|| {
                let message = "the model has no such linear layer in a block, expected one for the pair";
                Error::tensor(adapter.path(), &module, message)
            })?;
            decoder.attach_layer(adapter, layer, at)?;
        }
        Ok(decoder)
    }

    /// Gives the linear layers the branches of an adapter, to be trained on.
    ///
    /// # Errors
    /// When a layer of the adapter is not in this model or has another shape, and for what is no pair of a linear layer and
    /// therefore cannot be trained on: adapted embeddings, tensors saved whole, biases.
    pub fn attach(&mut self, adapter: &Adapter) -> Result<()> {
        let path = adapter.path();
        let whole = adapter.saved.iter().find(|saved| saved.trained).map(|saved| saved.tensor.as_str());
        if let Some(name) = whole.or(adapter.tokens.first().map(|tokens| tokens.tensor.as_str())) {
            let message = "a tensor that is saved whole beside the factors cannot be trained on here";
            return Err(Error::tensor(path, name, message));
        }
        if let Some(why) = adapter.unmergeable() {
            return Err(Error::file(path, why));
        }
        let modules: Vec<String> = self.linears().map(|linear| linear.module.clone()).collect();
        let names = NameMap::new(modules.iter().map(String::as_str));
        let tables = NameMap::new(
            [Some(&self.spec.embedding.name), self.head.as_ref().map(|head| &head.module)]
                .into_iter()
                .flatten()
                .map(String::as_str),
        );
        let apart = self.attach_apart(adapter)?;
        for layer in adapter.layers.iter().filter(|layer| !apart.contains(&layer.module)) {
            let wrong = |message: String| Error::tensor(path, &layer.module, message);
            if layer.experts.is_some() {
                self.attach_stack(adapter, layer)?;
                continue;
            }
            let table = layer.embedding || layer.role == Role::Head || tables.find(&layer.module).is_some();
            let Some(at) = names.find(&layer.module).filter(|_| !layer.embedding) else {
                return Err(wrong(if table {
                    "adapted embeddings and heads cannot be trained on here".to_owned()
                } else {
                    let there = modules.first().map_or("none", String::as_str);
                    format!("the model has no such linear layer; it has names such as {there}")
                }));
            };
            if adapter.bias(layer)?.is_some() {
                return Err(wrong("a bias of B (lora_bias) cannot be trained on here".to_owned()));
            }
            if layer.columns {
                return Err(wrong("magnitudes of columns (wd_on_out=False) cannot be trained on here".to_owned()));
            }
            self.attach_layer(adapter, layer, at)?;
        }
        Ok(())
    }

    /// Pairs of an expert's gate and up by themselves, as adapters before PEFT 0.18 have them: one pair of both ranks together,
    /// `A = [A_gate; A_up]` and B in blocks, as PEFT converts them. Gives the names of these layers.
    fn attach_apart(&mut self, adapter: &Adapter) -> Result<Vec<String>> {
        let names = NameMap::new(adapter.layers.iter().map(|layer| layer.module.as_str()));
        let (mut done, mut pairs) = (Vec::new(), Vec::new());
        for (at, linear) in self.linears().enumerate().filter(|(_, linear)| !linear.parts.is_empty()) {
            let layer =
                |name: &str| names.find(name).map(|at| &adapter.layers[at]).filter(|layer| layer.experts.is_none());
            let [out, inner] = linear.shape;
            let found: Vec<_> =
                linear.parts.iter().filter_map(|(name, rows)| Some((layer(name)?, rows.clone()))).collect();
            let Some(((first, _), r)) = found.first().zip(Some(found.iter().map(|(layer, _)| layer.r).sum::<usize>()))
            else {
                continue;
            };
            let (mut a, mut b) = (Matrix::zeros(r, inner), Matrix::zeros(out, r));
            let mut before = 0;
            for (layer, rows) in &found {
                let (own_b, own_a) = adapter.factors(layer)?;
                if [own_b.rows(), own_a.cols()] != [rows.len(), inner] || layer.dora || layer.scaling != first.scaling {
                    let message = format!(
                        "found a pair of {:?} with scaling {}, expected {:?} with {}, as all of an expert's have",
                        layer.shape,
                        layer.scaling,
                        [rows.len(), inner],
                        first.scaling
                    );
                    return Err(Error::tensor(adapter.path(), &layer.module, message));
                }
                for k in 0..layer.r {
                    a.data_mut()[(before + k) * inner..][..inner].copy_from_slice(&own_a.data()[k * inner..][..inner]);
                    for (row, at) in rows.clone().enumerate() {
                        b.data_mut()[at * r + before + k] = own_b.get(row, k);
                    }
                }
                before += layer.r;
                done.push(layer.module.clone());
            }
            let alpha = found.iter().map(|(layer, _)| layer.lora_alpha).sum();
            pairs.push((at, a, b, alpha, first.scaling as f32));
        }
        self.branch_all(pairs);
        Ok(done)
    }

    /// The pairs of a stack of experts as a branch of each.
    fn attach_stack(&mut self, adapter: &Adapter, layer: &LoraLayer) -> Result<()> {
        let wrong = |message: String| Error::tensor(adapter.path(), &layer.module, message);
        let modules: Vec<(String, [usize; 2])> =
            self.linears().map(|linear| (linear.module.clone(), linear.shape)).collect();
        let names = NameMap::new(modules.iter().map(|(name, _)| name.as_str()));
        let (stem, parameter) = layer.module.rsplit_once('.').unwrap_or_default();
        let leaves: &[&str] = match parameter {
            "down_proj" => &["down_proj", "w2"],
            "up_proj" => &["up_proj"],
            _ => &["gate_up_proj"],
        };
        let swapped = self.spec.experts().any(|experts| experts.peft.swapped);
        let pairs = adapter.experts(layer)?;
        let mut places = Vec::with_capacity(pairs.len());
        for expert in 0..pairs.len() {
            let at = leaves.iter().find_map(|leaf| names.find(&format!("{stem}.{expert}.{leaf}")));
            places.push(
                at.ok_or_else(|| wrong(format!("the model has no expert {expert} there, expected one for each pair")))?,
            );
        }
        if names.find(&format!("{stem}.{}.{}", pairs.len(), leaves[0])).is_some() {
            return Err(wrong(format!("found pairs for {} experts, the model has more", pairs.len())));
        }
        let mut branches = Vec::with_capacity(pairs.len());
        for ((b, a), at) in pairs.into_iter().zip(places) {
            let expected = modules[at].1;
            let (b, a) = if swapped { (a.transposed(), b.transposed()) } else { (b, a) };
            let shape = [b.rows(), a.cols()];
            if shape != expected {
                return Err(wrong(format!(
                    "found experts of {shape:?}, the model's are {expected:?}: the adapter was made for another base"
                )));
            }
            branches.push((at, a, b, layer.lora_alpha, layer.scaling as f32));
        }
        self.branch_all(branches);
        Ok(())
    }

    /// Gives linear layers, by their numbers, a pair each with its α and scaling, in one walk over them.
    pub(crate) fn branch_all(&mut self, pairs: Vec<(usize, Matrix, Matrix, f64, f32)>) {
        let Self { blocks, per_layer, narrow, params, .. } = self;
        let mut linears: Vec<_> = all_linears(per_layer.as_mut(), narrow.as_mut(), blocks).map(Some).collect();
        for (at, a, b, alpha, scaling) in pairs {
            let Some(linear) = linears.get_mut(at).and_then(Option::take) else { continue };
            let (r, shapes) = (a.rows(), [a.shape(), b.shape()]);
            let a = params.push(linear.module.clone(), Kind::LoraA, shapes[0], a.into_data());
            let b = params.push(linear.module.clone(), Kind::LoraB, shapes[1], b.into_data());
            linear.branch = Some(Beside::Lora(Lora { a, b, r, alpha, scaling }));
        }
    }

    /// The pair of one layer as a branch of linear layer number `at`.
    fn attach_layer(&mut self, adapter: &Adapter, layer: &LoraLayer, at: usize) -> Result<()> {
        let (b, a) = adapter.factors(layer)?;
        let shape = [b.rows(), a.cols()];
        let expected = self.linears().nth(at).map(|linear| linear.shape).unwrap_or_default();
        if shape != expected {
            let message = format!(
                "found a layer of {shape:?}, the model's is {expected:?}: the adapter was made for another base"
            );
            return Err(Error::tensor(adapter.path(), &layer.module, message));
        }
        let magnitude = adapter.magnitude(layer)?;
        self.branch(at, a, b, layer.lora_alpha, layer.scaling as f32, magnitude);
        Ok(())
    }

    /// What the frozen weights alone give: `look` sees the decoder without its branches, which are there again afterwards.
    pub fn without_branches<T>(&mut self, look: impl FnOnce(&Self) -> T) -> T {
        let branches: Vec<Option<Beside>> = self.linears_mut().map(|linear| linear.branch.take()).collect();
        let found = look(self);
        for (linear, branch) in self.linears_mut().zip(branches) {
            linear.branch = branch;
        }
        found
    }

    /// Freezes other values in linear layer number `at`.
    pub(crate) fn freeze(&mut self, at: usize, weight: Weight) {
        if let Some(linear) = self.linears_mut().nth(at) {
            linear.weight = weight;
        }
    }

    /// Gives linear layer number `at` a branch: of DoRA where there are magnitudes.
    pub(crate) fn branch(
        &mut self,
        at: usize,
        a: Matrix,
        b: Matrix,
        alpha: f64,
        scaling: f32,
        magnitude: Option<Vec<f32>>,
    ) {
        let Self { blocks, per_layer, narrow, params, .. } = self;
        let Some(linear) = all_linears(per_layer.as_mut(), narrow.as_mut(), blocks).nth(at) else { return };
        let (r, shapes) = (a.rows(), [a.shape(), b.shape()]);
        let mut push = |kind, shape, values| params.push(linear.module.clone(), kind, shape, values);
        let a = push(Kind::LoraA, shapes[0], a.into_data());
        let b = push(Kind::LoraB, shapes[1], b.into_data());
        let lora = Lora { a, b, r, alpha, scaling };
        linear.branch = Some(match magnitude {
            None => Beside::Lora(lora),
            Some(m) => Beside::Dora(Dora { lora, magnitude: push(Kind::Magnitude, [1, m.len()], m) }),
        });
    }
}
