//! [`Command`]: what a panel asks for. Panels paint and push commands; `logic` carries them out.

use std::path::PathBuf;

use eframe::egui;

use crate::error::Error;
use crate::spectrum::RuleId;
use crate::workspace::{Dial, Request, Selection, Workspace};

use super::look::settings::Settings;
use super::tabs::learn::state as learning;
use super::tabs::parameters::state as planning;
use super::tabs::quantization::state as quantization;
use super::tabs::train::state as training;
use super::work::export::Export;

/// Everything that the interface can ask for.
#[derive(Clone)]
pub enum Command {
    /// Open what lies at a path.
    Open(Request),
    /// Open the bundled sample.
    OpenSample,
    /// Ask for a path with the system's dialog.
    Ask(Question),
    /// Choose modules.
    Select(Selection),
    /// Turn the rank dial.
    Turn(Dial),
    /// Compute the spectrum of the current module.
    Analyse,
    /// Compute the spectra of all modules.
    AnalyseAll,
    /// Compute every singular value of the current module.
    AnalyseExactly,
    /// Compute singular vectors up to this rank, for the pictures.
    MoreVectors(usize),
    /// Stop a running job.
    Cancel(Work),
    /// Show a tab.
    Show(Tab),
    /// Colour the map of all modules by this rule.
    Rule(RuleId),
    /// Light, dark, system.
    Theme(egui::ThemePreference),
    /// Scale of everything.
    Scale(f32),
    /// Forget the recent files.
    ForgetRecent,
    /// Show or hide the module list.
    ToggleModules,
    /// Open or close the command palette.
    TogglePalette,
    /// Open or close the help.
    ToggleHelp,
    /// Open or close the field for a path.
    TogglePathField,
    /// Copy or save a plot or a table.
    Export(Export),
    /// Say something in the corner.
    Say(String),
    /// Say what did not work.
    Complain(Error),
    /// Something of the Quantization tab.
    Quantization(quantization::Ask),
    /// Something about the choice of a rank.
    Planning(planning::Ask),
    /// Something of the Train tab.
    Training(training::Ask),
    /// Something of the Learn tab.
    Learning(learning::Ask),
    /// End the program.
    Quit,
}

/// What a tab's state may look at, and ask for, while it thinks.
pub struct Round<'a> {
    /// The window's context.
    pub ctx: &'a egui::Context,
    /// What is loaded and computed.
    pub workspace: &'a Workspace,
    /// What persists.
    pub settings: &'a mut Settings,
    /// What it asks the rest of the window for.
    pub commands: &'a mut Commands,
}

/// What the system's dialog is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// A model or adapter folder.
    Folder,
    /// A weights file.
    File,
    /// The folder of a tuned version of the open base.
    TunedFolder,
    /// The folder of an adapter for the open base.
    AdapterFolder,
}

/// The jobs that a person can see and stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Reading headers.
    Opening,
    /// The current module.
    Analysis,
    /// All modules.
    Sweep,
    /// A job of a tab, by its title.
    Of(Feature, String),
}

/// The tabs that have work of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// The Quantization tab.
    Quantization,
    /// The choice of a rank.
    Planning,
    /// The Train tab.
    Training,
    /// The Learn tab.
    Learning,
}

/// The tabs of the centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Tab {
    /// Nine short chapters.
    Learn,
    /// Singular values of ΔW.
    Spectrum,
    /// Parameter counts, memory, the choice of a rank.
    Parameters,
    /// A weight in a few bits.
    Quantization,
    /// Runs.
    Train,
}

impl Tab {
    /// All of them, in the order of Ctrl+1, Ctrl+2 …
    pub const ALL: [Self; 5] = [Self::Learn, Self::Spectrum, Self::Parameters, Self::Quantization, Self::Train];

    /// As on the tab.
    pub fn title(self) -> &'static str {
        match self {
            Self::Learn => "Learn",
            Self::Spectrum => "Spectrum",
            Self::Parameters => "Parameters",
            Self::Quantization => "Quantization",
            Self::Train => "Train",
        }
    }
}

/// Commands collected while painting.
#[derive(Default)]
pub struct Commands {
    queue: Vec<Command>,
}

impl Commands {
    /// Asks for something.
    pub fn push(&mut self, command: Command) {
        self.queue.push(command);
    }

    /// Asks to open a path, whatever lies there.
    pub fn open(&mut self, path: PathBuf) {
        self.push(Command::Open(Request::Any(path)));
    }

    /// True when nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Everything asked for since the last call.
    pub fn take(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.queue)
    }
}
