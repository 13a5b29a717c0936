//! Matrix products on the processor: `f32`, and bf16 by every unit that there is, in GFLOP/s.
//!
//! ```text
//! cargo bench --bench products
//! ```
//!
//! The sizes are 512² and 2048², and those of a training step: hidden 512, 1376 in the MLP, 1024 tokens, and what is as thin as a
//! rank. The median and, in parentheses, the best of nine: on a busy machine the best says more.

use rankscope::model::ops::bf16::{self, Unit};
use rankscope::model::ops::gemm::{Out, View, parallel};
use std::time::Instant;

/// Rows, columns, and values along the sum.
const SIZES: [[usize; 3]; 8] = [
    [512, 512, 512],
    [2048, 2048, 2048],
    [1024, 512, 512],
    [1024, 1376, 512],
    [1024, 512, 1376],
    [1024, 4096, 512],
    [1024, 8, 512],
    [1024, 512, 8],
];

fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| (((i + seed) * 7919) % 1000) as f32 / 500.0 - 1.0).collect()
}

/// Median and best of nine.
fn seconds(mut work: impl FnMut()) -> [f64; 2] {
    work();
    let mut all: Vec<f64> = (0..9)
        .map(|_| {
            let begin = Instant::now();
            work();
            begin.elapsed().as_secs_f64()
        })
        .collect();
    all.sort_by(f64::total_cmp);
    [all[4], all[0]]
}

fn main() -> Result<(), rayon::ThreadPoolBuildError> {
    let units = Unit::all();
    let names: Vec<&str> = units.iter().map(|unit| unit.name()).collect();
    println!("| threads | rows × columns × sum | f32 | {} |", names.join(" | "));
    println!("|---|---|---|{}", "---|".repeat(units.len()));
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        for [m, n, k] in SIZES {
            let (a, b, mut c) = (values(m * k, 1), values(n * k, 2), vec![0.0; m * n]);
            let rate = |[median, best]: [f64; 2]| {
                let work = 2e-9 * (m * n * k) as f64;
                format!("{:.0} ({:.0})", work / median, work / best)
            };
            let (a, b) = (View::dense(&a, m, k), View::dense(&b, n, k).t());
            let mut cells =
                vec![rate(pool.install(|| seconds(|| parallel(Out::dense(&mut c, m, n), false, 1.0, a, b))))];
            for &unit in &units {
                cells.push(rate(
                    pool.install(|| seconds(|| bf16::rounded(unit, Out::dense(&mut c, m, n), false, 1.0, a, b))),
                ));
            }
            println!("| {threads} | {m} × {n} × {k} | {} |", cells.join(" | "));
        }
    }
    Ok(())
}
