//! The Quantization tab: real weights, real rounding, by name.

use eframe::egui::accesskit::Role;
use eframe::egui::{Event, Key, Modifiers, vec2};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use rankscope::checkpoint::Checkpoint;
use rankscope::quant::{Fit, Format, Group, Recipe, measure};
use rankscope::units;
use rankscope::workspace::Request;
use serde_json::Value;

use crate::fixtures::{fixture, model, raw};
use crate::support::*;

fn tab() -> Window {
    let mut window = llama();
    press(&mut window, Modifiers::COMMAND, Key::Num5);
    settle(&mut window);
    window
}

/// The relative error of the module that is open first, as the library measures it.
fn error(name: &str, recipe: Recipe) -> String {
    let base = Checkpoint::open(&fixture("llama")).unwrap();
    let weight = base.matrix(base.module(name).unwrap(), &()).unwrap();
    let fit = Fit::new(weight.data(), weight.shape(), recipe).unwrap();
    units::percent(measure(weight.data(), &fit, &()).unwrap().relative_rmse)
}

/// Chooses from a list.
fn choose(window: &mut Window, list: &str, entry: &str) {
    click(window, Role::ComboBox, list);
    get(window, Role::Button, entry).click_accesskit();
    window.step();
    window.step();
    press(window, Modifiers::NONE, Key::Escape);
    settle(window);
}

#[test]
fn a_weight_its_rounding_and_the_error_are_shown() {
    let window = tab();
    for title in ["W", "NF4 · 64 · double", "error ŵ − w"] {
        let name = format!("Heatmap {title}");
        let map = get(&window, Role::Image, &name);
        assert!(map.accesskit_node().value().unwrap().starts_with("64 × 64"), "{title}");
    }
    assert_eq!(beside(&window, "error"), error(Q, Recipe::default()));
    assert_eq!(beside(&window, "bits/weight"), format!("{:.3}", Recipe::default().bits([64, 64])));
    assert!(window.query_by_role_and_label(Role::Image, "Levels of NF4 · 64 · double").is_some());
}

#[test]
fn the_cell_under_the_pointer_is_read_out() {
    let mut window = tab();
    window.get_by_role_and_label(Role::Image, "Heatmap W").hover();
    window.step();
    window.step();
    let line = texts(&window).into_iter().find(|text| text.starts_with("row ")).expect("a line about the cell");
    let place: Vec<usize> = line.split_whitespace().filter_map(|word| word.parse().ok()).take(2).collect();
    let base = Checkpoint::open(&fixture("llama")).unwrap();
    let weight = base.matrix(base.module(Q).unwrap(), &()).unwrap();
    let fit = Fit::new(weight.data(), weight.shape(), Recipe::default()).unwrap();
    let at = place[0] * 64 + place[1];
    let cell = fit.cell(at, weight.data()[at]);
    assert!(line.contains(&format!("code {}", cell.code.unwrap())), "{line}: {cell:?}");
    assert!(line.contains(&format!("block {}", cell.block.unwrap())), "{line}: {cell:?}");
    for part in ["w ", "ŵ ", "error ", "scale "] {
        assert!(line.contains(part), "{line}");
    }
}

/// The cell in the upper left corner of a heatmap: row and column.
fn corner(window: &mut Window, name: &str) -> Vec<usize> {
    let at = get(window, Role::Image, name).rect().min + vec2(2.0, 2.0);
    window.event(Event::PointerMoved(at));
    window.step();
    window.step();
    let line = texts(window).into_iter().find(|text| text.starts_with("row ")).expect("a line about the cell");
    line.split_whitespace().filter_map(|word| word.parse().ok()).take(2).collect()
}

/// Down to single cells, where numbers and block borders are drawn.
#[test]
fn the_heatmaps_are_zoomed_together() {
    let mut window = tab();
    assert_eq!(corner(&mut window, "Heatmap W"), [0, 0]);
    click(&mut window, Role::Image, "Heatmap W");
    for _ in 0..12 {
        press(&mut window, Modifiers::NONE, Key::Plus);
    }
    settle(&mut window);
    let close = corner(&mut window, "Heatmap W");
    assert!(close.iter().all(|&at| at > 20), "the middle is seen: {close:?}");
    assert_eq!(corner(&mut window, "Heatmap error ŵ − w"), close);
}

#[test]
fn another_format_and_block_change_everything() {
    let mut window = tab();
    choose(&mut window, "Format", "INT4 symmetric");
    let recipe = |block| Recipe::with(Format::Int4Symmetric, block, false);
    assert_eq!(beside(&window, "error"), error(Q, recipe(Group::Block(64))));
    choose(&mut window, "Block", "tensor");
    assert_eq!(beside(&window, "error"), error(Q, recipe(Group::Tensor)));
    assert!(window.query_by_role_and_label(Role::Image, "Heatmap INT4 symmetric · tensor").is_some());
    // Another module keeps the format.
    click(&mut window, Role::Button, V);
    settle(&mut window);
    assert_eq!(beside(&window, "error"), error(V, recipe(Group::Tensor)));
}

#[test]
fn the_table_shows_what_is_clicked() {
    let mut window = tab();
    // Among those of about as many bits as NF4: they are on top.
    let row = format!("Format {}", Recipe::new(Format::Q4_0));
    get(&window, Role::Row, &row).click_accesskit();
    window.step();
    settle(&mut window);
    assert!(window.query_by_role_and_label(Role::Image, "Heatmap Q4_0 · 32").is_some());
    assert_eq!(beside(&window, "error"), error(Q, Recipe::new(Format::Q4_0)));
    // At matched bits: 4.5 here, which NF4 has in blocks of 64 without double quantization.
    assert!(window.query_by_role_and_label(Role::Row, "Format NF4 · 64").is_some());
}

#[test]
fn two_formats_stand_side_by_side() {
    let mut window = tab();
    click(&mut window, Role::CheckBox, "Compare with");
    settle(&mut window);
    for title in ["error of A", "error of B", "|error A| − |error B|"] {
        assert!(window.query_by_role_and_label(Role::Image, &format!("Heatmap {title}")).is_some(), "{title}");
    }
    assert!(says(&window, "A  NF4 · 64 · double") && says(&window, "B  INT4 symmetric · 64"));
    click(&mut window, Role::Button, "Values");
    settle(&mut window);
    assert!(window.query_by_role_and_label(Role::Image, "Heatmap A − B").is_some());
}

#[test]
fn every_lower_view_has_something_to_say() {
    let mut window = tab();
    click(&mut window, Role::Button, "Where the error is");
    settle(&mut window);
    for title in ["Histogram of the error", "Error along rows and columns", "Error along blocks"] {
        assert!(window.query_by_role_and_label(Role::Image, title).is_some(), "{title}");
    }
    click(&mut window, Role::Button, "Block sizes");
    settle(&mut window);
    assert!(window.query_by_role_and_label(Role::Image, "Error by block size").is_some());
    click(&mut window, Role::Button, "All modules");
    settle(&mut window);
    let map = window.query_by_role_and_label(Role::Grid, "Map of errors");
    assert!(map.is_some_and(|map| map.value().unwrap().contains("14 modules")));
    let q = error(Q, Recipe::default());
    let short: f64 = q.trim_end_matches(" %").parse().unwrap();
    let said = texts(&window).into_iter().find(|text| text.starts_with("layer 0 q_proj: relative error %")).unwrap();
    let value: f64 = said.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((value / short - 1.0).abs() < 0.01, "{said} {q}");
    click(&mut window, Role::Button, "Against ΔW");
    settle(&mut window);
    assert!(says(&window, "weights whose code changes") && says(&window, "inside ΔW's 8 strongest directions"));
    assert!(
        window.query_by_role_and_label(Role::Image, "What a repair of rank r leaves of the weight's error").is_some()
    );
    click(&mut window, Role::Button, "What QLoRA quantizes");
    settle(&mut window);
    assert!(
        says(&window, "published: base in 4 bit") && says(&window, "QLoRA (arXiv 2305.14314) keeps the frozen base")
    );
    click(&mut window, Role::Button, "Adapter in 4 bit, base in 16 (as often told)");
    assert!(says(&window, "Popular accounts put A and B into 4 bits"));
}

#[test]
fn without_a_change_there_is_nothing_to_lay_beside() {
    let mut window = open(Request::Any(fixture("llama")));
    settle(&mut window);
    press(&mut window, Modifiers::COMMAND, Key::Num5);
    settle(&mut window);
    click(&mut window, Role::Button, "Against ΔW");
    assert!(says(&window, "Open a tuned model or an adapter for the base"));
}

#[test]
fn a_weight_with_nan_gets_a_sentence_and_the_window_goes_on() {
    let bad: Vec<u8> = (0..64 * 64).flat_map(|i| (if i == 70 { f32::NAN } else { 0.5 }).to_le_bytes()).collect();
    let good: Vec<u8> = (0..64 * 40u32).flat_map(|i| ((i * 7919 % 101) as f32 - 50.0).to_le_bytes()).collect();
    let tensors = [
        raw("model.layers.0.self_attn.q_proj.weight", "F32", &[64, 64], &bad),
        raw("model.layers.0.self_attn.k_proj.weight", "F32", &[64, 40], &good),
    ];
    let folder = model(&Value::Null, &tensors);
    let mut window = open(Request::Any(folder.path().to_path_buf()));
    until(&mut window, "the model", |w| w.state().workspace().opened().is_some() && !w.state().is_busy());
    press(&mut window, Modifiers::COMMAND, Key::Num5);
    until(&mut window, "the sentence", |w| says(w, "found 1 NaN among 4096 values, first at row 1, column 6"));
    click(&mut window, Role::Button, K);
    until(&mut window, "the other module", |w| says(w, "bits/weight"));
    // 40 columns are no whole blocks of 32: llama.cpp's formats say so, NF4 has a shorter last block.
    choose(&mut window, "Format", "Q4_0");
    until(&mut window, "the reason", |w| says(w, "found 40 columns, expected a multiple of 32"));
}

/// The user's own file in few bits beside its 16-bit base: a row on top of the formats, and its error map.
#[test]
fn a_stored_file_stands_beside_the_formats() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("llama-q8.gguf");
    let base = Checkpoint::open(&fixture("llama")).unwrap();
    rankscope::train::gguf::write(&base, &rankscope::train::merge::Change::Nothing, "q8_0", &file, &()).unwrap();
    let mut window = open(Request::Pair(fixture("llama"), file.clone()));
    settle(&mut window);
    press(&mut window, Modifiers::COMMAND, Key::Num5);
    settle(&mut window);
    get(&window, Role::Row, "As stored: Q8_0").click_accesskit();
    window.step();
    settle(&mut window);
    for title in ["W", "as stored", "error ŵ − w"] {
        get(&window, Role::Image, &format!("Heatmap {title}"));
    }
    // The error on screen is that of the file, by its own reader.
    let stored = Checkpoint::open(&file).unwrap();
    let weight = |model: &Checkpoint| model.matrix(model.module(Q).unwrap(), &()).unwrap();
    let (w, rounded) = (weight(&base), weight(&stored));
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let error =
        norm(&mut w.data().iter().zip(rounded.data()).map(|(a, b)| b - a)) / norm(&mut w.data().iter().copied());
    assert!(error > 0.0 && error < 0.02, "{error}");
    let shown = units::percent(error);
    assert!(says(&window, &shown), "{shown} of {:?}", texts(&window));
    // A base that was opened alone has none.
    let mut window = open(Request::Any(fixture("llama")));
    settle(&mut window);
    press(&mut window, Modifiers::COMMAND, Key::Num5);
    settle(&mut window);
    assert!(!says(&window, "as stored"));
}
