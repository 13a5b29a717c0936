//! A little world, and everything that can be told about it: the text that the bundled model learned from.
//!
//! ```text
//! seed ─ Teller (dice) ─ one of 20 schemas ─ sentences ─ a document of about 300 characters
//! ```
//!
//! Names, trades, places, things, animals, food and numbers are drawn anew for every document; who has what, and who is
//! she or he, stays consistent within it. Half of what is told are lists, roll-calls and records, and most stories end
//! with questions about themselves: they teach copying, without which nothing of what was told is ever recalled.

mod records;
mod tales;
mod teller;
pub mod words;

pub use records::{Gift, gift, gift_and_question};
pub use teller::{Person, Teller, a, list};

/// How a document is told.
type Schema = fn(&mut Teller);

/// The schemas and how often each is told.
const SCHEMAS: [(Schema, u32); 20] = [
    (tales::lost_and_found, 8),
    (tales::trade, 7),
    (tales::journey, 7),
    (tales::letter, 5),
    (tales::animals, 6),
    (tales::week, 5),
    (tales::race, 5),
    (tales::repair, 6),
    (tales::harbor, 3),
    (tales::likes, 5),
    (records::counting, 6),
    (records::shopping, 6),
    (records::gifts, 9),
    (records::roll_call, 6),
    (records::whereabouts, 9),
    (records::card, 7),
    (records::echo, 10),
    (records::holdings, 14),
    (records::register, 8),
    (records::note, 9),
];

/// The sentences of the document of this seed.
pub fn story(seed: u64) -> Vec<String> {
    told(Teller::new(seed))
}

fn told(mut teller: Teller) -> Vec<String> {
    let total: u32 = SCHEMAS.iter().map(|(_, weight)| weight).sum();
    let mut left = teller.number(0, total - 1);
    for (schema, weight) in SCHEMAS {
        if left < weight {
            schema(&mut teller);
            break;
        }
        left -= weight;
    }
    teller.said
}

/// The document of this seed.
pub fn document(seed: u64) -> String {
    story(seed).join(" ")
}

/// The document of this seed for a beginner: most are only told again, word for word. Whoever has learned to look back
/// learns who has what from the rest; from the world as it is, that takes tens of times as long.
pub fn first_document(seed: u64) -> String {
    let mut teller = Teller::new(seed);
    if !teller.chance(0.6) {
        return document(seed);
    }
    records::echo(&mut teller);
    teller.said.join(" ")
}

/// Only tales, no records: what can be told in another voice.
pub fn tale(seed: u64) -> Vec<String> {
    let mut teller = Teller::new(seed);
    let schema = teller.one(&[
        tales::lost_and_found as Schema,
        tales::trade,
        tales::journey,
        tales::repair,
        tales::week,
        records::gifts,
    ]);
    schema(&mut teller);
    teller.said
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_same_seed_tells_the_same_and_others_differ() {
        let all: Vec<String> = (0..2000).map(document).collect();
        assert_eq!(all, (0..2000).map(document).collect::<Vec<_>>());
        let different: HashSet<&String> = all.iter().collect();
        assert_eq!(different.len(), all.len(), "no document twice in 2,000");
        let length = all.iter().map(String::len).sum::<usize>() / all.len();
        assert!((200..420).contains(&length), "{length} characters on average");
        let words: HashSet<&str> = all.iter().flat_map(|text| text.split(' ')).collect();
        assert!(words.len() > 1500, "{} words", words.len());
        // Sentences with their names and numbers taken as they are seldom repeat: what is learned is not by heart.
        let sentences: Vec<String> = (0..2000).flat_map(story).filter(|sentence| sentence.len() > 30).collect();
        let once: HashSet<&String> = sentences.iter().collect();
        assert!(once.len() * 10 > sentences.len() * 9, "{} of {} sentences", once.len(), sentences.len());
    }

    #[test]
    fn what_is_told_is_clean() {
        for seed in 0..3000 {
            let text = document(seed);
            let clean = |c: char| c.is_ascii_alphanumeric() || " .,:;!?\"'".contains(c);
            assert!(text.chars().all(clean), "{seed}: {text}");
            assert!(!text.contains("  ") && !text.contains(" ."), "{seed}: {text}");
            assert!(text.ends_with(['.', '!', '?', '"']), "{seed}: {text}");
            for wrong in [" a orange", " a owl", " an red", " a otter", " a umbrella", " a apple"] {
                assert!(!text.contains(wrong), "{seed}: {text}");
            }
        }
    }

    #[test]
    fn every_schema_is_told() {
        for (schema, _) in SCHEMAS {
            let mut teller = Teller::new(5);
            schema(&mut teller);
            assert!(teller.said.len() >= 2, "{:?}", teller.said);
        }
    }
}
