//! What did not work, in the corner of the window until it is read: a long sentence wraps, and has a name to be found by.

use eframe::egui::{Align2, Area, Button, Frame, Id, Label, Order, RichText, Stroke, Ui, Vec2};

use crate::app::look::theme::Colors;

/// So many are shown at once; older ones go.
const MOST: usize = 3;
const WIDTH: f32 = 460.0;

/// The complaints that nobody has closed yet.
#[derive(Default)]
pub struct Notices {
    texts: Vec<String>,
}

impl Notices {
    /// Shows a sentence. It stays until it is closed or something opens: a countdown would repaint for nothing, and be missed.
    pub fn push(&mut self, text: &str) {
        self.texts.retain(|t| t != text);
        self.texts.push(text.to_owned());
        let old = self.texts.len().saturating_sub(MOST);
        self.texts.drain(..old);
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.texts.clear();
    }

    /// Paints them over the lower right corner.
    pub fn ui(&mut self, ui: &Ui) {
        if self.texts.is_empty() {
            return;
        }
        let area = Area::new(Id::unique("notices")).order(Order::Foreground);
        area.anchor(Align2::RIGHT_BOTTOM, Vec2::new(-12.0, -40.0)).show(ui.ctx(), |ui| {
            let mut closed = None;
            for (i, text) in self.texts.iter().enumerate() {
                let bad = Colors::of(ui).bad;
                Frame::popup(ui.style()).stroke(Stroke::new(1.0, bad)).show(ui, |ui| {
                    ui.set_width(WIDTH);
                    ui.horizontal_top(|ui| {
                        ui.label(RichText::new("⚠").color(bad));
                        ui.scope(|ui| {
                            ui.set_width(WIDTH - 90.0);
                            ui.add(Label::new(text).wrap());
                        });
                        if ui.add(Button::new("Close").small()).clicked() {
                            closed = Some(i);
                        }
                    });
                });
            }
            if let Some(i) = closed {
                self.texts.remove(i);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_each_once() {
        let mut notices = Notices::default();
        for text in ["a", "b", "a", "c", "d"] {
            notices.push(text);
        }
        assert_eq!(notices.texts, ["a", "c", "d"]);
        notices.clear();
        assert!(notices.texts.is_empty());
    }
}
