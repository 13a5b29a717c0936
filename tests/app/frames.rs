//! What a frame of a run that is watched costs the processor: measured on demand, as a time asserts nothing on a machine that does
//! something else too. `cargo test --test app frames -- --ignored --nocapture`

use eframe::egui::{accesskit::Role, pos2};
use egui_kittest::kittest::Queryable as _;
use rankscope::train::{Method, Settings, run};

use crate::safetensors::fixture;
use crate::support::*;
use crate::training::{data, step, window};

/// Nanoseconds that this thread has had the processor for.
fn processor() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
#[ignore = "prints times, asserts nothing"]
fn what_a_frame_costs() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        model: fixture("llama"),
        data: data(folder.path()),
        out: folder.path().join("runs/long"),
        method: Method::Lora,
        rank: 8,
        steps: Some(1500),
        batch: 1,
        film_every: 5,
        eval_every: 50,
        save_every: 0,
        ..Settings::default()
    };
    run::run(settings, run::Start::default(), &(), &mut |_| Ok(())).unwrap();
    let mut window = window(folder.path());
    for size in [[1280.0, 800.0], [1920.0, 1080.0]] {
        window.set_size(size.into());
        click(&mut window, Role::Button, "History");
        until(&mut window, "the run", |w| w.query_by_role_and_label(Role::Row, "long, finished").is_some());
        window.get_by_role_and_label(Role::Row, "long, finished").click_accesskit();
        window.step();
        window.step();
        click(&mut window, Role::Button, "Open");
        until(&mut window, "its steps", |w| step(w) == 1500 && is_quiet(w));
        const FRAMES: usize = 200;
        let (mut painted, mut cut, mut triangles) = (0, 0, 0);
        for at in 0..FRAMES {
            let angle = at as f32 * 0.1;
            window.hover_at(pos2(size[0] * (0.7 + 0.15 * angle.sin()), size[1] * (0.5 + 0.2 * angle.cos())));
            let begin = processor();
            window.step();
            painted += processor() - begin;
            let (shapes, scale) = (window.output().shapes.clone(), window.ctx.pixels_per_point());
            let begin = processor();
            let pieces = window.ctx.tessellate(shapes, scale);
            cut += processor() - begin;
            triangles = pieces
                .iter()
                .map(|piece| match &piece.primitive {
                    eframe::egui::epaint::Primitive::Mesh(mesh) => mesh.indices.len() / 3,
                    eframe::egui::epaint::Primitive::Callback(_) => 0,
                })
                .sum();
        }
        let each = |total: u64| total as f64 / FRAMES as f64 / 1e6;
        println!(
            "{} × {}: {:.2} ms of logic, ui and accessibility tree a frame, {:.2} ms of tessellation of {triangles} triangles",
            size[0],
            size[1],
            each(painted),
            each(cut)
        );
    }
}
