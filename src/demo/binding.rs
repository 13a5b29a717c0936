//! Does a model look back? Tests that only one who has read the beginning of a text can pass.

use super::world::{self, Teller};
use crate::error::Result;
use crate::model::{Decoder, Processor};
use crate::progress::Progress;
use crate::train::{Sampling, Text, generate};

/// Shares of right answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Binding {
    /// "Who has the lamp now?" with known names, two people to choose from.
    pub who: f64,
    /// The same with invented names, of several tokens each.
    pub strangers: f64,
    /// A list of four things that is told again, all four right.
    pub list: f64,
}

impl std::fmt::Display for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [who, strangers, list] = [self.who, self.strangers, self.list].map(|share| 100.0 * share);
        write!(f, "who has what {who:.0} %, strangers {strangers:.0} %, lists {list:.0} %")
    }
}

/// Asks `count` questions of each kind.
///
/// # Errors
/// What [`generate`] says; and cancellation.
pub fn binding(decoder: &Decoder, text: &Text, count: u64, progress: &dyn Progress) -> Result<Binding> {
    let mut right = [0u64; 3];
    for at in 0..count {
        progress.step(at, count)?;
        for (kind, strangers) in [(0, false), (1, true)] {
            let (prompt, name, _) = world::gift_and_question(TESTS + at, strangers);
            right[kind] += u64::from(answer(decoder, text, &prompt, 12)?.starts_with(&format!(" {name} ")));
        }
        let (prompt, list) = told_again(TESTS + at);
        right[2] += u64::from(answer(decoder, text, &prompt, 40)?.starts_with(&list));
    }
    let [who, strangers, list] = right.map(|right| right as f64 / count as f64);
    Ok(Binding { who, strangers, list })
}

/// Seeds of questions that were in no training text.
const TESTS: u64 = 0x5000_0000_0000;

/// The likeliest words after a prompt.
///
/// # Errors
/// What [`generate`] says; and cancellation.
pub fn answer(decoder: &Decoder, text: &Text, prompt: &str, most: usize) -> Result<String> {
    let sampling = Sampling { most, temperature: 0.0, seed: 0, eos: text.eos };
    text.text(&generate(&Processor::default(), decoder, &text.ids(prompt)?, sampling, &())?)
}

/// A shopping list, and how it is bought.
fn told_again(seed: u64) -> (String, String) {
    let mut t = Teller::new(seed);
    let [who] = t.people();
    let things: Vec<String> = t.things(4).iter().map(|thing| world::a(thing)).collect();
    let town = t.one(&world::words::TOWNS);
    let prompt = format!(
        "{} had a list for the market of {town}. The list was: {}. {} bought",
        who.name,
        things.join(", "),
        who.name
    );
    (prompt, format!(" {}.", world::list(&things)))
}
