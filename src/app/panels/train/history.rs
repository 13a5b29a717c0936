//! Later.
use eframe::egui::Ui;
use crate::app::View;
use crate::app::training::Training;
#[derive(Default)]
pub struct History {}
impl History {
    
    pub fn ui(&mut self, _ui: &mut Ui, _view: &mut View<'_>) -> bool { false }
}
