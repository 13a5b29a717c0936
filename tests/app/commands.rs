//! Tabs, the palette, the help, the theme.

use eframe::egui::accesskit::Role;
use eframe::egui::{Event, Key, Modifiers, ViewportCommand, ViewportId};
use egui_kittest::kittest::Queryable as _;

use crate::support::*;

const CTRL: Modifiers = Modifiers::COMMAND;

/// Opens the palette, types, presses Enter.
fn command(window: &mut Window, words: &str) {
    press(window, CTRL, Key::K);
    write(window, "Command", words);
    press(window, Modifiers::NONE, Key::Enter);
    window.step();
    assert!(window.query_by_role_and_label(Role::TextInput, "Command").is_none(), "the palette closes");
}

fn in_parameters(window: &Window) -> bool {
    says(window, "parameters in all")
}

#[test]
fn tabs_by_key_and_by_name() {
    let mut window = llama();
    assert!(!in_parameters(&window));
    press(&mut window, CTRL, Key::Num4);
    assert!(in_parameters(&window) && !says(&window, "Heatmap ΔW"));
    press(&mut window, CTRL, Key::Num3);
    assert!(!in_parameters(&window) && says(&window, "Heatmap ΔW"));
    click(&mut window, Role::Button, "Parameters");
    assert!(in_parameters(&window));
}

#[test]
fn the_palette_finds_commands() {
    let mut window = llama();
    command(&mut window, "show param");
    assert!(in_parameters(&window));
    press(&mut window, CTRL, Key::K);
    assert!(says(&window, "Quit"), "everything that can be done");
    write(&mut window, "Command", "the mo"); // "… the module list"
    press(&mut window, Modifiers::NONE, Key::Escape);
    assert!(window.query_by_role_and_label(Role::TextInput, "Command").is_none());
    command(&mut window, "weights themselves");
    settle(&mut window);
    assert!(says(&window, "spectra computed.") && in_parameters(&window));
    let delta = window.state().workspace().delta().unwrap();
    assert!(matches!(delta.source(), rankscope::delta::Source::Weight));
    press(&mut window, CTRL, Key::K);
    write(&mut window, "Command", "no such thing");
    assert!(says(&window, "No command, module or chapter contains “no such thing”."));
    press(&mut window, Modifiers::NONE, Key::Enter);
    assert!(window.query_by_role_and_label(Role::TextInput, "Command").is_some(), "Enter does nothing then");
    press(&mut window, CTRL, Key::K);
    assert!(window.query_by_role_and_label(Role::TextInput, "Command").is_none(), "the same key closes it");
}

#[test]
fn the_palette_finds_everything() {
    let mut window = llama();
    command(&mut window, "layers.1 v_proj");
    settle(&mut window);
    assert_eq!(selected(&window), [V], "a module");
    command(&mut window, "rank 16");
    assert_eq!(rank(&window), 16);
    command(&mut window, "memory");
    assert!(says(&window, "What it fits into") || says(&window, "Memory of"), "a sub-tab");
    command(&mut window, "nine numbers");
    settle(&mut window);
    assert!(says(&window, "Make ΔW equal to the first target"), "a chapter");
    command(&mut window, "shw spctrm");
    settle(&mut window);
    assert!(says(&window, "Heatmap ΔW"), "letters may be left out");
    press(&mut window, CTRL, Key::K);
    write(&mut window, "Command", "copy as tsv rules");
    assert!(says(&window, "Copy as TSV: rules"), "what is on screen can be copied");
    press(&mut window, Modifiers::NONE, Key::Enter);
    window.run_steps(3);
    assert!(says(&window, "The table is on the clipboard."));
}

#[test]
fn arrows_choose_in_the_palette() {
    let mut window = llama();
    press(&mut window, CTRL, Key::K);
    write(&mut window, "Command", "show");
    // Learn, Choose, Spectrum, Parameters, and more below them.
    press(&mut window, Modifiers::NONE, Key::ArrowDown);
    press(&mut window, Modifiers::NONE, Key::ArrowDown);
    press(&mut window, Modifiers::NONE, Key::ArrowDown);
    press(&mut window, Modifiers::NONE, Key::ArrowDown);
    press(&mut window, Modifiers::NONE, Key::ArrowUp);
    press(&mut window, Modifiers::NONE, Key::Enter);
    assert!(in_parameters(&window));
}

#[test]
fn the_help_names_the_keys_and_the_terms() {
    let mut window = llama();
    press(&mut window, Modifiers::NONE, Key::F1);
    for part in [
        "rank down",
        "everything that can be done",
        "Rank is a dial",
        "start the run that is set up, pause it, resume it",
    ] {
        assert!(says(&window, part), "{part}");
    }
    press(&mut window, Modifiers::NONE, Key::Escape);
    assert!(!says(&window, "Rank is a dial"));
    click(&mut window, Role::Button, "Help (F1)");
    click(&mut window, Role::Button, "Close");
    assert!(!says(&window, "Rank is a dial"));
}

#[test]
fn light_and_dark() {
    let mut window = llama();
    assert!(window.ctx.global_style().visuals.dark_mode);
    click(&mut window, Role::Button, "Light theme");
    settle(&mut window);
    assert!(!window.ctx.global_style().visuals.dark_mode);
    click(&mut window, Role::Button, "Dark theme");
    assert!(window.ctx.global_style().visuals.dark_mode);
    command(&mut window, "light");
    settle(&mut window);
    assert!(!window.ctx.global_style().visuals.dark_mode);
}

#[test]
fn larger_and_smaller() {
    let mut window = llama();
    press(&mut window, CTRL, Key::Plus);
    assert!((window.ctx.zoom_factor() - 1.1).abs() < 1e-3);
    for _ in 0..20 {
        press(&mut window, CTRL, Key::Minus);
    }
    assert!((window.ctx.zoom_factor() - 0.7).abs() < 1e-3, "{}", window.ctx.zoom_factor());
    press(&mut window, CTRL, Key::Num0);
    assert_eq!(window.ctx.zoom_factor(), 1.0);
    settle(&mut window);
}

#[test]
fn the_module_list_makes_room() {
    let mut window = llama();
    press(&mut window, CTRL, Key::B);
    assert!(window.query_by_role_and_label(Role::TextInput, "Filter modules").is_none());
    press(&mut window, CTRL, Key::B);
    assert!(window.query_by_role_and_label(Role::TextInput, "Filter modules").is_some());
}

#[test]
fn quitting() {
    let mut window = llama();
    // One event, so that the frame which it causes is the last one.
    let key = Key::Q;
    window.event(Event::Key { key, physical_key: None, pressed: true, repeat: false, modifiers: CTRL });
    window.step();
    let commands = &window.output().viewport_output[&ViewportId::ROOT].commands;
    assert!(commands.contains(&ViewportCommand::Close));
}
