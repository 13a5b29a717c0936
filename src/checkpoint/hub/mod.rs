//! The Hugging Face Hub: its local cache, which other tools fill too, and what is fetched into it ([`get`]).

mod get;

pub use get::{Ask, Got, get, offered};

use crate::guard;
use std::path::{Path, PathBuf};

/// A repository in the cache, with its newest snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// `owner/name`.
    pub name: String,
    /// The folder to open.
    pub path: PathBuf,
}

/// Models and adapters in the hub's cache, by name: `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`.
/// Where there is no cache the list is empty.
pub fn cached() -> Vec<Cached> {
    root().map_or_else(Vec::new, |root| cached_in(&root))
}

fn var(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The hub's own folder: tokens and caches lie in it.
fn home() -> Option<PathBuf> {
    var("HF_HOME").or_else(|| std::env::home_dir().map(|home| home.join(".cache/huggingface")))
}

/// Where the cache is.
fn root() -> Option<PathBuf> {
    var("HF_HUB_CACHE").or_else(|| home().map(|home| home.join("hub")))
}

fn cached_in(root: &Path) -> Vec<Cached> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let mut all: Vec<Cached> = entries
        .filter_map(|entry| {
            let folder = entry.ok()?.path();
            let name = folder.file_name()?.to_str()?.strip_prefix("models--")?.replace("--", "/");
            let revision = guard::text(&folder.join("refs/main"), guard::MOST).ok()?;
            let path = folder.join("snapshots").join(revision.trim());
            let has = |file: &str| path.join(file).exists();
            (has("config.json") || has("adapter_config.json")).then_some(Cached { name, path })
        })
        .collect();
    all.sort_by_key(|cached| cached.name.to_lowercase());
    all
}

/// The base that an adapter's config names, as it is meant: names of other people's copies in few bits lead to the 16-bit model, and
/// paths that are gone to what their last part names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// `owner/name` to fetch, or the path.
    pub meant: String,
    /// Where it lies on this machine.
    pub path: Option<PathBuf>,
    /// Why another name is meant than the config's, where one is.
    pub why: Option<String>,
}

/// Endings of copies in few bits.
const COPIES: [&str; 8] =
    ["-unsloth-bnb-4bit", "-bnb-4bit", "-bnb-8bit", "-4bit", "-8bit", "-bf16", "-mlx", "-mlx-4bit"];

/// Finds the base that `named` means, for an adapter in `folder`.
pub fn base(named: &str, folder: &Path) -> Base {
    find(named, folder, &cached())
}

fn find(named: &str, folder: &Path, cached: &[Cached]) -> Base {
    let beside = folder.join(named);
    if beside.is_dir() || beside.is_file() {
        return Base { meant: named.to_owned(), path: Some(beside), why: None };
    }
    let there = |name: &str| cached.iter().find(|one| one.name.eq_ignore_ascii_case(name));
    let repository = named.split('/').count() == 2 && !named.starts_with(['.', '/', '~']) && !named.contains('\\');
    if let Some(one) = there(named) {
        return Base { meant: named.to_owned(), path: Some(one.path.clone()), why: None };
    }
    // A path into somebody's cache says the repository.
    let parts: Vec<&str> = named.split(['/', '\\']).filter(|part| !part.is_empty()).collect();
    let by_cache = parts.iter().find_map(|part| part.strip_prefix("models--")).map(|part| part.replacen("--", "/", 1));
    let last = parts.last().copied().unwrap_or(named);
    let lower = last.to_ascii_lowercase();
    let plain = COPIES.iter().find_map(|end| lower.strip_suffix(end)).map_or(last, |plain| &last[..plain.len()]);
    let copy = plain.len() < last.len();
    let (meant, why) = match (by_cache, repository, copy) {
        (Some(name), ..) => {
            let why = format!("{named} is gone; it was the cache's copy of {name}");
            (name, Some(why))
        }
        (None, true, true) => {
            let owner = if parts[0] == "mlx-community" { None } else { Some(parts[0]) };
            let name = owner.map_or_else(|| plain.to_owned(), |owner| format!("{owner}/{plain}"));
            (name, Some(format!("{named} is a copy in few bits; the adapter is for the model it was made from")))
        }
        (None, true, false) => (named.to_owned(), None),
        (None, false, _) => (
            plain.to_owned(),
            Some(format!("the path {named} is not on this machine; its last part is the model's name")),
        ),
    };
    // The same model under another owner's name, or without one.
    let name = meant.rsplit('/').next().unwrap_or(&meant).to_ascii_lowercase();
    let bare = |name: &str| name.strip_prefix("meta-").unwrap_or(name).to_owned();
    let same = |one: &&Cached| {
        one.name.rsplit('/').next().is_some_and(|found| bare(&found.to_ascii_lowercase()) == bare(&name))
    };
    let found = there(&meant).or_else(|| cached.iter().find(same).filter(|_| why.is_some()));
    match found {
        Some(one) => Base { meant: one.name.clone(), path: Some(one.path.clone()), why },
        None => Base { meant, path: None, why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_bases_lead_to_what_is_meant() {
        let there = |name: &str| Cached { name: name.into(), path: PathBuf::from("/cache").join(name) };
        let cached =
            [there("Qwen/Qwen2.5-3B-Instruct"), there("unsloth/Llama-3.2-1B"), there("meta-llama/Meta-Llama-3.1-8B")];
        let find = |named: &str| {
            let base = find(named, Path::new("no-such-folder"), &cached);
            (base.meant, base.path.is_some(), base.why.is_some())
        };
        for (named, meant, path, why) in [
            ("Qwen/Qwen2.5-3B-Instruct", "Qwen/Qwen2.5-3B-Instruct", true, false),
            ("unsloth/Llama-3.2-1B-bnb-4bit", "unsloth/Llama-3.2-1B", true, true),
            ("unsloth/Llama-3.2-1B-unsloth-bnb-4bit", "unsloth/Llama-3.2-1B", true, true),
            ("unsloth/Llama-3.1-8B-bnb-4bit", "meta-llama/Meta-Llama-3.1-8B", true, true),
            ("unsloth/gemma-3-4b-it-bnb-4bit", "unsloth/gemma-3-4b-it", false, true),
            ("mlx-community/Qwen2.5-3B-Instruct-4bit", "Qwen/Qwen2.5-3B-Instruct", true, true),
            ("/models/Qwen2.5-3B-Instruct", "Qwen/Qwen2.5-3B-Instruct", true, true),
            ("C:\\models\\Qwen2.5-3B-Instruct", "Qwen/Qwen2.5-3B-Instruct", true, true),
            ("/home/someone/.cache/huggingface/hub/models--org--X/snapshots/abc", "org/X", false, true),
            ("org/Y", "org/Y", false, false),
        ] {
            assert_eq!(find(named), (meant.to_owned(), path, why), "{named}");
        }
    }

    #[test]
    fn finds_the_snapshot_that_main_names() {
        let root = tempfile::tempdir().unwrap();
        let repo = root.path().join("models--meta--llama");
        std::fs::create_dir_all(repo.join("refs")).unwrap();
        std::fs::create_dir_all(repo.join("snapshots/abc")).unwrap();
        std::fs::create_dir_all(root.path().join("datasets--x")).unwrap();
        std::fs::write(repo.join("refs/main"), "abc").unwrap();
        assert_eq!(cached_in(root.path()), []);
        std::fs::write(repo.join("snapshots/abc/config.json"), "{}").unwrap();
        assert_eq!(cached_in(root.path()), [Cached { name: "meta/llama".into(), path: repo.join("snapshots/abc") }]);
        assert_eq!(cached_in(Path::new("no-such-folder")), []);
    }
}
