//! A weight that bitsandbytes has already quantized, as it stands in a checkpoint.

use super::nested::Nested;
use super::quantized::{Absmax, Quantized, Scheme};
use crate::checkpoint::{Checkpoint, Dtype, Module};
use crate::error::{Error, Result};
use serde_json::Value;

impl Quantized {
    /// The codes and constants of a 4-bit weight, without unpacking them; `None` for a weight that is not in 4 bits, and
    /// for one whose values were rounded to half precision or whose levels are not the usual ones: that is to be read as
    /// `f32` and kept as such.
    ///
    /// # Errors
    /// When a constant is missing or has the wrong size.
    pub fn stored(checkpoint: &Checkpoint, module: &Module) -> Result<Option<Self>> {
        let (Dtype::NF4 | Dtype::FP4, [out, inner]) = (module.dtype, module.matrix_shape()) else { return Ok(None) };
        let name = [format!("{}.weight", module.name), module.name.clone()];
        let Some(codes) = name.iter().find_map(|name| checkpoint.tensor(name)) else { return Ok(None) };
        let wrong = |end: &str, message: String| {
            Error::tensor(checkpoint.file_of(codes), &format!("{}{end}", codes.name), message)
        };
        let bytes = |end: &str| match checkpoint.tensor(&format!("{}{end}", codes.name)) {
            Some(tensor) => checkpoint.bytes_of(tensor),
            None => Err(wrong(end, "the tensor is not there".to_owned())),
        };
        let quant_type = if module.dtype == Dtype::NF4 { super::QuantType::Nf4 } else { super::QuantType::Fp4 };
        let end = format!(".quant_state.bitsandbytes__{quant_type}");
        let state: Value = serde_json::from_slice(bytes(&end)?).map_err(|e| wrong(&end, e.to_string()))?;
        let size = |key: &str| state.get(key).and_then(Value::as_u64).map(|n| n as usize);
        let Some(blocksize) = size("blocksize").filter(|n| *n > 0 && n.is_multiple_of(2)) else { return Ok(None) };
        let full = state.get("dtype").and_then(Value::as_str) == Some("float32");
        if !full || floats(bytes(".quant_map")?) != quant_type.levels() {
            return Ok(None);
        }
        let blocks = (out * inner).div_ceil(blocksize);
        let packed = checkpoint.bytes_of(codes)?;
        let counted = |end: &str, found: usize, expected: usize| match found == expected {
            true => Ok(()),
            false => Err(wrong(end, format!("found {found} values, expected {expected}"))),
        };
        counted("", packed.len(), (out * inner).div_ceil(2))?;
        let absmax = match state.get("nested_offset").and_then(Value::as_f64) {
            None => Absmax::Plain(floats(bytes(".absmax")?)),
            Some(offset) => {
                let usual = floats(bytes(".nested_quant_map")?) == Nested::map()
                    && size("nested_blocksize") == Some(Nested::BLOCK);
                if !usual {
                    return Ok(None);
                }
                let absmax = floats(bytes(".nested_absmax")?);
                counted(".nested_absmax", absmax.len(), blocks.div_ceil(Nested::BLOCK))?;
                Absmax::Nested(Nested { codes: bytes(".absmax")?.to_vec(), absmax, offset: offset as f32 })
            }
        };
        let (found, double_quant) = match &absmax {
            Absmax::Plain(values) => (values.len(), false),
            Absmax::Nested(nested) => (nested.codes.len(), true),
        };
        counted(".absmax", found, blocks)?;
        let scheme = Scheme { quant_type, blocksize, double_quant };
        let packed = packed.to_vec();
        checkpoint.unchanged(codes)?;
        Ok(Some(Self::from_parts([out, inner], scheme, packed, absmax)))
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&chunk| f32::from_le_bytes(chunk)).collect()
}
