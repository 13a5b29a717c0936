//! Work that is too long can be stopped, and what is there stays.

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable as _;
use rankscope::workspace::Request;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixtures::{Stored, model, raw};
use crate::support::*;

/// Bytes without a pattern that stand for bf16 numbers between 2⁻¹⁰ and 2⁻⁶ of either sign.
fn noise(seed: u64, cells: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let number = |bits: u64| ((117 + bits % 4) << 7 | bits >> 8 & 0x7f | (bits >> 16 & 1) << 15) as u16;
    (0..cells).flat_map(|_| number(next()).to_le_bytes()).collect()
}

/// A base of zeros and its tuned version, with so many modules of so many rows and columns.
fn large(modules: usize, side: usize) -> ([TempDir; 2], Request) {
    let folders = [false, true].map(|tuned| {
        let tensor = |i: usize| {
            let name = format!("model.layers.{i}.self_attn.q_proj.weight");
            let bytes = if tuned { noise(i as u64 + 1, side * side) } else { vec![0; 2 * side * side] };
            raw(&name, "BF16", &[side, side], &bytes)
        };
        let tensors: Vec<Stored> = (0..modules).map(tensor).collect();
        model(&Value::Null, &tensors)
    });
    let [base, tuned] = folders.each_ref().map(|folder| folder.path().to_path_buf());
    (folders, Request::Pair(base, tuned))
}

/// Clicks the last Cancel in the tree of names, wherever it moves meanwhile.
fn cancel(window: &mut Window) {
    window.get_all_by_label("Cancel").last().unwrap().click_accesskit();
    window.step();
    window.step();
}

#[test]
fn a_sweep_is_cancelled_and_the_window_goes_on() {
    // Large enough to be seen at work, and not long to be waited for.
    let (_folders, request) = large(8, 1280);
    let mut window = open(request);
    until(&mut window, "the sweep", |w| says(w, "Spectra of") && known(w).0 >= 2);
    assert!((0.0..1.0).contains(&number(&window, Role::ProgressIndicator, "Progress")));
    cancel(&mut window);
    settle(&mut window);
    let (there, all) = known(&window);
    assert!(there >= 2 && there < all, "{there} of {all}");
    assert!(says(&window, "Cancelled.") && window.query_by_label("Cancel").is_none());
    let left = format!("{} modules are not computed", all - there);
    assert!(says(&window, &left), "the map says what is missing: {left}");
    // What is there can still be looked at, and the rest be asked for.
    press(&mut window, Modifiers::NONE, Key::CloseBracket);
    assert_eq!(rank(&window), 9);
    click(&mut window, Role::Button, "Compute all");
    until(&mut window, "the sweep to begin again", |w| w.query_by_label("Cancel").is_some());
    cancel(&mut window);
    settle(&mut window);
    assert!(known(&window).0 >= there, "nothing is lost");
}

#[test]
fn an_analysis_is_cancelled_and_can_be_asked_for_again() {
    let (_folders, request) = large(1, 1792);
    let mut window = open(request);
    until(&mut window, "the only module's analysis", |w| says(w, "Spectrum of model.layers.0"));
    cancel(&mut window);
    settle(&mut window);
    assert!(says(&window, "Cancelled.") && known(&window).0 == 0, "and nothing else has begun");
    click(&mut window, Role::Button, "Compute");
    until(&mut window, "the analysis to begin again", |w| says(w, "Spectrum of model.layers.0"));
    cancel(&mut window);
    settle(&mut window);
    get(&window, Role::Button, "Compute");
    // The spectrum can come from what computes all modules; the pictures are then a click away.
    click(&mut window, Role::Button, "Compute all");
    settle(&mut window);
    assert_eq!(known(&window).0, 1);
    click(&mut window, Role::Button, "Compute pictures");
    settle(&mut window);
    let value = get(&window, Role::Image, "Heatmap rank 8").value().unwrap();
    assert!(value.starts_with("1,792 × 1,792, colours from"), "{value}");
    assert!(window.query_by_label("Compute pictures").is_none());
}
