//! A [`Figure`] as SVG, or several of them on one sheet.

use super::svg::{Anchor, Svg};
use super::{Axis, Color, Figure, Series, Style};

const LEFT: f64 = 72.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 52.0;
const DASHES: &str = " stroke-dasharray=\"4 3\"";

/// Dots are written where they are at least this far apart, from the first one on.
const APART: f64 = 5.0;

impl Figure {
    /// The figure as an SVG document of this size, in pixels.
    pub fn svg(&self, width: f64, height: f64) -> String {
        let size = [width.max(200.0), height.max(150.0)];
        let mut svg = Svg::new(&self.title, size);
        let sheet = Sheet { figure: self, corner: [0.0; 2], size, bounds: self.bounds() };
        sheet.draw(&mut svg, 0);
        sheet.legend(&mut svg);
        svg.finish()
    }

    /// `[low, high]` of both axes in plot coordinates, with a little room around what is not fixed.
    fn bounds(&self) -> [[f64; 2]; 2] {
        let mut bounds = [[f64::INFINITY, f64::NEG_INFINITY]; 2];
        let mut include = |axis: usize, place: f64| {
            bounds[axis] = [bounds[axis][0].min(place), bounds[axis][1].max(place)];
        };
        for series in &self.series {
            for [x, y] in self.places(series) {
                include(0, x);
                include(1, y);
            }
            for [_, low, high] in self.spreads(series) {
                include(1, low);
                include(1, high);
            }
            if series.style == Style::Area && !self.y.log {
                include(1, 0.0);
            }
        }
        for mark in &self.marks {
            let (axis, of) = if mark.vertical { (0, &self.x) } else { (1, &self.y) };
            if let Some(place) = of.place(mark.at) {
                include(axis, place);
            }
        }
        let with_room = |[low, high]: [f64; 2], axis: &Axis| {
            let always = axis.always();
            let (low, high) = always.iter().fold((low, high), |(low, high), &at| (low.min(at), high.max(at)));
            if low > high {
                return [0.0, 1.0];
            }
            let room = if high > low { (high - low) * 0.04 } else { low.abs().max(1.0) * 0.1 };
            let fixed = |end: f64| if always.contains(&end) { 0.0 } else { room };
            let (low, high) = (low - fixed(low), high + fixed(high));
            if high > low { [low, high] } else { [low - room, high + room] }
        };
        [with_room(bounds[0], &self.x), with_room(bounds[1], &self.y)]
    }

    /// Names of series and marks with their colours, dashed or not.
    fn names(&self) -> Vec<(&str, Color, bool)> {
        let series = self.series.iter().enumerate();
        let series = series.map(|(i, s)| (s.name.as_str(), self.color(i, false), s.style == Style::Dashed));
        series.chain(self.marks.iter().map(|mark| (mark.name.as_str(), Color::INK, true))).collect()
    }
}

/// Several figures of one size side by side, `columns` in a row, below one legend: that of the first.
pub fn sheet(title: &str, figures: &[Figure], columns: usize, [width, height]: [f64; 2]) -> String {
    const LEGEND: f64 = 30.0;
    let columns = columns.clamp(1, figures.len().max(1));
    let rows = figures.len().div_ceil(columns);
    let mut svg = Svg::new(title, [width * columns as f64, LEGEND + height * rows as f64]);
    let mut x = LEFT;
    for (name, color, dashed) in figures.first().map(Figure::names).unwrap_or_default() {
        let dashes = if dashed { DASHES } else { "" };
        svg.line([x, 16.0, x + 22.0, 16.0], color, &format!(" stroke-width=\"2.5\"{dashes}"));
        svg.text([x + 28.0, 20.0], Anchor::Start, name, "");
        x += 28.0 + text_width(name) + 24.0;
    }
    for (at, figure) in figures.iter().enumerate() {
        let corner = [(at % columns) as f64 * width, LEGEND + (at / columns) as f64 * height];
        Sheet { figure, corner, size: [width, height], bounds: figure.bounds() }.draw(&mut svg, at);
    }
    svg.finish()
}

/// Text cannot be measured here: half an em and a bit for each letter.
fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * 6.8
}

struct Sheet<'a> {
    figure: &'a Figure,
    corner: [f64; 2],
    size: [f64; 2],
    bounds: [[f64; 2]; 2],
}

impl Sheet<'_> {
    /// Left, top, right and bottom of the frame.
    fn frame(&self) -> [f64; 4] {
        let ([x, y], [width, height]) = (self.corner, self.size);
        [x + LEFT, y + TOP, x + width - RIGHT, y + height - BOTTOM]
    }

    fn x(&self, place: f64) -> f64 {
        let ([left, _, right, _], [low, high]) = (self.frame(), self.bounds[0]);
        left + (place - low) / (high - low) * (right - left)
    }

    fn y(&self, place: f64) -> f64 {
        let ([_, top, _, bottom], [low, high]) = (self.frame(), self.bounds[1]);
        bottom - (place - low) / (high - low) * (bottom - top)
    }

    fn draw(&self, svg: &mut Svg, id: usize) {
        let [left, top, right, bottom] = self.frame();
        svg.heading([left, self.corner[1] + 22.0], &self.figure.title);
        self.axes(svg);
        svg.raw(format_args!(
            "<clipPath id=\"frame{id}\"><rect x=\"{left}\" y=\"{top}\" width=\"{:.1}\" height=\"{:.1}\"/></clipPath>\n\
             <g clip-path=\"url(#frame{id})\">",
            right - left,
            bottom - top
        ));
        for mark in &self.figure.marks {
            self.mark(svg, mark.vertical, mark.at);
        }
        for (i, series) in self.figure.series.iter().enumerate() {
            self.series(svg, self.figure.color(i, false), series);
        }
        svg.raw(format_args!("</g>"));
    }

    fn axes(&self, svg: &mut Svg) {
        let [left, top, right, bottom] = self.frame();
        // Numbers need about 70 pixels across and 32 down.
        for (place, label) in self.figure.x.ticks(self.bounds[0], ((right - left) / 70.0).clamp(2.0, 9.0) as usize) {
            let x = self.x(place);
            svg.line([x, top, x, bottom], Color::GRID, "");
            svg.text([x, bottom + 17.0], Anchor::Middle, &label, "");
        }
        for (place, label) in self.figure.y.ticks(self.bounds[1], ((bottom - top) / 32.0).clamp(2.0, 7.0) as usize) {
            let y = self.y(place);
            svg.line([left, y, right, y], Color::GRID, "");
            svg.text([left - 7.0, y + 4.0], Anchor::End, &label, "");
        }
        svg.line([left, top, left, bottom], Color::INK, "");
        svg.line([left, bottom, right, bottom], Color::INK, "");
        svg.text([(left + right) / 2.0, bottom + 40.0], Anchor::Middle, &self.figure.x.label, "");
        let turned = format!(" transform=\"translate({:.1} {:.1}) rotate(-90)\"", left - 54.0, (top + bottom) / 2.0);
        svg.text([0.0, 0.0], Anchor::Middle, &self.figure.y.label, &turned);
    }

    fn mark(&self, svg: &mut Svg, vertical: bool, at: f64) {
        let [left, top, right, bottom] = self.frame();
        let axis = if vertical { &self.figure.x } else { &self.figure.y };
        let Some(place) = axis.place(at) else { return };
        let ends = if vertical {
            [self.x(place), top, self.x(place), bottom]
        } else {
            [left, self.y(place), right, self.y(place)]
        };
        svg.line(ends, Color::INK, DASHES);
    }

    fn series(&self, svg: &mut Svg, color: Color, series: &Series) {
        let points: Vec<[f64; 2]> =
            self.figure.places(series).into_iter().map(|[x, y]| [self.x(x), self.y(y)]).collect();
        if let (Style::Area, Some(first), Some(last)) = (series.style, points.first(), points.last()) {
            let low = if self.figure.y.log { self.frame()[3] } else { self.y(0.0) };
            let corners = [&[[first[0], low]], &points[..], &[[last[0], low]]].concat();
            svg.polygon(&corners, color, " fill-opacity=\"0.15\"");
        }
        if series.style != Style::Points {
            let dashes = if series.style == Style::Dashed { " stroke-dasharray=\"7 4\"" } else { "" };
            svg.polyline(&points, color, &format!(" stroke-width=\"1.6\" stroke-linejoin=\"round\"{dashes}"));
        }
        for [x, low, high] in self.figure.spreads(series) {
            let x = self.x(x);
            svg.line([x, self.y(low), x, self.y(high)], color, " stroke-width=\"1.5\"");
        }
        let close = |pair: &[[f64; 2]]| (pair[1][0] - pair[0][0]).hypot(pair[1][1] - pair[0][1]) < APART;
        let dots = match series.style {
            Style::Points => points.len(),
            Style::LinePoints => points.windows(2).position(close).map_or(points.len(), |i| i + 1),
            _ => 0,
        };
        for &point in &points[..dots] {
            svg.dot(point, 2.4, color);
        }
    }

    /// Names, at the top right, with a piece of each line.
    fn legend(&self, svg: &mut Svg) {
        let names = self.figure.names();
        if names.len() < 2 {
            return;
        }
        let [_, top, right, _] = self.frame();
        let right = right - 8.0;
        let width = names.iter().map(|(name, ..)| text_width(name)).fold(0.0, f64::max) + 42.0;
        let height = 17.0 * names.len() as f64 + 8.0;
        let ground = [right - width + 4.0, top + 1.0, width, height];
        svg.rect(ground, Color::WHITE, " rx=\"3\" fill-opacity=\"0.85\"");
        for (i, (name, color, dashed)) in names.into_iter().enumerate() {
            let y = top + 16.0 + 17.0 * i as f64;
            let dashes = if dashed { DASHES } else { "" };
            svg.line([right - 20.0, y - 4.0, right, y - 4.0], color, &format!("{dashes} stroke-width=\"2\""));
            svg.text([right - 26.0, y], Anchor::End, name, "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mark;
    use super::*;

    fn figure() -> Figure {
        Figure {
            title: "σ".into(),
            x: Axis::linear("i"),
            y: Axis::log("σ"),
            series: vec![
                Series::line("a", vec![[1.0, 10.0], [2.0, 0.0], [3.0, 0.1], [4.0, f64::NAN]]),
                Series::line("area", vec![[1.0, 1.0], [4.0, 2.0]]).style(Style::Area),
            ],
            marks: vec![Mark { name: "edge".into(), at: 0.5, vertical: false }],
            ..Figure::default()
        }
    }

    #[test]
    fn only_what_the_axes_can_show_is_drawn() {
        let svg = figure().svg(640.0, 400.0);
        let line = svg.lines().find(|l| l.starts_with("<polyline")).unwrap();
        assert_eq!(line.matches(',').count(), 2, "zero on a log axis and NaN are left out: {line}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(svg.contains(">0.1<") && svg.contains("stroke-dasharray"));
    }

    #[test]
    fn an_empty_figure_is_still_a_picture() {
        let svg = Figure::default().svg(0.0, f64::NAN);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
        assert!(!sheet("", &[], 3, [300.0, 200.0]).contains("NaN"));
    }

    #[test]
    fn an_axis_from_zero_begins_there_and_spreads_are_within() {
        let mut figure = Figure { y: Axis { from_zero: true, ..Axis::linear("loss") }, ..Figure::default() };
        figure.series.push(Series { spread: vec![2.5, 1.0], ..Series::line("a", vec![[0.0, 2.0], [1.0, 3.0]]) });
        let [_, [low, high]] = figure.bounds();
        assert!(low == 0.0 && high > 4.0, "{low} to {high}");
        let drawn = sheet("two", &[figure.clone(), figure], 2, [300.0, 200.0]);
        assert_eq!(drawn.matches("stroke-width=\"1.5\"").count(), 4, "a line for each point of each figure");
        assert!(drawn.contains("id=\"frame0\"") && drawn.contains("id=\"frame1\""));
        assert_eq!(drawn.matches(">a<").count(), 1, "one legend for both");
    }
}
