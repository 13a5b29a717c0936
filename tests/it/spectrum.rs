//! Spectra of real checkpoints against numpy's.
//!
//! `tests/fixtures/spectra.json`: `numpy.linalg.svd` in `f64` of tuned − base and of peft's `get_delta_weight`. With
//! `RANKSCOPE_REFERENCE=<folder>` every pair and adapter that the folder's `spectra.json` names is compared too.

use crate::support::fixtures;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rankscope::adapter::Adapter;
use rankscope::checkpoint::Checkpoint;
use rankscope::delta::{DeltaSet, Source};
use rankscope::error::{Error, Result};
use rankscope::progress::Progress;
use rankscope::spectrum::{Method, Options, Spectrum, sweep};

type Golden = BTreeMap<String, BTreeMap<String, Vec<f64>>>;

fn golden(folder: &Path) -> Golden {
    serde_json::from_slice(&std::fs::read(folder.join("spectra.json")).unwrap()).unwrap()
}

/// `llama-tuned` is a tuned model of `llama`, `llama-adapter` an adapter for it.
fn open(folder: &Path, pair: &str) -> DeltaSet {
    let (base, kind) = pair.rsplit_once('-').unwrap();
    let base = Arc::new(Checkpoint::open(&folder.join(base)).unwrap());
    let other = folder.join(pair);
    let source = match kind {
        "tuned" => Source::Tuned(Arc::new(Checkpoint::open(&other).unwrap())),
        _ => Source::Adapter(Arc::new(Adapter::open(&other).unwrap())),
    };
    DeltaSet::new(base, source).unwrap()
}

fn names(set: &DeltaSet) -> Vec<String> {
    set.entries().iter().map(|entry| entry.name.clone()).collect()
}

/// Every module of the list, 1e-4 of σ₁ apart at most.
fn compare(folder: &Path, method: Method) -> usize {
    let mut compared = 0;
    for (pair, modules) in golden(folder) {
        let set = open(folder, &pair);
        let mut spectra = BTreeMap::new();
        let options = Options { method, ..Options::default() };
        let mut found = |name: &str, result: Result<Spectrum>| {
            spectra.insert(name.to_owned(), result.unwrap_or_else(|e| panic!("{pair}: {name}: {e}")));
        };
        sweep(&set, &names(&set), &options, &(), &mut found).unwrap();
        for (tensor, expected) in modules {
            let name = tensor.strip_suffix(".weight").unwrap_or(&tensor);
            let spectrum = spectra.get(name).unwrap_or_else(|| panic!("{pair}: no spectrum of {name}"));
            assert!(spectrum.exact, "{pair}: {name}");
            assert_eq!(spectrum.full_rank(), expected.len(), "{pair}: {name}: {:?}", spectrum.shape);
            for (index, &expected_sigma) in expected.iter().enumerate() {
                // Values that an adapter does not list are zero; numpy's show the rounding of B·A in f32.
                let sigma = spectrum.sigma.get(index).copied().unwrap_or(0.0);
                let error = (sigma - expected_sigma).abs() / expected[0];
                assert!(error < 1e-4, "{pair}: {name}: σ_{} = {sigma}, numpy {expected_sigma}", index + 1);
            }
            compared += 1;
        }
    }
    compared
}

#[test]
fn spectra_agree_with_numpy() {
    assert!(compare(&fixtures(), Method::Auto) > 30);
    compare(&fixtures(), Method::Exact);
}

#[test]
fn spectra_of_the_reference_folder_agree_with_numpy() {
    match std::env::var_os("RANKSCOPE_REFERENCE") {
        Some(folder) => println!("{} modules agree", compare(Path::new(&folder), Method::Auto)),
        None => println!("skipped: RANKSCOPE_REFERENCE is not set"),
    }
}

#[test]
fn a_sweep_goes_in_order_and_past_what_is_not_there() {
    let set = open(&fixtures(), "llama-tuned");
    let mut asked = names(&set);
    asked.reverse();
    asked.insert(2, "no.such.module".into());
    let mut seen = Vec::new();
    sweep(&set, &asked, &Options::default(), &(), &mut |name, result| seen.push((name.to_owned(), result.is_ok())))
        .unwrap();
    let expected: Vec<_> = asked.iter().map(|name| (name.clone(), name != "no.such.module")).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_planted_rank_is_found() {
    // A change of rank 5 and noise of 2e-4 in every linear layer.
    let set = open(&fixtures(), "llama-tuned");
    let linear: Vec<String> = set.entries().iter().filter(|e| e.linear).map(|e| e.name.clone()).collect();
    assert!(!linear.is_empty());
    sweep(&set, &linear, &Options::default(), &(), &mut |name, result| {
        let ranks = result.unwrap().ranks();
        assert_eq!(ranks.gavish_donoho, Some(5), "{name}");
        assert!(ranks.energy_99.unwrap() <= 5, "{name}");
    })
    .unwrap();
}

struct Stops {
    steps: AtomicU64,
    at: u64,
}

impl Progress for Stops {
    fn step(&self, done: u64, total: u64) -> Result<()> {
        assert!(done <= total);
        if self.steps.fetch_add(1, Ordering::Relaxed) >= self.at { Err(Error::Cancelled) } else { Ok(()) }
    }
}

#[test]
fn a_cancelled_sweep_keeps_what_it_found() {
    let set = open(&fixtures(), "llama-tuned");
    let names = names(&set);
    let counting = Stops { steps: AtomicU64::new(0), at: u64::MAX };
    sweep(&set, &names, &Options::default(), &counting, &mut |_, _| ()).unwrap();
    let steps = counting.steps.into_inner();
    for at in [0, 1, steps / 2, steps - 1] {
        let mut found = 0;
        let stops = Stops { steps: AtomicU64::new(0), at };
        let result =
            sweep(&set, &names, &Options::default(), &stops, &mut |_, result| found += usize::from(result.is_ok()));
        assert!(result.unwrap_err().is_cancelled());
        assert!(found <= names.len());
    }
}
