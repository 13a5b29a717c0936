//! Later.
use crate::app::View;
use crate::app::training::Training;
use eframe::egui::Ui;
#[derive(Default)]
pub struct History {}
impl History {
    pub fn ui(&mut self, _ui: &mut Ui, _view: &mut View<'_>) -> bool {
        false
    }
}
