//! Q4_0, Q4_1 and Q8_0 as llama.cpp writes them.

use super::fit::Fit;
use super::formats::Format;

/// The blocks of a weight, one after the other: scale and minimum in half precision, then 32 codes. Two 4-bit codes share a byte: the
/// first 16 stand in the low nibbles, the others in the high ones. `None` for any other format.
pub fn bytes(values: &[f32], fit: &Fit) -> Option<Vec<u8>> {
    let format = fit.recipe().format;
    if !matches!(format, Format::Q4_0 | Format::Q4_1 | Format::Q8_0) || fit.block() != format.fixed_block() {
        return None;
    }
    let steps = fit.steps()?;
    let mut bytes = Vec::new();
    for (values, scale) in values.as_chunks::<32>().0.iter().zip(fit.scales()) {
        bytes.extend(half::f16::from_f32(scale.scale).to_le_bytes());
        if format == Format::Q4_1 {
            bytes.extend(half::f16::from_f32(scale.zero).to_le_bytes());
        }
        let codes = values.map(|value| steps.code(value, scale) as i8);
        if format == Format::Q8_0 {
            bytes.extend(codes.map(i8::cast_unsigned));
        } else {
            let (low, high) = codes.split_at(16);
            bytes.extend(low.iter().zip(high).map(|(&low, &high)| low as u8 | (high as u8) << 4));
        }
    }
    Some(bytes)
}
