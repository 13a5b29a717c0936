//! Held-out rows: a share of the same data, and what a model may be asked from them.

use super::rows::{Labels, Row, Rows};
use super::text::Text;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

/// The share of a data set that is held out: 0 to below 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct HoldOut(f64);

impl HoldOut {
    /// Nothing.
    pub const NONE: Self = Self(0.0);
    /// A tenth.
    pub const TENTH: Self = Self(0.1);

    /// The share.
    pub fn share(self) -> f64 {
        self.0
    }

    /// Takes the rows out that are held out: the same ones for the same seed and number of rows, in the order of the file. At
    /// least one of two or more rows is held out where the share is above 0, and at least one stays.
    pub fn take(self, rows: &mut Rows, seed: u64) -> Rows {
        let count = rows.rows.len();
        let some =
            ((count as f64 * self.0).round() as usize).max(usize::from(self.0 > 0.0)).min(count.saturating_sub(1));
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(&mut StdRng::seed_from_u64(seed ^ 0x686f_6c64_6f75_7400));
        let mut out = vec![false; count];
        order[..some].iter().for_each(|&at| out[at] = true);
        let all = std::mem::take(&mut rows.rows).into_iter().zip(out);
        let (held, kept): (Vec<_>, Vec<_>) = all.partition(|(_, out)| *out);
        rows.rows = kept.into_iter().map(|(row, _)| row).collect();
        Rows { rows: held.into_iter().map(|(row, _)| row).collect() }
    }
}

impl TryFrom<f64> for HoldOut {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        let good = (0.0..1.0).contains(&share);
        if good { Ok(Self(share)) } else { Err(format!("{share}; expected a share from 0 to below 1, or percents")) }
    }
}

impl From<HoldOut> for f64 {
    fn from(share: HoldOut) -> Self {
        share.0
    }
}

/// `10%` or `0.1`.
impl std::str::FromStr for HoldOut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text}; expected a share such as 10% or 0.1");
        let (number, percent) = match text.trim().strip_suffix('%') {
            Some(number) => (number, true),
            None => (text, false),
        };
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        Self::try_from(if percent { number / 100.0 } else { number }).map_err(|_| wrong())
    }
}

impl std::fmt::Display for HoldOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", (self.0 * 1e4).round() / 100.0)
    }
}

/// Tokens of a text that stand for its beginning where all of it is predicted.
const BEGINNING: usize = 8;

/// What the first `count` rows are asked with: what stands before the last part that is predicted, or a text's first words.
pub fn prompts(rows: &Rows, text: &Text, count: usize) -> Vec<String> {
    let asked = |row: &Row| {
        let begin = match &row.labels {
            Labels::Between(from, _) => *from as usize,
            Labels::Within(places) => places.last().map_or(0, |(from, _)| *from as usize),
            Labels::Given(labels) => labels.iter().position(|label| *label >= 0).unwrap_or(0),
        };
        let begin = if begin < 2 { BEGINNING.min(row.ids.len()) } else { begin };
        text.typed(row.ids.get(..begin)?).ok().filter(|words| !words.trim().is_empty())
    };
    let mut found: Vec<String> = Vec::new();
    for prompt in rows.rows.iter().filter_map(asked) {
        if found.len() == count {
            break;
        }
        if !found.contains(&prompt) {
            found.push(prompt);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_rows_are_held_out_for_a_seed() {
        let rows = || Rows { rows: (0..50).map(|at| Row::all(vec![at; 2])).collect() };
        let split = |share: &str, seed| {
            let mut kept = rows();
            let held = share.parse::<HoldOut>().unwrap().take(&mut kept, seed);
            let ids = |rows: &Rows| rows.rows.iter().map(|row| row.ids[0]).collect::<Vec<_>>();
            (ids(&kept), ids(&held))
        };
        let (kept, held) = split("10%", 1);
        assert_eq!((kept.len(), held.len()), (45, 5));
        assert!(kept.is_sorted() && held.is_sorted() && held.iter().all(|at| !kept.contains(at)));
        assert_eq!(split("0.1", 1).1, held);
        assert_ne!(split("10%", 2).1, held);
        assert_eq!(split("0", 1).1.len(), 0);
        assert_eq!(split("99.9%", 1).0.len(), 1);
        assert!("100%".parse::<HoldOut>().is_err());
        assert_eq!(HoldOut::TENTH.to_string(), "10%");
    }
}
