//! Published measurements of what a rank is worth, to be shown beside counts.

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
