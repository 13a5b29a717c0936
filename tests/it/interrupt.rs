//! Ctrl-C, SIGTERM and SIGHUP end a subcommand at its next step, with exit status 130; a run saves a checkpoint first.
#![cfg(unix)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn an_interrupted_spectrum_exits_with_130() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let side = 1280;
    let mut state = 1u32;
    let mut value = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let tensors: Vec<crate::support::Stored> = (0..24)
        .map(|layer| {
            let values: Vec<f32> = (0..side * side).map(|_| value()).collect();
            crate::support::f32s(&format!("model.layers.{layer}.self_attn.q_proj.weight"), &[side, side], &values)
        })
        .collect();
    std::fs::write(&path, crate::support::tensors(&tensors)).unwrap();

    let mut child = Command::new(env!("CARGO_BIN_EXE_rankscope"))
        .args(["spectrum", "--method", "exact", "--base"])
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Rows come as they are ready: the title and the first row say that the work is under way.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("module"));
    assert!(lines.next().unwrap().unwrap().contains("q_proj"));
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let rest = lines.count();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(rest < 23, "all modules were computed all the same");
}

/// A run of many steps on the small Llama, once it has done some.
fn training(folder: &std::path::Path, nohup: bool) -> std::process::Child {
    let rows = (0..20u32).map(|row| {
        let ids: Vec<u32> = (0..20).map(|at| (row * 31 + at * 7) % 300 + 3).collect();
        format!("{{\"input_ids\": {ids:?}}}\n")
    });
    std::fs::write(folder.join("data.jsonl"), rows.collect::<String>()).unwrap();
    let model = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama");
    let mut command = Command::new(if nohup { "nohup" } else { env!("CARGO_BIN_EXE_rankscope") });
    if nohup {
        command.arg(env!("CARGO_BIN_EXE_rankscope"));
    }
    let command = command.arg("train").arg(model).args(["--method", "lora", "--steps", "1000000", "--save-every", "0"]);
    let command = command.args(["--film-every", "0", "--data", "data.jsonl", "--out", "run"]).current_dir(folder);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let mut lines = stderr.lines();
    let third = lines.find(|line| line.as_ref().unwrap().trim_start().starts_with("step     3"));
    assert!(third.is_some());
    // It goes on writing, and must find a reader.
    std::thread::spawn(move || lines.count());
    child
}

fn send(signal: &str, child: &std::process::Child) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn a_run_that_is_ended_saves_a_checkpoint_first() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = training(folder.path(), false);
        send(signal, &child);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
        let status = std::fs::read_to_string(folder.path().join("run/status.json")).unwrap();
        assert!(status.contains("\"stopped\""), "{signal}: {status}");
        let metrics = std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
        let step = metrics.lines().count();
        assert!(folder.path().join(format!("run/checkpoints/step-{step}/state.json")).is_file(), "{signal}");
    }
}

/// Under `nohup` the end of the terminal is not the end of the run.
#[test]
fn a_hangup_that_is_ignored_stays_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = training(folder.path(), true);
    let lines = || std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap().lines().count();
    send("-HUP", &child);
    let before = lines();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while lines() < before + 20 && std::time::Instant::now() < end {
        assert_eq!(child.try_wait().unwrap(), None);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(lines() >= before + 20);
    send("-TERM", &child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
