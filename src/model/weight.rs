//! [`Weight`]: a matrix `[out, in]` as it is kept, and how it becomes `f32` again, row by row.

use super::decoder::Source;
use super::params::{Kind, Params};
use crate::checkpoint::{Checkpoint, Dtype};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::Progress;
use crate::quant::{Quantized, Reading, Scheme};
use crate::spec::ModuleSpec;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use std::borrow::Cow;
use std::ops::Range;

/// What becomes of a model's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frozen {
    /// Nothing is frozen: every parameter is trained, in `f32`.
    Nothing,
    /// Kept as the checkpoint has them: `f32`, `bf16` or `f16`.
    AsStored,
    /// Linear weights in 4 bits, everything else as the checkpoint has it.
    FourBit(Scheme),
}

/// A matrix `[out, in]`.
#[derive(Debug)]
pub enum Weight {
    /// As it is.
    F32(Vec<f32>),
    /// The upper halves of `f32`.
    Bf16(Vec<u16>),
    /// Half precision.
    F16(Vec<u16>),
    /// In 4 bits.
    FourBit(Quantized),
    /// One of the [`Params`].
    Trained(usize),
    /// Several, one below the other, with the values of each.
    Joined(Vec<(Weight, usize)>),
}

impl Weight {
    /// Weights of so many values, one below the other: one where they are kept alike.
    pub(super) fn joined(parts: Vec<(Self, usize)>) -> Self {
        let mut all: Option<Self> = None;
        let alike = parts.iter().all(|(part, _)| match (part, &parts[0].0) {
            (Self::F32(_), Self::F32(_)) | (Self::Bf16(_), Self::Bf16(_)) | (Self::F16(_), Self::F16(_)) => true,
            _ => parts.len() == 1,
        });
        if !alike {
            return Self::Joined(parts);
        }
        for (part, _) in parts {
            match (&mut all, part) {
                (Some(Self::F32(to)), Self::F32(more)) => to.extend(more),
                (Some(Self::Bf16(to)), Self::Bf16(more)) | (Some(Self::F16(to)), Self::F16(more)) => to.extend(more),
                (_, part) => all = Some(part),
            }
        }
        all.unwrap_or(Self::Joined(Vec::new()))
    }

    /// Takes values that were stored as `dtype`; nothing is lost.
    pub fn stored(matrix: Matrix, dtype: Dtype) -> Self {
        let mut bits = Vec::new();
        match dtype {
            Dtype::BF16 => {
                bits.extend(matrix.data().iter().map(|x| (x.to_bits() >> 16) as u16));
                Self::Bf16(bits)
            }
            Dtype::F16 => {
                bits.extend(matrix.data().iter().map(|&x| half::f16::from_f32(x).to_bits()));
                Self::F16(bits)
            }
            _ => Self::F32(matrix.into_data()),
        }
    }

    /// Values rounded to `dtype`, ties to even, where that is a half.
    pub fn rounded(mut matrix: Matrix, dtype: Dtype) -> Self {
        if dtype == Dtype::BF16 {
            // The upper halves are taken as they are.
            matrix.data_mut().iter_mut().for_each(|x| *x = half::bf16::from_f32(*x).to_f32());
        }
        Self::stored(matrix, dtype)
    }

    /// Bytes that it holds itself.
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32(data) => 4 * data.len(),
            Self::Bf16(bits) | Self::F16(bits) => 2 * bits.len(),
            Self::FourBit(weight) => weight.bytes(),
            Self::Trained(_) => 0,
            Self::Joined(parts) => parts.iter().map(|(part, _)| part.bytes()).sum(),
        }
    }

    /// How it was quantized, where it is in 4 bits and read back as bitsandbytes does.
    pub fn read_as_bitsandbytes(&self) -> Option<Scheme> {
        match self {
            Self::FourBit(weight) if weight.reading() == Reading::Bitsandbytes => Some(weight.scheme()),
            Self::Joined(parts) => parts.first().and_then(|(part, _)| part.read_as_bitsandbytes()),
            _ => None,
        }
    }

    /// Its number among the [`Params`].
    pub fn trained(&self) -> Option<usize> {
        match self {
            Self::Trained(number) => Some(*number),
            _ => None,
        }
    }

    /// Numbers among the [`Params`] and rows, of a weight of `out` rows that is trained in parts or whole.
    pub fn trained_rows(&self, [out, width]: [usize; 2]) -> Vec<(usize, Range<usize>)> {
        match self {
            Self::Trained(number) => vec![(*number, 0..out)],
            Self::Joined(parts) => {
                let mut first = 0;
                let rows = parts.iter().map(|(part, values)| {
                    let rows = first..first + values / width.max(1);
                    first = rows.end;
                    (part.trained(), rows)
                });
                rows.filter_map(|(number, rows)| Some((number?, rows))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The values, where they are kept as `f32`.
    pub fn as_f32<'a>(&'a self, params: &'a Params) -> Option<&'a [f32]> {
        match self {
            Self::F32(data) => Some(data),
            Self::Trained(number) => Some(params.value(*number)),
            _ => None,
        }
    }

    /// The values, where they are kept as bf16.
    pub fn as_bf16(&self) -> Option<&[u16]> {
        match self {
            Self::Bf16(bits) => Some(bits),
            _ => None,
        }
    }

    /// Rows `rows` of `cols` values.
    pub fn rows(&self, params: &Params, rows: Range<usize>, cols: usize, out: &mut [f32]) {
        let range = rows.start * cols..rows.end * cols;
        match self {
            Self::F32(data) => out.copy_from_slice(&data[range]),
            Self::Trained(number) => out.copy_from_slice(&params.value(*number)[range]),
            Self::Bf16(bits) => widen(&bits[range], out),
            Self::F16(bits) => bits[range].reinterpret_cast::<half::f16>().convert_to_f32_slice(out),
            Self::FourBit(weight) => weight.read(range, out),
            Self::Joined(parts) => {
                let (mut first, mut out) = (0, out);
                for (part, values) in parts {
                    let own = range.start.max(first)..range.end.min(first + values);
                    if own.start < own.end {
                        let (to, rest) = out.split_at_mut(own.len());
                        part.rows(params, (own.start - first) / cols..(own.end - first) / cols, cols, to);
                        out = rest;
                    }
                    first += values;
                }
            }
        }
    }
}

super::ops::simd::wide! {
    fn widen(bits: &[u16], out: &mut [f32]) {
        for (to, &bits) in out.iter_mut().zip(bits) {
            *to = f32::from_bits(u32::from(bits) << 16);
        }
    }
}

/// A vector: frozen, or one of the [`Params`].
#[derive(Debug)]
pub enum Vector {
    /// As it is.
    Frozen(Vec<f32>),
    /// One of the [`Params`], with something added to every value (Gemma's norms: 1).
    Trained(usize, f32),
}

impl Vector {
    /// The values, as used.
    pub fn values<'a>(&'a self, params: &'a Params) -> Cow<'a, [f32]> {
        match self {
            Self::Frozen(values) => Cow::Borrowed(values),
            Self::Trained(number, 0.0) => Cow::Borrowed(params.value(*number)),
            Self::Trained(number, plus) => params.value(*number).iter().map(|x| x + plus).collect(),
        }
    }

    /// Its number among the [`Params`].
    pub fn trained(&self) -> Option<usize> {
        match self {
            Self::Frozen(_) => None,
            Self::Trained(number, _) => Some(*number),
        }
    }
}

/// Reads tensors one by one.
pub(super) struct Loader<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) frozen: Frozen,
    pub(super) params: Params,
    pub(super) progress: &'a dyn Progress,
    pub(super) done: u64,
}

impl Source for Loader<'_> {
    fn weight(&mut self, spec: &ModuleSpec) -> Result<Weight> {
        if spec.goes_to_four_bits() {
            return self.linear(&spec.name, spec.shape);
        }
        self.table(&spec.name, spec.shape)
    }

    fn values(&mut self, name: &str, width: usize) -> Result<Vec<f32>> {
        let path = self.checkpoint.path();
        let tensor = self.checkpoint.tensor(name);
        let tensor = tensor
            .ok_or_else(|| Error::tensor(path, name, "the model has no such tensor, its config.json asks for it"))?;
        if tensor.elements() != width as u64 {
            return Err(Error::tensor(path, name, format!("found shape {:?}, expected {width} values", tensor.shape)));
        }
        self.done += tensor.bytes;
        Ok(self.checkpoint.tensor_matrix(tensor, &())?.into_data())
    }

    fn trained_values(&mut self, name: &str, width: usize) -> Result<Vector> {
        let values = self.values(name, width)?;
        Ok(self.vector(name.to_owned(), values, 0.0))
    }

    fn stacked_bias(&mut self, stack: &str, copies: usize, width: usize) -> Result<Vec<Vector>> {
        let name = format!("{stack}_bias");
        let values = self.values(&name, copies * width)?;
        let each = values.chunks(width.max(1)).enumerate();
        Ok(each.map(|(number, values)| self.vector(format!("{name}[{number}]"), values.to_vec(), 0.0)).collect())
    }

    fn bias(&mut self, module: &str, width: usize) -> Result<Vector> {
        self.bias(module, width)
    }

    fn scale(&mut self, name: &str, width: usize, plus: f32) -> Result<Vector> {
        self.scale(name, width, plus)
    }

    fn buffer(&mut self, name: &str) -> Result<f32> {
        let path = self.checkpoint.path();
        let tensor = self.checkpoint.tensor(name).filter(|tensor| tensor.elements() == 1);
        let tensor =
            tensor.ok_or_else(|| Error::tensor(path, name, "the model has no such number, its type asks for it"))?;
        Ok(self.checkpoint.tensor_matrix(tensor, &())?.data()[0])
    }

    fn vectors(&mut self, names: &[String], count: usize) -> Result<Vec<Vector>> {
        let path = self.checkpoint.path();
        let mut left = count;
        let mut list = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let tensor = self.checkpoint.tensor(&format!("{name}.weight")).or_else(|| self.checkpoint.tensor(name));
            let tensor = tensor.ok_or_else(|| {
                Error::tensor(path, name, "the model has no such weight, its config.json asks for it")
            })?;
            let found = tensor.elements() as usize;
            let last = at + 1 == names.len();
            if found > left || last && found < left {
                let message = format!("found shape {:?}, expected {left} values from config.json", tensor.shape);
                return Err(Error::tensor(path, &tensor.name, message));
            }
            left -= found;
            self.done += tensor.bytes;
            let values = self.checkpoint.tensor_matrix(tensor, &())?.into_data();
            list.push(self.vector(name.clone(), values, 0.0));
        }
        Ok(list)
    }

    fn scalar(&mut self, name: &str) -> Result<f32> {
        if self.frozen == Frozen::Nothing {
            let message = "the numbers of an xIELU are not trained here: train with lora or qlora";
            return Err(Error::tensor(self.checkpoint.path(), name, message));
        }
        let (matrix, _) = self.matrix(name, [1, 1])?;
        Ok(matrix.data()[0])
    }
}

impl Loader<'_> {
    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<(Matrix, Dtype)> {
        self.progress.step(self.done, self.checkpoint.bytes())?;
        let path = self.checkpoint.path();
        let module = self.checkpoint.module(name);
        let module = module
            .ok_or_else(|| Error::tensor(path, name, "the model has no such weight, its config.json asks for it"))?;
        self.done += module.bytes;
        if module.matrix_shape() != shape {
            let message = format!("found shape {:?}, expected {shape:?} from config.json", module.shape);
            return Err(Error::tensor(path, name, message));
        }
        let dtype = if module.dtype.is_float() { module.dtype } else { Dtype::F32 };
        Ok((self.checkpoint.matrix(module, &())?, dtype))
    }

    /// A linear weight.
    fn linear(&mut self, name: &str, shape: [usize; 2]) -> Result<Weight> {
        if let Some(module) = self.checkpoint.module(name).filter(|_| self.frozen != Frozen::Nothing)
            && module.matrix_shape() == shape
            && let Some(weight) = Quantized::stored(self.checkpoint, module)?
        {
            self.done += module.bytes;
            return Ok(Weight::FourBit(weight.with_reading(Reading::Bitsandbytes)));
        }
        let (matrix, dtype) = self.matrix(name, shape)?;
        match self.frozen {
            Frozen::FourBit(scheme) => {
                let weight = Quantized::new(matrix.data(), shape, scheme)?;
                Ok(Weight::FourBit(weight.with_reading(Reading::Bitsandbytes)))
            }
            _ => Ok(self.keep(name, shape, matrix, dtype)),
        }
    }

    /// An embedding or head: never in 4 bits.
    fn table(&mut self, name: &str, shape: [usize; 2]) -> Result<Weight> {
        let (matrix, dtype) = self.matrix(name, shape)?;
        Ok(self.keep(name, shape, matrix, dtype))
    }

    fn keep(&mut self, name: &str, shape: [usize; 2], matrix: Matrix, dtype: Dtype) -> Weight {
        match self.frozen {
            Frozen::Nothing => {
                Weight::Trained(self.params.push(name.to_owned(), Kind::Weight, shape, matrix.into_data()))
            }
            _ => Weight::stored(matrix, dtype),
        }
    }

    /// A norm's scale, to which `plus` is added when it is used.
    fn scale(&mut self, name: &str, width: usize, plus: f32) -> Result<Vector> {
        let (matrix, _) = self.matrix(name, [1, width])?;
        Ok(self.vector(name.to_owned(), matrix.into_data(), plus))
    }

    /// The bias of a module.
    fn bias(&mut self, name: &str, width: usize) -> Result<Vector> {
        let name = format!("{name}.bias");
        let path = self.checkpoint.path();
        let tensor = self.checkpoint.tensor(&name);
        let tensor = tensor
            .ok_or_else(|| Error::tensor(path, &name, "the model has no such bias, its config.json asks for it"))?;
        if tensor.shape != [width] {
            return Err(Error::tensor(path, &name, format!("found shape {:?}, expected [{width}]", tensor.shape)));
        }
        self.done += tensor.bytes;
        let values = self.checkpoint.tensor_matrix(tensor, &())?.into_data();
        Ok(self.vector(name, values, 0.0))
    }

    fn vector(&mut self, name: String, mut values: Vec<f32>, plus: f32) -> Vector {
        if self.frozen == Frozen::Nothing {
            return Vector::Trained(self.params.push(name, Kind::Vector, [1, values.len()], values), plus);
        }
        values.iter_mut().for_each(|x| *x += plus);
        Vector::Frozen(values)
    }
}
