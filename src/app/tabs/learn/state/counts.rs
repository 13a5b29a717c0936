//! Chapter 7: GPT-3's attention matrices with adapters of a rank, counted.

use crate::error::Error;
use crate::plan::{Count, Layout, Selection, Targets};

/// The letters of the four matrices.
pub const MATRICES: [&str; 4] = ["q", "k", "v", "o"];
/// The ranks that the dial offers: those of the paper.
pub const RANKS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// What the paper prints as 4.7M.
const WANTED: u64 = 4_718_592;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A matrix gets an adapter, or loses it.
    Toggle(usize),
    /// The rank.
    Rank(usize),
}

/// What is chosen and what it costs.
pub struct Counts {
    layout: Result<Layout, Error>,
    /// Which of [`MATRICES`] are adapted.
    pub chosen: [bool; 4],
    /// The rank.
    pub r: usize,
    count: Result<Count, Error>,
    /// Matrices a block and rank of every way to the wanted count.
    ways: Vec<(usize, usize)>,
}

impl Default for Counts {
    /// The setting that is most often quoted, and that is not the one of 4.7M.
    fn default() -> Self {
        let layout = Layout::preset("gpt3-175b");
        let (chosen, r) = ([true, false, true, false], 8);
        let count = count(&layout, chosen, r);
        Self { layout, chosen, r, count, ways: Vec::new() }
    }
}

impl Counts {
    /// Takes in what was asked for.
    pub fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Toggle(at) => {
                if let Some(chosen) = self.chosen.get_mut(at) {
                    *chosen = !*chosen;
                }
            }
            Edit::Rank(r) => self.r = r.max(1),
        }
        self.count = count(&self.layout, self.chosen, self.r);
        let way = (self.matrices(), self.r);
        if self.count.as_ref().is_ok_and(|count| count.trainable == WANTED) && !self.ways.contains(&way) {
            self.ways.push(way);
        }
    }

    /// Adapted matrices in a block.
    pub fn matrices(&self) -> usize {
        self.chosen.iter().filter(|&&chosen| chosen).count()
    }

    /// All parameters of the model.
    pub fn parameters(&self) -> u64 {
        self.layout.as_ref().map_or(0, |layout| layout.parameters)
    }

    /// What the choice costs, or why it cannot be.
    pub fn count(&self) -> &Result<Count, Error> {
        &self.count
    }

    /// Matrices a block and rank of the ways to the wanted count that were found.
    pub fn ways(&self) -> &[(usize, usize)] {
        &self.ways
    }

    /// Two ways were found.
    pub fn reached(&self) -> bool {
        self.ways.len() >= 2
    }
}

fn count(layout: &Result<Layout, Error>, chosen: [bool; 4], r: usize) -> Result<Count, Error> {
    let names: Vec<String> =
        MATRICES.iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(name, _)| (*name).to_owned()).collect();
    if names.is_empty() {
        return Err(Error::usage("choose at least one matrix"));
    }
    let layout = layout.as_ref().map_err(Clone::clone)?;
    Selection::new(layout, &Targets::Custom(names))?.count(r)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ways_lead_to_the_papers_number() {
        let mut counts = Counts::default();
        assert_eq!(counts.count().as_ref().unwrap().trainable, 37_748_736, "r = 8 on q, v is not 4.7M");
        assert!(!counts.reached());
        counts.edit(Edit::Rank(1));
        assert_eq!(counts.ways(), [(2, 1)]);
        counts.edit(Edit::Toggle(0));
        counts.edit(Edit::Rank(2));
        assert!(counts.reached());
        counts.edit(Edit::Toggle(2));
        assert!(counts.count().is_err() && counts.reached(), "what was found stays found");
    }
}
