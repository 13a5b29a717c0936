//! A [`Picture`] as SVG.

use super::picture::Picture;
use super::png;
use super::range::RangeControl;
use super::tiles::Look;
use crate::error::Result;
use crate::figure::heatmap::Heatmap;
use crate::figure::{ColorMap, number};

/// Texels a side at most: a larger matrix is drawn at a coarser level.
const SIDE: usize = 1024;

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
    let png = png::encode(&look.image(&picture.block(level, 0..of.rows, 0..of.cols)))?;
    let [rows, cols] = levels.shape();
    let reduced = if level > 0 {
        format!(", {} of up to {} cells", picture.reduction().name(), area(rows, cols, of.rows, of.cols))
    } else {
        String::new()
    };
    let [low, high] = [range.low, range.high].map(|end| number::short(f64::from(end), 3));
    let ends = match (range.clipped, range.low < 0.0) {
        (true, true) => [format!("≤ {low}"), format!("≥ {high}")],
        (true, false) => [low, format!("≥ {high}")],
        (false, _) => [low, high],
    };
    let title = format!("{title}, {rows} × {cols}{reduced}");
    Ok(Heatmap { title: &title, shape: [rows, cols], png: &png, map, ends }.svg())
}

fn area(rows: usize, cols: usize, high: usize, wide: usize) -> usize {
    rows.div_ceil(high.max(1)) * cols.div_ceil(wide.max(1))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

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
            assert_eq!(image.get_pixel(col, 0).0, [table.at(at).0.as_slice(), &[255]].concat()[..], "column {col}");
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
