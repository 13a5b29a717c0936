//! [`Resident`]: a decoder's frozen weights in a machine's memory, by their modules' names.

use super::attention::{Angles, WIDEST};
use super::memory::{Span, Tensor};
use super::norm::Norm;
use super::ops::Gpu;
use super::state::WIDEST_STATE;
use super::weights::{Matrix, ParamStore, Vector};
use crate::error::{Error, Result};
use crate::model::decoder::{Decoder, NormWeights, Recurrence};
use crate::model::linear::Linear;
use crate::model::weight;
use crate::spec::Rope;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Weights that are not trained, the places of those that are, and the rotary tables that were used last.
#[derive(Debug)]
pub struct Resident {
    linears: HashMap<String, (Matrix, Option<Vector>)>,
    norms: HashMap<String, Norm>,
    /// Other vectors, by a module and what they are beside it.
    vectors: HashMap<String, Vector>,
    /// Columns of rows in the order of a recurrence, by its output projection.
    orders: HashMap<String, Tensor>,
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
        let (mut vectors, mut orders) = (HashMap::new(), HashMap::new());
        for mixer in decoder.blocks.iter().filter_map(|block| block.mixer.as_ref()) {
            if let Some((attention, sinks)) = mixer.attention().and_then(|it| Some((it, it.sinks.as_ref()?))) {
                let values = Vector::upload(gpu, sinks, attention.spec.heads)?;
                vectors.insert(beside(&attention.o.module, "sinks"), values);
            }
            let Some(recurrence) = mixer.recurrence() else { continue };
            for (what, vector, width) in vectors_of(recurrence) {
                vectors.insert(beside(&recurrence.o.module, &what), Vector::upload(gpu, vector, width)?);
            }
            let spec = &recurrence.spec;
            if !spec.scales.is_empty() {
                let parts = spec.parts();
                let each = parts.iter().zip(&spec.scales);
                let scales = each.flat_map(|(&width, &scale)| std::iter::repeat_n(scale, width)).collect();
                let scales = Vector::upload(gpu, &weight::Vector::Frozen(scales), spec.row())?;
                vectors.insert(beside(&recurrence.o.module, "scales"), scales);
            }
            if let Some(order) = &recurrence.order {
                orders.insert(recurrence.o.module.clone(), gpu.upload_indices(order)?);
            }
        }
        for norm in decoder.norms() {
            norms.insert(norm.spec.name.clone(), Norm::upload(gpu, norm)?);
        }
        Ok(Self {
            linears,
            norms,
            vectors,
            orders,
            tables: Mutex::default(),
            max_positions: decoder.spec.max_positions,
        })
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
    pub(in crate::model) fn vector<'a>(&'a self, module: &str, what: &str, params: &'a ParamStore) -> Result<Span<'a>> {
        let name = beside(module, what);
        match self.vectors.get(&name).ok_or_else(|| not_there(&name))?.values(params) {
            (values, 0.0) => Ok(values),
            (_, plus) => Err(Error::failure(format!("{name} is used with {plus} added, expected as it is"))),
        }
    }

    /// Columns of rows in the order of a recurrence, where its projections give another.
    pub(in crate::model) fn order(&self, module: &str) -> Option<&Tensor> {
        self.orders.get(module)
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

/// What a vector beside a module is kept by.
fn beside(module: &str, what: &str) -> String {
    format!("{what} beside {module}")
}

/// The vectors of a recurrence, what they are, and how many values they have.
fn vectors_of(of: &Recurrence) -> Vec<(String, &weight::Vector, usize)> {
    let (spec, (channels, _)) = (&of.spec, of.spec.channels());
    let heads = [spec.keys(), spec.keys(), spec.width()];
    // In several pieces these are queries, keys and values.
    let piece = |number: usize| spec.conv.kernel * if of.conv.len() == 1 { channels } else { heads[number.min(2)] };
    let conv =
        of.conv.iter().enumerate().map(|(number, vector)| (format!("convolution {number}"), vector, piece(number)));
    let bias = of.conv_bias.iter().map(|vector| ("bias of the convolution".to_owned(), vector, channels));
    let own = of.vectors.iter().enumerate();
    let own = own.map(|(number, vector)| (format!("vector {number}"), vector, spec.value_heads));
    let width = spec.norm.as_ref().map_or(0, |norm| norm.width);
    let norm = of.norm.iter().map(|vector| ("norm".to_owned(), vector, width));
    conv.chain(bias).chain(own).chain(norm).collect()
}

fn not_there(module: &str) -> Error {
    Error::failure(format!("{module} is not in the GPU's memory"))
}

/// What the kernels do not compute, of all that a spec can say.
fn refused(decoder: &Decoder) -> Option<String> {
    decoder.blocks.iter().filter_map(|block| block.mixer.as_ref()).find_map(|mixer| {
        let heads = mixer.attention().map(|attention| attention.spec.head_dim).filter(|&width| width > WIDEST);
        let sides = mixer.recurrence().map(|it| it.spec.key_dim.max(it.spec.value_dim));
        let side =
            sides.filter(|&side| side > WIDEST_STATE && mixer.recurrence().is_some_and(|it| it.scan().is_some()));
        let too_wide = |what: &str, width: usize, most: usize| format!("{what} of {width} values, more than {most},");
        heads
            .map(|width| too_wide("attention with heads", width, WIDEST))
            .or_else(|| side.map(|width| too_wide("a recurrence with heads", width, WIDEST_STATE)))
    })
}
