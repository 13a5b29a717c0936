//! From a symmetric band to three diagonals: what one reflection pushes out of the band is chased down and out at its end.
//!
//! Sweep `j` clears column `j` below the first subdiagonal. Its reflection, applied from both sides, fills a triangle under the
//! band one block further down; only the first column of that needs to go, as the next sweep comes one column later. So a
//! sweep is a chain of small steps, each on one diagonal block and the block under it:
//!
//! ```text
//!   D ← H D H        columns p..p+b, on and below the diagonal
//!   O ← O H          the block under it
//!   O ← H' O         H' clears the first column of O, and is the H of the next step
//! ```

use std::collections::VecDeque;

use faer::MatRef;
use faer::traits::pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::lanes::{axpy, dot, reflect};
use crate::error::Result;
use crate::progress::Progress;

/// The lower half of a symmetric band matrix, column by column, with as much room again for what is chased.
pub struct Band {
    n: usize,
    width: usize,
    /// Column `c` starts at `c · stride` with its diagonal element.
    data: Vec<f64>,
}

/// Diagonal and subdiagonal.
pub struct Tridiagonal {
    pub diagonal: Vec<f64>,
    pub off: Vec<f64>,
}

impl Band {
    /// All zeros.
    pub fn new(n: usize, width: usize) -> Self {
        Self { n, width, data: vec![0.0; n * 2 * width] }
    }

    fn stride(&self) -> usize {
        2 * self.width
    }

    /// Takes what of a block at `(row, col)` lies on and below the diagonal and within the band.
    pub fn put(&mut self, block: MatRef<'_, f64>, row: usize, col: usize) {
        for j in 0..block.ncols() {
            for i in 0..block.nrows() {
                let (r, c) = (row + i, col + j);
                if r >= c && r - c <= self.width {
                    self.set(r, c, block[(i, j)]);
                }
            }
        }
    }

    /// Sets the element at `(row, col)`, on or below the diagonal and within the band.
    pub fn set(&mut self, row: usize, col: usize, value: f64) {
        debug_assert!(row >= col && row - col <= self.width);
        let stride = self.stride();
        self.data[col * stride + row - col] = value;
    }

    /// Three diagonals with the same eigenvalues, to the same bits on any number of threads.
    pub fn tridiagonal(mut self, progress: &dyn Progress) -> Result<Tridiagonal> {
        let (n, stride) = (self.n, self.stride());
        if self.width > 1 && n > 2 {
            self.sweep_all(progress)?;
        }
        let diagonal = (0..n).map(|c| self.data[c * stride]).collect();
        let off = (0..n.saturating_sub(1)).map(|c| self.data[c * stride + 1]).collect();
        Ok(Tridiagonal { diagonal, off })
    }

    /// All sweeps, in groups that follow each other down the band: at any moment each group that has begun works on a stretch
    /// of columns of its own, [`LAG`] stretches above the group before it.
    fn sweep_all(&mut self, progress: &dyn Progress) -> Result<()> {
        let (n, width, stride) = (self.n, self.width, self.stride());
        let arch = Arch::new();
        let sweeps = n - 2;
        let groups = sweeps.div_ceil(GROUP);
        let mut begun: VecDeque<Group> = VecDeque::new();
        let (mut next, mut wait) = (0, 0);
        while next < groups || !begun.is_empty() {
            if wait == 0 && next < groups {
                let first = next * GROUP;
                progress.step(((sweeps.pow(2) - (sweeps - first).pow(2)) >> 4) as u64, (sweeps.pow(2) >> 4) as u64)?;
                begun.push_back(Group::new(first, GROUP.min(sweeps - first), width));
                (next, wait) = (next + 1, LAG);
            }
            // From the newest group, which is highest, to the oldest.
            let mut columns = Columns { from: 0, data: &mut self.data };
            let mut parts = Vec::with_capacity(begun.len());
            for group in begun.iter_mut().rev() {
                let (own, below) = columns.split(group.end(n), stride);
                columns = below;
                parts.push((group, own));
            }
            parts.into_par_iter().for_each(|(group, columns)| {
                arch.dispatch(Stretch { group, columns, n, width, stride });
            });
            while begun.front().is_some_and(|group| group.states.iter().all(|state| state.done)) {
                begun.pop_front();
            }
            // With no group before it the next one need not wait.
            wait = if begun.is_empty() { 0 } else { wait.saturating_sub(1) };
        }
        Ok(())
    }
}

/// Sweeps that go down the band together.
const GROUP: usize = 4;
/// Steps of each of them at a time. Sweep `i` of a group stays `2 i` steps behind its first one, since a step may be done when
/// the sweep before has done the next one too.
const STEPS: usize = 2 * GROUP;
/// Stretches between a group and the next. In stretch `t` the last sweep of a group begins with step `STEPS t - 2 (GROUP - 1)`;
/// the next group is then in stretch `t - LAG` and ends with step `STEPS (t - 1) - 1`, all of whose columns come before.
const LAG: usize = 2;

/// Columns `from..` of the band.
struct Columns<'a> {
    from: usize,
    data: &'a mut [f64],
}

impl<'a> Columns<'a> {
    /// Those before column `end`, and the rest.
    fn split(self, end: usize, stride: usize) -> (Self, Self) {
        let at = ((end - self.from) * stride).min(self.data.len());
        let (own, below) = self.data.split_at_mut(at);
        (Self { from: self.from, data: own }, Columns { from: end, data: below })
    }
}

/// A sweep on its way.
struct State {
    /// Its first column.
    p: usize,
    /// Columns of its next step; that many values of `v` count.
    length: usize,
    v: Vec<f64>,
    tau: f64,
    begun: bool,
    done: bool,
}

struct Group {
    first: usize,
    /// Stretches that are done.
    stretch: usize,
    states: Vec<State>,
}

impl Group {
    fn new(first: usize, sweeps: usize, width: usize) -> Self {
        let state = |sweep: usize| State {
            p: first + sweep,
            length: 0,
            v: vec![0.0; width],
            tau: 0.0,
            begun: false,
            done: false,
        };
        Self { first, stretch: 0, states: (0..sweeps).map(state).collect() }
    }

    /// One past the last column that its next stretch touches.
    fn end(&self, n: usize) -> usize {
        let width = self.states.first().map_or(0, |state| state.v.len());
        // Each sweep begins one column further and stays two steps behind: the first one reaches furthest.
        (self.first + 1 + (self.stretch + 1) * STEPS * width).min(n)
    }
}

/// A group's next stretch: up to [`STEPS`] steps of each of its sweeps, one sweep after the other.
struct Stretch<'a> {
    group: &'a mut Group,
    columns: Columns<'a>,
    n: usize,
    width: usize,
    stride: usize,
}

impl WithSimd for Stretch<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { group, columns: Columns { from, data }, n, width, stride } = self;
        let mut next = vec![0.0; width];
        let mut w = vec![0.0; width];
        group.stretch += 1;
        for (sweep, state) in group.states.iter_mut().enumerate() {
            let mut steps = (group.stretch * STEPS).saturating_sub(2 * sweep).min(STEPS);
            if steps > 0 && !state.begun {
                let column = state.p;
                state.begun = true;
                state.length = width.min(n - 1 - column);
                state.tau = take(&mut data[(column - from) * stride + 1..][..state.length], &mut state.v);
                state.p += 1;
            }
            while steps > 0 && !state.done {
                let (p, length) = (state.p, state.length);
                let below = width.min(n - p - length);
                let columns = &mut data[(p - from) * stride..(p - from + length) * stride];
                if state.tau != 0.0 {
                    both_sides(simd, columns, stride, &state.v[..length], state.tau, &mut w[..length]);
                }
                if below == 0 {
                    state.done = true;
                    break;
                }
                let v = &state.v[..length];
                state.tau = under(simd, columns, stride, v, state.tau, &mut next[..below], &mut w[..below]);
                std::mem::swap(&mut state.v, &mut next);
                state.p += length;
                state.length = below;
                steps -= 1;
            }
        }
    }
}

/// Reflects a column onto its first element and moves the reflection to `v`, `v[0] = 1`.
#[inline(always)]
fn take(column: &mut [f64], v: &mut [f64]) -> f64 {
    let tau = reflect(column);
    if tau != 0.0 {
        v[0] = 1.0;
        v[1..column.len()].copy_from_slice(&column[1..]);
        column[1..].fill(0.0);
    }
    tau
}

/// `D ← H D H` of the diagonal block, lower half: `w = τ D v`, `w -= ½ τ (vᵀ w) v`, `D -= v wᵀ + w vᵀ`.
#[inline(always)]
fn both_sides<S: Simd>(simd: S, columns: &mut [f64], stride: usize, v: &[f64], tau: f64, w: &mut [f64]) {
    let length = v.len();
    w.fill(0.0);
    for c in 0..length {
        let column = &columns[c * stride..][..length - c];
        axpy(simd, tau * v[c], column, &mut w[c..]);
        w[c] += tau * dot(simd, &column[1..], &v[c + 1..]);
    }
    let half = -0.5 * tau * dot(simd, v, w);
    axpy(simd, half, v, w);
    for c in 0..length {
        let column = &mut columns[c * stride..][..length - c];
        axpy(simd, -w[c], &v[c..], column);
        axpy(simd, -v[c], &w[c..], column);
    }
}

/// `O ← H' O H` of the block under the diagonal block: its row `r` is at `length - c + r` of column `c`. `H'` clears the first
/// column and is left in `next`; its τ is returned.
#[inline(always)]
fn under<S: Simd>(
    simd: S,
    columns: &mut [f64],
    stride: usize,
    v: &[f64],
    tau: f64,
    next: &mut [f64],
    y: &mut [f64],
) -> f64 {
    let (length, below) = (v.len(), next.len());
    // y = τ O v.
    if tau != 0.0 {
        y.fill(0.0);
        for (c, &x) in v.iter().enumerate() {
            axpy(simd, tau * x, &columns[c * stride + length - c..][..below], y);
        }
        for (c, &x) in v.iter().enumerate() {
            axpy(simd, -x, y, &mut columns[c * stride + length - c..][..below]);
        }
    }
    let tau = take(&mut columns[length..][..below], next);
    if tau != 0.0 {
        for c in 1..length {
            let column = &mut columns[c * stride + length - c..][..below];
            let weight = tau * dot(simd, next, column);
            axpy(simd, -weight, next, column);
        }
    }
    tau
}

#[cfg(test)]
mod tests {
    use super::*;
    use faer::{Mat, Side};

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let (n, width) = (300, 8);
        let value = |i: usize, j: usize| ((i * 29 + j * 13) % 31) as f64 / 31.0 - 0.4;
        let on = |threads: usize| {
            let mut band = Band::new(n, width);
            (0..n).for_each(|c| (c..n.min(c + width + 1)).for_each(|r| band.set(r, c, value(r, c))));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let t = pool.install(|| band.tridiagonal(&())).unwrap();
            (t.diagonal, t.off)
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn a_band_keeps_its_eigenvalues() {
        for (n, width) in [(1, 4), (2, 4), (3, 2), (7, 4), (40, 8), (41, 1), (65, 32), (200, 16)] {
            let value = |i: usize, j: usize| ((i * 29 + j * 13) % 31) as f64 / 31.0 - 0.4;
            let full = Mat::<f64>::from_fn(n, n, |i, j| {
                let (i, j) = (i.max(j), i.min(j));
                if i - j <= width { value(i, j) } else { 0.0 }
            });
            let mut band = Band::new(n, width);
            band.put(full.as_ref(), 0, 0);
            let t = band.tridiagonal(&()).unwrap();
            let small = Mat::<f64>::from_fn(n, n, |i, j| match i.abs_diff(j) {
                0 => t.diagonal[i],
                1 => t.off[i.min(j)],
                _ => 0.0,
            });
            let (a, b) = (
                full.self_adjoint_eigenvalues(Side::Lower).unwrap(),
                small.self_adjoint_eigenvalues(Side::Lower).unwrap(),
            );
            for (a, b) in a.iter().zip(&b) {
                assert!((a - b).abs() < 1e-12, "{n}, {width}: {a} {b}");
            }
        }
    }
}
