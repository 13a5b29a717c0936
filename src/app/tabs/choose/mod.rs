//! The Choose tab: one answer to "which rank, which α and learning rate, on which modules?", with its reasons in order of weight, what
//! is uncertain, and what to do with it.

mod answer;
mod reasons;
mod state;

use std::path::Path;
use std::sync::Arc;

use eframe::egui::{FontFamily, FontId, Grid, ProgressBar, Rect, RichText, ScrollArea, Ui, pos2};

use crate::app::effect::Effect;
use crate::app::look::theme::{Colors, STRONG};
use crate::app::tabs::{Command, Tab};
use crate::app::view::{self, Round};
use crate::app::work::export::Chapter;
use crate::job::{Running, Wake};
use crate::plan::advise::section;

use state::{Action, Choosing};

/// What the views of this tab look at.
type View<'a> = view::View<'a, Choosing, Action>;

/// The tab.
pub struct ChooseTab {
    state: Choosing,
    actions: Vec<Action>,
    looks: reasons::Reasons,
    /// It was painted since the last round: what is looked at is computed.
    seen: bool,
    /// The last round knew that it is looked at: nobody has to be woken.
    known: bool,
}

impl ChooseTab {
    /// Nothing yet; `wake` makes the window look again, `home` is the program's own folder.
    pub fn new(wake: &Wake, home: &Path) -> Self {
        let state = Choosing::new(Arc::clone(wake), home);
        Self { state, actions: Vec::new(), looks: reasons::Reasons::default(), seen: false, known: false }
    }
}

impl Tab for ChooseTab {
    fn id(&self) -> &'static str {
        "choose"
    }

    fn title(&self) -> &'static str {
        "Choose"
    }

    fn commands(&self) -> Vec<Command> {
        let title = "Take over the rank, α and learning rate that are advised".to_owned();
        let take = Command { id: "take", title, keys: None, help: "" };
        if self.state.answer().is_some() { vec![take] } else { Vec::new() }
    }

    fn run(&mut self, command: &str, round: &mut Round<'_>) {
        if command == "take" {
            self.state.carry_out(Action::Take, round);
        }
    }

    fn logic(&mut self, round: &mut Round<'_>) {
        for action in std::mem::take(&mut self.actions) {
            self.state.carry_out(action, round);
        }
        self.known = std::mem::take(&mut self.seen);
        self.state.logic(round, self.known);
    }

    fn ui(&mut self, ui: &mut Ui, view: &mut view::View<'_>) {
        self.seen = true;
        if !self.known {
            view.effects.wake();
        }
        view.within(&self.state, &mut self.actions, |view| ui_of(ui, view, &mut self.looks));
    }

    fn report(&self, _: &Round<'_>) -> Option<Chapter> {
        let answer = Arc::clone(self.state.answer()?);
        Some(Box::new(move |report| {
            section(report, &answer.advice);
            Ok(())
        }))
    }

    fn running(&self) -> Vec<&dyn Running> {
        self.state.running()
    }
}

/// Below this width the plot stands under the reasons.
const WIDE: f32 = 860.0;

fn ui_of(ui: &mut Ui, view: &mut View<'_>, looks: &mut reasons::Reasons) {
    let Some(answer) = view.state.answer().cloned().filter(|_| view.workspace.base().is_some()) else {
        return waiting(ui, view);
    };
    answer::ui(ui, view, &answer);
    ui.add_space(10.0);
    let room = ui.available_rect_before_wrap();
    if room.width() < WIDE {
        ScrollArea::vertical().id_salt("choose").auto_shrink(false).show(ui, |ui| {
            looks.rows(ui, &answer);
            ui.add_space(10.0);
            ui.allocate_ui([ui.available_width(), 320.0].into(), |ui| looks.plot(ui, view, &answer));
            looks.door(ui, view, &answer);
            ui.add_space(10.0);
            looks.unknown(ui, &answer);
        });
        return;
    }
    let cut = room.left() + (room.width() * 0.52).round();
    let left = Rect::from_min_max(room.min, pos2(cut - 12.0, room.bottom()));
    let right = Rect::from_min_max(pos2(cut + 12.0, room.top()), room.max);
    crate::app::shared::layout::within(ui, left, |ui| {
        ScrollArea::vertical().id_salt("reasons").auto_shrink(false).show(ui, |ui| {
            // The bar for scrolling lies over the right edge.
            ui.set_max_width(ui.available_width() - 12.0);
            looks.rows(ui, &answer);
        });
    });
    crate::app::shared::layout::within(ui, right, |ui| {
        let height = (ui.available_height() * 0.6).max(200.0).min(ui.available_height());
        ui.allocate_ui([ui.available_width(), height].into(), |ui| {
            ui.set_min_height(height);
            looks.plot(ui, view, &answer);
        });
        looks.door(ui, view, &answer);
        ui.add_space(10.0);
        ScrollArea::vertical().id_salt("unknown").auto_shrink(false).show(ui, |ui| looks.unknown(ui, &answer));
    });
    ui.advance_cursor_after_rect(room);
    if view.state.wants_spectra(view.workspace) && !view.jobs.is_sweeping() && !looks.asked_for_spectra {
        // Of a small model all spectra are there in a second; of a large one a person asks for them.
        looks.asked_for_spectra = true;
        if view.workspace.layout().is_some_and(|layout| layout.parameters < state::SMALL) {
            view.effects.push(Effect::AnalyseAll);
        }
    }
}

/// No answer yet: what it will rest on, and how far it is.
fn waiting(ui: &mut Ui, view: &View<'_>) {
    const LOOKS: [(&str, &str); 5] = [
        ("Your data", "how much there is to learn, beside how much a rank can hold"),
        ("The model", "its size decides the learning rate"),
        ("What your data pull at", "one backward pass through the frozen model, module by module"),
        ("Memory", "what fits this machine"),
        ("Runs that are there", "what was measured has the last word"),
    ];
    let colors = Colors::of(ui);
    ui.label(RichText::new("Which rank?").font(FontId::new(20.0, FontFamily::Name(STRONG.into()))));
    if view.workspace.base().is_none() {
        ui.label(
            RichText::new("Open a model, and choose its data under Train: the answer stands here then.")
                .color(colors.weak),
        );
    } else if let Some(why) = view.state.failure() {
        ui.label(RichText::new(why.to_string()).color(colors.bad));
    } else {
        ui.add_space(4.0);
        ui.horizontal(|ui| {
            let bar = ProgressBar::new(view.state.fraction()).desired_width(200.0).desired_height(8.0);
            ui.add(bar).accessible_name("Choosing a rank");
            ui.label(RichText::new(format!("{} …", view.state.stage())).color(colors.weak));
        });
    }
    ui.add_space(14.0);
    ui.label(RichText::new("The answer weighs").strong());
    Grid::new("looks").num_columns(2).spacing([18.0, 8.0]).show(ui, |ui| {
        for (name, about) in LOOKS {
            ui.label(name);
            ui.label(RichText::new(about).color(colors.weak));
            ui.end_row();
        }
    });
}
