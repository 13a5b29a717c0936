//! The Learn tab: nine chapters, one screen each, one file each.

mod bits;
mod change;
mod cost;
mod counts;
mod dial;
mod factors;
mod flow;
mod grid;
mod image;
mod list;
mod number_line;
mod parts;
mod pieces;
mod rank;
mod speed;
mod state;
mod tune;
mod ways;

use std::path::Path;
use std::sync::Arc;

use eframe::egui::{Align, Button, FontFamily, FontId, Layout, Rect, RichText, ScrollArea, Ui, UiBuilder, pos2, vec2};

use crate::app::effect::Effect;
use crate::app::look::theme::{self, Colors};
use crate::app::tabs::{Part, Tab};
use crate::app::view::{self, Round};
use crate::job::{Running, Wake};
use crate::workspace::Workspace;

use state::{Action, Chapter, Learning};

/// What the views of this tab look at.
type View<'a> = view::View<'a, Learning, Action>;

/// From this width on the list of chapters stands at the left.
const WIDE: f32 = 720.0;
const LIST: f32 = 204.0;
const GAP: f32 = 22.0;
/// A chapter is not wider: text and picture stay together.
const CHAPTER: f32 = 1120.0;
const FOOT: f32 = 44.0;
/// Room for the scroll bar.
const SCROLL: f32 = 10.0;

/// What the tab remembers between frames: looks, never data.
#[derive(Default)]
struct Looks {
    /// The chapter that was painted last.
    open: Option<Chapter>,
    rank: rank::Looks,
    dial: dial::Looks,
    counts: counts::Looks,
    bits: bits::Looks,
    tune: tune::Looks,
}

/// The tab.
pub struct LearnTab {
    state: Learning,
    actions: Vec<Action>,
    looks: Looks,
}

impl LearnTab {
    /// Everything as at first; `wake` makes the window look again, the bundled model lies under `home`.
    pub fn new(wake: &Wake, home: &Path) -> Self {
        let state = Learning::new(Arc::clone(wake), home.to_path_buf());
        Self { state, actions: Vec::new(), looks: Looks::default() }
    }
}

impl Tab for LearnTab {
    fn id(&self) -> &'static str {
        "learn"
    }

    fn title(&self) -> &'static str {
        "Learn"
    }

    fn parts(&self) -> Vec<Part> {
        Chapter::ALL.map(|chapter| Part { id: chapter.words().id, title: chapter.words().title }).to_vec()
    }

    fn show(&mut self, part: &str, round: &mut Round<'_>) {
        self.state.carry_out(Action::Open(Chapter::of(part)), round);
    }

    fn logic(&mut self, round: &mut Round<'_>) {
        for action in std::mem::take(&mut self.actions) {
            self.state.carry_out(action, round);
        }
        self.state.logic(round);
        self.looks.logic(round.workspace, &self.state);
    }

    fn ui(&mut self, ui: &mut Ui, view: &mut view::View<'_>) {
        view.within(&self.state, &mut self.actions, |view| self.looks.ui(ui, view));
    }

    fn running(&self) -> Vec<&dyn Running> {
        self.state.running()
    }

    fn shows_spectra(&self) -> bool {
        true
    }

    /// Chapters have ranks of their own.
    fn follows_dial(&self) -> bool {
        false
    }
}

impl Looks {
    /// Prepares what changes with the workspace; nothing is painted.
    fn logic(&mut self, workspace: &Workspace, learning: &Learning) {
        self.dial.logic(workspace, learning);
        self.tune.logic(&learning.tune);
    }

    /// Paints the tab.
    fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let chapter = Chapter::of(&view.settings.chapter);
        let room = ui.available_rect_before_wrap();
        let mut place = room;
        let wide = room.width() >= WIDE;
        if wide {
            let left = Rect::from_min_max(room.min, pos2(room.left() + LIST, room.bottom()));
            within(ui, left, |ui| list::ui(ui, view, chapter));
            place.min.x += LIST + GAP;
        } else {
            let top = Rect::from_min_max(room.min, pos2(room.right(), room.top() + 30.0));
            within(ui, top, |ui| list::short(ui, view, chapter));
            place.min.y += 36.0;
        }
        let spare = ((place.width() - CHAPTER) / 2.0).max(0.0).floor();
        place = place.shrink2(vec2(spare, 0.0));
        // Where there is little room, the way on stands at the top.
        let cut = if wide { place.bottom() - FOOT } else { place.bottom() };
        within(ui, place.with_max_y(cut), |ui| self.chapter(ui, view, chapter, wide));
        if wide {
            within(ui, place.with_min_y(cut), |ui| foot(ui, view, chapter));
        }
        ui.advance_cursor_after_rect(room);
    }

    fn chapter(&mut self, ui: &mut Ui, view: &mut View<'_>, chapter: Chapter, wide: bool) {
        let words = chapter.words();
        // Each visit begins at the top, with the formulas closed.
        let fresh = self.open.replace(chapter) != Some(chapter);
        let mut area = ScrollArea::vertical().id_salt(words.id).auto_shrink(false);
        if fresh {
            area = area.vertical_scroll_offset(0.0);
        }
        area.show(ui, |ui| {
            ui.set_width(ui.available_width() - SCROLL);
            ui.spacing_mut().item_spacing.y = 9.0;
            head(ui, view, chapter);
            pieces::prose(ui, words.text);
            pieces::new_words(ui, words.new);
            ui.add_space(2.0);
            match chapter {
                Chapter::Ways => ways::ui(ui, view),
                Chapter::Cost => cost::ui(ui, view),
                Chapter::Change => change::ui(ui, view),
                Chapter::Factors => factors::ui(ui, view),
                Chapter::Rank => rank::ui(ui, view, &mut self.rank),
                Chapter::Dial => dial::ui(ui, view, &mut self.dial),
                Chapter::Counts => counts::ui(ui, view, &mut self.counts),
                Chapter::Bits => bits::ui(ui, view, &mut self.bits),
                Chapter::Tune => tune::ui(ui, view, &mut self.tune),
            }
            pieces::fold(ui, words.id, words.terms, fresh);
            // Below what is to be done, so that a chapter stays on one screen.
            match chapter {
                Chapter::Ways => ways::more(ui, view),
                Chapter::Factors => factors::more(ui),
                Chapter::Counts => counts::more(ui),
                _ => {}
            }
            if !wide {
                link(ui, view, chapter);
            }
        });
    }
}

/// Number and title; at the right the way back to the beginning.
fn head(ui: &mut Ui, view: &mut View<'_>, chapter: Chapter) {
    ui.horizontal(|ui| {
        let font = FontId::new(21.0, FontFamily::Name(theme::STRONG.into()));
        ui.label(RichText::new(chapter.number().to_string()).font(font.clone()).color(Colors::of(ui).accent));
        ui.label(RichText::new(chapter.words().title).font(font));
        pieces::right(ui, |ui| {
            if ui.button("Start over").on_hover_text("Everything in this chapter as it was at first").clicked() {
                view.actions.push(Action::Restart(chapter));
            }
        });
    });
}

/// The way on, the way back, and the way to the real thing.
fn foot(ui: &mut Ui, view: &mut View<'_>, chapter: Chapter) {
    ui.add_space(6.0);
    ui.separator();
    ui.horizontal(|ui| {
        ui.set_width(ui.available_width() - SCROLL);
        if let Some(before) = chapter.previous() {
            // Little room: what it leads to is under the pointer.
            let title = before.words().title;
            let button =
                ui.button(if ui.available_width() < 620.0 { "←".to_owned() } else { format!("← {title}") });
            let button = button.on_hover_text(title);
            if button.accessible_name("Previous chapter").clicked() {
                view.actions.push(Action::Open(before));
            }
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if let Some(next) = chapter.next() {
                let colors = Colors::of(ui);
                let text =
                    RichText::new(format!("{} →", next.words().title)).strong().color(ui.visuals().extreme_bg_color);
                let button = ui.add(Button::new(text).fill(colors.accent));
                if button.accessible_name("Next chapter").clicked() {
                    view.actions.push(Action::Open(next));
                }
            }
            link(ui, view, chapter);
        });
    });
}

/// Where the same is done on real models.
fn link(ui: &mut Ui, view: &mut View<'_>, chapter: Chapter) {
    let words = chapter.words();
    if ui.link(words.there).clicked() {
        view.effects.push(Effect::Show(words.place));
    }
}

fn within(ui: &mut Ui, rect: Rect, add: impl FnOnce(&mut Ui)) {
    ui.scope_builder(UiBuilder::new().max_rect(rect), |ui| {
        ui.set_clip_rect(ui.clip_rect().intersect(rect.expand(3.0)));
        add(ui);
    });
}

/// The goal card of a chapter, with what is true now.
fn goal(ui: &mut Ui, view: &View<'_>, chapter: Chapter, now: &str) {
    goal_as(ui, view, chapter, now, false);
}

/// The same, where what was done last was `wrong`.
fn goal_as(ui: &mut Ui, view: &View<'_>, chapter: Chapter, now: &str, wrong: bool) {
    let words = chapter.words();
    let done = view.settings.learned.iter().any(|id| id == words.id);
    pieces::goal(ui, words.goal, now, view.state.reached(chapter), done, wrong);
}
