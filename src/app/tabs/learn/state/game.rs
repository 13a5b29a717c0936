//! Chapter 6: a rank planted under noise, to be guessed; and what each rule would have said.

use std::sync::Arc;

use crate::delta::{DeltaWeight, Dense};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::spectrum::planted::Planted;
use crate::spectrum::{self, Options, RuleId, Spectrum};

/// Rows and columns of the matrix.
pub const SIDE: usize = 48;
/// The largest planted rank.
const MOST: usize = 10;
/// Where the dial stands at first: above every planted rank.
const START: usize = 16;
/// Standard deviation of the noise.
const NOISE: f64 = 0.1;

/// The rules that are compared.
pub const RULES: [RuleId; 8] = [
    RuleId::Energy90,
    RuleId::Energy95,
    RuleId::Energy99,
    RuleId::Stable,
    RuleId::Effective,
    RuleId::Participation,
    RuleId::Numerical,
    RuleId::GavishDonoho,
];

/// How far the planted directions stand out of the noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Clearly.
    #[default]
    Clear,
    /// The weakest is little above the edge.
    Faint,
    /// The weakest is below it.
    Drowned,
}

impl Level {
    /// Strongest and weakest, in units of the noise edge.
    fn strengths(self) -> [f64; 2] {
        match self {
            Self::Clear => [5.0, 2.0],
            Self::Faint => [2.6, 1.25],
            Self::Drowned => [1.7, 0.7],
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The dial.
    Turn(usize),
    /// This is the guess.
    Guess,
    /// Another matrix.
    Deal,
    /// Other noise, and another matrix.
    Level(Level),
}

/// Points of one player: the learner, or a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Guesses that were exact.
    pub exact: usize,
    /// By how much all guesses were off, in sum.
    pub off: usize,
    /// Guesses.
    pub guesses: usize,
}

impl Score {
    fn add(&mut self, guess: usize, planted: usize) {
        self.guesses += 1;
        self.off += guess.abs_diff(planted);
        self.exact += usize::from(guess == planted);
    }
}

/// What is on the table.
pub struct Hand {
    planted: Planted,
    /// The matrix.
    pub matrix: Arc<Matrix>,
    /// Its spectrum, with all singular vectors.
    pub spectrum: Arc<Spectrum>,
    /// What each of [`RULES`] says.
    pub answers: [Option<usize>; RULES.len()],
}

/// The game.
pub struct Game {
    level: Level,
    round: u64,
    hand: Result<Hand>,
    /// The dial.
    pub r: usize,
    /// The guess, once it is made.
    pub guess: Option<usize>,
    /// The learner's points.
    pub score: Score,
    /// Those of [`RULES`].
    pub rules: [Score; RULES.len()],
}

impl Game {
    /// Begins with round number `round`; each has its own matrix.
    pub fn new(round: u64) -> Self {
        let level = Level::default();
        let hand = Hand::deal(level, round);
        Self { level, round, hand, r: START, guess: None, score: Score::default(), rules: Default::default() }
    }

    /// Takes in what was asked for.
    pub fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Turn(r) => self.r = r.clamp(1, SIDE),
            Edit::Guess => {
                let (None, Ok(hand)) = (self.guess, &self.hand) else { return };
                let planted = hand.planted.rank();
                self.guess = Some(self.r);
                self.score.add(self.r, planted);
                for (score, answer) in self.rules.iter_mut().zip(hand.answers) {
                    if let Some(answer) = answer {
                        score.add(answer, planted);
                    }
                }
            }
            Edit::Deal => {
                self.round += 1;
                self.hand = Hand::deal(self.level, self.round);
                (self.r, self.guess) = (START, None);
            }
            Edit::Level(level) => {
                self.level = level;
                self.edit(Edit::Deal);
            }
        }
    }

    /// How noisy.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Which matrix.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// What is on the table.
    pub fn hand(&self) -> std::result::Result<&Hand, &Error> {
        self.hand.as_ref()
    }

    /// The planted rank, once a guess was made.
    pub fn planted(&self) -> Option<usize> {
        let hand = self.hand.as_ref().ok()?;
        self.guess.map(|_| hand.planted.rank())
    }

    /// Three exact guesses.
    pub fn reached(&self) -> bool {
        self.score.exact >= 3
    }
}

impl Hand {
    fn deal(level: Level, round: u64) -> Result<Self> {
        // Scattered by a multiplier, so that neighbouring rounds have unlike ranks.
        let seed = (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 17;
        let rank = 1 + (seed % MOST as u64) as usize;
        let planted = Planted::above_noise([SIDE, SIDE], rank, level.strengths(), NOISE, seed);
        let matrix = Arc::new(planted.matrix());
        let dense = Dense { matrix: Arc::clone(&matrix), epsilon: f64::from(f32::EPSILON), rounding_std: None };
        let options = Options { vectors: SIDE, ..Options::default() };
        let spectrum = spectrum::spectrum(&DeltaWeight::Dense(dense), &options, &())?;
        let answers = RULES.map(|rule| spectrum::rule_rank(&spectrum, rule));
        Ok(Self { planted, matrix, spectrum: Arc::new(spectrum), answers })
    }

    /// The best approximation of rank `r`: `Σ_{i≤r} σᵢ uᵢ vᵢᵀ`.
    pub fn approximation(&self, r: usize) -> Matrix {
        let Some(vectors) = &self.spectrum.vectors else { return Matrix::zeros(SIDE, SIDE) };
        let r = r.min(vectors.count());
        let sigma = &self.spectrum.sigma;
        Matrix::from_fn(SIDE, SIDE, |i, j| {
            (0..r).map(|k| sigma[k] as f32 * vectors.u.get(i, k) * vectors.v.get(j, k)).sum()
        })
    }

    /// What the approximation leaves out.
    pub fn rest(&self, r: usize) -> Matrix {
        let low = self.approximation(r);
        Matrix::from_fn(SIDE, SIDE, |i, j| self.matrix.get(i, j) - low.get(i, j))
    }

    /// The largest singular value that the noise alone would show.
    pub fn edge(&self) -> f64 {
        spectrum::noise::edge(SIDE, SIDE, NOISE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_are_scored_once_and_beside_every_rule() {
        let mut game = Game::new(0);
        let gavish = RULES.iter().position(|&rule| rule == RuleId::GavishDonoho).unwrap();
        let mut ranks = Vec::new();
        for round in 0..4 {
            assert_eq!(game.planted(), None, "nothing is told before the guess");
            let answer = game.hand().unwrap().answers[gavish].unwrap();
            game.edit(Edit::Turn(answer));
            game.edit(Edit::Guess);
            game.edit(Edit::Guess);
            assert_eq!(game.score.guesses, round + 1);
            assert_eq!(game.planted(), Some(answer), "the threshold finds what stands out clearly");
            assert_eq!(game.rules[gavish].exact, round + 1);
            ranks.push(answer);
            game.edit(Edit::Deal);
        }
        assert!(game.reached());
        ranks.dedup();
        assert!(ranks.len() > 1, "rounds differ");
        assert!(game.rules.iter().any(|score| score.off > 0), "and not every rule is right");
    }

    #[test]
    fn the_approximation_and_the_rest_are_the_matrix() {
        let game = Game::new(5);
        let hand = game.hand().unwrap();
        assert!(hand.rest(SIDE).frobenius() < 1e-4 * hand.matrix.frobenius());
        let expected = hand.spectrum.relative_error(4) * hand.matrix.frobenius();
        assert!((hand.rest(4).frobenius() - expected).abs() < 1e-4 * expected, "Eckart and Young");
    }
}
