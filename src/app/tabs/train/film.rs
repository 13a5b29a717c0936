//! The spectrum film: singular values of ΔW under the loss, on the same axis and the same cursor.

use eframe::egui::{self, ComboBox, Rect, RichText, Ui, UiBuilder, pos2};

use super::View;
use super::state::Track;
use crate::app::effect::Effect;
use crate::app::look::glossary;
use crate::app::look::theme::Colors;
use crate::app::shared::layout;
use crate::app::widgets::menu::Take;
use crate::app::work::export::Source;
use crate::train::Method;
use crate::train::film::{Verdict, effective, energy_rank};
use crate::units;
use crate::workspace::Selection;

use super::plots::{Plot, block};
use super::prepared::Prepared;

/// Height of the paths.
const PATHS: f32 = 210.0;
/// Height of the ranks.
const RANKS: f32 = 140.0;
/// Share of the width that the paths get; the rest is the spectrum at the cursor.
const SHARE: f32 = 0.64;

/// Paints it.
pub fn ui(ui: &mut Ui, view: &mut View<'_>, prepared: &mut Prepared) {
    let Some(track) = view.state.shown() else { return };
    if track.frames.is_empty() {
        return;
    }
    ui.add_space(6.0);
    ui.separator();
    ui.horizontal(|ui| {
        ui.label(RichText::new("Spectrum film").text_style(egui::TextStyle::Heading))
            .on_hover_ui(|ui| glossary::SIGMA.ui(ui));
        let before = prepared.module.clone();
        let combo = ComboBox::from_id_salt("film").selected_text(&prepared.module).width(280.0).height(360.0);
        let response = combo.show_ui(ui, |ui| {
            for module in prepared.modules.clone() {
                ui.selectable_value(&mut prepared.module, module.clone(), module);
            }
        });
        response.response.accessible_name("Module of the film");
        if prepared.module != before {
            prepared.stale();
            if view.workspace.delta().is_some_and(|delta| delta.entry(&prepared.module).is_some()) {
                view.effects.push(Effect::Select(Selection::one(&prepared.module)));
            }
            ui.ctx().request_repaint();
        }
    });
    sentence(ui, view, track, prepared);
    let room = ui.available_rect_before_wrap();
    let row = Rect::from_min_size(room.min, egui::vec2(room.width(), PATHS));
    let cut = row.left() + row.width() * SHARE;
    let step = track.frame(prepared.step(track)).map_or(0, |frame| frame.step);
    ui.scope_builder(UiBuilder::new().max_rect(row.with_max_x(cut - 7.0)).id_salt("paths"), |ui| {
        let full: fn(&Prepared, &Track) -> _ = |prepared, track| prepared.full_film(track, usize::MAX);
        let count = prepared.film.series.len();
        let all = track.frames.last().and_then(|frame| frame.modules.get(&prepared.module)).map_or(0, Vec::len);
        let text = format!("{count} of {all}, a shade for each from σ₁ on");
        let name = if count > 1 { text.as_str() } else { "" };
        block(
            ui,
            view,
            prepared,
            PATHS,
            Plot {
                name: "Singular values",
                value: name,
                term: Some(glossary::SIGMA),
                pick: |p| &p.film,
                full: Some(full),
            },
        );
    });
    let right = Rect::from_min_max(pos2(cut + 7.0, row.top()), row.max);
    ui.scope_builder(UiBuilder::new().max_rect(right).id_salt("spectrum"), |ui| {
        layout::measured(ui, "At the cursor", &format!("step {step}"), None, |ui| {
            if let Some(figure) = prepared.spectrum(track) {
                view.export(ui, "spectrum at the cursor", &Take::PLOT, right, || Source::Figure(Box::new(figure)));
            }
        });
        if let Some(figure) = prepared.spectrum(track) {
            figure.ui(ui, "spectrum at the cursor", |_| {});
        }
    });
    ui.advance_cursor_after_rect(row);
    let ranks = track.frame(prepared.step(track)).and_then(|frame| frame.modules.get(&prepared.module));
    let ranks = ranks.map_or_else(String::new, |sigma| {
        let (e90, e99) = (energy_rank(sigma, 0.90), energy_rank(sigma, 0.99));
        format!("effective {} · 90 % in {e90} · 99 % in {e99}", units::real(effective(sigma), 3))
    });
    let full: fn(&Prepared, &Track) -> _ = |prepared, track| prepared.full_ranks(track, usize::MAX);
    let plot = Plot {
        name: "Ranks over time",
        value: &ranks,
        term: Some(glossary::RANKS),
        pick: |p| &p.ranks,
        full: Some(full),
    };
    block(ui, view, prepared, RANKS, plot);
}

/// Before this step, or the end of a longer warm-up, a spectrum says little about the rank.
const EARLY: usize = 20;

/// What the spectrum says about r.
fn sentence(ui: &mut Ui, view: &mut View<'_>, track: &Track, prepared: &Prepared) {
    let Some(frame) = track.frame(prepared.step(track)) else { return };
    let Some(sigma) = frame.modules.get(&prepared.module) else { return };
    let colors = Colors::of(ui);
    if track.settings.method == Method::Full || track.settings.mutates_base() {
        // Not of rank r: a whole weight, or a pair that began with a part of the base.
        let text = format!(
            "Of {} directions of ΔW {} hold 90 % of the energy, {} hold 99 %.",
            sigma.len(),
            energy_rank(sigma, 0.90),
            energy_rank(sigma, 0.99)
        );
        ui.label(text);
        return;
    }
    if frame.step < EARLY.max(track.settings.warmup) {
        let text = format!("Step {} is too early to tell whether r = {} fits.", frame.step, sigma.len());
        let tip =
            "A began at random and B at zero: after a few small steps ΔW says more about that than about the data.";
        ui.label(RichText::new(text).color(colors.weak)).on_hover_text(tip);
        return;
    }
    let verdict = Verdict::of(sigma);
    let color = match verdict {
        Verdict::Small(_) => colors.warn,
        // No green: energy that has fallen off is no loss that cannot fall further.
        Verdict::Wasted(..) | Verdict::Fits(_) => ui.visuals().text_color(),
        Verdict::Nothing => colors.weak,
    };
    let tip = "From the singular values at the cursor. Too small: the weakest of r directions has more than 35 % of the \
               strength of the strongest. Fallen off: less than 35 %; almost zero: less than 5 %, and half of them hold 99 % of the energy.";
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(verdict.sentence(sigma.len())).color(color)).on_hover_text(tip);
        let (r, most) = (sigma.len(), view.workspace.max_rank());
        let Some(next) = verdict.next(r).filter(|next| *next != r && *next <= most) else { return };
        let tip = "Turns the dial to it, with α in proportion; the next run trains at this rank";
        if ui.small_button(format!("Try r = {next}")).on_hover_text(tip).clicked() {
            let mut dial = view.workspace.dial().clone();
            dial.alpha *= next as f64 / dial.r.max(1) as f64;
            dial.r = next;
            view.effects.push(Effect::Turn(dial));
        }
    });
}
