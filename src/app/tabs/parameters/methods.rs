//! Prefixes and adapters beside LoRA for the model that is counted, by the paper's formulas.

use eframe::egui::{DragValue, Grid, RichText, Ui};

use crate::app::look::theme::Colors;
use crate::plan::{Count, Layout, paper};
use crate::spec::ModelSpec;
use crate::units;

/// What the formulas take.
pub struct Methods {
    /// Trained tokens before the prompt.
    l_p: u64,
    /// And after it.
    l_i: u64,
}

impl Default for Methods {
    /// The paper's middle setting.
    fn default() -> Self {
        Self { l_p: 128, l_i: 8 }
    }
}

/// One way to tune a model.
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// Its setting.
    pub setting: String,
    /// In letters.
    pub formula: &'static str,
    /// How many parameters it trains.
    pub trainable: u64,
}

impl Methods {
    /// Every method, for a model of these sizes.
    pub fn of(&self, spec: &ModelSpec, parameters: u64, lora: Option<(&Count, String)>, r: usize) -> Vec<Method> {
        let (d, layers) = (spec.hidden as u64, spec.blocks.len() as u64);
        let prefix = format!("l_p = {}, l_i = {}", self.l_p, self.l_i);
        let mut all = vec![
            Method { name: "Full fine-tuning", setting: String::new(), formula: "all", trainable: parameters },
            Method {
                name: "PrefixEmbed",
                setting: prefix.clone(),
                formula: "d (l_p + l_i)",
                trainable: paper::prefix_embed(d, self.l_p, self.l_i),
            },
            Method {
                name: "PrefixLayer",
                setting: prefix,
                formula: "L d (l_p + l_i)",
                trainable: paper::prefix_layer(layers, d, self.l_p, self.l_i),
            },
            Method {
                name: "Adapter H",
                setting: format!("r = {r}"),
                formula: "2 L (2 d r + r + d)",
                trainable: paper::adapter_h(2 * layers, 0, d, r as u64),
            },
        ];
        all.extend(lora.map(|(count, targets)| Method {
            name: "LoRA",
            setting: format!("r = {} on {targets}", count.r),
            formula: "Σ r (d_in + d_out)",
            trainable: count.trainable,
        }));
        all
    }

    /// Paints them.
    pub fn ui(&mut self, ui: &mut Ui, layout: &Layout, lora: Option<(&Count, String)>, r: usize) {
        let weak = Colors::of(ui).weak;
        ui.horizontal(|ui| {
            ui.label(RichText::new("Other methods on this model").strong());
            ui.label(RichText::new("prefix tokens").small().color(weak));
            let before = DragValue::new(&mut self.l_p).range(0..=4096).prefix("l_p ");
            ui.add(before).on_hover_text("Trained tokens before the prompt").accessible_name("Prefix tokens before");
            let after = DragValue::new(&mut self.l_i).range(0..=4096).prefix("l_i ");
            ui.add(after).on_hover_text("Trained tokens after the prompt").accessible_name("Prefix tokens after");
        });
        let Some(spec) = &layout.spec else {
            ui.label(RichText::new("Without a config.json the sizes of its blocks are not known.").color(weak));
            return;
        };
        let methods = self.of(spec, layout.parameters, lora, r);
        Grid::new("methods").num_columns(4).spacing([18.0, 4.0]).show(ui, |ui| {
            for method in &methods {
                ui.label(method.name);
                ui.label(RichText::new(units::count(method.trainable)).monospace())
                    .on_hover_text(format!("{} parameters", units::exact(method.trainable)));
                let share = method.trainable as f64 / layout.parameters.max(1) as f64;
                ui.label(RichText::new(units::percent(share)).small().color(weak));
                ui.label(RichText::new(format!("{}  {}", method.formula, method.setting)).small().color(weak));
                ui.end_row();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paper's own values for GPT-3 175B: PrefixEmbed 128+8 1,671,168; PrefixLayer L times that; Adapter H r = 8 40,109,568.
    #[test]
    fn gpt3_has_the_papers_counts() {
        let layout = Layout::preset("gpt3-175b").unwrap();
        let all = Methods::default().of(layout.spec.as_ref().unwrap(), layout.parameters, None, 8);
        let counts: Vec<u64> = all.iter().map(|method| method.trainable).collect();
        assert_eq!(counts, [layout.parameters, 1_671_168, 96 * 1_671_168, 40_109_568]);
    }
}
