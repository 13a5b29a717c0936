//! [`BlockType`]: the block formats of GGML, as GGUF files store them: how many values a block holds, in how many bytes,
//! and how they are decoded.
//!
//! Each decoder is written so that its `f32` operations have the order of the `gguf` package's: results are equal to the bit.
//! Blocks run along a row; a row is a whole number of blocks.

mod fp4;
mod iq;
mod k;
mod legacy;
mod ternary;

use std::fmt;

/// One block format.
struct Type {
    /// llama.cpp's name for it.
    name: &'static str,
    /// Its number in a GGUF file.
    id: u32,
    /// Values of a block.
    values: usize,
    /// Bytes of a block.
    bytes: usize,
    /// Values of one block.
    decode: fn(&[u8], &mut [f32]),
}

/// Every block format that the `gguf` package decodes (0.19), with its number in a GGUF file.
#[rustfmt::skip]
static TYPES: [Type; 24] = [
    Type { name: "Q4_0", id: 2, values: 32, bytes: 18, decode: legacy::q4_0 },
    Type { name: "Q4_1", id: 3, values: 32, bytes: 20, decode: legacy::q4_1 },
    Type { name: "Q5_0", id: 6, values: 32, bytes: 22, decode: legacy::q5_0 },
    Type { name: "Q5_1", id: 7, values: 32, bytes: 24, decode: legacy::q5_1 },
    Type { name: "Q8_0", id: 8, values: 32, bytes: 34, decode: legacy::q8_0 },
    Type { name: "Q2_K", id: 10, values: 256, bytes: 84, decode: k::q2 },
    Type { name: "Q3_K", id: 11, values: 256, bytes: 110, decode: k::q3 },
    Type { name: "Q4_K", id: 12, values: 256, bytes: 144, decode: k::q4 },
    Type { name: "Q5_K", id: 13, values: 256, bytes: 176, decode: k::q5 },
    Type { name: "Q6_K", id: 14, values: 256, bytes: 210, decode: k::q6 },
    Type { name: "IQ2_XXS", id: 16, values: 256, bytes: 66, decode: iq::iq2_xxs },
    Type { name: "IQ2_XS", id: 17, values: 256, bytes: 74, decode: iq::iq2_xs },
    Type { name: "IQ3_XXS", id: 18, values: 256, bytes: 98, decode: iq::iq3_xxs },
    Type { name: "IQ1_S", id: 19, values: 256, bytes: 50, decode: iq::iq1_s },
    Type { name: "IQ4_NL", id: 20, values: 32, bytes: 18, decode: fp4::iq4_nl },
    Type { name: "IQ3_S", id: 21, values: 256, bytes: 110, decode: iq::iq3_s },
    Type { name: "IQ2_S", id: 22, values: 256, bytes: 82, decode: iq::iq2_s },
    Type { name: "IQ4_XS", id: 23, values: 256, bytes: 136, decode: fp4::iq4_xs },
    Type { name: "IQ1_M", id: 29, values: 256, bytes: 56, decode: iq::iq1_m },
    Type { name: "TQ1_0", id: 34, values: 256, bytes: 54, decode: ternary::tq1_0 },
    Type { name: "TQ2_0", id: 35, values: 256, bytes: 66, decode: ternary::tq2_0 },
    Type { name: "MXFP4", id: 39, values: 32, bytes: 17, decode: fp4::mxfp4 },
    Type { name: "NVFP4", id: 40, values: 64, bytes: 36, decode: fp4::nvfp4 },
    Type { name: "Q8_1", id: 9, values: 32, bytes: 36, decode: legacy::q8_1 },
];

/// One of GGML's block formats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockType(u8);

impl BlockType {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..TYPES.len() as u8).map(Self)
    }

    /// The one with this number in a GGUF file.
    pub fn of_gguf(id: u32) -> Option<Self> {
        Self::all().find(|one| one.entry().id == id)
    }

    /// The one with llama.cpp's name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|one| one.name() == name)
    }

    /// Its number in a GGUF file.
    pub(super) fn id(self) -> u32 {
        self.entry().id
    }

    fn entry(self) -> &'static Type {
        &TYPES[usize::from(self.0)]
    }

    /// llama.cpp's name: `Q4_K`.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// Values of a block.
    pub fn values(self) -> usize {
        self.entry().values
    }

    /// Bytes of a block.
    pub fn bytes(self) -> usize {
        self.entry().bytes
    }

    /// Decodes values `first ..` of a run of blocks into `out`, NaN and Inf as they are; blocks that are cut are decoded whole.
    pub(crate) fn decode(self, blocks: &[u8], first: usize, out: &mut [f32]) {
        /// Values of the largest block.
        const LARGEST: usize = 256;
        let Type { values, bytes, decode, .. } = *self.entry();
        let mut block = first / values;
        let mut skip = first % values;
        let mut done = 0;
        while done < out.len() {
            let Some(stored) = blocks.get(block * bytes..(block + 1) * bytes) else { return };
            let count = (values - skip).min(out.len() - done);
            let to = &mut out[done..done + count];
            if count == values {
                decode(stored, to);
            } else {
                let mut whole = [0.0; LARGEST];
                decode(stored, &mut whole[..values]);
                to.copy_from_slice(&whole[skip..skip + count]);
            }
            (block, skip, done) = (block + 1, 0, done + count);
        }
    }
}

impl fmt::Debug for BlockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Half precision at `at`.
fn f16(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_bits(u16_at(bytes, at)).to_f32()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Calls `f` with each value's place and its 4-bit code: the low halves of the bytes first, then the high ones.
#[inline(always)]
fn nibbles(bytes: &[u8], mut f: impl FnMut(usize, u8)) {
    for (at, byte) in bytes.iter().enumerate() {
        f(at, byte & 15);
        f(at + bytes.len(), byte >> 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of gguf 0.19, made by `tests/fixtures/ggml/make.py`.
    #[test]
    fn blocks_decode_as_the_gguf_package_does() {
        let mut rest: &[u8] = include_bytes!("../../../tests/fixtures/ggml/blocks.bin");
        let mut seen = 0;
        while !rest.is_empty() {
            let name = std::str::from_utf8(&rest[..16]).unwrap().trim_end_matches('\0');
            let kind = BlockType::named(name).unwrap();
            let (blocks, after) = rest[16..].split_at(4 * kind.bytes());
            let (values, after) = after.split_at(4 * 4 * kind.values());
            let expected: Vec<u32> = values.as_chunks::<4>().0.iter().map(|&four| u32::from_le_bytes(four)).collect();
            let mut found = vec![0.0; 4 * kind.values()];
            kind.decode(blocks, 0, &mut found);
            for (at, (found, &expected)) in found.iter().zip(&expected).enumerate() {
                // −0 and 0 are the same value.
                assert_eq!(found + 0.0, f32::from_bits(expected) + 0.0, "{name} at {at}");
            }
            // From the middle of a block on.
            let mut some = vec![0.0; kind.values()];
            kind.decode(blocks, kind.values() / 2, &mut some);
            assert_eq!(some, found[kind.values() / 2..][..kind.values()], "{name}");
            (rest, seen) = (after, seen + 1);
        }
        assert_eq!(seen, TYPES.len() - 1, "every format but Q8_1, which the package does not decode");
    }

    #[test]
    fn numbers_and_names_are_unique() {
        for one in BlockType::all() {
            assert_eq!(BlockType::of_gguf(one.entry().id), Some(one));
            assert_eq!(BlockType::named(one.name()), Some(one));
        }
    }
}
