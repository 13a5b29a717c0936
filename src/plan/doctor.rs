//! What is amiss with an adapter's scale: the sentences that its loss curve does not say.

use super::layout::Layout;
use crate::adapter::{Adapter, Part, Scaling, TargetModules};
use crate::checkpoint::{NameMap, Role};
use crate::error::Result;
use crate::progress::Progress;
use crate::units::real;
use serde_json::{Map, Value};
use std::path::Path;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Worth knowing.
    Note,
    /// Probably not what was meant.
    Warning,
}

/// One sentence about an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// What is so, and what that does.
    pub text: String,
    /// What to do about it.
    pub advice: String,
}

/// The scale of one module.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// The module.
    pub module: String,
    /// Rank.
    pub r: usize,
    /// α.
    pub lora_alpha: f64,
    /// What multiplies B·A: `α/r` or `α/√r`.
    pub scaling: f64,
    /// `scaling · ‖B‖_F ‖A‖_F`: no norm of ΔW is larger.
    pub bound: f64,
}

/// Everything about an adapter's scales.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// Module by module.
    pub scales: Vec<Scale>,
    /// What to know, the worst first.
    pub findings: Vec<Finding>,
}

/// Names in a sentence before it breaks off.
const NAMED: usize = 3;

/// What `adapter_config.json` of a LoRA adapter may say: the fields of `LoraConfig` in PEFT 0.21.2, and what older ones had.
const KEYS: [&str; 44] = [
    "alora_invocation_tokens",
    "alpha_pattern",
    "arrow_config",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "enable_lora",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "kasa_config",
    "layer_replication",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_bias",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "merge_weights",
    "modules_to_save",
    "monteclora_config",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "target_parameters",
    "task_type",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "use_rslora",
    "velora_config",
];

/// Looks at an adapter: its config, the scale of each module, whether B is zero; beside its base, whether names match.
/// Reads every factor.
///
/// # Errors
/// Factors that cannot be read; cancellation.
pub fn examine(adapter: &Adapter, base: Option<&Layout>, progress: &dyn Progress) -> Result<Diagnosis> {
    let config = &adapter.config;
    let mut scales = Vec::new();
    let (mut zero, mut dora) = (Vec::new(), 0);
    for (at, layer) in adapter.layers.iter().enumerate() {
        progress.step(at as u64, adapter.layers.len() as u64)?;
        let part = Part { expert: layer.experts.map(|_| 0), ..Part::default() };
        let (b, a) = adapter.part(layer, &part)?;
        let norm = b.frobenius();
        dora += usize::from(layer.dora);
        if norm == 0.0 && !layer.dora {
            zero.push(layer.module.as_str());
        }
        scales.push(Scale {
            module: layer.module.clone(),
            r: layer.r,
            lora_alpha: layer.lora_alpha,
            scaling: layer.scaling,
            bound: if layer.dora { f64::NAN } else { layer.scaling.abs() * norm * a.frobenius() },
        });
    }
    progress.step(1, 1)?;
    let mut findings = Vec::new();
    let mut say =
        |weight, text: String, advice: &str| findings.push(Finding { weight, text, advice: advice.to_owned() });
    let json = adapter.checkpoint().adapter_config();
    let said = |key: &str| json.and_then(|json| json.get(key)).is_some_and(|value| !value.is_null());
    if !zero.is_empty() {
        let all = zero.len() == adapter.layers.len();
        say(
            Weight::Warning,
            if all {
                "B is zero in every module: this adapter changes nothing, it was never trained".to_owned()
            } else {
                format!("B is zero in {} of {} modules: {}", zero.len(), adapter.layers.len(), some(&zero))
            },
            "train it, or leave these modules out of target_modules",
        );
    }
    if dora > 0 {
        say(
            Weight::Note,
            "magnitude vectors rescale whole weights (DoRA): the scale of B·A alone says little".to_owned(),
            "compare losses instead",
        );
    }
    for key in ["lora_alpha", "r"] {
        if !said(key) && adapter.format == "PEFT" {
            say(
                Weight::Warning,
                format!("{key} is not in adapter_config.json: PEFT then takes 8, other programs may not"),
                "write it into the config",
            );
        }
    }
    if said("lora_alpha") && config.lora_alpha == 8.0 && config.r >= 32 && !config.scaling.is_rslora() {
        say(
            Weight::Warning,
            format!(
                "lora_alpha is 8, PEFT's default, beside r = {}: the scale is {}",
                config.r,
                real(8.0 / config.r as f64, 3)
            ),
            "choose α with the rank: 2 r and r are common, 16 with r = 64 is QLoRA's",
        );
    }
    if config.scaling.is_rslora() {
        let r = config.r as f64;
        say(
            Weight::Warning,
            format!(
                "use_rslora: the scale is α/√r = {}; a program that does not know it takes α/r = {}, {} times less",
                real(config.scaling.factor(config.lora_alpha, config.r), 3),
                real(Scaling::Rank.factor(config.lora_alpha, config.r), 3),
                real(r.sqrt(), 3)
            ),
            "for such programs write lora_alpha · √r as lora_alpha and use_rslora false: the same scale",
        );
    }
    // A negative scale turns a direction round; how far it goes is its size.
    let sizes: Vec<f64> = scales.iter().map(|scale| scale.scaling.abs()).collect();
    let (low, high) = sizes.iter().fold((f64::INFINITY, 0f64), |(low, high), &s| (low.min(s), high.max(s)));
    if scales.iter().any(|scale| scale.scaling < 0.0) {
        say(
            Weight::Warning,
            "lora_alpha is negative: ΔW is subtracted from the base".to_owned(),
            "intended? adapters are negated so to take away what they have learnt",
        );
    }
    if high > 1.5 * low && low.is_finite() {
        let named = |size: f64| scales.iter().find(|scale| scale.scaling.abs() == size);
        let least = named(low).map_or("", |scale| scale.module.as_str());
        let most = named(high).map_or("", |scale| scale.module.as_str());
        let advice = if config.alpha_pattern.is_empty() && !config.rank_pattern.is_empty() {
            "rank_pattern changes r and not α: give alpha_pattern the same keys to keep one scale, or use rsLoRA"
        } else {
            "intended? the same learning rate moves these modules by different amounts"
        };
        say(
            Weight::Warning,
            format!("scales differ from {} ({least}) to {} ({most})", real(low, 3), real(high, 3)),
            advice,
        );
    }
    if high > 8.0 {
        say(
            Weight::Warning,
            format!("a scale of {}: a small step of B is a large step of the weight", real(high, 3)),
            "a smaller α, or a smaller learning rate",
        );
    }
    let modules: Vec<&str> = match base {
        Some(layout) => layout.weights.iter().map(|weight| weight.name.as_str()).collect(),
        None => Vec::new(),
    };
    let adapted: Vec<&str> = adapter.layers.iter().map(|layer| layer.module.as_str()).collect();
    let where_ = if base.is_some() { "of the base" } else { "of this adapter" };
    let targets: Vec<_> = adapted.iter().map(|module| config.target(module)).collect();
    let all = || modules.iter().copied().chain(targets.iter().map(|target| &**target));
    let ranks = config.rank_pattern.iter().map(|(key, _)| ("rank_pattern", key));
    let alphas = config.alpha_pattern.iter().map(|(key, _)| ("alpha_pattern", key));
    let unused: Vec<_> = ranks.chain(alphas).filter(|(_, key)| !all().any(|module| key.matches(module))).collect();
    for what in ["rank_pattern", "alpha_pattern"] {
        let keys: Vec<&str> = unused.iter().filter(|(of, _)| *of == what).map(|(_, key)| key.text()).collect();
        if !keys.is_empty() {
            say(
                Weight::Warning,
                format!("{what}: {} matches no module {where_}", some(&keys)),
                "keys are the ends of names or regular expressions for them, as q_proj or layers.0.self_attn.q_proj",
            );
        }
    }
    if let TargetModules::Names(names) = &config.target_modules {
        let one = |name: &String| TargetModules::Names(vec![name.clone()]);
        let unused: Vec<&str> = names
            .iter()
            .filter(|name| !adapted.iter().any(|module| one(name).matches(module) == Some(true)))
            .map(String::as_str)
            .collect();
        if !unused.is_empty() {
            say(
                Weight::Warning,
                format!("target_modules: {} has no layer here", some(&unused)),
                "a spelling of another architecture?",
            );
        }
    }
    config_and_tensors(adapter, &mut say);
    if let Some(layout) = base {
        beside(adapter, layout, &mut say);
    }
    for note in adapter.notes() {
        say(Weight::Note, note, "");
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.weight));
    Ok(Diagnosis { scales, findings })
}

/// What the config says and the file does not have, and the other way round.
fn config_and_tensors(adapter: &Adapter, say: &mut dyn FnMut(Weight, String, &str)) {
    let config = &adapter.config;
    let json = adapter.checkpoint().adapter_config().and_then(Value::as_object);
    let is_lora = |json: &&Map<String, Value>| json.get("peft_type").is_none_or(|kind| kind == "LORA");
    if let Some(json) = json.filter(|json| adapter.format == "PEFT" && is_lora(json)) {
        let unknown: Vec<&str> = json.keys().map(String::as_str).filter(|key| !KEYS.contains(key)).collect();
        if !unknown.is_empty() {
            let text = format!("adapter_config.json: PEFT does not know {}", some(&unknown));
            say(Weight::Warning, text, "it leaves such keys out; a misspelled one has no effect");
        }
    }
    let saved = |end: &String| adapter.saved.iter().any(|saved| saved.is_of(end));
    // PEFT lists both names of a classifier's head, and a model has one of them.
    let head = |name: &String| HEADS.contains(&name.as_str());
    let has_head = config.modules_to_save.iter().any(|name| head(name) && saved(name));
    let missing: Vec<&str> = config
        .modules_to_save
        .iter()
        .filter(|name| !(saved(name) || head(name) && has_head))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        say(
            Weight::Warning,
            format!("modules_to_save: {} has no tensor in the file", some(&missing)),
            "the base's own is used, and what was trained of it is lost; a new head is random",
        );
    }
    let strange: Vec<&str> = adapter
        .saved
        .iter()
        .filter(|saved| !saved.trained && !saved.base_layer)
        .map(|saved| saved.tensor.as_str())
        .filter(|name| !["embed", "wte", "wpe", "lm_head", "word_embeddings"].iter().any(|part| name.contains(part)))
        .collect();
    if !strange.is_empty() {
        say(
            Weight::Warning,
            format!("{} tensors have names that the config does not explain: {}", strange.len(), some(&strange)),
            "they are no pairs, and neither modules_to_save nor bias names them: nothing of them is applied",
        );
    }
}

/// Heads that PEFT adds to `modules_to_save` for a task, whichever of them the model has.
const HEADS: [&str; 3] = ["classifier", "score", "qa_outputs"];

/// Names and shapes beside the base's. That an adapter belongs to another base is said when none of its modules is there, or
/// one has another shape.
fn beside(adapter: &Adapter, layout: &Layout, say: &mut dyn FnMut(Weight, String, &str)) {
    let names = NameMap::new(layout.weights.iter().map(|weight| weight.name.as_str()));
    let (mut missing, mut shapes) = (Vec::new(), Vec::new());
    for layer in adapter.layers.iter().filter(|layer| layer.experts.is_none()) {
        match names.find(&layer.module).map(|at| &layout.weights[at]) {
            Some(weight) if layer.kernel.is_empty() && [weight.d_out, weight.d_in] != layer.shape => {
                let table = matches!(weight.role, Role::Embedding | Role::Head) && weight.d_in == layer.shape[1];
                if !table {
                    shapes.push(format!(
                        "{} is {} × {}, here {} × {}",
                        layer.module, layer.shape[0], layer.shape[1], weight.d_out, weight.d_in
                    ));
                }
            }
            Some(_) => {}
            // The head of a model whose head is its embedding is not in its file.
            None if layer.role == Role::Head && !layout.weights.iter().any(|weight| weight.role == Role::Head) => {}
            None => missing.push(layer.module.as_str()),
        }
    }
    let stem = layout.spec.as_ref().and_then(|spec| spec.class_stem());
    if let Some([file, class]) = stem.filter(|_| adapter.format == "PEFT") {
        let by_file: Vec<&str> = adapter
            .layers
            .iter()
            .map(|layer| layer.module.as_str())
            .filter(|module| module.starts_with(&file) && !module.starts_with(&class))
            .collect();
        if !by_file.is_empty() {
            let text = format!(
                "{} modules have the names of the base's file, such as {}: transformers' class has {class} in place of {file}, and PEFT \
                 leaves names out that it does not know, without an error",
                by_file.len(),
                by_file[0]
            );
            say(Weight::Warning, text, "doctor --for peft --repair DIR writes a copy with the class's names");
        }
    }
    let there = layout.weights.iter().find(|weight| weight.linear).map_or("none", |weight| weight.name.as_str());
    if let Some(first) = shapes.first() {
        let text = format!("{} modules have another shape in {}: {first}", shapes.len(), layout.name);
        say(Weight::Warning, text, "the adapter belongs to another base");
    } else if !missing.is_empty() && missing.len() == adapter.layers.len() {
        let text = format!("none of its modules is in {}: {} beside {there}", layout.name, some(&missing));
        say(Weight::Warning, text, "the adapter belongs to another base");
    } else if !missing.is_empty() {
        let text = format!("{} is not in {}, the other modules are", some(&missing), layout.name);
        say(Weight::Warning, text, "these modules are left out");
    }
}

fn some(names: &[&str]) -> String {
    let more = if names.len() > NAMED { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(NAMED)].join(", "))
}

/// [`examine`] for a folder.
///
/// # Errors
/// As [`Adapter::open`] and [`examine`].
pub fn examine_folder(path: &Path, base: Option<&Layout>, progress: &dyn Progress) -> Result<Diagnosis> {
    examine(&Adapter::open(path)?, base, progress)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{NewAdapter, NewLayer};
    use crate::checkpoint::Dtype;
    use crate::matrix::Matrix;
    use serde_json::json;

    /// An adapter of two modules whose config is changed by `change`.
    fn examined(fill: f32, change: impl Fn(&mut Value)) -> Diagnosis {
        let folder = tempfile::tempdir().unwrap();
        let layer = |module: &str, r| NewLayer {
            module: module.into(),
            shape: [6, 6],
            r,
            lora_alpha: r as f64,
            ..NewLayer::default()
        };
        let layers = vec![layer("model.layers.0.self_attn.q_proj", 4), layer("model.layers.0.self_attn.v_proj", 4)];
        let adapter = NewAdapter { layers, ..NewAdapter::default() };
        let factors = |_: usize| Ok((Matrix::from_fn(6, 4, |_, _| fill), Matrix::from_fn(4, 6, |_, _| 1.0)).into());
        adapter.write(folder.path(), Dtype::F32, &factors).unwrap();
        let mut config = adapter.to_json();
        change(&mut config);
        std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
        examine_folder(folder.path(), None, &()).unwrap()
    }

    fn texts(diagnosis: &Diagnosis) -> String {
        diagnosis.findings.iter().map(|finding| format!("{}\n", finding.text)).collect()
    }

    #[test]
    fn a_sound_adapter_has_nothing_to_say() {
        let sound = examined(0.5, |_| ());
        assert_eq!(sound.findings, []);
        assert_eq!(sound.scales.len(), 2);
        assert_eq!(sound.scales[0].scaling, 1.0);
        // ‖B‖ = √(24 · 0.25), ‖A‖ = √24.
        assert!((sound.scales[0].bound - (6f64 * 24.0).sqrt()).abs() < 1e-6);
    }

    #[test]
    fn every_fault_is_named() {
        assert!(texts(&examined(0.0, |_| ())).contains("B is zero in every module"));
        let text = texts(&examined(0.5, |config| config["lora_alpha"] = Value::Null));
        assert!(text.contains("lora_alpha is not in adapter_config.json: PEFT then takes 8"), "{text}");
        let text = texts(&examined(0.5, |config| {
            config["use_rslora"] = json!(true);
            config["lora_alpha"] = json!(8);
        }));
        assert!(text.contains("α/√r = 4.00") && text.contains("α/r = 2.00, 2.00 times less"), "{text}");
        let text = texts(&examined(0.5, |config| config["use_rlsora"] = json!(true)));
        assert!(text.contains("PEFT does not know use_rlsora"), "{text}");
        let text = texts(&examined(0.5, |config| config["modules_to_save"] = json!(["lm_head", "norm"])));
        assert!(text.contains("modules_to_save: lm_head, norm has no tensor in the file"), "{text}");
        let text = texts(&examined(0.5, |config| config["rank_pattern"] = json!({"c_attn": 3})));
        assert!(text.contains("rank_pattern: c_attn matches no module of this adapter"), "{text}");
        let text = texts(&examined(0.5, |config| config["target_modules"] = json!(["q_proj", "v_proj", "c_attn"])));
        assert!(text.contains("target_modules: c_attn has no layer here"), "{text}");
        let found = examined(0.5, |config| config["alpha_pattern"] = json!({"v_proj": 40}));
        let text = texts(&found);
        assert!(text.contains("scales differ from 1.00 (model.layers.0.self_attn.q_proj) to 10.0"), "{text}");
        assert!(text.contains("a scale of 10.0"), "{text}");
    }
}
