//! What of a rendered conversation the assistant says, with the end of its turn.
//!
//! A template that marks it (`{% generation %}`) is obeyed. Otherwise turn `i` is what lies between the conversation up to it
//! with the head of an answer, and the conversation up to and with it, as long as both are beginnings of the whole text. Some
//! templates write a turn that is not the last one otherwise (thoughts are dropped), look at the first message, or refuse a
//! part of a conversation: then the turn is where the text changes when what the assistant says is replaced.

use super::template::{Conversation, Rendered, Template};
use serde_json::{Value as Json, json};
use std::ops::Range;

/// A part of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its number among the messages.
    pub message: usize,
    /// Bytes of the text.
    pub bytes: Range<usize>,
    /// Where the end was found by comparing texts only: a token across it does not belong to it.
    pub loose: bool,
}

/// A conversation as text, and the assistant's turns in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spoken {
    /// The text.
    pub text: String,
    /// In the order of the text.
    pub turns: Vec<Turn>,
    /// Whether the template itself marked them.
    pub marked: bool,
}

/// Whether a message is the assistant's.
pub fn is_assistant(message: &Json) -> bool {
    matches!(message["role"].as_str(), Some("assistant" | "model"))
}

/// Renders a conversation and finds the assistant's turns.
///
/// # Errors
/// The template's own words; or the number of the turn that could not be found.
pub fn spoken(template: &Template, conversation: &Conversation) -> Result<Spoken, String> {
    let Rendered { text, marked } = template.render(conversation, false)?;
    if template.marks() {
        let numbers = (0..conversation.messages.len()).filter(|&at| is_assistant(&conversation.messages[at]));
        // Marks and turns are as many wherever a template marks every turn once; otherwise the last number stands for the rest.
        let mut numbers: Vec<usize> = numbers.collect();
        let last = numbers.last().copied().unwrap_or(0);
        numbers.resize(marked.len().max(numbers.len()), last);
        let turns = marked.into_iter().zip(numbers).map(|(bytes, message)| Turn { message, bytes, loose: false });
        return Ok(Spoken { text, turns: turns.collect(), marked: true });
    }
    let search = Search { template, conversation, whole: &text };
    let mut turns: Vec<Turn> = Vec::new();
    let mut head = None;
    for at in 0..conversation.messages.len() {
        if !is_assistant(&conversation.messages[at]) {
            continue;
        }
        let from = turns.last().map_or(0, |turn| turn.bytes.end);
        let turn = match search.between(at).filter(|turn| turn.bytes.start >= from) {
            Some(turn) => turn,
            None => {
                if !replace(&mut conversation.messages[at].clone(), "") {
                    continue;
                }
                let head = head.get_or_insert_with(|| search.head());
                search.changed(at, from, head).ok_or_else(|| {
                    let at = at + 1;
                    format!(
                        "what message {at} says is not found in the text; {{% generation %}} in the template marks it"
                    )
                })?
            }
        };
        turns.push(turn);
    }
    Ok(Spoken { text, turns, marked: false })
}

struct Search<'a> {
    template: &'a Template,
    conversation: &'a Conversation,
    whole: &'a str,
}

impl Search<'_> {
    fn render(&self, messages: Vec<Json>, generation: bool) -> Option<String> {
        let conversation = Conversation { messages, ..self.conversation.clone() };
        self.template.render(&conversation, generation).ok().map(|rendered| rendered.text)
    }

    fn first(&self, count: usize) -> Vec<Json> {
        self.conversation.messages[..count].to_vec()
    }

    /// The turn between two beginnings of the text.
    fn between(&self, at: usize) -> Option<Turn> {
        let before = self.render(self.first(at), true)?;
        let begin = match self.whole.strip_prefix(&before) {
            Some(_) => before.len(),
            // The head of an answer may say more than an answer has: `<think>` where nothing was thought.
            None => {
                let without = self.render(self.first(at), false)?;
                let begin = common(&before, self.whole);
                if without.len() >= before.len() || begin < without.len() || !self.whole.starts_with(&without) {
                    return None;
                }
                begin
            }
        };
        let after = self.render(self.first(at + 1), false)?;
        let end = if self.whole.starts_with(&after) {
            after.len()
        } else {
            // The last words may be followed by an end that a turn within does not have.
            let end = common(&after, self.whole);
            let said = self.changed_in(&after, at, at + 1)?;
            if end < said.end || end <= begin {
                return None;
            }
            end
        };
        let loose = !self.whole.starts_with(&after);
        (end >= begin).then_some(Turn { message: at, bytes: begin..end, loose })
    }

    /// What the head of an answer is in this template.
    fn head(&self) -> String {
        let count = self.conversation.messages.len();
        for cut in (1..=count).rev() {
            let (Some(with), Some(without)) = (self.render(self.first(cut), true), self.render(self.first(cut), false))
            else {
                continue;
            };
            if let Some(head) = with.strip_prefix(&without).filter(|head| !head.is_empty()) {
                return head.to_owned();
            }
        }
        String::new()
    }

    /// Bytes of `text`, which the first `count` messages give, that change with what message `at` says.
    fn changed_in(&self, text: &str, at: usize, count: usize) -> Option<Range<usize>> {
        let mut found: Option<Range<usize>> = None;
        // Two other texts: one may begin or end by chance as what is said does.
        for other in ["Qxjz", "7wvk"] {
            let mut messages = self.first(count);
            replace(messages.get_mut(at)?, other);
            let Some(changed) = self.render(messages, false) else { continue };
            let begin = common(text, &changed);
            let end = text.len() - common_end(&text[begin..], &changed[begin..]);
            let range = begin..end;
            found = Some(match found {
                Some(before) => before.start.min(range.start)..before.end.max(range.end),
                None => range,
            });
        }
        found.filter(|range| !range.is_empty())
    }

    /// The turn where the whole text changes with what it says, from the head of the answer to the end of the turn.
    fn changed(&self, at: usize, from: usize, head: &str) -> Option<Turn> {
        let said = self.changed_in(self.whole, at, self.conversation.messages.len())?;
        let said = said.start.max(from)..said.end;
        if said.is_empty() {
            return None;
        }
        // The head begins with who speaks; what follows may differ from turn to turn.
        let who = head.split_inclusive('\n').next().unwrap_or(head);
        let begin = match self.whole[from..said.start].rfind(who).filter(|_| !who.is_empty()) {
            Some(found) => {
                let found = from + found;
                (found + common(&self.whole[found..], head)).clamp(found + who.len(), said.start.max(found + who.len()))
            }
            None => said.start,
        };
        // The end of a turn is what follows where this turn is the last.
        let alone = self.render(self.first(at + 1), false).and_then(|alone| {
            let said = self.changed_in(&alone, at, at + 1)?;
            Some(alone[said.end..].to_owned())
        });
        let tail = alone.map_or(0, |tail| {
            let shared = common(&tail, &self.whole[said.end..]);
            // Followed by nothing, the whole rest is the end.
            if at + 1 == self.conversation.messages.len() { self.whole.len() - said.end } else { shared }
        });
        Some(Turn { message: at, bytes: begin..said.end + tail, loose: true })
    }
}

/// Replaces what a message says by another text, wherever it says something; false where it says nothing.
fn replace(message: &mut Json, other: &str) -> bool {
    let mut says = false;
    match message.get_mut("content") {
        Some(Json::String(content)) if !content.is_empty() => {
            *content = other.to_owned();
            says = true;
        }
        Some(Json::Array(parts)) => {
            for part in parts.iter_mut().filter(|part| part["text"].is_string()) {
                part["text"] = json!(other);
                says = true;
            }
        }
        _ => {}
    }
    if let Some(calls) = message.get_mut("tool_calls").and_then(Json::as_array_mut) {
        for call in calls {
            let function = if call["function"].is_object() { &mut call["function"] } else { call };
            if function["name"].is_string() {
                function["name"] = json!(other);
                says = true;
            }
        }
    }
    says
}

/// Bytes that two texts have in common at their beginning, in whole characters.
pub fn common(a: &str, b: &str) -> usize {
    let same = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    (0..=same).rev().find(|&at| a.is_char_boundary(at) && b.is_char_boundary(at)).unwrap_or(0)
}

/// Bytes that two texts have in common at their end, in whole characters.
fn common_end(a: &str, b: &str) -> usize {
    let same = a.bytes().rev().zip(b.bytes().rev()).take_while(|(x, y)| x == y).count();
    let whole = |text: &str, count: usize| text.is_char_boundary(text.len() - count);
    (0..=same).rev().find(|&count| whole(a, count) && whole(b, count)).unwrap_or(0)
}
