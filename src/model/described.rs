//! A decoder without values: what a pass is gone through on to predict its memory and its operations.

use super::branch::{Beside, Dora, Lora};
use super::decoder::{Decoder, Source};
use super::linear::Linear;
use super::params::{Kind, Params};
use super::weight::{Vector, Weight};
use crate::checkpoint::Dtype;
use crate::error::Result;
use crate::quant::{Quantized, Scheme};
use crate::spec::{ExpertsSpec, ModelSpec, ModuleSpec};
use std::sync::Arc;

/// How a matrix is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Trained, in `f32`.
    Trained,
    /// Frozen, in this type; what is no half type is `f32`.
    Stored(Dtype),
    /// Frozen, in 4 bits.
    FourBit(Scheme),
}

/// A branch of this rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// The rank.
    pub r: usize,
    /// With magnitudes.
    pub dora: bool,
}

struct Blank<'a> {
    params: Params,
    kept: &'a dyn Fn(&ModuleSpec) -> Kept,
    vectors_are_trained: bool,
    alike: &'a dyn Fn(&ExpertsSpec) -> bool,
}

impl Blank<'_> {
    fn vector(&mut self, name: String, width: usize) -> Vector {
        if self.vectors_are_trained {
            return Vector::Trained(self.params.push(name, Kind::Vector, [1, width], Vec::new()), 0.0);
        }
        Vector::Frozen(Vec::new())
    }
}

impl Source for Blank<'_> {
    fn weight(&mut self, spec: &ModuleSpec) -> Result<Weight> {
        Ok(match (self.kept)(spec) {
            Kept::Trained => Weight::Trained(self.params.push(spec.name.clone(), Kind::Weight, spec.shape, Vec::new())),
            Kept::Stored(Dtype::BF16) => Weight::Bf16(Vec::new()),
            Kept::Stored(Dtype::F16) => Weight::F16(Vec::new()),
            Kept::Stored(_) => Weight::F32(Vec::new()),
            Kept::FourBit(scheme) => Weight::FourBit(Quantized::new(&[], [0, 0], scheme)?),
        })
    }

    fn bias(&mut self, module: &str, width: usize) -> Result<Vector> {
        Ok(self.vector(format!("{module}.bias"), width))
    }

    fn alike(&self, experts: &ExpertsSpec) -> bool {
        (self.alike)(experts)
    }

    fn buffer(&mut self, _name: &str) -> Result<f32> {
        // Not 1, which would not be multiplied by.
        Ok(0.5)
    }

    fn vectors(&mut self, names: &[String], count: usize) -> Result<Vec<Vector>> {
        // However many there are: together they have so many values.
        Ok(vec![self.vector(names.concat(), count)])
    }

    fn scalar(&mut self, _name: &str) -> Result<f32> {
        Ok(1.0)
    }

    fn scale(&mut self, name: &str, width: usize, _plus: f32) -> Result<Vector> {
        Ok(self.vector(name.to_owned(), width))
    }

    fn values(&mut self, _name: &str, _width: usize) -> Result<Vec<f32>> {
        Ok(Vec::new())
    }

    fn trained_values(&mut self, name: &str, width: usize) -> Result<Vector> {
        Ok(self.vector(name.to_owned(), width))
    }

    fn stacked_bias(&mut self, stack: &str, copies: usize, width: usize) -> Result<Vec<Vector>> {
        Ok((0..copies).map(|number| self.vector(format!("{stack}_bias[{number}]"), width)).collect())
    }
}

impl Decoder {
    /// A decoder of this shape, each matrix kept as `kept` says, with a branch where `rank` gives one; norms and biases are
    /// trained where the embedding is. Of a mixture whose experts are `alike` there is one.
    ///
    /// # Errors
    /// A scheme that cannot be, and what is not computed here.
    pub fn described(
        spec: &Arc<ModelSpec>,
        kept: &dyn Fn(&ModuleSpec) -> Kept,
        rank: &dyn Fn(&Linear) -> Option<Rank>,
        alike: &dyn Fn(&ExpertsSpec) -> bool,
    ) -> Result<Self> {
        let vectors_are_trained = kept(&spec.embedding) == Kept::Trained;
        let mut blank = Blank { params: Params::default(), kept, vectors_are_trained, alike };
        let mut decoder = Self::build(Arc::clone(spec), &mut blank)?;
        let mut params = blank.params;
        for linear in decoder.linears_mut() {
            let Some(Rank { r, dora }) = rank(linear) else { continue };
            let [out, width] = linear.shape;
            let mut push = |kind, shape| params.push(linear.module.clone(), kind, shape, Vec::new());
            let (a, b) = (push(Kind::LoraA, [r, width]), push(Kind::LoraB, [out, r]));
            let lora = Lora { a, b, r, alpha: r as f64, scaling: 1.0 };
            linear.branch = Some(match dora {
                false => Beside::Lora(lora),
                true => Beside::Dora(Dora { lora, magnitude: push(Kind::Magnitude, [1, out]) }),
            });
        }
        decoder.params = params;
        Ok(decoder)
    }
}
