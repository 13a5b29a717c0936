//! Paths as people paste them.

use std::path::PathBuf;

/// A path as people paste it: with quotes, a `file://` before it, or `~`.
pub fn clean(text: &str) -> PathBuf {
    let text = text.trim();
    let text = text.strip_prefix(['"', '\'']).and_then(|t| t.strip_suffix(['"', '\''])).unwrap_or(text);
    let text = text.strip_prefix("file://").unwrap_or(text);
    match (text.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasted_paths_are_understood() {
        assert_eq!(clean(" \"a b/c\" "), PathBuf::from("a b/c"));
        assert_eq!(clean("file:///x"), PathBuf::from("/x"));
        assert!(!clean("~/m").starts_with("~"));
    }
}
