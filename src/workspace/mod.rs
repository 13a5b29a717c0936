//! Everything loaded and computed. Events come in through [`Workspace::apply`]; no interface, no threads.

mod beside;
mod dial;
mod open;
mod selection;
mod slot;

use std::collections::HashMap;
use std::sync::Arc;

pub use beside::{Beside, beside};
pub use dial::{Dial, Scaling};
pub use open::{Opened, Request};
pub use selection::Selection;
pub use slot::{Slot, Status};

use crate::checkpoint::Checkpoint;
use crate::delta::DeltaSet;
use crate::error::Error;
use crate::plan::Layout;
use crate::spectrum::Spectrum;

/// What has happened: the only way the workspace changes.
#[derive(Clone)]
pub enum Event {
    /// A model, and with it a source of ΔW, was opened.
    Opened(Box<Opened>),
    /// Spectra of these modules are being computed.
    Started(Vec<String>),
    /// One spectrum is there, or the reason why not.
    Spectrum(String, Result<Arc<Spectrum>, Error>),
    /// Nobody works on these any more.
    Stopped(Vec<String>),
    /// The modules a person has chosen.
    Selected(Selection),
    /// The dial was turned.
    Dial(Dial),
}

/// The open model, its ΔW and what is known of it.
#[derive(Default)]
pub struct Workspace {
    opened: Option<Opened>,
    selection: Selection,
    spectra: HashMap<String, Slot<Arc<Spectrum>>>,
    dial: Dial,
    generation: u64,
}

impl Workspace {
    /// Takes in one event.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Opened(opened) => self.open(*opened),
            Event::Started(names) => {
                for name in names {
                    self.spectra.entry(name).or_default().begin();
                }
            }
            Event::Spectrum(name, result) => self.spectra.entry(name).or_default().finish(result),
            Event::Stopped(names) => {
                for name in names {
                    if let Some(slot) = self.spectra.get_mut(&name) {
                        slot.abandon();
                    }
                }
            }
            Event::Selected(selection) => {
                self.selection = selection;
                self.dial.limit(self.max_rank());
            }
            Event::Dial(dial) => {
                self.dial = dial;
                self.dial.limit(self.max_rank());
            }
        }
    }

    fn open(&mut self, opened: Opened) {
        let entries = opened.delta.entries();
        self.selection = entries
            .iter()
            .find(|e| e.problem.is_none() && e.layer.is_some())
            .or_else(|| entries.iter().find(|e| e.problem.is_none()))
            .map(|e| Selection::one(&e.name))
            .unwrap_or_default();
        self.spectra.clear();
        self.generation += 1;
        if let Some((r, alpha, scaling)) = opened.adapter_setting() {
            self.dial.r = r;
            self.dial.alpha = alpha;
            self.dial.scaling = scaling;
        }
        if let Some(targets) = opened.adapter_targets() {
            self.dial.targets = targets;
        }
        self.opened = Some(opened);
        self.dial.limit(self.max_rank());
    }

    /// The open model with its ΔW, if any.
    pub fn opened(&self) -> Option<&Opened> {
        self.opened.as_ref()
    }

    /// The base model.
    pub fn base(&self) -> Option<&Arc<Checkpoint>> {
        self.opened.as_ref().map(|o| &o.base)
    }

    /// The modules with a ΔW.
    pub fn delta(&self) -> Option<&Arc<DeltaSet>> {
        self.opened.as_ref().map(|o| &o.delta)
    }

    /// Shapes of the open model, for counting.
    pub fn layout(&self) -> Option<&Arc<Layout>> {
        self.opened.as_ref().map(|o| &o.layout)
    }

    /// Changes whenever another model or another ΔW is opened.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The chosen modules.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// The rank dial.
    pub fn dial(&self) -> &Dial {
        &self.dial
    }

    /// What is known of a module's spectrum.
    pub fn spectrum(&self, name: &str) -> Option<&Slot<Arc<Spectrum>>> {
        self.spectra.get(name)
    }

    /// The newest spectrum of a module.
    pub fn latest(&self, name: &str) -> Option<&Arc<Spectrum>> {
        self.spectra.get(name)?.latest()
    }

    /// The module that the views show, with its newest spectrum.
    pub fn current(&self) -> Option<(&str, &Arc<Spectrum>)> {
        let name = self.selection.current()?;
        Some((name, self.latest(name)?))
    }

    /// How many modules have a spectrum.
    pub fn known(&self) -> usize {
        self.spectra.values().filter(|slot| slot.latest().is_some()).count()
    }

    /// Largest rank that the dial offers: `min(out, in)` of the current module, or of the largest one.
    pub fn max_rank(&self) -> usize {
        let Some(delta) = self.delta() else { return Dial::MAX_WITHOUT_MODEL };
        let side = |shape: [usize; 2]| shape[0].min(shape[1]);
        self.selection
            .current()
            .and_then(|name| delta.entry(name))
            .map(|entry| side(entry.shape))
            .or_else(|| delta.entries().iter().map(|entry| side(entry.shape)).max())
            .unwrap_or(Dial::MAX_WITHOUT_MODEL)
            .max(1)
    }
}
