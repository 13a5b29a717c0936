//! Files dragged onto the window.

use std::path::PathBuf;

use eframe::egui::{Align2, Color32, Context, FontId, Id, LayerId, Order, Ui};

/// What was dropped since the last frame.
pub fn dropped(ctx: &Context) -> Vec<PathBuf> {
    ctx.input(|i| i.raw.dropped_files.iter().map(|f| f.path().to_owned()).filter(|p| p.as_os_str() != "").collect())
}

/// While a file hovers over the window, says what letting go will do.
pub fn ui(ui: &Ui) {
    let ctx = ui.ctx();
    if ctx.input(|i| i.raw.hovered_files.is_empty()) {
        return;
    }
    let rect = ctx.content_rect();
    let painter = ctx.layer_painter(LayerId::new(Order::Foreground, Id::unique("drop")));
    painter.rect_filled(rect, 0.0, Color32::from_black_alpha(160));
    let text = "Drop a model or an adapter to open it, a data file to train on it";
    painter.text(rect.center(), Align2::CENTER_CENTER, text, FontId::proportional(22.0), Color32::WHITE);
}
