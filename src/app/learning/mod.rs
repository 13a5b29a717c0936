//! What the Learn tab knows: nine chapters, the small computations behind their pictures, the goals that were reached.

mod change;
mod chapters;
mod counts;
mod factors;
mod game;
mod rank;
mod terms;
mod ways;

use crate::job::{Status, Wake};

use super::command::{Command, Round};

pub use change::{Change, Edit as ChangeEdit, INPUT, WISH};
pub use chapters::{Chapter, Words};
pub use counts::{Counts, Edit as CountsEdit, MATRICES, RANKS};
pub use factors::{Edit as FactorsEdit, Factors, Wish};
pub use game::{Edit as GameEdit, Game, Hand, Level, RULES, SIDE, Score};
pub use rank::Rank;
pub use ways::{DISK, Data, Edit as WaysEdit, MOST, Moving, Ways};

/// What the tab asks for.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Another chapter.
    Open(Chapter),
    /// The chapter's matrices as they were at first.
    Restart(Chapter),
    /// Chapter 1: a choice.
    Ways(WaysEdit),
    /// Chapter 3: a cell.
    Change(ChangeEdit),
    /// Chapter 4: a number of B or A, or the other wish.
    Factors(FactorsEdit),
    /// Chapter 5: row, column, value.
    Rank(usize, usize, f64),
    /// Chapter 6: a move of the game.
    Game(GameEdit),
    /// Chapter 7: a matrix, or the rank.
    Counts(CountsEdit),
}

/// What is computed and known for the tab; panels look at it and push [`Ask`]s.
pub struct Learning {
    _wake: Wake,
    /// Chapter 1.
    pub ways: Ways,
    /// Chapter 3.
    pub change: Change,
    /// Chapter 4.
    pub factors: Factors,
    /// Chapter 5.
    pub rank: Rank,
    /// Chapter 6, once it was opened.
    pub game: Option<Game>,
    /// Chapter 7.
    pub counts: Counts,
}

impl Learning {
    /// Everything as at first; `wake` makes the window look again.
    pub fn new(wake: Wake) -> Self {
        Self {
            _wake: wake,
            ways: Ways::default(),
            change: Change::default(),
            factors: Factors::default(),
            rank: Rank::default(),
            game: None,
            counts: Counts::default(),
        }
    }

    /// Remembers the goals that were reached since the last call.
    pub fn think(&mut self, round: &mut Round<'_>) {
        if self.game.is_none() && Chapter::of(&round.settings.chapter) == Chapter::Dial {
            self.game = Some(Game::new(round.settings.rounds));
        }
        for chapter in Chapter::ALL {
            let Words { id, title, .. } = chapter.words();
            if self.reached(chapter) && !round.settings.learned.iter().any(|done| done == id) {
                round.settings.learned.push((*id).to_owned());
                round.commands.push(Command::Say(format!("Chapter {}, {title}: done.", chapter.number())));
                round.ctx.request_repaint();
            }
        }
    }

    /// The goal is reached as things stand now.
    pub fn reached(&self, chapter: Chapter) -> bool {
        match chapter {
            Chapter::Ways => self.ways.reached(),
            Chapter::Change => self.change.reached(),
            Chapter::Factors => self.factors.reached(),
            Chapter::Rank => self.rank.reached(),
            Chapter::Dial => self.game.as_ref().is_some_and(Game::reached),
            Chapter::Counts => self.counts.reached(),
            _ => false,
        }
    }

    /// Carries out what was asked for.
    pub fn carry_out(&mut self, ask: Ask, round: &mut Round<'_>) {
        match ask {
            Ask::Open(chapter) => round.settings.chapter = chapter.words().id.to_owned(),
            Ask::Restart(chapter) => match chapter {
                Chapter::Ways => self.ways = Ways::default(),
                Chapter::Change => self.change = Change::default(),
                Chapter::Factors => self.factors = Factors::default(),
                Chapter::Rank => self.rank = Rank::default(),
                Chapter::Dial => self.game = None,
                Chapter::Counts => self.counts = Counts::default(),
                _ => {}
            },
            Ask::Ways(edit) => self.ways.edit(edit),
            Ask::Change(edit) => self.change.edit(edit),
            Ask::Factors(edit) => self.factors.edit(edit),
            Ask::Rank(row, col, value) => self.rank.edit(row, col, value),
            Ask::Game(edit) => {
                if let Some(game) = &mut self.game {
                    game.edit(edit);
                    // The next start goes on with other matrices.
                    round.settings.rounds = game.round() + 1;
                }
            }
            Ask::Counts(edit) => self.counts.edit(edit),
        }
    }

    /// The jobs that a person can see and stop.
    pub fn running(&self) -> Vec<(&str, Status)> {
        Vec::new()
    }

    /// Stops the job of this title.
    pub fn cancel(&mut self, _title: &str) {}
}
