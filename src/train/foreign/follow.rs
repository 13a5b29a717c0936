//! [`Follow`]: what a run of another program has written since one last looked: steps, and frames of the checkpoints that are whole.

use super::reading::Reading;
use super::{film, reading};
use crate::train::Record;
use crate::train::film::Frame;
use crate::train::history::Written;
use crate::train::run::Event;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

/// So many checkpoints make a film; of more, evenly so many.
const FRAMES: usize = 240;
/// Time for frames in one look.
const SPELL: Duration = Duration::from_millis(150);
/// Looks at a checkpoint that is not whole before it is left out.
const TRIES: usize = 40;
/// In place of a number of looks: it is left out.
const GIVEN_UP: usize = usize::MAX;

/// What was handed over so far.
pub struct Follow {
    reading: Reading,
    sent: Vec<Record>,
    frames: BTreeMap<usize, Frame>,
    /// Checkpoints that could not be read, how often.
    failed: HashMap<usize, usize>,
    said: Vec<String>,
    /// Nothing was handed over yet.
    fresh: bool,
    pending: bool,
    /// A checkpoint is being written.
    waiting: bool,
}

/// As they are compared: what is not a number is equal to itself.
fn key(record: &Record) -> (usize, [u64; 3], Option<u64>) {
    let step = record.step;
    (step.step, [step.loss, step.lr, step.grad_norm].map(f64::to_bits), record.eval_loss.map(f64::to_bits))
}

impl Follow {
    /// From the beginning; `None` where there is no run of another program.
    pub fn of(folder: &Path) -> Option<Self> {
        let mut reading = Reading::new(folder);
        if let Err(error) = reading.refresh() {
            log::debug!("{error}");
        }
        let (sent, frames, failed, said) = Default::default();
        reading.is_run().then_some(Self {
            reading,
            sent,
            frames,
            failed,
            said,
            fresh: true,
            pending: true,
            waiting: false,
        })
    }

    /// Whether there may be more: it goes on, has just ended, or checkpoints are not filmed yet.
    pub fn goes_on(&self) -> bool {
        self.pending || self.waiting || self.reading.goes_on() || !self.reading.is_settled()
    }

    /// Whether checkpoints are not filmed yet.
    pub fn is_pending(&self) -> bool {
        self.pending
    }

    /// Hands over what is new. Frames are made for a short while only; what is left is [pending](Self::is_pending).
    pub fn advance(&mut self, send: &mut dyn FnMut(Written)) {
        match self.reading.refresh() {
            Ok(true) => self.records(send),
            Ok(false) if std::mem::take(&mut self.fresh) => self.records(send),
            Ok(false) => {}
            Err(error) => self.say(format!("{error}; what was read of it stays"), send),
        }
        if let Some(trouble) = self.reading.trouble() {
            self.say(trouble, send);
        }
        self.advance_film(send);
    }

    fn say(&mut self, sentence: String, send: &mut dyn FnMut(Written)) {
        if !self.said.contains(&sentence) {
            send(Written::Event(Event::Note(sentence.clone())));
            self.said.push(sentence);
        }
    }

    fn records(&mut self, send: &mut dyn FnMut(Written)) {
        let records = self.reading.records();
        let same = self.sent.iter().zip(&records).all(|(sent, now)| key(sent) == key(now));
        let mut from = self.sent.len();
        if !same || records.len() < from {
            // An older step has another loss, or a loss on held-out rows since.
            send(Written::Again);
            from = 0;
            self.frames.values().for_each(|frame| send(Written::Event(Event::Frame(frame.clone()))));
        }
        records[from..].iter().for_each(|record| send(Written::Event(Event::Step(*record))));
        self.sent = records;
    }

    fn advance_film(&mut self, send: &mut dyn FnMut(Written)) {
        let begin = Instant::now();
        let count = self.reading.foreign.checkpoints.len();
        let due = |saved: &&super::Saved| {
            !self.frames.contains_key(&saved.step)
                && self.failed.get(&saved.step).is_none_or(|&tries| tries != GIVEN_UP)
        };
        let due: Vec<super::Saved> = self.reading.filmed(FRAMES).filter(due).cloned().collect();
        let mut sentences = Vec::new();
        (self.pending, self.waiting) = (false, false);
        for (at, saved) in due.iter().enumerate() {
            if at > 0 && begin.elapsed() > SPELL {
                self.pending = true;
                break;
            }
            match film::of_checkpoint(saved, &self.reading.settings.model) {
                Ok(frame) => {
                    // In order: one that comes late, after a later one, is shown in its place.
                    if self.frames.keys().next_back().is_some_and(|&last| last > saved.step) {
                        self.frames.insert(saved.step, frame);
                        send(Written::Again);
                        self.frames.values().for_each(|frame| send(Written::Event(Event::Frame(frame.clone()))));
                        self.sent.iter().for_each(|record| send(Written::Event(Event::Step(*record))));
                    } else {
                        send(Written::Event(Event::Frame(frame.clone())));
                        self.frames.insert(saved.step, frame);
                    }
                    self.failed.remove(&saved.step);
                }
                Err(error) => {
                    let tries = self.failed.entry(saved.step).or_default();
                    // Its files come one after the other; of one that is old nothing more comes.
                    let fresh = reading::is_fresh(&saved.path);
                    *tries = if fresh || self.reading.goes_on() && *tries + 1 < TRIES { *tries + 1 } else { GIVEN_UP };
                    self.waiting |= *tries != GIVEN_UP;
                    if *tries == GIVEN_UP {
                        sentences.push(format!("step {} is not in the film: {error}", saved.step));
                    }
                }
            }
        }
        if count > FRAMES && !self.pending {
            sentences.push(format!("the film shows about {FRAMES} of {count} checkpoints"));
        }
        // One that is broken like many others is said once.
        for sentence in sentences.into_iter().take(3) {
            self.say(sentence, send);
        }
    }
}
