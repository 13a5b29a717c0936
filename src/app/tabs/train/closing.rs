//! The question whether a run is to end with the window.

use eframe::egui::{self, Id, Modal, RichText, Ui};

use super::View;
use super::state::Action;

/// Asks, while somebody wants to close the window and a run goes on.
pub fn closing(ui: &Ui, view: &mut View<'_>) {
    let training = view.state;
    if !training.asks_to_close() && !training.closes_soon() {
        return;
    }
    let name = training.going_on().map_or_else(|| "A run".to_owned(), |folder| training.name_of(folder));
    let at = training.shown().and_then(|track| track.last()).map_or(0, |record| record.step.step);
    Modal::new(Id::unique("closing")).show(ui.ctx(), |ui| {
        ui.set_width(420.0);
        ui.label(RichText::new(format!("{name} is still training")).text_style(egui::TextStyle::Heading));
        ui.add_space(6.0);
        if view.state.closes_soon() {
            ui.horizontal(|ui| {
                ui.spinner();
                ui.label("Saving a checkpoint; then the window closes.");
            });
            return;
        }
        ui.label(format!(
            "It is at step {at}. Closing the window ends it after this step with a checkpoint: at the next start it can go \
             on from there as if nothing had happened."
        ));
        ui.add_space(10.0);
        ui.horizontal(|ui| {
            if ui.button("Save a checkpoint and close").clicked() {
                view.actions.push(Action::Close(true));
            }
            if ui.button("Keep it running").clicked() {
                view.actions.push(Action::Close(false));
            }
        });
    });
}
