//! The study as a drawing (SVG): loss against rank, a panel for each length of each set.

use super::study::{Length, Outcome, RANKS, Results, name, outcomes};
use std::fmt::Write as _;

const PANEL: [f64; 2] = [270.0, 190.0];
const MARGIN: [f64; 2] = [56.0, 64.0];
const INK: &str = "#333333";
const GRID: &str = "#dddddd";
/// At the best rate of each rank, and at one rate for all: colours that the colour-blind tell apart.
const LINES: [(&str, &str); 2] = [("#0072b2", "best rate of each rank"), ("#d55e00", "one rate for all, 3e-3")];

/// What is complete of these lengths; `None` where nothing is.
pub fn plot(lengths: &[Length], results: &Results) -> Option<String> {
    let panels: Vec<(&Length, Vec<Option<[Outcome; 2]>>)> = lengths
        .iter()
        .map(|length| (length, RANKS.map(|rank| outcomes(length, rank, results)).to_vec()))
        .filter(|(_, values)| values.iter().any(Option::is_some))
        .collect();
    if panels.is_empty() {
        return None;
    }
    let columns = panels.len().min(3);
    let rows = panels.len().div_ceil(columns);
    let (step_x, step_y) = (PANEL[0] + MARGIN[0] + 14.0, PANEL[1] + MARGIN[1] + 14.0);
    let (width, height) = (columns as f64 * step_x, rows as f64 * step_y + 30.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} \
         {height:.0}\" role=\"img\" font-family=\"Inter, 'Segoe UI', Helvetica, Arial, sans-serif\" font-size=\"12\" \
         fill=\"{INK}\">\n<title>Loss against rank</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for (at, (color, text)) in LINES.iter().enumerate() {
        let x = MARGIN[0] + 190.0 * at as f64;
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"16\" x2=\"{:.0}\" y2=\"16\" stroke=\"{color}\" stroke-width=\"2.5\"/>\
             <text x=\"{:.0}\" y=\"20\">{text}</text>",
            x + 22.0,
            x + 28.0
        );
    }
    for (at, (length, values)) in panels.iter().enumerate() {
        let left = (at % columns) as f64 * step_x + MARGIN[0];
        let top = (at / columns) as f64 * step_y + 30.0 + 34.0;
        panel(&mut out, [left, top], length, values);
    }
    out.push_str("</svg>\n");
    Some(out)
}

fn panel(out: &mut String, [left, top]: [f64; 2], length: &Length, values: &[Option<[Outcome; 2]>]) {
    let finite = values.iter().flatten().flatten().filter(|of| of.mean.is_finite());
    let most = finite.map(|of| of.mean + of.spread).fold(0.1, f64::max) * 1.05;
    let x = |at: usize| left + PANEL[0] * (at as f64 + 0.5) / values.len() as f64;
    let y = |loss: f64| top + PANEL[1] * (1.0 - (loss / most).clamp(0.0, 1.0));
    let what = if length.set == super::Set::Facts { "loss on what was trained" } else { "held-out loss" };
    let _ = writeln!(
        out,
        "<text x=\"{left}\" y=\"{:.0}\" font-weight=\"600\">{}, {} steps</text>\
         <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" font-size=\"11\">{what}</text>",
        top - 12.0,
        length.set.stem(),
        length.steps,
        left + PANEL[0],
        top - 12.0
    );
    for line in 0..=4 {
        let loss = most * f64::from(line) / 4.0;
        let _ = writeln!(
            out,
            "<line x1=\"{left}\" y1=\"{0:.1}\" x2=\"{1:.0}\" y2=\"{0:.1}\" stroke=\"{GRID}\"/>\
             <text x=\"{2:.0}\" y=\"{3:.1}\" text-anchor=\"end\" font-size=\"11\">{loss:.2}</text>",
            y(loss),
            left + PANEL[0],
            left - 6.0,
            y(loss) + 4.0
        );
    }
    for (at, rank) in RANKS.into_iter().enumerate() {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\" font-size=\"11\">{}</text>",
            x(at),
            top + PANEL[1] + 16.0,
            name(rank)
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\" font-size=\"11\">rank r</text>",
        left + PANEL[0] / 2.0,
        top + PANEL[1] + 32.0
    );
    // The best rates last: they lie on top.
    for which in [1, 0] {
        let color = LINES[which].0;
        let points: Vec<(usize, &Outcome)> = values
            .iter()
            .enumerate()
            .filter_map(|(at, of)| Some((at, &of.as_ref()?[which])))
            .filter(|(_, of)| of.mean.is_finite())
            .collect();
        let path: Vec<String> = points.iter().map(|(at, of)| format!("{:.1},{:.1}", x(*at), y(of.mean))).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for (at, of) in points {
            let _ = writeln!(
                out,
                "<line x1=\"{0:.1}\" y1=\"{1:.1}\" x2=\"{0:.1}\" y2=\"{2:.1}\" stroke=\"{color}\" stroke-width=\"1.5\"/>\
                 <circle cx=\"{0:.1}\" cy=\"{3:.1}\" r=\"3.5\" fill=\"{color}\"/>",
                x(at),
                y(of.mean - of.spread),
                y(of.mean + of.spread),
                y(of.mean)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::study::{COMMON, LONG, Line, SEEDS, SHORT};
    use super::*;

    #[test]
    fn ranks_that_are_complete_are_drawn_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut results = Results::open(&folder.path().join("study.csv")).unwrap();
        let lengths = [SHORT[2], LONG[0]];
        assert_eq!(plot(&lengths, &results), None);
        for (rank, seeds) in [(Some(4), 3), (Some(8), 2)] {
            for (seed, lr) in SEEDS.into_iter().take(seeds).flat_map(|seed| [(seed, COMMON), (seed, 1e-2)]) {
                let train = if lr == COMMON { 2.0 } else { 1.0 + 0.1 * seed as f64 };
                let (length, trainable) = (SHORT[2], 1000);
                results
                    .add(Line { length, rank, lr, seed, trainable, train, eval: 9.0, exact: Some(0.5), seconds: 1.0 })
                    .unwrap();
            }
        }
        let drawing = plot(&lengths, &results).unwrap();
        assert!(drawing.contains("facts, 600 steps") && !drawing.contains("1800 steps"));
        assert_eq!(drawing.matches("<circle").count(), 2, "rank 4, at two rates");
        let [best, common] = outcomes(&SHORT[2], Some(4), &results).unwrap();
        assert_eq!((best.lr, common.mean, common.spread), (1e-2, 2.0, 0.0));
        assert!((best.mean - 1.2).abs() < 1e-12 && (best.spread - 0.1).abs() < 1e-12);
    }
}
