//! What a GPU does with this program: losses beside the processor's, speed and memory of a 1.1B model beside torch + peft in bf16 on the
//! same card, and where the time of a step goes. `tests/gpu/on-a-card.sh` runs it after the tests.
//!
//! ```text
//! cargo bench --bench card                                          cuda:0, three to four minutes
//! cargo bench --bench card -- --device vulkan:0 --json FILE         another device; all figures as JSON too
//! cargo bench --bench card -- --small                               a tiny model, to see that it runs
//! ```
//!
//! Each row is a process of its own. The median step counts, of as many as fit into ten seconds (twelve at most, three at least).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench that cannot go on says so"
)]

mod made;

use made::{LARGE, SMALL, Shape, dtype, interpreter, last_line, method, rows, write};
use rankscope::checkpoint::Checkpoint;
use rankscope::device::Choice;
use rankscope::model::gpu::{self, Profile, Spent};
use rankscope::train::{Schedule, Settings, Trainer};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A model with which everything here is over in seconds, on a machine that only stands in for a GPU.
const TINY: Shape = Shape { hidden: 64, layers: 2, heads: 4, kv_heads: 2, ffn: 160, vocab: 320, seq: 64, batch: 1 };

/// Steps whose losses are compared.
const LOSSES: usize = 8;

/// One of the runs that are compared.
#[derive(Clone, Copy)]
struct Run<'a> {
    device: &'a str,
    method: &'a str,
    dtype: &'a str,
    checkpointing: &'a str,
    batch: usize,
    seq: usize,
    steps: usize,
}

impl Run<'_> {
    fn on(&self, mut side: Command, folder: &Path) -> Value {
        let Self { device, method, dtype, checkpointing, batch, seq, steps } = *self;
        side.arg(folder).args([device, method, dtype, checkpointing]);
        side.args([batch, seq, steps].map(|number| number.to_string()));
        last_line(side)
    }

    fn here(&self, how: &str, folder: &Path) -> Value {
        let mut side = Command::new(std::env::current_exe().unwrap());
        side.arg(how);
        self.on(side, folder)
    }

    fn there(&self, python: Option<&str>, folder: &Path) -> Value {
        let Some(python) = python else { return Value::Null };
        let root = std::env::var_os("RANKSCOPE_ROOT").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let mut side = Command::new(python);
        side.arg(root.join("benches/cuda_step.py"));
        self.on(side, folder)
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let [how @ ("--child" | "--profile"), folder, device, method, dtype, checkpointing, batch, seq, steps] =
        words[..]
    {
        let number = |text: &str| text.parse::<usize>().unwrap();
        let (batch, seq, steps) = (number(batch), number(seq), number(steps));
        let run = Run { device, method, dtype, checkpointing, batch, seq, steps };
        return if how == "--child" { timed(Path::new(folder), run) } else { profiled(Path::new(folder), run) };
    }
    let after = |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)).copied();
    let device = after("--device").unwrap_or("cuda:0");
    let document = card(device, words.contains(&"--small"));
    if let Some(file) = after("--json") {
        std::fs::write(file, serde_json::to_string_pretty(&document).unwrap()).unwrap();
    }
}

fn card(device: &str, small: bool) -> Value {
    let choice: Choice = device.parse().unwrap_or_else(|error| stop(&error));
    let opened = gpu::open(choice, None).unwrap_or_else(|error| stop(&error));
    let name = opened.machine.as_ref().map_or_else(|| "the processor".to_owned(), |(machine, _)| machine.name());
    drop(opened);
    println!("{name}, rankscope {}\n", env!("CARGO_PKG_VERSION"));
    let folder = tempfile::tempdir().unwrap();
    let shape = if small { TINY } else { SMALL };
    write(folder.path(), &shape);
    let run = Run {
        device,
        method: "qlora",
        dtype: "f32",
        checkpointing: "off",
        batch: shape.batch,
        seq: shape.seq,
        steps: LOSSES,
    };
    let losses = losses(run, folder.path());
    let (shape, sizes) =
        if small { (TINY, vec![(1, 64)]) } else { (Shape { seq: 1024, ..LARGE }, vec![(1, 256), (4, 1024)]) };
    write(folder.path(), &shape);
    // bitsandbytes is wanted for half of the rows only: each row says for itself what is missing.
    let python = if device.starts_with("cuda") { interpreter("torch, peft, transformers") } else { None };
    println!(
        "\n| {}, r 16 on all linears | rankscope | torch + peft, bf16 |\n|---|---|---|",
        if small { "tiny" } else { "1.1B" }
    );
    let mut table = Vec::new();
    for (batch, seq) in sizes {
        for (method, checkpointing) in [("lora", "off"), ("qlora", "off"), ("qlora", "on")] {
            let run = Run { method, checkpointing, batch, seq, steps: 12, dtype: "bf16", ..run };
            let (here, there) = (run.here("--child", folder.path()), run.there(python.as_deref(), folder.path()));
            println!(
                "| {method}, {batch} × {seq}, checkpointing {checkpointing} | {} | {} |",
                cell(&here),
                cell(&there)
            );
            std::io::stdout().flush().unwrap();
            table.push(json!({"method": method, "checkpointing": checkpointing, "batch": batch, "seq": seq, "rankscope": here, "torch": there}));
        }
    }
    let (batch, seq) = if small { (1, 64) } else { (4, 1024) };
    let profile = Run { dtype: "bf16", batch, seq, steps: 2, ..run }.here("--profile", folder.path());
    print_profile(&profile);
    json!({"device": name, "version": env!("CARGO_PKG_VERSION"), "losses": losses, "speed": table, "profile": profile})
}

fn stop<T>(error: &dyn std::fmt::Display) -> T {
    eprintln!("error: {error}");
    std::process::exit(2)
}

/// The first steps on the device in both number types, beside the processor's.
fn losses(run: Run, folder: &Path) -> Value {
    let of = |device: &str, dtype: &str| -> Vec<f64> {
        let row = Run { device, dtype, ..run }.here("--child", folder);
        serde_json::from_value(row["losses"].clone()).unwrap_or_default()
    };
    let expected = of("cpu", "f32");
    let one = |(dtype, allowed): (&str, f64)| {
        let found = of(run.device, dtype);
        if found.len() != LOSSES {
            stop(&format!("the run in {dtype} on {} came to {} of {LOSSES} steps", run.device, found.len()))
        }
        let apart = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("{LOSSES} steps in {dtype}: losses within {apart:.1e} of the processor's (allowed {allowed})");
        if apart >= allowed {
            stop(&format!("losses in {dtype} are not the processor's: {found:?} against {expected:?}"))
        }
        json!({"dtype": dtype, "apart": apart, "allowed": allowed})
    };
    Value::Array([("f32", 1e-3), ("bf16", 0.05)].map(one).to_vec())
}

fn cell(row: &Value) -> String {
    let (Some(seconds), Some(tokens)) = (row["seconds"].as_f64(), row["tokens_per_s"].as_f64()) else {
        return "—".to_owned();
    };
    let peak = row["gpu_peak_bytes"].as_f64().unwrap_or_default() / 1e9;
    format!("{:.1} ms, {tokens:.0} tokens/s, {peak:.2} GB", 1e3 * seconds)
}

fn settings(run: Run) -> Settings {
    Settings {
        method: method(run.method),
        dtype: Some(dtype(run.dtype)),
        device: run.device.parse().unwrap_or_else(|error| stop(&error)),
        rank: 16,
        targets: "all-linear".into(),
        checkpointing: run.checkpointing == "on",
        batch: run.batch,
        seq: run.seq,
        steps: Some(run.steps),
        lr: 1e-4,
        shuffle: false,
        schedule: Schedule::Constant,
        ..Settings::default()
    }
}

fn trainer(folder: &Path, settings: Settings, over: impl FnOnce(gpu::Opened) -> gpu::Opened) -> Trainer {
    let checkpoint = Checkpoint::open(folder).unwrap();
    let vocab = checkpoint.spec().unwrap().vocab;
    let place = over(gpu::open(settings.device, settings.dtype).unwrap_or_else(|error| stop(&error)));
    let seq = settings.seq;
    let mut trainer = Trainer::new(&checkpoint, settings, rows(16, seq, vocab), &()).unwrap();
    trainer.onto(place.engine(&trainer.decoder).unwrap_or_else(|error| stop(&error))).unwrap();
    trainer
}

/// Seconds of a step.
fn timed(folder: &Path, run: Run) {
    let mut trainer = trainer(folder, settings(run), |opened| opened);
    let (mut seconds, mut losses) = (Vec::new(), Vec::new());
    let all = Instant::now();
    for step in 0..run.steps {
        let begin = Instant::now();
        losses.push(trainer.step().unwrap_or_else(|error| stop(&error)).loss);
        seconds.push(begin.elapsed().as_secs_f64());
        // Losses are compared over all steps; speed is known after a few.
        if step > 2 && run.steps > LOSSES && all.elapsed().as_secs() > 10 {
            break;
        }
    }
    // The first step compiles what is not compiled yet.
    seconds.remove(0);
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let tokens = (run.batch * run.seq) as f64 / median;
    let peak = trainer.engine().peak_bytes();
    println!(
        "{}",
        json!({"seconds": median, "fastest": seconds[0], "steps": losses.len(), "tokens_per_s": tokens, "gpu_peak_bytes": peak, "losses": losses})
    );
}

/// Where the time of a step goes: its second, so that nothing is compiled in it.
fn profiled(folder: &Path, run: Run) {
    let mut profile = None;
    let mut trainer = trainer(folder, settings(run), |mut opened| {
        if let Some((machine, dtype)) = opened.machine.take() {
            let over = Profile::new(machine).unwrap_or_else(|error| stop(&error));
            profile = Some(Arc::clone(&over));
            opened.machine = Some((over, dtype));
        }
        opened
    });
    let Some(profile) = profile else { stop(&"the processor has no profile of this kind") };
    for _ in 0..run.steps {
        profile.take();
        trainer.step().unwrap_or_else(|error| stop(&error));
    }
    let one = |(name, Spent { calls, seconds, flops }): (String, Spent)| json!({"name": name, "calls": calls, "seconds": seconds, "flops": flops});
    println!("{}", Value::Array(profile.take().into_iter().map(one).collect()));
}

fn print_profile(profile: &Value) {
    let rows = profile.as_array().map(Vec::as_slice).unwrap_or_default();
    let number = |row: &Value, key: &str| row[key].as_f64().unwrap_or_default();
    let sum = |key: &str| rows.iter().map(|row| number(row, key)).sum::<f64>();
    let (all, calls) = (sum("seconds"), sum("calls"));
    println!("\nOne QLoRA step, every operation waited for: {:.1} ms in {calls:.0} operations\n", 1e3 * all);
    println!("| operation | calls | ms | share | TFLOP/s |\n|---|---|---|---|---|");
    for row in rows.iter().take(20) {
        let (seconds, flops) = (number(row, "seconds"), number(row, "flops"));
        let rate = if flops > 0.0 && seconds > 0.0 { format!("{:.1}", flops / seconds / 1e12) } else { String::new() };
        println!(
            "| {} | {} | {:.2} | {:.0} % | {rate} |",
            row["name"].as_str().unwrap_or_default(),
            row["calls"],
            1e3 * seconds,
            100.0 * seconds / all.max(f64::MIN_POSITIVE)
        );
    }
    let rest: f64 = rows.iter().skip(20).map(|row| number(row, "seconds")).sum();
    println!(
        "| {} others | | {:.2} | {:.0} % | |",
        rows.len().saturating_sub(20),
        1e3 * rest,
        100.0 * rest / all.max(f64::MIN_POSITIVE)
    );
}
