//! Fonts, colours and spacing: one look, light and dark.

use std::sync::Arc;

use eframe::egui::{
    self, Color32, Context, CornerRadius, FontData, FontDefinitions, FontFamily, FontId, Margin, Stroke, TextStyle,
    Theme, Visuals,
};

use super::palette;

/// The family of headings and of what must stand out.
pub const STRONG: &str = "strong";

/// Colours that egui's own visuals have no name for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colors {
    /// What can be acted on.
    pub accent: Color32,
    /// The rank: its line, its handle, its number.
    pub rank: Color32,
    /// Fits, done.
    pub good: Color32,
    /// Tight, take care.
    pub warn: Color32,
    /// Does not fit, failed.
    pub bad: Color32,
    /// Secondary text.
    pub weak: Color32,
    /// Hairlines between regions.
    pub line: Color32,
    /// The ground of a card on a panel.
    pub card: Color32,
}

impl Colors {
    /// Those of the theme that `ui` is drawn in.
    pub fn of(ui: &egui::Ui) -> Self {
        if ui.visuals().dark_mode { DARK } else { LIGHT }
    }
}

const DARK: Colors = Colors {
    accent: Color32::from_rgb(0x6a, 0xa8, 0xff),
    rank: palette::rank(true),
    good: Color32::from_rgb(0x5c, 0xc8, 0x96),
    warn: Color32::from_rgb(0xe8, 0xb3, 0x4a),
    bad: Color32::from_rgb(0xf2, 0x75, 0x6d),
    weak: Color32::from_rgb(0x9a, 0xa3, 0xb2),
    line: Color32::from_rgb(0x2c, 0x32, 0x3c),
    card: Color32::from_rgb(0x1d, 0x21, 0x28),
};

const LIGHT: Colors = Colors {
    accent: Color32::from_rgb(0x1c, 0x63, 0xd6),
    rank: palette::rank(false),
    good: Color32::from_rgb(0x1a, 0x7a, 0x4d),
    warn: Color32::from_rgb(0x9a, 0x67, 0x00),
    bad: Color32::from_rgb(0xc0, 0x34, 0x2b),
    weak: Color32::from_rgb(0x5d, 0x66, 0x75),
    line: Color32::from_rgb(0xdf, 0xe3, 0xe8),
    card: Color32::from_rgb(0xff, 0xff, 0xff),
};

/// Gives the context its fonts and both themes.
pub fn install(ctx: &Context) {
    ctx.set_fonts(fonts());
    ctx.set_visuals_of(Theme::Dark, dark());
    ctx.set_visuals_of(Theme::Light, light());
    ctx.all_styles_mut(|style| {
        style.text_styles = [
            (TextStyle::Small, FontId::proportional(11.0)),
            (TextStyle::Body, FontId::proportional(13.0)),
            (TextStyle::Button, FontId::proportional(13.0)),
            (TextStyle::Monospace, FontId::monospace(12.0)),
            (TextStyle::Heading, FontId::new(15.0, FontFamily::Name(STRONG.into()))),
        ]
        .into();
        let spacing = &mut style.spacing;
        spacing.item_spacing = egui::vec2(8.0, 6.0);
        spacing.button_padding = egui::vec2(8.0, 3.0);
        spacing.interact_size = egui::vec2(36.0, 24.0);
        spacing.menu_margin = Margin::same(8);
        spacing.slider_width = 160.0;
        spacing.tooltip_width = 380.0;
        style.interaction.tooltip_delay = 0.35;
        // Motion costs repaints and tells nothing here.
        style.animation_time = 0.0;
    });
}

fn fonts() -> FontDefinitions {
    let mut fonts = FontDefinitions::default();
    for (name, bytes) in [
        ("inter", include_bytes!("../../../assets/fonts/Inter-Regular.otf").as_slice()),
        ("inter-strong", include_bytes!("../../../assets/fonts/Inter-SemiBold.otf").as_slice()),
    ] {
        fonts.font_data.insert(name.into(), Arc::new(FontData::from_static(bytes)));
    }
    let proportional = fonts.families.entry(FontFamily::Proportional).or_default();
    proportional.insert(0, "inter".into());
    // Arrows and modifier letters that the others lack.
    proportional.push("Hack".into());
    let mut strong = proportional.clone();
    strong.insert(0, "inter-strong".into());
    fonts.families.insert(FontFamily::Name(STRONG.into()), strong);
    // Superscripts and Greek that the monospace face lacks.
    fonts.families.entry(FontFamily::Monospace).or_default().push("inter".into());
    fonts
}

fn dark() -> Visuals {
    let mut v = Visuals::dark();
    let c = DARK;
    v.panel_fill = Color32::from_rgb(0x15, 0x18, 0x1d);
    v.window_fill = Color32::from_rgb(0x1d, 0x21, 0x28);
    v.extreme_bg_color = Color32::from_rgb(0x0f, 0x11, 0x15);
    v.faint_bg_color = Color32::from_rgb(0x1a, 0x1d, 0x23);
    v.code_bg_color = Color32::from_rgb(0x23, 0x28, 0x30);
    // A field is seen on a tab, on a bar and in a dialog.
    v.text_edit_bg_color = Some(Color32::from_rgb(0x29, 0x2f, 0x39));
    common(&mut v, c);
    let text = Color32::from_rgb(0xe3, 0xe6, 0xeb);
    widgets(&mut v, c, text, Color32::from_rgb(0x26, 0x2b, 0x34), Color32::from_rgb(0x30, 0x37, 0x42));
    v.selection.bg_fill = Color32::from_rgb(0x25, 0x48, 0x7a);
    v.selection.stroke = Stroke::new(1.0, Color32::from_rgb(0xdc, 0xe9, 0xff));
    v
}

fn light() -> Visuals {
    let mut v = Visuals::light();
    let c = LIGHT;
    v.panel_fill = Color32::from_rgb(0xf7, 0xf8, 0xfa);
    v.window_fill = Color32::WHITE;
    v.extreme_bg_color = Color32::WHITE;
    v.faint_bg_color = Color32::from_rgb(0xf0, 0xf2, 0xf5);
    v.code_bg_color = Color32::from_rgb(0xea, 0xed, 0xf1);
    v.text_edit_bg_color = Some(Color32::from_rgb(0xed, 0xf0, 0xf4));
    common(&mut v, c);
    let text = Color32::from_rgb(0x1c, 0x21, 0x2a);
    widgets(&mut v, c, text, Color32::from_rgb(0xe9, 0xec, 0xf0), Color32::from_rgb(0xdd, 0xe2, 0xe9));
    v.selection.bg_fill = Color32::from_rgb(0xcf, 0xe1, 0xfb);
    v.selection.stroke = Stroke::new(1.0, Color32::from_rgb(0x0d, 0x3f, 0x91));
    v
}

fn common(v: &mut Visuals, c: Colors) {
    v.hyperlink_color = c.accent;
    v.warn_fg_color = c.warn;
    v.error_fg_color = c.bad;
    v.window_stroke = Stroke::new(1.0, c.line);
    v.window_corner_radius = CornerRadius::same(8);
    v.menu_corner_radius = CornerRadius::same(8);
    v.weak_text_color = Some(c.weak);
    v.slider_trailing_fill = true;
    v.striped = false;
}

fn widgets(v: &mut Visuals, c: Colors, text: Color32, rest: Color32, hover: Color32) {
    let w = &mut v.widgets;
    for state in [&mut w.noninteractive, &mut w.inactive, &mut w.hovered, &mut w.active, &mut w.open] {
        state.corner_radius = CornerRadius::same(5);
        state.expansion = 0.0;
        state.fg_stroke = Stroke::new(1.0, text);
        state.bg_stroke = Stroke::NONE;
    }
    w.noninteractive.bg_stroke = Stroke::new(1.0, c.line);
    w.noninteractive.bg_fill = v.panel_fill;
    w.inactive.bg_fill = rest;
    w.inactive.weak_bg_fill = rest;
    w.hovered.bg_fill = hover;
    w.hovered.weak_bg_fill = hover;
    w.hovered.bg_stroke = Stroke::new(1.0, c.line);
    w.active.bg_fill = hover;
    w.active.weak_bg_fill = hover;
    w.active.bg_stroke = Stroke::new(1.0, c.accent);
    w.open.bg_fill = hover;
    w.open.weak_bg_fill = hover;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance, WCAG 2.2.
    fn luminance(c: Color32) -> f64 {
        let linear = |x: u8| {
            let x = f64::from(x) / 255.0;
            if x <= 0.04045 { x / 12.92 } else { ((x + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(c.r()) + 0.7152 * linear(c.g()) + 0.0722 * linear(c.b())
    }

    fn contrast(a: Color32, b: Color32) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn every_text_colour_can_be_read() {
        for (visuals, c) in [(dark(), DARK), (light(), LIGHT)] {
            for color in [c.accent, c.rank, c.good, c.warn, c.bad, c.weak, visuals.text_color()] {
                for ground in [visuals.panel_fill, visuals.window_fill] {
                    assert!(contrast(color, ground) >= 4.5, "{color:?} on {ground:?}: {}", contrast(color, ground));
                }
            }
        }
    }
}
