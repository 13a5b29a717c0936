//! A run that was cut off, or that was stopped with the window: offered again, whatever tab is in front.

use eframe::egui::{Frame, Margin, Panel, RichText, Ui};

use super::View;
use super::state::Action;
use crate::app::effect::{Effect, Place};
use crate::app::look::theme::Colors;
use crate::train::history::Phase;

/// Paints the offer under the top bar while there is one.
pub fn ui(ui: &mut Ui, view: &mut View<'_>) {
    let training = view.state;
    if training.live().is_some() {
        return;
    }
    let Some(past) = training.interrupted().iter().find_map(|folder| training.past(folder)) else { return };
    let colors = Colors::of(ui);
    let bar = Frame::new().fill(colors.card).inner_margin(Margin::symmetric(12, 7));
    Panel::top("interrupted run").frame(bar).show(ui, |ui| {
        ui.horizontal_wrapped(|ui| {
            let of = if past.steps > 0 { format!(" of {}", past.steps) } else { String::new() };
            let from = match past.checkpoints.last() {
                Some(step) => format!("it can go on after its checkpoint at step {step}"),
                None => "it has no checkpoint and would begin again".to_owned(),
            };
            ui.label(RichText::new("⚠").color(colors.warn));
            let end = if past.phase == Phase::Stopped { "was stopped" } else { "was cut off" };
            ui.label(format!("{} {end} at step {}{of}: {from}.", past.name(), past.done));
            if ui.button("Resume").clicked() {
                view.actions.push(Action::GoOn(past.folder.clone()));
                view.effects.push(Effect::Show(Place::part("train", "run")));
            }
            let leave = ui.button("Leave it").on_hover_text("It is offered no more; it stays in History");
            if leave.clicked() {
                view.actions.push(Action::PutAside(past.folder.clone()));
            }
        });
    });
}
