//! Four-bit quantization beside bitsandbytes' on the same weight with the same threads, and beside a plain copy.
//!
//! ```text
//! cargo bench --bench quantize                 4096², medians of 9
//! cargo bench --bench quantize -- --quick      1024², medians of 3: a check that it runs
//! cargo bench --bench quantize -- --ours       without bitsandbytes
//! ```
//!
//! bitsandbytes is what `$PYTHON`, else `python3`, imports; without it its column is left empty. Threads: `RAYON_NUM_THREADS`, else
//! every processor.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench that cannot go on says so"
)]

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::StandardNormal;
use rankscope::app::widgets::derived::{Cells, Derived, Sketch};
use rankscope::app::widgets::picture::Reduction;
use rankscope::checkpoint::Checkpoint;
use rankscope::matrix::Matrix;
use rankscope::quant::{Fit, Format, QuantType, Quantized, Recipe, Scheme, measure};
use rayon::prelude::*;

const BITSANDBYTES: &str = include_str!("quantize.py");

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| args.iter().any(|a| a == word);
    let (n, runs) = if has("--quick") { (1024, 3) } else { (4096, 9) };
    let threads = rayon::current_num_threads();
    println!("{n}², {threads} threads");
    let mut rng = StdRng::seed_from_u64(1);
    let weight: Vec<f32> = (0..n * n).map(|_| 0.02 * rng.sample::<f32, _>(StandardNormal)).collect();
    let theirs = if has("--ours") { None } else { bitsandbytes(&weight, n, threads, runs) };
    println!("{:<44} {:>11} {:>13} {:>8}", "", "ours", "bitsandbytes", "ratio");
    let schemes = [(QuantType::Nf4, false), (QuantType::Nf4, true), (QuantType::Fp4, false)];
    let mut copied = vec![0f32; weight.len()];
    for (at, (quant_type, double_quant)) in schemes.into_iter().enumerate() {
        let scheme = Scheme { quant_type, blocksize: 64, double_quant };
        let quantize = median(runs, || Quantized::new(&weight, [n, n], scheme).expect("a square weight"));
        let quantized = Quantized::new(&weight, [n, n], scheme).expect("a square weight");
        let dequantize = median(runs, || quantized.dequantize(&mut copied));
        let name = format!("{quant_type}{}", if double_quant { ", double quantization" } else { "" });
        let of = |which: usize| theirs.as_ref().and_then(|all| all.get(2 * at + which)).copied();
        row(&format!("quantize {name}"), quantize, of(0));
        row(&format!("dequantize {name}, into a buffer"), dequantize, of(1));
    }
    let copy = median(runs, || {
        let pieces = copied.par_chunks_mut(1 << 16).zip(weight.par_chunks(1 << 16));
        pieces.for_each(|(to, from)| to.copy_from_slice(from));
    });
    row("copy of the f32 weight", copy, None);
    for format in [Format::Nf4, Format::Int4Symmetric, Format::Q4_0, Format::Q4K] {
        let recipe = Recipe::new(format);
        let seconds = median(runs.min(3), || {
            let fit = Fit::new(&weight, [n, n], recipe).expect("a square weight");
            measure(&weight, &fit, &()).expect("nobody stops it")
        });
        row(&format!("every error measure of {recipe}"), seconds, None);
    }
    let shape = if has("--quick") { [1024, 2752] } else { [4096, 11008] };
    match pictures(shape, runs.min(3)) {
        Ok([sketch, exact]) => {
            row(&format!("first picture of {} × {}, from BF16", shape[0], shape[1]), sketch, None);
            row("the exact pictures: W, NF4, error", exact, None);
        }
        Err(error) => eprintln!("error: {error}"),
    }
}

/// A weight, its rounding or its error, as the window's heatmaps ask for it.
struct Seen {
    weight: Arc<Matrix>,
    fit: Option<Arc<Fit>>,
    error: bool,
}

impl Cells for Seen {
    fn shape(&self) -> [usize; 2] {
        self.weight.shape()
    }

    fn row(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        let start = row * self.weight.cols();
        let range = start + cols.start..start + cols.end;
        let values = &self.weight.data()[range.clone()];
        match &self.fit {
            None => out.copy_from_slice(values),
            Some(fit) => fit.read(self.weight.data(), range, out),
        }
        if self.error {
            out.iter_mut().zip(values).for_each(|(r, w)| *r -= w);
        }
    }
}

/// Seconds until the sketch and until the exact pictures of a layer in a file, everything read and rounded anew.
fn pictures(shape: [usize; 2], runs: usize) -> rankscope::error::Result<[f64; 2]> {
    let folder = tempfile::tempdir().map_err(|e| rankscope::error::Error::failure(e.to_string()))?;
    let file = folder.path().join("layer.safetensors");
    write_layer(&file, shape).map_err(|e| rankscope::error::Error::failure(e.to_string()))?;
    let base = Checkpoint::open(&file)?;
    let module = base.module("layers.0.mlp.down_proj").ok_or(rankscope::error::Error::Cancelled)?;
    let seen = |weight: &Arc<Matrix>, fit: &Arc<Fit>| -> [Seen; 3] {
        [(None, false), (Some(fit), false), (Some(fit), true)].map(|(fit, error)| Seen {
            weight: Arc::clone(weight),
            fit: fit.cloned(),
            error,
        })
    };
    let sketch = median(runs, || {
        let numbers = Sketch::rows(shape);
        let reader = base.reader(module).expect("the layer");
        let mut rows = Matrix::zeros(numbers.len(), shape[1]);
        for (row, out) in numbers.iter().zip(rows.data_mut().chunks_mut(shape[1])) {
            reader.rows(*row..row + 1, out).expect("its rows");
        }
        let rows = Arc::new(rows);
        let fit = Arc::new(Fit::new(rows.data(), rows.shape(), Recipe::default()).expect("a fit"));
        seen(&rows, &fit).map(|cells| {
            let mut values = Matrix::zeros(numbers.len(), shape[1]);
            for (row, out) in values.data_mut().chunks_mut(shape[1]).enumerate() {
                cells.row(row, 0..shape[1], out);
            }
            Sketch::new(shape, &values, Reduction::Extreme)
        })
    });
    let exact = median(runs, || {
        let weight = Arc::new(base.matrix(module, &()).expect("the layer"));
        let fit = Arc::new(Fit::new(weight.data(), shape, Recipe::default()).expect("a fit"));
        seen(&weight, &fit).map(|cells| Derived::build(Arc::new(cells), Reduction::Extreme, &()).map(|_| ()))
    });
    Ok([sketch, exact])
}

/// A checkpoint with one BF16 layer.
fn write_layer(path: &Path, [rows, cols]: [usize; 2]) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let end = 2 * rows * cols;
    let header = format!(
        "{{\"layers.0.mlp.down_proj.weight\":{{\"dtype\":\"BF16\",\"shape\":[{rows},{cols}],\"data_offsets\":[0,{end}]}}}}"
    );
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut rng = StdRng::seed_from_u64(2);
    let some: Vec<u8> = (0..1 << 16)
        .flat_map(|_| half::bf16::from_f32(0.02 * rng.sample::<f32, _>(StandardNormal)).to_le_bytes())
        .collect();
    let mut left = end;
    while left > 0 {
        let now = left.min(some.len());
        file.write_all(&some[..now])?;
        left -= now;
    }
    file.flush()
}

/// Seconds of quantizing and dequantizing, scheme by scheme.
fn bitsandbytes(weight: &[f32], n: usize, threads: usize, runs: usize) -> Option<Vec<f64>> {
    let folder = tempfile::tempdir().ok()?;
    save(&folder.path().join("w"), weight).ok()?;
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let output = Command::new(python)
        .arg("-c")
        .arg(BITSANDBYTES)
        .arg(folder.path().join("w"))
        .args([n.to_string(), threads.to_string(), runs.to_string()])
        .output()
        .ok()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        eprintln!("bitsandbytes skipped: {}", said.lines().last().unwrap_or("no word why"));
        return None;
    }
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.split_whitespace().filter_map(|word| word.parse().ok()).collect())
}

fn save(path: &Path, values: &[f32]) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for value in values {
        file.write_all(&value.to_le_bytes())?;
    }
    file.flush()
}

fn median<T>(runs: usize, mut work: impl FnMut() -> T) -> f64 {
    let mut seconds: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(work());
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[runs / 2]
}

fn row(what: &str, seconds: f64, theirs: Option<f64>) {
    let time = |seconds: f64| format!("{:.2} ms", seconds * 1e3);
    match theirs {
        Some(theirs) => {
            println!("{what:<44} {:>11} {:>13} {:>7.1}×", time(seconds), time(theirs), theirs / seconds);
        }
        None => println!("{what:<44} {:>11}", time(seconds)),
    }
}
