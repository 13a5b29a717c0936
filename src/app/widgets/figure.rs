//! A [`Figure`] on screen.

use std::sync::Arc;

use eframe::egui::{self, Color32, Id, Key, Modifiers, Rect, RichText, Stroke, Ui, WidgetInfo, accesskit::Role};
use egui_plot::{
    HLine, HoverPosition, Line, LineStyle, MarkerShape, PlotPoint, PlotPoints, PlotResponse, PlotUi, Points, VLine,
};

use super::{plot, plot_legend};
use crate::figure::{Axis, Figure, Series, Style, Timeline, number};

/// Dots are drawn where they are at least this many points (of the screen) apart, from the first one on.
const APART: f32 = 5.0;

impl Figure {
    /// Draws the figure in the room there is; `more` may add items of its own. Returns egui_plot's response, and the rectangle with the axes:
    /// what is cut out of the window for a PNG.
    pub fn ui(&self, ui: &mut Ui, id: &str, more: impl FnOnce(&mut PlotUi<'_>)) -> (PlotResponse<()>, Rect) {
        let room = ui.available_rect_before_wrap();
        let dark = ui.visuals().dark_mode;
        let quiet = ui.visuals().text_color();
        let (x, y) = (self.x.clone(), self.y.clone());
        let several = self.series.len() + self.marks.len() > 1 && !self.quiet;
        // Above the frame: inside of it a legend would lie on the data.
        let hidden = if several { plot_legend::ui(ui, id, self) } else { plot_legend::Hidden::default() };
        let mut plot = plot::plot(ui, id, &self.x, &self.y).label_formatter(move |at| readout(&x, &y, at));
        if let Some(Timeline { group, span }) = self.timeline {
            let id = Id::unique(group);
            plot = plot.link_axis(id, [true, false]).link_cursor(id, [true, false]).allow_drag(false);
            plot = span.iter().filter_map(|&x| self.x.place(x)).fold(plot, |plot, x| plot.include_x(x));
        }
        plot = self.x.always().into_iter().fold(plot, |plot, x| plot.include_x(x));
        plot = self.y.always().into_iter().fold(plot, |plot, y| plot.include_y(y));
        let response = plot.show(ui, |plot| {
            let seen = |name: &str| !hidden.contains(name);
            for (i, series) in self.series.iter().enumerate().filter(|(_, series)| seen(&series.name)) {
                self.draw(plot, series, self.color(i, dark).into());
            }
            for mark in self.marks.iter().filter(|mark| seen(&mark.name)) {
                let Some(at) = (if mark.vertical { self.x.place(mark.at) } else { self.y.place(mark.at) }) else {
                    continue;
                };
                let stroke = Stroke::new(1.0, quiet);
                let dashed = LineStyle::dashed_dense();
                if mark.vertical {
                    plot.vline(VLine::new(&mark.name, at).stroke(stroke).style(dashed).allow_hover(false));
                } else {
                    plot.hline(HLine::new(&mark.name, at).stroke(stroke).style(dashed).allow_hover(false));
                }
            }
            more(plot);
        });
        response.response.widget_info(|| WidgetInfo::labeled(Role::Image, ui.is_enabled(), &self.title));
        let frame: Rect = *response.transform.frame();
        let line = super::legend::hairline(ui.visuals());
        ui.painter().hline(frame.x_range(), frame.bottom(), line);
        ui.painter().vline(frame.left(), frame.y_range(), line);
        let rect = Rect::from_min_max(room.min, room.max.max(frame.max));
        self.offer_large(ui, id, &response);
        (response, rect)
    }

    /// A double click shows the figure in all of the tab; while it is shown there, it follows what is painted here.
    fn offer_large(&self, ui: &Ui, id: &str, response: &PlotResponse<()>) {
        let this = response.response.id;
        if id == LARGE {
            return;
        }
        let shown = ui.data(|data| data.get_temp::<Large>(Id::unique(LARGE))).is_some_and(|large| large.of == this);
        if shown || response.response.double_clicked() {
            let large = Large { of: this, frame: ui.ctx().cumulative_frame_nr(), figure: Arc::new(self.clone()) };
            ui.data_mut(|data| data.insert_temp(Id::unique(LARGE), large));
            if !shown {
                ui.ctx().request_repaint();
            }
        }
    }

    fn draw(&self, plot: &mut PlotUi<'_>, series: &Series, color: Color32) {
        let places = self.places(series);
        if series.style != Style::Points {
            let mut line = Line::new(series.name.clone(), PlotPoints::from(places.clone())).color(color).width(1.5);
            // egui_plot's bands are for oscillations and draw slopes too thin.
            line = line.allow_band(places.len() > 50_000);
            if series.style == Style::Dashed {
                line = line.style(LineStyle::dashed_loose());
            }
            if series.style == Style::Area {
                let low = if self.y.log { places.iter().map(|p| p[1]).fold(f64::INFINITY, f64::min) } else { 0.0 };
                line = line.fill(low as f32).fill_alpha(0.15);
            }
            plot.line(line);
        }
        for [x, low, high] in self.spreads(series) {
            let bar = Line::new(series.name.clone(), PlotPoints::from(vec![[x, low], [x, high]]));
            plot.line(bar.color(color).width(1.5).allow_hover(false));
        }
        let dots = match series.style {
            Style::Points => places,
            Style::LinePoints => apart(places, plot),
            _ => return,
        };
        let hover = series.style == Style::Points;
        let points = Points::new(series.name.clone(), PlotPoints::from(dots)).allow_hover(hover);
        plot.points(points.color(color).radius(2.5).shape(MarkerShape::Circle));
    }
}

/// Name of the plot that takes all of a tab.
const LARGE: &str = "large plot";

/// The figure that is shown in all of the tab.
#[derive(Clone)]
struct Large {
    /// The plot that it is of.
    of: Id,
    /// When that was last painted: what is no longer painted is no longer shown.
    frame: u64,
    figure: Arc<Figure>,
}

/// Paints the figure that was double-clicked over all of `rect`, until it is closed.
pub fn large(ui: &Ui, rect: Rect) {
    let id = Id::unique(LARGE);
    let Some(large) = ui.data(|data| data.get_temp::<Large>(id)) else { return };
    let close = |ui: &Ui| ui.data_mut(|data| data.remove::<Large>(id));
    if large.frame + 1 < ui.ctx().cumulative_frame_nr() {
        return close(ui);
    }
    // A dialog over it is closed first.
    let alone = ui.memory(|memory| memory.top_modal_layer().is_none());
    let mut done = alone && ui.input_mut(|input| input.consume_key(Modifiers::NONE, Key::Escape));
    egui::Area::new(id).order(egui::Order::Middle).fixed_pos(rect.min).constrain(false).show(ui.ctx(), |ui| {
        let frame = egui::Frame::new().fill(ui.visuals().extreme_bg_color).inner_margin(12);
        frame.show(ui, |ui| {
            let size = rect.size() - egui::Vec2::splat(24.0);
            ui.set_min_size(size);
            ui.set_max_size(size);
            ui.horizontal(|ui| {
                ui.heading(&large.figure.title);
                ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                    done |= ui.button("Close").on_hover_text("Back to the tab (Esc)").clicked();
                    let tip = "Ctrl and wheel zoom, a drag moves, a double click shows all";
                    ui.label(RichText::new(tip).small().weak());
                });
            });
            // A figure that is quiet for want of room has it here.
            let figure = Figure { quiet: false, timeline: None, ..Figure::clone(&large.figure) };
            figure.ui(ui, LARGE, |_| {});
        });
    });
    if done {
        close(ui);
    }
}

/// The first points, up to where neighbours come too close.
fn apart(mut places: Vec<[f64; 2]>, plot: &PlotUi<'_>) -> Vec<[f64; 2]> {
    let at = |[x, y]: [f64; 2]| plot.screen_from_plot(PlotPoint::new(x, y));
    let close = places.windows(2).position(|pair| at(pair[0]).distance(at(pair[1])) < APART);
    places.truncate(close.map_or(places.len(), |i| i + 1));
    places
}

/// What is said about a point under the pointer.
fn readout(x: &Axis, y: &Axis, at: &HoverPosition<'_>) -> Option<String> {
    let HoverPosition::NearDataPoint { plot_name, position, .. } = at else { return None };
    let line = |axis: &Axis, place: f64| format!("{}  {}", axis.label, number::short(axis.value(place), 4));
    Some(format!("{plot_name}\n{}\n{}", line(x, position.x), line(y, position.y)))
}
