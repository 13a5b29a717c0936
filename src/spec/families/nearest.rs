//! The sentence about a family that is not known: the nearest that is, what stands in the way, what still works.

use super::build::LAYERS;
use super::keys::Keys;
use super::{FAMILIES, Family, NESTED, decoder};
use crate::error::Error;
use crate::spec::ModelSpec;
use serde_json::Value;
use std::path::Path;

/// What can be done with a model that cannot be run.
pub(super) const STILL: &str = "its weights can still be counted, quantized and merged, their spectra and differences looked at, and adapters extracted from these";

/// About a config whose `model_type` is `kind`.
pub(super) fn unknown(kind: &str, config: &Value, path: &Path, has: Option<&dyn Fn(&str) -> bool>) -> Error {
    let config = &shortened(config);
    let raw = decoder(config);
    let architecture = config.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
    let named = architecture.map_or_else(String::new, |name| format!(" ({name})"));
    let tried = FAMILIES.iter().filter(|family| !family.architectures.is_empty()).filter_map(|family| {
        let keys = Keys::new(raw, config, path, has);
        let spec = (family.read)(&keys).ok()?;
        let (missing, all) = missing(&spec, has);
        let unread = keys.unread().map(|(key, found)| format!("{key} {found} is not read by it"));
        let distance = distance(kind, family, missing.len() as f64 / all as f64, unread.is_some());
        Some((distance, family, missing, unread))
    });
    let nearest = tried.min_by(|(one, ..), (other, ..)| one.total_cmp(other));
    let Some((_, family, missing, unread)) = nearest else {
        return Error::file(
            path,
            format!("a model of type {kind}{named} is not known here, and no family that is has its sizes; {STILL}"),
        );
    };
    let way = match (missing.first(), unread) {
        (Some(module), _) => format!("it has no {module}"),
        (None, Some(key)) => key,
        (None, None) => "what else differs is not known".to_owned(),
    };
    let near = family.model_type;
    Error::file(
        path,
        format!("a model of type {kind}{named} is not known here; the nearest that is is {near}, but {way}; {STILL}"),
    )
}

/// The config with no more blocks than models have: every family is tried on it, of whose blocks only the first is looked at.
fn shortened(config: &Value) -> Value {
    const ENOUGH: u64 = 256;
    let mut config = config.clone();
    let nested = NESTED.iter().find(|key| config.get(**key).is_some_and(Value::is_object));
    let part = match nested {
        Some(key) => &mut config[*key],
        None => &mut config,
    };
    for key in LAYERS {
        if part.get(key).and_then(Value::as_u64).is_some_and(|layers| layers > ENOUGH) {
            part[key] = ENOUGH.into();
        }
    }
    config
}

/// Modules and norms of the first block and around the blocks: those that the checkpoint does not have, and how many there are.
fn missing(spec: &ModelSpec, has: Option<&dyn Fn(&str) -> bool>) -> (Vec<String>, usize) {
    let modules = spec.modules().filter(|module| module.layer.unwrap_or(0) == 0).map(|module| module.expert(0));
    let first = spec.blocks.first().into_iter().flat_map(|block| block.norms());
    let norms = first
        .chain(&spec.norm)
        .filter(|norm| norm.weight)
        .flat_map(|norm| norm.tensors().map(|(name, _)| name).take(1));
    let all: Vec<String> = modules.chain(norms).collect();
    let count = all.len();
    (all.into_iter().filter(|name| has.is_some_and(|has| !has(name))).collect(), count.max(1))
}

/// How far a family is: the share of its modules that is missing, a key that it does not read, and half as much as all
/// modules for a name that has nothing in common.
fn distance(kind: &str, family: &Family, missing: f64, unread: bool) -> f64 {
    let alike = kind.chars().zip(family.model_type.chars()).take_while(|(a, b)| a == b).count();
    let share = alike as f64 / kind.chars().count().max(1) as f64;
    missing + if unread { 0.1 } else { 0.0 } + 0.5 * (1.0 - share)
}
