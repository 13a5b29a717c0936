use super::*;
use crate::plan::{Selection, Targets};

fn predicted(preset: &str, targets: Targets, r: usize, load: &Load) -> Memory {
    let layout = Layout::preset(preset).unwrap();
    let pairs = Pairs::uniform(&layout, &Selection::new(&layout, &targets).unwrap(), r);
    predict(&layout, &pairs, load).unwrap()
}

/// The quantized linears of LLaMA-7B and 65B: `N (4 + c)/8` with N 6,476,005,376 and 64,760,053,760, from the formulas of
/// the QLoRA paper (arXiv 2305.14314); 3.341 and 3.643 GB, 33.41 and 36.43 GB.
#[test]
fn four_bit_weights_of_llama() {
    for (id, linears, double, plain) in
        [("llama-7b", 6_476_005_376u64, 3.341e9, 3.643e9), ("llama-65b", 64_760_053_760, 33.41e9, 36.43e9)]
    {
        let layout = Layout::preset(id).unwrap();
        for (double_quant, expected) in [(true, double), (false, plain)] {
            let load = Load { scheme: Scheme { double_quant, ..Scheme::default() }, ..Load::default() };
            let memory = predicted(id, Targets::AllLinear, 64, &load);
            // Embedding and head in bf16, norms in f32.
            let rest: u64 = layout
                .weights
                .iter()
                .filter(|w| !w.linear)
                .map(|w| w.parameters * if w.d_in == 1 { 4 } else { 2 })
                .sum();
            let found = (memory.weights + memory.constants - rest) as f64;
            assert!((found / expected - 1.0).abs() < 2e-4, "{id} {double_quant}: {found}");
            assert_eq!(memory.weights, linears / 2 + rest);
        }
    }
}

#[test]
fn trained_values_have_gradients_and_two_moments() {
    let layout = Layout::preset("llama-7b").unwrap();
    let load = Load::default();
    let memory = predicted("llama-7b", Targets::AllLinear, 16, &load);
    let trainable = 16 * 2_498_560;
    assert_eq!((memory.adapters, memory.gradients, memory.optimizer), (4 * trainable, 4 * trainable, 8 * trainable));
    let full = Load { method: Method::Full, ..load };
    let memory = predicted("llama-7b", Targets::AllLinear, 16, &full);
    assert_eq!((memory.weights, memory.constants), (0, 0));
    assert_eq!(memory.trained(), 16 * layout.parameters);
    let eight = Load { optimizer: Optimizer::AdamW8bit, ..full };
    let less = predicted("llama-7b", Targets::AllLinear, 16, &eight);
    assert!((less.optimizer as f64 / layout.parameters as f64 - 2.03125).abs() < 1e-6);
    assert_eq!(less.total(), less.parts().iter().map(|part| part.bytes).sum::<u64>());
}

#[test]
fn checkpointing_keeps_the_inputs_of_the_blocks_alone() {
    let load = Load { batch: 1, seq: 256, ..Load::default() };
    let all = predicted("tinyllama-1.1b", Targets::AllLinear, 16, &load);
    let less = predicted("tinyllama-1.1b", Targets::AllLinear, 16, &Load { checkpointing: true, ..load });
    let tokens = 256;
    // Of every block at least q, k, v, what was attended, gate, up and the stream in the middle are no longer kept.
    let tape = tokens * 4 * (2048 + 2 * 256 + 2048 + 2048 + 2 * 5632);
    assert!(all.activations - less.activations > 20 * tape, "{} {}", all.activations, less.activations);
    assert_eq!(all.weights, less.weights);
}

#[test]
fn what_fits_is_the_last_that_fits() {
    let layout = Layout::preset("llama-3.1-8b").unwrap();
    let selection = Selection::new(&layout, &Targets::AllLinear).unwrap();
    let load = Load { batch: 1, seq: 512, checkpointing: true, ..Load::default() };
    let room = 12 << 30;
    let found = largest(&layout, &selection, 16, &load, room).unwrap();
    let need = |r, load: &Load| predict(&layout, &Pairs::uniform(&layout, &selection, r), load).unwrap().total();
    let (r, batch, seq) = (found.rank.unwrap(), found.batch.unwrap(), found.seq.unwrap());
    assert!(need(r, &load) <= room && need(r + 1, &load) > room, "rank {r}");
    assert!(
        need(16, &Load { batch, ..load }) <= room && need(16, &Load { batch: batch + 1, ..load }) > room,
        "batch {batch}"
    );
    assert!(need(16, &Load { seq, ..load }) <= room && need(16, &Load { seq: seq + 1, ..load }) > room, "seq {seq}");
    assert_eq!(largest(&layout, &selection, 16, &load, 1 << 30).unwrap(), Largest::default());
}

#[test]
fn what_was_not_looked_for_is_marked() {
    let number = |n: usize| n.to_string();
    let most = Largest { batch: Some(4096), seq: Some(1 << 20), ..Largest::default() };
    assert_eq!([most.sequences(number), most.context(number)], ["≥ 4096", "≥ 1048576"]);
    assert_eq!(Largest::marks([most].iter()), ["≥: larger ones are not looked for"]);
    let whole = Largest { batch: Some(7), seq: Some(256), whole: true, ..Largest::default() };
    assert_eq!([whole.sequences(number), whole.context(number)], ["7", "256 max"]);
    assert_eq!(Largest::marks([whole].iter()), ["max: as long as the model's config allows"]);
    assert!(Largest::marks([Largest::default()].iter()).is_empty());
}

#[test]
fn verdicts_leave_a_tenth() {
    assert_eq!(Verdict::of(90, 100), Verdict::Fits);
    assert_eq!(Verdict::of(91, 100), Verdict::Tight);
    assert_eq!(Verdict::of(101, 100), Verdict::DoesNot);
    assert!(GPUS.is_sorted_by_key(|gpu| gpu.gib));
}

#[test]
fn a_model_without_sizes_says_so() {
    let mut layout = Layout::preset("gpt2").unwrap();
    layout.spec = None;
    let error = predict(&layout, &Pairs::default(), &Load::default()).unwrap_err();
    assert!(error.to_string().contains("config.json"), "{error}");
    let layout = Layout::preset("gpt2").unwrap();
    let error = predict(&layout, &Pairs::default(), &Load { batch: 0, ..Load::default() }).unwrap_err();
    assert_eq!(error.to_string(), "batch 0; expected 1 or more");
}
