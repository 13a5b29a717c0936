//! [`NewAdapter`]: an adapter that is yet to be written, as PEFT reads it.

use crate::checkpoint::Dtype;
use crate::checkpoint::write::{Planned, Tensor, write_lazily, write_whole};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// One layer to be written.
#[derive(Clone, Debug, PartialEq)]
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
}

/// Settings and layers of an adapter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewAdapter {
    /// The layers.
    pub layers: Vec<NewLayer>,
    /// Scaling α/√r instead of α/r.
    pub use_rslora: bool,
    /// The base stores its weights as `[in, out]` (GPT-2).
    pub fan_in_fan_out: bool,
    /// Dropout of the branches' input, for whoever trains on.
    pub lora_dropout: f64,
    /// What the adapter is for.
    pub base_model_name_or_path: Option<String>,
    /// `CAUSAL_LM` where nothing else is known.
    pub task_type: Option<String>,
    /// All modules of the base: a last name stands for every module that has it.
    pub modules: Vec<String>,
    /// For a trained adapter; false for a plan that somebody is to train.
    pub inference_mode: bool,
}

impl NewAdapter {
    /// `Σ r (d_in + d_out)`.
    pub fn trainable(&self) -> u64 {
        self.layers.iter().map(|layer| (layer.shape[0] as u64 + layer.shape[1] as u64) * layer.r as u64).sum()
    }

    /// `adapter_config.json` by PEFT's names: what most layers have in `r` and `lora_alpha`, the others in the patterns.
    pub fn config(&self) -> Value {
        let r = usual(self.layers.iter().map(|layer| layer.r as u64)).unwrap_or(8);
        let alpha = usual(self.layers.iter().map(|layer| layer.lora_alpha.to_bits())).map_or(8.0, f64::from_bits);
        let (mut ranks, mut alphas) = (Map::new(), Map::new());
        for layer in &self.layers {
            if layer.r as u64 != r {
                ranks.insert(layer.module.clone(), json!(layer.r));
            }
            if layer.lora_alpha != alpha {
                alphas.insert(layer.module.clone(), number(layer.lora_alpha));
            }
        }
        json!({
            "peft_type": "LORA",
            "task_type": self.task_type.as_deref().unwrap_or("CAUSAL_LM"),
            "base_model_name_or_path": self.base_model_name_or_path,
            "r": r,
            "lora_alpha": number(alpha),
            "lora_dropout": number(self.lora_dropout),
            "target_modules": self.targets(),
            "use_rslora": self.use_rslora,
            "rank_pattern": ranks,
            "alpha_pattern": alphas,
            "fan_in_fan_out": self.fan_in_fan_out,
            "bias": "none",
            "init_lora_weights": true,
            "inference_mode": self.inference_mode,
            "modules_to_save": null,
            "use_dora": false,
        })
    }

    /// The shortest names that mean these layers and no others: the last part of a name where every module that has it
    /// is among them, otherwise the whole name.
    pub fn targets(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for layer in &self.layers {
            let leaf = leaf(&layer.module);
            let there = self.modules.iter().filter(|name| self::leaf(name) == leaf).count();
            let here = self.layers.iter().filter(|other| self::leaf(&other.module) == leaf).count();
            let name = if there <= here { leaf } else { &layer.module };
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        names
    }

    /// Writes both files into `folder`. `factors` gives B (out × r) and A (r × in) of a layer, one layer after the other:
    /// no more than one pair is in memory.
    ///
    /// # Errors
    /// When there are no layers, what `factors` says, or when a file cannot be written; nothing is left behind then.
    pub fn write(
        &self,
        folder: &Path,
        dtype: Dtype,
        factors: &(dyn Fn(usize) -> Result<(Matrix, Matrix)> + Sync),
    ) -> Result<()> {
        if self.layers.is_empty() {
            return Err(Error::failure("there are no layers to write an adapter of"));
        }
        // In the order of the file, so that the two factors of a layer come one after the other.
        let mut order: Vec<usize> = (0..self.layers.len()).collect();
        order.sort_by(|&a, &b| self.layers[a].module.cmp(&self.layers[b].module));
        let planned: Vec<Planned> = order.iter().flat_map(|&at| self.layers[at].planned(dtype)).collect();
        let last: Mutex<Option<(usize, Matrix, Matrix)>> = Mutex::new(None);
        write_lazily(&folder.join("adapter_model.safetensors"), &planned, &|at| {
            let (layer, second) = (order[at / 2], at % 2 == 1);
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.as_ref().is_none_or(|(number, ..)| *number != layer) {
                *last = None;
                let (b, a) = factors(layer)?;
                let expected = (self.layers[layer].shape, self.layers[layer].r);
                if ([b.rows(), a.cols()], b.cols()) != expected || a.rows() != b.cols() {
                    return Err(Error::failure(format!(
                        "the factors of {} have another size",
                        self.layers[layer].module
                    )));
                }
                *last = Some((layer, b, a));
            }
            let (name, shape, dtype) = planned[at].clone();
            let Some((_, b, a)) = last.as_ref() else { return Err(Error::failure("a layer was lost")) };
            // An embedding's A and B are the transposes of the other's factor.
            let values = match (self.layers[layer].embedding, second) {
                (false, false) => a.data().to_vec(),
                (false, true) => b.data().to_vec(),
                (true, false) => b.transposed().into_data(),
                (true, true) => a.transposed().into_data(),
            };
            Ok(Tensor::new(name, shape, &values, dtype))
        })?;
        let config = serde_json::to_string_pretty(&self.config());
        let config = config.map_err(|error| Error::failure(error.to_string()))?;
        write_whole(&folder.join("adapter_config.json"), config.as_bytes())
    }
}

impl NewLayer {
    /// Names, sizes and type of A and B in the file.
    fn planned(&self, dtype: Dtype) -> [Planned; 2] {
        let [out, inner] = self.shape;
        let name = |part: &str| format!("base_model.model.{}.{part}", self.module);
        if self.embedding {
            [
                (name("lora_embedding_A"), vec![self.r, out], dtype),
                (name("lora_embedding_B"), vec![inner, self.r], dtype),
            ]
        } else {
            [(name("lora_A.weight"), vec![self.r, inner], dtype), (name("lora_B.weight"), vec![out, self.r], dtype)]
        }
    }
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

/// A whole number without a point.
fn number(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e15 { json!(x as i64) } else { json!(x) }
}

fn leaf(module: &str) -> &str {
    module.rsplit('.').next().unwrap_or(module)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::Adapter;

    fn layer(module: &str, r: usize, alpha: f64) -> NewLayer {
        NewLayer { module: module.to_owned(), shape: [4, 3], r, lora_alpha: alpha, embedding: false }
    }

    #[test]
    fn what_is_usual_stands_once() {
        let modules = ["h.0.q", "h.1.q", "h.2.q", "h.0.k", "h.1.k"].map(str::to_owned).to_vec();
        let layers =
            vec![layer("h.0.q", 2, 2.0), layer("h.1.q", 2, 2.0), layer("h.2.q", 1, 1.0), layer("h.0.k", 2, 0.5)];
        let config = NewAdapter { layers, modules, ..NewAdapter::default() }.config();
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
        let embedding =
            NewLayer { module: "model.embed_tokens".into(), shape: [5, 3], r: 2, lora_alpha: 2.0, embedding: true };
        let layers =
            vec![layer("model.layers.10.mlp.up_proj", 1, 1.0), embedding, layer("model.layers.2.mlp.up_proj", 2, 2.0)];
        let adapter = NewAdapter { layers: layers.clone(), ..NewAdapter::default() };
        let value = |layer: usize, part: usize, i: usize, j: usize| (1000 * layer + 100 * part + 10 * i + j) as f32;
        let factors = |at: usize| {
            let NewLayer { shape: [out, inner], r, .. } = layers[at];
            let b = Matrix::from_fn(out, r, |i, j| value(at, 0, i, j));
            Ok((b, Matrix::from_fn(r, inner, |i, j| value(at, 1, i, j))))
        };
        adapter.write(folder.path(), Dtype::F32, &factors).unwrap();
        let read = Adapter::open(folder.path()).unwrap();
        assert_eq!(read.layers.len(), 3);
        for (at, expected) in layers.iter().enumerate() {
            let layer = read.layer(&expected.module).unwrap();
            assert_eq!((layer.r, layer.lora_alpha, layer.scaling), (expected.r, expected.lora_alpha, 1.0));
            assert_eq!(read.factors(layer).unwrap(), factors(at).unwrap());
        }
        let error =
            adapter.write(folder.path(), Dtype::F32, &|_| Ok((Matrix::zeros(1, 1), Matrix::zeros(1, 1)))).unwrap_err();
        assert!(error.to_string().contains("another size"), "{error}");
    }
}
