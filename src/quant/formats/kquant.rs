//! llama.cpp's K-quants, as candle makes them. Its search for the scales is candle's own: bytes may differ from llama.cpp's.

use candle_core::quantized::GgmlType;
pub(super) use candle_core::quantized::k_quants::{BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K};

/// Weights of a super-block.
const BLOCK: usize = 256;

/// `ŵ` of whole super-blocks.
pub(super) fn read<T: GgmlType>(values: &[f32], out: &mut [f32]) {
    let mut blocks = vec![T::zeros(); 1];
    for (values, out) in values.as_chunks::<BLOCK>().0.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        T::from_float(values, &mut blocks);
        T::to_float(&blocks, out);
    }
}
