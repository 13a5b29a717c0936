//! `rankscope doctor`: what is amiss with an adapter's scale.

use super::screen::Screen;
use super::text::Table;
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::plan::{Layout, doctor};
use crate::units::real;
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Doctor {
    /// Adapter: a PEFT folder
    adapter: PathBuf,

    /// Base model, to check that module names and shapes match
    #[arg(long, value_name = "MODEL")]
    base: Option<PathBuf>,
}

impl Doctor {
    pub fn run(self, screen: &Screen) -> Result<()> {
        let base = self.base.as_deref().map(Checkpoint::open).transpose()?;
        let layout = base.as_ref().map(Layout::of).transpose()?;
        let found = doctor::examine_folder(&self.adapter, layout.as_ref(), screen);
        screen.finish();
        let found = found?;
        if screen.json {
            let scales: Vec<Value> = found
                .scales
                .iter()
                .map(|scale| {
                    json!({"name": scale.module, "r": scale.r, "lora_alpha": scale.lora_alpha, "scaling": scale.scaling})
                })
                .collect();
            let findings: Vec<Value> = found
                .findings
                .iter()
                .map(|finding| {
                    let level = if finding.weight == doctor::Weight::Warning { "warning" } else { "note" };
                    json!({"level": level, "text": finding.text, "advice": finding.advice})
                })
                .collect();
            return screen.document(&json!({"modules": scales, "findings": findings}));
        }
        let mut table = Table::new(&["module", ">r", ">α", ">scale"]);
        for scale in &found.scales {
            let cells = [scale.r.to_string(), real(scale.lora_alpha, 3), real(scale.scaling, 4)];
            table.push(std::iter::once(scale.module.clone()).chain(cells).collect());
        }
        let mut text = table.render();
        for finding in &found.findings {
            let level = if finding.weight == doctor::Weight::Warning { "warning" } else { "note" };
            let advice = if finding.advice.is_empty() { String::new() } else { format!("; {}", finding.advice) };
            text.push_str(&format!("\n{level}: {}{advice}", finding.text));
        }
        let end = if found.findings.is_empty() { "\nnothing is amiss\n" } else { "\n" };
        screen.print(&(text + end))
    }
}
