//! [`Engine`]: a program that trains. A new one is a file of its own and a line in [`ENGINES`].

use super::plan::Plan;
use super::{Difference, File, axolotl, llama_factory, trl, unsloth};
use crate::error::{Error, Result};

/// What is started.
pub(super) enum Entry {
    /// A Python file in the folder.
    Script(&'static str),
    /// A module of Python, and what follows it.
    Module(&'static str, &'static str),
}

/// A program that trains.
pub struct Engine {
    /// On the command line.
    pub name: &'static str,
    /// Its own name.
    pub title: &'static str,
    /// What pip installs: versions that were run or read.
    pub requirements: &'static [&'static str],
    /// Whether it trains a model in shards.
    pub shards: bool,
    pub(super) entry: Entry,
    /// What stands before rank, α, learning rate, seed and folder where a run of a sweep is started.
    pub(super) overrides: [&'static str; 5],
    /// Whether it takes whole numbers alone for α.
    pub(super) whole_alpha: bool,
    /// Refuses what it does not do.
    pub(super) check: fn(&Plan) -> Result<()>,
    pub(super) files: fn(&Plan) -> Result<Vec<File>>,
    pub(super) differs: fn(&Plan) -> Vec<Difference>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// All engines.
pub static ENGINES: [&Engine; 4] = [&trl::ENGINE, &axolotl::ENGINE, &llama_factory::ENGINE, &unsloth::ENGINE];

impl Engine {
    /// By its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &str) -> Result<&'static Self> {
        let names: Vec<&str> = ENGINES.iter().map(|engine| engine.name).collect();
        let found = ENGINES.into_iter().find(|engine| engine.name == name);
        found.ok_or_else(|| Error::usage(format!("engine {name}; expected one of {}", names.join(", "))))
    }

    /// α as it takes it.
    pub(super) fn alpha(&self, alpha: f64) -> f64 {
        if self.whole_alpha { alpha.round().max(1.0) } else { alpha }
    }
}

/// A linear warm-up that begins at 0: transformers' own.
pub(super) fn warm_up(plan: &Plan) -> Option<Difference> {
    let warmup = plan.settings.warmup;
    (warmup > 0).then(|| {
        let why = "transformers' schedule begins its warm-up at 0, so that its first step changes nothing";
        Difference::new("warmup", format!("step i of {warmup}: lr·(i+1)/{warmup}"), format!("lr·i/{warmup}"), why)
    })
}
