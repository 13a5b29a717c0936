//! `rankscope probe`: gradients of the frozen model on one's own data, and the ranks that they suggest.

use super::choice;
use super::screen::Screen;
use super::settings::{Given, Probing};
use super::text::{Table, or_dash};
use crate::checkpoint::write::write_whole;
use crate::error::{Error, Result};
use crate::plan::budget;
use crate::train::probe::{Probed, probe};
use crate::train::{Method, Settings};
use crate::units::{exact, percent, real};
use clap::Args;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Probe {
    /// Model: a folder as on the Hugging Face Hub
    model: PathBuf,

    /// Training data: JSON lines, a JSON array, CSV, TSV, Parquet, or plain text
    #[arg(long, value_name = "FILE")]
    data: PathBuf,

    #[command(flatten)]
    given: Given<Probing>,

    /// Micro-batches whose gradients are averaged
    #[arg(long, value_name = "N", default_value_t = 4)]
    batches: usize,

    /// Suggest ranks for the parameters that this rank takes in every module
    #[arg(long, value_name = "R", default_value_t = 16, conflicts_with = "budget")]
    rank: usize,

    /// Suggest ranks for this many parameters, such as 4.7M, or for an f32 adapter of this size, such as 10MB
    #[arg(long, value_name = "P")]
    budget: Option<String>,

    /// Frozen weights: in 4 bits as under qlora, or as stored
    #[arg(long, value_parser = choice::one_of(&[Method::Qlora, Method::Lora]), default_value = "qlora")]
    method: Method,

    /// Report the K largest singular values of each gradient
    #[arg(long, value_name = "K", default_value_t = 64)]
    top: usize,

    /// Write the suggested ranks to this file, as train --rank-pattern reads them
    #[arg(long, value_name = "FILE")]
    save_pattern: Option<PathBuf>,
}

impl Probe {
    pub fn run(self, screen: &Screen) -> Result<()> {
        let settings = Settings {
            model: self.model,
            data: self.data,
            rank: self.rank,
            method: self.method,
            ..self.given.settings()?
        };
        let budget = self.budget.as_deref().map(|text| budget::parse(text, 4)).transpose()?;
        let found = probe(&settings, self.batches, budget, screen);
        screen.finish();
        let found = found?;
        for note in &found.notes {
            screen.message(&format!("{}: {note}", settings.data.display()));
        }
        if let Some(path) = &self.save_pattern {
            let ranks = found.modules.iter().filter(|module| module.suggested > 0);
            let ranks: Map<String, Value> =
                ranks.map(|module| (module.name.clone(), json!(module.suggested))).collect();
            let text = serde_json::to_string_pretty(&ranks).map_err(|error| Error::failure(error.to_string()))?;
            write_whole(path, format!("{text}\n").as_bytes())?;
        }
        if screen.json { screen.document(&document(&found, self.top)) } else { screen.print(&text(&found)) }
    }
}

fn document(found: &Probed, top: usize) -> Value {
    let modules: Vec<Value> = found
        .modules
        .iter()
        .map(|module| {
            let spectrum = &module.spectrum;
            let sigma: Vec<f64> = spectrum.known().take(top).collect();
            json!({
                "name": module.name,
                "shape": spectrum.shape,
                "frobenius": spectrum.frobenius,
                "share": module.share,
                "exact": spectrum.exact,
                "singular_values": sigma,
                "ranks": super::spectrum::ranks(spectrum),
                "suggested": module.suggested,
            })
        })
        .collect();
    json!({"modules": modules, "loss": found.loss, "tokens": found.tokens, "trainable": found.trainable})
}

fn text(found: &Probed) -> String {
    let mut table = Table::new(&["module", ">of the gradient", ">stable", ">90 %", ">suggested"]);
    for module in &found.modules {
        let ranks = module.spectrum.ranks();
        table.push(vec![
            module.name.clone(),
            percent(module.share),
            real(ranks.stable, 3),
            or_dash(ranks.energy_90),
            module.suggested.to_string(),
        ]);
    }
    let mut first: Vec<&crate::train::probe::Found> = found.modules.iter().collect();
    first.sort_by(|a, b| b.share.total_cmp(&a.share));
    let most: Vec<&str> = first.iter().take(3).map(|module| module.name.as_str()).collect();
    format!(
        "{}\nloss {:.4} over {} tokens; the most gradient is in {}; the suggested ranks train {} parameters\n",
        table.render(),
        found.loss,
        found.tokens,
        most.join(", "),
        exact(found.trainable)
    )
}
