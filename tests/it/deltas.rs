//! ΔW of real pairs and adapters. Numbers are those of `tests/fixtures/README.md` unless a test names another program.

use crate::support::{adapter, f32s, fixture, fixture_json, model, raw, zeros};
use rankscope::adapter::Adapter;
use rankscope::checkpoint::{Checkpoint, Role};
use rankscope::delta::{DeltaSet, DeltaWeight, Source};
use rankscope::error::{Error, Result};
use rankscope::progress::Progress;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

fn open(path: &Path) -> Arc<Checkpoint> {
    Arc::new(Checkpoint::open(path).unwrap())
}

fn tuned_set() -> DeltaSet {
    DeltaSet::new(open(&fixture("llama")), Source::Tuned(open(&fixture("llama-tuned")))).unwrap()
}

/// Every ΔW has the Frobenius norm that numpy's singular values have, and one of them for every module it lists.
fn agrees_with_numpy(set: &DeltaSet, spectra: &Value) {
    for (tensor, sigma) in spectra.as_object().unwrap() {
        let entry = set.entry(tensor.strip_suffix(".weight").unwrap()).unwrap();
        let sigma: Vec<f64> = sigma.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        let expected = sigma.iter().map(|x| x * x).sum::<f64>().sqrt();
        let delta = set.load(entry, &()).unwrap();
        assert_eq!(delta.shape(), entry.shape);
        assert_eq!(delta.shape().into_iter().min(), Some(sigma.len()), "{tensor}");
        let found = delta.dense(&()).unwrap().frobenius();
        assert!((found - expected).abs() <= 1e-6 * expected, "{tensor}: {found} instead of {expected}");
    }
}

#[test]
fn fixtures_agree_with_numpy() {
    let spectra = fixture_json("spectra.json");
    agrees_with_numpy(&tuned_set(), &spectra["llama-tuned"]);
    for base in ["llama", "gpt2", "gemma3"] {
        let adapter = Arc::new(Adapter::open(&fixture(&format!("{base}-adapter"))).unwrap());
        let set = DeltaSet::new(open(&fixture(base)), Source::Adapter(adapter)).unwrap();
        set.check_adapter().unwrap();
        let spectra = &spectra[format!("{base}-adapter")];
        assert_eq!(set.entries().len(), spectra.as_object().unwrap().len());
        agrees_with_numpy(&set, spectra);
    }
}

#[test]
fn a_pair_has_every_matrix() {
    let set = tuned_set();
    assert_eq!(set.entries().len(), 16, "7 in each of 2 blocks, the embedding, the head");
    assert_eq!(set.entries().iter().filter(|entry| entry.linear).count(), 14);
    assert!(set.entries().iter().all(|entry| entry.problem.is_none() && !entry.misfit));
    let embedding = &set.entries()[0];
    assert_eq!(
        (embedding.name.as_str(), embedding.role, embedding.linear),
        ("model.embed_tokens", Role::Embedding, false)
    );
    let DeltaWeight::Dense(unchanged) = set.load(embedding, &()).unwrap() else { panic!("a pair is dense") };
    assert_eq!(unchanged.matrix.frobenius(), 0.0, "only linear layers were changed");
    // Python on the stored bytes: base in bf16, tuned in f32; ulps by math.frexp.
    for (name, norm, noise, at65) in [
        ("model.layers.0.self_attn.q_proj", 0.44454477669704245, 0.00024831799413579144, 0.0029499828815460205),
        ("model.layers.1.mlp.down_proj", 0.45465114122186207, 0.00015797452701645266, 0.0021121203899383545),
    ] {
        let DeltaWeight::Dense(delta) = set.load(set.entry(name).unwrap(), &()).unwrap() else {
            panic!("a pair is dense")
        };
        assert!((delta.matrix.frobenius() / norm - 1.0).abs() < 1e-6);
        assert!((delta.rounding_std.unwrap() / noise - 1.0).abs() < 1e-9);
        assert_eq!(delta.matrix.data()[65], at65 as f32);
        assert_eq!(delta.epsilon, f64::from(f32::EPSILON), "of the tuned weight's type");
    }
}

#[test]
fn a_weight_is_its_own_delta() {
    let llama = open(&fixture("llama"));
    let set = DeltaSet::new(Arc::clone(&llama), Source::Weight).unwrap();
    assert_eq!(set.entries().len(), 16);
    let entry = set.entry("model.layers.0.mlp.up_proj").unwrap();
    let DeltaWeight::Dense(delta) = set.load(entry, &()).unwrap() else { panic!("a weight is dense") };
    assert_eq!(*delta.matrix, llama.matrix(llama.module(&entry.name).unwrap(), &()).unwrap());
    assert_eq!((delta.epsilon, delta.rounding_std), (0.0078125, None));
    // A 4-bit weight has the ε of what its codes stand for.
    let four_bit = DeltaSet::new(open(&fixture("llama-bnb4")), Source::Weight).unwrap();
    assert_eq!(four_bit.load(&four_bit.entries()[0], &()).unwrap().epsilon(), f64::from(f32::EPSILON));
}

#[test]
fn a_four_bit_base_has_no_rounding_noise() {
    let set = DeltaSet::new(open(&fixture("llama-bnb4")), Source::Tuned(open(&fixture("llama")))).unwrap();
    let fits: Vec<_> = set.entries().iter().filter(|entry| entry.problem.is_none()).collect();
    assert_eq!((fits.len(), set.misfits().count()), (7, 9), "the fixture holds one block");
    let DeltaWeight::Dense(delta) = set.load(fits[0], &()).unwrap() else { panic!("a pair is dense") };
    assert_eq!(delta.rounding_std, None);
    assert!(delta.matrix.frobenius() > 0.0);
}

#[test]
fn an_adapter_stays_two_factors() {
    let adapter = Arc::new(Adapter::open(&fixture("gpt2-adapter")).unwrap());
    let set = DeltaSet::new(open(&fixture("gpt2")), Source::Adapter(adapter)).unwrap();
    let entry = set.entry("transformer.h.0.mlp.c_fc").unwrap();
    assert_eq!((entry.shape, entry.role, entry.layer), ([256, 64], Role::Up, Some(0)));
    let DeltaWeight::LowRank(factors) = set.load(entry, &()).unwrap() else { panic!("an adapter is factors") };
    assert_eq!((factors.b.shape(), factors.a.shape(), factors.scaling), ([256, 4], [4, 64], 4.0));
    let names: Vec<_> = set.entries().iter().take(4).map(|entry| entry.name.rsplit_once('.').unwrap().1).collect();
    assert_eq!(names, ["c_attn", "c_proj", "c_fc", "c_proj"], "in the base's order");
}

/// GPT-2's stored matrices are `[in, out]`; their difference reads `[out, in]`.
#[test]
fn conv1d_pairs_are_turned() {
    let config = json!({"model_type": "gpt2"});
    let pair = |values: &[f32]| model(&config, &[f32s("transformer.h.0.mlp.c_fc.weight", &[2, 3], values)]);
    let (base, tuned) = (pair(&[0.0; 6]), pair(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let set = DeltaSet::new(open(base.path()), Source::Tuned(open(tuned.path()))).unwrap();
    let delta = set.load(&set.entries()[0], &()).unwrap();
    assert_eq!(delta.shape(), [3, 2]);
    assert_eq!(delta.dense(&()).unwrap().data(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
}

#[test]
fn names_may_lack_the_wrapper() {
    let with = model(
        &Value::Null,
        &[zeros("model.layers.0.self_attn.q_proj.weight", &[2, 2]), zeros("lm_head.weight", &[2, 2])],
    );
    let without = model(
        &Value::Null,
        &[f32s("layers.0.self_attn.q_proj.weight", &[2, 2], &[1.0; 4]), zeros("other.weight", &[2, 2])],
    );
    let set = DeltaSet::new(open(with.path()), Source::Tuned(open(without.path()))).unwrap();
    let q = set.entry("model.layers.0.self_attn.q_proj").unwrap();
    assert_eq!(set.load(q, &()).unwrap().dense(&()).unwrap().frobenius(), 2.0);
    let problems: Vec<_> = set.misfits().map(|entry| (entry.name.as_str(), entry.problem.clone().unwrap())).collect();
    assert_eq!(problems.len(), 2);
    assert_eq!(problems[0].0, "lm_head");
    assert!(problems[0].1.contains("has no such weight, expected one of [2, 2]"), "{}", problems[0].1);
    assert_eq!(problems[1].0, "other");
}

#[test]
fn a_tied_head_may_be_left_out() {
    let config = json!({"model_type": "llama", "tie_word_embeddings": true});
    let embedding = || zeros("model.embed_tokens.weight", &[4, 2]);
    let short = model(&config, &[embedding()]);
    let long = model(&config, &[embedding(), zeros("lm_head.weight", &[4, 2])]);
    for (base, tuned) in [(&short, &long), (&long, &short)] {
        let set = DeltaSet::new(open(base.path()), Source::Tuned(open(tuned.path()))).unwrap();
        assert_eq!(set.entries().len(), 1);
        assert_eq!(set.misfits().count(), 0);
    }
}

#[test]
fn an_embeddings_adapter_fits_its_base() {
    let base = model(&Value::Null, &[zeros("model.embed_tokens.weight", &[3, 2])]);
    let embedding = |vocabulary: usize| {
        adapter(
            &json!({"r": 1, "lora_alpha": 2}),
            &[
                f32s("base_model.model.model.embed_tokens.lora_embedding_A", &[1, vocabulary], &vec![1.0; vocabulary]),
                f32s("base_model.model.model.embed_tokens.lora_embedding_B", &[2, 1], &[10.0, -1.0]),
            ],
        )
    };
    let fits = embedding(3);
    let set = DeltaSet::new(open(base.path()), Source::Adapter(Arc::new(Adapter::open(fits.path()).unwrap()))).unwrap();
    let delta = set.load(&set.entries()[0], &()).unwrap();
    assert_eq!(delta.dense(&()).unwrap().data(), [20.0, -2.0, 20.0, -2.0, 20.0, -2.0]);
    let larger = embedding(5);
    let error =
        DeltaSet::new(open(base.path()), Source::Adapter(Arc::new(Adapter::open(larger.path()).unwrap()))).unwrap_err();
    assert!(error.to_string().contains("found vocabulary 5, expected 3"), "{error}");
}

/// A pair of bf16 weights that differ in their last bit: the noise is what the formula says, and a zero ΔW is no error.
#[test]
fn rounding_noise_by_hand() {
    let bf16 = |bits: [u16; 2]| raw("a.weight", "BF16", &[1, 2], &bits.map(u16::to_le_bytes).concat());
    let base = model(&Value::Null, &[bf16([0x3f80, 0x4000])]); // 1 and 2: ulps 2^-7 and 2^-6
    let tuned = model(&Value::Null, &[bf16([0x3f81, 0x3fff])]); // 1 + 2^-7 and 2 - 2^-7: ulps 2^-7
    let load = |base: &Path, tuned: &Path| {
        let set = DeltaSet::new(open(base), Source::Tuned(open(tuned))).unwrap();
        match set.load(&set.entries()[0], &()).unwrap() {
            DeltaWeight::Dense(delta) => delta,
            DeltaWeight::LowRank(_) => panic!("a pair is dense"),
        }
    };
    let delta = load(base.path(), tuned.path());
    assert_eq!(delta.matrix.data(), [0.0078125, -0.0078125]);
    let u = 2f64.powi(-14); // the square of 2^-7
    assert!((delta.rounding_std.unwrap() - ((u + u + 4.0 * u + u) / 2.0 / 12.0).sqrt()).abs() < 1e-15);
    assert_eq!(delta.epsilon, 0.0078125);
    assert_eq!(load(base.path(), base.path()).matrix.frobenius(), 0.0);
}

/// Counts reports, and stops at one of them.
struct Watch {
    seen: Mutex<Vec<(u64, u64)>>,
    stop: usize,
}

impl Progress for Watch {
    fn step(&self, done: u64, total: u64) -> Result<()> {
        let mut seen = self.seen.lock().unwrap();
        seen.push((done, total));
        if seen.len() == self.stop { Err(Error::Cancelled) } else { Ok(()) }
    }
}

#[test]
fn a_large_difference_is_streamed_and_can_be_cancelled() {
    let (rows, cols) = (2500, 2001);
    let values = |scale: f32| (0..rows * cols).map(move |i| (i % 1000) as f32 * scale).collect::<Vec<_>>();
    let base = model(&Value::Null, &[f32s("a.weight", &[rows, cols], &values(1.0))]);
    let tuned = model(&Value::Null, &[f32s("a.weight", &[rows, cols], &values(1.5))]);
    let set = DeltaSet::new(open(base.path()), Source::Tuned(open(tuned.path()))).unwrap();
    let watch = |stop| Watch { seen: Mutex::default(), stop };
    let whole = watch(usize::MAX);
    let delta = set.load(&set.entries()[0], &whole).unwrap();
    assert!(delta.dense(&()).unwrap().data().iter().enumerate().all(|(i, &x)| x == (i % 1000) as f32 * 0.5));
    let seen = whole.seen.into_inner().unwrap();
    assert!(seen.len() > 2 && seen.is_sorted() && seen.last() == Some(&(2500, 2500)), "{seen:?}");
    for stop in 1..=seen.len() {
        assert!(set.load(&set.entries()[0], &watch(stop)).unwrap_err().is_cancelled());
    }
}

/// With `RANKSCOPE_REFERENCE` naming a folder of many architectures, as the fixtures are made: all pairs and adapters.
#[test]
fn every_pair_and_adapter_of_the_reference() {
    let Some(folder) = std::env::var_os("RANKSCOPE_REFERENCE").map(PathBuf::from) else {
        eprintln!("skipped: RANKSCOPE_REFERENCE is not set");
        return;
    };
    let spectra: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("spectra.json")).unwrap()).unwrap();
    for (name, spectra) in spectra.as_object().unwrap() {
        let (base, kind) = name.rsplit_once('-').unwrap();
        let source = match kind {
            "tuned" => Source::Tuned(open(&folder.join(name))),
            _ => Source::Adapter(Arc::new(Adapter::open(&folder.join(name)).unwrap())),
        };
        let set = DeltaSet::new(open(&folder.join(base)), source).unwrap();
        assert_eq!(set.misfits().count(), 0, "{name}");
        agrees_with_numpy(&set, spectra);
        if kind == "adapter" {
            assert_eq!(set.entries().len(), spectra.as_object().unwrap().len(), "{name}");
        }
    }
    assert!(spectra.as_object().unwrap().len() >= 20);
}
