//! [`Targets`]: which modules get an adapter.

use super::layout::{Layout, Weight};
use crate::adapter::{Budget, Pattern};
use crate::checkpoint::{Group, Role};
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// Which modules get an adapter. Parsed from what `--targets` takes:
///
/// | text | modules |
/// |---|---|
/// | `qv` | the query and value projections, whatever they are called; the fused projection where they are one |
/// | `attention` | every linear layer of the attention: q, k, v, o or fused |
/// | `all-linear` | every linear layer except the head, as in PEFT |
/// | `q_proj,v_proj` | modules whose name is, or ends in `.` and, one of these, as in PEFT |
/// | `q,k,v,o,gate,up,down` | modules by what they do, where no module has that very name |
/// | `/.*layers\.[0-3]\..*q_proj/` | modules whose whole name matches, as PEFT does with a string |
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Query and value projections: the LoRA paper's choice.
    QV,
    /// Query, key, value and output projections.
    Attention,
    /// Every linear layer except the head: QLoRA's choice.
    AllLinear,
    /// Names, words for roles, or regular expressions between slashes.
    Custom(Vec<String>),
}

impl FromStr for Targets {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        match text.to_ascii_lowercase().replace(['_', ' '], "-").as_str() {
            "qv" | "q,v" => return Ok(Self::QV),
            "attention" | "all-attention" => return Ok(Self::Attention),
            "all-linear" => return Ok(Self::AllLinear),
            _ => {}
        }
        let whole = text.len() > 2 && text.starts_with('/') && text.ends_with('/');
        let items: Vec<String> = if whole {
            vec![text.to_owned()]
        } else {
            split(text).into_iter().map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        };
        if items.is_empty() {
            return Err(Error::usage(
                "no target modules; expected names such as q_proj,v_proj, or attention, all-linear, or a /regex/",
            ));
        }
        let targets = Self::Custom(items);
        targets.matcher().map(|_| targets)
    }
}

/// At commas outside of brackets, so that `layers.(0|1){1,2}` stays one expression.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0i32, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b',' if depth <= 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QV => f.write_str("qv"),
            Self::Attention => f.write_str("attention"),
            Self::AllLinear => f.write_str("all-linear"),
            Self::Custom(items) => f.write_str(&items.join(",")),
        }
    }
}

impl Targets {
    /// Prepares the regular expressions among the targets, once for many names.
    ///
    /// # Errors
    /// Bad input when an expression is not one.
    pub fn matcher(&self) -> Result<Matcher> {
        Ok(match self {
            Self::QV => Matcher::Roles(|weight| matches!(weight.role, Role::Q | Role::V | Role::Qkv | Role::Kv)),
            Self::Attention => Matcher::Roles(|weight| weight.role.group() == Group::Attention),
            Self::AllLinear => Matcher::Roles(|_| true),
            Self::Custom(items) => {
                let mut budget = Budget::default();
                Matcher::Items(items.iter().map(|item| Item::parse(item, &mut budget)).collect::<Result<_>>()?)
            }
        })
    }
}

/// [`Targets`], ready to be asked.
pub enum Matcher {
    /// A rule on what a linear layer does.
    Roles(fn(&Weight) -> bool),
    /// Any of these.
    Items(Vec<Item>),
}

/// One of the custom targets.
pub enum Item {
    /// A module's name or the end of it, or the word for a role.
    Name(String),
    /// An expression for whole names, and how it was written.
    Pattern(Pattern, String),
}

impl Item {
    fn parse(text: &str, budget: &mut Budget) -> Result<Self> {
        let slashes = text.strip_prefix('/').and_then(|text| text.strip_suffix('/'));
        let expression =
            slashes.or_else(|| text.contains(['*', '+', '?', '(', '[', '{', '|', '^', '$', '\\']).then_some(text));
        let Some(expression) = expression else { return Ok(Self::Name(text.to_owned())) };
        let pattern = Pattern::whole(expression, budget).map_err(|why| Error::usage(format!("target {why}")))?;
        Ok(Self::Pattern(pattern, text.to_owned()))
    }

    fn named(&self, weight: &Weight) -> bool {
        match self {
            Self::Name(name) => {
                weight.name.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            Self::Pattern(pattern, _) => pattern.matches(&weight.name),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Name(text) | Self::Pattern(_, text) => text,
        }
    }
}

impl Matcher {
    /// The places in `layout.weights` of the modules that are meant, in order, and what should be said about them.
    ///
    /// # Errors
    /// Bad input when nothing matches; the sentence names what there is.
    pub fn select(&self, layout: &Layout) -> Result<(Vec<usize>, Vec<String>)> {
        let weights = &layout.weights;
        let mut notes = Vec::new();
        let mut chosen: Vec<bool> = vec![false; weights.len()];
        match self {
            Self::Roles(rule) => {
                for (place, weight) in weights.iter().enumerate() {
                    chosen[place] = weight.adaptable() && weight.linear && rule(weight) && layout.in_all_linear(weight);
                }
            }
            Self::Items(items) => {
                let mut unused = Vec::new();
                for item in items {
                    let mut places: Vec<usize> = (0..weights.len()).filter(|&i| item.named(&weights[i])).collect();
                    if places.is_empty() {
                        places = (0..weights.len()).filter(|&i| weights[i].role.as_str() == item.text()).collect();
                    }
                    places.retain(|&i| weights[i].adaptable());
                    if places.is_empty() {
                        unused.push(format!("\"{}\"", item.text()));
                    }
                    places.into_iter().for_each(|place| chosen[place] = true);
                }
                if !unused.is_empty() {
                    notes.push(format!("no module of {} matches {}", layout.name, unused.join(", ")));
                }
            }
        }
        let places: Vec<usize> = (0..weights.len()).filter(|&place| chosen[place]).collect();
        if places.is_empty() {
            let leaves = layout.leaves();
            let there = if leaves.is_empty() { "no linear layer".to_owned() } else { leaves.join(", ") };
            let wanted = notes.pop().unwrap_or_else(|| format!("{} has no such module", layout.name));
            return Err(Error::usage(format!("{wanted}; it has {there}")));
        }
        let fused = places.iter().map(|&place| &weights[place]).find(|weight| weight.role == Role::Qkv);
        if let (Self::Roles(_), Some(fused)) = (self, fused) {
            notes.push(format!(
                "query, key and value are one matrix here, {}: an adapter on it changes all three",
                fused.leaf()
            ));
        }
        Ok((places, notes))
    }
}
