//! Colours as plain numbers, and those of series: Okabe and Ito's (2008), told apart by the colour-blind, made darker or
//! lighter until they stand out from the background.

use std::fmt;

/// An opaque sRGB colour: red, green, blue. Its text is `#rrggbb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Color(pub [u8; 3]);

impl Color {
    /// Black.
    pub const BLACK: Self = Self([0; 3]);
    /// White: the background of what is written to a file.
    pub const WHITE: Self = Self([255; 3]);
    /// Text and axes of what is written to a file.
    pub const INK: Self = Self([0x33; 3]);
    /// Grid lines of what is written to a file.
    pub const GRID: Self = Self([0xdc; 3]);
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([r, g, b]) = self;
        write!(f, "#{r:02x}{g:02x}{b:02x}")
    }
}

const LIGHT: [Color; 7] = [
    Color([0, 104, 170]),
    Color([200, 80, 0]),
    Color([0, 128, 94]),
    Color([172, 78, 136]),
    Color([146, 106, 0]),
    Color([40, 140, 196]),
    Color([90, 90, 94]),
];

const DARK: [Color; 7] = [
    Color([86, 180, 233]),
    Color([240, 128, 60]),
    Color([40, 190, 146]),
    Color([222, 146, 190]),
    Color([230, 170, 30]),
    Color([96, 140, 220]),
    Color([170, 170, 174]),
];

/// The colour of series number `index` on a light or a dark background; after seven they repeat.
pub fn series(index: usize, dark: bool) -> Color {
    let colors = if dark { &DARK } else { &LIGHT };
    colors[index % colors.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colour_is_written_in_hex() {
        assert_eq!(Color([0, 104, 170]).to_string(), "#0068aa");
    }
}
