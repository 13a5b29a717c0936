//! [`Rows`]: token ids with what is to be predicted, and the order in which a run sees them.

use super::Settings;
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
    /// Where several rows of the data are packed into this one: their first tokens, but for the first row's. Nothing sees or
    /// predicts across.
    pub breaks: Vec<u32>,
}

impl Row {
    /// Everything is to be predicted.
    pub fn all(ids: Vec<u32>) -> Self {
        let labels = ids.iter().map(|&id| id as i32).collect();
        Self { ids, labels, breaks: Vec::new() }
    }

    /// Tokens that are predicted: the first one never is.
    pub fn predictions(&self) -> usize {
        let begins = |at: usize| at == 0 || self.breaks.binary_search(&(at as u32)).is_ok();
        self.labels.iter().enumerate().filter(|&(at, &label)| label >= 0 && !begins(at)).count()
    }

    /// Goes on with another row.
    fn append(&mut self, other: Row) {
        let at = self.ids.len() as u32;
        self.breaks.push(at);
        self.breaks.extend(other.breaks.iter().map(|begin| begin + at));
        self.ids.extend(other.ids);
        self.labels.extend(other.labels);
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
    /// For every token where in its sequence its row begins; empty where no sequence holds more than one.
    pub starts: Vec<u32>,
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

    /// The rows of the step after `done` others, all micro-batches.
    pub fn of_step(&self, settings: &Settings, done: usize) -> Vec<&Row> {
        let each = settings.batch * settings.accumulate;
        self.at(done * each, each, settings.shuffle.then_some(settings.seed))
    }

    /// Fewer, longer rows of up to `seq` tokens: the longest first, each into the sequence that it leaves least room in (best-fit
    /// decreasing, as TRL packs), equal ones in the order of the file.
    pub fn packed(self, seq: usize) -> Self {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(self.rows[at].ids.len()));
        let mut rows: Vec<Option<Row>> = self.rows.into_iter().map(Some).collect();
        let mut packed: Vec<Row> = Vec::new();
        // Sequences by the room that they have left.
        let mut open: std::collections::BTreeMap<usize, Vec<usize>> = std::collections::BTreeMap::new();
        for at in order {
            let Some(row) = rows[at].take() else { continue };
            let length = row.ids.len();
            let best = open.range(length..).next().map(|(&room, _)| room);
            let (number, room) = match best.and_then(|room| Some((open.get_mut(&room)?.pop()?, room))) {
                Some((number, room)) => {
                    if open.get(&room).is_some_and(Vec::is_empty) {
                        open.remove(&room);
                    }
                    packed[number].append(row);
                    (number, room - length)
                }
                None => {
                    packed.push(row);
                    (packed.len() - 1, seq.saturating_sub(length))
                }
            };
            if room > 0 {
                open.entry(room).or_default().push(number);
            }
        }
        Self { rows: packed }
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
        if rows.iter().any(|row| !row.breaks.is_empty()) {
            for row in rows {
                let mut start = 0;
                let mut breaks = row.breaks.iter().peekable();
                // Every token of padding is a row of its own: it sees only itself.
                padded.starts.extend((0..seq as u32).map(|at| {
                    if breaks.next_if(|begin| **begin == at).is_some() || at as usize >= row.ids.len() {
                        start = at;
                    }
                    start
                }));
            }
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
    fn packing_fits_rows_into_sequences() {
        let lengths = [3, 5, 2, 4, 4, 1];
        let rows = lengths.iter().enumerate().map(|(at, &length)| Row::all(vec![at as u32; length])).collect();
        let packed = Rows { rows }.packed(8);
        // 5, then 4 and 4, 3 beside the 5, 2 and 1 in what is left.
        let ids: Vec<&[u32]> = packed.rows.iter().map(|row| &row.ids[..]).collect();
        assert_eq!(ids, [&[1, 1, 1, 1, 1, 0, 0, 0][..], &[3, 3, 3, 3, 4, 4, 4, 4], &[2, 2, 5]]);
        assert_eq!(packed.rows.iter().map(|row| &row.breaks[..]).collect::<Vec<_>>(), [[5], [4], [2]]);
        // The first token of a row is never predicted: 19 tokens in 6 rows.
        assert_eq!(packed.rows.iter().map(Row::predictions).sum::<usize>(), 13);
        let padded = Rows::pad(&[&packed.rows[2], &packed.rows[1]]);
        assert_eq!(padded.starts, [0, 0, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0, 4, 4, 4, 4]);
        assert!(Rows::pad(&[&Row::all(vec![1, 2])]).starts.is_empty());
    }

    #[test]
    fn padding_asks_nothing() {
        let rows = [Row::all(vec![5, 6, 7]), Row::all(vec![8])];
        let padded = Rows::pad(&[&rows[0], &rows[1]]);
        assert_eq!((padded.ids, padded.seq, padded.tokens), (vec![5, 6, 7, 8, 0, 0], 3, 4));
        assert_eq!(padded.labels, [5, 6, 7, 8, -100, -100]);
    }
}
