//! [`beside`]: tuned versions and adapters that lie beside a base model.

use super::Request;
use crate::guard;
use std::path::{Path, PathBuf};

/// So many are offered at most.
const MOST: usize = 12;
/// So many entries of the folder are looked at.
const ENTRIES: usize = 2000;

/// Something that is compared with the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beside {
    /// A folder of a model whose name begins with the base's.
    Tuned(PathBuf),
    /// A folder of an adapter that names the base, or whose name begins with the base's.
    Adapter(PathBuf),
}

impl Beside {
    fn path(&self) -> &Path {
        let (Self::Tuned(path) | Self::Adapter(path)) = self;
        path
    }

    /// Its folder's name.
    pub fn name(&self) -> String {
        self.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Whether it is an adapter.
    pub fn is_adapter(&self) -> bool {
        matches!(self, Self::Adapter(_))
    }

    /// What opens it on the base.
    pub fn request(&self) -> Request {
        match self {
            Self::Tuned(path) => Request::Tuned(path.clone()),
            Self::Adapter(path) => Request::Any(path.clone()),
        }
    }
}

/// What lies in the folder around the model at `base`, by name.
pub fn beside(base: &Path) -> Vec<Beside> {
    let (Some(around), Some(name)) = (base.parent(), base.file_stem().filter(|_| !base.as_os_str().is_empty())) else {
        return Vec::new();
    };
    let name = name.to_string_lossy().to_lowercase();
    let entries = std::fs::read_dir(around).into_iter().flatten().flatten().take(ENTRIES).map(|entry| entry.path());
    let mut found: Vec<Beside> = entries.filter(|path| path != base).filter_map(|path| one(path, &name)).collect();
    found.sort_by_key(Beside::name);
    found.truncate(MOST);
    found
}

fn one(path: PathBuf, base: &str) -> Option<Beside> {
    let named = path.file_name()?.to_string_lossy().to_lowercase().starts_with(base);
    let config = path.join("adapter_config.json");
    if config.is_file() {
        let text = guard::text(&config, guard::MOST).ok()?;
        let of: serde_json::Value = serde_json::from_str(&text).ok()?;
        let of = of["base_model_name_or_path"].as_str().unwrap_or_default().to_lowercase();
        let of_this = of.rsplit(['/', '\\']).next() == Some(base);
        return (named || of_this).then_some(Beside::Adapter(path));
    }
    (named && path.join("config.json").is_file()).then_some(Beside::Tuned(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_adapters_of_this_base_alone() {
        let around = tempfile::tempdir().unwrap();
        let make = |folder: &str, file: &str, text: &str| {
            std::fs::create_dir_all(around.path().join(folder)).unwrap();
            std::fs::write(around.path().join(folder).join(file), text).unwrap();
        };
        make("Tales", "config.json", "{}");
        make("tales-tuned", "config.json", "{}");
        make("other", "config.json", "{}");
        make("pirate", "adapter_config.json", r#"{"base_model_name_or_path": "hub/Tales"}"#);
        make("letters", "adapter_config.json", r#"{"base_model_name_or_path": "hub/other"}"#);
        make("tales-r8", "adapter_config.json", "{}");
        let found = beside(&around.path().join("Tales"));
        assert_eq!(found.iter().map(Beside::name).collect::<Vec<_>>(), ["pirate", "tales-r8", "tales-tuned"]);
        let at = |name: &str| around.path().join(name);
        assert!(matches!(found[0].request(), Request::Any(path) if path == at("pirate")));
        assert!(matches!(found[2].request(), Request::Tuned(path) if path == at("tales-tuned")));
        assert!(beside(Path::new("/no/such/folder")).is_empty());
    }
}
