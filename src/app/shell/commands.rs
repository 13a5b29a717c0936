//! [`ALL`]: every command of the window, once. Keys, palette, menus and help follow from it.

use eframe::egui::{Key, KeyboardShortcut, Modifiers, ThemePreference};

use crate::app::effect::{Effect, Place};
use crate::app::look::settings::Settings;
use crate::app::tabs::Tab;
use crate::app::work::dialog::Question;
use crate::workspace::{Request, Workspace};

const CTRL: Modifiers = Modifiers::COMMAND;
const SHIFT: Modifiers = CTRL.plus(Modifiers::SHIFT);

/// What a command looks at to say what it does now.
#[derive(Clone, Copy)]
pub struct Now<'a> {
    /// What is open.
    pub workspace: &'a Workspace,
    /// What persists.
    pub settings: &'a Settings,
}

/// One thing that can be done.
pub struct Command {
    /// As the palette and the menus say it.
    pub title: &'static str,
    /// As the help says it beside its keys; empty: not listed there.
    pub help: &'static str,
    /// Any of these.
    pub keys: &'static [KeyboardShortcut],
    /// What it asks for; `None`: not now.
    pub act: fn(Now<'_>) -> Option<Effect>,
}

const fn keys(modifiers: Modifiers, key: Key) -> KeyboardShortcut {
    KeyboardShortcut::new(modifiers, key)
}

/// With a model open.
fn opened(now: Now<'_>, effect: Effect) -> Option<Effect> {
    now.workspace.opened().is_some().then_some(effect)
}

/// Ctrl+O.
pub const OPEN_FOLDER: Command = Command {
    title: "Open folder…",
    help: "open a model or an adapter: its folder",
    keys: &[keys(CTRL, Key::O)],
    act: |_| Some(Effect::Ask(Question::Folder)),
};

/// Ctrl+Shift+O.
pub const OPEN_FILE: Command = Command {
    title: "Open file…",
    help: "open a file of weights",
    keys: &[keys(SHIFT, Key::O)],
    act: |_| Some(Effect::Ask(Question::File)),
};

/// Ctrl+L.
pub const OPEN_PATH: Command = Command {
    title: "Open path…",
    help: "open by typing or pasting a path",
    keys: &[keys(CTRL, Key::L)],
    act: |_| Some(Effect::TogglePathField),
};

/// From the hub.
pub const GET: Command =
    Command { title: "Get a model from the hub…", help: "", keys: &[], act: |_| Some(Effect::AskHub) };

/// The sample.
pub const OPEN_SAMPLE: Command =
    Command { title: "Open the bundled sample", help: "", keys: &[], act: |_| Some(Effect::OpenSample) };

/// ΔW from a tuned model.
pub const OPEN_TUNED: Command = Command {
    title: "Compare with a tuned model…",
    help: "",
    keys: &[],
    act: |now| opened(now, Effect::Ask(Question::TunedFolder)),
};

/// ΔW from an adapter.
pub const OPEN_ADAPTER: Command = Command {
    title: "Open an adapter…",
    help: "",
    keys: &[],
    act: |now| opened(now, Effect::Ask(Question::AdapterFolder)),
};

/// No ΔW.
pub const WEIGHTS: Command = Command {
    title: "Look at the weights themselves",
    help: "",
    keys: &[],
    act: |now| opened(now, Effect::Open(Request::Weight)),
};

/// Ctrl+K.
pub const PALETTE: Command = Command {
    title: "Commands",
    help: "everything that can be done: commands, modules, chapters, “rank 16”, recent models",
    keys: &[keys(CTRL, Key::K)],
    act: |_| Some(Effect::TogglePalette),
};

/// F1.
pub const HELP: Command = Command {
    title: "Help",
    help: "this help",
    keys: &[keys(Modifiers::NONE, Key::F1)],
    act: |_| Some(Effect::ToggleHelp),
};

/// Ctrl+B.
pub const MODULES: Command = Command {
    title: "Show or hide the module list",
    help: "module list",
    keys: &[keys(CTRL, Key::B)],
    act: |_| Some(Effect::ToggleModules),
};

/// Forgets the recent files.
pub const FORGET_RECENT: Command = Command {
    title: "Forget recent files",
    help: "",
    keys: &[],
    act: |now| (!now.settings.recent.is_empty()).then_some(Effect::ForgetRecent),
};

/// All of them, in the order of the palette.
pub const ALL: [Command; 24] = [
    OPEN_FOLDER,
    OPEN_FILE,
    OPEN_PATH,
    GET,
    OPEN_SAMPLE,
    OPEN_TUNED,
    OPEN_ADAPTER,
    WEIGHTS,
    PALETTE,
    Command {
        title: "Rank down",
        help: "rank down",
        keys: &[keys(Modifiers::NONE, Key::OpenBracket)],
        act: |_| Some(Effect::Step(-1)),
    },
    Command {
        title: "Rank up",
        help: "rank up",
        keys: &[keys(Modifiers::NONE, Key::CloseBracket)],
        act: |_| Some(Effect::Step(1)),
    },
    Command {
        title: "Compute the spectra of all modules",
        help: "",
        keys: &[],
        act: |now| opened(now, Effect::AnalyseAll),
    },
    Command {
        title: "Compute every singular value of this module",
        help: "",
        keys: &[],
        act: |now| opened(now, Effect::AnalyseExactly),
    },
    Command { title: "Save a report of the session…", help: "", keys: &[], act: |now| opened(now, Effect::Report) },
    Command { title: "Light theme", help: "", keys: &[], act: |_| Some(Effect::Theme(ThemePreference::Light)) },
    Command { title: "Dark theme", help: "", keys: &[], act: |_| Some(Effect::Theme(ThemePreference::Dark)) },
    Command {
        title: "Theme of the system",
        help: "",
        keys: &[],
        act: |_| Some(Effect::Theme(ThemePreference::System)),
    },
    Command {
        title: "Larger",
        help: "everything larger",
        keys: &[keys(CTRL, Key::Plus), keys(CTRL, Key::Equals)],
        act: |now| Some(Effect::Scale(now.settings.scale * 1.1)),
    },
    Command {
        title: "Smaller",
        help: "everything smaller",
        keys: &[keys(CTRL, Key::Minus)],
        act: |now| Some(Effect::Scale(now.settings.scale / 1.1)),
    },
    Command {
        title: "Normal size",
        help: "normal size",
        keys: &[keys(CTRL, Key::Num0)],
        act: |_| Some(Effect::Scale(1.0)),
    },
    MODULES,
    FORGET_RECENT,
    HELP,
    Command { title: "Quit", help: "quit", keys: &[keys(CTRL, Key::Q)], act: |_| Some(Effect::Quit) },
];

/// What shows each tab, in the order of the tabs.
const TAB_KEYS: [Key; 9] =
    [Key::Num1, Key::Num2, Key::Num3, Key::Num4, Key::Num5, Key::Num6, Key::Num7, Key::Num8, Key::Num9];

/// The key of each tab, and what it shows.
#[expect(clippy::borrowed_box, reason = "the elements of the slice, as an iterator gives them")]
pub fn tabs(tabs: &[Box<dyn Tab>]) -> impl Iterator<Item = (KeyboardShortcut, &dyn Tab, Place)> {
    let one = |(tab, key): (&Box<dyn Tab>, Key)| (keys(CTRL, key), Place::tab(tab.id()));
    tabs.iter().zip(TAB_KEYS).map(move |pair| {
        let (shortcut, place) = one(pair);
        (shortcut, &**pair.0, place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_commands_share_a_name_or_a_key() {
        let titles: Vec<&str> = ALL.iter().map(|command| command.title).collect();
        let keys: Vec<KeyboardShortcut> = ALL.iter().flat_map(|command| command.keys).copied().collect();
        for (at, title) in titles.iter().enumerate() {
            assert!(!titles[at + 1..].contains(title), "{title}");
        }
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[at + 1..].contains(key), "{key:?}");
            assert!(!TAB_KEYS.contains(&key.logical_key) || key.logical_key == Key::Num0, "{key:?} shows a tab");
        }
    }
}
