//! The report of a plan: ranks under a budget beside one rank for all, as a map, as a table, as PEFT's config.

use super::budget::{Offer, Ranks};
use crate::checkpoint::layer_of;
use crate::figure::chart::{self, Bar};
use crate::figure::html::{Piece, Report};
use crate::units::{bytes, exact, percent, shape};
use serde_json::Value;

/// Adds its sections.
pub fn of_plan(report: &mut Report, offers: &[Offer], ranks: &Ranks, uniform: Option<&(usize, Ranks)>, config: &Value) {
    let width = 4;
    let mut text = format!(
        "{} trainable parameters, {} in f32, keep {} of the energy of all changes.",
        exact(ranks.trainable),
        bytes(width * ranks.trainable),
        percent(ranks.energy)
    );
    let mut bars = vec![Bar { label: "best ranks".into(), value: ranks.energy, text: percent(ranks.energy) }];
    match uniform {
        Some((r, all)) => {
            text.push_str(&format!(
                " One rank for all modules, {r}, takes {} and keeps {}.",
                exact(all.trainable),
                percent(all.energy)
            ));
            bars.push(Bar { label: format!("rank {r} everywhere"), value: all.energy, text: percent(all.energy) });
        }
        None => text.push_str(" Rank 1 everywhere would already take more."),
    }
    let place = |(offer, &r): (&'_ Offer, &usize)| {
        let name = &offer.name;
        Some((layer_of(name)?, name.rsplit('.').next().unwrap_or(name).to_owned(), r as f64))
    };
    let cells: Vec<(usize, String, f64)> = offers.iter().zip(&ranks.r).filter_map(place).collect();
    let cells: Vec<(usize, &str, f64)> = cells.iter().map(|(block, leaf, r)| (*block, leaf.as_str(), *r)).collect();
    report.section(
        "Ranks",
        vec![
            Piece::Text(text),
            Piece::Drawing(chart::bars("Energy kept", &bars, 1.0)),
            Piece::Drawing(chart::map("Rank of every module", &cells)),
        ],
    );
    let mut rows = vec![["module", "shape", "rank", "energy kept", "at one rank for all"].map(str::to_owned).to_vec()];
    let share = |offer: &Offer, r: usize| {
        percent(if offer.energy > 0.0 { (offer.kept(r) / offer.energy).min(1.0) } else { 1.0 })
    };
    for (at, (offer, &r)) in offers.iter().zip(&ranks.r).enumerate() {
        let other = uniform.and_then(|(_, all)| all.r.get(at)).map_or_else(String::new, |&r| share(offer, r));
        rows.push(vec![offer.name.clone(), shape(&offer.shape), r.to_string(), share(offer, r), other]);
    }
    report.section("Module by module", vec![Piece::table(rows)]);
    let json = serde_json::to_string_pretty(config).unwrap_or_default();
    report.section(
        "For PEFT",
        vec![
            Piece::Code { name: "adapter_config.json".into(), text: json },
            Piece::Code { name: "The same in Python".into(), text: super::config::python(config) },
        ],
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_needs_nothing_else() {
        let offer =
            |name: &str| Offer { name: name.into(), shape: [4, 4], copies: 1, sigma: vec![3.0, 1.0], energy: 10.0 };
        let offers =
            [offer("model.layers.0.self_attn.q_proj"), offer("model.layers.1.self_attn.q_proj"), offer("head<b>")];
        let ranks = Ranks::of(&offers, vec![2, 1, 0]);
        let uniform = (1, Ranks::of(&offers, vec![1, 1, 1]));
        let mut report = Report::new("a & b");
        of_plan(&mut report, &offers, &ranks, Some(&uniform), &serde_json::json!({"r": 2, "task_type": "CAUSAL_LM"}));
        let html = report.html().unwrap();
        assert!(html.contains("<title>a &amp; b</title>") && html.contains("head&lt;b&gt;"));
        assert!(html.contains("24 trainable parameters") && html.contains("keep 63.3 %"), "{html}");
        assert!(html.contains("<svg") && html.contains("LoraConfig("));
        for outside in ["src=", "href=", "http://", "https://", "@import", "<script"] {
            let rest = html.replace("http://www.w3.org/2000/svg", "");
            assert!(!rest.contains(outside), "{outside}");
        }
    }
}
