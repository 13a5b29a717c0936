//! [`Sample`]: what the model writes after a prompt, before, during and after a run.

use super::{Sampling, Text, generate};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::model::{Decoder, Processor};
use crate::progress::Progress;
use serde::{Deserialize, Serialize};

/// Tokens of a sample at most.
const MOST: usize = 48;

/// One continuation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Steps done.
    pub step: usize,
    /// The prompt.
    pub prompt: String,
    /// What the model adds to it, always taking the likeliest token.
    pub text: String,
}

/// Prompts of a run with the tokenizer for them.
pub(super) struct Prompts {
    prompts: Vec<(String, Vec<u32>)>,
    text: Option<Text>,
}

impl Prompts {
    /// Turns prompts into ids. Without prompts no tokenizer is needed.
    ///
    /// # Errors
    /// No tokenizer beside the model, or a prompt that it cannot take.
    pub fn new(prompts: &[String], checkpoint: &Checkpoint) -> Result<Self> {
        let prompts: Vec<&String> = prompts.iter().filter(|prompt| !prompt.trim().is_empty()).collect();
        if prompts.is_empty() {
            return Ok(Self { prompts: Vec::new(), text: None });
        }
        let text = Text::of(checkpoint, None)?;
        let prompts = prompts.into_iter().map(|prompt| Ok((prompt.clone(), text.ids(prompt)?)));
        Ok(Self { prompts: prompts.collect::<Result<_>>()?, text: Some(text) })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.prompts.len()
    }

    /// Continues one of them.
    ///
    /// # Errors
    /// As [`generate`].
    pub fn sample(&self, number: usize, decoder: &Decoder, step: usize, progress: &dyn Progress) -> Result<Sample> {
        let (Some(text), Some((prompt, ids))) = (&self.text, self.prompts.get(number)) else {
            return Err(Error::failure(format!("there is no prompt {number}")));
        };
        let sampling = Sampling { most: MOST, temperature: 0.0, seed: 0, eos: text.eos };
        let new = generate(&Processor::default(), decoder, ids, sampling, progress)?;
        Ok(Sample { step, prompt: prompt.clone(), text: text.text(&new)? })
    }
}
