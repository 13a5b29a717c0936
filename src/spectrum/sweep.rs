//! Spectra of many modules, one after another: each is handed over as soon as it is there, and then forgotten.

use std::collections::VecDeque;

use rayon::prelude::*;

use super::{Options, Spectrum, spectrum};
use crate::delta::{DeltaSet, Entry};
use crate::error::{Error, Result};
use crate::progress::{Part, Progress};

/// Values of ΔW that are worked on at once: small modules share the processors, a large one has them all.
const AT_ONCE: usize = 1 << 22;

/// The spectrum of each named module, in the order of `names`; `found` gets each as it is ready.
///
/// Memory stays at a few matrices, whatever the size of the model. A module that cannot be computed is an `Err` for
/// `found`, with its name, and the others go on.
///
/// # Errors
/// [`Error::Cancelled`] only, seen between modules and inside large ones. What was found before stays found.
pub fn sweep(
    set: &DeltaSet,
    names: &[String],
    options: &Options,
    progress: &dyn Progress,
    found: &mut dyn FnMut(&str, Result<Spectrum>),
) -> Result<()> {
    let total = names.len() as u64;
    let mut waiting: VecDeque<&str> = names.iter().map(String::as_str).collect();
    while !waiting.is_empty() {
        let done = total - waiting.len() as u64;
        progress.step(done, total)?;
        let batch = next_batch(set, &mut waiting);
        let results: Vec<Result<Spectrum>> = match batch.as_slice() {
            [name] => vec![one(set, name, options, &Part::new(progress, done, total))],
            names => {
                let steady = Steady { whole: progress, done, total };
                names.par_iter().map(|name| one(set, name, options, &steady)).collect()
            }
        };
        for (name, result) in batch.into_iter().zip(results) {
            match result {
                Err(error) if error.is_cancelled() => return Err(error),
                result => found(name, result),
            }
        }
    }
    progress.step(total, total)
}

/// As many of the next modules as are worked on together: at least one.
fn next_batch<'a>(set: &DeltaSet, waiting: &mut VecDeque<&'a str>) -> Vec<&'a str> {
    let mut batch = Vec::new();
    let mut size = 0usize;
    while let Some(&name) = waiting.front() {
        size = size.saturating_add(set.entry(name).map_or(0, values));
        if !batch.is_empty() && (size > AT_ONCE || batch.len() >= 2 * rayon::current_num_threads()) {
            break;
        }
        batch.push(name);
        waiting.pop_front();
    }
    batch
}

fn values(entry: &Entry) -> usize {
    entry.shape[0].saturating_mul(entry.shape[1])
}

fn one(set: &DeltaSet, name: &str, options: &Options, progress: &dyn Progress) -> Result<Spectrum> {
    let entry = set.entry(name).ok_or_else(|| Error::usage(format!("{name}: there is no such module")))?;
    let delta = set.load(entry, &Part::new(progress, 0, LOADING))?;
    spectrum(&delta, options, &Part::rest(progress, 1, LOADING))
}

/// Loading counts as one of so many parts of a module.
const LOADING: u64 = 8;

/// Several modules at once: the count stands until all of them are done, each still sees a cancellation.
struct Steady<'a> {
    whole: &'a dyn Progress,
    done: u64,
    total: u64,
}

impl Progress for Steady<'_> {
    fn step(&self, _done: u64, _total: u64) -> Result<()> {
        self.whole.step(self.done, self.total)
    }

    fn check(&self) -> Result<()> {
        self.whole.check()
    }
}
