//! What QLoRA quantizes: the frozen base in 4 bits and the adapter in 16, as published; or the adapter in 4 bits, as often told.

use eframe::egui::{Grid, RichText, Ui};

use super::View;
use super::state::{Choice, Need, Roles, RolesItem};
use crate::app::look::glossary;
use crate::app::look::theme::Colors;
use crate::figure::number;
use crate::units;

/// What the view remembers between frames.
#[derive(Default)]
pub struct RolesView {
    told: bool,
}

impl RolesView {
    /// What the view needs.
    pub fn need(&self, view: &View<'_>, choice: &Choice) -> Need {
        Need::Roles { recipe: choice.a, r: view.workspace.dial().r }
    }

    /// Paints it into the room there is.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>, choice: &Choice) {
        ui.horizontal(|ui| {
            ui.label(RichText::new("What QLoRA quantizes").strong()).on_hover_ui(|ui| glossary::QLORA.ui(ui));
            ui.selectable_value(&mut self.told, false, "Base in 4 bit, adapter in 16 (as published)");
            ui.selectable_value(&mut self.told, true, "Adapter in 4 bit, base in 16 (as often told)");
        });
        let items = view.state.roles();
        let cost = items.iter().find_map(|item| if let RolesItem::Cost(roles) = item { Some(*roles) } else { None });
        let losses = items.iter().find_map(|item| if let RolesItem::Losses(found) = item { Some(found) } else { None });
        let Some(roles) = cost else { return };
        let model = Totals::of(view, &roles);
        let colors = Colors::of(ui);
        let saved = |bytes: u64| units::percent(1.0 - bytes as f64 / (model.base16() + model.pair16()).max(1) as f64);
        let text = match self.told {
            false => format!(
                "QLoRA (arXiv 2305.14314) keeps the frozen base in {} and computes with A and B in 16 or 32 bits. The layer shrinks by {}, \
                 because nearly all weights are the base's; the error is there before training begins, and the adapter learns with it.",
                choice.a,
                saved(model.base(&roles) + model.pair16())
            ),
            true => format!(
                "Popular accounts put A and B into 4 bits. They are {} of the weights here, so that saves {} of these bytes, and what has been \
                 learned is rounded after the fact.",
                units::percent(model.pair_weights as f64 / (model.weights + model.pair_weights).max(1) as f64),
                saved(model.base16() + model.pair(&roles))
            ),
        };
        ui.label(text);
        ui.add_space(4.0);
        ui.spacing_mut().interact_size.y = 18.0;
        Grid::new("roles").num_columns(4).spacing([28.0, 2.0]).striped(true).show(ui, |ui| {
            for title in ["", "published: base in 4 bit", "often told: adapter in 4 bit", "neither: 16 bit"] {
                ui.label(RichText::new(title).strong());
            }
            ui.end_row();
            let mut row = |name: &str, values: [String; 3]| {
                ui.label(RichText::new(name).color(colors.weak));
                for (index, value) in values.into_iter().enumerate() {
                    let text = RichText::new(value).monospace();
                    let chosen = index == usize::from(self.told);
                    ui.label(if chosen { text.color(colors.accent) } else { text });
                }
                ui.end_row();
            };
            row("linear weights", [model.base(&roles), model.base16(), model.base16()].map(units::bytes));
            row(
                &format!("adapters, r = {}", roles.r),
                [model.pair16(), model.pair(&roles), model.pair16()].map(units::bytes),
            );
            row(
                "together",
                [
                    model.base(&roles) + model.pair16(),
                    model.base16() + model.pair(&roles),
                    model.base16() + model.pair16(),
                ]
                .map(units::bytes),
            );
            let short = |x: f64| number::whole(x, 3);
            let of_delta = |x: f64| units::percent(x / roles.delta.max(f64::MIN_POSITIVE));
            row("error of W + BA on this module", [roles.base.norm, roles.pair, 0.0].map(short));
            row("… as a share of ‖ΔW‖", [roles.base.norm, roles.pair, 0.0].map(of_delta));
            row(
                "… as a share of what is rounded",
                [
                    units::percent(roles.base.relative_rmse),
                    units::percent(roles.pair / roles.pair_norm.max(f64::MIN_POSITIVE)),
                    "0 %".into(),
                ],
            );
            if let Some(Ok(found)) = losses {
                let beside = |loss: f64| format!("{loss:.4} ({})", number::signed(loss - found.plain, 4));
                row(
                    "loss on held-out data",
                    [beside(found.base_quantized), beside(found.adapter_quantized), format!("{:.4}", found.plain)],
                );
            }
            row(
                "repaired by training",
                ["yes: A and B learn around it".into(), "no: it comes after".into(), "–".into()],
            );
        });
        ui.add_space(6.0);
        match losses {
            Some(Ok(found)) => {
                let file = found.data.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let text = format!(
                    "Loss over {} tokens of {file}, every linear layer quantized; the base without an adapter: {:.4}.",
                    units::exact(found.tokens),
                    found.base
                );
                ui.label(RichText::new(text).small().color(colors.weak));
            }
            Some(Err(why)) => {
                ui.label(RichText::new(why.as_str()).small().color(colors.weak));
            }
            None => {}
        }
        let cut = units::percent(roles.cut / roles.delta.max(f64::MIN_POSITIVE));
        let text =
            format!("B and A are the best of rank {} for this ΔW; the rank itself leaves out {cut} of it.", roles.r);
        ui.label(RichText::new(text).small().color(colors.weak));
    }
}

/// Weights of the whole model that either way is about.
struct Totals {
    weights: u64,
    pair_weights: u64,
}

impl Totals {
    /// Of all linear layers and the dial's adapter; of the module alone where the model has neither.
    fn of(view: &View<'_>, roles: &Roles) -> Self {
        let linear = view.workspace.base().map_or(0, |base| {
            base.modules()
                .iter()
                .filter(|module| module.linear)
                .map(|module| module.shape.iter().product::<usize>() as u64)
                .sum()
        });
        let pair = match view.cost {
            Some(Ok(count)) => count.trainable,
            _ => roles.pair_weights,
        };
        Self { weights: if linear > 0 { linear } else { roles.weights }, pair_weights: pair }
    }

    fn base(&self, roles: &Roles) -> u64 {
        (self.weights as f64 * roles.base_bits / 8.0) as u64
    }

    fn base16(&self) -> u64 {
        self.weights * 2
    }

    fn pair(&self, roles: &Roles) -> u64 {
        (self.pair_weights as f64 * roles.pair_bits / 8.0) as u64
    }

    fn pair16(&self) -> u64 {
        self.pair_weights * 2
    }
}
