//! LoRA branches on a decoder: those of an adapter on disk, or new ones.

use super::decoder::Decoder;
use super::linear::Lora;
use super::params::Kind;
use super::weight::Weight;
use crate::adapter::Adapter;
use crate::error::{Error, Result};
use crate::matrix::Matrix;

impl Decoder {
    /// Gives the linear layers the branches of an adapter.
    ///
    /// # Errors
    /// When a layer of the adapter is not in this model or has another shape, and for what this model cannot do with an
    /// adapter: adapted embeddings, tensors saved whole, DoRA, biases.
    pub fn attach(&mut self, adapter: &Adapter) -> Result<()> {
        let path = adapter.path();
        if let Some(name) = adapter.saved.first() {
            let message = "a tensor that is saved whole beside the factors is not supported in a running model";
            return Err(Error::tensor(path, name, message));
        }
        for layer in &adapter.layers {
            let wrong = |message: String| Error::tensor(path, &layer.module, message);
            let linear = self.linears().position(|linear| same(&linear.module, &layer.module));
            let Some(at) = linear.filter(|_| !layer.embedding) else {
                return Err(wrong(if layer.embedding || self.is_table(&layer.module) {
                    "adapted embeddings and heads are not supported in a running model".to_owned()
                } else {
                    "the model has no such linear layer: the adapter was made for another base".to_owned()
                }));
            };
            let (b, a) = adapter.factors(layer)?;
            let shape = [b.rows(), a.cols()];
            let expected = self.linears().nth(at).map(|linear| linear.shape).unwrap_or_default();
            if shape != expected {
                let message = format!(
                    "found a layer of {shape:?}, the model's is {expected:?}: the adapter was made for another base"
                );
                return Err(wrong(message));
            }
            self.branch(at, a, b, layer.lora_alpha, layer.scaling as f32);
        }
        Ok(())
    }

    fn is_table(&self, module: &str) -> bool {
        same(&self.spec.embedding.name, module) || self.head.as_ref().is_some_and(|head| same(&head.module, module))
    }

    /// Freezes other values in linear layer number `at`.
    pub(crate) fn freeze(&mut self, at: usize, weight: Weight) {
        if let Some(linear) = Self::linears_mut(&mut self.blocks).nth(at) {
            linear.weight = weight;
        }
    }

    /// Gives linear layer number `at` a branch.
    pub(crate) fn branch(&mut self, at: usize, a: Matrix, b: Matrix, alpha: f64, scaling: f32) {
        let Self { blocks, params, .. } = self;
        let Some(linear) = Self::linears_mut(blocks).nth(at) else { return };
        let (r, shapes) = (a.rows(), [a.shape(), b.shape()]);
        let a = params.push(linear.module.clone(), Kind::LoraA, shapes[0], a.into_data());
        let b = params.push(linear.module.clone(), Kind::LoraB, shapes[1], b.into_data());
        linear.lora = Some(Lora { a, b, r, alpha, scaling });
    }
}

/// The same module, in a checkpoint that leaves out the outer name (`transformer.`) or not.
fn same(ours: &str, theirs: &str) -> bool {
    ours == theirs || theirs.strip_suffix(ours).is_some_and(|outer| outer.ends_with('.'))
}
