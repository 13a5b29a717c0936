//! Ctrl-C ends a subcommand at its next step, with exit status 130.
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
