//! Training data: files of rows, or text.
//!
//! ```text
//! file ─► rows (JSON lines, array, CSV, Parquet) ─► columns ─► Sample ─► ids, and what is predicted ─► Row
//!     └─► prose, in pieces ───────────────────────────────────────────────┘
//! ```
//!
//! | columns of a row | what is predicted |
//! |---|---|
//! | `input_ids`, `labels`? | the labels that are not −100, without them everything |
//! | `text` | everything, and the end |
//! | `prompt`, `completion` | the completion, and the end; as lists of messages: the assistant's of the completion |
//! | `instruction`, `input`?, `output` | the output, and the end, after Alpaca's prompt |
//! | `messages` or `conversations`, `system`?, `tools`? | the assistant's turns, through the model's chat template |
//!
//! Rows are read one by one and tokenized a few hundred at once, so that a file takes little more than its ids.

pub mod chat;
pub mod columns;
mod decode;
mod file;
#[cfg(test)]
mod gguf_splits;
mod preview;
mod rows;
mod split;
mod text;

pub use chat::known::TEMPLATES;
pub use columns::Columns;
pub use preview::{Piece, Preview};
pub use rows::{Labels, Padded, Row, Rows};
pub use split::{HoldOut, prompts};
pub use text::{Message, Text, Trouble};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::progress::Progress;
use columns::{Reading, Sample, Unfit};
use file::{Content, Opened, Prose};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// Which part of what a row says is to be predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossOn {
    /// What the assistant says, the completion, the output.
    #[default]
    Completions,
    /// Everything.
    All,
    /// The assistant's last turn.
    Last,
}

impl LossOn {
    /// Whether it is what is predicted where nothing is said.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How data are read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataOptions {
    /// Columns by what they are for, where their names do not say it.
    pub columns: Columns,
    /// A chat template in place of the model's own: a known name or a file.
    pub chat_template: Option<String>,
    /// What is predicted.
    pub loss_on: LossOn,
}

/// A data set, and what could not be used of it.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// What can be.
    pub rows: Rows,
    /// Sentences, each about a row that was left out or cut.
    pub notes: Vec<String>,
    /// Rows left out.
    pub left_out: usize,
    /// Rows cut to `seq` tokens.
    pub cut: usize,
    /// Tokens of the longest row, before it was cut.
    pub longest: usize,
}

/// Sentences that are kept about single rows; the rest are only counted.
const NOTES: usize = 5;
/// Rows that are tokenized at once, and bytes of them.
const BATCH: [usize; 2] = [512, 1 << 20];
/// Pieces of a text that are tokenized at once.
const PIECES: usize = 8;
/// Bytes of a text of which only the beginning is tokenized where the rest would be cut off anyway.
const LONG: usize = 1 << 20;

/// Reads a data file for a model, as its columns say.
///
/// # Errors
/// As [`read_with`].
pub fn read(path: &Path, checkpoint: &Checkpoint, seq: usize, progress: &dyn Progress) -> Result<Data> {
    read_with(path, checkpoint, seq, &DataOptions::default(), progress)
}

/// The names of the columns of a file's first row; none where it holds plain text.
///
/// # Errors
/// When it cannot be read.
pub fn keys(path: &Path) -> Result<Vec<String>> {
    let Content::Rows(mut rows) = file::open(path)?.content else { return Ok(Vec::new()) };
    match rows.next() {
        Some((_, Ok(Value::Object(row)))) => Ok(row.keys().cloned().collect()),
        Some((number, Err(why))) => Err(Error::file(path, format!("{} {number}: {why}", rows.unit()))),
        _ => Ok(Vec::new()),
    }
}

/// Reads a data file for a model.
///
/// # Errors
/// An empty file, a row that cannot be read or used (numbered), rows of different forms, a form that is not known, ids outside
/// the vocabulary, no tokenizer where text needs one, no row that can be used; and cancellation.
pub fn read_with(
    path: &Path,
    checkpoint: &Checkpoint,
    seq: usize,
    options: &DataOptions,
    progress: &dyn Progress,
) -> Result<Data> {
    let Opened { content, notes, far } = file::open(path)?;
    let vocab = checkpoint.spec().map_or(usize::MAX, |spec| spec.vocab);
    let mut reader = Reader { path, checkpoint, vocab, seq, options, data: Data { notes, ..Data::default() } };
    let step = || {
        let (read, size) = far.now();
        progress.step(read, size.max(1))
    };
    match content {
        Content::Rows(rows) => reader.rows(rows, &step)?,
        Content::Prose(prose) => reader.prose(prose, &step)?,
    }
    let mut data = reader.data;
    if data.rows.rows.is_empty() {
        let why = data.notes.first().map_or_else(String::new, |note| format!("; {note}"));
        let advice = if data.longest > seq && data.left_out > 0 {
            format!("; the longest row has {} tokens: set the sequence to that", data.longest)
        } else {
            String::new()
        };
        return Err(Error::file(path, format!("no row can be used{why}{advice}")));
    }
    for (count, what) in [(data.left_out, "left out"), (data.cut, "cut")] {
        if count > NOTES {
            data.notes.push(format!("{count} rows were {what} in all"));
        }
    }
    Ok(data)
}

/// Says how far the reading is; asked by every thread, before each row or piece, whether to go on.
type Step<'a> = &'a (dyn Fn() -> Result<()> + Sync);

struct Reader<'a> {
    path: &'a Path,
    checkpoint: &'a Checkpoint,
    vocab: usize,
    seq: usize,
    options: &'a DataOptions,
    data: Data,
}

/// A row of the file before it is tokenized: its place, and what it means.
type Read = (String, std::result::Result<Sample, Unfit>);

impl Reader<'_> {
    fn wrong(&self, place: &str, why: &str) -> Error {
        Error::file(self.path, format!("{place}: {why}"))
    }

    fn tokenizer(&self) -> Result<Text> {
        Text::of(self.checkpoint, self.options.chat_template.as_deref())
    }

    fn rows(&mut self, mut rows: Box<dyn file::Rows>, step: Step) -> Result<()> {
        let (mut reading, mut tokenizer): (Option<Reading>, Option<Text>) = (None, None);
        let columns = self.options.columns.clone();
        loop {
            let (mut batch, mut bytes, mut broken) = (Vec::<Read>::new(), 0, None);
            while batch.len() < BATCH[0] && bytes < BATCH[1] {
                let Some((number, row)) = rows.next() else { break };
                let place = format!("{} {number}", rows.unit());
                let found = row.and_then(|row| {
                    let reading = match reading {
                        Some(reading) => reading,
                        None => *reading.insert(Reading::of(&row, &columns)?),
                    };
                    Ok(reading.read(&row, &columns))
                });
                match found {
                    Ok(sample) => {
                        bytes += sample.as_ref().map_or(0, weight);
                        batch.push((place, sample));
                    }
                    // Rows before it may be wrong as well: the first is named.
                    Err(why) => {
                        broken = Some(self.wrong(&place, &why));
                        break;
                    }
                }
            }
            step()?;
            if tokenizer.is_none() && reading.is_some_and(Reading::is_text) {
                tokenizer = Some(self.tokenizer()?);
            }
            let ends = batch.is_empty();
            let this = &*self;
            let made: Vec<_> = batch
                .into_par_iter()
                .map(|(place, sample)| {
                    let row = sample.map(|sample| {
                        step().map_err(Trouble::All)?;
                        this.row(sample, tokenizer.as_ref())
                    });
                    (place, row)
                })
                .collect();
            for (place, row) in made {
                match row {
                    Ok(Ok((row, length))) => self.push(row, length, &place),
                    Ok(Err(Trouble::All(error))) => return Err(error),
                    Ok(Err(Trouble::Row(why))) | Err(Unfit::Wrong(why)) => return Err(self.wrong(&place, &why)),
                    Err(Unfit::Left(why)) => {
                        self.data.left_out += 1;
                        self.note(self.data.left_out, format!("{place} is left out: {why}"));
                    }
                }
            }
            if let Some(error) = broken {
                return Err(error);
            }
            if ends {
                return Ok(());
            }
        }
    }

    /// A sample as a row, and how many tokens it has in all.
    fn row(&self, sample: Sample, tokenizer: Option<&Text>) -> std::result::Result<(Row, usize), Trouble> {
        let tokenizer = |_: &Sample| tokenizer.ok_or_else(|| Trouble::Row("no tokenizer".to_owned()));
        let whole = self.options.loss_on == LossOn::All;
        let row = match sample {
            Sample::Ids(ids, labels) => {
                return given(ids, labels, self.vocab).map(counted).map_err(Trouble::Row);
            }
            Sample::Text(ref text) => self.completed(tokenizer(&sample)?, text, 0)?,
            Sample::Pair(ref prompt, ref completion) => {
                let from = if whole { 0 } else { prompt.len() };
                self.completed(tokenizer(&sample)?, &format!("{prompt}{completion}"), from)?
            }
            Sample::Chat(ref conversation, from) => {
                counted(tokenizer(&sample)?.conversation(conversation, self.options.loss_on, from)?)
            }
        };
        if let Some(&id) = row.0.ids.iter().find(|&&id| id as usize >= self.vocab) {
            let name = tokenizer(&sample)?.token(id).unwrap_or_default();
            let message = format!("token {id} ({name}) is beyond the {} rows of the model's embedding", self.vocab);
            return Err(Trouble::Row(message));
        }
        Ok(row)
    }

    /// A text, of one that is far longer than a sequence only the beginning.
    fn completed(&self, tokenizer: &Text, text: &str, from: usize) -> Result<(Row, usize)> {
        let mut length = LONG.max(self.seq.saturating_mul(16));
        while length < text.len() {
            let end = (0..=length).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            let row = tokenizer.completed(&text[..end], from)?;
            if row.ids.len() > self.seq.saturating_add(16) {
                let count = row.ids.len();
                return Ok((row, count));
            }
            length = length.saturating_mul(4);
        }
        Ok(counted(tokenizer.completed(text, from)?))
    }

    fn prose(&mut self, mut prose: Prose, step: Step) -> Result<()> {
        let tokenizer = self.tokenizer()?;
        let [before, after] = tokenizer.around()?;
        let mut ids = before;
        loop {
            step()?;
            let mut pieces = Vec::new();
            while pieces.len() < PIECES {
                let Some(piece) = prose.next()? else { break };
                pieces.push(piece);
            }
            let ends = pieces.len() < PIECES;
            let made: Vec<_> = pieces
                .par_iter()
                .map(|piece| {
                    step()?;
                    let (ids, offsets) = tokenizer.encode(&piece.text, false)?;
                    let kept = ids.into_iter().zip(offsets).filter(|(_, (begin, _))| *begin >= piece.context);
                    Ok(kept.map(|(id, _)| id).collect::<Vec<u32>>())
                })
                .collect::<Result<_>>()?;
            ids.extend(made.into_iter().flatten());
            if ends {
                ids.extend(&after);
                if let Some(eos) = tokenizer.eos.filter(|eos| ids.last() != Some(eos)) {
                    ids.push(eos);
                }
            }
            if let Some(id) = ids.iter().find(|&&id| id as usize >= self.vocab) {
                let message = format!("token {id} is beyond the {} rows of the model's embedding", self.vocab);
                return Err(Error::file(self.path, message));
            }
            let whole = if ends { ids.len() } else { ids.len() / self.seq * self.seq };
            for some in ids[..whole].chunks(self.seq) {
                self.push(Row::all(some.to_vec()), some.len(), "the last piece of the text");
            }
            ids.drain(..whole);
            if ends {
                return Ok(());
            }
        }
    }

    fn note(&mut self, count: usize, sentence: String) {
        if count <= NOTES {
            self.data.notes.push(sentence);
        }
    }

    /// Keeps a row, cut to the longest that is allowed, unless nothing in it is to be predicted.
    fn push(&mut self, mut row: Row, length: usize, place: &str) {
        self.data.longest = self.data.longest.max(length);
        if row.ids.len() > self.seq {
            row.truncate(self.seq);
        }
        if row.predictions() == 0 {
            self.data.left_out += 1;
            let why =
                if length > self.seq { format!(" within {} of its {length} tokens", self.seq) } else { String::new() };
            self.note(self.data.left_out, format!("{place} is left out: nothing is to be predicted{why}"));
            return;
        }
        if length > self.seq {
            self.data.cut += 1;
            self.note(self.data.cut, format!("{place} is cut from {length} to {} tokens", self.seq));
        }
        self.data.rows.rows.push(row);
    }
}

fn counted(row: Row) -> (Row, usize) {
    let length = row.ids.len();
    (row, length)
}

/// Bytes of a sample, near enough.
fn weight(sample: &Sample) -> usize {
    let of_message = |message: &Value| message["content"].as_str().map_or(256, str::len);
    match sample {
        Sample::Ids(ids, _) => ids.len() * 8,
        Sample::Text(text) => text.len(),
        Sample::Pair(prompt, completion) => prompt.len() + completion.len(),
        Sample::Chat(conversation, _) => conversation.messages.iter().map(of_message).sum(),
    }
}

/// A row of ids that stand in the file.
fn given(ids: Vec<i64>, labels: Option<Vec<i64>>, vocab: usize) -> std::result::Result<Row, String> {
    let inside = |id: i64| (0..vocab.min(i32::MAX as usize) as i64).contains(&id);
    if let Some(id) = ids.iter().chain(labels.iter().flatten().filter(|&&id| id != -100)).find(|&&id| !inside(id)) {
        return Err(format!("token id {id} is outside the model's vocabulary of {vocab}"));
    }
    let ids: Vec<u32> = ids.into_iter().map(|id| id as u32).collect();
    match labels {
        None => Ok(Row::all(ids)),
        Some(labels) if labels.len() != ids.len() => {
            Err(format!("{} labels for {} input_ids", labels.len(), ids.len()))
        }
        Some(labels) => {
            let labels = Labels::Given(labels.into_iter().map(|label| label as i32).collect());
            Ok(Row { ids, labels, ..Row::default() })
        }
    }
}
