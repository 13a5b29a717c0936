//! torchao's tensors as transformers saves them (torchao 0.18, `prototype/safetensors`): `<module>._weight_qdata`, `._weight_scale`,
//! `._weight_zero_point`, and in the file's `__metadata__` the class of each.
//!
//! | class | codes | scales | `w` |
//! |---|---|---|---|
//! | `Int8Tensor`, `IntxUnpackedToInt8Tensor` | I8 `[out, in]` | `[out, groups]` | `(q − zero) · scale` |
//! | `Float8Tensor` | F8 `[out, in]` | one, a row, or blocks | `q · scale` |
//! | `Int4Tensor` | two codes of −8 … 7 a byte, the first in the low half | `[groups, out]`, zeros likewise | `q · scale + zero` |
//!
//! Other classes are laid out for the kernel of one device and refused by name.

use super::{Beside, Decode, Packed, compressed, float, fp8, matrix, scale, shaped};
use crate::checkpoint::{Dtype, Tensor};
use serde_json::Value;
use std::ops::Range;
use std::sync::Arc;

/// Classes that are read; what the file does not name is judged by its tensors.
const READ: [&str; 4] = ["Int8Tensor", "IntxUnpackedToInt8Tensor", "Float8Tensor", "Int4Tensor"];

pub(super) fn find(beside: &Beside, module: &str, codes: &Tensor) -> Option<Result<Packed, String>> {
    Some(build(beside, module, codes))
}

fn build(beside: &Beside, module: &str, codes: &Tensor) -> Result<Packed, String> {
    let about = beside.metadata.get(&format!("{module}.weight"));
    let about = about.and_then(|text| serde_json::from_str::<Value>(text).ok());
    let class = about.as_ref().and_then(|about| about.get("_type")?.as_str());
    if let Some(class) = class.filter(|class| !READ.contains(class)) {
        let class: String = class.chars().take(40).collect();
        return Err(format!(
            "found torchao's {class}, whose layout is that of one kernel; expected {}",
            READ.join(", ")
        ));
    }
    if beside.get(module, "._weight_act_pre_scale").is_some() {
        return Err("found torchao's act_pre_scale, which changes what the weight is multiplied with".to_owned());
    }
    let scales = beside.get(module, "._weight_scale");
    let scales = scales.ok_or_else(|| format!("found no {module}._weight_scale beside the codes"))?;
    let zeros = beside.get(module, "._weight_zero_point");
    match codes.dtype {
        Dtype::I8 if class != Some("Int4Tensor") => compressed::bytes(beside, module, codes, scales, zeros, "torchao"),
        Dtype::F8E4M3 | Dtype::F8E5M2 => fp8::scaled(beside, module, codes, scales, "torchao, FP8"),
        Dtype::I8 | Dtype::U8 => int4(beside, module, codes, scales, zeros),
        other => Err(format!("found torchao's codes of type {other}, expected I8, U8 or FP8")),
    }
}

#[derive(Debug)]
struct Int4 {
    out: usize,
    inputs: usize,
    groups: usize,
    scales: Dtype,
}

fn int4(
    beside: &Beside,
    module: &str,
    codes: &Tensor,
    (at, scales): (usize, &Tensor),
    zeros: Option<(usize, &Tensor)>,
) -> Result<Packed, String> {
    let [out, half] = matrix(codes)?;
    let [groups, columns] = matrix(scales)?;
    let inputs = 2 * half;
    if columns != out || !inputs.is_multiple_of(groups) {
        return Err(format!("found scales of {groups} × {columns} for a weight of {out} × {inputs}"));
    }
    scale(scales)?;
    let (zeros_at, zeros) = zeros.ok_or_else(|| format!("found no {module}._weight_zero_point beside the scales"))?;
    shaped(zeros, &scales.shape)?;
    if zeros.dtype != scales.dtype {
        return Err(format!("found zero points of {}, expected {}", zeros.dtype, scales.dtype));
    }
    Ok(Packed {
        name: module.to_owned(),
        shape: vec![out, inputs],
        dtype: Dtype::Int4,
        about: format!("torchao, int4, groups of {}", inputs / groups),
        original: scales.dtype,
        parts: vec![beside.position(codes), at, zeros_at],
        decode: Arc::new(Int4 { out, inputs, groups, scales: scales.dtype }),
    })
}

impl Decode for Int4 {
    fn rows(&self, parts: &[&[u8]], rows: Range<usize>, out: &mut [f32]) {
        let size = self.inputs / self.groups;
        for (row, out) in rows.zip(out.chunks_exact_mut(self.inputs)) {
            for (group, out) in out.chunks_exact_mut(size).enumerate() {
                let at = group * self.out + row;
                let (scale, zero) = (float(self.scales, parts[1], at), float(self.scales, parts[2], at));
                for (place, out) in out.iter_mut().enumerate() {
                    let input = row * self.inputs + group * size + place;
                    let code = parts[0][input / 2] >> (input % 2 * 4) & 15;
                    *out = f32::from((code << 4).cast_signed() >> 4) * scale + zero;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: codes −8, 7, 1, −1 in two groups of two, of the second of two rows.
    #[test]
    fn a_row_of_int4() {
        let decode = Int4 { out: 2, inputs: 4, groups: 2, scales: Dtype::F32 };
        let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let (scales, zeros) = (bytes(&[9.0, 0.5, 9.0, 2.0]), bytes(&[9.0, 1.0, 9.0, -1.0]));
        let mut out = [0.0; 4];
        decode.rows(&[&[0, 0, 0x78, 0xf1], &scales, &zeros], 1..2, &mut out);
        assert_eq!(out, [-3.0, 4.5, 1.0, -3.0]);
    }
}
