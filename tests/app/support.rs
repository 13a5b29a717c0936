//! A window without a screen, and ways to look at it. Work runs on threads: what is waited for has a deadline.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers, ViewportId, vec2};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use egui_kittest::{Harness, HarnessBuilder, Node};
use rankscope::app::{App, Start};
use rankscope::spectrum::Spectrum;
use rankscope::workspace::Request;
use tempfile::TempDir;

use crate::fixtures::fixture;

pub type Window = Harness<'static, App>;

pub const Q: &str = "model.layers.0.self_attn.q_proj";
pub const K: &str = "model.layers.0.self_attn.k_proj";
pub const V: &str = "model.layers.1.self_attn.v_proj";

/// How long a condition may take on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);

/// The size that the window opens with.
pub fn builder() -> HarnessBuilder<App> {
    Harness::builder().with_size(vec2(1280.0, 800.0))
}

/// A window that has been told to open something; it has not done it yet.
pub fn open(request: Request) -> Window {
    open_with(builder(), request)
}

/// A folder of the program's own for all windows that need none in particular: what lies in that of the person who runs the tests is
/// none of their business.
pub fn home() -> Option<PathBuf> {
    static HOME: OnceLock<TempDir> = OnceLock::new();
    Some(HOME.get_or_init(|| tempfile::tempdir().unwrap()).path().to_path_buf())
}

/// The same in a window of another kind: one that shows what a model writes allows signs that none of the window's own fonts has
/// (a real window finds a font of the system for these).
pub fn open_with(builder: HarnessBuilder<App>, request: Request) -> Window {
    let start = Start { request: Some(request), data_dir: home(), ..Start::default() };
    builder.build_eframe(|cc| App::new(cc, start))
}

/// A base and what it is compared with.
pub fn pair(base: &str, other: &str) -> Request {
    Request::Pair(fixture(base), fixture(other))
}

/// The small Llama and its tuned version, everything computed.
pub fn llama() -> Window {
    let mut window = open(pair("llama", "llama-tuned"));
    settle(&mut window);
    window
}

/// Steps until `condition` holds.
#[track_caller]
pub fn until(window: &mut Window, what: &str, condition: impl Fn(&Window) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition(window) {
        assert!(Instant::now() < end, "waited in vain for {what}; on screen: {:?}", texts(window));
        window.step();
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Steps until nothing works any more and nothing asks for another frame.
#[track_caller]
pub fn settle(window: &mut Window) {
    window.step();
    until(window, "an end of all work", |w| w.state().workspace().opened().is_some() && is_quiet(w));
}

/// Nothing works and nothing asks to be painted at once.
pub fn is_quiet(window: &Window) -> bool {
    let app = window.state();
    !app.is_busy() && app.is_painted() && !delay(window).is_zero()
}

/// When the last frame wants the next one.
pub fn delay(window: &Window) -> Duration {
    window.output().viewport_output[&ViewportId::ROOT].repaint_delay
}

/// Everything that is written or said on the screen.
pub fn texts(window: &Window) -> Vec<String> {
    let said = |node: Node<'_>| [node.accesskit_node().label(), node.accesskit_node().value()];
    window.root().children_recursive().flat_map(said).flatten().collect()
}

/// True when some text on the screen contains this.
pub fn says(window: &Window, part: &str) -> bool {
    texts(window).iter().any(|text| text.contains(part))
}

/// The one control of this kind and name.
#[track_caller]
pub fn get<'w>(window: &'w Window, role: Role, name: &'w str) -> Node<'w> {
    window.get_by_role_and_label(role, name)
}

/// The number that a slider or a number field shows.
#[track_caller]
pub fn number(window: &Window, role: Role, name: &str) -> f64 {
    window.get_all_by_role_and_label(role, name).next().unwrap().accesskit_node().numeric_value().unwrap()
}

/// The text to the right of a label, in the same line.
#[track_caller]
pub fn beside(window: &Window, label: &str) -> String {
    let of = window.get_by_role_and_label(Role::Label, label).rect();
    let labels = window.get_all_by_role(Role::Label);
    let right = labels.filter(|n| n.rect().left() >= of.right() && n.rect().y_range().contains(of.center().y));
    right.min_by(|a, b| a.rect().left().total_cmp(&b.rect().left())).and_then(|n| n.value()).unwrap()
}

/// Clicks in the middle, and takes the pointer away, so that no tooltip comes.
#[track_caller]
pub fn click(window: &mut Window, role: Role, name: &str) {
    click_with(window, Modifiers::NONE, role, name);
}

/// The same with a key held down.
#[track_caller]
pub fn click_with(window: &mut Window, modifiers: Modifiers, role: Role, name: &str) {
    get(window, role, name).click_modifiers(modifiers);
    window.remove_cursor();
    window.step();
    window.step();
}

/// Presses a key.
pub fn press(window: &mut Window, modifiers: Modifiers, key: Key) {
    window.key_press_modifiers(modifiers, key);
    window.step();
    window.step();
}

/// Types over what stands in a text field.
#[track_caller]
pub fn write(window: &mut Window, name: &str, text: &str) {
    get(window, Role::TextInput, name).focus();
    window.step();
    press(window, Modifiers::COMMAND, Key::A);
    get(window, Role::TextInput, name).type_text(text);
    window.step();
    window.step();
}

/// Opens a path by typing it.
pub fn open_path(window: &mut Window, path: &std::path::Path) {
    press(window, Modifiers::COMMAND, Key::L);
    write(window, "Path", path.to_str().unwrap());
    press(window, Modifiers::NONE, Key::Enter);
}

/// The rank on the dial.
pub fn rank(window: &Window) -> usize {
    window.state().workspace().dial().r
}

/// The modules that are chosen.
pub fn selected(window: &Window) -> &[String] {
    window.state().workspace().selection().names()
}

/// The newest spectrum of a module.
#[track_caller]
pub fn spectrum<'w>(window: &'w Window, name: &str) -> &'w Spectrum {
    window.state().workspace().latest(name).expect(name)
}

/// How many spectra there are, and of how many modules.
pub fn known(window: &Window) -> (usize, usize) {
    let workspace = window.state().workspace();
    (workspace.known(), workspace.delta().map_or(0, |d| d.entries().len()))
}

/// The open base's folder.
pub fn base(window: &Window) -> PathBuf {
    window.state().workspace().base().unwrap().path().to_path_buf()
}
