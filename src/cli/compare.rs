//! `rankscope compare`: what the directions of two updates share, and what an update does to its base.

use super::screen::Screen;
use super::text::Table;
use crate::adapter::Adapter;
use crate::checkpoint::{Checkpoint, Kind};
use crate::delta::{DeltaSet, Source};
use crate::error::{Error, Result};
use crate::plan::compare::{self, DIRECTIONS, Side};
use crate::plan::extract::Changed;
use crate::progress::Part;
use crate::spectrum::subspaces::EPSILON;
use crate::units::real;
use clap::Args;
use regex::Regex;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, Args)]
pub struct Compare {
    /// An adapter, or a tuned model with --base
    a: PathBuf,

    /// A second adapter or tuned model; without it, the first is compared with --base alone
    b: Option<PathBuf>,

    /// Base model; required for tuned models, for amplification and for intruder dimensions
    #[arg(long, value_name = "MODEL")]
    base: Option<PathBuf>,

    /// Only modules whose name matches this regular expression
    #[arg(long, value_name = "REGEX")]
    modules: Option<Regex>,

    /// Singular directions of each update that are compared
    #[arg(long, value_name = "K", default_value_t = DIRECTIONS)]
    top: usize,

    /// Singular vectors to compare: left (output space) or right (input space)
    #[arg(long, default_value_t = Side::Left)]
    side: Side,

    /// Count intruder dimensions: singular vectors of the tuned weights far from all of the base's (slow)
    #[arg(long, requires = "base")]
    intruders: bool,
}

/// An update that was opened.
#[expect(clippy::large_enum_variant, reason = "there are two of them at most")]
enum Update {
    Set(DeltaSet),
    Adapter(Adapter),
}

impl Update {
    fn open(path: &Path, base: Option<&Arc<Checkpoint>>) -> Result<Self> {
        let checkpoint = Arc::new(Checkpoint::open(path)?);
        match (checkpoint.kind(), base) {
            (Kind::Adapter, None) => Adapter::from_checkpoint(checkpoint).map(Self::Adapter),
            (Kind::Adapter, Some(base)) => {
                let adapter = Arc::new(Adapter::from_checkpoint(checkpoint)?);
                DeltaSet::new(Arc::clone(base), Source::Adapter(adapter)).map(Self::Set)
            }
            (Kind::Model, Some(base)) => DeltaSet::new(Arc::clone(base), Source::Tuned(checkpoint)).map(Self::Set),
            (Kind::Model, None) => {
                Err(Error::file(path, "is a model: what changed in it needs its base; expected --base MODEL"))
            }
        }
    }

    fn changed(&self) -> Changed<'_> {
        match self {
            Self::Set(set) => Changed::Models(set),
            Self::Adapter(adapter) => Changed::Adapter(adapter),
        }
    }

    /// Modules that are compared unless they are named: no embeddings and heads of whole models.
    fn usual(&self, name: &str) -> bool {
        match self {
            Self::Set(set) => set.entry(name).is_some_and(|entry| entry.linear),
            Self::Adapter(_) => true,
        }
    }
}

impl Compare {
    pub fn run(self, screen: &Screen) -> Result<()> {
        if self.top == 0 {
            return Err(Error::usage("top 0 compares nothing; expected 1 or more"));
        }
        let base = self.base.as_deref().map(Checkpoint::open).transpose()?.map(Arc::new);
        let a = Update::open(&self.a, base.as_ref())?;
        let b = self.b.as_deref().map(|path| Update::open(path, base.as_ref())).transpose()?;
        if b.is_none() && base.is_none() {
            return Err(Error::usage(
                "one update alone has nothing to be compared with; expected a second one or --base",
            ));
        }
        let all = match &b {
            Some(b) => compare::common(&a.changed(), &b.changed())?,
            None => a.changed().names().into_iter().map(|name| (name.clone(), name)).collect(),
        };
        let names: Vec<(String, String)> = all
            .into_iter()
            .filter(|(name, _)| match &self.modules {
                Some(regex) => regex.is_match(name),
                None => a.usual(name),
            })
            .collect();
        if names.is_empty() {
            return Err(Error::usage("no module to compare; expected others in --modules"));
        }
        let mut documents = Vec::new();
        let mut table = Table::new(&["module", ">φ(1,1)", ">φ(k,k)", ">k", ">random", ">amplified", ">intruders"]);
        for (at, (name, other)) in names.iter().enumerate() {
            let part = Part::new(screen, at as u64, names.len() as u64);
            let mut document = json!({"name": name});
            let mut row = vec![
                name.clone(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
            ];
            if let Some(b) = &b {
                let found = compare::similarity(&a.changed(), &b.changed(), (name, other), self.top, self.side, &part)?;
                let phi: Vec<&[f32]> = (0..found.phi.rows()).map(|i| found.phi.row(i)).collect();
                document["phi"] = json!(phi);
                document["dimensions"] = json!(found.dimensions);
                let k = found.phi.rows().min(found.phi.cols());
                if k > 0 {
                    row[1] = real(f64::from(found.phi.get(0, 0)), 3);
                    row[2] = real(f64::from(found.phi.get(k - 1, k - 1)), 3);
                    row[3] = k.to_string();
                    row[4] = real(k as f64 / found.dimensions as f64, 2);
                }
            }
            if let Update::Set(set) = &a {
                let amplified = compare::amplification(set, name, self.top, &part)?;
                row[5] = real(amplified.factor, 3);
                document["amplification"] =
                    json!({"r": amplified.r, "base": amplified.base, "factor": finite(amplified.factor)});
                if self.intruders {
                    let found = compare::familiar(set, name, self.top, self.side, &part)?;
                    let count = found.iter().filter(|one| one.is_intruder(EPSILON)).count();
                    row[6] = format!("{count} of {}", found.len());
                    let cosines: Vec<f64> = found.iter().map(|one| one.cosine).collect();
                    document["intruders"] = json!({"count": count, "epsilon": EPSILON, "cosines": cosines});
                }
            }
            documents.push(document);
            table.push(row);
        }
        screen.finish();
        if screen.json {
            return screen.document(&json!({"side": self.side.as_str(), "modules": documents}));
        }
        screen.print(&table.render())
    }
}

/// JSON has no infinity.
fn finite(x: f64) -> Value {
    if x.is_finite() { json!(x) } else { Value::Null }
}
