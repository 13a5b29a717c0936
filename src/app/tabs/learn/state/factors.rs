//! Chapter 4: ΔW = B A at rank 1, and two wishes: one that rank 1 can say and one that it cannot.

use crate::spectrum::by_hand::{Svd, Three, difference, frobenius, outer, svd};

/// What ΔW should become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Rows that are multiples of one row.
    Outer,
    /// A diagonal: three directions of the same strength.
    Diagonal,
}

impl Wish {
    /// The matrix.
    pub fn matrix(self) -> Three {
        match self {
            Self::Outer => [[2.0, 4.0, -2.0], [1.0, 2.0, -1.0], [3.0, 6.0, -3.0]],
            Self::Diagonal => [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]],
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Edit {
    /// A number of B.
    B(usize, f64),
    /// A number of A.
    A(usize, f64),
    /// The other wish.
    Wish(Wish),
}

/// The chapter's numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    b: [f64; 3],
    a: [f64; 3],
    wish: Wish,
    parts: Svd,
    said: bool,
    closest: bool,
}

impl Default for Factors {
    fn default() -> Self {
        let wish = Wish::Outer;
        Self { b: [1.0, 1.0, 1.0], a: [1.0, 0.0, 1.0], wish, parts: svd(&wish.matrix()), said: false, closest: false }
    }
}

/// As close as rank 1 can come, to this share.
const CLOSE: f64 = 1.02;

impl Factors {
    /// Takes in an edit.
    pub fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::B(i, value) => self.b[i] = value,
            Edit::A(j, value) => self.a[j] = value,
            Edit::Wish(wish) => {
                self.wish = wish;
                self.parts = svd(&wish.matrix());
            }
        }
        match self.wish {
            Wish::Outer => self.said |= self.error() < 1e-6,
            Wish::Diagonal => self.closest |= self.error() <= CLOSE * self.floor(),
        }
    }

    /// B.
    pub fn b(&self) -> [f64; 3] {
        self.b
    }

    /// A.
    pub fn a(&self) -> [f64; 3] {
        self.a
    }

    /// What ΔW should be.
    pub fn wish(&self) -> Wish {
        self.wish
    }

    /// B A.
    pub fn delta(&self) -> Three {
        outer(self.b, self.a)
    }

    /// What is missing.
    pub fn rest(&self) -> Three {
        difference(&self.wish.matrix(), &self.delta())
    }

    /// ‖wish − B A‖.
    pub fn error(&self) -> f64 {
        frobenius(&self.rest())
    }

    /// The smallest error of any matrix of rank 1, by Eckart and Young: √(σ₂² + σ₃²).
    pub fn floor(&self) -> f64 {
        let [_, second, third] = self.parts.sigma;
        second.hypot(third)
    }

    /// The first wish was said; the second was come as close to as can be.
    pub fn steps(&self) -> [bool; 2] {
        [self.said, self.closest]
    }

    /// Both.
    pub fn reached(&self) -> bool {
        self.said && self.closest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wish_can_be_said_and_the_other_cannot() {
        let mut factors = Factors::default();
        assert!(factors.floor() < 1e-6, "rows that are multiples of one row");
        for (i, value) in [2.0, 1.0, 3.0].into_iter().enumerate() {
            factors.edit(Edit::B(i, value));
        }
        for (j, value) in [1.0, 2.0, -1.0].into_iter().enumerate() {
            factors.edit(Edit::A(j, value));
        }
        assert_eq!(factors.error(), 0.0);
        assert_eq!(factors.steps(), [true, false]);
        factors.edit(Edit::Wish(Wish::Diagonal));
        assert!((factors.floor() - 8f64.sqrt()).abs() < 1e-9 && !factors.reached());
        for (k, value) in [1.0, 0.0, 0.0].into_iter().enumerate() {
            factors.edit(Edit::B(k, 2.0 * value));
            factors.edit(Edit::A(k, value));
        }
        assert!((factors.error() - factors.floor()).abs() < 1e-9 && factors.reached());
        // No other B and A come closer.
        for seed in 0..200u32 {
            let at = |i: u32| f64::from((seed * 7919 + i * 104_729) % 401) / 100.0 - 2.0;
            let some = outer([at(0), at(1), at(2)], [at(3), at(4), at(5)]);
            assert!(frobenius(&difference(&Wish::Diagonal.matrix(), &some)) >= factors.floor() - 1e-9);
        }
    }
}
