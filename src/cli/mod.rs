//! The command line: one file a subcommand, over the same library as the window.
//!
//! `rankscope` alone opens the window; a subcommand runs headless. `--json` prints exactly one JSON document on stdout;
//! messages, and a progress bar where there is a terminal, go to stderr. Exit status: 0 done, 1 failed, 2 bad arguments
//! or bad input, 130 interrupted.

mod advise;
mod choice;
mod combine;
mod compare;
mod convert;
mod demo;
mod doctor;
mod eval;
mod export_job;
mod extract;
mod generate;
mod get;
mod inspect;
mod intruders;
mod memory;
mod merge;
mod params;
mod plan;
mod probe;
mod quantize;
mod repairs;
mod runs;
mod screen;
mod settings;
mod spectrum;
mod sweep;
mod text;
mod train;

use crate::device::Choice;
use crate::error::{Error, Result};
use crate::units::visible_lines;
use clap::{Args, Parser, Subcommand};
use screen::Screen;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What the window is to open with.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// Files and folders whose kind shows when they are opened: a model, then a tuned model or an adapter.
    pub paths: Vec<PathBuf>,
    /// The base model.
    pub base: Option<PathBuf>,
    /// A tuned model, to compare with the base.
    pub tuned: Option<PathBuf>,
    /// An adapter for the base.
    pub adapter: Option<PathBuf>,
    /// Where to compute.
    pub device: Choice,
}

/// LoRA and QLoRA explorer: spectra of ΔW, the choice of a rank, quantization, fine-tuning
#[derive(Debug, Parser)]
#[command(name = "rankscope", version, about, after_help = "Without a command, the window opens.")]
struct Arguments {
    /// Open in the window: a model, a fine-tuned model, an adapter
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Base model to open: a .safetensors file or a folder as on the Hugging Face Hub
    #[arg(long, value_name = "MODEL")]
    base: Option<PathBuf>,

    /// Fine-tuned model, to compare with the base
    #[arg(long, value_name = "MODEL", conflicts_with = "adapter")]
    tuned: Option<PathBuf>,

    /// Adapter of the base
    #[arg(long, value_name = "ADAPTER")]
    adapter: Option<PathBuf>,

    #[command(flatten)]
    common: Common,

    #[command(subcommand)]
    command: Option<Command>,
}

/// The whole command line as clap knows it: manual pages and completions are made of it.
pub fn command() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// What every subcommand takes.
#[derive(Debug, Args)]
struct Common {
    /// Print one JSON document on stdout
    #[arg(long, global = true)]
    json: bool,

    /// Number of compute threads [default: all cores]
    #[arg(long, global = true, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Device: auto, cpu, cuda[:N], vulkan[:N], metal[:N] or dx12[:N]
    #[arg(long, global = true, value_name = "DEVICE", default_value_t = Choice::Auto)]
    device: Choice,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a model or an adapter: tensors, shapes, data types, parameters
    Inspect(inspect::Inspect),
    /// Count trainable parameters and adapter sizes by rank
    Params(params::Params),
    /// Predict the memory of a run, part by part, and which GPUs it fits
    Memory(memory::Memory),
    /// Singular values and ranks of ΔW between two models, of an adapter, or of a model's own weights
    Spectrum(spectrum::Spectrum),
    /// Extract a LoRA adapter from the difference of two models
    Extract(extract::Extract),
    /// Truncate an adapter to a smaller rank
    Resize(extract::Resize),
    /// Best ranks for a budget, as rank_pattern; writes a LoraConfig, Python, a report
    Plan(plan::Plan),
    /// Subspace similarity of two updates; amplification of the base by one
    Compare(compare::Compare),
    /// Add two adapters of one base: angles, interference, the sum cut to a rank, its loss on both tasks
    Combine(combine::Combine),
    /// Directions of an adapter that its base had nothing like, and what scaling them down does to both losses
    Intruders(intruders::Intruders),
    /// Which rank, α and learning rate, on which modules: one answer with its reasons and its range
    Advise(Box<advise::Advise>),
    /// Gradient spectra of the frozen model on your data, and the ranks they suggest before training
    Probe(probe::Probe),
    /// Check an adapter: scaling, patterns that match nothing, names that do not fit the base; who serves it
    Doctor(doctor::Doctor),
    /// Quantization error of a model's weights by format; with --save, write the model in 4 bits
    Quantize(Box<quantize::Quantize>),
    /// Fine-tune a model by QLoRA, LoRA or full training
    Train(Box<train::Train>),
    /// Fine-tune at several ranks, and truncate the largest one to the others
    Sweep(Box<sweep::Sweep>),
    /// Export a run's settings as a folder that trains elsewhere: TRL, axolotl, LLaMA-Factory, Unsloth, on a cluster
    ExportJob(Box<export_job::ExportJob>),
    /// List runs of this program and of others; follow those that go on
    Runs(runs::Runs),
    /// Loss and perplexity of a model on a data file
    Eval(eval::Eval),
    /// Generate text
    Generate(generate::Generate),
    /// Merge an adapter into its base model
    Merge(merge::Merge),
    /// Convert an adapter (PEFT, mlx-lm, llama.cpp's GGUF, kohya) or a model (GGUF, safetensors)
    Convert(convert::Convert),
    /// Fetch a model or an adapter from the Hugging Face Hub into its cache
    Get(get::Get),
    /// Build the bundled models and data
    Demo(demo::Demo),
}

/// More threads than any machine has processors for.
const MOST_THREADS: usize = 4096;

/// Runs what the arguments ask for, the program's name first among them; `window` opens the window and returns when it
/// is closed.
pub fn run(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    window: impl FnOnce(Window) -> Result<()>,
) -> ExitCode {
    let words: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let arguments = match Arguments::try_parse_from(&words) {
        Ok(arguments) => arguments,
        // It repeats what was typed, which may be a name from a folder.
        Err(error) if words.iter().any(|word| word.to_string_lossy().contains(char::is_control)) => {
            eprint!("{}", visible_lines(&error.render().to_string()));
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
        Err(error) => {
            // Help and the version are "errors" that go to stdout and exit with 0. Where nobody reads, nothing is lost.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let screen = Screen::new(arguments.common.json);
    let result = catch_unwind(AssertUnwindSafe(|| dispatch(arguments, &screen, window)))
        .unwrap_or_else(|_| Err(Error::failure("this is a mistake in rankscope, described above; please report it")));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if screen.closed() => ExitCode::SUCCESS,
        Err(error) => {
            screen.error(&error);
            ExitCode::from(error.status())
        }
    }
}

fn dispatch(arguments: Arguments, screen: &Screen, window: impl FnOnce(Window) -> Result<()>) -> Result<()> {
    let Arguments { paths, base, tuned, adapter, common, command } = arguments;
    if let Some(threads) = common.threads {
        if threads.get() > MOST_THREADS {
            return Err(Error::usage(format!("threads {threads}; expected at most {MOST_THREADS}")));
        }
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.get())
            .build_global()
            .map_err(|error| Error::failure(format!("cannot start {threads} threads: {error}")))?;
    }
    let named = [&base, &tuned, &adapter];
    let Some(command) = command else {
        if common.json {
            return Err(Error::usage("--json goes with a command; without one the window opens"));
        }
        for path in &paths {
            there(path, true)?;
        }
        for path in named.into_iter().flatten() {
            there(path, false)?;
        }
        return window(Window { paths, base, tuned, adapter, device: common.device });
    };
    crate::interrupt::listen(|| ());
    if !paths.is_empty() || named.iter().any(|path| path.is_some()) {
        return Err(Error::usage("what stands before a command is for the window; put it behind the command"));
    }
    // A GPU that is asked for by name is refused where it is not used, never replaced in silence. Why it cannot be used at
    // all is said first.
    let device = common.device;
    let trains = matches!(command, Command::Train(_) | Command::Sweep(_) | Command::Advise(_));
    let computes = trains
        || matches!(command, Command::Eval(_) | Command::Generate(_))
        || matches!(&command, Command::Merge(merge) if merge.computes());
    if !(computes || matches!(device, Choice::Auto | Choice::Cpu)) {
        device.detect()?;
        let message = format!("this command computes on the processor, not on {device}; expected auto or cpu");
        return Err(Error::usage(message));
    }
    match command {
        Command::Inspect(inspect) => inspect.run(screen),
        Command::Params(params) => params.run(screen),
        Command::Memory(memory) => memory.run(screen),
        Command::Spectrum(spectrum) => spectrum.run(screen),
        Command::Extract(extract) => extract.run(screen),
        Command::Resize(resize) => resize.run(screen),
        Command::Plan(plan) => plan.run(screen),
        Command::Compare(compare) => compare.run(screen),
        Command::Combine(combine) => combine.run(screen),
        Command::Intruders(intruders) => intruders.run(screen),
        Command::Advise(advise) => advise.run(screen, &common),
        Command::Probe(probe) => probe.run(screen),
        Command::Doctor(doctor) => doctor.run(screen),
        Command::Quantize(quantize) => quantize.run(screen),
        Command::Train(train) => train.run(screen, &common),
        Command::Sweep(sweep) => sweep.run(screen, &common),
        Command::ExportJob(job) => job.run(screen, &common),
        Command::Runs(runs) => runs.run(screen),
        Command::Eval(eval) => eval.run(screen, device),
        Command::Generate(generate) => generate.run(screen, device),
        Command::Merge(merge) => merge.run(screen, device),
        Command::Convert(convert) => convert.run(screen),
        Command::Get(get) => get.run(screen),
        Command::Demo(demo) => demo.run(screen),
    }
}

/// A path that is not there may be a command that was mistyped.
fn there(path: &Path, may_be_command: bool) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if may_be_command && path.components().count() == 1 && path.extension().is_none() => {
            let missing = Error::read(path, "open", &error);
            Err(Error::usage(format!("{missing}, and no command of that name; rankscope --help lists the commands")))
        }
        Err(error) => Err(Error::read(path, "open", &error)),
    }
}
