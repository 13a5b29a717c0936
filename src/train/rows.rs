//! [`Rows`]: token ids with what is to be predicted, and the order in which a run sees them.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// One sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Token ids.
    pub ids: Vec<u32>,
    /// The same, or −100 where nothing is to be predicted.
    pub labels: Vec<i32>,
}

impl Row {
    /// Everything is to be predicted.
    pub fn all(ids: Vec<u32>) -> Self {
        let labels = ids.iter().map(|&id| id as i32).collect();
        Self { ids, labels }
    }

    /// Tokens that are predicted: the first one never is.
    pub fn predictions(&self) -> usize {
        self.labels.iter().skip(1).filter(|&&label| label >= 0).count()
    }
}

/// Sequences of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// In the order of the file.
    pub rows: Vec<Row>,
}

/// Sequences side by side, `[batch, seq]`, padded at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Padded {
    /// Token ids; 0 where there is nothing.
    pub ids: Vec<u32>,
    /// −100 where nothing is to be predicted.
    pub labels: Vec<i32>,
    /// The longest of the sequences.
    pub seq: usize,
    /// Tokens without padding.
    pub tokens: usize,
}

impl Rows {
    /// The rows at places `first..first + count` of the endless order: epoch after epoch, each shuffled anew from the
    /// seed, or not at all.
    pub fn at(&self, first: usize, count: usize, seed: Option<u64>) -> Vec<&Row> {
        let mut found = Vec::with_capacity(count);
        let mut order: (usize, Vec<usize>) = (usize::MAX, Vec::new());
        for place in first..first + count {
            let (epoch, at) = (place / self.rows.len(), place % self.rows.len());
            if order.0 != epoch {
                order = (epoch, (0..self.rows.len()).collect());
                if let Some(seed) = seed {
                    let mut rng =
                        StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(epoch as u64));
                    order.1.shuffle(&mut rng);
                }
            }
            found.push(&self.rows[order.1[at]]);
        }
        found
    }

    /// Side by side. Padding comes last, so that nothing that counts can see it.
    pub fn pad(rows: &[&Row]) -> Padded {
        let seq = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        let mut padded = Padded { seq, ..Padded::default() };
        for row in rows {
            padded.tokens += row.ids.len();
            padded.ids.extend(&row.ids);
            padded.labels.extend(&row.labels);
            padded.ids.resize(padded.ids.len() + seq - row.ids.len(), 0);
            padded.labels.resize(padded.ids.len(), -100);
        }
        padded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_has_every_row_once() {
        let rows = Rows { rows: (0..10).map(|i| Row::all(vec![i; 3])).collect() };
        let first = |rows: Vec<&Row>| rows.iter().map(|row| row.ids[0]).collect::<Vec<_>>();
        assert_eq!(first(rows.at(8, 4, None)), [8, 9, 0, 1]);
        let epochs = first(rows.at(0, 20, Some(1)));
        for epoch in epochs.chunks(10) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(epochs[..10], epochs[10..]);
        assert_eq!(first(rows.at(7, 6, Some(1))), epochs[7..13]);
    }

    #[test]
    fn padding_asks_nothing() {
        let rows = [Row::all(vec![5, 6, 7]), Row::all(vec![8])];
        let padded = Rows::pad(&[&rows[0], &rows[1]]);
        assert_eq!((padded.ids, padded.seq, padded.tokens), (vec![5, 6, 7, 8, 0, 0], 3, 4));
        assert_eq!(padded.labels, [5, 6, 7, 8, -100, -100]);
    }
}
