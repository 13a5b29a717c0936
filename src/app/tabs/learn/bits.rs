//! Chapter 8: a block in 4 bits on a number line; and what QLoRA quantizes.

use eframe::egui::{
    Align2, FontId, Rect, RichText, Sense, Slider, Stroke, Ui, WidgetInfo, accesskit::Role, pos2, vec2,
};

use super::View;
use super::state::{Action, BitsCost, BitsEdit, Chapter, LAYER, Preset, Story};
use crate::app::look::theme::Colors;
use crate::app::widgets::swatch::swatch;
use crate::units;

use super::number_line;
use super::parts::Part;
use super::pieces::{beside, choice, said, stage, weak};

/// Which page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Page {
    #[default]
    Block,
    Story,
    Speed,
}

/// Which page is looked at.
#[derive(Default)]
pub struct Looks {
    page: Page,
}

/// Paints it.
pub fn ui(ui: &mut Ui, view: &mut View<'_>, looks: &mut Looks) {
    let bits = &view.state.bits;
    let mut edit = None;
    stage(ui, |ui| {
        ui.horizontal_wrapped(|ui| {
            let of = [
                (Page::Block, "A block in 4 bits"),
                (Page::Story, "What QLoRA quantizes"),
                (Page::Speed, "Is it faster?"),
            ];
            if let Some(page) = choice(ui, looks.page, &of) {
                looks.page = page;
            }
            ui.add_space(16.0);
            match looks.page {
                Page::Block => {
                    for (preset, name) in [(Preset::Bell, "Like a bell"), (Preset::Outlier, "One outlier")] {
                        if ui.button(name).clicked() {
                            edit = Some(BitsEdit::All(preset));
                        }
                    }
                }
                Page::Story => {
                    let label = ui.label(RichText::new("Rank r").color(Colors::of(ui).rank));
                    let mut r = bits.r;
                    let slider = ui.add(Slider::new(&mut r, 1..=64).logarithmic(true).smart_aim(false));
                    if slider.labelled_by(label.id).changed() {
                        edit = Some(BitsEdit::Rank(r));
                    }
                }
                Page::Speed => {}
            }
        });
        ui.add_space(6.0);
        match looks.page {
            Page::Block => {
                if let Some(problem) = bits.problem() {
                    ui.label(problem);
                }
                if let Some((at, to)) = number_line::ui(ui, bits) {
                    edit = Some(BitsEdit::Move(at, to));
                }
            }
            Page::Story => match view.state.stories() {
                Some((r, costs)) => stories(ui, *r, costs),
                None => weak(ui, "Quantizing a layer …"),
            },
            Page::Speed => super::speed::ui(ui, view),
        }
    });
    if looks.page == Page::Block {
        weak(ui, "Drag a weight along the line, or go to it with Tab and use the arrow keys.");
    }
    let error = |at: usize| bits.tracks().get(at).map_or_else(String::new, |track| units::percent(track.error));
    let now = format!("Now INT4 is off by {}, NF4 by {}.", error(0), error(1));
    let truth = match view.state.stories() {
        Some((r, costs)) => truth(*r, costs),
        None => String::new(),
    };
    beside(ui, |ui| super::goal(ui, view, Chapter::Bits, &now), |ui| said(ui, "QLoRA puts A and B into INT4.", &truth));
    if let Some(edit) = edit {
        view.actions.push(Action::Bits(edit));
    }
}

/// Four stories of one layer: what is stored, and how far it is off.
fn stories(ui: &mut Ui, r: usize, costs: &[BitsCost]) {
    const ROW: f32 = 44.0;
    const NAME: f32 = 196.0;
    let colors = Colors::of(ui);
    let most = costs.iter().map(|cost| cost.base + cost.factors).fold(1.0, f64::max);
    let wide = ui.available_width() > 560.0;
    for cost in costs {
        let height = if wide { ROW } else { ROW + 18.0 };
        let (row, response) = ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::hover());
        let (name, detail) = words(cost.story);
        let said = format!(
            "{name}: {} for W₀, {} for A and B, W₀ off by {}, ΔW off by {}",
            units::bytes(cost.base as u64),
            units::bytes(cost.factors as u64),
            units::percent(cost.base_error),
            units::percent(cost.delta_error)
        );
        response.widget_info(|| WidgetInfo::labeled(Role::Label, true, &said));
        let text = ui.visuals().text_color();
        let painter = ui.painter();
        painter.text(row.left_top() + vec2(0.0, 12.0), Align2::LEFT_CENTER, name, FontId::proportional(13.5), text);
        let at = row.left_top() + vec2(0.0, 29.0);
        painter.text(at, Align2::LEFT_CENTER, detail, FontId::proportional(11.0), colors.weak);
        let (left, top) = if wide { (row.left() + NAME, row.top() + 5.0) } else { (row.left(), row.top() + 38.0) };
        let errors = if wide { 150.0 } else { 0.0 };
        let scale = (f64::from(row.right() - errors - 70.0 - left) / most) as f32;
        let base = Rect::from_min_size(pos2(left, top), vec2(cost.base as f32 * scale, 16.0));
        let factors = Rect::from_min_size(base.right_top(), vec2((cost.factors as f32 * scale).max(1.5), 16.0));
        painter.rect_filled(base, 2, Part::Base.color(ui));
        // B and A are as large as each other here.
        let (b, a) = factors.split_left_right_at_fraction(0.5);
        painter.rect_filled(b, 0, Part::B.color(ui));
        painter.rect_filled(a, 0, Part::A.color(ui));
        let total = units::bytes((cost.base + cost.factors) as u64);
        let at = factors.right_center() + vec2(6.0, 0.0);
        painter.text(at, Align2::LEFT_CENTER, total, FontId::proportional(12.0), text);
        let error =
            |share: f64| if share == 0.0 { "exact".to_owned() } else { format!("off by {}", units::percent(share)) };
        let color = |share: f64| if share == 0.0 { colors.weak } else { colors.bad };
        let (x, y) =
            if wide { (row.right() - 140.0, row.top() + 8.0) } else { (row.right() - 140.0, row.top() + 12.0) };
        for (i, (name, share)) in [("W₀", cost.base_error), ("ΔW", cost.delta_error)].into_iter().enumerate() {
            let at = pos2(x, y + 17.0 * i as f32);
            painter.text(
                at,
                Align2::LEFT_CENTER,
                format!("{name} {}", error(share)),
                FontId::proportional(12.0),
                color(share),
            );
        }
        painter.hline(row.x_range(), row.bottom(), Stroke::new(1.0, colors.line));
    }
    ui.add_space(4.0);
    ui.horizontal_wrapped(|ui| {
        for (name, part) in [("W₀", Part::Base), ("B", Part::B), ("A", Part::A)] {
            swatch(ui, part.color(ui), name);
        }
    });
    weak(
        ui,
        format!(
            "One layer of {LAYER} × {LAYER} with A and B of rank {r}: seeded normal weights, ΔW a twentieth of W₀; NF4 in blocks of \
             64 with double quantization, INT4 with a scale for each direction."
        ),
    );
}

fn words(story: Story) -> (&'static str, &'static str) {
    match story {
        Story::Nothing => ("LoRA", "everything in 16 bit"),
        Story::Base => ("QLoRA", "W₀ in NF4, A and B in 16 bit"),
        Story::Factors => ("as often told", "W₀ in 16 bit, A and B in INT4"),
        Story::Both => ("both", "W₀ in NF4, A and B in INT4"),
    }
}

/// What quantizing either saves, and what it costs.
fn truth(r: usize, costs: &[BitsCost]) -> String {
    let of = |story| costs.iter().find(|cost| cost.story == story);
    let (Some(plain), Some(base), Some(factors)) = (of(Story::Nothing), of(Story::Base), of(Story::Factors)) else {
        return String::new();
    };
    let total = |cost: &BitsCost| cost.base + cost.factors;
    let saved = |cost: &BitsCost| units::percent(1.0 - total(cost) / total(plain));
    format!(
        "It quantizes the frozen base, and keeps A and B in 16 bit: at r = {r} the layer shrinks by {}. With A and B in INT4 it would \
         shrink by {}, and ΔW, the only thing that was learned, would be wrong by {}. The base's error of {} is there while A and B \
         are trained, so they can make up for it.",
        saved(base),
        saved(factors),
        units::percent(factors.delta_error),
        units::percent(base.base_error),
    )
}
