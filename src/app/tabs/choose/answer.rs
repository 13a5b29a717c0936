//! The answer: four numbers with their ranges, what it costs, and what to do with it.

use eframe::egui::{Button, FontFamily, FontId, RichText, Ui, WidgetInfo, accesskit::Role};

use super::View;
use super::state::Action;
use crate::app::look::glossary;
use crate::app::look::theme::{Colors, STRONG};
use crate::plan::memory::Verdict;
use crate::units::{bytes, count, exact};

/// Paints it.
pub fn ui(ui: &mut Ui, view: &mut View<'_>) {
    let colors = Colors::of(ui);
    let Some(answer) = view.state.answer().cloned() else {
        ui.heading("Which rank?");
        return;
    };
    let (advice, facts) = (&answer.advice, &answer.facts);
    let [low, high] = advice.range;
    let [slow, fast] = advice.lr_range;
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 34.0;
        let rank = number(ui, "rank r", &advice.r.to_string(), &format!("{low} to {high} may do as well"), true);
        rank.on_hover_ui(|ui| glossary::RANK.ui(ui));
        let divided = if advice.rslora {
            "divided by √r (rsLoRA)".to_owned()
        } else {
            format!("s = α/r = {:.3}", advice.alpha / advice.r as f64)
        };
        number(ui, "α", &format!("{}", advice.alpha), &divided, false).on_hover_ui(|ui| glossary::SCALING.ui(ui));
        let rate = number(
            ui,
            "learning rate",
            &format!("{:.0e}", advice.lr),
            &format!("look from {slow:.0e} to {fast:.0e}"),
            false,
        );
        rate.on_hover_text("The peak of the schedule. It moves the loss more than the rank does.");
        number(ui, "modules", &advice.targets, &format!("{} matrices", facts.selection.places.len()), false)
            .on_hover_text("Which weights get a pair A, B. Leaving some out costs more than it saves.");
        let of = format!("{} for each rank", count(advice.parameters_per_rank));
        let trained = number(ui, "numbers to train", &count(advice.trainable), &of, false);
        trained.on_hover_text(exact(advice.trainable));
        if let (Some(need), Some(room)) = (advice.bytes, &facts.room) {
            let verdict = Verdict::of(need, room.bytes);
            let text = format!("{} {}", verdict.as_str(), bytes(room.bytes));
            number(ui, &format!("memory, {}", facts.method.as_str()), &bytes(need), &text, false)
                .on_hover_text("Predicted from the buffers that a run of Train holds");
        }
    });
    ui.add_space(8.0);
    ui.horizontal_wrapped(|ui| {
        let take = Button::new(RichText::new("Do that").strong().color(ui.visuals().panel_fill)).fill(colors.accent);
        let tip = "Turns the rank bar to this answer and fills the Train tab with it";
        if ui.add(take).on_hover_text(tip).clicked() {
            view.actions.push(Action::Take);
        }
        let tip = "Sets up a sweep around the answer: three ranks, three rates for each";
        if ui.add_enabled(facts.data.is_some(), Button::new("Check it by a sweep")).on_hover_text(tip).clicked() {
            view.actions.push(Action::Check);
        }
        if ui.button("Write LoraConfig").on_hover_text("PEFT's configuration of this answer, as JSON").clicked() {
            view.actions.push(Action::Config);
        }
        if ui.button("Write a report").on_hover_text("The answer, its reasons and plots as one HTML file").clicked() {
            view.actions.push(Action::Report);
        }
        if view.state.offers_gradients() && !view.state.is_working() {
            let tip = "The gradients of the frozen model on your data: takes as long as a step of training";
            if ui.button("Look at the gradients").on_hover_text(tip).clicked() {
                view.actions.push(Action::Gradients);
            }
        }
        if view.state.is_working() {
            ui.label(RichText::new(format!("{} …", view.state.stage())).small().color(colors.weak));
        } else if let Some(why) = view.state.failure() {
            ui.label(RichText::new(why.to_string()).small().color(colors.bad));
        } else if facts.data.is_none() {
            ui.label(
                RichText::new(
                    "Without data: choose a file under Train, and the answer knows how much there is to learn.",
                )
                .small()
                .color(colors.warn),
            );
        }
    });
}

/// A number with its name above and its range below, as one thing for a reader of the screen.
fn number(ui: &mut Ui, name: &str, value: &str, range: &str, rank: bool) -> eframe::egui::Response {
    let colors = Colors::of(ui);
    let drawn = ui.vertical(|ui| {
        ui.spacing_mut().item_spacing.y = 1.0;
        ui.label(RichText::new(name).small().color(colors.weak));
        let color = if rank { colors.rank } else { ui.visuals().text_color() };
        let size = if rank { 30.0 } else { 22.0 };
        let font = FontId::new(size, FontFamily::Name(STRONG.into()));
        ui.allocate_ui([ui.available_width(), 36.0].into(), |ui| {
            ui.with_layout(eframe::egui::Layout::left_to_right(eframe::egui::Align::Max), |ui| {
                ui.label(RichText::new(value).font(font).color(color));
            });
        });
        ui.label(RichText::new(range).small().color(colors.weak));
    });
    let response = drawn.response;
    response.widget_info(|| WidgetInfo::labeled(Role::Group, true, format!("{name}: {value}, {range}")));
    response
}
