//! [`Draft`]: the next run as a person sets it up, with what is known about it before it begins: the data as the model will
//! see it, memory, time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::app::view::Proposal;
use crate::checkpoint::Checkpoint;
use crate::demo::{DataSet, Sample};
use crate::device::{self, Choice, Device};
use crate::error::{Error, Result};
use crate::job::{Job, Running, Wake};
use crate::model::ComputeDtype;
use crate::model::gpu::{self, Formats};
use crate::progress::Progress;
use crate::train::data::{self, Columns, DataOptions, HoldOut};
use crate::train::forecast::Speed;
use crate::train::memory::{self, Memory};
use crate::train::{Method, Named, Preview, Settings, pace};
use crate::workspace::{Dial, Slot, Workspace};

/// What a person sets up. Model, r, α and targets come from the window's base and rank bar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Draft {
    /// Name of the run's folder; made up where it is empty.
    pub name: String,
    /// Learning rate of a full fine-tune in a comparison: every weight moves, so each by less.
    pub full_lr: f64,
    /// Ranks of a sweep.
    pub ranks: String,
    /// Learning rates of a sweep: `auto` for three around what the rate is worth at each rank, empty for one.
    pub rates: String,
    /// Seeds of every point of a sweep.
    pub seeds: usize,
    /// A sweep gives up the worse half of its points on the way.
    pub halving: bool,
    /// The device as it is kept: no part of a run's settings.
    pub(super) device: String,
    /// Everything else. Last, as TOML wants its tables.
    pub settings: Settings,
}

/// Near the best of a full fine-tune on the bundled model.
const FULL_LR: f64 = 1e-3;

impl Default for Draft {
    fn default() -> Self {
        let settings = Settings {
            // To be seen within a minute on a small model.
            steps: Some(200),
            warmup: 10,
            lr: 2e-3,
            seq: 128,
            eval_every: 20,
            save_every: 50,
            film_every: 5,
            ..Settings::default()
        };
        Self {
            name: String::new(),
            full_lr: 3e-4,
            ranks: "1, 4, 16, 64".to_owned(),
            rates: "auto".to_owned(),
            seeds: 1,
            halving: false,
            device: String::new(),
            settings,
        }
    }
}

impl Draft {
    /// As it is kept between two starts.
    pub fn kept(&self) -> String {
        toml::to_string(&Self { device: self.settings.device.to_string(), ..self.clone() }).unwrap_or_default()
    }

    /// From what was kept; the defaults where that cannot be read.
    pub fn from_kept(text: &str) -> Self {
        let mut draft: Self = toml::from_str(text).unwrap_or_default();
        draft.settings.device = std::mem::take(&mut draft.device).parse().unwrap_or_default();
        draft
    }

    /// A data set that came with the model, with the rates that suit it.
    pub fn train_on(&mut self, home: &Path, set: &DataSet) {
        let good = Sample::at(home).run(set, Path::new(""));
        let s = &mut self.settings;
        Self::other_data(s, good.data);
        (s.eval_data, s.prompts) = (good.eval_data, set.prompts.clone());
        (s.lr, s.schedule, s.warmup, s.weight_decay) = (good.lr, good.schedule, good.warmup, good.weight_decay);
        (s.steps, s.batch, s.seq) = (good.steps, good.batch, good.seq);
        (s.eval_every, s.save_every, s.film_every) = (25, 50, 5);
        self.full_lr = FULL_LR;
    }

    /// Another data file: what belonged to the one before, its held-out rows and prompts and columns, goes with it.
    pub fn other_data(s: &mut Settings, path: PathBuf) {
        if s.data != path {
            (s.data, s.eval_data, s.prompts, s.columns) = (path, None, Vec::new(), Columns::default());
        }
    }

    /// Takes over what is proposed.
    pub(super) fn take_over(&mut self, proposal: &Proposal) {
        self.settings.lr = proposal.lr.unwrap_or(self.settings.lr);
        if !proposal.ranks.is_empty() {
            let ranks: Vec<String> = proposal.ranks.iter().map(usize::to_string).collect();
            self.ranks = ranks.join(", ");
        }
        if !proposal.rank_pattern.is_empty() {
            self.settings.rank_pattern.clone_from(&proposal.rank_pattern);
        }
    }

    /// Takes over what the rank bar says.
    fn follow(&mut self, dial: &Dial) {
        let settings = &mut self.settings;
        settings.rank = dial.r;
        settings.alpha = Some(dial.alpha);
        settings.rslora = dial.scaling.is_rslora();
        settings.targets = dial.targets.to_string();
    }
}

/// What is known about the next run.
#[derive(Default)]
pub struct Outlook {
    /// The data as the model will see it.
    pub preview: Slot<Arc<Preview>>,
    /// The names of its columns.
    pub columns: Vec<String>,
    /// The sequence that would hold rows of which none can be used as they are.
    pub wanted: Option<usize>,
    /// What there is to compute on, and why not; empty until it was looked at.
    pub devices: Devices,
    /// What the run would compute on.
    pub device: Option<Device>,
    /// Predicted memory, of that device.
    pub memory: Option<Result<Memory>>,
    /// The largest batch that fits the device.
    pub batch: Option<usize>,
    /// Free bytes of the device.
    pub free: Option<u64>,
    /// Operations for a token.
    operations: Option<f64>,
    /// Measured operations a second, at several moments.
    moments: Option<Vec<f64>>,
    /// The data that prompts were last proposed for.
    proposed: Option<PathBuf>,
    reading: Option<Job<Read>>,
    measuring: Option<Job<Vec<f64>>>,
    predicting: Option<Job<Predicted>>,
    read: Option<(u64, DataKey)>,
    counted: Option<(u64, Settings, usize, u64)>,
    looking: Option<Job<Devices>>,
    /// How often devices were looked for.
    looks: u64,
}

/// What was read of the data.
struct Read {
    columns: Vec<String>,
    preview: Result<Preview>,
    wanted: Option<usize>,
}

/// A sequence that cuts no row.
const LONGEST: usize = 1 << 20;

/// What there is to compute on, or why it cannot be used.
type Devices = Vec<(Choice, Result<Device>)>;

/// What the preview depends on.
type DataKey = (PathBuf, Option<PathBuf>, usize, DataOptions, HoldOut, u64, bool);

impl Outlook {
    /// Takes in what has come, and computes what has changed.
    pub fn logic(&mut self, draft: &mut Draft, workspace: &Workspace, wake: &Wake) {
        draft.follow(workspace.dial());
        if let Some(result) = self.measuring.as_mut().and_then(Job::take) {
            self.measuring = None;
            // A measurement that failed is not tried again in every frame.
            self.moments = Some(result.unwrap_or_default());
        }
        if let Some(result) = self.reading.as_mut().and_then(Job::take) {
            self.reading = None;
            let (columns, preview, wanted) = match result {
                Ok(Read { columns, preview, wanted }) => (columns, preview, wanted),
                Err(error) => (Vec::new(), Err(error), None),
            };
            (self.columns, self.wanted) = (columns, wanted);
            self.preview.finish(preview.map(Arc::new));
            self.propose_prompts(&mut draft.settings);
        }
        self.look(wake);
        let Some(base) = workspace.base() else { return };
        draft.settings.model = base.path().to_path_buf();
        self.read(draft, workspace.generation(), base, wake);
        self.predict(draft, workspace.generation(), base, wake);
    }

    /// Predicts memory and work beside the window, one prediction after the other; the last one stays until the next is there.
    fn predict(&mut self, draft: &mut Draft, generation: u64, base: &Arc<Checkpoint>, wake: &Wake) {
        if let Some(result) = self.predicting.as_mut().and_then(Job::take) {
            self.predicting = None;
            let predicted = result.unwrap_or_else(|error| Predicted {
                device: None,
                memory: Err(error),
                operations: None,
                batch: None,
            });
            if predicted.device.as_ref().is_some_and(on_processor) {
                // Which knows nothing else: what was said of a GPU does not count here.
                draft.settings.dtype = None;
            }
            self.operations = predicted.operations;
            (self.memory, self.batch) = (Some(predicted.memory), predicted.batch);
            self.device = predicted.device;
            self.free = self.device.as_ref().and_then(|device| device.memory).map(|memory| memory.free);
        }
        let longest = self.preview.latest().map_or(draft.settings.seq, |preview| preview.longest);
        let key = (generation, draft.settings.clone(), longest, self.looks);
        if self.predicting.is_none() && self.counted.as_ref() != Some(&key) {
            let (settings, base, devices) = (draft.settings.clone(), Arc::clone(base), self.devices.clone());
            self.counted = Some(key);
            self.predicting = Some(Job::spawn("Predicting memory", Arc::clone(wake), move |_| {
                Ok(Predicted::of(&settings, &base, longest, &devices))
            }));
        }
    }

    /// Looks for devices, once, or when that is wanted again.
    fn look(&mut self, wake: &Wake) {
        if let Some(result) = self.looking.as_mut().and_then(Job::take) {
            self.looking = None;
            self.devices = result.unwrap_or_default();
            self.looks += 1;
        }
        if self.devices.is_empty() && self.looking.is_none() && self.looks == 0 {
            self.look_again(wake);
        }
    }

    /// Looks for devices and their free memory again.
    pub fn look_again(&mut self, wake: &Wake) {
        self.looking = Some(Job::spawn("Looking for devices", Arc::clone(wake), |_| {
            let more = (1..MOST_GPUS).map(|number| (Choice::Cuda(number), Choice::Cuda(number).detect()));
            let auto = (Choice::Auto, Ok(gpu::auto().device()));
            let all = device::devices().into_iter().chain(more.take_while(|(_, device)| device.is_ok()));
            Ok(all.chain([auto]).collect())
        }));
    }

    fn read(&mut self, draft: &Draft, generation: u64, base: &Arc<Checkpoint>, wake: &Wake) {
        let s = &draft.settings;
        let options = (s.data_options(), s.held_out(), s.seed, s.packing);
        let (reading, held_out, seed, packing) = options;
        let key = (generation, (s.data.clone(), s.eval_data.clone(), s.seq, reading, held_out, seed, packing));
        if self.read.as_ref() == Some(&key) {
            return;
        }
        if self.read.as_ref().is_none_or(|(before, (data, ..))| *before != generation || *data != s.data) {
            self.preview = Slot::default();
            self.columns.clear();
            self.wanted = None;
        }
        self.read = Some(key);
        self.reading = None;
        if s.data.as_os_str().is_empty() {
            return;
        }
        self.preview.begin();
        let (settings, base) = (s.clone(), Arc::clone(base));
        let title = format!("Reading {}", s.data.file_name().unwrap_or_default().to_string_lossy());
        self.reading = Some(Job::spawn(title, Arc::clone(wake), move |progress| {
            let columns = data::keys(&settings.data).unwrap_or_default();
            match Preview::read(&settings, &base, progress) {
                Err(Error::Cancelled) => Err(Error::Cancelled),
                Ok(preview) => Ok(Read { columns, preview: Ok(preview), wanted: None }),
                // Which columns there are, and how long the rows, is known even where they cannot be used as they are.
                Err(error) => {
                    let whole = data::read_with(&settings.data, &base, LONGEST, &settings.data_options(), progress);
                    let wanted = whole.ok().map(|data| data.longest).filter(|&longest| longest > settings.seq);
                    Ok(Read { columns, preview: Err(error), wanted })
                }
            }
        }));
        if self.moments.is_none() && self.measuring.is_none() {
            self.measuring = Some(Job::spawn("Measuring", Arc::clone(wake), moments));
        }
    }

    /// Prompts for samples come from the data, once for each file, where there are none.
    fn propose_prompts(&mut self, s: &mut Settings) {
        let Some(preview) = self.preview.latest().filter(|_| self.proposed.as_ref() != Some(&s.data)) else { return };
        // What was kept from the last time is as a person left it.
        if self.proposed.replace(s.data.clone()).is_some() && s.prompts.is_empty() {
            s.prompts.clone_from(&preview.prompts);
        }
    }

    /// The data is read anew: the file may be another by now.
    pub fn read_again(&mut self) {
        self.read = None;
    }

    /// The job that reads data.
    pub fn reading(&self) -> Option<&dyn Running> {
        self.reading.as_ref().map(|job| job as &dyn Running)
    }

    /// Tokens a second as predicted before a run was seen: of the processor, whose speed is measured.
    pub fn speed(&self) -> Option<Speed> {
        self.device.as_ref().filter(|device| on_processor(device))?;
        let operations = self.operations?;
        Speed::of_moments(|speed| pace::tokens_per_s(operations, speed), self.moments.as_ref()?)
    }

    /// Why a run cannot begin.
    pub fn problem(&self, draft: &Draft, workspace: &Workspace) -> Option<String> {
        if workspace.base().is_none() {
            return Some("Open a model first.".to_owned());
        }
        if draft.settings.data.as_os_str().is_empty() {
            return Some("Choose a data file: type its path, browse, or drop it on the window.".to_owned());
        }
        let memory = self.memory.as_ref().and_then(|memory| memory.as_ref().err());
        let refused = memory.or_else(|| self.preview.error()).map(Error::to_string);
        refused.or_else(|| self.preview.latest().is_none().then(|| "The data is being read.".to_owned()))
    }

    /// Whether the run fits the device.
    pub fn fit(&self) -> Option<Fit> {
        let (memory, free) = (self.memory.as_ref()?.as_ref().ok()?, self.free?);
        let need = needed(memory, self.device.as_ref().is_none_or(on_processor));
        let share = need as f64 / free.max(1) as f64;
        Some(if share > 1.0 {
            Fit::Not
        } else if share > TIGHT {
            Fit::Tight
        } else {
            Fit::Fits
        })
    }
}

/// Bytes that an adapter sees of a buffer at once, where it was not opened yet: most see as many.
const ADAPTER: usize = 1 << 31;

/// GPUs are looked for up to this number.
const MOST_GPUS: usize = 16;

fn on_processor(device: &Device) -> bool {
    device.choice == Choice::Cpu
}

/// The speed of products at several moments: a machine that is busy in one of them does not decide alone.
fn moments(progress: &dyn Progress) -> Result<Vec<f64>> {
    const COUNT: u64 = 5;
    const PAUSE: Duration = Duration::from_millis(250);
    let one = |number| {
        progress.step(number, COUNT)?;
        if number > 0 {
            std::thread::sleep(PAUSE);
        }
        Ok(pace::speed())
    };
    (0..COUNT).map(one).collect()
}

/// What is predicted of a run: found beside the window.
struct Predicted {
    device: Option<Device>,
    memory: Result<Memory>,
    operations: Option<f64>,
    batch: Option<usize>,
}

impl Predicted {
    fn of(settings: &Settings, base: &Checkpoint, longest: usize, devices: &[(Choice, Result<Device>)]) -> Self {
        let device = meant(devices, settings.device);
        let predicted = |device: &Device| predict(base, settings, longest, device);
        let memory = settings.check().and_then(|()| predicted(device.as_ref().map_err(Clone::clone)?));
        let fits = |device: &Device, batch: usize| {
            let memory = predict(base, &Settings { batch, ..settings.clone() }, longest, device).ok()?;
            let free = device.memory?.free as f64;
            (needed(&memory, on_processor(device)) as f64 <= free * TIGHT).then_some(batch)
        };
        let batch = device.as_ref().ok().and_then(|device| BATCHES.into_iter().find_map(|batch| fits(device, batch)));
        Self { device: device.ok(), memory, operations: pace::operations(base, settings).ok(), batch }
    }
}

/// The device that a run computes on when this is asked for: as the engine takes it.
fn meant(devices: &[(Choice, Result<Device>)], choice: Choice) -> Result<Device> {
    let found = |choice: Choice| devices.iter().find(|(other, _)| *other == choice).map(|(_, device)| device.clone());
    match choice {
        Choice::Cpu => Ok(Device::cpu()),
        Choice::Auto => Ok(found(choice).and_then(Result::ok).unwrap_or_else(Device::cpu)),
        Choice::Cuda(_) | Choice::Adapter(..) => found(choice).unwrap_or_else(|| match devices.is_empty() {
            true => Err(Error::usage("The device is being looked for.")),
            false => choice.detect(),
        }),
    }
}

/// Memory of the run on this device, as the engine predicts it before it begins.
fn predict(base: &Checkpoint, settings: &Settings, longest: usize, device: &Device) -> Result<Memory> {
    let dtype = settings.dtype.unwrap_or(ComputeDtype::Bf16);
    let formats = match device.choice {
        Choice::Cpu => None,
        Choice::Adapter(..) => Some(Formats::adapter(dtype, ADAPTER)),
        Choice::Cuda(_) | Choice::Auto => Some(dtype.into()),
    };
    memory::predict_for(base, settings, longest, formats)
}

/// Bytes that a run still needs: on the processor the program is there already.
fn needed(memory: &Memory, here: bool) -> u64 {
    if here { memory.held() } else { memory.total() }
}

/// Batches that are tried, the largest first.
const BATCHES: [usize; 6] = [32, 16, 8, 4, 2, 1];

/// Above this share of the free memory a run may fail where something else needs memory too.
const TIGHT: f64 = 0.85;

/// Whether something fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// With room to spare.
    Fits,
    /// Barely.
    Tight,
    /// Not at all.
    Not,
}

/// Its name in the window.
pub fn method_name(method: Method) -> &'static str {
    method.choice().label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_kept() {
        let mut draft = Draft { name: "first".into(), ..Draft::default() };
        draft.settings.rank_pattern.insert("q_proj".into(), 3);
        draft.settings.prompts = vec!["Once".into()];
        assert_eq!(Draft::from_kept(&draft.kept()), draft);
        draft.settings.device = Choice::Cuda(1);
        assert_eq!(Draft::from_kept(&draft.kept()), draft);
        assert_eq!(Draft::from_kept("name = 3"), Draft::default());
    }

    #[test]
    fn memory_is_predicted_of_the_device_that_computes() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama");
        let base = Checkpoint::open(&model).unwrap();
        let room = device::Memory { total: 24 << 30, free: 20 << 30 };
        let gpu = Device { choice: Choice::Cuda(0), name: "GPU".into(), cores: None, memory: Some(room) };
        let settings = Settings { rank: 4, seq: 64, ..Settings::default() };
        let of = |settings: &Settings, device: &Device| predict(&base, settings, 64, device).unwrap();
        let on_gpu = memory::predict_for(&base, &settings, 64, Some(ComputeDtype::Bf16.into())).unwrap();
        assert_eq!(of(&settings, &gpu), on_gpu);
        assert_eq!(on_gpu.process, memory::CONTEXT);
        let exact = Settings { dtype: Some(ComputeDtype::F32), ..settings.clone() };
        assert!(of(&exact, &gpu).activations > on_gpu.activations);
        assert!(of(&settings, &Device::cpu()).process != memory::CONTEXT);
        // What is asked for, and what there is.
        let there = [(Choice::Auto, Ok(gpu))];
        assert_eq!(meant(&there, Choice::Auto).unwrap().choice, Choice::Cuda(0));
        assert_eq!(meant(&there, Choice::Cpu).unwrap().choice, Choice::Cpu);
        let broken = [(Choice::Cuda(0), Err(Error::usage("no driver")))];
        assert_eq!(meant(&broken, Choice::Auto).unwrap().choice, Choice::Cpu);
        assert_eq!(meant(&broken, Choice::Cuda(0)).unwrap_err().to_string(), "no driver");
        let device = Some(Device { choice: Choice::Cuda(0), name: "GPU".into(), cores: None, memory: None });
        // Twenty bytes are too few for any run, however small.
        let mut outlook = Outlook { memory: Some(Ok(on_gpu)), device, free: Some(20), ..Outlook::default() };
        assert_eq!(outlook.fit(), Some(Fit::Not));
        outlook.free = Some(on_gpu.total() * 2);
        assert_eq!(outlook.fit(), Some(Fit::Fits));
    }
}
