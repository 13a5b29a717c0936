//! Every sentence that the window's own code can say, in `tests/sentences.txt`: one file to read through, and no new sentence that
//! nobody has read. `RANKSCOPE_UPDATE_SENTENCES=1 cargo test --test it sentences` writes it anew.

use std::fs;
use std::path::{Path, PathBuf};

/// The string literals of a source, in order: without its tests, comments, attributes and messages for the log.
fn literals(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap_or(source);
    let mut found = Vec::new();
    let mut rest = source;
    let mut line = String::new();
    while let Some(next) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if let Some(after) = rest.strip_prefix("'") {
            // A character, or a lifetime.
            let quoted = after.strip_prefix('\\').map_or_else(|| after.chars().nth(1) == Some('\''), |_| true);
            let skip = match quoted {
                true => after
                    .char_indices()
                    .skip(1)
                    .find(|&(at, c)| c == '\'' && !after[..at].ends_with("\\"))
                    .map_or(1, |(at, _)| at + 2),
                false => 1,
            };
            rest = &rest[skip.min(rest.len())..];
        } else if rest.starts_with("r#\"") {
            let end = rest.find("\"#").unwrap_or(rest.len() - 2);
            rest = &rest[end + 2..];
        } else if let Some(after) = rest.strip_prefix('"') {
            let (text, len) = literal(after);
            let silent = ["log::", "#[", "reason =", "salt", "Id::unique"].iter().any(|mark| line.contains(mark));
            if !silent {
                found.push(text);
            }
            rest = &after[len..];
        } else {
            if next == '\n' {
                line.clear()
            } else {
                line.push(next)
            }
            rest = &rest[next.len_utf8()..];
        }
    }
    found
}

/// What stands between two quotation marks, and how long that is with the second one.
fn literal(after: &str) -> (String, usize) {
    let mut text = String::new();
    let mut chars = after.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (text, at + 1),
            '\\' => match chars.next() {
                Some((_, '\n')) => while chars.next_if(|(_, c)| c.is_whitespace()).is_some() {},
                Some((_, 'n')) => text.push_str("\\n"),
                Some((_, escaped)) => text.push(escaped),
                None => {}
            },
            c => text.push(c),
        }
    }
    (text, after.len())
}

/// A sentence or a label, and no name for programs.
fn is_said(text: &str) -> bool {
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    letters > 2
        && (text.trim().contains(' ') || text.chars().next().is_some_and(char::is_uppercase))
        && !text.starts_with("src/")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

#[test]
fn literals_are_found_as_they_are_written() {
    let source = "// \"a comment\"\nlet a = \"One, \\\n    two \\\"three\\\".\"; let c = '\"'; fn f<'a>() {}\nlog::warn!(\"for the log\");\n\
                  b(\"Ask\", \"an-id\", r#\"{\"raw\"}\"#, '\\'', \"the end\");\n#[cfg(test)]\nmod tests { \"not this\" }";
    let found: Vec<String> = literals(source).into_iter().filter(|text| is_said(text)).collect();
    assert_eq!(found, ["One, two \"three\".", "Ask", "the end"]);
}

#[test]
fn sentences_of_the_window_are_those_that_were_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src/app"), &mut files);
    let mut now = String::new();
    let mut count = 0;
    for path in files {
        let said: Vec<String> =
            literals(&fs::read_to_string(&path).unwrap()).into_iter().filter(|text| is_said(text)).collect();
        if said.is_empty() {
            continue;
        }
        now.push_str(&format!("\n{}\n", path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/")));
        count += said.len();
        said.iter().for_each(|text| now.push_str(&format!("  {text}\n")));
    }
    assert!(count > 500, "{count} sentences: the window says more than that");
    let path = root.join("tests/sentences.txt");
    if std::env::var_os("RANKSCOPE_UPDATE_SENTENCES").is_some() {
        fs::write(&path, &now).unwrap();
    }
    let then = fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    let new: Vec<&str> = now.lines().filter(|line| !then.lines().any(|old| old == *line)).collect();
    assert!(
        then == now,
        "the window says something that nobody has read; read it, then RANKSCOPE_UPDATE_SENTENCES=1 cargo test --test it sentences:\n{}",
        new.join("\n")
    );
}
