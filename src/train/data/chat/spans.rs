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
        match search.between(at).filter(|turn| turn.bytes.start >= from) {
            Some(turn) => turns.push(turn),
            None => {
                let head = head.get_or_insert_with(|| search.head());
                let found = search.changed(at, from, head).ok_or_else(|| {
                    let at = at + 1;
                    format!(
                        "what message {at} says is not found in the text; {{% generation %}} in the template marks it"
                    )
                })?;
                turns.extend(found);
            }
        }
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
                let head = before.strip_prefix(&without)?;
                if begin < without.len() + who(head).len().div_ceil(2) || !self.whole.starts_with(&without) {
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
            let said = self.changed_in(&after, at, at + 1, Part::Said)?;
            if end < said.end || end <= begin {
                return None;
            }
            said.end + ended(&self.whole[said.end..end])
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

    /// Bytes of `text`, which the first `count` messages give, that change with what message `at` says; none of them, but
    /// a place, where it says nothing. `None` where the template writes nothing of it.
    fn changed_in(&self, text: &str, at: usize, count: usize, part: Part) -> Option<Range<usize>> {
        let mut found: Option<Range<usize>> = None;
        // Two other texts: one may begin or end by chance as what is said does.
        for other in ["Qxjz", "7wvk"] {
            let mut messages = self.first(count);
            if !replace(messages.get_mut(at)?, other, part) {
                continue;
            }
            let Some(changed) = self.render(messages, false).filter(|changed| changed != text) else { continue };
            let begin = common(text, &changed);
            let end = text.len() - common_end(&text[begin..], &changed[begin..]);
            let range = begin..end;
            found = Some(match found {
                Some(before) => before.start.min(range.start)..before.end.max(range.end),
                None => range,
            });
        }
        found
    }

    /// The turn where the whole text changes with what it says, from the head of the answer to the end of the turn; two
    /// where others speak between its calls and its words, none where the template writes nothing of it. `None` where it
    /// would lie within the turn before.
    fn changed(&self, at: usize, from: usize, head: &str) -> Option<Vec<Turn>> {
        let count = self.conversation.messages.len();
        let of = |part: Part| self.changed_in(self.whole, at, count, part);
        // Names of calls stand again in what answers them; their arguments do not.
        let calls = match (of(Part::Calls), of(Part::Arguments)) {
            (Some(begin), Some(end)) => Some(begin.start.min(end.start)..end.end),
            (Some(calls), None) | (None, Some(calls)) => Some(calls),
            (None, None) => None,
        };
        let parts = [calls.map(|said| (said, Part::Arguments)), of(Part::Words).map(|said| (said, Part::Words))];
        let mut parts: Vec<(Range<usize>, Part)> = parts.into_iter().flatten().collect();
        parts.sort_by_key(|(said, _)| said.start);
        if let [(first, _), (second, _)] = &parts[..]
            && (first.end >= second.start || !self.others_between(at, first.end..second.start))
        {
            parts = vec![(first.start..first.end.max(second.end), Part::Said)];
        }
        if parts.is_empty() {
            // Calls that the template does not know, and no words: words would stand where the turn is.
            parts.extend(of(Part::Place).map(|said| (said, Part::Place)));
        }
        let mut turns: Vec<Turn> = Vec::new();
        for (said, part) in parts {
            let from = turns.last().map_or(from, |turn| turn.bytes.end);
            if said.end < from {
                return None;
            }
            turns.push(self.around(at, part, said.start.max(from)..said.end, from, head));
        }
        Some(turns)
    }

    /// Whether others than the assistant say something there, after message `at`.
    fn others_between(&self, at: usize, place: Range<usize>) -> bool {
        let messages = &self.conversation.messages;
        let others = (at + 1..messages.len()).take_while(|&other| !is_assistant(&messages[other]));
        let said = |other| self.changed_in(self.whole, other, messages.len(), Part::Words);
        others.filter_map(said).any(|said| said.start >= place.start && said.end <= place.end)
    }

    /// What is said at a place, with the head before it and the end of the turn behind it.
    fn around(&self, at: usize, part: Part, said: Range<usize>, from: usize, head: &str) -> Turn {
        // The head begins with who speaks; what follows may differ from turn to turn.
        let who = who(head);
        let begin = match self.whole[from..said.start].rfind(who).filter(|_| !who.is_empty()) {
            Some(found) => {
                let found = from + found;
                (found + common(&self.whole[found..], head)).clamp(found + who.len(), said.start.max(found + who.len()))
            }
            None => said.start,
        };
        // The end of a turn is what follows where this turn is the last.
        let alone = self.render(self.first(at + 1), false).and_then(|alone| {
            let said = self.changed_in(&alone, at, at + 1, part)?;
            Some(alone[said.end..].to_owned())
        });
        let rest = &self.whole[said.end..];
        let tail = match alone {
            // Followed by nothing, the whole rest is the end.
            Some(_) if at + 1 == self.conversation.messages.len() => rest.len(),
            Some(tail) if rest.starts_with(&tail) => tail.len(),
            Some(tail) => ended(&rest[..common(&tail, rest)]),
            None => 0,
        };
        Turn { message: at, bytes: begin..said.end + tail, loose: true }
    }
}

/// The part of an answer's head that says who speaks: its first line.
fn who(head: &str) -> &str {
    head.split_inclusive('\n').next().unwrap_or(head)
}

/// Bytes of an end that two texts share, without a sign that only begins alike: `<` of `</s>` and of `<|user|>`.
fn ended(shared: &str) -> usize {
    let last = shared.char_indices().rev().find(|(_, c)| c.is_whitespace() || ">]})｜".contains(*c));
    last.map_or(0, |(at, c)| at + c.len_utf8())
}

/// What of a message is replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// What is said, and the names and arguments of calls.
    Said,
    /// What is said.
    Words,
    /// Names and arguments of calls.
    Calls,
    /// Arguments of calls.
    Arguments,
    /// Words where none are.
    Place,
}

/// Replaces what a message says by another text; false where there is nothing to replace.
fn replace(message: &mut Json, other: &str, part: Part) -> bool {
    let mut says = false;
    let has_calls = message["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty());
    if part == Part::Place {
        let nothing = message["content"].as_str().is_none_or(str::is_empty);
        if let Some(message) = message.as_object_mut().filter(|_| nothing) {
            message.insert("content".to_owned(), json!(other));
        }
        return nothing;
    }
    if matches!(part, Part::Said | Part::Words) {
        match message.get_mut("content") {
            // Words beside a call may change its form: none are put where none are.
            Some(Json::String(content)) if !content.is_empty() || !has_calls => {
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
    }
    if part != Part::Words
        && let Some(calls) = message.get_mut("tool_calls").and_then(Json::as_array_mut)
    {
        for call in calls {
            let function = if call["function"].is_object() { &mut call["function"] } else { call };
            if part != Part::Arguments && function["name"].is_string() {
                function["name"] = json!(other);
                says = true;
            }
            match function.get_mut("arguments") {
                Some(Json::Object(arguments)) => {
                    arguments.insert(other.to_owned(), json!(other));
                    says = true;
                }
                Some(Json::String(arguments)) => {
                    *arguments = json!({(other): other}).to_string();
                    says = true;
                }
                _ => {}
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
