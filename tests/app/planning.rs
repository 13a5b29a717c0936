//! The choice of a rank: memory, the paper, ranks under a budget and what is made of them, a probe, directions, scales.

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers, vec2};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use rankscope::adapter::Adapter;
use rankscope::plan::memory::CONTEXT;
use rankscope::units;
use tempfile::TempDir;

use crate::fixtures::fixture;
use crate::support::*;
use crate::training::{ready, runs};

fn part(window: &mut Window, name: &str) {
    click(window, Role::Button, name);
    settle(window);
}

fn parameters(window: &mut Window) {
    press(window, Modifiers::COMMAND, Key::Num4);
}

#[test]
fn memory_stands_against_real_gpus() {
    let mut window = llama();
    parameters(&mut window);
    part(&mut window, "Memory");
    until(&mut window, "a prediction", |w| says(w, "QLoRA needs ") && says(w, "Full needs "));
    assert!(says(&window, "QLoRA fits A100, H100"), "127 thousand parameters fit anywhere");
    // What is counted is what is said.
    assert!(says(&window, &format!("On a GPU {} are added", units::bytes(CONTEXT))), "{:?}", texts(&window));
    // 175B in 16 bytes for each parameter fit nowhere.
    click(&mut window, Role::ComboBox, "Model to count");
    let title = window
        .get_all_by_role(Role::Button)
        .filter_map(|n| n.accesskit_node().label())
        .find(|l| l.starts_with("GPT-3"));
    click(&mut window, Role::Button, &title.unwrap());
    until(&mut window, "the other model", |w| says(w, "Memory of GPT-3 175B"));
    assert!(says(&window, "Full does not fit MI325X") && says(&window, "QLoRA does not fit L4, A10G"));
}

#[test]
fn the_paper_is_beside_its_formulas() {
    let mut window = llama();
    parameters(&mut window);
    // Rows that are not in sight are not there.
    window.set_size(vec2(1920.0, 1200.0));
    part(&mut window, "The paper");
    for text in [
        "PrefixLayer l_p=8, l_i=8",
        "LoRA r_q=r_v=1",
        "18,874,368",
        "20.2M",
        "−1,325,632",
        "does not follow the paper's own formula",
    ] {
        assert!(says(&window, text), "{text}");
    }
    assert!(says(&window, "WikiSQL accuracy against trainable parameters"));
    click(&mut window, Role::Button, "MNLI-m");
    assert!(says(&window, "MNLI-m accuracy against trainable parameters"));
}

#[test]
fn a_budget_becomes_an_adapter_and_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = llama();
    parameters(&mut window);
    part(&mut window, "Ranks");
    until(&mut window, "ranks", |w| says(w, "of ΔW's energy."));
    write(&mut window, "Budget", "10");
    until(&mut window, "a refusal", |w| says(w, "too small for rank 1 anywhere"));
    write(&mut window, "Budget", "4000");
    until(&mut window, "ranks", |w| says(w, "of ΔW's energy."));
    let report = folder.path().join("plan.html");
    write(&mut window, "Write to", report.to_str().unwrap());
    click(&mut window, Role::Button, "Report as HTML");
    until(&mut window, "the report", |_| report.is_file());
    let html = std::fs::read_to_string(&report).unwrap();
    assert!(html.contains("<svg") && html.contains("LoraConfig(") && html.contains("Memory of llama"));
    settle(&mut window);
    let adapter = folder.path().join("adapter");
    write(&mut window, "Write to", adapter.to_str().unwrap());
    click(&mut window, Role::Button, "Adapter");
    until(&mut window, "the adapter", |w| says(w, "modules written"));
    assert!(Adapter::open(&adapter).unwrap().trainable() <= 4000);
}

#[test]
fn gradients_before_any_training() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.jsonl");
    let row = |row: u32| {
        format!("{{\"input_ids\": {:?}}}\n", (0..20).map(|at| (row * 31 + at * 7) % 300 + 3).collect::<Vec<_>>())
    };
    std::fs::write(&data, (0..8).map(row).collect::<String>()).unwrap();
    let mut window = llama();
    parameters(&mut window);
    part(&mut window, "Probe & data");
    write(&mut window, "Data", data.to_str().unwrap());
    click(&mut window, Role::Button, "Count tokens");
    until(&mut window, "the tokens", |w| says(w, "8 rows, 160 tokens") && says(w, "for 152 predicted tokens"));
    click(&mut window, Role::Button, "Probe gradients");
    until(&mut window, "a gradient", |w| says(w, "the suggested ranks train"));
    assert!(says(&window, "self_attn.q_proj: rank "));
}

#[test]
fn directions_of_an_update() {
    let mut window = llama();
    click(&mut window, Role::Button, "Directions");
    until(&mut window, "the amplification", |w| says(w, "as strong as W itself in ΔW's"));
    click(&mut window, Role::Button, "Look for intruders");
    until(&mut window, "intruders", |w| says(w, "strongest directions are new"));
    write(&mut window, "Another update", fixture("llama-tuned").to_str().unwrap());
    click(&mut window, Role::Button, "Compare");
    until(&mut window, "φ", |w| says(w, "Shared directions of model.layers.0.self_attn.q_proj: φ("));
    click(&mut window, Role::Button, "Forget");
    until(&mut window, "the field again", |w| says(w, "Two ranks, two seeds or two checkpoints"));
}

#[test]
fn scales_of_an_adapter() {
    let mut window = open(pair("llama", "llama-adapter"));
    settle(&mut window);
    parameters(&mut window);
    part(&mut window, "Check");
    until(&mut window, "the scales", |w| says(w, "Effective scales") && says(w, "q_proj: scale "));
    // Each program that serves adapters has a line; this one is PEFT's, which two of them take as it is.
    assert!(says(&window, "Will it be served?") && says(&window, "it takes a GGUF file, made for its base"));
    for name in ["vllm", "llama.cpp", "ollama", "mlx", "sglang"] {
        get(&window, Role::Label, name);
    }
}

/// What a probe suggests becomes the next run: the dial's targets, and a rank for each module.
#[test]
fn ranks_of_a_probe_are_trained_with() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = ready(&folder, 3);
    parameters(&mut window);
    part(&mut window, "Probe & data");
    click(&mut window, Role::Button, "As in Train");
    click(&mut window, Role::Button, "Probe gradients");
    until(&mut window, "a gradient", |w| says(w, "the suggested ranks train"));
    click(&mut window, Role::Button, "Use in Train");
    until(&mut window, "the ranks", |w| says(w, "stand in Train.") && says(w, "The data as the model will see it"));
    click(&mut window, Role::Button, "Start the run");
    let settings = || rankscope::train::run_folder::RunFolder::new(runs(folder.path()).first()?).settings().ok();
    until(&mut window, "the run", |w| settings().is_some() && is_quiet(w));
    let settings = settings().unwrap();
    assert!(!settings.rank_pattern.is_empty() && settings.rank_pattern.values().all(|&r| r > 0));
    assert!(settings.rank_pattern.keys().all(|name| settings.targets.contains(name.as_str())));
}

/// One rank for all and a rank for each, three seeds of each: Compare says whether the seeds can tell them apart.
#[test]
fn both_choices_are_trained_and_the_seeds_decide() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = ready(&folder, 3);
    parameters(&mut window);
    part(&mut window, "Ranks");
    until(&mut window, "ranks", |w| says(w, "of ΔW's energy.") && is_quiet(w));
    click(&mut window, Role::Button, "Train both");
    let ended = |folder: &TempDir| {
        let groups = runs(folder.path());
        let inside = groups.iter().flat_map(|group| std::fs::read_dir(group).into_iter().flatten());
        inside
            .filter(|run| run.as_ref().is_ok_and(|run| run.path().join("adapter_model.safetensors").is_file()))
            .count()
    };
    until(&mut window, "six runs", |w| ended(&folder) == 6 && is_quiet(w));
    until(&mut window, "a verdict", |w| says(w, "no difference is shown.") || says(w, "more than the seeds differ."));
    get(&window, Role::Image, "Held-out loss over seeds");
}
