//! [`Found`]: which files a path stands for. A file, a hub folder, an adapter's folder, or the top of a hub cache folder.

use super::json::{self, Keyed, Unique, sentence};
use crate::error::{Error, Result};
use serde::de::{IgnoredAny, MapAccess};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// The files of one checkpoint.
pub(super) struct Found {
    /// The folder, or the one file that was asked for.
    pub(super) path: PathBuf,
    /// The files with weights.
    pub(super) shards: Vec<PathBuf>,
    /// Tensor names by shard, where there is an index.
    pub(super) index: Option<Index>,
    /// `config.json`, parsed.
    pub(super) config: Option<serde_json::Value>,
    /// `adapter_config.json`, parsed, when the weights are an adapter's.
    pub(super) adapter_config: Option<serde_json::Value>,
}

/// `model.safetensors.index.json`: which tensor is in which shard.
pub(super) struct Index {
    /// The index file.
    pub(super) path: PathBuf,
    /// Tensor name and position in [`Found::shards`].
    pub(super) tensors: Vec<(String, usize)>,
}

/// Files beside config and weights that a model needs: tokenizer, templates, settings.
pub const BESIDE: [&str; 13] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
];
const CONFIG: &str = "config.json";
const ADAPTER_CONFIG: &str = "adapter_config.json";
const MODEL: &str = "model.safetensors";
/// Weights of adapters: PEFT's, older ones by torch.save, mlx-lm's.
const ADAPTERS: [&str; 3] = ["adapter_model.safetensors", "adapter_model.bin", "adapters.safetensors"];
/// What mlx-lm saves during a run, behind the number of the step.
const NUMBERED: &str = "_adapters.safetensors";
/// A model by torch.save, in one file; the ending of the index where it is in several.
const PICKLE: &str = "pytorch_model.bin";
const PICKLE_INDEX: &str = ".bin.index.json";
/// More parts than any split file has.
const MOST_PARTS: usize = 1000;
const INDEX_END: &str = ".safetensors.index.json";

impl Found {
    /// Looks at the path, reads its small JSON files, opens no weights.
    pub(super) fn at(path: &Path) -> Result<Self> {
        let about = std::fs::metadata(path).map_err(|e| Error::read(path, "open", &e))?;
        if about.is_dir() {
            return Self::folder(&snapshot(path)?, false);
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if name == CONFIG {
            Self::folder(folder, false)
        } else if name == ADAPTER_CONFIG {
            Self::folder(folder, true)
        } else if name.ends_with(INDEX_END) || name.ends_with(PICKLE_INDEX) {
            Self::sharded(folder, path)
        } else if name.ends_with(".gguf") {
            Self::gguf(folder, path, &name)
        } else if name.ends_with(".safetensors") || is_pickle(&name) {
            Self::file(folder, path)
        } else {
            Err(Error::file(
                path,
                "found a file of another kind, expected a .safetensors or .gguf file or a folder that holds one",
            ))
        }
    }

    /// One file, with the configs that lie beside it as long as they can be read.
    fn file(folder: &Path, path: &Path) -> Result<Self> {
        let beside = |name: &str| {
            let config = folder.join(name);
            json::object(&config).inspect_err(|e| log::debug!("left out: {e}")).ok()
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let adapter = ADAPTERS.iter().any(|adapter| name == *adapter) || name.ends_with(NUMBERED);
        Ok(Self {
            path: path.to_path_buf(),
            shards: vec![path.to_path_buf()],
            index: None,
            config: if adapter { None } else { beside(CONFIG) },
            adapter_config: if adapter { beside(ADAPTER_CONFIG) } else { None },
        })
    }

    /// A GGUF file; of one that was split (`…-00001-of-00003.gguf`) all its parts.
    fn gguf(folder: &Path, path: &Path, name: &str) -> Result<Self> {
        let split = name.strip_suffix(".gguf").and_then(|stem| stem.rsplit_once("-of-"));
        let split =
            split.and_then(|(before, total)| Some((before.rsplit_once('-')?.0, total, total.parse::<usize>().ok()?)));
        let shards = match split {
            Some((stem, total, count)) if (1..=MOST_PARTS).contains(&count) => {
                let digits = total.len();
                (1..=count).map(|part| folder.join(format!("{stem}-{part:0digits$}-of-{total}.gguf"))).collect()
            }
            _ => vec![path.to_path_buf()],
        };
        if let Some(missing) = shards.iter().find(|shard| !shard.exists()) {
            return Err(Error::file(missing, "this part of the model is not there, expected it beside the others"));
        }
        Ok(Self { path: path.to_path_buf(), shards, index: None, config: None, adapter_config: None })
    }

    fn folder(folder: &Path, adapter: bool) -> Result<Self> {
        let names = names(folder)?;
        let has = |name: &str| names.iter().any(|n| n == name);
        let config = |name: &str| if has(name) { json::object(&folder.join(name)).map(Some) } else { Ok(None) };
        let of = |end: &str| names.iter().filter(|name| name.ends_with(end)).collect::<Vec<&String>>();
        let indices = of(INDEX_END);
        let pickles = of(PICKLE_INDEX);
        // An adapter's own index; PEFT writes one file, others cut large ones.
        let of_adapter = |name: &&&String| name.starts_with("adapter_model.");
        let adapter_index = indices.iter().chain(&pickles).find(of_adapter);
        let index = indices.iter().find(|n| **n == "model.safetensors.index.json");
        let index = index.or_else(|| indices.iter().find(|name| !of_adapter(name)));
        let model = has(MODEL) || index.is_some() || (!adapter && has(PICKLE));
        let weights = ADAPTERS.into_iter().find(|name| has(name)).filter(|_| adapter || !model);
        if let Some(weights) = weights.filter(|name| *name != ADAPTERS[2] || has(ADAPTER_CONFIG)) {
            let adapter_config = config(ADAPTER_CONFIG)?;
            let shards = vec![folder.join(weights)];
            return Ok(Self { path: folder.to_path_buf(), shards, index: None, config: None, adapter_config });
        }
        if let Some(index) = adapter_index.filter(|_| adapter || (has(ADAPTER_CONFIG) && !model)) {
            let found = Self::sharded(folder, &folder.join(index))?;
            return Ok(Self { config: None, adapter_config: config(ADAPTER_CONFIG)?, ..found });
        }
        if adapter || (has(ADAPTER_CONFIG) && !model) {
            return Err(Error::file(
                folder,
                format!("found {ADAPTER_CONFIG} but no weights, expected {} beside it", ADAPTERS[0]),
            ));
        }
        if has(MODEL) {
            let shards = vec![folder.join(MODEL)];
            return Ok(Self {
                path: folder.to_path_buf(),
                shards,
                index: None,
                config: config(CONFIG)?,
                adapter_config: None,
            });
        }
        if let Some(index) = index {
            return Self::sharded(folder, &folder.join(index));
        }
        let files: Vec<&String> = names.iter().filter(|n| n.ends_with(".safetensors")).collect();
        match files[..] {
            [only] => {
                let shards = vec![folder.join(only)];
                Ok(Self {
                    path: folder.to_path_buf(),
                    shards,
                    index: None,
                    config: config(CONFIG)?,
                    adapter_config: None,
                })
            }
            [] if has(PICKLE) => {
                let shards = vec![folder.join(PICKLE)];
                let config = config(CONFIG)?;
                Ok(Self { path: folder.to_path_buf(), shards, index: None, config, adapter_config: None })
            }
            [] if !pickles.is_empty() => Self::sharded(folder, &folder.join(pickles[0])),
            [] => {
                let first = |name: &&String| !name.contains("-of-") || name.contains("-00001-of-");
                let ggufs: Vec<&String> = names.iter().filter(|n| n.ends_with(".gguf")).filter(first).collect();
                match ggufs[..] {
                    [only] => Self::gguf(folder, &folder.join(only), only),
                    [] => Err(Error::file(folder, without_weights(folder, &names))),
                    _ => Err(Error::file(
                        folder,
                        format!("found {} models in GGUF files, expected one: open the file itself", ggufs.len()),
                    )),
                }
            }
            _ => {
                let message = format!(
                    "found {} .safetensors files and no index, expected model.safetensors.index.json beside them",
                    files.len()
                );
                Err(Error::file(folder, message))
            }
        }
    }

    fn sharded(folder: &Path, index: &Path) -> Result<Self> {
        let text = json::text(index)?;
        let stated = Unique::<Stated>::parse(&text);
        let stated =
            stated.map_err(|(_, e)| Error::file(index, format!("the index cannot be read: {}", sentence(&e))))?;
        let map = stated.into_entries().into_iter().find(|(key, _)| key == "weight_map");
        let Some((_, Stated(map))) = map else {
            return Err(Error::file(index, "found no weight_map, expected one that names the shard of each tensor"));
        };
        if map.is_empty() {
            return Err(Error::file(index, "found an empty weight_map, expected the shard of each tensor"));
        }
        let mut positions = BTreeMap::new();
        for (tensor, file) in &map {
            if !inside(file) {
                let message = format!("found shard {file:?}, expected the name of a file in the index's own folder");
                return Err(Error::tensor(index, tensor, message));
            }
            positions.insert(file.clone(), 0);
        }
        if let Some(missing) = missing_from(positions.keys()) {
            let message =
                format!("the shard {missing} is missing from the index, which names {} others", positions.len());
            return Err(Error::file(index, message));
        }
        let mut shards = Vec::with_capacity(positions.len());
        for (position, (file, at)) in positions.iter_mut().enumerate() {
            let shard = folder.join(file);
            if !shard.exists() {
                let message = format!("the shard {file} is named in the index {} but is not there", index.display());
                return Err(Error::file(&shard, message));
            }
            *at = position;
            shards.push(shard);
        }
        let tensors =
            map.into_iter().filter_map(|(tensor, file)| positions.get(&file).map(|&at| (tensor, at))).collect();
        let config = folder.join(CONFIG);
        let config = if config.exists() { Some(json::object(&config)?) } else { None };
        let index = Some(Index { path: index.to_path_buf(), tensors });
        Ok(Self { path: folder.to_path_buf(), shards, index, config, adapter_config: None })
    }
}

/// The `weight_map` of an index; empty for its other keys, which are skipped.
struct Stated(Vec<(String, String)>);

impl<'de> Keyed<'de> for Stated {
    fn read<A: MapAccess<'de>>(key: &str, map: &mut A) -> std::result::Result<Self, A::Error> {
        match key {
            "weight_map" => map.next_value::<Unique<String>>().map(|shards| Self(shards.into_entries())),
            _ => map.next_value::<IgnoredAny>().map(|_| Self(Vec::new())),
        }
    }
}

/// Whether `torch.save` writes files with such an ending.
pub(super) fn is_pickle(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, end)| super::shard::PICKLES.contains(&end))
}

/// A relative path without `..`: it cannot leave the folder.
fn inside(file: &str) -> bool {
    let mut components = Path::new(file).components();
    (file.ends_with(".safetensors") || is_pickle(file)) && components.all(|c| matches!(c, Component::Normal(_)))
}

/// Of shards numbered `…-00002-of-00005.safetensors`: the first number that no name has.
fn missing_from<'a>(files: impl Iterator<Item = &'a String>) -> Option<String> {
    /// More shards than any checkpoint has: a larger number is not counted through.
    const MOST: usize = 100_000;
    let mut series = BTreeMap::<(&str, &str), Vec<usize>>::new();
    for file in files {
        let stem = file.strip_suffix(".safetensors").or_else(|| file.strip_suffix(".bin"));
        let Some((before, total)) = stem.and_then(|stem| stem.rsplit_once("-of-")) else { continue };
        let Some((stem, number)) = before.rsplit_once('-') else { continue };
        if let Ok(number) = number.parse() {
            series.entry((stem, total)).or_default().push(number);
        }
    }
    for ((stem, total), numbers) in series {
        let Some(count) = total.parse().ok().filter(|&count| count <= MOST) else { continue };
        let have: std::collections::HashSet<usize> = numbers.into_iter().collect();
        if let Some(missing) = (1..=count).find(|number| !have.contains(number)) {
            return Some(format!("{stem}-{missing:0width$}-of-{total}.safetensors", width = total.len()));
        }
    }
    None
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::read(folder, "read", &e))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::read(folder, "read", &e))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// What to say of a folder that holds no weights that can be read.
fn without_weights(folder: &Path, names: &[String]) -> String {
    /// Folders that are named.
    const SHOWN: usize = 8;
    let other = |end: &str| names.iter().find(|n| n.ends_with(end));
    let expected = "expected model.safetensors, model.safetensors.index.json or adapter_model.safetensors";
    let below = |name: &&String| {
        let folder = folder.join(name);
        [MODEL, CONFIG, ADAPTER_CONFIG, ADAPTERS[0], ADAPTERS[1]].iter().any(|file| folder.join(file).is_file())
    };
    let mut inside: Vec<&str> = names.iter().filter(below).map(String::as_str).collect();
    if !inside.is_empty() {
        let more = if inside.len() > SHOWN { ", …" } else { "" };
        inside.truncate(SHOWN);
        return format!("the folder holds no weights, its sub-folders do: open one of {}{more}", inside.join(", "));
    }
    match other(".gguf").or_else(|| other(".bin")).or_else(|| other(".pth")).or_else(|| other(".pt")) {
        Some(name) => format!("the folder holds no safetensors weights: found {name}, {expected}"),
        None => format!("the folder holds no weights: {expected}"),
    }
}

/// For the top of a hub cache folder (`models--org--name`) the snapshot that `refs/main` names, or else the newest;
/// any other folder is itself.
fn snapshot(folder: &Path) -> Result<PathBuf> {
    let snapshots = folder.join("snapshots");
    if !snapshots.is_dir() || folder.join(CONFIG).exists() {
        return Ok(folder.to_path_buf());
    }
    if let Ok(main) = json::text(&folder.join("refs").join("main")) {
        let main = snapshots.join(main.trim());
        if main.is_dir() && main.parent() == Some(&snapshots) {
            return Ok(main);
        }
    }
    let mut newest = None;
    for name in names(&snapshots)? {
        let path = snapshots.join(name);
        let changed =
            std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_dir).and_then(|about| about.modified().ok());
        if let Some(changed) = changed.filter(|&changed| newest.as_ref().is_none_or(|(latest, _)| *latest < changed)) {
            newest = Some((changed, path));
        }
    }
    newest
        .map(|(_, path)| path)
        .ok_or_else(|| Error::file(folder, "the hub cache folder holds no snapshot, expected one in snapshots/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_stay_in_their_folder() {
        assert!(inside("model-00001-of-00002.safetensors"));
        assert!(inside("part/model.safetensors"));
        for outside in [
            "../model.safetensors",
            "/elsewhere/model.safetensors",
            "a/../../b.safetensors",
            "",
            "model.exe",
            "./../x.safetensors",
        ] {
            assert!(!inside(outside), "{outside}");
        }
    }

    #[test]
    fn a_gap_in_the_numbers_is_found() {
        let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let gap = names(&["model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"]);
        assert_eq!(missing_from(gap.iter()).as_deref(), Some("model-00002-of-00003.safetensors"));
        let whole = names(&["a-1-of-2.safetensors", "a-2-of-2.safetensors", "other.safetensors"]);
        assert_eq!(missing_from(whole.iter()), None);
        let absurd = names(&["a-1-of-99999999999.safetensors"]);
        assert_eq!(missing_from(absurd.iter()), None);
    }
}
