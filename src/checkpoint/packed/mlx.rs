//! MLX: rows of codes in 32-bit words, a continuous stream from the lowest bit on.
//!
//! `affine`: `w = scale · q + bias`, for each group; `mxfp4`, `mxfp8`: groups of 32 with an e8m0 exponent; `nvfp4`: groups of 16 with an e4m3 scale.

use super::{Beside, Decode, E2M1, Packed, code, e8m0, float, matrix, scale, shaped};
use crate::checkpoint::{Dtype, Tensor};
use std::ops::Range;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Affine,
    /// Codes are e2m1 (4 bits) or e4m3 (8 bits); scales are e8m0.
    Exponent,
    /// Codes are e2m1, scales e4m3.
    Nvfp4,
}

#[derive(Debug)]
struct Mlx {
    mode: Mode,
    bits: usize,
    inputs: usize,
    groups: usize,
    scales: Dtype,
}

pub(super) fn find(beside: &Beside, module: &str, codes: &Tensor) -> Option<Result<Packed, String>> {
    let (at, scales) = beside.get(module, ".scales")?;
    if codes.dtype != Dtype::U32 {
        return None;
    }
    Some(build(beside, module, codes, at, scales))
}

fn build(beside: &Beside, module: &str, codes: &Tensor, at: usize, scales: &Tensor) -> Result<Packed, String> {
    let [out, words] = matrix(codes)?;
    let [rows, groups] = matrix(scales)?;
    if rows != out {
        return Err(format!("found scales of {rows} rows, expected {out}"));
    }
    // A module may have settings of its own.
    let own = beside.quantization.and_then(|all| all.get(module));
    let number =
        |key: &str| own.and_then(|own| own.get(key)?.as_u64()).map(|n| n as usize).or_else(|| beside.number(key));
    let mode = own.and_then(|own| own.get("mode")?.as_str()).or_else(|| beside.text("mode")).unwrap_or("affine");
    let mode = match mode {
        "affine" => Mode::Affine,
        "mxfp4" | "mxfp8" => Mode::Exponent,
        "nvfp4" => Mode::Nvfp4,
        other => return Err(format!("found mode {other}, expected affine, mxfp4, mxfp8 or nvfp4")),
    };
    let size = number("group_size").unwrap_or(match mode {
        Mode::Affine => 64,
        Mode::Exponent => 32,
        Mode::Nvfp4 => 16,
    });
    let inputs = groups.checked_mul(size).filter(|&inputs| inputs > 0 && inputs <= 32 * words);
    let Some(inputs) = inputs else {
        return Err(format!("{groups} groups of {size} do not fit {words} words of codes"));
    };
    let bits = 32 * words / inputs;
    if !(2..=8).contains(&bits) || bits * inputs != 32 * words {
        return Err(format!("found {words} words for {inputs} inputs, expected codes of 2 to 8 bits"));
    }
    let mut parts = vec![beside.position(codes), at];
    if mode == Mode::Affine {
        scale(scales)?;
        let biases = beside.get(module, ".biases");
        let (at, biases) = biases.ok_or_else(|| format!("found no {module}.biases beside the scales"))?;
        shaped(biases, &scales.shape)?;
        if biases.dtype != scales.dtype {
            return Err(format!("found biases of {}, expected {}", biases.dtype, scales.dtype));
        }
        parts.push(at);
    } else if scales.dtype != Dtype::U8 || !matches!((mode, bits), (Mode::Exponent, 4 | 8) | (Mode::Nvfp4, 4)) {
        return Err(format!("found scales of {} for codes of {bits} bits, expected U8 for 4", scales.dtype));
    }
    let named = match mode {
        Mode::Affine => "affine",
        Mode::Exponent if bits == 8 => "mxfp8",
        Mode::Exponent => "mxfp4",
        Mode::Nvfp4 => "nvfp4",
    };
    Ok(Packed {
        name: module.to_owned(),
        shape: vec![out, inputs],
        dtype: Dtype::Mlx,
        about: format!("MLX, {named}, {bits} bits, groups of {size}"),
        original: if mode == Mode::Affine { scales.dtype } else { Dtype::BF16 },
        parts,
        decode: Arc::new(Mlx { mode, bits, inputs, groups, scales: scales.dtype }),
    })
}

impl Decode for Mlx {
    fn rows(&self, parts: &[&[u8]], rows: Range<usize>, out: &mut [f32]) {
        let (size, line) = (self.inputs / self.groups, self.inputs * self.bits / 8);
        for (row, out) in rows.zip(out.chunks_exact_mut(self.inputs)) {
            let stream = &parts[0][row * line..][..line];
            for (group, out) in out.chunks_exact_mut(size).enumerate() {
                let at = row * self.groups + group;
                let codes = (0..size).map(|place| code(stream, (group * size + place) * self.bits, self.bits));
                let pairs = out.iter_mut().zip(codes);
                match self.mode {
                    Mode::Affine => {
                        let (scale, bias) = (float(self.scales, parts[1], at), float(self.scales, parts[2], at));
                        pairs.for_each(|(out, code)| *out = scale * code as f32 + bias);
                    }
                    Mode::Exponent | Mode::Nvfp4 => {
                        let byte = parts[1][at];
                        let scale =
                            if self.mode == Mode::Nvfp4 { float(Dtype::F8E4M3, &[byte], 0) } else { e8m0(byte) };
                        let wide = self.bits == 8;
                        pairs.for_each(|(out, code)| {
                            let value = if wide { float(Dtype::F8E4M3, &[code as u8], 0) } else { E2M1[code as usize] };
                            *out = scale * value;
                        });
                    }
                }
            }
        }
    }
}
