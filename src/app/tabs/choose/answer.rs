//! The answer: a sentence, its numbers with their ranges, and what to do with it.

use eframe::egui::{
    Align, Button, Color32, FontFamily, FontId, Frame, Layout, Rect, RichText, Sense, Stroke, Ui, WidgetInfo,
    accesskit::Role, pos2, vec2,
};

use super::View;
use super::state::{Action, Answer};
use crate::app::look::glossary::{self, Term};
use crate::app::look::theme::{Colors, STRONG};
use crate::app::shared::targets;
use crate::plan::Targets;
use crate::plan::memory::Verdict;
use crate::train::Method;
use crate::units::{bytes, count};

/// Least width of a card; below it they go to the next line.
const CARD: f32 = 138.0;
const GAP: f32 = 10.0;

/// A number of the answer.
struct Card<'a> {
    name: &'a str,
    value: String,
    /// What surrounds it: its range, what it is of.
    beside: String,
    /// What it means, in plain words.
    plain: &'a str,
    tip: Tip<'a>,
    rank: bool,
    /// Where it stands between two ends, and the range around it, as shares of the way; on a log scale.
    place: Option<[f64; 3]>,
}

enum Tip<'a> {
    Term(Term),
    Text(&'a str),
}

/// Paints it.
pub fn ui(ui: &mut Ui, view: &mut View<'_>, answer: &Answer) {
    let (advice, facts) = (&answer.advice, &answer.facts);
    let weak = Colors::of(ui).weak;
    let on = match advice.targets.parse() {
        Ok(Targets::AllLinear) => "all linear layers".to_owned(),
        Ok(Targets::Attention) => "all of the attention".to_owned(),
        Ok(Targets::QV) => "the attention's q and v".to_owned(),
        _ => "the chosen modules".to_owned(),
    };
    let font = FontId::new(20.0, FontFamily::Name(STRONG.into()));
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        let word = |text: &str| RichText::new(text).font(font.clone());
        ui.label(word("Take"));
        ui.label(word(&format!("rank {}", advice.r)).color(Colors::of(ui).rank));
        ui.label(word(&format!("on {on}.")));
    });
    let [low, high] = advice.range;
    let says = match answer.facts.grid.best_at(advice.r) {
        Some(_) => "Runs on your data say so.".to_owned(),
        None if facts.data.is_none() => {
            "From the model alone: with your data (Train) the answer knows how much there is to learn.".to_owned()
        }
        None => format!(
            "Ranks from {low} to {high} may do as well. The learning rate matters more than the rank, and only a run can confirm both."
        ),
    };
    ui.label(RichText::new(says).color(weak));
    ui.add_space(8.0);
    cards(ui, &of(answer));
    ui.add_space(10.0);
    buttons(ui, view, answer);
}

/// Where `at` stands between 1 and `most` on a log scale.
fn share(at: f64, [low, high]: [f64; 2]) -> f64 {
    ((at / low).ln() / (high / low).ln()).clamp(0.0, 1.0)
}

fn of(answer: &Answer) -> Vec<Card<'_>> {
    let (advice, facts) = (&answer.advice, &answer.facts);
    let [low, high] = advice.range;
    let [slow, fast] = advice.lr_range;
    let ends = [1.0, (facts.selection.max_rank() as f64).clamp(2.0, 256.0)];
    let place = |of: [f64; 3], ends: [f64; 2]| Some(of.map(|at| share(at, ends)));
    let divided = if advice.rslora {
        "divided by √r (rsLoRA)".to_owned()
    } else {
        format!("s = α/r = {}", crate::units::real(advice.alpha / advice.r as f64, 3))
    };
    let mut cards = vec![
        Card {
            name: "rank r",
            value: advice.r.to_string(),
            beside: format!("{low} to {high} may do as well"),
            plain: "ways a weight can change",
            tip: Tip::Term(glossary::RANK),
            rank: true,
            place: place([low as f64, advice.r as f64, high as f64], ends),
        },
        Card {
            name: "learning rate",
            value: format!("{:.0e}", advice.lr),
            beside: format!("look from {slow:.0e} to {fast:.0e}"),
            plain: "the size of a step",
            tip: Tip::Text("The peak of the schedule. It moves the loss more than the rank does."),
            rank: false,
            place: place([slow, advice.lr, fast], [1e-5, 1e-1]),
        },
        Card {
            name: "α",
            value: format!("{}", advice.alpha),
            beside: divided,
            plain: "strength of the change",
            tip: Tip::Term(glossary::SCALING),
            rank: false,
            place: None,
        },
        Card {
            name: "modules",
            value: format!("{}", facts.selection.places.len()),
            beside: advice.targets.parse().map_or_else(|_| advice.targets.clone(), |of| targets::name(&of)),
            plain: "weights with a pair A, B",
            tip: Tip::Text("Which weights get a pair A, B. Leaving some out costs more than it saves."),
            rank: false,
            place: None,
        },
        Card {
            name: "numbers to train",
            value: count(advice.trainable),
            beside: format!("{} for each rank", count(advice.parameters_per_rank)),
            plain: "the rest stays frozen",
            tip: Tip::Term(glossary::TRAINABLE),
            rank: false,
            place: None,
        },
    ];
    if let (Some(need), Some(room)) = (advice.bytes, &facts.room) {
        cards.push(Card {
            name: match facts.method {
                Method::Full => "memory, full",
                Method::Lora => "memory, LoRA",
                Method::Qlora => "memory, QLoRA",
            },
            value: bytes(need),
            beside: format!("{} {}", Verdict::of(need, room.bytes).as_str(), bytes(room.bytes)),
            plain: "predicted peak",
            tip: Tip::Text("Predicted from the buffers that a run of Train holds"),
            rank: false,
            place: None,
        });
    }
    cards
}

/// The cards in as many lines as the width asks for, all of one size.
fn cards(ui: &mut Ui, cards: &[Card<'_>]) {
    let room = ui.available_width();
    let columns = (((room + GAP) / (CARD + GAP)) as usize).clamp(1, cards.len());
    let width = ((room + GAP) / columns as f32 - GAP).min(220.0);
    for line in cards.chunks(columns) {
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = GAP;
            for card in line {
                paint(ui, card, width);
            }
        });
    }
}

fn paint(ui: &mut Ui, card: &Card<'_>, width: f32) {
    const INSIDE: f32 = 10.0;
    let colors = Colors::of(ui);
    let edge = if card.rank { colors.rank.gamma_multiply(0.6) } else { colors.line };
    let frame = Frame::new().fill(colors.card).stroke(Stroke::new(1.0, edge)).corner_radius(8).inner_margin(INSIDE);
    let drawn = frame.show(ui, |ui| {
        ui.set_width(width - 2.0 * INSIDE - 2.0);
        ui.vertical(|ui| {
            ui.spacing_mut().item_spacing.y = 2.0;
            ui.label(RichText::new(card.name).small().color(colors.weak));
            let color = if card.rank { colors.rank } else { ui.visuals().text_color() };
            let font = FontId::new(24.0, FontFamily::Name(STRONG.into()));
            ui.label(RichText::new(&card.value).font(font).color(color));
            let (bar, _) = ui.allocate_exact_size(vec2(ui.available_width(), 8.0), Sense::hover());
            if let Some(place) = card.place {
                range(ui, bar, place, if card.rank { colors.rank } else { colors.accent });
            }
            ui.add(eframe::egui::Label::new(RichText::new(&card.beside).small()).truncate());
            ui.add(eframe::egui::Label::new(RichText::new(card.plain).small().color(colors.weak)).truncate());
        });
    });
    let response = drawn.response;
    let said = format!("{}: {}, {}", card.name, card.value, card.beside);
    response.widget_info(|| WidgetInfo::labeled(Role::Group, true, &said));
    response.on_hover_ui(|ui| match card.tip {
        Tip::Term(term) => term.ui(ui),
        Tip::Text(text) => drop(ui.label(text)),
    });
}

/// A line with the range on it, and the answer as a dot.
fn range(ui: &Ui, bar: Rect, [low, at, high]: [f64; 3], color: Color32) {
    let (painter, y) = (ui.painter(), bar.center().y);
    let x = |share: f64| bar.left() + 4.0 + share as f32 * (bar.width() - 8.0);
    painter.hline(bar.x_range(), y, Stroke::new(2.0, Colors::of(ui).line));
    let known = Rect::from_min_max(pos2(x(low), y - 2.0), pos2(x(high).max(x(low) + 2.0), y + 2.0));
    painter.rect_filled(known, 2.0, color.gamma_multiply(0.45));
    painter.circle_filled(pos2(x(at), y), 4.0, color);
}

fn buttons(ui: &mut Ui, view: &mut View<'_>, answer: &Answer) {
    let (colors, facts) = (Colors::of(ui), &answer.facts);
    ui.horizontal_wrapped(|ui| {
        let ground = ui.visuals().extreme_bg_color;
        let take = Button::new(RichText::new("Do that").strong().color(ground)).fill(colors.accent);
        let tip = "Turns the rank bar to this answer and fills the Train tab with it; nothing is started";
        if ui.add(take.min_size(vec2(96.0, 28.0))).on_hover_text(tip).clicked() {
            view.actions.push(Action::Take);
        }
        let tip = "Sets up a sweep around the answer: three ranks, three learning rates for each";
        let check = Button::new("Check it by a sweep").min_size(vec2(0.0, 28.0));
        if ui.add_enabled(facts.data.is_some(), check).on_hover_text(tip).clicked() {
            view.actions.push(Action::Check);
        }
        ui.menu_button("Write it down  ▾", |ui| {
            if ui.button("LoraConfig (JSON)").on_hover_text("PEFT's configuration of this answer").clicked() {
                view.actions.push(Action::Config);
                ui.close();
            }
            if ui.button("A report (HTML)").on_hover_text("The answer, its reasons and plots as one file").clicked() {
                view.actions.push(Action::Report);
                ui.close();
            }
        });
        if view.state.offers_gradients() && !view.state.is_working() {
            let tip = "The gradients of the frozen model on your data: takes as long as a step of training";
            if ui.button("Look at the gradients").on_hover_text(tip).clicked() {
                view.actions.push(Action::Gradients);
            }
        }
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
            if view.state.is_working() {
                ui.label(RichText::new(format!("thinking again: {} …", view.state.stage())).small().color(colors.weak));
            } else if let Some(why) = view.state.failure() {
                ui.label(RichText::new(why.to_string()).small().color(colors.bad));
            }
        });
    });
}
