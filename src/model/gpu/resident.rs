//! [`Resident`]: a decoder's frozen weights in a machine's memory, by their modules' names.

use super::attention::{Angles, WIDEST};
use super::memory::Span;
use super::norm::Norm;
use super::ops::Gpu;
use super::weights::{Matrix, ParamStore, Vector};
use crate::error::{Error, Result};
use crate::model::branch::Branch;
use crate::model::decoder::{Decoder, FeedForward, Mixer, NormWeights};
use crate::model::linear::Linear;
use crate::spec::{Activation, Rope};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Weights that are not trained, the places of those that are, and the rotary tables that were used last.
#[derive(Debug)]
pub struct Resident {
    linears: HashMap<String, (Matrix, Option<Vector>)>,
    norms: HashMap<String, Norm>,
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
        for norm in decoder.norms() {
            norms.insert(norm.spec.name.clone(), Norm::upload(gpu, norm)?);
        }
        Ok(Self { linears, norms, tables: Mutex::default(), max_positions: decoder.spec.max_positions })
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
    if let Some(what) = decoder.linears().find_map(|linear| linear.branch.as_ref()?.refused_on_gpu()) {
        return Some(what.to_owned());
    }
    for block in &decoder.blocks {
        if let Some(FeedForward::Experts(_)) = &block.ffn {
            return Some("a mixture of experts".to_owned());
        }
        if let Some(FeedForward::Dense(mlp)) = &block.ffn
            && !matches!(
                mlp.spec.activation,
                Activation::Silu
                    | Activation::GeluTanh
                    | Activation::Gelu
                    | Activation::Relu
                    | Activation::Relu2
                    | Activation::Xielu
            )
        {
            return Some(format!("the activation {:?}", mlp.spec.activation));
        }
        let attention = match &block.mixer {
            Some(Mixer::Attention(attention)) => attention,
            Some(Mixer::Recurrence(_) | Mixer::Both(..)) => {
                return Some("linear attention, Mamba or a convolution".to_owned());
            }
            None => continue,
        };
        let spec = &attention.spec;
        if spec.gated_queries {
            return Some("gated attention".to_owned());
        }
        if block.per_layer.is_some() || spec.shares_keys || spec.reads_keys_of.is_some() || spec.v_norm.is_some() {
            return Some("attention with normalized values, shared keys or per-layer inputs".to_owned());
        }
        if spec.head_dim > WIDEST {
            return Some(format!("attention with heads of {} values, more than {WIDEST},", spec.head_dim));
        }
        let norms: Vec<_> = [&attention.q_norm, &attention.k_norm].into_iter().flatten().collect();
        let plain = norms.iter().all(|norm| norm.spec.width == spec.head_dim && !norm.is_centred());
        // Without scales it is the same before the rotary embedding as after it.
        let after = spec.norm_after_rope && norms.iter().any(|norm| norm.spec.weight);
        if !plain || norms.len() == 1 || after {
            return Some("this norm of queries and keys".to_owned());
        }
        if attention.latent.is_some() || attention.sinks.is_some() || spec.chunk.is_some() {
            return Some("attention from latents, with sinks or in chunks".to_owned());
        }
        if spec.gate.is_some() || spec.clip > 0.0 || spec.query_scaling.is_some() {
            return Some("attention with a gate, clipped or scaled queries".to_owned());
        }
    }
    None
}
