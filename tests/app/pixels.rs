//! The window as it is drawn, where there is something to draw with.
//!
//! After a change of looks: `UPDATE_SNAPSHOTS=1 cargo test --test app pixels`, and look at what has changed.

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers, Rect, Theme, vec2};
use egui_kittest::wgpu::WgpuTestRenderer;
use egui_kittest::{SnapshotOptions, SnapshotResults};
use rankscope::app::{App, Start};

use crate::support::*;

/// A window of this theme that can be drawn, or word that there is nothing to draw with. `RANKSCOPE_REQUIRE_PIXELS` makes
/// that a failure.
fn drawn(theme: Theme) -> Option<Window> {
    let Ok(renderer) = std::panic::catch_unwind(WgpuTestRenderer::new) else {
        assert!(
            std::env::var_os("RANKSCOPE_REQUIRE_PIXELS").is_none(),
            "pixel tests must run here, but there is no graphics adapter"
        );
        eprintln!("skipped: no graphics adapter to render with");
        return None;
    };
    let start = Start { request: Some(pair("llama", "llama-tuned")), data_dir: home(), ..Start::default() };
    let builder = builder().with_theme(theme).with_render_cursor(false).renderer(renderer);
    let mut window = builder.build_eframe(|cc| App::new(cc, start));
    settle(&mut window);
    // Until every colour and every place has settled too.
    window.run_steps(4);
    Some(window)
}

/// Compares with the stored picture. Software renderers of different versions round edges of letters and lines differently.
fn compare(window: &mut Window, name: &str) {
    // What depends on the machine: the device, left of the buttons.
    let button = get(window, Role::Button, "Commands (Ctrl+K)").rect();
    window.mask(Rect::from_min_max(button.min - vec2(240.0, 2.0), button.left_bottom() + vec2(-4.0, 2.0)));
    let options = SnapshotOptions::new().threshold(4.0).max_failed_pixels(400);
    let mut results = SnapshotResults::new();
    results.add(window.try_snapshot_options(name, &options));
    results.unwrap();
}

#[test]
fn the_spectrum_tab_in_the_dark() {
    let Some(mut window) = drawn(Theme::Dark) else { return };
    compare(&mut window, "spectrum-dark");
}

#[test]
fn the_spectrum_tab_in_the_light() {
    let Some(mut window) = drawn(Theme::Light) else { return };
    compare(&mut window, "spectrum-light");
}

#[test]
fn the_parameters_tab() {
    let Some(mut window) = drawn(Theme::Dark) else { return };
    press(&mut window, Modifiers::COMMAND, Key::Num4);
    settle(&mut window);
    compare(&mut window, "parameters-dark");
}

/// The Learn tab at the chapter with the most to see.
fn learning(theme: Theme, name: &str) {
    let Some(mut window) = drawn(theme) else { return };
    press(&mut window, Modifiers::COMMAND, Key::Num1);
    click(&mut window, Role::Button, "Chapter 4: Nine numbers from six");
    settle(&mut window);
    compare(&mut window, name);
}

#[test]
fn the_learn_tab_in_the_dark() {
    learning(Theme::Dark, "learn-dark");
}

#[test]
fn the_learn_tab_in_the_light() {
    learning(Theme::Light, "learn-light");
}

#[test]
fn the_heatmaps_change_with_the_rank_and_stay_otherwise() {
    let Some(mut window) = drawn(Theme::Dark) else { return };
    let picture = |window: &mut Window, name: &str| {
        let rect = get(window, Role::Image, name).rect();
        let image = window.render().unwrap();
        // The middle of each cell: which pixel its edge falls into depends on where the picture stands.
        let at = |x: u32, y: u32| {
            let place = rect.min + rect.size() * vec2((x as f32 + 0.5) / 64.0, (y as f32 + 0.5) / 64.0);
            image.get_pixel(place.x as u32, place.y as u32).0
        };
        (0..64).flat_map(|y| (0..64).map(move |x| (x, y))).map(|(x, y)| at(x, y)).collect::<Vec<_>>()
    };
    let differing = |a: &[[u8; 4]], b: &[[u8; 4]]| a.iter().zip(b).filter(|(a, b)| a != b).count();
    let (delta, all) = (picture(&mut window, "Heatmap ΔW"), picture(&mut window, "Heatmap rank 8"));
    assert!(differing(&delta, &delta[1..]) > 2000, "there is something to see");
    get(&window, Role::Slider, "Rank r").set_value_accesskit(1.0);
    settle(&mut window);
    assert_eq!(differing(&delta, &picture(&mut window, "Heatmap ΔW")), 0, "ΔW does not depend on the rank");
    let one = picture(&mut window, "Heatmap rank 1");
    assert!(differing(&all, &one) > 2000, "its approximation does");
    get(&window, Role::Slider, "Rank r").set_value_accesskit(64.0);
    settle(&mut window);
    let full = picture(&mut window, "Heatmap rank 64");
    let near = |a: &[u8; 4], b: &[u8; 4]| a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= 2);
    assert!(full.iter().zip(&delta).all(|(a, b)| near(a, b)), "nothing is left out at full rank");
}

#[test]
fn the_quantization_tab() {
    let Some(mut window) = drawn(Theme::Dark) else { return };
    press(&mut window, Modifiers::COMMAND, Key::Num5);
    settle(&mut window);
    window.run_steps(4);
    compare(&mut window, "quantization-dark");
}
