//! Published measurements of what a rank is worth, to be shown beside counts and behind a person's own losses.

use crate::figure::{Series, Style};

/// Accuracy of GPT-3 175B on WikiSQL's validation set, %, by rank: LoRA paper (arXiv 2106.09685v2), table 6.
pub struct ByRank {
    /// The adapted matrices.
    pub matrices: &'static str,
    /// Rank and accuracy.
    pub points: [(usize, f64); 5],
}

/// Table 6 of the LoRA paper, WikiSQL.
pub const WIKISQL: [ByRank; 3] = [
    ByRank { matrices: "q", points: [(1, 68.8), (2, 69.6), (4, 70.5), (8, 70.4), (64, 70.0)] },
    ByRank { matrices: "q, v", points: [(1, 73.4), (2, 73.3), (4, 73.7), (8, 73.8), (64, 73.5)] },
    ByRank { matrices: "q, k, v, o", points: [(1, 74.1), (2, 73.7), (4, 74.0), (8, 74.0), (64, 73.9)] },
];

/// Accuracy of Llama 3.2 3B on GSM8K, %, trained at r = 64 and cut to a rank afterwards: PEFT's documentation of
/// `convert_to_lora`. The last one is the adapter as it was trained.
pub const GSM8K_CUT: [(usize, f64); 5] = [(8, 43.37), (16, 48.90), (32, 51.48), (48, 52.01), (64, 52.92)];

/// The same, trained at r = 32 to begin with.
pub const GSM8K_DIRECT: (usize, f64) = (32, 48.22);

/// Held-out loss of Nemotron-Nano on Tulu 3 after 780 steps of 128 rows, at the best learning rate of each rank: Tinker's
/// `sft_sweep.md`.
pub const TULU_BY_RANK: [(usize, f64); 2] = [(1, 0.5540), (64, 0.5449)];

/// The same at rank 64, by learning rate: a tenth of the best one costs twice what 64 times fewer parameters cost.
pub const TULU_BY_RATE: [(f64, f64); 2] = [(4e-5, 0.5649), (4e-4, 0.5449)];

/// Held-out loss by rank, each at its own best learning rate.
pub struct Losses {
    /// Model, data, and where it is said.
    pub name: &'static str,
    /// Rank and loss.
    pub points: &'static [(usize, f64)],
}

/// What is drawn behind a person's own losses: Tinker's sweep, and the bundled model's style task after 200 steps (`docs/study.md`).
pub const LOSSES: [Losses; 2] = [
    Losses { name: "published: Nemotron-Nano, Tulu 3", points: &TULU_BY_RANK },
    Losses {
        name: "published: tales-2m, a style",
        points: &[(1, 1.210), (2, 1.146), (4, 1.124), (8, 1.100), (16, 1.089), (64, 1.089)],
    },
];

/// [`LOSSES`] as lines behind a person's own, from the lowest to the highest of their ranks: only shapes can be compared, so each is
/// scaled to have `best` where its own loss is least.
pub fn behind(best: f64, [low, high]: [usize; 2]) -> Vec<Series> {
    let line = |losses: &Losses| {
        let least = losses.points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
        // Between two ranks it is straight on the log scale; beyond the last nobody has measured.
        let loss = |rank: usize| {
            let after = losses.points.iter().position(|&(r, _)| r >= rank)?;
            let (r, y) = losses.points[after];
            let (r0, y0) = losses.points[after.saturating_sub(1)];
            let share = if r > r0 { (rank as f64 / r0 as f64).ln() / (r as f64 / r0 as f64).ln() } else { 1.0 };
            Some([rank as f64, (y0 + share * (y - y0)) / least * best])
        };
        let between = losses.points.iter().map(|&(r, _)| r).filter(|r| (low + 1..high).contains(r));
        let points: Vec<[f64; 2]> = [low].into_iter().chain(between).chain([high]).filter_map(loss).collect();
        (low < high && points.len() > 1).then(|| Series::line(losses.name, points).style(Style::Dashed).color(6))
    };
    LOSSES.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_losses_are_scaled_and_cut_to_what_is_shown() {
        let lines = behind(2.0, [4, 16]);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].points.len(), 2, "the ends of the ranks that are shown");
        let style = &lines[1].points;
        assert_eq!(style.iter().map(|point| point[0]).collect::<Vec<_>>(), [4.0, 8.0, 16.0]);
        assert!((style[2][1] - 2.0).abs() < 1e-12 && (style[0][1] - 2.0 * 1.124 / 1.089).abs() < 1e-12);
        // Rank 1 of Tulu is 1.7 % above rank 64; half way on the log scale it is half of that.
        let half = behind(1.0, [8, 64])[0].points[0][1];
        assert!((half - (1.0 + 0.5 * (0.5540 / 0.5449 - 1.0))).abs() < 1e-9, "{half}");
        assert!(behind(1.0, [8, 8]).is_empty(), "one rank is no line");
        assert!(behind(1.0, [1024, 4096]).is_empty(), "nobody measured there");
    }
}
