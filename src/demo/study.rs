//! Loss against rank on the three data sets: what rank changes, and what only the learning rate does.
//!
//! For every set and rank, learning rates of a ladder are tried with the first seed until both neighbours of the best one
//! are worse; the best one and a common one are then run with the other seeds. Facts are measured twice: after few steps, where
//! a low rank is behind because it is *slow*, and after many (with one seed), where what is still missing is *capacity*. Every run is a line
//! of a CSV file; lines that are there are not computed again.

use super::append;
use super::sets::{HELD_OUT, Set};
use super::tune::{SEQ, Tune, tune};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::model::{Decoder, Processor};
use crate::progress::Progress;
use crate::train::{Method, Row, Rows, Sampling, Text, evaluate, generate};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Ranks of the study; `None` trains every parameter.
pub const RANKS: [Option<usize>; 7] = [Some(1), Some(2), Some(4), Some(8), Some(16), Some(64), None];

/// Rates that are tried: a ladder of about half powers of ten.
pub const RATES: [f64; 6] = [3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1];

/// The one rate for all ranks: the usual mistake.
pub const COMMON: f64 = 3e-3;

/// The seeds that are reported; rates are tried with the first.
pub const SEEDS: [u64; 3] = [1, 2, 3];

/// The step of the ladder on which trying begins: few parameters bear a high rate.
fn first(rank: Option<usize>) -> usize {
    match rank {
        Some(..=8) => 3,
        Some(_) => 2,
        None => 1,
    }
}

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
    /// How many of [`SEEDS`].
    pub seeds: usize,
}

impl Length {
    /// The one of these sizes; of another study than this one, with all seeds.
    fn of(set: Set, rows: u64, steps: usize, batch: usize) -> Self {
        let mut known = SHORT.into_iter().chain(LONG);
        let same = |one: &Self| (one.set, one.rows, one.steps, one.batch) == (set, rows, steps, batch);
        known.find(same).unwrap_or(Self { set, rows, steps, batch, seeds: SEEDS.len() })
    }

    fn seeds(&self) -> &'static [u64] {
        &SEEDS[..self.seeds.clamp(1, SEEDS.len())]
    }
}

/// Few steps: seconds to a minute a run.
pub const SHORT: [Length; 3] = [
    Length { set: Set::Pirate, rows: 1600, steps: 200, batch: 8, seeds: 3 },
    Length { set: Set::Extract, rows: 4000, steps: 300, batch: 8, seeds: 3 },
    Length { set: Set::Facts, rows: 512, steps: 600, batch: 32, seeds: 3 },
];

/// Three times as many, on the set that is all memory: what is still missing then is room, and not time.
pub const LONG: [Length; 1] = [Length { set: Set::Facts, rows: 512, steps: 1800, batch: 32, seeds: 1 }];

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
        let Length { set, rows, steps, batch, .. } = length;
        format!("{},{rows},{steps},{batch},{},{lr},{seed}", set.stem(), name(rank))
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
        let set = Set::find(set)?;
        Some(Self {
            length: Length::of(set, rows.parse().ok()?, steps.parse().ok()?, batch.parse().ok()?),
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

    pub(super) fn add(&mut self, line: Line) -> Result<()> {
        append(&self.path, &line.text())?;
        self.lines.push(line);
        Ok(())
    }
}

/// Runs what is missing of some lengths, at some of [`RANKS`].
///
/// # Errors
/// A file that cannot be read or written; and cancellation. A run that diverges is a line with an infinite loss.
pub fn study(
    base: &Path,
    lengths: &[Length],
    ranks: &[Option<usize>],
    results: &mut Results,
    told: &mut dyn FnMut(String),
    progress: &dyn Progress,
) -> Result<()> {
    let checkpoint = Checkpoint::open(base)?;
    let text = Text::open(base)?;
    for length in lengths {
        for &rank in ranks {
            let mut run = |lr, seed| one(&checkpoint, &text, length, rank, lr, seed, results, told, progress);
            let mut tried = [None; RATES.len()];
            let mut best = first(rank);
            loop {
                let around = best.saturating_sub(1)..(best + 2).min(RATES.len());
                for at in around.filter(|&at| tried[at].is_none()).collect::<Vec<_>>() {
                    tried[at] = Some(run(RATES[at], SEEDS[0])?.judged());
                }
                let now = lowest(&tried);
                if now == best {
                    break;
                }
                best = now;
            }
            for &seed in length.seeds() {
                for lr in [RATES[best], COMMON] {
                    run(lr, seed)?;
                }
            }
        }
    }
    Ok(())
}

/// The step of the ladder with the lowest loss.
fn lowest(tried: &[Option<f64>; RATES.len()]) -> usize {
    let of = |at: &usize| tried[*at].unwrap_or(f64::INFINITY);
    (0..RATES.len()).min_by(|a, b| of(a).total_cmp(&of(b))).unwrap_or_default()
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
            let loss = |rows: &Rows| evaluate(&Processor::default(), &trainer.decoder, rows, 16, progress);
            let exact = match length.set {
                Set::Pirate => None,
                Set::Facts => Some(exact(&trainer.decoder, text, length.set, 0..128)?),
                _ => Some(exact(&trainer.decoder, text, length.set, HELD_OUT..HELD_OUT + 100)?),
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

pub(super) fn rows(set: Set, text: &Text, seeds: std::ops::Range<u64>) -> Result<Rows> {
    let row = |seed: u64| -> Result<Row> {
        let row = set.row(seed);
        let field = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let (prompt, rest) = if row.get("text").is_some() {
            (String::new(), field("text"))
        } else {
            (field("prompt"), field("completion"))
        };
        let mut row = text.completed(&format!("{prompt}{rest}"), prompt.len())?;
        row.truncate(SEQ);
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
        let found = text.text(&generate(&Processor::default(), decoder, &text.ids(prompt)?, sampling, &())?)?;
        (right, all) = (right + u64::from(found == completion), all + 1);
    }
    Ok(right as f64 / f64::from(all.max(1)))
}

/// What three seeds came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Learning rate.
    pub lr: f64,
    /// Mean loss.
    pub mean: f64,
    /// The furthest seed from it.
    pub spread: f64,
    /// Mean share of answers that are right to the letter.
    pub exact: Option<f64>,
}

/// A rank of a length: at its best rate, and at the common one.
pub fn outcomes(length: &Length, rank: Option<usize>, results: &Results) -> Option<[Outcome; 2]> {
    let tried = RATES.map(|lr| results.find(length, rank, lr, SEEDS[0]).map(|line| line.judged()));
    let best = lowest(&tried);
    let of = |lr: f64| -> Option<Outcome> {
        let lines: Option<Vec<Line>> =
            length.seeds().iter().map(|&seed| results.find(length, rank, lr, seed)).collect();
        let lines = lines?;
        let mean = lines.iter().map(Line::judged).sum::<f64>() / lines.len() as f64;
        let spread = lines.iter().map(|line| (line.judged() - mean).abs()).fold(0.0, f64::max);
        let exact: Option<Vec<f64>> = lines.iter().map(|line| line.exact).collect();
        let exact = exact.map(|all| all.iter().sum::<f64>() / all.len() as f64);
        Some(Outcome { lr, mean, spread, exact })
    };
    Some([of(RATES[best])?, of(COMMON)?])
}

/// Mean and spread of the seeds for each rank, at its best rate and at the common one, as a Markdown table; only ranks that
/// are complete, `None` where none is.
pub fn table(length: &Length, results: &Results) -> Option<String> {
    let mut text = String::from("| r | best lr | loss | exact | loss at 3e-3 | exact |\n|---|---|---|---|---|---|\n");
    let head = text.len();
    for rank in RANKS {
        let Some([best, common]) = outcomes(length, rank, results) else { continue };
        let loss = |of: &Outcome| match length.seeds {
            1 => format!("{:.3}", of.mean),
            _ => format!("{:.3} ± {:.3}", of.mean, of.spread),
        };
        let exact = |of: &Outcome| of.exact.map_or_else(|| "–".to_owned(), |share| format!("{:.0} %", 100.0 * share));
        text += &format!(
            "| {} | {:.0e} | {} | {} | {} | {} |\n",
            name(rank),
            best.lr,
            loss(&best),
            exact(&best),
            loss(&common),
            exact(&common)
        );
    }
    (text.len() > head).then_some(text)
}

/// A rank in words.
pub fn name(rank: Option<usize>) -> String {
    rank.map_or_else(|| "full".to_owned(), |r| r.to_string())
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
        assert_eq!(again.find(&LONG[0], Some(4), 3e-3, 2), None);
        assert_eq!(table(&SHORT[2], &again), None, "nothing is shown before it is complete");
        assert_eq!(lowest(&[None, Some(2.0), Some(1.0), Some(f64::INFINITY), None, None]), 2);
    }
}
