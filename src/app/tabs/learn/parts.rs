//! The colours of W₀, ΔW, B and A: the same in every chapter.

use eframe::egui::{Color32, Ui};

use crate::app::look::palette;
use crate::app::look::theme::Colors;

/// What a number belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The frozen base.
    Base,
    /// What tuning adds.
    Delta,
    /// The column factor.
    B,
    /// The row factor.
    A,
    /// Base and change together, and whatever else is only the result of something.
    Sum,
    /// What was wished for.
    Wish,
}

impl Part {
    /// Its colour.
    pub fn color(self, ui: &Ui) -> Color32 {
        let dark = ui.visuals().dark_mode;
        match self {
            Self::Base => palette::series(0, dark),
            Self::Delta => palette::series(1, dark),
            Self::B => palette::series(2, dark),
            Self::A => palette::series(3, dark),
            Self::Sum => ui.visuals().text_color(),
            Self::Wish => Colors::of(ui).weak,
        }
    }
}
