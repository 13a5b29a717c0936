//! The predicted memory of a run, by method, against real GPUs and this machine.

use std::sync::Arc;

use crate::device::Device;
use crate::error::Result;
use crate::job::{Job, Wake};
use crate::model::ComputeDtype;
use crate::plan::memory::{CONTEXT, GPUS, Largest, Place, Precision, Search, Verdict, predict};
use crate::plan::{Layout, Load, Memory as Parts, Method, Pairs, Preset, Selection, Targets};
use crate::workspace::Workspace;

/// What one method needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Need {
    /// Which.
    pub method: Method,
    /// Part by part.
    pub parts: Parts,
}

/// A memory to hold it against.
#[derive(Clone, Debug, PartialEq)]
pub struct Room {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// GB by which a card is sold: each is a GiB.
    pub sold: Option<u64>,
    /// Of full, LoRA and QLoRA.
    pub verdicts: [Verdict; 3],
    /// What fits of the method that is chosen.
    pub largest: Largest,
}

/// Everything that is shown of a prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Needs {
    /// Full, LoRA, QLoRA.
    pub needs: [Need; 3],
    /// The machine's own memory first.
    pub rooms: Vec<Room>,
    /// The run that it is about.
    pub load: Load,
    /// Rank and modules, as the dial has them.
    pub r: usize,
    /// Modules.
    pub targets: Targets,
    /// The largest rank that the modules allow.
    pub largest: usize,
    /// The model's name.
    pub model: String,
}

/// What a prediction depends on: the model, what is trained, the run.
type Key = (u64, Option<&'static str>, usize, Targets, Load);

#[derive(Default)]
pub struct Memory {
    pub load: Load,
    pub needs: Option<Result<Needs>>,
    key: Option<Key>,
    job: Option<Job<Needs>>,
}

impl Memory {
    /// True while a prediction is on its way.
    pub fn is_working(&self) -> bool {
        self.job.is_some()
    }

    pub fn logic(&mut self, preset: Option<&'static Preset>, workspace: &Workspace, wake: &Wake) {
        if let Some(result) = self.job.as_mut().and_then(Job::take) {
            self.job = None;
            self.needs = Some(result);
        }
        let dial = workspace.dial();
        let key = (workspace.generation(), preset.map(|preset| preset.id), dial.r, dial.targets.clone(), self.load);
        if self.job.is_some() || self.key.as_ref() == Some(&key) {
            return;
        }
        let layout = match preset {
            Some(preset) => Arc::new(preset.layout()),
            None => match workspace.layout() {
                Some(layout) => Arc::clone(layout),
                None => return,
            },
        };
        let (r, targets, load) = (dial.r, dial.targets.clone(), self.load);
        self.key = Some(key);
        self.job = Some(Job::spawn("Predicting memory", Arc::clone(wake), move |_| needs(&layout, r, targets, load)));
    }
}

fn needs(layout: &Layout, r: usize, targets: Targets, load: Load) -> Result<Needs> {
    let selection = Selection::new(layout, &targets)?;
    // A published model may be smaller than the dial allows.
    let r = r.min(selection.max_rank());
    let pairs = Pairs::uniform(layout, &selection, r);
    let mut needs = [Need { method: Method::Full, parts: Parts::default() }; 3];
    // Without the window itself, which is there already; and on a GPU.
    let (mut here, mut on_gpu) = ([0; 3], [0; 3]);
    let dtype = if load.precision == Precision::F32 { ComputeDtype::F32 } else { ComputeDtype::Bf16 };
    let gpu = Load { process: CONTEXT, place: Place::Gpu(dtype.into()), ..load };
    for (at, method) in Method::ALL.into_iter().enumerate() {
        needs[at] = Need { method, parts: predict(layout, &pairs, &Load { method, process: 0, ..load })? };
        here[at] = needs[at].parts.total();
        on_gpu[at] = predict(layout, &pairs, &Load { method, ..gpu })?.total();
    }
    let own = Load { process: 0, ..load };
    let mut rooms = Vec::new();
    let room = |name: &str, bytes: u64, sold, need: [u64; 3], search: &Search| -> Result<Room> {
        let verdicts = need.map(|need| Verdict::of(need, bytes));
        Ok(Room { verdicts, largest: search.largest(bytes)?, name: name.to_owned(), bytes, sold })
    };
    if let Some(memory) = Device::cpu().memory {
        let search = Search::new(layout, &selection, r, &own)?;
        rooms.push(room("This machine, free now", memory.free, None, here, &search)?);
    }
    let search = Search::new(layout, &selection, r, &gpu)?;
    for known in &GPUS {
        rooms.push(room(known.name, known.bytes(), Some(known.gib), on_gpu, &search)?);
    }
    Ok(Needs { needs, rooms, load, r, targets, largest: selection.max_rank(), model: layout.name.clone() })
}
