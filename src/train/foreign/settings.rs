//! What a folder of another program says about its settings, as far as this program has them too.

use super::Foreign;
use super::points::Points;
use crate::checkpoint::{hub, json};
use crate::train::{Method, Settings};
use serde_json::Value;
use std::path::{Path, PathBuf};

const ADAPTER: &str = "adapter_config.json";
const CONFIG: &str = "config.json";

/// The settings that are known of a run, and whether method and rank are among them. Those that are not stand at their defaults.
pub(super) fn of(folder: &Path, foreign: &Foreign, points: &Points) -> (Settings, bool) {
    let mut settings =
        Settings { out: folder.to_path_buf(), method: Method::Lora, targets: String::new(), ..Settings::default() };
    settings.lr = points.peak_lr().unwrap_or(settings.lr);
    settings.steps = points.total;
    settings.batch = points.batch.unwrap_or(settings.batch);
    // The result's first, then those of the checkpoints, the newest first; of a file the folder around it.
    let places = foreign.result.iter().chain(foreign.checkpoints.iter().rev().map(|saved| &saved.path).take(2));
    for place in places.chain(std::iter::once(&folder.to_path_buf())) {
        let around = if place.is_dir() { place } else { place.parent().unwrap_or(place) };
        if let Ok(config) = json::object(&around.join(ADAPTER)) {
            adapter(&mut settings, &config, folder);
            return (settings, true);
        }
        if around.join(CONFIG).is_file() && (place != folder || foreign.result.is_some()) {
            let config = json::object(&around.join(CONFIG)).unwrap_or_default();
            settings.method = Method::Full;
            if let Some(name) = config["_name_or_path"].as_str().filter(|name| !name.is_empty()) {
                settings.model = model(name, folder);
            }
            return (settings, true);
        }
    }
    (settings, false)
}

fn adapter(settings: &mut Settings, config: &Value, folder: &Path) {
    // mlx-lm keeps rank and scale among `lora_parameters`; PEFT beside everything else.
    let lora = &config["lora_parameters"];
    let rank = config["r"].as_u64().or_else(|| lora["rank"].as_u64());
    settings.rank = rank.map_or(settings.rank, |rank| rank.clamp(1, 1_000_000) as usize);
    let scaled = lora["scale"].as_f64().map(|scale| scale * settings.rank as f64);
    settings.alpha = config["lora_alpha"].as_f64().or(scaled).filter(|alpha| *alpha > 0.0);
    settings.rslora = config["use_rslora"].as_bool().unwrap_or(false);
    settings.dora = config["use_dora"].as_bool().unwrap_or(config["fine_tune_type"] == "dora");
    settings.targets = match &config["target_modules"] {
        Value::String(one) => one.clone(),
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        _ => String::new(),
    };
    let name = config["base_model_name_or_path"].as_str().or_else(|| config["model"].as_str());
    if let Some(name) = name {
        settings.model = model(name, folder);
    }
    if !lora.is_null() {
        settings.lr = config["learning_rate"].as_f64().unwrap_or(settings.lr);
        settings.batch = config["batch_size"].as_u64().map_or(settings.batch, |batch| batch as usize);
        settings.steps = config["iters"].as_u64().map(|steps| steps as usize).or(settings.steps);
        settings.seed = config["seed"].as_u64().unwrap_or(settings.seed);
        settings.data = config["data"].as_str().map(PathBuf::from).unwrap_or_default();
    }
}

/// A model by the name that a run gives it: a path that is there, one beside the run, one in the hub's cache; else the name.
fn model(name: &str, folder: &Path) -> PathBuf {
    let path = PathBuf::from(name);
    if path.exists() {
        return path;
    }
    let beside = folder.parent().map(|around| around.join(path.file_name().unwrap_or_default()));
    if let Some(beside) = beside.filter(|beside| beside.join(CONFIG).is_file()) {
        return beside;
    }
    hub::cached().into_iter().find(|cached| cached.name == name).map_or(path, |cached| cached.path)
}
