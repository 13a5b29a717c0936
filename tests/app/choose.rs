//! The Choose tab: an answer with its reasons, and what is done with it.

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use rankscope::train::SETTINGS;
use rankscope::units::count;
use serde_json::Value;
use std::process::Command;
use tempfile::TempDir;

use crate::support::*;
use crate::training::ready;

/// The number of the answer of this name: what stands between its name and the comma.
fn advised(window: &Window, name: &str) -> String {
    let text = texts(window).into_iter().find_map(|text| {
        let rest = text.strip_prefix(name)?.strip_prefix(": ")?.to_owned();
        Some(rest.split(", ").next().unwrap_or_default().to_owned())
    });
    text.unwrap_or_else(|| panic!("no {name} on screen: {:?}", texts(window)))
}

/// A window with data and the answer for them.
fn answered(folder: &TempDir) -> Window {
    let mut window = ready(folder, 3);
    press(&mut window, Modifiers::COMMAND, Key::Num2);
    until(&mut window, "an answer", |w| says(w, "rank r: "));
    settle(&mut window);
    window
}

#[test]
fn the_answer_sets_up_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = answered(&folder);
    let (r, alpha, lr) = (advised(&window, "rank r"), advised(&window, "α"), advised(&window, "learning rate"));
    assert!(says(&window, &format!("rank {r}")) && says(&window, "Do that"), "the answer is a sentence");
    assert!(says(&window, "Why, in order of weight"));
    click(&mut window, Role::Button, "Do that");
    settle(&mut window);
    assert_eq!(rank(&window).to_string(), r, "the dial is turned");
    assert_eq!(number(&window, Role::SpinButton, "α").to_string(), alpha);
    assert!(window.query_by_role_and_label(Role::Button, "Start the run").is_some(), "Train is in front");
    let peak = number(&window, Role::SpinButton, "Peak");
    assert_eq!(format!("{peak:.0e}"), lr);
    assert!(window.state().workspace().dial().targets.to_string().contains("all-linear"));
}

#[test]
fn a_reason_is_looked_at_and_the_answer_is_checked_by_a_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = answered(&folder);
    let reasons: Vec<String> = window
        .get_all_by_role(Role::Button)
        .filter_map(|node| node.accesskit_node().label())
        .filter(|label| label.contains(", weight "))
        .collect();
    assert!(reasons.len() >= 3, "{reasons:?}");
    let weight = |label: &str| label.split(", weight ").nth(1).unwrap()[..4].parse::<f64>().unwrap();
    assert!(reasons.windows(2).all(|pair| weight(&pair[0]) >= weight(&pair[1])), "the weightiest first: {reasons:?}");
    // Another reason shows another plot.
    let plots = |window: &Window| {
        window.get_all_by_role(Role::Image).filter_map(|node| node.accesskit_node().label()).collect::<Vec<_>>()
    };
    let before = plots(&window);
    click(&mut window, Role::Button, &reasons[1]);
    settle(&mut window);
    assert_ne!(plots(&window), before);
    let r: usize = advised(&window, "rank r").parse().unwrap();
    click(&mut window, Role::Button, "Check it by a sweep");
    settle(&mut window);
    let ranks = get(&window, Role::TextInput, "Ranks of the sweep").value().unwrap();
    assert_eq!(ranks, format!("{}, {r}, {}", (r / 4).max(1), 4 * r));
}

/// What `rankscope advise --json` answers to the question that the page asks.
fn command_line(window: &Window) -> Value {
    let mut draft = window.state().draft().unwrap().clone();
    draft.hold_out = Some(draft.held_out());
    let mut command = Command::new(env!("CARGO_BIN_EXE_rankscope"));
    let tuned = base(window).with_file_name("llama-tuned");
    command.arg("advise").arg(base(window)).arg("--data").arg(&draft.data).arg("--tuned").arg(tuned).arg("--json");
    for name in ["method", "batch", "accumulate", "seq", "steps", "hold-out", "checkpointing", "seed", "packing"] {
        let setting = SETTINGS.iter().find(|setting| setting.name == name).unwrap();
        let value = (setting.get)(&draft);
        if !value.is_empty() {
            command.arg(format!("--{name}={value}"));
        }
    }
    let output = command.env_remove("RUST_LOG").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_number_of_the_page_is_the_command_lines() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = answered(&folder);
    until(&mut window, "the sibling", |w| says(w, "What was tuned before"));
    settle(&mut window);
    let found = command_line(&window);
    let whole = |key: &str| found[key].as_u64().unwrap_or_else(|| panic!("{key} of {found}"));
    let [low, high] = [0, 1].map(|at| found["range"][at].as_u64().unwrap());
    let [slow, fast] = [0, 1].map(|at| found["lr_range"][at].as_f64().unwrap());
    let (r, alpha, lr) = (whole("r"), found["alpha"].as_f64().unwrap(), found["lr"].as_f64().unwrap());
    let cards = [
        format!("rank r: {r}, {low} to {high} may do as well"),
        format!("learning rate: {lr:.0e}, look from {slow:.0e} to {fast:.0e}"),
        format!("α: {alpha}, "),
        format!("modules: {}, ", whole("modules")),
        format!(
            "numbers to train: {}, {} for each rank",
            count(whole("trainable")),
            count(whole("parameters_per_rank"))
        ),
    ];
    // Memory counts in what the program itself holds: that of the window is another number. Both say whether it fits.
    assert!(says(&window, found["fits"]["verdict"].as_str().unwrap()));
    let said = texts(&window);
    for card in &cards {
        assert!(said.iter().any(|text| text.starts_with(card.as_str())), "no {card:?} in {said:?}");
    }
    let why = found["why"].as_array().unwrap();
    let buttons: Vec<String> = window
        .get_all_by_role(Role::Button)
        .filter_map(|node| node.accesskit_node().label())
        .filter(|label| label.contains(", weight "))
        .collect();
    assert_eq!(buttons.len(), why.len(), "{buttons:?}");
    for (button, one) in buttons.iter().zip(why) {
        let text = |key: &str| one[key].as_str().unwrap();
        let head = format!("{}, weight {:.2}: ", text("title"), one["weight"].as_f64().unwrap());
        // What is free here is another number a moment later.
        let value = if one["criterion"] == "memory" { "" } else { text("value") };
        assert!(button.starts_with(&format!("{head}{value}")), "{button}: {one}");
    }
    for (button, one) in buttons.iter().zip(why).filter(|(_, one)| one["criterion"] != "memory") {
        click(&mut window, Role::Button, button);
        settle(&mut window);
        assert!(says(&window, one["says"].as_str().unwrap()), "{one}");
        assert!(says(&window, one["source"].as_str().unwrap()), "{one}");
    }
    for one in found["uncertain"].as_array().unwrap() {
        assert!(says(&window, one["what"].as_str().unwrap()), "{one}");
    }
}
