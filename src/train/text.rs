//! [`Text`]: a model's own tokenizer and chat template.

use super::rows::Row;
use crate::error::{Error, Result};
use minijinja::value::{Value, from_args};
use minijinja::{Environment, ErrorKind, State};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// Turns text into rows of ids.
pub struct Text {
    folder: PathBuf,
    tokenizer: Tokenizer,
    template: Option<String>,
    /// Texts by the names that templates use: `bos_token`, `eos_token`, `pad_token`, `unk_token`.
    special: Vec<(&'static str, String)>,
    /// What ends a text.
    pub eos: Option<u32>,
}

/// One turn of a conversation.
pub type Message = Json;

const SPECIAL: [&str; 4] = ["bos_token", "eos_token", "pad_token", "unk_token"];

impl Text {
    /// Opens `tokenizer.json` of a model's folder, and `tokenizer_config.json` and `chat_template.jinja` where they are.
    ///
    /// # Errors
    /// When there is no tokenizer, or a file cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            return Err(Error::file(
                folder,
                "found no tokenizer.json, expected one beside the weights; data of input_ids needs none",
            ));
        }
        let tokenizer =
            Tokenizer::from_file(&path).map_err(|error| Error::file(&path, format!("not a tokenizer: {error}")))?;
        let json = |name: &str| -> Result<Json> {
            let path = folder.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => serde_json::from_slice(&bytes)
                    .map_err(|error| Error::file(&path, format!("not valid JSON: {error}"))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Json::Null),
                Err(error) => Err(Error::read(&path, "read", &error)),
            }
        };
        let config = json("tokenizer_config.json")?;
        let text = |value: &Json| value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned);
        let special: Vec<_> = SPECIAL.into_iter().filter_map(|key| Some((key, text(&config[key])?))).collect();
        let of_model = json("config.json")?;
        let named =
            special.iter().find(|(key, _)| *key == "eos_token").and_then(|(_, text)| tokenizer.token_to_id(text));
        let numbered = of_model["eos_token_id"].as_u64().or_else(|| of_model["eos_token_id"][0].as_u64());
        let template = match std::fs::read_to_string(folder.join("chat_template.jinja")) {
            Ok(template) => Some(template),
            Err(_) => match &config["chat_template"] {
                Json::Array(list) => {
                    list.iter().find(|one| one["name"] == "default").and_then(|one| text(&one["template"]))
                }
                other => other.as_str().map(str::to_owned),
            },
        };
        let eos = named.or(numbered.map(|id| id as u32));
        Ok(Self { folder: folder.to_path_buf(), tokenizer, template, special, eos })
    }

    /// Ids that the tokenizer can give, added tokens included.
    pub fn vocabulary(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Ids of a text, as the model is given it.
    ///
    /// # Errors
    /// When the tokenizer cannot take it.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode(text, true).map_err(|error| self.refused(&error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids, without special tokens.
    ///
    /// # Errors
    /// When an id is not the tokenizer's.
    pub fn text(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, true).map_err(|error| self.refused(&error))
    }

    /// The text of one id, special tokens as they are written.
    ///
    /// # Errors
    /// When the id is not the tokenizer's.
    pub fn token(&self, id: u32) -> Result<String> {
        self.tokenizer.decode(&[id], false).map_err(|error| self.refused(&error))
    }

    fn refused(&self, error: &tokenizers::Error) -> Error {
        Error::file(&self.folder.join("tokenizer.json"), error.to_string())
    }

    /// A text of which the parts `asked` (in bytes) are to be predicted, and its end if `ends`.
    ///
    /// # Errors
    /// As [`ids`](Self::ids).
    pub fn row(&self, text: &str, asked: &[std::ops::Range<usize>], special: bool, ends: bool) -> Result<Row> {
        let encoding = self.tokenizer.encode(text, special).map_err(|error| self.refused(&error))?;
        let mut row = Row::default();
        for (&id, &(begin, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            // A token belongs to the part in which it begins. Special tokens that were put around have no length.
            let within = end > begin && asked.iter().any(|part| part.contains(&begin));
            row.ids.push(id);
            row.labels.push(if within { id as i32 } else { -100 });
        }
        if let Some(eos) = self.eos.filter(|&eos| ends && row.ids.last() != Some(&eos)) {
            row.ids.push(eos);
            row.labels.push(eos as i32);
        }
        Ok(row)
    }

    /// A conversation through the chat template; the assistant's turns are to be predicted.
    ///
    /// # Errors
    /// When there is no template or it cannot take the messages.
    pub fn conversation(&self, messages: &[Message]) -> Result<Row> {
        let whole = self.render(messages, false)?;
        let mut asked = Vec::new();
        for (at, message) in messages.iter().enumerate() {
            if message["role"] == "assistant" {
                let before = self.render(&messages[..at], true)?;
                let after = self.render(&messages[..=at], false)?;
                asked.push(common(&before, &whole)..common(&after, &whole));
            }
        }
        self.row(&whole, &asked, false, false)
    }

    /// Messages as the model is given them.
    ///
    /// # Errors
    /// When there is no template or it cannot take the messages.
    pub fn render(&self, messages: &[Message], generation: bool) -> Result<String> {
        let wrong = |message: String| Error::file(&self.folder, message);
        let template = self.template.as_ref();
        let template = template
            .ok_or_else(|| wrong("found no chat template in tokenizer_config.json; messages need one".to_owned()))?;
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(method);
        environment.add_function("raise_exception", |text: String| -> std::result::Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, text))
        });
        let mut context: std::collections::BTreeMap<&str, Value> = std::collections::BTreeMap::new();
        for (key, text) in &self.special {
            context.insert(key, Value::from(text.as_str()));
        }
        context.insert("messages", Value::from_serialize(messages));
        context.insert("add_generation_prompt", Value::from(generation));
        environment.render_str(template, context).map_err(|error| wrong(format!("the chat template: {error}")))
    }
}

/// Bytes that two texts have in common at their beginning, in whole characters.
fn common(a: &str, b: &str) -> usize {
    let pairs = a.char_indices().zip(b.chars());
    pairs.take_while(|((_, x), y)| x == y).last().map_or(0, |((at, x), _)| at + x.len_utf8())
}

/// Methods of Python's strings and dictionaries that templates call.
fn method(_: &State, value: &Value, name: &str, arguments: &[Value]) -> std::result::Result<Value, minijinja::Error> {
    let unknown = || minijinja::Error::from(ErrorKind::UnknownMethod);
    if let Some(text) = value.as_str() {
        let chars = |arguments: &[Value]| -> std::result::Result<Vec<char>, minijinja::Error> {
            let (set,): (Option<String>,) = from_args(arguments)?;
            Ok(set.unwrap_or_else(|| " \t\r\n\u{b}\u{c}".to_owned()).chars().collect())
        };
        return Ok(match name {
            "strip" => Value::from(text.trim_matches(&chars(arguments)?[..])),
            "lstrip" => Value::from(text.trim_start_matches(&chars(arguments)?[..])),
            "rstrip" => Value::from(text.trim_end_matches(&chars(arguments)?[..])),
            "startswith" => Value::from(text.starts_with(&from_args::<(String,)>(arguments)?.0)),
            "endswith" => Value::from(text.ends_with(&from_args::<(String,)>(arguments)?.0)),
            "upper" => Value::from(text.to_uppercase()),
            "lower" => Value::from(text.to_lowercase()),
            "title" | "capitalize" => {
                let mut chars = text.chars();
                let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
                Value::from(first + &chars.as_str().to_lowercase())
            }
            "replace" => {
                let (from, to): (String, String) = from_args(arguments)?;
                Value::from(text.replace(&from, &to))
            }
            "split" => {
                let (by,): (Option<String>,) = from_args(arguments)?;
                match by {
                    Some(by) => text.split(&by).map(Value::from).collect(),
                    None => text.split_whitespace().map(Value::from).collect(),
                }
            }
            _ => return Err(unknown()),
        });
    }
    match name {
        "get" => {
            let (key, default): (Value, Option<Value>) = from_args(arguments)?;
            let found = value.get_item(&key)?;
            Ok(if found.is_undefined() { default.unwrap_or(Value::from(())) } else { found })
        }
        "items" => {
            let keys = value.try_iter()?;
            keys.map(|key| Ok(Value::from(vec![key.clone(), value.get_item(&key)?]))).collect()
        }
        "keys" => Ok(value.try_iter()?.collect()),
        _ => Err(unknown()),
    }
}
