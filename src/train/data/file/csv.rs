//! Tables with a heading line: CSV, TSV, and what a spreadsheet writes where commas are for numbers.

use super::{Content, Kind, Rows, is_column};
use crate::error::{Error, Result};
use crate::train::data::decode::Input;
use serde_json::{Map, Value};
use std::io::BufRead;

pub(super) const KIND: Kind = Kind { is, open };

const SEPARATORS: [u8; 4] = [b',', b'\t', b';', b'|'];

fn is(ending: &str, input: &Input) -> bool {
    if matches!(ending, "csv" | "tsv") {
        return true;
    }
    // A table without an ending to tell is known by its heading.
    let line = input.first_line();
    let known = |name: &str| is_column(name.trim().trim_matches('"'));
    let heading = |by: u8| line.contains(by as char) && line.split(by as char).all(known);
    !matches!(ending, "json" | "jsonl" | "ndjson") && SEPARATORS.into_iter().any(heading)
}

fn open(input: Input) -> Result<Content> {
    let path = input.path.clone();
    let line = input.first_line().into_owned();
    let tabs = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tsv"));
    // The separator that the heading has, outside of quotes.
    let count = |by: &u8| line.split('"').step_by(2).map(|part| part.matches(*by as char).count()).sum::<usize>();
    let by = if tabs { b'\t' } else { SEPARATORS.into_iter().find(|by| count(by) > 0).unwrap_or(b',') };
    let mut reader = csv::ReaderBuilder::new().delimiter(by).from_reader(input.into_reader());
    let heading = reader.headers().map_err(|error| Error::file(&path, format!("the heading: {}", sentence(&error))))?;
    let columns: Vec<String> = heading.iter().map(|name| name.trim().to_owned()).collect();
    if let Some(twice) = columns.iter().enumerate().find(|(at, name)| columns[..*at].contains(name)) {
        return Err(Error::file(&path, format!("found two columns {:?} in the heading", twice.1)));
    }
    Ok(Content::Rows(Box::new(Table { reader, columns, number: 0 })))
}

struct Table {
    reader: csv::Reader<Box<dyn BufRead + Send>>,
    columns: Vec<String>,
    number: u64,
}

impl Rows for Table {
    fn next(&mut self) -> Option<(u64, std::result::Result<Value, String>)> {
        self.number += 1;
        let mut record = csv::StringRecord::new();
        match self.reader.read_record(&mut record) {
            Ok(false) => None,
            Ok(true) => {
                // An empty cell is a missing value, as for pandas.
                let cell = |text: &str| if text.is_empty() { Value::Null } else { Value::from(text) };
                let cells = self.columns.iter().cloned().zip(record.iter().map(cell));
                Some((self.number, Ok(Value::Object(cells.collect::<Map<_, _>>()))))
            }
            Err(error) => Some((self.number, Err(sentence(&error)))),
        }
    }
}

fn sentence(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("found {len} fields, the heading has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "not UTF-8 text; save the table as UTF-8".to_owned(),
        csv::ErrorKind::Io(error) => format!("cannot be read: {error}"),
        _ => error.to_string(),
    }
}
