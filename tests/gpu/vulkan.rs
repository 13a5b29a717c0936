//! `--device vulkan`: the program to its end, killed and resumed; where there is no GPU, on the driver that computes on the
//! processor, which is never taken by itself.

use super::fixtures;
use rankscope::checkpoint::Checkpoint;
use rankscope::device::Api;
use rankscope::model::gpu::wgpu::Wgpu;
use rankscope::model::gpu::{Gpu, Machine, Model};
use rankscope::model::{ComputeDtype, Decoder, Frozen};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Vulkan shows something.
fn there() -> bool {
    let found = Wgpu::open(Api::Vulkan, 0);
    assert!(found.is_ok() || std::env::var_os("RANKSCOPE_REQUIRE_PIXELS").is_none(), "{found:?}");
    found.is_ok()
}

struct Runs {
    folder: tempfile::TempDir,
}

impl Runs {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let row =
            |row: u32| json!({"input_ids": (0..24).map(|at| (row * 31 + at * 7) % 300 + 3).collect::<Vec<u32>>()});
        fs::write(folder.path().join("data.jsonl"), (0..8).map(|at| format!("{}\n", row(at))).collect::<String>())
            .unwrap();
        Self { folder }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn train(&self, out: &str, steps: usize, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rankscope"));
        command.arg("train").arg(fixtures().join("llama")).arg("--data").arg(self.at("data.jsonl"));
        command.arg("--out").arg(self.at(out)).args([
            "--steps",
            &steps.to_string(),
            "--batch",
            "2",
            "--accumulate",
            "2",
        ]);
        command.args([
            "--seq",
            "24",
            "--json",
            "--targets",
            "all-linear",
            "--rank",
            "4",
            "--lr",
            "2e-3",
            "--warmup",
            "2",
        ]);
        command.args(["--eval-every", "1000000", "--film-every", "0"]).args(words);
        command
    }

    fn losses(&self, out: &str) -> Vec<f64> {
        let text = fs::read_to_string(self.at(out).join("metrics.jsonl")).unwrap_or_default();
        let rows = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        rows.filter_map(|row| row["loss"].as_f64()).collect()
    }
}

fn done(output: &Output) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn a_run_is_that_of_the_processor_killed_or_not() {
    if !there() {
        return;
    }
    let runs = Runs::new();
    let (vulkan, steps) = (["--device", "vulkan", "--dtype", "f32", "--save-every", "2"], 12);
    let whole = runs.train("whole", steps, &vulkan).output().unwrap();
    done(&whole);
    done(&runs.train("cpu", steps, &["--device", "cpu"]).output().unwrap());
    let (found, expected) = (runs.losses("whole"), runs.losses("cpu"));
    assert_eq!(found.len(), steps);
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() < 1e-3, "step {at}: {found} against {expected}");
    }
    let said = String::from_utf8_lossy(&whole.stderr);
    assert!(said.contains("computing on") && said.contains("(vulkan)"), "{said}");
    // Killed as soon as there is a checkpoint.
    let mut killed = runs.train("killed", steps, &vulkan);
    let mut killed = killed.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let begin = Instant::now();
    while runs.losses("killed").len() < 4
        && begin.elapsed() < Duration::from_secs(120)
        && killed.try_wait().unwrap().is_none()
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = killed.kill();
    killed.wait().unwrap();
    assert!(runs.losses("killed").len() >= 4);
    done(&runs.train("killed", steps, &[&vulkan[..], &["--resume"]].concat()).output().unwrap());
    assert_eq!(runs.losses("killed"), found);
}

#[test]
fn what_goes_wrong_is_a_sentence() {
    if !there() {
        return;
    }
    let said = |words: &[&str]| {
        let output = Runs::new().train("refused", 2, words).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, text) = said(&["--device", "vulkan:99"]);
    assert!(status == Some(2) && text.contains("device vulkan:99 cannot be used: Vulkan shows"), "{text}");
    let (status, text) = said(&["--device", "metal"]);
    assert!(status == Some(2) && text.contains("Metal is not of this system"), "{text}");
    // A device that is lost in the middle: every answer is a sentence from then on.
    let machine = Wgpu::open(Api::Vulkan, 0).unwrap();
    let decoder = Decoder::load(&Checkpoint::open(&fixtures().join("llama")).unwrap(), Frozen::AsStored, &()).unwrap();
    let model = Model::new(Gpu::new(Arc::<Wgpu>::clone(&machine), ComputeDtype::F32), &decoder).unwrap();
    machine.lose();
    let mut sequence = rankscope::model::Engine::sequence(&model, &decoder, 8).unwrap();
    let error = sequence.next(&[1, 2, 3], 3).unwrap_err();
    assert!(error.status() == 1 && error.to_string().contains("(vulkan) says: "), "{error}");
    // More than there is of anything.
    let machine = Wgpu::open(Api::Vulkan, 0).unwrap();
    assert!(machine.allocate(1 << 50).unwrap().is_none());
}

/// What there is to compute on is listed; a driver on the processor is, but `auto` does not mean it.
#[test]
fn devices_are_listed() {
    if !there() {
        return;
    }
    let listed = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_rankscope")).args(words).output().unwrap();
        done(&output);
        String::from_utf8(output.stdout).unwrap()
    };
    let text = listed(&["inspect", "--devices"]);
    assert!(text.contains("cpu: ") && text.contains("vulkan: ") && text.contains("auto: "), "{text}");
    let document: Value = serde_json::from_str(&listed(&["inspect", "--devices", "--json"])).unwrap();
    let found = document["devices"].as_array().unwrap();
    let of = |device: &Value| found.iter().find(|row| row["device"] == *device).unwrap().clone();
    let auto = of(&document["auto"]["device"]);
    assert!(!auto["name"].as_str().unwrap().contains("computes on the processor"), "{document}");
}
