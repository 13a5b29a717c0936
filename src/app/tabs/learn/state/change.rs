//! Chapter 3: W₀ + ΔW = W, and what the three answer to x.

use crate::spectrum::by_hand::{Three, apply, difference, frobenius, sum};

/// The frozen base.
const BASE: Three = [[2.0, 0.0, 1.0], [1.0, 3.0, 0.0], [0.0, 1.0, 2.0]];
/// What goes in.
pub const INPUT: [f64; 3] = [1.0, 1.0, 1.0];
/// What should come out.
pub const WISH: [f64; 3] = [6.0, 4.0, 1.0];

/// An edited cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Edit {
    /// Of ΔW.
    Delta(usize, usize, f64),
    /// Of W: ΔW follows.
    Tuned(usize, usize, f64),
}

/// The matrices of the chapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    base: Three,
    delta: Three,
}

impl Default for Change {
    fn default() -> Self {
        Self { base: BASE, delta: [[0.0; 3]; 3] }
    }
}

impl Change {
    /// Takes in an edit.
    pub fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Delta(i, j, value) => self.delta[i][j] = value,
            Edit::Tuned(i, j, value) => {
                let mut tuned = self.tuned();
                tuned[i][j] = value;
                // To the thousandth, as cells are edited: 0.3 − 0.1 is 0.2 here.
                self.delta[i][j] = (difference(&tuned, &self.base)[i][j] * 1000.0).round() / 1000.0;
            }
        }
    }

    /// W₀.
    pub fn base(&self) -> &Three {
        &self.base
    }

    /// ΔW.
    pub fn delta(&self) -> &Three {
        &self.delta
    }

    /// W.
    pub fn tuned(&self) -> Three {
        sum(&self.base, &self.delta)
    }

    /// W₀ x, ΔW x and their sum, which is W x.
    pub fn answers(&self) -> [[f64; 3]; 3] {
        [apply(&self.base, INPUT), apply(&self.delta, INPUT), apply(&self.tuned(), INPUT)]
    }

    /// ‖ΔW‖ as a share of ‖W₀‖.
    pub fn size(&self) -> f64 {
        frobenius(&self.delta) / frobenius(&self.base)
    }

    /// Cells of ΔW that are not zero.
    pub fn changed(&self) -> usize {
        self.delta.iter().flatten().filter(|&&x| x != 0.0).count()
    }

    /// The wished answer is given.
    pub fn reached(&self) -> bool {
        self.answers()[2].iter().zip(WISH).all(|(found, wished)| (found - wished).abs() < 1e-6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_side_can_be_edited() {
        let mut change = Change::default();
        assert_eq!(change.answers(), [[3.0, 4.0, 3.0], [0.0; 3], [3.0, 4.0, 3.0]]);
        assert!(!change.reached());
        change.edit(Edit::Delta(0, 1, 3.0));
        change.edit(Edit::Tuned(2, 2, 0.0));
        assert_eq!(change.delta()[2][2], -2.0);
        assert_eq!(change.tuned()[0], [2.0, 3.0, 1.0]);
        assert_eq!(change.answers()[2], WISH);
        assert!(change.reached() && change.changed() == 2 && change.base() == &BASE);
        assert!((change.size() - (13.0f64 / 20.0).sqrt()).abs() < 1e-12);
    }
}
