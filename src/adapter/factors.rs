//! [`Factors`]: the tensors of one layer, found by their names and checked against each other.

use super::dialect::{FactorOf, Piece, Scale};
use super::{LoraLayer, PeftConfig};
use crate::checkpoint::{Checkpoint, Dtype, Role, Tensor, layer_of};
use crate::error::{Error, Result};

/// One factor in the file, and what to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Factor {
    /// The tensor's name.
    pub(super) tensor: String,
    /// Stored as its transpose.
    pub(super) transposed: bool,
    /// Blocks on the diagonal, stored one below the other; 1 for a matrix as it is.
    pub(super) blocks: usize,
}

/// The tensors of one layer.
#[derive(Default)]
pub(super) struct Factors<'a> {
    a: Option<(&'a Tensor, FactorOf)>,
    b: Option<(&'a Tensor, FactorOf)>,
    bias: Option<&'a Tensor>,
    magnitude: Option<&'a Tensor>,
    diagonal: Option<&'a Tensor>,
    alpha: Option<&'a Tensor>,
    foreign: Option<&'a Tensor>,
    twice: Option<(&'a Tensor, &'a Tensor)>,
    parameters: u64,
}

/// What the layers of one adapter have in common.
pub(super) struct Common<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) config: &'a PeftConfig,
    pub(super) scale: Scale,
    pub(super) transposed: bool,
}

/// A parameter of a module that stacks the experts of a mixture (`target_parameters`).
pub(super) struct Stacked {
    /// The module and the parameter: `model.layers.0.mlp.experts.gate_up_proj`.
    pub(super) name: String,
}

impl<'a> Factors<'a> {
    pub(super) fn add(&mut self, part: Piece, tensor: &'a Tensor) {
        let slot = match part {
            Piece::A(of) => return self.factor(true, tensor, of),
            Piece::B(of) => return self.factor(false, tensor, of),
            Piece::Bias => &mut self.bias,
            Piece::Magnitude => &mut self.magnitude,
            Piece::Diagonal => &mut self.diagonal,
            Piece::Foreign => &mut self.foreign,
            // Neither is trained.
            Piece::Alpha => {
                self.alpha = Some(tensor);
                return;
            }
            Piece::Unused => return,
        };
        *slot = Some(tensor);
        self.parameters = self.parameters.saturating_add(tensor.elements());
    }

    fn factor(&mut self, a: bool, tensor: &'a Tensor, of: FactorOf) {
        self.parameters = self.parameters.saturating_add(tensor.elements());
        let slot = if a { &mut self.a } else { &mut self.b };
        match slot {
            Some((other, _)) => self.twice = Some((tensor, other)),
            None => *slot = Some((tensor, of)),
        }
    }

    /// Rows of A, where there is one.
    pub(super) fn rows(&self) -> Option<usize> {
        self.a.and_then(|(a, _)| a.shape.first().copied())
    }

    /// A sentence about a factor that is no matrix of numbers, or a convolution's.
    fn sound(&self, tensor: &Tensor, common: &Common) -> Result<()> {
        let wrong = |message: String| Err(Error::tensor(common.checkpoint.file_of(tensor), &tensor.name, message));
        if tensor.shape.contains(&0) {
            return wrong(format!(
                "the tensor is empty: found shape {:?}, expected a rank of 1 or more (DeepSpeed ZeRO-3 and FSDP write such \
                 placeholders when the weights are not gathered before saving)",
                tensor.shape
            ));
        }
        if !(2..=5).contains(&tensor.shape.len()) || (tensor.shape.len() > 2 && common.transposed) {
            return wrong(format!("found shape {:?}, expected two sizes", tensor.shape));
        }
        if !tensor.dtype.is_readable() {
            return wrong(format!("found values of type {}, expected floating-point ones", tensor.dtype));
        }
        Ok(())
    }

    /// The layer of `module`; of a stack of experts, when `stacked` says so.
    ///
    /// # Errors
    /// What is wrong with its tensors, each with its own name.
    pub(super) fn layer(self, module: &str, stacked: Option<Stacked>, common: &Common) -> Result<LoraLayer> {
        let Common { checkpoint, config, scale, transposed } = *common;
        let about =
            |tensor: &Tensor, message: String| Err(Error::tensor(checkpoint.file_of(tensor), &tensor.name, message));
        if let Some((tensor, other)) = self.twice {
            return about(tensor, format!("{} is the same factor, expected it once", other.name));
        }
        if let Some(foreign) = self.foreign {
            return about(foreign, "a part of a method that is not known here, expected A and B alone".to_owned());
        }
        let ((a, of), (b, of_b)) = match (self.a, self.b) {
            (Some(a), Some(b)) => (a, b),
            (Some((a, _)), None) => return about(a, format!("found A without B for {module}, expected both")),
            (None, Some((b, _))) => return about(b, format!("found B without A for {module}, expected both")),
            (None, None) => {
                let message = "found neither A nor B beside it, expected both";
                return Err(Error::tensor(checkpoint.path(), module, message));
            }
        };
        self.sound(a, common)?;
        self.sound(b, common)?;
        if of != of_b {
            return about(
                a,
                format!("found one factor of an embedding and {} of a linear layer, expected two of one kind", b.name),
            );
        }
        let sides = |tensor: &Tensor| {
            let (first, rest) = (tensor.shape[0], tensor.shape[1..].iter().product::<usize>());
            if transposed { [rest, first] } else { [first, rest] }
        };
        let ([mut r, mut inner], [out, mut columns]) = (sides(a), sides(b));
        let kernel = a.shape.get(2..).unwrap_or_default().to_vec();
        if !kernel.is_empty() || b.shape.len() > 2 {
            if b.shape[1] != a.shape[0] {
                let message =
                    format!("found {} channels for rank {r}: a convolution in groups is not read here", b.shape[1]);
                return about(b, message);
            }
            if b.shape[2..].iter().any(|&size| size != 1) || b.shape.len() != a.shape.len() {
                return about(b, format!("found shape {:?}, expected a kernel of one value", b.shape));
            }
        }
        let blocks = |which: &[String]| {
            let blocks = config.block_diagonal.as_ref().map_or(1, |diagonal| diagonal.blocks);
            if which.iter().any(|part| module.contains(part.as_str())) { blocks } else { 1 }
        };
        let diagonal = config.block_diagonal.as_ref();
        let blocks_a = diagonal.map_or(1, |diagonal| blocks(&diagonal.a));
        let blocks_b = diagonal.map_or(1, |diagonal| blocks(&diagonal.b));
        for (tensor, blocks, rows) in [(a, blocks_a, r), (b, blocks_b, out)] {
            if blocks > 1 && (rows % blocks != 0 || tensor.shape.len() != 2) {
                return about(tensor, format!("found {rows} rows for {blocks} blocks on the diagonal"));
            }
        }
        (inner, columns) = (inner.saturating_mul(blocks_a), columns.saturating_mul(blocks_b));
        if r != columns {
            return about(a, format!("found rank {r} (its rows), expected rank {columns}, the columns of {}", b.name));
        }
        let name = stacked.as_ref().map_or(module, |stacked| stacked.name.as_str());
        let expected = if scale == Scale::Config { config.rank_of(name) } else { r };
        let mut experts = None;
        if stacked.is_some() {
            if r % expected != 0 {
                let message = format!("found {r} rows, expected {expected}, the rank, for each expert");
                return about(a, message);
            }
            experts = Some(r / expected);
            r = expected;
        }
        if r != expected {
            return about(
                a,
                format!(
                    "found rank {r} (its rows), expected {expected}, which adapter_config.json says in r and rank_pattern"
                ),
            );
        }
        let embedding = of == FactorOf::Embedding;
        let length = |tensor: Option<&Tensor>, expected: usize| match tensor {
            Some(tensor) if tensor.elements() != expected as u64 || !tensor.dtype.is_readable() => {
                let message = format!("found shape {:?} of {}, expected {expected} values", tensor.shape, tensor.dtype);
                Err(Error::tensor(checkpoint.file_of(tensor), &tensor.name, message))
            }
            tensor => Ok(tensor.map(|tensor| tensor.name.clone())),
        };
        let bias = length(self.bias, out)?;
        let magnitude = length(self.magnitude, out)?;
        let diagonal = length(self.diagonal, r)?;
        if config.use_dora && magnitude.is_none() {
            let message = format!(
                "a DoRA adapter without magnitude vector for {module}, expected lora_magnitude_vector beside it"
            );
            return about(a, message);
        }
        let (lora_alpha, scaling) = match scale {
            Scale::Config => {
                let alpha = config.alpha_of(name);
                (alpha, config.scaling.factor(alpha, r))
            }
            Scale::Fixed(scaling) => (scaling * r as f64, scaling),
            Scale::Alpha => {
                let alpha = self.alpha.map(|tensor| checkpoint.tensor_matrix(tensor, &())).transpose()?;
                let alpha = alpha.and_then(|matrix| matrix.data().first().copied()).map_or(r as f64, f64::from);
                (alpha, alpha / r as f64)
            }
        };
        if !(scaling as f32).is_finite() {
            return about(a, format!("found a scaling of {scaling:e}, expected a number that f32 can hold"));
        }
        let coarser = |a: Dtype, b: Dtype| if a.epsilon() < b.epsilon() { b } else { a };
        let factor = |tensor: &Tensor, blocks: usize| Factor { tensor: tensor.name.clone(), transposed, blocks };
        Ok(LoraLayer {
            module: name.to_owned(),
            shape: if embedding { [inner, out] } else { [out, inner] },
            r,
            lora_alpha,
            scaling,
            dtype: coarser(a.dtype, b.dtype),
            embedding,
            kernel,
            experts,
            layer: layer_of(name),
            role: if stacked.is_some() { Role::Other } else { Role::of(name) },
            parameters: self.parameters,
            dora: magnitude.is_some(),
            a: factor(a, blocks_a),
            b: factor(b, blocks_b),
            bias,
            magnitude,
            diagonal,
        })
    }
}
