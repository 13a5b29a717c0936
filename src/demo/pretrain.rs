//! Pre-training: from random weights to a language model of the world, by this project's own engine.

use super::binding::binding;
use super::world;
use crate::checkpoint::{Checkpoint, Dtype};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::spec::{ModelSpec, Role};
use crate::train::merge::{Change, write_model};
use crate::train::run_folder::RunFolder;
use crate::train::saved::{At, restore, save};
use crate::train::store::{Tensor, write_tensors, write_whole};
use crate::train::{Method, Row, Rows, Schedule, Settings, Text, Trainer};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, Normal};
use serde_json::{Value, json};
use std::path::Path;
use tokenizers::Tokenizer;

/// The model's sizes.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Tokens.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads, all with keys and values of their own.
    pub heads: usize,
    /// Inner width of the MLP.
    pub ffn: usize,
}

/// How it is trained.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// Steps.
    pub steps: usize,
    /// Sequences of a step: small, for many steps; noise is no problem at a rate that falls at the end.
    pub batch: usize,
    /// Tokens of a sequence: a document is 80 on average, 128 hold most of them whole.
    pub seq: usize,
    /// Peak learning rate: high, as the model is small.
    pub lr: f64,
    /// Steps over which the rate rises.
    pub warmup: usize,
    /// Share of the steps over which it falls to zero, in a line. Until then it is constant: a run can be made longer.
    pub fall: f64,
    /// Steps at the beginning on [`world::first_document`]s.
    pub prelude: usize,
    /// Of weights and order.
    pub seed: u64,
}

impl Recipe {
    /// Steps before the rate falls.
    fn level(&self) -> usize {
        ((1.0 - self.fall) * self.steps as f64) as usize
    }

    /// The learning rate of step `step`, from 0.
    pub fn rate(&self, step: usize) -> f64 {
        let rise = ((step + 1) as f64 / self.warmup.max(1) as f64).min(1.0);
        let left = (self.steps - step.min(self.steps)) as f64 / (self.fall * self.steps as f64).max(1.0);
        self.lr * rise * left.min(1.0)
    }
}

/// Longest sequence that the model says it takes: twice what it was trained on.
const POSITIONS: usize = 256;

fn config(shape: &Shape) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float16",
        "hidden_size": shape.hidden, "intermediate_size": shape.ffn, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.heads,
        "head_dim": shape.hidden / shape.heads, "vocab_size": shape.vocab, "max_position_embeddings": POSITIONS,
        "hidden_act": "silu", "rms_norm_eps": 1e-5, "attention_bias": false, "mlp_bias": false,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "tie_word_embeddings": true,
        "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1,
    })
}

/// Weights before training: normal with standard deviation 0.02, less by √(2 L) where they add to the residual stream.
fn initial(spec: &ModelSpec, seed: u64) -> Vec<Tensor<'static>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (usual, adding) = (0.02, 0.02 / (2.0 * spec.blocks.len() as f32).sqrt());
    let matrices = spec.modules().map(|module| {
        let std = if matches!(module.role, Role::O | Role::Down) { adding } else { usual };
        let count = module.shape[0] * module.shape[1];
        // The deviation is finite and positive.
        let values: Vec<f32> = match Normal::new(0.0f32, std) {
            Ok(normal) => (0..count).map(|_| normal.sample(&mut rng)).collect(),
            Err(_) => vec![0.0; count],
        };
        Tensor::new(format!("{}.weight", module.name), module.shape.to_vec(), &values, Dtype::F32)
    });
    let mut tensors: Vec<Tensor> = matrices.collect();
    let ones = |width: usize| vec![1.0; width];
    tensors.extend(
        spec.norms()
            .map(|norm| Tensor::new(format!("{}.weight", norm.name), vec![norm.width], &ones(norm.width), Dtype::F32)),
    );
    tensors
}

/// Sequences of `seq` tokens: each begins with a document, and holds as much of the next ones as there is room for.
/// Documents are those that `told` tells for the seeds from `seed` on; gives the seed after the last.
pub fn packed(
    tokenizer: &Tokenizer,
    told: fn(u64) -> String,
    seed: u64,
    rows: usize,
    seq: usize,
    progress: &dyn Progress,
) -> Result<(Rows, u64)> {
    let mut packed = Vec::with_capacity(rows);
    let mut next = seed;
    while packed.len() < rows {
        if packed.len().is_multiple_of(256) {
            progress.step(packed.len() as u64, rows as u64)?;
        }
        let mut ids = Vec::with_capacity(2 * seq);
        while ids.len() < seq {
            let encoding = tokenizer.encode(told(next), true);
            let encoding = encoding.map_err(|error| Error::failure(format!("the tokenizer: {error}")))?;
            ids.extend(encoding.get_ids());
            ids.push(0);
            next += 1;
        }
        ids.truncate(seq);
        packed.push(Row::all(ids));
    }
    Ok((Rows { rows: packed }, next))
}

/// Where documents for training begin.
pub const TRAINING: u64 = 1 << 32;

/// Makes the base in `out`, with checkpoints under `work`, from which it goes on when it was stopped. `told` gets a
/// sentence now and then. The folder `out` has its tokenizer already.
///
/// # Errors
/// A file that cannot be written, divergence; and cancellation.
pub fn pretrain(
    shape: &Shape,
    recipe: &Recipe,
    tokenizer: &Tokenizer,
    work: &Path,
    out: &Path,
    told: &mut dyn FnMut(String),
    progress: &dyn Progress,
) -> Result<()> {
    let begun = work.join("initial");
    let (path, config) = (begun.join("config.json"), config(shape));
    let spec = ModelSpec::of_config(&config, &path, None)?;
    write_tensors(&begun.join("model.safetensors"), &initial(&spec, recipe.seed))?;
    write_whole(&path, format!("{config:#}\n").as_bytes())?;
    let checkpoint = Checkpoint::open(&begun)?;
    let rows = |told, from, steps| packed(tokenizer, told, from, steps * recipe.batch, recipe.seq, &());
    let prelude = recipe.prelude.min(recipe.steps);
    let (mut rows_first, next) = rows(world::first_document as fn(u64) -> String, TRAINING, prelude)?;
    let (rest, _) = rows(world::document, next, recipe.steps - prelude)?;
    rows_first.rows.extend(rest.rows);
    let settings = Settings {
        model: begun.clone(),
        method: Method::Full,
        lr: recipe.lr,
        schedule: Schedule::Constant,
        // Long memory of squared gradients is slow to follow in a short run.
        beta2: 0.95,
        batch: recipe.batch,
        seq: recipe.seq,
        steps: Some(recipe.steps),
        seed: recipe.seed,
        // Documents come in no order anyway.
        shuffle: false,
        ..Settings::default()
    };
    let text = Text::open(out)?;
    let mut trainer = Trainer::new(&checkpoint, settings, rows_first, &())?;
    let folder = RunFolder::new(work);
    let last = || folder.checkpoints().last().map(|step| folder.checkpoint(*step));
    if let Some(from) = last() {
        go_on(&mut trainer, recipe, &from)?;
        told(format!("going on after step {}", trainer.done));
    }
    let (mut sum, mut count) = (0.0, 0);
    while trainer.done < trainer.steps {
        if let Err(stopped) = progress.step(trainer.done as u64, trainer.steps as u64) {
            save(&trainer, work, None)?;
            return Err(stopped);
        }
        trainer.settings.lr = recipe.rate(trainer.done);
        let step = trainer.step()?;
        (sum, count) = (sum + step.loss, count + 1);
        if trainer.done.is_multiple_of(TELL) || trainer.done == trainer.steps {
            told(format!(
                "step {} of {}: loss {:.4}, lr {:.2e}",
                trainer.done,
                trainer.steps,
                sum / f64::from(count),
                step.lr
            ));
            (sum, count) = (0.0, 0);
        }
        if trainer.done.is_multiple_of(ASK) {
            told(format!("step {}: {}", trainer.done, binding(&trainer.decoder, &text, QUESTIONS, &())?));
        }
        if trainer.done.is_multiple_of(SAVE) {
            let before = last();
            save(&trainer, work, None)?;
            if let Some(before) = before {
                // Only the newest is needed; one that stays behind does no harm.
                let _ = std::fs::remove_dir_all(before);
            }
        }
    }
    write_model(&checkpoint, &Change::Params(&trainer.decoder.params), Some(Dtype::F16), out, &()).map(|_| ())
}

/// Steps between two sentences.
const TELL: usize = 50;

/// Steps between two tests of whether the model looks back, and questions of each kind.
const ASK: usize = 1000;
/// See [`ASK`].
const QUESTIONS: u64 = 50;

/// Steps between two checkpoints.
const SAVE: usize = 200;

/// Goes on from a checkpoint, which may be of a longer or shorter run: until the rate falls they are the same.
fn go_on(trainer: &mut Trainer, recipe: &Recipe, from: &Path) -> Result<()> {
    let before = Recipe { steps: At::read(from)?.steps, ..*recipe };
    trainer.steps = before.steps;
    restore(trainer, from)?;
    trainer.steps = recipe.steps;
    if before.steps != recipe.steps && trainer.done > before.level().min(recipe.level()) {
        let message = format!(
            "the rate was falling already in this run of {} steps; it cannot become one of {}",
            before.steps, recipe.steps
        );
        return Err(Error::file(from, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_stays_and_falls() {
        let recipe = Recipe { steps: 100, batch: 1, seq: 8, lr: 1.0, warmup: 10, fall: 0.4, prelude: 0, seed: 0 };
        assert_eq!(recipe.rate(0), 0.1);
        assert_eq!(recipe.rate(30), 1.0);
        assert_eq!(recipe.rate(60), 1.0);
        assert!((recipe.rate(80) - 0.5).abs() < 1e-12 && recipe.rate(99) > 0.0);
    }
}
