//! `rankscope memory`: what a run will need, part by part.

use super::params::{footnotes, open};
use super::screen::Screen;
use super::text::Table;
use super::train::Switch;
use crate::device::{self, Device};
use crate::error::{Error, Result};
use crate::plan::memory::{
    CONTEXT, GPUS, Load, Optimizer, PROCESS, Pairs, Place, Precision, Verdict, largest, predict,
};
use crate::plan::{Layout, Method, Selection, Targets};
use crate::quant::{QuantType, Scheme};
use crate::train::memory::PIECES;
use crate::units::bytes;
use clap::{ArgGroup, Args};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["model", "preset"])))]
pub struct Memory {
    /// A model: a .safetensors file, a folder as on the hub, or a config.json alone
    model: Option<PathBuf>,

    /// A published model by its name, such as llama-3.1-8b
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,

    /// What is trained
    #[arg(long, value_parser = ["full", "lora", "qlora"], default_value = "qlora")]
    method: String,

    /// Rank of the pairs
    #[arg(long, value_name = "R", default_value_t = 16)]
    rank: usize,

    /// Modules that get a pair: names, or qv, attention, all-linear, or a /regex/
    #[arg(long, value_name = "TARGETS", default_value = "all-linear")]
    targets: Targets,

    /// Sequences of a micro-batch
    #[arg(long, value_name = "N", default_value_t = 4)]
    batch: usize,

    /// Tokens of a sequence
    #[arg(long, value_name = "N", default_value_t = 512)]
    seq: usize,

    /// What keeps the moments: adamw, as here, or adamw-8bit or sgd of another engine
    #[arg(long, default_value_t = Optimizer::AdamW)]
    optimizer: Optimizer,

    /// Keep only the blocks' inputs and compute the rest again
    #[arg(long, value_enum, default_value = "off")]
    checkpointing: Switch,

    /// Type of what is trained and of activations
    #[arg(long, value_parser = ["f32", "bf16"], default_value = "f32")]
    dtype: String,

    /// Weights that share a scale under qlora
    #[arg(long, value_name = "N", default_value_t = 64)]
    block: usize,

    /// Scales in 8 bits
    #[arg(long, value_enum, default_value = "on")]
    double_quant: Switch,
}

impl Memory {
    pub fn run(self, screen: &Screen) -> Result<()> {
        let layout = match (&self.preset, &self.model) {
            (Some(name), _) => Layout::preset(name)?,
            (None, Some(path)) => open(path)?,
            (None, None) => return Err(Error::usage("no model; expected a path or --preset NAME")),
        };
        if self.block == 0 || !self.block.is_multiple_of(2) {
            return Err(Error::usage(format!("block {}; expected an even number of weights, as 64", self.block)));
        }
        let method = Method::ALL.into_iter().find(|method| method.as_str() == self.method).unwrap_or_default();
        let double_quant = self.double_quant == Switch::On;
        let load = Load {
            method,
            batch: self.batch,
            seq: self.seq,
            checkpointing: self.checkpointing == Switch::On,
            optimizer: self.optimizer,
            scheme: Scheme { quant_type: QuantType::Nf4, blocksize: self.block, double_quant },
            precision: if self.dtype == "bf16" { Precision::Bf16 } else { Precision::F32 },
            dropout: false,
            threads: rayon::current_num_threads(),
            process: device::resident().unwrap_or(PROCESS),
            place: Place::Processor,
            dora: false,
        };
        let selection = Selection::new(&layout, &self.targets)?;
        if method != Method::Full {
            selection.count(self.rank)?;
        }
        let memory = predict(&layout, &Pairs::uniform(&selection, self.rank), &load)?;
        let free = Device::cpu().memory.map(|memory| memory.free);
        let gpu = Load { process: CONTEXT, place: Place::Gpu(PIECES), ..load };
        let on_gpu = predict(&layout, &Pairs::uniform(&selection, self.rank), &gpu)?.total();
        let mut rooms = Vec::new();
        if let Some(free) = free {
            // The program is there already.
            let here = Load { process: 0, ..load };
            rooms.push(("free here".to_owned(), free, memory.total() - load.process, here));
        }
        rooms.extend(GPUS.iter().map(|g| (g.name.to_owned(), g.bytes(), on_gpu, gpu)));
        let mut rows = Vec::new();
        for (name, room, need, load) in rooms {
            rows.push((name, room, Verdict::of(need, room), largest(&layout, &selection, self.rank, &load, room)?));
        }
        let mut notes: Vec<String> = layout.note.iter().chain(&selection.notes).cloned().collect();
        notes.push(
            "activations, logits and workspace are this engine's own buffers; another engine needs others".to_owned(),
        );
        if !self.optimizer.is_here() {
            notes.push(format!("{} is not in this engine, which has adamw", self.optimizer));
        }
        if screen.json {
            let parts: Map<String, Value> =
                memory.parts().iter().map(|part| (part.name.to_owned(), json!(part.bytes))).collect();
            let engine: Vec<&str> = memory.parts().iter().filter(|part| part.engine).map(|part| part.name).collect();
            let rooms: Vec<Value> = rows
                .iter()
                .map(|(name, room, verdict, most)| {
                    json!({"name": name, "bytes": room, "verdict": verdict.as_str(), "largest": {"rank": most.rank, "batch": most.batch, "seq": most.seq}})
                })
                .collect();
            return screen.document(&json!({
                "model": layout.name,
                "method": method.as_str(),
                "total": memory.total(),
                "parts": parts,
                "engine_parts": engine,
                "rooms": rooms,
                "notes": notes,
            }));
        }
        let mut table = Table::new(&["part", ">bytes", ""]);
        for part in memory.parts() {
            let mark = if part.engine { "this engine" } else { "" };
            table.push(vec![part.name.to_owned(), bytes(part.bytes), mark.to_owned()]);
        }
        table.push(vec!["total".to_owned(), bytes(memory.total()), String::new()]);
        let mut fits = Table::new(&["memory", ">size", "", ">largest rank", ">batch", ">context"]);
        let number = |n: Option<usize>| n.map_or_else(|| "–".to_owned(), |n| n.to_string());
        for (name, room, verdict, most) in &rows {
            let verdict = verdict.as_str().to_owned();
            fits.push(vec![
                name.clone(),
                bytes(*room),
                verdict,
                number(most.rank),
                number(most.batch),
                number(most.seq),
            ]);
        }
        let what = match method {
            Method::Full => "every parameter".to_owned(),
            _ => format!("{}, rank {} on {}", method.as_str(), self.rank, self.targets),
        };
        let head = format!("{}: {what}, batch {}, sequences of {}\n\n", layout.name, self.batch, self.seq);
        screen.print(&format!("{head}{}\n{}{}", table.render(), fits.render(), footnotes(&notes)))
    }
}
