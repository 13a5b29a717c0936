//! Starting the window: wgpu first, glow where that fails.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eframe::egui_wgpu::{WgpuSetup, wgpu};
use eframe::{NativeOptions, Renderer, egui};

use super::App;
use crate::checkpoint::hub::Ask;
use crate::interrupt;
use crate::workspace::Request;

/// The name under which settings are kept.
pub const APP_ID: &str = "rankscope";

/// What the window opens with.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// What to open; the bundled sample otherwise.
    pub request: Option<Request>,
    /// Draw with this; tried in turn otherwise.
    pub renderer: Option<Renderer>,
    /// Where the bundled sample is written; in the user's data folder otherwise.
    pub data_dir: Option<PathBuf>,
    /// Where models are fetched from and kept; the hub and its own cache where nothing is said.
    pub hub: Ask,
    /// True once the system wants the program to end: the window closes, a run saves its checkpoint first.
    pub ending: Arc<AtomicBool>,
}

/// Runs the window until it is closed.
///
/// # Errors
/// The reason in words when no window can be opened at all.
pub fn run(start: &Start) -> Result<(), String> {
    // Where wgpu finds a software adapter only, glow's software renderer is several times as fast.
    let attempts = match start.renderer {
        Some(one) => vec![(one, true)],
        None => vec![(Renderer::Wgpu, false), (Renderer::Glow, true), (Renderer::Wgpu, true)],
    };
    let mut reasons = Vec::new();
    for (renderer, software) in attempts {
        // A driver that panics while it is tried is a driver that does not work.
        match std::panic::catch_unwind(|| attempt(start, renderer, software)) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => reasons.push(format!("{renderer}: {error}")),
            Err(_) if let Some(report) = crate::defect::report() => {
                return Err(format!(
                    "the window met a defect; its report is {}, the next start offers it",
                    report.display()
                ));
            }
            Err(_) => reasons.push(format!("{renderer}: its driver stopped on a defect")),
        }
        log::warn!("cannot draw with {}", reasons.last().map_or("", String::as_str));
    }
    Err(format!(
        "cannot open a window ({}); a display (X11 or Wayland) and OpenGL or Vulkan are needed, the subcommands work without: rankscope --help",
        reasons.join("; ")
    ))
}

fn attempt(start: &Start, renderer: Renderer, software: bool) -> eframe::Result {
    log::info!("trying to draw with {renderer}");
    let viewport = egui::ViewportBuilder::default()
        .with_app_id(APP_ID)
        .with_title("Rankscope")
        .with_inner_size([1280.0, 800.0])
        .with_min_inner_size([880.0, 560.0])
        .with_icon(icon())
        .with_drag_and_drop(true);
    let mut options = NativeOptions { viewport, renderer, ..Default::default() };
    if !software && let WgpuSetup::CreateNew(setup) = &mut options.wgpu_options.wgpu_setup {
        setup.native_adapter_selector = Some(Arc::new(hardware));
    }
    let start = start.clone();
    let create = move |cc: &eframe::CreationContext<'_>| {
        let (ctx, ending) = (cc.egui_ctx.clone(), Arc::clone(&start.ending));
        interrupt::listen(move || {
            ending.store(true, Ordering::Relaxed);
            ctx.request_repaint();
        });
        Ok(Box::new(App::new(cc, start)) as Box<dyn eframe::App>)
    };
    eframe::run_native(APP_ID, options, Box::new(create))
}

/// The fastest adapter that can draw on the window and is no software.
fn hardware(adapters: &[wgpu::Adapter], surface: Option<&wgpu::Surface<'_>>) -> Result<wgpu::Adapter, String> {
    let rank = |adapter: &wgpu::Adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 3,
        wgpu::DeviceType::IntegratedGpu => 2,
        wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => 1,
        wgpu::DeviceType::Cpu => 0,
    };
    let fits = |adapter: &&wgpu::Adapter| surface.is_none_or(|s| adapter.is_surface_supported(s)) && rank(adapter) > 0;
    let best = adapters.iter().filter(fits).max_by_key(|adapter| rank(adapter));
    best.cloned().ok_or_else(|| "no graphics adapter but software".into())
}

/// What draws the window, in a line.
pub(super) fn screen(cc: &eframe::CreationContext<'_>) -> String {
    if let Some(state) = &cc.wgpu_render_state {
        let info = state.adapter.get_info();
        return format!("wgpu ({}): {}, {} {}", info.backend, info.name, info.driver, info.driver_info);
    }
    use eframe::glow::{HasContext as _, RENDERER, VERSION};
    let Some(gl) = &cc.gl else { return "no renderer".to_owned() };
    // SAFETY: both names are of strings that every context has; it is current while the window is being made.
    unsafe { format!("glow: {}, {}", gl.get_parameter_string(RENDERER), gl.get_parameter_string(VERSION)) }
}

/// Where the bundled sample is written.
pub fn data_dir() -> PathBuf {
    eframe::storage_dir(APP_ID).unwrap_or_else(|| std::env::temp_dir().join(APP_ID))
}

/// Bars that fall like singular values, the first ones in the rank's colour.
fn icon() -> egui::IconData {
    const SIDE: usize = 64;
    let mut rgba = vec![0; SIDE * SIDE * 4];
    for y in 0..SIDE {
        for x in 0..SIDE {
            let corner = {
                let d = |v: usize| (v as f32 + 0.5 - 32.0).abs() - 20.0;
                let (dx, dy) = (d(x).max(0.0), d(y).max(0.0));
                (dx * dx + dy * dy).sqrt()
            };
            if corner > 12.0 {
                continue;
            }
            let bar = (x as i32 - 10) / 9;
            let inside = (10..=52).contains(&x) && (x as i32 - 10) % 9 < 6 && (0..5).contains(&bar);
            let height = 42.0 * 0.58f32.powi(bar);
            let color = match inside && y <= 52 && (y as f32) > 52.0 - height {
                true if bar < 2 => [0xff, 0x70, 0xac],
                true => [0x6a, 0xa8, 0xff],
                false => [0x15, 0x18, 0x1d],
            };
            rgba[(y * SIDE + x) * 4..][..4].copy_from_slice(&[color[0], color[1], color[2], 0xff]);
        }
    }
    egui::IconData { rgba, width: SIDE as u32, height: SIDE as u32 }
}
