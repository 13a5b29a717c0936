//! [`Command`]: what a panel asks for. Panels paint and push commands; `logic` carries them out.

use std::path::PathBuf;

use eframe::egui;

use crate::spectrum::RuleId;
use crate::workspace::{Dial, Request, Selection};

use super::export::Export;

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
    /// End the program.
    Quit,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Reading headers.
    Opening,
    /// The current module.
    Analysis,
    /// All modules.
    Sweep,
}

/// The tabs of the centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Tab {
    /// Singular values of ΔW.
    Spectrum,
    /// Parameter counts.
    Parameters,
}

impl Tab {
    /// All of them, in the order of Ctrl+1, Ctrl+2 …
    pub const ALL: [Self; 2] = [Self::Spectrum, Self::Parameters];

    /// As on the tab.
    pub fn title(self) -> &'static str {
        match self {
            Self::Spectrum => "Spectrum",
            Self::Parameters => "Parameters",
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
