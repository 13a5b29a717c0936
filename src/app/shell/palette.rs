//! The command palette (Ctrl+K): everything that can be done or shown, by typing a part of its name.

use eframe::egui::{self, Align2, Id, Key, Modal, RichText, TextEdit, Ui, WidgetInfo, vec2};

use nucleo_matcher::pattern::{AtomKind, CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};

use crate::app::effect::{Effect, Place};
use crate::app::look::theme::Colors;
use crate::app::tabs::Tab;
use crate::app::view::View;
use crate::workspace::{Dial, Selection};

use super::commands::{self, Now};

/// So many lines are listed at most.
const MOST: usize = 60;
/// A slip is looked past in a text of so many letters.
const SLIP: usize = 5;

/// One thing that can be done or shown.
struct Item {
    title: String,
    /// Its keys, or what kind of thing it is.
    note: String,
    effect: Effect,
    /// A name of many like it: what is typed has to stand in it as it is. Letters far apart would find all of them.
    literal: bool,
}

/// What the palette remembers between frames.
#[derive(Default)]
pub struct Palette {
    /// Shown.
    pub open: bool,
    text: String,
    place: usize,
}

impl Palette {
    /// Opens it empty, or closes it.
    pub fn toggle(&mut self) {
        *self = Self { open: !self.open, ..Self::default() };
    }

    /// Paints it over everything else.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>, tabs: &[Box<dyn Tab>]) {
        if !self.open {
            return;
        }
        let screen = ui.ctx().content_rect();
        // The field stays where it is while the list below it changes.
        let (id, top) = (Id::unique("palette"), (screen.height() * 0.16).round());
        let area = Modal::default_area(id).anchor(Align2::CENTER_TOP, vec2(0.0, top));
        let list = (screen.height() - top - 90.0).clamp(60.0, 400.0);
        let response = Modal::new(id).area(area).show(ui.ctx(), |ui| {
            ui.set_width(540.0_f32.min(screen.width() - 40.0));
            let edit = ui.add(
                TextEdit::singleline(&mut self.text)
                    .hint_text("Command, module, chapter, “rank 16”, model …")
                    .desired_width(f32::INFINITY)
                    .margin(vec2(10.0, 8.0)),
            );
            edit.widget_info(|| WidgetInfo::text_edit(true, "", &self.text, "Command"));
            let edit = edit.accessible_name("Command");
            edit.request_focus();
            if edit.changed() {
                self.place = 0;
            }
            let mut items = found(items(ui, view, tabs, &self.text), &self.text);
            if let Some(r) = rank(&self.text).filter(|r| (1..=view.workspace.max_rank()).contains(r)) {
                let effect = Effect::Turn(Dial { r, ..view.workspace.dial().clone() });
                items.insert(
                    0,
                    Item { title: format!("Rank {r}"), note: "turn the dial".to_owned(), effect, literal: false },
                );
            }
            self.place = self.place.min(items.len().saturating_sub(1));
            let (up, down, enter) = ui.input_mut(|i| {
                (
                    i.consume_key(egui::Modifiers::NONE, Key::ArrowUp),
                    i.consume_key(egui::Modifiers::NONE, Key::ArrowDown),
                    i.key_pressed(Key::Enter),
                )
            });
            if down && self.place + 1 < items.len() {
                self.place += 1;
            }
            if up {
                self.place = self.place.saturating_sub(1);
            }
            let mut chosen = None;
            let area = egui::ScrollArea::vertical().max_height(list).min_scrolled_height(list);
            area.auto_shrink([false, true]).show(ui, |ui| {
                for (i, item) in items.iter().enumerate() {
                    if row(ui, item, i == self.place, (up || down) && i == self.place) || (enter && i == self.place) {
                        chosen = Some(item.effect.clone());
                    }
                }
                if items.is_empty() {
                    ui.label(RichText::new(nothing(&self.text)).color(Colors::of(ui).weak));
                }
            });
            chosen
        });
        self.open = response.inner.is_none() && !response.should_close();
        if let Some(effect) = response.inner {
            view.effects.push(effect);
        }
    }
}

fn row(ui: &mut Ui, item: &Item, current: bool, scroll: bool) -> bool {
    let response = ui
        .horizontal(|ui| {
            // All of the line, less the bar for scrolling.
            let button = egui::Button::selectable(current, item.title.as_str())
                .right_text(RichText::new(item.note.as_str()).small().color(Colors::of(ui).weak))
                .min_size(vec2(ui.available_width() - 14.0, 0.0));
            ui.add(button).accessible_name(item.title.as_str())
        })
        .inner;
    if scroll {
        response.scroll_to_me(None);
    }
    response.clicked()
}

/// What is said of a text that fits nothing.
fn nothing(text: &str) -> String {
    format!("No command, module or chapter contains “{}”.", text.trim())
}

/// What fits the text, the best first: letters in order are enough, so that initials and letters left out match too. Where nothing
/// fits, one letter may be wrong, too many or in the wrong place.
fn found(items: Vec<Item>, text: &str) -> Vec<Item> {
    let text = text.trim();
    let mut scores = scores(&items, text);
    if scores.iter().all(Option::is_none) && text.chars().count() >= SLIP {
        for (at, letter) in text.char_indices() {
            let without = format!("{}{}", &text[..at], &text[at + letter.len_utf8()..]);
            for (best, score) in scores.iter_mut().zip(self::scores(&items, &without)) {
                *best = (*best).max(score);
            }
        }
    }
    let mut scored: Vec<(u32, Item)> =
        scores.into_iter().zip(items).filter_map(|(score, item)| Some((score?, item))).collect();
    scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    scored.into_iter().map(|(_, item)| item).take(MOST).collect()
}

/// How well each title fits.
fn scores(items: &[Item], text: &str) -> Vec<Option<u32>> {
    let pattern = Pattern::parse(text, CaseMatching::Ignore, Normalization::Smart);
    let literal = Pattern::new(text, CaseMatching::Ignore, Normalization::Smart, AtomKind::Substring);
    let mut matcher = Matcher::new(Config::DEFAULT);
    let mut letters = Vec::new();
    items
        .iter()
        .map(|item| {
            let pattern = if item.literal { &literal } else { &pattern };
            pattern.score(Utf32Str::new(&item.title, &mut letters), &mut matcher)
        })
        .collect()
}

fn items(ui: &Ui, view: &View<'_>, tabs: &[Box<dyn Tab>], text: &str) -> Vec<Item> {
    let format = |shortcut: &egui::KeyboardShortcut| ui.ctx().format_shortcut(shortcut);
    let item = |title: String, note: String, effect| Item { title, note, effect, literal: false };
    let mut items = Vec::new();
    let now = Now { workspace: view.workspace, settings: view.settings };
    for (shortcut, tab, place) in commands::tabs(tabs) {
        items.push(item(format!("Show {}", tab.title()), format(&shortcut), Effect::Show(place)));
    }
    for command in &commands::ALL {
        if let Some(effect) = (command.act)(now) {
            items.push(item(command.title.to_owned(), command.keys.first().map(format).unwrap_or_default(), effect));
        }
    }
    for tab in tabs {
        for part in tab.parts() {
            let title = format!("{}: {}", tab.title(), part.title);
            items.push(item(title, "show".to_owned(), Effect::Show(Place::part(tab.id(), part.id))));
        }
        for command in tab.commands() {
            let note = command.keys.as_ref().map(format).unwrap_or_else(|| tab.title().to_owned());
            items.push(item(command.title, note, Effect::Run(tab.id(), command.id)));
        }
    }
    for (name, take) in view.effects.offers() {
        let title = format!("{}: {name}", take.label().trim_end_matches('…'));
        items.push(item(title, "on screen".to_owned(), Effect::ExportShown(name.clone(), *take)));
    }
    for recent in &view.settings.recent {
        items.push(item(format!("Open {}", recent.title()), "recent".to_owned(), Effect::Open(recent.request())));
    }
    for beside in view.board.beside.iter() {
        let title = format!("Compare with {}", beside.name());
        items.push(item(title, "beside the base".to_owned(), Effect::Open(beside.request())));
    }
    for cached in &view.system.hub {
        let effect = Effect::Open(crate::workspace::Request::Any(cached.path.clone()));
        items.push(item(format!("Open {}", cached.name), "hub cache".to_owned(), effect));
    }
    // Not before something is typed: a model has hundreds of them.
    if !text.trim().is_empty() {
        for entry in view.workspace.delta().iter().flat_map(|delta| delta.entries()) {
            let effect = Effect::Select(Selection::one(&entry.name));
            items.push(Item { literal: true, ..item(entry.name.clone(), "module".to_owned(), effect) });
        }
    }
    items
}

/// The rank that a text asks for: `rank 16`, `r 16`, `r=16`, `16`.
fn rank(text: &str) -> Option<usize> {
    let text = text.trim().to_lowercase();
    let rest = text.strip_prefix("rank").or_else(|| text.strip_prefix('r')).unwrap_or(&text);
    rest.trim_start_matches([' ', '=']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(text: &str) -> Vec<String> {
        let all =
            ["Open folder…", "Open file…", "Learn: Nine numbers from six", "model.layers.0.self_attn.q_proj", "Quit"];
        let item = |title: &&str| {
            let literal = title.contains('.');
            Item { title: (*title).to_owned(), note: String::new(), effect: Effect::Quit, literal }
        };
        found(all.iter().map(item).collect(), text).into_iter().map(|item| item.title).collect()
    }

    #[test]
    fn words_initials_and_slips_are_found() {
        assert_eq!(titles("fol op"), ["Open folder…"]);
        assert_eq!(titles("nine"), ["Learn: Nine numbers from six"]);
        assert_eq!(titles("nnfs"), ["Learn: Nine numbers from six"], "initials");
        assert_eq!(titles("q_proj"), ["model.layers.0.self_attn.q_proj"]);
        assert_eq!(titles("opn fil")[0], "Open file…", "a slip");
        assert_eq!(titles("leanr: nine")[0], "Learn: Nine numbers from six", "two letters in the wrong order");
        assert_eq!(titles("foldder")[0], "Open folder…", "a letter too many");
        assert_eq!(titles("").len(), 5);
        assert_eq!(titles("0 q_pr"), ["model.layers.0.self_attn.q_proj"], "parts of a module, as they are written");
        assert!(titles("zzz").is_empty() && titles("mlq").is_empty(), "no module by letters far apart");
    }

    #[test]
    fn a_rank_can_be_typed() {
        for text in ["rank 16", "r 16", "r=16", " 16 ", "Rank=16"] {
            assert_eq!(rank(text), Some(16), "{text}");
        }
        for text in ["rank", "rank -1", "16 bit", "report"] {
            assert_eq!(rank(text), None, "{text}");
        }
    }
}
