//! A [`Picture`] as SVG: its texels as an image inside of the file, with axes and a colour bar around it; no fonts or other
//! files needed, light background.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::colormap::ColorMap;
use super::picture::Picture;
use super::range::RangeControl;
use super::svg::escape;
use super::tiles::Look;
use super::{number, png};
use crate::error::Result;

/// Texels a side at most: a larger matrix is drawn at a coarser level.
const SIDE: usize = 1024;
/// Longer side of the image on the sheet.
const LENGTH: f64 = 480.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 64.0;
/// Colours of the bar that are written; SVG blends between them.
const STOPS: usize = 16;

/// The drawing, of the finest level that is small enough. The range is that of the 99.9th percentile.
///
/// # Errors
/// A sentence, when the image cannot be encoded.
pub fn svg(title: &str, picture: &dyn Picture) -> Result<String> {
    let levels = picture.levels();
    let all = levels.all();
    let level = all.iter().position(|l| l.rows <= SIDE && l.cols <= SIDE).unwrap_or(all.len().saturating_sub(1));
    let of = levels.get(level);
    let stats = picture.stats(level);
    let map = if stats.min < 0.0 { ColorMap::Diverging } else { ColorMap::Viridis };
    let range = RangeControl::default().resolve([&*stats], map.is_diverging());
    let look = Look { map, dark: false, range };
    let texels = picture.block(level, 0..of.rows, 0..of.cols);
    let image = STANDARD.encode(png::encode(&look.image(&texels))?);

    let [rows, cols] = levels.shape();
    let scale = LENGTH / rows.max(cols).max(1) as f64;
    // A very long matrix is still seen.
    let (width, height) = ((cols as f64 * scale).max(24.0), (rows as f64 * scale).max(24.0));
    let (bar, right, bottom) = (LEFT + width + 24.0, LEFT + width + 130.0, TOP + height.max(80.0) + 40.0);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{right:.0}\" height=\"{bottom:.0}\" viewBox=\"0 0 {right:.0} {bottom:.0}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#333333\">"
    );
    let _ = writeln!(out, "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>");
    let mut text = |x: f64, y: f64, anchor: &str, words: &str| {
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(words));
    };
    let reduced = if level > 0 {
        format!(", {} of up to {} cells", picture.reduction().name(), area(rows, cols, of.rows, of.cols))
    } else {
        String::new()
    };
    text(LEFT, 24.0, "start", &format!("{title}, {rows} × {cols}{reduced}"));
    text(LEFT, TOP - 8.0, "start", "0");
    text(LEFT + width / 2.0, TOP - 8.0, "middle", "in →");
    text(LEFT + width, TOP - 8.0, "end", &cols.saturating_sub(1).to_string());
    text(LEFT - 8.0, TOP + 10.0, "end", "0");
    text(LEFT - 8.0, TOP + height / 2.0 + 4.0, "end", "out ↓");
    text(LEFT - 8.0, TOP + height, "end", &rows.saturating_sub(1).to_string());
    let beyond = if range.clipped { ["≥ ", "≤ "] } else { ["", ""] };
    text(bar + 20.0, TOP + 10.0, "start", &format!("{}{}", beyond[0], number::short(f64::from(range.high), 3)));
    let low = if range.low < 0.0 { beyond[1] } else { "" };
    text(bar + 20.0, TOP + height, "start", &format!("{low}{}", number::short(f64::from(range.low), 3)));
    let _ = writeln!(
        out,
        "<image x=\"{LEFT}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height:.1}\" preserveAspectRatio=\"none\" style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{image}\"/>"
    );
    let _ = writeln!(out, "<defs><linearGradient id=\"bar\" x1=\"0\" y1=\"1\" x2=\"0\" y2=\"0\">");
    for stop in 0..=STOPS {
        let at = stop as f32 / STOPS as f32;
        let [r, g, b, _] = map.table(false).at(at).to_array();
        let _ = writeln!(out, "<stop offset=\"{at:.4}\" stop-color=\"#{r:02x}{g:02x}{b:02x}\"/>");
    }
    let _ = writeln!(out, "</linearGradient></defs>");
    let _ = writeln!(
        out,
        "<rect x=\"{bar:.1}\" y=\"{TOP}\" width=\"12\" height=\"{height:.1}\" fill=\"url(#bar)\" stroke=\"#999999\" stroke-width=\"0.5\"/>\n</svg>"
    );
    Ok(out)
}

fn area(rows: usize, cols: usize, high: usize, wide: usize) -> usize {
    rows.div_ceil(high.max(1)) * cols.div_ceil(wide.max(1))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::app::widgets::picture::Reduction;
    use crate::app::widgets::pyramid::Pyramid;
    use crate::matrix::Matrix;

    fn drawn(rows: usize, cols: usize, values: Vec<f32>) -> String {
        let matrix = Arc::new(Matrix::new(rows, cols, values).unwrap());
        svg("a <b>", &Pyramid::build(matrix, Reduction::Mean, &()).unwrap()).unwrap()
    }

    fn image(svg: &str) -> image::RgbaImage {
        let from = svg.find("base64,").unwrap() + 7;
        let to = from + svg[from..].find('"').unwrap();
        image::load_from_memory(&STANDARD.decode(&svg[from..to]).unwrap()).unwrap().to_rgba8()
    }

    #[test]
    fn every_cell_is_a_pixel_of_its_colour() {
        let svg = drawn(2, 3, vec![-1.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        assert!(svg.contains("a &lt;b&gt;, 2 × 3<"), "{svg}");
        let image = image(&svg);
        assert_eq!(image.dimensions(), (3, 2));
        let table = ColorMap::Diverging.table(false);
        for (col, at) in [(0, 0.0), (1, 0.5), (2, 1.0)] {
            assert_eq!(image.get_pixel(col, 0).0, table.at(at).to_array(), "column {col}");
        }
    }

    #[test]
    fn a_large_matrix_is_reduced_and_says_so() {
        let svg = drawn(8, 3000, vec![0.5; 24_000]);
        assert!(svg.contains("mean of up to"), "{}", &svg[..400]);
        let (width, height) = image(&svg).dimensions();
        assert!(width <= 1024 && height <= 8, "{width} × {height}");
    }
}
