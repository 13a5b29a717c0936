//! Later.
use crate::app::View;
use crate::app::training::Training;
use eframe::egui::Ui;
#[derive(Default)]
pub struct SweepLook {}
impl SweepLook {
    pub fn think(&mut self, _training: &Training) {}
    pub fn ui(&mut self, _ui: &mut Ui, _view: &mut View<'_>) {}
}
