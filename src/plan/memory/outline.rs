//! [`Outline`]: a model as small as its memory can still be told from: one expert for all that are alike, and few of blocks that
//! come again and again.
//!
//! Blocks that are there once more add the same to every part of a step, but for the sizes that buffers come in. So a step is gone
//! through with few of a run's blocks and with twice as many, and what those add is taken as often as they were left out.

use super::{Load, Method, Pairs};
use crate::checkpoint::Dtype;
use crate::error::Result;
use crate::model::{Decoder, Kept, Linear, Rank};
use crate::plan::layout::Layout;
use crate::spec::{BlockSpec, ExpertsSpec, ModelSpec, ModuleSpec};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Blocks of a run that stay at least. With few blocks a step needs the most where one of them is computed, with many where all of
/// them are kept: what one more adds is seen with many alone. No published model has more.
const STAY: usize = 128;
/// No period has more blocks.
const LONGEST: usize = 12;
/// Of more kinds of blocks than this there is no order.
const KINDS: usize = 24;

/// What a linear layer has beside its shape.
type Beside = (Kept, Option<usize>);

/// A model that is described only in part.
pub(super) struct Outline<'a> {
    dtypes: HashMap<&'a str, Dtype>,
    ranks: HashMap<&'a str, usize>,
    load: Load,
    /// With periods left out; where some are, then with fewer.
    specs: Vec<Arc<ModelSpec>>,
    /// Blocks left out of the first, as a multiple of what the second has more.
    left_out: f64,
}

impl<'a> Outline<'a> {
    pub(super) fn new(spec: &Arc<ModelSpec>, layout: &'a Layout, pairs: &Pairs, load: &Load) -> Self {
        let full = load.method == Method::Full;
        let places = pairs.0.iter().filter_map(|&(place, r)| Some((layout.weights.get(place)?.name.as_str(), r)));
        let mut outline = Self {
            dtypes: layout.weights.iter().map(|weight| (weight.name.as_str(), weight.dtype)).collect(),
            ranks: if full { HashMap::new() } else { places.collect() },
            load: *load,
            specs: vec![Arc::clone(spec)],
            left_out: 0.0,
        };
        if let Some((blocks, periods)) = outline.between(spec) {
            let period = blocks.len() / periods;
            let without = |blocks: Range<usize>| {
                let mut spec = ModelSpec::clone(spec);
                spec.blocks.drain(blocks);
                Arc::new(spec)
            };
            let more = STAY.div_ceil(period) * period;
            outline.specs = vec![without(blocks.clone()), without(blocks.start + more..blocks.end)];
            outline.left_out = blocks.len() as f64 / more as f64;
        }
        outline
    }

    fn kept(&self, module: &str, spec: &ModuleSpec) -> Kept {
        let dtype = self.dtypes.get(module).copied().unwrap_or(Dtype::BF16);
        let four_bit = matches!(dtype, Dtype::NF4 | Dtype::FP4) || self.load.method == Method::Qlora;
        match (self.load.method, spec.goes_to_four_bits() && four_bit) {
            (Method::Full, _) => Kept::Trained,
            (_, true) => Kept::FourBit(self.load.scheme),
            (_, false) => Kept::Stored(dtype),
        }
    }

    fn beside(&self, module: &str, spec: &ModuleSpec) -> Beside {
        (self.kept(module, spec), self.ranks.get(module).copied())
    }

    /// What all copies of a module have, where they have the same.
    fn of_copies(&self, module: &ModuleSpec) -> Option<Beside> {
        let mut all = module.names().map(|name| self.beside(&name, module));
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    }

    /// What all linear layers of a block have; `None` where experts differ.
    fn of_block(&self, block: &BlockSpec) -> Option<Vec<Beside>> {
        block.modules().map(|module| self.of_copies(module)).collect()
    }

    /// Experts that are one like the other.
    fn alike(&self, experts: &ExpertsSpec) -> bool {
        experts.mlp.up.iter().map(|part| &part.module).chain([&experts.mlp.down]).all(|m| self.of_copies(m).is_some())
    }

    /// Blocks that can be left out, and how many periods they are.
    fn between(&self, spec: &ModelSpec) -> Option<(Range<usize>, usize)> {
        let apart = |block: &BlockSpec| {
            let shares = block.attention().is_some_and(|of| of.shares_keys || of.reads_keys_of.is_some());
            !shares && block.per_layer.is_none()
        };
        if spec.blocks.len() <= 2 * STAY || spec.per_layer.is_some() || !spec.blocks.iter().all(apart) {
            return None;
        }
        let mut kinds: Vec<(BlockSpec, Vec<Beside>)> = Vec::new();
        let mut order = Vec::with_capacity(spec.blocks.len());
        for block in &spec.blocks {
            let kind = (block.unnamed(), self.of_block(block)?);
            let known = kinds.iter().position(|known| *known == kind);
            order.push(known.unwrap_or(kinds.len()));
            if known.is_none() {
                kinds.push(kind);
            }
            if kinds.len() > KINDS {
                return None;
            }
        }
        let runs = (1..=LONGEST.min(order.len() / 2)).filter_map(|period| {
            let run = longest(&order, period);
            let stay = STAY.div_ceil(period);
            let periods = (run.len() / period).checked_sub(stay).filter(|periods| *periods > stay)?;
            let first = run.start + stay / 2 * period;
            Some((first..first + periods * period, periods))
        });
        runs.max_by_key(|(blocks, periods)| (blocks.len(), *periods))
    }

    fn described(
        &self,
        spec: &Arc<ModelSpec>,
        r: Option<usize>,
        alike: &dyn Fn(&ExpertsSpec) -> bool,
    ) -> Result<Decoder> {
        let kept = |module: &ModuleSpec| self.kept(&module.name, module);
        // Gate and up of an expert have one pair of both ranks.
        let rank = |linear: &Linear| {
            let of = |name: &str| self.ranks.get(name).map(|own| r.unwrap_or(*own));
            let parts = linear.parts.iter().map(|(name, _)| of(name));
            let own = of(&linear.module);
            let r = if linear.parts.is_empty() { own } else { own.or_else(|| parts.sum()) };
            r.map(|r| Rank { r, dora: self.load.dora })
        };
        Decoder::described(spec, &kept, &rank, alike)
    }

    /// Decoders without values; `r` in place of every rank where it is there.
    pub(super) fn decoders(&self, r: Option<usize>) -> Result<Vec<Decoder>> {
        self.specs.iter().map(|spec| self.described(spec, r, &|experts| self.alike(experts))).collect()
    }

    /// How often the second decoder's difference to the first is left out of the first.
    pub(super) fn left_out(&self) -> f64 {
        self.left_out
    }
}

/// The longest run of blocks each of which is like the one that is `period` before it.
fn longest(order: &[usize], period: usize) -> Range<usize> {
    let (mut best, mut begin) = (0..0, 0);
    for at in period..order.len() {
        if order[at] != order[at - period] {
            begin = at + 1 - period;
        } else if at + 1 - begin > best.len() {
            best = begin..at + 1;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::super::{Load, Method, Pairs, Step};
    use super::{Outline, longest};
    use crate::model::ComputeDtype;
    use crate::plan::presets::of_sizes;
    use crate::plan::{Layout, Selection, Targets};

    /// What is left out is known from what stays: to 2 %, of blocks in every order, on the processor and on a GPU.
    #[test]
    fn a_part_tells_of_the_whole() {
        let mixture = r#""num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 16"#;
        let hybrid = r#""head_dim": 16, "linear_key_head_dim": 16, "linear_value_head_dim": 16"#;
        let models = [
            of_sizes("dense", "llama", [16, 24, 280, 1, 1, 32], ""),
            of_sizes("mixture", "qwen3_moe", [64, 96, 14, 4, 2, 128], mixture),
            of_sizes("hybrid", "qwen3_5_text", [16, 24, 300, 1, 1, 32], hybrid),
        ];
        for layout in &models {
            let selection = Selection::new(layout, &Targets::AllLinear).unwrap();
            let pairs = Pairs::uniform(layout, &selection, 4);
            for (method, checkpointing) in [(Method::Qlora, false), (Method::Lora, true)] {
                let load = Load { method, checkpointing, batch: 3, seq: 40, ..Load::default() };
                let spec = layout.spec.as_ref().unwrap();
                let outline = Outline::new(spec, layout, &pairs, &load);
                assert_eq!(outline.left_out() > 0.0, layout.layers() > 2 * super::STAY, "{}", layout.name);
                let part = Step::of(&outline, None).unwrap();
                let whole = Step::exact(outline.described(spec, None, &|_| false).unwrap());
                let what = format!("{} {method:?} {checkpointing}", layout.name);
                let (found, expected) = (part.buffers(&load).unwrap(), whole.buffers(&load).unwrap());
                let near = |a: u64, b: u64| a.abs_diff(b) as f64 <= 0.02 * b as f64;
                assert!(near(found.activations, expected.activations), "{what}: {found:?} {expected:?}");
                assert_eq!((found.logits, found.workspace), (expected.logits, expected.workspace), "{what}");
                let (found, expected) = (part.operations(&load).unwrap(), whole.operations(&load).unwrap());
                assert!((found / expected - 1.0).abs() < 0.01, "{what}: {found} operations, {expected}");
                let formats = ComputeDtype::Bf16.into();
                let (found, expected) = (part.on_gpu(&load, formats).unwrap(), whole.on_gpu(&load, formats).unwrap());
                assert!(near(found.peak, expected.peak), "{what} on a GPU: {found:?} {expected:?}");
            }
        }
    }

    /// Thousands of blocks and tens of thousands of experts are no more work than a few.
    #[test]
    fn blocks_that_are_there_again_are_not_gone_through_again() {
        let layout = Layout::preset("qwen3-30b-a3b").unwrap();
        let selection = Selection::new(&layout, &Targets::AllLinear).unwrap();
        let load = Load::default();
        let outline =
            Outline::new(layout.spec.as_ref().unwrap(), &layout, &Pairs::uniform(&layout, &selection, 16), &load);
        let linears: usize = outline.decoders(None).unwrap().iter().map(|decoder| decoder.linears().count()).sum();
        assert_eq!(linears, 48 * (4 + 1 + 2));
    }

    #[test]
    fn runs_are_found() {
        assert_eq!(longest(&[0, 1, 1, 1, 1, 2], 1), 1..5);
        assert_eq!(longest(&[7, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0], 4), 1..14);
        assert_eq!(longest(&[0, 1, 2, 3], 1), 0..0);
    }
}
