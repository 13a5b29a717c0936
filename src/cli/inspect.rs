//! `rankscope inspect`: what is in a file.

use super::screen::Screen;
use super::text::{Table, or_dash};
use crate::adapter::{Adapter, PeftConfig, TargetModules};
use crate::checkpoint::{Checkpoint, Kind};
use crate::device::{self, Choice, Device};
use crate::error::Result;
use crate::model::gpu;
use crate::units::{bytes, exact, real, shape, visible};
use clap::Args;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Args)]
pub struct Inspect {
    /// Model or adapter: a .safetensors file, or a folder as on the Hugging Face Hub
    #[arg(required_unless_present = "devices")]
    path: Option<PathBuf>,
    /// List what there is to compute on, for what cannot be used why, and what auto means
    #[arg(long, conflicts_with = "path")]
    devices: bool,
}

impl Inspect {
    pub fn run(self, screen: &Screen) -> Result<()> {
        let Some(path) = &self.path else { return devices(screen) };
        let checkpoint = Arc::new(Checkpoint::open(path)?);
        let adapter = match (checkpoint.kind(), Adapter::from_checkpoint(Arc::clone(&checkpoint))) {
            (Kind::Model, _) => None,
            (Kind::Adapter, Ok(adapter)) => Some(adapter),
            (Kind::Adapter, Err(error)) if checkpoint.adapter_config().is_some() => return Err(error),
            // Factors in words that are not known here: they are listed as the tensors that the file holds.
            (Kind::Adapter, Err(_)) => None,
        };
        if screen.json {
            return screen.document(&document(&checkpoint, adapter.as_ref()));
        }
        let text = summary(&checkpoint, adapter.as_ref()) + "\n" + &table(&checkpoint, adapter.as_ref()).render();
        screen.print(&text)
    }
}

/// What there is to compute on.
fn devices(screen: &Screen) -> Result<()> {
    let (all, auto) = (device::devices(), gpu::auto());
    if screen.json {
        let row = |(choice, found): &(Choice, Result<Device>)| {
            json!({
                "device": choice.to_string(),
                "name": found.as_ref().ok().map(|device| device.name.clone()),
                "memory_free": found.as_ref().ok().and_then(|device| Some(device.memory?.free)),
                "problem": found.as_ref().err().map(ToString::to_string),
            })
        };
        let rows: Vec<Value> = all.iter().map(row).collect();
        return screen.document(&json!({
            "devices": rows,
            "auto": { "device": auto.choice.to_string(), "why": auto.why },
        }));
    }
    let line = |(choice, found): &(Choice, Result<Device>)| match found {
        Ok(device) => format!("{choice}: {device}\n"),
        Err(why) => format!("{choice}: {why}\n"),
    };
    let mut text: String = all.iter().map(line).collect();
    let why = auto.why.map_or_else(String::new, |why| format!(" ({why})"));
    text.push_str(&format!("auto: {}{why}\n", auto.choice));
    screen.print(&text)
}

fn document(checkpoint: &Checkpoint, adapter: Option<&Adapter>) -> Value {
    let dtypes: Map<String, Value> =
        checkpoint.dtypes().iter().map(|(dtype, count)| (dtype.name().to_owned(), json!(count))).collect();
    let modules: Vec<Value> = match adapter {
        None => checkpoint
            .modules()
            .iter()
            .map(|module| {
                json!({
                    "name": module.name,
                    "shape": module.shape,
                    "dtype": module.dtype.name(),
                    "stored": module.about,
                    "layer": module.layer,
                    "role": module.role.as_str(),
                    "linear": module.linear,
                    "parameters": module.parameters,
                    "tied": module.tied,
                    "problem": module.problem,
                })
            })
            .collect(),
        Some(adapter) => adapter
            .layers
            .iter()
            .map(|layer| {
                json!({
                    "name": layer.module,
                    "shape": layer.shape,
                    "dtype": layer.dtype.name(),
                    "layer": layer.layer,
                    "role": layer.role.as_str(),
                    "linear": !layer.embedding,
                    "parameters": layer.parameters,
                    "r": layer.r,
                    "lora_alpha": layer.lora_alpha,
                    "scaling": layer.scaling,
                    "problem": adapter.problem(layer),
                })
            })
            .collect(),
    };
    let mut document = json!({
        "kind": checkpoint.kind().as_str(),
        "name": checkpoint.name(),
        "format": checkpoint.format(),
        "architecture": checkpoint.architecture(),
        "parameters": checkpoint.parameters(),
        "bytes": checkpoint.bytes(),
        "dtypes": dtypes,
        "modules": modules,
    });
    if let Some(adapter) = adapter {
        let config = &adapter.config;
        document["adapter"] = json!({
            "r": config.r,
            "lora_alpha": config.lora_alpha,
            "trainable": adapter.trainable(),
            "format": adapter.format,
            "use_rslora": config.scaling.is_rslora(),
            "use_dora": config.use_dora,
            "fan_in_fan_out": config.fan_in_fan_out,
            "bias": config.bias,
            "target_modules": match &config.target_modules {
                TargetModules::Unsaid => Value::Null,
                TargetModules::Names(names) => json!(names),
                TargetModules::Pattern(pattern) => json!(pattern),
            },
            "rank_pattern": config.rank_pattern.iter().map(|(key, r)| (key.text().to_owned(), json!(r))).collect::<Map<_, _>>(),
            "alpha_pattern":
                config.alpha_pattern.iter().map(|(key, alpha)| (key.text().to_owned(), json!(alpha))).collect::<Map<_, _>>(),
            "base_model_name_or_path": config.base_model_name_or_path,
            "task_type": config.task_type,
            "saved_whole": adapter.saved.iter().map(|saved| &saved.name).collect::<Vec<_>>(),
            "trained_tokens":
                adapter.tokens.iter().map(|one| (one.module.clone(), json!(one.rows))).collect::<Map<_, _>>(),
            "left_out": adapter.broken.iter().map(|(name, error)| json!({"name": name, "reason": error.to_string()}))
                .collect::<Vec<_>>(),
            "notes": adapter.notes(),
        });
    }
    document
}

fn summary(checkpoint: &Checkpoint, adapter: Option<&Adapter>) -> String {
    let dtypes: Vec<String> =
        checkpoint.dtypes().iter().map(|(dtype, count)| format!("{count} {}", dtype.name())).collect();
    let mut lines = vec![
        ("kind", format!("{}, {}", checkpoint.kind().as_str(), checkpoint.format())),
        ("size", format!("{} parameters, {}", exact(checkpoint.parameters()), bytes(checkpoint.bytes()))),
        ("tensors", dtypes.join(", ")),
    ];
    if let Some(architecture) = checkpoint.architecture() {
        lines.insert(1, ("architecture", architecture.to_owned()));
    }
    if let Some(adapter) = adapter {
        lines.extend(adapter_lines(adapter, &adapter.config));
    } else {
        let linear = checkpoint.modules().iter().filter(|module| module.linear);
        let (count, parameters) =
            linear.fold((0, 0), |(count, sum), module| (count + 1, module.parameters.saturating_add(sum)));
        lines.push(("linear", format!("{count} layers, {} parameters", exact(parameters))));
    }
    let text: String = lines.iter().map(|(key, value)| format!("  {key:<14}{}\n", visible(value))).collect();
    format!("{}\n{text}", visible(&checkpoint.name()))
}

fn adapter_lines(adapter: &Adapter, config: &PeftConfig) -> Vec<(&'static str, String)> {
    let kind = if config.use_dora {
        "DoRA"
    } else if config.scaling.is_rslora() {
        "rsLoRA, α/√r"
    } else {
        "LoRA, α/r"
    };
    let targets = match &config.target_modules {
        TargetModules::Unsaid => "not said".to_owned(),
        TargetModules::Names(names) => names.join(", "),
        TargetModules::Pattern(pattern) => pattern.clone(),
    };
    let mut lines = vec![
        ("rank", format!("r {}, lora_alpha {} ({kind})", config.r, config.lora_alpha)),
        ("targets", targets),
        ("trainable", exact(adapter.trainable())),
    ];
    if !config.rank_pattern.is_empty() {
        let pattern: Vec<String> = config.rank_pattern.iter().map(|(key, r)| format!("{} {r}", key.text())).collect();
        lines.push(("rank_pattern", pattern.join(", ")));
    }
    if !config.alpha_pattern.is_empty() {
        let pattern: Vec<String> =
            config.alpha_pattern.iter().map(|(key, alpha)| format!("{} {alpha}", key.text())).collect();
        lines.push(("alpha_pattern", pattern.join(", ")));
    }
    if let Some(base) = &config.base_model_name_or_path {
        lines.push(("made for", base.clone()));
    }
    lines.extend(adapter.notes().into_iter().map(|note| ("note", note)));
    lines
}

fn table(checkpoint: &Checkpoint, adapter: Option<&Adapter>) -> Table {
    if let Some(adapter) = adapter {
        let mut table =
            Table::new(&["module", ">shape", "type", ">block", "role", ">r", ">lora_alpha", ">scaling", ">parameters"]);
        for layer in &adapter.layers {
            table.push(vec![
                layer.module.clone(),
                shape(&layer.shape),
                layer.dtype.name().to_owned(),
                or_dash(layer.layer),
                layer.role.as_str().to_owned(),
                layer.r.to_string(),
                layer.lora_alpha.to_string(),
                real(layer.scaling, 3),
                exact(layer.parameters),
            ]);
        }
        return table;
    }
    let mut table = Table::new(&["module", ">shape", "type", ">block", "role", ">parameters", ""]);
    for module in checkpoint.modules() {
        table.push(vec![
            module.name.clone(),
            shape(&module.shape),
            module.dtype.name().to_owned(),
            or_dash(module.layer),
            module.role.as_str().to_owned(),
            exact(module.parameters),
            module.problem.clone().or_else(|| module.tied.then(|| "tied".to_owned())).unwrap_or_default(),
        ]);
    }
    table
}
