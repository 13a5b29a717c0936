//! The hub's local cache: what has been downloaded by other tools already.

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
    let var = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let root = var("HF_HUB_CACHE")
        .or_else(|| var("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache/huggingface/hub")));
    root.map_or_else(Vec::new, |root| cached_in(&root))
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

#[cfg(test)]
mod tests {
    use super::*;

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
