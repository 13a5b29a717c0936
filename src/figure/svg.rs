//! The one writer of SVG: a document with a title, in a common look, without fonts or files of its own, on white.

use std::fmt::{self, Write as _};

use super::color::Color;

/// Where a text stands in relation to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The place is where it begins.
    Start,
    /// It is centred.
    Middle,
    /// The place is where it ends.
    End,
}

/// A document that is being written. Sizes and places are in pixels, x to the right, y down.
///
/// `more` of its methods is further attributes as they stand in the file, each with a blank before it; it is code and never text from a file.
#[derive(Clone, Debug)]
pub struct Svg(String);

impl Svg {
    /// A white sheet of this size. The title is what a screen reader says; it is not drawn.
    pub fn new(title: &str, [width, height]: [f64; 2]) -> Self {
        let (ink, white) = (Color::INK, Color::WHITE);
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             role=\"img\" font-family=\"Inter, 'Segoe UI', Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"{ink}\">\n\
             <title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"{white}\"/>\n",
            escape(title)
        ))
    }

    /// An element as it stands in the file.
    pub fn raw(&mut self, element: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{element}");
    }

    /// A heading, larger than other text.
    pub fn heading(&mut self, at: [f64; 2], words: &str) {
        self.text(at, Anchor::Start, words, " font-size=\"14\" font-weight=\"600\"");
    }

    /// A line of text; `at` is on its baseline.
    pub fn text(&mut self, [x, y]: [f64; 2], anchor: Anchor, words: &str, more: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        self.raw(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\"{anchor}{more}>{}</text>", escape(words)));
    }

    /// A straight line between two points.
    pub fn line(&mut self, [x1, y1, x2, y2]: [f64; 4], color: Color, more: &str) {
        self.raw(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{color}\"{more}/>"
        ));
    }

    /// A filled rectangle: left, top, width, height.
    pub fn rect(&mut self, [x, y, width, height]: [f64; 4], fill: Color, more: &str) {
        self.raw(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"{more}/>"
        ));
    }

    /// A filled circle.
    pub fn dot(&mut self, [x, y]: [f64; 2], radius: f64, fill: Color) {
        self.raw(format_args!("<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"{radius}\" fill=\"{fill}\"/>"));
    }

    /// A line through points.
    pub fn polyline(&mut self, points: &[[f64; 2]], color: Color, more: &str) {
        let points = joined(points);
        self.raw(format_args!("<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\"{more}/>"));
    }

    /// A filled shape with these corners.
    pub fn polygon(&mut self, points: &[[f64; 2]], fill: Color, more: &str) {
        let points = joined(points);
        self.raw(format_args!("<polygon points=\"{points}\" fill=\"{fill}\"{more}/>"));
    }

    /// The text of the file.
    pub fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

fn joined(points: &[[f64; 2]]) -> String {
    points.iter().map(|[x, y]| format!("{x:.2},{y:.2}")).collect::<Vec<_>>().join(" ")
}

/// Text that is safe in XML, between tags and in attributes. Characters that XML cannot hold at all are left out.
fn escape(text: &str) -> String {
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
    use super::*;

    #[test]
    fn text_is_escaped_and_tags_are_balanced() {
        let mut svg = Svg::new("σ of <\"model\"> & more\u{0}", [640.0, 400.0]);
        svg.text([1.0, 2.0], Anchor::Middle, "a < b", "");
        svg.polyline(&[[0.0, 1.0], [2.0, 3.0]], Color::INK, "");
        let svg = svg.finish();
        assert!(svg.contains("<title>σ of &lt;&quot;model&quot;&gt; &amp; more</title>"));
        assert!(svg.contains("a &lt; b") && !svg.contains("a < b") && !svg.contains('\u{0}'));
        // As many tags as are opened are closed or close themselves.
        let count = |pattern: &str| svg.matches(pattern).count();
        assert_eq!(count("<") - count("</"), count("/>") + count("</"));
    }
}
