//! What is kept between two starts.

use std::collections::HashMap;

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers};
use eframe::{App as _, Storage};
use egui_kittest::kittest::Queryable as _;
use rankscope::app::{App, Start};
use rankscope::workspace::Request;

use crate::fixtures::fixture;
use crate::support::*;

#[derive(Default)]
pub struct Kept(HashMap<String, String>);

impl Storage for Kept {
    fn get_string(&self, key: &str) -> Option<String> {
        self.0.get(key).cloned()
    }

    fn set_string(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }

    fn remove_string(&mut self, key: &str) {
        self.0.remove(key);
    }

    fn flush(&mut self) {}
}

/// Starts the program again with what it kept.
fn again(kept: Kept, request: Request) -> Window {
    let start = Start { request: Some(request), data_dir: home(), ..Start::default() };
    let kept: &'static Kept = Box::leak(Box::new(kept));
    let mut window = builder().build_eframe(|cc| {
        cc.storage = Some(kept);
        App::new(cc, start)
    });
    settle(&mut window);
    window
}

#[test]
fn a_second_start_looks_like_the_end_of_the_first() {
    let mut window = llama();
    press(&mut window, Modifiers::COMMAND, Key::Plus);
    press(&mut window, Modifiers::COMMAND, Key::B);
    click(&mut window, Role::ComboBox, "Rule of the map");
    click(&mut window, Role::Button, "Stable rank");
    let mut kept = Kept::default();
    window.state_mut().save(&mut kept);
    let mut window = again(kept, Request::Any(fixture("gpt2")));
    assert!((window.ctx.zoom_factor() - 1.1).abs() < 1e-3);
    assert!(window.query_by_role_and_label(Role::TextInput, "Filter modules").is_none(), "the list is still hidden");
    assert_eq!(get(&window, Role::ComboBox, "Rule of the map").value().as_deref(), Some("Stable rank"));
    click(&mut window, Role::Button, "Base model");
    get(&window, Role::Button, "gpt2");
    click(&mut window, Role::Button, "llama + llama-tuned");
    until(&mut window, "the recent pair", |w| base(w) == fixture("llama"));
    settle(&mut window);
    click(&mut window, Role::Button, "Base model");
    click(&mut window, Role::Button, "Forget recent files");
    click(&mut window, Role::Button, "Base model");
    assert!(!says(&window, "Recent"));
}

#[test]
fn settings_of_another_version_do_no_harm() {
    for text in
        ["(scale: 1.5)", "(scale: \"large\")", "nonsense", "(theme: Light, scale: inf, unknown: 3)", "(scale: 0.0)"]
    {
        let mut kept = Kept::default();
        kept.set_string("rankscope-settings", text.to_owned());
        let window = again(kept, pair("llama", "llama-tuned"));
        let scale = window.ctx.zoom_factor();
        assert!((0.7..=2.5).contains(&scale), "{text}: {scale}");
        assert_eq!(known(&window), (16, 16));
    }
}

/// A first start: nothing was kept.
fn first(kept: Kept) -> Window {
    let folder: &'static tempfile::TempDir = Box::leak(Box::new(tempfile::tempdir().unwrap()));
    let start = Start { data_dir: Some(folder.path().to_path_buf()), ..Start::default() };
    let kept: &'static Kept = Box::leak(Box::new(kept));
    let mut window = builder().build_eframe(|cc| {
        cc.storage = Some(kept);
        App::new(cc, start)
    });
    settle(&mut window);
    window
}

#[test]
fn the_first_start_asks_once_what_one_came_for() {
    let mut window = first(Kept::default());
    assert!(says(&window, "What brings you here?"));
    click(&mut window, Role::Button, "Learn LoRA in nine steps");
    settle(&mut window);
    assert!(!says(&window, "What brings you here?") && says(&window, "Chapter 1: "));
    let mut kept = Kept::default();
    window.state_mut().save(&mut kept);
    let window = first(kept);
    assert!(!says(&window, "What brings you here?") && says(&window, "Chapter 1: "), "where one was before");
}

#[test]
fn the_model_of_the_last_time_comes_back() {
    let mut window = llama();
    open_path(&mut window, &fixture("gpt2"));
    until(&mut window, "another model", |w| base(w) == fixture("gpt2"));
    settle(&mut window);
    let mut kept = Kept::default();
    window.state_mut().save(&mut kept);
    assert_eq!(base(&first(kept)), fixture("gpt2"));
}
