//! What a row means: its columns, by the names that data sets use, or by names that are given.

use super::chat::Conversation;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A row, understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// Token ids, with a label for each where they are given.
    Ids(Vec<i64>, Option<Vec<i64>>),
    /// A text, all of it to be predicted.
    Text(String),
    /// What is given, and what is to be predicted.
    Pair(String, String),
    /// A conversation, and the message from which on the assistant's are to be predicted.
    Chat(Conversation, usize),
}

/// Why a row is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is left out, and named.
    Left(String),
    /// It is a mistake in the file.
    Wrong(String),
}

/// Columns by what they are for, where their names do not say it: `prompt=question,completion=answer`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Columns(BTreeMap<String, String>);

/// What a column can be for.
pub const ROLES: [&str; 12] = [
    "text",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "messages",
    "conversations",
    "system",
    "tools",
    "input_ids",
    "labels",
];

impl std::str::FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut columns = BTreeMap::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (role, column) = pair.split_once('=').ok_or_else(|| {
                format!("{pair}; expected what it is for and the column's name, as in prompt=question")
            })?;
            let (role, column) = (role.trim(), column.trim());
            if !ROLES.contains(&role) {
                return Err(format!("{role}; a column is for one of {}", ROLES.join(", ")));
            }
            if columns.insert(role.to_owned(), column.to_owned()).is_some() {
                return Err(format!("{role} stands there twice"));
            }
        }
        Ok(Self(columns))
    }
}

impl TryFrom<String> for Columns {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<Columns> for String {
    fn from(columns: Columns) -> Self {
        columns.to_string()
    }
}

impl std::fmt::Display for Columns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(role, column)| format!("{role}={column}")).collect();
        f.write_str(&pairs.join(","))
    }
}

impl Columns {
    /// Whether none is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The column that is named for a role.
    pub fn named(&self, role: &str) -> Option<&str> {
        self.0.get(role).map(String::as_str)
    }

    /// The column for a role: the one that is named, or the one of the role's own name.
    pub fn of<'a>(&'a self, role: &'a str) -> &'a str {
        self.named(role).unwrap_or(role)
    }

    /// The same with one more, or one fewer where `column` is empty.
    #[must_use]
    pub fn with(mut self, role: &str, column: &str) -> Self {
        if column.is_empty() {
            self.0.remove(role);
        } else {
            self.0.insert(role.to_owned(), column.to_owned());
        }
        self
    }
}

/// A row with the columns' names.
struct Fields<'a> {
    row: &'a Map<String, Value>,
    columns: &'a Columns,
}

/// What the value of a column is used for in messages: its name in the file.
type Found<T> = std::result::Result<T, Unfit>;

impl Fields<'_> {
    fn get(&self, role: &str) -> Option<&Value> {
        self.row.get(self.columns.of(role))
    }

    /// A text; a missing value leaves the row out.
    fn text(&self, role: &str) -> Found<&str> {
        match self.get(role) {
            Some(Value::String(text)) => Ok(text),
            Some(Value::Null) | None => Err(Unfit::Left(format!("{} is null", self.columns.of(role)))),
            Some(other) => Err(Unfit::Wrong(format!("{} is {}, expected a text", self.columns.of(role), kind(other)))),
        }
    }

    /// A text that need not be there.
    fn optional(&self, role: &str) -> Found<&str> {
        match self.get(role) {
            Some(Value::Null) | None => Ok(""),
            Some(_) => self.text(role),
        }
    }

    /// A list, which a table may hold as JSON in a text.
    fn list(&self, role: &str) -> Found<Vec<Value>> {
        let name = self.columns.of(role);
        match self.get(role) {
            Some(Value::Array(list)) => Ok(list.clone()),
            Some(Value::Null) | None => Err(Unfit::Left(format!("{name} is null"))),
            Some(Value::String(text)) => match super::decode::value(text.as_bytes()) {
                Ok(Value::Array(list)) => Ok(list),
                _ => Err(Unfit::Wrong(format!("{name} is a text, expected a list of messages"))),
            },
            Some(other) => Err(Unfit::Wrong(format!("{name} is {}, expected a list", kind(other)))),
        }
    }

    fn numbers(&self, role: &str) -> Found<Option<Vec<i64>>> {
        let Some(found) = self.get(role).filter(|found| !found.is_null()) else { return Ok(None) };
        let numbers: Option<Vec<i64>> = found.as_array().and_then(|list| list.iter().map(Value::as_i64).collect());
        let name = self.columns.of(role);
        numbers.map(Some).ok_or_else(|| Unfit::Wrong(format!("{name} is not a list of whole numbers")))
    }

    /// Messages of a column, in the form of roles and contents.
    fn messages(&self, role: &str) -> Found<Vec<Value>> {
        let name = self.columns.of(role);
        let list = self.list(role)?;
        if list.is_empty() {
            return Err(Unfit::Left(format!("{name} is empty")));
        }
        list.into_iter()
            .enumerate()
            .map(|(at, message)| {
                speaker(message).map_err(|why| Unfit::Wrong(format!("message {} of {name}: {why}", at + 1)))
            })
            .collect()
    }

    /// A conversation with what stands beside it: the system's text, tools, and names for the template.
    fn conversation(&self, mut messages: Vec<Value>, mut from: usize) -> Found<Sample> {
        let system = self.optional("system")?;
        if !system.is_empty() && messages.first().is_none_or(|first| first["role"] != "system") {
            messages.insert(0, json!({"role": "system", "content": system}));
            from += usize::from(from > 0);
        }
        let tools = match self.get("tools") {
            None | Some(Value::Null) => Value::Null,
            Some(Value::String(text)) if text.trim().is_empty() => Value::Null,
            Some(_) => match self.list("tools")? {
                list if list.is_empty() => Value::Null,
                // Each may be a text of JSON itself.
                list => list
                    .into_iter()
                    .map(|tool| match &tool {
                        Value::String(text) => super::decode::value(text.as_bytes()).unwrap_or(tool),
                        _ => tool,
                    })
                    .collect(),
            },
        };
        let extra = match self.get("chat_template_kwargs") {
            Some(Value::Object(extra)) => extra.clone(),
            _ => Map::new(),
        };
        Ok(Sample::Chat(Conversation { messages, tools, extra }, from))
    }
}

/// What a value is, for a message.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A message with `role` and `content`, also from ShareGPT's `from` and `value`.
fn speaker(message: Value) -> std::result::Result<Value, String> {
    const SPEAKERS: [(&str, &str); 13] = [
        ("human", "user"),
        ("user", "user"),
        ("gpt", "assistant"),
        ("chatgpt", "assistant"),
        ("bard", "assistant"),
        ("bing", "assistant"),
        ("model", "assistant"),
        ("assistant", "assistant"),
        ("function_call", "assistant"),
        ("system", "system"),
        ("tool", "tool"),
        ("observation", "tool"),
        ("function", "tool"),
    ];
    let Value::Object(mut message) = message else {
        return Err(format!("found {}, expected an object with role and content", kind(&message)));
    };
    if message.get("role").is_some_and(Value::is_string) {
        return Ok(Value::Object(message));
    }
    let Some(from) = message.shift_remove("from") else {
        let keys: Vec<&str> = message.keys().map(String::as_str).collect();
        return Err(format!("found {}, expected role and content, or from and value", keys.join(", ")));
    };
    let name = from.as_str().unwrap_or_default();
    let known = SPEAKERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let (_, role) = known.ok_or_else(|| format!("nobody known speaks: from is {from}"))?;
    let mut turned = Map::new();
    turned.insert("role".to_owned(), json!(role));
    turned.insert("content".to_owned(), message.shift_remove("value").unwrap_or_default());
    Ok(Value::Object(turned))
}

/// A form of rows: the columns that it needs, and what they are read as.
struct Form {
    needs: &'static [&'static str],
    read: fn(&Fields<'_>) -> Found<Sample>,
}

/// The forms; the first whose columns are there is the file's.
const FORMS: [Form; 6] = [
    Form {
        needs: &["input_ids"],
        read: |fields| Ok(Sample::Ids(fields.numbers("input_ids")?.unwrap_or_default(), fields.numbers("labels")?)),
    },
    Form { needs: &["messages"], read: |fields| fields.conversation(fields.messages("messages")?, 0) },
    Form { needs: &["conversations"], read: |fields| fields.conversation(fields.messages("conversations")?, 0) },
    Form { needs: &["prompt", "completion"], read: pair },
    Form {
        needs: &["instruction", "output"],
        read: |fields| {
            let prompt = alpaca(fields.text("instruction")?, fields.optional("input")?);
            let system = fields.optional("system")?;
            let prompt = if system.is_empty() { prompt } else { format!("{system}\n\n{prompt}") };
            Ok(Sample::Pair(prompt, fields.text("output")?.to_owned()))
        },
    },
    Form { needs: &["text"], read: |fields| Ok(Sample::Text(fields.text("text")?.to_owned())) },
];

/// Prompt and completion: both texts, or both lists of messages.
fn pair(fields: &Fields<'_>) -> Found<Sample> {
    let listed = |role: &str| match fields.get(role) {
        Some(Value::Array(_)) => true,
        Some(Value::String(text)) => text.trim_start().starts_with("[{") && fields.messages(role).is_ok(),
        _ => false,
    };
    if listed("prompt") {
        let mut messages = fields.messages("prompt")?;
        let from = messages.len();
        messages.extend(fields.messages("completion")?);
        return fields.conversation(messages, from);
    }
    let (prompt, completion) = (fields.text("prompt")?, fields.text("completion")?);
    let system = fields.optional("system")?;
    let prompt = if system.is_empty() { prompt.to_owned() } else { format!("{system}\n\n{prompt}") };
    Ok(Sample::Pair(prompt, completion.to_owned()))
}

/// The form that a file's first row has, by which all others are read.
#[derive(Clone, Copy)]
pub struct Reading(&'static Form);

impl Reading {
    /// Finds the form of a row.
    ///
    /// # Errors
    /// A sentence with the columns that are there.
    pub fn of(row: &Value, columns: &Columns) -> std::result::Result<Self, String> {
        let Value::Object(row) = row else {
            return Err(format!("found {}, expected an object of columns", kind(row)));
        };
        let fields = Fields { row, columns };
        let keys: Vec<&str> = row.keys().map(String::as_str).collect();
        let keys = shown(&keys);
        if let Some(missing) = columns.0.values().find(|name| !row.contains_key(*name)) {
            return Err(format!("no column {missing:?}; found {keys}"));
        }
        let there = |form: &&Form| form.needs.iter().all(|role| fields.get(role).is_some());
        let named = |form: &&Form| form.needs.iter().any(|role| columns.0.contains_key(*role));
        let found = FORMS.iter().filter(named).find(there).or_else(|| FORMS.iter().find(there));
        found.map(Self).ok_or_else(|| {
            format!(
                "found {keys}; expected text, prompt and completion, instruction and output, messages, conversations or \
                 input_ids, or --columns prompt=…,completion=…"
            )
        })
    }

    /// Whether a tokenizer is needed.
    pub fn is_text(self) -> bool {
        self.0.needs != ["input_ids"]
    }

    /// Reads a row of the file.
    ///
    /// # Errors
    /// What is wrong with it, or why it is left out.
    pub fn read(self, row: &Value, columns: &Columns) -> std::result::Result<Sample, Unfit> {
        let Value::Object(object) = row else {
            return Err(Unfit::Wrong(format!("found {}, expected an object of columns", kind(row))));
        };
        let fields = Fields { row: object, columns };
        let missing: Vec<&str> = self.0.needs.iter().filter(|role| fields.get(role).is_none()).copied().collect();
        if !missing.is_empty() {
            let keys: Vec<&str> = object.keys().map(String::as_str).collect();
            let missing: Vec<&str> = missing.into_iter().map(|role| columns.of(role)).collect();
            return Err(Unfit::Wrong(format!(
                "no {}; found {}, expected the columns of the rows before",
                missing.join(" and no "),
                shown(&keys)
            )));
        }
        (self.0.read)(&fields)
    }
}

/// Names of columns for a message, not all of a hundred.
fn shown(keys: &[&str]) -> String {
    const MOST: usize = 12;
    match keys.len() {
        0 => "no columns".to_owned(),
        count if count > MOST => format!("{} and {} more", keys[..MOST].join(", "), count - MOST),
        _ => keys.join(", "),
    }
}

/// Stanford Alpaca's prompt.
fn alpaca(instruction: &str, input: &str) -> String {
    let (given, input) = match input {
        "" => ("", String::new()),
        input => (", paired with an input that provides further context", format!("### Input:\n{input}\n\n")),
    };
    format!(
        "Below is an instruction that describes a task{given}. Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n{input}### Response:\n"
    )
}
