//! [`Reader`]: rows of one weight as `f32`, straight from the mapped bytes.

use super::Dtype;
use super::four_bit::FourBit;
use super::packed::Decode;
use super::shard::Shard;
use super::tensor::View;
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::Progress;
use crate::room;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use rayon::prelude::*;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// One weight, ready to be read as a matrix `[out, in]`; made by
/// [`Checkpoint::reader`](super::Checkpoint::reader). Rows can be read in any order and from many threads.
pub struct Reader<'a> {
    pub(super) shard: &'a Shard,
    pub(super) tensor: &'a str,
    pub(super) bytes: &'a [u8],
    pub(super) range: Range<usize>,
    pub(super) values: Values<'a>,
    pub(super) shape: [usize; 2],
    pub(super) transposed: bool,
    pub(super) view: View,
    /// Rows of packed values before these.
    pub(super) before: usize,
}

/// How the bytes stand for values.
pub(super) enum Values<'a> {
    Plain(Dtype),
    FourBit(FourBit),
    /// In several tensors, whose bytes these are.
    Packed(Arc<dyn Decode>, Vec<&'a [u8]>),
}

impl Reader<'_> {
    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The file that holds the weight.
    pub fn path(&self) -> &Path {
        self.shard.path()
    }

    /// The tensor's name in that file.
    pub fn tensor(&self) -> &str {
        self.tensor
    }

    /// Rows `rows` into `out`, row after row, as they are: NaN and Inf included.
    ///
    /// # Errors
    /// When the rows are not there or do not fill `out`.
    pub fn rows(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        let [all, cols] = self.shape;
        if rows.start > rows.end || rows.end > all || out.len() != rows.len() * cols {
            let message = format!("{} values cannot hold the rows {rows:?} of {all} × {cols}", out.len());
            return Err(Error::tensor(self.path(), self.tensor, message));
        }
        match &self.values {
            Values::FourBit(weight) => weight.read(self.bytes, rows.start * cols..rows.end * cols, out),
            Values::Packed(packed, parts) => {
                packed.rows(parts, rows.start + self.before..rows.end + self.before, out);
            }
            Values::Plain(dtype) if self.transposed => self.columns(*dtype, rows, out),
            Values::Plain(dtype) => match self.view {
                View::Heads(_) if all == 1 => {
                    let mut stored = vec![0.0; cols];
                    plain(*dtype, self.bytes, 0..cols, &mut stored);
                    out.iter_mut().enumerate().for_each(|(at, x)| *x = stored[self.view.stored_row(at, cols)]);
                }
                View::Heads(_) => {
                    for (row, out) in rows.zip(out.chunks_exact_mut(cols.max(1))) {
                        let stored = self.view.stored_row(row, all);
                        plain(*dtype, self.bytes, stored * cols..(stored + 1) * cols, out);
                    }
                }
                _ => plain(*dtype, self.bytes, rows.start * cols..rows.end * cols, out),
            },
        }
        if self.view == View::LessOne {
            out.iter_mut().for_each(|x| *x -= 1.0);
        }
        // What was read may be of another file by now.
        self.shard.unchanged()
    }

    /// Rows of a weight that is stored as `[in, out]`: columns of what is stored, in tiles that stay in the cache.
    fn columns(&self, dtype: Dtype, rows: Range<usize>, out: &mut [f32]) {
        const TILE: usize = 32;
        let [all, cols] = self.shape;
        let size = dtype.size();
        let mut tile = vec![0f32; TILE * rows.len()];
        for first in (0..cols).step_by(TILE) {
            let width = TILE.min(cols - first);
            for (stored, part) in (first..first + width).zip(tile.chunks_mut(rows.len().max(1))) {
                let at = stored * all;
                decode(dtype, &self.bytes[(at + rows.start) * size..(at + rows.end) * size], part);
            }
            for row in 0..rows.len() {
                for col in 0..width {
                    out[row * cols + first + col] = tile[col * rows.len() + row];
                }
            }
        }
    }

    /// The whole weight; `progress` hears of every few million values.
    ///
    /// # Errors
    /// NaN and Inf, counted and with the first place; cancellation.
    pub fn matrix(&self, progress: &dyn Progress) -> Result<Matrix> {
        let [rows, cols] = self.shape;
        let mut data = room::zeros(rows * cols).map_err(|error| error.in_tensor(self.path(), self.tensor))?;
        let mut flaws = Flaws::default();
        let step = rows_of(STEP, cols);
        for (index, part) in data.chunks_mut((step * cols).max(1)).enumerate() {
            progress.step((index * step) as u64, rows as u64)?;
            flaws = flaws.and(self.fill(index * step, part)?);
        }
        progress.step(rows as u64, rows as u64)?;
        flaws.check(rows * cols, self.path(), self.tensor)?;
        Matrix::new(rows, cols, data)
    }

    /// The rows from `first` on that fill `out`, by all threads.
    fn fill(&self, first: usize, out: &mut [f32]) -> Result<Flaws> {
        let cols = self.shape[1];
        let some = rows_of(BLOCK, cols);
        let parts = out.par_chunks_mut((some * cols).max(1)).enumerate();
        parts
            .map(|(index, part)| {
                let from = first + index * some;
                self.rows(from..from + part.len() / cols.max(1), part)?;
                Ok(Flaws::of(part, from, cols))
            })
            .try_reduce(Flaws::default, |a, b| Ok(a.and(b)))
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.shard.done_with(self.range.clone());
    }
}

/// Values between two reports of progress.
const STEP: usize = 1 << 22;
/// Values that one thread turns into `f32` at a time.
pub(crate) const BLOCK: usize = 1 << 18;

/// How many rows of `cols` make about `values` values, at least one.
pub(crate) fn rows_of(values: usize, cols: usize) -> usize {
    (values / cols.max(1)).max(1)
}

/// NaN and Inf among values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flaws {
    nan: u64,
    inf: u64,
    /// Row and column of the first.
    first: Option<(usize, usize)>,
}

impl Flaws {
    /// Of rows of `cols` values, the first of them being row `row`.
    pub(crate) fn of(values: &[f32], row: usize, cols: usize) -> Self {
        const EXPONENT: u32 = 0x7f80_0000;
        // Without a branch: this runs over every weight that is read.
        if values.iter().fold(false, |any, x| any | (x.to_bits() & EXPONENT == EXPONENT)) {
            let nan = values.iter().filter(|x| x.is_nan()).count() as u64;
            let inf = values.iter().filter(|x| x.is_infinite()).count() as u64;
            let first = values.iter().position(|x| !x.is_finite()).map(|at| (row + at / cols.max(1), at % cols.max(1)));
            Self { nan, inf, first }
        } else {
            Self::default()
        }
    }

    /// Both.
    pub(crate) fn and(self, other: Self) -> Self {
        let first = match (self.first, other.first) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { nan: self.nan + other.nan, inf: self.inf + other.inf, first }
    }

    /// An error if there are any, among `count` values of `tensor`.
    pub(crate) fn check(self, count: usize, path: &Path, tensor: &str) -> Result<()> {
        let Some((row, col)) = self.first else { return Ok(()) };
        let found = match (self.nan, self.inf) {
            (nan, 0) => format!("{nan} NaN"),
            (0, inf) => format!("{inf} Inf"),
            (nan, inf) => format!("{nan} NaN and {inf} Inf"),
        };
        Err(Error::tensor(
            path,
            tensor,
            format!("found {found} among {count} values, first at row {row}, column {col}"),
        ))
    }
}

/// Values `range` of a tensor as `f32`.
fn plain(dtype: Dtype, bytes: &[u8], range: Range<usize>, out: &mut [f32]) {
    match dtype {
        Dtype::Block(block) => block.decode(bytes, range.start, out),
        _ => decode(dtype, &bytes[range.start * dtype.size()..range.end * dtype.size()], out),
    }
}

/// Values of a readable type as `f32`; `bytes` need not be aligned. Values of an F64 that are too large become Inf.
pub(super) fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::F64 => each(bytes, out, |b: [u8; 8]| f64::from_le_bytes(b) as f32),
        Dtype::F32 => each(bytes, out, f32::from_le_bytes),
        Dtype::BF16 => each(bytes, out, |b: [u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
        Dtype::F16 => {
            // In pieces through an aligned buffer: the conversion of whole slices uses the processor's own instruction.
            let mut bits = [0u16; 1024];
            for (bytes, out) in bytes.chunks(2 * bits.len()).zip(out.chunks_mut(bits.len())) {
                let bits = &mut bits[..out.len()];
                for (to, &from) in bits.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *to = u16::from_le_bytes(from);
                }
                bits.reinterpret_cast::<half::f16>().convert_to_f32_slice(out);
            }
        }
        Dtype::F8E5M2 => each(bytes, out, |[b]: [u8; 1]| half::f16::from_bits(u16::from(b) << 8).to_f32()),
        Dtype::F8E4M3 => each(bytes, out, |[b]: [u8; 1]| e4m3(b)),
        // Not readable: whoever makes a reader has refused it before.
        _ => out.fill(f32::NAN),
    }
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (to, &from) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *to = value(from);
    }
}

/// One sign bit, four of exponent (bias 7), three of mantissa; no Inf, one NaN.
fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let magnitude = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa / 8.0 * 2f32.powi(-6),
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    };
    if byte & 0x80 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
        let mut out = vec![0.0; bytes.len() / dtype.size()];
        decode(dtype, bytes, &mut out);
        out
    }

    #[test]
    fn every_readable_type() {
        // One byte too many in front: nothing is aligned.
        let unaligned = |bytes: &[u8]| [&[0], bytes].concat();
        assert_eq!(decoded(Dtype::F64, &unaligned(&1.5f64.to_le_bytes())[1..]), [1.5]);
        assert_eq!(decoded(Dtype::F32, &unaligned(&(-2.25f32).to_le_bytes())[1..]), [-2.25]);
        assert_eq!(decoded(Dtype::BF16, &unaligned(&[0xc0, 0x3f])[1..]), [1.5]);
        assert_eq!(decoded(Dtype::F16, &unaligned(&[0x00, 0x3e])[1..]), [1.5]);
        let many: Vec<u8> = (0..3000u16).flat_map(|i| half::f16::from_f32(f32::from(i)).to_le_bytes()).collect();
        assert!(decoded(Dtype::F16, &many).iter().take(2049).enumerate().all(|(i, &x)| x == i as f32));
        // torch 2.15: torch.tensor([...]).to(torch.float8_e4m3fn).view(torch.uint8)
        assert_eq!(decoded(Dtype::F8E4M3, &[0x38, 0x7e, 0x01, 0xb8]), [1.0, 448.0, 0.001953125, -1.0]);
        assert!(decoded(Dtype::F8E4M3, &[0x7f])[0].is_nan());
        assert_eq!(decoded(Dtype::F8E5M2, &[0x3c, 0x7b, 0xbe]), [1.0, 57344.0, -1.5]);
    }

    #[test]
    fn flaws_are_counted_from_the_first_row() {
        let mut values = [1f32; 12];
        values[7] = f32::INFINITY;
        values[9] = f32::NAN;
        let flaws = Flaws::of(&values, 5, 4).and(Flaws::of(&[0.0; 4], 1, 4));
        assert_eq!(flaws, Flaws { nan: 1, inf: 1, first: Some((6, 3)) });
        let error = flaws.check(12, Path::new("a"), "w").unwrap_err().to_string();
        assert_eq!(error, "a: w: found 1 NaN and 1 Inf among 12 values, first at row 6, column 3");
    }
}
