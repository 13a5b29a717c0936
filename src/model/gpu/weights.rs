//! Weights in a machine's memory: [`Matrix`], [`Vector`], and the trained ones in one [`ParamStore`].

use super::kernels::{Dequantize, NESTED_BLOCK};
use super::machine::{Element, FourBitOperand};
use super::memory::{Span, Tensor};
use super::ops::{Gpu, Mat};
use crate::error::{Error, Result};
use crate::model::ComputeDtype;
use crate::model::params::Params;
use crate::model::weight;
use crate::quant::{Absmax, Nested, Quantized, Scheme};

/// A matrix `[out, in]`.
#[derive(Debug)]
pub enum Matrix {
    /// As it is multiplied.
    Dense(Tensor),
    /// In 4 bits, dequantized for one product.
    FourBit(Box<FourBit>),
    /// One of the trained.
    Trained(usize),
    /// Several, one below the other, with the values of each; put together for one product.
    Joined(Vec<(Matrix, usize)>),
}

/// A weight in 4 bits.
#[derive(Debug)]
pub struct FourBit {
    codes: Tensor,
    /// Of blocks of the weight; or of 256 scales, where these are in 8 bits.
    absmax: Tensor,
    /// Scales in 8 bits, what they stand for, and what is added.
    nested: Option<(Tensor, Tensor, f32)>,
    levels: Tensor,
    in_features: usize,
    block: usize,
    /// One more than the blocks from a row's first to the next row's; 0 where they run on.
    by_row: usize,
    count: usize,
}

/// Rows of a weight that go over at once.
const ROWS: usize = 256;

impl Matrix {
    pub(super) fn upload(
        gpu: &Gpu,
        weight: &weight::Weight,
        params: &Params,
        [out, in_features]: [usize; 2],
    ) -> Result<Self> {
        match weight {
            weight::Weight::Trained(number) => Ok(Self::Trained(*number)),
            weight::Weight::Joined(parts) => {
                let width = in_features.max(1);
                let part = |(weight, values): &(weight::Weight, usize)| {
                    Ok((Self::upload(gpu, weight, params, [values / width, in_features])?, *values))
                };
                Ok(Self::Joined(parts.iter().map(part).collect::<Result<_>>()?))
            }
            weight::Weight::FourBit(weight) if gpu.is_dry() => {
                Ok(Self::FourBit(Box::new(FourBit::blank(gpu, [out, in_features], weight.scheme())?)))
            }
            weight::Weight::FourBit(weight) => Ok(Self::FourBit(Box::new(FourBit::upload(gpu, weight)?))),
            _ => {
                let tensor = gpu.arena.alloc(gpu.formats.weight.into(), out * in_features)?;
                if gpu.is_dry() {
                    return Ok(Self::Dense(tensor));
                }
                let mut values = vec![0.0; ROWS.min(out) * in_features];
                for first in (0..out).step_by(ROWS) {
                    let rows = ROWS.min(out - first);
                    let values = &mut values[..rows * in_features];
                    weight.rows(params, first..first + rows, in_features, values);
                    gpu.write_rounded(tensor.from(first * in_features), values)?;
                }
                Ok(Self::Dense(tensor))
            }
        }
    }

    /// A factor of products; `spare` keeps it alive where it was made for this.
    pub(in crate::model) fn factor<'a>(
        &'a self,
        gpu: &Gpu,
        params: &'a ParamStore,
        spare: &'a mut Option<Tensor>,
        [out, in_features]: [usize; 2],
    ) -> Result<Mat<'a>> {
        let values = match self {
            Self::Dense(tensor) => tensor.all(),
            Self::Trained(number) => params.working(*number),
            Self::FourBit(weight) if gpu.formats.decodes => return Ok(Mat::four_bit(weight, out, in_features)),
            Self::FourBit(_) | Self::Joined(_) => {
                let made = spare.insert(gpu.alloc(out * in_features)?);
                self.write(gpu, params, made.all())?;
                made.all()
            }
        };
        Ok(Mat::dense(values, out, in_features))
    }

    /// Writes all values, as activations are kept.
    pub(in crate::model) fn write(&self, gpu: &Gpu, params: &ParamStore, to: Span) -> Result<()> {
        match self {
            Self::Dense(tensor) => gpu.copy_weight(tensor.all(), to),
            Self::Trained(number) => gpu.copy_weight(params.working(*number), to),
            Self::FourBit(weight) => weight.dequantize(gpu, to),
            Self::Joined(parts) => {
                let mut first = 0;
                for (part, values) in parts {
                    part.write(gpu, params, to.from(first).first(*values))?;
                    first += values;
                }
                Ok(())
            }
        }
    }

    /// It is kept in 4 bits or in parts, and a product takes a copy.
    pub(in crate::model) fn is_dequantized(&self, gpu: &Gpu) -> bool {
        match self {
            Self::FourBit(_) => !gpu.formats.decodes,
            Self::Joined(_) => true,
            Self::Dense(_) | Self::Trained(_) => false,
        }
    }

    /// The values, where they are kept as they are multiplied.
    pub(in crate::model) fn dense<'a>(&'a self, params: &'a ParamStore) -> Option<Span<'a>> {
        match self {
            Self::Dense(tensor) => Some(tensor.all()),
            Self::Trained(number) => Some(params.working(*number)),
            Self::FourBit(_) | Self::Joined(_) => None,
        }
    }
}

impl FourBit {
    /// Room for a weight, where nothing is computed.
    fn blank(gpu: &Gpu, [out, in_features]: [usize; 2], scheme: Scheme) -> Result<Self> {
        let (arena, count, block) = (&gpu.arena, out * in_features, scheme.blocksize.max(1));
        let scales = count.div_ceil(block);
        let nested = match scheme.double_quant {
            true => Some((arena.alloc(Element::U8, scales)?, arena.alloc(Element::F32, 256)?, 0.0)),
            false => None,
        };
        let absmax = arena.alloc(Element::F32, if scheme.double_quant { scales.div_ceil(256) } else { scales })?;
        let (codes, levels) = (arena.alloc(Element::U8, count.div_ceil(2))?, arena.alloc(Element::F32, 16)?);
        Ok(Self { codes, absmax, nested, levels, in_features, block, by_row: 0, count })
    }

    fn upload(gpu: &Gpu, weight: &Quantized) -> Result<Self> {
        let [out, in_features] = weight.shape();
        let scheme = weight.scheme();
        let count = out * in_features;
        if u32::try_from(count).is_err() {
            return Err(Error::failure(format!("a weight of {count} values is too large for one GPU operation")));
        }
        let (absmax, nested) = match weight.absmax() {
            Absmax::Plain(values) => (gpu.arena.upload(values)?, None),
            Absmax::Nested(nested) => {
                let map = gpu.arena.upload(Nested::map())?;
                (gpu.arena.upload(&nested.absmax)?, Some((gpu.arena.upload_bytes(&nested.codes)?, map, nested.offset)))
            }
        };
        Ok(Self {
            codes: gpu.arena.upload_bytes(weight.codes())?,
            absmax,
            nested,
            levels: gpu.arena.upload(scheme.quant_type.levels())?,
            in_features,
            block: scheme.blocksize,
            by_row: weight.blocks_a_row().map_or(0, |blocks| blocks + 1),
            count,
        })
    }

    /// Two values in a byte.
    pub(super) fn codes(&self) -> Span<'_> {
        self.codes.all()
    }

    /// What decodes them, when all scales are there.
    ///
    /// # Errors
    /// When some are missing.
    pub(super) fn operand(&self) -> Result<FourBitOperand> {
        let Self { in_features, block, by_row, count, .. } = *self;
        let scales = match by_row {
            0 => count.div_ceil(block.max(1)),
            by_row => {
                count.div_ceil(in_features.max(1)).saturating_sub(1) * (by_row - 1) + in_features.div_ceil(block.max(1))
            }
        };
        let nested = self.nested.as_ref();
        let kept = if nested.is_some() { scales.div_ceil(NESTED_BLOCK) } else { scales };
        let enough = block > 0
            && in_features > 0
            && self.absmax.len() >= kept
            && self.levels.len() >= 16
            && nested.is_none_or(|(codes, map, _)| codes.len() >= scales && map.len() >= 256);
        if !enough {
            return Err(Error::failure(format!("a weight of {count} values in 4 bits lacks some of its scales")));
        }
        Ok(FourBitOperand {
            scales: nested.map(|(codes, ..)| codes.all().region()),
            absmax: self.absmax.all().region(),
            map: nested.map(|(_, map, _)| map.all().region()),
            levels: self.levels.all().region(),
            in_features,
            block,
            by_row,
            offset: nested.map_or(0.0, |(.., offset)| *offset),
        })
    }

    fn dequantize(&self, gpu: &Gpu, out: Span) -> Result<()> {
        let nested = self.nested.as_ref();
        Dequantize {
            codes: self.codes.all(),
            scales: nested.map(|(codes, ..)| codes.all()),
            absmax: self.absmax.all(),
            map: nested.map(|(_, map, _)| map.all()),
            levels: self.levels.all(),
            out,
            in_features: self.in_features,
            block: self.block,
            by_row: self.by_row,
            count: self.count as u64,
            offset: nested.map_or(0.0, |(.., offset)| *offset),
        }
        .launch(gpu)
    }
}

/// A vector in `f32`: a norm's scales, a bias.
#[derive(Debug)]
pub enum Vector {
    Frozen(Tensor),
    /// One of the trained, and what is added to every value when it is used.
    Trained(usize, f32),
}

impl Vector {
    /// Of so many values.
    pub(super) fn upload(gpu: &Gpu, vector: &weight::Vector, width: usize) -> Result<Self> {
        match vector {
            weight::Vector::Frozen(_) if gpu.is_dry() => Ok(Self::Frozen(gpu.alloc_f32(width)?)),
            weight::Vector::Frozen(values) => Ok(Self::Frozen(gpu.arena.upload(values)?)),
            weight::Vector::Trained(number, plus) => Ok(Self::Trained(*number, *plus)),
        }
    }

    /// The values, and what is to be added to them.
    pub(super) fn values<'a>(&'a self, params: &'a ParamStore) -> (Span<'a>, f32) {
        match self {
            Self::Frozen(tensor) => (tensor.all(), 0.0),
            Self::Trained(number, plus) => (params.master(*number), *plus),
        }
    }

    pub(super) fn trained(&self) -> Option<usize> {
        match self {
            Self::Frozen(_) => None,
            Self::Trained(number, _) => Some(*number),
        }
    }
}

/// What a pass computes with.
#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    pub gpu: &'a Gpu,
    pub params: &'a ParamStore,
}

/// Everything trained: `f32` values, their gradients and moments, each in one piece; and the values as they are multiplied.
#[derive(Debug)]
pub struct ParamStore {
    places: Vec<(usize, usize)>,
    /// Numbers of a piece; what lies between two tensors is zero and stays so.
    pub(super) count: usize,
    pub(super) p: Tensor,
    pub(super) g: Option<Tensor>,
    pub(super) moments: Option<(Tensor, Tensor)>,
    /// `None` where they are multiplied in `f32`.
    pub(super) working: Option<Tensor>,
}

/// Tensors begin at multiples of so many numbers.
const ALIGNED: usize = 64;

impl ParamStore {
    pub(super) fn upload(gpu: &Gpu, params: &Params) -> Result<Self> {
        let (mut places, mut count) = (Vec::new(), 0);
        for param in &params.list {
            let [rows, cols] = param.shape;
            places.push((count, rows * cols));
            count = (count + rows * cols).next_multiple_of(ALIGNED);
        }
        let p = gpu.arena.zeros(Element::F32, count)?;
        let working = if gpu.compute_dtype == ComputeDtype::F32 { None } else { Some(gpu.alloc(count)?) };
        let store = Self { places, count, p, g: None, moments: None, working };
        store.upload_values(gpu, params)?;
        Ok(store)
    }

    /// Values anew.
    pub(super) fn upload_values(&self, gpu: &Gpu, params: &Params) -> Result<()> {
        for (number, param) in params.list.iter().enumerate() {
            self.place(&self.p, number).write(&super::memory::bytes_of(&param.value))?;
        }
        match &self.working {
            Some(working) => gpu.convert(self.p.all(), working.all()),
            None => Ok(()),
        }
    }

    fn place<'a>(&self, piece: &'a Tensor, number: usize) -> Span<'a> {
        let (first, count) = self.places[number];
        piece.from(first).first(count)
    }

    /// The `f32` values of one.
    pub(in crate::model) fn master(&self, number: usize) -> Span<'_> {
        self.place(&self.p, number)
    }

    /// The values of one as they are multiplied.
    pub(in crate::model) fn working(&self, number: usize) -> Span<'_> {
        self.place(self.working.as_ref().unwrap_or(&self.p), number)
    }

    /// One's gradient; there are gradients once a pass backward was begun.
    pub(in crate::model) fn gradient(&self, number: usize) -> Option<Span<'_>> {
        self.g.as_ref().map(|g| self.place(g, number))
    }

    /// All gradients; none before a pass backward was begun.
    pub(in crate::model) fn read_gradients(&self) -> Result<Vec<Vec<f32>>> {
        self.g.as_ref().map_or(Ok(Vec::new()), |g| self.read(g))
    }

    /// A piece, back in tensors.
    pub(super) fn read(&self, piece: &Tensor) -> Result<Vec<Vec<f32>>> {
        let all = piece.all().values()?;
        Ok(self.places.iter().map(|&(first, count)| all[first..first + count].to_vec()).collect())
    }

    /// Tensors into a piece.
    pub(super) fn write(&self, piece: &Tensor, values: &[Vec<f32>]) -> Result<()> {
        for (number, values) in values.iter().enumerate() {
            self.place(piece, number).write(&super::memory::bytes_of(values))?;
        }
        Ok(())
    }
}
