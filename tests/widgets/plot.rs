use eframe::egui::{self, Key, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use rankscope::app::look::fonts;
use rankscope::app::widgets::rank_line::RankLine;
use rankscope::figure::{Axis, Figure, Mark, Series, Style};

use super::gallery::show;

/// Rank 12 above a floor of noise.
pub fn spectrum(log_x: bool) -> Figure {
    let sigma =
        |i: usize| if i <= 12 { 3.0 * 0.75_f64.powi(i as i32) } else { 0.02 * (1.0 - i as f64 / 280.0).max(0.01) };
    let random = |i: usize| 0.024 * (1.0 - i as f64 / 270.0).max(0.004);
    let points = |f: &dyn Fn(usize) -> f64| (1..=256).map(|i| [i as f64, f(i)]).collect();
    Figure {
        title: "Singular values of ΔW".into(),
        x: if log_x { Axis::log("index i") } else { Axis::linear("index i") },
        y: Axis::log("σᵢ".replace('ᵢ', "")),
        series: vec![
            Series::line("ΔW", points(&sigma)).style(Style::LinePoints),
            Series::line("noise of the same size", points(&random)).style(Style::Dashed),
        ],
        quiet: false,
        marks: vec![Mark { name: "rounding".into(), at: 0.011, vertical: false }],
        timeline: None,
    }
}

pub fn ui(ui: &mut egui::Ui, rank: &mut usize, log_x: bool) {
    let figure = spectrum(log_x);
    let line = RankLine::new(*rank, 256);
    let (response, _) = figure.ui(ui, "spectrum", |plot| line.veil(plot, &figure.x));
    if let Some(moved) = line.show(ui, &response, &figure.x) {
        *rank = moved;
    }
}

#[test]
fn plots() {
    show("plot", vec2(640.0, 360.0), || 12_usize, |u, rank| ui(u, rank, false), |_| {});
    if let Some(folder) = super::gallery::folder() {
        std::fs::write(folder.join("plot.svg"), spectrum(true).svg(640.0, 360.0)).unwrap();
        std::fs::write(folder.join("plot.csv"), spectrum(true).csv()).unwrap();
    }
    let hover = |h: &mut Harness<'_, usize>| h.hover_at(egui::pos2(220.0, 117.0));
    show("plot-log", vec2(640.0, 360.0), || 12_usize, |u, rank| ui(u, rank, true), hover);
}

fn harness(log_x: bool) -> Harness<'static, usize> {
    let mut harness = Harness::builder()
        .with_size(vec2(640.0, 360.0))
        .with_context_setup(fonts::install)
        .build_ui_state(move |u, rank: &mut usize| ui(u, rank, log_x), 12);
    harness.run();
    harness
}

#[test]
fn the_rank_line_is_dragged() {
    let mut harness = harness(false);
    let rect = harness.get_by_label("Rank line").rect();
    assert!(rect.width() >= 12.0);
    harness.drag_at(rect.center());
    harness.run();
    harness.hover_at(rect.center() + vec2(120.0, 30.0));
    harness.run();
    let moved = *harness.state();
    assert!(moved > 40 && moved < 80, "it follows the pointer while it is dragged: {moved}");
    harness.hover_at(egui::pos2(-500.0, rect.center().y));
    harness.run();
    assert_eq!(*harness.state(), 1, "and stops at the first");
    harness.drop_at(egui::pos2(5000.0, rect.center().y));
    harness.run();
    let before = *harness.state();
    harness.hover_at(rect.center());
    harness.run();
    assert_eq!(*harness.state(), before, "a hover does not move it");
}

#[test]
fn the_rank_line_is_a_slider_for_keys_and_screen_readers() {
    let mut harness = harness(true);
    let line = |h: &Harness<'_, usize>| h.get_by_label("Rank line").accesskit_node().numeric_value();
    assert_eq!(line(&harness), Some(12.0));
    harness.get_by_label("Rank line").focus();
    harness.run();
    for (key, rank) in [
        (Key::ArrowRight, 13),
        (Key::ArrowRight, 14),
        (Key::ArrowLeft, 13),
        (Key::PageUp, 21),
        (Key::Home, 1),
        (Key::ArrowLeft, 1),
        (Key::End, 256),
        (Key::ArrowUp, 256),
    ] {
        harness.key_press(key);
        harness.run();
        assert_eq!(*harness.state(), rank, "{key:?}");
    }
    harness.get_by_label("Rank line").set_value_accesskit(31.0);
    harness.run();
    assert_eq!(*harness.state(), 31);
    harness.get_by_label("Rank line").increment_accesskit();
    harness.run();
    assert_eq!((*harness.state(), line(&harness)), (32, Some(32.0)));
}

#[test]
fn a_click_brings_the_line() {
    let mut harness = harness(false);
    let rect = harness.get_by_label("Rank line").rect();
    let at = egui::pos2(rect.center().x + 300.0, rect.center().y);
    harness.drag_at(at);
    harness.drop_at(at);
    harness.run();
    assert!(*harness.state() > 100, "{}", harness.state());
}
