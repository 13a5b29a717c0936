//! Weights as llama.cpp's blocks, byte by byte.

use super::fit::Fit;
use super::formats::{Encoding, Format, e2m1, iq4};
use super::recipe::Recipe;
use crate::checkpoint::BlockType;
use crate::error::{Error, Result};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use std::borrow::Cow;

/// The blocks of a weight, one after the other. Q4_0, Q4_1 and Q8_0: scale and minimum in half precision, then 32 codes. Two 4-bit codes
/// share a byte: the first 16 stand in the low nibbles, the others in the high ones. MXFP4: the exponent, then 32 codes likewise. `None`
/// for any other format.
pub fn bytes(values: &[f32], fit: &Fit) -> Option<Vec<u8>> {
    let format = fit.recipe().format;
    if fit.block() != Some(32) || format.fixed_block() != Some(32) {
        return None;
    }
    let mut bytes = Vec::new();
    for (values, scale) in values.as_chunks::<32>().0.iter().zip(fit.scales()) {
        let codes = match (format, fit.encoding()) {
            (Format::Mxfp4, Encoding::E2m1(even)) => {
                let absmax = values.iter().fold(0f32, |most, x| most.max(x.abs()));
                bytes.push(e2m1::exponent(absmax));
                values.map(|value| e2m1::code(value, scale, even))
            }
            (_, Encoding::Steps(steps)) => {
                bytes.extend(half::f16::from_f32(scale.scale).to_le_bytes());
                if format == Format::Q4_1 {
                    bytes.extend(half::f16::from_f32(scale.zero).to_le_bytes());
                }
                values.map(|value| (steps.code(value, scale) as i8).cast_unsigned())
            }
            _ => return None,
        };
        if format == Format::Q8_0 {
            bytes.extend(codes);
        } else {
            let (low, high) = codes.split_at(16);
            bytes.extend(low.iter().zip(high).map(|(&low, &high)| low | high << 4));
        }
    }
    Some(bytes)
}

/// Types that weights are written in, with what makes them: the format here, or candle's.
const WRITTEN: [(&str, Maker); 13] = [
    ("Q4_0", Maker::Here(Format::Q4_0)),
    ("Q4_1", Maker::Here(Format::Q4_1)),
    ("Q8_0", Maker::Here(Format::Q8_0)),
    ("MXFP4", Maker::Here(Format::Mxfp4)),
    ("IQ4_NL", Maker::Blocks(iq4::nl)),
    ("IQ4_XS", Maker::Blocks(iq4::xs)),
    ("Q5_0", Maker::Candle(GgmlDType::Q5_0)),
    ("Q5_1", Maker::Candle(GgmlDType::Q5_1)),
    ("Q2_K", Maker::Candle(GgmlDType::Q2K)),
    ("Q3_K", Maker::Candle(GgmlDType::Q3K)),
    ("Q4_K", Maker::Candle(GgmlDType::Q4K)),
    ("Q5_K", Maker::Candle(GgmlDType::Q5K)),
    ("Q6_K", Maker::Candle(GgmlDType::Q6K)),
];

#[derive(Clone, Copy)]
enum Maker {
    Here(Format),
    Blocks(fn(&[f32], &mut Vec<u8>)),
    Candle(GgmlDType),
}

/// A weight `[rows, cols]` as blocks of a type; rows are whole blocks.
///
/// # Errors
/// For a type that is not written here, and rows that are no whole blocks.
pub fn encode(kind: BlockType, values: &[f32], shape: [usize; 2]) -> Result<Vec<u8>> {
    let known = WRITTEN.iter().find(|(name, _)| *name == kind.name());
    let (_, maker) = known.ok_or_else(|| Error::usage(format!("{} is read here, not written", kind.name())))?;
    if !shape[1].is_multiple_of(kind.values()) {
        let (name, block) = (kind.name(), kind.values());
        return Err(Error::usage(format!("rows of {} values, expected a multiple of {block} for {name}", shape[1])));
    }
    let failed = |error: candle_core::Error| Error::failure(format!("cannot encode as {}: {error}", kind.name()));
    match *maker {
        Maker::Here(format) => {
            let fit = Fit::new(values, shape, Recipe::new(format))?;
            bytes(values, &fit).ok_or_else(|| Error::failure(format!("{} was not made", kind.name())))
        }
        Maker::Blocks(block) => {
            let mut out = Vec::with_capacity(values.len() / kind.values() * kind.bytes());
            values.chunks_exact(kind.values()).for_each(|values| block(values, &mut out));
            Ok(out)
        }
        Maker::Candle(dtype) => {
            let tensor = Tensor::from_slice(values, (shape[0], shape[1]), &Device::Cpu).map_err(failed)?;
            let quantized = QTensor::quantize(&tensor, dtype).map_err(failed)?;
            quantized.data().map(Cow::into_owned).map_err(failed)
        }
    }
}
