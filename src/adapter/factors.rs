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
    /// A convolution whose kernel stands in a core of its own (LoCon's `lora_mid`).
    Core(Half),
    /// LoHa: `w1 ∘ w2`.
    Hadamard(Half, Half),
    /// LoKr: `w1 ⊗ w2`.
    Kronecker(Half, Half),
}

/// A matrix as LyCORIS stores one, by the names of its tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Half {
    /// `b a`.
    Product { b: String, a: String },
    /// Tucker's decomposition of a convolution: a core (r × r × kernel) between `b` and `a` (r × in). `b` is out × r when it is
    /// `upright`, else r × out.
    Tucker { core: String, b: String, a: String, upright: bool },
    /// The matrix itself.
    Whole(String),
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
    core: Option<&'a Tensor>,
    /// Those of LoHa and LoKr, by their names.
    named: Vec<(&'static str, &'a Tensor)>,
    twice: Option<(&'a Tensor, &'a Tensor)>,
    parameters: u64,
}

/// Values of a kernel; 1 where there is none.
fn product(kernel: &[usize]) -> usize {
    kernel.iter().fold(1usize, |product, &size| product.saturating_mul(size)).max(1)
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
            Piece::Core => &mut self.core,
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
        let mut kernel = a.shape.get(2..).unwrap_or_default().to_vec();
        // DyLoRA's B of a convolution is a matrix.
        let flat = scale == Scale::Alpha && b.shape.len() == 2;
        if b.shape.len() != a.shape.len() && !flat {
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
        let factor = |tensor: &Tensor, blocks: usize| Factor { tensor: tensor.name.clone(), transposed, blocks };
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
        let mut source = Source::Pair { a: factor(a, blocks_a), b: factor(b, blocks_b) };
        if let Some(core) = self.core {
            self.sound(core, common)?;
            if core.shape[..2] != [r, r] || kernel.iter().any(|&size| size != 1) {
                return about(core, format!("found shape {:?}, expected a kernel for each pair of {r}", core.shape));
            }
            kernel = core.shape[2..].to_vec();
            inner = inner.saturating_mul(product(&kernel));
            let names = [core, b, a].map(|tensor| tensor.name.clone());
            let [core, b, a] = names;
            source = Source::Core(Half::Tucker { core, b, a, upright: true });
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
        let columns = self.by_columns();
        let magnitude = length(self.magnitude, if columns { inner / product(&kernel) } else { out })?;
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
            columns: embedding || columns,
            source,
            bias,
            magnitude,
            diagonal,
            turned: false,
        })
    }

    /// Whether the magnitudes are those of columns: LyCORIS' `dora_scale` of `[1, in]` (`wd_on_out=False`), beside `[out, 1]`.
    fn by_columns(&self) -> bool {
        self.magnitude.is_some_and(|tensor| tensor.name.ends_with("dora_scale") && tensor.shape.first() == Some(&1))
            && self.magnitude.is_some_and(|tensor| tensor.elements() > 1)
    }

    /// α as the file holds it for this layer.
    fn stored_alpha(&self, checkpoint: &Checkpoint) -> Result<Option<f64>> {
        let Some(alpha) = self.alpha else { return Ok(None) };
        // LyCORIS writes a whole number where it was given one.
        if alpha.dtype == Dtype::I64 {
            let first = checkpoint.bytes_of(alpha)?.first_chunk().map(|&eight| i64::from_le_bytes(eight) as f64);
            return Ok(first);
        }
        let alpha = checkpoint.tensor_matrix(alpha, &())?;
        Ok(alpha.data().first().copied().map(f64::from))
    }

    /// The layer of LoHa's or LoKr's factors: a pair of higher rank stands for them.
    fn product(self, module: &str, common: &Common) -> Result<LoraLayer> {
        let checkpoint = common.checkpoint;
        let find = |name: &str| self.named.iter().find(|(known, _)| *known == name).map(|(_, tensor)| *tensor);
        let first = self.named.first().map_or(module, |(_, tensor)| tensor.name.as_str());
        let wrong = |message: &str| Err(Error::tensor(checkpoint.path(), first, message));
        let unfit = |tensor: &Tensor| {
            let message = format!("found shape {:?}, which does not fit the other factors of {module}", tensor.shape);
            Err(Error::tensor(checkpoint.file_of(tensor), &tensor.name, message))
        };
        let sizes = |tensor: &Tensor| -> Result<[usize; 2]> {
            self.sound(tensor, common)?;
            let rest = tensor.shape[1..].iter().product::<usize>();
            Ok([tensor.shape[0], rest])
        };
        // A matrix of one of the two, with its shape and rank.
        let half = |whole: &str, b: &str, a: &str, core: &str| -> Result<Option<(Half, [usize; 2], usize)>> {
            if let Some(whole) = find(whole) {
                let shape = sizes(whole)?;
                return Ok(Some((Half::Whole(whole.name.clone()), shape, shape[0].min(shape[1]))));
            }
            let (Some(b), Some(a)) = (find(b), find(a)) else { return Ok(None) };
            let ([rows, r], [own, cols]) = (sizes(b)?, sizes(a)?);
            let [b_name, a_name] = [b, a].map(|tensor| tensor.name.clone());
            let Some(core) = find(core) else {
                let half = Half::Product { b: b_name, a: a_name };
                return if r == own { Ok(Some((half, [rows, cols], r))) } else { unfit(b) };
            };
            let (r, rows, [first, width]) = (rows, r, sizes(core)?);
            if [first, own] != [r, r] || r == 0 || !width.is_multiple_of(r) {
                return unfit(core);
            }
            let half = Half::Tucker { core: core.name.clone(), b: b_name, a: a_name, upright: false };
            Ok(Some((half, [rows, cols.saturating_mul(width / r)], r)))
        };
        let hada = [half("", "hada_w1_a", "hada_w1_b", "hada_t1")?, half("", "hada_w2_a", "hada_w2_b", "hada_t2")?];
        let (source, shape, r, own) = match hada.into() {
            (Some((first, shape, r1)), Some((second, other, r2))) if shape == other => {
                (Source::Hadamard(first, second), shape, r1.saturating_mul(r2), Some(r1))
            }
            (Some(_), Some(_)) => return wrong("the four factors of LoHa do not fit each other"),
            _ => {
                let first = half("lokr_w1", "lokr_w1_a", "lokr_w1_b", "")?;
                let (Some((first, [rows, cols], r1)), Some((second, [height, width], r2))) =
                    (first, half("lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")?)
                else {
                    return wrong("factors of LoHa or LoKr are missing, expected all of them");
                };
                // The rank that its maker chose is that of the factor which is a product, where one is.
                let product = |half: &Half, r: usize| (!matches!(half, Half::Whole(_))).then_some(r);
                let own = product(&second, r2).or_else(|| product(&first, r1));
                let shape = [rows.saturating_mul(height), cols.saturating_mul(width)];
                (Source::Kronecker(first, second), shape, cols.saturating_mul(r2), own)
            }
        };
        let values = shape[0].saturating_add(shape[1]).saturating_mul(r);
        if values > MOST {
            return wrong("the pair that stands for these factors would be too large to be read");
        }
        let (alpha, scaling) = match (common.scale, own) {
            (Scale::Config, _) => {
                let (alpha, rank) = (common.config.alpha_of(module), common.config.rank_of(module));
                (alpha, alpha / rank as f64)
            }
            // Two whole matrices have no rank, and LyCORIS no factor for them.
            (_, None) => (r as f64, 1.0),
            (_, Some(own)) => {
                let alpha = self.stored_alpha(checkpoint)?.unwrap_or(own as f64);
                (alpha, alpha / own as f64)
            }
        };
        if !(scaling as f32).is_finite() {
            return wrong("found LoHa or LoKr with an α that is no number, expected a finite one");
        }
        let columns = self.by_columns();
        let magnitude = match self.magnitude {
            // A convolution's width is its inputs times its kernel, which the file does not say.
            Some(tensor)
                if columns && tensor.dtype.is_readable() && (shape[1] as u64).is_multiple_of(tensor.elements()) =>
            {
                Some(tensor.name.clone())
            }
            Some(tensor) if columns || tensor.elements() != shape[0] as u64 || !tensor.dtype.is_readable() => {
                let expected = shape[usize::from(columns)];
                let message = format!("found shape {:?} of {}, expected {expected} values", tensor.shape, tensor.dtype);
                return Err(Error::tensor(checkpoint.file_of(tensor), &tensor.name, message));
            }
            tensor => tensor.map(|tensor| tensor.name.clone()),
        };
        Ok(LoraLayer {
            module: module.to_owned(),
            shape,
            r,
            lora_alpha: alpha,
            scaling,
            dtype: self.named.first().map_or(Dtype::F32, |(_, tensor)| tensor.dtype),
            embedding: false,
            kernel: Vec::new(),
            experts: None,
            layer: layer_of(module),
            role: Role::of(module),
            parameters: self.parameters,
            dora: magnitude.is_some(),
            columns,
            source,
            bias: None,
            magnitude,
            diagonal: None,
            turned: false,
        })
    }
}
