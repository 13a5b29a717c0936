//! Dividing the room of a tab into parts.

use eframe::egui::{Rect, Ui, UiBuilder, pos2};

/// Space between the parts.
pub const GAP: f32 = 16.0;

/// Columns with these shares of the width.
pub fn split(rect: Rect, shares: &[f32]) -> Vec<Rect> {
    let width = rect.width() - GAP * (shares.len() - 1) as f32;
    let mut left = rect.left();
    shares
        .iter()
        .map(|share| {
            let part = Rect::from_min_max(pos2(left, rect.top()), pos2(left + width * share, rect.bottom()));
            left = part.right() + GAP;
            part
        })
        .collect()
}

/// Paints into a part of the room, and nowhere else.
pub fn within(ui: &mut Ui, rect: Rect, add: impl FnOnce(&mut Ui)) {
    ui.scope_builder(UiBuilder::new().max_rect(rect), |ui| {
        ui.set_clip_rect(ui.clip_rect().intersect(rect.expand(2.0)));
        add(ui);
    });
}
