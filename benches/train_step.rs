//! Seconds and memory of a training step, beside torch + peft + bitsandbytes where they are installed.
//!
//! ```text
//! cargo bench --bench train_step                          QLoRA and LoRA, f32 and bf16; RANKSCOPE_PYTHON names the interpreter (python3)
//! cargo bench --bench train_step -- --rounds 4            the same four times, the sides in turn
//! cargo bench --bench train_step -- --large               the 1.1B shape, three steps a side
//! cargo bench --bench train_step -- --delta               a gated DeltaNet block of Qwen3.5-0.8B's widths, LoRA in f32, beside torch + peft
//! cargo bench --bench train_step -- --experts             a block of OLMoE-1B-7B's widths, 64 experts, beside torch + peft
//! cargo bench --bench train_step -- --memory              whole runs: memory as predicted before the first step, and as measured
//! ```
//!
//! Both sides read the same folder of random weights, train on the same tokens, and run alone in a process of their own;
//! memory is the most that the process ever had (`VmHWM`). The median step counts; on a busy machine processor time, which is
//! the mean over the steps, says more.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench that cannot go on says so"
)]

mod made;

use made::{LARGE, SMALL, Shape, interpreter, last_line, rows, write, write_model};
use rankscope::checkpoint::Checkpoint;
use rankscope::device::Choice;
use rankscope::model::ComputeDtype;
use rankscope::model::gpu;
use rankscope::train::memory::Record;
use rankscope::train::run::{Start, run};
use rankscope::train::{SETTINGS, Schedule, Settings, Trainer};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--child", folder, method, dtype, threads, targets, rank, checkpointing, batch, seq, steps] => {
            let number = |text: &str| text.parse::<usize>().unwrap();
            let settings = Settings {
                method: made::method(method),
                dtype: Some(made::dtype(dtype)),
                targets: targets.to_owned(),
                rank: number(rank),
                checkpointing: checkpointing == "on",
                batch: number(batch),
                seq: number(seq),
                steps: Some(number(steps)),
                lr: 1e-4,
                shuffle: false,
                device: Choice::Cpu,
                schedule: Schedule::Constant,
                ..Settings::default()
            };
            rayon::ThreadPoolBuilder::new().num_threads(number(threads)).build_global().unwrap();
            child(Path::new(folder), settings);
        }
        ["--delta"] => delta(),
        ["--experts"] => experts(),
        ["--memory"] => memory(),
        ["--run", ..] => whole_run(&words[1..]),
        ["--large"] => large(),
        ["--rounds", rounds] => table(rounds.parse().unwrap()),
        _ => table(1),
    }
}

/// What is run on both sides, in the order of their arguments.
#[derive(Clone, Copy)]
struct Run<'a> {
    method: &'a str,
    dtype: &'a str,
    threads: &'a str,
    targets: &'a str,
    rank: &'a str,
    checkpointing: &'a str,
    batch: &'a str,
    seq: &'a str,
    steps: &'a str,
}

impl Run<'_> {
    fn on(&self, mut side: Command, folder: &Path) -> Value {
        let Self { method, dtype, threads, targets, rank, checkpointing, batch, seq, steps } = *self;
        side.arg(folder).args([method, dtype, threads, targets, rank, checkpointing, batch, seq, steps]);
        last_line(side)
    }

    fn here(&self, folder: &Path) -> Value {
        let mut side = Command::new(std::env::current_exe().unwrap());
        side.arg("--child");
        self.on(side, folder)
    }

    fn there(&self, python: Option<&str>, folder: &Path) -> Value {
        let Some(python) = python else { return Value::Null };
        let mut side = Command::new(python);
        side.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/train_step.py"));
        self.on(side, folder)
    }
}

/// Number types in which this processor multiplies, as both sides are asked for them.
fn dtypes() -> &'static [&'static str] {
    if gpu::open(Choice::Cpu, Some(ComputeDtype::Bf16)).is_ok() {
        return &["f32", "bf16"];
    }
    println!("this processor multiplies no bf16: f32 only");
    &["f32"]
}

/// Every method in every number type, on 1 and 2 threads. In each of the rounds the sides take turns; what counts is the median of their rounds.
fn table(rounds: usize) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &SMALL);
    let python = interpreter("torch, peft, bitsandbytes, transformers");
    let (batch, seq) = (SMALL.batch.to_string(), SMALL.seq.to_string());
    println!("| threads | targets | method | rankscope | torch + peft (+ bitsandbytes) |\n|---|---|---|---|---|");
    for threads in ["1", "2"] {
        for targets in ["q_proj,v_proj", "all-linear"] {
            for method in ["qlora", "lora"] {
                for &dtype in dtypes() {
                    let run = Run {
                        method,
                        dtype,
                        threads,
                        targets,
                        rank: "8",
                        checkpointing: "off",
                        batch: &batch,
                        seq: &seq,
                        steps: "8",
                    };
                    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
                    for _ in 0..rounds {
                        ours.push(run.here(folder.path()));
                        theirs.push(run.there(python.as_deref(), folder.path()));
                    }
                    let (ours, theirs) = (middle(ours), middle(theirs));
                    println!("| {threads} | {targets} | {method} {dtype} | {} | {} |", cell(&ours), cell(&theirs));
                    if let Some(apart) = losses_apart(&ours, &theirs) {
                        println!("  losses of the two sides differ by {apart:.1e} at most");
                    }
                    std::io::stdout().flush().unwrap();
                }
            }
        }
    }
}

/// Of several rounds the one with the median step.
fn middle(mut rounds: Vec<Value>) -> Value {
    let seconds = |row: &Value| row["seconds"].as_f64().unwrap_or(f64::INFINITY);
    rounds.sort_by(|a, b| seconds(a).total_cmp(&seconds(b)));
    let at = (rounds.len() - 1) / 2;
    rounds.swap_remove(at)
}

/// The 1.1B shape with checkpointing, three steps a side.
fn large() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &LARGE);
    let python = interpreter("torch, peft, bitsandbytes, transformers");
    let threads = std::thread::available_parallelism().unwrap().to_string();
    println!(
        "| 1.1B, QLoRA r 16 on all linears, 1 × 256, checkpointing, {threads} threads | rankscope | torch + peft + bitsandbytes |\n|---|---|---|"
    );
    for &dtype in dtypes() {
        let run = Run {
            method: "qlora",
            dtype,
            threads: &threads,
            targets: "all-linear",
            rank: "16",
            checkpointing: "on",
            batch: "1",
            seq: "256",
            steps: "4",
        };
        let (here, there) = (run.here(folder.path()), run.there(python.as_deref(), folder.path()));
        println!("| {dtype} | {} | {} |", cell(&here), cell(&there));
        std::io::stdout().flush().unwrap();
    }
}

/// A gated DeltaNet block with its MLP, of Qwen3.5-0.8B's widths; torch's own functions on the other side.
fn delta() {
    let config = json!({"architectures": ["Qwen3_5ForCausalLM"], "model_type": "qwen3_5_text", "hidden_size": 1024,
        "intermediate_size": 3584, "num_hidden_layers": 1, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256,
        "linear_num_key_heads": 16, "linear_num_value_heads": 16, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
        "layer_types": ["linear_attention"], "vocab_size": 1024, "max_position_embeddings": 4096, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16"});
    one_block(&config, "in_proj_qkv,out_proj", &[["1", "512"], ["2", "1024"]]);
}

/// A block of OLMoE-1B-7B's widths: 64 experts, 8 of them a token. PEFT's adapter is on the experts' parameters too.
fn experts() {
    let config = json!({"architectures": ["OlmoeForCausalLM"], "model_type": "olmoe", "hidden_size": 2048, "intermediate_size": 1024,
        "num_hidden_layers": 1, "num_attention_heads": 16, "num_key_value_heads": 16, "num_experts": 64, "num_experts_per_tok": 8,
        "norm_topk_prob": false, "vocab_size": 1024, "max_position_embeddings": 4096, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16"});
    one_block(&config, "q_proj,v_proj", &[["1", "512"], ["2", "512"]]);
}

/// LoRA in f32 on one block with random weights, for batches of so many sequences of so many tokens; both sides on as many
/// threads, this side alone where the other is not installed.
fn one_block(config: &Value, some: &str, sizes: &[[&str; 2]]) {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), config);
    let python = interpreter("torch, peft, transformers");
    let threads = std::thread::available_parallelism().unwrap().to_string();
    for targets in ["all-linear", some] {
        println!("| LoRA r 16 on {targets}, {threads} threads | rankscope | torch + peft |\n|---|---|---|");
        for &[batch, seq] in sizes {
            let run = Run {
                method: "lora",
                dtype: "f32",
                threads: &threads,
                targets,
                rank: "16",
                checkpointing: "off",
                batch,
                seq,
                steps: "6",
            };
            let (here, there) = (run.here(folder.path()), run.there(python.as_deref(), folder.path()));
            println!("| {batch} × {seq} | {} | {} |", cell(&here), cell(&there));
            std::io::stdout().flush().unwrap();
        }
    }
}

/// Whole runs with evaluation, checkpoints and film, each in a process of its own, on the bundled model, the small shape and one in between.
fn memory() {
    const MIDDLE: Shape =
        Shape { hidden: 1024, layers: 8, heads: 16, kv_heads: 16, ffn: 2752, vocab: 32_000, seq: 256, batch: 1 };
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    let (small, middle) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (folder, shape) in [(small.path(), &SMALL), (middle.path(), &MIDDLE)] {
        write(folder, shape);
        let mut data = std::fs::File::create(folder.join("rows.jsonl")).unwrap();
        for row in rows(64, shape.seq, shape.vocab).rows {
            writeln!(data, "{}", json!({"input_ids": row.ids})).unwrap();
        }
    }
    let (tales, data) = (demo.join("tales-2m"), demo.join("data/pirate.train.jsonl"));
    let of = |folder: &Path| (folder.to_owned(), folder.join("rows.jsonl"));
    let (tales, small, middle) = ((tales, data), of(small.path()), of(middle.path()));
    let runs = [
        ("bundled", &tales, "method=qlora rank=8 targets=all-linear batch=8 seq=128 steps=60 threads=2"),
        ("bundled", &tales, "method=qlora rank=8 targets=all-linear batch=8 seq=128 steps=60 threads=1"),
        ("bundled", &tales, "method=full batch=8 seq=128 steps=60 threads=2"),
        ("d 512", &small, "method=qlora rank=8 targets=q_proj,v_proj batch=4 seq=256 steps=6 threads=1"),
        ("d 512", &small, "method=qlora rank=8 targets=all-linear batch=4 seq=256 steps=6 threads=2"),
        ("d 512", &small, "method=qlora rank=16 targets=all-linear batch=4 seq=256 steps=6 threads=2 checkpointing=on"),
        ("d 512", &small, "method=lora rank=8 targets=all-linear batch=2 seq=256 steps=6 threads=1"),
        ("d 512", &small, "method=full batch=2 seq=256 steps=6 threads=2"),
        (
            "d 1024",
            &middle,
            "method=qlora rank=16 targets=all-linear batch=1 seq=256 steps=4 threads=2 checkpointing=on",
        ),
        ("d 1024", &middle, "method=lora rank=16 targets=q_proj,v_proj batch=1 seq=256 steps=4 threads=2"),
    ];
    println!("| run | predicted | measured | off |\n|---|---|---|---|");
    for (name, (model, data), settings) in runs {
        let out = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.arg("--run").args(settings.split(' '));
        let path = |name: &str, path: &Path| format!("{name}={}", path.display());
        child.args([path("model", model), path("data", data), path("out", out.path()), "device=cpu".to_owned()]);
        assert!(child.status().unwrap().success(), "{settings}");
        let record = Record::read(out.path()).unwrap().unwrap();
        let of = |bytes: u64| bytes as f64 / 1e6;
        let (predicted, measured) = (of(record.predicted.total()), of(record.measured.unwrap_or_default()));
        println!(
            "| {name}: {settings} | {predicted:.0} MB | {measured:.0} MB | {:+.1} % |",
            (predicted / measured - 1.0) * 100.0
        );
        println!(
            "  buffers kept {:.1} MB; {}",
            of(record.buffers),
            record
                .predicted
                .parts()
                .iter()
                .map(|part| format!("{} {:.1}", part.name, of(part.bytes)))
                .collect::<Vec<_>>()
                .join(", ")
        );
        std::io::stdout().flush().unwrap();
    }
}

/// A run whose settings are given as `name=value`.
fn whole_run(words: &[&str]) {
    let mut settings = Settings::default();
    for word in words {
        let (name, value) = word.split_once('=').unwrap();
        let setting = SETTINGS.iter().find(|setting| setting.name == name).unwrap();
        (setting.set)(&mut settings, value).unwrap();
    }
    if let Some(threads) = settings.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    }
    run(settings, Start { resume: false, force: true }, &(), &mut |_| Ok(())).unwrap();
}

fn cell(row: &Value) -> String {
    let (Some(seconds), Some(tokens)) = (row["seconds"].as_f64(), row["tokens_per_s"].as_f64()) else {
        return "—".to_owned();
    };
    let number = |key: &str| row[key].as_f64().unwrap_or_default();
    let (used, peak) = (number("cpu_seconds"), number("peak_bytes") / 1e9);
    format!("{seconds:.3} s ({used:.3} s of processor), {tokens:.0} tokens/s, {peak:.2} GB")
}

/// Both sides train on the same rows in the same order.
fn losses_apart(ours: &Value, theirs: &Value) -> Option<f64> {
    let (ours, theirs) = (ours["losses"].as_array()?, theirs["losses"].as_array()?);
    let apart = ours.iter().zip(theirs).filter_map(|(a, b)| Some((a.as_f64()? - b.as_f64()?).abs()));
    Some(apart.fold(0.0, f64::max))
}

fn child(folder: &Path, settings: Settings) {
    let checkpoint = Checkpoint::open(folder).unwrap();
    let vocab = checkpoint.spec().unwrap().vocab;
    let (batch, seq, steps) = (settings.batch, settings.seq, settings.steps.unwrap());
    let place = gpu::open(settings.device, settings.dtype).unwrap();
    let mut trainer = Trainer::new(&checkpoint, settings, rows(16, seq, vocab), &()).unwrap();
    trainer.onto(place.engine(&trainer.decoder).unwrap()).unwrap();
    let (mut seconds, mut losses, mut used) = (Vec::new(), Vec::new(), 0.0);
    for step in 0..steps {
        if step == 1 {
            used = processor();
        }
        let begin = Instant::now();
        losses.push(trainer.step().unwrap().loss);
        seconds.push(begin.elapsed().as_secs_f64());
    }
    let used = (processor() - used) / (steps - 1) as f64;
    seconds.remove(0);
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let tokens = (batch * seq) as f64 / median;
    let kept = trainer.peak_activations();
    let on_gpu = trainer.engine().peak_bytes();
    println!(
        "{}",
        json!({"seconds": median, "fastest": seconds[0], "cpu_seconds": used, "tokens_per_s": tokens, "peak_bytes": peak(), "buffers": kept, "gpu_peak_bytes": on_gpu, "losses": losses})
    );
}

/// Seconds of processor time of this process, where Linux tells: what a busy machine does not change.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The most memory that this process ever had, where Linux tells.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or_default() * 1024
}
