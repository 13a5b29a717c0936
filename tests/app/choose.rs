//! The Choose tab: an answer with its reasons, and what is done with it.

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
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
