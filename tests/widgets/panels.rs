//! The map of modules, tables, the range row and the menu of a plot.

use eframe::egui::{self, Key, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use rankscope::app::look::fonts;
use rankscope::app::widgets::map::{Cell, ModuleMap};
use rankscope::app::widgets::menu::{Take, menu};
use rankscope::app::widgets::range::{Limit, RangeControl, Scale};
use rankscope::app::widgets::stats::Stats;
use rankscope::app::widgets::table::{Entry, Head, Order, Table};
use rankscope::figure::{ColorMap, number};

use super::gallery::show;

fn cell(block: usize, projection: usize) -> Cell {
    match (block, projection) {
        (b, 6) if b % 4 == 3 => Cell::Absent,
        (5, 2) => Cell::Unknown,
        (b, p) if b > 25 && p > 2 => Cell::Pending,
        (b, p) => Cell::Value(((b * 7 + p * 13) % 29 + if p == 4 { 30 } else { 2 }) as f64),
    }
}

fn map(ui: &mut egui::Ui, selected: &mut Option<(usize, usize)>, blocks: usize) {
    let names: Vec<String> = (0..blocks).map(|b| b.to_string()).collect();
    let projections = ["q", "k", "v", "o", "gate", "up", "down"].map(str::to_owned);
    let of = *selected;
    let map = ModuleMap {
        title: "Rank that holds 90 % of the energy",
        blocks: &names,
        projections: &projections,
        cell: &cell,
        selected: &|b, p| of == Some((b, p)),
        quantity: "rank",
        map: ColorMap::Viridis,
        stack: "",
        most: None,
        legend: true,
    };
    if let Some(chosen) = map.ui(ui).chosen {
        *selected = Some(chosen);
    }
}

#[test]
fn maps() {
    let hover = |h: &mut Harness<'_, Option<(usize, usize)>>| h.hover_at(egui::pos2(300.0, 70.0));
    show("map-32", vec2(1000.0, 260.0), || Some((3, 1)), |ui, s| map(ui, s, 32), hover);
    show("map-80", vec2(720.0, 240.0), || Some((40, 4)), |ui, s| map(ui, s, 80), |_| {});
    show("map-down", vec2(420.0, 640.0), || Some((3, 1)), |ui, s| map(ui, s, 48), |_| {});
}

#[test]
fn a_click_on_the_map_chooses_a_module() {
    let mut harness = Harness::builder()
        .with_size(vec2(1000.0, 260.0))
        .with_context_setup(fonts::install)
        .build_ui_state(|ui, s: &mut Option<(usize, usize)>| map(ui, s, 32), None);
    harness.run();
    harness.get_by_label("layer 3 q: rank 23").click();
    harness.run();
    assert_eq!(*harness.state(), Some((3, 0)));
    harness.get_by_label("layer 5 v: rank unknown").click_accesskit();
    harness.run();
    assert_eq!(*harness.state(), Some((5, 2)));
    assert!(harness.query_by_label_contains("layer 3 down").is_none(), "a module that is not there has no cell");
    harness.get_by_label("Rank that holds 90 % of the energy").focus();
    harness.run();
    harness.key_press(Key::ArrowRight);
    harness.key_press(Key::ArrowDown);
    harness.run();
    assert_eq!(*harness.state(), Some((6, 3)));
}

#[test]
fn a_map_of_thousands_is_clicked_by_place() {
    let mut harness = Harness::builder()
        .with_size(vec2(3000.0, 260.0))
        .with_context_setup(fonts::install)
        .build_ui_state(|ui, s: &mut Option<(usize, usize)>| map(ui, s, 400), None);
    harness.run();
    assert!(harness.query_by_label_contains("layer 3 q").is_none());
    harness.get_by_label("Rank that holds 90 % of the energy").click();
    harness.run();
    assert_eq!(*harness.state(), Some((200, 3)));
}

struct Rules {
    order: Order,
    chosen: Option<usize>,
}

fn rules(ui: &mut egui::Ui, state: &mut Rules) {
    let heads = [
        Head { title: "Rule", tip: "How the rank is chosen.", number: false, width: 140.0 },
        Head { title: "Rank", tip: "", number: true, width: 60.0 },
        Head { title: "Error", tip: "", number: true, width: 80.0 },
        Head { title: "Meaning", tip: "", number: false, width: 200.0 },
    ];
    let rows = [
        ("Energy 90 %", Some(12.0), Some(0.316), "nine tenths of the squared size"),
        ("Energy 99 %", Some(104.0), Some(0.0999), "all but a hundredth of the squared size"),
        ("Stable rank", Some(3.27), None, "squared size over the largest squared value"),
        ("Gavish–Donoho", None, None, "needs noise of full rank"),
        ("Numerical", Some(256.0), Some(1.2e-7), "above rounding"),
    ];
    let of = state.chosen;
    let entry = |row: usize, column: usize| {
        let (rule, rank, error, meaning) = rows[row];
        match column {
            0 => Entry::text(rule),
            1 => Entry::number(rank, |v| number::short(v, 3)),
            2 => Entry::number(error, |v| number::short(v, 3)),
            _ => Entry::text(meaning).tip("A tooltip"),
        }
    };
    let table = Table {
        id: "rules",
        heads: &heads,
        rows: rows.len(),
        entry: &entry,
        name: &|row| format!("Rule {}", rows[row].0),
        selected: &|row| of == Some(row),
    };
    if let Some(row) = table.ui(ui, &mut state.order) {
        state.chosen = Some(row);
    }
}

#[test]
fn tables() {
    let make = || Rules { order: Order(Some((1, true))), chosen: Some(0) };
    show("table", vec2(720.0, 200.0), make, rules, |_| {});
}

#[test]
fn rows_are_chosen_and_sorted_by_name() {
    let mut harness = Harness::builder()
        .with_size(vec2(720.0, 240.0))
        .with_context_setup(fonts::install)
        .build_ui_state(rules, Rules { order: Order(None), chosen: None });
    harness.run();
    let top = |h: &Harness<'_, Rules>, name: &str| h.get_by_label(name).rect().top();
    assert!(top(&harness, "Rule Energy 90 %") < top(&harness, "Rule Numerical"));
    harness.get_by_label("Sort by Rank").click();
    harness.run();
    assert!(top(&harness, "Rule Energy 90 %") > top(&harness, "Rule Numerical"), "largest first");
    harness.get_by_label("Rule Gavish–Donoho").click();
    harness.run();
    assert_eq!(harness.state().chosen, Some(3));
    harness.get_by_label("Sort by Rank").click();
    harness.get_by_label("Rule Stable rank").focus();
    harness.run();
    harness.key_press(Key::Enter);
    harness.run();
    assert_eq!(harness.state().chosen, Some(2), "the keyboard chooses too");
}

fn controls(ui: &mut egui::Ui, (range, taken): &mut (RangeControl, Option<Take>)) {
    let shown = range.resolve([&Stats::of(&[-2.0, 1.0, 0.5])], true);
    ui.horizontal(|ui| {
        range.ui(ui, &shown, true);
        if let Some(take) = menu(ui, "spectrum", &Take::PLOT) {
            *taken = Some(take);
        }
    });
}

#[test]
fn controls_of_a_picture() {
    let make = || (RangeControl::default(), None);
    show("controls", vec2(560.0, 220.0), make, controls, |h| h.get_by_label("Copy or save spectrum").click());
    let manual = || (RangeControl { limit: Limit::Manual(0.0125), ..RangeControl::default() }, None);
    show("controls-manual", vec2(560.0, 60.0), manual, controls, |_| {});
}

#[test]
fn a_range_is_chosen_by_name() {
    let mut harness = Harness::builder()
        .with_size(vec2(560.0, 260.0))
        .with_context_setup(fonts::install)
        .build_ui_state(controls, (RangeControl::default(), None));
    harness.run();
    harness.get_by_label("Log").click();
    harness.get_by_label("Same range").click();
    harness.get_by_label("Colour limit").click();
    harness.run();
    assert_eq!((harness.state().0.scale, harness.state().0.shared), (Scale::SymmetricLog, false));
    harness.get_by_label("Manual").click();
    harness.run();
    assert_eq!(harness.state().0.limit, Limit::Manual(2.0), "it starts from the range in use");
    assert_eq!(harness.get_by_label("Largest value").accesskit_node().numeric_value(), Some(2.0));
}

#[test]
fn the_menu_of_a_plot_says_what_was_asked() {
    let mut harness = Harness::builder()
        .with_size(vec2(700.0, 260.0))
        .with_context_setup(fonts::install)
        .build_ui_state(controls, (RangeControl::default(), None));
    harness.run();
    harness.get_by_label("Copy or save spectrum").click();
    harness.run();
    harness.get_by_label("Save as SVG…").click();
    harness.run();
    assert_eq!(harness.state().1, Some(Take::SaveSvg));
    assert!(harness.query_by_label("Save as SVG…").is_none(), "the menu closes");
}

#[test]
fn a_map_of_two_hundred_blocks_is_seen_whole() {
    let blocks: Vec<String> = (0..200).map(|b| b.to_string()).collect();
    let projections: Vec<String> = (0..40).map(|p| format!("experts.{p}.up_proj")).collect();
    let harness =
        Harness::builder().with_size(vec2(420.0, 260.0)).with_context_setup(fonts::install).build_ui(move |ui| {
            let cell = |b: usize, p: usize| Cell::Value((b + p) as f64);
            let map = ModuleMap {
                title: "Map",
                blocks: &blocks,
                projections: &projections,
                cell: &cell,
                selected: &|_, _| false,
                quantity: "rank",
                map: ColorMap::Viridis,
                stack: "",
                most: None,
                legend: true,
            };
            map.ui(ui);
        });
    let rect = harness.get_by_label("Map").rect();
    assert!(rect.right() <= 420.0 && rect.bottom() + 30.0 <= 260.0, "{rect:?}: the legend has room below");
    assert!(rect.width() >= 200.0 && rect.height() >= 40.0, "{rect:?}: a point for each at least");
}
