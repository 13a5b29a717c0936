//! The rank bar: r, α, scaling, targets, and what they cost.

use eframe::egui::{self, DragValue, RichText, Slider, Ui};

use crate::app::effect::Effect;
use crate::app::look::{glossary, theme::Colors};
use crate::app::shared::targets::name;
use crate::app::view::View;
use crate::plan::Targets;
use crate::units;
use crate::workspace::{Dial, Scaling};

/// In a narrower window (or at a larger scale) what can be said in a tooltip is.
const NARROW: f32 = 860.0;
/// Room for the remark that a tab does not follow the bar.
const REMARK: f32 = 150.0;
/// Opacity of the bar over a tab that does not follow it.
const UNUSED: f32 = 0.55;

/// What the bar remembers between frames.
#[derive(Default)]
pub struct RankBar {
    custom: String,
    open_custom: bool,
    /// The targets that the field was last filled from.
    seen: Option<Targets>,
}

impl RankBar {
    /// Paints the bar, quietly where the tab in front does not follow it; every change becomes one effect.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>, followed: bool) {
        let mut dial = view.workspace.dial().clone();
        let max = view.workspace.max_rank();
        let narrow = ui.available_width() < NARROW;
        ui.horizontal(|ui| {
            if !followed {
                ui.multiply_opacity(UNUSED);
            }
            // A part may cost no more than is left for the others.
            if narrow {
                ui.spacing_mut().item_spacing.x = 5.0;
            }
            let between = |ui: &mut Ui| {
                if !narrow {
                    ui.separator();
                }
            };
            rank(ui, &mut dial, max, narrow);
            between(ui);
            scaling(ui, &mut dial, narrow);
            between(ui);
            self.targets(ui, view, &mut dial, narrow);
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                cost(ui, view, narrow);
                if !followed && ui.available_width() > REMARK {
                    ui.label(RichText::new("not used in this tab ·").small());
                }
            });
        });
        if dial != *view.workspace.dial() {
            view.effects.push(Effect::Turn(dial));
        }
    }

    fn targets(&mut self, ui: &mut Ui, view: &View<'_>, dial: &mut Dial, narrow: bool) {
        if self.seen.as_ref() != Some(&dial.targets) {
            self.seen = Some(dial.targets.clone());
            if let Targets::Custom(names) = &dial.targets {
                self.custom = names.join(", ");
            }
        }
        let label = (!narrow).then(|| ui.label("Targets"));
        let of_adapter = view.workspace.opened().and_then(|opened| opened.adapter_targets());
        let as_adapter = of_adapter.as_ref() == Some(&dial.targets) && !self.open_custom;
        let custom = matches!(dial.targets, Targets::Custom(_)) && !as_adapter || self.open_custom;
        let shown = match &dial.targets {
            _ if custom => "custom".to_owned(),
            Targets::Custom(_) => "as the adapter".to_owned(),
            known => name(known),
        };
        let response = egui::ComboBox::from_id_salt("targets")
            .selected_text(shown)
            .width(if narrow { 104.0 } else { 128.0 })
            .show_ui(ui, |ui| {
                for targets in [Targets::QV, Targets::Attention, Targets::AllLinear] {
                    let text = name(&targets);
                    if ui.selectable_label(!custom && dial.targets == targets, text).clicked() {
                        dial.targets = targets;
                        self.open_custom = false;
                    }
                }
                if let Some(targets) = of_adapter {
                    let response = ui.selectable_label(as_adapter, "as the adapter");
                    if response.on_hover_text(format!("What the open adapter adapts: {targets}")).clicked() {
                        self.open_custom = false;
                        dial.targets = targets;
                    }
                }
                if ui.selectable_label(custom, "custom…").clicked() {
                    self.open_custom = true;
                    // The field begins with what counts now: it never stands empty while something is counted.
                    if !matches!(dial.targets, Targets::Custom(_)) {
                        self.custom = ends(view).join(", ");
                    }
                }
            })
            .response
            .on_hover_ui(|ui| glossary::TARGETS.ui(ui));
        match label {
            Some(label) => response.labelled_by(label.id),
            None => response.accessible_name("Targets"),
        };
        if custom {
            let edit = egui::TextEdit::singleline(&mut self.custom).hint_text("q_proj, v_proj").desired_width(150.0);
            let response = ui.add(edit);
            response.widget_info(|| egui::WidgetInfo::text_edit(true, "", &self.custom, "Target modules"));
            let response = response.accessible_name("Target modules").on_hover_text(&self.custom);
            // Left empty it would stand there as if nothing were counted.
            if response.lost_focus() && self.custom.trim().is_empty() {
                self.custom = ends(view).join(", ");
            }
            if response.changed() {
                let names: Vec<String> =
                    self.custom.split(',').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect();
                if !names.is_empty() {
                    dial.targets = Targets::Custom(names);
                    self.seen = Some(dial.targets.clone());
                }
            }
        }
    }
}

/// The ends of the names of what the targets mean now, each once.
fn ends(view: &View<'_>) -> Vec<String> {
    let (Some(Ok(selection)), Some(layout)) = (view.adapted, view.workspace.layout()) else { return Vec::new() };
    let mut ends: Vec<String> = Vec::new();
    for end in selection.weights(layout).filter_map(|weight| weight.name.rsplit('.').next()) {
        if !ends.iter().any(|known| known == end) {
            ends.push(end.to_owned());
        }
    }
    ends
}

fn rank(ui: &mut Ui, dial: &mut Dial, max: usize, narrow: bool) {
    let color = Colors::of(ui).rank;
    let label = ui.label(RichText::new("Rank r").strong().color(color)).on_hover_ui(|ui| glossary::RANK.ui(ui));
    ui.spacing_mut().slider_width = (ui.available_width() * 0.2).clamp(if narrow { 84.0 } else { 110.0 }, 300.0);
    let slider = Slider::new(&mut dial.r, 1..=max).logarithmic(true).smart_aim(false).show_value(false);
    ui.add(slider).labelled_by(label.id).on_hover_text(format!("1 … {max}; keys [ and ] step by one"));
    let number = ui.add(DragValue::new(&mut dial.r).range(1..=max).speed(0.2));
    number.widget_info(|| egui::WidgetInfo::drag_value(true, dial.r as f64));
    number.labelled_by(label.id);
}

fn scaling(ui: &mut Ui, dial: &mut Dial, narrow: bool) {
    let label = ui.label("α").on_hover_ui(|ui| glossary::SCALING.ui(ui));
    ui.add(DragValue::new(&mut dial.alpha).range(0.01..=4096.0).speed(0.25).max_decimals(2)).labelled_by(label.id);
    let text = |scaling| match scaling {
        Scaling::Rank => "α / r",
        Scaling::SquareRoot => "α / √r",
    };
    let combo = egui::ComboBox::from_id_salt("scaling").selected_text(text(dial.scaling)).width(64.0);
    let combo = combo.show_ui(ui, |ui| {
        for scaling in [Scaling::Rank, Scaling::SquareRoot] {
            ui.selectable_value(&mut dial.scaling, scaling, text(scaling));
        }
    });
    combo.response.accessible_name("Scaling").on_hover_ui(|ui| glossary::SCALING.ui(ui));
    if narrow {
        return;
    }
    let weak = Colors::of(ui).weak;
    ui.label(RichText::new(format!("s = {}", units::real(dial.factor(), 3))).color(weak))
        .on_hover_ui(|ui| glossary::SCALING.ui(ui));
}

fn cost(ui: &mut Ui, view: &View<'_>, narrow: bool) {
    let colors = Colors::of(ui);
    match view.cost {
        Some(Ok(cost)) => {
            let (count, share) = (units::count(cost.trainable), units::percent(cost.percent / 100.0));
            let text = if narrow { count } else { format!("{count} trainable · {share}") };
            ui.label(RichText::new(text).strong()).on_hover_text(format!(
                "{} trainable parameters: r · (in + out) summed over the targets\n{} of the model's {}\nadapter file {} in 16 bit",
                units::exact(cost.trainable),
                units::percent(cost.percent / 100.0),
                units::exact(view.workspace.base().map_or(0, |b| b.parameters())),
                units::bytes(cost.adapter_bytes_f16),
            ));
        }
        Some(Err(error)) => {
            let label = egui::Label::new(RichText::new(error.to_string()).color(colors.warn)).truncate();
            ui.add(label).on_hover_text(error.to_string());
        }
        None => {}
    }
}
