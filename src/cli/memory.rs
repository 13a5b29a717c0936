//! `rankscope memory`: what a run will need, part by part.

use super::choice;
use super::params::{footnotes, open};
use super::screen::Screen;
use super::settings::{Budget, Given};
use super::text::Table;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::ComputeDtype;
use crate::plan::memory::cluster::{COUNTS, counts, per_gpu, total};
use crate::plan::memory::{
    CONTEXT, GPUS, Largest, Load, Optimizer, Pairs, Place, Precision, Search, Strategy, Verdict, predict,
};
use crate::plan::{Layout, Method, Selection, Targets};
use crate::train::Named;
use crate::train::memory::load;
use crate::units::bytes;
use clap::{ArgGroup, Args};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["model", "preset"])))]
pub struct Memory {
    /// Model: a .safetensors file, a folder as on the Hugging Face Hub, or a config.json alone
    model: Option<PathBuf>,

    /// Published model by name, such as llama-3.1-8b
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,

    #[command(flatten)]
    given: Given<Budget>,

    /// Also the memory of each of so many GPUs, up to 1024, by strategy, and what 1 to 1024 of them allow
    #[arg(long, value_name = "N")]
    gpus: Option<usize>,

    /// Memory of a GPU for --gpus, in GiB
    #[arg(long, value_name = "GIB", default_value_t = 80, requires = "gpus")]
    gpu_memory: u64,

    /// Optimizer: adamw (this engine), or adamw-8bit or sgd of another engine
    #[arg(long, default_value_t = Optimizer::AdamW)]
    optimizer: Optimizer,

    /// Data type of trained values and activations
    #[arg(long, value_parser = choice::one_of(ComputeDtype::ALL), default_value = "f32")]
    dtype: ComputeDtype,
}

impl Memory {
    pub fn run(self, screen: &Screen) -> Result<()> {
        let layout = match (&self.preset, &self.model) {
            (Some(name), _) => Layout::preset(name)?,
            (None, Some(path)) => open(path)?,
            (None, None) => return Err(Error::usage("no model; expected a path or --preset NAME")),
        };
        let settings = self.given.settings()?;
        settings.check()?;
        let (method, rank) = (settings.method, settings.rank);
        let targets: Targets = settings.targets.parse()?;
        let precision = match self.dtype {
            ComputeDtype::Bf16 => Precision::Bf16,
            ComputeDtype::F32 => Precision::F32,
        };
        let mut load = Load { optimizer: self.optimizer, precision, ..load(&settings, settings.seq) };
        let learned = layout.spec.as_ref().filter(|spec| spec.positions.is_some()).map(|spec| spec.max_positions);
        let cut = learned.filter(|positions| *positions < load.seq && !self.given.has("seq"));
        load.seq = cut.unwrap_or(load.seq);
        let selection = Selection::new(&layout, &targets)?;
        if method != Method::Full {
            selection.count(rank)?;
        }
        let memory = predict(&layout, &Pairs::uniform(&layout, &selection, rank), &load)?;
        let cluster = self
            .gpus
            .map(|gpus| self.cluster(&layout, &Pairs::uniform(&layout, &selection, rank), &load, gpus))
            .transpose()?;
        let free = Device::cpu().memory.map(|memory| memory.free);
        let gpu = Load { process: CONTEXT, place: Place::Gpu(self.dtype.into()), ..load };
        let on_gpu = predict(&layout, &Pairs::uniform(&layout, &selection, rank), &gpu)?.total();
        let mut rows = Vec::new();
        if let Some(free) = free {
            // The program is there already.
            let search = Search::new(&layout, &selection, rank, &Load { process: 0, ..load })?;
            let verdict = Verdict::of(memory.total() - load.process, free);
            rows.push(("free here".to_owned(), free, verdict, search.largest(free)?));
        }
        let search = Search::new(&layout, &selection, rank, &gpu)?;
        for known in &GPUS {
            let room = known.bytes();
            rows.push((known.name.to_owned(), room, Verdict::of(on_gpu, room), search.largest(room)?));
        }
        let mut notes: Vec<String> = layout.note.iter().chain(&selection.notes).cloned().collect();
        notes.extend((method != Method::Full).then(|| selection.clipped(rank, &layout)).flatten());
        notes.extend(cut.map(|positions| format!("sequences of {positions}: the model has no more positions")));
        notes.push(
            "activations, logits and workspace are this engine's own buffers; another engine needs others".to_owned(),
        );
        let of_cluster = cluster.iter().flat_map(|cluster| &cluster.largest);
        notes.extend(
            Largest::marks(rows.iter().map(|(.., most)| most).chain(of_cluster)).into_iter().map(str::to_owned),
        );
        if let Some(why) = layout.spec.as_ref().and_then(|spec| spec.not_run.as_ref()) {
            notes.push(format!("{why}; this is what a decoder of these sizes takes"));
        }
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
                    json!({"name": name, "bytes": room, "verdict": verdict.as_str(), "largest": {"rank": most.rank, "batch": most.batch, "seq": most.seq, "seq_is_models_limit": most.whole}})
                })
                .collect();
            let cluster = cluster.map(|cluster| cluster.document);
            return screen.document(&json!({
                "cluster": cluster,
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
                most.sequences(|batch| batch.to_string()),
                most.context(|seq| seq.to_string()),
            ]);
        }
        let what = match method {
            Method::Full => "every parameter".to_owned(),
            _ => format!("{}, rank {} on {}", method.as_str(), rank, targets),
        };
        let head = format!("{}: {what}, batch {}, sequences of {}\n\n", layout.name, load.batch, load.seq);
        let cluster = cluster.map_or_else(String::new, |cluster| cluster.text);
        screen.print(&format!("{head}{}\n{}{}{cluster}", table.render(), fits.render(), footnotes(&notes)))
    }

    /// Each GPU of several.
    fn cluster(&self, layout: &Layout, pairs: &Pairs, load: &Load, gpus: usize) -> Result<Cluster> {
        const MOST: u64 = 1 << 20;
        if !(1..=MOST).contains(&self.gpu_memory) {
            return Err(Error::usage(format!("gpu-memory {}; expected 1 to {MOST} GiB", self.gpu_memory)));
        }
        let room = self.gpu_memory << 30;
        let place = Place::Gpu(ComputeDtype::Bf16.into());
        let load = Load { process: CONTEXT, place, precision: Precision::Bf16, ..*load };
        let (mut strategies, mut lines) = (Vec::new(), String::new());
        let mut table = Table::new(&["GPUs", "strategy", ">each", "", ">largest batch of each", ">context"]);
        let mut rows = Vec::new();
        for &strategy in Strategy::ALL {
            let one = counts(layout, pairs, &load, strategy, &[gpus], room)?;
            let terms = per_gpu(layout, pairs, &load, strategy, gpus)?;
            lines += &format!("\n{} on {gpus} GPUs: {} each\n", strategy.as_str(), bytes(total(&terms)));
            lines += &terms.iter().map(|term| format!("  {term}\n")).collect::<String>();
            let parts: Map<String, Value> = terms
                .iter()
                .map(|term| (term.name.to_owned(), json!({"bytes": term.bytes, "arithmetic": term.arithmetic})))
                .collect();
            strategies.push(json!({"strategy": strategy.as_str(), "total": total(&terms), "parts": parts}));
            for count in counts(layout, pairs, &load, strategy, &COUNTS, room)?.into_iter().chain(one) {
                rows.push((strategy, count));
            }
        }
        rows.sort_by_key(|(_, count)| count.gpus);
        rows.dedup();
        for (strategy, count) in &rows {
            let verdict = Verdict::of(count.bytes, room).as_str().to_owned();
            let largest = count.largest;
            let (batch, seq) = (largest.sequences(|batch| batch.to_string()), largest.context(|seq| seq.to_string()));
            table.push(vec![
                count.gpus.to_string(),
                strategy.as_str().to_owned(),
                bytes(count.bytes),
                verdict,
                batch,
                seq,
            ]);
        }
        let counts: Vec<Value> = rows
            .iter()
            .map(|(strategy, count)| {
                json!({"gpus": count.gpus, "strategy": strategy.as_str(), "total": count.bytes, "largest": {"batch": count.largest.batch, "seq": count.largest.seq, "seq_is_models_limit": count.largest.whole}})
            })
            .collect();
        let document = json!({"gpus": gpus, "room": room, "strategies": strategies, "counts": counts});
        let largest = rows.iter().map(|(_, count)| count.largest).collect();
        Ok(Cluster { largest, document, text: format!("{lines}\nGPUs of {}:\n{}", bytes(room), table.render()) })
    }
}

/// What is said about several GPUs.
struct Cluster {
    /// What fits, row by row.
    largest: Vec<Largest>,
    document: Value,
    text: String,
}
