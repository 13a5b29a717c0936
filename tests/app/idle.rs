//! A window in which nothing happens costs nothing.

use std::time::Duration;

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers};

use crate::fixtures::fixture;
use crate::support::*;

/// The window asks for no further frame, however often it is looked at.
#[track_caller]
fn nothing_moves(window: &mut Window, when: &str) {
    // Tooltips and menus that were just closed may want one more frame; a job wakes the window after its result is there.
    for _ in 0..5 {
        window.step();
        std::thread::sleep(Duration::from_millis(5));
    }
    for _ in 0..10 {
        window.step();
        assert_eq!(delay(window), Duration::MAX, "{when}: {:?}", window.ctx.repaint_causes());
    }
}

#[test]
fn no_frame_follows_the_last_one() {
    let mut window = llama();
    nothing_moves(&mut window, "when all is computed");
    press(&mut window, Modifiers::NONE, Key::CloseBracket);
    settle(&mut window);
    nothing_moves(&mut window, "after the rank has moved");
    click(&mut window, Role::Button, V);
    settle(&mut window);
    nothing_moves(&mut window, "after another module was chosen");
    press(&mut window, Modifiers::COMMAND, Key::Num4);
    settle(&mut window);
    nothing_moves(&mut window, "in the Parameters tab");
    press(&mut window, Modifiers::NONE, Key::CloseBracket);
    // What another rank costs is computed beside the window; its end is news.
    until(&mut window, "an end of the counting", |w| !w.state().is_busy());
    nothing_moves(&mut window, "with the heatmaps out of sight");
    press(&mut window, Modifiers::COMMAND, Key::Num3);
    settle(&mut window);
    nothing_moves(&mut window, "and back again");
}

#[test]
fn nor_with_a_complaint_on_the_screen() {
    let mut window = llama();
    open_path(&mut window, &fixture("llama").join("nothing-here"));
    until(&mut window, "a refusal", |w| says(w, "nothing-here") && is_quiet(w));
    for _ in 0..100 {
        window.step();
    }
    nothing_moves(&mut window, "with a complaint");
}

#[test]
fn nor_with_the_help_the_palette_or_the_path_open() {
    for (modifiers, key) in [(Modifiers::NONE, Key::F1), (Modifiers::COMMAND, Key::K), (Modifiers::COMMAND, Key::L)] {
        let mut window = llama();
        press(&mut window, modifiers, key);
        nothing_moves(&mut window, &format!("{key:?}"));
    }
}
