//! Opening a model, and the numbers that are then on the screen.

use eframe::egui::DroppedFile;
use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable as _;
use rankscope::app::{App, Start};
use rankscope::plan::Targets;
use rankscope::spectrum::{RuleId, rule_rank};
use rankscope::workspace::{Request, Scaling};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fixtures::{fixture, fixture_json};
use crate::support::*;

/// σ of a module as numpy computed them (see `tests/fixtures/README.md`).
fn golden(source: &str, module: &str) -> Vec<f64> {
    let all = fixture_json("spectra.json");
    let sigma = all[source].get(module).or_else(|| all[source].get(format!("{module}.weight"))).expect(module);
    sigma.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// Smallest rank that holds this share of the energy.
fn energy_rank(sigma: &[f64], share: f64) -> usize {
    let total: f64 = sigma.iter().map(|s| s * s).sum();
    let mut sum = 0.0;
    1 + sigma.iter().take_while(|&&s| (sum += s * s, sum < share * total).1).count()
}

/// The number at the beginning of a text.
fn value(text: &str) -> f64 {
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn near(found: f64, expected: f64, within: f64) {
    assert!((found - expected).abs() <= within, "found {found}, expected {expected} ± {within}");
}

#[test]
fn a_pair_opens_and_every_spectrum_arrives() {
    let window = llama();
    assert_eq!(known(&window), (16, 16));
    assert!(says(&window, "16 spectra computed."));
    assert!(says(&window, "16/16 computed · 1 selected"));
    assert!(says(&window, "LlamaForCausalLM · 127K parameters · BF16"), "127,296: tests/fixtures/expected.json");
    assert_eq!(selected(&window), [Q], "the first module of the first block");
    for name in [Q, K, V] {
        let sigma = golden("llama-tuned", name);
        let found = &spectrum(&window, name).sigma;
        assert_eq!(found.len(), sigma.len());
        assert!(found.iter().zip(&sigma).all(|(a, b)| (a - b).abs() < 1e-4 * sigma[0]));
    }
}

#[test]
fn the_facts_are_those_of_the_matrix() {
    let window = llama();
    let sigma = golden("llama-tuned", Q);
    let energy: f64 = sigma.iter().map(|s| s * s).sum();
    let kept: f64 = sigma[..8].iter().map(|s| s * s).sum();
    near(value(&beside(&window, "‖ΔW‖")), energy.sqrt(), 1e-4);
    near(value(&beside(&window, "σ₁")), sigma[0], 1e-4);
    near(value(&beside(&window, "E(8)")), 100.0 * kept / energy, 0.01);
    near(value(&beside(&window, "error")), 100.0 * (1.0 - kept / energy).sqrt(), 0.01);
    assert!(says(&window, "exact · 64 σ"));
}

#[test]
fn the_table_shows_every_rule() {
    let start = Start { request: Some(pair("llama", "llama-tuned")), data_dir: home(), ..Start::default() };
    let mut window = builder().with_size([1280.0, 1400.0]).build_eframe(|cc| App::new(cc, start));
    settle(&mut window);
    let sigma = golden("llama-tuned", Q);
    for (share, rule) in [(0.90, "Energy 90 %"), (0.95, "Energy 95 %"), (0.99, "Energy 99 %")] {
        get(&window, Role::Button, &format!("{rule}: {}", energy_rank(&sigma, share)));
    }
    let energy: f64 = sigma.iter().map(|s| s * s).sum();
    get(&window, Role::Button, &format!("Stable rank: {:.2}", energy / (sigma[0] * sigma[0])));
    let spectrum = spectrum(&window, Q);
    for rule in RuleId::ALL {
        let row = window.get_by(|n| {
            n.role() == Role::Button && n.label().is_some_and(|l| l.starts_with(&format!("{}: ", rule.name())))
        });
        let shown = rankscope_value(&row);
        let expected = rule_rank(spectrum, rule).unwrap() as f64;
        assert!(shown <= expected && shown > expected - 1.0, "{}: {shown} rounds up to {expected}", rule.name());
    }
}

fn rankscope_value(row: &egui_kittest::Node<'_>) -> f64 {
    use egui_kittest::kittest::NodeT as _;
    value(row.accesskit_node().label().unwrap().rsplit(": ").next().unwrap())
}

#[test]
fn the_map_shows_every_module_of_the_blocks() {
    let mut window = llama();
    for block in 0..2 {
        for (part, projection) in [
            ("self_attn", "q_proj"),
            ("self_attn", "k_proj"),
            ("self_attn", "v_proj"),
            ("self_attn", "o_proj"),
            ("mlp", "gate_proj"),
            ("mlp", "up_proj"),
            ("mlp", "down_proj"),
        ] {
            let sigma = golden("llama-tuned", &format!("model.layers.{block}.{part}.{projection}"));
            let rank = energy_rank(&sigma, 0.9);
            get(&window, Role::Button, &format!("layer {block} {projection}: rank {rank}"));
        }
    }
    // Another rule colours it.
    click(&mut window, Role::ComboBox, "Rule of the map");
    click(&mut window, Role::Button, "Energy 99 %");
    let rank = energy_rank(&golden("llama-tuned", V), 0.99);
    get(&window, Role::Button, &format!("layer 1 v_proj: rank {rank}"));
}

#[test]
fn an_adapter_finds_its_base_beside_it() {
    let mut window = open(Request::Any(fixture("llama-adapter")));
    settle(&mut window);
    assert_eq!(base(&window).canonicalize().unwrap(), fixture("llama").canonicalize().unwrap());
    assert!(says(&window, "llama-adapter"));
    let dial = window.state().workspace().dial();
    assert_eq!((dial.r, dial.alpha, dial.scaling), (4, 16.0, Scaling::Rank), "as its adapter_config.json says");
    assert_eq!(dial.targets, Targets::AllLinear, "all seven projections are among its target_modules");
    assert_eq!(get(&window, Role::ComboBox, "Targets").value().as_deref(), Some("all linear"));
    for name in [Q, K, V] {
        let sigma = golden("llama-adapter", name);
        let found = spectrum(&window, name);
        assert_eq!(found.method, "factored");
        assert!(found.sigma.iter().zip(&sigma).all(|(a, b)| (a - b).abs() < 1e-4 * sigma[0]), "{name}");
        // rank_pattern gives the first target 6.
        let rank = if name == Q { 6 } else { 4 };
        assert_eq!(found.sigma.iter().filter(|&&s| s > 1e-6 * sigma[0]).count(), rank);
    }
    near(value(&beside(&window, "σ₁")), golden("llama-adapter", Q)[0], 1e-3);
}

#[test]
fn without_a_word_the_bundled_sample_opens() {
    let folder = tempfile::tempdir().unwrap();
    let start = Start { data_dir: Some(folder.path().to_path_buf()), ..Start::default() };
    let mut window = builder().build_eframe(|cc| App::new(cc, start));
    settle(&mut window);
    assert!(base(&window).starts_with(folder.path()));
    assert_eq!(known(&window), (29, 29), "four blocks of seven, and the embedding");
    assert!(says(&window, "LlamaForCausalLM · 2.16M parameters · F16"));
    // What is not the person's is not among the recent files.
    click(&mut window, Role::Button, "Base model");
    assert!(!says(&window, "Recent"));
    drop(window);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half-made is left");
}

#[test]
fn a_weight_alone_has_a_spectrum_too() {
    let mut window = open(Request::Any(fixture("gpt2")));
    settle(&mut window);
    assert!(says(&window, "GPT2LMHeadModel"));
    assert_eq!(known(&window).0, known(&window).1);
    click(&mut window, Role::Button, "Source of ΔW");
    assert!(says(&window, "The weights themselves"));
}

/// What the system hands over when a folder is dropped.
#[derive(Debug)]
struct Dropped(PathBuf);

impl DroppedFile for Dropped {
    fn path(&self) -> &Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        Err("nobody reads a folder".into())
    }
}

#[test]
fn an_adapter_can_be_returned_to_and_custom_targets_are_filled_in() {
    let mut window = open(Request::Any(fixture("llama-adapter")));
    settle(&mut window);
    click(&mut window, Role::ComboBox, "Targets");
    click(&mut window, Role::Button, "attention q, v");
    assert_eq!(window.state().workspace().dial().targets, Targets::QV);
    click(&mut window, Role::ComboBox, "Targets");
    click(&mut window, Role::Button, "custom…");
    let field = get(&window, Role::TextInput, "Target modules").value();
    assert_eq!(field.as_deref(), Some("q_proj, v_proj"), "what counts stands in the field");
    click(&mut window, Role::ComboBox, "Targets");
    click(&mut window, Role::Button, "as the adapter");
    assert_eq!(window.state().workspace().dial().targets, Targets::AllLinear);
}

#[test]
fn a_wrong_path_can_be_mended_where_it_was_typed() {
    let mut window = llama();
    open_path(&mut window, &fixture("llama").join("nothing-here"));
    until(&mut window, "a refusal", |w| says(w, "nothing-here") && is_quiet(w));
    assert!(window.query_by_role_and_label(Role::TextInput, "Path").is_some(), "the field stays");
    assert!(window.query_by_label("Close all").is_none() && !says(&window, "⚠"), "and says it once");
    // What is typed now takes the place of what stands there.
    get(&window, Role::TextInput, "Path").type_text(fixture("gpt2").to_str().unwrap());
    window.step();
    press(&mut window, Modifiers::NONE, Key::Enter);
    until(&mut window, "the right one", |w| base(w) == fixture("gpt2"));
    settle(&mut window);
    assert!(window.query_by_role_and_label(Role::TextInput, "Path").is_none(), "the field goes");
}

#[test]
fn a_filter_does_not_outlive_its_model() {
    let mut window = llama();
    write(&mut window, "Filter modules", "no such module");
    assert!(says(&window, "0 of 16 modules"));
    open_path(&mut window, &fixture("gpt2"));
    until(&mut window, "the other model", |w| base(w) == fixture("gpt2"));
    settle(&mut window);
    let hidden = |text: &String| text.starts_with("0 of ");
    assert!(!texts(&window).iter().any(hidden), "nothing is hidden without a word");
}

#[test]
fn a_folder_dropped_on_the_window_opens() {
    let mut window = open(Request::Any(fixture("gpt2")));
    settle(&mut window);
    window.input_mut().dropped_files.push(Arc::new(Dropped(fixture("gemma3"))));
    window.step();
    settle(&mut window);
    until(&mut window, "the dropped model", |w| base(w) == fixture("gemma3"));
    settle(&mut window);
    // What was open before is one click away.
    window.input_mut().dropped_files.push(Arc::new(Dropped(fixture("llama"))));
    until(&mut window, "the other one", |w| base(w) == fixture("llama"));
    click(&mut window, Role::Button, "Base model");
    click(&mut window, Role::Button, "gemma3");
    until(&mut window, "the recent one", |w| base(w) == fixture("gemma3"));
}
