//! The tabs of the centre, one folder each: what a tab knows (`state`) and what it paints. They never name each other; what
//! several of them show is in `shared`, what one of them tells the others on the [`Board`](super::view::Board).

mod choose;
mod learn;
mod parameters;
mod quantization;
mod spectrum;
mod train;

use std::path::{Path, PathBuf};

use eframe::egui::{KeyboardShortcut, Ui};

use crate::job::{Running, Wake};

use super::view::{Round, View};
use super::work::export::Chapter;

/// All tabs, in the order of Ctrl+1, Ctrl+2 …; `wake` makes the window look again, `home` is the program's own folder.
pub fn all(wake: &Wake, home: &Path) -> Vec<Box<dyn Tab>> {
    vec![
        Box::new(learn::LearnTab::new(wake, home)),
        Box::new(choose::ChooseTab::new(wake, home)),
        Box::new(spectrum::SpectrumTab::new(wake)),
        Box::new(parameters::ParametersTab::new(wake)),
        Box::new(quantization::QuantizationTab::new(wake)),
        Box::new(train::TrainTab::new(wake, home)),
    ]
}

/// A part of a tab: a sub-tab, a chapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What a [`Place`](super::effect::Place) names.
    pub id: &'static str,
    /// As on the screen.
    pub title: &'static str,
}

/// Something that can be done in a tab.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// What [`Tab::run`] is called with.
    pub id: &'static str,
    /// As the palette lists it.
    pub title: String,
    /// Works while the tab is in front and no text field has the keys.
    pub keys: Option<KeyboardShortcut>,
    /// For the help; empty: not listed there.
    pub help: &'static str,
}

/// A tab: state, views, jobs, commands.
pub trait Tab {
    /// What a [`Place`](super::effect::Place) names and what persists.
    fn id(&self) -> &'static str;

    /// As on the tab.
    fn title(&self) -> &'static str;

    /// Sub-tabs or chapters.
    fn parts(&self) -> Vec<Part> {
        Vec::new()
    }

    /// Turns to a part.
    fn show(&mut self, _part: &str, _round: &mut Round<'_>) {}

    /// What can be done now, for the palette, the keys and the help.
    fn commands(&self) -> Vec<Command> {
        Vec::new()
    }

    /// Does it.
    fn run(&mut self, _command: &str, _round: &mut Round<'_>) {}

    /// Takes in results, carries out actions, begins work, prepares what is painted. No disk is asked here.
    fn logic(&mut self, round: &mut Round<'_>);

    /// Paints.
    fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>);

    /// Paints over the window, whatever tab is in front.
    fn overlay(&mut self, _ui: &mut Ui, _view: &mut View<'_>) {}

    /// Paints a line under the top bar, whatever tab is in front.
    fn notice(&mut self, _ui: &mut Ui, _view: &mut View<'_>) {}

    /// What the tab adds to a report of the session, to be made beside the window; none where there is nothing yet.
    fn report(&self, _round: &Round<'_>) -> Option<Chapter> {
        None
    }

    /// Jobs that a person can see and stop.
    fn running(&self) -> Vec<&dyn Running>;

    /// True while anything runs, seen or not.
    fn is_busy(&self) -> bool {
        !self.running().is_empty()
    }

    /// True when the pictures show what was asked of them.
    fn is_painted(&self) -> bool {
        true
    }

    /// True when `logic` has something to do before the next event.
    fn is_waiting(&self) -> bool {
        false
    }

    /// Spectra are looked at here: they are computed unasked while the tab is in front.
    fn shows_spectra(&self) -> bool {
        false
    }

    /// The rank dial changes what is shown here.
    fn follows_dial(&self) -> bool {
        true
    }

    /// Files were dropped on the window: true when the tab takes care of all of them.
    fn dropped(&mut self, _paths: &[PathBuf], _round: &mut Round<'_>) -> bool {
        false
    }

    /// The window is gone: what was to be written is.
    fn finish(&mut self) {}
}
