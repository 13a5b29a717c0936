//! What cannot be opened is said in a sentence that names the file, and what is open stays open.

use std::fs;
use std::path::Path;

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable as _;
use rankscope::app::{App, Start};
use rankscope::workspace::Request;

use crate::fixtures::{copy, fixture, position};
use crate::support::*;

/// Opens `path` in a window that shows the small Llama; says all of `parts`, and the Llama is still there.
#[track_caller]
fn refused(path: &Path, parts: &[&str]) {
    let mut window = llama();
    open_path(&mut window, path);
    until(&mut window, "a refusal", |w| parts.iter().all(|part| says(w, part)) && is_quiet(w));
    // What was typed stands in its field as well.
    let all = texts(&window).into_iter().filter(|t| t != &path.display().to_string());
    let sentence = { all }.find(|t| parts.iter().all(|p| t.contains(p))).expect("in one sentence");
    assert!(sentence.ends_with('.') && !sentence.ends_with(".."), "{sentence}");
    assert_eq!(base(&window), fixture("llama"));
    assert_eq!(known(&window), (16, 16));
    let shown = |window: &Window| texts(window).into_iter().filter(|text| *text == sentence).count();
    let before = shown(&window);
    click(&mut window, Role::Button, "Close");
    settle(&mut window);
    assert!(shown(&window) < before && shown(&window) > 0, "the path can be put away, the status bar still says it");
    press(&mut window, Modifiers::NONE, Key::CloseBracket);
    assert_eq!(rank(&window), 9, "the window goes on");
}

#[test]
fn a_path_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    refused(&folder.path().join("nowhere"), &["nowhere", "no such file or folder"]);
}

#[test]
fn a_folder_without_weights() {
    let folder = tempfile::tempdir().unwrap();
    refused(folder.path(), &[folder.path().file_name().unwrap().to_str().unwrap(), "safetensors"]);
}

#[test]
fn a_file_that_was_cut_off() {
    let folder = copy("llama-tuned");
    let path = folder.path().join("model-00002-of-00003.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    refused(folder.path(), &["model-00002-of-00003.safetensors", "bytes"]);
}

#[test]
fn a_file_that_is_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    fs::write(&path, "<html>not found</html>").unwrap();
    refused(&path, &["weights.safetensors"]);
}

#[test]
fn an_adapter_for_another_base() {
    // A copy, so that its own base does not lie beside it.
    let folder = copy("gpt2-adapter");
    let name = folder.path().file_name().unwrap().to_str().unwrap();
    refused(folder.path(), &[name, "belongs to another base than llama"]);
}

#[test]
fn a_model_of_another_kind_as_the_tuned_one() {
    let mut window = llama();
    press(&mut window, Modifiers::COMMAND, Key::L);
    write(&mut window, "Path", fixture("gpt2").to_str().unwrap());
    click(&mut window, Role::Button, "As tuned model");
    until(&mut window, "a refusal", |w| says(w, "belongs to another base than llama") && is_quiet(w));
    assert_eq!(known(&window), (16, 16));
}

#[test]
fn at_the_start_too() {
    let mut window = open(Request::Any(fixture("llama").join("nothing-here")));
    until(&mut window, "a refusal", |w| says(w, "nothing-here") && is_quiet(w));
    assert!(says(&window, "No model is open."));
    window.run_steps(3);
    // An adapter whose base is nowhere.
    let folder = copy("llama-adapter");
    open_path(&mut window, folder.path());
    until(&mut window, "a refusal", |w| says(w, "open its base model first") && is_quiet(w));
    // And then something that opens.
    open_path(&mut window, &fixture("llama"));
    settle(&mut window);
    assert_eq!(base(&window), fixture("llama"));
    assert!(!says(&window, "nothing-here"), "the complaint is gone");
}

#[test]
fn a_sample_that_cannot_be_written() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let start = Start { data_dir: Some(file.path().join("below")), ..Start::default() };
    let mut window = builder().build_eframe(|cc| App::new(cc, start));
    let name = file.path().file_name().unwrap().to_str().unwrap().to_owned();
    until(&mut window, "a refusal", |w| says(w, &name) && is_quiet(w));
    open_path(&mut window, &fixture("gpt2"));
    settle(&mut window);
}

#[test]
fn not_a_number_in_one_weight() {
    let folder = copy("llama-tuned");
    let tensor = format!("{Q}.weight");
    let index = fs::read_to_string(folder.path().join("model.safetensors.index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let path = folder.path().join(index["weight_map"][&tensor].as_str().unwrap());
    let at = position(&path, &tensor);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let mut window = open(Request::Pair(fixture("llama"), folder.path().to_path_buf()));
    settle(&mut window);
    assert!(says(&window, &tensor) && says(&window, "NaN"), "{:?}", texts(&window));
    assert_eq!(known(&window), (15, 16), "the rest is analysed");
    click(&mut window, Role::Button, K);
    settle(&mut window);
    assert!(says(&window, "exact · 32 σ"));
    assert!(window.query_by_label("layer 0 q_proj: rank unknown").is_some());
}
