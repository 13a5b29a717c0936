//! The reasons in order of their weight, the plot of the one that is looked at, and what is not known.

use eframe::egui::{Label, Rect, RichText, Sense, Stroke, StrokeKind, Ui, WidgetInfo, accesskit::Role, vec2};

use super::View;
use super::state::Answer;
use crate::app::effect::{Effect, Place};
use crate::app::look::theme::Colors;
use crate::app::shared::layout;
use crate::app::widgets::menu::Take;
use crate::app::work::export::Source;
use crate::plan::advise::Why;

/// What is remembered between frames.
#[derive(Default)]
pub struct Reasons {
    /// The reason that is looked at; the weightiest where there is none.
    chosen: Option<&'static str>,
    /// Spectra of an open sibling were asked for once.
    pub asked_for_spectra: bool,
}

impl Reasons {
    fn looked_at<'a>(&self, answer: &'a Answer) -> Option<&'a Why> {
        let why = &answer.advice.why;
        why.iter().find(|why| Some(why.criterion) == self.chosen).or_else(|| why.first())
    }

    /// Paints the list; a click looks at a reason.
    pub fn rows(&mut self, ui: &mut Ui, answer: &Answer) {
        let looked_at = self.looked_at(answer).map(|why| why.criterion);
        ui.label(RichText::new("Why, in order of weight").strong());
        ui.add_space(2.0);
        for why in &answer.advice.why {
            if reason(ui, why, looked_at == Some(why.criterion)) {
                self.chosen = Some(why.criterion);
            }
            ui.add_space(4.0);
        }
    }

    /// Paints the plot of the reason that is looked at.
    pub fn plot(&self, ui: &mut Ui, view: &mut View<'_>, answer: &Answer) {
        let Some(why) = self.looked_at(answer) else { return };
        let Some(figure) = &why.figure else { return };
        let area: Rect = ui.available_rect_before_wrap();
        layout::title(ui, &figure.title, |ui| {
            view.export(ui, why.title, &Take::PLOT, area, || Source::Figure(Box::new(figure.clone())));
        });
        figure.ui(ui, why.criterion, |_| {});
    }

    /// Paints the way to where the reason that is looked at can be gone into.
    pub fn door(&self, ui: &mut Ui, view: &mut View<'_>, answer: &Answer) {
        let Some(why) = self.looked_at(answer) else { return };
        let Some((_, title, tip, place)) = DOORS.into_iter().find(|(criterion, ..)| *criterion == why.criterion) else {
            return;
        };
        if ui.link(title).on_hover_text(tip).clicked() {
            view.effects.push(Effect::Show(place));
        }
    }

    /// Paints what is not known, and what it would take.
    pub fn unknown(&self, ui: &mut Ui, answer: &Answer) {
        let weak = Colors::of(ui).weak;
        if answer.advice.uncertain.is_empty() {
            return;
        }
        ui.label(RichText::new("What is not known, and what it would take").strong());
        for one in &answer.advice.uncertain {
            ui.label(&one.what);
            ui.label(RichText::new(one.cost()).small().color(weak));
            ui.add_space(4.0);
        }
    }
}

/// Where a reason can be gone into: which, the link's words, what is there, the place.
const DOORS: [(&str, &str, &str, Place); 6] = [
    ("rate", "Try other learning rates →", "A sweep over ranks and rates", Place::part("train", "sweep")),
    ("capacity", "See your data →", "The rows as the model will see them", Place::part("train", "data")),
    ("memory", "See what fits which GPU →", "Memory by method and card", Place::part("parameters", "memory")),
    ("gradients", "See it module by module →", "Gradients of the frozen model", Place::part("parameters", "probe")),
    ("sibling", "See the singular values →", "Every module of what was tuned", Place::tab("spectrum")),
    (
        "layers",
        "Compare both by training →",
        "Ranks: one for all and one for each at equal parameters, each trained with three seeds",
        Place::part("parameters", "ranks"),
    ),
];

/// Width of the bar of a weight.
const BAR: f32 = 44.0;

/// One reason; true where it was clicked.
fn reason(ui: &mut Ui, why: &Why, chosen: bool) -> bool {
    let colors = Colors::of(ui);
    let ground = ui.painter().add(eframe::egui::Shape::Noop);
    let width = ui.available_width();
    let inner = ui.scope(|ui| {
        ui.set_width(width);
        eframe::egui::Frame::new().inner_margin(8.0).show(ui, |ui| {
            ui.set_min_width(ui.available_width());
            ui.horizontal(|ui| {
                let (bar, weight) = ui.allocate_exact_size(vec2(BAR, 6.0), Sense::hover());
                weight.on_hover_text(format!("Weight {:.2}: how much it counts beside the others", why.weight));
                ui.painter().rect_filled(bar, 3.0, colors.line);
                let filled = Rect::from_min_size(bar.min, vec2(BAR * why.weight as f32, bar.height()));
                ui.painter().rect_filled(filled, 3.0, colors.accent);
                ui.label(RichText::new(why.title).strong()).on_hover_text(why.means);
                // One line: what is longer would widen the whole list.
                let value = Label::new(RichText::new(&why.value).color(colors.weak)).truncate();
                ui.add(value).on_hover_text(&why.value);
            });
            if chosen {
                ui.label(&why.says).on_hover_text(why.means);
                ui.label(RichText::new(why.source).small().color(colors.weak));
            } else {
                // The first sentence: the rest is a click away.
                let end = why.says.find(". ").map_or(why.says.len(), |at| at + 1);
                ui.label(RichText::new(&why.says[..end]).color(colors.weak));
            }
        });
    });
    let rect = inner.response.rect;
    let response = ui.interact(rect, ui.scope_id().with(why.criterion), Sense::click());
    response.widget_info(|| {
        let name = format!("{}, weight {:.2}: {}", why.title, why.weight, why.value);
        WidgetInfo::selected(Role::Button, true, chosen, name)
    });
    let stroke = match (chosen, response.hovered() || response.has_focus()) {
        (true, _) => Stroke::new(1.0, colors.accent),
        (false, true) => Stroke::new(1.0, colors.line),
        (false, false) => Stroke::NONE,
    };
    let fill = if chosen { colors.card } else { eframe::egui::Color32::TRANSPARENT };
    ui.painter().set(ground, eframe::egui::epaint::RectShape::new(rect, 6.0, fill, stroke, StrokeKind::Inside));
    response.clicked()
}
