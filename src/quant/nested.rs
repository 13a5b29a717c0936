//! [`Nested`]: the block maxima of a weight in 8 bits, the second half of double quantization.
//!
//! `absmax[b] = map[code b] · scale[b / 256] + offset`, where `offset` is the mean of all maxima.

use std::sync::LazyLock;

/// Block maxima in 8 bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Nested {
    /// One code a block of the weight.
    pub codes: Vec<u8>,
    /// One scale for every [`Nested::BLOCK`] codes.
    pub absmax: Vec<f32>,
    /// Mean of the maxima.
    pub offset: f32,
}

impl Nested {
    /// Codes that share a scale.
    pub const BLOCK: usize = 256;

    /// Quantizes the maxima of a weight's blocks.
    pub fn new(absmax: &[f32]) -> Self {
        let offset = sum(absmax) / absmax.len().max(1) as f32;
        let mut codes = Vec::with_capacity(absmax.len());
        let mut scales = Vec::with_capacity(absmax.len().div_ceil(Self::BLOCK));
        for block in absmax.chunks(Self::BLOCK) {
            let scale = block.iter().fold(0f32, |max, &x| max.max((x - offset).abs()));
            let inverse = 1.0 / scale.max(1e-38);
            scales.push(scale);
            codes.extend(block.iter().map(|&x| {
                let value = if block.len() == Self::BLOCK { (x - offset) * inverse } else { (x - offset) / scale };
                NEAREST[position(value)]
            }));
        }
        Self { codes, absmax: scales, offset }
    }

    /// The maximum of block `block`.
    #[inline]
    pub fn get(&self, block: usize) -> f32 {
        MAP[usize::from(self.codes[block])] * self.absmax[block / Self::BLOCK] + self.offset
    }

    /// bitsandbytes' signed dynamic map: what the 256 codes stand for, rising.
    pub fn map() -> &'static [f32; 256] {
        &MAP
    }
}

/// `torch.linspace(0.1, 1, 2^i + 1)`, the means of neighbours times `10^(i - 6)` for i in 0…6, their negatives, 0 and 1.
static MAP: LazyLock<[f32; 256]> = LazyLock::new(|| {
    let mut map = Vec::with_capacity(256);
    for i in 0..7 {
        let items = 1usize << i;
        let step = (1f32 - 0.1) / items as f32;
        // torch rounds once: a fused multiplication and addition.
        let boundary = |at: usize| {
            if at < items.div_ceil(2) {
                step.mul_add(at as f32, 0.1)
            } else {
                (-step).mul_add((items - at) as f32, 1.0)
            }
        };
        let power = 10f64.powi(i - 6) as f32;
        for at in 0..items {
            let mean = (boundary(at) + boundary(at + 1)) / 2.0;
            map.extend([power * mean, -power * mean]);
        }
    }
    map.extend([0.0, 1.0]);
    map.sort_by(f32::total_cmp);
    std::array::from_fn(|at| map[at])
});

/// Steps of the table through which bitsandbytes' 8-bit quantizer on the processor goes.
const STEPS: usize = 65536;

/// Where a value in −1…1 stands in that table.
fn position(value: f32) -> usize {
    (((value + 1.0) * 0.5 * (STEPS - 1) as f32 + 0.5).floor().max(0.0) as usize).min(STEPS - 1)
}

/// The nearest code of every step.
static NEAREST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut code = 0;
    let step = |at: usize| {
        let value = at as f32 / (STEPS - 1) as f32 * 2.0 - 1.0;
        while code < 255 && (MAP[code + 1] - value).abs() < (MAP[code] - value).abs() {
            code += 1;
        }
        code as u8
    };
    (0..STEPS).map(step).collect()
});

/// The sum in the order of torch's one-thread cascade over lanes of 8: the mean is then the same to the bit.
fn sum(values: &[f32]) -> f32 {
    const LANES: usize = 8;
    const ROWS: usize = 4;
    const LEVELS: usize = 4;
    type Lane = [f32; LANES];
    fn add(to: &mut Lane, from: &Lane) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
    }
    let (lanes, rest) = values.as_chunks::<LANES>();
    let (rows, rest_of_rows) = lanes.as_chunks::<ROWS>();
    let log2 = rows.len().max(1).next_power_of_two().trailing_zeros() as usize;
    let power = (log2 / LEVELS).max(4);
    let step = 1usize << power;
    let mut sums = [[[0f32; LANES]; ROWS]; LEVELS];
    let mut at = 0;
    while at + step <= rows.len() {
        for row in &rows[at..at + step] {
            for (to, from) in sums[0].iter_mut().zip(row) {
                add(to, from);
            }
        }
        at += step;
        for level in 1..LEVELS {
            let below = std::mem::take(&mut sums[level - 1]);
            for (to, from) in sums[level].iter_mut().zip(&below) {
                add(to, from);
            }
            if at & ((step - 1) << (level * power)) != 0 {
                break;
            }
        }
    }
    for row in &rows[at..] {
        for (to, from) in sums[0].iter_mut().zip(row) {
            add(to, from);
        }
    }
    let [mut total, others @ ..] = sums;
    for level in &others {
        for (to, from) in total.iter_mut().zip(level) {
            add(to, from);
        }
    }
    let [mut first, others @ ..] = total;
    for lane in rest_of_rows {
        add(&mut first, lane);
    }
    for lane in &others {
        add(&mut first, lane);
    }
    let tail = rest.iter().fold(0f32, |sum, x| sum + x);
    first.iter().fold(tail, |sum, x| sum + x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_codes_of_the_map_are_themselves_where_the_table_is_fine_enough() {
        for (code, &value) in MAP.iter().enumerate().filter(|(_, value)| value.abs() > 1e-3) {
            assert_eq!(usize::from(NEAREST[position(value)]), code);
        }
        assert_eq!(position(-1.0), 0);
        assert_eq!(position(1.0), STEPS - 1);
    }

    #[test]
    fn the_sum_is_a_sum() {
        for count in [0, 1, 15, 16, 63, 64, 1000, 5000, 70_001] {
            let values: Vec<f32> = (0..count).map(|i| ((i * 7919) % 1000) as f32 / 1000.0).collect();
            let exact: f64 = values.iter().map(|&x| f64::from(x)).sum();
            assert!((f64::from(sum(&values)) - exact).abs() <= 1e-6 * exact.max(1.0), "{count}");
        }
    }
}
