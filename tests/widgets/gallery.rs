//! Pictures of everything, to be looked at: `RANKSCOPE_GALLERY=some/folder cargo test --test widgets gallery`.

use std::path::PathBuf;

use eframe::egui::{self, Theme, Vec2, vec2};
use egui_kittest::Harness;
use rankscope::app::look::fonts;
use rankscope::app::widgets::heatmap::Status;
use rankscope::app::widgets::range::{Limit, Scale};

use super::support::{Owner, pictures};

/// Where pictures go; nothing is rendered unless somebody wants to see it.
pub fn folder() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("RANKSCOPE_GALLERY").map(PathBuf::from) else {
        eprintln!("skipped: set RANKSCOPE_GALLERY to a folder to render this");
        return None;
    };
    std::fs::create_dir_all(&folder).unwrap();
    Some(folder)
}

/// Renders a piece of interface in both themes.
pub fn show<S: 'static>(
    name: &str,
    size: Vec2,
    make: impl Fn() -> S,
    ui: impl Fn(&mut egui::Ui, &mut S) + Clone + 'static,
    act: impl Fn(&mut Harness<'_, S>),
) {
    let Some(folder) = folder() else { return };
    for (theme, suffix) in [(Theme::Dark, "dark"), (Theme::Light, "light")] {
        let content = ui.clone();
        let mut harness = Harness::builder()
            .with_size(size)
            .with_theme(theme)
            .with_pixels_per_point(2.0)
            .with_context_setup(fonts::install)
            .wgpu()
            .build_ui_state(
                move |ui: &mut egui::Ui, state: &mut S| {
                    egui::Frame::central_panel(ui.style()).show(ui, |ui| content(ui, state));
                },
                make(),
            );
        harness.run();
        act(&mut harness);
        harness.run();
        harness.render().unwrap().save(folder.join(format!("{name}-{suffix}.png"))).unwrap();
    }
}

#[test]
fn three_linked_heatmaps() {
    let make = || Owner::new(&pictures(2048, 2048, 2));
    show("heatmaps", vec2(1100.0, 460.0), make, |ui, o| o.ui(ui), |_| {});
    let own = || {
        let mut owner = make();
        owner.range.shared = false;
        owner.range.scale = Scale::SymmetricLog;
        owner.range.limit = Limit::Full;
        owner
    };
    show("heatmaps-own-log", vec2(1100.0, 460.0), own, |ui, o| o.ui(ui), |h| h.hover_at(egui::pos2(150.0, 180.0)));
}

#[test]
fn zoomed_heatmaps() {
    let make = || {
        let mut owner = Owner::new(&pictures(700, 1100, 2));
        owner.group.view.zoom_at(190.0, [0.3, 0.6], 1e9);
        owner
    };
    show("heatmaps-numbers", vec2(1100.0, 400.0), make, |ui, o| o.ui(ui), |h| h.hover_at(egui::pos2(200.0, 130.0)));
    let make = || {
        let mut owner = Owner::new(&pictures(700, 1100, 2));
        owner.group.view.zoom_at(14.0, [0.3, 0.6], 1e9);
        owner
    };
    show("heatmaps-close", vec2(1100.0, 400.0), make, |ui, o| o.ui(ui), |h| h.hover_at(egui::pos2(500.0, 130.0)));
}

#[test]
fn thin_heatmaps() {
    let make = || Owner::new(&pictures(4096, 24, 2)[..2]);
    show("heatmaps-thin", vec2(640.0, 460.0), make, |ui, o| o.ui(ui), |h| h.hover_at(egui::pos2(100.0, 180.0)));
}

#[test]
fn heatmaps_without_pictures() {
    let make = || {
        let mut owner = Owner::new(&pictures(300, 300, 2));
        owner.group.set_status(0, Status::Computing("reading the weight".into(), Some(0.4)));
        owner.group.hide(1);
        owner.group.set_status(1, Status::Computing("computing…".into(), None));
        owner.group.hide(2);
        owner.group.set_status(
            2,
            Status::Failed("model.safetensors: model.layers.3.mlp.up_proj.weight: 12 values are NaN".into()),
        );
        owner
    };
    show("heatmaps-status", vec2(900.0, 360.0), make, |ui, o| o.ui(ui), |_| {});
}
