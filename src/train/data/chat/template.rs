//! [`Template`]: a chat template, rendered as transformers renders it, within bounds.
//!
//! Templates come with models, so they are programs of strangers. minijinja compiles them; before they run, every instruction
//! that can make a text or a list out of others is replaced by a function of ours that does what Python does and
//! [charges](Budget::charge) for what it makes. Instructions are counted (`fuel`), the source and the tokens of one tag are
//! bounded, and everything happens on a thread whose stack is large enough for the deepest expression that this leaves.

use super::budget::Budget;
use super::filters;
use super::lists;
use super::methods;
use super::operators;
use super::python::{self, Made, wrong};
use super::tuple::{self, Brackets};
use minijinja::machinery::{CompiledTemplate, Instruction, Instructions, TemplateConfig, Token, Vm, WhitespaceConfig};
use minijinja::machinery::{make_string_output, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, mpsc};

/// Longest source: the largest templates of the hub have a quarter of it.
const SOURCE: usize = 64 << 10;
/// Tokens between two braces: a bound on how deep an expression can be.
const TOKENS: usize = 4000;
/// Instructions of one rendering.
const FUEL: usize = 2_000_000;
/// Bytes that raw text may come to over all loops: the fuel is less where one piece of it is long.
const RAW: usize = 1 << 30;
/// Bytes that all texts and lists of one rendering may take, and for every byte of the conversation.
const MADE: [usize; 2] = [64 << 20, 64];
/// Stack of the thread; the smaller one where memory is limited.
const STACK: [usize; 2] = [128 << 20, 16 << 20];
/// Longest sentence that is passed on from a template.
const SENTENCE: usize = 300;

/// What stands around that which the template marks as the assistant's: no characters, by Unicode's own rule.
const MARKS: [char; 2] = ['\u{fdd0}', '\u{fdd1}'];

/// A template that can be rendered, from any thread.
pub struct Template {
    ask: mpsc::Sender<Ask>,
    marks: bool,
}

/// What a template is rendered with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// Turns, each an object with `role`.
    pub messages: Vec<Json>,
    /// Schemas of functions, or null.
    pub tools: Json,
    /// Other names that the template may ask for.
    pub extra: Map<String, Json>,
}

/// A rendered conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Bytes that stand between `{% generation %}` and `{% endgeneration %}`.
    pub marked: Vec<Range<usize>>,
}

struct Ask {
    conversation: Conversation,
    generation: bool,
    answer: mpsc::SyncSender<Result<Rendered, String>>,
}

impl Template {
    /// Compiles a template; `special` are the tokens by name, such as `eos_token`.
    ///
    /// # Errors
    /// A sentence: what is wrong with it, and in which line.
    pub fn compile(source: &str, special: &[(&'static str, String)]) -> Result<Self, String> {
        if source.len() > SOURCE {
            return Err(format!("{} bytes, expected at most {SOURCE}", source.len()));
        }
        let (ready, is_ready) = mpsc::sync_channel(1);
        let (ask, asked) = mpsc::channel();
        let (text, marks) = marked(source);
        let work = Arc::new((text, special.to_vec(), ready, std::sync::Mutex::new(Some(asked))));
        let begin = |stack: usize| {
            let work = Arc::clone(&work);
            let thread = std::thread::Builder::new().name("chat template".to_owned()).stack_size(stack);
            thread.spawn(move || {
                let (text, special, ready, asked) = &*work;
                let asked = asked.lock().ok().and_then(|mut asked| asked.take());
                let Some(asked) = asked else { return };
                let served = catch_unwind(AssertUnwindSafe(|| serve(text, special, ready, &asked)));
                if served.is_err() {
                    // Whoever waits hears of it by the closed channels.
                    log::debug!("a chat template broke its thread");
                }
            })
        };
        STACK
            .into_iter()
            .find_map(|stack| begin(stack).ok())
            .ok_or_else(|| "there is no memory for a thread to render it".to_owned())?;
        drop(work);
        is_ready.recv().unwrap_or_else(|_| Err("it cannot be compiled".to_owned()))?;
        Ok(Self { ask, marks })
    }

    /// Whether the template itself says what the assistant's is.
    pub fn marks(&self) -> bool {
        self.marks
    }

    /// Renders a conversation; `generation` asks for the head of an answer at the end.
    ///
    /// # Errors
    /// The template's own words, or which bound it broke.
    pub fn render(&self, conversation: &Conversation, generation: bool) -> Result<Rendered, String> {
        let (answer, answered) = mpsc::sync_channel(1);
        let gone = || "it stopped working".to_owned();
        self.ask.send(Ask { conversation: conversation.clone(), generation, answer }).map_err(|_| gone())?;
        answered.recv().unwrap_or_else(|_| Err(gone()))
    }
}

/// `{% generation %}` becomes a filter block, which minijinja knows; the white space around behaves alike.
fn marked(source: &str) -> (String, bool) {
    static TAG: LazyLock<Option<regex::Regex>> =
        LazyLock::new(|| regex::Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").ok());
    let Some(tag) = TAG.as_ref().filter(|tag| tag.is_match(source)) else { return (source.to_owned(), false) };
    let text = tag.replace_all(source, |found: &regex::Captures<'_>| {
        let tag = if found.get(2).is_some() { "endfilter" } else { "filter generation" };
        format!("{{%{} {tag} {}%}}", &found[1], &found[3])
    });
    (text.into_owned(), true)
}

/// Takes the marks out of a text and says what stood between them.
fn unmarked(text: String) -> Rendered {
    if !text.contains(MARKS) {
        return Rendered { text, marked: Vec::new() };
    }
    let mut rendered = Rendered { text: String::with_capacity(text.len()), marked: Vec::new() };
    let (mut depth, mut begin) = (0usize, 0);
    for c in text.chars() {
        if c == MARKS[0] {
            if depth == 0 {
                begin = rendered.text.len();
            }
            depth += 1;
        } else if c == MARKS[1] {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                rendered.marked.push(begin..rendered.text.len());
            }
        } else {
            rendered.text.push(c);
        }
    }
    rendered
}

/// The thread's whole life: compiles, says whether that went well, renders what it is asked for.
fn serve(
    source: &str,
    special: &[(&'static str, String)],
    ready: &mpsc::SyncSender<Result<(), String>>,
    asked: &mpsc::Receiver<Ask>,
) {
    // Nobody may be waiting any more.
    let say = |result| drop(ready.send(result));
    // Jinja2 has one kind of line end.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = match with_tuples(&source) {
        Ok(source) => source,
        Err(error) => return say(Err(error)),
    };
    let mut compiled = match compile(&source) {
        Ok(compiled) => compiled,
        Err(error) => return say(Err(error)),
    };
    let names = names(&compiled);
    for instructions in std::iter::once(&mut compiled.instructions).chain(compiled.blocks.values_mut()) {
        bound(instructions, &names);
    }
    let budget = Budget::default();
    let env = environment(&compiled, &names, &budget);
    say(Ok(()));
    while let Ok(Ask { conversation, generation, answer }) = asked.recv() {
        let result = catch_unwind(AssertUnwindSafe(|| {
            let bytes = serde_json::to_vec(&conversation.messages).map_or(0, |bytes| bytes.len());
            budget.begin(MADE[0].saturating_add(MADE[1].saturating_mul(bytes)));
            let context = context(conversation, special, generation);
            let mut out = String::new();
            let escape = AutoEscape::None;
            let vm = Vm::new(&env);
            let run =
                vm.eval(&compiled.instructions, context, &compiled.blocks, &mut make_string_output(&mut out), escape);
            run.map(|_| ()).map_err(|error| sentence(&error)).map(|()| unmarked(out))
        }));
        drop(answer.send(result.unwrap_or_else(|_| Err("it broke the template engine".to_owned()))));
    }
}

const WHITE: WhitespaceConfig =
    WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true };

/// The source with tuples as calls of a function, which is what minijinja lacks; its tokens are counted meanwhile.
fn with_tuples(source: &str) -> Result<String, String> {
    let mut tokens = 0;
    let mut brackets = Brackets::default();
    for token in tokenize(source, false, SyntaxConfig, WHITE) {
        let (token, span) = token.map_err(|error| sentence(&error))?;
        brackets.token(&token, span);
        tokens = if matches!(token, Token::VariableStart | Token::BlockStart) { 0 } else { tokens + 1 };
        if tokens > TOKENS {
            let line = span.start_line;
            return Err(format!("an expression of more than {TOKENS} words and signs (line {line})"));
        }
    }
    Ok(brackets.called(source))
}

fn compile(source: &str) -> Result<CompiledTemplate<'_>, String> {
    let config = TemplateConfig {
        syntax_config: SyntaxConfig,
        ws_config: WHITE,
        default_auto_escape: Arc::new(|_| AutoEscape::None),
    };
    CompiledTemplate::new("template", source, &config).map_err(|error| sentence(&error))
}

/// Names of the functions that stand for filters and methods, by what they stand for.
struct Names {
    filters: BTreeMap<String, String>,
    methods: BTreeMap<String, String>,
}

fn all<'a, 'b>(compiled: &'b CompiledTemplate<'a>) -> impl Iterator<Item = &'b Instruction<'a>> {
    let each = |list: &'b Instructions<'a>| (0..list.len() as u32).filter_map(|at| list.get(at));
    std::iter::once(&compiled.instructions).chain(compiled.blocks.values()).flat_map(each)
}

fn names(compiled: &CompiledTemplate<'_>) -> Names {
    let mut names = Names { filters: BTreeMap::new(), methods: BTreeMap::new() };
    for instruction in all(compiled) {
        match instruction {
            Instruction::ApplyFilter(name, ..) => {
                // A space keeps templates from calling it by this name.
                names.filters.insert((*name).to_owned(), format!("filter {name}"));
            }
            Instruction::CallMethod(name, _) => {
                names.methods.insert((*name).to_owned(), format!("method {name}"));
            }
            _ => {}
        }
    }
    names
}

/// Replaces what could make much out of little. Each takes as much from the stack as what it replaces.
fn bound<'a>(instructions: &mut Instructions<'a>, names: &'a Names) {
    use Instruction as I;
    for at in 0..instructions.len() as u32 {
        let Some(instruction) = instructions.get_mut(at) else { continue };
        let (name, count): (&'a str, Option<u16>) = match instruction {
            I::Add => ("operator +", Some(2)),
            I::Mul => ("operator *", Some(2)),
            I::Rem => ("operator %", Some(2)),
            I::Div => ("operator /", Some(2)),
            I::IntDiv => ("operator //", Some(2)),
            I::Pow => ("operator **", Some(2)),
            I::Eq => ("operator ==", Some(2)),
            I::Ne => ("operator !=", Some(2)),
            I::StringConcat => ("operator ~", Some(2)),
            I::Slice => ("operator [:]", Some(4)),
            I::ApplyFilter(name, count, _) => match names.filters.get(*name) {
                Some(name) => (name, *count),
                None => continue,
            },
            I::CallMethod(name, count) => match names.methods.get(*name) {
                Some(name) => (name, *count),
                None => continue,
            },
            // `f(*list)` lays every item on the stack: no chat template needs it.
            I::UnpackLists(count) => ("operator *list", u16::try_from(*count).ok()),
            _ => continue,
        };
        *instruction = I::CallFunction(name, count);
    }
}

/// The template's own words, with the line.
fn sentence(error: &Error) -> String {
    let mut text = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "it takes too many steps".to_owned(),
        (_, Some(detail)) => detail.to_owned(),
        (kind, None) => kind.to_string(),
    };
    if let Some((end, _)) = text.char_indices().nth(SENTENCE) {
        text.truncate(end);
        text.push('…');
    }
    match error.line() {
        Some(line) => format!("{text} (line {line})"),
        None => text,
    }
}

/// Bytes that a value holds, near enough.
fn size(value: &Value) -> usize {
    match value.as_str() {
        Some(text) => text.len(),
        None => value.len().map_or(8, |count| count.saturating_mul(24)),
    }
}

fn environment<'a>(compiled: &CompiledTemplate<'_>, names: &'a Names, budget: &Budget) -> Environment<'a> {
    let mut env = Environment::new();
    let raw = all(compiled).map(|one| if let Instruction::EmitRaw(text) = one { text.len() } else { 0 }).max();
    env.set_fuel(Some((RAW / raw.unwrap_or(0).max(1)).min(FUEL) as u64));
    env.remove_global("debug");
    let charged = budget.clone();
    env.set_formatter(move |out, _, value| {
        let unwritable = |_| wrong("the text cannot be written");
        match value.as_str() {
            Some(text) => {
                charged.charge(text.len())?;
                out.write_str(text).map_err(unwritable)
            }
            None => out.write_str(&python::text(value, &charged)?).map_err(unwritable),
        }
    });
    for (filter, name) in &names.filters {
        let (charged, filter) = (budget.clone(), filter.clone());
        env.add_function(name.as_str(), move |state: &State<'_, '_>, args: Rest<Value>| -> Made<Value> {
            charged.charge(args.iter().map(size).sum())?;
            state.apply_filter(&filter, &filters::arguments(&filter, args.0, &charged)?).map_err(|error| {
                match error.kind() {
                    ErrorKind::UnknownFilter => wrong(format!("a filter {filter} is not known")),
                    _ => error,
                }
            })
        });
    }
    for (method, name) in &names.methods {
        let (charged, method) = (budget.clone(), method.clone());
        env.add_function(name.as_str(), move |state: &State<'_, '_>, args: Rest<Value>| -> Made<Value> {
            let [value, rest @ ..] = &args[..] else { return Err(wrong("a method of nothing")) };
            charged.charge(if value.kind() == ValueKind::String { 0 } else { size(value) })?;
            match methods::method(value, &method, rest, &charged)? {
                Some(made) => Ok(made),
                None => value.call_method(state, &method, rest).map_err(|error| match error.kind() {
                    ErrorKind::UnknownMethod => wrong(format!("{} has no method {method}", value.kind())),
                    _ => error,
                }),
            }
        });
    }
    env.add_filter("generation", |text: String| format!("{}{text}{}", MARKS[0], MARKS[1]));
    env.add_function("raise_exception", |text: String| -> Made<Value> { Err(wrong(text)) });
    env.add_function("strftime_now", |format: String| -> Made<String> {
        use std::fmt::Write;
        let mut out = String::new();
        let known = format.len() <= 200 && write!(out, "{}", chrono::Local::now().format(&format)).is_ok();
        if known { Ok(out) } else { Err(wrong("a format that strftime does not know")) }
    });
    operators::add(&mut env, budget);
    lists::add(&mut env, budget);
    tuple::add(&mut env);
    filters::add(&mut env, budget);
    env
}

/// What the template sees: what `apply_chat_template` gives it.
fn context(conversation: Conversation, special: &[(&'static str, String)], generation: bool) -> Value {
    /// Names under which thoughts stand beside what is said; the first is the one that templates read.
    const THOUGHTS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
    let Conversation { messages, tools, extra } = conversation;
    let messages = messages.into_iter().map(|message| match message {
        Json::Object(message) => {
            let mut message: Map<String, Json> = message.into_iter().filter(|(_, value)| !value.is_null()).collect();
            if let Some(thought) = THOUGHTS.into_iter().find_map(|name| message.get(name).cloned()) {
                let first = [("thinking".to_owned(), thought.clone())];
                message = first.into_iter().chain(message).collect();
                message.insert("reasoning_content".to_owned(), thought);
            }
            Json::Object(message)
        }
        other => other,
    });
    let mut context: BTreeMap<String, Value> = BTreeMap::new();
    for (key, text) in special {
        context.insert((*key).to_owned(), Value::from(text.as_str()));
    }
    context.insert("messages".to_owned(), Value::from_serialize(messages.collect::<Vec<_>>()));
    context.insert("tools".to_owned(), Value::from_serialize(tools));
    context.insert("documents".to_owned(), Value::from(()));
    context.insert("add_generation_prompt".to_owned(), Value::from(generation));
    context.extend(extra.into_iter().map(|(key, value)| (key, Value::from_serialize(value))));
    Value::from_serialize(context)
}
