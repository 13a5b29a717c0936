//! [`Figure`]: a plot as data, to be drawn on screen, written as SVG or as CSV.

use eframe::egui::{Color32, Id, Rect, Stroke, Ui, WidgetInfo, accesskit::Role};
use egui_plot::{
    HLine, HoverPosition, Line, LineStyle, MarkerShape, PlotPoint, PlotPoints, PlotResponse, PlotUi, Points, VLine,
};

use super::colormap::ColorMap;
use super::number;
use super::palette;
use super::plot::{self, Axis};

/// A plot as data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figure {
    /// What is shown.
    pub title: String,
    /// The axis across.
    pub x: Axis,
    /// The axis upwards.
    pub y: Axis,
    /// Lines and points.
    pub series: Vec<Series>,
    /// Lines across the whole plot.
    pub marks: Vec<Mark>,
    /// No legend on screen: there is no room for it, or another plot has it. Saved drawings always have one.
    pub quiet: bool,
    /// It shares its axis across with other plots.
    pub timeline: Option<Timeline>,
}

/// An axis across that several plots share: they move together, and a drag belongs to whoever shows them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeline {
    /// Plots of the same group move together.
    pub group: &'static str,
    /// What all of them show at first.
    pub span: [f64; 2],
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// A line.
    #[default]
    Line,
    /// A dashed line.
    Dashed,
    /// Dots.
    Points,
    /// A line with dots where they can be told apart.
    LinePoints,
    /// A line, filled down to zero (to the lower end on a logarithmic axis).
    Area,
}

/// Points with a name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// The name in the legend.
    pub name: String,
    /// `[x, y]`, as values, whatever the axes are.
    pub points: Vec<[f64; 2]>,
    /// How they are drawn.
    pub style: Style,
    /// Number of the colour in the palette; by default the place in the figure.
    pub color: Option<usize>,
    /// A shade in place of a colour: 0 for the first of a family of curves, 1 for the last.
    pub shade: Option<f32>,
}

impl Series {
    /// A line.
    pub fn line(name: impl Into<String>, points: Vec<[f64; 2]>) -> Self {
        Self { name: name.into(), points, ..Self::default() }
    }

    /// Another style.
    pub fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    /// A shade of a family of curves, from 0 to 1.
    pub fn shade(mut self, shade: f32) -> Self {
        self.shade = Some(shade);
        self
    }

    /// The colour of another series.
    pub fn color(mut self, color: usize) -> Self {
        self.color = Some(color);
        self
    }
}

/// A line across the whole plot, at a value of one axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// What it stands for.
    pub name: String,
    /// Where.
    pub at: f64,
    /// Upwards at a value of x, or across at a value of y.
    pub vertical: bool,
}

/// Dots are drawn where they are at least this many points (of the screen) apart, from the first one on.
const APART: f32 = 5.0;

impl Figure {
    /// Adds a series.
    pub fn with(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// The points of a series in plot coordinates; those that an axis cannot show are left out.
    pub(super) fn places(&self, series: &Series) -> Vec<[f64; 2]> {
        series.points.iter().filter_map(|&[x, y]| Some([self.x.place(x)?, self.y.place(y)?])).collect()
    }

    /// The colour of a series.
    pub(super) fn color(&self, index: usize, dark: bool) -> Color32 {
        let series = self.series.get(index);
        match series.and_then(|s| s.shade) {
            // The end that would fade into the ground is left out.
            Some(shade) if dark => ColorMap::Viridis.table(true).at(0.95 - 0.6 * shade),
            Some(shade) => ColorMap::Viridis.table(false).at(0.05 + 0.65 * shade),
            None => palette::series(series.and_then(|s| s.color).unwrap_or(index), dark),
        }
    }

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
        let response = plot.show(ui, |plot| {
            for (i, series) in self.series.iter().enumerate() {
                self.draw(plot, series, self.color(i, dark));
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
