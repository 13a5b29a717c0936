//! Weights in a few bits, and what that loses.
//!
//! ```text
//! w[out, in] ─ flattened, blocks of 64 ─ absmax ─┬─ f32                       (Absmax::Plain)
//!                                               └─ 8 bits, blocks of 256     (Absmax::Nested: double quantization)
//!                                      ─ codes  ─── 16 levels, two a byte, the first in the high nibble
//!
//! Recipe { format, group, double_quant } ─ Fit: the scales of a weight ─ ŵ, codes, blocks ─ Measures, Detail, Usage
//! ```
//!
//! Two ways to the same numbers. [`Quantized`] is a weight as a model keeps it: NF4 or FP4 packed, bit for bit as bitsandbytes
//! makes them, `ŵ[i] = level[code i] · absmax[i / blocksize]`, read back row by row as it is needed. [`Fit`] is for looking: any
//! [`Format`], its codes and values computed from the weight and its scales where they are asked for.

mod bitsandbytes;
mod codebook;
mod fit;
mod formats;
pub mod gguf;
mod ladder;
mod measure;
mod nested;
mod quantized;
mod recipe;
mod steps;
mod usage;

pub use codebook::QuantType;
pub use fit::{CellCode, Fit, Levels, q4_0_rule};
pub use formats::Format;
pub use measure::{Detail, Measures, measure, measure_stored};
pub use nested::Nested;
pub use quantized::{Absmax, Quantized, Reading, Scheme};
pub use recipe::{Group, Recipe};
pub use usage::Usage;
