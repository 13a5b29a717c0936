//! Keyboard shortcuts.

use eframe::egui::{Context, Key, KeyboardShortcut, Modifiers};

use crate::app::effect::{Command, Commands, Question, Tab};
use crate::app::look::settings::Settings;
use crate::workspace::Workspace;

const CTRL: Modifiers = Modifiers::COMMAND;

/// Turns key presses into commands, unless a text field has them.
pub fn read(ctx: &Context, workspace: &Workspace, settings: &Settings, commands: &mut Commands) {
    let shift = CTRL.plus(Modifiers::SHIFT);
    let shortcuts = [
        (shift, Key::O, Command::Ask(Question::File)),
        (CTRL, Key::O, Command::Ask(Question::Folder)),
        (CTRL, Key::L, Command::TogglePathField),
        (CTRL, Key::K, Command::TogglePalette),
        (CTRL, Key::B, Command::ToggleModules),
        (CTRL, Key::Q, Command::Quit),
        (CTRL, Key::Plus, Command::Scale(settings.scale * 1.1)),
        (CTRL, Key::Equals, Command::Scale(settings.scale * 1.1)),
        (CTRL, Key::Minus, Command::Scale(settings.scale / 1.1)),
        (CTRL, Key::Num0, Command::Scale(1.0)),
        (Modifiers::NONE, Key::F1, Command::ToggleHelp),
    ];
    for (modifiers, key, command) in shortcuts {
        if ctx.input_mut(|i| i.consume_shortcut(&KeyboardShortcut::new(modifiers, key))) {
            commands.push(command);
        }
    }
    for (tab, key) in Tab::ALL.into_iter().zip([Key::Num1, Key::Num2, Key::Num3, Key::Num4, Key::Num5]) {
        if ctx.input_mut(|i| i.consume_shortcut(&KeyboardShortcut::new(CTRL, key))) {
            commands.push(Command::Show(tab));
        }
    }
    if ctx.egui_wants_keyboard_input() {
        return;
    }
    for (key, step) in [(Key::OpenBracket, -1), (Key::CloseBracket, 1)] {
        let presses = ctx.input(|i| i.num_presses(key));
        if presses > 0 {
            let mut dial = workspace.dial().clone();
            dial.r = dial.r.saturating_add_signed(step * presses as isize);
            commands.push(Command::Turn(dial));
        }
    }
}
