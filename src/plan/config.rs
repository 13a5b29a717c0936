//! Ranks as a PEFT `LoraConfig`: for `adapter_config.json`, and as lines of Python.

use super::advise::Advice;
use super::budget::{Offer, Ranks};
use super::count::Selection;
use super::layout::{Layout, Weight};
use crate::adapter::{NewAdapter, NewLayer, PeftConfig, Scaling};
use crate::checkpoint::Role;
use serde_json::Value;

/// An adapter to be trained with these ranks; α is `ratio · r` in every module, so that all have one scale.
pub fn to_train(layout: &Layout, offers: &[Offer], ranks: &Ranks, ratio: f64, base: Option<&str>) -> NewAdapter {
    let role = |name: &str| layout.weights.iter().find(|weight| weight.name == name).map(|weight| weight.role);
    let layers = offers.iter().zip(&ranks.r).filter(|(_, r)| **r > 0).map(|(offer, &r)| NewLayer {
        module: offer.name.clone(),
        shape: offer.shape,
        r,
        lora_alpha: ratio * r as f64,
        embedding: role(&offer.name) == Some(Role::Embedding),
        experts: (offer.copies > 1).then_some(offer.copies),
        ..NewLayer::default()
    });
    let config = PeftConfig {
        base_model_name_or_path: base.map(str::to_owned),
        task_type: Some("CAUSAL_LM".to_owned()),
        ..PeftConfig::default()
    };
    NewAdapter {
        layers: layers.collect(),
        modules: layout.weights.iter().map(|weight| weight.name.clone()).collect(),
        names: layout.spec.as_ref().map(|spec| spec.peft_names()).unwrap_or_default(),
        config,
        ..NewAdapter::default()
    }
}

/// An adapter to be trained as it was advised: one rank, one α, on these modules.
pub fn advised(layout: &Layout, selection: &Selection, advice: &Advice) -> Value {
    let offer = |weight: &Weight| Offer {
        name: weight.name.clone(),
        shape: [weight.d_out, weight.d_in],
        copies: 1,
        sigma: Vec::new(),
        energy: 0.0,
    };
    let offers: Vec<Offer> = selection.weights(layout).map(offer).collect();
    let ranks = Ranks::of(&offers, vec![advice.r; offers.len()]);
    let mut adapter = to_train(layout, &offers, &ranks, advice.alpha / advice.r.max(1) as f64, None);
    adapter.config.scaling = Scaling::new(advice.rslora);
    adapter.to_json()
}

/// What a `LoraConfig` is called with: the rest of a config is PEFT's own default.
const ARGUMENTS: [&str; 10] = [
    "task_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "target_parameters",
    "use_rslora",
    "rank_pattern",
    "alpha_pattern",
    "fan_in_fan_out",
];

/// The config as Python that builds it.
pub fn python(config: &Value) -> String {
    let mut out = "from peft import LoraConfig, get_peft_model\n\nconfig = LoraConfig(\n".to_owned();
    for key in ARGUMENTS {
        let value = &config[key];
        let default = value.is_null()
            || value == &Value::Bool(false)
            || value.as_object().is_some_and(|o| o.is_empty())
            || value.as_array().is_some_and(|o| o.is_empty());
        if !default {
            out.push_str(&format!("    {key}={},\n", literal(value, 1)));
        }
    }
    out.push_str(")\nmodel = get_peft_model(model, config)\n");
    out
}

/// A value as Python writes it.
fn literal(value: &Value, depth: usize) -> String {
    let indent = "    ".repeat(depth);
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        // JSON's strings are Python's.
        Value::Number(_) | Value::String(_) => value.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| literal(item, depth + 1)).collect();
            let line = format!("[{}]", items.join(", "));
            if line.len() <= 80 {
                return line;
            }
            let lines: String = items.iter().map(|item| format!("{indent}    {item},\n")).collect();
            format!("[\n{lines}{indent}]")
        }
        Value::Object(items) => {
            let lines: String = items
                .iter()
                .map(|(key, value)| {
                    format!("{indent}    {}: {},\n", Value::from(key.as_str()), literal(value, depth + 1))
                })
                .collect();
            format!("{{\n{lines}{indent}}}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(layout: &Layout) -> Vec<Offer> {
        let linear = layout.weights.iter().filter(|weight| weight.linear && weight.layer < Some(2));
        linear
            .map(|weight| Offer {
                name: weight.name.clone(),
                shape: [weight.d_out, weight.d_in],
                copies: 1,
                sigma: vec![2.0, 1.0],
                energy: 5.0,
            })
            .collect()
    }

    #[test]
    fn every_module_has_one_scale() {
        let layout = Layout::preset("llama-3.2-1b").unwrap();
        let offers = offers(&layout);
        let r: Vec<usize> = (0..offers.len()).map(|at| at % 3).collect();
        let adapter = to_train(&layout, &offers, &Ranks::of(&offers, r), 2.0, Some("meta-llama/Llama-3.2-1B"));
        assert!(adapter.layers.iter().all(|layer| layer.r > 0 && layer.lora_alpha == 2.0 * layer.r as f64));
        let config = adapter.to_json();
        assert_eq!(config["inference_mode"], false);
        let python = python(&config);
        for line in ["    r=1,\n", "    lora_alpha=2,\n", "    task_type=\"CAUSAL_LM\",\n", "    rank_pattern={\n"] {
            assert!(python.contains(line), "{line} in {python}");
        }
        assert!(!python.contains("use_rslora") && !python.contains("true") && !python.contains("null"), "{python}");
    }
}
