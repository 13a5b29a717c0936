//! Opening what a person points at: a base model, a tuned one, an adapter.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::adapter::{Adapter, Scaling};
use crate::checkpoint::{Checkpoint, Kind, hub};
use crate::delta::{DeltaSet, Source};
use crate::error::{Error, Result};
use crate::plan::{self, Layout, Targets};
use crate::progress::Progress;

/// What is to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Whatever lies there: a model becomes the base, an adapter the source of ΔW.
    Any(PathBuf),
    /// A base model together with a tuned model or an adapter.
    Pair(PathBuf, PathBuf),
    /// A tuned version of the open base.
    Tuned(PathBuf),
    /// The open base's weights themselves.
    Weight,
    /// A repository of the hub: fetched into the hub's own cache, where it is not there yet.
    Hub(hub::Ask),
}

impl Request {
    /// The path a person named.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Any(path) | Self::Tuned(path) | Self::Pair(_, path) => Some(path),
            Self::Weight | Self::Hub(_) => None,
        }
    }
}

/// A base model, its ΔW and its shapes: headers only, no weights read.
#[derive(Clone)]
pub struct Opened {
    /// The base model.
    pub base: Arc<Checkpoint>,
    /// Its modules with their ΔW.
    pub delta: Arc<DeltaSet>,
    /// Its shapes, for counting.
    pub layout: Arc<Layout>,
}

impl Opened {
    /// Opens what `request` names; `open` is the base that is open already. Progress counts bytes that are fetched.
    ///
    /// # Errors
    /// A sentence that names the file, and what was expected of it; what [`hub::get`] says; cancellation.
    pub fn read(request: &Request, open: Option<Arc<Checkpoint>>, progress: &dyn Progress) -> Result<Self> {
        let need = |what: &str| Error::usage(format!("open a base model before {what}"));
        match request {
            Request::Any(path) => Self::any(path, open),
            Request::Hub(ask) => Self::any(&hub::get(ask, progress)?.path, open),
            Request::Pair(base, other) => Self::pair(Arc::new(model(base)?), other),
            Request::Tuned(path) => Self::pair(open.ok_or_else(|| need("its tuned version"))?, path),
            Request::Weight => Self::new(open.ok_or_else(|| need("looking at its weights"))?, Source::Weight),
        }
    }

    fn any(path: &Path, open: Option<Arc<Checkpoint>>) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        match checkpoint.kind() {
            Kind::Model => Self::new(Arc::new(checkpoint), Source::Weight),
            Kind::Adapter => {
                let adapter = Arc::new(Adapter::from_checkpoint(Arc::new(checkpoint))?);
                let misfit = match open {
                    Some(base) => match Self::with_adapter(base, &adapter) {
                        Ok(opened) => return Ok(opened),
                        Err(error) => error,
                    },
                    None => Error::file(path, "is an adapter; open its base model first"),
                };
                // The adapter says where its base lies; that helps when it lies on this machine.
                match base_of(&adapter).and_then(|base| Checkpoint::open(&base).ok()) {
                    Some(base) => Self::with_adapter(Arc::new(base), &adapter),
                    None => Err(misfit),
                }
            }
        }
    }

    fn pair(base: Arc<Checkpoint>, other: &Path) -> Result<Self> {
        let checkpoint = Arc::new(Checkpoint::open(other)?);
        match checkpoint.kind() {
            Kind::Model => Self::new(base, Source::Tuned(checkpoint)),
            Kind::Adapter => Self::with_adapter(base, &Arc::new(Adapter::from_checkpoint(checkpoint)?)),
        }
    }

    fn with_adapter(base: Arc<Checkpoint>, adapter: &Arc<Adapter>) -> Result<Self> {
        let opened = Self::new(base, Source::Adapter(Arc::clone(adapter)))?;
        opened.delta.check_adapter()?;
        Ok(opened)
    }

    fn new(base: Arc<Checkpoint>, source: Source) -> Result<Self> {
        let layout = Arc::new(Layout::of(&base)?);
        let delta = Arc::new(DeltaSet::new(Arc::clone(&base), source)?);
        Ok(Self { base, delta, layout })
    }

    /// r, α and scaling of the open adapter.
    pub fn adapter_setting(&self) -> Option<(usize, f64, Scaling)> {
        match self.delta.source() {
            Source::Adapter(adapter) => {
                let c = &adapter.config;
                Some((c.r, c.lora_alpha, c.scaling))
            }
            _ => None,
        }
    }

    /// The targets of the open adapter: one of the usual sets where it adapts just these modules, else the ends of their names,
    /// else every name.
    pub fn adapter_targets(&self) -> Option<Targets> {
        let Source::Adapter(_) = self.delta.source() else { return None };
        let entries = self.delta.entries();
        let adapted: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        let means = |targets: &Targets| {
            plan::Selection::new(&self.layout, targets).is_ok_and(|found| {
                found.weights(&self.layout).map(|weight| weight.name.as_str()).collect::<BTreeSet<_>>() == adapted
            })
        };
        let mut ends: Vec<String> = Vec::new();
        for end in entries.iter().filter_map(|entry| entry.name.rsplit('.').next()) {
            if !ends.iter().any(|known| known == end) {
                ends.push(end.to_owned());
            }
        }
        let usual = [Targets::QV, Targets::Attention, Targets::AllLinear, Targets::Custom(ends)];
        let all = || Targets::Custom(adapted.iter().map(|name| (*name).to_owned()).collect());
        Some(usual.into_iter().find(means).unwrap_or_else(all))
    }
}

fn model(path: &Path) -> Result<Checkpoint> {
    let checkpoint = Checkpoint::open(path)?;
    match checkpoint.kind() {
        Kind::Model => Ok(checkpoint),
        Kind::Adapter => Err(Error::file(path, "is an adapter; expected a base model")),
    }
}

/// Where the adapter's base lies on this machine: beside the adapter, as a path, or in the hub's cache, where its name may be another's.
fn base_of(adapter: &Adapter) -> Option<PathBuf> {
    let name = adapter.config.base_model_name_or_path.as_deref().filter(|name| !name.is_empty())?;
    hub::base(name, adapter.path()).path
}
