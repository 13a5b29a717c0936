//! [`FourBit`]: a weight in bitsandbytes' 4-bit format, with everything needed to read it back.
//!
//! `ŵ[i] = code[nibble i] · absmax[i / blocksize]`, the first value of a byte in its high nibble. With double
//! quantization `absmax[b] = nested_code[byte b] · nested_absmax[b / nested_blocksize] + offset`.

use super::Dtype;
use serde_json::Value;
use std::ops::Range;

/// One 4-bit weight: its constants, not its codes.
pub(super) struct FourBit {
    original: Dtype,
    code: [f32; 16],
    blocksize: usize,
    absmax: Vec<f32>,
}

/// Endings of the tensors beside a 4-bit weight `<w>`.
pub(super) const SIDE: [&str; 6] = [
    ".absmax",
    ".quant_map",
    ".nested_absmax",
    ".nested_quant_map",
    ".quant_state.bitsandbytes__nf4",
    ".quant_state.bitsandbytes__fp4",
];

/// What a quantization state says, before its constants are read.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// NF4 or FP4.
    pub(super) dtype: Dtype,
    /// What the codes stand for.
    pub(super) shape: Vec<usize>,
    /// The type that the values had, and take again when they are read back.
    pub(super) original: Dtype,
    blocksize: usize,
    nested: Option<(usize, f32)>,
}

impl State {
    /// Elements that the codes stand for.
    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Reads the JSON of `<w>.quant_state.bitsandbytes__…`; says what is wrong with it otherwise.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let state: Value =
            serde_json::from_slice(json).map_err(|e| format!("not valid JSON: {}", super::json::sentence(&e)))?;
        let text = |key: &str| state.get(key).and_then(Value::as_str);
        let dtype = match text("quant_type") {
            Some("nf4") => Dtype::NF4,
            Some("fp4") => Dtype::FP4,
            other => return Err(format!("found quant_type {other:?}, expected nf4 or fp4")),
        };
        let original = match text("dtype") {
            Some("float32") => Dtype::F32,
            Some("float16") => Dtype::F16,
            Some("bfloat16") => Dtype::BF16,
            other => return Err(format!("found dtype {other:?}, expected float32, float16 or bfloat16")),
        };
        let size = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        let above_zero = |key: &str| {
            let found = state.get(key).unwrap_or(&Value::Null);
            size(found)
                .filter(|&n| n > 0)
                .ok_or_else(|| format!("found {key} {found}, expected a whole number above 0"))
        };
        let blocksize = above_zero("blocksize")?;
        let shape: Option<Vec<usize>> =
            state.get("shape").and_then(Value::as_array).and_then(|list| list.iter().map(size).collect());
        let shape = shape.ok_or("found no shape, expected a list of sizes")?;
        // Twice the elements must still fit: the codes are counted in half bytes.
        let elements = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        if elements.and_then(|n| n.checked_mul(8)).is_none() {
            return Err(format!("the size of shape {shape:?} overflows"));
        }
        let nested = match state.get("nested_blocksize") {
            None | Some(Value::Null) => None,
            Some(_) => {
                let offset = state.get("nested_offset").and_then(Value::as_f64).filter(|x| x.is_finite());
                Some((
                    above_zero("nested_blocksize")?,
                    offset.ok_or("found no nested_offset, expected a number")? as f32,
                ))
            }
        };
        Ok(Self { dtype, shape, original, blocksize, nested })
    }

    /// Puts the constants together; `read` gives the type and the bytes of a tensor beside the weight, by its ending.
    /// The error is the ending of the tensor that is wrong, and why.
    pub(super) fn with<'a>(
        &self,
        read: impl Fn(&str) -> Option<(Dtype, &'a [u8])>,
    ) -> Result<FourBit, (&'static str, String)> {
        let blocks = self.elements().div_ceil(self.blocksize);
        let floats = |end: &'static str, count: usize| floats(read(end), count).map_err(|e| (end, e));
        let code: [f32; 16] =
            floats(".quant_map", 16)?.try_into().map_err(|_| (".quant_map", "expected 16 values".to_owned()))?;
        let absmax = match self.nested {
            None => floats(".absmax", blocks)?,
            Some((nested_blocksize, offset)) => {
                let nested_code = floats(".nested_quant_map", 256)?;
                let nested_absmax = floats(".nested_absmax", blocks.div_ceil(nested_blocksize))?;
                let (dtype, bytes) = read(".absmax").ok_or((".absmax", "the tensor is not there".to_owned()))?;
                if dtype != Dtype::U8 || bytes.len() != blocks {
                    let message = format!("found {} bytes of {dtype}, expected {blocks} of U8", bytes.len());
                    return Err((".absmax", message));
                }
                let mut absmax = Vec::with_capacity(blocks);
                for (chunk, scale) in bytes.chunks(nested_blocksize).zip(&nested_absmax) {
                    absmax.extend(chunk.iter().map(|&byte| nested_code[usize::from(byte)] * scale + offset));
                }
                absmax
            }
        };
        Ok(FourBit { original: self.original, code, blocksize: self.blocksize, absmax })
    }
}

/// `count` values of a tensor of `f32`.
fn floats(tensor: Option<(Dtype, &[u8])>, count: usize) -> Result<Vec<f32>, String> {
    let (dtype, bytes) = tensor.ok_or("the tensor is not there")?;
    if dtype != Dtype::F32 || bytes.len() / 4 != count {
        return Err(format!("found {} values of {dtype}, expected {count} of F32", bytes.len() / dtype.size()));
    }
    Ok(bytes.as_chunks::<4>().0.iter().map(|&chunk| f32::from_le_bytes(chunk)).collect())
}

impl FourBit {
    /// Elements `range` of the flattened weight, from its packed codes.
    pub(super) fn read(&self, packed: &[u8], range: Range<usize>, out: &mut [f32]) {
        for (at, value) in range.clone().zip(out.iter_mut()) {
            let byte = packed[at / 2];
            let nibble = if at % 2 == 0 { byte >> 4 } else { byte & 15 };
            *value = self.code[usize::from(nibble)] * self.absmax[at / self.blocksize];
        }
        match self.original {
            Dtype::BF16 => out.iter_mut().for_each(|x| *x = half::bf16::from_f32(*x).to_f32()),
            Dtype::F16 => out.iter_mut().for_each(|x| *x = half::f16::from_f32(*x).to_f32()),
            _ => {}
        }
    }
}
