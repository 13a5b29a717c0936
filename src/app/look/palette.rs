//! Colours of plots for egui: those of series, and of the rank.

use eframe::egui::Color32;

use crate::figure::{self, Color};

impl From<Color> for Color32 {
    fn from(Color([r, g, b]): Color) -> Self {
        Self::from_rgb(r, g, b)
    }
}

/// The colour of series number `index`; after seven they repeat.
pub fn series(index: usize, dark: bool) -> Color32 {
    figure::series_color(index, dark).into()
}

/// The colour of a part of the memory, numbered as in [`Memory::parts`](crate::plan::Memory::parts), wherever memory is drawn. Nine
/// parts, seven colours: the two small ones at the end are shades.
pub fn memory(part: usize, dark: bool) -> Color32 {
    series(part, dark).gamma_multiply(if part >= 7 { 0.55 } else { 1.0 })
}

/// The colour of the rank, wherever it is drawn: it belongs to no series, and is one hue in both themes.
pub const fn rank(dark: bool) -> Color32 {
    if dark { Color32::from_rgb(255, 112, 172) } else { Color32::from_rgb(176, 24, 88) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// W3C contrast ratio.
    fn contrast(a: Color32, b: Color32) -> f32 {
        let luminance = |c: Color32| {
            let linear = |x: u8| {
                let x = f32::from(x) / 255.0;
                if x <= 0.040_45 { x / 12.92 } else { ((x + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * linear(c.r()) + 0.7152 * linear(c.g()) + 0.0722 * linear(c.b())
        };
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        if a > b { a / b } else { b / a }
    }

    #[test]
    fn every_series_stands_out_from_its_background() {
        for i in 0..7 {
            assert!(contrast(series(i, false), Color32::from_gray(248)) >= 3.0, "light {i}");
            assert!(contrast(series(i, true), Color32::from_gray(27)) >= 4.5, "dark {i}");
        }
        assert!(contrast(rank(false), Color32::from_gray(248)) >= 4.5);
        assert!(contrast(rank(true), Color32::from_gray(27)) >= 4.5);
    }
}
