//! The directions of the current module's update: what it shares with another update, what it does to its base, which of
//! them the base did not know.

use eframe::egui::{
    Align, Align2, Button, Layout, Mesh, Rect, RichText, ScrollArea, Sense, Shape, Ui, WidgetInfo, pos2, vec2,
};

use super::View;
use super::state::Action;
use crate::app::look::glossary;
use crate::app::look::theme::Colors;

use crate::app::widgets::legend::{self, Direction};
use crate::app::widgets::menu::Take;
use crate::app::widgets::range::{Scale, ValueRange};
use crate::app::widgets::tiles::Look;
use crate::app::work::export::Source;
use crate::delta;
use crate::figure::ColorMap;
use crate::plan::compare::{Side, Similarity};
use crate::spectrum::subspaces::EPSILON;
use crate::units;

use crate::app::shared::path::clean;
use crate::app::shared::typed;

/// What the section remembers.
#[derive(Default)]
pub struct Directions {
    path: String,
}

impl Directions {
    /// Paints the section into the room there is.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let weak = Colors::of(ui).weak;
        let changed = view.workspace.delta().is_some_and(|d| !matches!(d.source(), delta::Source::Weight));
        let Some(name) = view.workspace.selection().current().map(str::to_owned).filter(|_| changed) else {
            ui.label(
                RichText::new("Open a tuned model or an adapter beside the base, and choose a module.").color(weak),
            );
            return;
        };
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            amplified(ui, view, &name);
            intruders(ui, view, &name);
            ui.add_space(6.0);
            self.similarity(ui, view, &name);
        });
    }

    fn similarity(&mut self, ui: &mut Ui, view: &mut View<'_>, name: &str) {
        let colors = Colors::of(ui);
        let updates = view.state;
        let other = updates.other().cloned();
        let mut side = updates.side;
        let area = ui.available_rect_before_wrap();
        ui.horizontal(|ui| {
            let label = ui.label(RichText::new("Shared directions φ").strong());
            label.on_hover_ui(|ui| glossary::SIMILARITY.ui(ui));
            ui.selectable_value(&mut side, Side::Left, "U")
                .on_hover_text("Left singular vectors: what the module's output gets");
            ui.selectable_value(&mut side, Side::Right, "V")
                .on_hover_text("Right singular vectors: what of the input matters");
            if let Some(alike) = updates.alike().filter(|alike| alike.of.0 == name) {
                let found = alike.found.clone();
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    view.export(
                        ui,
                        "shared directions",
                        &[Take::CopyPng, Take::SavePng, Take::CopyTsv, Take::SaveCsv],
                        area,
                        || Source::Table(rows(&found)),
                    );
                });
            }
        });
        if side != view.state.side {
            view.actions.push(Action::Side(side));
        }
        let Some(other) = other else {
            ui.horizontal(|ui| {
                let room = (ui.available_width() - 90.0).max(100.0);
                typed::path(ui, "Another update", &mut self.path, "another adapter or tuned model", room);
                let ready = !self.path.trim().is_empty() && !view.state.is_comparing();
                if ui.add_enabled(ready, Button::new("Compare")).clicked() {
                    view.actions.push(Action::Compare(clean(&self.path)));
                }
            });
            let text = "Two ranks, two seeds or two checkpoints of one model: which directions both have found.";
            ui.label(RichText::new(text).small().color(colors.weak));
            return;
        };
        ui.horizontal(|ui| {
            let file =
                other.file_name().map_or_else(|| other.display().to_string(), |n| n.to_string_lossy().into_owned());
            ui.label(RichText::new(format!("with {file}")).color(colors.weak))
                .on_hover_text(other.display().to_string());
            if ui.small_button("Forget").on_hover_text("Compare with nothing").clicked() {
                view.actions.push(Action::Forget);
            }
        });
        match view.state.alike() {
            Some(alike) if alike.of.0 == name => heatmap(ui, &alike.found),
            _ if view.state.is_comparing() => {
                ui.label(RichText::new("Comparing …").color(colors.weak));
            }
            _ => {
                ui.label(RichText::new("The other update does not have this module.").color(colors.weak));
            }
        }
    }
}

fn amplified(ui: &mut Ui, view: &View<'_>, name: &str) {
    let colors = Colors::of(ui);
    let found = view.state.against().filter(|found| found.name == name);
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 5.0;
        ui.label(RichText::new("Amplification").strong()).on_hover_ui(|ui| glossary::AMPLIFICATION.ui(ui));
        match found {
            Some(found) => {
                let factor = found.amplification.factor;
                let times =
                    if factor.is_finite() { format!("{} ×", units::real(factor, 3)) } else { "∞".to_owned() };
                ui.label(RichText::new(times).strong().color(colors.rank));
                let text = format!(
                    "as strong as W itself in ΔW's {} strongest directions ({})",
                    found.amplification.r,
                    units::real(found.amplification.base, 3)
                );
                ui.label(RichText::new(text).color(colors.weak));
            }
            None => {
                ui.label(RichText::new("–").color(colors.weak));
            }
        }
    });
}

fn intruders(ui: &mut Ui, view: &mut View<'_>, name: &str) {
    let colors = Colors::of(ui);
    let updates = view.state;
    let found = updates.intruders().filter(|(of, _)| of == name).map(|(_, found)| found.clone());
    let looking = updates.is_looking();
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 5.0;
        ui.label(RichText::new("Intruders").strong()).on_hover_ui(|ui| glossary::INTRUDER.ui(ui));
        if let Some(found) = found {
            let count = found.iter().filter(|one| one.is_intruder(EPSILON)).count();
            let color = if count > 0 { colors.warn } else { colors.good };
            ui.label(RichText::new(format!("{count} of {}", found.len())).strong().color(color));
            let cosines: Vec<String> = found.iter().map(|one| format!("{:.2}", one.cosine)).collect();
            let text = format!("strongest directions are new; cosine to the nearest old one: {}", cosines.join(" "));
            ui.label(RichText::new(text).color(colors.weak));
        } else {
            let tip =
                "Takes every singular vector of the base weight: seconds for a small module, minutes for a large one";
            if ui.add_enabled(!looking, Button::new("Look for intruders")).on_hover_text(tip).clicked() {
                view.actions.push(Action::Intruders);
            }
        }
    });
}

/// φ as cells: i down, j across.
fn heatmap(ui: &mut Ui, found: &Similarity) {
    let (rows, cols) = (found.phi.rows(), found.phi.cols());
    if rows == 0 || cols == 0 {
        ui.label(RichText::new("One of the two has no direction here: its ΔW is zero.").color(Colors::of(ui).weak));
        return;
    }
    let colors = Colors::of(ui);
    let side = (ui.available_width() - 110.0).clamp(80.0, 300.0);
    let cell = side / rows.max(cols) as f32;
    let size = vec2(cell * cols as f32, cell * rows as f32);
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), size.y + 34.0), Sense::hover());
    let grid = Rect::from_min_size(rect.min + vec2(26.0, 0.0), size);
    let look = Look {
        map: ColorMap::Viridis,
        dark: ui.visuals().dark_mode,
        range: ValueRange { low: 0.0, high: 1.0, scale: Scale::Linear, clipped: false },
    };
    let table = look.map.table(look.dark);
    let mut mesh = Mesh::default();
    for i in 0..rows {
        for j in 0..cols {
            let corner = grid.min + vec2(cell * j as f32, cell * i as f32);
            mesh.add_colored_rect(Rect::from_min_size(corner, vec2(cell, cell)), table.at(found.phi.get(i, j)).into());
        }
    }
    ui.painter().add(Shape::mesh(mesh));
    let font = eframe::egui::FontId::proportional(11.0);
    let say = |at, align, text: String| ui.painter().text(at, align, text, font.clone(), colors.weak);
    say(pos2(grid.left() - 5.0, grid.top() + 6.0), Align2::RIGHT_CENTER, "i 1".into());
    say(pos2(grid.left() - 5.0, grid.bottom() - 6.0), Align2::RIGHT_CENTER, rows.to_string());
    say(pos2(grid.left(), grid.bottom() + 4.0), Align2::LEFT_TOP, "j 1".into());
    say(pos2(grid.right(), grid.bottom() + 4.0), Align2::RIGHT_TOP, cols.to_string());
    let bar = Rect::from_min_size(pos2(grid.right() + 16.0, grid.top()), vec2(legend::THICKNESS, size.y.max(40.0)));
    let response = ui.interact(grid, ui.scope_id().with("phi"), Sense::hover());
    let at = response.hover_pos().map(|pos| {
        let place = (pos - grid.min) / cell;
        ((place.y as usize).min(rows - 1), (place.x as usize).min(cols - 1))
    });
    legend::paint(ui.painter(), ui.visuals(), bar, Direction::Vertical, &look, at.map(|(i, j)| found.phi.get(i, j)));
    let corner = found.phi.get(rows - 1, cols - 1);
    let name = format!("Shared directions of {}: φ({rows}, {cols}) {corner:.2}", found.name);
    response.widget_info(|| WidgetInfo::labeled(eframe::egui::Role::Image, true, &name));
    if let Some((i, j)) = at {
        let random = (i.max(j) + 1) as f64 / found.dimensions as f64;
        response.on_hover_text_at_pointer(format!(
            "φ({}, {}) = {:.3}; two random spaces have {}",
            i + 1,
            j + 1,
            found.phi.get(i, j),
            units::real(random, 2)
        ));
    }
}

fn rows(found: &Similarity) -> Vec<Vec<String>> {
    let heads = std::iter::once("i \\ j".to_owned()).chain((1..=found.phi.cols()).map(|j| j.to_string())).collect();
    let cells = (0..found.phi.rows())
        .map(|i| std::iter::once((i + 1).to_string()).chain(found.phi.row(i).iter().map(f32::to_string)).collect());
    std::iter::once(heads).chain(cells).collect()
}
