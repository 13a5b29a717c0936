//! The house rules that a machine can see: which floor may name which, who may name a crate, how long a file may be.
//!
//! Reads every file under `src/` as text: comments, strings and character literals are blanked out first.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules by floor, lowest first. `use crate::` goes down, or stays within one folder; the ground floor is one folder.
const FLOORS: [&[&str]; 12] = [
    &["error", "hash", "matrix", "progress", "simd", "units"],
    &["spec", "figure"],
    &["device", "checkpoint"],
    &["adapter", "quant"],
    &["delta"],
    &["spectrum"],
    &["model"],
    &["plan"],
    &["train"],
    &["demo", "workspace"],
    &["job"],
    &["cli", "app"],
];

/// Crates (or the beginning of their names, with `*`) and the only paths under `src/` that may name them.
const CRATES: [(&[&str], &[&str]); 7] = [
    (&["nalgebra", "faer"], &["spectrum/svd"]),
    (&["eframe", "egui*", "rfd"], &["app"]),
    (&["clap", "indicatif"], &["cli"]),
    (&["poll_promise"], &["job"]),
    (&["candle_core"], &["device", "checkpoint", "quant/kquant", "plan", "model", "train"]),
    (&["cudarc"], &["device", "model/gpu/cuda"]),
    (&["safetensors", "memmap2"], &["checkpoint", "adapter", "quant", "train"]),
];

/// The only paths under `src/` that may start a thread.
const SPAWNERS: [&str; 1] = ["job"];

/// What paints: a frame never waits for a disk.
const PAINTERS: [&str; 4] = ["app/shared", "app/shell", "app/tabs", "app/widgets"];
/// What a tab knows is no painting.
const STATE: &str = "/state/";
/// Words that ask one.
const DISK: [&str; 7] = ["fs", "read_dir", "metadata", "canonicalize", "exists", "is_file", "is_dir"];

/// No file is longer.
const LINES: usize = 600;

#[test]
fn the_house_stands_on_its_floors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 10, "only {} files under src", files.len());
    let complaints: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let path = file.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
            complaints(&path, &fs::read_to_string(file).unwrap())
        })
        .collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Everything that is wrong with one file; `path` is relative to `src/`, with `/`.
fn complaints(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut complain = |line: usize, what: String| complaints.push(format!("src/{path}:{line}: {what}"));
    if text.lines().count() > LINES {
        complain(LINES + 1, format!("{} lines, more than {LINES}", text.lines().count()));
    }
    let tokens = tokens(&code(text));
    let words: Vec<&str> = tokens.iter().map(|(_, word)| word.as_str()).collect();

    for (names, places) in CRATES {
        if !places.iter().any(|place| path.starts_with(place)) {
            for at in 0..words.len() {
                if names.iter().any(|name| is_crate(&words, at, name)) {
                    complain(tokens[at].0, format!("only {} may name {}", places.join(", "), words[at]));
                }
            }
        }
    }
    if !SPAWNERS.iter().any(|place| path.starts_with(place)) {
        for at in 0..words.len().saturating_sub(2) {
            if words[at] == "thread" && words[at + 1] == "::" {
                let named = heads(&words, at + 2).into_iter().find(|head| ["spawn", "Builder", "scope"].contains(head));
                if let Some(named) = named {
                    complain(tokens[at].0, format!("only job.rs starts threads, this names thread::{named}"));
                }
            }
        }
    }

    if PAINTERS.iter().any(|place| path.starts_with(place)) && !path.contains(STATE) {
        for (line, word) in tokens.iter().filter(|(_, word)| DISK.contains(&word.as_str())) {
            complain(*line, format!("what paints asks no disk, this names {word}"));
        }
    }

    let own = path.split('/').next().unwrap_or(path).trim_end_matches(".rs");
    if own == "lib" || own == "main" {
        return complaints;
    }
    let Some(floor) = floor_of(own) else {
        complain(1, format!("{own} has no floor: place it in tests/floors.rs and lib.rs"));
        return complaints;
    };
    for (line, name) in crate_paths(path, &tokens) {
        match floor_of(&name) {
            // A function or type of lib.rs itself, or a macro.
            None if name.chars().next().is_some_and(char::is_uppercase) => {}
            None => complain(line, format!("crate::{name} is no module of a floor")),
            Some(other) if name == own || other < floor || (other == 0 && floor == 0) => {}
            Some(other) => complain(line, format!("{own} (floor {floor}) names {name} (floor {other})")),
        }
    }
    complaints
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

/// True when the word is a crate by that name: `name::…`, `use name…` or `extern crate name`.
fn is_crate(words: &[&str], at: usize, name: &str) -> bool {
    let matches = match name.strip_suffix('*') {
        Some(beginning) => words[at].starts_with(beginning),
        None => words[at] == name,
    };
    let before = if at == 0 { "" } else { words[at - 1] };
    let after = words.get(at + 1).copied().unwrap_or_default();
    // `::egui` and `use ::egui` are the crate, `own::egui` is not.
    let inside = before == "::"
        && at > 1
        && words[at - 2].chars().all(|c| c.is_alphanumeric() || c == '_')
        && words[at - 2] != "use";
    matches && !inside && before != "." && (after == "::" || before == "use" || before == "crate")
}

/// The first words of what follows a `::`: one word, or each of a group in braces.
fn heads<'a>(words: &[&'a str], at: usize) -> Vec<&'a str> {
    match words.get(at) {
        Some(&"{") => {
            let (mut heads, mut depth, mut expected) = (Vec::new(), 0, true);
            for &word in &words[at..] {
                match word {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    "," if depth == 1 => expected = true,
                    _ if depth == 1 && expected => {
                        heads.push(word);
                        expected = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            heads
        }
        Some(&word) => vec![word],
        None => Vec::new(),
    }
}

/// The modules of the crate that a file names, through `crate::` or enough of `super::`, with their lines.
fn crate_paths(path: &str, tokens: &[(usize, String)]) -> Vec<(usize, String)> {
    let words: Vec<&str> = tokens.iter().map(|(_, word)| word.as_str()).collect();
    // How many modules deep the file is: src/plan/mod.rs 1, src/plan/count.rs 2.
    let depth = path.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").count();
    let (mut found, mut braces, mut inline) = (Vec::new(), 0usize, Vec::new());
    for at in 0..words.len() {
        match words[at] {
            "{" => {
                if at >= 2 && words[at - 2] == "mod" {
                    inline.push(braces);
                }
                braces += 1;
            }
            "}" => {
                braces = braces.saturating_sub(1);
                if inline.last() == Some(&braces) {
                    inline.pop();
                }
            }
            "crate" | "super" => {
                if at > 0 && words[at - 1] == "::" {
                    continue;
                }
                let mut next = at;
                while words.get(next) == Some(&"super") && words.get(next + 1) == Some(&"::") {
                    next += 2;
                }
                let root = if next > at {
                    (next - at) / 2 == depth + inline.len()
                } else {
                    next += 2;
                    words.get(at + 1) == Some(&"::")
                };
                if root {
                    found.extend(heads(&words, next).into_iter().map(|head| (tokens[at].0, head.to_owned())));
                }
            }
            _ => {}
        }
    }
    found
}

/// Words and punctuation with their lines; `::` is one token.
fn tokens(code: &str) -> Vec<(usize, String)> {
    let (mut tokens, mut word, mut line) = (Vec::new(), String::new(), 1);
    let mut characters = code.chars().peekable();
    while let Some(c) = characters.next() {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        if !word.is_empty() {
            tokens.push((line, std::mem::take(&mut word)));
        }
        if c == '\n' {
            line += 1;
        } else if c == ':' && characters.peek() == Some(&':') {
            characters.next();
            tokens.push((line, "::".to_owned()));
        } else if !c.is_whitespace() {
            tokens.push((line, c.to_string()));
        }
    }
    if !word.is_empty() {
        tokens.push((line, word));
    }
    tokens
}

/// The text with comments, strings and character literals blanked out; lines stay where they are.
fn code(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    let blank = |out: &mut String, from: usize, to: usize| {
        bytes[from..to.min(bytes.len())].iter().for_each(|&c| out.push(if c == '\n' { '\n' } else { ' ' }));
    };
    while at < bytes.len() {
        let rest = &bytes[at..];
        let previous_is_word = at > 0 && (bytes[at - 1].is_alphanumeric() || bytes[at - 1] == '_');
        let end = if rest.starts_with(&['/', '/']) {
            at + rest.iter().position(|&c| c == '\n').unwrap_or(rest.len())
        } else if rest.starts_with(&['/', '*']) {
            let (mut depth, mut i) = (1, 2);
            while depth > 0 && i < rest.len() {
                match rest[i..] {
                    ['/', '*', ..] => (depth, i) = (depth + 1, i + 2),
                    ['*', '/', ..] => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
            }
            at + i
        } else if !previous_is_word && (rest[0] == 'r' || rest.starts_with(&['b', 'r'])) && raw_hashes(rest).is_some() {
            let (start, hashes) = raw_hashes(rest).unwrap();
            let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            let length = rest[start..].windows(close.len()).position(|window| window == close);
            at + length.map_or(rest.len(), |length| start + length + close.len())
        } else if rest[0] == '"' {
            at + 1 + quoted(&rest[1..], '"')
        } else if rest[0] == '\'' && is_character(rest) {
            at + 1 + quoted(&rest[1..], '\'')
        } else {
            out.push(rest[0]);
            at += 1;
            continue;
        };
        blank(&mut out, at, end);
        at = end;
    }
    out
}

/// Where the text of a raw string begins, and how many `#` close it.
fn raw_hashes(rest: &[char]) -> Option<(usize, usize)> {
    let start = rest.iter().position(|&c| c == 'r')? + 1;
    let hashes = rest[start..].iter().take_while(|&&c| c == '#').count();
    (rest.get(start + hashes) == Some(&'"')).then_some((start + hashes + 1, hashes))
}

/// The length of a literal up to and with its closing quote.
fn quoted(rest: &[char], quote: char) -> usize {
    let mut i = 0;
    while i < rest.len() && rest[i] != quote {
        i += if rest[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(rest.len())
}

/// A character literal and not a lifetime.
fn is_character(rest: &[char]) -> bool {
    rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\'')
}

#[cfg(test)]
mod the_check_itself {
    use super::*;

    #[track_caller]
    fn refused(path: &str, text: &str, because: &str) {
        let found = complaints(path, text);
        assert!(found.iter().any(|complaint| complaint.contains(because)), "{path}: {text}\n{found:?}");
    }

    #[track_caller]
    fn fine(path: &str, text: &str) {
        assert_eq!(complaints(path, text), Vec::<String>::new(), "{path}: {text}");
    }

    #[test]
    fn refuses_what_goes_up() {
        refused("plan/count.rs", "use crate::cli::Table;", "src/plan/count.rs:1: plan (floor 7) names cli (floor 11)");
        refused("delta/mod.rs", "\n\nfn f() { crate::spectrum::spectrum() }", "src/delta/mod.rs:3: delta (floor 4)");
        refused("spectrum/mod.rs", "use crate::{error::Result, plan::{Layout, Targets}};", "names plan");
        refused("adapter/mod.rs", "use crate::quant::nf4;", "names quant (floor 3)");
        refused("cli/mod.rs", "use crate::app::run;", "names app");
        refused("app/mod.rs", "use crate::cli::run;", "names cli");
        refused("plan/count.rs", "use super::super::job::Job;", "names job");
        refused("plan/mod.rs", "mod tests { use super::super::train::run; }", "names train");
        refused("plan/mod.rs", "mod a { mod b { fn f() {} } use super::super::train::run; }", "names train");
        refused("error.rs", "use crate::checkpoint::Dtype;", "names checkpoint");
        refused("novel/mod.rs", "fn f() {}", "novel has no floor");
        refused("plan/mod.rs", "use crate::nothing::X;", "crate::nothing is no module");
    }

    #[test]
    fn lets_pass_what_goes_down() {
        fine("plan/count.rs", "use crate::checkpoint::Role; use super::layout::Weight; use crate::plan::Layout;");
        fine("progress.rs", "use crate::error::Result;");
        fine("app/shell/tree.rs", "use super::super::look; use crate::workspace::Workspace; use egui::Ui;");
        fine("plan/mod.rs", "mod tests { use super::*; use super::count::Count; }");
        fine("cli/mod.rs", "pub(crate) use crate::plan::Layout; pub(in crate::cli) fn f() {}");
        fine("main.rs", "use rankscope::{app, cli}; use crate::anything;");
    }

    #[test]
    fn refuses_crates_out_of_place() {
        refused("spectrum/rules.rs", "use faer::Mat;", "only spectrum/svd may name faer");
        refused("spectrum/mod.rs", "fn f() { nalgebra::DMatrix::zeros(1, 1) }", "may name nalgebra");
        refused("workspace.rs", "use egui_plot::Plot;", "only app may name egui_plot");
        refused("cli/mod.rs", "let x: ::egui::Color32 = y;", "may name egui");
        refused("main.rs", "use clap::Parser;", "only cli may name clap");
        refused("main.rs", "use rfd;", "only app may name rfd");
        refused("delta/mod.rs", "use candle_core::Tensor;", "may name candle_core");
        refused("app/mod.rs", "std::thread::spawn(|| ());", "thread::spawn");
        refused("app/mod.rs", "use std::thread::{sleep, Builder};", "thread::Builder");
        refused("app/mod.rs", "use poll_promise::Promise;", "only job may name poll_promise");
        fine("spectrum/svd/gram.rs", "use faer::Mat;");
        fine("spectrum/svd.rs", "use nalgebra::DMatrix;");
        fine("job.rs", "std::thread::Builder::new().spawn(f); use poll_promise::Promise;");
        fine("device.rs", "std::thread::available_parallelism()");
        fine("cli/mod.rs", "let faer = 1; let rfd = faer; own::egui::f();");
    }

    #[test]
    fn refuses_a_frame_that_waits_for_a_disk() {
        refused("app/tabs/train/history.rs", "fn f(p: &Path) -> bool { p.exists() }", "what paints asks no disk");
        refused("app/widgets/menu.rs", "use std::fs;", "this names fs");
        fine("app/tabs/train/state/background.rs", "fn f(p: &Path) -> bool { p.exists() }");
        fine("app/shell/mod.rs", "// It exists.\nlet offset = profile;");
    }

    #[test]
    fn reads_code_and_nothing_else() {
        fine("plan/mod.rs", "//! crate::cli\n/* crate::app /* crate::job */ crate::app */\nfn f() {}");
        fine("plan/mod.rs", r####"const A: &str = "crate::cli \" crate::app"; const B: &str = r#"crate::"job"#;"####);
        fine("plan/mod.rs", "fn f<'a>(x: &'a str) -> char { if x == '\"' { '\\'' } else { '/' } } // crate::cli");
        refused("plan/mod.rs", "const Q: char = '\"'; use crate::cli; const R: char = '\"';", "names cli");
        refused("plan/mod.rs", "fn f<'a>(x: &'a str) {} use crate::cli; fn g<'b>(x: &'b str) {}", "names cli");
        refused("plan/mod.rs", "const A: &str = \"\\\\\"; use crate::cli;", "names cli");
        refused("plan/mod.rs", "const A: &[u8] = br##\"\"#\"##; use crate::cli;", "names cli");
        refused("plan/mod.rs", "// '\n/* \" */ use crate\n  ::cli;", "src/plan/mod.rs:2:");
    }

    #[test]
    fn refuses_a_long_file() {
        refused("plan/mod.rs", &"\n".repeat(601), "601 lines");
        fine("plan/mod.rs", &"\n".repeat(600));
    }
}
