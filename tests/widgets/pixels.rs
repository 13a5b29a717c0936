//! What is really on the screen, where there is something to render with.

use std::sync::Arc;

use eframe::egui::{self, Theme, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use egui_kittest::wgpu::WgpuTestRenderer;
use rankscope::app::look::fonts;
use rankscope::app::widgets::picture::{Picture, Reduction};
use rankscope::app::widgets::pyramid::Pyramid;
use rankscope::app::widgets::range::{Limit, Scale};
use rankscope::figure::{Color, ColorMap};
use rankscope::matrix::Matrix;

use super::support::Owner;

/// A renderer, or word that there is none. `RANKSCOPE_REQUIRE_PIXELS=1` makes that a failure.
fn renderer() -> Option<WgpuTestRenderer> {
    let renderer = std::panic::catch_unwind(WgpuTestRenderer::new).ok();
    if renderer.is_none() {
        assert!(
            std::env::var_os("RANKSCOPE_REQUIRE_PIXELS").is_none(),
            "pixel tests must run here, but there is no graphics adapter"
        );
        eprintln!("skipped: no graphics adapter to render with");
    }
    renderer
}

#[test]
fn rows_run_down_and_columns_run_right() {
    let Some(renderer) = renderer() else { return };
    // Two tiles across at the finest level: column 299 is in the second one.
    let source = Matrix::from_fn(150, 300, |row, col| match (row, col) {
        (0..10, 0..10) => 1.0,
        (0..10, 290..) => -1.0,
        (140.., 0..10) => 0.5,
        _ => 0.0,
    });
    let picture: Arc<dyn Picture> = Arc::new(Pyramid::build(Arc::new(source), Reduction::Mean, &()).unwrap());
    let mut owner = Owner::new(&[picture]);
    owner.range.limit = Limit::Full;
    owner.range.scale = Scale::Linear;
    let mut harness = Harness::builder()
        .with_size(vec2(660.0, 420.0))
        .with_theme(Theme::Light)
        .with_context_setup(fonts::install)
        .renderer(renderer)
        .build_ui_state(|ui: &mut egui::Ui, owner: &mut Owner| owner.ui(ui), owner);
    harness.run();
    let frame = harness.get_by_label("Heatmap ΔW").rect();
    let image = harness.render().unwrap();
    let table = ColorMap::Diverging.table(false);
    let at = |x: f32, y: f32| {
        let point = frame.min + frame.size() * vec2(x, y);
        let [r, g, b, _] = image.get_pixel(point.x as u32, point.y as u32).0;
        Color([r, g, b])
    };
    let near = |a: Color, b: Color| a.0.iter().zip(b.0).all(|(x, y)| x.abs_diff(y) <= 2);
    for (x, y, position) in
        [(0.015, 0.03, 1.0), (0.985, 0.03, 0.0), (0.015, 0.97, 0.75), (0.5, 0.5, 0.5), (0.985, 0.97, 0.5)]
    {
        assert!(near(at(x, y), table.at(position)), "at {x}, {y}: {:?} and not {:?}", at(x, y), table.at(position));
    }
}
