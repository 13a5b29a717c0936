//! MXFP4 as gpt-oss stores its experts: `<w>_blocks [experts, out, groups, 16]`, two e2m1 codes a byte, the low half first, and
//! `<w>_scales [experts, out, groups]`, e8m0. The parameter that they stand for is `<w> [experts, in, out]`, in = 32 · groups.

use super::{Beside, Decode, E2M1, Packed, e8m0, shaped};
use crate::checkpoint::{Dtype, Tensor};
use std::ops::Range;
use std::sync::Arc;

#[derive(Debug)]
struct Mxfp4 {
    out: usize,
    groups: usize,
}

pub(super) fn find(beside: &Beside, module: &str, codes: &Tensor) -> Option<Result<Packed, String>> {
    let (at, scales) = beside.get(module, "_scales")?;
    let check = || {
        let [experts, out, groups, 16] = codes.shape[..] else {
            return Err(format!(
                "found shape {:?} of {}, expected [experts, out, groups, 16]",
                codes.shape, codes.name
            ));
        };
        shaped(scales, &[experts, out, groups])?;
        if codes.dtype != Dtype::U8 || scales.dtype != Dtype::U8 {
            return Err(format!("found codes of {} and scales of {}, expected U8", codes.dtype, scales.dtype));
        }
        Ok(Packed {
            name: module.to_owned(),
            shape: vec![experts, 32 * groups, out],
            dtype: Dtype::Mxfp4,
            about: "MXFP4, groups of 32".to_owned(),
            original: Dtype::BF16,
            parts: vec![beside.position(codes), at],
            decode: Arc::new(Mxfp4 { out, groups }),
        })
    };
    Some(check())
}

impl Decode for Mxfp4 {
    /// A row is an expert.
    fn rows(&self, parts: &[&[u8]], rows: Range<usize>, out: &mut [f32]) {
        let width = 32 * self.groups * self.out;
        for (expert, out) in rows.zip(out.chunks_exact_mut(width.max(1))) {
            for row in 0..self.out {
                for group in 0..self.groups {
                    let at = (expert * self.out + row) * self.groups + group;
                    let scale = e8m0(parts[1][at]);
                    for (place, byte) in parts[0][16 * at..][..16].iter().enumerate() {
                        let input = 32 * group + 2 * place;
                        out[input * self.out + row] = scale * E2M1[usize::from(byte & 15)];
                        out[(input + 1) * self.out + row] = scale * E2M1[usize::from(byte >> 4)];
                    }
                }
            }
        }
    }
}
