//! Memory of each of several GPUs, by how a model is spread over them.
//!
//! With N GPUs, P trained values, a frozen base of W bytes and of each GPU a batch of its own:
//!
//! | part | ddp | fsdp, zero3 |
//! |---|---|---|
//! | weights, constants | W | W / N |
//! | adapters, gradients, optimizer | all of them | 1/N of each |
//! | gathered | – | two of the largest blocks as they are kept: the one that computes, the next one |
//! | communication | a copy of the gradients, in buckets | the gradients of one block, twice |
//! | activations, logits, workspace | of the GPU's own batch | the same |
//!
//! ddp's buckets are torch's (`gradient_as_bucket_view` is off in accelerate); what is gathered under fsdp2 and ZeRO-3 is one block ahead. Sharded
//! parts are padded by less than a row. Activations are this engine's, with bf16 on a GPU: another engine needs others.

use super::largest::{MOST_BATCH, MOST_SEQ, last, most_seq};
use super::{Largest, Load, Memory, Method, Pairs, Predictor, predict};
use crate::error::{Error, Result};
use crate::plan::layout::Layout;
use crate::units::bytes;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// How a model is spread over GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// A whole copy on each.
    #[default]
    Ddp,
    /// Torch's FSDP2: weights, gradients and moments in shards.
    Fsdp,
    /// DeepSpeed's ZeRO stage 3: the same in its own way.
    Zero3,
}

impl Strategy {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Ddp, Self::Fsdp, Self::Zero3];

    /// As on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ddp => "ddp",
            Self::Fsdp => "fsdp",
            Self::Zero3 => "zero3",
        }
    }

    /// As a person reads it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ddp => "DDP",
            Self::Fsdp => "FSDP2",
            Self::Zero3 => "ZeRO-3",
        }
    }

    /// What it means.
    pub fn about(self) -> &'static str {
        match self {
            Self::Ddp => "A whole copy of the model on each GPU.",
            Self::Fsdp => "Weights, gradients and moments in shards (torch FSDP2).",
            Self::Zero3 => "The same by DeepSpeed ZeRO-3.",
        }
    }
}

/// GPU counts that are planned for.
pub const COUNTS: [usize; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/// A part of a GPU's memory, and how it was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Its name.
    pub name: &'static str,
    /// Its size.
    pub bytes: u64,
    /// The arithmetic, in words.
    pub arithmetic: String,
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.arithmetic)
    }
}

/// Bytes of the largest block: frozen as it is kept, and what is trained of it.
fn largest_block(layout: &Layout, pairs: &Pairs, load: &Load) -> (u64, u64) {
    let mut blocks: BTreeMap<Option<usize>, (u64, u64)> = BTreeMap::new();
    let full = load.method == Method::Full;
    for weight in &layout.weights {
        let (codes, scales) = super::kept(weight, load);
        let block = blocks.entry(weight.layer).or_default();
        block.0 += if full { load.precision.bytes() * weight.parameters } else { codes + scales };
        block.1 += if full { weight.parameters } else { 0 };
    }
    for &(place, r) in &pairs.0 {
        if let Some(weight) = layout.weights.get(place).filter(|_| !full) {
            blocks.entry(weight.layer).or_default().1 += weight.cost() * r as u64;
        }
    }
    // What is in no block, embedding and head, is gathered by itself.
    blocks.values().copied().max().unwrap_or_default()
}

/// The memory of each of `gpus` GPUs; `load` is of one of them, with its own batch.
///
/// # Errors
/// As [`predict`].
pub fn per_gpu(layout: &Layout, pairs: &Pairs, load: &Load, strategy: Strategy, gpus: usize) -> Result<Vec<Term>> {
    Ok(terms(&predict(layout, pairs, load)?, largest_block(layout, pairs, load), strategy, gpus))
}

fn terms(memory: &Memory, (block, trained): (u64, u64), strategy: Strategy, gpus: usize) -> Vec<Term> {
    let n = gpus.max(1) as u64;
    let sharded = strategy != Strategy::Ddp && n > 1;
    let part = |name, all: u64| {
        let bytes_of = if sharded { all.div_ceil(n) } else { all };
        let arithmetic = match sharded {
            true => format!("{} / {n} = {}", bytes(all), bytes(bytes_of)),
            false => bytes(all),
        };
        Term { name, bytes: bytes_of, arithmetic }
    };
    let mut terms = vec![
        part("weights", memory.weights),
        part("constants", memory.constants),
        part("adapters", memory.adapters),
        part("gradients", memory.gradients),
        part("optimizer", memory.optimizer),
    ];
    if sharded {
        let gathered = 2 * block;
        let arithmetic = format!("2 blocks · {} = {}", bytes(block), bytes(gathered));
        terms.push(Term { name: "gathered", bytes: gathered, arithmetic });
        let moved = 2 * 4 * trained;
        let arithmetic = format!("2 · {trained} gradients of a block · 4 B = {}", bytes(moved));
        terms.push(Term { name: "communication", bytes: moved, arithmetic });
    } else if n > 1 {
        let arithmetic = format!("a copy of the gradients in buckets = {}", bytes(memory.gradients));
        terms.push(Term { name: "communication", bytes: memory.gradients, arithmetic });
    }
    let own = |name, all: u64| Term { name, bytes: all, arithmetic: format!("{}, of this GPU's batch", bytes(all)) };
    terms.extend([
        own("activations", memory.activations),
        own("logits", memory.logits),
        own("workspace", memory.workspace),
        Term {
            name: "process",
            bytes: memory.process,
            arithmetic: format!("{}, driver and kernels", bytes(memory.process)),
        },
    ]);
    terms
}

/// All parts together.
pub fn total(terms: &[Term]) -> u64 {
    terms.iter().map(|term| term.bytes).sum()
}

/// What a count of GPUs allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// GPUs.
    pub gpus: usize,
    /// Bytes on each.
    pub bytes: u64,
    /// The largest batch of each GPU, and the longest context, each with the rest as it is.
    pub largest: Largest,
}

/// For each of these counts the memory of a GPU, and the largest batch and context that fit into `room` bytes of it.
///
/// # Errors
/// As [`predict`]; a count above 1024.
pub fn counts(
    layout: &Layout,
    pairs: &Pairs,
    load: &Load,
    strategy: Strategy,
    gpus: &[usize],
    room: u64,
) -> Result<Vec<Count>> {
    if let Some(gpus) = gpus.iter().find(|gpus| !(1..=1024).contains(*gpus)) {
        return Err(Error::usage(format!("{gpus} GPUs; expected 1 to 1024")));
    }
    let block = largest_block(layout, pairs, load);
    let predictor = Predictor::new(layout, pairs, load)?;
    // A batch needs the same activations whatever the count.
    let known: RefCell<HashMap<(usize, usize), Memory>> = RefCell::default();
    let memory = |batch: usize, seq: usize| -> Result<Memory> {
        if let Some(memory) = known.borrow().get(&(batch, seq)) {
            return Ok(*memory);
        }
        let found = predictor.memory(batch, seq)?;
        known.borrow_mut().insert((batch, seq), found);
        Ok(found)
    };
    let one = |&gpus: &usize| {
        let need = |batch, seq| Ok::<_, Error>(total(&terms(&memory(batch, seq)?, block, strategy, gpus)));
        let batch = last(MOST_BATCH, room, |batch| need(batch, load.seq))?;
        let most = most_seq(layout);
        let seq = last(most, room, |seq| need(load.batch, seq.max(2)))?.filter(|&seq| seq >= 2);
        let largest = Largest { rank: None, batch, seq, whole: seq == Some(most) && most < MOST_SEQ };
        Ok(Count { gpus, bytes: need(load.batch, load.seq)?, largest })
    };
    gpus.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::memory::{CONTEXT, Place, Precision};
    use crate::plan::{Selection, Targets};

    #[test]
    fn shards_add_up_and_copies_do_not_shrink() {
        let layout = Layout::preset("llama-3.2-1b").unwrap();
        let targets: Targets = "all-linear".parse().unwrap();
        let pairs = Pairs::uniform(&layout, &Selection::new(&layout, &targets).unwrap(), 16);
        let place = Place::Gpu(crate::model::ComputeDtype::Bf16.into());
        let load = Load {
            method: Method::Full,
            batch: 1,
            seq: 1024,
            precision: Precision::Bf16,
            place,
            process: CONTEXT,
            ..Load::default()
        };
        let part = |strategy, gpus, name: &str| {
            let terms = per_gpu(&layout, &pairs, &load, strategy, gpus).unwrap();
            terms.into_iter().find(|term| term.name == name).map_or(0, |term| term.bytes)
        };
        // Moments: 8 bytes of each of the 1,235,814,400 parameters.
        assert_eq!(part(Strategy::Ddp, 8, "optimizer"), 8 * 1_235_814_400);
        assert_eq!(part(Strategy::Fsdp, 8, "optimizer"), 1_235_814_400);
        assert_eq!(part(Strategy::Fsdp, 1024, "gradients"), (4 * 1_235_814_400u64).div_ceil(1024));
        assert_eq!(part(Strategy::Ddp, 2, "communication"), 4 * 1_235_814_400);
        // The head stands in no block and is larger than any: 128,256 · 2048 values in bf16, twice.
        assert!(part(Strategy::Fsdp, 8, "gathered") >= 2 * 2 * 128_256 * 2048);
        let all = |strategy| counts(&layout, &pairs, &load, strategy, &[1, 8, 64], 24 << 30).unwrap();
        let (ddp, fsdp) = (all(Strategy::Ddp), all(Strategy::Fsdp));
        assert_eq!(ddp[0], fsdp[0]);
        assert!(fsdp[1].bytes < fsdp[0].bytes && fsdp[2].bytes < fsdp[1].bytes && ddp[2].bytes >= ddp[1].bytes);
        // On a card of 192 GiB the model's own 131,072 positions are the end.
        let mut stated = layout.clone();
        std::sync::Arc::make_mut(stated.spec.as_mut().unwrap()).max_positions = 131_072;
        let roomy = counts(&stated, &pairs, &load, Strategy::Fsdp, &[64], 192 << 30).unwrap();
        assert_eq!((roomy[0].largest.seq, roomy[0].largest.whole, fsdp[2].largest.whole), (Some(131_072), true, false));
        assert_eq!(roomy[0].largest.context(|seq| seq.to_string()), "131072 max");
        assert!(fsdp[2].largest.batch > ddp[2].largest.batch && fsdp[2].largest.seq > ddp[2].largest.seq);
        assert!(counts(&layout, &pairs, &load, Strategy::Ddp, &[1025], 1).is_err());
    }
}
