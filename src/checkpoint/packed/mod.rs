//! [`Packed`]: a weight that lies in several tensors: codes, scales, zero points. What it stands for, and how its rows are decoded.
//!
//! Each format is one file and one line in [`FORMATS`]. A format is found by the tensors that lie beside each other; what the config
//! says of it (`quantization_config`, MLX's `quantization`) is asked for what the tensors do not tell. Sizes are checked when a
//! checkpoint is opened; decoding cannot fail.

mod awq;
mod compressed;
mod fp8;
mod gptq;
mod int8;
mod mlx;
mod mxfp4;
mod torchao;

use super::read::decode as decode_plain;
use super::{Dtype, Tensor};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

/// Decodes rows of one weight.
pub(super) trait Decode: Debug + Send + Sync {
    /// Rows `rows` of the weight as a matrix, row after row; `parts` are the bytes of [`Packed::parts`], in that order.
    fn rows(&self, parts: &[&[u8]], rows: Range<usize>, out: &mut [f32]);
}

/// A weight in several tensors.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    /// The module's name.
    pub(super) name: String,
    /// What the codes stand for.
    pub(super) shape: Vec<usize>,
    /// The format, for tables.
    pub(super) dtype: Dtype,
    /// The format in words: `GPTQ, 4 bits, groups of 128`.
    pub(super) about: String,
    /// The type of the scales: that of the values before, as far as is known.
    pub(super) original: Dtype,
    /// Positions of its tensors, the codes first.
    pub(super) parts: Vec<usize>,
    pub(super) decode: Arc<dyn Decode>,
}

/// What finds the weight whose codes are `tensor` of `module`: `None` where it is another format's, a sentence where it is this one's
/// and does not fit together.
type Find = fn(&Beside, &str, &Tensor) -> Option<Result<Packed, String>>;

/// The formats, by the ending of the tensor that holds the codes.
static FORMATS: [(&str, Find); 10] = [
    (".qweight", awq::find),
    (".qweight", gptq::find),
    (".weight_packed", compressed::find_packed),
    (".weight", compressed::find_int),
    (".weight", int8::find),
    (".weight", compressed::find_nvfp4),
    (".weight", mlx::find),
    (".weight", fp8::find),
    ("_blocks", mxfp4::find),
    ("._weight_qdata", torchao::find),
];

/// Gives the bytes of a tensor.
pub(super) type Bytes<'a> = &'a dyn Fn(&Tensor) -> Option<Vec<u8>>;

/// The tensors of a checkpoint by name, and what its config says of quantization.
pub(super) struct Beside<'a> {
    tensors: &'a [Tensor],
    by_name: &'a HashMap<String, usize>,
    quantization: Option<&'a Value>,
    /// What a safetensors file says beside its tensors.
    metadata: &'a HashMap<String, String>,
    bytes: Bytes<'a>,
}

/// All packed weights of a checkpoint.
#[derive(Default)]
pub(super) struct All {
    /// By the position of the codes.
    pub(super) weights: HashMap<usize, Result<Packed, String>>,
    /// Positions of scales and the like.
    pub(super) sides: HashSet<usize>,
}

impl All {
    /// Looks for them.
    pub(super) fn find(
        tensors: &[Tensor],
        by_name: &HashMap<String, usize>,
        config: Option<&Value>,
        metadata: &HashMap<String, String>,
        bytes: Bytes,
    ) -> Self {
        let of = |config: &'_ Value, key: &str| config.get(key).filter(|value| value.is_object()).cloned();
        let quantization = config.and_then(|config| {
            let nested = config.get("text_config");
            let keys = ["quantization_config", "compression_config", "quantization"];
            keys.into_iter().find_map(|key| of(config, key).or_else(|| of(nested?, key)))
        });
        let beside = Beside { tensors, by_name, quantization: quantization.as_ref(), metadata, bytes };
        let mut all = Self::default();
        for (at, tensor) in tensors.iter().enumerate() {
            let found = FORMATS.iter().find_map(|(end, find)| find(&beside, tensor.name.strip_suffix(end)?, tensor));
            let Some(found) = found else { continue };
            let sides = found.as_ref().map_or_else(|_| Vec::new(), |packed| packed.parts.clone());
            all.sides.extend(sides.into_iter().filter(|&part| part != at));
            all.weights.insert(at, found);
        }
        // What lies beside a packed weight and is not needed for its values.
        for (at, tensor) in tensors.iter().enumerate() {
            let Some((module, end)) = tensor.name.rsplit_once('.') else { continue };
            let beside =
                |codes: &str| by_name.get(&format!("{module}.{codes}")).is_some_and(|at| all.weights.contains_key(at));
            if UNUSED.contains(&end) && ["weight", "qweight", "weight_packed"].into_iter().any(beside) {
                all.sides.insert(at);
            }
        }
        all
    }

    /// The formats that are met, in words.
    pub(super) fn about(&self) -> Vec<String> {
        let mut about: Vec<String> = self.weights.values().flatten().map(|packed| packed.about.clone()).collect();
        about.sort();
        about.dedup();
        about
    }
}

/// Tensors beside packed weights that say how activations are quantized, or what is known without them.
const UNUSED: [&str; 12] = [
    "input_scale",
    "activation_scale",
    "input_global_scale",
    "input_zero_point",
    "output_scale",
    "weight_format",
    "weight_shape",
    "g_idx",
    "weight_g_idx",
    "k_scale",
    "v_scale",
    "qzeros",
];

impl<'a> Beside<'a> {
    /// A tensor of a module, and its position.
    fn get(&self, module: &str, end: &str) -> Option<(usize, &'a Tensor)> {
        let at = *self.by_name.get(&format!("{module}{end}"))?;
        Some((at, self.tensors.get(at)?))
    }

    fn position(&self, tensor: &Tensor) -> usize {
        self.by_name.get(&tensor.name).copied().unwrap_or_default()
    }

    /// A whole number that the config states.
    fn number(&self, key: &str) -> Option<usize> {
        self.quantization?.get(key)?.as_u64().and_then(|number| usize::try_from(number).ok())
    }

    /// The few whole numbers of a small tensor, where it is there.
    fn integers(&self, module: &str, end: &str) -> Option<Vec<usize>> {
        let (_, tensor) = self.get(module, end).filter(|(_, tensor)| tensor.bytes <= 64)?;
        let bytes = (self.bytes)(tensor)?;
        let number = |chunk: &[u8]| {
            let mut eight = [0; 8];
            eight.get_mut(..chunk.len())?.copy_from_slice(chunk);
            usize::try_from(u64::from_le_bytes(eight)).ok()
        };
        bytes.chunks(tensor.dtype.size()).map(number).collect()
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.quantization?.get(key)?.as_str()
    }
}

/// The two sizes of a matrix.
fn matrix(tensor: &Tensor) -> Result<[usize; 2], String> {
    match tensor.shape[..] {
        [rows, cols] if rows > 0 && cols > 0 => Ok([rows, cols]),
        _ => Err(format!("found shape {:?} of {}, expected a matrix", tensor.shape, tensor.name)),
    }
}

/// A tensor has this shape.
fn shaped(tensor: &Tensor, shape: &[usize]) -> Result<(), String> {
    if tensor.shape == shape {
        Ok(())
    } else {
        Err(format!("found shape {:?} of {}, expected {shape:?}", tensor.shape, tensor.name))
    }
}

/// A scale: a floating-point tensor whose elements can be read one by one.
fn scale(tensor: &Tensor) -> Result<(), String> {
    let plain =
        matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64 | Dtype::F8E4M3 | Dtype::F8E5M2);
    if plain {
        Ok(())
    } else {
        Err(format!("found {} of type {}, expected floating-point scales", tensor.name, tensor.dtype))
    }
}

/// Element `at` of a tensor of floats.
fn float(dtype: Dtype, bytes: &[u8], at: usize) -> f32 {
    let size = dtype.size();
    let mut value = [0.0];
    decode_plain(dtype, &bytes[at * size..(at + 1) * size], &mut value);
    value[0]
}

/// Word `at` of a tensor of 32-bit words.
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.as_chunks::<4>().0.get(at).map_or(0, |&four| u32::from_le_bytes(four))
}

/// The code of `bits` bits that begins at bit `bit` of a little-endian stream.
#[inline(always)]
fn code(stream: &[u8], bit: usize, bits: usize) -> u32 {
    let at = bit / 8;
    let pair = u32::from(stream[at]) | u32::from(stream.get(at + 1).copied().unwrap_or(0)) << 8;
    pair >> (bit % 8) & ((1 << bits) - 1)
}

/// e2m1: sign, two bits of exponent, one of mantissa.
const E2M1: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// The power of two that an e8m0 exponent stands for.
fn e8m0(byte: u8) -> f32 {
    if byte == 0 { f32::from_bits(0x0040_0000) } else { f32::from_bits(u32::from(byte) << 23) }
}
