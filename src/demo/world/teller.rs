//! [`Teller`]: the dice and the mouth of a story.

use super::words;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Somebody in a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Their name.
    pub name: String,
    /// What they are.
    pub role: &'static str,
    /// She or he.
    pub she: bool,
}

impl Person {
    /// "she" or "he".
    pub fn they(&self) -> &'static str {
        if self.she { "she" } else { "he" }
    }

    /// The same at the beginning of a sentence.
    pub fn begin(&self) -> &'static str {
        if self.she { "She" } else { "He" }
    }

    /// "her" or "him".
    pub fn them(&self) -> &'static str {
        if self.she { "her" } else { "him" }
    }

    /// "her" or "his".
    pub fn their(&self) -> &'static str {
        if self.she { "her" } else { "his" }
    }
}

/// Draws, and collects sentences.
pub struct Teller {
    rng: StdRng,
    /// What was said so far.
    pub said: Vec<String>,
    /// Share of names that are invented.
    invented: f64,
}

/// Share of names that are invented.
const INVENTED: f64 = 0.4;

impl Teller {
    /// A story of its own for every seed.
    pub fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), said: Vec::new(), invented: INVENTED }
    }

    /// The same with invented names only.
    pub fn of_strangers(seed: u64) -> Self {
        Self { invented: 1.0, ..Self::new(seed) }
    }

    /// The same with as many invented names as known ones.
    pub fn half_strangers(seed: u64) -> Self {
        Self { invented: 0.5, ..Self::new(seed) }
    }

    /// True in this share of cases.
    pub fn chance(&mut self, share: f64) -> bool {
        self.rng.random_bool(share)
    }

    /// A number from `low` to `high`, both possible.
    pub fn number(&mut self, low: u32, high: u32) -> u32 {
        self.rng.random_range(low..=high)
    }

    /// One of them.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.random_range(0..of.len())]
    }

    /// Several different ones, in any order.
    pub fn some<T: Copy>(&mut self, of: &[T], count: usize) -> Vec<T> {
        rand::seq::index::sample(&mut self.rng, of.len(), count.min(of.len())).into_iter().map(|at| of[at]).collect()
    }

    /// Says a sentence.
    pub fn say(&mut self, sentence: impl Into<String>) {
        self.said.push(sentence.into());
    }

    /// One of several ways to say it.
    pub fn say_one<const N: usize>(&mut self, ways: [String; N]) {
        let at = self.rng.random_range(0..N);
        if let Some(way) = ways.into_iter().nth(at) {
            self.said.push(way);
        }
    }

    /// A name, well known or invented.
    fn name(&mut self) -> (String, bool) {
        if self.rng.random_bool(self.invented) {
            let name = self.invent();
            return (name, self.rng.random_bool(0.5));
        }
        let she = self.rng.random_bool(0.5);
        (self.one(if she { &words::WOMEN } else { &words::MEN }).to_owned(), she)
    }

    /// An invented name.
    pub fn invent(&mut self) -> String {
        let (begin, middle, end) = (self.one(&words::BEGINNINGS), self.one(&words::MIDDLES), self.one(&words::ENDS));
        format!("{begin}{middle}{end}")
    }

    /// People of different names and different trades.
    pub fn people<const N: usize>(&mut self) -> [Person; N] {
        let roles = self.some(&words::ROLES, N);
        let mut found: Vec<Person> = Vec::with_capacity(N);
        while found.len() < N {
            let (name, she) = self.name();
            if found.iter().all(|person| person.name != name) {
                found.push(Person { name, role: roles[found.len()], she });
            }
        }
        // As many were just pushed.
        found
            .try_into()
            .unwrap_or_else(|_| std::array::from_fn(|_| Person { name: String::new(), role: "", she: true }))
    }

    /// A colour and a thing: "red lamp".
    pub fn thing(&mut self) -> String {
        format!("{} {}", self.one(&words::COLORS), self.one(&words::THINGS))
    }

    /// Things of different kinds and colours.
    pub fn things(&mut self, count: usize) -> Vec<String> {
        let (colors, things) = (self.some(&words::COLORS, count), self.some(&words::THINGS, count));
        colors.iter().zip(things).map(|(color, thing)| format!("{color} {thing}")).collect()
    }

    /// A question about what was told, and its answer.
    pub fn ask(&mut self, questions: &[(String, String)], share: f64) {
        if self.chance(share) {
            let count = self.number(1, 3) as usize;
            for (question, answer) in self
                .some(&(0..questions.len()).collect::<Vec<_>>(), count)
                .into_iter()
                .filter_map(|at| questions.get(at))
            {
                self.said.push(question.clone());
                self.said.push(answer.clone());
            }
        }
    }
}

/// "a red lamp", "an orange cup".
pub fn a(word: &str) -> String {
    let an = word.starts_with(['a', 'e', 'i', 'o']) || word.starts_with("umbrella");
    format!("{} {word}", if an { "an" } else { "a" })
}

/// "a, b and c".
pub fn list(of: &[String]) -> String {
    match of {
        [] => String::new(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}
