//! Loss against rank on the three data sets: what rank changes, and what only the learning rate does.
//!
//! For every set and rank, learning rates are tried with one seed; the best one and a common one are then run with three
//! other seeds. A set is measured twice: after few steps, where a low rank is behind because it is *slow*, and after
//! many, where what is still missing is *capacity*. Every run is a line of a CSV file; lines that are there are not
//! computed again.

use super::sets::{HELD_OUT, Set};
use super::tune::{SEQ, Tune, tune};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::model::{Decoder, Pool};
use crate::progress::Progress;
use crate::train::{Method, Row, Rows, Sampling, Text, evaluate, generate};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Ranks of the study; `None` trains every parameter.
pub const RANKS: [Option<usize>; 7] = [Some(1), Some(2), Some(4), Some(8), Some(16), Some(64), None];

/// Rates that are tried for pairs, and for every parameter.
pub const RATES: [f64; 4] = [1e-3, 3e-3, 1e-2, 3e-2];
/// See [`RATES`].
pub const FULL_RATES: [f64; 4] = [3e-4, 1e-3, 3e-3, 1e-2];

/// The one rate for all ranks: the usual mistake.
pub const COMMON: f64 = 3e-3;

/// The seed with which rates are tried, and those that are reported.
pub const TUNING: u64 = 100;
/// See [`TUNING`].
pub const SEEDS: [u64; 3] = [1, 2, 3];

/// One length of one set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Length {
    /// The set.
    pub set: Set,
    /// Rows to train on.
    pub rows: u64,
    /// Steps.
    pub steps: usize,
    /// Sequences of a step.
    pub batch: usize,
}

/// Few steps: seconds to a minute a run.
pub const SHORT: [Length; 3] = [
    Length { set: Set::Pirate, rows: 1600, steps: 200, batch: 8 },
    Length { set: Set::Extract, rows: 4000, steps: 400, batch: 8 },
    Length { set: Set::Facts, rows: 512, steps: 600, batch: 32 },
];

/// Many: until the loss stays where it is, on more facts than the lowest ranks have room for.
pub const LONG: [Length; 3] = [
    Length { set: Set::Pirate, rows: 16_000, steps: 2000, batch: 8 },
    Length { set: Set::Extract, rows: 32_000, steps: 4000, batch: 8 },
    Length { set: Set::Facts, rows: 4096, steps: 6000, batch: 64 },
];

/// One run and what came of it: a line of the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// What was run.
    pub length: Length,
    /// r, or every parameter.
    pub rank: Option<usize>,
    /// Learning rate.
    pub lr: f64,
    /// Seed.
    pub seed: u64,
    /// Elements trained.
    pub trainable: usize,
    /// Loss on rows that were trained (at most 512 of them), after the run.
    pub train: f64,
    /// Loss on held-out rows.
    pub eval: f64,
    /// Share of answers that are right to the letter: of trained rows for facts, of held-out ones for extraction.
    pub exact: Option<f64>,
    /// How long it took.
    pub seconds: f64,
}

const HEADER: &str = "set,rows,steps,batch,rank,lr,seed,trainable,train_loss,eval_loss,exact,seconds";

impl Line {
    fn key(length: &Length, rank: Option<usize>, lr: f64, seed: u64) -> String {
        let rank = rank.map_or_else(|| "full".to_owned(), |r| r.to_string());
        let Length { set, rows, steps, batch } = length;
        format!("{},{rows},{steps},{batch},{rank},{lr},{seed}", set.stem())
    }

    fn text(&self) -> String {
        let exact = self.exact.map_or_else(String::new, |exact| format!("{exact:.4}"));
        let key = Self::key(&self.length, self.rank, self.lr, self.seed);
        format!("{key},{},{:.5},{:.5},{exact},{:.1}", self.trainable, self.train, self.eval, self.seconds)
    }

    /// What a rank is judged by: facts by what was trained, the others by what was held out.
    pub fn judged(&self) -> f64 {
        if self.length.set == Set::Facts { self.train } else { self.eval }
    }

    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split(',').collect();
        let [set, rows, steps, batch, rank, lr, seed, trainable, train, eval, exact, seconds] = fields[..] else {
            return None;
        };
        let set = Set::ALL.into_iter().find(|one| one.stem() == set)?;
        Some(Self {
            length: Length { set, rows: rows.parse().ok()?, steps: steps.parse().ok()?, batch: batch.parse().ok()? },
            rank: if rank == "full" { None } else { Some(rank.parse().ok()?) },
            lr: lr.parse().ok()?,
            seed: seed.parse().ok()?,
            trainable: trainable.parse().ok()?,
            train: train.parse().ok()?,
            eval: eval.parse().ok()?,
            exact: exact.parse().ok(),
            seconds: seconds.parse().ok()?,
        })
    }
}

/// The file of results.
#[derive(Debug)]
pub struct Results {
    path: PathBuf,
    /// What is known.
    pub lines: Vec<Line>,
}

impl Results {
    /// Opens the file, or begins it.
    ///
    /// # Errors
    /// When it cannot be read or written, or holds something else.
    pub fn open(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                crate::train::store::write_whole(path, format!("{HEADER}\n").as_bytes())?;
                return Ok(Self { path: path.to_path_buf(), lines: Vec::new() });
            }
            Err(error) => return Err(Error::read(path, "read", &error)),
        };
        if text.lines().next() != Some(HEADER) {
            return Err(Error::file(path, format!("its first line is another than expected: {HEADER}")));
        }
        // A line that was being written when the power went is done again.
        Ok(Self { path: path.to_path_buf(), lines: text.lines().skip(1).filter_map(Line::parse).collect() })
    }

    fn find(&self, length: &Length, rank: Option<usize>, lr: f64, seed: u64) -> Option<Line> {
        let key = Line::key(length, rank, lr, seed);
        self.lines.iter().copied().find(|line| Line::key(&line.length, line.rank, line.lr, line.seed) == key)
    }

    fn add(&mut self, line: Line) -> Result<()> {
        let write = || {
            let mut file = std::fs::OpenOptions::new().append(true).open(&self.path)?;
            file.write_all(format!("{}\n", line.text()).as_bytes())?;
            file.sync_data()
        };
        write().map_err(|error| Error::write(&self.path, &error))?;
        self.lines.push(line);
        Ok(())
    }
}

/// Runs what is missing of some lengths.
///
/// # Errors
/// A file that cannot be read or written; and cancellation. A run that diverges is a line with an infinite loss.
pub fn study(
    base: &Path,
    lengths: &[Length],
    results: &mut Results,
    told: &mut dyn FnMut(String),
    progress: &dyn Progress,
) -> Result<()> {
    let checkpoint = Checkpoint::open(base)?;
    let text = Text::open(base)?;
    for length in lengths {
        for rank in RANKS {
            let rates = if rank.is_some() { RATES } else { FULL_RATES };
            let mut best = (f64::INFINITY, COMMON);
            for lr in rates {
                let line = one(&checkpoint, &text, length, rank, lr, TUNING, results, told, progress)?;
                if line.judged() < best.0 {
                    best = (line.judged(), lr);
                }
            }
            for seed in SEEDS {
                for lr in [best.1, COMMON] {
                    one(&checkpoint, &text, length, rank, lr, seed, results, told, progress)?;
                }
            }
        }
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "a run is its place in the grid")]
fn one(
    checkpoint: &Checkpoint,
    text: &Text,
    length: &Length,
    rank: Option<usize>,
    lr: f64,
    seed: u64,
    results: &mut Results,
    told: &mut dyn FnMut(String),
    progress: &dyn Progress,
) -> Result<Line> {
    if let Some(line) = results.find(length, rank, lr, seed) {
        return Ok(line);
    }
    let begin = Instant::now();
    let train = rows(length.set, text, 0..length.rows)?;
    let eval = rows(length.set, text, HELD_OUT..HELD_OUT + 200)?;
    let method = if rank.is_some() { Method::Lora } else { Method::Full };
    let how = Tune { method, rank: rank.unwrap_or(1), lr, steps: length.steps, batch: length.batch, seed };
    let trained = Rows { rows: train.rows.iter().take(512).cloned().collect() };
    let line = match tune(checkpoint, train, &how, &mut |_, _| Ok(()), progress) {
        Ok(trainer) => {
            let loss = |rows: &Rows| evaluate(&trainer.decoder, rows, 16, &Pool::default(), progress);
            let exact = match length.set {
                Set::Pirate => None,
                Set::Extract => Some(exact(&trainer.decoder, text, length.set, HELD_OUT..HELD_OUT + 100)?),
                Set::Facts => Some(exact(&trainer.decoder, text, length.set, 0..128)?),
            };
            Line {
                length: *length,
                rank,
                lr,
                seed,
                trainable: trainer.decoder.params.elements(),
                train: loss(&trained)?.mean(),
                eval: loss(&eval)?.mean(),
                exact,
                seconds: begin.elapsed().as_secs_f64(),
            }
        }
        Err(error) if error.is_cancelled() => return Err(error),
        // A rate that is too high is a result too.
        Err(error) if error.to_string().contains("diverged") => {
            let (train, eval) = (f64::INFINITY, f64::INFINITY);
            Line { length: *length, rank, lr, seed, trainable: 0, train, eval, exact: None, seconds: 0.0 }
        }
        Err(error) => return Err(error),
    };
    results.add(line)?;
    told(line.text());
    Ok(line)
}

fn rows(set: Set, text: &Text, seeds: std::ops::Range<u64>) -> Result<Rows> {
    let row = |seed: u64| -> Result<Row> {
        let row = set.row(seed);
        let field = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let (prompt, rest) = if row.get("text").is_some() {
            (String::new(), field("text"))
        } else {
            (field("prompt"), field("completion"))
        };
        let whole = format!("{prompt}{rest}");
        let mut row = text.row(&whole, std::slice::from_ref(&(prompt.len()..whole.len())), true, true)?;
        row.ids.truncate(SEQ);
        row.labels.truncate(SEQ);
        Ok(row)
    };
    Ok(Rows { rows: seeds.map(row).collect::<Result<_>>()? })
}

/// Share of completions that come out to the letter.
fn exact(decoder: &Decoder, text: &Text, set: Set, seeds: std::ops::Range<u64>) -> Result<f64> {
    let (mut right, mut all) = (0, 0);
    for seed in seeds {
        let row: Value = set.row(seed);
        let (prompt, completion) =
            (row["prompt"].as_str().unwrap_or_default(), row["completion"].as_str().unwrap_or_default());
        let sampling = Sampling { most: 48, temperature: 0.0, seed: 0, eos: text.eos };
        let found = text.text(&generate(decoder, &text.ids(prompt)?, sampling, &())?)?;
        (right, all) = (right + u64::from(found == completion), all + 1);
    }
    Ok(right as f64 / f64::from(all.max(1)))
}

/// Mean and spread of three seeds for each rank, at its best rate and at the common one, as a Markdown table; only what
/// is complete.
pub fn table(length: &Length, results: &Results) -> Option<String> {
    let mut text = String::from("| r | best lr | loss | exact | loss at 3e-3 | exact |\n|---|---|---|---|---|---|\n");
    for rank in RANKS {
        let rates = if rank.is_some() { RATES } else { FULL_RATES };
        let tried = rates.map(|lr| results.find(length, rank, lr, TUNING));
        let tried: Option<Vec<Line>> = tried.into_iter().collect();
        let best = tried?.into_iter().min_by(|a, b| a.judged().total_cmp(&b.judged()))?.lr;
        let of = |lr: f64| -> Option<(String, String)> {
            let lines: Option<Vec<Line>> = SEEDS.into_iter().map(|seed| results.find(length, rank, lr, seed)).collect();
            let lines = lines?;
            let losses: Vec<f64> = lines.iter().map(Line::judged).collect();
            let mean = losses.iter().sum::<f64>() / losses.len() as f64;
            let most = losses.iter().map(|loss| (loss - mean).abs()).fold(0.0, f64::max);
            let exact: Option<Vec<f64>> = lines.iter().map(|line| line.exact).collect();
            let exact = exact.map(|all| format!("{:.0} %", 100.0 * all.iter().sum::<f64>() / all.len() as f64));
            Some((format!("{mean:.3} ± {most:.3}"), exact.unwrap_or_else(|| "—".to_owned())))
        };
        let ((tuned, exact), (common, common_exact)) = (of(best)?, of(COMMON)?);
        let rank = rank.map_or_else(|| "full".to_owned(), |r| r.to_string());
        text += &format!("| {rank} | {best:.0e} | {tuned} | {exact} | {common} | {common_exact} |\n");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_and_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("study.csv");
        let mut results = Results::open(&path).unwrap();
        let line = Line {
            length: SHORT[2],
            rank: Some(4),
            lr: 3e-3,
            seed: 2,
            trainable: 58_000,
            train: 0.5,
            eval: 2.25,
            exact: Some(0.75),
            seconds: 12.5,
        };
        results.add(line).unwrap();
        results.add(Line { rank: None, exact: None, eval: f64::INFINITY, ..line }).unwrap();
        let again = Results::open(&path).unwrap();
        assert_eq!(again.lines, results.lines);
        assert_eq!(again.find(&SHORT[2], Some(4), 3e-3, 2), Some(line));
        assert_eq!(again.find(&SHORT[2], Some(4), 3e-3, 1), None);
        assert_eq!(again.find(&LONG[2], Some(4), 3e-3, 2), None);
        assert_eq!(table(&SHORT[2], &again), None, "nothing is shown before it is complete");
    }
}
