//! [`Track`]: everything that a run has told so far, from this program or from its files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::train::Record;
use crate::train::film::Frame;
use crate::train::forecast;
use crate::train::history::{self, Written};
use crate::train::memory::Memory;
use crate::train::run::Event;
use crate::train::{Sample, Settings};

/// A run as it is looked at.
#[derive(Clone, Debug)]
pub struct Track {
    /// Its folder.
    pub folder: PathBuf,
    /// Its name, read once: what paints asks no disk.
    name: String,
    /// Its settings.
    pub settings: Settings,
    /// Who made it.
    pub made_by: &'static str,
    /// Whether method, rank and modules are known.
    pub described: bool,
    /// Steps in all; 0 while that is not known.
    pub steps: usize,
    /// Every step.
    pub records: Vec<Record>,
    /// Seconds of training until each step.
    pub seconds: Vec<f64>,
    /// Spectra of ΔW.
    pub frames: Vec<Frame>,
    /// What the model wrote.
    pub samples: Vec<Sample>,
    /// Sentences about the data.
    pub notes: Vec<String>,
    /// Predicted memory by part, where the run began in this window.
    pub memory: Option<Memory>,
    /// Predicted bytes in all.
    pub predicted: u64,
    /// Elements that are trained.
    pub trainable: usize,
    /// Changes whenever something is added.
    pub version: u64,
}

impl Track {
    /// Nothing told yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            folder: settings.out.clone(),
            name: history::name(&settings.out),
            settings,
            made_by: history::HERE,
            described: true,
            steps: 0,
            records: Vec::new(),
            seconds: Vec::new(),
            frames: Vec::new(),
            samples: Vec::new(),
            notes: Vec::new(),
            memory: None,
            predicted: 0,
            trainable: 0,
            version: 0,
        }
    }

    /// The run's name.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// True for the run in this folder.
    pub fn is_of(&self, folder: &Path) -> bool {
        self.folder == folder
    }

    /// Takes in what the run tells.
    pub fn take(&mut self, event: Event) {
        self.version += 1;
        match event {
            Event::Note(note) => self.notes.push(note),
            Event::Started { steps, done, trainable, memory } => {
                (self.steps, self.trainable) = (steps, trainable);
                (self.memory, self.predicted) = (Some(memory), memory.held());
                // What came after the checkpoint is done again.
                self.records.retain(|record| record.step.step <= done);
                self.seconds.truncate(self.records.len());
                self.frames.retain(|frame| frame.step <= done);
                self.samples.retain(|sample| sample.step <= done && done > 0);
            }
            Event::Step(record) => {
                let took = record.step.tokens as f64 / record.tokens_per_s.max(1e-9);
                let before = self.seconds.last().copied().unwrap_or(0.0);
                self.seconds.push(record.seconds.unwrap_or(before + if took.is_finite() { took } else { 0.0 }));
                self.records.push(record);
            }
            Event::Earlier(events) => {
                self.read(Written::Again);
                events.into_iter().for_each(|event| self.take(event));
            }
            Event::Saved(_) => {}
            Event::Frame(frame) => self.frames.push(frame),
            Event::Sample(sample) => self.samples.push(sample),
        }
    }

    /// Takes in what stands in the run's files.
    pub fn read(&mut self, written: Written) {
        match written {
            Written::Again => {
                self.records.clear();
                self.seconds.clear();
                self.frames.clear();
                self.samples.clear();
                self.version += 1;
            }
            Written::Event(event) => self.take(event),
        }
    }

    /// The last step that was done.
    pub fn last(&self) -> Option<&Record> {
        self.records.last()
    }

    /// The place of the record of a step, or of the last one before it.
    pub fn at(&self, step: usize) -> Option<usize> {
        self.records.partition_point(|record| record.step.step <= step).checked_sub(1)
    }

    /// The spectra of a step, or of the last logged one before it; the first ones where there is none before.
    pub fn frame(&self, step: usize) -> Option<&Frame> {
        let after = self.frames.partition_point(|frame| frame.step <= step);
        self.frames.get(after.saturating_sub(1))
    }

    /// The least and the most time that is left; `None` before a step was done and after the last one.
    pub fn time_left(&self) -> Option<[Duration; 2]> {
        let left = self.steps.checked_sub(self.records.last()?.step.step)?;
        forecast::time_left(&self.seconds, left)
    }

    /// Tokens a second over the last steps.
    pub fn speed(&self) -> Option<f64> {
        const LAST: usize = 20;
        let from = self.records.len().saturating_sub(LAST);
        let tokens: usize = self.records[from..].iter().map(|record| record.step.tokens).sum();
        let before = from.checked_sub(1).map_or(0.0, |at| self.seconds[at]);
        let took = self.seconds.last()? - before;
        (took > 0.0 && tokens > 0).then(|| tokens as f64 / took)
    }
}

/// Losses smoothed by an exponential mean over about `window` steps, corrected at its beginning as Adam's moments are.
pub fn smoothed(losses: impl Iterator<Item = f64>, window: f64) -> Vec<f64> {
    let keep = 1.0 - 1.0 / window.max(1.0);
    let (mut mean, mut weight) = (0.0, 0.0);
    let one = |loss: f64| {
        if loss.is_finite() {
            mean = keep * mean + (1.0 - keep) * loss;
            weight = keep * weight + (1.0 - keep);
        }
        if weight > 0.0 { mean / weight } else { f64::NAN }
    };
    losses.map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Step;

    pub fn record(step: usize, loss: f64) -> Record {
        let step = Step { step, loss, lr: 1e-3, grad_norm: 1.0, tokens: 100 };
        Record { step, tokens_per_s: 50.0, eval_loss: None, eval_sure: None, forget_loss: None, held: 0, seconds: None }
    }

    #[test]
    fn going_on_from_a_checkpoint_forgets_what_came_after_it() {
        let mut track = Track::new(Settings::default());
        for step in 1..=7 {
            track.take(Event::Step(record(step, 1.0)));
        }
        assert_eq!(track.seconds.last(), Some(&14.0));
        track.take(Event::Started { steps: 10, done: 5, trainable: 3, memory: Memory::default() });
        assert_eq!((track.records.len(), track.seconds.len()), (5, 5));
        track.take(Event::Step(record(6, 2.0)));
        assert_eq!((track.at(6), track.at(100), track.at(0)), (Some(5), Some(5), None));
        assert_eq!(track.time_left(), Some([8.0 / 1.3, 8.0 * 1.3].map(Duration::from_secs_f64)));
        assert_eq!(track.speed(), Some(50.0));
    }

    #[test]
    fn a_mean_starts_at_the_first_value() {
        let mean = smoothed([4.0, 4.0, f64::NAN, 2.0].into_iter(), 2.0);
        assert_eq!(&mean[..3], [4.0, 4.0, 4.0]);
        assert!(mean[3] > 2.0 && mean[3] < 4.0);
        assert_eq!(smoothed([3.0, 1.0].into_iter(), 1.0), [3.0, 1.0]);
    }
}
