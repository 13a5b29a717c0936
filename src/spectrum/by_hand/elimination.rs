//! Gaussian elimination, a step at a time: the rank is the number of pivots.
//!
//! As by hand, the first row that has something in the column becomes the pivot row; a program for large matrices would take
//! the row with the largest entry, which keeps rounding small but makes every number a fraction.

use super::{Three, largest};

/// A value under this share of the largest entry is what rounding has left of zero.
const ZERO: f64 = 1e-10;

/// What one step does to the rows, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    /// Two rows change places.
    Swap(usize, usize),
    /// `row ← row − factor · pivot`.
    Subtract {
        /// The row that changes.
        row: usize,
        /// The row that is taken away from it.
        pivot: usize,
        /// How many times.
        factor: f64,
    },
}

/// One step and what it leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What was done.
    pub operation: Operation,
    /// The rows afterwards.
    pub rows: Three,
}

/// A whole elimination.
#[derive(Clone, Debug, PartialEq)]
pub struct Elimination {
    /// What was begun with.
    pub rows: Three,
    /// The steps, in order; none for a matrix that is in echelon form already.
    pub steps: Vec<Step>,
    /// Row and column of each pivot, in order.
    pub pivots: Vec<[usize; 2]>,
}

impl Elimination {
    /// How many columns are independent.
    pub fn rank(&self) -> usize {
        self.pivots.len()
    }

    /// The rows after `steps` steps.
    pub fn after(&self, steps: usize) -> &Three {
        match steps.min(self.steps.len()) {
            0 => &self.rows,
            n => &self.steps[n - 1].rows,
        }
    }

    /// The columns that no sum of the columns before them makes.
    pub fn independent(&self) -> impl Iterator<Item = usize> + '_ {
        self.pivots.iter().map(|&[_, column]| column)
    }
}

/// Eliminates below each pivot, down to echelon form.
pub fn eliminate(rows: &Three) -> Elimination {
    let zero = ZERO * largest(rows);
    let (mut now, mut steps, mut pivots) = (*rows, Vec::new(), Vec::new());
    let mut at = 0;
    for column in 0..3 {
        let Some(found) = (at..3).find(|&row| now[row][column].abs() > zero) else { continue };
        if found != at {
            now.swap(found, at);
            steps.push(Step { operation: Operation::Swap(at, found), rows: now });
        }
        for row in at + 1..3 {
            if now[row][column].abs() <= zero {
                continue;
            }
            let factor = now[row][column] / now[at][column];
            let above = now[at];
            for (value, above) in now[row].iter_mut().zip(above) {
                let rest = *value - factor * above;
                *value = if rest.abs() <= zero { 0.0 } else { rest };
            }
            now[row][column] = 0.0;
            steps.push(Step { operation: Operation::Subtract { row, pivot: at, factor }, rows: now });
        }
        pivots.push([at, column]);
        at += 1;
        if at == 3 {
            break;
        }
    }
    Elimination { rows: *rows, steps, pivots }
}

#[cfg(test)]
mod tests {
    use super::super::matrix;
    use super::*;
    use crate::delta::{DeltaWeight, Dense};
    use crate::spectrum::{Options, spectrum};
    use std::sync::Arc;

    #[test]
    fn the_steps_by_hand() {
        let found = eliminate(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]);
        assert_eq!(found.rank(), 2);
        let operations: Vec<Operation> = found.steps.iter().map(|s| s.operation).collect();
        assert_eq!(
            operations,
            [
                Operation::Subtract { row: 1, pivot: 0, factor: 4.0 },
                Operation::Subtract { row: 2, pivot: 0, factor: 7.0 },
                Operation::Subtract { row: 2, pivot: 1, factor: 2.0 },
            ]
        );
        assert_eq!(found.after(9), &[[1.0, 2.0, 3.0], [0.0, -3.0, -6.0], [0.0, 0.0, 0.0]]);
        assert_eq!(found.independent().collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn rows_change_places_and_columns_are_left_out() {
        let found = eliminate(&[[0.0, 0.0, 2.0], [0.0, 3.0, 1.0], [0.0, 6.0, 4.0]]);
        assert_eq!(found.steps[0].operation, Operation::Swap(0, 1));
        assert_eq!(found.pivots, [[0, 1], [1, 2]]);
        assert_eq!(found.rank(), 2);
        assert_eq!(eliminate(&[[0.0; 3]; 3]).rank(), 0);
    }

    #[test]
    fn the_rank_is_that_of_the_spectrum() {
        let rows = [
            [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 10.0]],
            [[0.1, 0.2, 0.3], [0.2, 0.4, 0.6], [0.7, 1.4, 2.1]],
            [[2.0, 1.0, 0.0], [4.0, 2.0, 1.0], [6.0, 3.0, 1.0]],
            [[0.3, -0.7, 0.1], [0.0, 0.0, 0.0], [1.5, 2.5, -3.5]],
        ];
        for m in rows {
            let dense = Dense { matrix: Arc::new(matrix(&m)), epsilon: f64::from(f32::EPSILON), rounding_std: None };
            let found = spectrum(&DeltaWeight::Dense(dense), &Options::default(), &()).unwrap();
            assert_eq!(Some(eliminate(&m).rank()), found.ranks().numerical, "{m:?}: {:?}", found.sigma);
        }
    }
}
