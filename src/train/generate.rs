//! [`generate`]: one token after the other.

use crate::error::{Error, Result};
use crate::model::{Decoder, Engine};
use crate::progress::Progress;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How tokens are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// How many at most.
    pub most: usize,
    /// Logits are divided by it; 0 always takes the likeliest.
    pub temperature: f32,
    /// Of the draws.
    pub seed: u64,
    /// Ends the text, and is not part of it.
    pub eos: Option<u32>,
}

/// The ids that come after `ids`.
///
/// # Errors
/// As [`stream`].
pub fn generate(
    engine: &dyn Engine,
    decoder: &Decoder,
    ids: &[u32],
    sampling: Sampling,
    progress: &dyn Progress,
) -> Result<Vec<u32>> {
    stream(engine, decoder, ids, sampling, progress, &mut |_| Ok(()))
}

/// The same; `each` sees all new ids after each of them.
///
/// # Errors
/// No ids, ids outside the vocabulary, a prompt longer than the model allows, logits that are not numbers; memory that does
/// not suffice; what `each` says; and cancellation.
pub fn stream(
    engine: &dyn Engine,
    decoder: &Decoder,
    ids: &[u32],
    sampling: Sampling,
    progress: &dyn Progress,
    each: &mut dyn FnMut(&[u32]) -> Result<()>,
) -> Result<Vec<u32>> {
    if ids.is_empty() {
        return Err(Error::usage("the prompt has no tokens; expected at least one"));
    }
    let limit = decoder.spec.max_positions;
    let mut sequence = engine.sequence(decoder, (ids.len() + sampling.most).min(limit))?;
    let room = limit.saturating_sub(ids.len()).min(sampling.most);
    let mut rng = StdRng::seed_from_u64(sampling.seed);
    let mut all = ids.to_vec();
    let mut new = all.len();
    for at in 0..room {
        progress.step(at as u64, room as u64)?;
        let logits = sequence.next(&all, new)?;
        let id = choose(&logits, sampling.temperature, &mut rng)?;
        if sampling.eos == Some(id) {
            break;
        }
        new = 1;
        all.push(id);
        each(&all[ids.len()..])?;
    }
    Ok(all.split_off(ids.len()))
}

fn choose(logits: &[f32], temperature: f32, rng: &mut StdRng) -> Result<u32> {
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a)));
    let Some(best) = best.filter(|&best| logits[best].is_finite()) else {
        return Err(Error::failure("the model's logits are not numbers"));
    };
    if temperature == 0.0 {
        return Ok(best as u32);
    }
    let weight = |logit: f32| f64::from((logit - logits[best]) / temperature).exp();
    let mut left = rng.random::<f64>() * logits.iter().map(|&logit| weight(logit)).sum::<f64>();
    for (id, &logit) in logits.iter().enumerate() {
        left -= weight(logit);
        if left < 0.0 {
            return Ok(id as u32);
        }
    }
    Ok(best as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperature_decides() {
        let mut rng = StdRng::seed_from_u64(1);
        let logits = [0.0, 2.0, 1.0];
        assert!((0..20).all(|_| choose(&logits, 0.0, &mut rng).unwrap() == 1));
        let drawn: Vec<u32> = (0..3000).map(|_| choose(&logits, 1.0, &mut rng).unwrap()).collect();
        // softmax of 0, 2, 1: 0.090, 0.665, 0.245
        let share = |id| drawn.iter().filter(|&&found| found == id).count() as f64 / 3000.0;
        assert!((share(0) - 0.090).abs() < 0.03 && (share(1) - 0.665).abs() < 0.03, "{} {}", share(0), share(1));
        assert!(choose(&[f32::NAN; 3], 1.0, &mut rng).is_err());
    }
}
