//! [`Tuple`]: Python's tuples, which minijinja reads as lists.
//!
//! A tuple is printed with round brackets, gives `%` its values, and is what `dict.items` yields. Before a template is compiled,
//! round brackets that make a tuple become a call of a function.

use minijinja::machinery::{Span, Token};
use minijinja::value::{Enumerator, Object, ObjectRepr, Rest, Value};
use minijinja::{Environment, Error};
use std::sync::Arc;

/// The function that a pair of round brackets becomes.
const NAME: &str = "python_tuple";

/// Values that stand in round brackets; of a named tuple with the names of its fields.
#[derive(Debug, Clone)]
pub(super) struct Tuple(pub(super) Vec<Value>, pub(super) &'static [&'static str]);

impl Object for Tuple {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let at = match key.as_str() {
            Some(name) => self.1.iter().position(|field| *field == name)?,
            None => key.as_usize()?,
        };
        self.0.get(at).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }
}

/// A tuple of values.
pub(super) fn tuple(values: Vec<Value>) -> Value {
    Value::from_object(Tuple(values, &[]))
}

/// Whether a value is a tuple.
pub(super) fn is_tuple(value: &Value) -> bool {
    value.downcast_object_ref::<Tuple>().is_some()
}

/// Round brackets that are open.
struct Open {
    /// Where the bracket stands in the source.
    at: usize,
    /// It groups values and calls nothing.
    groups: bool,
    /// A comma stands in it.
    tuple: bool,
}

/// Words before a bracket that do not name what is called.
const WORDS: [&str; 10] = ["in", "not", "and", "or", "if", "else", "elif", "is", "print", "do"];

/// What round brackets a template has, token by token.
#[derive(Default)]
pub(super) struct Brackets {
    open: Vec<Option<Open>>,
    /// Names are being bound: `for (a, b) in`, `set (a, b) =`.
    target: bool,
    /// The token before is the begin of a block.
    begins: bool,
    /// The token before opens a round bracket.
    opens: bool,
    /// The token before ends a value, which a bracket calls.
    value: bool,
    tuples: Vec<usize>,
}

impl Brackets {
    pub(super) fn token(&mut self, token: &Token<'_>, span: Span) {
        let begins = matches!(token, Token::BlockStart);
        match token {
            Token::BlockStart | Token::VariableStart | Token::BlockEnd | Token::VariableEnd => {
                self.open.clear();
                self.target = false;
            }
            Token::Ident("for" | "set" | "with") if self.begins => self.target = true,
            Token::Ident("in") | Token::Assign if self.open.is_empty() => self.target = false,
            Token::ParenOpen => {
                let at = span.start_offset as usize;
                self.open.push(Some(Open { at, groups: !self.value && !self.target, tuple: false }));
            }
            Token::BracketOpen | Token::BraceOpen => self.open.push(None),
            Token::Comma => {
                if let Some(Some(open)) = self.open.last_mut() {
                    open.tuple = true;
                }
            }
            Token::ParenClose | Token::BracketClose | Token::BraceClose => {
                if let Some(Some(Open { at, groups: true, tuple })) = self.open.pop()
                    && (tuple || self.opens)
                {
                    self.tuples.push(at);
                }
            }
            _ => {}
        }
        self.value = match token {
            Token::Ident(word) => !WORDS.contains(word),
            Token::ParenClose | Token::BracketClose | Token::BraceClose | Token::Str(_) | Token::String(_) => true,
            _ => false,
        };
        self.begins = begins;
        self.opens = matches!(token, Token::ParenOpen);
    }

    /// The source with its tuples as calls; no line moves.
    pub(super) fn called(mut self, source: &str) -> String {
        self.tuples.sort_unstable();
        let mut out = String::with_capacity(source.len() + self.tuples.len() * NAME.len());
        let mut from = 0;
        for at in self.tuples {
            out.push_str(source.get(from..at).unwrap_or_default());
            out.push_str(NAME);
            from = at;
        }
        out.push_str(source.get(from..).unwrap_or_default());
        out
    }
}

pub(super) fn add(env: &mut Environment<'_>) {
    env.add_function(NAME, |values: Rest<Value>| -> Result<Value, Error> { Ok(tuple(values.0)) });
}
