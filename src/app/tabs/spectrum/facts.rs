//! The line over the plots: which module, how its spectrum was computed, what rank r keeps of it.

use eframe::egui::{RichText, Ui};

use super::View;
use crate::app::effect::Effect;
use crate::app::look::glossary::{self, Term};
use crate::app::look::theme::Colors;
use crate::app::shared::layout;
use crate::delta::Source;
use crate::spectrum::Spectrum;
use crate::units;

/// Paints the line.
pub fn ui(ui: &mut Ui, view: &mut View<'_>) {
    let Some(name) = view.workspace.selection().current() else {
        ui.label("Choose a module in the list.");
        return;
    };
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 16.0;
        ui.label(RichText::new(name).strong());
        let Some(spectrum) = view.workspace.latest(name) else {
            let text = match view.workspace.spectrum(name).and_then(|slot| slot.error()) {
                Some(error) => RichText::new(error.to_string()).color(Colors::of(ui).bad),
                None if view.jobs.analysing().is_some() => RichText::new("computing …").color(Colors::of(ui).weak),
                None => RichText::new("not computed").color(Colors::of(ui).weak),
            };
            ui.label(text);
            let idle = view.jobs.analysing().is_none() && !view.jobs.is_opening();
            if idle && computable(view, name) && ui.button("Compute").clicked() {
                view.effects.push(Effect::Analyse);
            }
            return;
        };
        let r = view.workspace.dial().r;
        let known = r.min(spectrum.full_rank());
        let what = delta_name(view);
        fact(ui, glossary::FROBENIUS, &format!("‖{what}‖"), units::real(spectrum.frobenius, 4));
        fact(ui, glossary::SIGMA, "σ₁", units::real(spectrum.largest(), 4));
        if r <= spectrum.known_len() || spectrum.is_complete() {
            fact(ui, glossary::ENERGY, &format!("E({r})"), format!("{:.2} %", 100.0 * spectrum.energy(known)));
            fact(ui, glossary::ERROR, "error", format!("{:.2} %", 100.0 * spectrum.relative_error(known)));
        } else {
            let at = spectrum.known_len();
            fact(ui, glossary::ENERGY, &format!("E({at})"), format!("{:.2} %", 100.0 * spectrum.energy(at)));
        }
        method(ui, view, spectrum);
    });
}

/// What the spectrum is of: ΔW, or the weights themselves.
pub fn delta_name(view: &View<'_>) -> &'static str {
    let weights = view.workspace.delta().is_some_and(|delta| matches!(delta.source(), Source::Weight));
    if weights { "W" } else { "ΔW" }
}

/// False for a module that does not fit, or whose weights cannot be computed with.
pub fn computable(view: &View<'_>, name: &str) -> bool {
    let fits = view.workspace.delta().and_then(|d| d.entry(name)).is_some_and(|e| e.problem.is_none());
    fits && view.workspace.spectrum(name).is_none_or(|slot| slot.error().is_none())
}

fn fact(ui: &mut Ui, term: Term, name: &str, value: String) {
    layout::fact(ui, name, value).on_hover_ui(|ui| term.ui(ui));
}

/// How complete the spectrum is, and the way to all of it.
fn method(ui: &mut Ui, view: &mut View<'_>, spectrum: &Spectrum) {
    let colors = Colors::of(ui);
    let all = spectrum.full_rank();
    if spectrum.exact {
        let how = match spectrum.method {
            "factored" => "From the factors A and B, without forming their product.",
            _ => "From the eigenvalues of the Gram matrix, in double precision.",
        };
        ui.label(RichText::new(format!("exact · {} σ", spectrum.sigma.len())).small().color(colors.weak))
            .on_hover_text(format!("Every singular value. {how}"));
        return;
    }
    let text = format!("≈ {} of {all} σ", spectrum.sigma.len());
    let within = spectrum
        .tolerance
        .map_or_else(String::new, |t| format!(" Each of them is expected within {} of its value.", units::percent(t)));
    ui.label(RichText::new(text).small().color(colors.warn)).on_hover_text(format!(
        "Approximate: the largest singular values, from a randomized block Krylov space.{within} Their energy is exact \
         all the same: the total is the Frobenius norm, which needs no SVD."
    ));
    let busy = view.jobs.analysing().is_some();
    let button = eframe::egui::Button::new(RichText::new("Compute all σ").small());
    if ui.add_enabled(!busy, button).clicked() {
        view.effects.push(Effect::AnalyseExactly);
    }
}
