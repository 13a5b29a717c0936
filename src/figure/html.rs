//! The one writer of HTML: a report as one file with text, tables and drawings inside it, nothing to be loaded from anywhere.

use minijinja::{Environment, context};
use serde::Serialize;

use crate::error::{Error, Result};

/// What is not text in a report; the ending of its name makes minijinja escape what is put in.
const TEMPLATE: (&str, &str) = ("report.html", include_str!("report.html"));

/// A part of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Piece {
    /// A paragraph.
    Text(String),
    /// A drawing: an SVG element.
    Drawing(String),
    /// Rows of cells.
    Table(Table),
    /// Something to be copied.
    Code {
        /// What it is.
        name: String,
        /// Its text.
        text: String,
    },
}

/// Rows of cells, the first of them the heading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Table {
    rows: Vec<Vec<String>>,
    /// Columns of numbers: they stand to the right.
    numeric: Vec<bool>,
}

impl Piece {
    /// A table with a heading.
    pub fn table(rows: Vec<Vec<String>>) -> Self {
        let is_number =
            |cell: &String| cell.is_empty() || cell.starts_with(|c: char| c.is_ascii_digit() || "-–−".contains(c));
        let all = |column| rows.len() > 1 && rows[1..].iter().all(|row| row.get(column).is_some_and(is_number));
        let numeric = (0..rows.first().map_or(0, Vec::len)).map(all).collect();
        Self::Table(Table { rows, numeric })
    }
}

/// A heading with what stands under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Section {
    title: String,
    pieces: Vec<Piece>,
}

/// A report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    title: String,
    sections: Vec<Section>,
}

impl Report {
    /// With a title.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), sections: Vec::new() }
    }

    /// Adds a section.
    pub fn section(&mut self, title: impl Into<String>, pieces: Vec<Piece>) {
        self.sections.push(Section { title: title.into(), pieces });
    }

    /// The text of the file.
    ///
    /// # Errors
    /// When the template cannot be filled in, which only a mistake in it would cause.
    pub fn html(&self) -> Result<String> {
        let Self { title, sections } = self;
        Environment::new()
            .render_named_str(TEMPLATE.0, TEMPLATE.1, context! { title, sections })
            .map_err(|error| Error::failure(format!("cannot write the report: {error:#}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_escaped_but_drawings() {
        let mut report = Report::new("a & b");
        let rows = [["module", "rank"], ["head<b>", "8"], ["\"q\"", "–"]].map(|row| row.map(str::to_owned).to_vec());
        let code = Piece::Code { name: "config".into(), text: "<x>\n  y".into() };
        let pieces =
            vec![Piece::Text("1 < 2".into()), Piece::Drawing("<svg/>\n".into()), Piece::table(rows.to_vec()), code];
        report.section("Ranks", pieces);
        let html = report.html().unwrap();
        for part in [
            "<title>a &amp; b</title>",
            "<h2>Ranks</h2>\n<p>1 &lt; 2</p>\n<figure>\n<svg/>\n</figure>",
            "<tr><th>module</th><th class=\"n\">rank</th></tr>",
            "<tr><td>head&lt;b&gt;</td><td class=\"n\">8</td></tr>",
            "<p>config</p>\n<pre>&lt;x&gt;\n  y</pre>",
        ] {
            assert!(html.contains(part), "{part} in {html}");
        }
    }
}
