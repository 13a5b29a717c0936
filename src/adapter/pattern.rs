//! [`Patterns`]: the keys of `rank_pattern` and `alpha_pattern`.

use super::config::shown;
use regex::Regex;
use serde_json::Value;

/// Values by pattern, in the order of the file; the first key that matches decides, by PEFT's rule `^(.*\.)?(key)$`.
#[derive(Clone, Debug)]
pub struct Patterns<T>(Vec<(Key, T)>);

#[derive(Clone, Debug)]
struct Key {
    text: String,
    /// For a key that is more than a name.
    regex: Option<Regex>,
}

impl<T> Patterns<T> {
    /// Reads an object of values.
    pub(super) fn parse(
        json: Option<&Value>,
        read: impl Fn(&Value) -> Option<T>,
        expected: &str,
    ) -> Result<Self, String> {
        let Some(json) = json else { return Ok(Self(Vec::new())) };
        let object = json.as_object().ok_or_else(|| format!("found {}, expected an object", shown(json)))?;
        let mut patterns = Vec::with_capacity(object.len());
        for (text, value) in object {
            let value =
                read(value).ok_or_else(|| format!("found {} for {text:?}, expected {expected}", shown(value)))?;
            let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
            let regex = if plain { None } else { Some(Regex::new(&format!(r"^(?:.*\.)?(?:{text})$"))) };
            let regex = regex.transpose().map_err(|_| format!("the key {text:?} is not a pattern that can be read"))?;
            patterns.push((Key { text: text.clone(), regex }, value));
        }
        Ok(Self(patterns))
    }

    /// The value for a module.
    pub fn get(&self, module: &str) -> Option<&T> {
        self.0.iter().find(|(key, _)| key.matches(module)).map(|(_, value)| value)
    }

    /// Keys and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(key, value)| (key.text.as_str(), value))
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Key {
    fn matches(&self, module: &str) -> bool {
        if let Some(regex) = &self.regex {
            return regex.is_match(module);
        }
        // The same by hand, as adapters with a key for each module are common: a dot in a pattern stands for any
        // character, and what comes before the key ends with a dot.
        let Some(start) = module.len().checked_sub(self.text.len()) else { return false };
        let (before, end) = module.as_bytes().split_at(start);
        let fits = self.text.bytes().zip(end).all(|(key, &byte)| key == byte || key == b'.');
        fits && (before.is_empty() || before.ends_with(b"."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patterns(json: Value) -> Patterns<u64> {
        Patterns::parse(Some(&json), Value::as_u64, "a number").unwrap()
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
            ("0.self_attn.q_proj", "model.layers.10.self_attn.q_proj", false),
            ("q_proj.x", "q_proj", false),
        ] {
            let plain = patterns(json!({key: 1}));
            assert_eq!(plain.get(module).is_some(), matches, "{key} {module}");
            let expression = patterns(json!({format!("(?:{key})"): 1}));
            assert_eq!(expression.get(module).is_some(), matches, "({key}) {module}");
        }
    }

    #[test]
    fn the_first_key_decides() {
        let two = patterns(json!({"layers.0.self_attn.q_proj": 1, "q_proj": 2}));
        assert_eq!(two.get("model.layers.0.self_attn.q_proj"), Some(&1));
        assert_eq!(two.get("model.layers.1.self_attn.q_proj"), Some(&2));
        assert_eq!(two.get("model.layers.1.self_attn.k_proj"), None);
        assert_eq!(two.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["layers.0.self_attn.q_proj", "q_proj"]);
    }
}
