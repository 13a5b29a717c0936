//! `rankscope combine`: two adapters of one base in one, and what they share.

use super::choice;
use super::screen::Screen;
use super::text::{Table, or_dash};
use crate::adapter::Adapter;
use crate::checkpoint::{Checkpoint, Dtype};
use crate::error::{Error, Result};
use crate::model::{Decoder, Frozen, Processor};
use crate::plan::combine::{Combined, combine};
use crate::train::{Settings, data, evaluate};
use crate::units::{exact, real};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct Combine {
    /// An adapter
    a: PathBuf,

    /// Another adapter of the same base
    b: PathBuf,

    /// Weights of the two in the sum
    #[arg(long, value_name = "A,B", value_delimiter = ',', num_args = 1, default_values_t = [1.0, 1.0], allow_negative_numbers = true)]
    weights: Vec<f64>,

    /// Cut the sum to this rank; without it, it has the ranks of both added and is exact
    #[arg(long, value_name = "R")]
    rank: Option<usize>,

    /// Base model, for the losses
    #[arg(long, value_name = "MODEL", requires = "data")]
    base: Option<PathBuf>,

    /// Held-out data of the two tasks, in their order: the loss of each adapter alone and of the sum
    #[arg(long, value_name = "FILE", num_args = 2, requires = "base")]
    data: Vec<PathBuf>,

    /// Longest sequence of the held-out data in tokens
    #[arg(long, value_name = "N", default_value_t = 512)]
    seq: usize,

    /// Output folder for the new adapter
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Data type of A and B
    #[arg(long, value_parser = choice::written(), default_value = "f32")]
    dtype: Dtype,
}

/// Losses of one task.
struct Task {
    data: PathBuf,
    base: f64,
    alone: f64,
    combined: f64,
}

impl Combine {
    pub fn run(self, screen: &Screen) -> Result<()> {
        let &[of_a, of_b] = &self.weights[..] else {
            return Err(Error::usage(format!("{} weights; expected two, such as --weights 1,0.5", self.weights.len())));
        };
        if self.rank == Some(0) {
            return Err(Error::usage("rank 0 keeps nothing; expected 1 or more"));
        }
        let (a, b) = (Adapter::open(&self.a)?, Adapter::open(&self.b)?);
        let found = combine((&a, of_a), (&b, of_b), self.rank, self.dtype, &self.out, screen);
        screen.finish();
        let found = found?;
        let tasks = match &self.base {
            Some(base) => self.losses(base, [&a, &b], screen)?,
            None => Vec::new(),
        };
        screen.finish();
        if screen.json {
            let losses: Vec<Value> = tasks
                .iter()
                .map(|task| json!({"data": task.data, "base_loss": task.base, "alone_loss": task.alone, "combined_loss": task.combined}))
                .collect();
            return screen.document(&json!({
                "modules": found.modules, "verdict": found.verdict, "trainable": found.trainable, "tasks": losses,
                "adapter": self.out,
            }));
        }
        screen.print(&text(&found, &tasks, &self.out))
    }

    fn losses(&self, base: &Path, adapters: [&Adapter; 2], screen: &Screen) -> Result<Vec<Task>> {
        let checkpoint = Checkpoint::open(base)?;
        let sum = Adapter::open(&self.out)?;
        let mut tasks = Vec::new();
        for (path, adapter) in self.data.iter().zip(adapters) {
            let rows = data::read(path, &checkpoint, self.seq, screen)?.rows;
            let batch = Settings::default().batch;
            let loss = |decoder: Decoder| Ok(evaluate(&Processor::default(), &decoder, &rows, batch, screen)?.mean());
            let with = |adapter: &Adapter| loss(Decoder::with_adapter(&checkpoint, adapter, Frozen::AsStored, screen)?);
            tasks.push(Task {
                data: path.clone(),
                base: loss(Decoder::load(&checkpoint, Frozen::AsStored, screen)?)?,
                alone: with(adapter)?,
                combined: with(&sum)?,
            });
        }
        Ok(tasks)
    }
}

fn text(found: &Combined, tasks: &[Task], out: &Path) -> String {
    let mut table = Table::new(&["module", ">angle", ">σ₁ of A", ">of B", ">of the sum", ">interference"]);
    for module in &found.modules {
        let [a, b, sum] = module.sigma_1.map(|sigma| real(sigma, 3));
        let angle = or_dash(module.angle.map(|angle| format!("{angle:.1}°")));
        table.push(vec![
            module.name.clone(),
            angle,
            a,
            b,
            sum,
            or_dash(module.interference.map(|x| format!("{x:+.3}"))),
        ]);
    }
    let mut text = format!("{}\n{}\n", table.render(), found.verdict);
    if !tasks.is_empty() {
        let mut table = Table::new(&["held-out", ">base", ">its adapter alone", ">combined"]);
        for task in tasks {
            let loss = |loss: f64| format!("{loss:.4}");
            table.push(vec![task.data.display().to_string(), loss(task.base), loss(task.alone), loss(task.combined)]);
        }
        text += &format!("\n{}", table.render());
    }
    text + &format!("{} parameters: {}\n", exact(found.trainable), out.display())
}
