//! Names of modules and files, short enough for the room there is.

use crate::app::widgets::table::Entry;
use crate::delta;

/// What stacks of blocks are called, by a word of their modules' names; the first that fits counts.
const STACKS: [(&str, &str); 7] = [
    ("visual", "vision"),
    ("vision", "vision"),
    ("audio", "audio"),
    ("encoder", "encoder"),
    ("decoder", "decoder"),
    ("language", "text"),
    ("text", "text"),
];

/// What all names begin with, up to a dot; empty for a single name.
pub fn common_prefix<'a>(names: impl IntoIterator<Item = &'a str>) -> &'a str {
    let mut names = names.into_iter();
    let Some(first) = names.next() else { return "" };
    let (mut prefix, mut several) = (first, false);
    for name in names {
        several = true;
        let same = prefix.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        let same = (0..=same).rev().find(|&at| prefix.is_char_boundary(at)).unwrap_or(0);
        prefix = &prefix[..same];
    }
    let end = if several { prefix.rfind('.').map_or(0, |dot| dot + 1) } else { 0 };
    &first[..end]
}

/// A name without what all names of its model begin with.
pub fn without<'a>(name: &'a str, prefix: &str) -> &'a str {
    name.strip_prefix(prefix).filter(|rest| !rest.is_empty()).unwrap_or(name)
}

/// A cell of a table with a module's name, without what all names of the table begin with; the whole name is under the pointer.
pub fn in_table(cell: Entry, prefix: &str) -> Entry {
    let whole = cell.text.clone();
    Entry { text: without(&whole, prefix).to_owned(), ..cell }.tip(whole)
}

/// The stacks of blocks of a model: one, or an encoder beside a decoder, a vision tower beside a language model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stacks {
    /// What stands before the number of a block, and what the stack is called.
    stacks: Vec<(String, String)>,
}

/// A block: its stack, and its number there.
pub type Block = (usize, usize);

impl Stacks {
    /// Those of these modules, in their order.
    pub fn of(entries: &[delta::Entry]) -> Self {
        Self::of_names(entries.iter().filter_map(|entry| Some((entry.name.as_str(), entry.layer?))))
    }

    /// The same of names, each with the number of its block.
    pub fn of_names<'a>(names: impl Iterator<Item = (&'a str, usize)>) -> Self {
        let mut stems: Vec<&str> = Vec::new();
        for (name, layer) in names {
            let stem = stem(name, layer);
            if !stems.contains(&stem) {
                stems.push(stem);
            }
        }
        let word = |stem: &str| STACKS.iter().find(|(word, _)| stem.contains(word)).map(|(_, called)| *called);
        let beside = stems.iter().any(|stem| matches!(word(stem), Some("vision" | "audio")));
        let called = |stem: &str| match word(stem) {
            Some(called) => called.to_owned(),
            // What stands beside a tower reads text.
            None if beside => "text".to_owned(),
            None => stem.to_owned(),
        };
        let mut stacks: Vec<(String, String)> = stems.iter().map(|stem| ((*stem).to_owned(), called(stem))).collect();
        for at in 0..stacks.len() {
            if stacks.iter().enumerate().any(|(other, (_, name))| other != at && *name == stacks[at].1) {
                stacks[at].1 = stacks[at].0.clone();
            }
        }
        Self { stacks }
    }

    /// True for a model with one stack, or none.
    pub fn is_one(&self) -> bool {
        self.stacks.len() < 2
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.stacks.len()
    }

    /// What a stack is called.
    pub fn called(&self, stack: usize) -> &str {
        self.stacks.get(stack).map_or("", |(_, called)| called)
    }

    /// The block of a module.
    pub fn block(&self, entry: &delta::Entry) -> Option<Block> {
        self.block_of(&entry.name, entry.layer?)
    }

    /// The same of a name and the number of its block.
    pub fn block_of(&self, name: &str, layer: usize) -> Option<Block> {
        let stem = stem(name, layer);
        Some((self.stacks.iter().position(|(known, _)| known == stem)?, layer))
    }

    /// `3`, or `encoder · 3` where there are several stacks.
    pub fn title(&self, (stack, layer): Block) -> String {
        match self.stacks.get(stack) {
            Some((_, called)) if self.stacks.len() > 1 => format!("{called} · {layer}"),
            _ => layer.to_string(),
        }
    }
}

/// What stands before the block's number.
fn stem(name: &str, layer: usize) -> &str {
    name.find(&format!(".{layer}.")).map_or("", |at| &name[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_names_share_goes() {
        let names =
            ["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj", "model.layers.1.mlp.up_proj"];
        let prefix = common_prefix(names);
        assert_eq!(prefix, "model.layers.");
        assert_eq!(
            names.map(|name| without(name, prefix)),
            ["0.self_attn.q_proj", "0.self_attn.k_proj", "1.mlp.up_proj"]
        );
        assert_eq!(common_prefix(["a.b"]), "");
        assert_eq!(common_prefix(["lm_head", "model.layers.0.q"]), "");
    }

    #[test]
    fn stacks_are_told_apart() {
        let titles = |names: &[(&str, usize)]| {
            let stacks = Stacks::of_names(names.iter().copied());
            let at = |(name, layer): &(&str, usize)| {
                let stem = stem(name, *layer);
                stacks.title((stacks.stacks.iter().position(|(known, _)| known == stem).unwrap(), *layer))
            };
            names.iter().map(at).collect::<Vec<_>>()
        };
        assert_eq!(titles(&[("model.layers.3.mlp.up_proj", 3)]), ["3"]);
        let t5 = [("encoder.block.0.layer.0.SelfAttention.q", 0), ("decoder.block.0.layer.1.EncDecAttention.q", 0)];
        assert_eq!(titles(&t5), ["encoder · 0", "decoder · 0"]);
        let qwen = [("visual.blocks.7.attn.qkv", 7), ("model.layers.7.self_attn.q_proj", 7)];
        assert_eq!(titles(&qwen), ["vision · 7", "text · 7"]);
        let clip = [("vision_model.encoder.layers.0.q", 0), ("text_model.encoder.layers.0.q", 0)];
        assert_eq!(titles(&clip), ["vision · 0", "encoder · 0"]);
    }
}
