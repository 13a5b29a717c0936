//! [`run`]: a whole run with the files of its [`RunFolder`].

use super::best::Best;
use super::data::{self, Data};
use super::film::{Film, Frame};
use super::history::Follow;
use super::inputs::Inputs;
use super::logs::{Logs, Record};
use super::memory::{self, Memory};
use super::merge::{Change, write_model};
use super::notes;
use super::run_folder::{METRICS, RunFolder, SETTINGS as RUN_TOML};
use super::samples::{Prompts, Sample};
use super::saved::{At, restore, save};
use super::stage::Stage;
use super::status::{self, State, Status};
use super::trainer::Trainer;
use super::{Control, Method, Rows, SETTINGS, Settings};
use crate::checkpoint::Checkpoint;
use crate::device;
use crate::error::{Error, Result};
use crate::model::gpu;
use crate::progress::Progress;
use std::path::PathBuf;
use std::time::Instant;

/// What a run says while it goes on.
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
    /// What an earlier part of the run has written up to where this one begins, in place of all that was said before.
    Earlier(Vec<Event>),
    /// A step is done.
    Step(Record),
    /// A checkpoint is on the disk.
    Saved(PathBuf),
    /// Singular values of ΔW.
    Frame(Frame),
    /// What the model writes after a prompt.
    Sample(Sample),
}

/// Takes what a run says; an error ends the run.
pub type OnEvent<'a> = &'a mut (dyn FnMut(Event) -> Result<()> + Send);

/// What a run gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Steps in all.
    pub steps: usize,
    /// Loss of the first step of this part of the run.
    pub first_loss: f64,
    /// Loss of the last step.
    pub last_loss: f64,
    /// Mean loss over the held-out rows of the result.
    pub eval_loss: Option<f64>,
    /// Mean loss over text of the base's own kind, before the run and of its result.
    pub forgetting: Option<[f64; 2]>,
    /// The step that the result is of: the last one that was done, or the best.
    pub result_step: usize,
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
    /// Even where the prediction says that memory does not suffice, or where data or model have changed.
    pub force: bool,
}

/// Trains from the beginning to the end, or from the last checkpoint.
///
/// How work is divided decides how sums are rounded, so the number of threads is a setting of the run: a run that is resumed
/// computes on as many as before.
///
/// # Errors
/// Everything that can be wrong with settings, model and data, before anything is written; divergence; a file that
/// cannot be written; and cancellation, after which the run can be resumed.
pub fn run(mut settings: Settings, start: Start, progress: &dyn Progress, on_event: OnEvent<'_>) -> Result<Summary> {
    settings.check()?;
    if settings.out.as_os_str().is_empty() {
        return Err(Error::usage("no folder to write to; expected --out DIR"));
    }
    let folder = RunFolder::new(&settings.out);
    if start.resume {
        let before = folder.settings()?;
        settings.threads = settings.threads.or(before.threads);
        same(&before, &settings).map_err(|differs| Error::file(&folder.file(RUN_TOML), differs))?;
    } else if folder.has_steps() {
        return Err(Error::file(
            folder.path(),
            "there is a run in this folder; --resume goes on with it, or choose another folder",
        ));
    }
    let here = rayon::current_num_threads();
    let threads = *settings.threads.get_or_insert(here);
    if threads == here {
        return on_these_threads(settings, start, &folder, progress, on_event);
    }
    on_event(Event::Note(format!("computing on {threads} threads, as the run's settings say, not on {here}")))?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| Error::failure(format!("cannot start {threads} threads: {error}")))?;
    pool.install(|| on_these_threads(settings, start, &folder, progress, on_event))
}

/// Refuses settings that a run cannot be resumed with. Paths are compared by what lies there, in [`Inputs`].
fn same(before: &Settings, now: &Settings) -> std::result::Result<(), String> {
    let path = |control| matches!(control, Control::Path(_));
    let of_run = SETTINGS.iter().filter(|setting| !setting.about.logging && !path(setting.about.control));
    let differs = of_run.filter(|setting| setting.name != "device").filter_map(|setting| {
        let (then, now) = ((setting.get)(before), (setting.get)(now));
        let shown = |text: &str| if text.is_empty() { "nothing".to_owned() } else { text.to_owned() };
        // Runs that did not keep how many threads they had.
        let unknown = setting.name == "threads" && then.is_empty();
        (then != now && !unknown).then(|| format!("{} was {}, now {}", setting.name, shown(&then), shown(&now)))
    });
    let differs: Vec<String> = differs.collect();
    if differs.is_empty() {
        return Ok(());
    }
    Err(format!("the run was begun with other settings: {}", differs.join("; ")))
}

fn on_these_threads(
    settings: Settings,
    start: Start,
    folder: &RunFolder,
    progress: &dyn Progress,
    on_event: OnEvent<'_>,
) -> Result<Summary> {
    let inputs = Inputs::of(&settings, &Stage::before(progress, "reading the data and the model"))?;
    if let Some(before) = start.resume.then(|| Inputs::read(folder)).flatten() {
        for sentence in inputs.differ(&before, &settings) {
            if !start.force {
                return Err(Error::file(folder.path(), format!("{sentence}; --force resumes the run all the same")));
            }
            on_event(Event::Note(sentence))?;
        }
    }
    let place = gpu::open(settings.device, settings.dtype)?;
    if let Some(note) = place.brief() {
        on_event(Event::Note(note.to_owned()))?;
    }
    let checkpoint = Checkpoint::open(&settings.model)?;
    let reading = Stage::before(progress, "reading the data");
    let (Data { rows, notes, .. }, held_out) = read(&settings, &checkpoint, &reading)?;
    for note in notes {
        on_event(Event::Note(format!("{}: {note}", settings.data.display())))?;
    }
    let reading = Stage::before(progress, "reading the text that should not be forgotten");
    let base_text = settings.forget_data.as_ref().map(|path| data::read(path, &checkpoint, settings.seq, &reading));
    let base_text = base_text.transpose()?.map(|data| data.rows);
    let prompts = Prompts::new(&settings.prompts, &checkpoint)?;
    let longest = rows.rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
    let formats = place.machine.as_ref().map(|(machine, dtype)| machine.formats(*dtype));
    let memory = memory::predict_for(&checkpoint, &settings, longest, formats)?;
    match &place.machine {
        Some((machine, _)) => memory::check_in(&memory, machine.memory(), 0, start.force)?,
        None => memory::check(&memory, start.force)?,
    }
    // What was had before the run does not count.
    device::forget_peak();
    let loading = Stage::before(progress, "loading the model");
    let mut trainer = Trainer::new(&checkpoint, settings.clone(), rows, &loading)?;
    let film = (settings.film_every > 0).then(|| Film::new(&trainer.decoder, settings.mutates_base()));
    for note in notes::of(&trainer.decoder, &settings, checkpoint.config()) {
        on_event(Event::Note(note))?;
    }
    let owed = if start.resume { newest(&mut trainer, folder, on_event)? } else { None };
    let _lock = status::lock(folder.path())?;
    folder.sweep();
    let engine = place.engine(&trainer.decoder)?;
    trainer.onto(engine)?;
    trainer.engine().reserve((memory.optimizer + memory.activations + memory.logits + memory.workspace) as usize)?;
    folder.write_settings(&settings)?;
    inputs.write(folder)?;
    let (steps, trainable) = (trainer.steps, trainer.decoder.params.elements());
    let device = if trainer.engine().peak_bytes().is_some() { "gpu" } else { "cpu" }.to_owned();
    let predicted = memory.held();
    // Where a run goes on it is not measured again: its base is that of before.
    let forget_before =
        start.resume.then(|| Status::read(folder.path())).flatten().and_then(|before| before.forget_before);
    let mut status =
        Status { state: State::Running, steps, device, trainable, predicted, forget_before, ..Status::default() };
    status.write(folder.path())?;
    // What is owed of the last step is done again.
    let logged = trainer.done - usize::from(owed.is_some());
    on_event(Event::Started { steps, done: logged, trainable, memory })?;
    let logs = Logs::open(folder, &settings, (trainer.done > 0).then_some(logged))?;
    if trainer.done > 0 {
        on_event(Event::Earlier(Follow::new(folder.path()).events()))?;
    }
    let saved = (trainer.done > 0).then_some(trainer.done);
    let best = if trainer.done > 0 { Best::of_log(folder, logged)? } else { Best::default() };
    let mut active =
        Active { trainer, folder, film, prompts, held_out, base_text, best, logs, saved, progress, on_event };
    let result =
        active.go(owed, &mut status).and_then(|losses| active.finish(&checkpoint, memory, losses, &mut status));
    status.end(folder.path(), &result);
    result
}

/// Brings the trainer to the newest checkpoint that is whole; what that one owes of its last step. A run that was stopped before
/// there was one begins again: the same steps then give the same losses.
fn newest(trainer: &mut Trainer, folder: &RunFolder, on_event: OnEvent<'_>) -> Result<Option<Record>> {
    let mut broken: Option<Error> = None;
    for step in folder.checkpoints().into_iter().rev() {
        let from = folder.checkpoint(step);
        match At::read(&from).and_then(|at| restore(trainer, &from).map(|()| at)) {
            Ok(at) => {
                if let Some(error) = broken {
                    on_event(Event::Note(format!("{error}: going on after step {step}, the checkpoint before it")))?;
                }
                return Ok(at.owed);
            }
            Err(error) if error.is_cancelled() => return Err(error),
            Err(error) => broken = broken.or(Some(error)),
        }
    }
    match broken {
        Some(error) => {
            Err(error.and("no other checkpoint is whole: without the folder checkpoints the run begins again"))
        }
        None => Ok(None),
    }
}

/// The rows to train on, and those that are held out: of a file of their own, or the share of the data that the settings say.
///
/// # Errors
/// As [`data::read`].
pub fn read(settings: &Settings, checkpoint: &Checkpoint, progress: &dyn Progress) -> Result<(Data, Option<Rows>)> {
    let options = settings.data_options();
    let mut data = data::read_with(&settings.data, checkpoint, settings.seq, &options, progress)?;
    let held_out = match &settings.eval_data {
        Some(path) => Some(data::read_with(path, checkpoint, settings.seq, &options, progress)?.rows),
        None => {
            let seed = settings.split_seed.unwrap_or(settings.seed);
            Some(settings.held_out().take(&mut data.rows, seed)).filter(|held_out| !held_out.rows.is_empty())
        }
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

/// Steps of a run in all, as it would take them.
///
/// # Errors
/// As [`read`].
pub fn steps(settings: &Settings, checkpoint: &Checkpoint, progress: &dyn Progress) -> Result<usize> {
    match settings.steps {
        Some(steps) => Ok(steps),
        None => Ok(settings.steps_for(read(settings, checkpoint, progress)?.0.rows.rows.len())),
    }
}

/// A run that goes on.
struct Active<'a> {
    trainer: Trainer,
    folder: &'a RunFolder,
    film: Option<Film>,
    prompts: Prompts,
    held_out: Option<Rows>,
    /// Of the base's own kind.
    base_text: Option<Rows>,
    best: Best,
    logs: Logs,
    /// The step of the last checkpoint.
    saved: Option<usize>,
    progress: &'a dyn Progress,
    on_event: OnEvent<'a>,
}

/// Losses and speed of a run.
struct Losses {
    first: f64,
    last: f64,
    held_out: Option<f64>,
    forgotten: Option<f64>,
    tokens_per_s: f64,
}

impl Active<'_> {
    /// The loop: step → evaluate → log → film, sample → save. Stopped within a step, between two or in what comes after one, it saves
    /// a checkpoint of the steps that are done first.
    fn go(&mut self, owed: Option<Record>, status: &mut Status) -> Result<Losses> {
        let (mut first, mut last, mut seen) = (None, f64::NAN, Looked::default());
        let (mut tokens, mut seconds) = (0usize, 0f64);
        if self.trainer.done == 0 {
            self.sample()?;
            if let Some(rows) = &self.base_text {
                let steps = self.trainer.steps as u64;
                let stage = Stage::new(self.progress, "measuring what the base knows", "rows", (0, steps));
                status.forget_before = Some(self.trainer.evaluate(rows, &stage)?.mean());
                status.write(self.folder.path())?;
            }
        }
        if let Some(record) = owed {
            seen = self.after(record)?;
        }
        let patience = self.trainer.settings.patience;
        while self.trainer.done < self.trainer.steps && !self.best.is_over(patience) {
            let steps = self.trainer.steps;
            self.progress.stage("");
            if let Err(stopped) = self.progress.step(self.trainer.done as u64, steps as u64) {
                self.save(None)?;
                return Err(stopped);
            }
            let begin = Instant::now();
            let step = match self.trainer.step_unless(self.progress) {
                Ok(step) => step,
                Err(stopped) if stopped.is_cancelled() => {
                    self.save(None)?;
                    return Err(stopped);
                }
                Err(error) => return Err(error.and(&last_good(self.saved))),
            };
            let took = begin.elapsed().as_secs_f64();
            (tokens, seconds) = (tokens + step.tokens, seconds + took);
            first.get_or_insert(step.loss);
            last = step.loss;
            let speed = step.tokens as f64 / took.max(1e-9);
            let held = self.trainer.held_bytes();
            let (eval_loss, eval_sure, forget_loss) = (None, None, None);
            let record = Record { step, tokens_per_s: speed, eval_loss, eval_sure, forget_loss, held, seconds: None };
            status.held = status.held.max(record.held);
            let now = self.after(record)?;
            seen = Looked { held_out: now.held_out.or(seen.held_out), forgotten: now.forgotten.or(seen.forgotten) };
        }
        if self.trainer.done < self.trainer.steps {
            let Best { step, loss, since } = self.best;
            let note = format!(
                "stopped after step {} of {}: the held-out loss was lowest ({loss:.4}) after step {step}, and has not fallen for {since} evaluations",
                self.trainer.done, self.trainer.steps
            );
            (self.on_event)(Event::Note(note))?;
        }
        let tokens_per_s = tokens as f64 / seconds.max(1e-9);
        let Looked { held_out, forgotten } = seen;
        Ok(Losses { first: first.unwrap_or(f64::NAN), last, held_out, forgotten, tokens_per_s })
    }

    /// What comes after a step; the losses that were taken.
    fn after(&mut self, record: Record) -> Result<Looked> {
        match self.look(record) {
            Err(error) if error.is_cancelled() => {
                self.save(Some(record))?;
                Err(error)
            }
            looked => looked,
        }
    }

    fn look(&mut self, mut record: Record) -> Result<Looked> {
        let (done, steps) = (self.trainer.done, self.trainer.steps);
        let settings = self.trainer.settings.clone();
        let due = |every: usize| every > 0 && done.is_multiple_of(every);
        let evaluated = done == steps || due(settings.eval_every);
        if let Some(rows) = self.held_out.as_ref().filter(|_| evaluated) {
            let stage = Stage::new(self.progress, "evaluating", "rows", (done as u64, steps as u64));
            let loss = self.trainer.evaluate(rows, &stage)?;
            (record.eval_loss, record.eval_sure) = (Some(loss.mean()), Some(loss.sure()));
        }
        if let Some(rows) = self.base_text.as_ref().filter(|_| evaluated) {
            let stage = Stage::new(self.progress, "measuring what is forgotten", "rows", (done as u64, steps as u64));
            record.forget_loss = Some(self.trainer.evaluate(rows, &stage)?.mean());
        }
        let before = self.best;
        let best = record.eval_loss.is_some_and(|loss| self.best.see(done, loss));
        let last = done == steps || self.best.is_over(settings.patience);
        self.logs.step(&record).map_err(|error| error.and(&room(self.saved)))?;
        (self.on_event)(Event::Step(record))?;
        let filmed = last || record.step.step == 1 || due(settings.film_every);
        if filmed || due(settings.sample_every) {
            // What is looked at now may stand on another device.
            self.trainer.gather()?;
        }
        if let Some(film) = self.film.as_ref().filter(|_| filmed) {
            let frame = film.frame(&self.trainer.decoder, done)?;
            self.logs.frame(&frame).map_err(|error| error.and(&room(self.saved)))?;
            (self.on_event)(Event::Frame(frame))?;
        }
        if last || due(settings.sample_every) {
            self.sample()?;
        }
        // The last step is the result anyway; where it is not the best, an earlier one is kept.
        let keep = settings.keep_best && best;
        if (due(settings.save_every) || keep) && !last {
            self.save(None)?;
        }
        if keep && before.step > 0 && !(settings.save_every > 0 && before.step.is_multiple_of(settings.save_every)) {
            self.forget(before.step);
        }
        Ok(Looked { held_out: record.eval_loss, forgotten: record.forget_loss })
    }

    /// Removes a checkpoint that was kept because it was the best, and is no longer. That it stays would do no harm.
    fn forget(&self, step: usize) {
        let folder = self.folder.checkpoint(step);
        if let Err(error) = std::fs::remove_dir_all(&folder) {
            log::warn!("{}: cannot remove a checkpoint: {error}", folder.display());
        }
    }

    /// What the model writes after each prompt.
    fn sample(&mut self) -> Result<()> {
        let (done, steps) = (self.trainer.done, self.trainer.steps);
        let when = if done == 0 { " before the run" } else { "" };
        for number in 0..self.prompts.len() {
            let name = format!("sample {} of {}{when}", number + 1, self.prompts.len());
            let stage = Stage::new(self.progress, name, "tokens", (done as u64, steps as u64));
            let sample = self.prompts.sample(number, &self.trainer.decoder, done, &stage)?;
            self.logs.sample(&sample).map_err(|error| error.and(&room(self.saved)))?;
            (self.on_event)(Event::Sample(sample))?;
        }
        Ok(())
    }

    /// Saves a checkpoint, with what is owed of the last step.
    fn save(&mut self, owed: Option<Record>) -> Result<()> {
        self.progress.stage("saving a checkpoint");
        if !self.folder.is_run() {
            return Err(Error::file(self.folder.path(), "the run's folder was removed while it was training"));
        }
        let saved = save(self.trainer.gather()?, self.folder.path(), owed);
        (self.on_event)(Event::Saved(saved.map_err(|error| error.and(&room(self.saved)))?))?;
        self.saved = Some(self.trainer.done);
        Ok(())
    }

    /// Back to the checkpoint of the lowest held-out loss, and to the losses of then.
    fn go_back(&mut self, losses: &mut Losses) -> Result<()> {
        let Best { step, loss, .. } = self.best;
        restore(&mut self.trainer, &self.folder.checkpoint(step))?;
        losses.held_out = Some(loss);
        if self.base_text.is_some() {
            let lines = self.folder.lines_until(METRICS, step)?;
            let lines = String::from_utf8_lossy(&lines);
            losses.forgotten = lines.lines().rev().find_map(|line| Record::parse(line)?.forget_loss);
        }
        (self.on_event)(Event::Note(format!(
            "the result is that of step {step}, whose held-out loss was lowest: {loss:.4}"
        )))
    }

    /// Writes the result.
    fn finish(
        &mut self,
        checkpoint: &Checkpoint,
        predicted: Memory,
        mut losses: Losses,
        status: &mut Status,
    ) -> Result<Summary> {
        self.progress.stage("writing the result");
        let out = self.folder.path().to_path_buf();
        if !self.folder.is_run() {
            return Err(Error::file(&out, "the run's folder was removed while it was training"));
        }
        self.trainer.gather()?;
        if self.trainer.settings.keep_best && self.best.step > 0 && self.best.step < self.trainer.done {
            self.go_back(&mut losses)?;
            status.kept = Some(self.trainer.done);
        }
        let written = if self.trainer.settings.method == Method::Full {
            write_model(checkpoint, &Change::Params(&self.trainer.decoder.params), None, &out, &()).map(drop)
        } else {
            self.trainer.write_adapter(&out)
        };
        written.map_err(|error| error.and(&room(self.saved)))?;
        let buffers = self.trainer.peak_activations() as u64;
        // What was predicted is what was measured: the GPU's memory, where one computed.
        let gpu_peak = self.trainer.engine().peak_bytes().map(|bytes| bytes as u64);
        let measured = gpu_peak.map(|peak| peak + memory::CONTEXT).or_else(device::peak);
        let record = memory::Record { predicted, measured, buffers };
        record.write(&out)?;
        let Losses { first, last, held_out, forgotten, tokens_per_s } = losses;
        Ok(Summary {
            steps: self.trainer.steps,
            first_loss: first,
            last_loss: last,
            eval_loss: held_out,
            forgetting: status.forget_before.zip(forgotten).map(|(before, after)| [before, after]),
            result_step: self.trainer.done,
            tokens_per_s,
            gpu_peak,
            adapter: out,
            memory: record,
        })
    }
}

/// Losses that were taken after a step.
#[derive(Clone, Copy, Debug, Default)]
struct Looked {
    held_out: Option<f64>,
    forgotten: Option<f64>,
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
