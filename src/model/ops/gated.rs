//! What a recurrence gives, through a gate and a norm, in either order: `norm(y) ∘ silu(z)`, `norm(y ∘ silu(z))` or `y ∘ silu(z)`.
//! Both lie in rows; the norm goes over groups of a row.

use super::rows_of;
use super::simd::{reduce, sigmoid, wide};
use rayon::prelude::*;

/// How.
#[derive(Clone, Copy, Debug)]
pub struct Gated<'a> {
    /// Values of a row of y.
    pub width: usize,
    /// Columns of a row that has z, and the first of z.
    pub stride: usize,
    /// First column of z.
    pub first: usize,
    /// Values that are normalized together; 0 without a norm.
    pub group: usize,
    /// Scales: one for each value of a row, or for each of a group.
    pub weight: &'a [f32],
    /// Added to the mean square.
    pub eps: f32,
    /// The norm comes before the gate.
    pub norm_first: bool,
}

impl Gated<'_> {
    fn weight(&self, group: usize) -> &[f32] {
        if self.weight.len() == self.group { self.weight } else { &self.weight[group * self.group..][..self.group] }
    }
}

/// `(silu(z), silu'(z))`.
#[inline(always)]
fn silu(z: f32) -> (f32, f32) {
    let s = sigmoid(z);
    (z * s, s * (1.0 + z * (1.0 - s)))
}

wide! {
    fn row_forward(gated: &Gated, y: &[f32], z: &[f32], out: &mut [f32]) {
        let group = if gated.group == 0 { gated.width } else { gated.group };
        for (number, (y, (z, out))) in
            y.chunks_exact(group).zip(z.chunks_exact(group).zip(out.chunks_exact_mut(group))).enumerate()
        {
            for i in 0..group {
                out[i] = if gated.norm_first { y[i] } else { y[i] * silu(z[i]).0 };
            }
            if gated.group > 0 {
                let scale = 1.0 / (reduce(group, |i| out[i] * out[i]) / group as f32 + gated.eps).sqrt();
                let weight = gated.weight(number);
                for i in 0..group {
                    out[i] *= scale * weight[i];
                }
            }
            if gated.norm_first {
                for i in 0..group {
                    out[i] *= silu(z[i]).0;
                }
            }
        }
    }
}

wide! {
    /// `d` becomes the gradient by y, `dz` gets the one by z; the weight's is added to `dw` where it is not empty.
    fn row_backward(gated: &Gated, y: &[f32], z: &[f32], d: &mut [f32], dz: &mut [f32], dw: &mut [f32]) {
        let group = if gated.group == 0 { gated.width } else { gated.group };
        for number in 0..gated.width / group {
            let all = number * group..(number + 1) * group;
            let (y, z, d, dz) = (&y[all.clone()], &z[all.clone()], &mut d[all.clone()], &mut dz[all.clone()]);
            if gated.group == 0 {
                for i in 0..group {
                    let (value, slope) = silu(z[i]);
                    dz[i] = d[i] * y[i] * slope;
                    d[i] *= value;
                }
                continue;
            }
            let weight = gated.weight(number);
            // What goes into the norm, in dz's place.
            for i in 0..group {
                dz[i] = if gated.norm_first { y[i] } else { y[i] * silu(z[i]).0 };
            }
            let scale = 1.0 / (reduce(group, |i| dz[i] * dz[i]) / group as f32 + gated.eps).sqrt();
            if !dw.is_empty() {
                let dw = if dw.len() == group { &mut *dw } else { &mut dw[all.clone()] };
                for i in 0..group {
                    let after = if gated.norm_first { silu(z[i]).0 } else { 1.0 };
                    dw[i] += d[i] * after * dz[i] * scale;
                }
            }
            let after = |i: usize| if gated.norm_first { silu(z[i]).0 } else { 1.0 };
            let along = reduce(group, |i| d[i] * after(i) * weight[i] * dz[i]) * scale * scale / group as f32;
            for i in 0..group {
                let x = dz[i];
                let by_x = scale * (d[i] * after(i) * weight[i] - x * along);
                let (value, slope) = silu(z[i]);
                if gated.norm_first {
                    dz[i] = d[i] * x * scale * weight[i] * slope;
                    d[i] = by_x;
                } else {
                    dz[i] = by_x * y[i] * slope;
                    d[i] = by_x * value;
                }
            }
        }
    }
}

/// `[rows, width]`; z lies in `rows`.
pub fn forward(gated: Gated, y: &[f32], rows: &[f32], out: &mut [f32]) {
    let (some, width) = (rows_of(gated.width), gated.width);
    let parts = out.par_chunks_mut(some * width).zip(y.par_chunks(some * width));
    parts.zip(rows.par_chunks(some * gated.stride)).for_each(|((out, y), rows)| {
        let rows = rows.chunks_exact(gated.stride);
        for ((out, y), row) in out.chunks_exact_mut(width).zip(y.chunks_exact(width)).zip(rows) {
            row_forward(&gated, y, &row[gated.first..][..width], out);
        }
    });
}

/// `d` becomes the gradient by y, the columns of z in `d_rows` get the one by z.
pub fn backward(gated: Gated, y: &[f32], rows: &[f32], d: &mut [f32], d_rows: &mut [f32], dw: Option<&mut [f32]>) {
    let (stride, width, first) = (gated.stride, gated.width, gated.first);
    let one = |y: &[f32], row: &[f32], d: &mut [f32], d_row: &mut [f32], dw: &mut [f32]| {
        row_backward(&gated, y, &row[first..][..width], d, &mut d_row[first..][..width], dw);
    };
    let inputs = y.chunks_exact(width).zip(rows.chunks_exact(stride));
    match dw {
        // Summed in the order of rows.
        Some(dw) => inputs
            .zip(d.chunks_exact_mut(width).zip(d_rows.chunks_exact_mut(stride)))
            .for_each(|((y, row), (d, d_row))| one(y, row, d, d_row, dw)),
        None => {
            let some = rows_of(width);
            let inputs = y.par_chunks(some * width).zip(rows.par_chunks(some * stride));
            let outputs = d.par_chunks_mut(some * width).zip(d_rows.par_chunks_mut(some * stride));
            inputs.zip(outputs).for_each(|((y, rows), (d, d_rows))| {
                let inputs = y.chunks_exact(width).zip(rows.chunks_exact(stride));
                let outputs = d.chunks_exact_mut(width).zip(d_rows.chunks_exact_mut(stride));
                inputs.zip(outputs).for_each(|((y, row), (d, d_row))| one(y, row, d, d_row, &mut []));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| (((i + seed) * 7919 + i * i * 31) % 1000) as f32 / 500.0 - 1.0).collect()
    }

    #[test]
    fn gradients_are_slopes() {
        let (count, width, stride) = (3, 6, 8);
        for (group, norm_first, scales) in [(3, true, 3), (3, false, 6), (6, false, 6), (2, true, 6), (0, false, 0)] {
            let inputs = [values(count * width, 1), values(count * stride, 2), values(scales, 3)];
            let weights = values(count * width, 4);
            fn gated(weight: &[f32], group: usize, norm_first: bool) -> Gated<'_> {
                Gated { width: 6, stride: 8, first: 2, group, weight, eps: 1e-5, norm_first }
            }
            let loss = |inputs: &[Vec<f32>; 3]| -> f64 {
                let mut out = vec![0.0; count * width];
                forward(gated(&inputs[2], group, norm_first), &inputs[0], &inputs[1], &mut out);
                out.iter().zip(&weights).map(|(x, w)| f64::from(x * w)).sum()
            };
            let (mut d, mut d_rows, mut dw) = (weights.clone(), vec![0.0; count * stride], vec![0.0; scales]);
            backward(gated(&inputs[2], group, norm_first), &inputs[0], &inputs[1], &mut d, &mut d_rows, Some(&mut dw));
            let (mut again, mut rows_again) = (weights.clone(), vec![0.0; count * stride]);
            backward(gated(&inputs[2], group, norm_first), &inputs[0], &inputs[1], &mut again, &mut rows_again, None);
            assert!(again == d && rows_again == d_rows);
            for (which, gradient) in [d, d_rows, dw].iter().enumerate() {
                for (at, gradient) in gradient.iter().enumerate() {
                    let moved = |h: f32| {
                        let mut inputs = inputs.clone();
                        inputs[which][at] += h;
                        loss(&inputs)
                    };
                    let slope = (moved(0.003) - moved(-0.003)) / 0.006;
                    assert!(
                        (slope - f64::from(*gradient)).abs() < 2e-3,
                        "{group} {norm_first} {which} {at}: {slope} against {gradient}"
                    );
                }
            }
        }
    }
}
