//! A matrix as a drawing: its cells as an image inside of the SVG, with axes and a colour bar around it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ColorMap;
use super::color::Color;
use super::svg::{Anchor, Svg};

/// Longer side of the image on the sheet.
const LENGTH: f64 = 480.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 64.0;
/// Colours of the bar that are written; SVG blends between them.
const STOPS: usize = 16;

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Heatmap<'a> {
    /// What it is of.
    pub title: &'a str,
    /// Rows and columns of the matrix; the image may have fewer.
    pub shape: [usize; 2],
    /// The coloured cells, as a PNG file.
    pub png: &'a [u8],
    /// The colours that were used.
    pub map: ColorMap,
    /// What the lowest and the highest colour stand for.
    pub ends: [String; 2],
}

impl Heatmap<'_> {
    /// The SVG document.
    pub fn svg(&self) -> String {
        let [rows, cols] = self.shape;
        let scale = LENGTH / rows.max(cols).max(1) as f64;
        // A very long matrix is still seen.
        let (width, height) = ((cols as f64 * scale).max(24.0), (rows as f64 * scale).max(24.0));
        let bar = LEFT + width + 24.0;
        let mut svg = Svg::new(self.title, [bar + 106.0, TOP + height.max(80.0) + 40.0]);
        let mut text = |x: f64, y: f64, anchor, words: &str| svg.text([x, y], anchor, words, "");
        text(LEFT, 24.0, Anchor::Start, self.title);
        text(LEFT, TOP - 8.0, Anchor::Start, "0");
        text(LEFT + width / 2.0, TOP - 8.0, Anchor::Middle, "in →");
        text(LEFT + width, TOP - 8.0, Anchor::End, &cols.saturating_sub(1).to_string());
        text(LEFT - 8.0, TOP + 10.0, Anchor::End, "0");
        text(LEFT - 8.0, TOP + height / 2.0 + 4.0, Anchor::End, "out ↓");
        text(LEFT - 8.0, TOP + height, Anchor::End, &rows.saturating_sub(1).to_string());
        text(bar + 20.0, TOP + 10.0, Anchor::Start, &self.ends[1]);
        text(bar + 20.0, TOP + height, Anchor::Start, &self.ends[0]);
        svg.raw(format_args!(
            "<image x=\"{LEFT}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height:.1}\" preserveAspectRatio=\"none\" \
             style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{}\"/>\n\
             <defs><linearGradient id=\"bar\" x1=\"0\" y1=\"1\" x2=\"0\" y2=\"0\">",
            STANDARD.encode(self.png)
        ));
        for stop in 0..=STOPS {
            let at = stop as f32 / STOPS as f32;
            let color: Color = self.map.table(false).at(at);
            svg.raw(format_args!("<stop offset=\"{at:.4}\" stop-color=\"{color}\"/>"));
        }
        svg.raw(format_args!(
            "</linearGradient></defs>\n<rect x=\"{bar:.1}\" y=\"{TOP}\" width=\"12\" height=\"{height:.1}\" fill=\"url(#bar)\" \
             stroke=\"#999999\" stroke-width=\"0.5\"/>"
        ));
        svg.finish()
    }
}
