//! `--device cuda` where there is no GPU: a driver, cuBLAS and NVRTC that stand in for NVIDIA's (driver.c) under a program
//! that does not know. What it asks of them is what it asks of a GPU.

use super::fixtures;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Folder of the libraries; `None`, with a word, without a C compiler.
fn libraries() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("driver");
        fs::create_dir_all(&folder).unwrap();
        let made = folder.join(format!("{}.so", std::process::id()));
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let mut command = Command::new(&compiler);
        command.args(["-std=gnu11", "-O3", "-shared", "-fPIC", "-o"]).arg(&made);
        let Ok(output) = command.arg(source().join("driver.c")).args(["-ldl", "-lpthread"]).output() else {
            eprintln!("no C compiler {compiler}: --device cuda is not tested");
            return None;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // One library under three names is opened once: its streams are those of all three.
        fs::rename(&made, folder.join("driver.so")).unwrap();
        for name in ["libcuda.so", "libcublas.so", "libnvrtc.so"] {
            let link = folder.join(name);
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink("driver.so", &link).unwrap();
        }
        Some(folder)
    });
    folder.as_deref()
}

fn source() -> PathBuf {
    super::support::root().join("tests/gpu")
}

/// A program over the libraries, and the numbers of their calls.
struct Standing {
    command: Command,
    report: PathBuf,
}

impl Standing {
    fn new(program: &Path, report: PathBuf) -> Option<Self> {
        let mut command = Command::new(program);
        command.env("LD_LIBRARY_PATH", libraries()?).env("STANDIN_SOURCE", source()).env("STANDIN_REPORT", &report);
        Some(Self { command, report })
    }

    fn run(mut self) -> (Output, Value) {
        let output = self.command.output().unwrap();
        let report = fs::read(&self.report).unwrap_or_default();
        (output, serde_json::from_slice(&report).unwrap_or(Value::Null))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All that was made is given back.
fn nothing_left(report: &Value) {
    for what in ["held", "streams", "handles", "modules", "contexts"] {
        assert_eq!(report[what], 0, "{what}: {report}");
    }
}

/// The program on `--device cuda`.
struct Bench {
    folder: tempfile::TempDir,
    data: PathBuf,
}

const NEVER: &str = "1000000";

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data.jsonl");
        let row =
            |row: u32| json!({"input_ids": (0..24).map(|at| (row * 31 + at * 7) % 300 + 3).collect::<Vec<u32>>()});
        fs::write(&data, (0..8).map(|at| format!("{}\n", row(at))).collect::<String>()).unwrap();
        Self { folder, data }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self) -> Option<Standing> {
        Standing::new(Path::new(env!("CARGO_BIN_EXE_rankscope")), self.at("report.json"))
    }

    /// A run of two micro-batches a step.
    fn train(&self, out: &str, steps: usize, words: &[&str]) -> Option<Standing> {
        let mut program = self.program()?;
        let command = &mut program.command;
        command.arg("train").arg(fixtures().join("llama")).arg("--data").arg(&self.data).arg("--out").arg(self.at(out));
        command.args(["--steps", &steps.to_string(), "--batch", "2", "--accumulate", "2", "--seq", "24", "--json"]);
        command.args(["--targets", "all-linear", "--rank", "4", "--lr", "2e-3", "--warmup", "2"]).args(words);
        Some(program)
    }

    fn losses(&self, out: &str) -> Vec<f64> {
        let text = fs::read_to_string(self.at(out).join("metrics.jsonl")).unwrap();
        let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.filter_map(|row| row["loss"].as_f64()).collect()
    }
}

fn done(output: &Output) {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn what_holds_on_the_emulated_machine_holds_through_the_driver() {
    let folder = tempfile::tempdir().unwrap();
    let me = std::env::current_exe().unwrap();
    let Some(mut tests) = Standing::new(&me, folder.path().join("report.json")) else { return };
    tests.command.env("RANKSCOPE_CUDA", "only").args(["--skip", "driver::", "--skip", "vulkan::", "--nocapture"]);
    let (output, report) = tests.run();
    done(&output);
    let told = text(&output.stdout);
    assert!(told.contains("on Stand-in GPU (cuda:0) in bf16: loss"), "{told}");
    println!("{report}");
    nothing_left(&report);
}

#[test]
fn a_run_on_it_is_that_of_the_processor() {
    let bench = Bench::new();
    for (dtype, off) in [("f32", 1e-3), ("bf16", 0.03)] {
        let on = |device: &str, out: &str, more: &[&str]| {
            let words: Vec<&str> = ["--device", device].iter().chain(more).copied().collect();
            Some(bench.train(out, 6, &words)?.run())
        };
        let Some((cpu, _)) = on("cpu", "cpu", &[]) else { return };
        let (gpu, report) = on("cuda", dtype, &["--dtype", dtype]).unwrap();
        done(&cpu);
        done(&gpu);
        nothing_left(&report);
        for (at, (ours, expected)) in bench.losses(dtype).iter().zip(bench.losses("cpu")).enumerate() {
            assert!((ours - expected).abs() < off, "{dtype} step {at}: {ours} against {expected}");
        }
        assert_eq!(bench.losses(dtype).len(), bench.losses("cpu").len());
        let summary: Value = serde_json::from_slice(&gpu.stdout).unwrap();
        // Of what the driver gave, beside what cuBLAS has for itself, the run says how much was in use.
        let [said, given, predicted] =
            [&summary["gpu_peak_bytes"], &report["most"], &summary["predicted_bytes"]].map(|v| v.as_f64().unwrap());
        let given = given - f64::from(32 << 20);
        println!("{dtype}: {said} bytes in use of {given} allocated, {predicted} predicted; {report}");
        assert!(said <= given && given < predicted, "{said} of {given}, {predicted} predicted");
        fs::remove_dir_all(bench.at("cpu")).unwrap();
    }
    // A GPU is taken where nothing is said, also one that is newer than NVRTC, and the same words come out.
    let speak = |device: &str| {
        let mut program = bench.program().unwrap();
        let words = ["--prompt", "the", "--max-new-tokens", "12", "--device", device, "--json"];
        program.command.arg("generate").arg(fixtures().join("llama")).args(words);
        if device != "cpu" {
            program.command.args(["--dtype", "f32"]).env("STANDIN_CAPABILITY", "130");
        }
        program.run().0
    };
    let (cpu, auto) = (speak("cpu"), speak("auto"));
    done(&cpu);
    done(&auto);
    assert!(text(&auto.stderr).contains("computing on Stand-in GPU (cuda:0) in f32"), "{}", text(&auto.stderr));
    let said = |output: &Output| serde_json::from_slice::<Value>(&output.stdout).unwrap()["text"].clone();
    assert!(said(&cpu).is_string());
    assert_eq!(said(&cpu), said(&auto));
}

#[test]
fn a_step_waits_once_and_allocates_nothing() {
    let bench = Bench::new();
    let run = |steps: usize| {
        let quiet = ["--device", "cuda", "--eval-every", NEVER, "--save-every", NEVER, "--film-every", "0"];
        let (output, report) = bench.train(&format!("{steps}"), steps, &quiet)?.run();
        done(&output);
        Some(report)
    };
    let Some(short) = run(3) else { return };
    let long = run(8).unwrap();
    let more = |what: &str| long[what].as_i64().unwrap() - short[what].as_i64().unwrap();
    assert_eq!([more("waits"), more("copies_out"), more("allocations"), more("frees")], [5, 5, 0, 0], "{short} {long}");
    assert!(more("launches") > 0 && more("products") > 0 && more("launches") % 5 == 0, "{short} {long}");
    let [launches, products, copies] = ["launches", "products", "copies_in"].map(|what| more(what) / 5);
    println!("a step: {launches} launches, {products} products, {copies} copies in");
    nothing_left(&long);
}

#[test]
fn what_goes_wrong_is_a_sentence() {
    let bench = Bench::new();
    let refused = |name: &str, value: &str, device: &str, words: &[&str]| {
        let words: Vec<&str> = ["--device", device].iter().chain(words).copied().collect();
        let mut program = bench.train("refused", 4, &words)?;
        program.command.env(name, value);
        let (output, _) = program.run();
        let told = text(&output.stderr);
        assert!(!told.contains("panicked"), "{told}");
        Some((output.status.code(), told))
    };
    let Some((status, told)) = refused("STANDIN_GPUS", "0", "cuda", &[]) else { return };
    assert!(status == Some(2) && told.contains("CUDA_ERROR_NO_DEVICE"), "{told}");
    let (status, told) = refused("STANDIN_GPUS", "2", "cuda:2", &[]).unwrap();
    assert!(status == Some(2) && told.contains("there are 2 GPUs, numbered from 0"), "{told}");
    let (status, told) = refused("STANDIN_CAPABILITY", "75", "cuda", &[]).unwrap();
    assert!(status == Some(2) && told.contains("its compute capability is 7.x"), "{told}");
    let (status, told) = refused("STANDIN_DRIVER", "12040", "cuda", &[]).unwrap();
    assert!(status == Some(2) && told.contains("NVIDIA's driver supports CUDA 12.4"), "{told}");
    let (status, told) = refused("STANDIN_NVRTC", "refuses", "cuda", &[]).unwrap();
    assert!(status == Some(1) && told.contains("could not be compiled") && told.contains("told to refuse"), "{told}");
    // Too little memory: predicted; and where that was waved aside, met.
    let (status, told) = refused("STANDIN_MEMORY", "34000000", "cuda", &[]).unwrap();
    assert!(status == Some(2) && told.contains("--force"), "{status:?} {told}");
    let (status, told) = refused("STANDIN_MEMORY", "34000000", "cuda", &["--force"]).unwrap();
    assert!(status == Some(1) && told.contains("the memory of Stand-in GPU (cuda:0) does not suffice"), "{told}");
    assert_eq!(bench.losses("refused").len(), 0);
}

#[test]
fn a_gpu_that_is_lost_costs_what_came_after_the_last_checkpoint() {
    let bench = Bench::new();
    let words = ["--device", "cuda", "--save-every", "2", "--eval-every", NEVER, "--film-every", "0"];
    let Some(whole) = bench.train("whole", 6, &words) else { return };
    let (output, report) = whole.run();
    done(&output);
    // In the fifth of six steps.
    let launch = report["launches"].as_i64().unwrap() * 9 / 12;
    let mut lost = bench.train("lost", 6, &words).unwrap();
    lost.command.env("STANDIN_FAULT", launch.to_string());
    let (output, _) = lost.run();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("illegal memory access") && !told.contains("panicked"), "{told}");
    assert!((3..6).contains(&bench.losses("lost").len()), "{:?}", bench.losses("lost"));
    let (output, _) = bench.train("lost", 6, &["--device", "cuda", "--resume"]).unwrap().run();
    done(&output);
    assert_eq!(bench.losses("lost"), bench.losses("whole"));
}
