//! The study as a drawing: loss against rank, a panel for each length of each set.

use super::Set;
use super::study::{Length, Outcome, RANKS, Results, name, outcomes};
use crate::figure::{Axis, Figure, Series, Style, sheet};

/// At the best rate of each rank, and at one rate for all.
const LINES: [&str; 2] = ["best rate of each rank", "one rate for all, 3e-3"];

/// What is complete of these lengths, as SVG; `None` where nothing is.
pub fn plot(lengths: &[Length], results: &Results) -> Option<String> {
    let panels: Vec<Figure> = lengths.iter().filter_map(|length| panel(length, results)).collect();
    (!panels.is_empty()).then(|| sheet("Loss against rank", &panels, 3, [340.0, 270.0]))
}

/// Mean losses of the seeds with the furthest seed, by rank.
fn panel(length: &Length, results: &Results) -> Option<Figure> {
    let of = RANKS.map(|rank| outcomes(length, rank, results));
    of.iter().any(Option::is_some).then_some(())?;
    let judged = if length.set == Set::Facts { "loss on what was trained" } else { "held-out loss" };
    let series = |which: usize| {
        let done = of.iter().enumerate().filter_map(|(at, of)| Some((at as f64, of.as_ref()?[which])));
        let (points, spread) = done
            .filter(|(_, of)| of.mean.is_finite())
            .map(|(at, Outcome { mean, spread, .. })| ([at, mean], spread))
            .unzip();
        Series { spread, ..Series::line(LINES[which], points).style(Style::LinePoints).color(which) }
    };
    Some(Figure {
        title: format!("{}, {} steps", length.set.stem(), length.steps),
        x: Axis::named("rank r", RANKS.map(name).to_vec()),
        y: Axis { from_zero: true, ..Axis::linear(judged) },
        // The best rates last: they lie on top.
        series: vec![series(1), series(0)],
        ..Figure::default()
    })
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
