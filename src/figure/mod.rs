//! Plots as data, without a window: [`Figure`] is shown on screen by `app`, written as SVG or CSV here. With it the colour
//! maps, the other drawings that reports need ([`chart`], [`heatmap`]), and the one writer each of SVG, CSV and HTML.

mod anchors;
mod axis;
pub mod chart;
mod color;
mod colormap;
pub mod csv;
pub mod heatmap;
pub mod html;
pub mod number;
mod plot;
mod svg;

pub use axis::Axis;
pub use color::{Color, series as series_color};
pub use colormap::{ColorMap, ENTRIES, Table};
pub use plot::sheet;

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
    /// How far y may be off, upwards and downwards, for each of the points; empty where that is not known.
    pub spread: Vec<f64>,
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

impl Mark {
    /// Across, at a value of y.
    pub fn level(name: impl Into<String>, at: f64) -> Self {
        Self { name: name.into(), at, vertical: false }
    }

    /// Upwards, at a value of x.
    pub fn upright(name: impl Into<String>, at: f64) -> Self {
        Self { name: name.into(), at, vertical: true }
    }
}

impl Figure {
    /// Adds a series.
    pub fn with(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// The points of a series in plot coordinates; those that an axis cannot show are left out.
    pub fn places(&self, series: &Series) -> Vec<[f64; 2]> {
        series.points.iter().filter_map(|&[x, y]| Some([self.x.place(x)?, self.y.place(y)?])).collect()
    }

    /// `[x, lowest y, highest y]` of the points of a series with a spread, in plot coordinates.
    pub fn spreads(&self, series: &Series) -> Vec<[f64; 3]> {
        let points = series.points.iter().zip(&series.spread);
        let lowest = if self.y.from_zero { 0.0 } else { f64::NEG_INFINITY };
        let ends = |(&[x, y], &off): (&[f64; 2], &f64)| {
            Some([self.x.place(x)?, self.y.place((y - off).max(lowest))?, self.y.place(y + off)?])
        };
        points.filter_map(ends).collect()
    }

    /// The colour of a series on a light or a dark background.
    pub fn color(&self, index: usize, dark: bool) -> Color {
        let series = self.series.get(index);
        match series.and_then(|s| s.shade) {
            // The end that would fade into the ground is left out.
            Some(shade) if dark => ColorMap::Viridis.table(true).at(0.95 - 0.6 * shade),
            Some(shade) => ColorMap::Viridis.table(false).at(0.05 + 0.65 * shade),
            None => series_color(series.and_then(|s| s.color).unwrap_or(index), dark),
        }
    }
}
