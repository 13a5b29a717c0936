//! Parquet, as data sets are kept on the hub: row group by row group.

use super::{Content, Kind, Rows};
use crate::error::{Error, Result};
use crate::guard;
use crate::train::data::decode::Input;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use serde_json::Value;

pub(super) const KIND: Kind = Kind { is, open };

/// The first bytes of every such file.
pub(super) const MAGIC: &[u8] = b"PAR1";

/// Bytes that a row group may take when it is unpacked; they are read one after the other.
const GROUP: i64 = 8 << 30;

fn is(ending: &str, input: &Input) -> bool {
    ending == "parquet" || input.head.starts_with(MAGIC)
}

fn open(input: Input) -> Result<Content> {
    let path = input.path;
    let wrong = |why: String| Error::file(&path, format!("not a Parquet file that can be read: {why}"));
    let file = guard::regular(&path)?;
    let reader = guard::caught(|| SerializedFileReader::new(file)).map_err(wrong)?;
    let reader = reader.map_err(|error| wrong(error.to_string()))?;
    if let Some(group) = reader.metadata().row_groups().iter().find(|group| group.total_byte_size() > GROUP) {
        return Err(wrong(format!("a group of {} bytes", group.total_byte_size())));
    }
    let rows = guard::caught(|| RowIter::from_file_into(Box::new(reader))).map_err(wrong)?;
    Ok(Content::Rows(Box::new(Table { rows, number: 0, ended: false })))
}

struct Table {
    rows: RowIter<'static>,
    number: u64,
    ended: bool,
}

impl Rows for Table {
    fn next(&mut self) -> Option<(u64, std::result::Result<Value, String>)> {
        if self.ended {
            return None;
        }
        self.number += 1;
        let row = match guard::caught(|| self.rows.next()) {
            Ok(None) => return None,
            Ok(Some(Ok(row))) => guard::caught(|| object(&row)).and_then(|row| row),
            Ok(Some(Err(error))) => Err(error.to_string()),
            Err(why) => Err(why),
        };
        self.ended = row.is_err();
        Some((self.number, row.map_err(|why| format!("cannot be read: {why}"))))
    }
}

/// A cell. Texts may be stored as bare bytes.
fn cell(field: &Field) -> std::result::Result<Value, String> {
    Ok(match field {
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Value::from(text),
            Err(_) => return Err("bytes that are no UTF-8 text".to_owned()),
        },
        Field::Group(row) => object(row)?,
        Field::ListInternal(list) => {
            Value::Array(list.elements().iter().map(cell).collect::<std::result::Result<_, _>>()?)
        }
        other => other.to_json_value(),
    })
}

/// A row, or a struct within one. A column that cannot be read matters only where it is used.
fn object(row: &Row) -> std::result::Result<Value, String> {
    let cells = row.get_column_iter().map(|(name, field)| (name.clone(), cell(field).unwrap_or_default()));
    Ok(Value::Object(cells.collect()))
}
