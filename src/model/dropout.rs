//! [`Dropout`]: which values are left out, from a seed and their place alone, so that a pass backward leaves out the same.

use super::ops::{Buf, Pool};
use crate::hash::mixed;
use rayon::prelude::*;

/// Leaves out values with probability `p` and multiplies the others by `1 / (1 − p)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability, below 1.
    pub p: f32,
    /// Changes with every micro-batch.
    pub seed: u64,
}

impl Dropout {
    /// What the place of a value is mixed with.
    pub(super) fn key(&self, place: usize) -> u64 {
        mixed(self.seed ^ mixed(place as u64 + 1))
    }

    /// In place; `place` tells apart the layers of a model.
    pub fn apply(&self, values: &mut [f32], place: usize) {
        let key = self.key(place);
        let limit = (f64::from(self.p) * 4_294_967_296.0) as u64;
        let scale = 1.0 / (1.0 - self.p);
        values.par_chunks_mut(1 << 14).enumerate().for_each(|(chunk, values)| {
            for (value, at) in values.iter_mut().zip((chunk << 14) as u64..) {
                *value *= if mixed(key ^ at) >> 32 < limit { 0.0 } else { scale };
            }
        });
    }

    /// A copy with values left out.
    pub fn applied(&self, pool: &Pool, values: &[f32], place: usize) -> Buf {
        let mut copy = pool.copy(values);
        self.apply(&mut copy, place);
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_places_and_the_right_share() {
        let dropout = Dropout { p: 0.25, seed: 5 };
        let (mut once, mut twice) = (vec![1f32; 100_000], vec![1f32; 100_000]);
        dropout.apply(&mut once, 3);
        dropout.apply(&mut twice, 3);
        assert_eq!(once, twice);
        let out = once.iter().filter(|&&x| x == 0.0).count();
        assert!((24_000..26_000).contains(&out), "{out}");
        assert!(once.iter().all(|&x| x == 0.0 || x == 1.0 / 0.75));
        dropout.apply(&mut twice, 4);
        assert!(twice.iter().filter(|&&x| x == 0.0).count() > 40_000);
    }
}
