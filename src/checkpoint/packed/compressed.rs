//! compressed-tensors and modelopt: integers and 4-bit floats with scales by group.
//!
//! | format | tensors | `w` |
//! |---|---|---|
//! | pack-quantized | `weight_packed` words `[out, in·bits/32]`, `weight_scale [out, groups]`, `weight_zero_point`, `weight_g_idx` | `(q − zero) · scale` |
//! | int-quantized | `weight` I8 `[out, in]`, `weight_scale`, `weight_zero_point` | `(q − zero) · scale` |
//! | nvfp4 | `weight_packed` U8 `[out, in/2]`, `weight_scale` e4m3 `[out, in/16]`, `weight_global_scale` | `q · scale / global` |
//! | nvfp4 of modelopt | `weight` U8, `weight_scale`, `weight_scale_2` | `q · scale · scale_2` |
//! | mxfp4 | `weight_packed` U8 `[out, in/2]`, `weight_scale` e8m0 `[out, in/32]` | `q · 2^(scale − 127)` |
//!
//! Packed codes are stored with 2^(bits − 1) added, `32 / bits` (rounded down) to a word, from the lowest bit on; packed zero points likewise, along the rows.

use super::{Beside, Decode, E2M1, Packed, e8m0, float, matrix, scale, shaped, word};
use crate::checkpoint::{Dtype, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// Where the codes of an integer format lie.
#[derive(Clone, Copy, Debug)]
enum Codes {
    /// One a byte.
    Bytes,
    /// So many bits each, in words; words in a row.
    Words(usize, usize),
}

/// Where its zero points lie.
#[derive(Clone, Copy, Debug)]
enum Zeros {
    None,
    /// Part number; one a byte.
    Bytes(usize),
    /// Part number; packed along the rows.
    Words(usize),
}

#[derive(Debug)]
struct Ints {
    codes: Codes,
    inputs: usize,
    scales: Dtype,
    /// Scales in a row of scales; 0 where one is for all rows.
    groups: usize,
    zeros: Zeros,
    /// Part number of the groups of the inputs.
    index: Option<usize>,
}

pub(super) fn find_packed(beside: &Beside, module: &str, codes: &Tensor) -> Option<Result<Packed, String>> {
    let scales = beside.get(module, ".weight_scale");
    Some(match (codes.dtype, scales) {
        (_, None) => Err(format!("found no {module}.weight_scale beside its codes")),
        (Dtype::U8, Some(scales)) => fp4(beside, module, codes, scales),
        (Dtype::I32, Some(scales)) => words(beside, module, codes, scales),
        (other, _) => Err(format!("found codes of type {other}, expected I32 or U8")),
    })
}

/// One scale for all, one a row, or groups of a row: how many groups (0 for one scale).
fn groups(scales: &Tensor, out: usize) -> Result<usize, String> {
    match scales.shape[..] {
        _ if scales.elements() == 1 && out != 1 => Ok(0),
        [rows] if rows == out => Ok(1),
        [rows, groups] if rows == out && groups > 0 => Ok(groups),
        _ => Err(format!("found scales of shape {:?}, expected one, or rows of them for {out} rows", scales.shape)),
    }
}

fn words(beside: &Beside, module: &str, codes: &Tensor, (at, scales): (usize, &Tensor)) -> Result<Packed, String> {
    let [out, line] = matrix(codes)?;
    scale(scales)?;
    let groups = groups(scales, out)?;
    let weights = beside.quantization.and_then(|all| all.get("config_groups")?.as_object()).into_iter().flatten();
    let mut stated = weights.filter_map(|(_, group)| group.get("weights")?.get("num_bits")?.as_u64());
    let stated = stated.find(|bits| (1..=8).contains(bits));
    let shape = beside.integers(module, ".weight_shape");
    let bits = match (stated, shape.as_deref()) {
        (Some(bits), _) => bits as usize,
        (None, Some([_, inputs])) => 32 / (inputs.div_ceil(line)).clamp(1, 32),
        _ => 4,
    };
    let each = 32 / bits;
    let inputs = match shape.as_deref() {
        Some(&[rows, inputs]) if rows == out && inputs.div_ceil(each) == line && inputs > 0 => inputs,
        Some(other) => {
            return Err(format!("found weight_shape {other:?} for {out} rows of {line} words of {bits} bits"));
        }
        None => line * each,
    };
    let mut parts = vec![beside.position(codes), at];
    let zeros = match beside.get(module, ".weight_zero_point") {
        None => Zeros::None,
        Some((at, zeros)) => {
            parts.push(at);
            match zeros.dtype {
                Dtype::I32 => {
                    shaped(zeros, &[out.div_ceil(each), groups])?;
                    Zeros::Words(parts.len() - 1)
                }
                Dtype::I8 if zeros.shape == scales.shape => Zeros::Bytes(parts.len() - 1),
                other => return Err(format!("found zero points of {other} and shape {:?}", zeros.shape)),
            }
        }
    };
    let index = match beside.get(module, ".weight_g_idx").filter(|(_, index)| index.elements() > 0) {
        None => None,
        Some((at, index)) => {
            shaped(index, &[inputs])?;
            if index.dtype != Dtype::I32 {
                return Err(format!("found weight_g_idx of type {}, expected I32", index.dtype));
            }
            parts.push(at);
            Some(parts.len() - 1)
        }
    };
    let decode = Ints { codes: Codes::Words(bits, line), inputs, scales: scales.dtype, groups, zeros, index };
    let dtype = if bits == 8 { Dtype::Int8 } else { Dtype::Int4 };
    Ok(packed(
        module,
        [out, inputs],
        dtype,
        format!("compressed-tensors, int{bits}, {}", named(groups, inputs)),
        scales.dtype,
        parts,
        decode,
    ))
}

fn named(groups: usize, inputs: usize) -> String {
    match groups {
        0 => "one scale".to_owned(),
        1 => "a scale a row".to_owned(),
        groups => format!("groups of {}", inputs.div_ceil(groups)),
    }
}

fn packed(
    module: &str,
    shape: [usize; 2],
    dtype: Dtype,
    about: String,
    original: Dtype,
    parts: Vec<usize>,
    decode: impl Decode + 'static,
) -> Packed {
    Packed { name: module.to_owned(), shape: shape.to_vec(), dtype, about, original, parts, decode: Arc::new(decode) }
}

pub(super) fn find_int(beside: &Beside, module: &str, codes: &Tensor) -> Option<Result<Packed, String>> {
    let scales = beside.get(module, ".weight_scale").filter(|_| codes.dtype == Dtype::I8)?;
    Some(bytes(beside, module, codes, scales, beside.get(module, ".weight_zero_point"), "compressed-tensors"))
}

/// Codes of one byte each, with scales and zero points of the same shape: torchao has them too.
pub(super) fn bytes(
    beside: &Beside,
    module: &str,
    codes: &Tensor,
    (at, scales): (usize, &Tensor),
    zeros: Option<(usize, &Tensor)>,
    maker: &str,
) -> Result<Packed, String> {
    let [out, inputs] = matrix(codes)?;
    scale(scales)?;
    let groups = groups(scales, out)?;
    let mut parts = vec![beside.position(codes), at];
    let zeros = match zeros {
        None => Zeros::None,
        Some((at, zeros)) => {
            shaped(zeros, &scales.shape)?;
            if zeros.dtype != Dtype::I8 {
                return Err(format!("found zero points of {}, expected I8", zeros.dtype));
            }
            parts.push(at);
            Zeros::Bytes(2)
        }
    };
    let decode = Ints { codes: Codes::Bytes, inputs, scales: scales.dtype, groups, zeros, index: None };
    let about = format!("{maker}, int8, {}", named(groups, inputs));
    Ok(packed(module, [out, inputs], Dtype::Int8, about, scales.dtype, parts, decode))
}

impl Decode for Ints {
    fn rows(&self, parts: &[&[u8]], rows: Range<usize>, out: &mut [f32]) {
        let groups = self.groups.max(1);
        let size = self.inputs.div_ceil(groups);
        let mut constants = vec![(0.0, 0.0); groups];
        for (row, out) in rows.zip(out.chunks_exact_mut(self.inputs)) {
            for (group, constants) in constants.iter_mut().enumerate() {
                let at = if self.groups == 0 { 0 } else { row * groups + group };
                let zero = match (self.zeros, self.codes) {
                    (Zeros::Bytes(part), _) => f32::from(parts[part][at].cast_signed()),
                    (Zeros::Words(part), Codes::Words(bits, _)) => {
                        signed(word(parts[part], row / (32 / bits) * groups + group), row, bits)
                    }
                    _ => 0.0,
                };
                *constants = (float(self.scales, parts[1], at), zero);
            }
            for (input, out) in out.iter_mut().enumerate() {
                let group = self.index.map_or(input / size, |part| word(parts[part], input) as usize);
                let (scale, zero) = constants[group.min(groups - 1)];
                let code = match self.codes {
                    Codes::Bytes => f32::from(parts[0][row * self.inputs + input].cast_signed()),
                    Codes::Words(bits, line) => signed(word(parts[0], row * line + input / (32 / bits)), input, bits),
                };
                *out = (code - zero) * scale;
            }
        }
    }
}

/// Code number `at`, of those that share a word.
fn signed(word: u32, at: usize, bits: usize) -> f32 {
    let code = word >> (at % (32 / bits) * bits) & ((1 << bits) - 1);
    code as f32 - (1 << (bits - 1)) as f32
}

#[derive(Debug)]
struct Fp4 {
    inputs: usize,
    size: usize,
    /// Type of the scales; U8 for e8m0.
    scales: Dtype,
    /// Type of the scale for all, if there is one, and whether it divides.
    global: Option<(Dtype, bool)>,
}

pub(super) fn find_nvfp4(beside: &Beside, module: &str, codes: &Tensor) -> Option<Result<Packed, String>> {
    let scales = beside.get(module, ".weight_scale").filter(|_| codes.dtype == Dtype::U8)?;
    beside.get(module, ".weight_scale_2")?;
    Some(fp4(beside, module, codes, scales))
}

fn fp4(beside: &Beside, module: &str, codes: &Tensor, (at, scales): (usize, &Tensor)) -> Result<Packed, String> {
    let [out, half] = matrix(codes)?;
    let [rows, groups] = matrix(scales)?;
    let inputs = 2 * half;
    if rows != out || !inputs.is_multiple_of(groups) {
        return Err(format!("found scales of {rows} × {groups} for a weight of {out} × {inputs}"));
    }
    let mut parts = vec![beside.position(codes), at];
    let all = [(".weight_global_scale", true), (".weight_scale_2", false)];
    let all = all.into_iter().find_map(|(end, divides)| Some((beside.get(module, end)?, divides)));
    let global = match all {
        None => None,
        Some(((at, global), divides)) => {
            scale(global)?;
            if global.elements() != 1 {
                return Err(format!("found {} of shape {:?}, expected one number", global.name, global.shape));
            }
            parts.push(at);
            Some((global.dtype, divides))
        }
    };
    let exponents = matches!(scales.dtype, Dtype::U8 | Dtype::F8E8M0);
    if !exponents {
        scale(scales)?;
    }
    let size = inputs / groups;
    let (dtype, named) = if exponents { (Dtype::Mxfp4, "MXFP4") } else { (Dtype::Nvfp4, "NVFP4") };
    let decode = Fp4 { inputs, size, scales: if exponents { Dtype::U8 } else { scales.dtype }, global };
    Ok(packed(module, [out, inputs], dtype, format!("{named}, groups of {size}"), Dtype::BF16, parts, decode))
}

impl Decode for Fp4 {
    fn rows(&self, parts: &[&[u8]], rows: Range<usize>, out: &mut [f32]) {
        let groups = self.inputs / self.size;
        let global = self.global.map_or((1.0, false), |(dtype, divides)| (float(dtype, parts[2], 0), divides));
        for (row, out) in rows.zip(out.chunks_exact_mut(self.inputs)) {
            for (group, out) in out.chunks_exact_mut(self.size).enumerate() {
                let at = row * groups + group;
                let scale =
                    if self.scales == Dtype::U8 { e8m0(parts[1][at]) } else { float(self.scales, parts[1], at) };
                let scale = if global.1 { scale / global.0 } else { scale * global.0 };
                for (place, out) in out.iter_mut().enumerate() {
                    let input = row * self.inputs + group * self.size + place;
                    *out = E2M1[usize::from(parts[0][input / 2] >> (input % 2 * 4) & 15)] * scale;
                }
            }
        }
    }
}
