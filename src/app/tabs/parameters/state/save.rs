//! What is made of a plan: an adapter, PEFT's config, Python, a report; and the jobs that read a person's data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::write::write_whole;
use crate::checkpoint::{Checkpoint, Dtype};
use crate::delta::Source;
use crate::error::{Error, Result};
use crate::figure::chart::{self, Bar};
use crate::figure::html::{Piece, Report};
use crate::job::{Job, Wake};
use crate::plan::budget::{Offer, Ranks};
use crate::plan::config;
use crate::plan::extract::{Changed, Cut, Extracted, extract};
use crate::plan::report;
use crate::train::probe::{Probed, probe as run_probe};
use crate::train::{Settings, data};
use crate::units::{bytes, exact};

use super::{Choice, Needs, Probe, Tokens};
use crate::app::view::Round;
use crate::app::work::export::Chapter;

/// What can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// A PEFT adapter of what changed, with the best ranks.
    Adapter,
    /// A `LoraConfig` with these ranks, as JSON.
    Config,
    /// A `LoraConfig` with the ranks that a probe has suggested, as JSON.
    Probed,
    /// The same as Python.
    Python,
    /// Everything about the plan in one HTML file.
    Report,
}

impl Product {
    /// Title of the dialog that asks where to.
    pub fn title(self) -> &'static str {
        match self {
            Self::Adapter => "Write the adapter: a new folder",
            Self::Config | Self::Probed => "Write the LoraConfig",
            Self::Python => "Write the lines of Python",
            Self::Report => "Write the report",
        }
    }

    /// The name that it proposes.
    pub fn file(self) -> &'static str {
        match self {
            Self::Adapter => "adapter",
            Self::Config | Self::Probed => "adapter_config.json",
            Self::Python => "lora_config.py",
            Self::Report => "ranks.html",
        }
    }
}

/// What it is made of.
pub struct Plan<'a> {
    /// Ranks under a budget.
    pub choice: Option<&'a Choice>,
    /// Predicted memory.
    pub needs: Option<&'a Result<Needs>>,
    /// Ranks by the gradients.
    pub probed: Option<&'a Probed>,
}

/// What was made.
pub struct Made {
    /// A sentence about it.
    pub text: String,
    /// The adapter, where it was one.
    pub adapter: Option<Extracted>,
}

/// Begins to make something at `path`.
pub fn make(product: Product, path: PathBuf, plan: &Plan<'_>, round: &mut Round<'_>, wake: &Wake) -> Result<Job<Made>> {
    if path.as_os_str().is_empty() {
        return Err(Error::usage("there is no path to write to"));
    }
    let layout = round.workspace.layout().cloned().ok_or_else(|| Error::usage("no model is open"))?;
    let dial = round.workspace.dial();
    let ratio = dial.alpha / dial.r as f64;
    let base = round.workspace.base().map(|base| base.path().to_string_lossy().into_owned());
    let wake = Arc::clone(wake);
    if product == Product::Probed {
        let probed =
            plan.probed.cloned().ok_or_else(|| Error::usage("there are no ranks yet: probe the gradients first"))?;
        return Ok(Job::spawn("Writing a plan", wake, move |_| {
            let offers: Vec<Offer> =
                probed.modules.iter().map(|module| Offer::of(&module.name, &module.spectrum)).collect();
            let ranks = Ranks::of(&offers, probed.modules.iter().map(|module| module.suggested).collect());
            let json = config::to_train(&layout, &offers, &ranks, ratio, base.as_deref()).to_json();
            write_json(&path, &json)
        }));
    }
    let choice =
        plan.choice.cloned().ok_or_else(|| Error::usage("there are no ranks yet: compute the spectra first"))?;
    let needs = plan.needs.and_then(|needs| needs.as_ref().ok()).cloned();
    if product == Product::Adapter {
        let delta = round.workspace.delta().cloned().ok_or_else(|| Error::usage("no model is open"))?;
        if matches!(delta.source(), Source::Weight) {
            return Err(Error::usage("nothing changed here: open a tuned model or an adapter beside the base"));
        }
        let names: Vec<String> = choice.offers.iter().map(|offer| offer.name.clone()).collect();
        return Ok(Job::spawn("Extracting an adapter", wake, move |progress| {
            let cut = Cut::Budget(choice.budget);
            let made = extract(Changed::Models(&delta), Some(&names), cut, Dtype::F32, &path, progress)?;
            let text = format!("An adapter of {} parameters is in {}.", exact(made.trainable), path.display());
            Ok(Made { text, adapter: Some(made) })
        }));
    }
    Ok(Job::spawn("Writing a plan", wake, move |_| {
        let adapter = config::to_train(&layout, &choice.offers, &choice.best, ratio, base.as_deref());
        let json = adapter.to_json();
        let text = match product {
            Product::Config => return write_json(&path, &json),
            Product::Python => config::python(&json),
            _ => {
                let mut report = Report::new(format!("Ranks for {}", layout.name));
                sections(&mut report, Some((&choice, &json)), needs.as_ref());
                report.html()?
            }
        };
        write_whole(&path, text.as_bytes())?;
        Ok(Made { text: format!("Saved {}.", path.display()), adapter: None })
    }))
}

fn write_json(path: &Path, json: &serde_json::Value) -> Result<Made> {
    let text = serde_json::to_string_pretty(json).map_err(|error| Error::failure(error.to_string()))?;
    write_whole(path, text.as_bytes())?;
    Ok(Made { text: format!("Saved {}.", path.display()), adapter: None })
}

/// The plan as sections: ranks with the config that trains them, memory.
fn sections(report: &mut Report, choice: Option<(&Choice, &serde_json::Value)>, needs: Option<&Needs>) {
    if let Some((choice, config)) = choice {
        report::of_plan(report, &choice.offers, &choice.best, choice.uniform.as_ref(), config);
    }
    if let Some(needs) = needs {
        report.section(format!("Memory of {}", needs.model), memory_of(needs));
    }
}

/// The same for a report of the session; none where nothing is known.
pub fn chapter(choice: Option<&Result<Choice>>, needs: Option<&Result<Needs>>, round: &Round<'_>) -> Option<Chapter> {
    let choice = choice.and_then(|choice| choice.as_ref().ok()).cloned();
    let needs = needs.and_then(|needs| needs.as_ref().ok()).cloned();
    if choice.is_none() && needs.is_none() {
        return None;
    }
    let (layout, dial) = (round.workspace.layout()?.clone(), round.workspace.dial());
    let ratio = dial.alpha / dial.r as f64;
    let base = round.workspace.base().map(|base| base.path().to_string_lossy().into_owned());
    Some(Box::new(move |report| {
        let config = choice
            .as_ref()
            .map(|choice| config::to_train(&layout, &choice.offers, &choice.best, ratio, base.as_deref()).to_json());
        sections(report, choice.as_ref().zip(config.as_ref()), needs.as_ref());
        Ok(())
    }))
}

fn memory_of(needs: &Needs) -> Vec<Piece> {
    let most = needs.needs.iter().map(|need| need.parts.total()).max().unwrap_or(1) as f64;
    let bars: Vec<Bar> = needs
        .needs
        .iter()
        .map(|need| {
            let total = need.parts.total();
            Bar { label: need.method.as_str().to_owned(), value: total as f64, text: bytes(total) }
        })
        .collect();
    let mut rows = vec![["part", "full", "lora", "qlora"].map(str::to_owned).to_vec()];
    for (at, part) in needs.needs[0].parts.parts().iter().enumerate() {
        let cells = needs.needs.iter().map(|need| bytes(need.parts.parts()[at].bytes));
        rows.push(std::iter::once(part.name.to_owned()).chain(cells).collect());
    }
    let run = format!(
        "Rank {} on {}, batch {}, sequences of {} tokens, {}. Predicted for the engine of this program.",
        needs.r,
        needs.targets,
        needs.load.batch,
        needs.load.seq,
        if needs.load.checkpointing { "with checkpointing" } else { "without checkpointing" }
    );
    let mut rooms = vec![["memory", "size", "full", "lora", "qlora"].map(str::to_owned).to_vec()];
    for room in &needs.rooms {
        let verdicts = room.verdicts.iter().map(|verdict| verdict.as_str().to_owned());
        rooms.push([room.name.clone(), bytes(room.bytes)].into_iter().chain(verdicts).collect());
    }
    vec![Piece::Text(run), Piece::Drawing(chart::bars("Memory", &bars, most)), Piece::table(rows), Piece::table(rooms)]
}

/// Begins a probe of the open model.
pub fn probe(ask: &Probe, round: &mut Round<'_>, wake: &Wake) -> Result<Job<Probed>> {
    let base = round.workspace.base().ok_or_else(|| Error::usage("no model is open"))?;
    let dial = round.workspace.dial();
    let settings = Settings {
        model: base.path().to_path_buf(),
        data: ask.data.clone(),
        targets: dial.targets.to_string(),
        rank: dial.r,
        batch: ask.batch,
        seq: ask.seq,
        ..Settings::default()
    };
    let batches = ask.batches;
    Ok(Job::spawn("Probing gradients", Arc::clone(wake), move |progress| run_probe(&settings, batches, None, progress)))
}

/// Begins to count the tokens of a data set for the open model.
pub fn tokens(path: PathBuf, round: &mut Round<'_>, wake: &Wake) -> Result<Job<Tokens>> {
    /// Rows are not cut for counting.
    const LONGEST: usize = 1 << 20;
    let base: Arc<Checkpoint> = round.workspace.base().cloned().ok_or_else(|| Error::usage("no model is open"))?;
    let title = format!("Counting tokens of {}", path.file_name().unwrap_or_default().to_string_lossy());
    Ok(Job::spawn(title, Arc::clone(wake), move |progress| {
        let data = data::read(Path::new(&path), &base, LONGEST, progress)?;
        let rows = &data.rows.rows;
        Ok(Tokens {
            rows: rows.len(),
            tokens: rows.iter().map(|row| row.ids.len()).sum(),
            predicted: rows.iter().map(|row| row.predictions()).sum(),
            path,
        })
    }))
}

impl Tokens {
    /// Trainable parameters for each predicted token, in words.
    pub fn against(&self, trainable: u64) -> String {
        let per = trainable as f64 / self.predicted.max(1) as f64;
        let tokens = exact(self.predicted as u64);
        if per > 1.0 {
            format!(
                "{} trainable parameters for {tokens} predicted tokens: {per:.1} for each. There is room to learn them by heart; watch the held-out loss.",
                exact(trainable)
            )
        } else {
            format!(
                "{} trainable parameters for {tokens} predicted tokens: {per:.2} trained numbers for each token. The data suffice for this rank.",
                exact(trainable)
            )
        }
    }
}
