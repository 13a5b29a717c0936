//! GPTQ: `w[o, i] = scale[g, o] · (q[i, o] − zero[g, o])`, g the group of input i.
//!
//! `qweight [in·bits/32, out]` and `qzeros [groups, out·bits/32]` are words, codes from the lowest bit on, along the first and the second size;
//! `scales [groups, out]`; `g_idx [in]`. Files of the first version store zero − 1 (`checkpoint_format: gptq_v2` stores it as it is).

use super::{Beside, Decode, Packed, float, matrix, scale, shaped, word};
use crate::checkpoint::{Dtype, Tensor};
use std::ops::Range;
use std::sync::Arc;

#[derive(Debug)]
struct Gptq {
    bits: usize,
    out: usize,
    inputs: usize,
    groups: usize,
    /// Added to a stored zero point.
    offset: f32,
    scales: Dtype,
    /// Whether `g_idx` is there; else inputs belong to groups in order.
    index: bool,
}

pub(super) fn find(beside: &Beside, module: &str, codes: &Tensor) -> Option<Result<Packed, String>> {
    let zeros = beside.get(module, ".qzeros")?;
    let scales = beside.get(module, ".scales")?;
    Some(build(beside, module, codes, zeros, scales))
}

fn build(
    beside: &Beside,
    module: &str,
    codes: &Tensor,
    zeros: (usize, &Tensor),
    scales: (usize, &Tensor),
) -> Result<Packed, String> {
    let [words, out] = matrix(codes)?;
    let [groups, width] = matrix(scales.1)?;
    scale(scales.1)?;
    if codes.dtype.size() != 4 || zeros.1.dtype.size() != 4 {
        return Err(format!("found codes of type {}, expected 32-bit words", codes.dtype));
    }
    if width != out {
        return Err(format!("found scales of {width} columns, expected the {out} of the codes"));
    }
    let index = beside.get(module, ".g_idx").filter(|(_, index)| index.elements() > 0);
    let bits = match (beside.number("bits"), index) {
        (Some(bits), _) => bits,
        (None, Some((_, index))) => 32 * words / index.shape.first().copied().unwrap_or(1).max(1),
        (None, None) => zeros.1.shape.get(1).map_or(4, |width| 32 * width / out),
    };
    if !(2..=8).contains(&bits) {
        return Err(format!("found codes of {bits} bits, expected 2 to 8"));
    }
    let inputs = words * 32 / bits;
    shaped(zeros.1, &[groups, (out * bits).div_ceil(32)])?;
    let mut parts = vec![beside.position(codes), zeros.0, scales.0];
    if let Some((at, index)) = index {
        shaped(index, &[inputs])?;
        if index.dtype != Dtype::I32 {
            return Err(format!("found g_idx of type {}, expected I32", index.dtype));
        }
        parts.push(at);
    }
    let offset = if beside.text("checkpoint_format") == Some("gptq_v2") { 0.0 } else { 1.0 };
    let decode = Gptq { bits, out, inputs, groups, offset, scales: scales.1.dtype, index: index.is_some() };
    Ok(Packed {
        name: module.to_owned(),
        shape: vec![out, inputs],
        dtype: Dtype::Gptq,
        about: format!("GPTQ, {bits} bits, {groups} groups of {}", inputs.div_ceil(groups)),
        original: scales.1.dtype,
        parts,
        decode: Arc::new(decode),
    })
}

/// Scale and zero point by group, then by row of `rows`.
pub(super) fn constants(
    groups: usize,
    rows: &Range<usize>,
    of: impl Fn(usize, usize) -> (f32, f32),
) -> Vec<(f32, f32)> {
    (0..groups).flat_map(|group| rows.clone().map(move |row| (group, row))).map(|(group, row)| of(group, row)).collect()
}

impl Decode for Gptq {
    fn rows(&self, parts: &[&[u8]], rows: Range<usize>, out: &mut [f32]) {
        let [codes, zeros, scales] = [parts[0], parts[1], parts[2]];
        let mask = (1u32 << self.bits) - 1;
        let zero_words = (self.out * self.bits).div_ceil(32);
        // A code may begin in one word and end in the next.
        let pick = |low: u32, high: u32, shift: usize| {
            let pair = u64::from(low) | u64::from(high) << 32;
            (pair >> shift) as u32 & mask
        };
        let constants = constants(self.groups, &rows, |group, row| {
            let (at, shift) = (group * zero_words + row * self.bits / 32, row * self.bits % 32);
            let high = if shift + self.bits > 32 { word(zeros, at + 1) } else { 0 };
            let zero = pick(word(zeros, at), high, shift);
            (float(self.scales, scales, group * self.out + row), zero as f32 + self.offset)
        });
        let each = self.inputs.div_ceil(self.groups);
        for input in 0..self.inputs {
            let group = if self.index { word(parts[3], input) as usize } else { input / each };
            let constants = &constants[group.min(self.groups - 1) * rows.len()..][..rows.len()];
            let (at, shift) = (input * self.bits / 32 * self.out, input * self.bits % 32);
            for (place, (row, (scale, zero))) in rows.clone().zip(constants).enumerate() {
                let high = if shift + self.bits > 32 { word(codes, at + self.out + row) } else { 0 };
                let code = pick(word(codes, at + row), high, shift);
                out[place * self.inputs + input] = scale * (code as f32 - zero);
            }
        }
    }
}
