//! `rankscope train`: a fine-tune.

use super::Common;
use super::screen::Screen;
use super::settings::{Given, Run, Takes};
use crate::error::{Error, Result};
use crate::train::Settings;
use crate::train::run::{Event, Start, run};
use crate::train::run_folder::{RunFolder, read_settings};
use crate::units::bytes;
use clap::Args;
use serde_json::json;
use std::num::NonZeroUsize;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Train<C: Takes = Run> {
    #[command(flatten)]
    given: Given<C>,

    /// Settings from a file as a run writes it; flags beside it count more
    #[arg(long, value_name = "RUN.TOML")]
    config: Option<PathBuf>,

    /// Resume the run in --out from its last checkpoint
    #[arg(long)]
    resume: bool,

    /// Start even where the predicted memory is more than what is free
    #[arg(long)]
    pub(super) force: bool,
}

impl Train<Run> {
    pub fn run(self, screen: &Screen, common: &Common) -> Result<()> {
        let start = Start { resume: self.resume, force: self.force };
        let settings = self.settings(screen, common)?;
        let summary = run(settings, start, screen, &mut |event| {
            show(screen, &event);
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
                "result_step": summary.result_step,
                "forget_loss": summary.forgetting.map(|[_, after]| after),
                "forget_loss_before": summary.forgetting.map(|[before, _]| before),
                "tokens_per_s": summary.tokens_per_s,
                "peak_bytes": peak,
                "gpu_peak_bytes": summary.gpu_peak,
                "predicted_bytes": summary.memory.predicted.total(),
                "adapter": summary.adapter,
            });
            return screen.print(&format!("{document}\n"));
        }
        let mut held_out = summary.eval_loss.map_or_else(String::new, |loss| format!(", held-out {loss:.4}"));
        if let Some([before, after]) = summary.forgetting {
            held_out += &format!(", on the base's own text {before:.4} to {after:.4}");
        }
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
}

impl<C: Takes> Train<C> {
    /// The folder of what is to go on, where nothing else says what it is.
    pub(super) fn resumed(&self) -> Result<Option<PathBuf>> {
        let out = self.given.settings()?.out;
        Ok((self.resume && self.config.is_none() && !out.as_os_str().is_empty()).then_some(out))
    }

    /// The settings that were meant; what has no effect on such a run is said.
    pub(super) fn settings(&self, screen: &Screen, common: &Common) -> Result<Settings> {
        let given = self.given.settings()?;
        let mut settings = match (&self.config, self.resume) {
            (Some(path), _) => read_settings(path)?,
            // What is not said again is as it was.
            (None, true) if !given.out.as_os_str().is_empty() => RunFolder::new(&given.out).settings()?,
            (None, _) => Settings::default(),
        };
        self.given.apply(&mut settings)?;
        for (name, path) in [("model", &settings.model), ("--data FILE", &settings.data), ("--out DIR", &settings.out)]
        {
            if path.as_os_str().is_empty() {
                return Err(Error::usage(format!("no {name}")));
            }
        }
        settings.device = common.device;
        settings.threads = common.threads.map(NonZeroUsize::get).or(settings.threads);
        for note in self.given.idle(&settings) {
            screen.message(&note);
        }
        Ok(settings)
    }
}

pub(super) fn show(screen: &Screen, event: &Event) {
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
            let mut held_out = record.eval_loss.map_or_else(String::new, |loss| format!("  held-out {loss:.4}"));
            if let Some(loss) = record.forget_loss {
                held_out += &format!("  base's own {loss:.4}");
            }
            screen.message(&format!(
                "step {:>5}  loss {:.4}  lr {:.2e}  gradient {:.3}  {:.0} tokens/s{held_out}",
                step.step, step.loss, step.lr, step.grad_norm, record.tokens_per_s
            ));
        }
        Event::Saved(path) => screen.message(&format!("saved {}", path.display())),
        Event::Frame(_) | Event::Earlier(_) => {}
        Event::Sample(sample) => {
            screen.message(&format!("after step {}: {} → {}", sample.step, sample.prompt, sample.text.trim()));
        }
    }
}
