//! The sentence about a family that is not known: the nearest that is, what stands in the way, what still works.

use super::keys::Keys;
use super::{FAMILIES, Family, decoder};
use crate::error::Error;
use crate::spec::ModelSpec;
use serde_json::Value;
use std::path::Path;

/// What can be done with a model that cannot be run.
pub(super) const STILL: &str =
    "its weights can still be counted, quantized, merged, and their spectra and differences looked at";

/// About a config whose `model_type` is `kind`.
pub(super) fn unknown(kind: &str, config: &Value, path: &Path, has: Option<&dyn Fn(&str) -> bool>) -> Error {
    let raw = decoder(config);
    let architecture = config.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
    let named = architecture.map_or_else(String::new, |name| format!(" ({name})"));
    let tried = FAMILIES.iter().filter(|family| !family.architectures.is_empty()).filter_map(|family| {
        let keys = Keys::new(raw, config, path, has);
        let spec = (family.read)(&keys).ok()?;
        let missing = missing(&spec, has);
        let unread = keys.not_run();
        // Modules count most, then settings, then the name.
        let distance = (missing.len(), usize::from(unread.is_some()), usize::MAX - alike(kind, family));
        Some((distance, family, missing, unread))
    });
    let nearest = tried.min_by_key(|(distance, ..)| *distance);
    let Some((_, family, missing, unread)) = nearest else {
        return Error::file(
            path,
            format!("a model of type {kind}{named} is not known here, and no family that is has its sizes; {STILL}"),
        );
    };
    let way = match (missing.first(), unread) {
        (Some(module), _) => format!("it has no {module}"),
        (None, Some(key)) => key,
        (None, None) => "nobody has compared the two".to_owned(),
    };
    let near = family.model_type;
    Error::file(
        path,
        format!("a model of type {kind}{named} is not known here; the nearest that is is {near}, but {way}; {STILL}"),
    )
}

/// Modules and norms that the checkpoint does not have, without those of further blocks.
fn missing(spec: &ModelSpec, has: Option<&dyn Fn(&str) -> bool>) -> Vec<String> {
    let Some(has) = has else { return Vec::new() };
    let modules = spec.modules().filter(|module| module.layer.unwrap_or(0) == 0).map(|module| module.expert(0));
    let first = spec.blocks.first().into_iter().flat_map(|block| block.norms());
    let norms = first.chain(&spec.norm).filter(|norm| norm.weight).map(|norm| norm.name.clone());
    modules.chain(norms).filter(|name| !has(name)).collect()
}

/// Letters that two names begin with together.
fn alike(kind: &str, family: &Family) -> usize {
    kind.chars().zip(family.model_type.chars()).take_while(|(a, b)| a == b).count()
}
