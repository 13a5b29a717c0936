//! What is kept between two starts.

use std::path::{Path, PathBuf};

use eframe::egui;
use serde::{Deserialize, Serialize};

use crate::spectrum::RuleId;
use crate::workspace::Request;

/// How many recent files are remembered.
const RECENT: usize = 12;
/// How many runs that were put aside are.
const PUT_ASIDE: usize = 64;

/// Settings that persist. Fields that an older file lacks get their defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Light, dark, or as the system says.
    pub theme: egui::ThemePreference,
    /// Scale of everything; 1 is the system's.
    pub scale: f32,
    /// What was opened last, newest first.
    pub recent: Vec<Recent>,
    /// Rule that colours the map of all modules.
    pub map_rule: String,
    /// Module list shown.
    pub show_modules: bool,
    /// The next run as it is set up, in its own words.
    pub training: String,
    /// Where new runs go, if a person has chosen; the program's own folder otherwise.
    pub runs: Option<PathBuf>,
    /// Other folders of runs that are listed too.
    pub run_folders: Vec<PathBuf>,
    /// Runs that were cut off or stopped, and that a person does not want to be asked about again.
    pub put_aside: Vec<PathBuf>,
    /// The chapter of the Learn tab that is open.
    pub chapter: String,
    /// The chapters whose goals were reached.
    pub learned: Vec<String>,
    /// The tab that was in front.
    pub tab: String,
    /// Rounds of the planted-rank game that were dealt.
    pub rounds: u64,
}

/// Something that was opened: a base alone, or with its tuned version or adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// The base model.
    pub base: PathBuf,
    /// The tuned model or adapter.
    pub other: Option<PathBuf>,
}

impl Recent {
    /// In a few words.
    pub fn title(&self) -> String {
        let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        match &self.other {
            Some(other) => format!("{} + {}", name(&self.base), name(other)),
            None => name(&self.base),
        }
    }

    /// What opens it again.
    pub fn request(&self) -> Request {
        match &self.other {
            Some(other) => Request::Pair(self.base.clone(), other.clone()),
            None => Request::Any(self.base.clone()),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            theme: egui::ThemePreference::System,
            scale: 1.0,
            recent: Vec::new(),
            map_rule: String::new(),
            show_modules: true,
            training: String::new(),
            runs: None,
            run_folders: Vec::new(),
            put_aside: Vec::new(),
            chapter: String::new(),
            learned: Vec::new(),
            tab: String::new(),
            rounds: 0,
        }
    }
}

impl Settings {
    /// Largest and smallest scale offered.
    pub const SCALES: std::ops::RangeInclusive<f32> = 0.7..=2.5;

    /// With a scale at which the window can be used, whatever the file said.
    pub fn checked(mut self) -> Self {
        self.scale = if self.scale.is_nan() { 1.0 } else { self.scale };
        self.scale = self.scale.clamp(*Self::SCALES.start(), *Self::SCALES.end());
        self
    }

    /// The rule that colours the map of all modules.
    pub fn map_rule(&self) -> RuleId {
        RuleId::ALL.into_iter().find(|rule| rule.name() == self.map_rule).unwrap_or(RuleId::Energy90)
    }

    /// Remembers a run that is not to be offered again.
    pub fn put_aside(&mut self, run: &Path) {
        self.put_aside.retain(|known| known != run);
        self.put_aside.insert(0, run.to_path_buf());
        self.put_aside.truncate(PUT_ASIDE);
    }

    /// Remembers what was opened, newest first, each once.
    pub fn remember(&mut self, base: &Path, other: Option<&Path>) {
        let entry = Recent { base: base.to_path_buf(), other: other.map(Path::to_path_buf) };
        self.recent.retain(|r| r != &entry);
        self.recent.insert(0, entry);
        self.recent.truncate(RECENT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_files_are_unique_and_few() {
        let mut s = Settings::default();
        for i in 0..20 {
            s.remember(Path::new(&format!("m{i}")), None);
        }
        s.remember(Path::new("m15"), None);
        assert_eq!(s.recent.len(), RECENT);
        assert_eq!(s.recent[0].base, Path::new("m15"));
        assert_eq!(s.recent.iter().filter(|r| r.base == Path::new("m15")).count(), 1);
    }

    #[test]
    fn an_older_file_still_loads() {
        let s: Settings = serde_json::from_str(r#"{"scale": 1.5}"#).unwrap();
        assert_eq!((s.scale, s.recent.len()), (1.5, 0));
    }
}
