//! Blockwise 4-bit weights, bit for bit as bitsandbytes makes them.
//!
//! ```text
//! w[out, in] ─ flattened, blocks of 64 ─ absmax ─┬─ f32                       (Absmax::Plain)
//!                                               └─ 8 bits, blocks of 256     (Absmax::Nested: double quantization)
//!                                      ─ codes  ─── 16 levels, two a byte, the first in the high nibble
//! ```
//!
//! `ŵ[i] = level[code i] · absmax[i / blocksize]`. Reading a folder that bitsandbytes wrote is the checkpoint's business;
//! here weights are made and, as they are needed, turned back into `f32`.

mod codebook;
mod nested;
mod quantized;

pub use codebook::QuantType;
pub use nested::Nested;
pub use quantized::{Absmax, Quantized, Scheme};
