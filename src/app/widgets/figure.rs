//! A [`Figure`] on screen.

use eframe::egui::{Color32, Id, Rect, Stroke, Ui, WidgetInfo, accesskit::Role};
use egui_plot::{
    HLine, HoverPosition, Line, LineStyle, MarkerShape, PlotPoint, PlotPoints, PlotResponse, PlotUi, Points, VLine,
};

use super::plot;
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
        let mut plot = plot::plot(ui, id, &self.x, &self.y).label_formatter(move |at| readout(&x, &y, at));
        if several {
            plot = plot.legend(plot::legend());
        }
        if let Some(Timeline { group, span }) = self.timeline {
            let id = Id::unique(group);
            plot = plot.link_axis(id, [true, false]).link_cursor(id, [true, false]).allow_drag(false);
            plot = span.iter().filter_map(|&x| self.x.place(x)).fold(plot, |plot, x| plot.include_x(x));
        }
        plot = self.x.always().into_iter().fold(plot, |plot, x| plot.include_x(x));
        plot = self.y.always().into_iter().fold(plot, |plot, y| plot.include_y(y));
        let response = plot.show(ui, |plot| {
            for (i, series) in self.series.iter().enumerate() {
                self.draw(plot, series, self.color(i, dark).into());
            }
            for mark in &self.marks {
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
        (response, rect)
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
