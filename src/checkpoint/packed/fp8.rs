//! FP8 with scales: `w = q · scale`, one scale for all, for each row, or for each block of rows and columns.
//!
//! The scale is called `weight_scale_inv` (DeepSeek, Qwen: blocks of 128 × 128), `weight_scale` (compressed-tensors, modelopt, fbgemm),
//! `scale`, `scale_weight` or `weight.scale` (converters of image models).

use super::{Beside, Decode, Packed, float, matrix, scale};
use crate::checkpoint::{Dtype, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// Names of the scale, beside the module.
const NAMES: [&str; 6] =
    [".weight_scale_inv", ".weight_scale", ".scale_weight", ".scale", ".weight.scale", ".scale_inv"];

#[derive(Debug)]
struct Fp8 {
    codes: Dtype,
    inputs: usize,
    scales: Dtype,
    /// Rows and columns that share a scale.
    block: [usize; 2],
    /// Scales in a row of scales.
    line: usize,
}

pub(super) fn find(beside: &Beside, module: &str, codes: &Tensor) -> Option<Result<Packed, String>> {
    if !matches!(codes.dtype, Dtype::F8E4M3 | Dtype::F8E5M2) {
        return None;
    }
    let scales = NAMES.into_iter().find_map(|end| beside.get(module, end))?;
    Some(scaled(beside, module, codes, scales, "FP8"))
}

/// Codes with their scales, as whoever wrote them.
pub(super) fn scaled(
    beside: &Beside,
    module: &str,
    codes: &Tensor,
    (at, scales): (usize, &Tensor),
    named: &str,
) -> Result<Packed, String> {
    let [out, inputs] = matrix(codes)?;
    scale(scales)?;
    let (block, line, about) = match scales.shape[..] {
        _ if scales.elements() == 1 => ([out, inputs], 1, "one scale".to_owned()),
        [rows] | [rows, 1] if rows == out => ([1, inputs], 1, "a scale a row".to_owned()),
        [rows, cols] if rows > 0 && cols > 0 => {
            let block = size_of_block(beside, [out, inputs], [rows, cols]);
            if [out.div_ceil(block[0]), inputs.div_ceil(block[1])] != [rows, cols] {
                return Err(format!(
                    "found {rows} × {cols} scales for a weight of {out} × {inputs}, which fits no block size"
                ));
            }
            (block, cols, format!("scales of {} × {}", block[0], block[1]))
        }
        _ => return Err(format!("found scales of shape {:?} for a weight of {out} × {inputs}", scales.shape)),
    };
    Ok(Packed {
        name: module.to_owned(),
        shape: vec![out, inputs],
        dtype: codes.dtype,
        about: format!("{named}, {about}"),
        original: codes.dtype,
        parts: vec![beside.position(codes), at],
        decode: Arc::new(Fp8 { codes: codes.dtype, inputs, scales: scales.dtype, block, line }),
    })
}

/// As the config says, else 128 × 128 where that fits, else the size that fits exactly.
fn size_of_block(beside: &Beside, weight: [usize; 2], scales: [usize; 2]) -> [usize; 2] {
    let stated = beside.quantization.and_then(|all| all.get("weight_block_size")?.as_array());
    let stated: Vec<usize> = stated.into_iter().flatten().filter_map(|n| Some(n.as_u64()? as usize)).collect();
    let fits =
        |block: &[usize; 2]| block.iter().zip(weight).zip(scales).all(|((&b, w), s)| b > 0 && w.div_ceil(b) == s);
    let of = |at: usize| weight[at].div_ceil(scales[at]);
    [<[usize; 2]>::try_from(stated).unwrap_or_default(), [128, 128]].into_iter().find(fits).unwrap_or([of(0), of(1)])
}

impl Decode for Fp8 {
    fn rows(&self, parts: &[&[u8]], rows: Range<usize>, out: &mut [f32]) {
        for (row, out) in rows.zip(out.chunks_exact_mut(self.inputs)) {
            super::decode_plain(self.codes, &parts[0][row * self.inputs..][..self.inputs], out);
            for (at, out) in out.chunks_mut(self.block[1]).enumerate() {
                let scale = float(self.scales, parts[1], row / self.block[0] * self.line + at);
                out.iter_mut().for_each(|out| *out *= scale);
            }
        }
    }
}
