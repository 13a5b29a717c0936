//! Colour maps: perceptually uniform, safe for colour blindness, as look-up tables.
//!
//! Magnitudes get a published sequential map. Signed values get a diverging map that is computed here in OKLab
//! (Björn Ottosson, 2020): lightness is linear in the distance from zero and the same on both sides, blue for negative, red for
//! positive, hues that stay apart with every common colour blindness. Zero is the colour of the paper: nearly white
//! in the light theme, nearly black in the dark one, so that what differs from zero stands out in both.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::anchors;
use super::color::Color;

/// Entries of a look-up table: odd, so that zero of a diverging map is exactly the middle one.
pub const ENTRIES: usize = 257;

/// A family of colours; [`ColorMap::table`] gives the colours for a theme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ColorMap {
    /// Blue below zero, red above: for signed values.
    #[default]
    Diverging,
    /// Purple to yellow: for magnitudes.
    Viridis,
    /// Blue to yellow: for magnitudes, nearly the same for everybody.
    Cividis,
    /// Black to cream: for magnitudes.
    Magma,
}

impl ColorMap {
    /// Every map, signed first.
    pub const ALL: [Self; 4] = [Self::Diverging, Self::Viridis, Self::Cividis, Self::Magma];

    /// The name a person reads.
    pub fn name(self) -> &'static str {
        match self {
            Self::Diverging => "blue – red",
            Self::Viridis => "viridis",
            Self::Cividis => "cividis",
            Self::Magma => "magma",
        }
    }

    /// True when the middle of the map stands for zero.
    pub fn is_diverging(self) -> bool {
        self == Self::Diverging
    }

    /// The colours. `dark` chooses the variant whose zero recedes into a dark background.
    pub fn table(self, dark: bool) -> &'static Table {
        static LIGHT: LazyLock<Table> = LazyLock::new(|| diverging(0.975, 0.37, [145, 145, 150]));
        static DARK: LazyLock<Table> = LazyLock::new(|| diverging(0.20, 0.88, [110, 110, 115]));
        static VIRIDIS: LazyLock<Table> = LazyLock::new(|| sequential(&anchors::VIRIDIS));
        static CIVIDIS: LazyLock<Table> = LazyLock::new(|| sequential(&anchors::CIVIDIS));
        static MAGMA: LazyLock<Table> = LazyLock::new(|| sequential(&anchors::MAGMA));
        match (self, dark) {
            (Self::Diverging, false) => &LIGHT,
            (Self::Diverging, true) => &DARK,
            (Self::Viridis, _) => &VIRIDIS,
            (Self::Cividis, _) => &CIVIDIS,
            (Self::Magma, _) => &MAGMA,
        }
    }
}

/// [`ENTRIES`] colours from the lowest to the highest value, and one for what is not a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    colors: [Color; ENTRIES],
    nan: Color,
}

impl Table {
    /// The colour at `position` in 0…1; outside of it the nearest end; NaN has its own colour.
    #[inline]
    pub fn at(&self, position: f32) -> Color {
        if position.is_nan() {
            return self.nan;
        }
        // `as` saturates, so the index is in range whatever the position.
        let index = (position * (ENTRIES - 1) as f32 + 0.5) as usize;
        self.colors[index.min(ENTRIES - 1)]
    }

    /// The colour of what is not a number.
    pub fn nan(&self) -> Color {
        self.nan
    }

    /// The colours, lowest value first.
    pub fn colors(&self) -> &[Color; ENTRIES] {
        &self.colors
    }
}

fn sequential(anchors: &[u32]) -> Table {
    let channel = |anchor: u32, shift: u32| f32::from((anchor >> shift) as u8);
    let mut colors = [Color::BLACK; ENTRIES];
    for (i, color) in colors.iter_mut().enumerate() {
        let position = i as f32 / (ENTRIES - 1) as f32 * (anchors.len() - 1) as f32;
        let left = (position as usize).min(anchors.len() - 2);
        let t = position - left as f32;
        let mix = |shift| {
            let (a, b) = (channel(anchors[left], shift), channel(anchors[left + 1], shift));
            (a + (b - a) * t).round() as u8
        };
        *color = Color([mix(16), mix(8), mix(0)]);
    }
    Table { colors, nan: Color([128, 128, 132]) }
}

/// Hues of the two sides in OKLCh, degrees.
const NEGATIVE: f32 = 256.0;
const POSITIVE: f32 = 34.0;
/// Chroma that the sides approach; where sRGB ends earlier, so does the chroma.
const CHROMA: f32 = 0.17;

fn diverging(zero: f32, end: f32, nan: [u8; 3]) -> Table {
    let mut colors = [Color::BLACK; ENTRIES];
    let half = (ENTRIES / 2) as f32;
    for (i, color) in colors.iter_mut().enumerate() {
        let signed = i as f32 / half - 1.0;
        let t = signed.abs();
        let lightness = zero + (end - zero) * t;
        let chroma = CHROMA * (1.0 - (1.0 - t).powf(2.4));
        let hue = if signed < 0.0 { NEGATIVE } else { POSITIVE };
        *color = oklch(lightness, chroma, hue);
    }
    Table { colors, nan: Color(nan) }
}

/// The sRGB colour of an OKLCh triple; chroma is reduced to what sRGB can show, lightness and hue stay.
fn oklch(lightness: f32, chroma: f32, hue: f32) -> Color {
    let (sin, cos) = hue.to_radians().sin_cos();
    let linear = |chroma: f32| oklab_to_linear(lightness, chroma * cos, chroma * sin);
    let fits = |rgb: [f32; 3]| rgb.iter().all(|&x| (-1e-4..=1.0001).contains(&x));
    let (mut inside, mut outside) = (0.0, chroma);
    if fits(linear(chroma)) {
        inside = chroma;
    } else {
        for _ in 0..16 {
            let middle = 0.5 * (inside + outside);
            if fits(linear(middle)) {
                inside = middle;
            } else {
                outside = middle;
            }
        }
    }
    Color(linear(inside).map(|x| (gamma(x.clamp(0.0, 1.0)) * 255.0).round() as u8))
}

fn oklab_to_linear(lightness: f32, a: f32, b: f32) -> [f32; 3] {
    let l = (lightness + 0.396_337_78 * a + 0.215_803_76 * b).powi(3);
    let m = (lightness - 0.105_561_346 * a - 0.063_854_17 * b).powi(3);
    let s = (lightness - 0.089_484_18 * a - 1.291_485_5 * b).powi(3);
    [
        4.076_741_7 * l - 3.307_711_6 * m + 0.230_969_94 * s,
        -1.268_438 * l + 2.609_757_4 * m - 0.341_319_4 * s,
        -0.004_196_086_3 * l - 0.703_418_6 * m + 1.707_614_7 * s,
    ]
}

fn gamma(linear: f32) -> f32 {
    if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(color: Color) -> [f32; 3] {
        color.0.map(|x| {
            let x = f32::from(x) / 255.0;
            if x <= 0.040_45 { x / 12.92 } else { ((x + 0.055) / 1.055).powf(2.4) }
        })
    }

    fn oklab([r, g, b]: [f32; 3]) -> [f32; 3] {
        let l = (0.412_221_46 * r + 0.536_332_55 * g + 0.051_445_995 * b).max(0.0).cbrt();
        let m = (0.211_903_5 * r + 0.680_699_5 * g + 0.107_396_96 * b).max(0.0).cbrt();
        let s = (0.088_302_46 * r + 0.281_718_85 * g + 0.629_978_7 * b).max(0.0).cbrt();
        [
            0.210_454_26 * l + 0.793_617_8 * m - 0.004_072_047 * s,
            1.977_998_5 * l - 2.428_592_2 * m + 0.450_593_7 * s,
            0.025_904_037 * l + 0.782_771_77 * m - 0.808_675_77 * s,
        ]
    }

    fn lightness(color: Color) -> f32 {
        oklab(linear(color))[0]
    }

    fn distance(a: [f32; 3], b: [f32; 3]) -> f32 {
        a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f32>().sqrt()
    }

    #[test]
    fn sequential_maps_get_steadily_lighter() {
        for map in [ColorMap::Viridis, ColorMap::Cividis, ColorMap::Magma] {
            let light: Vec<f32> = map.table(false).colors().iter().map(|&c| lightness(c)).collect();
            // Rounding to 8 bits makes single steps uneven, so every fourth entry is looked at.
            assert!(light.windows(5).all(|w| w[4] > w[0]), "{}", map.name());
            assert!(light[256] - light[0] > 0.5, "{}", map.name());
        }
    }

    #[test]
    fn published_colours_are_kept() {
        // matplotlib 3.11.2: colormaps["viridis"](0), (1.0) and ["cividis"](0).
        assert_eq!(ColorMap::Viridis.table(true).at(0.0), Color([68, 1, 84]));
        assert_eq!(ColorMap::Viridis.table(true).at(1.0), Color([253, 231, 37]));
        assert_eq!(ColorMap::Cividis.table(true).at(0.0), Color([0, 34, 78]));
    }

    #[test]
    fn diverging_is_centred_on_zero_and_even() {
        for dark in [false, true] {
            let table = ColorMap::Diverging.table(dark);
            let zero = table.at(0.5);
            assert!(zero.0[0] == zero.0[1] && zero.0[1] == zero.0[2], "zero is grey: {zero:?}");
            let light: Vec<f32> = table.colors().iter().map(|&c| lightness(c)).collect();
            for i in 0..=128 {
                assert!((light[128 - i] - light[128 + i]).abs() < 0.012, "both sides equally light at {i}");
            }
            let away = |w: &[f32]| if dark { w[4] > w[0] } else { w[4] < w[0] };
            assert!(light[128..].windows(5).all(away), "lightness is monotone");
        }
    }

    #[test]
    fn the_two_sides_stay_apart_for_the_colour_blind() {
        // Machado, Oliveira, Fernandes (2009), severity 1.0, on linear RGB.
        let kinds = [
            [
                [0.152_286, 1.052_583, -0.204_868],
                [0.114_503, 0.786_281, 0.099_216],
                [-0.003_882, -0.048_116, 1.051_998],
            ],
            [[0.367_322, 0.860_646, -0.227_968], [0.280_085, 0.672_501, 0.047_413], [-0.011_820, 0.042_940, 0.968_881]],
            [
                [1.255_528, -0.076_749, -0.178_779],
                [-0.078_411, 0.930_809, 0.147_602],
                [0.004_733, 0.691_367, 0.303_900],
            ],
        ];
        for dark in [false, true] {
            for kind in kinds {
                let see = |color| {
                    let rgb = linear(color);
                    oklab(kind.map(|row| row.iter().zip(rgb).map(|(a, b)| a * b).sum::<f32>()))
                };
                for t in [0.25_f32, 0.5, 0.75, 1.0] {
                    let table = ColorMap::Diverging.table(dark);
                    let apart = distance(see(table.at(0.5 - t / 2.0)), see(table.at(0.5 + t / 2.0)));
                    assert!(apart > 0.05, "{apart} at {t}");
                }
            }
        }
    }

    #[test]
    fn positions_outside_are_ends_and_nan_is_itself() {
        let table = ColorMap::Diverging.table(false);
        assert_eq!(table.at(-3.0), table.at(0.0));
        assert_eq!(table.at(f32::INFINITY), table.at(1.0));
        assert_eq!(table.at(f32::NAN), table.nan());
        assert!(!table.colors().contains(&table.nan()));
    }
}
