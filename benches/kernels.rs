//! Kernels of this side alone, so that a change can be compared with what was before it:
//!
//! ```text
//! cargo bench --bench kernels -- --save-baseline before
//! cargo bench --bench kernels -- --baseline before
//! ```
//!
//! The other benches put torch and bitsandbytes beside the same work.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench that cannot go on says so"
)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::StandardNormal;
use rankscope::delta::{DeltaWeight, Dense, LowRank};
use rankscope::matrix::Matrix;
use rankscope::quant::{Fit, QuantType, Quantized, Recipe, Scheme, measure};
use rankscope::spectrum::{Method, Options, spectrum};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn noise(rows: usize, cols: usize, seed: u64) -> Matrix {
    let mut rng = StdRng::seed_from_u64(seed);
    Matrix::from_fn(rows, cols, |_, _| 0.02 * rng.sample::<f32, _>(StandardNormal))
}

fn spectra(c: &mut Criterion) {
    let mut group = c.benchmark_group("spectrum");
    group.sample_size(10);
    let mut bench = |name: &str, delta: &DeltaWeight, options: &Options| {
        group.bench_function(name, |b| {
            b.iter(|| spectrum(delta, options, &()).expect("a finite matrix has a spectrum"))
        });
    };
    let dense = |n| {
        DeltaWeight::Dense(Dense {
            matrix: noise(n, n, 1).into(),
            epsilon: f64::from(f32::EPSILON),
            rounding_std: None,
        })
    };
    bench("1024², all σ", &dense(1024), &Options { method: Method::Exact, ..Options::default() });
    let top = Options { method: Method::Randomized, top: Some(64), vectors: 0 };
    bench("2048², top 64", &dense(2048), &top);
    let (b, a) = (noise(4096, 16, 2), noise(16, 4096, 3));
    let adapter = LowRank { b, a, scaling: 2.0, epsilon: f64::from(f32::EPSILON) };
    bench("adapter of 4096², r 16", &DeltaWeight::LowRank(adapter), &Options::default());
    group.finish();
}

fn quantizers(c: &mut Criterion) {
    const N: usize = 2048;
    let mut group = c.benchmark_group("quantize");
    group.sample_size(20).throughput(Throughput::Elements((N * N) as u64));
    let weight = noise(N, N, 4);
    for quant_type in [QuantType::Nf4, QuantType::Fp4] {
        let scheme = Scheme { quant_type, blocksize: 64, double_quant: true };
        let quantize = || Quantized::new(weight.data(), [N, N], scheme).expect("a square weight has whole blocks");
        group.bench_function(format!("{quant_type}, double quantization"), |b| b.iter(quantize));
        let (quantized, mut values) = (quantize(), vec![0f32; N * N]);
        group.bench_function(format!("{quant_type} to f32"), |b| b.iter(|| quantized.dequantize(&mut values)));
    }
    group.bench_function("every error measure of the default", |b| {
        b.iter(|| {
            let fit = Fit::new(weight.data(), [N, N], Recipe::default()).expect("a square weight has whole blocks");
            measure(weight.data(), &fit, &()).expect("nobody stops it")
        });
    });
    group.finish();
}

criterion_group!(benches, spectra, quantizers);
criterion_main!(benches);
