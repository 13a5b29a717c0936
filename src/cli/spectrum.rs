//! `rankscope spectrum`: singular values of ΔW, and the ranks that they ask for.

use super::screen::Screen;
use super::text::{Table, or_dash};
use crate::adapter::Adapter;
use crate::checkpoint::Checkpoint;
use crate::delta::{DeltaSet, Entry, Source};
use crate::error::{Error, Result};
use crate::spectrum::{self, Method, Options};
use crate::units::{real, shape};
use clap::Args;
use regex::Regex;
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Args)]
pub struct Spectrum {
    /// Base model; alone, its own weights are decomposed
    #[arg(long, value_name = "MODEL")]
    base: PathBuf,

    /// Fine-tuned model: ΔW is its difference from the base
    #[arg(long, value_name = "MODEL", conflicts_with = "adapter")]
    tuned: Option<PathBuf>,

    /// Adapter of the base: ΔW is its scaled B·A, decomposed without forming it
    #[arg(long, value_name = "ADAPTER")]
    adapter: Option<PathBuf>,

    /// Only modules whose name matches this regular expression
    #[arg(long, value_name = "REGEX")]
    modules: Option<Regex>,

    /// SVD method: auto, exact, or randomized (largest singular values only)
    #[arg(long, value_name = "METHOD", default_value_t = Method::Auto)]
    method: Method,

    /// Report the K largest singular values [default: all that were computed]
    #[arg(long, value_name = "K")]
    top: Option<NonZeroUsize>,
}

impl Spectrum {
    pub fn run(self, screen: &Screen) -> Result<()> {
        let base = Arc::new(Checkpoint::open(&self.base)?);
        let source = match (&self.tuned, &self.adapter) {
            (Some(path), _) => Source::Tuned(Arc::new(Checkpoint::open(path)?)),
            (None, Some(path)) => Source::Adapter(Arc::new(Adapter::open(path)?)),
            (None, None) => Source::Weight,
        };
        let set = DeltaSet::new(base, source)?;
        set.check_adapter()?;
        let chosen = self.choose(&set)?;
        // What does not fit the base is said before anything is computed, and no mistake of the files; what cannot be
        // read is one, and comes out of the sweep.
        let (misfits, fitting): (Vec<&Entry>, Vec<&Entry>) = chosen.iter().partition(|entry| entry.misfit);
        let reason = |entry: &Entry| entry.problem.clone().unwrap_or_else(|| "it does not fit the base".to_owned());
        let mut skipped: Vec<(String, String)> =
            misfits.iter().map(|entry| (entry.name.clone(), reason(entry))).collect();
        if let (Some((name, reason)), true) = (skipped.first(), fitting.is_empty()) {
            return Err(Error::usage(format!("there is no module whose ΔW can be computed; {name}: {reason}")));
        }
        for (name, reason) in &skipped {
            screen.message(&format!("skipped: {name}: {reason}"));
        }
        let names: Vec<String> = fitting.iter().map(|entry| entry.name.clone()).collect();

        let options = Options { method: self.method, top: self.top.map(Into::into), vectors: 0 };
        let table = titles(&fitting);
        if !screen.json {
            screen.print(&table.head())?;
        }
        let mut documents = Vec::new();
        let mut failed = 0usize;
        let mut printed = Ok(());
        let done = spectrum::sweep(&set, &names, &options, screen, &mut |name, result| match result {
            Ok(spectrum) if screen.json => documents.push(document(name, &spectrum)),
            Ok(spectrum) => {
                if printed.is_ok() {
                    printed = screen.print(&table.line(&row(name, &spectrum)));
                }
            }
            Err(error) => {
                screen.message(&format!("error: {error}"));
                skipped.push((name.to_owned(), error.to_string()));
                failed += 1;
            }
        });
        screen.finish();
        done?;
        printed?;
        if screen.json {
            let skipped: Vec<Value> =
                skipped.iter().map(|(name, reason)| json!({ "name": name, "reason": reason })).collect();
            screen.document(&json!({ "modules": documents, "skipped": skipped }))?;
        }
        match failed {
            0 => Ok(()),
            1 => Err(Error::usage("1 module could not be analysed; it is named above, the others are done")),
            n => Err(Error::usage(format!(
                "{n} modules could not be analysed; they are named above, the others are done"
            ))),
        }
    }

    /// The entries that are meant: those that `--modules` finds; otherwise an adapter's, or the linear layers, without
    /// the embeddings and the head, which are large and which a fine-tune seldom touches.
    fn choose<'a>(&self, set: &'a DeltaSet) -> Result<Vec<&'a Entry>> {
        let entries = set.entries();
        let Some(regex) = &self.modules else {
            let all = self.adapter.is_some() || !entries.iter().any(|entry| entry.linear);
            // What does not fit is named wherever it is.
            return Ok(entries.iter().filter(|entry| all || entry.linear || entry.misfit).collect());
        };
        let chosen: Vec<&Entry> = entries.iter().filter(|entry| regex.is_match(&entry.name)).collect();
        if chosen.is_empty() {
            const SHOWN: usize = 4;
            let mut some: Vec<&str> = entries.iter().take(SHOWN).map(|entry| entry.name.as_str()).collect();
            if entries.len() > SHOWN {
                some.push("…");
            }
            return Err(Error::usage(format!(
                "--modules {regex} finds none of the {} modules; there are {}",
                entries.len(),
                some.join(", ")
            )));
        }
        Ok(chosen)
    }
}

/// The ranks that the rules ask for, as JSON.
pub(super) fn ranks(spectrum: &spectrum::Spectrum) -> Value {
    let ranks = spectrum.ranks();
    json!({
        "energy_90": ranks.energy_90,
        "energy_95": ranks.energy_95,
        "energy_99": ranks.energy_99,
        "stable": ranks.stable,
        "effective": ranks.effective,
        "participation": ranks.participation,
        "numerical": ranks.numerical,
        "gavish_donoho": ranks.gavish_donoho,
        "rounding": ranks.rounding,
    })
}

fn document(name: &str, spectrum: &spectrum::Spectrum) -> Value {
    json!({
        "name": name,
        "shape": spectrum.shape,
        "method": spectrum.method,
        "exact": spectrum.exact,
        "frobenius": spectrum.frobenius,
        "singular_values": spectrum.sigma,
        "ranks": ranks(spectrum),
        "rounding_std": spectrum.rounding_std,
        "tolerance": spectrum.tolerance,
    })
}

/// The table's columns, as wide as the rows that are still to come will be.
fn titles(entries: &[&Entry]) -> Table {
    let mut table = Table::new(&[
        "module",
        ">shape",
        "method",
        ">σ₁",
        ">‖ΔW‖",
        ">90 %",
        ">95 %",
        ">99 %",
        ">stable",
        ">effective",
        ">numerical",
    ]);
    for entry in entries {
        table.widen(0, entry.name.chars().count());
        table.widen(1, shape(&entry.shape).chars().count());
    }
    [(2, "block krylov, top 64".len()), (3, 9), (4, 9), (8, 7), (9, 9)]
        .into_iter()
        .for_each(|(column, width)| table.widen(column, width));
    table
}

fn row(name: &str, spectrum: &spectrum::Spectrum) -> Vec<String> {
    let ranks = spectrum.ranks();
    let method = match spectrum.exact {
        true => spectrum.method.to_owned(),
        false => format!("{}, top {}", spectrum.method, spectrum.sigma.len()),
    };
    let number = |value: Option<f64>| or_dash(value.filter(|value| value.is_finite()).map(|value| real(value, 4)));
    vec![
        name.to_owned(),
        shape(&spectrum.shape),
        method,
        number(Some(spectrum.sigma.first().copied().unwrap_or(0.0))),
        number(Some(spectrum.frobenius)),
        or_dash(ranks.energy_90),
        or_dash(ranks.energy_95),
        or_dash(ranks.energy_99),
        number(Some(ranks.stable)),
        number(ranks.effective),
        or_dash(ranks.numerical),
    ]
}
