//! What every chapter is made of: the words before the picture, the stage with the picture, the goal, what is often said and
//! what is true, the fold with formulas.

use eframe::egui::{
    Align, Align2, CollapsingHeader, Color32, CornerRadius, FontFamily, FontId, Frame, Label, Layout, Margin, RichText,
    Sense, Stroke, TextWrapMode, Ui, WidgetInfo, accesskit::Role, vec2,
};

use crate::app::look::glossary::Term;
use crate::app::look::palette;
use crate::app::look::theme::{self, Colors};
use crate::figure::Figure;

/// A line of prose is no longer: the eye finds the next one.
const MEASURE: f32 = 760.0;

/// Text of the chapter.
pub fn prose(ui: &mut Ui, text: &str) {
    ui.scope(|ui| {
        ui.set_max_width(MEASURE.min(ui.available_width()));
        ui.label(RichText::new(text).size(14.0).line_height(Some(20.0)));
    });
}

/// Words that are new here, each explained under the pointer.
pub fn new_words(ui: &mut Ui, terms: &[Term]) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        weak(ui, "New words:");
        for term in terms {
            // What stands behind a comma explains the word, and that is in the tip.
            let name = term.name.split(',').next().unwrap_or(term.name);
            let word = ui.add(Label::new(RichText::new(name).underline()).sense(Sense::focusable_noninteractive()));
            let word = word.on_hover_ui(|ui| term.ui(ui)).on_hover_cursor(eframe::egui::CursorIcon::Help);
            if word.has_focus() {
                word.show_tooltip_ui(|ui| term.ui(ui));
            }
        }
    });
}

/// Words in the second line of things.
pub fn weak(ui: &mut Ui, text: impl Into<String>) {
    ui.label(RichText::new(text).color(Colors::of(ui).weak));
}

/// The ground that the picture stands on.
pub fn stage<R>(ui: &mut Ui, add: impl FnOnce(&mut Ui) -> R) -> R {
    let colors = Colors::of(ui);
    Frame::new()
        .fill(ui.visuals().faint_bg_color)
        .stroke(Stroke::new(1.0, colors.line))
        .corner_radius(10)
        .inner_margin(Margin::symmetric(if ui.available_width() > 500.0 { 18 } else { 8 }, 12))
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            add(ui)
        })
        .inner
}

/// What is to be reached, how far one is, and whether it is done.
pub fn goal(ui: &mut Ui, text: &str, now: &str, reached: bool, done: bool, wrong: bool) {
    let colors = Colors::of(ui);
    let color = if reached { colors.good } else { colors.accent };
    card(ui, color, |ui| {
        ui.horizontal(|ui| {
            // What was reached in an earlier visit is not what stands here now.
            let title = if reached {
                "Done"
            } else if done {
                "Done before; try it again"
            } else {
                "Try it"
            };
            tick(ui, done, color, if done { "Goal reached" } else { "Goal not reached yet" });
            ui.label(RichText::new(title).strong().color(color));
        });
        ui.label(text);
        if !now.is_empty() {
            let color = match (wrong, reached) {
                (true, _) => colors.warn,
                (false, true) => colors.good,
                (false, false) => colors.weak,
            };
            ui.label(RichText::new(now).color(color));
        }
    });
}

/// What is often said, and what the numbers say.
pub fn said(ui: &mut Ui, said: &str, truth: &str) {
    let colors = Colors::of(ui);
    card(ui, colors.warn, |ui| {
        ui.label(RichText::new(format!("Often said: {said}")).strong().color(colors.warn));
        ui.label(truth);
    });
}

fn card(ui: &mut Ui, color: Color32, add: impl FnOnce(&mut Ui)) {
    let inside = Frame::new()
        .fill(ui.visuals().faint_bg_color)
        .corner_radius(CornerRadius { nw: 2, sw: 2, ne: 8, se: 8 })
        .inner_margin(Margin { left: 16, right: 12, top: 9, bottom: 9 });
    let response = inside.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.spacing_mut().item_spacing.y = 4.0;
        add(ui);
    });
    let rect = response.response.rect;
    ui.painter().rect_filled(rect.with_max_x(rect.left() + 3.0), 1, color);
}

/// Cards beside each other where there is room, else below each other.
pub fn beside(ui: &mut Ui, left: impl FnOnce(&mut Ui), right: impl FnOnce(&mut Ui)) {
    if ui.available_width() > 620.0 {
        ui.columns(2, |columns| {
            // Columns are justified, words are not.
            columns[0].with_layout(Layout::top_down(Align::LEFT), left);
            columns[1].with_layout(Layout::top_down(Align::LEFT), right);
        });
    } else {
        left(ui);
        right(ui);
    }
}

/// A round mark: a tick when done.
pub fn tick(ui: &mut Ui, done: bool, color: Color32, name: &str) {
    let (rect, response) = ui.allocate_exact_size(vec2(16.0, 16.0), Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, name));
    if done {
        ui.painter().circle_filled(rect.center(), 8.0, color);
        let ink = ui.visuals().extreme_bg_color;
        ui.painter().text(rect.center(), Align2::CENTER_CENTER, "✓", FontId::proportional(11.0), ink);
    } else {
        ui.painter().circle_stroke(rect.center(), 7.0, Stroke::new(1.5, color));
    }
}

/// Formulas and their sources, closed at first.
pub fn fold(ui: &mut Ui, id: &str, terms: &[Term], fresh: bool) {
    let header = CollapsingHeader::new("Formula and source").id_salt(("fold", id)).open(fresh.then_some(false));
    header.show(ui, |ui| {
        for term in terms {
            term.ui(ui);
            ui.add_space(6.0);
        }
    });
}

/// A large number with words below it.
pub fn figure(ui: &mut Ui, value: &str, words: &str, color: Color32) {
    ui.vertical(|ui| {
        ui.spacing_mut().item_spacing.y = 1.0;
        let font = FontId::new(22.0, FontFamily::Name(theme::STRONG.into()));
        ui.label(RichText::new(value).font(font).color(color));
        ui.label(RichText::new(words).small().color(Colors::of(ui).weak));
    });
}

/// The names of a plot's lines in their colours, in a line of their own: nothing lies over the plot then.
pub fn legend(ui: &mut Ui, figure: &Figure) {
    let dark = ui.visuals().dark_mode;
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 5.0;
        for (i, series) in figure.series.iter().enumerate() {
            let color = palette::series(series.color.unwrap_or(i), dark);
            let text = RichText::new(format!("● {}", series.name)).small().color(color);
            ui.add(Label::new(text).wrap_mode(TextWrapMode::Extend));
            ui.add_space(8.0);
        }
    });
}

/// Buttons of which one is chosen.
pub fn choice<T: PartialEq + Copy>(ui: &mut Ui, now: T, of: &[(T, &str)]) -> Option<T> {
    let mut chosen = None;
    ui.horizontal_wrapped(|ui| {
        for &(value, name) in of {
            if ui.selectable_label(value == now, name).clicked() && value != now {
                chosen = Some(value);
            }
        }
    });
    chosen
}

/// Something at the right end of the line.
pub fn right<R>(ui: &mut Ui, add: impl FnOnce(&mut Ui) -> R) -> R {
    ui.with_layout(Layout::right_to_left(Align::Center), add).inner
}
