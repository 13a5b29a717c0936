//! How long a run will take, before one has been seen: operations of a step against the measured speed of a product.

use super::{Settings, memory};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::ops::gemm::{Out, View, parallel};
use crate::plan::memory::Step;
use std::time::{Duration, Instant};

/// Share of a step that is products, the rest is passes over memory: measured at d 512, see the benchmark of a step.
const PRODUCTS: f64 = 0.55;

/// Floating-point operations for a token: those of a step, gone through on a backend that only counts.
///
/// # Errors
/// A model that cannot be trained.
pub fn operations(checkpoint: &Checkpoint, settings: &Settings) -> Result<f64> {
    let (layout, pairs, load) = memory::planned(checkpoint, settings, settings.seq)?;
    let step = Step::new(&layout, &pairs, &load)?;
    Ok(step.operations(&load)? / (load.batch * load.seq) as f64)
}

/// Tokens a second at this speed of products.
pub fn tokens_per_s(operations: f64, speed: f64) -> f64 {
    PRODUCTS * speed / operations.max(1.0)
}

/// Floating-point operations a second of a product on all threads, measured for about a tenth of a second.
pub fn speed() -> f64 {
    const SIDE: usize = 512;
    let (a, b) = (vec![0.5f32; SIDE * SIDE], vec![0.25f32; SIDE * SIDE]);
    let mut c = vec![0f32; SIDE * SIDE];
    let view = |values| View::dense(values, SIDE, SIDE);
    let mut once = || parallel(Out::dense(&mut c, SIDE, SIDE), false, 1.0, view(&a), view(&b));
    once();
    let begin = Instant::now();
    let mut times = 0u32;
    while begin.elapsed() < Duration::from_millis(100) {
        once();
        times += 1;
    }
    2.0 * (SIDE as f64).powi(3) * f64::from(times) / begin.elapsed().as_secs_f64()
}
