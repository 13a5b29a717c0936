//! The table of rules: what each would choose here, and what that means.

use eframe::egui::{self, Align, Layout, RichText, Sense, Ui, WidgetInfo, accesskit::Role};
use egui_extras::{Column, TableBuilder};

use super::View;
use crate::app::effect::Effect;
use crate::app::look::theme::Colors;
use crate::app::widgets::rows::Rows;
use crate::spectrum::Rule;
use crate::units;

/// Height of a row: all of them are seen where there is room for it.
const ROWS: std::ops::RangeInclusive<f32> = 16.0..=23.0;
const HEAD: f32 = 20.0;
/// Titles of the columns, and what they mean where a word is not enough.
const HEADS: [(&str, &str); 4] = [
    ("Rule", ""),
    ("Rank", ""),
    ("met", "✓ the dial's rank is enough for the rule; · it is too small"),
    ("What it says", ""),
];

/// Paints the table; a click on a row turns the dial to its rank.
pub fn ui(ui: &mut Ui, view: &mut View<'_>, rules: &[Rule]) {
    let r = view.workspace.dial().r;
    let max = view.workspace.max_rank();
    let mut chosen = None;
    ui.spacing_mut().item_spacing.y = 0.0;
    let row_height = ((ui.available_height() - HEAD) / rules.len().max(1) as f32).clamp(*ROWS.start(), *ROWS.end());
    // Whole names where there is room for them and for what they say: that must not be cut first.
    let [names, ranks, met] = match ui.available_width() {
        640.0.. => [230.0, 64.0, 28.0],
        500.0.. => [198.0, 64.0, 28.0],
        _ => [138.0, 46.0, 24.0],
    };
    ui.push_id("rules", |ui| {
        let list = ui.scope_id().with("rows");
        let stops = Rows::new(ui, list, rules.len(), row_height);
        TableBuilder::new(ui)
            .striped(false)
            .sense(Sense::CLICK)
            .cell_layout(Layout::left_to_right(Align::Center))
            .column(Column::exact(names))
            .column(Column::exact(ranks))
            .column(Column::exact(met))
            .column(Column::remainder().clip(true))
            .auto_shrink(false)
            .header(HEAD, |mut header| {
                for (title, tip) in HEADS {
                    header.col(|ui| {
                        let text = RichText::new(title).small().color(Colors::of(ui).weak);
                        let label = if title == "Rank" { right(ui, |ui| ui.label(text)) } else { ui.label(text) };
                        if !tip.is_empty() {
                            label.on_hover_text(tip);
                        }
                    });
                }
            })
            .body(|body| {
                body.rows(row_height, rules.len(), |mut row| {
                    let at = row.index();
                    let rule = &rules[at];
                    let name = format!("{}: {}", rule.name, value(rule));
                    let mut clicked = false;
                    row.col(|ui| {
                        let info = || WidgetInfo::labeled(Role::Button, rule.rank.is_some(), &name);
                        clicked = stops.row(ui, at, |at| list.with(at), info);
                        ui.add(egui::Label::new(rule.name).truncate().selectable(false));
                    });
                    row.col(|ui| {
                        right(ui, |ui| {
                            let text = RichText::new(value(rule)).monospace();
                            let text = if rule.rank == Some(r) { text.color(Colors::of(ui).rank) } else { text };
                            ui.add(egui::Label::new(text).selectable(false))
                        });
                    });
                    row.col(|ui| mark(ui, rule, r));
                    row.col(|ui| {
                        let text = rule.note.as_deref().filter(|_| rule.rank.is_none()).unwrap_or(&rule.meaning);
                        let color = if rule.rank.is_none() { Colors::of(ui).weak } else { ui.visuals().text_color() };
                        ui.add(egui::Label::new(RichText::new(text).small().color(color)).truncate().selectable(false));
                    });
                    let response = row.response();
                    if clicked || response.clicked() {
                        chosen = rule.rank;
                    }
                    response.on_hover_ui(|ui| details(ui, rule));
                });
            });
    });
    if let Some(rank) = chosen {
        let mut dial = view.workspace.dial().clone();
        dial.r = rank.clamp(1, max);
        view.effects.push(Effect::Turn(dial));
    }
}

fn right<R>(ui: &mut Ui, add: impl FnOnce(&mut Ui) -> R) -> R {
    ui.with_layout(Layout::right_to_left(Align::Center), add).inner
}

/// The measure, or the rank.
fn value(rule: &Rule) -> String {
    match (rule.value, rule.rank) {
        (Some(value), _) if value.fract() != 0.0 => units::real(value, 3),
        (_, Some(rank)) => rank.to_string(),
        _ => "–".into(),
    }
}

/// Whether the dial's rank is enough for the rule.
fn mark(ui: &mut Ui, rule: &Rule, r: usize) {
    let colors = Colors::of(ui);
    match rule.rank {
        // A rule that asks for no direction at all is not met by any rank.
        Some(1..) if rule.rank <= Some(r) => {
            ui.label(RichText::new("✓").color(colors.good)).on_hover_text("r is enough")
        }
        Some(1..) => ui.label(RichText::new("·").color(colors.weak)).on_hover_text("r is too small"),
        Some(0) | None => ui.label(""),
    };
}

fn details(ui: &mut Ui, rule: &Rule) {
    ui.set_max_width(400.0);
    ui.label(RichText::new(rule.name).strong());
    ui.label(&rule.meaning);
    if let Some(note) = &rule.note {
        ui.label(note);
    }
    ui.label(RichText::new(rule.formula).monospace());
    if let Some((name, value)) = rule.parameter {
        ui.label(format!("{name} = {value}"));
    }
    ui.label(RichText::new(rule.source).small().color(Colors::of(ui).weak));
    if rule.rank.is_some() {
        ui.label(RichText::new("Click to turn the dial to this rank.").small().color(Colors::of(ui).accent));
    }
}

/// The table as it is read.
pub fn said(rules: &[Rule]) -> Vec<Vec<String>> {
    let heads = ["rule", "rank", "what it says"].map(String::from).to_vec();
    let rows = rules.iter().map(|rule| {
        let says = rule.note.as_ref().filter(|_| rule.rank.is_none()).unwrap_or(&rule.meaning);
        vec![rule.name.to_owned(), value(rule), says.clone()]
    });
    std::iter::once(heads).chain(rows).collect()
}

/// The table as text: what is copied.
pub fn rows(rules: &[Rule]) -> Vec<Vec<String>> {
    let mut rows = vec![["rule", "value", "rank", "formula", "meaning"].map(String::from).to_vec()];
    rows.extend(rules.iter().map(|rule| {
        vec![
            rule.name.to_owned(),
            rule.value.map_or_else(String::new, |v| v.to_string()),
            rule.rank.map_or_else(String::new, |r| r.to_string()),
            rule.formula.to_owned(),
            rule.meaning.clone(),
        ]
    }));
    rows
}
