//! The choices above the pictures: formats, blocks, what is compared.

use eframe::egui::{ComboBox, RichText, Ui};

use super::state::Choice;
use crate::app::look::theme::Colors;
use crate::quant::{Format, Group, Recipe};

/// Paints the line; what is chosen is in `choice` afterwards.
pub fn ui(ui: &mut Ui, choice: &mut Choice) {
    ui.horizontal_wrapped(|ui| {
        recipe(ui, ["Format", "Block", "Double quantization"], &mut choice.a);
        ui.separator();
        let mut two = choice.b.is_some();
        ui.checkbox(&mut two, "Compare with")
            .on_hover_text("Shows two formats beside each other, the first as A and the second as B, in place of the weight and one format.");
        if two != choice.b.is_some() {
            let other = if choice.a.format == Format::Int4Symmetric { Format::Nf4 } else { Format::Int4Symmetric };
            choice.b = two.then(|| Recipe::with(other, choice.a.group, false));
        }
        if let Some(b) = &mut choice.b {
            recipe(ui, ["Format B", "Block B", "Double quantization B"], b);
            ui.selectable_value(&mut choice.errors, true, "Errors")
                .on_hover_text("ŵ − w of A and of B, and which is nearer.");
            ui.selectable_value(&mut choice.errors, false, "Values")
                .on_hover_text("ŵ of A and of B, and their difference.");
        }
    });
}

fn recipe(ui: &mut Ui, [format, block, double]: [&str; 3], recipe: &mut Recipe) {
    let before = *recipe;
    let combo = ComboBox::from_id_salt(format).selected_text(recipe.format.title()).width(118.0).height(420.0);
    let combo = combo.show_ui(ui, |ui| {
        for format in Format::ALL {
            ui.selectable_value(&mut recipe.format, format, format.title()).on_hover_text(format.rule());
        }
    });
    combo.response.accessible_name(format).on_hover_text(recipe.format.rule());
    if recipe.format != before.format {
        *recipe = Recipe::with(recipe.format, before.group, before.double_quant);
        if recipe.format.has_free_block() && before.format.fixed_block().is_some() {
            recipe.group = Recipe::new(recipe.format).group;
        }
    }
    if recipe.format.has_free_block() {
        ui.label(RichText::new("block").color(Colors::of(ui).weak));
        let combo = ComboBox::from_id_salt(block).selected_text(recipe.group_text()).width(58.0).height(320.0);
        let combo = combo.show_ui(ui, |ui| {
            for size in Format::BLOCKS {
                ui.selectable_value(&mut recipe.group, Group::Block(size), size.to_string());
            }
            if recipe.format.allows_rows() {
                ui.selectable_value(&mut recipe.group, Group::Row, "row");
                ui.selectable_value(&mut recipe.group, Group::Tensor, "tensor");
            }
        });
        combo.response.accessible_name(block).on_hover_text(
            "Weights that share a scale. Blocks run over the flattened weight, row after row; the last one may be shorter.",
        );
    } else if let Some(fixed) = recipe.format.fixed_block() {
        ui.label(RichText::new(format!("block {fixed}")).color(Colors::of(ui).weak))
            .on_hover_text("The format says how many weights share a scale.");
    }
    if recipe.format.quant_type().is_some() {
        ui.checkbox(&mut recipe.double_quant, "double").on_hover_text(
            "Double quantization: the scales become 8 bits, in blocks of 256, around their mean. At block 64 it saves 0.373 bit a weight (QLoRA, arXiv 2305.14314, §3).",
        ).widget_info(|| {
            eframe::egui::WidgetInfo::selected(eframe::egui::accesskit::Role::CheckBox, true, recipe.double_quant, double)
        });
    }
}
