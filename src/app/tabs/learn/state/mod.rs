//! What the Learn tab knows: nine chapters, the small computations behind their pictures, the goals that were reached.

mod bits;
mod change;
mod chapters;
mod cost;
mod counts;
mod factors;
mod game;
mod rank;
mod speed;
mod terms;
mod tune;
mod ways;

use std::path::PathBuf;
use std::sync::Arc;

use crate::device::Choice;
use crate::error::Result;
use crate::job::{Job, Running, Wake};
use crate::train::talk::Side;

use crate::app::shared::talk::{Edit as TalkEdit, Talk};
use crate::app::view::Round;

pub use bits::{Bits, COUNT, Cost as BitsCost, Edit as BitsEdit, LAYER, Preset, REACH, Story};
pub use change::{Change, Edit as ChangeEdit, INPUT, WISH};
pub use chapters::{Chapter, Words};
pub use cost::{BLOCKS, Cost, GPU, Kept, RANK as COST_RANK, parameters as cost_parameters};
pub use counts::{Counts, Edit as CountsEdit, MATRICES, RANKS};
pub use factors::{Edit as FactorsEdit, Factors, Wish};
pub use game::{Edit as GameEdit, Game, Hand, Level, RULES, SIDE, Score};
pub use rank::Rank;
pub use speed::{Kept as RunFrom, Row as SpeedRow, Speed};
pub use tune::{Edit as TuneEdit, MOST_STEPS as RUN_MOST, Phase, RANKS as RUN_RANKS, Rates, Tune};
pub use ways::{DISK, Data, Edit as WaysEdit, MOST, Moving, Ways};

/// What the tab asks for.
#[derive(Clone, Debug)]
pub enum Action {
    /// Another chapter.
    Open(Chapter),
    /// The chapter's matrices as they were at first.
    Restart(Chapter),
    /// Chapter 1: a choice.
    Ways(WaysEdit),
    /// Chapter 2: blocks of the model.
    Cost(usize),
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
    /// Chapter 8: a weight, or the rank.
    Bits(BitsEdit),
    /// Chapter 8: measure the speed.
    Measure,
    /// Chapter 9: the runs.
    Tune(TuneEdit),
    /// Chapter 9: ask the results.
    Talk(TalkEdit),
}

/// What is computed and known for the tab; panels look at it and push [`Action`]s.
pub struct Learning {
    wake: Wake,
    /// Chapter 1.
    pub ways: Ways,
    /// Chapter 2.
    pub cost: Cost,
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
    /// Chapter 8.
    pub bits: Bits,
    /// Chapter 8, third page.
    pub speed: Speed,
    /// Chapter 9.
    pub tune: Tune,
    /// Chapter 9, at its end.
    pub talk: Talk,
    stories: Option<(usize, Vec<BitsCost>)>,
    quantizing: Option<Job<(usize, Vec<BitsCost>)>>,
    failed: bool,
}

impl Learning {
    /// Everything as at first; `wake` makes the window look again, the bundled model lies under `home`.
    pub fn new(wake: Wake, home: PathBuf) -> Self {
        Self {
            speed: Speed::new(Arc::clone(&wake), home.clone()),
            tune: Tune::new(Arc::clone(&wake), home),
            talk: Talk::new(Arc::clone(&wake)),
            wake,
            ways: Ways::default(),
            cost: Cost::default(),
            change: Change::default(),
            factors: Factors::default(),
            rank: Rank::default(),
            game: None,
            counts: Counts::default(),
            bits: Bits::default(),
            stories: None,
            quantizing: None,
            failed: false,
        }
    }

    /// Remembers the goals that were reached since the last call.
    pub fn logic(&mut self, round: &mut Round<'_>) {
        if self.game.is_none() && Chapter::of(&round.settings.chapter) == Chapter::Dial {
            self.game = Some(Game::new(round.settings.rounds));
        }
        if let Some(text) = self.tune.logic() {
            round.say(text);
        }
        self.speed.logic();
        self.talk.logic();
        self.quantize(Chapter::of(&round.settings.chapter) == Chapter::Bits);
        for chapter in Chapter::ALL {
            let Words { id, title, .. } = chapter.words();
            if self.reached(chapter) && !round.settings.learned.iter().any(|done| done == id) {
                round.settings.learned.push((*id).to_owned());
                round.say(format!("Chapter {}, {title}: done.", chapter.number()));
                round.ctx.request_repaint();
            }
        }
    }

    /// Quantizes the layer of chapter 8 for the rank that is looked at, beside the window.
    fn quantize(&mut self, open: bool) {
        if let Some(result) = self.quantizing.as_mut().and_then(Job::take) {
            self.quantizing = None;
            self.failed = result.is_err();
            self.stories = result.ok().or(self.stories.take());
        }
        let r = self.bits.r;
        let known = self.stories.as_ref().is_some_and(|(of, _)| *of == r);
        if open && !known && !self.failed && self.quantizing.is_none() {
            let work = move |progress: &dyn crate::progress::Progress| bits::stories(r, progress);
            self.quantizing = Some(Job::spawn("Quantizing a layer", Arc::clone(&self.wake), work));
        }
    }

    /// The rank and the stories of chapter 8, of the last rank that was computed.
    pub fn stories(&self) -> Option<&(usize, Vec<BitsCost>)> {
        self.stories.as_ref()
    }

    /// The goal is reached as things stand now.
    pub fn reached(&self, chapter: Chapter) -> bool {
        match chapter {
            Chapter::Ways => self.ways.reached(),
            Chapter::Cost => self.cost.reached(),
            Chapter::Change => self.change.reached(),
            Chapter::Factors => self.factors.reached(),
            Chapter::Rank => self.rank.reached(),
            Chapter::Dial => self.game.as_ref().is_some_and(Game::reached),
            Chapter::Counts => self.counts.reached(),
            Chapter::Bits => self.bits.reached(),
            // At the end one hears what was made.
            Chapter::Tune => self.tune.reached() && !self.talk.answers().is_empty(),
        }
    }

    /// Carries out what was asked for.
    pub fn carry_out(&mut self, action: Action, round: &mut Round<'_>) {
        match action {
            Action::Open(chapter) => round.settings.chapter = chapter.words().id.to_owned(),
            Action::Restart(chapter) => match chapter {
                Chapter::Ways => self.ways = Ways::default(),
                Chapter::Cost => self.cost = Cost::default(),
                Chapter::Change => self.change = Change::default(),
                Chapter::Factors => self.factors = Factors::default(),
                Chapter::Rank => self.rank = Rank::default(),
                Chapter::Dial => self.game = None,
                Chapter::Counts => self.counts = Counts::default(),
                Chapter::Bits => self.bits = Bits::default(),
                Chapter::Tune => {
                    self.tune.restart();
                    self.talk.clear();
                }
            },
            Action::Ways(edit) => self.ways.edit(edit),
            Action::Cost(blocks) => self.cost = Cost::of(blocks),
            Action::Change(edit) => self.change.edit(edit),
            Action::Factors(edit) => self.factors.edit(edit),
            Action::Rank(row, col, value) => self.rank.edit(row, col, value),
            Action::Game(edit) => {
                if let Some(game) = &mut self.game {
                    game.edit(edit);
                    // The next start goes on with other matrices.
                    round.settings.rounds = game.round() + 1;
                }
            }
            Action::Counts(edit) => self.counts.edit(edit),
            Action::Measure => self.speed.measure(),
            Action::Tune(edit) => {
                if edit == TuneEdit::Start {
                    self.talk.clear();
                }
                self.tune.edit(edit);
            }
            Action::Talk(TalkEdit::Stop) => self.talk.stop(),
            Action::Talk(TalkEdit::Ask(question)) => {
                let folders = self.tune.folders();
                self.talk.ask(self.tune.names(), question, Choice::Cpu, move || sides(&folders));
            }
            Action::Bits(edit) => {
                self.failed = false;
                self.bits.edit(edit);
            }
        }
    }

    /// The jobs that a person can see and stop.
    pub fn running(&self) -> Vec<&dyn Running> {
        let quantizing = self.quantizing.iter().map(|job| job as &dyn Running);
        let others = [self.tune.running(), self.talk.running(), self.speed.running()];
        others.into_iter().flatten().chain(quantizing).collect()
    }
}

/// The base, and the results of these runs.
fn sides(folders: &[PathBuf]) -> Result<Vec<Side>> {
    let mut all = Vec::new();
    for folder in folders {
        let [base, tuned] = Side::of_run(folder)?;
        if all.is_empty() {
            all.push(base);
        }
        all.push(tuned);
    }
    Ok(all)
}
