//! [`sweep`]: a run for each of several ranks on the same data and seed; and what the largest rank's adapter is worth when it
//! is truncated to each of the smaller ones ("train high, truncate later").
//!
//! ```text
//! out/group.json      what the folder is, and the rows so far
//! out/r-8/            the run at r = 8, as any other run
//! ```
//!
//! Truncated to rank k, a pair's `s · B A` keeps the first k of its singular directions: by Eckart–Young no pair of rank k
//! comes closer to it. What that costs in loss is measured on the held-out rows, on the base as it was trained on.

use super::history::{self, Phase};
use super::run::{self, Event, Start};
use super::run_folder::GROUP;
use super::store::write_whole;
use super::{Method, Rows, Settings, evaluate, film};
use crate::adapter::Adapter;
use crate::checkpoint::{Checkpoint, json};
use crate::delta::{DeltaWeight, LowRank};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::model::{Decoder, Frozen, Processor};
use crate::progress::{Part, Progress};
use crate::spectrum::{self, Options, Spectrum};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One rank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The rank.
    pub r: usize,
    /// Elements that were trained.
    pub trainable: usize,
    /// Loss of the last step.
    pub last_loss: f64,
    /// Loss on the held-out rows after the run.
    pub eval_loss: Option<f64>,
    /// Directions that hold 95 % of the energy of ΔW: the mean over the modules.
    pub energy_95: f64,
    /// Loss on the held-out rows of the largest rank's adapter, truncated to this rank.
    pub truncated_eval_loss: Option<f64>,
    /// Where the run is.
    pub adapter: PathBuf,
}

/// What a sweep says while it goes on.
#[derive(Clone, Debug)]
pub enum SweepEvent {
    /// A run begins: its rank and its settings.
    Run(usize, Box<Settings>),
    /// Something about it.
    Event(Event),
    /// What is known of all ranks so far, in the order of the ranks.
    Rows(Vec<Row>),
}

/// Takes what a sweep says; an error ends the sweep.
pub type OnSweep<'a> = &'a mut (dyn FnMut(SweepEvent) -> Result<()> + Send);

/// What `group.json` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// `sweep` or `comparison`.
    pub kind: String,
    /// Rows of a sweep.
    pub rows: Vec<Row>,
}

impl Group {
    /// Reads what a folder is; `None` where it is no group of runs.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_str(&json::text(&folder.join(GROUP)).ok()?).ok()
    }

    /// Marks a folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::failure(error.to_string()))?;
        write_whole(&folder.join(GROUP), &text)
    }
}

/// Ranks as a person writes them: `1, 2, 4 8`; each once, in order.
///
/// # Errors
/// Bad input that names what is no rank.
pub fn ranks(text: &str) -> Result<Vec<usize>> {
    let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    let rank = |word: &str| {
        let r: Option<usize> = word.parse().ok().filter(|&r| r > 0);
        r.ok_or_else(|| Error::usage(format!("rank {word:?}; expected whole numbers above 0, such as 1,2,4,8")))
    };
    let mut ranks = words.map(rank).collect::<Result<Vec<_>>>()?;
    ranks.sort_unstable();
    ranks.dedup();
    if ranks.is_empty() { Err(Error::usage("no ranks; expected some, such as 1,2,4,8")) } else { Ok(ranks) }
}

/// Steps between evaluations where nobody says.
const EVAL_EVERY: usize = 50;

/// Trains at each rank, the largest first, in folders of their own in `settings.out`; then truncates. A sweep that was
/// stopped goes on: runs that are there are taken as they are.
///
/// # Errors
/// As [`run::run`]; `full` has no rank.
pub fn sweep(
    settings: &Settings,
    ranks: &[usize],
    force: bool,
    progress: &dyn Progress,
    on_event: OnSweep<'_>,
) -> Result<Vec<Row>> {
    if settings.method == Method::Full {
        return Err(Error::usage("a full fine-tune has no rank; expected method lora or qlora"));
    }
    let out = settings.out.clone();
    if out.as_os_str().is_empty() {
        return Err(Error::usage("no folder to write to; expected --out DIR"));
    }
    let Some(&most) = ranks.last() else { return Err(Error::usage("no ranks; expected some, such as 1,2,4,8")) };
    let checkpoint = Checkpoint::open(&settings.model)?;
    let mut group = Group { kind: "sweep".to_owned(), rows: Vec::new() };
    group.write(&out)?;
    let units = ranks.len() as u64 + 1;
    for (index, &r) in ranks.iter().rev().enumerate() {
        let mut one = Settings { rank: r, out: out.join(format!("r-{r}")), ..settings.clone() };
        // α/r stays as it is with the dial's rank: the ranks differ in rank alone.
        one.alpha = settings.alpha.map(|alpha| alpha * r as f64 / settings.rank as f64);
        if one.eval_every == 0 && one.eval_data.is_none() {
            one.eval_every = EVAL_EVERY;
        }
        let row = one_rank(one, force, &Part::new(progress, index as u64, units), on_event)?;
        group.rows.insert(0, row);
        group.write(&out)?;
        on_event(SweepEvent::Rows(group.rows.clone()))?;
    }
    let largest = Settings { eval_every: EVAL_EVERY.max(settings.eval_every), ..settings.clone() };
    if let (_, Some(rows)) = run::read(&largest, &checkpoint, progress)? {
        let smaller: Vec<usize> = ranks.iter().copied().filter(|&r| r < most).collect();
        let part = Part::new(progress, units - 1, units);
        let losses = truncated(&checkpoint, settings, &out.join(format!("r-{most}")), &smaller, &rows, &part)?;
        for (row, loss) in group.rows.iter_mut().zip(losses) {
            row.truncated_eval_loss = Some(loss);
        }
        group.write(&out)?;
        on_event(SweepEvent::Rows(group.rows.clone()))?;
    }
    progress.step(1, 1)?;
    Ok(group.rows)
}

fn one_rank(settings: Settings, force: bool, progress: &dyn Progress, on_event: OnSweep<'_>) -> Result<Row> {
    let (r, out) = (settings.rank, settings.out.clone());
    on_event(SweepEvent::Run(r, Box::new(settings.clone())))?;
    let before = history::Past::read(&out).ok();
    if before.as_ref().is_none_or(|past| past.phase != Phase::Finished) {
        let start = Start { resume: before.is_some(), force };
        run::run(settings, start, progress, &mut |event| on_event(SweepEvent::Event(event)))?;
    }
    let past = history::Past::read(&out)?;
    let last_loss = past.last.map_or(f64::NAN, |record| record.step.loss);
    let spectra = spectra(&Adapter::open(&out)?, 0)?;
    let needed = spectra.iter().map(|(_, spectrum)| {
        film::energy_rank(&spectrum.sigma.iter().map(|&s| s as f32).collect::<Vec<_>>(), 0.95) as f64
    });
    let energy_95 = needed.sum::<f64>() / spectra.len().max(1) as f64;
    let (trainable, eval_loss) = (past.trainable, past.eval_loss);
    Ok(Row { r, trainable, last_loss, eval_loss, energy_95, truncated_eval_loss: None, adapter: out })
}

/// Spectra of an adapter's modules, with so many singular vectors.
fn spectra(adapter: &Adapter, vectors: usize) -> Result<Vec<(String, Spectrum)>> {
    let one = |layer: &crate::adapter::LoraLayer| {
        let (b, a) = adapter.factors(layer)?;
        let delta = DeltaWeight::LowRank(LowRank { b, a, scaling: layer.scaling, epsilon: f64::from(f32::EPSILON) });
        let found = spectrum::spectrum(&delta, &Options { vectors, ..Options::default() }, &())?;
        Ok((layer.module.clone(), found))
    };
    adapter.layers.iter().map(one).collect()
}

/// Losses on `rows` of a model with an adapter truncated to each of `ranks`.
///
/// # Errors
/// An adapter that does not fit the model; and cancellation.
fn truncated(
    checkpoint: &Checkpoint,
    settings: &Settings,
    adapter: &Path,
    ranks: &[usize],
    rows: &Rows,
    progress: &dyn Progress,
) -> Result<Vec<f64>> {
    let most = ranks.last().copied().unwrap_or(0);
    let spectra = spectra(&Adapter::open(adapter)?, most)?;
    let frozen = settings.scheme().map_or(Frozen::AsStored, Frozen::FourBit);
    let mut decoder = Decoder::load(checkpoint, frozen, &())?;
    let mut losses = Vec::new();
    for (index, &k) in ranks.iter().enumerate() {
        for (module, spectrum) in &spectra {
            let Some(vectors) = &spectrum.vectors else { continue };
            let at = decoder.linears().position(|linear| linear.module == *module);
            let at = at.ok_or_else(|| Error::tensor(adapter, module, "the model has no such linear layer"))?;
            // B = U_k √S_k, A = √S_k V_kᵀ, s = 1.
            let k = k.min(vectors.count());
            let root = |i: usize| spectrum.sigma.get(i).map_or(0.0, |sigma| sigma.sqrt()) as f32;
            let b = Matrix::from_fn(vectors.u.rows(), k, |row, i| vectors.u.get(row, i) * root(i));
            let a = Matrix::from_fn(k, vectors.v.rows(), |i, col| vectors.v.get(col, i) * root(i));
            decoder.branch(at, a, b, k as f64, 1.0, None);
        }
        let part = Part::new(progress, index as u64, ranks.len() as u64);
        losses.push(evaluate(&Processor::default(), &decoder, rows, settings.batch, &part)?.mean());
    }
    Ok(losses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_read_as_they_are_written() {
        assert_eq!(ranks("8, 1 2,4,2").unwrap(), [1, 2, 4, 8]);
        assert!(ranks("1, x").unwrap_err().to_string().contains("rank \"x\""));
        assert!(ranks("0").is_err() && ranks(" ").is_err());
    }

    /// Cut to the rank that it was trained at, an adapter loses nothing; cut further, it is the best of that rank, not the same.
    #[test]
    fn a_sweep_trains_and_truncates() {
        let folder = tempfile::tempdir().unwrap();
        let line = |row: u32| {
            let ids: Vec<u32> = (0..20).map(|at| (row * 31 + at * 7) % 300 + 3).collect();
            format!("{{\"input_ids\": {ids:?}}}\n")
        };
        let data = folder.path().join("data.jsonl");
        std::fs::write(&data, (0..9).map(line).collect::<String>()).unwrap();
        let settings = Settings {
            model: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama"),
            data,
            out: folder.path().join("sweep"),
            targets: "q_proj,v_proj".into(),
            lr: 2e-2,
            batch: 2,
            steps: Some(10),
            ..Settings::default()
        };
        let mut runs = Vec::new();
        let rows = sweep(&settings, &[1, 4], false, &(), &mut |event| {
            if let SweepEvent::Run(r, _) = event {
                runs.push(r);
            }
            Ok(())
        });
        let rows = rows.unwrap();
        assert_eq!((runs, rows[0].r, rows[1].r), (vec![4, 1], 1, 4));
        assert_eq!(4 * rows[0].trainable, rows[1].trainable);
        assert_eq!(Group::read(&settings.out).unwrap().rows, rows);
        assert!(rows[1].truncated_eval_loss.is_none() && rows[0].truncated_eval_loss.is_some());
        let checkpoint = Checkpoint::open(&settings.model).unwrap();
        let held_out = run::read(&Settings { eval_every: 1, ..settings.clone() }, &checkpoint, &()).unwrap().1.unwrap();
        let adapter = settings.out.join("r-4");
        let losses = truncated(&checkpoint, &settings, &adapter, &[1, 4], &held_out, &()).unwrap();
        let trained = rows[1].eval_loss.unwrap();
        assert!((losses[1] - trained).abs() < 1e-4, "{} {trained}", losses[1]);
        assert!((losses[0] - trained).abs() > 1e-4, "one direction of four is not all of them");
        assert_eq!(Some(losses[0]), rows[0].truncated_eval_loss);
        // A sweep that is there is taken as it is.
        assert_eq!(sweep(&settings, &[1, 4], false, &(), &mut |_| Ok(())).unwrap(), rows);
        let full = Settings { method: Method::Full, ..settings.clone() };
        assert!(sweep(&full, &[1], false, &(), &mut |_| Ok(())).unwrap_err().to_string().contains("has no rank"));
    }
}
