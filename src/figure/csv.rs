//! The one writer of CSV (RFC 4180): a dot before decimals, every digit that is needed, line ends of CR LF.

use super::Figure;

/// Rows of cells as a file. A text that a spreadsheet would take for a formula gets a quote before it.
pub fn table<Row>(rows: impl IntoIterator<Item = Row>) -> String
where
    Row: IntoIterator,
    Row::Item: AsRef<str>,
{
    let line = |row: Row| row.into_iter().map(|cell| field(cell.as_ref())).collect::<Vec<_>>().join(",") + "\r\n";
    rows.into_iter().map(line).collect()
}

/// The shortest text that reads back as the same number; empty for what is none.
pub fn number(value: impl Into<f64> + std::fmt::Display + Copy) -> String {
    if value.into().is_finite() { value.to_string() } else { String::new() }
}

impl Figure {
    /// One column for x and one for each series when all have the same x; otherwise rows of `series,x,y`. Marks follow as series of their own
    /// in the second form, and are left out of the first.
    pub fn csv(&self) -> String {
        let xs = |i: usize| self.series[i].points.iter().map(|p| p[0]);
        let same = !self.series.is_empty() && (1..self.series.len()).all(|i| xs(i).eq(xs(0)));
        let (x, y) = (label(&self.x.label, "x"), label(&self.y.label, "y"));
        let at = |x: f64| {
            let name = self.x.names.get(x.max(0.0) as usize).filter(|_| x >= 0.0 && x.fract() == 0.0);
            name.cloned().unwrap_or_else(|| number(x))
        };
        let mut rows: Vec<Vec<String>> = vec![];
        if same {
            let names = self.series.iter().map(|s| label(&s.name, y)).map(str::to_owned);
            rows.push(std::iter::once(x.to_owned()).chain(names).collect());
            for (i, x) in xs(0).enumerate() {
                let values = self.series.iter().map(|s| number(s.points[i][1]));
                rows.push(std::iter::once(at(x)).chain(values).collect());
            }
        } else {
            rows.push(vec!["series".into(), x.into(), y.into()]);
            for series in &self.series {
                rows.extend(series.points.iter().map(|&[x, y]| vec![series.name.clone(), at(x), number(y)]));
            }
            for mark in &self.marks {
                let at = number(mark.at);
                let (x, y) = if mark.vertical { (at, String::new()) } else { (String::new(), at) };
                rows.push(vec![mark.name.clone(), x, y]);
            }
        }
        table(rows)
    }
}

fn label<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

/// Quoted where it must be.
fn field(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '@', '\t']) || (text.starts_with('-') && text.parse::<f64>().is_err());
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::{Axis, Mark, Series};
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        assert_eq!(table([["a\tb", "1,5"], ["say \"x\"", "-3"]]), "a\tb,\"1,5\"\r\n\"say \"\"x\"\"\",-3\r\n");
        assert_eq!((number(0.1_f32), number(f64::NAN), number(-3.0)), ("0.1".into(), String::new(), "-3".into()));
    }

    #[test]
    fn the_same_x_gives_one_table() {
        let figure = Figure {
            x: Axis::linear("i"),
            y: Axis::log("σ"),
            series: vec![
                Series::line("a, \"b\"", vec![[1.0, 0.1], [2.0, 1e-300]]),
                Series::line("", vec![[1.0, -3.0], [2.0, f64::NAN]]),
            ],
            ..Figure::default()
        };
        assert_eq!(figure.csv(), format!("i,\"a, \"\"b\"\"\",σ\r\n1,0.1,-3\r\n2,{},\r\n", 1e-300));
        let ranks = Axis::named("r", vec!["1".into(), "full".into()]);
        let named = Figure { x: ranks, ..Figure::default() }.with(Series::line("loss", vec![[1.0, 0.5]]));
        assert_eq!(named.csv(), "r,loss\r\nfull,0.5\r\n");
    }

    #[test]
    fn different_x_gives_rows() {
        let figure = Figure {
            series: vec![Series::line("=a", vec![[1.0, 2.0]]), Series::line("-b", vec![[3.0, 4.0]])],
            marks: vec![Mark { name: "m".into(), at: 7.0, vertical: true }],
            ..Figure::default()
        };
        assert_eq!(figure.csv(), "series,x,y\r\n'=a,1,2\r\n'-b,3,4\r\nm,7,\r\n");
        assert_eq!(Figure::default().csv(), "series,x,y\r\n");
    }
}
