//! The error beside ΔW: sizes, shares, the spectrum of the error, what a low rank repairs.

use std::sync::Arc;

use eframe::egui::{Checkbox, DragValue, RichText, ScrollArea, Ui};

use super::View;
use super::state::{AgainstItem, Choice, Need};
use crate::app::look::glossary::{self, Term};
use crate::app::look::theme::Colors;
use crate::figure::{Axis, Figure, Mark, Series, Style, number};
use crate::spectrum::rounding::{Against as Facts, Left};
use crate::train::Settings;
use crate::units;

/// Below so many parameters a model is read in a moment.
const SMALL: u64 = 50_000_000;

/// What the view remembers between frames.
pub struct Against {
    iterations: usize,
    /// Whether the data of the next run weigh the repair; unless said, of models that are read in a moment.
    weighted: Option<bool>,
}

impl Default for Against {
    /// LoftQ's paper uses five iterations.
    fn default() -> Self {
        Self { iterations: 5, weighted: None }
    }
}

impl Against {
    /// What the view needs.
    pub fn need(&self, view: &View<'_>, choice: &Choice) -> Need {
        let data = with_data(view).filter(|_| self.is_weighted(view));
        Need::Against { recipe: choice.a, iterations: self.iterations, data }
    }

    fn is_weighted(&self, view: &View<'_>) -> bool {
        let small = || view.workspace.base().is_some_and(|base| base.parameters() < SMALL);
        self.weighted.unwrap_or_else(small)
    }

    /// Paints it into the room there is.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let items = view.state.against();
        let facts = items.iter().find_map(|item| match item {
            AgainstItem::Facts(facts) => Some(&**facts),
            _ => None,
        });
        let r = view.workspace.dial().r;
        ui.horizontal(|ui| {
            ui.label(RichText::new("LoftQ iterations").color(Colors::of(ui).weak))
                .on_hover_ui(|ui| glossary::LOFTQ.ui(ui));
            ui.add(DragValue::new(&mut self.iterations).range(1..=20)).accessible_name("LoftQ iterations");
            let mut weighted = self.is_weighted(view);
            let any = with_data(view).is_some();
            let tick = ui.add_enabled(any, Checkbox::new(&mut weighted, "weighted by my data"));
            let tip =
                "Reads 16 rows of the data that are set up in Train: channels that are large there count more (QERA)";
            if tick.on_hover_text(tip).on_disabled_hover_text("Choose data in Train first").changed() {
                self.weighted = Some(weighted);
            }
            let failed = items.iter().find_map(|item| match item {
                AgainstItem::Weighted(Err(why)) => Some(why),
                _ => None,
            });
            if let Some(why) = failed {
                ui.label(RichText::new(why).small().color(Colors::of(ui).bad));
            }
        });
        let Some(facts) = facts else { return };
        ui.label(RichText::new(verdict(facts)).strong());
        let room = ui.available_rect_before_wrap();
        let parts = super::split(room, &[0.3, 0.35, 0.35]);
        super::within(ui, parts[0], |ui| {
            ScrollArea::vertical().id_salt("against").auto_shrink(false).show(ui, |ui| sentences(ui, facts, r));
        });
        let mut spectrum = error_spectrum(facts);
        spectrum.quiet = false;
        super::within(ui, parts[1], |ui| super::plot(ui, view, &spectrum, "spectrum of the error"));
        let repair = repair(facts, items);
        super::within(ui, parts[2], |ui| super::plot(ui, view, &repair, "repair by a low rank"));
        ui.advance_cursor_after_rect(room);
    }
}

fn sentences(ui: &mut Ui, facts: &Facts, r: usize) {
    ui.spacing_mut().interact_size.y = 18.0;
    ui.spacing_mut().item_spacing.y = 2.0;
    let short = |x: f64| number::whole(x, 3);
    let ratio = facts.error / facts.delta.max(f64::MIN_POSITIVE);
    let mut line = |term: Term, name: &str, value: String| {
        // Wrapped: in a narrow column the number is what must not be cut.
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new(name).color(Colors::of(ui).weak));
            ui.label(RichText::new(value).monospace());
        })
        .response
        .on_hover_ui(|ui| term.ui(ui));
    };
    line(glossary::ERROR_NORM, "‖Ŵ − W‖", short(facts.error));
    line(glossary::FROBENIUS, "‖ΔW‖", short(facts.delta));
    line(glossary::ERROR_NORM, "error / ΔW", format!("{} ×", short(ratio)));
    let at = r.min(facts.inside.len());
    if let Some(&inside) = at.checked_sub(1).and_then(|i| facts.inside.get(i)) {
        let text = format!("{}  (by chance {})", units::percent(inside), units::percent(facts.chance(at)));
        line(glossary::INSIDE, &format!("share of the error inside ΔW's {at} strongest directions"), text);
        let [error, signal] = facts.signal[at - 1];
        line(glossary::INSIDE, &format!("error : ΔW in the top {at}"), format!("{} : {}", short(error), short(signal)));
    }
    line(glossary::SURVIVE, "weights whose code changes", units::percent(facts.moved));
    line(glossary::SURVIVE, "share of ΔW that survives merging and rounding", units::percent(facts.kept));
}

/// What follows from the numbers.
fn verdict(facts: &Facts) -> &'static str {
    if facts.error > facts.delta {
        "Rounding is larger than the change: merged and rounded again, most entries keep their old code. In QLoRA the adapter stays beside \
         the 4-bit weight and loses nothing."
    } else {
        "The change is larger than rounding: merged and rounded again, most of it arrives."
    }
}

fn error_spectrum(facts: &Facts) -> Figure {
    let points = |values: &[f64]| values.iter().enumerate().map(|(i, &s)| [(i + 1) as f64, s]).collect();
    let [out, inner] = facts.spectrum.shape.map(|n| n as f64);
    // Bai–Yin: what noise of that size would have at most.
    let edge = facts.error / (out * inner).sqrt() * (out.sqrt() + inner.sqrt());
    let title = "Spectrum of the error".to_owned();
    let mut figure = Figure { title, x: Axis::log("index i"), y: Axis::log("strength σ"), ..Figure::default() };
    figure.series.push(Series::line("σ of Ŵ − W", points(&facts.spectrum.sigma)).style(Style::LinePoints));
    figure.marks.push(Mark { name: "noise edge".into(), at: edge, vertical: false });
    figure
}

/// What is left at each rank: of the output where inputs are known, else of the weight.
fn repair(facts: &Facts, items: &[AgainstItem]) -> Figure {
    let weighted = items.iter().find_map(|item| match item {
        AgainstItem::Weighted(Ok(left)) => Some(left),
        _ => None,
    });
    let repairs = || {
        items.iter().filter_map(|item| match item {
            AgainstItem::Repair(r, left) => Some((*r, left)),
            _ => None,
        })
    };
    let title = match weighted {
        Some(_) => "What a repair of rank r leaves of the output's error, on your data",
        None => "What a repair of rank r leaves of the weight's error",
    };
    let mut figure =
        Figure { title: title.to_owned(), x: Axis::log("rank r"), y: Axis::linear("share left"), ..Figure::default() };
    let value = |left: &Left| if weighted.is_some() { left.outputs } else { Some(left.weights) };
    let plain: Vec<[f64; 2]> = match weighted {
        Some(_) => repairs().filter_map(|(r, left)| Some([r as f64, value(left.first()?)?])).collect(),
        None => {
            let total: f64 = facts.error * facts.error;
            let mut kept = 0f64;
            let tail = facts.spectrum.sigma.iter().enumerate().map(|(i, s)| {
                kept += s * s;
                [(i + 1) as f64, ((total - kept).max(0.0) / total.max(f64::MIN_POSITIVE)).sqrt()]
            });
            tail.collect()
        }
    };
    let plain = Series::line("SVD of the error (1 iteration)", plain);
    figure.series.push(if weighted.is_some() { plain.style(Style::LinePoints) } else { plain });
    let last = repairs().filter_map(|(r, left)| Some([r as f64, value(left.last()?)?])).collect();
    let iterations = repairs().next().map_or(1, |(_, left)| left.len());
    figure.series.push(Series::line(format!("LoftQ, {iterations} iterations"), last).style(Style::LinePoints));
    if let Some(left) = weighted {
        let points = left.iter().map(|&(r, left)| [r as f64, left]).collect();
        figure.series.push(Series::line("QERA, by your inputs", points).style(Style::LinePoints));
    }
    figure
}

/// The next run, where it has data.
fn with_data(view: &View<'_>) -> Option<Arc<Settings>> {
    let draft = view.board.draft.as_ref().filter(|draft| !draft.data.as_os_str().is_empty())?;
    let base = view.workspace.base()?;
    // Of a run only what says which rows are read: another rank asks for nothing new.
    Some(Arc::new(Settings {
        model: base.path().to_path_buf(),
        data: draft.data.clone(),
        seq: draft.seq,
        columns: draft.columns.clone(),
        chat_template: draft.chat_template.clone(),
        loss_on: draft.loss_on,
        ..Settings::default()
    }))
}
