//! [`Preview`]: a data set as the model will see it.

use super::{Data, Row, Rows, Text, prompts};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::progress::Progress;
use crate::train::{Settings, run};

/// Rows that are shown.
const ROWS: usize = 24;
/// Prompts that are proposed.
const PROMPTS: usize = 2;
/// Tokens of a row that are shown.
const TOKENS: usize = 240;

/// What a data set gives for a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preview {
    /// Rows to train on.
    pub rows: usize,
    /// Rows that are held out.
    pub held_out: usize,
    /// Tokens of the rows to train on.
    pub tokens: usize,
    /// Tokens among them that carry loss.
    pub predicted: usize,
    /// Tokens of the longest row.
    pub longest: usize,
    /// The same before it was cut.
    pub whole: usize,
    /// Lines left out, and lines cut to `seq` tokens.
    pub unused: [usize; 2],
    /// Sentences about single lines.
    pub notes: Vec<String>,
    /// What the model may be asked with, from the rows that are held out.
    pub prompts: Vec<String>,
    /// The first rows.
    pub first: Vec<Vec<Piece>>,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its text; its number where there is no tokenizer.
    pub text: String,
    /// Its number.
    pub id: u32,
    /// It carries loss: the model is asked to predict it.
    pub predicted: bool,
}

impl Preview {
    /// Reads the whole data set as a run would.
    ///
    /// # Errors
    /// As [`run::read`].
    pub fn read(settings: &Settings, checkpoint: &Checkpoint, progress: &dyn Progress) -> Result<Self> {
        let (Data { rows, notes, left_out, cut, longest: whole }, held_out) =
            run::read(settings, checkpoint, progress)?;
        let text = Text::of(checkpoint, settings.chat_template.as_deref()).ok();
        let piece = |id: u32, predicted: bool| {
            let shown = text.as_ref().map(|text| text.token(id).unwrap_or_default());
            let text = match shown {
                None => format!("{id} "),
                // A part of a character, or nothing that can be seen.
                Some(shown) if shown.is_empty() || shown.contains(char::REPLACEMENT_CHARACTER) => format!("‹{id}›"),
                Some(shown) => shown,
            };
            Piece { text, id, predicted }
        };
        let row = |row: &Row| -> Vec<Piece> {
            let each = row.ids.iter().zip(row.labels()).take(TOKENS).enumerate();
            // The first token is predicted from nothing, so never.
            each.map(|(at, (&id, label))| piece(id, at > 0 && label >= 0)).collect()
        };
        let asked = held_out.as_ref().unwrap_or(&rows);
        let prompts = text.as_ref().map_or_else(Vec::new, |text| prompts(asked, text, PROMPTS));
        let Rows { rows } = rows;
        Ok(Self {
            rows: rows.len(),
            held_out: held_out.map_or(0, |held_out| held_out.rows.len()),
            tokens: rows.iter().map(|row| row.ids.len()).sum(),
            predicted: rows.iter().map(Row::predictions).sum(),
            longest: rows.iter().map(|row| row.ids.len()).max().unwrap_or(0),
            whole,
            unused: [left_out, cut],
            notes,
            prompts,
            first: rows.iter().take(ROWS).map(row).collect(),
        })
    }

    /// Steps that a run with these settings takes.
    pub fn steps(&self, settings: &Settings) -> usize {
        let each = (settings.batch * settings.accumulate).max(1);
        let by_epochs = (self.rows as f64 * settings.epochs / each as f64).ceil().max(1.0) as usize;
        settings.steps.unwrap_or(by_epochs)
    }

    /// Tokens of a step, on average.
    pub fn tokens_of_a_step(&self, settings: &Settings) -> f64 {
        self.tokens as f64 / self.rows.max(1) as f64 * (settings.batch * settings.accumulate) as f64
    }
}
