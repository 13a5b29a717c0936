//! Data files: JSON lines of one of five forms, or plain text.
//!
//! | a line | what is predicted |
//! |---|---|
//! | `{"input_ids": […], "labels"?: […]}` | the labels that are not −100, without them everything |
//! | `{"text": "…"}` | everything, and the end |
//! | `{"prompt": "…", "completion": "…"}` | the completion, and the end |
//! | `{"instruction": "…", "input"?: "…", "output": "…"}` | the output, and the end, after Alpaca's prompt |
//! | `{"messages": [{"role", "content"}, …]}` | the assistant's turns, through the model's chat template |
//!
//! Anything else than JSON lines is plain text: all of it is predicted, in pieces of `seq` tokens.

use super::rows::{Row, Rows};
use super::text::Text;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::progress::Progress;
use serde_json::Value;
use std::path::Path;

/// The forms of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Ids,
    Text,
    Prompt,
    Instruction,
    Messages,
}

impl Form {
    fn of(line: &Value) -> Option<Self> {
        let has = |key: &str| line.get(key).is_some();
        if has("input_ids") {
            Some(Self::Ids)
        } else if has("messages") {
            Some(Self::Messages)
        } else if has("prompt") && has("completion") {
            Some(Self::Prompt)
        } else if has("instruction") && has("output") {
            Some(Self::Instruction)
        } else if has("text") {
            Some(Self::Text)
        } else {
            None
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ids => "input_ids",
            Self::Text => "text",
            Self::Prompt => "prompt and completion",
            Self::Instruction => "instruction and output",
            Self::Messages => "messages",
        }
    }
}

/// A data set, and what could not be used of it.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// What can be.
    pub rows: Rows,
    /// Sentences, each about a line that was left out or cut.
    pub notes: Vec<String>,
    /// Lines left out.
    pub left_out: usize,
    /// Lines cut to `seq` tokens.
    pub cut: usize,
}

/// Sentences that are kept about single lines; the rest are only counted.
const NOTES: usize = 5;

/// Reads a data file for a model.
///
/// # Errors
/// An empty file, a line that is not JSON (numbered), lines of different forms, a form that is not known, ids outside
/// the vocabulary, no tokenizer where text needs one, no row that can be used; and cancellation.
pub fn read(path: &Path, checkpoint: &Checkpoint, seq: usize, progress: &dyn Progress) -> Result<Data> {
    let bytes = std::fs::read(path).map_err(|error| Error::read(path, "read", &error))?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| Error::file(path, format!("not text: the byte at {} is not UTF-8", error.valid_up_to())))?;
    if text.trim().is_empty() {
        return Err(Error::file(path, "the file is empty, expected JSON lines or text"));
    }
    let folder = checkpoint.path();
    let folder = if folder.is_dir() { folder } else { folder.parent().unwrap_or(folder) };
    let vocab = checkpoint.spec().map_or(usize::MAX, |spec| spec.vocab);
    let mut reader = Reader { path, vocab, seq, data: Data::default() };
    let json =
        text.trim_start().starts_with('{') || path.extension().is_some_and(|end| end == "jsonl" || end == "json");
    if json {
        reader.lines(text, folder, progress)?;
    } else {
        let tokenizer = reader.tokenizer(folder)?;
        let row = tokenizer.row(text, std::slice::from_ref(&(0..text.len())), true, true)?;
        for (ids, labels) in row.ids.chunks(seq).zip(row.labels.chunks(seq)) {
            reader.push(
                Row { ids: ids.to_vec(), labels: labels.to_vec(), ..Row::default() },
                "the last piece of the text",
            );
        }
    }
    let mut data = reader.data;
    if data.rows.rows.is_empty() {
        let why = data.notes.first().map_or_else(String::new, |note| format!("; {note}"));
        return Err(Error::file(path, format!("no row can be used{why}")));
    }
    for (count, what) in [(data.left_out, "left out"), (data.cut, "cut")] {
        if count > NOTES {
            data.notes.push(format!("{count} rows were {what} in all"));
        }
    }
    Ok(data)
}

struct Reader<'a> {
    path: &'a Path,
    vocab: usize,
    seq: usize,
    data: Data,
}

impl Reader<'_> {
    fn tokenizer(&self, folder: &Path) -> Result<Text> {
        let text = Text::open(folder)?;
        if text.vocabulary() > self.vocab {
            let message =
                format!("the tokenizer has {} tokens, the model's embedding {}", text.vocabulary(), self.vocab);
            return Err(Error::file(&folder.join("tokenizer.json"), message));
        }
        Ok(text)
    }

    fn lines(&mut self, text: &str, folder: &Path, progress: &dyn Progress) -> Result<()> {
        let (mut form, mut tokenizer) = (None, None);
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            if number % 256 == 0 {
                progress.step(number as u64, text.len() as u64)?;
            }
            let place = format!("line {}", number + 1);
            let wrong = |message: String| Error::file(self.path, format!("{place}: {message}"));
            let json: Value = serde_json::from_str(line).map_err(|error| wrong(format!("not valid JSON: {error}")))?;
            let found = Form::of(&json).ok_or_else(|| {
                wrong("expected input_ids, text, prompt and completion, instruction and output, or messages".to_owned())
            })?;
            let first = *form.get_or_insert(found);
            if first != found {
                let message = format!(
                    "found {}, the lines before have {}; expected one form in a file",
                    found.name(),
                    first.name()
                );
                return Err(wrong(message));
            }
            if found != Form::Ids && tokenizer.is_none() {
                tokenizer = Some(self.tokenizer(folder)?);
            }
            let row = match (found, &tokenizer) {
                (Form::Ids, _) => ids(&json, self.vocab),
                (_, Some(text)) => written(found, &json, text)?,
                (_, None) => Err("no tokenizer".to_owned()),
            };
            match row {
                Ok(row) => self.push(row, &place),
                Err(message) => return Err(Error::file(self.path, format!("{place}: {message}"))),
            }
        }
        Ok(())
    }

    /// Keeps a row, cut to the longest that is allowed, unless nothing in it is to be predicted.
    fn push(&mut self, mut row: Row, place: &str) {
        let length = row.ids.len();
        if length > self.seq {
            row.ids.truncate(self.seq);
            row.labels.truncate(self.seq);
        }
        let data = &mut self.data;
        if row.predictions() == 0 {
            data.left_out += 1;
            if data.left_out <= NOTES {
                let why = if length > self.seq {
                    format!(" within {} of its {length} tokens", self.seq)
                } else {
                    String::new()
                };
                data.notes.push(format!("{place} is left out: nothing is to be predicted{why}"));
            }
            return;
        }
        if length > self.seq {
            data.cut += 1;
            if data.cut <= NOTES {
                data.notes.push(format!("{place} is cut from {length} to {} tokens", self.seq));
            }
        }
        data.rows.rows.push(row);
    }
}

fn ids(line: &Value, vocab: usize) -> std::result::Result<Row, String> {
    let list = |key: &str| -> std::result::Result<Option<Vec<i64>>, String> {
        let Some(found) = line.get(key).filter(|found| !found.is_null()) else { return Ok(None) };
        let numbers: Option<Vec<i64>> = found.as_array().and_then(|list| list.iter().map(Value::as_i64).collect());
        numbers.map(Some).ok_or_else(|| format!("{key} is not a list of whole numbers"))
    };
    let ids = list("input_ids")?.unwrap_or_default();
    let labels = list("labels")?;
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
            Ok(Row { ids, labels: labels.into_iter().map(|label| label as i32).collect(), ..Row::default() })
        }
    }
}

/// A line of text. The outer error is the tokenizer's, the inner one the line's.
fn written(form: Form, line: &Value, text: &Text) -> Result<std::result::Result<Row, String>> {
    let field = |key: &str| match line.get(key) {
        Some(Value::String(text)) => Ok(text.as_str()),
        None | Some(Value::Null) => Ok(""),
        Some(_) => Err(format!("{key} is not a text")),
    };
    let pair = |prompt: &str, completion: &str| {
        let whole = format!("{prompt}{completion}");
        text.row(&whole, std::slice::from_ref(&(prompt.len()..whole.len())), true, true)
    };
    let fields = |keys: [&'static str; 3]| -> std::result::Result<[&str; 3], String> {
        Ok([field(keys[0])?, field(keys[1])?, field(keys[2])?])
    };
    let row = match form {
        Form::Ids => return Ok(Err("no text".to_owned())),
        Form::Text => match field("text") {
            Ok(all) => text.row(all, std::slice::from_ref(&(0..all.len())), true, true)?,
            Err(message) => return Ok(Err(message)),
        },
        Form::Prompt => match fields(["prompt", "completion", "completion"]) {
            Ok([prompt, completion, _]) => pair(prompt, completion)?,
            Err(message) => return Ok(Err(message)),
        },
        Form::Instruction => match fields(["instruction", "input", "output"]) {
            Ok([instruction, input, output]) => pair(&alpaca(instruction, input), output)?,
            Err(message) => return Ok(Err(message)),
        },
        Form::Messages => match line.get("messages").and_then(Value::as_array) {
            Some(messages) => text.conversation(messages)?,
            None => return Ok(Err("messages is not a list".to_owned())),
        },
    };
    Ok(Ok(row))
}

/// Stanford Alpaca's prompt.
fn alpaca(instruction: &str, input: &str) -> String {
    if input.is_empty() {
        format!(
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
        )
    } else {
        format!(
            "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
        )
    }
}
