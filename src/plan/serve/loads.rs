//! [`Unloaded`]: which pairs of an adapter PEFT does not put where they belong, beside transformers' class of its base.
//!
//! transformers 5 has the experts of a block, and most routers, as parameters. PEFT 0.21.2 adapts these where `target_parameters` name
//! them; `target_modules` that mean them are refused or, in families whose experts it converts from older adapters, rewritten: every
//! `gate`, `gate_proj`, `up_proj` and `down_proj` then is a router or an expert. Measured with peft 0.21.2 and transformers 5.24.0.

use crate::adapter::{Adapter, LoraLayer};
use crate::checkpoint::{Checkpoint, NameMap, expert_of};
use crate::spec::TAKEN_FOR_EXPERTS;

/// Why a pair is not where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unloaded {
    /// A router that is no linear layer of the class.
    Parameter,
    /// The same, and the class has another name for it.
    Unnamed,
    /// A router whose rank PEFT looks for under another name.
    Rank,
    /// A router whose α PEFT looks for under another name.
    Alpha,
    /// An MLP that is taken for the experts, which then do not fit.
    Mixed,
    /// An MLP that is taken for the experts, whose pairs are left out.
    Dropped,
    /// A layer of Mamba that PEFT refuses.
    Mamba,
}

impl Unloaded {
    /// The layers of an adapter that this is true of.
    pub(super) fn layers<'a>(self, adapter: &'a Adapter, base: &Checkpoint) -> Vec<&'a str> {
        all(adapter, base).into_iter().filter(|(_, why)| *why == self).map(|(layer, _)| layer.module.as_str()).collect()
    }
}

/// Every layer that is not loaded, and why.
fn all<'a>(adapter: &'a Adapter, base: &Checkpoint) -> Vec<(&'a LoraLayer, Unloaded)> {
    let Ok(spec) = base.spec() else { return Vec::new() };
    let (peft, modules) = (spec.peft_names(), base.modules());
    let names = NameMap::new(modules.iter().map(|module| module.name.as_str()));
    let converted = spec.experts().any(|experts| experts.peft.converted);
    let config = &adapter.config;
    let one = |layer: &LoraLayer| {
        let by_module = layer.experts.is_none() && !config.is_parameter(&layer.module);
        let file = names.find(&layer.module).filter(|_| by_module).map(|at| modules[at].name.as_str())?;
        if spec.refused_by_peft(leaf(file)) {
            return Some(Unloaded::Mamba);
        }
        if !peft.is_parameter(file) {
            return None;
        }
        let class = peft.class(file);
        let router = spec.experts().any(|experts| experts.router.name == file);
        match (router, converted) {
            (true, true) => {
                let weight = format!("{class}.weight");
                let r = config.rank_pattern.get(&weight).copied().unwrap_or(config.r);
                let alpha = config.alpha_pattern.get(&weight).copied().unwrap_or(config.lora_alpha);
                match r == layer.r {
                    true => (alpha != layer.lora_alpha).then_some(Unloaded::Alpha),
                    false => Some(Unloaded::Rank),
                }
            }
            (true, false) if layer.module == class => Some(Unloaded::Parameter),
            (true, false) => Some(Unloaded::Unnamed),
            (false, _) => Some(if fits(adapter) { Unloaded::Dropped } else { Unloaded::Mixed }),
        }
    };
    adapter.layers.iter().filter_map(|layer| Some((layer, one(layer)?))).collect()
}

/// Whether an adapter whose target modules PEFT takes for experts loads at all: gate and up are named both or not at all, and the pair
/// of both is of the rank that PEFT gives it then, twice `r`.
fn fits(adapter: &Adapter) -> bool {
    let config = &adapter.config;
    let by_module = |layer: &&LoraLayer| layer.experts.is_none() && !config.is_parameter(&layer.module);
    let named = |name: &str| adapter.layers.iter().filter(by_module).any(|layer| leaf(&layer.module) == name);
    let [gate, up, _] = TAKEN_FOR_EXPERTS.map(named);
    let both = gate && up;
    let expected = |module: &str| match config.rank_pattern.get(module) {
        Some(r) => *r,
        None => 2 * config.r,
    };
    let alike = |layer: &LoraLayer| layer.r == expected(&layer.module);
    let stacks =
        || adapter.layers.iter().filter(|layer| layer.experts.is_some() && leaf(&layer.module) == "gate_up_proj");
    // Experts apart, of older adapters, are joined to what is expected.
    let apart = adapter.layers.iter().any(|layer| expert_of(&layer.module).is_some());
    gate == up && (!both || apart || stacks().all(alike))
}

fn leaf(module: &str) -> &str {
    module.rsplit('.').next().unwrap_or(module)
}
