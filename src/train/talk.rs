//! [`Talk`]: the same prompt to a base model and to what was made of it.
//!
//! One model is in memory at a time. A base answers through the decoder of an adapter on it, without the branches, so that a
//! model of many gigabytes is read once for both.

use super::history::Past;
use super::{Method, Sampling, Text, stream};
use crate::adapter::Adapter;
use crate::checkpoint::Checkpoint;
use crate::device::Choice;
use crate::error::{Error, Result};
use crate::model::{Decoder, Frozen, gpu};
use crate::progress::{Part, Progress};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Who answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Side {
    /// The base model.
    pub base: PathBuf,
    /// What was made of it; `None`: the base itself.
    pub tuned: Option<Tuned>,
    /// How the base's weights are kept.
    pub frozen: Frozen,
}

/// What was made of a base model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tuned {
    /// An adapter: its folder.
    Adapter(PathBuf),
    /// Other weights: a model's folder.
    Model(PathBuf),
}

impl Side {
    /// The base and the result of a run, or else its newest checkpoint. What was trained beside weights of 4 bits is asked beside weights
    /// of 4 bits.
    ///
    /// # Errors
    /// When the run cannot be read, or has neither a result nor a checkpoint with an adapter.
    pub fn of_run(folder: &Path) -> Result<[Self; 2]> {
        let past = Past::read(folder)?;
        let weights = past.newest_weights().ok_or_else(|| {
            Error::file(folder, "found neither a result nor a checkpoint with an adapter, expected one of them")
        })?;
        let settings = past.settings;
        let frozen = settings.scheme().map_or(Frozen::AsStored, Frozen::FourBit);
        let tuned = match settings.method {
            Method::Full => Tuned::Model(weights),
            Method::Lora | Method::Qlora => Tuned::Adapter(weights),
        };
        Ok([None, Some(tuned)].map(|tuned| Self { base: settings.model.clone(), tuned, frozen }))
    }

    /// True where `self` is what `other` was made of.
    fn is_under(&self, other: &Self) -> bool {
        let adapter = matches!(other.tuned, Some(Tuned::Adapter(_)));
        self.tuned.is_none() && adapter && (&self.base, self.frozen) == (&other.base, other.frozen)
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The text to continue.
    pub prompt: String,
    /// It is a user's message, put into the model's chat template.
    pub chat: bool,
    /// Tokens of an answer at most.
    pub most: usize,
    /// Sampling temperature; 0 always takes the likeliest token.
    pub temperature: f32,
    /// Of the draws.
    pub seed: u64,
}

/// A piece of news about an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// This side is being read, or begins to answer.
    Begins(usize),
    /// The whole answer so far, by the side.
    Text(usize, String),
    /// The answer of a side is at its end: tokens, and seconds that they took.
    Ends(usize, usize, f64),
}

/// What is kept between two questions: the model that answered last.
#[derive(Debug, Default)]
pub struct Talk {
    loaded: Option<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    side: Side,
    decoder: Decoder,
    /// The adapter has changed weights beside its pairs: without its branches this is not the base.
    changed: bool,
}

impl Talk {
    /// Asks all sides, one after the other; the answers come through `send` while they are made.
    ///
    /// # Errors
    /// A model, adapter or tokenizer that cannot be read, a prompt that cannot be taken; and cancellation.
    pub fn answer_each(
        &mut self,
        sides: &[Side],
        question: &Question,
        device: Choice,
        progress: &dyn Progress,
        send: &mut dyn FnMut(News),
    ) -> Result<()> {
        let place = gpu::open(device, None)?;
        for (at, side) in sides.iter().enumerate() {
            let part = Part::new(progress, at as u64, sides.len() as u64);
            send(News::Begins(at));
            // Whose weights are also those of another side are read once.
            let through = sides.iter().find(|other| side.is_under(other)).unwrap_or(side);
            let bare = self.load(side, through, &part)?;
            let Some(loaded) = &mut self.loaded else { continue };
            let folder = match &side.tuned {
                Some(Tuned::Model(folder)) => folder,
                _ => &side.base,
            };
            let text = Text::of(&Checkpoint::open(folder)?, None)?;
            let ids = question.ids(&text)?;
            let Question { most, temperature, seed, .. } = *question;
            let sampling = Sampling { most, temperature, seed, eos: text.eos };
            let begin = Instant::now();
            let mut answer = |decoder: &Decoder| {
                stream(&*place.engine(decoder)?, decoder, &ids, sampling, &part, &mut |new| {
                    // A part of a character waits for the rest of it.
                    let whole = text.text(new)?;
                    send(News::Text(at, whole.trim_end_matches(char::REPLACEMENT_CHARACTER).to_owned()));
                    Ok(())
                })
            };
            let new = match bare {
                true => loaded.decoder.without_branches(&mut answer)?,
                false => answer(&loaded.decoder)?,
            };
            send(News::Ends(at, new.len(), begin.elapsed().as_secs_f64()));
        }
        progress.step(1, 1)
    }

    /// Has the weights of `side` in memory, if it can be those of `through`; true where branches are to be left out.
    fn load(&mut self, side: &Side, through: &Side, progress: &dyn Progress) -> Result<bool> {
        for wanted in [through, side] {
            let known = self
                .loaded
                .as_ref()
                .is_some_and(|loaded| loaded.side == *wanted || (side.is_under(&loaded.side) && !loaded.changed));
            if !known {
                // The last one goes first: two of them may not fit.
                self.loaded = None;
                self.loaded = Some(Loaded::read(wanted, progress)?);
            }
            let Some(loaded) = &self.loaded else { continue };
            if loaded.side == *side {
                return Ok(false);
            }
            if !loaded.changed {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Loaded {
    fn read(side: &Side, progress: &dyn Progress) -> Result<Self> {
        let (decoder, changed) = match &side.tuned {
            None => (Decoder::load(&Checkpoint::open(&side.base)?, side.frozen, progress)?, false),
            Some(Tuned::Model(folder)) => {
                (Decoder::load(&Checkpoint::open(folder)?, Frozen::AsStored, progress)?, false)
            }
            Some(Tuned::Adapter(folder)) => {
                let adapter = Adapter::open(folder)?;
                let base = Checkpoint::open(&side.base)?;
                let decoder = Decoder::with_adapter(&base, &adapter, side.frozen, progress)?;
                let pairs = decoder.linears().filter(|linear| linear.branch.is_some()).count();
                (decoder, pairs < adapter.layers.len() || !adapter.saved.is_empty() || !adapter.tokens.is_empty())
            }
        };
        Ok(Self { side: side.clone(), decoder, changed })
    }
}

impl Question {
    fn ids(&self, text: &Text) -> Result<Vec<u32>> {
        if self.chat {
            let rendered = text.render(&[json!({"role": "user", "content": self.prompt})], true)?;
            return text.rendered_ids(&rendered);
        }
        text.ids(&self.prompt)
    }
}
