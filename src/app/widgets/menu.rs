//! The ⋯ menu of a picture: what can be taken away from it. The owner does the work.

use eframe::egui::{Button, Popup, Ui};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// The picture to the clipboard.
    CopyPng,
    /// The picture to a file.
    SavePng,
    /// The drawing to a file.
    SaveSvg,
    /// The numbers to a file.
    SaveCsv,
    /// The table to the clipboard.
    CopyTsv,
}

impl Take {
    /// What a plot offers.
    pub const PLOT: [Self; 4] = [Self::CopyPng, Self::SavePng, Self::SaveSvg, Self::SaveCsv];
    /// What a table offers.
    pub const TABLE: [Self; 2] = [Self::CopyTsv, Self::SaveCsv];

    /// The words in the menu.
    pub fn label(self) -> &'static str {
        match self {
            Self::CopyPng => "Copy as PNG",
            Self::SavePng => "Save as PNG…",
            Self::SaveSvg => "Save as SVG…",
            Self::SaveCsv => "Save data as CSV…",
            Self::CopyTsv => "Copy as TSV",
        }
    }
}

/// A ⋯ button, named after what it belongs to, with a menu of `offers`.
pub fn menu(ui: &mut Ui, of: &str, offers: &[Take]) -> Option<Take> {
    let button = ui.add(Button::new("⋯").frame_when_inactive(false)).on_hover_text("Copy or save");
    let button = button.accessible_name(format!("Copy or save {of}"));
    let mut taken = None;
    Popup::menu(&button).show(|ui| {
        ui.set_min_width(150.0);
        for &offer in offers {
            if ui.button(offer.label()).clicked() {
                taken = Some(offer);
            }
        }
    });
    taken
}
