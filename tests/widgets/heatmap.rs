use eframe::egui::{self, Key, Modifiers, MouseWheelUnit, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;

use rankscope::app::widgets::heatmap::{Options, Spot, Status};

use super::support::{Owner, pictures};

fn harness(rows: usize, cols: usize) -> Harness<'static, Owner> {
    Harness::builder()
        .with_context_setup(rankscope::app::look::fonts::install)
        .with_size(vec2(900.0, 400.0))
        .build_ui_state(|ui, o: &mut Owner| o.ui(ui), Owner::new(&pictures(rows, cols, 2)))
}

#[test]
fn heatmaps_are_reached_by_name_and_moved_by_keyboard() {
    let mut harness = harness(600, 600);
    harness.run();
    let map = harness.get_by_label("Heatmap ΔW");
    assert!(map.value().is_some_and(|v| v.starts_with("600 × 600, colours from −")), "{:?}", map.value());
    map.focus();
    harness.run();
    assert!(harness.get_by_label("Heatmap ΔW").is_focused());
    harness.key_press(Key::Plus);
    harness.key_press(Key::Plus);
    harness.run();
    assert!((harness.state().group.view.zoom() - 2.25).abs() < 1e-9);
    let before = harness.state().group.view.area([600, 600]);
    harness.key_press(Key::ArrowDown);
    harness.key_press(Key::ArrowLeft);
    harness.run();
    let after = harness.state().group.view.area([600, 600]);
    assert!(after.rows[0] > before.rows[0] && after.cols[0] < before.cols[0]);
    assert!(harness.get_by_label("Heatmap ΔW").is_focused(), "arrows move the view, not the focus");
    harness.key_press(Key::Num0);
    harness.run();
    assert_eq!(harness.state().group.view.zoom(), 1.0);
}

#[test]
fn one_cursor_and_one_view_for_all() {
    let mut harness = harness(600, 600);
    harness.run();
    let rect = harness.get_by_label("Heatmap residual").rect();
    harness.hover_at(rect.left_top() + rect.size() * 0.25);
    harness.run();
    let [delta, approximation, residual] = [0, 1, 2].map(|i| harness.state().group.value(i).unwrap());
    assert!((delta - approximation - residual).abs() < 1e-6, "the mean of a difference");
    let cursor = harness.state().group.view.cursor().unwrap();
    assert!(cursor.iter().all(|x| (x - 0.25).abs() < 0.01));
    // The wheel enlarges around the pointer, a drag moves, a double click goes back.
    harness.event(egui::Event::MouseWheel {
        unit: MouseWheelUnit::Point,
        delta: vec2(0.0, 200.0),
        phase: egui::TouchPhase::Move,
        source: egui::MouseWheelSource::Wheel,
        modifiers: Modifiers::NONE,
    });
    harness.run();
    assert!(harness.state().group.view.zoom() > 1.5);
    let under = harness.state().group.view.cursor().unwrap();
    assert!(under.iter().zip(cursor).all(|(a, b)| (a - b).abs() < 0.01));
    let before = harness.state().group.view.area([600, 600]);
    harness.drag_at(rect.center());
    harness.hover_at(rect.center() - vec2(40.0, 0.0));
    harness.run();
    harness.drop_at(rect.center() - vec2(40.0, 0.0));
    harness.run();
    assert!(harness.state().group.view.area([600, 600]).cols[0] > before.cols[0] + 5.0);
    harness.remove_cursor();
    harness.run();
    assert_eq!(harness.state().group.view.cursor(), None);
}

#[test]
fn tiles_are_made_once_and_again_only_for_what_changed() {
    let mut harness = harness(3000, 3000);
    harness.run();
    assert!(harness.state().group.is_complete());
    let made = harness.state().made;
    harness.run_steps(5);
    assert_eq!(harness.state().made, made, "nothing is coloured twice");
    assert!(made <= 3 * 4 * 2, "only what is seen: {made}");
    // The rank moves: only two of the three pictures change, and what is on screen stays until then.
    let [_, approximation, residual] = pictures(3000, 3000, 5);
    harness.state_mut().group.show(1, 1, 2, approximation);
    harness.state_mut().group.show(2, 1, 2, residual);
    harness.run();
    assert!(harness.state().group.is_complete());
    assert!(harness.state().made - made <= 2 * 4 * 2, "{}", harness.state().made - made);
}

#[test]
fn an_idle_heatmap_does_not_repaint() {
    let mut harness = harness(600, 600);
    harness.run();
    harness.step();
    assert!(!harness.output().viewport_output.values().any(|v| v.repaint_delay.is_zero()));
}

#[test]
fn overtaken_tiles_are_dropped() {
    let [delta, approximation, _] = pictures(600, 600, 2);
    let ctx = egui::Context::default();
    rankscope::app::look::fonts::install(&ctx);
    let mut owner = Owner::new(std::slice::from_ref(&delta));
    let frame = |owner: &mut Owner| {
        let options = rankscope::app::widgets::heatmap::Options {
            map: owner.map,
            range: owner.range,
            axes: ["out", "in"],
            details: None,
            readout: false,
            blocks: None,
        };
        let mut output = ctx.run_ui(egui::RawInput::default(), |ui| {
            owner.group.ui(ui, &options);
        });
        output.textures_delta.clear();
    };
    frame(&mut owner);
    let slow = owner.group.required();
    owner.group.show(0, 2, 1, approximation);
    frame(&mut owner);
    let late = rankscope::app::widgets::tiles::run(&slow, &()).unwrap();
    owner.group.deliver(&ctx, late);
    assert!(!owner.group.is_complete() && owner.group.range().is_none(), "tiles of another subject are not taken");
    let fresh = rankscope::app::widgets::tiles::run(&owner.group.required(), &()).unwrap();
    owner.group.deliver(&ctx, fresh);
    assert!(owner.group.is_complete() && owner.group.range().is_some());
}

#[test]
fn what_a_heatmap_says_instead_of_a_picture_can_be_read() {
    let mut harness = harness(600, 600);
    harness.run();
    let group = &mut harness.state_mut().group;
    group.hide(1);
    group.set_status(1, Status::Failed("model.safetensors: w: 12 values are NaN".into()));
    group.set_status(0, Status::Computing("reading the weight".into(), Some(0.5)));
    harness.run();
    let value = |name: &str| harness.get_by_label(name).value().unwrap();
    assert_eq!(value("Heatmap rank 2"), "model.safetensors: w: 12 values are NaN");
    assert!(value("Heatmap ΔW").starts_with("600 × 600"), "the last picture stays");
    assert!(harness.state().group.is_complete());
}

#[test]
fn details_are_shown_at_the_pointer_and_what_is_seen_can_be_saved() {
    let owner = Owner::new(&pictures(600, 600, 2));
    let mut harness = Harness::builder()
        .with_size(vec2(900.0, 400.0))
        .with_context_setup(rankscope::app::look::fonts::install)
        .build_ui_state(
            |ui, o: &mut Owner| {
                let details = |spot: &Spot| vec![("code".to_owned(), format!("nf4 {}", spot.cell[0] % 16))];
                let options = Options {
                    map: o.map,
                    range: o.range,
                    axes: ["out", "in"],
                    details: Some(&details),
                    readout: false,
                    blocks: None,
                };
                o.group.ui(ui, &options);
                let tiles = rankscope::app::widgets::tiles::run(&o.group.required(), &()).unwrap();
                o.group.deliver(ui.ctx(), tiles);
            },
            owner,
        );
    harness.run();
    let rect = harness.get_by_label("Heatmap ΔW").rect();
    harness.hover_at(rect.center());
    harness.run_steps(8);
    assert!(harness.query_by_label_contains("nf4 ").is_some());
    assert_eq!(harness.state().group.view.area([600, 600]).rows, [0.0, 600.0]);
    harness.state_mut().group.view.zoom_at(30.0, [0.5, 0.5], 1e9);
    harness.run();
    let area = harness.state().group.view.area([600, 600]);
    assert_eq!(
        (harness.state().group.spot().unwrap().level, area.rows, area.cols),
        (0, [290.0, 310.0], [290.0, 310.0])
    );
}
