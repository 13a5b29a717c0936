//! Whatever can be acted on has a name: no part of the window is closed to a screen reader.

use eframe::egui::accesskit::{Action, Role};
use eframe::egui::{Key, Modifiers};
use egui_kittest::kittest::NodeT as _;
use rankscope::workspace::Request;

use crate::fixtures::fixture;
use crate::support::*;

/// Everything that takes a click or a value has a short name, and is where it can be seen or scrolled to.
#[track_caller]
fn all_named(window: &Window, place: &str) {
    window.check_accessibility();
    for node in window.root().children_recursive() {
        let node = node.accesskit_node();
        let acts = [Action::Click, Action::SetValue, Action::Increment].iter().any(|&a| node.data().supports_action(a));
        if !acts
            || matches!(
                node.role(),
                Role::Label | Role::TextRun | Role::ScrollBar | Role::Window | Role::GenericContainer
            )
        {
            continue;
        }
        let name = node.label().unwrap_or_default();
        assert!(!name.trim().is_empty(), "{place}: a {:?} without a name at {:?}", node.role(), node.bounding_box());
        assert!(name.chars().count() < 120 && !name.contains('\n'), "{place}: {name:?} is no name");
        // A sign alone says nothing when it is read aloud.
        assert!(name.chars().any(char::is_alphanumeric), "{place}: {name:?} is no word");
    }
}

#[test]
fn everything_that_acts_has_a_name() {
    let mut window = llama();
    all_named(&window, "Spectrum");
    press(&mut window, Modifiers::COMMAND, Key::Num1);
    let labels = window.root().children_recursive().filter_map(|n| n.accesskit_node().label());
    let chapters: Vec<String> = labels.filter(|label| label.starts_with("Chapter ")).collect();
    assert_eq!(chapters.len(), 9);
    for name in chapters {
        click(&mut window, Role::Button, &name);
        settle(&mut window);
        all_named(&window, &name);
    }
    for (modifiers, key, place) in [
        (Modifiers::NONE, Key::F1, "help"),
        (Modifiers::NONE, Key::F1, ""),
        (Modifiers::COMMAND, Key::K, "palette"),
        (Modifiers::COMMAND, Key::K, ""),
        (Modifiers::COMMAND, Key::L, "path"),
        (Modifiers::COMMAND, Key::L, ""),
        (Modifiers::COMMAND, Key::Num4, "Parameters"),
    ] {
        press(&mut window, modifiers, key);
        all_named(&window, place);
    }
    for (role, name) in [
        (Role::Button, "Base model"),
        (Role::Button, "Source of ΔW"),
        (Role::ComboBox, "Scaling"),
        (Role::ComboBox, "Targets"),
        (Role::ComboBox, "Model to count"),
        (Role::Button, "Copy or save parameter counts"),
    ] {
        click(&mut window, role, name);
        all_named(&window, name);
        press(&mut window, Modifiers::NONE, Key::Escape);
    }
}

#[test]
fn with_nothing_open_and_with_a_complaint() {
    let mut window = open(Request::Any(fixture("nothing-here")));
    all_named(&window, "opening");
    until(&mut window, "a refusal", |w| says(w, "nothing-here") && is_quiet(w));
    all_named(&window, "nothing open");
    press(&mut window, Modifiers::COMMAND, Key::Num4);
    all_named(&window, "Parameters of nothing");
}

/// Texts are laid out with the fonts of the program alone: the harness panics at a sign that none of them has.
#[test]
fn every_sign_has_a_glyph() {
    let mut window = llama();
    for text in [
        "Δ σ₁ α β √ Σ ‖ ≥ ≤ ± × · … – — − ⁻¹²³⁴ ᵢ → ← ↑ ↓ ▾ ▴ ✓ ⚠ ⋯ ◐",
        "Gemma 3 · Phi-4 · Qwen2.5 · Łódź · naïve · Ünïcödé",
    ] {
        write(&mut window, "Filter modules", text);
    }
}
