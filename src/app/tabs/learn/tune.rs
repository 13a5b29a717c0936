//! Chapter 9: three runs, three losses, three spectra.

use eframe::egui::{Button, DragValue, ProgressBar, Rect, RichText, Ui, UiBuilder, WidgetInfo, pos2};

use super::View;
use super::state::{Action, Chapter, Phase, RUN_MOST, RUN_RANKS, Rates, Tune, TuneEdit};
use crate::app::effect::{Effect, Place};
use crate::app::look::theme::Colors;
use crate::app::work::dialog::Question;

use crate::app::widgets::menu::Take;
use crate::app::work::export::Source;
use crate::demo::Set;
use crate::figure::{Axis, Figure, Series, Style, number::short};
use crate::units;

use super::pieces::{beside, choice, legend, right, said, stage, weak};

const HEIGHT: f32 = 214.0;

/// The plots, made anew when there is news.
#[derive(Default)]
pub struct Looks {
    key: Option<u64>,
    loss: Figure,
    sigma: Figure,
    talk: crate::app::shared::talk::Look,
    /// The rank that is guessed to reach the lowest loss.
    guess: Option<usize>,
}

impl Looks {
    /// Makes the plots.
    pub fn logic(&mut self, tune: &Tune) {
        if self.key != Some(tune.version()) {
            self.key = Some(tune.version());
            self.loss = losses(tune);
            self.sigma = spectra(tune);
        }
    }
}

/// Paints it.
pub fn ui(ui: &mut Ui, view: &mut View<'_>, looks: &mut Looks) {
    let tune = &view.state.tune;
    let mut edit = None;
    stage(ui, |ui| {
        edit = controls(ui, tune, &mut looks.guess);
        ui.add_space(4.0);
        ui.horizontal_wrapped(|ui| {
            for (rank, run) in RUN_RANKS.into_iter().zip(tune.runs()) {
                let held = run.held_out.map(|loss| format!(", held-out loss {}", short(loss, 3))).unwrap_or_default();
                let state = match run.phase {
                    Phase::Waiting => "not run yet".to_owned(),
                    Phase::Running => format!("step {}", run.losses.len()),
                    Phase::Done => format!("{} numbers{held}", units::count(run.trainable as u64)),
                };
                let color = match run.phase {
                    Phase::Done if tune.lowest() == Some(rank) => Colors::of(ui).good,
                    Phase::Done => ui.visuals().text_color(),
                    _ => Colors::of(ui).weak,
                };
                ui.label(RichText::new(format!("r = {rank}")).strong());
                ui.label(RichText::new(state).color(color));
                ui.add_space(14.0);
            }
        });
        legend(ui, &looks.loss);
        let room = ui.available_rect_before_wrap();
        let wide = room.width() > 560.0;
        let bottom = room.top() + HEIGHT;
        let middle = room.left() + room.width() * 0.56;
        let (left, other) = if wide {
            (
                Rect::from_min_max(room.min, pos2(middle - 10.0, bottom)),
                Rect::from_min_max(pos2(middle + 10.0, room.top()), pos2(room.right(), bottom)),
            )
        } else {
            (
                Rect::from_min_max(room.min, pos2(room.right(), bottom)),
                Rect::from_min_max(pos2(room.left(), bottom + 10.0), pos2(room.right(), bottom + HEIGHT)),
            )
        };
        for (place, figure, id) in [(left, &looks.loss, "three losses"), (other, &looks.sigma, "three spectra")] {
            ui.scope_builder(UiBuilder::new().max_rect(place), |ui| {
                ui.horizontal(|ui| {
                    ui.label(RichText::new(&figure.title).small());
                    right(ui, |ui| {
                        view.export(ui, &figure.title, &Take::PLOT, place, || Source::Figure(Box::new(figure.clone())))
                    });
                });
                if figure.series.iter().all(|series| series.points.is_empty()) {
                    ui.add_space(16.0);
                    ui.label(RichText::new("Appears while the runs are training.").color(Colors::of(ui).weak));
                } else {
                    figure.ui(ui, id, |_| {});
                }
            });
        }
        ui.advance_cursor_after_rect(left.union(other));
    });
    talk(ui, view, looks);
    let tune = &view.state.tune;
    let done = tune.runs().iter().filter(|run| run.phase == Phase::Done).count();
    let now = match tune.problem() {
        Some(problem) => format!("The run ended: {problem}."),
        None if done == RUN_RANKS.len() => format!("{}{}", tune.verdict(), guessed(looks.guess, tune)),
        None => format!("{done} of 3 runs at their end."),
    };
    beside(ui, |ui| super::goal(ui, view, Chapter::Tune, &now), |ui| said(ui, "energy is accuracy.", &truth(tune)));
    if let Some(edit) = edit {
        view.actions.push(Action::Tune(edit));
    }
}

/// What became of the guess.
fn guessed(guess: Option<usize>, tune: &Tune) -> String {
    match guess.zip(tune.lowest()) {
        Some((guess, lowest)) if guess == lowest => " As you guessed.".to_owned(),
        Some((guess, _)) => format!(" You guessed r = {guess}."),
        None => String::new(),
    }
}

/// The base and the results, asked the same; and the way on.
fn talk(ui: &mut Ui, view: &mut View<'_>, looks: &mut Looks) {
    let tune = &view.state.tune;
    let names = tune.names();
    if names.len() < 2 {
        return;
    }
    let mut edit = None;
    stage(ui, |ui| {
        ui.label(RichText::new("Ask them").strong());
        let busy = tune.is_running().then_some("The runs are training. Stop them or wait.");
        let prompts: Vec<String> = prompts(tune.set).map(str::to_owned).to_vec();
        edit = looks.talk.ui(ui, &view.state.talk, &names, &prompts, busy);
    });
    if let Some(edit) = edit {
        view.actions.push(Action::Talk(edit));
    }
    if tune.reached() {
        stage(ui, |ui| {
            ui.label(RichText::new("You have tuned a model at three ranks, and heard the difference.").strong());
            ui.horizontal_wrapped(|ui| {
                weak(ui, "What next?");
                for (text, effect) in doors() {
                    if ui.link(text).clicked() {
                        view.effects.push(effect);
                    }
                }
            });
        });
    }
}

/// Where one goes after the last chapter.
fn doors() -> [(&'static str, Effect); 4] {
    [
        ("Open your own model…", Effect::Ask(Question::Folder)),
        ("Tune on your own data", Effect::Show(Place::part("train", "data"))),
        ("Look at these runs", Effect::Show(Place::part("train", "history"))),
        ("See which rank a model needs", Effect::Show(Place::tab("choose"))),
    ]
}

/// Beginnings of texts, of the kind that was trained on first.
fn prompts(set: Set) -> [&'static str; 3] {
    let [tale, names, _] = crate::demo::PROMPTS;
    match set {
        Set::Pirate => ["Ahoy, matey!", tale, names],
        Set::Extract => [names, tale, "Ahoy, matey!"],
        _ => [tale, names, "Ahoy, matey!"],
    }
}

fn controls(ui: &mut Ui, tune: &Tune, guess: &mut Option<usize>) -> Option<TuneEdit> {
    let mut edit = None;
    if tune.is_running() {
        ui.horizontal_wrapped(|ui| {
            if ui.button("Stop the runs").clicked() {
                edit = Some(TuneEdit::Stop);
            }
            let fraction = tune.running().and_then(|job| job.status().fraction).unwrap_or(0.0);
            let bar = ProgressBar::new(fraction).desired_width(180.0).desired_height(8.0);
            ui.add(bar).accessible_name("Three runs");
            if let Some(left) = tune.running().and_then(|job| job.status().remaining) {
                weak(ui, format!("{} left", units::duration_range(left)));
            }
        });
        return edit;
    }
    ui.horizontal_wrapped(|ui| {
        weak(ui, "Data");
        let sets = [(Set::Pirate, "a style (pirate)"), (Set::Extract, "a task (who gave what)"), (Set::Facts, "facts")];
        edit = choice(ui, tune.set, &sets).map(TuneEdit::Set);
    });
    ui.horizontal_wrapped(|ui| {
        weak(ui, "Learning rate");
        let rates = [(Rates::Each, "one for each rank"), (Rates::One, "one for all")];
        edit = choice(ui, tune.rates, &rates).map(TuneEdit::Rates).or(edit.take());
    });
    ui.horizontal_wrapped(|ui| {
        let text = RichText::new("Run ranks 1, 8 and 64").strong().color(ui.visuals().extreme_bg_color);
        if ui.add(Button::new(text).fill(Colors::of(ui).accent)).clicked() {
            edit = Some(TuneEdit::Start);
        }
        let mut steps = tune.steps;
        let drag = DragValue::new(&mut steps).range(1..=RUN_MOST).suffix(" steps");
        let drag =
            ui.add(drag).on_hover_text("Of each run. With more of them a low rank catches up, as far as it can.");
        drag.widget_info(|| WidgetInfo::drag_value(true, steps as f64));
        if drag.accessible_name("Steps of each run").changed() {
            edit = Some(TuneEdit::Steps(steps));
        }
        weak(ui, "for each of the three");
        ui.add_space(14.0);
        weak(ui, "Your guess: the lowest loss at r =");
        let ranks = RUN_RANKS.map(|rank| (Some(rank), rank.to_string()));
        let ranks = [0, 1, 2].map(|at| (ranks[at].0, ranks[at].1.as_str()));
        *guess = choice(ui, *guess, &ranks).unwrap_or(*guess);
    });
    edit
}

/// The mean over a few steps around each: single steps see other rows and jump.
fn smooth(losses: &[[f64; 2]]) -> Vec<[f64; 2]> {
    const REACH: usize = 4;
    let mean = |at: usize| {
        let part = &losses[at.saturating_sub(REACH)..(at + REACH + 1).min(losses.len())];
        part.iter().map(|point| point[1]).sum::<f64>() / part.len() as f64
    };
    losses.iter().enumerate().map(|(at, point)| [point[0], mean(at)]).collect()
}

fn losses(tune: &Tune) -> Figure {
    let title = "Loss (mean of 9 steps)".to_owned();
    let mut figure =
        Figure { title, x: Axis::linear("step"), y: Axis::linear("loss"), quiet: true, ..Figure::default() };
    for (i, (rank, run)) in RUN_RANKS.into_iter().zip(tune.runs()).enumerate() {
        figure.series.push(Series::line(format!("r = {rank}"), smooth(&run.losses)).color(i));
    }
    figure
}

fn spectra(tune: &Tune) -> Figure {
    let title = match tune.module() {
        "" => "Singular values of ΔW".to_owned(),
        module => format!("σ of ΔW, {module}"),
    };
    let mut figure =
        Figure { title, x: Axis::log("index i"), y: Axis::log("strength σ"), quiet: true, ..Figure::default() };
    for (i, (rank, run)) in RUN_RANKS.into_iter().zip(tune.runs()).enumerate() {
        let points = run.sigma.iter().enumerate().map(|(i, &s)| [(i + 1) as f64, s]).collect();
        figure.series.push(Series::line(format!("r = {rank}"), points).style(Style::LinePoints).color(i));
    }
    figure
}

/// The largest adapter, cut down, beside what was trained at that rank.
fn truth(tune: &Tune) -> String {
    let (first, last) = (&tune.runs()[0], &tune.runs()[RUN_RANKS.len() - 1]);
    let (Some(cut), Some(low), Some(high)) = (tune.cut(), first.held_out, last.held_out) else {
        return "After the runs: the r = 64 adapter is cut down to its strongest direction in each module, and its loss stands \
                here beside that of the run that was trained at rank 1."
            .into();
    };
    format!(
        "Cut to rank {}, the r = 64 adapter keeps {} of its energy, and its held-out loss goes from {} to {}. Trained at rank 1 \
         it is {}. What matters is which directions help, not how large they are.",
        cut.rank,
        units::percent(cut.energy),
        short(high, 3),
        short(cut.loss, 3),
        short(low, 3),
    )
}
