//! The list of colour maps.

use eframe::egui::{ComboBox, Ui};

use crate::figure::ColorMap;

impl ColorMap {
    /// A list to choose from; true when another was chosen.
    pub fn ui(&mut self, ui: &mut Ui) -> bool {
        let before = *self;
        let combo = ComboBox::from_id_salt("colours").selected_text(self.name()).width(96.0).show_ui(ui, |ui| {
            for map in Self::ALL {
                ui.selectable_value(self, map, map.name());
            }
        });
        combo.response.accessible_name("Colours").on_hover_text(
            "Blue – red is for signed values and centred on zero; the others are for magnitudes. All are perceptually uniform.",
        );
        before != *self
    }
}
