//! Fonts with every sign that the pictures use.

use eframe::egui::{Context, FontDefinitions, FontFamily};

/// egui's own fonts, with the monospaced one behind the proportional one: it has the arrows, `⁻`, `⋯` and `‖` that the other lacks.
pub fn definitions() -> FontDefinitions {
    let mut fonts = FontDefinitions::default();
    let fallback = fonts.families.get(&FontFamily::Monospace).cloned().unwrap_or_default();
    let proportional = fonts.families.entry(FontFamily::Proportional).or_default();
    for name in fallback {
        if !proportional.contains(&name) {
            proportional.push(name);
        }
    }
    fonts
}

/// Installs [`definitions`]; to be called once for a context, unless its owner installs fonts that have these signs.
pub fn install(ctx: &Context) {
    ctx.set_fonts(definitions());
}
