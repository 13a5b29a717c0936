//! `rankscope extract` and `rankscope resize`: an adapter from what changed, or from a larger adapter.

use super::choice;
use super::screen::Screen;
use super::text::Table;
use crate::adapter::Adapter;
use crate::checkpoint::{Checkpoint, Dtype};
use crate::delta::{DeltaSet, Source};
use crate::error::{Error, Result};
use crate::plan::extract::{Changed, Cut, Extracted, extract};
use crate::plan::{Layout, Selection, Targets, budget};
use crate::units::{bytes, exact, percent, shape};
use clap::{ArgGroup, Args};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much is kept.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("cut").required(true).args(["rank", "energy", "budget", "threshold"])))]
pub(super) struct Keep {
    /// Keep this rank in every module
    #[arg(long, value_name = "R")]
    rank: Option<usize>,

    /// Keep the smallest rank that holds this share of each module's energy Σσ², such as 0.9
    #[arg(long, value_name = "SHARE")]
    energy: Option<f64>,

    /// Best ranks for this many parameters in all, such as 4.7M, or for a file of this size, such as 10MB
    #[arg(long, value_name = "P")]
    budget: Option<String>,

    /// Keep the directions whose σ is at least this, in whatever module: one threshold over all of them
    #[arg(long, value_name = "SIGMA")]
    threshold: Option<f64>,
}

impl Keep {
    pub(super) fn cut(&self, dtype: Dtype) -> Result<Cut> {
        let cut = match (self.rank, self.energy, &self.budget) {
            (Some(r), ..) => Cut::Rank(r),
            (_, Some(share), _) => Cut::Energy(share),
            (_, _, Some(text)) => Cut::Budget(budget::parse(text, width(dtype))?),
            (None, None, None) => match self.threshold {
                Some(sigma) => Cut::Threshold(sigma),
                None => {
                    let message = "how much to keep is not said; expected --rank, --energy, --budget or --threshold";
                    return Err(Error::usage(message));
                }
            },
        };
        cut.check()?;
        Ok(cut)
    }
}

#[derive(Debug, Args)]
pub struct Extract {
    /// Base model
    #[arg(long, value_name = "MODEL")]
    base: PathBuf,

    /// Fine-tuned model
    #[arg(long, value_name = "MODEL")]
    tuned: PathBuf,

    /// Output folder for the adapter
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    #[command(flatten)]
    keep: Keep,

    /// Target modules: names, or qv, attention, all-linear, or a /regex/; embeddings and the head only by name
    #[arg(long, value_name = "TARGETS")]
    targets: Option<Targets>,

    /// Data type of A and B
    #[arg(long, value_parser = choice::written(), default_value = "f32")]
    dtype: Dtype,
}

#[derive(Debug, Args)]
pub struct Resize {
    /// Adapter to truncate
    #[arg(long, value_name = "ADAPTER")]
    adapter: PathBuf,

    /// Output folder for the new adapter
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    #[command(flatten)]
    keep: Keep,

    /// Data type of A and B
    #[arg(long, value_parser = choice::written(), default_value = "f32")]
    dtype: Dtype,
}

impl Extract {
    pub fn run(self, screen: &Screen) -> Result<()> {
        let dtype = self.dtype;
        let cut = self.keep.cut(dtype)?;
        let base = Arc::new(Checkpoint::open(&self.base)?);
        let tuned = Arc::new(Checkpoint::open(&self.tuned)?);
        let apart = [base.path(), tuned.path()];
        not_over(&apart, &self.out)?;
        let set = DeltaSet::new(Arc::clone(&base), Source::Tuned(tuned))?;
        let names = self.targets.as_ref().map(|targets| names(&base, targets)).transpose()?;
        let made = extract(Changed::Models(&set), names.as_deref(), cut, dtype, &self.out, screen);
        screen.finish();
        print(screen, &made?, &self.out, dtype)
    }
}

impl Resize {
    pub fn run(self, screen: &Screen) -> Result<()> {
        let dtype = self.dtype;
        let cut = self.keep.cut(dtype)?;
        let adapter = Adapter::open(&self.adapter)?;
        not_over(&[adapter.path()], &self.out)?;
        let made = extract(Changed::Adapter(&adapter), None, cut, dtype, &self.out, screen);
        screen.finish();
        print(screen, &made?, &self.out, dtype)
    }
}

/// The modules that targets name.
pub(super) fn names(base: &Checkpoint, targets: &Targets) -> Result<Vec<String>> {
    let layout = Layout::of(base)?;
    let selection = Selection::new(&layout, targets)?;
    Ok(selection.weights(&layout).map(|weight| weight.name.clone()).collect())
}

fn width(dtype: Dtype) -> u64 {
    if dtype == Dtype::F32 { 4 } else { 2 }
}

/// What is read is not written over.
fn not_over(sources: &[&Path], out: &Path) -> Result<()> {
    for path in sources {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        if folder.canonicalize().ok().zip(out.canonicalize().ok()).is_some_and(|(a, b)| a == b) {
            return Err(Error::file(out, "this is what is read; expected another folder to write to"));
        }
    }
    Ok(())
}

fn print(screen: &Screen, made: &Extracted, out: &Path, dtype: Dtype) -> Result<()> {
    if screen.json {
        let modules: Vec<Value> = made
            .modules
            .iter()
            .map(|kept| {
                json!({"name": kept.name, "shape": kept.shape, "r": kept.r, "energy": kept.energy, "residual": kept.residual})
            })
            .collect();
        return screen
            .document(&json!({"modules": modules, "trainable": made.trainable, "adapter": out, "notes": made.notes}));
    }
    for note in &made.notes {
        screen.message(&format!("note: {note}"));
    }
    let mut table = Table::new(&["module", ">shape", ">r", ">energy kept"]);
    for kept in &made.modules {
        table.push(vec![kept.name.clone(), shape(&kept.shape), kept.r.to_string(), percent(kept.energy)]);
    }
    let size = bytes(width(dtype) * made.trainable);
    screen.print(&format!("{}\n{} parameters, {size}\n{}\n", table.render(), exact(made.trainable), out.display()))
}
