//! [`run`]: a whole run with its files.
//!
//! ```text
//! out/run.toml                      the settings
//! out/metrics.jsonl                 a line a step
//! out/memory.json                   bytes, predicted and measured
//! out/film.jsonl, samples.jsonl     spectra of ΔW at logged steps; what the model writes after the prompts
//! out/status.json                   how far it came, how it ended
//! out/checkpoints/step-N/           state.safetensors: parameters and moments; state.json: where it was
//! out/adapter_model.safetensors     the result (under `full`: a model folder)
//! ```

use super::data::{self, Data, HoldOut};
use super::film::{Film, Frame};
use super::memory::{self, Memory};
use super::merge::{Change, write_model};
use super::notes;
use super::samples::{Prompts, Sample};
use super::status::{self, State, Status};
use super::store::{Tensor, write_lazily, write_whole};
use super::trainer::{Step, Trainer};
use super::{Method, Rows, Settings};
use crate::checkpoint::{Checkpoint, Dtype};
use crate::device;
use crate::error::{Error, Result};
use crate::model::{Decoder, Frozen, Param, gpu};
use crate::progress::Progress;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a run tells while it goes.
#[derive(Clone, Debug)]
pub enum Event {
    /// A sentence about the data or the model.
    Note(String),
    /// Before the first step.
    Started {
        /// Steps in all, and already done by an earlier part of the run.
        steps: usize,
        /// Steps done before.
        done: usize,
        /// Elements that are trained.
        trainable: usize,
        /// Predicted memory.
        memory: Memory,
    },
    /// A step is done.
    Step(Record),
    /// A checkpoint is on the disk.
    Saved(PathBuf),
    /// Singular values of ΔW.
    Frame(Frame),
    /// What the model writes after a prompt.
    Sample(Sample),
}

/// A line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// The step.
    pub step: Step,
    /// Speed of it.
    pub tokens_per_s: f64,
    /// Mean loss over the held-out rows, where it was taken after this step.
    pub eval_loss: Option<f64>,
    /// Bytes that weights, everything trained and the buffers at their most take; 0 where it is not known.
    pub held: u64,
}

/// What a run gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Steps in all.
    pub steps: usize,
    /// Loss of the first step of this part of the run.
    pub first_loss: f64,
    /// Loss of the last step.
    pub last_loss: f64,
    /// Mean loss over the held-out rows at the end.
    pub eval_loss: Option<f64>,
    /// Tokens a second over all steps.
    pub tokens_per_s: f64,
    /// The most memory that was in use on a GPU, if one computed.
    pub gpu_peak: Option<u64>,
    /// Where the result is.
    pub adapter: PathBuf,
    /// Memory as predicted and as measured.
    pub memory: memory::Record,
}

/// How a run begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Goes on after the last checkpoint.
    pub resume: bool,
    /// Even where the prediction says that memory does not suffice.
    pub force: bool,
}

/// Trains from the beginning to the end, or from the last checkpoint.
///
/// # Errors
/// Everything that can be wrong with settings, model and data, before anything is written; divergence; a file that
/// cannot be written; and cancellation, after which the run can be resumed.
pub fn run(
    settings: Settings,
    start: Start,
    progress: &dyn Progress,
    told: &mut dyn FnMut(Event) -> Result<()>,
) -> Result<Summary> {
    settings.check()?;
    let out = settings.out.clone();
    if out.as_os_str().is_empty() {
        return Err(Error::usage("no folder to write to; expected --out DIR"));
    }
    let from = if start.resume { last_checkpoint(&out, &settings)? } else { None };
    if !start.resume && out.join("metrics.jsonl").exists() {
        return Err(Error::file(
            &out,
            "there is a run in this folder; --resume goes on with it, or choose another folder",
        ));
    }
    let place = gpu::open(settings.device, settings.dtype)?;
    if let Some(note) = &place.note {
        told(Event::Note(note.clone()))?;
    }
    let checkpoint = Checkpoint::open(&settings.model)?;
    let (Data { rows, notes, .. }, held_out) = read(&settings, &checkpoint, progress)?;
    for note in notes {
        told(Event::Note(format!("{}: {note}", settings.data.display())))?;
    }
    let prompts = Prompts::new(&settings.prompts, &checkpoint)?;
    let longest = rows.rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
    let real = place.machine.as_ref().map(|(_, real)| *real);
    let memory = memory::predict_for(&checkpoint, &settings, longest, real)?;
    match &place.machine {
        Some((machine, _)) => memory::check_in(&memory, machine.memory(), 0, start.force)?,
        None => memory::check(&memory, start.force)?,
    }
    // What was had before the run does not count.
    device::forget_peak();
    let mut trainer = Trainer::new(&checkpoint, settings.clone(), rows, progress)?;
    let film = (settings.film_every > 0).then(|| Film::new(&trainer.decoder, settings.mutates_base()));
    for note in notes::of(&trainer.decoder, &settings, checkpoint.config()) {
        told(Event::Note(note))?;
    }
    if let Some(from) = &from {
        restore(&mut trainer, from)?;
    }
    let _lock = status::lock(&out)?;
    let engine = place.engine(&trainer.decoder)?;
    trainer.onto(engine)?;
    trainer.engine().reserve((memory.optimizer + memory.activations + memory.logits + memory.workspace) as usize)?;
    let text = toml::to_string(&settings).map_err(|error| Error::failure(format!("cannot write settings: {error}")))?;
    write_whole(&out.join("run.toml"), text.as_bytes())?;
    let (done, trainable) = (trainer.done, trainer.decoder.params.elements());
    let predicted = memory.held();
    let mut status = Status { state: State::Running, steps: trainer.steps, trainable, predicted, ..Status::default() };
    status.write(&out)?;
    told(Event::Started { steps: trainer.steps, done, trainable, memory })?;
    let watch = Watch { film, prompts, held_out, resumed: from.is_some(), memory };
    let result = go(&mut trainer, &checkpoint, &watch, &mut status, progress, told);
    status.end(&out, &result);
    result
}

/// The rows to train on, and those that are held out: of a file of their own, or a share of the data where evaluation is asked for.
///
/// # Errors
/// As [`data::read`].
pub fn read(settings: &Settings, checkpoint: &Checkpoint, progress: &dyn Progress) -> Result<(Data, Option<Rows>)> {
    let mut data = data::read(&settings.data, checkpoint, settings.seq, progress)?;
    let held_out = match &settings.eval_data {
        Some(path) => Some(data::read(path, checkpoint, settings.seq, progress)?.rows),
        None if settings.eval_every > 0 => {
            Some(HoldOut::TENTH.take(&mut data.rows, settings.seed)).filter(|held_out| !held_out.rows.is_empty())
        }
        None => None,
    };
    let rows = &data.rows.rows;
    let most = checkpoint.spec()?.max_positions;
    let all = held_out.iter().flat_map(|held_out| &held_out.rows).chain(rows.iter());
    if let Some(longest) = all.map(|row| row.ids.len()).max().filter(|longest| *longest > most) {
        return Err(Error::usage(format!(
            "a row of {longest} tokens; the model allows {most}: --seq {most} cuts the rows that are longer"
        )));
    }
    if settings.packing {
        let before = rows.len();
        data.rows = data.rows.packed(settings.seq);
        let after = data.rows.rows.len();
        data.notes.push(format!("{before} rows are packed into {after} sequences of up to {} tokens", settings.seq));
    }
    Ok((data, held_out))
}

/// What is looked at while a run goes on.
struct Watch {
    film: Option<Film>,
    prompts: Prompts,
    held_out: Option<Rows>,
    /// There is a checkpoint already.
    resumed: bool,
    /// What was predicted.
    memory: Memory,
}

/// The loop: step → log → evaluate → film, sample → save.
fn go(
    trainer: &mut Trainer,
    checkpoint: &Checkpoint,
    watch: &Watch,
    status: &mut Status,
    progress: &dyn Progress,
    told: &mut dyn FnMut(Event) -> Result<()>,
) -> Result<Summary> {
    let settings = trainer.settings.clone();
    let out = settings.out.clone();
    let mut metrics = Lines::open(&out.join("metrics.jsonl"), trainer.done)?;
    let mut frames = Lines::open(&out.join("film.jsonl"), trainer.done)?;
    let mut texts = Lines::open(&out.join("samples.jsonl"), trainer.done)?;
    let mut sample = |trainer: &Trainer, told: &mut dyn FnMut(Event) -> Result<()>| -> Result<()> {
        for sample in watch.prompts.sample(&trainer.decoder, trainer.done)? {
            texts.add(&json!(sample))?;
            told(Event::Sample(sample))?;
        }
        Ok(())
    };
    if trainer.done == 0 {
        sample(trainer, told)?;
    }
    let (mut first_loss, mut last_loss, mut eval_loss) = (None, f64::NAN, None);
    let (mut tokens, mut seconds) = (0usize, 0f64);
    let mut kept = watch.resumed.then_some(trainer.done);
    while trainer.done < trainer.steps {
        if let Err(stopped) = progress.step(trainer.done as u64, trainer.steps as u64) {
            told(Event::Saved(save(trainer.gather()?, &out).map_err(|error| error.and(&room(kept)))?))?;
            return Err(stopped);
        }
        let begin = Instant::now();
        let step = trainer.step().map_err(|error| error.and(&last_good(kept)))?;
        let took = begin.elapsed().as_secs_f64();
        (tokens, seconds) = (tokens + step.tokens, seconds + took);
        first_loss.get_or_insert(step.loss);
        last_loss = step.loss;
        let last = trainer.done == trainer.steps;
        let done = trainer.done;
        let due = |every: usize| every > 0 && done.is_multiple_of(every);
        let now = watch.held_out.as_ref().filter(|_| last || due(settings.eval_every));
        let evaluated = now.map(|rows| trainer.evaluate(rows, &())).transpose()?.map(|loss| loss.mean());
        eval_loss = evaluated.or(eval_loss);
        let speed = step.tokens as f64 / took.max(1e-9);
        let record = Record { step, tokens_per_s: speed, eval_loss: evaluated, held: trainer.held_bytes() };
        status.held = status.held.max(record.held);
        metrics.add(&record.line()).map_err(|error| error.and(&room(kept)))?;
        told(Event::Step(record))?;
        if last || step.step == 1 || due(settings.film_every) || due(settings.sample_every) {
            // What is looked at now may stand on another device.
            trainer.gather()?;
        }
        if let Some(film) = watch.film.as_ref().filter(|_| last || step.step == 1 || due(settings.film_every)) {
            let frame = film.frame(&trainer.decoder, trainer.done)?;
            frames.add(&json!(frame))?;
            told(Event::Frame(frame))?;
        }
        if last || due(settings.sample_every) {
            sample(trainer, told)?;
        }
        if due(settings.save_every) && !last {
            let saved = save(trainer.gather()?, &out).map_err(|error| error.and(&room(kept)))?;
            kept = Some(trainer.done);
            told(Event::Saved(saved))?;
        }
    }
    progress.step(1, 1)?;
    trainer.gather()?;
    let written = if settings.method == Method::Full {
        write_model(checkpoint, &Change::Params(&trainer.decoder.params), None, &out, &()).map(|_| ())
    } else {
        trainer.write_adapter(&out)
    };
    written.map_err(|error| error.and(&room(kept)))?;
    let buffers = trainer.peak_activations() as u64;
    // What was predicted is what was measured: the GPU's memory, where one computed.
    let gpu_peak = trainer.engine().peak_bytes().map(|bytes| bytes as u64);
    let measured = gpu_peak.map(|peak| peak + memory::CONTEXT).or_else(device::peak);
    let record = memory::Record { predicted: watch.memory, measured, buffers };
    record.write(&out)?;
    Ok(Summary {
        steps: trainer.steps,
        first_loss: first_loss.unwrap_or(f64::NAN),
        last_loss,
        eval_loss,
        tokens_per_s: tokens as f64 / seconds.max(1e-9),
        gpu_peak,
        adapter: out,
        memory: record,
    })
}

/// What to do where a file of the run cannot be written, with the checkpoint that there is.
fn room(kept: Option<usize>) -> String {
    match kept {
        Some(step) => format!("make room there, and --resume goes on after step {step}, whose checkpoint is kept"),
        None => "make room there, and --resume begins again: there was no checkpoint yet".to_owned(),
    }
}

/// What a run that diverged leaves.
fn last_good(kept: Option<usize>) -> String {
    match kept {
        Some(step) => {
            format!("the checkpoint of step {step} is kept: its adapter can begin another run by --init-adapter")
        }
        None => "there is no checkpoint before it".to_owned(),
    }
}

impl Record {
    /// A line of `metrics.jsonl`.
    fn line(&self) -> Value {
        let Self { step, tokens_per_s, eval_loss, held } = *self;
        let Step { step, loss, lr, grad_norm, tokens } = step;
        let mut line = json!({"step": step, "loss": loss, "lr": lr, "grad_norm": grad_norm, "tokens": tokens, "tokens_per_s": tokens_per_s});
        if let Some(loss) = eval_loss {
            line["eval_loss"] = json!(loss);
        }
        line["held_bytes"] = json!(held);
        line
    }

    /// Reads a line; `None` where it is none, as when it was being written.
    pub fn parse(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let number = |key: &str| line[key].as_f64();
        let whole = |key: &str| line[key].as_u64().map(|x| x as usize);
        let step = Step {
            step: whole("step")?,
            loss: number("loss")?,
            lr: number("lr")?,
            grad_norm: number("grad_norm").unwrap_or(f64::NAN),
            tokens: whole("tokens")?,
        };
        let (tokens_per_s, eval_loss) = (number("tokens_per_s").unwrap_or(0.0), number("eval_loss"));
        Some(Self { step, tokens_per_s, eval_loss, held: line["held_bytes"].as_u64().unwrap_or(0) })
    }
}

/// A file of JSON lines that each name a step, to which lines are added.
struct Lines {
    path: PathBuf,
    file: File,
}

impl Lines {
    /// Keeps the lines of the first `done` steps; what came after the checkpoint will be done again.
    fn open(path: &Path, done: usize) -> Result<Self> {
        if path.exists() {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let kept = |line: &&str| {
                let line: Value = serde_json::from_str(line).unwrap_or_default();
                line["step"].as_u64().is_some_and(|step| step <= done as u64 && (step > 0 || done > 0))
            };
            let text: String = text.lines().filter(kept).flat_map(|line| [line, "\n"]).collect();
            write_whole(path, text.as_bytes())?;
        }
        let file =
            OpenOptions::new().create(true).append(true).open(path).map_err(|error| Error::write(path, &error))?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn add(&mut self, line: &Value) -> Result<()> {
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(|error| Error::write(&self.path, &error))
    }
}

/// Writes `checkpoints/step-N`: into a folder of another name first, which is then renamed.
/// What a GPU has trained is to be [`gather`](Trainer::gather)ed before.
///
/// # Errors
/// When a file cannot be written.
pub fn save(trainer: &Trainer, out: &Path) -> Result<PathBuf> {
    let folder = out.join("checkpoints");
    let (to, begun) = (folder.join(format!("step-{}", trainer.done)), folder.join(format!(".step-{}", trainer.done)));
    let saved = save_to(trainer, &begun, &to);
    if saved.is_err() {
        // Half a checkpoint is of no use and only fills the disk; what goes wrong here changes nothing.
        std::fs::remove_dir_all(&begun).ok();
    }
    saved.map(|()| to)
}

fn save_to(trainer: &Trainer, begun: &Path, to: &Path) -> Result<()> {
    if begun.exists() {
        std::fs::remove_dir_all(begun).map_err(|error| Error::write(begun, &error))?;
    }
    let optimizer = &trainer.optimizer;
    let params = &trainer.decoder.params.list;
    // One tensor at a time: all of them at once would be as much again as everything that is trained.
    let values = |at: usize| {
        let (what, at) = (at % 3, at / 3);
        [("p", &params[at].value), ("m", &optimizer.m[at]), ("v", &optimizer.v[at])][what]
    };
    let planned: Vec<_> = (0..3 * params.len())
        .map(|at| {
            let param = &params[at / 3];
            let name = format!("{}.{}.{}.{:?}", values(at).0, at / 3, param.name, param.kind);
            (name, param.shape.to_vec(), Dtype::F32)
        })
        .collect();
    write_lazily(&begun.join("state.safetensors"), &planned, &|at| {
        let (name, shape, dtype) = planned[at].clone();
        Ok(Tensor::new(name, shape, values(at).1, dtype))
    })?;
    if trainer.settings.method != Method::Full {
        trainer.write_adapter(begun)?;
    }
    let state = json!({"step": trainer.done, "steps": trainer.steps, "t": optimizer.t});
    write_whole(&begun.join("state.json"), state.to_string().as_bytes())?;
    if to.exists() {
        std::fs::remove_dir_all(to).map_err(|error| Error::write(to, &error))?;
    }
    std::fs::rename(begun, to).map_err(|error| Error::write(to, &error))
}

/// Writes what a full run was at a checkpoint as a model, into a folder within the checkpoint, once.
///
/// # Errors
/// When there is no such checkpoint, it does not fit the model, or a file cannot be written; and cancellation.
pub fn model_at(settings: &Settings, step: usize, progress: &dyn Progress) -> Result<PathBuf> {
    let from = settings.out.join("checkpoints").join(format!("step-{step}"));
    let to = from.join("model");
    if to.join("config.json").is_file() {
        return Ok(to);
    }
    let checkpoint = Checkpoint::open(&settings.model)?;
    let mut decoder = Decoder::load(&checkpoint, Frozen::Nothing, progress)?;
    let stored = Checkpoint::open(&from.join("state.safetensors"))?;
    for (at, param) in decoder.params.list.iter_mut().enumerate() {
        param.value = part(&stored, "p", at, param)?;
    }
    write_model(&checkpoint, &Change::Params(&decoder.params), None, &to, progress)?;
    Ok(to)
}

/// A parameter, or one of its moments, from a checkpoint.
fn part(stored: &Checkpoint, what: &str, at: usize, param: &Param) -> Result<Vec<f32>> {
    let name = format!("{what}.{at}.{}.{:?}", param.name, param.kind);
    let tensor = stored.tensor(&name).filter(|tensor| tensor.shape == param.shape);
    let tensor =
        tensor.ok_or_else(|| Error::tensor(stored.path(), &name, "found no such tensor of the run's shape"))?;
    Ok(stored.tensor_matrix(tensor, &())?.into_data())
}

/// The newest checkpoint of a run with these settings; `None` when it was stopped before there was one, and begins again:
/// the same steps then give the same losses.
fn last_checkpoint(out: &Path, settings: &Settings) -> Result<Option<PathBuf>> {
    let path = out.join("run.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| Error::read(&path, "open", &error))?;
    let before: toml::Table =
        text.parse().map_err(|error: toml::de::Error| Error::file(&path, error.message().to_owned()))?;
    let now = toml::Table::try_from(settings).map_err(|error| Error::failure(error.to_string()))?;
    let differs: Vec<String> = before
        .keys()
        .chain(now.keys().filter(|key| !before.contains_key(*key)))
        .filter(|key| before.get(*key) != now.get(*key) && !Settings::WATCHING.contains(&key.as_str()))
        .map(|key| {
            let shown = |table: &toml::Table| table.get(key).map_or_else(|| "nothing".to_owned(), ToString::to_string);
            format!("{key} was {}, now {}", shown(&before), shown(&now))
        })
        .collect();
    if !differs.is_empty() {
        return Err(Error::file(&path, format!("the run was begun with other settings: {}", differs.join("; "))));
    }
    let folder = out.join("checkpoints");
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(None) };
    let steps = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let step: usize = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
        path.join("state.json").is_file().then_some((step, path))
    });
    Ok(steps.max_by_key(|(step, _)| *step).map(|(_, path)| path))
}

/// Brings a trainer to where a checkpoint was written.
///
/// # Errors
/// A checkpoint that is not whole, or is of another run.
pub fn restore(trainer: &mut Trainer, from: &Path) -> Result<()> {
    let path = from.join("state.json");
    let bytes = std::fs::read(&path).map_err(|error| Error::read(&path, "read", &error))?;
    let state: Value =
        serde_json::from_slice(&bytes).map_err(|error| Error::file(&path, format!("not valid JSON: {error}")))?;
    let number =
        |key: &str| state[key].as_u64().ok_or_else(|| Error::file(&path, format!("found no {key}, expected a number")));
    let (step, steps, t) = (number("step")? as usize, number("steps")? as usize, number("t")?);
    if steps != trainer.steps {
        let message = format!("the run had {steps} steps, now it has {}: the data is another", trainer.steps);
        return Err(Error::file(&path, message));
    }
    let stored = Checkpoint::open(&from.join("state.safetensors"))?;
    let Trainer { decoder, optimizer, .. } = trainer;
    for (at, param) in decoder.params.list.iter_mut().enumerate() {
        optimizer.m[at] = part(&stored, "m", at, param)?;
        optimizer.v[at] = part(&stored, "v", at, param)?;
        param.value = part(&stored, "p", at, param)?;
    }
    (trainer.done, optimizer.t) = (step, t);
    Ok(())
}
