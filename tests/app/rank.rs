//! Rank is a dial, and everything answers to it.

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers, vec2};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use rankscope::figure::number::short;
use rankscope::spectrum::{self, Options};

use crate::support::*;

/// The dial, what it says of itself, and what follows from it for the small Llama: r · (in + out) over q (64 + 64) and v (64 + 32)
/// of two blocks is 448 r.
#[track_caller]
fn everything_is_at(window: &Window, r: usize) {
    assert_eq!(rank(window), r);
    for role in [Role::Slider, Role::SpinButton] {
        assert_eq!(number(window, role, "Rank r"), r as f64);
    }
    let lines: Vec<f64> =
        window.get_all_by_label("Rank line").filter_map(|n| n.accesskit_node().numeric_value()).collect();
    assert_eq!(lines, [r as f64; 2], "in both plots");
    let spectrum = spectrum(window, Q);
    assert_eq!(beside(window, &format!("E({r})")), format!("{:.2} %", 100.0 * spectrum.energy(r)));
    // Also above 32, the smaller side of v_proj: PEFT trains that many all the same.
    assert!(says(window, &format!("{} trainable", rankscope::units::count(448 * r as u64))));
    assert!(says(window, &format!("Heatmap rank {r}")));
}

fn line(window: &Window) -> egui_kittest::Node<'_> {
    window.get_all_by_label("Rank line").next().unwrap()
}

#[test]
fn brackets_step_by_one() {
    let mut window = llama();
    everything_is_at(&window, 8);
    press(&mut window, Modifiers::NONE, Key::CloseBracket);
    everything_is_at(&window, 9);
    for _ in 0..3 {
        press(&mut window, Modifiers::NONE, Key::OpenBracket);
    }
    everything_is_at(&window, 6);
    for _ in 0..8 {
        press(&mut window, Modifiers::NONE, Key::OpenBracket);
    }
    everything_is_at(&window, 1);
}

#[test]
fn the_number_is_typed() {
    let mut window = llama();
    for (typed, r) in [("23", 23), ("999", 64), ("0", 1), ("64", 64), ("nonsense", 64), ("5", 5)] {
        click(&mut window, Role::SpinButton, "Rank r");
        press(&mut window, Modifiers::COMMAND, Key::A);
        window.event(eframe::egui::Event::Text(typed.to_owned()));
        window.step();
        press(&mut window, Modifiers::NONE, Key::Enter);
        everything_is_at(&window, r);
    }
}

#[test]
fn the_slider_is_set() {
    let mut window = llama();
    for (set, r) in [(20.0, 20), (64.0, 64), (1000.0, 64), (-3.0, 1), (1.0, 1)] {
        get(&window, Role::Slider, "Rank r").set_value_accesskit(set);
        window.step();
        window.step();
        everything_is_at(&window, r);
    }
}

#[test]
fn the_line_is_dragged_and_set() {
    let mut window = llama();
    line(&window).set_value_accesskit(20.0);
    window.step();
    window.step();
    everything_is_at(&window, 20);
    for wild in [1e18, f64::INFINITY, f64::NAN, -1e18] {
        line(&window).set_value_accesskit(wild);
        window.step();
        window.step();
        assert!((1..=64).contains(&rank(&window)), "{wild}");
    }
    line(&window).set_value_accesskit(20.0);
    line(&window).focus();
    window.step();
    for (key, r) in [(Key::ArrowRight, 21), (Key::PageDown, 13), (Key::Home, 1), (Key::ArrowLeft, 1), (Key::End, 64)] {
        press(&mut window, Modifiers::NONE, key);
        everything_is_at(&window, r);
    }
    line(&window).set_value_accesskit(8.0);
    window.step();
    window.step();
    let grip = line(&window).rect();
    window.drag_at(grip.center());
    window.step();
    window.hover_at(grip.center() + vec2(60.0, 5.0));
    window.step();
    window.step();
    let moved = rank(&window);
    assert!(moved > 8 && moved < 64, "it follows the pointer while it is held: {moved}");
    everything_is_at(&window, moved);
    window.hover_at(grip.center() + vec2(4000.0, 0.0));
    window.step();
    window.step();
    everything_is_at(&window, 64);
    window.hover_at(grip.center() - vec2(4000.0, 0.0));
    window.drop_at(grip.center() - vec2(4000.0, 0.0));
    window.step();
    window.step();
    everything_is_at(&window, 1);
}

#[test]
fn a_rule_turns_the_dial() {
    let mut window = llama();
    let r = spectrum(&window, Q).energy_rank(0.99).unwrap();
    click(&mut window, Role::Button, &format!("Energy 99 %: {r}"));
    everything_is_at(&window, r);
}

#[test]
fn the_rank_stays_within_the_module() {
    let mut window = llama();
    get(&window, Role::Slider, "Rank r").set_value_accesskit(64.0);
    window.step();
    click(&mut window, Role::Button, K);
    assert_eq!(rank(&window), 32, "min(32, 64)");
    settle(&mut window);
    press(&mut window, Modifiers::NONE, Key::CloseBracket);
    assert_eq!(rank(&window), 32);
    assert_eq!(beside(&window, "E(32)"), "100.00 %");
}

#[test]
fn the_heatmaps_follow() {
    let mut window = llama();
    assert!(window.state().is_painted());
    window.key_down(Key::CloseBracket);
    window.step();
    assert!(!window.state().is_painted(), "tiles of the new rank are missing");
    window.key_up(Key::CloseBracket);
    settle(&mut window);
    assert!(window.state().is_painted());
    let value = get(&window, Role::Image, "Heatmap rank 9").value().unwrap();
    assert!(value.starts_with("64 × 64, colours from −"), "{value}");
}

#[test]
fn the_value_under_the_pointer_is_the_matrix() {
    let mut window = llama();
    get(&window, Role::Slider, "Rank r").set_value_accesskit(3.0);
    settle(&mut window);
    let delta = window.state().workspace().delta().unwrap().clone();
    let weight = delta.load(delta.entry(Q).unwrap(), &()).unwrap();
    let options = Options { vectors: 3, ..Options::default() };
    let spectrum = spectrum::spectrum(&weight, &options, &()).unwrap();
    let vectors = spectrum.vectors.as_ref().unwrap();
    let dense = weight.dense(&()).unwrap();
    let (row, column) = (20, 45);
    let kept: f64 = (0..3)
        .map(|k| spectrum.sigma[k] * f64::from(vectors.u.row(row)[k]) * f64::from(vectors.v.row(column)[k]))
        .sum();
    let whole = f64::from(dense.row(row)[column]);
    let rect = get(&window, Role::Image, "Heatmap ΔW").rect();
    window.hover_at(rect.min + rect.size() * vec2((column as f32 + 0.5) / 64.0, (row as f32 + 0.5) / 64.0));
    window.step();
    window.step();
    for (name, expected) in [("Heatmap ΔW", whole), ("Heatmap rank 3", kept), ("Heatmap Residual", whole - kept)] {
        let said = get(&window, Role::Image, name).value().unwrap();
        // Four figures, of numbers that were rounded to f32 on the way.
        let fits =
            [-2e-6, 0.0, 2e-6].iter().any(|d| said.ends_with(&format!("under the pointer {}", short(expected + d, 4))));
        assert!(fits, "{name}: {said}, expected {expected}");
    }
}

#[test]
fn alpha_scaling_and_targets() {
    let mut window = llama();
    assert!(says(&window, "s = 2.00"), "16 / 8");
    click(&mut window, Role::ComboBox, "Scaling");
    click(&mut window, Role::Button, "α / √r");
    assert!(says(&window, "s = 5.66"), "16 / √8");
    click(&mut window, Role::ComboBox, "Targets");
    click(&mut window, Role::Button, "all attention");
    // q, k, v, o of two blocks: 2 · (128 + 96 + 96 + 128) · 8.
    assert!(says(&window, "7.17K trainable"));
    click(&mut window, Role::ComboBox, "Targets");
    click(&mut window, Role::Button, "all linear");
    // And gate, up, down of 64 × 160: 2 · (448 + 3 · 224) · 8.
    assert!(says(&window, "17.9K trainable"));
    click(&mut window, Role::ComboBox, "Targets");
    click(&mut window, Role::Button, "custom…");
    write(&mut window, "Target modules", "k_proj, o_proj");
    assert!(says(&window, "3.58K trainable"));
    write(&mut window, "Target modules", "no_such_module");
    assert!(says(&window, "no_such_module"), "a sentence in place of the count");
    assert!(!says(&window, "trainable ·"));
}

#[test]
fn a_double_click_shows_the_plot_in_all_of_the_tab_and_leaves_the_rank() {
    // Two clicks within the time that makes them one.
    let mut window = open_with(builder().with_step_dt(0.05), pair("llama", "llama-tuned"));
    settle(&mut window);
    let plot = |window: &Window| {
        let all = window.get_all_by_role(Role::Image);
        let found =
            all.filter(|node| node.accesskit_node().label().is_some_and(|label| label.starts_with("Singular values")));
        found.map(|node| node.rect()).next().unwrap()
    };
    let small = plot(&window);
    let at = small.center() + vec2(small.width() * 0.2, 0.0);
    let before = rank(&window);
    let click_there = |window: &mut Window| {
        window.hover_at(at);
        window.drag_at(at);
        window.drop_at(at);
        window.step();
    };
    click_there(&mut window);
    window.step();
    assert_ne!(rank(&window), before, "one click turns the dial");
    window.remove_cursor();
    window.run_steps(20);
    get(&window, Role::Slider, "Rank r").set_value_accesskit(before as f64);
    window.run_steps(2);
    click_there(&mut window);
    click_there(&mut window);
    window.remove_cursor();
    window.run_steps(3);
    assert_eq!(rank(&window), before, "two clicks do not");
    get(&window, Role::Button, "Close");
    let large = plot(&window);
    assert!(large.width() > 2.0 * small.width() || window.get_all_by_role(Role::Image).count() > 1);
    press(&mut window, Modifiers::NONE, Key::Escape);
    window.run_steps(2);
    assert!(window.query_by_role_and_label(Role::Button, "Close").is_none());
}
