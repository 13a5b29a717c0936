//! `rankscope train`: a fine-tune.

use super::screen::Screen;
use crate::device::Choice;
use crate::error::{Error, Result};
use crate::model::gpu::Kind;
use crate::train::run::{Event, Start, run};
use crate::train::{Init, Method, Quant, Schedule, Settings};
use crate::units::bytes;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::path::{Path, PathBuf};

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Switch {
    On,
    Off,
}

#[derive(Debug, Args)]
pub struct Train {
    /// The base model: a folder as on the hub
    model: Option<PathBuf>,

    /// A file with any of these settings, as a run writes it; what is given beside it counts more
    #[arg(long, value_name = "RUN.TOML")]
    config: Option<PathBuf>,

    /// Training data: JSON lines, a JSON array, CSV, TSV, Parquet (input_ids, text, prompt and completion, instruction and output,
    /// messages, conversations), or plain text
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,

    /// Held-out data
    #[arg(long, value_name = "FILE")]
    eval_data: Option<PathBuf>,

    /// Folder for the run
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// What is trained: qlora, lora or full
    #[arg(long, value_parser = ["qlora", "lora", "full"])]
    method: Option<String>,

    /// r
    #[arg(long)]
    rank: Option<usize>,

    /// α; 2r by default
    #[arg(long)]
    alpha: Option<f64>,

    /// Scaling α/√r instead of α/r
    #[arg(long)]
    rslora: bool,

    /// Modules: names such as q_proj,v_proj, or attention, all-linear, or a /regex/
    #[arg(long)]
    targets: Option<String>,

    /// Dropout of the input of A
    #[arg(long, value_name = "P")]
    dropout: Option<f64>,

    /// Train a magnitude for every row of the weight beside the pair (DoRA)
    #[arg(long)]
    dora: bool,

    /// A JSON file of ranks by PEFT's patterns
    #[arg(long, value_name = "FILE")]
    rank_pattern: Option<PathBuf>,

    /// The first A and B: default (B zero), pissa (the base's largest directions) or loftq (what 4 bits leave of it)
    #[arg(long, value_parser = ["default", "pissa", "loftq"])]
    init: Option<String>,

    /// How often loftq quantizes and repairs in turn
    #[arg(long, value_name = "N")]
    loftq_iterations: Option<usize>,

    /// Or those of an adapter
    #[arg(long, value_name = "DIR")]
    init_adapter: Option<PathBuf>,

    /// Peak learning rate
    #[arg(long)]
    lr: Option<f64>,

    /// After the warm-up: cosine, linear or constant
    #[arg(long, value_parser = ["cosine", "linear", "constant"])]
    schedule: Option<String>,

    /// Steps over which the learning rate rises
    #[arg(long, value_name = "STEPS")]
    warmup: Option<usize>,

    /// Decoupled weight decay
    #[arg(long)]
    weight_decay: Option<f64>,

    /// Of the mean of gradients
    #[arg(long)]
    beta1: Option<f64>,

    /// Of the mean of their squares
    #[arg(long)]
    beta2: Option<f64>,

    /// Added to the root of the latter
    #[arg(long)]
    eps: Option<f64>,

    /// Gradients are scaled down to this norm; 0 for never
    #[arg(long)]
    max_grad_norm: Option<f64>,

    /// Sequences of a micro-batch
    #[arg(long)]
    batch: Option<usize>,

    /// Micro-batches of a step
    #[arg(long)]
    accumulate: Option<usize>,

    /// Longest sequence in tokens
    #[arg(long)]
    seq: Option<usize>,

    /// Several rows of the data in a sequence, apart from each other, instead of padding
    #[arg(long)]
    packing: bool,

    /// Steps
    #[arg(long, conflicts_with = "epochs")]
    steps: Option<usize>,

    /// Passes over the data
    #[arg(long)]
    epochs: Option<f64>,

    /// Of A, of the order of rows, of dropout
    #[arg(long)]
    seed: Option<u64>,

    /// Rows in the order of the file
    #[arg(long)]
    no_shuffle: bool,

    /// Steps between evaluations
    #[arg(long, value_name = "STEPS")]
    eval_every: Option<usize>,

    /// Steps between checkpoints
    #[arg(long, value_name = "STEPS")]
    save_every: Option<usize>,

    /// Steps between spectra of ΔW, in film.jsonl; 0 for none
    #[arg(long, value_name = "STEPS")]
    film_every: Option<usize>,

    /// A text that the model goes on with before and after the run; may be given several times
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,

    /// And every so many steps between
    #[arg(long, value_name = "STEPS")]
    sample_every: Option<usize>,

    /// Levels of the frozen weights under qlora
    #[arg(long, value_parser = ["nf4", "fp4", "none"])]
    quant: Option<String>,

    /// Weights that share a scale
    #[arg(long)]
    block: Option<usize>,

    /// Scales in 8 bits
    #[arg(long, value_name = "on|off")]
    double_quant: Option<Switch>,

    /// Keep less of the way forward and compute it again
    #[arg(long, value_name = "on|off")]
    checkpointing: Option<Switch>,

    /// What a GPU keeps weights and activations as: bf16 or f32; the processor computes in f32
    #[arg(long, value_parser = super::kind, value_name = "f32|bf16")]
    dtype: Option<Kind>,

    /// Go on after the last checkpoint of the run in --out
    #[arg(long)]
    resume: bool,

    /// Even where the prediction says that memory does not suffice
    #[arg(long)]
    pub(super) force: bool,
}

fn set<T>(to: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *to = value;
    }
}

impl Train {
    pub fn run(self, screen: &Screen, device: Choice) -> Result<()> {
        let start = Start { resume: self.resume, force: self.force };
        let settings = Settings { device, ..self.settings()? };
        let summary = run(settings, start, screen, &mut |event| {
            tell(screen, &event);
            Ok(())
        });
        screen.finish();
        let summary = summary?;
        let peak = summary.memory.measured;
        if screen.json {
            // In one line: what comes before it on a terminal may be anything.
            let document = json!({
                "steps": summary.steps,
                "first_loss": summary.first_loss,
                "last_loss": summary.last_loss,
                "eval_loss": summary.eval_loss,
                "tokens_per_s": summary.tokens_per_s,
                "peak_bytes": peak,
                "gpu_peak_bytes": summary.gpu_peak,
                "predicted_bytes": summary.memory.predicted.total(),
                "adapter": summary.adapter,
            });
            return screen.print(&format!("{document}\n"));
        }
        let held_out = summary.eval_loss.map_or_else(String::new, |loss| format!(", held-out {loss:.4}"));
        let predicted = bytes(summary.memory.predicted.total());
        let gpu = summary.gpu_peak.map_or_else(String::new, |peak| format!(", of the GPU {}", bytes(peak)));
        let peak =
            peak.map_or_else(String::new, |peak| format!(", peak memory {} ({predicted} predicted)", bytes(peak)));
        screen.print(&format!(
            "{} steps, loss {:.4} to {:.4}{held_out}, {:.0} tokens/s{peak}{gpu}\n{}\n",
            summary.steps,
            summary.first_loss,
            summary.last_loss,
            summary.tokens_per_s,
            summary.adapter.display()
        ))
    }

    pub(super) fn settings(self) -> Result<Settings> {
        let mut s = match (&self.config, self.resume, &self.out) {
            (Some(path), ..) => from_file(path)?,
            // What is not said again is as it was.
            (None, true, Some(out)) => from_file(&out.join("run.toml"))?,
            _ => Settings::default(),
        };
        set(&mut s.model, self.model);
        set(&mut s.data, self.data);
        set(&mut s.out, self.out);
        s.eval_data = self.eval_data.or(s.eval_data);
        s.init_adapter = self.init_adapter.or(s.init_adapter);
        s.dtype = self.dtype.or(s.dtype);
        set(
            &mut s.method,
            self.method.as_deref().map(|name| match name {
                "full" => Method::Full,
                "lora" => Method::Lora,
                _ => Method::Qlora,
            }),
        );
        set(
            &mut s.schedule,
            self.schedule.as_deref().map(|name| match name {
                "linear" => Schedule::Linear,
                "constant" => Schedule::Constant,
                _ => Schedule::Cosine,
            }),
        );
        set(
            &mut s.quant,
            self.quant.as_deref().map(|name| match name {
                "fp4" => Quant::Fp4,
                "none" => Quant::None,
                _ => Quant::Nf4,
            }),
        );
        set(
            &mut s.init,
            self.init.as_deref().map(|name| match name {
                "pissa" => Init::Pissa,
                "loftq" => Init::Loftq,
                _ => Init::Default,
            }),
        );
        set(&mut s.loftq_iterations, self.loftq_iterations);
        set(&mut s.rank, self.rank);
        s.alpha = self.alpha.or(s.alpha);
        s.rslora |= self.rslora;
        set(&mut s.targets, self.targets);
        set(&mut s.dropout, self.dropout);
        s.dora |= self.dora;
        if let Some(path) = self.rank_pattern {
            let text = std::fs::read(&path).map_err(|error| Error::read(&path, "open", &error))?;
            let wrong = |error: serde_json::Error| {
                Error::file(&path, format!("expected an object of ranks by pattern: {error}"))
            };
            s.rank_pattern = serde_json::from_slice(&text).map_err(wrong)?;
        }
        set(&mut s.lr, self.lr);
        set(&mut s.warmup, self.warmup);
        set(&mut s.weight_decay, self.weight_decay);
        set(&mut s.beta1, self.beta1);
        set(&mut s.beta2, self.beta2);
        set(&mut s.eps, self.eps);
        set(&mut s.max_grad_norm, self.max_grad_norm);
        set(&mut s.batch, self.batch);
        set(&mut s.accumulate, self.accumulate);
        set(&mut s.seq, self.seq);
        s.packing |= self.packing;
        s.steps = self.steps.or(if self.epochs.is_some() { None } else { s.steps });
        set(&mut s.epochs, self.epochs);
        set(&mut s.seed, self.seed);
        s.shuffle &= !self.no_shuffle;
        set(&mut s.eval_every, self.eval_every);
        set(&mut s.save_every, self.save_every);
        set(&mut s.film_every, self.film_every);
        set(&mut s.sample_every, self.sample_every);
        if !self.prompt.is_empty() {
            s.prompts = self.prompt;
        }
        set(&mut s.block, self.block);
        set(&mut s.double_quant, self.double_quant.map(|switch| switch == Switch::On));
        set(&mut s.checkpointing, self.checkpointing.map(|switch| switch == Switch::On));
        for (name, path) in [("model", &s.model), ("--data FILE", &s.data), ("--out DIR", &s.out)] {
            if path.as_os_str().is_empty() {
                return Err(Error::usage(format!("no {name}")));
            }
        }
        Ok(s)
    }
}

fn from_file(path: &Path) -> Result<Settings> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::read(path, "open", &error))?;
    toml::from_str(&text).map_err(|error| Error::file(path, error.message().to_owned()))
}

pub(super) fn tell(screen: &Screen, event: &Event) {
    match event {
        Event::Note(note) => screen.message(note),
        Event::Started { steps, done, trainable, memory } => {
            let after = if *done > 0 { format!(", going on after step {done}") } else { String::new() };
            screen.message(&format!(
                "{trainable} parameters are trained in {steps} steps{after}; about {} of memory (weights {}, trained {}, activations {}, logits {}, workspace {})",
                bytes(memory.total()),
                bytes(memory.weights + memory.constants),
                bytes(memory.trained()),
                bytes(memory.activations),
                bytes(memory.logits),
                bytes(memory.workspace)
            ));
        }
        Event::Step(record) => {
            let step = &record.step;
            let held_out = record.eval_loss.map_or_else(String::new, |loss| format!("  held-out {loss:.4}"));
            screen.message(&format!(
                "step {:>5}  loss {:.4}  lr {:.2e}  gradient {:.3}  {:.0} tokens/s{held_out}",
                step.step, step.loss, step.lr, step.grad_norm, record.tokens_per_s
            ));
        }
        Event::Saved(path) => screen.message(&format!("saved {}", path.display())),
        Event::Frame(_) => {}
        Event::Sample(sample) => {
            screen.message(&format!("after step {}: {} → {}", sample.step, sample.prompt, sample.text.trim()));
        }
    }
}
