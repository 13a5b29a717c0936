//! The counts that the tab shows: computed once for a model, not in a frame.

use crate::error::Error;
use crate::figure::Axis;
use crate::figure::{Figure, Series, Style};
use crate::plan::{self, Layout, Selection, Targets};
use crate::units;

/// The ranks of the table.
pub const RANKS: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// What a set of target modules costs for each unit of rank.
pub struct Column {
    /// As on the rank bar.
    pub title: &'static str,
    /// The adapted modules, or why there are none.
    pub selection: Result<Selection, Error>,
}

/// A bar on the log axis.
pub struct Bar {
    /// What it counts.
    pub label: String,
    /// How many.
    pub count: u64,
    /// Where the number comes from.
    pub source: String,
    /// It is an adapter, not a whole model.
    pub adapter: bool,
}

/// Everything the tab shows of one model.
pub struct Counts {
    /// The model's name.
    pub name: String,
    /// All its parameters.
    pub parameters: u64,
    /// One for each set of targets.
    pub columns: Vec<Column>,
}

impl Counts {
    /// Of any layout.
    pub fn of(layout: &Layout) -> Self {
        let sets = [
            (Targets::QV, "attention q, v"),
            (Targets::Attention, "all attention"),
            (Targets::AllLinear, "all linear"),
        ];
        let columns = sets
            .into_iter()
            .map(|(targets, title)| {
                let selection = Selection::new(layout, &targets);
                Column { title, selection }
            })
            .collect();
        Self { name: layout.name.clone(), parameters: layout.parameters, columns }
    }

    /// The table's cells as text, a heading first: what is copied.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![vec!["r".to_owned()]];
        for column in &self.columns {
            rows[0].extend([column.title.to_owned(), "% of the model".to_owned()]);
        }
        for r in RANKS {
            let mut row = vec![r.to_string()];
            for column in &self.columns {
                match column.count(r) {
                    Some(count) => row.extend([count.trainable.to_string(), format!("{}", count.percent)]),
                    None => row.extend([String::new(), String::new()]),
                }
            }
            rows.push(row);
        }
        rows
    }
}

impl Column {
    /// The count at a rank; `None` where no module can have it.
    pub fn count(&self, r: usize) -> Option<plan::Count> {
        let selection = self.selection.as_ref().ok()?;
        (r <= selection.widest).then(|| selection.count(r).ok())?
    }
}

/// The bars: GPT-3 and what the paper trains of it, beside the open model and the dial's adapter.
pub fn bars(open: Option<(&str, u64)>, adapter: Option<(String, u64)>, gpt3: &Counts) -> Vec<Bar> {
    let mut bars = vec![Bar {
        label: format!("{}, all parameters", gpt3.name),
        count: gpt3.parameters,
        source: "full fine-tuning changes every one of them".into(),
        adapter: false,
    }];
    let mut lora = |r: usize, column: usize| {
        if let Some(count) = gpt3.columns[column].count(r) {
            bars.push(Bar {
                label: format!("{}, LoRA r = {r} on {}", gpt3.name, gpt3.columns[column].title),
                count: count.trainable,
                source: format!("{} of the model", units::percent(count.percent / 100.0)),
                adapter: true,
            });
        }
    };
    lora(8, 0);
    lora(1, 0);
    if let Some((name, parameters)) = open {
        bars.push(Bar {
            label: format!("{name}, all parameters"),
            count: parameters,
            source: "the open model".into(),
            adapter: false,
        });
        if let Some((label, count)) = adapter {
            bars.push(Bar {
                label: format!("{name}, {label}"),
                count,
                source: "the dial's adapter".into(),
                adapter: true,
            });
        }
    }
    bars
}

/// The bars as a plot: what is saved.
pub fn figure(bars: &[Bar]) -> Figure {
    let y = Axis::linear("row");
    let mut figure = Figure { title: "Parameters".into(), x: Axis::log("parameters"), y, ..Figure::default() };
    for (row, bar) in bars.iter().enumerate() {
        let at = (bars.len() - row) as f64;
        figure.series.push(Series::line(&bar.label, vec![[1.0, at], [bar.count as f64, at]]).style(Style::LinePoints));
    }
    figure
}

#[cfg(test)]
mod tests {
    use super::*;

    /// LoRA paper, table 4: 4.7M and 37.7M; exact values from its formula 2·L_LoRA·d·r.
    #[test]
    fn gpt3_counts_are_the_papers() {
        let counts = Counts::of(&Layout::preset("gpt3-175b").unwrap());
        assert_eq!(counts.columns[0].count(1).unwrap().trainable, 4_718_592);
        assert_eq!(counts.columns[0].count(8).unwrap().trainable, 37_748_736);
        assert_eq!(counts.columns[1].count(1).unwrap().trainable, 9_437_184);
        let rows = counts.rows();
        assert_eq!(rows.len(), RANKS.len() + 1);
        assert!(rows.iter().all(|row| row.len() == 7));
        assert_eq!(rows[1][1], "4718592");
        let saved = figure(&bars(None, None, &counts)).csv();
        assert!(saved.contains("4718592"), "{saved}");
        let bars = bars(Some(("tiny", 1000)), Some(("LoRA r = 2".into(), 10)), &counts);
        assert_eq!(
            bars.iter().map(|b| b.count).collect::<Vec<_>>(),
            [counts.parameters, 37_748_736, 4_718_592, 1000, 10]
        );
    }
}
