//! JSON lines: an object a line. Only a line feed ends a line.

use super::{Content, Kind, Rows};
use crate::error::Result;
use crate::train::data::decode::{self, Input, LONGEST};
use serde_json::Value;
use std::io::{BufRead, Read};

pub(super) const KIND: Kind = Kind { is, open };

fn is(ending: &str, input: &Input) -> bool {
    let named = matches!(ending, "jsonl" | "json" | "ndjson");
    let object = || {
        let line = input.first_line();
        line.starts_with('{') && decode::value(line.as_bytes()).is_ok_and(|value| value.is_object())
    };
    // A text may begin with a brace; a table is known by a whole row.
    named || input.first_byte() == Some(b'{') && (!super::prose::ENDINGS[1..].contains(&ending) || object())
}

fn open(input: Input) -> Result<Content> {
    Ok(Content::Rows(Box::new(Lines { reader: input.into_reader(), number: 0, line: Vec::new() })))
}

struct Lines {
    reader: Box<dyn BufRead + Send>,
    number: u64,
    line: Vec<u8>,
}

impl Rows for Lines {
    fn next(&mut self) -> Option<(u64, std::result::Result<Value, String>)> {
        loop {
            self.line.clear();
            self.number += 1;
            let most = LONGEST as u64 + 1;
            match self.reader.by_ref().take(most).read_until(b'\n', &mut self.line) {
                Ok(0) => return None,
                Ok(_) if self.line.len() > LONGEST => {
                    return Some((self.number, Err(format!("a line of more than {LONGEST} bytes"))));
                }
                Ok(_) if self.line.trim_ascii().is_empty() => {}
                Ok(_) => return Some((self.number, decode::value(self.line.trim_ascii()))),
                Err(error) => return Some((self.number, Err(format!("cannot be read: {error}")))),
            }
        }
    }

    fn unit(&self) -> &'static str {
        "line"
    }
}
