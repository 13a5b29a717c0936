//! `rankscope advise`: which rank, α and learning rate, on which modules, and why.

use super::Common;
use super::screen::Screen;
use super::settings::{Advising, Given};
use super::sweep::Points;
use super::text::Table;
use crate::checkpoint::write::write_whole;
use crate::error::{Error, Result};
use crate::figure::html::Report;
use crate::plan::advise::{Advice, Facts, Room, section};
use crate::plan::budget;
use crate::plan::memory::Verdict;
use crate::train::advise::{Question, SiblingFrom, advise};
use crate::train::sweep::{self, Group, SweepEvent};
use crate::train::{Alpha, Settings};
use crate::units::{bytes, exact};
use clap::Args;
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Advise {
    /// Model: a folder as on the Hugging Face Hub
    model: PathBuf,

    /// Training data; without it only sizes and what was tuned before speak
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,

    /// Fine-tuned model of the same base
    #[arg(long, value_name = "MODEL", conflicts_with = "adapter")]
    tuned: Option<PathBuf>,

    /// Adapter of the same base
    #[arg(long, value_name = "ADAPTER")]
    adapter: Option<PathBuf>,

    /// Memory that the run has to fit, such as 24GB (sold as that: 24 GiB) [default: what is free here]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,

    /// Folder of earlier runs and sweeps: those on the same model and data are taken into account; may be repeated
    #[arg(long, value_name = "DIR")]
    runs: Vec<PathBuf>,

    /// Micro-batches whose gradients are looked at; 0 for none
    #[arg(long, value_name = "N", default_value_t = 1)]
    batches: usize,

    #[command(flatten)]
    given: Given<Advising>,

    /// Measure it: a short sweep around the answer, whose loss then decides
    #[arg(long = "try", requires = "data")]
    attempt: bool,

    /// Ranks of --try [default: a quarter, one and four times the answer]
    #[arg(long, value_name = "LIST", requires = "attempt")]
    ranks: Option<String>,

    #[command(flatten)]
    points: Points,

    /// How α follows the rank in --try: 2r, a number for all ranks, or rslora
    #[arg(long, value_name = "2r|32|rslora", requires = "attempt")]
    alpha: Option<Alpha>,

    /// Folder of the runs of --try [default: a temporary one]
    #[arg(long, value_name = "DIR", requires = "attempt")]
    out: Option<PathBuf>,

    /// Write the answer with its plots as one HTML file
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

/// Steps of a run of `--try` where nobody says: enough to see which rates are too high.
const TRIED: usize = 60;

impl Advise {
    pub fn run(self, screen: &Screen, common: &Common) -> Result<()> {
        let settings = Settings {
            model: self.model.clone(),
            data: self.data.clone().unwrap_or_default(),
            device: common.device,
            threads: common.threads.map(NonZeroUsize::get),
            ..self.given.settings()?
        };
        let room = self.memory.as_deref().map(room).transpose()?;
        let sibling = self.tuned.clone().or_else(|| self.adapter.clone()).map(SiblingFrom::Path);
        let mut question = Question { settings, sibling, room, runs: self.runs.clone(), batches: self.batches };
        let found = advise(&question, screen);
        screen.finish();
        let (mut facts, mut advice) = found?;
        let mut measured = None;
        if self.attempt {
            let temporary;
            let out = match &self.out {
                Some(out) => out.clone(),
                None => {
                    temporary = tempfile::tempdir().map_err(|error| Error::write(&std::env::temp_dir(), &error))?;
                    temporary.path().join("sweep")
                }
            };
            let group = self.measure(&question.settings, &advice, out.clone(), screen)?;
            question.runs.push(out);
            // What the gradients say is known already.
            question.batches = 0;
            let gradients = std::mem::take(&mut facts.gradients);
            (facts, advice) = advise(&question, screen)?;
            facts.gradients = gradients;
            advice = crate::plan::advise::advise(&facts).unwrap_or(advice);
            screen.finish();
            measured = Some(group);
        }
        if let Some(path) = &self.report {
            let mut report = Report::new(format!("Which rank for {}", facts.layout.name));
            section(&mut report, &advice);
            write_whole(path, report.html()?.as_bytes())?;
        }
        if screen.json {
            return screen.document(&document(&facts, &advice, measured.as_ref()));
        }
        screen.print(&text(&facts, &advice))
    }

    fn measure(&self, settings: &Settings, advice: &Advice, out: PathBuf, screen: &Screen) -> Result<Group> {
        let ranks = match &self.ranks {
            Some(text) => sweep::ranks(text)?,
            None => ladder(advice.r),
        };
        let mut grid = self.points.grid(ranks, self.alpha)?;
        if self.points.lrs.is_none() {
            grid.rates = sweep::Rates::Ladder;
        }
        let mut settings =
            Settings { rank: advice.r, lr: advice.lr, out, save_every: 0, film_every: 0, ..settings.clone() };
        settings.steps = settings.steps.or(Some(TRIED));
        settings.warmup = settings.steps.unwrap_or(TRIED) / 20;
        let group = sweep::sweep(&settings, &grid, false, screen, &mut |event| {
            if let SweepEvent::Run(r, settings) = event {
                screen.message(&format!("trying r = {r} at {:e}", settings.lr));
            }
            Ok(())
        });
        screen.finish();
        group
    }
}

/// A quarter, one and four times a rank.
fn ladder(r: usize) -> Vec<usize> {
    let mut ranks = vec![(r / 4).max(1), r, 4 * r];
    ranks.dedup();
    ranks
}

/// A card's memory as it is sold: 24GB are 24 GiB.
fn room(text: &str) -> Result<Room> {
    let sold = text.trim().to_ascii_uppercase();
    let sold = sold.strip_suffix("GB").map_or_else(|| text.to_owned(), |number| format!("{number}GiB"));
    let wrong = |_| Error::usage(format!("memory \"{text}\"; expected a size such as 24GB"));
    let bytes = budget::parse(&sold, 1).map_err(wrong)?;
    Ok(Room { name: text.trim().to_owned(), bytes })
}

fn document(facts: &Facts, advice: &Advice, measured: Option<&Group>) -> Value {
    let why: Vec<Value> = advice
        .why
        .iter()
        .map(|why| json!({"criterion": why.criterion, "title": why.title, "value": why.value, "says": why.says, "weight": why.weight, "source": why.source}))
        .collect();
    let room = facts.room.as_ref();
    let verdict = advice.bytes.zip(room).map(|(need, room)| Verdict::of(need, room.bytes).as_str());
    let mut document = json!({
        "r": advice.r,
        "alpha": advice.alpha,
        "rslora": advice.rslora,
        "lr": advice.lr,
        "targets": advice.targets,
        "modules": facts.selection.places.len(),
        "why": why,
        "range": advice.range,
        "lr_range": advice.lr_range,
        "tokens": advice.tokens,
        "parameters_per_rank": advice.parameters_per_rank,
        "trainable": advice.trainable,
        "fits": {
            "method": facts.method.as_str(),
            "bytes": advice.bytes,
            "device_memory": room.map(|room| room.bytes),
            "verdict": verdict,
        },
        "uncertain": advice.uncertain,
    });
    if let Some(group) = measured {
        document["measured"] = super::sweep::document(group);
    }
    document
}

fn text(facts: &Facts, advice: &Advice) -> String {
    let mut text = format!("{}\n\n", advice.sentence());
    let [slow, fast] = advice.lr_range;
    text += &format!("learning rate: {:.0e}, to be looked for between {slow:.0e} and {fast:.0e}\n", advice.lr);
    if let (Some(need), Some(room)) = (advice.bytes, &facts.room) {
        let verdict = Verdict::of(need, room.bytes).as_str();
        text += &format!(
            "memory: about {} by {}, of {}: {verdict}\n",
            bytes(need),
            facts.method.as_str(),
            bytes(room.bytes)
        );
    }
    text += &format!(
        "trained numbers: {} ({} for each rank)\n\n",
        exact(advice.trainable),
        exact(advice.parameters_per_rank)
    );
    let mut table = Table::new(&[">weight", "reason", "value"]);
    for why in &advice.why {
        table.push(vec![format!("{:.2}", why.weight), why.title.to_owned(), why.value.clone()]);
    }
    text += &table.render();
    for why in &advice.why {
        text += &format!("\n{}. {}\n  ({})\n", why.title, why.says, why.source);
    }
    text += "\nNot known:\n";
    for one in &advice.uncertain {
        text += &format!("- {} {}\n", one.what, one.cost());
    }
    text
}
