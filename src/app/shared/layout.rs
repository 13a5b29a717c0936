//! Dividing the room of a tab into parts.

use eframe::egui::{
    Align, Label, Layout, Rect, Response, RichText, ScrollArea, Sense, TextStyle, TextWrapMode, Ui, UiBuilder,
    WidgetText, pos2, vec2,
};

use crate::app::look::glossary::Term;
use crate::app::look::theme::Colors;

/// Narrower or lower than this, parts stand one below the other.
const NARROW: f32 = 700.0;
const LOW: f32 = 400.0;

/// Too little room for several parts at once: a small window, a large scale.
pub fn is_cramped(rect: Rect) -> bool {
    rect.width() < NARROW || rect.height() < LOW
}

/// Parts of these heights, one below the other, in all of the width.
pub fn one_below_the_other(ui: &mut Ui, heights: &[f32], mut add: impl FnMut(&mut Ui, usize)) {
    ScrollArea::vertical().id_salt("parts").auto_shrink(false).show(ui, |ui| {
        for (index, &height) in heights.iter().enumerate() {
            let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::hover());
            within(ui, rect, |ui| add(ui, index));
            ui.add_space(GAP);
        }
    });
}

/// What stands on the left and on the right of a line, in two lines where it is narrower than `least`. `add` is called for the left,
/// and then for the right with `true`, there from right to left.
pub fn sides(ui: &mut Ui, least: f32, mut add: impl FnMut(&mut Ui, bool)) {
    let right = Layout::right_to_left(Align::Center);
    if ui.available_width() < least {
        ui.horizontal(|ui| add(ui, false));
        ui.horizontal(|ui| ui.with_layout(right, |ui| add(ui, true)));
        return;
    }
    ui.horizontal(|ui| {
        add(ui, false);
        ui.with_layout(right, |ui| add(ui, true));
    });
}

/// A title on the left, which gives way to what is added on the right.
pub fn title(ui: &mut Ui, title: &str, right: impl FnOnce(&mut Ui)) {
    measured(ui, title, "", None, right);
}

/// The same with a number behind the title, which gives way first.
pub fn measured(ui: &mut Ui, title: &str, value: &str, term: Option<Term>, right: impl FnOnce(&mut Ui)) {
    ui.horizontal(|ui| {
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            right(ui);
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                let label = ui.add(Label::new(RichText::new(title).strong()).truncate());
                if let Some(term) = term {
                    label.on_hover_ui(|ui| term.ui(ui));
                }
                if !value.is_empty() {
                    ui.add(Label::new(RichText::new(value).monospace()).truncate());
                }
            });
        });
    });
}

/// A name and a number side by side: where both do not fit, they go to the next line.
pub fn fact(ui: &mut Ui, name: &str, value: String) -> Response {
    const BETWEEN: f32 = 5.0;
    let parts = [RichText::new(name).color(Colors::of(ui).weak), RichText::new(value).monospace()];
    let width = |part: &RichText| {
        let text = WidgetText::from(part.clone());
        text.into_galley(ui, Some(TextWrapMode::Extend), f32::INFINITY, TextStyle::Body).size().x
    };
    if parts.iter().map(width).sum::<f32>() + BETWEEN > ui.available_size_before_wrap().x {
        ui.end_row();
    }
    let row = ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = BETWEEN;
        parts.into_iter().for_each(|part| drop(ui.label(part)));
    });
    row.response
}

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
