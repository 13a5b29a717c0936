//! Chapter 8: how fast the bundled model writes with its weights as stored, in 4 bits, and with an adapter beside them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::adapter::Adapter;
use crate::checkpoint::Checkpoint;
use crate::demo;
use crate::error::Result;
use crate::job::{Job, Running, Wake};
use crate::model::{Decoder, Frozen, Processor};
use crate::progress::{Part, Progress};
use crate::train::{Method, Sampling, Settings, Text, generate};

/// Tokens of each measurement, of which there are [`TIMES`].
const TOKENS: usize = 48;
const TIMES: usize = 3;

/// How the weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// As in the file; a merged model is the same.
    AsStored,
    /// Linear weights in NF4.
    FourBit,
    /// As in the file, with an adapter of rank 8 beside the weights.
    Adapter,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// How the weights were kept.
    pub kept: Kept,
    /// Bytes of the weights.
    pub bytes: usize,
    /// The fastest of a few times.
    pub tokens_per_s: f64,
}

/// The measurement.
pub struct Speed {
    wake: Wake,
    home: PathBuf,
    job: Option<Job<Vec<Row>>>,
    rows: Vec<Row>,
    problem: Option<String>,
}

impl Speed {
    /// Nothing is measured yet; the bundled model lies under `home`.
    pub fn new(wake: Wake, home: PathBuf) -> Self {
        Self { wake, home, job: None, rows: Vec::new(), problem: None }
    }

    /// Begins, if nothing is being measured.
    pub fn measure(&mut self) {
        if self.job.is_none() {
            let home = self.home.clone();
            self.problem = None;
            let work = move |progress: &dyn Progress| measure(&home, progress);
            self.job = Some(Job::spawn("Measuring the bundled model", Arc::clone(&self.wake), work));
        }
    }

    /// Takes in what has come.
    pub fn logic(&mut self) {
        let Some(result) = self.job.as_mut().and_then(Job::take) else { return };
        self.job = None;
        match result {
            Ok(rows) => self.rows = rows,
            Err(error) => self.problem = Some(error.to_string()),
        }
    }

    /// What was measured.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Why nothing was.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The measurement, while it goes on.
    pub fn running(&self) -> Option<&dyn Running> {
        self.job.as_ref().map(|job| job as &dyn Running)
    }
}

fn measure(home: &Path, progress: &dyn Progress) -> Result<Vec<Row>> {
    let sample = demo::sample(home, &())?;
    let base = Checkpoint::open(&sample.base)?;
    let adapter = Adapter::open(&sample.adapter)?;
    let text = Text::of(&base, None)?;
    let ids = text.ids(demo::PROMPTS[0])?;
    let qlora = Settings { method: Method::Qlora, ..Settings::default() };
    let four = qlora.scheme().map_or(Frozen::AsStored, Frozen::FourBit);
    let mut rows = Vec::new();
    for (at, kept) in [Kept::AsStored, Kept::FourBit, Kept::Adapter].into_iter().enumerate() {
        let part = Part::new(progress, at as u64, 3);
        let decoder = match kept {
            Kept::AsStored => Decoder::load(&base, Frozen::AsStored, &())?,
            Kept::FourBit => Decoder::load(&base, four, &())?,
            Kept::Adapter => Decoder::with_adapter(&base, &adapter, Frozen::AsStored, &())?,
        };
        let sampling = Sampling { most: TOKENS, temperature: 0.0, seed: 0, eos: None };
        let mut fastest = 0f64;
        for _ in 0..TIMES {
            let begin = Instant::now();
            let new = generate(&Processor::default(), &decoder, &ids, sampling, &part)?;
            fastest = fastest.max(new.len() as f64 / begin.elapsed().as_secs_f64());
        }
        rows.push(Row { kept, bytes: decoder.frozen_bytes(), tokens_per_s: fastest });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_bits_take_less_room() {
        let home = tempfile::tempdir().unwrap();
        let rows = measure(home.path(), &()).unwrap();
        assert_eq!(rows.iter().map(|row| row.kept).collect::<Vec<_>>(), [Kept::AsStored, Kept::FourBit, Kept::Adapter]);
        assert!(rows.iter().all(|row| row.tokens_per_s > 0.0));
        assert!(rows[1].bytes < rows[0].bytes && rows[2].bytes == rows[0].bytes);
    }
}
