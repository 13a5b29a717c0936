//! Blocks × projections: where the modules of a model stand on a map.

use crate::delta::DeltaSet;

use super::names::{Block, Stacks};

/// Names of the blocks and of the projections, and by block and projection the place among the entries.
pub type Places = (Vec<String>, Vec<String>, Vec<Option<usize>>);

/// Blocks × projections of a model's modules.
pub fn lay_out(delta: &DeltaSet) -> Places {
    let entries = delta.entries();
    let stacks = Stacks::of(entries);
    let mut layers: Vec<Block> = entries.iter().filter_map(|entry| stacks.block(entry)).collect();
    layers.sort_unstable();
    layers.dedup();
    let mut projections: Vec<String> = Vec::new();
    let mut found = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        let Some(block) = stacks.block(entry) else { continue };
        let leaf = leaf(&entry.name, block.1);
        let p = projections.iter().position(|known| known == leaf).unwrap_or_else(|| {
            projections.push(leaf.to_owned());
            projections.len() - 1
        });
        if let Ok(b) = layers.binary_search(&block) {
            found.push((b, p, i));
        }
    }
    let mut places = vec![None; layers.len() * projections.len()];
    for (b, p, i) in found {
        places[b * projections.len() + p] = Some(i);
    }
    (layers.into_iter().map(|block| stacks.title(block)).collect(), projections, places)
}

/// What stands behind the block's number: `q_proj` of `model.layers.3.self_attn.q_proj`; more where names are nested deeper.
fn leaf(name: &str, layer: usize) -> &str {
    let number = format!(".{layer}.");
    let rest = name.find(&number).map_or(name, |at| &name[at + number.len()..]);
    match rest.split_once('.') {
        Some((_, leaf)) if !leaf.is_empty() => leaf,
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_tell_projections_apart() {
        assert_eq!(leaf("model.layers.3.self_attn.q_proj", 3), "q_proj");
        assert_eq!(leaf("transformer.h.0.attn.c_proj", 0), "c_proj");
        assert_eq!(leaf("model.layers.1.mlp.experts.0.up_proj", 1), "experts.0.up_proj");
        assert_eq!(leaf("blocks.2.fc", 2), "fc");
    }
}
