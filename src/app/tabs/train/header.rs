//! The line over the plots: which run, how it stands, what can be done with it.

use std::path::PathBuf;

use eframe::egui::{self, Button, ProgressBar, RichText, Ui};

use super::View;
use super::state::{Action, Live, Track, in_words, method_name, metrics};
use crate::app::effect::Effect;
use crate::app::look::theme::Colors;
use crate::app::shared::layout;
use crate::app::widgets::menu::Take;
use crate::app::work::export::Source;
use crate::figure::number;
use crate::train::Method;
use crate::train::history::{HERE, Past, Phase};
use crate::units;

/// Room that a letter of the run's name and state takes, and that the buttons behind them take: with less they stand in two lines.
const LETTER: f32 = 7.6;
const PAST: f32 = 410.0;
const LIVE: f32 = 220.0;

/// Paints it; the run that a person wants to talk to.
pub fn ui(ui: &mut Ui, view: &mut View<'_>) -> Option<PathBuf> {
    let training = view.state;
    let track = training.shown()?;
    let mut talk = None;
    let past = training.past(&track.folder);
    let live = training.live().filter(|_| training.going_on() == Some(track.folder.as_path()));
    let colors = Colors::of(ui);
    if live.is_none()
        && let Some((folder, reason)) = training.failure()
        && track.folder.starts_with(folder)
    {
        failure(ui, reason);
    } else if let Some(Past { phase: Phase::Failed(reason), .. }) = past.filter(|_| live.is_none()) {
        failure(ui, &in_words(reason));
    }
    let stage = live.map(|live| live.stage()).unwrap_or_default();
    let (word, color) = match (live, past.map(|past| &past.phase)) {
        (Some(live), _) if live.is_stopping() && stage.is_empty() => ("stopping after this step", colors.warn),
        (Some(live), _) if live.is_stopping() => (stage.as_str(), colors.warn),
        (Some(live), _) if live.is_held() => ("paused", colors.warn),
        (Some(_), _) if !stage.is_empty() => (stage.as_str(), colors.accent),
        (Some(_), _) => ("running", colors.accent),
        (None, Some(Phase::Running)) => ("running in another program", colors.accent),
        (None, Some(Phase::Failed(_))) => ("failed", colors.bad),
        (None, Some(Phase::Finished)) => ("finished", colors.good),
        (None, Some(phase)) => (phase.word(), colors.warn),
        (None, None) => ("", colors.weak),
    };
    let name = track.name();
    // What it does at the moment may be long: the buttons stay where they are.
    let letters = name.chars().count() + word.chars().count().min(10);
    let buttons = if live.is_some() { LIVE } else { PAST };
    layout::sides(ui, LETTER * letters as f32 + buttons, |ui, right| {
        if !right {
            ui.label(RichText::new(&name).text_style(egui::TextStyle::Heading));
            ui.label(RichText::new(word).color(color));
            return;
        }
        match (live, past) {
            (Some(live), _) => steer(ui, view, live),
            (None, Some(past)) => talk = take_away(ui, view, track, past).then(|| past.folder.clone()),
            (None, None) => {}
        }
    });
    // A clock that stands says nothing.
    let left = live.filter(|live| !live.is_held()).and_then(|_| track.time_left());
    facts(ui, track, live.is_some(), left);
    ui.add_space(2.0);
    talk
}

/// What can be done with a run that goes on; from right to left.
fn steer(ui: &mut Ui, view: &mut View<'_>, live: &Live) {
    let stop = ui.add_enabled(!live.is_stopping(), Button::new("Stop"));
    let tip = "Ends the run with a checkpoint, at once where it evaluates or samples: it can be resumed later";
    if stop.on_hover_text(tip).clicked() {
        view.actions.push(Action::Stop);
    }
    let (text, tip) = match live.is_held() {
        true => ("Resume", "Goes on with the next step"),
        false => ("Pause", "Holds the run between two steps; it stays in memory"),
    };
    let hold = ui.add_enabled(!live.is_stopping(), Button::new(text)).on_hover_text(tip);
    if hold.clicked() {
        view.actions.push(Action::Hold(!live.is_held()));
    }
    if !live.queue.is_empty() && !live.is_stopping() {
        let weak = Colors::of(ui).weak;
        ui.label(RichText::new(format!("{} more to come", live.queue.len())).small().color(weak));
    }
}

/// What the run said about its data and its model: the first sentence, all of them behind a click.
pub fn notes(ui: &mut Ui, view: &View<'_>) {
    let Some(track) = view.state.shown() else { return };
    // Which file it is stands in the set-up.
    let of_data = format!("{}: ", track.settings.data.display());
    let short = |note: &String| note.strip_prefix(&of_data).unwrap_or(note).to_owned();
    let Some(first) = track.notes.first().map(short) else { return };
    let rest: Vec<String> = track.notes.iter().skip(1).map(short).collect();
    let weak = Colors::of(ui).weak;
    let key = ui.scope_id().with("all notes");
    let mut open = ui.data(|data| data.get_temp::<bool>(key)).unwrap_or_default();
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(first).small().color(weak));
        let more = match rest.len() {
            _ if open => "fewer notes".to_owned(),
            0 => return,
            1 => "1 more note".to_owned(),
            count => format!("{count} more notes"),
        };
        if ui.link(RichText::new(more).small()).clicked() {
            open = !open;
        }
    });
    for note in rest.iter().filter(|_| open) {
        ui.label(RichText::new(note).small().color(weak));
    }
    ui.data_mut(|data| data.insert_temp(key, open));
}

/// Why a run could not go on.
pub fn failure(ui: &mut Ui, reason: &str) {
    let colors = Colors::of(ui);
    egui::Frame::new().stroke(egui::Stroke::new(1.0, colors.bad)).inner_margin(8).corner_radius(6).show(ui, |ui| {
        ui.label(RichText::new(format!("The run could not go on: {reason}")).color(colors.bad));
        ui.label(RichText::new("What it has written stays where it is.").small().color(colors.weak));
    });
    ui.add_space(4.0);
}

/// What is trained, how far it is, how long it will take.
fn facts(ui: &mut Ui, track: &Track, goes_on: bool, left: Option<[std::time::Duration; 2]>) {
    let colors = Colors::of(ui);
    let s = &track.settings;
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 14.0;
        let weak = |text: String| RichText::new(text).color(colors.weak);
        let model = s.model.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        if track.made_by != HERE {
            ui.label(weak(format!("made by {}", track.made_by)));
        }
        let how = match s.method {
            _ if !track.described => model,
            Method::Full => format!("full · {model}"),
            method => format!("{} r = {} · {model}", method_name(method), s.rank),
        };
        ui.label(weak(how));
        if track.trainable > 0 {
            ui.label(weak(format!("{} trained", units::count(track.trainable as u64))));
        }
        let done = track.last().map_or(0, |record| record.step.step);
        if track.steps > 0 {
            ui.label(format!("step {done} of {}", track.steps));
        } else if goes_on {
            ui.label(weak("reading the data and the model".to_owned()));
        }
        if let Some(speed) = track.speed() {
            ui.label(weak(format!("{speed:.0} tokens/s")));
        }
        if let Some(left) = left {
            ui.label(weak(format!("{} left", units::duration_range(left))))
                .on_hover_text("From how fast and how slow the last steps were, evaluations included.");
        }
    });
    if goes_on && track.steps > 0 {
        let done = track.last().map_or(0, |record| record.step.step) as f32 / track.steps as f32;
        let bar = ProgressBar::new(done).desired_height(4.0).corner_radius(2.0);
        ui.add(bar).widget_info(|| {
            let mut info = egui::WidgetInfo::labeled(egui::Role::ProgressIndicator, true, "Steps of the run");
            info.value = Some(f64::from(done));
            info
        });
    }
}

/// A run in a table, for a report.
pub fn said(track: &Track) -> Vec<Vec<String>> {
    let s = &track.settings;
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![row("setting", "of this run".to_owned()), row("made by", track.made_by.to_owned())];
    if track.described {
        rows.push(row("method", method_name(s.method).to_owned()));
        if s.method != Method::Full {
            rows.push(row("rank r, α", format!("{}, {}", s.rank, s.alpha())));
            rows.push(row("targets", s.targets.clone()));
        }
        rows.push(row("learning rate", format!("{:.1e}", s.lr)));
    }
    rows.push(row("data", s.data.display().to_string()));
    if let Some(last) = track.last() {
        rows.push(row("steps", format!("{} of {}", last.step.step, track.steps)));
        rows.push(row("last loss", number::whole(last.step.loss, 4)));
    }
    let held_out = track.records.iter().rev().find_map(|record| record.eval_loss);
    rows.extend(held_out.map(|loss| row("held-out loss", number::whole(loss, 4))));
    rows
}

/// What a run on the disk gives; true when a person wants to talk to it.
fn take_away(ui: &mut Ui, view: &mut View<'_>, track: &Track, past: &Past) -> bool {
    let folder = &past.folder;
    let idle = view.state.live().is_none();
    let push = |view: &mut View<'_>, ask: Action| view.actions.push(ask);
    let there = past.weights(None).is_some();
    // Of a run that was stopped its newest checkpoint can be looked at and asked.
    let step = past.in_place_of_result();
    let mut talk = false;
    if past.newest_weights().is_some() {
        let text = RichText::new("Talk to it").strong();
        // First of all there is the rest of the run.
        let button = match there {
            true => Button::new(text.color(ui.visuals().extreme_bg_color)).fill(Colors::of(ui).accent),
            false => Button::new(text),
        };
        let tip = match step {
            None => "Ask the base and the tuned model the same, side by side".to_owned(),
            Some(step) => format!("Ask the base and the checkpoint at step {step} the same, side by side"),
        };
        talk = ui.add(button).on_hover_text(tip).clicked();
    }
    ui.menu_button("Export ▾", |ui| {
        ui.set_min_width(240.0);
        let ours = past.foreign.is_none();
        let full = past.settings.method == Method::Full;
        if !full && there {
            ui.menu_button("Save the adapter", |ui| super::talk::save(ui, view, past));
        }
        if ui.button("Open folder").clicked() {
            push(view, Action::OpenFolder(folder.clone()));
            ui.close();
        }
        let what = if full { "the model's folder" } else { "the adapter's folder (PEFT)" };
        if ui.add_enabled(there, Button::new(format!("Copy the path of {what}"))).clicked() {
            ui.ctx().copy_text(folder.display().to_string());
            view.effects.push(Effect::Say(format!("{} is on the clipboard.", folder.display())));
            ui.close();
        }
        if !full && ours && ui.add_enabled(there, Button::new("Write the merged model…")).clicked() {
            push(view, Action::OfferMerge(Some(folder.clone())));
            ui.close();
        }
        if past.is_described() && ui.button("Take it to a cluster…").clicked() {
            push(view, Action::OfferJob(Some(folder.clone())));
            ui.close();
        }
        if past.is_described() && ui.button("Set up the next run like this").clicked() {
            push(view, Action::Again(folder.clone()));
            ui.close();
        }
        if !past.checkpoints.is_empty() {
            ui.separator();
            ui.label(RichText::new("Checkpoints").small().color(Colors::of(ui).weak));
            for &step in past.checkpoints.iter().rev().take(12) {
                ui.horizontal(|ui| {
                    ui.label(format!("step {step}"));
                    let look = ui.small_button("ΔW in Spectrum");
                    if look.accessible_name(format!("ΔW of step {step} in Spectrum")).clicked() {
                        push(view, Action::Spectrum(folder.clone(), Some(step)));
                        ui.close();
                    }
                    let again = ui.add_enabled(idle && ours, Button::new("New run from here").small());
                    let again = again.on_disabled_hover_text("Only runs of this program can be gone on with");
                    if again.accessible_name(format!("New run from step {step}")).clicked() {
                        push(view, Action::Branch(folder.clone(), step));
                        ui.close();
                    }
                });
            }
        }
    })
    .response
    .on_hover_text("The adapter, a merged model, the settings, checkpoints");
    let area = ui.clip_rect();
    view.export(ui, "metrics", &Take::TABLE, area, || Source::Table(metrics(track)));
    let tip = match step {
        None => "Opens the model with this run's result in the Spectrum tab".to_owned(),
        Some(step) => format!("Opens the model with the run's checkpoint at step {step} in the Spectrum tab"),
    };
    if ui
        .add_enabled(past.newest_weights().is_some(), Button::new("ΔW in Spectrum"))
        .on_hover_text(tip)
        .on_disabled_hover_text("The run has neither a result nor a checkpoint with an adapter")
        .clicked()
    {
        push(view, Action::Spectrum(folder.clone(), step));
    }
    if past.can_go_on() {
        let tip = match past.checkpoints.last() {
            Some(step) => format!("Goes on after the checkpoint at step {step}"),
            None => "Begins again: there is no checkpoint".to_owned(),
        };
        if ui.add_enabled(idle, Button::new("Resume")).on_hover_text(tip).clicked() {
            push(view, Action::GoOn(folder.clone()));
        }
    }
    talk
}
