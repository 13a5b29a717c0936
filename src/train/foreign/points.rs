//! [`Points`]: what the logs of a run say about each step, whichever of them says it.

use crate::train::{Record, Step};
use std::collections::BTreeMap;

/// What is logged of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Training loss: since the last logged step, in the mean.
    Loss,
    /// Learning rate.
    Lr,
    /// Norm of the gradient before it is clipped.
    GradNorm,
    /// Loss on held-out rows.
    EvalLoss,
    /// Tokens since the beginning.
    Tokens,
    /// Tokens a second.
    Speed,
    /// Seconds since the beginning, or since 1970.
    Seconds,
}

/// How many there are.
const FIELDS: usize = 7;

/// Names of a loss and its companions in Trainer's logs, TensorBoard's tags, LLaMA-Factory's lines, torchtune's.
const NAMES: [(Field, &[&str]); 5] = [
    (Field::Loss, &["loss", "train/loss", "train_loss", "loss/train", "training/loss"]),
    (Field::Lr, &["learning_rate", "train/learning_rate", "lr", "train/lr", "learning_rate/train"]),
    (Field::GradNorm, &["grad_norm", "train/grad_norm", "gradient_norm"]),
    (Field::EvalLoss, &["eval_loss", "eval/loss", "val_loss", "val/loss", "validation/loss", "loss/val"]),
    (
        Field::Tokens,
        &["num_tokens", "train/num_tokens", "num_input_tokens_seen", "train/num_input_tokens_seen", "total_tokens"],
    ),
];
/// Those of speed.
const SPEEDS: [&str; 3] = ["tokens_per_second_per_gpu", "throughput", "tokens_per_s"];

impl Field {
    /// By the name that a log gives it.
    pub fn of(name: &str) -> Option<Self> {
        let found = NAMES.iter().find(|(_, names)| names.contains(&name)).map(|(field, _)| *field);
        found.or_else(|| SPEEDS.contains(&name).then_some(Self::Speed))
    }
}

/// Two logs that round differently still say the same.
const SAME: f64 = 1e-5;
/// More steps than any log has.
const MOST: usize = 1 << 22;

/// Values by step.
#[derive(Clone, Debug, Default)]
pub struct Points {
    steps: BTreeMap<usize, [f64; FIELDS]>,
    /// Steps in all, where a log says it.
    pub total: Option<usize>,
    /// Steps done, where a log says it beside the steps that it tells of.
    pub done: Option<usize>,
    /// Sequences of a micro-batch, where a log says it.
    pub batch: Option<usize>,
}

impl Points {
    /// Notes a value; of two logs that say nearly the same the first one counts.
    pub fn set(&mut self, step: usize, field: Field, value: f64) {
        if self.steps.len() >= MOST && !self.steps.contains_key(&step) {
            return;
        }
        let at = &mut self.steps.entry(step).or_insert([f64::NAN; FIELDS])[field as usize];
        let same = (*at - value).abs() <= SAME * at.abs();
        if !same {
            *at = value;
        }
    }

    /// The last step of which there is anything.
    pub fn last(&self) -> usize {
        self.steps.keys().next_back().copied().unwrap_or(0)
    }

    /// The largest learning rate.
    pub fn peak_lr(&self) -> Option<f64> {
        self.steps.values().map(|values| values[Field::Lr as usize]).filter(|lr| lr.is_finite()).reduce(f64::max)
    }

    /// Steps with a loss, of training or on held-out rows; what is not known of one is not a number, or 0 tokens.
    pub fn records(&self) -> Vec<Record> {
        let first =
            self.steps.values().map(|values| values[Field::Seconds as usize]).find(|seconds| seconds.is_finite());
        let (mut tokens, mut records) = (0.0, Vec::with_capacity(self.steps.len()));
        for (&step, values) in &self.steps {
            let value = |field: Field| values[field as usize];
            let known = |field: Field| Some(value(field)).filter(|value| value.is_finite());
            let (loss, eval_loss) = (value(Field::Loss), known(Field::EvalLoss));
            if !loss.is_finite() && eval_loss.is_none() {
                continue;
            }
            let since = known(Field::Tokens).map_or(0.0, |all| (all - tokens).max(0.0));
            tokens = known(Field::Tokens).unwrap_or(tokens);
            let step =
                Step { step, loss, lr: value(Field::Lr), grad_norm: value(Field::GradNorm), tokens: since as usize };
            let seconds = known(Field::Seconds).zip(first).map(|(now, first)| (now - first).max(0.0));
            let tokens_per_s = known(Field::Speed).unwrap_or(0.0);
            records.push(Record {
                step,
                tokens_per_s,
                eval_loss,
                eval_sure: None,
                forget_loss: None,
                held: 0,
                seconds,
            });
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_logs_of_one_run_are_one() {
        let mut points = Points::default();
        points.set(1, Field::Loss, f64::from(2.1f32));
        points.set(1, Field::Loss, 2.1);
        points.set(1, Field::Tokens, 100.0);
        points.set(2, Field::Lr, 1e-4);
        points.set(3, Field::EvalLoss, 1.5);
        points.set(4, Field::Loss, 1.0);
        points.set(4, Field::Tokens, 250.0);
        let records = points.records();
        assert_eq!(records.iter().map(|record| record.step.step).collect::<Vec<_>>(), [1, 3, 4]);
        assert_eq!(
            (records[0].step.loss, records[0].step.tokens, records[2].step.tokens),
            (f64::from(2.1f32), 100, 150)
        );
        assert!(records[1].step.loss.is_nan() && records[1].eval_loss == Some(1.5));
        // What a run that went on from a checkpoint says counts.
        points.set(1, Field::Loss, 2.2);
        assert_eq!((points.records()[0].step.loss, points.peak_lr(), points.last()), (2.2, Some(1e-4), 4));
    }
}
