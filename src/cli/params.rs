//! `rankscope params`: what a rank costs.

use super::screen::Screen;
use super::text::Table;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::plan::{self, Layout, Selection, Targets, paper};
use crate::units::{bytes, exact, percent};
use clap::{ArgGroup, Args};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Ranks that are counted when none is given, as far as the model allows them.
const RANKS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["model", "preset", "paper", "presets"])))]
pub struct Params {
    /// Model: a .safetensors file, a folder as on the Hugging Face Hub, or a config.json alone
    model: Option<PathBuf>,

    /// Published model by name, such as gpt3-175b or llama-3.1-8b
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,

    /// The LoRA paper's table of tuning methods for GPT-3: each formula beside the printed number
    #[arg(long, conflicts_with_all = ["rank", "targets"])]
    paper: bool,

    /// List the names of all presets
    #[arg(long, conflicts_with_all = ["rank", "targets"])]
    presets: bool,

    /// LoRA ranks to count, separated by commas
    #[arg(long, value_name = "R,…", value_delimiter = ',')]
    rank: Vec<usize>,

    /// Target modules: names such as q_proj,v_proj, or qv, attention, all-linear, or a /regex/; may be repeated
    #[arg(long, value_name = "TARGETS")]
    targets: Vec<Targets>,
}

impl Params {
    pub fn run(self, screen: &Screen) -> Result<()> {
        if self.paper {
            return print_paper(screen);
        }
        if self.presets {
            return print_presets(screen);
        }
        let layout = match (&self.preset, &self.model) {
            (Some(name), _) => Layout::preset(name)?,
            (None, Some(path)) => open(path)?,
            (None, None) => return Err(Error::usage("no model; expected a path or --preset NAME")),
        };
        let targets = match &self.targets[..] {
            [] => &[Targets::QV, Targets::Attention, Targets::AllLinear],
            targets => targets,
        };
        let selections = targets.iter().map(|targets| Selection::new(&layout, targets)).collect::<Result<Vec<_>>>()?;
        let mut rows = Vec::new();
        for (targets, selection) in targets.iter().zip(&selections) {
            let ranks: Vec<usize> = match &self.rank[..] {
                [] => RANKS.into_iter().filter(|&r| r <= selection.max_rank()).collect(),
                ranks => ranks.to_vec(),
            };
            for r in ranks {
                rows.push((targets, selection, selection.count(r)?));
            }
        }
        let mut notes: Vec<String> = layout.note.iter().cloned().collect();
        let clipped = rows.iter().filter_map(|(_, selection, count)| selection.clipped(count.r, &layout));
        for note in selections.iter().flat_map(|selection| selection.notes.iter().cloned()).chain(clipped) {
            if !notes.contains(&note) {
                notes.push(note);
            }
        }

        if screen.json {
            let rows: Vec<Value> = rows
                .iter()
                .map(|(targets, selection, count)| {
                    json!({
                        "method": "lora",
                        "r": count.r,
                        "targets": targets.to_string(),
                        "modules": selection.places.len(),
                        "trainable": count.trainable,
                        "percent": count.percent,
                        "adapter_bytes_f16": count.adapter_bytes_f16,
                    })
                })
                .collect();
            return screen.document(&json!({
                "model": layout.name,
                "parameters": layout.parameters,
                "rows": rows,
                "notes": notes,
            }));
        }
        let mut table = Table::new(&["targets", ">modules", ">r", ">trainable", ">of the model", ">adapter in f16"]);
        for (targets, selection, count) in &rows {
            table.push(vec![
                targets.to_string(),
                selection.places.len().to_string(),
                count.r.to_string(),
                exact(count.trainable),
                percent(count.percent / 100.0),
                bytes(count.adapter_bytes_f16),
            ]);
        }
        let head = format!("{}: {} parameters\n\n", layout.name, exact(layout.parameters));
        screen.print(&(head + &table.render() + &footnotes(&notes)))
    }
}

/// A checkpoint, or the sizes in a `config.json`.
pub(super) fn open(path: &Path) -> Result<Layout> {
    if path.file_name().is_some_and(|name| name == "config.json") {
        let weights = path.parent().map(Checkpoint::open);
        return match weights {
            Some(Ok(checkpoint)) => Layout::of(&checkpoint),
            _ => Layout::of_config(path),
        };
    }
    if !path.exists()
        && let Ok(preset) = path.to_str().map_or_else(|| plan::find(""), plan::find)
    {
        return Err(Error::usage(format!(
            "{}: there is no such file or folder; the published model is --preset {}",
            path.display(),
            preset.id
        )));
    }
    Layout::of(&Checkpoint::open(path)?)
}

pub(super) fn footnotes(notes: &[String]) -> String {
    let lines = notes.iter().map(|note| format!("note: {note}\n"));
    if notes.is_empty() { String::new() } else { "\n".to_owned() + &lines.collect::<String>() }
}

fn print_paper(screen: &Screen) -> Result<()> {
    let rows = paper::table();
    if screen.json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|row| {
                json!({
                    "method": row.method,
                    "setting": row.setting,
                    "formula": row.formula,
                    "printed": row.printed,
                    "wikisql": row.wikisql,
                    "mnli": row.mnli,
                    "expression": row.expression,
                    "printed_parameters": row.printed_parameters,
                    "difference": row.difference(),
                    "note": row.note,
                })
            })
            .collect();
        return screen.document(&json!({ "rows": rows }));
    }
    let mut table =
        Table::new(&["method", "setting", ">formula", ">printed", ">difference", ">WikiSQL", ">MNLI-m", "note"]);
    let mut notes: Vec<&str> = Vec::new();
    for row in rows {
        let mark = row.note.map(|note| {
            let place = notes.iter().position(|seen| *seen == note).unwrap_or_else(|| {
                notes.push(note);
                notes.len() - 1
            });
            format!("[{}]", place + 1)
        });
        let sign = if row.difference() < 0 { "-" } else { "+" };
        table.push(vec![
            row.method.to_owned(),
            row.setting.clone(),
            exact(row.formula),
            row.printed.to_owned(),
            format!("{sign}{}", exact(row.difference().unsigned_abs())),
            format!("{:.1}", row.wikisql),
            format!("{:.1}", row.mnli),
            mark.unwrap_or_default(),
        ]);
    }
    let notes: String = notes.iter().enumerate().map(|(i, note)| format!("[{}] {note}\n", i + 1)).collect();
    let head = "GPT-3 175B: trainable parameters by the formulas of the LoRA paper (arXiv 2106.09685) and as printed in \
                its table 15,\nwith validation accuracy in %\n\n";
    screen.print(&format!("{head}{}\n{notes}", table.render()))
}

fn print_presets(screen: &Screen) -> Result<()> {
    let presets = plan::presets().iter().map(|preset| (preset, preset.layout().parameters));
    if screen.json {
        let presets: Vec<Value> = presets
            .map(|(preset, parameters)| {
                json!({
                    "id": preset.id,
                    "title": preset.title,
                    "family": preset.family,
                    "parameters": parameters,
                    "source": preset.source,
                    "note": preset.note,
                })
            })
            .collect();
        return screen.document(&json!({ "presets": presets }));
    }
    let mut table = Table::new(&["preset", "model", ">parameters", "sizes from"]);
    for (preset, parameters) in presets {
        table.push(vec![preset.id.into(), preset.title.into(), exact(parameters), preset.source.into()]);
    }
    screen.print(&table.render())
}
