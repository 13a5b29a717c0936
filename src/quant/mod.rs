//! Blockwise 4-bit weights, bit for bit as bitsandbytes makes them.
//!
//! ```text
//! w[out, in] ─ flattened, blocks of 64 ─ absmax ─┬─ f32                       (Absmax::Plain)
//!                                               └─ 8 bits, blocks of 256     (Absmax::Nested: double quantization)
//!                                      ─ codes  ─── 16 levels, two a byte, the first in the high nibble
//! ```
//!
//! `ŵ[i] = level[code i] · absmax[i / blocksize]`. A checkpoint unpacks such weights by itself; here they are made, or
//! taken as they are, and turned back into `f32` row by row as they are needed.

mod bitsandbytes;
mod codebook;
mod nested;
mod quantized;

pub use codebook::QuantType;
pub use nested::Nested;
pub use quantized::{Absmax, Quantized, Reading, Scheme};
