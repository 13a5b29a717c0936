//! Choosing modules: in the list, by a filter, on the map.

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers};
use egui_kittest::kittest::{NodeT as _, Queryable as _};

use crate::support::*;

/// The full names of the modules that the list shows.
fn listed(window: &Window) -> Vec<String> {
    let names = window.get_all_by_role(Role::Button).filter_map(|n| n.accesskit_node().label());
    let delta = window.state().workspace().delta().unwrap();
    names.filter(|name| delta.entry(name).is_some()).collect()
}

#[test]
fn a_click_chooses_and_ctrl_adds() {
    let mut window = llama();
    click(&mut window, Role::Button, K);
    assert_eq!(selected(&window), [K]);
    settle(&mut window);
    assert!(says(&window, "exact · 32 σ"), "the facts follow");
    assert!(says(&window, "32 × 64"), "and so do the pictures");
    click_with(&mut window, Modifiers::COMMAND, Role::Button, V);
    assert_eq!(selected(&window), [K, V]);
    assert!(says(&window, "2 selected"));
    settle(&mut window);
    // Without what both of them begin with.
    for shown in ["0.self_attn.k_proj", "1.self_attn.v_proj"] {
        assert!(window.query_all_by_role_and_label(Role::CheckBox, shown).count() > 0, "{shown} has a curve");
    }
    // Once more takes it out again; Shift takes all in between.
    click_with(&mut window, Modifiers::COMMAND, Role::Button, V);
    assert_eq!(selected(&window), [K]);
    click(&mut window, Role::Button, Q);
    click_with(&mut window, Modifiers::SHIFT, Role::Button, "model.layers.0.self_attn.o_proj");
    assert_eq!(selected(&window).len(), 4);
    settle(&mut window);
}

#[test]
fn what_is_chosen_is_said_to_a_screen_reader() {
    let mut window = llama();
    let on = |window: &Window, name: &str| get(window, Role::Button, name).accesskit_node().toggled();
    let (yes, no) = (on(&window, Q), on(&window, K));
    assert_ne!(yes, no);
    click(&mut window, Role::Button, K);
    assert_eq!((on(&window, Q), on(&window, K)), (no, yes));
}

#[test]
fn the_filter_takes_words_and_expressions() {
    let mut window = llama();
    assert_eq!(listed(&window).len(), 16);
    write(&mut window, "Filter modules", "1 Q_proj");
    assert_eq!(listed(&window), ["model.layers.1.self_attn.q_proj"]);
    assert!(says(&window, "1 of 16 modules"));
    write(&mut window, "Filter modules", "/0.*(q|v)_proj$/");
    assert_eq!(listed(&window), [Q, "model.layers.0.self_attn.v_proj"]);
    click(&mut window, Role::Button, "Select all");
    assert_eq!(selected(&window), [Q, "model.layers.0.self_attn.v_proj"]);
    write(&mut window, "Filter modules", "/(/");
    assert!(says(&window, "not a regular expression") && listed(&window).is_empty());
    assert_eq!(selected(&window).len(), 2, "what is chosen stays");
    write(&mut window, "Filter modules", " ");
    assert_eq!(listed(&window).len(), 16);
    click(&mut window, Role::Button, "Select all");
    assert_eq!(selected(&window).len(), 16);
    settle(&mut window);
}

#[test]
fn typing_into_the_filter_moves_no_rank() {
    let mut window = llama();
    get(&window, Role::TextInput, "Filter modules").focus();
    window.step();
    press(&mut window, Modifiers::NONE, Key::CloseBracket);
    assert_eq!(rank(&window), 8);
}

#[test]
fn ctrl_a_over_the_list_chooses_all() {
    let mut window = llama();
    get(&window, Role::Button, K).hover();
    window.step();
    press(&mut window, Modifiers::COMMAND, Key::A);
    assert_eq!(selected(&window).len(), 16);
    // Not while the pointer is elsewhere.
    click(&mut window, Role::Button, K);
    press(&mut window, Modifiers::COMMAND, Key::A);
    assert_eq!(selected(&window), [K]);
}

#[test]
fn blocks_fold() {
    let mut window = llama();
    click(&mut window, Role::Button, "Block 0");
    assert_eq!(listed(&window).len(), 9);
    click(&mut window, Role::Button, "Block 0");
    assert_eq!(listed(&window).len(), 16);
}

#[test]
fn a_cell_of_the_map_is_a_module() {
    let mut window = llama();
    let cell = |window: &Window, start: &str| {
        let nodes = window.get_all_by_role(Role::Button).filter_map(|n| n.accesskit_node().label());
        nodes.into_iter().find(|label| label.starts_with(start)).unwrap()
    };
    let name = cell(&window, "layer 1 v_proj");
    click(&mut window, Role::Button, &name);
    assert_eq!(selected(&window), [V]);
    let name = cell(&window, "layer 0 k_proj");
    click_with(&mut window, Modifiers::COMMAND, Role::Button, &name);
    assert_eq!(selected(&window), [V, K]);
    settle(&mut window);
    assert!(says(&window, "exact · 32 σ"));
    // Arrow keys go from module to module; the first step chooses a neighbour of the first chosen cell.
    click(&mut window, Role::Button, &name);
    get(&window, Role::Grid, "Map of all modules").focus();
    window.step();
    press(&mut window, Modifiers::NONE, Key::ArrowRight);
    let across = selected(&window).to_vec();
    press(&mut window, Modifiers::NONE, Key::ArrowLeft);
    assert_eq!(selected(&window), [K]);
    assert_ne!(across, [K]);
}
