//! [`Text`]: a model's own tokenizer and chat template.

use super::LossOn;
use super::chat::{self, Conversation, Template, Turn, known};
use super::rows::{Labels, Row, exact};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::guard;
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tokenizers::Tokenizer;

/// Turns text into rows of ids.
pub struct Text {
    /// What is named where it is wrong.
    path: PathBuf,
    tokenizer: Tokenizer,
    /// How many times as long a normalizer may make a text.
    growth: usize,
    source: Source,
    template: OnceLock<std::result::Result<[Option<Template>; 2], String>>,
    /// Texts by the names that templates use: `bos_token`, `eos_token` and the like.
    special: Vec<(&'static str, String)>,
    /// What ends a text.
    pub eos: Option<u32>,
}

/// Ids, and for each the first byte of the text that it stands for and the one after its last.
pub(super) type Encoded = (Vec<u32>, Vec<(usize, usize)>);

/// One turn of a conversation.
pub type Message = Json;

/// Where the chat template comes from.
#[derive(Clone, Debug, Default)]
struct Source {
    /// The template, and the one for conversations with tools where it is another.
    texts: [Option<String>; 2],
    /// What is named where it is wrong.
    place: PathBuf,
}

/// What cannot become a row.
#[derive(Debug)]
pub enum Trouble {
    /// A sentence about the row.
    Row(String),
    /// An error of its own, whatever the row.
    All(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::All(error)
    }
}

const SPECIAL: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Longest `tokenizer.json`: the largest of the hub have an eighth of it.
const TOKENIZER: u64 = 256 << 20;
/// How many times as long a normalizer's replacements may make a text.
const GROWTH: usize = 1024;
/// Longest special token: a template may write one many times.
const SPECIAL_BYTES: usize = 1024;
/// Longest text after that.
const GROWN: usize = 1 << 28;

impl Text {
    /// Opens `tokenizer.json` of a model's folder, and `tokenizer_config.json` and `chat_template.jinja` where they are.
    ///
    /// # Errors
    /// When there is no tokenizer, or a file cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_with(folder, None)
    }

    /// The same, with another chat template: a known name or a file.
    ///
    /// # Errors
    /// As [`open`](Self::open), and a template that is neither.
    pub fn open_with(folder: &Path, chat_template: Option<&str>) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        if !path.exists() {
            return Err(Error::file(
                folder,
                "found no tokenizer.json, expected one beside the weights; data of input_ids needs none",
            ));
        }
        let bytes = guard::bytes(&path, TOKENIZER)?;
        let config = json(&folder.join("tokenizer_config.json"))?;
        let source = match chat_template {
            Some(asked) => Source::asked(asked)?,
            None => Source::of(folder, &config)?,
        };
        let others = [json(&folder.join("special_tokens_map.json"))?, json(&folder.join("config.json"))?];
        Self::from_parts(path, &bytes, source, &config, &others)
    }

    /// The tokenizer of a model: beside its weights, or in their file; with the model's chat template or another.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn of(checkpoint: &Checkpoint, chat_template: Option<&str>) -> Result<Self> {
        let path = checkpoint.path();
        let Some(embedded) = checkpoint.tokenizer() else {
            return Self::open_with(if path.is_dir() { path } else { path.parent().unwrap_or(path) }, chat_template);
        };
        let embedded = embedded?;
        let source = match chat_template {
            Some(asked) => Source::asked(asked)?,
            None => Source {
                texts: [embedded.config["chat_template"].as_str().map(str::to_owned), None],
                place: path.to_path_buf(),
            },
        };
        let bytes = embedded.tokenizer.to_string().into_bytes();
        Self::from_parts(path.to_path_buf(), &bytes, source, &embedded.config, &[Json::Null, Json::Null])
    }

    /// From what stands in the files; `others` are `special_tokens_map.json` and `config.json`.
    fn from_parts(path: PathBuf, bytes: &[u8], source: Source, config: &Json, others: &[Json; 2]) -> Result<Self> {
        let [map, of_model] = others;
        let useless = |why: String| Error::file(&path, format!("not a tokenizer that can be used: {why}"));
        let opened = guard::caught(|| Tokenizer::from_bytes(bytes)).map_err(useless)?;
        let mut tokenizer = opened.map_err(|error| useless(error.to_string()))?;
        // As transformers: neither unless a call asks, and none of ours does.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| useless(error.to_string()))?;
        let growth = [json_of(tokenizer.get_normalizer()), json_of(tokenizer.get_decoder())].map(|part| growth(&part));
        if let Some(times) = growth.into_iter().find(|times| *times > GROWTH) {
            return Err(useless(format!("its replacements may make a text {times} times as long")));
        }
        let text = |value: &Json| value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned);
        let named = |key: &str| text(&config[key]).or_else(|| text(&map[key]));
        let special: Vec<_> = SPECIAL.into_iter().filter_map(|key| Some((key, named(key)?))).collect();
        if let Some((key, text)) = special.iter().find(|(_, text)| text.len() > SPECIAL_BYTES) {
            return Err(useless(format!(
                "{key} in tokenizer_config.json or special_tokens_map.json has {} bytes, expected {SPECIAL_BYTES} at most",
                text.len()
            )));
        }
        let named =
            special.iter().find(|(key, _)| *key == "eos_token").and_then(|(_, text)| tokenizer.token_to_id(text));
        let numbered = of_model["eos_token_id"].as_u64().or_else(|| of_model["eos_token_id"][0].as_u64());
        let eos = named.or(numbered.and_then(|id| u32::try_from(id).ok()));
        Ok(Self { path, tokenizer, growth: growth[0], source, template: OnceLock::new(), special, eos })
    }

    /// Whether there is a chat template.
    pub fn has_template(&self) -> bool {
        self.source.texts[0].is_some()
    }

    /// Ids that the tokenizer can give, added tokens included.
    pub fn vocabulary(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Ids of a text that a model goes on with: with what the tokenizer puts before it, without an end that it adds.
    ///
    /// # Errors
    /// When the tokenizer cannot take it.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let (mut ids, offsets) = self.encode(text, true)?;
        let added = offsets.last().is_some_and(|(begin, end)| begin == end);
        if added && ids.len() > 1 && ids.last().copied() == self.eos {
            ids.pop();
        }
        Ok(ids)
    }

    /// The text of ids, without special tokens.
    ///
    /// # Errors
    /// When an id is not the tokenizer's.
    pub fn text(&self, ids: &[u32]) -> Result<String> {
        self.decode(ids, true)
    }

    /// The text of one id, special tokens as they are written.
    ///
    /// # Errors
    /// When the id is not the tokenizer's.
    pub fn token(&self, id: u32) -> Result<String> {
        self.decode(&[id], false)
    }

    /// The text of ids as one would type it: special tokens as they are written, but for the one that begins every text.
    ///
    /// # Errors
    /// When an id is not the tokenizer's.
    pub fn typed(&self, ids: &[u32]) -> Result<String> {
        let text = self.decode(ids, false)?;
        let bos = self.special.iter().find(|(name, _)| *name == "bos_token").map_or("", |(_, bos)| bos);
        let rest = if bos.is_empty() { &*text } else { text.strip_prefix(bos).unwrap_or(&text) };
        Ok(rest.trim_start().to_owned())
    }

    fn decode(&self, ids: &[u32], skip: bool) -> Result<String> {
        let decoded = guard::caught(|| self.tokenizer.decode(ids, skip)).map_err(|why| self.refused(&why))?;
        decoded.map_err(|error| self.refused(&error.to_string()))
    }

    /// Ids and the bytes of the text that they stand for.
    ///
    /// # Errors
    /// When the tokenizer cannot take it, or would make too much of it.
    pub(super) fn encode(&self, text: &str, special: bool) -> Result<Encoded> {
        if text.len().saturating_mul(self.growth) > GROWN {
            return Err(self.refused(&format!("a text of {} bytes is too long for it", text.len())));
        }
        let encoded = guard::caught(|| self.tokenizer.encode(text, special)).map_err(|why| self.refused(&why))?;
        let encoding = encoded.map_err(|error| self.refused(&error.to_string()))?;
        Ok((encoding.get_ids().to_vec(), encoding.get_offsets().to_vec()))
    }

    fn refused(&self, why: &str) -> Error {
        Error::file(&self.path, format!("not a tokenizer that can be used: {why}"))
    }

    /// What the tokenizer puts before and after every text.
    ///
    /// # Errors
    /// As [`ids`](Self::ids).
    pub(super) fn around(&self) -> Result<[Vec<u32>; 2]> {
        let (with, offsets) = self.encode("a", true)?;
        let bare = |(begin, end): &(usize, usize)| begin == end;
        let before = offsets.iter().take_while(|place| bare(place)).count();
        let after = offsets[before..].iter().rev().take_while(|place| bare(place)).count();
        Ok([with[..before].to_vec(), with[with.len() - after..].to_vec()])
    }

    /// A text of which the tokens are to be predicted that `asked` says of, by their first and last byte; and its end if
    /// `ends`, which is there once.
    ///
    /// # Errors
    /// As [`ids`](Self::ids).
    pub fn row(&self, text: &str, asked: &dyn Fn(usize, usize) -> bool, special: bool, ends: bool) -> Result<Row> {
        let (mut ids, offsets) = self.encode(text, special)?;
        // Special tokens that were put around have no length.
        let mut labels = Labels::none();
        for (at, &(begin, end)) in offsets.iter().enumerate() {
            if end > begin && asked(begin, end) {
                labels.add(at);
            }
        }
        if let Some(eos) = self.eos.filter(|_| ends) {
            if ids.last() != Some(&eos) {
                ids.push(eos);
            }
            labels.add(ids.len() - 1);
        }
        Ok(Row { ids: exact(ids), labels, breaks: Vec::new() })
    }

    /// A text that is predicted from byte `from` on, and its end. A token belongs to the part in which it begins.
    ///
    /// # Errors
    /// As [`ids`](Self::ids).
    pub fn completed(&self, text: &str, from: usize) -> Result<Row> {
        self.row(text, &|begin, _| begin >= from, true, true)
    }

    /// A conversation through the chat template; of the assistant's turns from message `from` on those are predicted that
    /// `loss` says.
    ///
    /// # Errors
    /// When there is no template, or it cannot take the conversation.
    pub fn conversation(
        &self,
        conversation: &Conversation,
        loss: LossOn,
        from: usize,
    ) -> std::result::Result<Row, Trouble> {
        let template = self.template(!conversation.tools.is_null())?;
        let spoken =
            chat::spoken(template, conversation).map_err(|why| Trouble::Row(format!("the chat template: {why}")))?;
        let mut turns: Vec<Turn> = spoken.turns.into_iter().filter(|turn| turn.message >= from).collect();
        if let (LossOn::Last, Some(last)) = (loss, turns.last().map(|turn| turn.message)) {
            turns.retain(|turn| turn.message == last);
        }
        let within = |begin: usize, end: usize| {
            let at = turns.partition_point(|turn| turn.bytes.end <= begin);
            turns.get(at).is_some_and(|turn| end > turn.bytes.start && !(turn.loose && end > turn.bytes.end))
        };
        let asked = |begin: usize, end: usize| loss == LossOn::All || within(begin, end);
        Ok(self.row(&spoken.text, &asked, false, false)?)
    }

    /// Messages as the model is given them.
    ///
    /// # Errors
    /// When there is no template or it cannot take the messages.
    pub fn render(&self, messages: &[Message], generation: bool) -> Result<String> {
        let conversation = Conversation { messages: messages.to_vec(), ..Conversation::default() };
        let rendered = self.template(false)?.render(&conversation, generation);
        rendered
            .map(|rendered| rendered.text)
            .map_err(|why| Error::file(&self.source.place, format!("the chat template: {why}")))
    }

    /// Ids of a rendered conversation, to which nothing is added.
    ///
    /// # Errors
    /// As [`ids`](Self::ids).
    pub fn rendered_ids(&self, rendered: &str) -> Result<Vec<u32>> {
        Ok(self.encode(rendered, false)?.0)
    }

    fn template(&self, tools: bool) -> Result<&Template> {
        let [Some(text), other] = &self.source.texts else {
            let names = known::TEMPLATES.map(|(name, ..)| name).join(", ");
            let message = format!("found no chat template, messages need one: --chat-template {names} or a file");
            return Err(Error::file(self.path.parent().unwrap_or(&self.path), message));
        };
        let compiled = self.template.get_or_init(|| {
            let other = other.as_ref().map(|other| Template::compile(other, &self.special)).transpose()?;
            Ok([Some(Template::compile(text, &self.special)?), other])
        });
        let wrong = |why: &str| Error::file(&self.source.place, format!("not a chat template that can be used: {why}"));
        let [template, for_tools] = compiled.as_ref().map_err(|why| wrong(why))?;
        let chosen = if tools { for_tools.as_ref().or(template.as_ref()) } else { template.as_ref() };
        chosen.ok_or_else(|| wrong("it is not there"))
    }
}

impl Source {
    /// A known name, or a file.
    fn asked(name: &str) -> Result<Self> {
        if let Some(text) = known::template(name) {
            return Ok(Self { texts: [Some(text.to_owned()), None], place: PathBuf::from(name) });
        }
        let place = PathBuf::from(name);
        if !place.exists() {
            let names = known::TEMPLATES.map(|(name, ..)| name).join(", ");
            return Err(Error::usage(format!("chat-template {name}; expected {names}, or a file with a template")));
        }
        Ok(Self { texts: [Some(guard::text(&place, guard::MOST)?), None], place })
    }

    /// In the order of transformers: the file, then the configuration of the tokenizer; then what processors have.
    fn of(folder: &Path, config: &Json) -> Result<Self> {
        let place = folder.join("chat_template.jinja");
        let tools = guard::text_if_there(&folder.join("additional_chat_templates/tool_use.jinja"), guard::MOST)?;
        if let Some(text) = guard::text_if_there(&place, guard::MOST)? {
            return Ok(Self { texts: [Some(text), tools], place });
        }
        let place = folder.join("tokenizer_config.json");
        let of_list = |list: &[Json], name: &str| {
            list.iter().find(|one| one["name"] == name).and_then(|one| one["template"].as_str()).map(str::to_owned)
        };
        match &config["chat_template"] {
            Json::String(text) => return Ok(Self { texts: [Some(text.clone()), tools], place }),
            Json::Array(list) => {
                let (default, tools) = (of_list(list, "default"), of_list(list, "tool_use"));
                return Ok(Self { texts: [default.or_else(|| tools.clone()), tools], place });
            }
            _ => {}
        }
        let place = folder.join("chat_template.json");
        let text = json(&place)?["chat_template"].as_str().map(str::to_owned);
        Ok(Self { texts: [text, None], place })
    }
}

/// A JSON file; null where there is none.
fn json(path: &Path) -> Result<Json> {
    match guard::text_if_there(path, guard::MOST)? {
        Some(text) => {
            serde_json::from_str(&text).map_err(|error| Error::file(path, format!("not valid JSON: {error}")))
        }
        None => Ok(Json::Null),
    }
}

fn json_of(part: Option<&impl serde::Serialize>) -> Json {
    part.and_then(|part| serde_json::to_value(part).ok()).unwrap_or_default()
}

/// How many times as long the replacements of a normalizer or decoder may make a text, at most.
fn growth(part: &Json) -> usize {
    let parts = ["normalizers", "decoders"].iter().filter_map(|key| part[*key].as_array()).flatten();
    let within = parts.map(growth).fold(1usize, usize::saturating_mul);
    if part["type"] != "Replace" {
        return within;
    }
    let content = part["content"].as_str().map_or(0, str::len);
    let here = match part["pattern"]["String"].as_str() {
        Some("") => content + 1,
        Some(pattern) => content.div_ceil(pattern.len()),
        // A regular expression may match a single character, or none.
        None => content + 1,
    };
    within.saturating_mul(here.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn replacements_multiply() {
        let long = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
        assert_eq!(growth(&json!({"type": "Sequence", "normalizers": vec![long; 34]})), 1 << 34);
        assert_eq!(growth(&json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})), 3);
        assert_eq!(growth(&json!({"type": "NFC"})), 1);
    }
}
