//! The list of chapters, with what is done.

use eframe::egui::{
    self, Align2, Button, ComboBox, FontFamily, FontId, RichText, ScrollArea, Sense, Stroke, StrokeKind, Ui,
    WidgetInfo, accesskit::Role, pos2, vec2,
};

use super::View;
use super::state::{Action, Chapter};
use crate::app::look::theme::{self, Colors};

const ROW: f32 = 38.0;

/// At the left of a chapter.
pub fn ui(ui: &mut Ui, view: &mut View<'_>, open: Chapter) {
    let learned = |chapter: Chapter| view.settings.learned.iter().any(|id| id == chapter.words().id);
    let done = Chapter::ALL.into_iter().filter(|&c| learned(c)).count();
    let mut chosen = None;
    ScrollArea::vertical().id_salt("chapters").auto_shrink(false).show(ui, |ui| {
        ui.spacing_mut().item_spacing.y = 2.0;
        ui.add_space(2.0);
        for chapter in Chapter::ALL {
            if row(ui, chapter, chapter == open, learned(chapter)) {
                chosen = Some(chapter);
            }
        }
        ui.add_space(12.0);
        let colors = Colors::of(ui);
        let share = done as f32 / Chapter::ALL.len() as f32;
        let (track, response) = ui.allocate_exact_size(vec2(ui.available_width() - 8.0, 5.0), Sense::hover());
        ui.painter().rect_filled(track, 2, colors.line);
        ui.painter().rect_filled(track.with_max_x(track.left() + track.width() * share), 2, colors.good);
        let said = format!("Chapters done: {done} of {}", Chapter::ALL.len());
        response.widget_info(|| WidgetInfo::labeled(Role::ProgressIndicator, true, &said));
        ui.add_space(4.0);
        ui.label(RichText::new(format!("{done} of {} done", Chapter::ALL.len())).small().color(colors.weak));
    });
    if let Some(chapter) = chosen {
        view.actions.push(Action::Open(chapter));
    }
}

fn row(ui: &mut Ui, chapter: Chapter, open: bool, done: bool) -> bool {
    let colors = Colors::of(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width() - 4.0, ROW), Sense::click());
    let words = chapter.words();
    let name = format!("Chapter {}: {}{}", chapter.number(), words.title, if done { ", done" } else { "" });
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, open, &name));
    let visuals = ui.visuals();
    if open {
        ui.painter().rect_filled(rect, 7, visuals.selection.bg_fill.gamma_multiply(0.55));
    } else if response.hovered() {
        ui.painter().rect_filled(rect, 7, visuals.widgets.hovered.weak_bg_fill);
    }
    if response.has_focus() {
        ui.painter().rect_stroke(rect, 7, visuals.selection.stroke, StrokeKind::Inside);
    }
    let centre = pos2(rect.left() + 20.0, rect.center().y);
    let (fill, ink) = match (done, open) {
        (true, _) => (colors.good, visuals.extreme_bg_color),
        (false, true) => (colors.accent, visuals.extreme_bg_color),
        (false, false) => (egui::Color32::TRANSPARENT, colors.weak),
    };
    ui.painter().circle(
        centre,
        10.5,
        fill,
        Stroke::new(1.2, if fill == ink { ink } else { colors.weak.gamma_multiply(0.6) }),
    );
    let mark = if done { "✓".to_owned() } else { chapter.number().to_string() };
    let strong = FontFamily::Name(theme::STRONG.into());
    ui.painter().text(centre, Align2::CENTER_CENTER, mark, FontId::new(12.0, strong.clone()), ink);
    let font = FontId::new(13.0, if open { strong } else { FontFamily::Proportional });
    let color = if open { visuals.strong_text_color() } else { visuals.text_color() };
    ui.painter().text(pos2(rect.left() + 40.0, rect.center().y), Align2::LEFT_CENTER, words.title, font, color);
    response.clicked()
}

/// Above a chapter, where there is no room beside it.
pub fn short(ui: &mut Ui, view: &mut View<'_>, open: Chapter) {
    let learned = |chapter: Chapter| view.settings.learned.iter().any(|id| id == chapter.words().id);
    let title = |chapter: Chapter| {
        let mark = if learned(chapter) { "  ✓" } else { "" };
        format!("{}  {}{mark}", chapter.number(), chapter.words().title)
    };
    let mut chosen = None;
    let width = (ui.available_width() - 90.0).clamp(80.0, 320.0);
    ui.horizontal(|ui| {
        let mut step = |ui: &mut Ui, text: &str, name: &str, to: Option<Chapter>| {
            let button = ui.add_enabled(to.is_some(), Button::new(text)).accessible_name(name);
            if button.clicked() {
                chosen = to;
            }
        };
        step(ui, "←", "Previous chapter", open.previous());
        step(ui, "→", "Next chapter", open.next());
        let combo = ComboBox::from_id_salt("chapter").selected_text(title(open)).width(width).height(400.0);
        let combo = combo.show_ui(ui, |ui| {
            for chapter in Chapter::ALL {
                if ui.selectable_label(chapter == open, title(chapter)).clicked() {
                    chosen = Some(chapter);
                }
            }
        });
        combo.response.accessible_name("Chapter");
    });
    if let Some(chapter) = chosen {
        view.actions.push(Action::Open(chapter));
    }
}
