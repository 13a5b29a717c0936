//! [`Pattern`]: a key of PEFT's for names of modules, and [`Patterns`], values by such keys.

use super::config::shown;
use fancy_regex::{Regex, RegexBuilder};
use serde_json::Value;

/// Memory that the patterns of one config may take. A real pattern takes a few kilobytes; `\pL{200}` alone takes 5 MB.
const BUDGET: usize = 16 << 20;
/// What one pattern may take: the smallest of these that is enough is counted against the budget.
const SIZES: [usize; 3] = [16 << 10, 64 << 10, 256 << 10];
/// Steps that a look-ahead may take on one name.
const STEPS: usize = 100_000;
/// Longest text of a pattern.
const LONGEST: usize = 4096;

/// Memory left for patterns.
#[derive(Clone, Copy, Debug)]
pub struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(BUDGET)
    }
}

/// A key for names of modules, by PEFT's rule `re.match(rf"(.*\.)?({key})$", name)`; or a pattern for whole names.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    /// A name or the end of one, after a dot; a dot in it stands for any character unless it was escaped (here `\0`).
    Name {
        end: String,
        whole: bool,
    },
    Expression(Box<Regex>),
}

impl Pattern {
    /// A key as in `rank_pattern`: the end of a name, or a regular expression for it. Python's look-ahead is understood.
    ///
    /// # Errors
    /// A sentence, for what is no pattern or would take too much memory.
    pub fn key(text: &str, budget: &mut Budget) -> Result<Self, String> {
        let rule = match plain(text) {
            Some((end, whole)) => Rule::Name { end, whole },
            None => Rule::Expression(compile(&format!(r"^(?:.*\.)?(?:{text})$"), text, budget)?),
        };
        Ok(Self { text: text.to_owned(), rule })
    }

    /// A regular expression for whole names, as PEFT takes `target_modules` when it is a text.
    ///
    /// # Errors
    /// As [`key`](Self::key).
    pub fn whole(text: &str, budget: &mut Budget) -> Result<Self, String> {
        let rule = Rule::Expression(compile(&format!("^(?:{text})$"), text, budget)?);
        Ok(Self { text: text.to_owned(), rule })
    }

    /// Whether a module is meant. A name on which the pattern takes too many steps is not.
    pub fn matches(&self, module: &str) -> bool {
        match &self.rule {
            Rule::Expression(regex) => regex.is_match(module).unwrap_or(false),
            // By hand, as adapters with a key for each module are common.
            Rule::Name { end, whole } => {
                let Some(start) = module.len().checked_sub(end.len()) else { return false };
                let (before, found) = module.as_bytes().split_at(start);
                let same = |(key, &byte): (u8, &u8)| key == byte || key == b'.' || (key == 0 && byte == b'.');
                end.bytes().zip(found).all(same) && (before.is_empty() || (before.ends_with(b".") && !whole))
            }
        }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A key that is a name: letters, digits, dots (escaped or not), perhaps `^` before and `$` after it.
fn plain(text: &str) -> Option<(String, bool)> {
    let inner = text.strip_prefix('^').unwrap_or(text);
    let whole = inner.len() < text.len();
    let inner = inner.strip_suffix('$').filter(|rest| !rest.ends_with('\\')).unwrap_or(inner);
    let mut end = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('.') => end.push('\0'),
                Some('-') => end.push('-'),
                _ => return None,
            },
            '.' | '_' | '-' => end.push(c),
            c if c.is_ascii_alphanumeric() => end.push(c),
            _ => return None,
        }
    }
    (!end.is_empty()).then_some((end, whole))
}

fn compile(expression: &str, text: &str, budget: &mut Budget) -> Result<Box<Regex>, String> {
    let cut = |text: &str| text.chars().take(60).collect::<String>();
    if text.len() > LONGEST {
        return Err(format!("the pattern {:?}… has {} bytes, expected {LONGEST} at most", cut(text), text.len()));
    }
    let mut reason = String::new();
    for size in SIZES.into_iter().filter(|&size| size <= budget.0) {
        let built = RegexBuilder::new(expression)
            .delegate_size_limit(size)
            .delegate_dfa_size_limit(size)
            .backtrack_limit(STEPS)
            .build();
        match built {
            Ok(regex) => {
                budget.0 -= size;
                return Ok(Box::new(regex));
            }
            Err(error) => reason = error.to_string(),
        }
    }
    let reason = if reason.contains("size limit") || reason.contains("building NFA") || reason.is_empty() {
        "it would take too much memory".to_owned()
    } else {
        reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
    };
    Err(format!("{:?} is not a regular expression that can be read: {reason}", cut(text)))
}

/// Values by pattern, in the order of the file; the first key that matches decides.
#[derive(Clone, Debug)]
pub struct Patterns<T>(Vec<(Pattern, T)>);

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Patterns<T> {
    /// Reads an object of values.
    pub(super) fn parse(
        json: Option<&Value>,
        read: impl Fn(&Value) -> Option<T>,
        expected: &str,
        budget: &mut Budget,
    ) -> Result<Self, String> {
        let Some(json) = json else { return Ok(Self::default()) };
        let object = json.as_object().ok_or_else(|| format!("found {}, expected an object", shown(json)))?;
        let value = |(text, value): (&String, &Value)| match read(value) {
            Some(read) => Ok((text.clone(), read)),
            None => Err(format!("found {} for {text:?}, expected {expected}", shown(value))),
        };
        Self::new(object.iter().map(value).collect::<Result<Vec<_>, _>>()?, budget)
    }

    /// Keys with their values.
    ///
    /// # Errors
    /// As [`Pattern::key`].
    pub fn new(values: impl IntoIterator<Item = (String, T)>, budget: &mut Budget) -> Result<Self, String> {
        let pair = |(text, value): (String, T)| Ok((Pattern::key(&text, budget)?, value));
        values.into_iter().map(pair).collect::<Result<_, String>>().map(Self)
    }

    /// Values of modules by their names.
    pub fn names(values: impl IntoIterator<Item = (String, T)>) -> Self {
        let pair = |(name, value): (String, T)| {
            let rule = Rule::Name { end: name.clone(), whole: false };
            (Pattern { text: name, rule }, value)
        };
        Self(values.into_iter().map(pair).collect())
    }

    /// The value for a module.
    pub fn get(&self, module: &str) -> Option<&T> {
        self.0.iter().find(|(key, _)| key.matches(module)).map(|(_, value)| value)
    }

    /// Keys and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&Pattern, &T)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patterns(json: Value) -> Patterns<u64> {
        Patterns::parse(Some(&json), Value::as_u64, "a number", &mut Budget::default()).unwrap()
    }

    #[test]
    fn by_hand_and_by_expression_alike() {
        // re.match(rf"(.*\.)?({key})$", module) of Python 3.12 says the same.
        for (key, module, matches) in [
            ("q_proj", "model.layers.0.self_attn.q_proj", true),
            ("q_proj", "q_proj", true),
            ("q_proj", "model.xq_proj", false),
            ("self_attn.q_proj", "model.layers.0.self_attn.q_proj", true),
            ("self_attn.q_proj", "model.layers.0.self_attnxq_proj", true),
            (r"self_attn\.q_proj", "model.layers.0.self_attnxq_proj", false),
            (r"self_attn\.q_proj", "model.layers.0.self_attn.q_proj", true),
            ("0.self_attn.q_proj", "model.layers.10.self_attn.q_proj", false),
            ("q_proj.x", "q_proj", false),
            ("^model.q_proj", "model.q_proj", true),
            ("^model.q_proj", "a.model.q_proj", false),
            ("q_proj$", "model.q_proj", true),
        ] {
            let plain = patterns(json!({key: 1}));
            assert_eq!(plain.get(module).is_some(), matches, "{key} {module}");
            let expression = patterns(json!({format!("(?:{key})"): 1}));
            assert_eq!(expression.get(module).is_some(), matches, "({key}) {module}");
        }
    }

    #[test]
    fn python_may_look_ahead() {
        let ahead = patterns(json!({r"(?!.*layers\.0).*q_proj": 40}));
        // re.match(r"(.*\.)?((?!.*layers\.0).*q_proj)$", …) of Python 3.12: the prefix may be taken up to after `layers.`, so
        // that the look-ahead is behind what it forbids.
        assert_eq!(ahead.get("model.layers.1.self_attn.q_proj"), Some(&40));
        assert_eq!(ahead.get("model.layers.0.self_attn.q_proj"), Some(&40));
        let whole = Pattern::whole(r"(?!.*layers\.0).*q_proj", &mut Budget::default()).unwrap();
        assert!(whole.matches("model.layers.1.self_attn.q_proj") && !whole.matches("model.layers.0.self_attn.q_proj"));
    }

    #[test]
    fn the_first_key_decides() {
        let two = patterns(json!({"layers.0.self_attn.q_proj": 1, "q_proj": 2}));
        assert_eq!(two.get("model.layers.0.self_attn.q_proj"), Some(&1));
        assert_eq!(two.get("model.layers.1.self_attn.q_proj"), Some(&2));
        assert_eq!(two.get("model.layers.1.self_attn.k_proj"), None);
        assert_eq!(two.iter().map(|(key, _)| key.text()).collect::<Vec<_>>(), ["layers.0.self_attn.q_proj", "q_proj"]);
    }

    #[test]
    fn patterns_have_a_budget() {
        let parse = |json: Value| Patterns::parse(Some(&json), Value::as_u64, "a number", &mut Budget::default());
        let sentence = parse(json!({r"k\pL{200}": 1})).unwrap_err();
        assert!(sentence.contains("too much memory"), "{sentence}");
        let many: serde_json::Map<String, Value> = (0..2000).map(|i| (format!("k{i}(a|b)"), json!(1))).collect();
        assert!(parse(Value::Object(many)).unwrap_err().contains("too much memory"));
        let names: serde_json::Map<String, Value> =
            (0..20_000).map(|i| (format!(r"layers\.{i}\.q"), json!(1))).collect();
        assert!(parse(Value::Object(names)).is_ok(), "names take next to nothing");
        assert!(parse(json!({"(q_proj": 1})).unwrap_err().contains("(q_proj"));
        // A look-behind makes it a backtracking search, which gives up.
        let slow = Pattern::whole("(?=a)(a+)+(?<=b)", &mut Budget::default()).unwrap();
        assert!(!slow.matches(&"a".repeat(60)));
    }
}
