//! [`Factors`]: the tensors of one layer, found by their names and checked against each other.

use super::dialect::{FactorOf, Piece, Scale};
use super::{LoraLayer, PeftConfig};
use crate::checkpoint::{Checkpoint, Dtype, Role, Tensor, layer_of};
use crate::error::{Error, Result};

/// Most values of a pair that stands for LoHa's or LoKr's factors: 2 GB.
const MOST: usize = 1 << 29;

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

/// Where a layer's B and A come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Pair {
        a: Factor,
        b: Factor,
    },
    /// LoHa: `w1_a`, `w1_b`, `w2_a`, `w2_b`.
    Hadamard([String; 4]),
    /// LoKr: `w1` or its two factors, `w2_a`, `w2_b`.
    Kronecker(Vec<String>, [String; 2]),
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
    /// Those of LoHa and LoKr, by their names.
    named: Vec<(&'static str, &'a Tensor)>,
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
            Piece::Factor(name) => {
                self.named.push((name, tensor));
                self.parameters = self.parameters.saturating_add(tensor.elements());
                return;
            }
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
        if !self.named.is_empty() {
            return self.product(module, common);
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
        if b.shape.len() != a.shape.len() {
            return about(
                a,
                format!("found shape {:?}, expected two sizes or those of {}, {:?}", a.shape, b.name, b.shape),
            );
        }
        if !kernel.is_empty() {
            if b.shape[1] != a.shape[0] {
                let message =
                    format!("found {} channels for rank {r}: a convolution in groups is not read here", b.shape[1]);
                return about(b, message);
            }
            if b.shape[2..].iter().any(|&size| size != 1) {
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
            Scale::Shared(alpha) => (alpha, if alpha == 0.0 { 1.0 } else { alpha / r as f64 }),
            Scale::Alpha => {
                let alpha = self.stored_alpha(checkpoint)?.unwrap_or(r as f64);
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
            source: Source::Pair { a: factor(a, blocks_a), b: factor(b, blocks_b) },
            bias,
            magnitude,
            diagonal,
            turned: false,
        })
    }

    /// α as the file holds it for this layer.
    fn stored_alpha(&self, checkpoint: &Checkpoint) -> Result<Option<f64>> {
        let alpha = self.alpha.map(|tensor| checkpoint.tensor_matrix(tensor, &())).transpose()?;
        Ok(alpha.and_then(|matrix| matrix.data().first().copied()).map(f64::from))
    }

    /// The layer of LoHa's or LoKr's factors: a pair of higher rank stands for them.
    fn product(self, module: &str, common: &Common) -> Result<LoraLayer> {
        let checkpoint = common.checkpoint;
        let find = |name: &str| self.named.iter().find(|(known, _)| *known == name).map(|(_, tensor)| *tensor);
        let first = self.named.first().map_or(module, |(_, tensor)| tensor.name.as_str());
        let wrong = |message: &str| Err(Error::tensor(checkpoint.path(), first, message));
        let sizes = |tensor: &Tensor| -> Result<[usize; 2]> {
            self.sound(tensor, common)?;
            let rest = tensor.shape[1..].iter().product::<usize>();
            Ok([tensor.shape[0], rest])
        };
        let name = |tensor: &Tensor| tensor.name.clone();
        let hada = ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"].map(find);
        let (source, shape, r, own) = if let [Some(w1_a), Some(w1_b), Some(w2_a), Some(w2_b)] = hada {
            let [[out, r1], [s1, inner], [out2, r2], [s2, inner2]] =
                [sizes(w1_a)?, sizes(w1_b)?, sizes(w2_a)?, sizes(w2_b)?];
            if (r1, r2, out, inner) != (s1, s2, out2, inner2) {
                return wrong("the four factors of LoHa do not fit each other");
            }
            (Source::Hadamard([w1_a, w1_b, w2_a, w2_b].map(name)), [out, inner], r1.saturating_mul(r2), r1)
        } else {
            let c = match (find("lokr_w1"), find("lokr_w1_a"), find("lokr_w1_b")) {
                (Some(c), ..) => vec![c],
                (None, Some(a), Some(b)) => vec![a, b],
                _ => return wrong("factors of LoHa or LoKr are missing, expected all of them"),
            };
            let (Some(w2_a), Some(w2_b)) = (find("lokr_w2_a"), find("lokr_w2_b")) else {
                return wrong(
                    "a LoKr whose second factor is a whole matrix has no small factors, so that ΔW is not read here",
                );
            };
            let all: Vec<[usize; 2]> = c.iter().map(|tensor| sizes(tensor)).collect::<Result<_>>()?;
            let ([height, rank], [rank2, width]) = (sizes(w2_a)?, sizes(w2_b)?);
            let [rows, cols] = [all[0][0], all[all.len() - 1][1]];
            if rank != rank2 || (all.len() == 2 && all[0][1] != all[1][0]) {
                return wrong("the factors of LoKr do not fit each other");
            }
            let shape = [rows.saturating_mul(height), cols.saturating_mul(width)];
            let source = Source::Kronecker(c.into_iter().map(name).collect(), [name(w2_a), name(w2_b)]);
            (source, shape, cols.saturating_mul(rank), rank)
        };
        let values = shape[0].saturating_add(shape[1]).saturating_mul(r);
        if values > MOST {
            return wrong("the pair that stands for these factors would be too large to be read");
        }
        let scaling = match common.scale {
            Scale::Fixed(scaling) => scaling,
            _ => self.stored_alpha(checkpoint)?.unwrap_or(own as f64) / own as f64,
        };
        if !(scaling as f32).is_finite() || self.magnitude.is_some() {
            return wrong("found LoHa or LoKr with magnitudes or an α that is no number, expected a finite α alone");
        }
        Ok(LoraLayer {
            module: module.to_owned(),
            shape,
            r,
            lora_alpha: scaling * r as f64,
            scaling,
            dtype: self.named.first().map_or(Dtype::F32, |(_, tensor)| tensor.dtype),
            embedding: false,
            kernel: Vec::new(),
            experts: None,
            layer: layer_of(module),
            role: Role::of(module),
            parameters: self.parameters,
            dora: false,
            source,
            bias: None,
            magnitude: None,
            diagonal: None,
            turned: false,
        })
    }
}
