//! Tiles: the parts in which a picture is coloured and uploaded. Colouring is pure and belongs in a job.

use std::ops::Range;
use std::sync::Arc;

use eframe::egui::{Color32, ColorImage, Id};
use rayon::prelude::*;

use super::levels::Levels;
use super::picture::Picture;
use super::range::{RangeControl, Scale, ValueRange};
use crate::error::Result;
use crate::figure::{ColorMap, ENTRIES, Table};
use crate::matrix::Matrix;
use crate::progress::{Part, Progress};

/// Texels along a side of a tile; fewer at the far edges of a level. Small, because a tile that is half seen is made as a whole.
pub const SIDE: usize = 256;

/// A tile's place: level, then row and column of tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileId {
    /// Level of the pyramid, 0 the finest.
    pub level: usize,
    /// Row of tiles.
    pub row: usize,
    /// Column of tiles.
    pub col: usize,
}

/// A rectangle in cells of the matrix, fractions allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area {
    /// First and last row.
    pub rows: [f64; 2],
    /// First and last column.
    pub cols: [f64; 2],
}

impl TileId {
    /// The texels of its level that it holds: rows, columns.
    pub fn texels(self, levels: &Levels) -> [Range<usize>; 2] {
        let level = levels.get(self.level);
        let range = |i: usize, end: usize| (i * SIDE).min(end)..((i + 1) * SIDE).min(end);
        [range(self.row, level.rows), range(self.col, level.cols)]
    }

    /// The cells that its texels, laid out evenly, span. At the far edges this may reach beyond the matrix, by less than one texel.
    pub fn area(self, levels: &Levels) -> Area {
        let [height, width] = levels.get(self.level).cells();
        let [rows, cols] = self.texels(levels);
        let span = |r: Range<usize>, size: usize| [(r.start * size) as f64, (r.end * size) as f64];
        Area { rows: span(rows, height), cols: span(cols, width) }
    }
}

impl Area {
    /// All cells of a matrix.
    pub fn whole(shape: [usize; 2]) -> Self {
        Self { rows: [0.0, shape[0] as f64], cols: [0.0, shape[1] as f64] }
    }

    /// True when the two have some inside in common.
    pub fn meets(&self, other: &Self) -> bool {
        let overlap = |a: [f64; 2], b: [f64; 2]| a[0] < b[1] && b[0] < a[1];
        overlap(self.rows, other.rows) && overlap(self.cols, other.cols)
    }
}

/// The tiles of a level that an area touches, those nearest to its middle first.
pub fn visible(levels: &Levels, level: usize, area: &Area) -> Vec<TileId> {
    let of = levels.get(level);
    let [height, width] = of.cells();
    let span = |[low, high]: [f64; 2], cells: usize, texels: usize| {
        let tile = (cells * SIDE) as f64;
        let end = texels.div_ceil(SIDE);
        let first = (low / tile).floor().max(0.0) as usize;
        let last = (high / tile).ceil().max(0.0) as usize;
        first.min(end)..last.min(end)
    };
    let (rows, cols) = (span(area.rows, height, of.rows), span(area.cols, width, of.cols));
    let mut tiles: Vec<_> =
        rows.clone().flat_map(|row| cols.clone().map(move |col| TileId { level, row, col })).collect();
    let middle = |r: &Range<usize>| (r.start + r.end).saturating_sub(1);
    let (y, x) = (middle(&rows), middle(&cols));
    tiles.sort_by_key(|t| (2 * t.row).abs_diff(y) + (2 * t.col).abs_diff(x));
    tiles
}

/// How values become colours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Family of colours.
    pub map: ColorMap,
    /// The variant for the dark theme.
    pub dark: bool,
    /// Values at the two ends.
    pub range: ValueRange,
}

impl Look {
    /// The colour of one value, exactly.
    pub fn color(&self, value: f32) -> Color32 {
        let table = self.map.table(self.dark);
        let color = if value.is_nan() { table.nan() } else { table.at(self.range.position(f64::from(value)) as f32) };
        color.into()
    }

    /// The colours of all values of a matrix, one pixel each, in parallel. The symmetric log scale uses an approximate logarithm: a
    /// colour may be one entry of the table off.
    pub fn image(&self, matrix: &Matrix) -> ColorImage {
        let table = self.map.table(self.dark);
        let mut pixels = vec![Color32::TRANSPARENT; matrix.data().len()];
        let (low, high) = (self.range.low, self.range.high);
        match self.range.scale {
            Scale::Linear => {
                let scale = 1.0 / (high - low);
                paint(matrix.data(), &mut pixels, table, |x| (x - low) * scale);
            }
            Scale::SymmetricLog => {
                let inverse = (1.0 / self.range.threshold()) as f32;
                let spread = |x: f32| log2(1.0 + x.abs() * inverse).copysign(x);
                let (first, last) = (spread(low), spread(high));
                let scale = 1.0 / (last - first);
                paint(matrix.data(), &mut pixels, table, |x| (spread(x) - first) * scale);
            }
        }
        ColorImage::new([matrix.cols(), matrix.rows()], pixels)
    }
}

fn paint(values: &[f32], pixels: &mut [Color32], table: &Table, position: impl Fn(f32) -> f32 + Sync) {
    const CHUNK: usize = 1 << 14;
    const NAN: u32 = ENTRIES as u32;
    // A power of two of entries, so that a masked index needs no check; the one behind the last is for NaN.
    let mut colors = [Color32::from(table.nan()); 512];
    for (color, &of) in colors.iter_mut().zip(table.colors()) {
        *color = of.into();
    }
    let last = (ENTRIES - 1) as f32;
    values.par_chunks(CHUNK).zip(pixels.par_chunks_mut(CHUNK)).for_each(|(values, pixels)| {
        let mut entries = [0_u32; 64];
        for (values, pixels) in values.chunks(64).zip(pixels.chunks_mut(64)) {
            // Two loops: the first is compiled to vectors, the second looks up.
            for (entry, &x) in entries.iter_mut().zip(values) {
                // Adding 2²³ rounds, and leaves the whole number in the lowest bits.
                let at = (position(x) * last).clamp(0.0, last) + 8_388_608.0;
                *entry = if x.is_nan() { NAN } else { at.to_bits() };
            }
            for (pixel, &entry) in pixels.iter_mut().zip(&entries) {
                *pixel = colors[(entry & 511) as usize];
            }
        }
    });
}

/// log₂ of a number ≥ 1, within 0.01.
#[inline]
fn log2(x: f32) -> f32 {
    let bits = x.to_bits();
    let exponent = (bits >> 23) as f32 - 127.0;
    let mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f80_0000);
    exponent + (-0.344_848_43 * mantissa + 2.024_665_8) * mantissa - 1.674_877_6
}

/// Which picture, and which state of it and of its colours, a tile shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The heatmap it is for.
    pub map: Id,
    /// What the picture is of: tiles of another subject are never newer.
    pub subject: u64,
    /// Counts changes of values and colours.
    pub version: u64,
}

/// How a [`TileJob`] finds its colours.
#[derive(Clone)]
pub(super) enum Coloring {
    /// With this look.
    Fixed(Look),
    /// With a range from the statistics of a level of a picture (this one, or the one that shares its range), computed first.
    OfLevel { map: ColorMap, dark: bool, control: RangeControl, leader: Arc<dyn Picture>, level: usize },
}

/// The colouring of some tiles of one heatmap, ready to be run in a job.
#[derive(Clone)]
pub struct TileJob {
    pub(super) stamp: Stamp,
    pub(super) tiles: Vec<TileId>,
    pub(super) picture: Arc<dyn Picture>,
    pub(super) coloring: Coloring,
}

/// A coloured tile, ready to be uploaded.
pub struct Tile {
    /// Which tile.
    pub id: TileId,
    /// For which heatmap and which state of it.
    pub stamp: Stamp,
    /// Its pixels.
    pub image: ColorImage,
}

/// What became of a [`TileJob`].
pub struct TileBatch {
    pub(super) stamp: Stamp,
    pub(super) look: Look,
    pub(super) tiles: Vec<Tile>,
}

impl TileJob {
    /// How many tiles it makes.
    pub fn tiles(&self) -> usize {
        self.tiles.len()
    }

    /// Reads (or computes) the texels and colours them, one step of progress per tile.
    ///
    /// # Errors
    /// `Cancelled`, when `progress` says so.
    pub fn run(&self, progress: &dyn Progress) -> Result<TileBatch> {
        let (total, stamp) = (self.tiles.len() as u64, self.stamp);
        progress.step(0, total)?;
        let look = match &self.coloring {
            Coloring::Fixed(look) => *look,
            Coloring::OfLevel { map, dark, control, leader, level } => {
                let range = control.resolve([&*leader.stats(*level)], map.is_diverging());
                Look { map: *map, dark: *dark, range }
            }
        };
        let mut tiles = Vec::with_capacity(self.tiles.len());
        for (i, &id) in self.tiles.iter().enumerate() {
            let [rows, cols] = id.texels(self.picture.levels());
            tiles.push(Tile { id, stamp, image: look.image(&self.picture.block(id.level, rows, cols)) });
            progress.step(i as u64 + 1, total)?;
        }
        Ok(TileBatch { stamp, look, tiles })
    }
}

/// Runs all jobs, one after the other (each uses all processors).
///
/// # Errors
/// `Cancelled`, when `progress` says so.
pub fn run(jobs: &[TileJob], progress: &dyn Progress) -> Result<Vec<TileBatch>> {
    let part = |(i, job): (usize, &TileJob)| job.run(&Part::new(progress, i as u64, jobs.len() as u64));
    jobs.iter().enumerate().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_visible_texel_is_covered_once() {
        for shape in [[4096, 4096], [1000, 3000], [4096, 16], [257, 256], [1, 1]] {
            let levels = Levels::of(shape);
            for level in 0..levels.all().len() {
                let of = levels.get(level);
                let mut covered = vec![0_u8; of.rows * of.cols];
                for tile in visible(&levels, level, &Area::whole(shape)) {
                    let [rows, cols] = tile.texels(&levels);
                    assert!(rows.len().max(cols.len()) <= SIDE && !rows.is_empty() && !cols.is_empty());
                    for row in rows {
                        for col in cols.clone() {
                            covered[row * of.cols + col] += 1;
                        }
                    }
                }
                assert!(covered.iter().all(|&n| n == 1), "{shape:?} level {level}");
            }
        }
    }

    #[test]
    fn every_pixel_of_a_view_lies_in_one_visible_tile() {
        let levels = Levels::of([5000, 3000]);
        let area = Area { rows: [511.7, 3201.2], cols: [-40.0, 1024.0] };
        for level in 0..4 {
            let tiles = visible(&levels, level, &area);
            for i in 0..97 {
                let at = |[low, high]: [f64; 2]| low + (high - low) * (f64::from(i) + 0.5) / 97.0;
                let (row, col) = (at(area.rows), at(area.cols));
                let inside = |t: &&TileId| {
                    let a = t.area(&levels);
                    (a.rows[0]..a.rows[1]).contains(&row) && (a.cols[0]..a.cols[1]).contains(&col)
                };
                assert_eq!(
                    tiles.iter().filter(inside).count(),
                    usize::from(col >= 0.0),
                    "level {level}, ({row}, {col})"
                );
            }
        }
        assert!(visible(&levels, 0, &Area { rows: [9000.0, 9100.0], cols: [0.0, 10.0] }).is_empty());
    }

    #[test]
    fn the_middle_comes_first() {
        let levels = Levels::of([4096, 4096]);
        let tiles = visible(&levels, 0, &Area { rows: [0.0, 768.0], cols: [0.0, 768.0] });
        assert_eq!(tiles.len(), 9);
        assert_eq!(tiles[0], TileId { level: 0, row: 1, col: 1 });
    }

    #[test]
    fn the_fast_colours_are_the_exact_ones() {
        let values: Vec<f32> = (-500..=500).map(|i| (i as f32 / 100.0).powi(3) / 100.0).collect();
        for scale in [Scale::Linear, Scale::SymmetricLog] {
            for (low, map) in [(-1.0, ColorMap::Diverging), (0.0, ColorMap::Viridis)] {
                let look = Look { map, dark: true, range: ValueRange { low, high: 1.0, scale, clipped: true } };
                let image = look.image(&Matrix::new(1, values.len(), values.clone()).unwrap());
                let entry =
                    |c: Color32| map.table(true).colors().iter().position(|&x| Color32::from(x) == c).unwrap() as i32;
                for (&x, &pixel) in values.iter().zip(&image.pixels) {
                    assert!((entry(pixel) - entry(look.color(x))).abs() <= 1, "{scale:?} {map:?} {x}");
                }
            }
        }
    }

    #[test]
    fn zero_is_the_middle_and_nan_is_marked() {
        for scale in [Scale::Linear, Scale::SymmetricLog] {
            let range = ValueRange { low: -3.0, high: 3.0, scale, clipped: false };
            let look = Look { map: ColorMap::Diverging, dark: false, range };
            let image = look.image(&Matrix::new(1, 4, vec![0.0, f32::NAN, 9.0, f32::NEG_INFINITY]).unwrap());
            let table = ColorMap::Diverging.table(false);
            assert_eq!(image.pixels, [table.at(0.5), table.nan(), table.at(1.0), table.at(0.0)].map(Color32::from));
        }
    }
}
