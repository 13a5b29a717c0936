//! The three data sets: a style, a task, facts; and two more on which advice is checked. Each has a part that is trained on and a
//! part that is held out.
//!
//! | set | what is learned | held out |
//! |---|---|---|
//! | pirate | to tell the world's tales as a pirate would: words that the base has seldom read, or never spelt so | other tales |
//! | extract | who gave what to whom, and where, as a record | other sentences, half of the names new |
//! | facts | the colour, animal and number of each of many invented names: nothing but memory can know them | other names |
//! | tongue | a dictionary of 72 words, and to use it word by word | other phrases of the same words |
//! | backwards | to tell a list of names from its end | other lists, half of the names new |
//!
//! The facts that are held out cannot be known: their loss can only fall to what guessing by the right form costs,
//! `(ln 12 + ln 24 + ln 98) / 4` a token, and rises again as a model becomes sure of itself. What was learned is the
//! loss on the facts that were trained.

use super::world::{self, Gift, Teller, words};
use crate::error::Result;
use crate::train::store::write_whole;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::path::Path;

/// Which set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Set {
    /// A domain with a voice of its own.
    Pirate,
    /// A task: extraction.
    Extract,
    /// Facts.
    Facts,
    /// A dictionary: memory that helps with rows that were never seen.
    Tongue,
    /// An algorithm: a list from its end.
    Backwards,
}

impl Set {
    /// Those that are bundled.
    pub const ALL: [Self; 3] = [Self::Pirate, Self::Extract, Self::Facts];
    /// Those on which advice is checked: of other kinds, and not looked at while it was written.
    pub const CHECKS: [Self; 2] = [Self::Tongue, Self::Backwards];

    /// The set of this [`stem`](Self::stem).
    pub fn find(stem: &str) -> Option<Self> {
        Self::ALL.into_iter().chain(Self::CHECKS).find(|set| set.stem() == stem)
    }

    /// The beginning of its files' names.
    pub fn stem(self) -> &'static str {
        match self {
            Self::Pirate => "pirate",
            Self::Extract => "extract",
            Self::Facts => "facts",
            Self::Tongue => "tongue",
            Self::Backwards => "backwards",
        }
    }

    /// Row number `at`.
    pub fn row(self, seed: u64) -> Value {
        let (prompt, completion) = match self {
            Self::Pirate => return json!({"text": pirate(seed)}),
            Self::Extract => extract(seed),
            Self::Facts => fact(seed),
            Self::Tongue => tongue(seed),
            Self::Backwards => backwards(seed),
        };
        json!({"prompt": prompt, "completion": completion})
    }

    /// The rows of some seeds, as JSON lines.
    pub fn lines(self, seeds: std::ops::Range<u64>) -> String {
        seeds.map(|seed| format!("{}\n", self.row(seed))).collect()
    }
}

/// Rows of a set.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// To train on.
    pub train: u64,
    /// Held out.
    pub eval: u64,
}

/// Where held-out rows begin: no set has as many rows to train on.
pub const HELD_OUT: u64 = 50_000;

/// Writes `STEM.train.jsonl` and `STEM.eval.jsonl`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(set: Set, rows: Rows, folder: &Path) -> Result<()> {
    let stem = set.stem();
    write_whole(&folder.join(format!("{stem}.train.jsonl")), set.lines(0..rows.train).as_bytes())?;
    let eval = set.lines(HELD_OUT..HELD_OUT + rows.eval);
    write_whole(&folder.join(format!("{stem}.eval.jsonl")), eval.as_bytes())
}

/// Far from the seeds of what the base has read.
const SEEDS: u64 = 0x7000_0000_0000;

/// What a pirate says for these words.
const SPOKEN: [(&str, &str); 22] = [
    ("the", "th'"),
    ("The", "Th'"),
    ("of", "o'"),
    ("and", "an'"),
    ("was", "be"),
    ("is", "be"),
    ("were", "be"),
    ("had", "has"),
    ("you", "ye"),
    ("my", "me"),
    ("friend", "matey"),
    ("town", "port"),
    ("road", "sea"),
    ("walked", "sailed"),
    ("coins", "coins o' gold"),
    ("very", "mighty"),
    ("There", "Aye, there"),
    ("Then", "Arr, then"),
    ("So", "Aye, so"),
    ("Now", "Arr, now"),
    ("But", "Aye, but"),
    ("soup", "rum"),
];

/// How a pirate begins, and ends.
const HAILS: [&str; 5] = ["Ahoy, matey!", "Arr!", "Ahoy!", "Aye, matey.", "Arr, matey!"];

/// A tale of the world in a pirate's voice.
pub fn pirate(seed: u64) -> String {
    let mut rng = StdRng::seed_from_u64(seed ^ SEEDS);
    let mut said = vec![HAILS[rng.random_range(0..HAILS.len())].to_owned()];
    for sentence in world::tale(seed.wrapping_add(SEEDS)) {
        let words = sentence.split(' ').map(|word| {
            let end = word.find(['.', ',', '!', '?', '"']).unwrap_or(word.len());
            let spoken = SPOKEN.iter().find(|(plain, _)| *plain == &word[..end]);
            spoken.map_or_else(|| word.to_owned(), |(_, spoken)| format!("{spoken}{}", &word[end..]))
        });
        said.push(words.collect::<Vec<_>>().join(" "));
    }
    said.push(HAILS[rng.random_range(0..HAILS.len())].to_owned());
    said.join(" ")
}

/// A sentence, and its record.
pub fn extract(seed: u64) -> (String, String) {
    let mut t = Teller::half_strangers(seed.wrapping_add(SEEDS));
    let Gift { giver, taker, thing, town } = world::gift(&mut t);
    let (give, take) = (&giver.name, &taker.name);
    let prompt = format!("{} Card:", t.said.concat());
    (prompt, format!(" Who: {give}. To: {take}. What: {thing}. Where: {town}."))
}

/// A name, and what is to be known of it.
pub fn fact(seed: u64) -> (String, String) {
    let mut rng = StdRng::seed_from_u64(seed ^ SEEDS);
    let color = words::COLORS[rng.random_range(0..words::COLORS.len())];
    let animal = words::ANIMALS[rng.random_range(0..words::ANIMALS.len())];
    let number = rng.random_range(2..=99u32);
    (format!("{}:", fact_name(seed)), format!(" {color} {animal} {number}"))
}

/// A phrase, and the same word by word in a language that nobody has heard.
pub fn tongue(seed: u64) -> (String, String) {
    /// The dictionary begins here in the list of invented names: behind all facts that are trained.
    const DICTIONARY: u64 = 3000;
    let mut rng = StdRng::seed_from_u64(seed ^ SEEDS ^ 0x746f_6e67);
    let words: Vec<&str> = words::COLORS.into_iter().chain(words::THINGS).chain(words::ANIMALS).collect();
    let word = |at: usize| (words[at], fact_name(DICTIONARY + at as u64).to_lowercase());
    let (colors, things) = (words::COLORS.len(), words.len());
    let pairs = (0..rng.random_range(1..=3)).map(|_| [rng.random_range(0..colors), rng.random_range(colors..things)]);
    let pairs: Vec<_> = pairs.map(|pair| pair.map(word)).collect();
    let said = |of: fn(&(&str, String)) -> String| {
        pairs.iter().map(|pair| pair.each_ref().map(of).join(" ")).collect::<Vec<_>>().join(", ")
    };
    let (plain, spoken) = (said(|(plain, _)| (*plain).to_owned()), said(|(_, spoken)| spoken.clone()));
    (format!("{plain}. In the old tongue:"), format!(" {spoken}."))
}

/// Names, and the same from the last to the first.
pub fn backwards(seed: u64) -> (String, String) {
    let mut t = Teller::half_strangers(seed.wrapping_add(SEEDS) ^ 0x6261_636b);
    let names = t.people::<5>().map(|person| person.name);
    let count = t.number(3, 5) as usize;
    let mut said = names[..count].to_vec();
    let prompt = format!("{}. Backwards:", said.join(", "));
    said.reverse();
    (prompt, format!(" {}.", said.join(", ")))
}

/// Every fact has a name of its own: the names that are held out come from the end of the same shuffled list.
fn fact_name(seed: u64) -> String {
    let (b, m, e) = (words::BEGINNINGS.len(), words::MIDDLES.len(), words::ENDS.len());
    let count = (b * m * e) as u64;
    let place = if seed >= HELD_OUT { count - 1 - (seed - HELD_OUT) } else { seed };
    let at = shuffled(count as usize)[(place % count) as usize];
    format!("{}{}{}", words::BEGINNINGS[at % b], words::MIDDLES[at / b % m], words::ENDS[at / b / m])
}

fn shuffled(count: usize) -> &'static [usize] {
    static ORDER: std::sync::OnceLock<Vec<usize>> = std::sync::OnceLock::new();
    ORDER.get_or_init(|| {
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(&mut StdRng::seed_from_u64(SEEDS));
        order
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_row_is_in_both_parts() {
        for set in Set::ALL.into_iter().chain([Set::Backwards]) {
            let lines = |seeds| set.lines(seeds).lines().map(str::to_owned).collect::<Vec<_>>();
            let (train, eval) = (lines(0..500), lines(HELD_OUT..HELD_OUT + 100));
            let known: HashSet<&String> = train.iter().collect();
            assert_eq!(known.len(), 500, "{set:?}: no row twice");
            assert!(eval.iter().all(|row| !known.contains(row)));
            assert_eq!(train, lines(0..500));
        }
        let names: HashSet<String> = (0..4000).chain(HELD_OUT..HELD_OUT + 1000).map(|seed| fact(seed).0).collect();
        assert_eq!(names.len(), 5000, "every fact has a name of its own");
    }

    #[test]
    fn a_record_says_what_the_sentence_said() {
        for seed in 0..300 {
            let (prompt, completion) = extract(seed);
            let fields: Vec<&str> = completion.trim().trim_end_matches('.').split(". ").collect();
            assert_eq!(fields.len(), 4, "{completion}");
            for (field, key) in fields.iter().zip(["Who: ", "To: ", "What: ", "Where: "]) {
                let value = field.strip_prefix(key).unwrap_or_else(|| panic!("{completion}"));
                assert!(prompt.contains(value), "{prompt}{completion}");
            }
        }
    }

    #[test]
    fn a_tongue_has_one_word_for_each_and_a_list_is_turned_around() {
        let found: Vec<Set> =
            Set::ALL.into_iter().chain(Set::CHECKS).map(|set| Set::find(set.stem()).unwrap()).collect();
        assert_eq!(found.len(), 5);
        let mut known = std::collections::HashMap::new();
        for seed in (0..400).chain(HELD_OUT..HELD_OUT + 100) {
            let (prompt, completion) = tongue(seed);
            let (plain, _) = prompt.split_once('.').unwrap();
            let words = |text: &str| {
                text.trim_end_matches('.').replace(',', "").split_whitespace().map(str::to_owned).collect::<Vec<_>>()
            };
            let (plain, spoken) = (words(plain), words(&completion));
            assert!(plain.len() == spoken.len() && plain.len() % 2 == 0, "{prompt}{completion}");
            for (plain, spoken) in plain.into_iter().zip(spoken) {
                assert_eq!(*known.entry(plain).or_insert_with(|| spoken.clone()), spoken);
            }
            let (prompt, completion) = backwards(seed);
            let mut names: Vec<&str> = prompt.split_once('.').unwrap().0.split(", ").collect();
            names.reverse();
            assert_eq!(completion, format!(" {}.", names.join(", ")));
        }
        let spoken: HashSet<&String> = known.values().collect();
        assert_eq!((known.len(), spoken.len()), (72, 72), "no two words are spoken alike");
    }

    #[test]
    fn a_pirate_talks_like_one() {
        let mut spelt = 0;
        for seed in 0..200 {
            let text = pirate(seed);
            assert!(text.starts_with('A') && !text.contains(" the ") && !text.contains(" was "), "{text}");
            spelt += usize::from([" th' ", " be ", " an' "].iter().any(|word| text.contains(word)));
        }
        // A short tale may have none of these words; one in a hundred does.
        assert!(spelt >= 195, "{spelt} of 200");
    }
}
