//! Pictures as CSV (RFC 4180): a dot before decimals, every digit that is needed, line ends of CR LF.

use super::figure::Figure;
use super::heatmap::Seen;

impl Figure {
    /// One column for x and one for each series when all have the same x; otherwise rows of `series,x,y`. Marks follow as series of their own
    /// in the second form, and are left out of the first.
    pub fn csv(&self) -> String {
        let xs = |i: usize| self.series[i].points.iter().map(|p| p[0]);
        let same = !self.series.is_empty() && (1..self.series.len()).all(|i| xs(i).eq(xs(0)));
        let (x, y) = (label(&self.x.label, "x"), label(&self.y.label, "y"));
        let mut rows: Vec<Vec<String>> = vec![];
        if same {
            let names = self.series.iter().map(|s| label(&s.name, y)).map(str::to_owned);
            rows.push(std::iter::once(x.to_owned()).chain(names).collect());
            for (i, at) in xs(0).enumerate() {
                let values = self.series.iter().map(|s| number(s.points[i][1]));
                rows.push(std::iter::once(number(at)).chain(values).collect());
            }
        } else {
            rows.push(vec!["series".into(), x.into(), y.into()]);
            for series in &self.series {
                rows.extend(series.points.iter().map(|&[x, y]| vec![series.name.clone(), number(x), number(y)]));
            }
            for mark in &self.marks {
                let at = number(mark.at);
                let (x, y) = if mark.vertical { (at, String::new()) } else { (String::new(), at) };
                rows.push(vec![mark.name.clone(), x, y]);
            }
        }
        let line = |row: Vec<String>| row.iter().map(|f| field(f)).collect::<Vec<_>>().join(",") + "\r\n";
        rows.into_iter().map(line).collect()
    }
}

impl Seen {
    /// What is seen as a table: the first row and the first column hold the numbers of the first cell that each texel stands for.
    pub fn csv(&self) -> String {
        let [rows, cols] = &self.texels;
        let [height, width] = self.picture.levels().get(self.level).cells();
        let block = self.picture.block(self.level, rows.clone(), cols.clone());
        let mut out = String::from("row \\ column");
        for col in cols.clone() {
            out += &format!(",{}", col * width);
        }
        for (i, row) in rows.clone().enumerate() {
            out += &format!("\r\n{}", row * height);
            for &value in block.row(i) {
                out.push(',');
                if value.is_finite() {
                    out += &value.to_string();
                }
            }
        }
        out + "\r\n"
    }
}

fn label<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

/// The shortest text that reads back as the same number; empty for what is none.
fn number(value: f64) -> String {
    if value.is_finite() { format!("{value}") } else { String::new() }
}

/// Quoted where it must be. A text that a spreadsheet would take for a formula gets a quote before it.
fn field(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '@', '\t']) || (text.starts_with('-') && text.parse::<f64>().is_err());
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::figure::{Mark, Series};
    use super::super::picture::Reduction;
    use super::super::plot::Axis;
    use super::super::pyramid::Pyramid;
    use super::*;
    use crate::matrix::Matrix;
    use std::sync::Arc;

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
    }

    #[test]
    fn what_is_seen_of_a_matrix_is_a_table() {
        let source = Matrix::from_fn(130, 128, |r, c| (r * 1000 + c) as f32);
        let picture = Arc::new(Pyramid::build(Arc::new(source), Reduction::Mean, &()).unwrap());
        let seen = Seen { picture: picture.clone(), level: 0, texels: [1..3, 5..7] };
        assert_eq!(seen.csv(), "row \\ column,5,6\r\n1,1005,1006\r\n2,2005,2006\r\n");
        let far = Seen { picture, level: 1, texels: [64..65, 0..1] };
        assert_eq!(far.csv(), "row \\ column,0\r\n128,128500.5\r\n");
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
