//! The three decompositions that set the pace, beside torch's on the same matrices with the same threads.
//!
//! ```text
//! cargo bench --bench spectrum                 all three, medians of 5
//! cargo bench --bench spectrum -- --quick      smaller matrices, medians of 3: a check that it runs
//! cargo bench --bench spectrum -- --ours       without torch
//! ```
//!
//! torch is what `$PYTHON`, else `python3`, imports; without it its columns are left empty. Threads: `RAYON_NUM_THREADS`, else
//! every processor. Beside the seconds of a clock stand those of the processor, which a busy machine changes less. Errors are against `f64`: torch's `svdvals` in `f64` where torch is there, else our own exact route.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench that cannot go on says so"
)]

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::StandardNormal;
use rankscope::delta::{DeltaWeight, Dense, LowRank};
use rankscope::matrix::Matrix;
use rankscope::spectrum::{Method, Options, spectrum};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TORCH: &str = include_str!("spectrum.py");

struct Setting {
    quick: bool,
    torch: bool,
    runs: usize,
    threads: usize,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| args.iter().any(|a| a == word);
    let quick = has("--quick");
    let setting = Setting {
        quick,
        torch: !has("--ours"),
        runs: if quick { 3 } else { 5 },
        threads: rayon::current_num_threads(),
    };
    println!("{}, {} cores, {} threads", processor(), cores(), setting.threads);
    println!(
        "{:<44} {:>22} {:>22} {:>16}   error, ours | torch",
        "", "ours (processor)", "torch (processor)", "ratio (processor)"
    );
    let result = tempfile::tempdir().and_then(|folder| {
        whole(&setting, folder.path())?;
        top(&setting, folder.path())?;
        adapter(&setting, folder.path())
    });
    if let Err(error) = result {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

/// (a) Every singular value of a square ΔW.
fn whole(setting: &Setting, folder: &Path) -> std::io::Result<()> {
    let n = if setting.quick { 512 } else { 2048 };
    let w = spiked(n, 1);
    save(&folder.join("w"), &[&w])?;
    let delta = dense(w);
    let (cost, sigma) = ours(setting, &delta, Options { method: Method::Exact, ..Options::default() });
    let torch = torch(setting, folder, "whole", n, 0);
    let largest = |found: &[f64], exact: &[f64]| worst(found, exact, |exact, _| exact[0]);
    row(&format!("{n}², all σ | svdvals f32 | of σ₁"), cost, &sigma, torch, None, largest);
    Ok(())
}

/// (b) The largest 64 of rank 16 above a floor of noise.
fn top(setting: &Setting, folder: &Path) -> std::io::Result<()> {
    let (n, k) = if setting.quick { (1024, 64) } else { (4096, 64) };
    let w = spiked(n, 2);
    save(&folder.join("w"), &[&w])?;
    let delta = dense(w);
    let (cost, sigma) = ours(setting, &delta, Options { method: Method::Randomized, top: Some(k), vectors: 0 });
    let (slow, exact) =
        ours(&Setting { runs: 1, ..*setting }, &delta, Options { method: Method::Exact, ..Options::default() });
    let exact = &exact[..k];
    let relative = |found: &[f64], exact: &[f64]| worst(found, exact, |exact, i| exact[i]);
    let whole = torch(setting, folder, "whole-once", n, k);
    row(&format!("{n}², top {k} | svdvals f32 | of σᵢ"), cost, &sigma, whole, Some(exact), relative);
    let lowrank = torch(setting, folder, "lowrank", n, k);
    row(&format!("{n}², top {k} | svd_lowrank q {k} niter 2"), cost, &sigma, lowrank, Some(exact), relative);
    println!("{:<44} {:>22}", format!("{n}², all σ (once)"), slow.words());
    Ok(())
}

/// (c) One module of an adapter.
fn adapter(setting: &Setting, folder: &Path) -> std::io::Result<()> {
    let (n, r) = (if setting.quick { 1024 } else { 4096 }, 16);
    let mut rng = StdRng::seed_from_u64(3);
    let mut random = |rows, cols| Matrix::from_fn(rows, cols, |_, _| 0.02 * rng.sample::<f32, _>(StandardNormal));
    let (b, a) = (random(n, r), random(r, n));
    save(&folder.join("w"), &[&b, &a])?;
    let delta = DeltaWeight::LowRank(LowRank { b, a, scaling: 2.0, epsilon: f64::from(f32::EPSILON) });
    let (cost, sigma) = ours(&Setting { runs: 21, ..*setting }, &delta, Options::default());
    let torch = torch(setting, folder, "adapter", n, r);
    let largest = |found: &[f64], exact: &[f64]| worst(found, exact, |exact, _| exact[0]);
    row(&format!("adapter {n}², r {r} | QR, QR, core svdvals | of σ₁"), cost, &sigma, torch, None, largest);
    Ok(())
}

/// Rank 16, from 10 down to 3.2, above noise whose largest singular value is 2.
fn spiked(n: usize, seed: u64) -> Matrix {
    let mut rng = StdRng::seed_from_u64(seed);
    let scale = 1.0 / (n as f32).sqrt();
    let mut w = Matrix::from_fn(n, n, |_, _| scale * rng.sample::<f32, _>(StandardNormal));
    for i in 0..16 {
        // Long random vectors are nearly orthogonal.
        let mut vector = || -> Vec<f32> { (0..n).map(|_| scale * rng.sample::<f32, _>(StandardNormal)).collect() };
        let (u, v) = (vector(), vector());
        let sigma = 10.0 * 10f32.powf(-0.5 * i as f32 / 15.0);
        for (row, u) in w.data_mut().chunks_mut(n).zip(u) {
            row.iter_mut().zip(&v).for_each(|(w, v)| *w += sigma * u * v);
        }
    }
    w
}

fn dense(matrix: Matrix) -> DeltaWeight {
    DeltaWeight::Dense(Dense { matrix: matrix.into(), epsilon: f64::from(f32::EPSILON), rounding_std: None })
}

/// Seconds of a clock, the median, and of the processor, the mean.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    used: f64,
}

impl Cost {
    fn words(self) -> String {
        format!("{} ({})", time(self.wall), time(self.used))
    }
}

fn ours(setting: &Setting, delta: &DeltaWeight, options: Options) -> (Cost, Vec<f64>) {
    let mut seconds = Vec::new();
    let mut sigma = Vec::new();
    let before = processor_seconds();
    for _ in 0..setting.runs {
        let start = Instant::now();
        sigma = spectrum(delta, &options, &()).expect("the spectrum of a finite matrix").sigma;
        seconds.push(start.elapsed().as_secs_f64());
    }
    let used = (processor_seconds() - before) / setting.runs as f64;
    (Cost { wall: median(seconds), used }, sigma)
}

/// Of this process, in hundredths, where Linux tells.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// What torch took and found, and what it finds in `f64`.
struct Torch {
    cost: Cost,
    sigma: Vec<f64>,
    exact: Vec<f64>,
}

fn torch(setting: &Setting, folder: &Path, what: &str, n: usize, k: usize) -> Option<Torch> {
    if !setting.torch {
        return None;
    }
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let output = Command::new(python)
        .arg("-c")
        .arg(TORCH)
        .arg(folder.join("w"))
        .args([what, &n.to_string(), &k.to_string(), &setting.threads.to_string(), &setting.runs.to_string()])
        .output()
        .ok()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        eprintln!("torch skipped: {}", said.lines().last().unwrap_or("no word why"));
        return None;
    }
    let mut lines = std::str::from_utf8(&output.stdout)
        .ok()?
        .lines()
        .map(|line| -> Vec<f64> { line.split(' ').filter_map(|word| word.parse().ok()).collect() });
    let wall = median(lines.next()?);
    let used = lines.next()?;
    let cost = Cost { wall, used: used.iter().sum::<f64>() / used.len().max(1) as f64 };
    Some(Torch { cost, sigma: lines.next()?, exact: lines.next()? })
}

fn row(
    what: &str,
    cost: Cost,
    sigma: &[f64],
    torch: Option<Torch>,
    exact: Option<&[f64]>,
    error: impl Fn(&[f64], &[f64]) -> f64,
) {
    match torch {
        Some(torch) => {
            let exact = exact.unwrap_or(&torch.exact);
            println!(
                "{what:<44} {:>22} {:>22} {:>16}   {:.1e} | {:.1e}",
                cost.words(),
                torch.cost.words(),
                format!("{:.1}× ({:.1}×)", torch.cost.wall / cost.wall, torch.cost.used / cost.used),
                error(sigma, exact),
                error(&torch.sigma, exact)
            );
        }
        None => {
            let error = exact.map_or(String::new(), |exact| format!("{:.1e}", error(sigma, exact)));
            println!("{what:<44} {:>22} {:>22} {:>16}   {error}", cost.words(), "no torch", "");
        }
    }
}

/// Largest difference as a share of what `unit` says of the `i`-th value.
fn worst(found: &[f64], exact: &[f64], unit: impl Fn(&[f64], usize) -> f64) -> f64 {
    found.iter().zip(exact).enumerate().map(|(i, (a, b))| (a - b).abs() / unit(exact, i)).fold(0.0, f64::max)
}

fn save(path: &Path, matrices: &[&Matrix]) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for value in matrices.iter().flat_map(|m| m.data()) {
        file.write_all(&value.to_le_bytes())?;
    }
    file.flush()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn time(seconds: f64) -> String {
    if seconds < 0.1 { format!("{:.2} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    model.map_or(std::env::consts::ARCH, |(_, name)| name.trim()).to_owned()
}
