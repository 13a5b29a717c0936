//! The house rules that a machine can see: which floor may name which, who may name a crate, how long a file may be.
//!
//! Reads every file under `src/` as text: comments, strings and character literals are blanked out first.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules by floor, lowest first. `use crate::` goes down, or stays within one folder; the ground floor is one folder.
const FLOORS: [&[&str]; 12] = [
    &["defect", "error", "guard", "hash", "interrupt", "matrix", "progress", "room", "simd", "units"],
    &["spec", "figure"],
    &["device", "checkpoint"],
    &["adapter", "quant"],
    &["delta"],
    &["spectrum"],
    &["model"],
    &["plan"],
    &["train"],
    &["demo", "export", "workspace"],
    &["job"],
    &["cli", "app"],
];

/// Crates (or the beginning of their names, with `*`) and the only paths under `src/` that may name them.
const CRATES: [(&[&str], &[&str]); 11] = [
    (&["nalgebra", "faer"], &["spectrum/svd"]),
    (&["eframe", "egui*", "rfd"], &["app"]),
    (&["clap", "indicatif"], &["cli"]),
    (&["parquet"], &["train/data"]),
    (&["tokenizers"], &["train/data", "demo"]),
    (&["nucleo_matcher"], &["app/shell"]),
    (&["poll_promise"], &["job"]),
    (&["candle_core"], &["device", "checkpoint", "quant/formats/kquant", "quant/gguf", "plan", "model", "train"]),
    (&["ureq", "sha1", "sha2"], &["checkpoint/hub"]),
    (&["cudarc"], &["device", "model/gpu/cuda"]),
    (&["safetensors", "memmap2"], &["checkpoint", "adapter", "quant", "train"]),
];

/// The only paths under `src/` that may start a thread: jobs, and the thread on which a stranger's template has a stack of its own.
const SPAWNERS: [&str; 2] = ["job", "train/data/chat/template"];

/// The layers of the window, lowest first: a file names its own layer and those below. What is in none of them is on top.
const LAYERS: [&str; 8] = ["look", "widgets", "work", "effect", "view", "shared", "tabs", "shell"];

/// The window: a frame never waits for a disk.
const WINDOW: &str = "app/";
/// Words that ask a disk: modules and types before `::`, methods after a dot.
const DISK: [&str; 5] = ["fs", "File", "OpenOptions", "NamedTempFile", "tempfile"];
const DISK_METHODS: [&str; 9] = [
    "read_dir",
    "metadata",
    "symlink_metadata",
    "canonicalize",
    "exists",
    "try_exists",
    "is_file",
    "is_dir",
    "read_link",
];
/// What asks `/proc` and `/sys`: the kernel answers from memory, there is no disk to wait for.
const KERNEL: [&str; 1] = ["room.rs"];
/// What is handed to these is done on another thread.
const BESIDE: [&str; 3] = ["spawn", "in_background", "begin"];
/// Where a frame begins: every function outside of these folders, and within them every one that such a function calls.
const STATE: [&str; 3] = ["/state/", "/state.rs", "app/work/"];

/// No file is longer.
const LINES: usize = 600;

#[test]
fn the_house_stands_on_its_floors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 10, "only {} files under src", files.len());
    let files: Vec<(String, String)> = files
        .iter()
        .map(|file| {
            let path = file.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
            (path, fs::read_to_string(file).unwrap())
        })
        .collect();
    let mut complaints: Vec<String> = files.iter().flat_map(|(path, text)| complaints(path, text)).collect();
    complaints.extend(waits(&files));
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

    let own = path.split('/').next().unwrap_or(path).trim_end_matches(".rs");
    if own == "lib" || own == "main" {
        return complaints;
    }
    let Some(floor) = floor_of(own) else {
        complain(1, format!("{own} has no floor: place it in tests/floors.rs and lib.rs"));
        return complaints;
    };
    for (line, named) in crate_paths(path, &tokens) {
        let Some(name) = named.first().filter(|_| !is_own_file(path, &named)) else { continue };
        match floor_of(name) {
            // A function or type of lib.rs itself, or a macro.
            None if is_item(name) => {}
            None => complain(line, format!("crate::{name} is no module of a floor")),
            Some(other) if name == own || other < floor || (other == 0 && floor == 0) => {}
            Some(other) => complain(line, format!("{own} (floor {floor}) names {name} (floor {other})")),
        }
        if let Some(what) = climbs(path, &named) {
            complain(line, what);
        }
    }
    complaints
}

/// True for a path that stays where it is: `super::x` of a module within the file.
fn is_own_file(path: &str, named: &[String]) -> bool {
    let own = module_path(path);
    named.len() > own.len() && named.starts_with(&own) && own.len() > 2
}

/// A type, a function's constant: not a module.
fn is_item(name: &str) -> bool {
    name.chars().next().is_some_and(char::is_uppercase)
}

/// What is wrong with a path that is named within the window: it goes up a layer, or from one tab to another.
fn climbs(path: &str, named: &[String]) -> Option<String> {
    let layer = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let own = module_path(path);
    let from = own.first().filter(|top| *top == "app").and(own.get(1)).and_then(|name| layer(name))?;
    let target = named.first().filter(|top| *top == "app").and(named.get(1))?;
    match layer(target) {
        Some(to) if to < from => None,
        Some(to) if to > from => Some(format!("{} (layer {from}) names {target} (layer {to})", LAYERS[from])),
        Some(_) => {
            let (here, there) = (own.get(2)?, named.get(2)?);
            let apart = target == "tabs" && here != there && !is_item(there);
            apart.then(|| format!("tabs never name each other: {here} names {there}"))
        }
        None => Some(format!("{} (layer {from}) names app::{target}, which is on top", LAYERS[from])),
    }
}

/// `["app", "tabs", "train", "header"]` for `app/tabs/train/header.rs`.
fn module_path(path: &str) -> Vec<String> {
    let parts = path.trim_end_matches(".rs").split('/').filter(|part| *part != "mod" && *part != "lib");
    parts.map(str::to_owned).collect()
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

/// The paths that a file names through `crate::` or `super::`, from the crate's root, with their lines.
fn crate_paths(path: &str, tokens: &[(usize, String)]) -> Vec<(usize, Vec<String>)> {
    let words: Vec<&str> = tokens.iter().map(|(_, word)| word.as_str()).collect();
    let own = module_path(path);
    // Modules within the file, each with the depth of braces around it.
    let (mut found, mut braces, mut inline) = (Vec::new(), 0usize, Vec::<(usize, String)>::new());
    for at in 0..words.len() {
        match words[at] {
            "{" => {
                if at >= 2 && words[at - 2] == "mod" {
                    inline.push((braces, words[at - 1].to_owned()));
                }
                braces += 1;
            }
            "}" => {
                braces = braces.saturating_sub(1);
                if inline.last().is_some_and(|(depth, _)| *depth == braces) {
                    inline.pop();
                }
            }
            "crate" | "super" if at == 0 || words[at - 1] != "::" => {
                let mut base: Vec<String> = own.iter().chain(inline.iter().map(|(_, name)| name)).cloned().collect();
                let mut next = at;
                if words[at] == "crate" {
                    base.clear();
                    next += 2;
                }
                while words.get(next) == Some(&"super") && words.get(next + 1) == Some(&"::") {
                    base.pop();
                    next += 2;
                }
                if next > at && words.get(next - 1) == Some(&"::") {
                    let mut paths = Vec::new();
                    use_tree(&words, next, base, &mut paths);
                    found.extend(paths.into_iter().map(|named| (tokens[at].0, named)));
                }
            }
            _ => {}
        }
    }
    found
}

/// Every path of `a::{b, c::d}`; the place behind it.
fn use_tree(words: &[&str], mut at: usize, mut prefix: Vec<String>, paths: &mut Vec<Vec<String>>) -> usize {
    loop {
        match words.get(at) {
            Some(&"{") => {
                at += 1;
                loop {
                    match words.get(at) {
                        Some(&"}") => return at + 1,
                        Some(&",") => at += 1,
                        None => return at,
                        Some(_) => {
                            let before = at;
                            at = use_tree(words, at, prefix.clone(), paths).max(before + 1);
                        }
                    }
                }
            }
            Some(word) if *word == "*" || word.chars().all(|c| c.is_alphanumeric() || c == '_') => {
                prefix.push((*word).to_owned());
                at += 1;
                if words.get(at) == Some(&"::") {
                    at += 1;
                    continue;
                }
                paths.push(prefix);
                return if words.get(at) == Some(&"as") { at + 2 } else { at };
            }
            _ => {
                paths.push(prefix);
                return at;
            }
        }
    }
}

/// A function as far as this test reads it.
struct Function {
    path: String,
    line: usize,
    /// Of an `impl` or a `trait`.
    of: Option<String>,
    name: String,
    has_self: bool,
    /// It can be named outside of its module.
    is_public: bool,
    /// What it does itself, on the thread that calls it.
    body: Vec<(usize, String)>,
    /// What its file names through `crate::` and `super::`.
    imports: std::rc::Rc<[Vec<String>]>,
}

/// Functions of the window that ask a disk on the thread of the window, by themselves or through what they call.
///
/// Calls are found by name. `Type::f`, `module::f` and `f` are looked up; of a method `x.f` the type is not known: where one of the
/// crate's own methods of that name asks a disk, none of that name can be called here. So a method that reads a file needs a
/// name of its own.
fn waits(files: &[(String, String)]) -> Vec<String> {
    let all: Vec<Function> = files.iter().flat_map(|(path, text)| functions(path, text)).collect();
    let mut by_name = std::collections::HashMap::<&str, Vec<usize>>::new();
    for (at, function) in all.iter().enumerate() {
        by_name.entry(function.name.as_str()).or_default().push(at);
    }
    let named = |name: &str| by_name.get(name).map(Vec::as_slice).unwrap_or_default();
    let of_kernel: Vec<bool> = all.iter().map(|function| KERNEL.contains(&function.path.as_str())).collect();
    let mut reason: Vec<Option<(usize, String)>> =
        all.iter().zip(&of_kernel).map(|(function, &kernel)| asks(&function.body).filter(|_| !kernel)).collect();
    loop {
        let mut changed = false;
        for at in 0..all.len() {
            if reason[at].is_none() && !of_kernel[at] {
                reason[at] = calls(&all[at], &all, &named, false).into_iter().find_map(|(line, word, candidates)| {
                    let any = !candidates.is_empty() && candidates.iter().all(|&to| reason[to].is_some());
                    any.then(|| (line, format!("{word}, which {}", told(&all, &reason, candidates[0]))))
                });
                changed |= reason[at].is_some();
            }
        }
        if !changed {
            break;
        }
    }
    // Functions of the window that run in a frame.
    let in_window = |at: usize| all[at].path.starts_with(WINDOW) && !is_beside(&all[at].path);
    let mut reached: Vec<usize> =
        (0..all.len()).filter(|&at| in_window(at) && !STATE.iter().any(|state| all[at].path.contains(state))).collect();
    let mut seen: std::collections::HashSet<usize> = reached.iter().copied().collect();
    let mut complaints = Vec::new();
    while let Some(at) = reached.pop() {
        let function = &all[at];
        let calls = calls(function, &all, &named, true);
        let own = asks(&function.body).map(|(line, word)| (line, word.clone()));
        let called = calls.iter().find_map(|(line, word, candidates)| {
            // What is in the window is looked at itself.
            let to = candidates.iter().find(|&&to| !in_window(to) && reason[to].is_some())?;
            Some((*line, format!("{word}, which {}", told(&all, &reason, *to))))
        });
        if let Some((line, what)) = own.or(called) {
            let Function { path, name, .. } = function;
            complaints.push(format!("src/{path}:{line}: a frame asks no disk, {name} names {what}"));
        }
        for to in calls.into_iter().flat_map(|(.., candidates)| candidates) {
            if in_window(to) && seen.insert(to) {
                reached.push(to);
            }
        }
    }
    complaints.sort();
    complaints
}

/// Why a function asks a disk, in words.
fn told(all: &[Function], reason: &[Option<(usize, String)>], at: usize) -> String {
    let Function { path, line, .. } = &all[at];
    format!("(src/{path}:{line}) names {}", reason[at].as_ref().map_or("", |(_, word)| word.as_str()))
}

/// Files whose functions run beside the window, and what starts it.
fn is_beside(path: &str) -> bool {
    path == "app/start.rs"
}

/// The first word of a body that asks a disk.
fn asks(body: &[(usize, String)]) -> Option<(usize, String)> {
    (0..body.len()).find_map(|at| {
        let (line, word) = &body[at];
        let (before, after) = (at.checked_sub(1).map(|b| body[b].1.as_str()), body.get(at + 1).map(|a| a.1.as_str()));
        let module = DISK.contains(&word.as_str()) && after == Some("::");
        let method = DISK_METHODS.contains(&word.as_str()) && before == Some(".") && after == Some("(");
        (module || method).then(|| (*line, word.clone()))
    })
}

/// What a function calls: line, name, and the functions of the crate that it may be.
fn calls<'a>(
    function: &Function,
    all: &[Function],
    named: &impl Fn(&str) -> &'a [usize],
    whole: bool,
) -> Vec<(usize, String, Vec<usize>)> {
    let word = |at: usize| function.body.get(at).map_or("", |(_, word)| word.as_str());
    let mut found = Vec::new();
    for at in 0..function.body.len() {
        // `f(` or `f::<…>(`; a function that is handed over, `map(f)`, is no call.
        if word(at + 1) != "(" || at > 0 && word(at - 1) == "fn" {
            continue;
        }
        // Private functions of other files, and those of floors above, cannot be meant.
        let can_be = |to: &usize| {
            let top = |path: &str| path.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
            let (here, there) = (top(&function.path), top(&all[*to].path));
            let below = here == there || floor_of(&there) < floor_of(&here) || floor_of(&there) == Some(0);
            below && (here == there || all[*to].is_public)
        };
        let candidates = named(word(at)).iter().copied().filter(can_be);
        let before = if at > 0 { word(at - 1) } else { "" };
        let candidates: Vec<usize> = match before {
            // Of `self.f(` the type is known; of `x.f(` it is not.
            "." if at > 1 && word(at - 2) == "self" && (at < 3 || word(at - 3) != ".") => {
                candidates.filter(|&to| all[to].has_self && all[to].of == function.of).collect()
            }
            "." => candidates.filter(|&to| all[to].has_self && whole).collect(),
            "::" if at > 1 => {
                let owner = match word(at - 2) {
                    "Self" => function.of.as_deref().unwrap_or("Self"),
                    other => other,
                };
                let own = module_path(&function.path);
                let fits = |to: &usize| {
                    let module = module_path(&all[*to].path);
                    match owner {
                        "super" => all[*to].of.is_none() && own.len() > module.len() && own.starts_with(&module),
                        _ => {
                            all[*to].of.as_deref() == Some(owner)
                                || all[*to].of.is_none() && module.last().is_some_and(|last| last == owner)
                        }
                    }
                };
                candidates.filter(fits).collect()
            }
            // Of this file, or named by a `use`.
            _ => {
                let name = word(at);
                let fits = |to: &usize| {
                    let there = module_path(&all[*to].path);
                    let imported = function.imports.iter().any(|path| {
                        path.last().is_some_and(|last| last == name) && there.starts_with(&path[..path.len() - 1])
                    });
                    all[*to].of.is_none() && (all[*to].path == function.path || imported)
                };
                candidates.filter(fits).collect()
            }
        };
        found.push((function.body[at].0, word(at).to_owned(), candidates));
    }
    found
}

/// The functions of a file, without its tests.
fn functions(path: &str, text: &str) -> Vec<Function> {
    let tokens = tokens(&code(text));
    let word = |at: usize| tokens.get(at).map_or("", |(_, word)| word.as_str());
    let imports: std::rc::Rc<[Vec<String>]> = crate_paths(path, &tokens).into_iter().map(|(_, named)| named).collect();
    let (mut found, mut at, mut depth) = (Vec::new(), 0, 0usize);
    let mut owners: Vec<(usize, String)> = Vec::new();
    // What a trait or its implementation has is as public as the trait.
    let mut traits = std::collections::HashSet::new();
    while at < tokens.len() {
        match word(at) {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if owners.last().is_some_and(|(of, _)| *of == depth) {
                    owners.pop();
                }
            }
            "mod" if word(at + 1) == "tests" && word(at + 2) == "{" => {
                at = closing(&tokens, at + 2);
            }
            "impl" | "trait" if at == 0 || ["}", ";", "]", "pub", "unsafe", ")", "{"].contains(&word(at - 1)) => {
                let end = (at..tokens.len()).find(|&to| word(to) == "{" || word(to) == ";").unwrap_or(tokens.len());
                let implements = (at..end).rfind(|&to| word(to) == "for");
                let begin = implements.unwrap_or(at);
                // The first name that is not within `<…>`, after the path before it.
                let (mut angle, mut name) = (0i32, String::new());
                for to in begin + 1..end {
                    match word(to) {
                        "<" => angle += 1,
                        ">" if word(to - 1) != "-" => angle -= 1,
                        "where" => break,
                        named
                            if angle == 0
                                && named.chars().all(|c| c.is_alphanumeric() || c == '_')
                                && (name.is_empty() || word(to - 1) == "::") =>
                        {
                            name = named.to_owned();
                        }
                        _ => {}
                    }
                }
                if word(end) == "{" {
                    if implements.is_some() || word(at) == "trait" {
                        traits.insert(depth);
                    } else {
                        traits.remove(&depth);
                    }
                    owners.push((depth, name));
                }
                at = end;
                continue;
            }
            "fn" if word(at + 2) == "(" || word(at + 2) == "<" => {
                let open = (at..tokens.len()).find(|&to| word(to) == "(").unwrap_or(at);
                let close = closing_of(&tokens, open, "(", ")");
                let has_self = tokens[open..close.min(open + 6)].iter().any(|(_, word)| word == "self");
                let body = (close..tokens.len()).find(|&to| word(to) == "{" || word(to) == ";").unwrap_or(close);
                if word(body) == "{" {
                    let end = closing(&tokens, body);
                    found.push(Function {
                        path: path.to_owned(),
                        line: tokens[at].0,
                        of: owners.last().map(|(_, name)| name.clone()),
                        name: word(at + 1).to_owned(),
                        has_self,
                        is_public: is_public(&tokens, at) || owners.last().is_some_and(|(of, _)| traits.contains(of)),
                        imports: std::rc::Rc::clone(&imports),
                        body: on_this_thread(&tokens[body..=end.min(tokens.len() - 1)]),
                    });
                    at = end;
                } else {
                    at = body;
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// True for `pub fn` and `pub(crate) fn`, with `const`, `unsafe` or `async` between.
fn is_public(tokens: &[(usize, String)], at: usize) -> bool {
    let word = |at: usize| tokens.get(at).map_or("", |(_, word)| word.as_str());
    let mut before = at;
    while before > 0 && ["const", "unsafe", "async"].contains(&word(before - 1)) {
        before -= 1;
    }
    before > 0 && word(before - 1) == "pub" || before > 3 && word(before - 1) == ")" && word(before - 2) == "crate"
}

/// A body without what is handed to another thread: what stands in the call, and closures that are handed over by name.
fn on_this_thread(body: &[(usize, String)]) -> Vec<(usize, String)> {
    let word = |at: usize| body.get(at).map_or("", |(_, word)| word.as_str());
    let hands_over = |at: usize| BESIDE.contains(&word(at)) && word(at + 1) == "(";
    let handed: std::collections::HashSet<&str> = (0..body.len())
        .filter(|&at| hands_over(at))
        .flat_map(|at| (at + 2..closing_of(body, at + 1, "(", ")")).map(word))
        .collect();
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < body.len() {
        kept.push(body[at].clone());
        at = if hands_over(at) {
            closing_of(body, at + 1, "(", ")")
        } else if word(at) == "let" && handed.contains(word(at + 1)) && word(at + 2) == "=" && word(at + 3) == "move" {
            // To the end of the statement.
            let mut depth = 0i32;
            (at..body.len())
                .find(|&to| {
                    depth +=
                        i32::from(["(", "{", "["].contains(&word(to))) - i32::from([")", "}", "]"].contains(&word(to)));
                    depth == 0 && word(to) == ";"
                })
                .unwrap_or(body.len())
        } else {
            at + 1
        };
    }
    kept
}

/// The place of the brace that closes the one at `open`.
fn closing(tokens: &[(usize, String)], open: usize) -> usize {
    closing_of(tokens, open, "{", "}")
}

fn closing_of(tokens: &[(usize, String)], open: usize, opens: &str, closes: &str) -> usize {
    let mut depth = 0;
    for (at, (_, word)) in tokens.iter().enumerate().skip(open) {
        if word == opens {
            depth += 1;
        } else if word == closes {
            depth -= 1;
            if depth == 0 {
                return at;
            }
        }
    }
    tokens.len().saturating_sub(1)
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
    fn layers_of_the_window_go_down() {
        fine("app/tabs/train/header.rs", "use super::state::{Action, Track}; use crate::app::widgets::menu::Take;");
        fine("app/tabs/train/state/live.rs", "use super::super::state::pause; use crate::app::tabs::{Part, Tab};");
        fine("app/shell/keys.rs", "use crate::app::tabs::Tab; use super::dock::Dock;");
        fine("app/logic.rs", "use super::shell::keys; use super::App;");
        refused("app/tabs/train/mod.rs", "use crate::app::tabs::{Tab, learn::Chapter};", "train names learn");
        refused("app/tabs/train/mod.rs", "use super::spectrum;", "tabs never name each other: train names spectrum");
        refused("app/tabs/train/state/live.rs", "use super::super::super::learn::X;", "train names learn");
        refused("app/tabs/train/mod.rs", "use crate::app::shell::rank;", "tabs (layer 6) names shell (layer 7)");
        refused("app/shared/layout.rs", "use crate::app::tabs::Tab;", "shared (layer 5) names tabs (layer 6)");
        refused("app/effect.rs", "use super::view::View;", "effect (layer 3) names view (layer 4)");
        refused("app/widgets/map.rs", "use crate::app::App;", "names app::App, which is on top");
    }

    #[track_caller]
    fn disk(files: &[(&str, &str)]) -> Vec<String> {
        waits(&files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn refuses_a_frame_that_waits_for_a_disk() {
        let own = disk(&[("app/tabs/train/history.rs", "fn f(p: &Path) -> bool {\n p.exists() }")]);
        assert_eq!(own, ["src/app/tabs/train/history.rs:2: a frame asks no disk, f names exists"]);
        assert_eq!(disk(&[("app/widgets/menu.rs", "fn f() { std::fs::read(x); }")]).len(), 1);
        // What is handed to another thread may.
        let job = "fn f(&mut self) { self.job = Job::spawn(title, wake, move |_| Ok(path.exists())); }";
        assert!(disk(&[("app/tabs/train/state/draft.rs", job)]).is_empty());
        assert!(disk(&[("app/view.rs", "// It exists.\nfn f() { let offset = profile; }")]).is_empty());
    }

    #[test]
    fn refuses_a_frame_that_calls_what_waits_for_a_disk() {
        let history = (
            "train/past.rs",
            "impl Past { pub fn name(&self) -> String { name(&self.folder) } pub fn done(&self) -> usize { 1 } }
             pub fn name(p: &Path) -> String { if p.join(G).is_file() { a } else { b } }
             pub fn pure(p: &Path) -> String { p.display().to_string() }",
        );
        let frame = |body: &str| {
            let text = format!("fn ui(ui: &mut Ui, past: &Past) {{ {body} }}");
            disk(&[history, ("app/tabs/train/header.rs", &text)])
        };
        let told = frame("ui.label(past.name());");
        assert!(told[0].contains("ui names name, which (src/train/past.rs:1) names name, which"), "{told:?}");
        assert_eq!(frame("past::name(&past.folder)").len(), 1);
        assert_eq!(frame("Past::name(past)").len(), 1);
        assert!(frame("past.done(); past::pure(p); Other::name(past); name").is_empty());
        let far = ("demo/x.rs", "pub fn far(p: &Past) -> String { crate::train::past::name(&p.folder) }");
        let text = "fn ui() { demo::x::far(p) }";
        assert_eq!(disk(&[history, far, ("app/shell/top.rs", text)]).len(), 1, "through two floors");
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
