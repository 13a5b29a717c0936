//! [`Effect`]: what whoever paints asks the rest of the window for. Tabs and bars push effects; `logic` carries them out.
//! No tab is named here: a tab's own actions stay in its room.

use std::path::PathBuf;

use eframe::egui;

use crate::error::Error;
use crate::job::JobId;
use crate::spectrum::RuleId;
use crate::workspace::{Dial, Request, Selection};

use super::widgets::menu::Take;
use super::work::dialog::Question;
use super::work::export::Export;

/// Everything that the interface can ask for.
#[derive(Clone)]
pub enum Effect {
    /// Open what lies at a path.
    Open(Request),
    /// Open the bundled sample.
    OpenSample,
    /// Ask for a path with the system's dialog, and open what lies there.
    Ask(Question),
    /// Choose modules.
    Select(Selection),
    /// Turn the rank dial.
    Turn(Dial),
    /// Turn the rank dial by so much.
    Step(isize),
    /// Compute the spectrum of the current module.
    Analyse,
    /// Compute the spectra of all modules.
    AnalyseAll,
    /// Compute every singular value of the current module.
    AnalyseExactly,
    /// Compute singular vectors up to this rank, for the pictures.
    MoreVectors(usize),
    /// Stop a running job.
    Cancel(JobId),
    /// Show a tab, or a part of one.
    Show(Place),
    /// Carry out a command of a tab, by the name that the tab gave it.
    Run(&'static str, &'static str),
    /// Colour the map of all modules by this rule.
    Rule(RuleId),
    /// Light, dark, system.
    Theme(egui::ThemePreference),
    /// Scale of everything.
    Scale(f32),
    /// Forget the recent files.
    ForgetRecent,
    /// Remove the report of a defect.
    ForgetDefect,
    /// Show or hide the module list.
    ToggleModules,
    /// Open or close the command palette.
    TogglePalette,
    /// Open or close the help.
    ToggleHelp,
    /// Open or close the field for a path.
    TogglePathField,
    /// Open that field for the name of a repository of the hub.
    AskHub,
    /// Copy or save a plot or a table.
    Export(Export),
    /// Copy or save what is painted under this name.
    ExportShown(String, Take),
    /// Save everything that is known of the open model as one page.
    Report,
    /// Say something in the status bar.
    Say(String),
    /// Say what did not work.
    Complain(Error),
    /// End the program.
    Quit,
}

impl Effect {
    /// Its name, for the report of a defect: nothing of what it is about.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::OpenSample => "open the sample",
            Self::Ask(_) => "ask for a path",
            Self::Select(_) => "select",
            Self::Turn(_) | Self::Step(_) => "rank",
            Self::Analyse | Self::AnalyseExactly | Self::MoreVectors(_) => "spectrum",
            Self::AnalyseAll => "all spectra",
            Self::Cancel(_) => "cancel",
            Self::Show(place) => place.tab,
            Self::Run(_, command) => command,
            Self::Rule(_) => "rule",
            Self::Theme(_) | Self::Scale(_) => "look",
            Self::ForgetRecent | Self::ForgetDefect => "forget",
            Self::ToggleModules | Self::TogglePalette | Self::ToggleHelp | Self::TogglePathField | Self::AskHub => {
                "panel"
            }
            Self::Export(_) | Self::ExportShown(..) | Self::Report => "export",
            Self::Say(_) | Self::Complain(_) => "message",
            Self::Quit => "quit",
        }
    }
}

/// A tab, or a part of one: a sub-tab, a chapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The tab's id.
    pub tab: &'static str,
    /// The part's id; empty: whatever part was looked at last.
    pub part: &'static str,
}

impl Place {
    /// A tab as it was left.
    pub const fn tab(tab: &'static str) -> Self {
        Self { tab, part: "" }
    }

    /// A part of a tab.
    pub const fn part(tab: &'static str, part: &'static str) -> Self {
        Self { tab, part }
    }
}

/// Effects collected until the window carries them out.
#[derive(Default)]
pub struct Effects {
    queue: Vec<Effect>,
    woken: bool,
    /// What can be copied or saved of what is painted.
    offers: Vec<(String, Take)>,
    /// What is to be copied or saved as soon as it is painted.
    wanted: Option<(String, Take)>,
}

impl Effects {
    /// Asks for something.
    pub fn push(&mut self, effect: Effect) {
        self.queue.push(effect);
    }

    /// Asks to open a path, whatever lies there.
    pub fn open(&mut self, path: PathBuf) {
        self.push(Effect::Open(Request::Any(path)));
    }

    /// Asks for another round of `logic` without delay.
    pub fn wake(&mut self) {
        self.woken = true;
    }

    /// Something is painted that can be taken away like this: which of them was asked for.
    pub fn offer(&mut self, name: &str, offers: &[Take]) -> Option<Take> {
        self.offers.extend(offers.iter().map(|&take| (name.to_owned(), take)));
        let wanted = self.wanted.take_if(|(of, take)| of == name && offers.contains(take));
        wanted.map(|(_, take)| take)
    }

    /// What can be copied or saved of what was painted in this frame.
    pub fn offers(&self) -> &[(String, Take)] {
        &self.offers
    }

    /// Copies or saves this when it is painted next.
    pub fn want(&mut self, name: String, take: Take) {
        self.wanted = Some((name, take));
    }

    /// A frame begins.
    pub fn begin_frame(&mut self) {
        self.offers.clear();
    }

    /// True when nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && !self.woken
    }

    /// Everything asked for since the last call.
    pub fn take(&mut self) -> Vec<Effect> {
        self.woken = false;
        std::mem::take(&mut self.queue)
    }
}
