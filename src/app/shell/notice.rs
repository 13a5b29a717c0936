//! What did not work, in the corner of the window until it is read: a long sentence wraps, and has a name to be found by.

use eframe::egui::{Align, Align2, Area, Button, Frame, Id, Label, Layout, Order, RichText, Stroke, Ui, Vec2};

use crate::app::look::theme::Colors;

/// So many are shown at once; older ones go.
const MOST: usize = 3;
const WIDTH: f32 = 460.0;

/// Seconds for which one is shown.
const SHOWN: f64 = 10.0;

/// The complaints that nobody has closed yet.
#[derive(Default)]
pub struct Notices {
    /// Each with the time when it goes, once it was painted.
    texts: Vec<(String, Option<f64>)>,
}

impl Notices {
    /// Shows a sentence, until it is closed, something opens, or it was there for a while; the status bar keeps the last one.
    pub fn push(&mut self, text: &str) {
        self.texts.retain(|(known, _)| known != text);
        self.texts.push((text.to_owned(), None));
        let old = self.texts.len().saturating_sub(MOST);
        self.texts.drain(..old);
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.texts.clear();
    }

    /// Forgets those whose time is over; seconds until the next one goes.
    fn expire(&mut self, now: f64) -> Option<f64> {
        for (_, until) in &mut self.texts {
            until.get_or_insert(now + SHOWN);
        }
        self.texts.retain(|(_, until)| until.is_none_or(|until| until > now));
        self.texts.iter().filter_map(|(_, until)| *until).map(|until| until - now).reduce(f64::min)
    }

    /// Paints them over the lower right corner.
    pub fn ui(&mut self, ui: &Ui) {
        let Some(left) = self.expire(ui.input(|i| i.time)) else { return };
        ui.ctx().request_repaint_after_secs(left as f32);
        let several = self.texts.len() > 1;
        let area = Area::new(Id::unique("notices")).order(Order::Foreground);
        area.anchor(Align2::RIGHT_BOTTOM, Vec2::new(-12.0, -40.0)).show(ui.ctx(), |ui| {
            let (mut closed, mut all) = (None, false);
            if several {
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| all = ui.small_button("Close all").clicked());
            }
            for (i, (text, _)) in self.texts.iter().enumerate() {
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
            if all {
                self.texts.clear();
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
        assert_eq!(notices.texts.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>(), ["a", "c", "d"]);
        notices.clear();
        assert!(notices.texts.is_empty());
    }

    #[test]
    fn each_goes_after_its_time() {
        let mut notices = Notices::default();
        notices.push("a");
        assert_eq!(notices.expire(5.0), Some(10.0));
        notices.push("b");
        assert_eq!(notices.expire(9.0), Some(6.0), "the older one goes first");
        assert_eq!(notices.expire(15.0), Some(4.0));
        assert_eq!((notices.expire(19.0), notices.texts.len()), (None, 0));
    }
}
