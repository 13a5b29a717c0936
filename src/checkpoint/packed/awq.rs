//! AWQ: `w[o, i] = scale[g, o] · (q[i, o] − zero[g, o])`, 4 bits.
//!
//! `qweight [in, out/8]` and `qzeros [groups, out/8]` are words of eight outputs in the order 0 2 4 6 1 3 5 7; `scales [groups, out]`.

use super::gptq::constants;
use super::{Beside, Decode, Packed, float, matrix, scale, shaped, word};
use crate::checkpoint::{Dtype, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// In which four bits of a word an output stands.
const PLACE: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

#[derive(Debug)]
struct Awq {
    out: usize,
    inputs: usize,
    groups: usize,
    scales: Dtype,
}

pub(super) fn find(beside: &Beside, module: &str, codes: &Tensor) -> Option<Result<Packed, String>> {
    let (zeros_at, zeros) = beside.get(module, ".qzeros")?;
    let (scales_at, scales) = beside.get(module, ".scales")?;
    let ([inputs, words], [groups, out]) = (matrix(codes).ok()?, matrix(scales).ok()?);
    // GPTQ's codes are as wide as its scales.
    if out != 8 * words {
        return None;
    }
    let check = || {
        scale(scales)?;
        shaped(zeros, &[groups, words])?;
        if codes.dtype.size() != 4 || zeros.dtype.size() != 4 {
            return Err(format!("found codes of type {}, expected 32-bit words", codes.dtype));
        }
        if !inputs.is_multiple_of(groups) {
            return Err(format!("{inputs} inputs do not divide into {groups} groups"));
        }
        Ok(Packed {
            name: module.to_owned(),
            shape: vec![out, inputs],
            dtype: Dtype::Awq,
            about: format!("AWQ, 4 bits, groups of {}", inputs / groups),
            original: scales.dtype,
            parts: vec![beside.position(codes), zeros_at, scales_at],
            decode: Arc::new(Awq { out, inputs, groups, scales: scales.dtype }),
        })
    };
    Some(check())
}

impl Decode for Awq {
    fn rows(&self, parts: &[&[u8]], rows: Range<usize>, out: &mut [f32]) {
        let words = self.out / 8;
        let pick = |bytes: &[u8], line: usize, row: usize| {
            (word(bytes, line * words + row / 8) >> (4 * PLACE[row % 8]) & 15) as f32
        };
        let constants = constants(self.groups, &rows, |group, row| {
            (float(self.scales, parts[2], group * self.out + row), pick(parts[1], group, row))
        });
        let each = self.inputs / self.groups;
        for input in 0..self.inputs {
            let constants = &constants[input / each * rows.len()..][..rows.len()];
            for (place, (row, (scale, zero))) in rows.clone().zip(constants).enumerate() {
                out[place * self.inputs + input] = scale * (pick(parts[0], input, row) - zero);
            }
        }
    }
}
