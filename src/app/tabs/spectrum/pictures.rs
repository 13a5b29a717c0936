//! ΔW | rank-r approximation | residual, as linked heatmaps.

use eframe::egui::{Context, Rect, RichText, Ui};

use super::View;
use crate::app::effect::Effect;
use crate::app::look::glossary;
use crate::app::look::theme::Colors;
use crate::app::shared::layout::sides;
use crate::app::widgets::heatmap::{Heatmaps, Options, Status};
use crate::app::widgets::menu::Take;
use crate::app::widgets::picture::Reduction;
use crate::app::widgets::range::RangeControl;
use crate::app::widgets::tiles::{TileBatch, TileJob};
use crate::app::work::export::Source;
use crate::figure::ColorMap;

use super::facts;

/// Narrower, the controls stand in two lines.
const NARROW: f32 = 580.0;

/// What the pictures remember between frames: place, range.
pub struct Pictures {
    maps: Heatmaps,
    range: RangeControl,
    reduction: Reduction,
    area: Rect,
}

impl Default for Pictures {
    fn default() -> Self {
        Self {
            maps: Heatmaps::new("spectrum-heatmaps", ["ΔW", "rank-r", "Residual"]),
            range: RangeControl::default(),
            reduction: Reduction::Mean,
            area: Rect::NOTHING,
        }
    }
}

impl Pictures {
    /// Hands over coloured tiles.
    pub fn deliver(&mut self, ctx: &Context, tiles: Vec<TileBatch>) {
        self.maps.deliver(ctx, tiles);
    }

    /// The tiles that are missing for what was last painted.
    pub fn required(&self) -> Vec<TileJob> {
        self.maps.required()
    }

    /// What a pixel shows of its cells.
    pub fn reduction(&self) -> Reduction {
        self.reduction
    }

    /// Paints them into the room there is.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let r = view.workspace.dial().r;
        self.area = ui.available_rect_before_wrap();
        self.follow(view, r);
        self.controls(ui, view, r);
        let options = Options {
            map: ColorMap::Diverging,
            range: self.range,
            axes: ["out", "in"],
            details: None,
            readout: false,
            blocks: None,
        };
        self.maps.ui(ui, &options);
    }

    fn controls(&mut self, ui: &mut Ui, view: &mut View<'_>, r: usize) {
        sides(ui, NARROW, |ui, right| {
            if right {
                if let Some(pictures) = view.shown.pictures(r, self.reduction) {
                    let area = ui.ctx().content_rect().intersect(self.area);
                    view.export(ui, "heatmaps", &Take::PLOT, area, || Source::Picture(pictures.delta));
                }
                if let Some(range) = self.maps.range() {
                    self.range.ui(ui, &range, true);
                }
                self.reduction.ui(ui);
                return;
            }
            let what = facts::delta_name(view);
            let title = match ui.available_width() > 640.0 {
                true => format!("{what} = rank-r approximation + residual"),
                false => format!("{what} and residual"),
            };
            ui.label(RichText::new(title).strong()).on_hover_ui(|ui| glossary::RESIDUAL.ui(ui));
            if let Some(terms) = view.shown.terms().filter(|&terms| r > terms) {
                let color = Colors::of(ui).warn;
                ui.label(RichText::new(format!("shown at rank {terms}: no more directions are computed")).color(color));
                if ui.button(format!("Compute {r}")).clicked() {
                    view.effects.push(Effect::MoreVectors(r));
                }
            }
            let name = view.workspace.selection().current();
            let there = view.shown.name() == name && view.shown.terms().is_some();
            let idle = view.jobs.analysing().is_none() && !view.jobs.is_opening();
            let here = name.filter(|name| idle && !there && view.workspace.latest(name).is_some());
            if here.is_some_and(|name| facts::computable(view, name)) && ui.button("Compute pictures").clicked() {
                view.effects.push(Effect::Analyse);
            }
        });
    }

    fn follow(&mut self, view: &View<'_>, r: usize) {
        let current = view.workspace.selection().current();
        let pending = view.jobs.analysing().is_some();
        let Some(pictures) = view.shown.pictures(r, self.reduction) else {
            for i in 0..3 {
                self.maps.hide(i);
                self.maps.set_status(i, self.reason(view, current, pending));
            }
            return;
        };
        self.maps.set_title(0, facts::delta_name(view));
        self.maps.show(0, pictures.subject, self.reduction as u64, pictures.delta);
        self.maps.set_status(0, Status::Ready);
        let shown = r.min(view.shown.terms().unwrap_or(r));
        self.maps.set_title(1, &format!("rank {shown}"));
        match pictures.split {
            Some((low, rest)) => {
                self.maps.show(1, pictures.subject, pictures.version, low);
                self.maps.show(2, pictures.subject, pictures.version, rest);
                for i in 1..3 {
                    self.maps.set_status(i, Status::Ready);
                }
            }
            None => {
                for i in 1..3 {
                    self.maps.hide(i);
                    self.maps.set_status(i, self.reason(view, current, pending));
                }
            }
        }
    }

    fn reason(&self, view: &View<'_>, current: Option<&str>, pending: bool) -> Status {
        let Some(name) = current else { return Status::Message("Choose a module in the list".into()) };
        if let Some(problem) = view.workspace.delta().and_then(|d| d.entry(name)).and_then(|e| e.problem.clone()) {
            return Status::Message(problem);
        }
        if let Some(error) = view.workspace.spectrum(name).and_then(|slot| slot.error()) {
            return Status::Failed(error.to_string());
        }
        if pending { Status::Computing("computing".into(), None) } else { Status::Message("not computed".into()) }
    }
}
