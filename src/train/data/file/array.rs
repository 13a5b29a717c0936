//! A JSON array of objects, or objects one after the other over several lines, read element by element.

use super::{Content, Kind, Rows};
use crate::error::Result;
use crate::train::data::decode::{self, Input, LONGEST};
use serde_json::Value;
use std::io::{BufRead, Read};

pub(super) const KIND: Kind = Kind { is, open };

fn is(ending: &str, input: &Input) -> bool {
    let named = matches!(ending, "jsonl" | "json" | "ndjson");
    let mut begins = input.head.iter().filter(|byte| !byte.is_ascii_whitespace());
    match (begins.next(), begins.next()) {
        (Some(b'['), second) => named || matches!(second, Some(b'{' | b'[' | b']')),
        // An object over several lines.
        (Some(b'{'), _) if ending == "json" => decode::value(input.first_line().as_bytes()).is_err(),
        (Some(b'{'), _) => named && input.first_line() == "{",
        _ => false,
    }
}

fn open(input: Input) -> Result<Content> {
    let within = input.first_byte() == Some(b'[');
    let lone = !within;
    let array = Array { reader: input.into_reader(), number: 0, within, begun: false, ended: false, lone };
    Ok(Content::Rows(Box::new(array)))
}

struct Array {
    reader: Box<dyn BufRead + Send>,
    number: u64,
    /// Between brackets.
    within: bool,
    begun: bool,
    ended: bool,
    /// Objects without brackets around.
    lone: bool,
}

impl Array {
    fn byte(&mut self) -> std::result::Result<Option<u8>, String> {
        let mut byte = [0];
        loop {
            match self.reader.read(&mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(Some(byte[0])),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("cannot be read: {error}")),
            }
        }
    }

    /// The bytes of the next element; `None` after the last.
    fn element(&mut self) -> std::result::Result<Option<Vec<u8>>, String> {
        if self.within && !self.begun {
            while self.byte()?.is_some_and(|byte| byte != b'[') {}
        }
        let mut comma = !self.begun || self.lone;
        self.begun = true;
        let (mut element, mut depth, mut inside, mut escaped) = (Vec::new(), 0usize, false, false);
        loop {
            let Some(byte) = self.byte()? else {
                if element.is_empty() && self.lone {
                    return Ok(None);
                }
                return Err("not valid JSON: the file ends within the list".to_owned());
            };
            if element.is_empty() {
                match byte {
                    b',' if !comma => comma = true,
                    b']' if !self.lone => {
                        return if comma && self.number > 1 {
                            Err("not valid JSON: a comma before the end of the list".to_owned())
                        } else {
                            Ok(None)
                        };
                    }
                    byte if byte.is_ascii_whitespace() => {}
                    _ if !comma => return Err("not valid JSON: expected a comma between two elements".to_owned()),
                    _ => element.push(byte),
                }
                if element.is_empty() {
                    continue;
                }
            } else if !inside && depth == 0 && matches!(byte, b',' | b']') {
                // The end of a number or a word: no row, but it is named.
                return Ok(Some(element));
            } else {
                element.push(byte);
            }
            if element.len() > LONGEST {
                return Err(format!("an element of more than {LONGEST} bytes"));
            }
            match byte {
                _ if escaped => escaped = false,
                b'\\' if inside => escaped = true,
                b'"' => inside = !inside,
                b'{' | b'[' if !inside => depth += 1,
                b'}' | b']' if !inside => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && !inside && matches!(byte, b'}' | b']' | b'"') {
                return Ok(Some(element));
            }
        }
    }
}

impl Rows for Array {
    fn next(&mut self) -> Option<(u64, std::result::Result<Value, String>)> {
        if self.ended {
            return None;
        }
        self.number += 1;
        let element = self.element();
        self.ended = !matches!(element, Ok(Some(_)));
        match element {
            Ok(None) => None,
            Ok(Some(element)) => Some((self.number, decode::value(&element))),
            Err(why) => Some((self.number, Err(why))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str, lone: bool) -> Vec<std::result::Result<Value, String>> {
        let reader = Box::new(std::io::Cursor::new(text.as_bytes().to_vec()));
        let mut array = Array { reader, number: 0, within: !lone, begun: false, ended: false, lone };
        let mut found = Vec::new();
        while let Some((_, row)) = array.next() {
            found.push(row);
        }
        assert!(array.next().is_none());
        found
    }

    #[test]
    fn elements_come_one_by_one() {
        let text = "[ {\"a\": \"] }\\\" [\", \"b\": [1, {}]},\n\n{\"a\": 2} ]";
        let whole: Vec<Value> = serde_json::from_str(text).unwrap();
        assert_eq!(rows(text, false).into_iter().map(std::result::Result::unwrap).collect::<Vec<_>>(), whole);
        assert!(rows("[]", false).is_empty());
        assert_eq!(rows("{\n\"a\": 1\n}\n{\n\"a\": 2}", true).len(), 2);
        assert_eq!(rows("[3, {}]", false).len(), 2);
    }

    #[test]
    fn broken_lists_are_named() {
        let last = |text: &str| rows(text, false).pop().unwrap().unwrap_err();
        assert!(last("[{\"a\": 1}").contains("ends within"));
        assert!(last("[{\"a\": 1} {\"a\": 2}]").contains("comma"));
        assert!(last("[{\"a\": 1},]").contains("comma"));
        assert!(last("[{\"a\": }]").contains("expected value"));
    }
}
