//! MXFP4 as gpt-oss stores its experts: `<w>_blocks [experts, out, groups, 16]`, two e2m1 codes a byte, the low half first, and
//! `<w>_scales [experts, out, groups]`, e8m0. The parameter that they stand for is `<w> [experts, in, out]`, in = 32 · groups.

use super::{Beside, Decode, E2M1, Packed, e8m0, shaped};
use crate::checkpoint::{Dtype, Tensor};
use std::ops::Range;
use std::sync::Arc;

#[derive(Debug)]
struct Mxfp4 {
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
            decode: Arc::new(Mxfp4 { groups }),
        })
    };
    Some(check())
}

impl Decode for Mxfp4 {
    /// Rows of all experts, `[out, in]` after `[out, in]`.
    fn rows(&self, parts: &[&[u8]], rows: Range<usize>, out: &mut [f32]) {
        let width = 32 * self.groups;
        for (row, out) in rows.zip(out.chunks_exact_mut(width.max(1))) {
            for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                let at = row * self.groups + group;
                let scale = e8m0(parts[1][at]);
                for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(&parts[0][16 * at..][..16]) {
                    *pair = [byte & 15, byte >> 4].map(|code| scale * E2M1[usize::from(code)]);
                }
            }
        }
    }
}
