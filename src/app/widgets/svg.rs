//! A [`Figure`] as SVG: text of its own, no fonts or files needed, light background.

use std::fmt::Write as _;

use super::figure::{Figure, Series, Style};
use super::number;
use super::plot::{self, Axis};

const LEFT: f64 = 72.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 52.0;
const GRID: &str = "#dcdcdc";
const INK: &str = "#333333";

/// Dots are written where they are at least this far apart, from the first one on.
const APART: f64 = 5.0;

impl Figure {
    /// The figure as an SVG document of this size, in pixels.
    pub fn svg(&self, width: f64, height: f64) -> String {
        let bounds = self.bounds();
        let sheet = Sheet { figure: self, width: width.max(200.0), height: height.max(150.0), bounds };
        sheet.document()
    }

    /// `[low, high]` of both axes in plot coordinates, with a little room around.
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
        bounds.map(|[low, high]| {
            if low > high {
                return [0.0, 1.0];
            }
            let room = if high > low { (high - low) * 0.04 } else { low.abs().max(1.0) * 0.1 };
            [low - room, high + room]
        })
    }
}

struct Sheet<'a> {
    figure: &'a Figure,
    width: f64,
    height: f64,
    bounds: [[f64; 2]; 2],
}

impl Sheet<'_> {
    fn x(&self, place: f64) -> f64 {
        let [low, high] = self.bounds[0];
        LEFT + (place - low) / (high - low) * (self.width - LEFT - RIGHT)
    }

    fn y(&self, place: f64) -> f64 {
        let [low, high] = self.bounds[1];
        self.height - BOTTOM - (place - low) / (high - low) * (self.height - TOP - BOTTOM)
    }

    fn document(&self) -> String {
        let (w, h, title) = (self.width, self.height, escape(&self.figure.title));
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" role=\"img\" \
             font-family=\"Inter, 'Segoe UI', Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"{INK}\">\n\
             <title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <clipPath id=\"frame\"><rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/></clipPath>\n\
             <text x=\"{LEFT}\" y=\"22\" font-size=\"14\" font-weight=\"600\">{title}</text>\n",
            w - LEFT - RIGHT,
            h - TOP - BOTTOM,
        );
        self.axes(&mut out);
        out.push_str("<g clip-path=\"url(#frame)\">\n");
        for mark in &self.figure.marks {
            self.mark(&mut out, mark.vertical, mark.at);
        }
        for (i, series) in self.figure.series.iter().enumerate() {
            self.series(&mut out, i, series);
        }
        out.push_str("</g>\n");
        self.legend(&mut out);
        out.push_str("</svg>\n");
        out
    }

    fn axes(&self, out: &mut String) {
        let (bottom, right) = (self.height - BOTTOM, self.width - RIGHT);
        for (place, label) in ticks(&self.figure.x, self.bounds[0], 9) {
            let x = self.x(place);
            line(out, [x, TOP, x, bottom], GRID, "");
            text(out, [x, bottom + 17.0], "middle", &label);
        }
        for (place, label) in ticks(&self.figure.y, self.bounds[1], 7) {
            let y = self.y(place);
            line(out, [LEFT, y, right, y], GRID, "");
            text(out, [LEFT - 7.0, y + 4.0], "end", &label);
        }
        line(out, [LEFT, TOP, LEFT, bottom], INK, "");
        line(out, [LEFT, bottom, right, bottom], INK, "");
        text(out, [(LEFT + right) / 2.0, self.height - 12.0], "middle", &self.figure.x.label);
        let _ = writeln!(
            out,
            "<text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (TOP + bottom) / 2.0,
            escape(&self.figure.y.label)
        );
    }

    fn mark(&self, out: &mut String, vertical: bool, at: f64) {
        let (bottom, right) = (self.height - BOTTOM, self.width - RIGHT);
        let axis = if vertical { &self.figure.x } else { &self.figure.y };
        let Some(place) = axis.place(at) else { return };
        let ends = if vertical {
            [self.x(place), TOP, self.x(place), bottom]
        } else {
            [LEFT, self.y(place), right, self.y(place)]
        };
        line(out, ends, INK, " stroke-dasharray=\"4 3\"");
    }

    fn series(&self, out: &mut String, index: usize, series: &Series) {
        let color = hex(self.figure.color(index, false));
        let points: Vec<[f64; 2]> =
            self.figure.places(series).into_iter().map(|[x, y]| [self.x(x), self.y(y)]).collect();
        let joined = || points.iter().map(|[x, y]| format!("{x:.2},{y:.2}")).collect::<Vec<_>>().join(" ");
        if let (Style::Area, Some(first), Some(last)) = (series.style, points.first(), points.last()) {
            let low = if self.figure.y.log { self.height - BOTTOM } else { self.y(0.0) };
            let corners = format!("{:.2},{low:.2} {} {:.2},{low:.2}", first[0], joined(), last[0]);
            let _ = writeln!(out, "<polygon points=\"{corners}\" fill=\"{color}\" fill-opacity=\"0.15\"/>");
        }
        if series.style != Style::Points {
            let dash = if series.style == Style::Dashed { " stroke-dasharray=\"7 4\"" } else { "" };
            let _ = writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.6\" stroke-linejoin=\"round\"{dash}/>",
                joined()
            );
        }
        let close = |pair: &[[f64; 2]]| (pair[1][0] - pair[0][0]).hypot(pair[1][1] - pair[0][1]) < APART;
        let dots = match series.style {
            Style::Points => points.len(),
            Style::LinePoints => points.windows(2).position(close).map_or(points.len(), |i| i + 1),
            _ => 0,
        };
        for [x, y] in &points[..dots] {
            let _ = writeln!(out, "<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"2.4\" fill=\"{color}\"/>");
        }
    }

    /// Names, at the top right, with a piece of each line.
    fn legend(&self, out: &mut String) {
        let series = self.figure.series.iter().enumerate();
        let lines = series.map(|(i, s)| (&s.name, hex(self.figure.color(i, false)), s.style == Style::Dashed));
        let marks = self.figure.marks.iter().map(|m| (&m.name, INK.to_owned(), true));
        let entries: Vec<_> = lines.chain(marks).collect();
        if entries.len() < 2 {
            return;
        }
        let right = self.width - RIGHT - 8.0;
        // Text cannot be measured here: half an em and a bit for each letter.
        let longest = entries.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0) as f64;
        let (width, height) = (longest * 6.8 + 42.0, 17.0 * entries.len() as f64 + 8.0);
        let _ = writeln!(
            out,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"3\" fill=\"#ffffff\" fill-opacity=\"0.85\"/>",
            right - width + 4.0,
            TOP + 1.0
        );
        for (i, (name, color, dashed)) in entries.into_iter().enumerate() {
            let y = TOP + 16.0 + 17.0 * i as f64;
            let dash = if dashed { " stroke-dasharray=\"4 3\"" } else { "" };
            line(out, [right - 20.0, y - 4.0, right, y - 4.0], &color, &format!("{dash} stroke-width=\"2\""));
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>",
                right - 26.0,
                escape(name)
            );
        }
    }
}

/// Places and labels along an axis.
fn ticks(axis: &Axis, [low, high]: [f64; 2], count: usize) -> Vec<(f64, String)> {
    if !axis.log || high - low < 1.0 {
        let at = |place: f64| number::short(axis.value(place), if axis.log { 2 } else { 4 });
        return number::ticks(low, high, count).into_iter().map(|t| (t, at(t))).collect();
    }
    let every = ((high - low) / count as f64).ceil().max(1.0) as i32;
    let first = low.ceil() as i32;
    (first..=high.floor() as i32)
        .step_by(every as usize)
        .map(|e| (f64::from(e), plot::log_label(f64::from(e), high - low)))
        .collect()
}

fn line(out: &mut String, [x1, y1, x2, y2]: [f64; 4], color: &str, more: &str) {
    let _ =
        writeln!(out, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{color}\"{more}/>");
}

fn text(out: &mut String, [x, y]: [f64; 2], anchor: &str, words: &str) {
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(words));
}

fn hex(color: eframe::egui::Color32) -> String {
    format!("#{:02x}{:02x}{:02x}", color.r(), color.g(), color.b())
}

/// Text that is safe in XML, between tags and in attributes. Characters that XML cannot hold at all are left out.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\t' | '\n' => safe.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::figure::Mark;
    use super::*;

    fn figure() -> Figure {
        Figure {
            title: "σ of <\"model\"> & more\u{0}".into(),
            x: Axis::linear("i"),
            y: Axis::log("σ"),
            series: vec![
                Series::line("a < b", vec![[1.0, 10.0], [2.0, 0.0], [3.0, 0.1], [4.0, f64::NAN]]),
                Series::line("area", vec![[1.0, 1.0], [4.0, 2.0]]).style(Style::Area),
            ],
            quiet: false,
            marks: vec![Mark { name: "edge".into(), at: 0.5, vertical: false }],
            timeline: None,
        }
    }

    #[test]
    fn everything_is_escaped() {
        let svg = figure().svg(640.0, 400.0);
        assert!(svg.contains("<title>σ of &lt;&quot;model&quot;&gt; &amp; more</title>"));
        assert!(svg.contains("a &lt; b") && !svg.contains("a < b") && !svg.contains('\u{0}'));
        // Tags are balanced: as many as are opened are closed or close themselves.
        let count = |pattern: &str| svg.matches(pattern).count();
        assert_eq!(count("<") - count("</"), count("/>") + count("</"));
    }

    #[test]
    fn only_what_the_axes_can_show_is_drawn() {
        let svg = figure().svg(640.0, 400.0);
        let line = svg.lines().find(|l| l.starts_with("<polyline")).unwrap();
        assert_eq!(line.matches(',').count(), 2, "zero on a log axis and NaN are left out: {line}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(svg.contains(">10⁻¹<") && svg.contains("stroke-dasharray"));
    }

    #[test]
    fn an_empty_figure_is_still_a_picture() {
        let svg = Figure::default().svg(0.0, f64::NAN);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
    }
}
