//! Chapter 5: the rank of a matrix that can be edited, by elimination and by singular values.

use crate::spectrum::by_hand::{Elimination, Svd, Three, eliminate, svd};

/// Rank 3, and one number away from rank 2.
const START: Three = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 10.0]];

/// The chapter's matrix and everything that was counted in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rank {
    rows: Three,
    elimination: Elimination,
    svd: Svd,
}

impl Default for Rank {
    fn default() -> Self {
        Self::of(START)
    }
}

impl Rank {
    fn of(rows: Three) -> Self {
        Self { rows, elimination: eliminate(&rows), svd: svd(&rows) }
    }

    /// Another value in a cell.
    pub fn edit(&mut self, row: usize, col: usize, value: f64) {
        let mut rows = self.rows;
        rows[row][col] = value;
        *self = Self::of(rows);
    }

    /// The matrix.
    pub fn rows(&self) -> &Three {
        &self.rows
    }

    /// Its elimination.
    pub fn elimination(&self) -> &Elimination {
        &self.elimination
    }

    /// Its singular values.
    pub fn svd(&self) -> &Svd {
        &self.svd
    }

    /// Cells that are not as at first.
    pub fn changed(&self) -> usize {
        self.rows.iter().flatten().zip(START.iter().flatten()).filter(|(now, then)| now != then).count()
    }

    /// Rank 2 with one changed number.
    pub fn reached(&self) -> bool {
        self.changed() == 1 && self.elimination.rank() == 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_takes_a_rank_away() {
        let mut rank = Rank::default();
        assert_eq!((rank.elimination().rank(), rank.svd().rank()), (3, 3));
        rank.edit(2, 2, 9.001);
        assert_eq!((rank.elimination().rank(), rank.svd().rank()), (3, 3), "a thousandth is enough for full rank");
        assert!(!rank.reached());
        rank.edit(2, 2, 9.0);
        assert_eq!((rank.elimination().rank(), rank.svd().rank()), (2, 2));
        assert!(rank.reached());
        rank.edit(0, 0, 5.0);
        assert!(!rank.reached());
    }
}
