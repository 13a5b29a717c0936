//! `rankscope plan`: the best ranks for a budget, beside one rank for all; as PEFT's config, as Python, as a report.

use super::extract::{Keep, names};
use super::screen::Screen;
use super::text::Table;
use crate::adapter::Adapter;
use crate::checkpoint::write::write_whole;
use crate::checkpoint::{Checkpoint, Dtype};
use crate::delta::{DeltaSet, Source};
use crate::error::{Error, Result};
use crate::figure::html::Report;
use crate::plan::extract::{Changed, plan};
use crate::plan::report;
use crate::plan::{Layout, Targets, budget, config};
use crate::units::{exact, percent};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Args)]
pub struct Plan {
    /// Base model
    #[arg(long, value_name = "MODEL")]
    base: PathBuf,

    /// Fine-tuned model: ranks follow from the spectra of its ΔW
    #[arg(long, value_name = "MODEL", conflicts_with = "adapter", required_unless_present = "adapter")]
    tuned: Option<PathBuf>,

    /// Adapter: ranks follow from the spectra of its ΔW
    #[arg(long, value_name = "ADAPTER")]
    adapter: Option<PathBuf>,

    #[command(flatten)]
    keep: Keep,

    /// Target modules: names, or qv, attention, all-linear, or a /regex/
    #[arg(long, value_name = "TARGETS")]
    targets: Option<Targets>,

    /// lora_alpha of every module divided by its rank
    #[arg(long, value_name = "RATIO", default_value_t = 2.0)]
    alpha_ratio: f64,

    /// Write the LoraConfig as JSON to this file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Write the LoraConfig as Python to this file
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,

    /// Write the plan as one HTML file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl Plan {
    pub fn run(self, screen: &Screen) -> Result<()> {
        if !(self.alpha_ratio.is_finite() && self.alpha_ratio > 0.0) {
            return Err(Error::usage(format!("alpha-ratio {}; expected a number above 0", self.alpha_ratio)));
        }
        let cut = self.keep.cut(Dtype::F32)?;
        let base = Arc::new(Checkpoint::open(&self.base)?);
        let source = match (&self.tuned, &self.adapter) {
            (Some(path), _) => Source::Tuned(Arc::new(Checkpoint::open(path)?)),
            (None, Some(path)) => Source::Adapter(Arc::new(Adapter::open(path)?)),
            (None, None) => return Err(Error::usage("nothing that changed; expected --tuned or --adapter")),
        };
        let layout = Layout::of(&base)?;
        let names = self.targets.as_ref().map(|targets| names(&base, targets)).transpose()?;
        let set = DeltaSet::new(base, source)?;
        let found = plan(Changed::Models(&set), names.as_deref(), cut, screen);
        screen.finish();
        let (offers, ranks) = found?;
        let uniform = budget::uniform(&offers, ranks.trainable);
        let base = std::path::absolute(&self.base).unwrap_or(self.base);
        let adapter = config::to_train(&layout, &offers, &ranks, self.alpha_ratio, base.to_str());
        let document = adapter.to_json();
        if let Some(path) = &self.config {
            let text = serde_json::to_string_pretty(&document).map_err(|error| Error::failure(error.to_string()))?;
            write_whole(path, format!("{text}\n").as_bytes())?;
        }
        if let Some(path) = &self.python {
            write_whole(path, config::python(&document).as_bytes())?;
        }
        if let Some(path) = &self.report {
            let mut report = Report::new(format!("Ranks for {}", layout.name));
            report::of_plan(&mut report, &offers, &ranks, uniform.as_ref(), &document);
            write_whole(path, report.html()?.as_bytes())?;
        }
        if screen.json {
            let share = |at: usize, r: usize| {
                if offers[at].energy > 0.0 { (offers[at].kept(r) / offers[at].energy).min(1.0) } else { 1.0 }
            };
            let modules: Vec<Value> = ranks
                .r
                .iter()
                .enumerate()
                .map(|(at, &r)| json!({"name": offers[at].name, "shape": offers[at].shape, "r": r, "energy": share(at, r)}))
                .collect();
            let uniform = uniform.map(|(r, all)| json!({"r": r, "trainable": all.trainable, "energy": all.energy}));
            return screen.document(&json!({
                "modules": modules,
                "trainable": ranks.trainable,
                "energy": ranks.energy,
                "uniform": uniform,
                "config": document,
            }));
        }
        let mut table = Table::new(&["module", ">r"]);
        for (offer, r) in offers.iter().zip(&ranks.r) {
            table.push(vec![offer.name.clone(), r.to_string()]);
        }
        let beside = match &uniform {
            Some((r, all)) => {
                format!("rank {r} everywhere keeps {} with {}", percent(all.energy), exact(all.trainable))
            }
            None => "rank 1 everywhere would take more".to_owned(),
        };
        screen.print(&format!(
            "{}\n{} parameters keep {} of the energy; {beside}\n",
            table.render(),
            exact(ranks.trainable),
            percent(ranks.energy)
        ))
    }
}
