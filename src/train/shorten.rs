//! [`shorten`]: a decoder's pairs, cut down to their strongest directions.

use crate::delta::DeltaWeight;
use crate::error::Result;
use crate::model::{Decoder, Linear};
use crate::progress::Progress;
use crate::spectrum::{self, Options};

/// Keeps the `r` strongest directions of each pair, `B_i = u_i √(σ_i / s)` and `A_i = √(σ_i / s) v_iᵀ`, and sets the rest to zero.
/// Returns the share of all pairs' energy that is kept, `Σ Σ_{i≤r} σ_i² / Σ Σ σ²`.
///
/// # Errors
/// A decomposition that does not converge; cancellation, after which the decoder is as before.
pub fn shorten(decoder: &mut Decoder, r: usize, progress: &dyn Progress) -> Result<f64> {
    let linears: Vec<&Linear> = decoder.linears().collect();
    let (mut kept, mut all, mut new) = (0.0, 0.0, Vec::new());
    for (index, linear) in linears.iter().enumerate() {
        progress.step(index as u64, linears.len() as u64)?;
        let Some(lora) = linear.pair() else { continue };
        let delta = DeltaWeight::LowRank(lora.low_rank(&decoder.params, linear.shape)?);
        let found = spectrum::spectrum(&delta, &Options { vectors: r.min(lora.r), ..Options::default() }, &())?;
        kept += found.sigma.iter().take(r).map(|s| s * s).sum::<f64>();
        all += found.energy_total();
        let [out, inner] = linear.shape;
        let (mut b, mut a) = (vec![0f32; out * lora.r], vec![0f32; lora.r * inner]);
        if let Some(vectors) = &found.vectors {
            for i in 0..vectors.count() {
                let root = (found.sigma[i] / f64::from(lora.scaling)).sqrt() as f32;
                (0..out).for_each(|row| b[row * lora.r + i] = root * vectors.u.get(row, i));
                (0..inner).for_each(|col| a[i * inner + col] = root * vectors.v.get(col, i));
            }
        }
        new.push((lora.b, b));
        new.push((lora.a, a));
    }
    for (number, value) in new {
        decoder.params.list[number].value = value;
    }
    Ok(if all > 0.0 { kept / all } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::Adapter;
    use crate::checkpoint::Checkpoint;
    use crate::model::Frozen;
    use std::path::Path;

    /// All values of every change, one after the other.
    fn changes(decoder: &Decoder) -> Vec<f32> {
        let one = |linear: &Linear| match linear.delta(&decoder.params).unwrap() {
            Some(delta) => delta.dense(&()).unwrap().data().to_vec(),
            None => Vec::new(),
        };
        decoder.linears().flat_map(one).collect()
    }

    #[test]
    fn what_is_left_out_is_the_energy_that_is_missing() {
        let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        let checkpoint = Checkpoint::open(&fixture("llama")).unwrap();
        let mut decoder = Decoder::load(&checkpoint, Frozen::AsStored, &()).unwrap();
        decoder.attach(&Adapter::open(&fixture("llama-adapter")).unwrap()).unwrap();
        let before = changes(&decoder);
        let norm = |values: &[f32]| values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
        let missing = |decoder: &Decoder| {
            let off: Vec<f32> = changes(decoder).iter().zip(&before).map(|(x, y)| x - y).collect();
            norm(&off) / norm(&before)
        };
        // Everything is kept: only the factors are others.
        assert!((shorten(&mut decoder, 64, &()).unwrap() - 1.0).abs() < 1e-12);
        assert!(missing(&decoder) < 1e-10, "{}", missing(&decoder));
        let energy = shorten(&mut decoder, 2, &()).unwrap();
        assert!(energy < 0.999 && (1.0 - energy - missing(&decoder)).abs() < 1e-5, "{energy} {}", missing(&decoder));
    }
}
