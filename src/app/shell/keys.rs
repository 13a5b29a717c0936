//! Keyboard shortcuts, from the table of commands and from the tabs in front.

use eframe::egui::{Context, KeyboardShortcut, Modifiers};

use crate::app::effect::{Effect, Effects};
use crate::app::tabs::Tab;

use super::commands::{self, Now};
use super::dock::Dock;

/// Turns key presses into effects. What a text field could need is left to it while it has the keys.
pub fn read(ctx: &Context, now: Now<'_>, tabs: &[Box<dyn Tab>], dock: &Dock, effects: &mut Effects) {
    let typing = ctx.egui_wants_keyboard_input();
    // How often it was pressed since the last frame.
    let pressed = |keys: &KeyboardShortcut| match is_typed(keys) && typing {
        true => 0,
        false => ctx.input_mut(|i| i.count_and_consume_key(keys.modifiers, keys.logical_key)),
    };
    // The longer shortcut first: Ctrl+Shift+O is no Ctrl+O.
    let mut all: Vec<_> = commands::ALL.iter().flat_map(|c| c.keys.iter().map(move |keys| (keys, c))).collect();
    all.sort_by_key(|(keys, _)| !keys.modifiers.shift);
    for (keys, command) in all {
        for _ in 0..pressed(keys) {
            (command.act)(now).into_iter().for_each(|effect| effects.push(effect));
        }
    }
    for (keys, _, place) in commands::tabs(tabs) {
        if pressed(&keys) > 0 {
            effects.push(Effect::Show(place));
        }
    }
    for tab in tabs.iter().enumerate().filter(|(at, _)| dock.is_seen(*at)).map(|(_, tab)| tab) {
        for command in tab.commands() {
            if command.keys.is_some_and(|keys| pressed(&keys) > 0) {
                effects.push(Effect::Run(tab.id(), command.id));
            }
        }
    }
}

/// True for what could be meant for a text field: no modifier, and no function key.
fn is_typed(keys: &KeyboardShortcut) -> bool {
    let function = |name: &str| name.strip_prefix('F').is_some_and(|number| number.parse::<u8>().is_ok());
    keys.modifiers == Modifiers::NONE && !function(keys.logical_key.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use eframe::egui::Key;

    #[test]
    fn function_keys_and_ctrl_work_while_one_types() {
        for (modifiers, key, typed) in [
            (Modifiers::NONE, Key::OpenBracket, true),
            (Modifiers::NONE, Key::Space, true),
            (Modifiers::NONE, Key::F, true),
            (Modifiers::NONE, Key::F1, false),
            (Modifiers::COMMAND, Key::K, false),
        ] {
            assert_eq!(is_typed(&KeyboardShortcut::new(modifiers, key)), typed, "{key:?}");
        }
    }
}
