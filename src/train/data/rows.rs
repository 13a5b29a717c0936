//! [`Rows`]: token ids with what is to be predicted, and the order in which a run sees them.

use crate::model::Batch;
use crate::train::Settings;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// One sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Token ids.
    pub ids: Vec<u32>,
    /// What is to be predicted.
    pub labels: Labels,
    /// Where several rows of the data are packed into this one: their first tokens, but for the first row's. Nothing sees or
    /// predicts across.
    pub breaks: Vec<u32>,
}

/// What of a row is to be predicted. Nearly always its own tokens in a few places: a data set then takes little more than its
/// ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labels {
    /// The row's own tokens from this one up to that one.
    Between(u32, u32),
    /// In these places, apart from each other and in order.
    Within(Box<[(u32, u32)]>),
    /// A label for every token, given with the data; −100 where nothing is predicted.
    Given(Box<[i32]>),
}

impl Default for Labels {
    fn default() -> Self {
        Self::none()
    }
}

impl Labels {
    /// Nothing.
    pub const fn none() -> Self {
        Self::Between(0, 0)
    }

    fn places(&self) -> Option<Vec<(u32, u32)>> {
        match self {
            Self::Between(from, to) => Some(vec![(*from, *to)]),
            Self::Within(places) => Some(places.to_vec()),
            Self::Given(_) => None,
        }
    }

    fn of(mut places: Vec<(u32, u32)>) -> Self {
        places.retain(|(from, to)| from < to);
        match places[..] {
            [] => Self::none(),
            [(from, to)] => Self::Between(from, to),
            _ => Self::Within(places.into()),
        }
    }

    /// Token `at` too, which is none before those that are predicted already.
    pub fn add(&mut self, at: usize) {
        let at = at as u32;
        match self {
            Self::Between(from, to) if from == to => (*from, *to) = (at, at + 1),
            Self::Between(from, to) if (*from..=*to).contains(&at) => *to = (*to).max(at + 1),
            Self::Within(places) if places.last().is_some_and(|(from, to)| (*from..=*to).contains(&at)) => {
                if let Some((_, to)) = places.last_mut() {
                    *to = (*to).max(at + 1);
                }
            }
            Self::Given(_) => {}
            _ => {
                let mut places = self.places().unwrap_or_default();
                places.push((at, at + 1));
                *self = Self::of(places);
            }
        }
    }
}

/// Ids in as much memory as they need: an allocator leaves what shrinks where it is, and a data set is millions of rows.
pub(super) fn exact(ids: Vec<u32>) -> Vec<u32> {
    if ids.len() == ids.capacity() { ids } else { ids.as_slice().to_vec() }
}

impl Row {
    /// Everything is to be predicted.
    pub fn all(ids: Vec<u32>) -> Self {
        let labels = Labels::Between(0, ids.len() as u32);
        Self { ids, labels, breaks: Vec::new() }
    }

    /// A label for every token: the token itself, or −100 where nothing is to be predicted.
    pub fn labels(&self) -> Vec<i32> {
        match self.labels.places() {
            Some(places) => {
                let mut labels = vec![-100; self.ids.len()];
                for at in places.into_iter().flat_map(|(from, to)| from as usize..(to as usize).min(self.ids.len())) {
                    labels[at] = self.ids[at] as i32;
                }
                labels
            }
            None => match &self.labels {
                Labels::Given(labels) => labels.to_vec(),
                _ => Vec::new(),
            },
        }
    }

    /// Only the first `count` tokens.
    pub fn truncate(&mut self, count: usize) {
        self.ids.truncate(count);
        self.ids = exact(std::mem::take(&mut self.ids));
        let most = u32::try_from(count).unwrap_or(u32::MAX);
        self.labels = match (self.labels.places(), &self.labels) {
            (Some(places), _) => Labels::of(places.into_iter().map(|(from, to)| (from, to.min(most))).collect()),
            (None, Labels::Given(labels)) => Labels::Given(labels[..count.min(labels.len())].into()),
            (None, _) => Labels::none(),
        };
    }

    /// Tokens that are predicted: the first one never is.
    pub fn predictions(&self) -> usize {
        let begins = |at: usize| at == 0 || self.breaks.binary_search(&(at as u32)).is_ok();
        match self.labels.places() {
            Some(places) => {
                let among = |(from, to): (u32, u32)| {
                    let breaks =
                        self.breaks.partition_point(|at| *at < to) - self.breaks.partition_point(|at| *at < from);
                    ((to - from) as usize).saturating_sub(breaks + usize::from(from == 0 && to > 0))
                };
                places.into_iter().map(among).sum()
            }
            None => self.labels().iter().enumerate().filter(|&(at, &label)| label >= 0 && !begins(at)).count(),
        }
    }

    /// Goes on with another row.
    fn append(&mut self, other: Row) {
        let at = self.ids.len() as u32;
        self.labels = match (self.labels.places(), other.labels.places()) {
            (Some(mut places), Some(others)) => {
                places.extend(others.into_iter().map(|(from, to)| (from + at, to + at)));
                Labels::of(places)
            }
            _ => Labels::Given([self.labels(), other.labels()].concat().into()),
        };
        self.breaks.push(at);
        self.breaks.extend(other.breaks.iter().map(|begin| begin + at));
        self.ids.extend(other.ids);
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

impl Padded {
    /// For a pass.
    pub fn batch(&self) -> Batch<'_> {
        Batch { ids: &self.ids, labels: &self.labels, seq: self.seq, starts: &self.starts }
    }
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
            padded.labels.extend(row.labels());
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
    fn labels_are_kept_as_places() {
        let mut row = Row { ids: vec![7, 8, 9, 10], ..Row::default() };
        assert_eq!((row.labels(), row.predictions()), (vec![-100; 4], 0));
        row.labels.add(0);
        row.labels.add(1);
        assert_eq!((&row.labels, row.predictions()), (&Labels::Between(0, 2), 1));
        row.labels.add(3);
        assert_eq!((row.labels(), row.predictions()), (vec![7, 8, -100, 10], 2));
        let mut given = Row { labels: Labels::Given(vec![-100, 3, 9].into()), ..Row::all(vec![1, 2, 3]) };
        assert_eq!(given.predictions(), 2);
        row.append(given.clone());
        assert_eq!((row.labels(), row.predictions()), (vec![7, 8, -100, 10, -100, 3, 9], 4));
        given.truncate(2);
        assert_eq!((given.ids.clone(), given.labels()), (vec![1, 2], vec![-100, 3]));
        let mut cut = Row::all(vec![1, 2, 3]);
        cut.truncate(2);
        assert_eq!((cut.labels(), cut.predictions()), (vec![1, 2], 1));
    }

    #[test]
    fn padding_asks_nothing() {
        let rows = [Row::all(vec![5, 6, 7]), Row::all(vec![8])];
        let padded = Rows::pad(&[&rows[0], &rows[1]]);
        assert_eq!((padded.ids, padded.seq, padded.tokens), (vec![5, 6, 7, 8, 0, 0], 3, 4));
        assert_eq!(padded.labels, [5, 6, 7, 8, -100, -100]);
    }
}
