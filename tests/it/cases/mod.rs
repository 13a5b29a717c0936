//! Real situations in small: each folder of `tests/fixtures/cases` is one that users of PEFT, transformers, TRL, llama.cpp or MLX
//! meet, with what the reference library says of it. `tests/fixtures/cases/README.md` says how a case is read and what made the
//! numbers. `RANKSCOPE_CASES` may hold a regular expression for the names and kinds that are to run.

mod check;
mod tensors;

use check::{Ran, expectation};
use regex::Regex;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Longest that one command may take, where the case says nothing.
const SECONDS: u64 = 120;

/// The folders that a case's words stand for.
pub struct Place {
    case: PathBuf,
    out: PathBuf,
}

impl Place {
    /// A text with the folders put in.
    pub fn fill(&self, text: &str) -> String {
        text.replace("{case}", &self.case.to_string_lossy()).replace("{out}", &self.out.to_string_lossy())
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.is_dir() {
        return std::fs::copy(from, to).map(|_| ());
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// A step between two commands.
fn step(command: &Value, place: &Place) -> std::io::Result<()> {
    let (from, to) = (place.fill(text(command, "from")), place.fill(text(command, "to")));
    match text(command, "do") {
        "copy" => copy(Path::new(&from), Path::new(&to)),
        "move" => std::fs::rename(from, to),
        "remove" if Path::new(&from).is_dir() => std::fs::remove_dir_all(from),
        "remove" => std::fs::remove_file(from),
        "cut" => {
            let length = command["bytes"].as_u64().unwrap_or(0);
            std::fs::OpenOptions::new().write(true).open(from)?.set_len(length)
        }
        other => Err(std::io::Error::other(format!("no step {other}"))),
    }
}

/// Runs the program; `None` when it takes too long.
fn run(command: &Value, place: &Place) -> Option<Ran> {
    let arguments = command["run"].as_array().into_iter().flatten();
    let arguments: Vec<String> = arguments.map(|one| place.fill(one.as_str().unwrap_or_default())).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| std::fs::File::create(folder.path().join(name)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_rankscope"))
        .args(&arguments)
        .env_remove("RUST_LOG")
        .current_dir(&place.out)
        .stdin(Stdio::null())
        .stdout(file("out"))
        .stderr(file("err"))
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(command["seconds"].as_u64().unwrap_or(SECONDS));
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() > end => {
                child.kill().unwrap();
                child.wait().unwrap();
                return None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    // What is said is looked at without the folders' own names, which hold the case's.
    let said = |name: &str| {
        let bytes = std::fs::read(folder.path().join(name)).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.replace(&*place.case.to_string_lossy(), "{case}").replace(&*place.out.to_string_lossy(), "{out}")
    };
    let (out, err) = (said("out"), said("err"));
    Some(Ran { status: status.code(), json: serde_json::from_str(&out).ok(), out, err })
}

/// What is wrong with a case.
fn walk(folder: &Path, case: &Value) -> Vec<String> {
    let out = tempfile::tempdir().unwrap();
    let place = Place { case: folder.to_path_buf(), out: out.path().canonicalize().unwrap() };
    let (mut wrong, mut documents) = (Vec::new(), Vec::new());
    for (number, command) in case["commands"].as_array().unwrap().iter().enumerate() {
        let number = number + 1;
        if command.get("do").is_some() {
            documents.push(None);
            if let Err(error) = step(command, &place) {
                wrong.push(format!("step {number}: {error}"));
            }
            continue;
        }
        let Some(ran) = run(command, &place) else {
            documents.push(None);
            wrong.push(format!("command {number}: not done in time"));
            continue;
        };
        documents.push(ran.json.clone());
        let said = expectation(&command["expect"], &ran, &documents, &place);
        wrong.extend(said.into_iter().take(4).map(|said| format!("command {number} {}: {said}", command["run"])));
    }
    wrong
}

#[test]
fn every_case_comes_out_as_its_reference_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cases");
    let only = std::env::var("RANKSCOPE_CASES").map(|only| Regex::new(&only).unwrap()).ok();
    let mut folders: Vec<PathBuf> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("case.json").is_file());
    folders.sort();
    assert!(folders.len() > 40, "only {} cases", folders.len());
    let (next, failed) = (Mutex::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let at = {
                        let mut next = next.lock().unwrap();
                        *next += 1;
                        *next - 1
                    };
                    let Some(folder) = folders.get(at) else { break };
                    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
                    let case: Value =
                        serde_json::from_str(&std::fs::read_to_string(folder.join("case.json")).unwrap()).unwrap();
                    let wanted = only.as_ref().is_none_or(|o| o.is_match(&name) || o.is_match(text(&case, "kind")));
                    if wanted {
                        let wrong = walk(folder, &case);
                        failed.lock().unwrap().extend(wrong.into_iter().map(|said| format!("{name}: {said}")));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}
