//! A report as one HTML file: text, tables and drawings inside it, nothing to be loaded from anywhere.

mod charts;

pub use charts::{Bar, bars, map};

use super::budget::{Offer, Ranks};
use crate::units::{bytes, exact, percent, shape};
use serde_json::Value;

/// A part of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A paragraph.
    Text(String),
    /// A drawing: an SVG element.
    Drawing(String),
    /// Rows of cells, the first of them the heading. Cells that are numbers stand to the right.
    Table(Vec<Vec<String>>),
    /// Something to be copied: what it is, and its text.
    Code(String, String),
}

/// A report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What it is about.
    pub title: String,
    /// Headings with what stands under them.
    pub sections: Vec<(String, Vec<Piece>)>,
}

impl Report {
    /// With a title.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), sections: Vec::new() }
    }

    /// Adds a section.
    pub fn section(&mut self, title: impl Into<String>, pieces: Vec<Piece>) {
        self.sections.push((title.into(), pieces));
    }

    /// The file.
    pub fn html(&self) -> String {
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>{0}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{0}</h1>\n",
            escape(&self.title)
        );
        for (title, pieces) in &self.sections {
            out.push_str(&format!("<section>\n<h2>{}</h2>\n", escape(title)));
            pieces.iter().for_each(|piece| piece.write(&mut out));
            out.push_str("</section>\n");
        }
        out.push_str("</main>\n</body>\n</html>\n");
        out
    }
}

const STYLE: &str = "body{margin:0;background:#fafafa;color:#222;font:15px/1.5 Inter,'Segoe UI',Helvetica,Arial,sans-serif}\
main{max-width:980px;margin:0 auto;padding:32px 24px 64px}h1{font-size:26px;margin:0 0 8px}h2{font-size:18px;margin:36px 0 8px}\
table{border-collapse:collapse;font-size:13px;margin:8px 0}th,td{padding:3px 12px 3px 0;text-align:left;border-bottom:1px solid #e4e4e4}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}pre{background:#f0f0f0;padding:12px;overflow:auto;font-size:12.5px;border-radius:4px}\
figure{margin:8px 0}svg{max-width:100%;height:auto;background:#fff}.scroll{max-height:520px;overflow:auto}";

impl Piece {
    fn write(&self, out: &mut String) {
        match self {
            Self::Text(text) => out.push_str(&format!("<p>{}</p>\n", escape(text))),
            Self::Drawing(svg) => out.push_str(&format!("<figure>\n{svg}\n</figure>\n")),
            Self::Code(what, text) => {
                out.push_str(&format!("<p>{}</p>\n<pre>{}</pre>\n", escape(what), escape(text)));
            }
            Self::Table(rows) => {
                out.push_str("<div class=\"scroll\"><table>\n");
                let numeric: Vec<bool> = (0..rows.first().map_or(0, Vec::len))
                    .map(|column| {
                        rows.len() > 1
                            && rows[1..].iter().all(|row| row.get(column).is_some_and(|cell| is_number(cell)))
                    })
                    .collect();
                for (at, row) in rows.iter().enumerate() {
                    let tag = if at == 0 { "th" } else { "td" };
                    out.push_str("<tr>");
                    for (column, cell) in row.iter().enumerate() {
                        let class = if numeric.get(column) == Some(&true) { " class=\"n\"" } else { "" };
                        out.push_str(&format!("<{tag}{class}>{}</{tag}>", escape(cell)));
                    }
                    out.push_str("</tr>\n");
                }
                out.push_str("</table></div>\n");
            }
        }
    }
}

fn is_number(cell: &str) -> bool {
    cell.is_empty() || cell.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '–')
}

/// Text inside of HTML and SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The sections of a plan: ranks under a budget beside one rank for all, as a map, as a table, as PEFT's config.
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
    let named: Vec<(&str, f64)> =
        offers.iter().zip(&ranks.r).map(|(offer, &r)| (offer.name.as_str(), r as f64)).collect();
    report.section(
        "Ranks",
        vec![
            Piece::Text(text),
            Piece::Drawing(charts::bars("Energy kept", &bars, 1.0)),
            Piece::Drawing(charts::map("Rank of every module", &named)),
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
    report.section("Module by module", vec![Piece::Table(rows)]);
    let json = serde_json::to_string_pretty(config).unwrap_or_default();
    report.section(
        "For PEFT",
        vec![
            Piece::Code("adapter_config.json".into(), json),
            Piece::Code("The same in Python".into(), super::config::python(config)),
        ],
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_needs_nothing_else() {
        let offer = |name: &str| Offer { name: name.into(), shape: [4, 4], sigma: vec![3.0, 1.0], energy: 10.0 };
        let offers =
            [offer("model.layers.0.self_attn.q_proj"), offer("model.layers.1.self_attn.q_proj"), offer("head<b>")];
        let ranks = Ranks::of(&offers, vec![2, 1, 0]);
        let uniform = (1, Ranks::of(&offers, vec![1, 1, 1]));
        let mut report = Report::new("a & b");
        of_plan(&mut report, &offers, &ranks, Some(&uniform), &serde_json::json!({"r": 2, "task_type": "CAUSAL_LM"}));
        let html = report.html();
        assert!(html.contains("<title>a &amp; b</title>") && html.contains("head&lt;b&gt;"));
        assert!(html.contains("24 trainable parameters") && html.contains("keep 63.3 %"), "{html}");
        assert!(html.contains("<svg") && html.contains("LoraConfig("));
        for outside in ["src=", "href=", "http://", "https://", "@import", "<script"] {
            let rest = html.replace("http://www.w3.org/2000/svg", "");
            assert!(!rest.contains(outside), "{outside}");
        }
    }
}
