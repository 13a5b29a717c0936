//! [`Resident`]: a decoder's frozen weights in a machine's memory, by their modules' names.

use super::attention::{Angles, WIDEST};
use super::memory::Span;
use super::norm::Norm;
use super::ops::Gpu;
use super::weights::{Matrix, ParamStore, Vector};
use crate::error::{Error, Result};
use crate::model::decoder::{Decoder, Mixer, NormWeights};
use crate::model::linear::Linear;
use crate::spec::Rope;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Weights that are not trained, the places of those that are, and the rotary tables that were used last.
#[derive(Debug)]
pub struct Resident {
    linears: HashMap<String, (Matrix, Option<Vector>)>,
    norms: HashMap<String, Norm>,
    /// Other vectors, by a module and what they are beside it.
    vectors: HashMap<(String, &'static str), Vector>,
    tables: Mutex<Tables>,
    max_positions: usize,
}

/// Cosines and sines.
#[derive(Clone, Debug, Default)]
struct Tables {
    /// For so many positions.
    positions: usize,
    /// Of sequences up to so many tokens.
    longest: usize,
    angles: Arc<Vec<Angles>>,
}

impl Resident {
    /// Copies a decoder's weights, tensor by tensor; of one without values, takes the room for them.
    ///
    /// # Errors
    /// When the machine's memory does not suffice, and for what is not computed on a GPU here.
    pub fn upload(gpu: &Gpu, decoder: &Decoder) -> Result<Self> {
        // Where nothing is computed, memory can be told of everything.
        if let Some(what) = refused(decoder).filter(|_| !gpu.is_dry()) {
            return Err(Error::usage(format!("{what} is computed on the processor here, not on a GPU: --device cpu")));
        }
        let (mut linears, mut norms) = (HashMap::new(), HashMap::new());
        for linear in decoder.tables().chain(decoder.linears()) {
            let matrix = Matrix::upload(gpu, &linear.weight, &decoder.params, linear.shape)?;
            let bias = linear.bias.as_ref().map(|bias| Vector::upload(gpu, bias, linear.shape[0])).transpose()?;
            linears.insert(linear.module.clone(), (matrix, bias));
        }
        for expert in decoder.experts().flat_map(|experts| &experts.each) {
            // It is the expert's own, and not the linear layer's: the weight of a row multiplies it.
            if let (Some(bias), Some((_, place))) = (&expert.down_bias, linears.get_mut(&expert.down.module)) {
                *place = Some(Vector::upload(gpu, bias, expert.down.shape[0])?);
            }
        }
        let mut vectors = HashMap::new();
        for attention in decoder.blocks.iter().filter_map(|block| block.mixer.as_ref().and_then(Mixer::attention)) {
            if let Some(sinks) = &attention.sinks {
                let values = Vector::upload(gpu, sinks, attention.spec.heads)?;
                vectors.insert((attention.o.module.clone(), "sinks"), values);
            }
        }
        for norm in decoder.norms() {
            norms.insert(norm.spec.name.clone(), Norm::upload(gpu, norm)?);
        }
        Ok(Self { linears, norms, vectors, tables: Mutex::default(), max_positions: decoder.spec.max_positions })
    }

    fn entry(&self, linear: &Linear) -> Result<&(Matrix, Option<Vector>)> {
        self.linears.get(&linear.module).ok_or_else(|| not_there(&linear.module))
    }

    /// A weight.
    pub(in crate::model) fn matrix(&self, linear: &Linear) -> Result<&Matrix> {
        self.entry(linear).map(|(matrix, _)| matrix)
    }

    /// The bias beside one.
    pub(in crate::model) fn bias<'a>(&'a self, linear: &Linear, params: &'a ParamStore) -> Result<Span<'a>> {
        let bias = self.entry(linear)?.1.as_ref().ok_or_else(|| not_there(&linear.module))?;
        Ok(bias.values(params).0)
    }

    /// A vector beside a module.
    pub(in crate::model) fn vector<'a>(
        &'a self,
        module: &str,
        what: &'static str,
        params: &'a ParamStore,
    ) -> Result<Span<'a>> {
        let vector = self.vectors.get(&(module.to_owned(), what)).ok_or_else(|| not_there(module))?;
        Ok(vector.values(params).0)
    }

    /// A norm.
    pub(in crate::model) fn norm(&self, norm: &NormWeights) -> Result<&Norm> {
        self.norms.get(&norm.spec.name).ok_or_else(|| not_there(&norm.spec.name))
    }

    /// Tables for `positions`, of sequences up to `longest`; those of before where they will do.
    pub(in crate::model) fn angles(
        &self,
        gpu: &Gpu,
        ropes: &[Rope],
        positions: usize,
        longest: usize,
    ) -> Result<Arc<Vec<Angles>>> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let same = ropes.iter().all(|rope| rope.same_for(tables.longest, longest));
        if tables.positions < positions || !same {
            let positions = positions.next_power_of_two().min(self.max_positions.max(positions));
            let made = ropes.iter().map(|rope| match gpu.is_dry() {
                true => Angles::blank(gpu, positions, rope.frequencies.len()),
                false => Angles::upload(gpu, &rope.table(positions, longest)),
            });
            *tables = Tables { positions, longest, angles: Arc::new(made.collect::<Result<_>>()?) };
        }
        Ok(Arc::clone(&tables.angles))
    }
}

fn not_there(module: &str) -> Error {
    Error::failure(format!("{module} is not in the GPU's memory"))
}

/// What the kernels do not compute, of all that a spec can say.
fn refused(decoder: &Decoder) -> Option<String> {
    for block in &decoder.blocks {
        let attention = match &block.mixer {
            Some(Mixer::Attention(attention)) => attention,
            Some(Mixer::Recurrence(_) | Mixer::Both(..)) => {
                return Some("linear attention, Mamba or a convolution".to_owned());
            }
            None => continue,
        };
        let spec = &attention.spec;
        if spec.head_dim > WIDEST {
            return Some(format!("attention with heads of {} values, more than {WIDEST},", spec.head_dim));
        }
        let norms = [&attention.q_norm, &attention.k_norm];
        if norms.into_iter().flatten().any(|norm| norm.spec.copies > 1) {
            return Some("norms of queries and keys of every head by itself".to_owned());
        }
        if spec.alibi_rounded {
            return Some("attention with linear biases in bf16".to_owned());
        }
    }
    None
}
