//! bitsandbytes' 8 bits (LLM.int8): `w[o, i] = q[o, i] · SCB[o] / 127`.

use super::{Beside, Decode, Packed, float, matrix};
use crate::checkpoint::{Dtype, Tensor};
use std::ops::Range;
use std::sync::Arc;

#[derive(Debug)]
struct Int8 {
    inputs: usize,
    scales: Dtype,
}

pub(super) fn find(beside: &Beside, module: &str, codes: &Tensor) -> Option<Result<Packed, String>> {
    let (at, maxima) = beside.get(module, ".SCB")?;
    let check = || {
        let [out, inputs] = matrix(codes)?;
        super::scale(maxima)?;
        if codes.dtype != Dtype::I8 || maxima.elements() != out as u64 {
            return Err(format!(
                "found {} of {} and {} row maxima, expected I8 and {out}",
                codes.name,
                codes.dtype,
                maxima.elements()
            ));
        }
        Ok(Packed {
            name: module.to_owned(),
            shape: vec![out, inputs],
            dtype: Dtype::Int8,
            about: "bitsandbytes, 8 bits, a scale a row".to_owned(),
            original: Dtype::F16,
            parts: vec![beside.position(codes), at],
            decode: Arc::new(Int8 { inputs, scales: maxima.dtype }),
        })
    };
    Some(check())
}

impl Decode for Int8 {
    fn rows(&self, parts: &[&[u8]], rows: Range<usize>, out: &mut [f32]) {
        for (row, out) in rows.zip(out.chunks_exact_mut(self.inputs)) {
            let scale = float(self.scales, parts[1], row) / 127.0;
            let codes = &parts[0][row * self.inputs..][..self.inputs];
            out.iter_mut().zip(codes).for_each(|(out, &code)| *out = f32::from(code.cast_signed()) * scale);
        }
    }
}
