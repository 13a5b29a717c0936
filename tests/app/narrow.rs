//! A window of 640 × 400 points: a small one, or 1280 × 800 at twice the scale.

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use rankscope::app::{App, Start};

use crate::support::*;

fn window() -> Window {
    let start = Start { request: Some(pair("llama", "llama-tuned")), data_dir: home(), ..Start::default() };
    let mut window = builder().with_size([640.0, 400.0]).build_eframe(|cc| App::new(cc, start));
    settle(&mut window);
    window
}

#[test]
fn the_modules_are_there_when_they_are_asked_for() {
    let mut window = window();
    let listed = |window: &Window| window.query_by_label("Filter modules").is_some();
    assert!(!listed(&window));
    click(&mut window, Role::Button, "Show or hide the modules");
    assert!(listed(&window));
    press(&mut window, Modifiers::COMMAND, Key::B);
    assert!(!listed(&window));
}

/// Nothing of the bar lies over something else, and every tab can be reached.
#[test]
fn nothing_is_covered() {
    let mut window = window();
    for (key, title) in
        [(Key::Num1, "Learn"), (Key::Num3, "Spectrum"), (Key::Num5, "Quantization"), (Key::Num6, "Train")]
    {
        press(&mut window, Modifiers::COMMAND, key);
        until(&mut window, title, is_quiet);
        let area = |name: &str| {
            let node = window.query_all_by_label(name).find(|node| node.accesskit_node().role() != Role::Unknown);
            node.unwrap_or_else(|| panic!("no {name} in {title}: {:?}", texts(&window))).rect()
        };
        let bar = ["Rank r", "α", "Scaling", "Targets", "Show or hide the modules"].map(area);
        for (at, one) in bar.iter().enumerate() {
            assert!(one.right() <= 640.5 && one.left() >= 0.0, "{title}: {one:?} is outside the window");
            for other in &bar[at + 1..] {
                assert!(!one.shrink(0.5).intersects(*other), "{title}: {one:?} lies over {other:?}");
            }
        }
        for tab in ["Learn", "Choose", "Spectrum", "Parameters", "Quantization", "Train"] {
            assert!(area(tab).right() < 640.0, "{tab}");
        }
    }
}
