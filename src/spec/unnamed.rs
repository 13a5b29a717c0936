//! [`BlockSpec::unnamed`]: what a block is, whichever of a model's blocks it is.

use super::{AttentionSpec, BlockSpec, ExpertsSpec, FeedForward, Mixer, MlpSpec, ModuleSpec, NormSpec, RecurrenceSpec};

fn module(module: &mut ModuleSpec) {
    module.name.clear();
    module.layer = None;
    module.stack.iter_mut().for_each(String::clear);
}

fn norm(norm: &mut NormSpec) {
    norm.name.clear();
}

fn attention(spec: &mut AttentionSpec) {
    spec.projections.iter_mut().for_each(|part| module(&mut part.module));
    if let Some(latent) = &mut spec.latent {
        latent.q.iter_mut().for_each(|(down, between)| {
            module(down);
            norm(between);
        });
        [&mut latent.q_out, &mut latent.kv, &mut latent.kv_out].into_iter().for_each(module);
        norm(&mut latent.kv_norm);
    }
    spec.q_norm.iter_mut().chain(&mut spec.k_norm).chain(&mut spec.v_norm).for_each(norm);
    spec.gate.iter_mut().chain([&mut spec.o]).for_each(module);
    spec.sinks.iter_mut().for_each(String::clear);
}

fn recurrence(spec: &mut RecurrenceSpec) {
    spec.projections.iter_mut().map(|part| &mut part.module).chain([&mut spec.o]).for_each(module);
    spec.conv.names.iter_mut().chain(&mut spec.vectors).for_each(String::clear);
    spec.norm.iter_mut().for_each(|norm| norm.name.clear());
}

fn mlp(spec: &mut MlpSpec) {
    spec.up.iter_mut().map(|part| &mut part.module).chain([&mut spec.down]).for_each(module);
    spec.scalars.iter_mut().flatten().for_each(String::clear);
}

fn experts(spec: &mut ExpertsSpec) {
    module(&mut spec.router);
    mlp(&mut spec.mlp);
    if let Some(shared) = &mut spec.shared {
        mlp(&mut shared.mlp);
        shared.gate.iter_mut().for_each(module);
    }
    if let Some(norms) = &mut spec.norms {
        [&mut norms.router, &mut norms.input, &mut norms.output, &mut norms.shared].into_iter().for_each(norm);
    }
    spec.routing.bias.iter_mut().chain(&mut spec.routing.scales).for_each(String::clear);
    spec.peft.module.clear();
    spec.peft.router.clear();
}

impl BlockSpec {
    /// The same without names: equal for blocks that compute the same with weights of the same shapes.
    pub fn unnamed(&self) -> Self {
        let mut block = self.clone();
        let norms = [&mut block.norm_in, &mut block.norm_mixed, &mut block.norm_ffn, &mut block.norm_out];
        norms.into_iter().flatten().for_each(norm);
        match &mut block.mixer {
            Some(Mixer::Attention(spec)) => attention(spec),
            Some(Mixer::Recurrence(spec)) => recurrence(spec),
            Some(Mixer::Both(one, other)) => {
                attention(one);
                recurrence(other);
            }
            None => {}
        }
        match &mut block.ffn {
            Some(FeedForward::Dense(spec)) => mlp(spec),
            Some(FeedForward::Experts(spec)) => experts(spec),
            None => {}
        }
        if let Some(part) = &mut block.per_layer {
            [&mut part.gate, &mut part.projection].into_iter().for_each(module);
            norm(&mut part.norm);
        }
        block.scalar.iter_mut().for_each(String::clear);
        block
    }
}
