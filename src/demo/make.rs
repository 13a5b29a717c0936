//! `rankscope demo build`: everything that is bundled, from nothing.
//!
//! ```text
//! world ─ tokenizer ─┬─ pretrain ─ base ─┬─ every parameter on "pirate" ─ tuned
//!                    │                   └─ LoRA on "pirate" ─ adapter
//!                    └─ data sets                      measure ─ demo.json
//! ```
//!
//! Seeded from end to end, and every sum of the engine has one order: the same bytes each time on one machine, however
//! many threads there are. A build that was stopped goes on from its last checkpoint.

use super::binding::binding;
use super::pretrain::{Recipe, Shape, packed, pretrain};
use super::sets::{self, Set};
use super::tune::{SEQ, Tune, tune};
use super::{ADAPTER, BASE, DATA, TUNED, tokenizer};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::model::{Decoder, Frozen, Processor};
use crate::progress::{Part, Progress};
use crate::train::merge::{Change, write_model};
use crate::train::store::write_whole;
use crate::train::{Method, Text, data, evaluate};
use serde_json::{Value, json};
use std::path::Path;

/// How much is made.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// The model's sizes.
    pub shape: Shape,
    /// Its pre-training.
    pub recipe: Recipe,
    /// Documents from which the tokenizer is trained.
    pub documents: u64,
    /// Rows of the data sets.
    pub rows: [(Set, sets::Rows); 3],
    /// The tuned sibling.
    pub tuned: Tune,
    /// The adapter.
    pub adapter: Tune,
    /// Held-out sequences on which the base is measured.
    pub held_out: usize,
    /// Questions of each kind.
    pub questions: u64,
}

impl Scale {
    /// What is bundled.
    pub fn full() -> Self {
        let tune = Tune { method: Method::Full, rank: 16, lr: 1e-3, steps: 400, batch: 8, seed: 1 };
        Self {
            shape: Shape { vocab: 2048, hidden: 192, layers: 4, heads: 6, ffn: 512 },
            recipe: Recipe {
                steps: 18_000,
                batch: 8,
                seq: SEQ,
                lr: 1.2e-3,
                warmup: 100,
                fall: 0.4,
                prelude: 4000,
                seed: 7,
            },
            documents: 20_000,
            rows: [
                (Set::Pirate, sets::Rows { train: 1600, eval: 128 }),
                (Set::Extract, sets::Rows { train: 4000, eval: 200 }),
                (Set::Facts, sets::Rows { train: 512, eval: 128 }),
            ],
            tuned: tune,
            adapter: Tune { method: Method::Lora, lr: 3e-3, steps: 200, ..tune },
            held_out: 256,
            questions: 200,
        }
    }

    /// The same way in seconds, with a model that has learned next to nothing: to see that the way works.
    pub fn tiny() -> Self {
        let full = Self::full();
        let few = |set| (set, sets::Rows { train: 16, eval: 4 });
        Self {
            shape: Shape { vocab: 512, hidden: 32, layers: 2, heads: 2, ffn: 64 },
            recipe: Recipe { steps: 30, batch: 4, seq: 32, warmup: 5, prelude: 10, ..full.recipe },
            documents: 300,
            rows: Set::ALL.map(few),
            tuned: Tune { steps: 4, batch: 2, ..full.tuned },
            adapter: Tune { steps: 4, batch: 2, rank: 4, ..full.adapter },
            held_out: 8,
            questions: 2,
        }
    }
}

/// Where a build keeps what it needs until it is done.
const WORK: &str = ".building";

/// Makes everything in `out`; gives what was measured, which is also written there as `demo.json`.
///
/// # Errors
/// A file that cannot be written, divergence; and cancellation, after which the same call goes on.
pub fn build(out: &Path, scale: &Scale, told: &mut dyn FnMut(String), progress: &dyn Progress) -> Result<Value> {
    let [base, tuned, adapter, data] = [BASE, TUNED, ADAPTER, DATA].map(|name| out.join(name));
    let work = out.join(WORK);
    // Pre-training takes nearly all of the time.
    let stage = |at: u64| Part::new(progress, at, 20);
    let tokenizer = tokenizer::train(
        super::pretrain::TRAINING..super::pretrain::TRAINING + scale.documents,
        scale.shape.vocab,
        &stage(0),
    )?;
    tokenizer::write(&tokenizer, &base)?;
    let text = Text::open(&base)?;
    for (set, rows) in scale.rows {
        sets::write(set, rows, &data)?;
    }
    let middle = Stretch { whole: progress, from: 1, to: 17, of: 20 };
    if !base.join("model.safetensors").is_file() {
        pretrain(&scale.shape, &scale.recipe, &tokenizer, &work, &base, told, &middle)?;
    }

    let checkpoint = Checkpoint::open(&base)?;
    let decoder = Decoder::load(&checkpoint, Frozen::AsStored, &())?;
    let (held_out, _) = packed(&tokenizer, super::world::document, 0, scale.held_out, scale.recipe.seq, &())?;
    let loss = evaluate(&Processor::default(), &decoder, &held_out, 8, &stage(17))?;
    let characters = (0..2000).map(|seed| super::world::document(seed).len() + 1).sum::<usize>();
    let tokens = (0..2000).map(|seed| text.ids(&super::world::document(seed)).map(|ids| ids.len() + 1));
    let tokens = tokens.sum::<Result<usize>>()?;
    let found = binding(&decoder, &text, scale.questions, &stage(18))?;
    told(format!("base: held-out loss {:.4} a token; {found}", loss.mean()));
    let rows = |set: Set, part: &str| -> Result<_> {
        Ok(data::read(&data.join(format!("{}.{part}.jsonl", set.stem())), &checkpoint, SEQ, &())?.rows)
    };
    let pirate = rows(Set::Pirate, "eval")?;
    let mut silent = |_: &crate::train::Trainer, _: f64| Ok(());
    let full = tune(&checkpoint, rows(Set::Pirate, "train")?, &scale.tuned, &mut silent, &stage(19))?;
    write_model(&checkpoint, &Change::Params(&full.decoder.params), None, &tuned, &())?;
    let low = tune(&checkpoint, rows(Set::Pirate, "train")?, &scale.adapter, &mut silent, &stage(19))?;
    low.write_adapter(&adapter)?;
    relative(&adapter.join("adapter_config.json"))?;

    let mut of_sets = serde_json::Map::new();
    for (set, count) in scale.rows {
        let of_base = evaluate(&Processor::default(), &decoder, &rows(set, "eval")?, 8, &())?.mean();
        of_sets.insert(set.stem().to_owned(), json!({"train": count.train, "eval": count.eval, "base_loss": of_base}));
    }
    let after = |trainer: &crate::train::Trainer| trainer.evaluate(&pirate, &()).map(|loss| loss.mean());
    let (after_full, after_low) = (after(&full)?, after(&low)?);
    told(format!("pirate, held out: every parameter {after_full:.4}, the adapter {after_low:.4}"));
    let Recipe { steps, batch, seq, lr, prelude, seed, .. } = scale.recipe;
    let report = json!({
        "parameters": checkpoint.parameters(),
        "pretraining": {"steps": steps, "tokens": steps * batch * seq, "lr": lr, "prelude": prelude, "seed": seed},
        "base": {
            "held_out_sequences": scale.held_out, "loss": loss.mean(),
            "loss_per_character": loss.mean() * tokens as f64 / characters as f64,
            "who_has_what": found.who, "who_has_what_strangers": found.strangers, "list_told_again": found.list,
        },
        "sets": of_sets,
        "tuned": {"set": "pirate", "steps": scale.tuned.steps, "lr": scale.tuned.lr, "eval_loss": after_full},
        "adapter": {
            "set": "pirate", "r": scale.adapter.rank, "steps": scale.adapter.steps, "lr": scale.adapter.lr,
            "eval_loss": after_low,
        },
    });
    write_whole(&out.join("demo.json"), format!("{report:#}\n").as_bytes())?;
    std::fs::remove_dir_all(&work).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(Error::write(&work, &error)),
    })?;
    progress.step(1, 1)?;
    Ok(report)
}

/// The adapter lies beside its base, wherever both are taken.
fn relative(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).map_err(|error| Error::read(path, "read", &error))?;
    let mut config: Value =
        serde_json::from_slice(&bytes).map_err(|error| Error::file(path, format!("not valid JSON: {error}")))?;
    config["base_model_name_or_path"] = json!(format!("../{BASE}"));
    write_whole(path, format!("{config:#}\n").as_bytes())
}

/// A piece of work that is several parts of the whole.
struct Stretch<'a> {
    whole: &'a dyn Progress,
    from: u64,
    to: u64,
    of: u64,
}

impl Progress for Stretch<'_> {
    fn step(&self, done: u64, total: u64) -> Result<()> {
        let total = total.max(1);
        self.whole.step(self.from * total + done.min(total) * (self.to - self.from), self.of * total)
    }

    fn check(&self) -> Result<()> {
        self.whole.check()
    }
}
