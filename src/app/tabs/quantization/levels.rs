//! The histogram of the weights in their blocks' range, with the levels of the code and the thresholds between them.

use eframe::egui::{Align, Layout, RichText, Stroke, Ui};
use egui_plot::{LineStyle, VLine};

use super::View;
use super::state::Facts;
use crate::app::look::glossary;
use crate::app::look::theme::Colors;

use crate::app::widgets::menu::Take;
use crate::app::work::export::Source;
use crate::figure::{Axis, Figure, Mark, Series, Style};
use crate::quant::Usage;

/// So many levels can be told apart.
const LEVELS: usize = 33;

/// The figure of a format; built when its numbers have come, not in every frame.
pub fn figure(facts: &Facts) -> Figure {
    let usage = &facts.usage;
    let [low, high] = usage.range.map(f64::from);
    let width = (high - low) / Usage::BINS as f64;
    let density = |count: u64, width: f64| count as f64 / (usage.counted.max(1) as f64 * width.max(1e-12));
    let bins = usage.bins.iter().enumerate();
    let points = bins.map(|(i, &count)| [low + width * (i as f64 + 0.5), density(count, width)]).collect();
    let x = match &usage.levels {
        Some(levels) if levels.from_minimum => "place between the block's minimum and maximum",
        _ if facts.recipe.format.is_cast() => "w / largest magnitude",
        _ => "w / absmax of its block",
    };
    let title = format!("Levels of {}", facts.recipe);
    let mut figure = Figure { title, x: Axis::linear(x), y: Axis::linear("density"), quiet: true, ..Figure::default() };
    figure.series.push(Series::line("weights", points).style(Style::Area));
    if let Some(levels) = usage.levels.as_ref().filter(|levels| levels.levels.len() <= LEVELS) {
        let edges: Vec<f64> = std::iter::once(low)
            .chain(levels.thresholds.iter().map(|&t| f64::from(t)))
            .chain(std::iter::once(high))
            .collect();
        let taken = levels.levels.iter().zip(&usage.taken).enumerate();
        let points = taken.map(|(i, (&level, &count))| [f64::from(level), density(count, edges[i + 1] - edges[i])]);
        figure.series.push(Series::line("weights that take a level", points.collect()).style(Style::Points).color(1));
        figure.marks = levels
            .thresholds
            .iter()
            .map(|&at| Mark { name: "threshold".into(), at: f64::from(at), vertical: true })
            .collect();
    }
    figure
}

/// Paints it into the room there is.
pub fn ui(ui: &mut Ui, view: &mut View<'_>, figures: &[Figure]) {
    let area = ui.available_rect_before_wrap();
    ui.horizontal(|ui| {
        ui.label(RichText::new("Levels and weights").strong()).on_hover_ui(|ui| glossary::LEVELS.ui(ui));
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if let Some(figure) = figures.first() {
                view.export(ui, "levels", &Take::PLOT, area, || Source::Figure(Box::new(figure.clone())));
            }
        });
    });
    if figures.is_empty() {
        ui.label(RichText::new("Counting …").color(Colors::of(ui).weak));
        return;
    }
    let room = ui.available_rect_before_wrap();
    let height = room.height() / figures.len() as f32;
    for (i, figure) in figures.iter().enumerate() {
        let part = room.with_min_y(room.top() + height * i as f32).with_max_y(room.top() + height * (i + 1) as f32);
        ui.scope_builder(eframe::egui::UiBuilder::new().max_rect(part), |ui| {
            let (accent, weak) = (Colors::of(ui).accent, Colors::of(ui).weak);
            let id = format!("levels {i}");
            let levels: Vec<f64> =
                figure.series.get(1).map(|s| s.points.iter().map(|p| p[0]).collect()).unwrap_or_default();
            // Thresholds are drawn more quietly than a figure's own marks.
            let thresholds: Vec<f64> = figure.marks.iter().map(|mark| mark.at).collect();
            let quiet = Figure { marks: Vec::new(), ..figure.clone() };
            quiet.ui(ui, &id, |plot| {
                for &at in &thresholds {
                    let line = VLine::new("threshold", at).stroke(Stroke::new(1.0, weak.gamma_multiply(0.6)));
                    plot.vline(line.style(LineStyle::dashed_dense()).allow_hover(false));
                }
                for &level in &levels {
                    let stroke = Stroke::new(1.0, accent.gamma_multiply(0.7));
                    plot.vline(VLine::new("level", level).stroke(stroke).allow_hover(false));
                }
            });
        });
    }
    ui.advance_cursor_after_rect(room);
}
