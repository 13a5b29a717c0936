//! Table 15 of the LoRA paper (arXiv 2106.09685v2, appendix F): every way of tuning GPT-3 175B that it tried, the
//! trainable parameters that it prints, and what its formulas (§5.1) give.
//!
//! | method | trainable parameters |
//! |---|---|
//! | Fine-Tune | all |
//! | PrefixEmbed | `d (l_p + l_i)` |
//! | PrefixLayer | `L d (l_p + l_i)` |
//! | Adapter H | `L_A (2 d r + r + d) + 2 L_LN d` |
//! | LoRA | `2 L_LoRA d r`, `L_LoRA` the number of adapted matrices |

use super::presets;
use std::sync::LazyLock;

/// Hidden size of GPT-3 175B.
pub const D: u64 = 12_288;
/// Blocks of GPT-3 175B.
pub const L: u64 = 96;

/// One row of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct PaperRow {
    /// `Fine-Tune`, `PrefixEmbed`, `PrefixLayer`, `Adapter H` or `LoRA`.
    pub method: &'static str,
    /// The hyper-parameters, in the paper's letters.
    pub setting: String,
    /// The formula, in letters.
    pub expression: &'static str,
    /// What the formula gives.
    pub formula: u64,
    /// What the paper prints: `4.7M`.
    pub printed: &'static str,
    /// The same as a number.
    pub printed_parameters: u64,
    /// Accuracy on the validation set of WikiSQL, %.
    pub wikisql: f64,
    /// Accuracy on the validation set of MultiNLI-matched, %.
    pub mnli: f64,
    /// Why formula and print differ, where they do by more than rounding.
    pub note: Option<&'static str>,
}

impl PaperRow {
    /// `formula - printed`.
    pub fn difference(&self) -> i64 {
        self.formula as i64 - self.printed_parameters as i64
    }
}

/// PrefixEmbed: `l_p` trained embeddings before and `l_i` after the prompt's, `d (l_p + l_i)`.
pub const fn prefix_embed(d: u64, l_p: u64, l_i: u64) -> u64 {
    d * (l_p + l_i)
}

/// PrefixLayer: the same after every one of `layers` blocks, `L d (l_p + l_i)`.
pub const fn prefix_layer(layers: u64, d: u64, l_p: u64, l_i: u64) -> u64 {
    layers * d * (l_p + l_i)
}

/// Adapters of Houlsby et al.: two layers with biases, `L_A (2 d r + r + d) + 2 L_LN d`.
pub const fn adapter_h(adapters: u64, layer_norms: u64, d: u64, r: u64) -> u64 {
    adapters * (2 * d * r + r + d) + 2 * layer_norms * d
}

/// LoRA on `matrices` square matrices: `2 L_LoRA d r`.
pub const fn lora(matrices: u64, d: u64, r: u64) -> u64 {
    2 * matrices * d * r
}

const TRUNCATED: &str = "Cut off in print, not rounded.";
const ONE_DIGIT: &str = "Neither cut off nor rounded from 603.98M.";
const PREFIX_LAYER: &str = "It does not follow the paper's own formula.";
const FULL: &str = "The GPT-3 paper prints 174,600M (table D.1).";

/// Method, setting (two numbers that the method reads in its own way), print, its number in thousands, accuracies, note.
type Printed = (&'static str, [u64; 2], &'static str, u64, f64, f64, Option<&'static str>);

#[rustfmt::skip]
const PRINTED: [Printed; 26] = [
    ("Fine-Tune", [0, 0], "175,255.8M", 175_255_800, 73.8, 89.5, Some(FULL)),
    ("PrefixEmbed", [32, 8], "0.4M", 400, 55.9, 84.9, Some(TRUNCATED)),
    ("PrefixEmbed", [64, 8], "0.9M", 900, 58.7, 88.1, None),
    ("PrefixEmbed", [128, 8], "1.7M", 1_700, 60.6, 88.0, None),
    ("PrefixEmbed", [256, 8], "3.2M", 3_200, 63.1, 88.6, None),
    ("PrefixEmbed", [512, 8], "6.4M", 6_400, 55.9, 85.8, None),
    ("PrefixLayer", [2, 2], "5.1M", 5_100, 68.5, 89.2, Some(PREFIX_LAYER)),
    ("PrefixLayer", [8, 0], "10.1M", 10_100, 69.8, 88.2, Some(PREFIX_LAYER)),
    ("PrefixLayer", [8, 8], "20.2M", 20_200, 70.1, 89.5, Some(PREFIX_LAYER)),
    ("PrefixLayer", [32, 4], "44.1M", 44_100, 66.4, 89.6, Some(PREFIX_LAYER)),
    ("PrefixLayer", [64, 0], "76.1M", 76_100, 64.9, 87.9, Some(PREFIX_LAYER)),
    ("Adapter H", [1, 0], "7.1M", 7_100, 71.9, 89.8, None),
    ("Adapter H", [4, 0], "21.2M", 21_200, 73.2, 91.0, None),
    ("Adapter H", [8, 0], "40.1M", 40_100, 73.2, 91.5, None),
    ("Adapter H", [16, 0], "77.9M", 77_900, 73.2, 91.5, None),
    ("Adapter H", [64, 0], "304.4M", 304_400, 72.6, 91.5, None),
    // The second number: how many of the four attention matrices.
    ("LoRA", [2, 1], "4.7M", 4_700, 73.4, 91.7, None),
    ("LoRA", [1, 2], "4.7M", 4_700, 73.4, 91.3, None),
    ("LoRA", [2, 2], "9.4M", 9_400, 73.3, 91.4, None),
    ("LoRA", [1, 4], "9.4M", 9_400, 74.1, 91.2, None),
    ("LoRA", [4, 2], "18.8M", 18_800, 73.7, 91.3, Some(TRUNCATED)),
    ("LoRA", [2, 4], "18.8M", 18_800, 73.7, 91.7, Some(TRUNCATED)),
    ("LoRA", [8, 2], "37.7M", 37_700, 73.8, 91.6, None),
    ("LoRA", [4, 4], "37.7M", 37_700, 74.0, 91.7, None),
    ("LoRA", [64, 2], "301.9M", 301_900, 73.6, 91.4, Some(TRUNCATED)),
    ("LoRA", [64, 4], "603.8M", 603_800, 73.9, 91.4, Some(ONE_DIGIT)),
];

/// Every row, in the paper's order.
pub fn table() -> &'static [PaperRow] {
    static TABLE: LazyLock<Vec<PaperRow>> = LazyLock::new(|| PRINTED.iter().map(row).collect());
    &TABLE
}

fn row(&(method, [a, b], printed, thousands, wikisql, mnli, note): &Printed) -> PaperRow {
    let (setting, expression, formula) = match method {
        "PrefixEmbed" => (format!("l_p={a}, l_i={b}"), "d (l_p + l_i)", prefix_embed(D, a, b)),
        "PrefixLayer" => (format!("l_p={a}, l_i={b}"), "L d (l_p + l_i)", prefix_layer(L, D, a, b)),
        "Adapter H" => (format!("r={a}"), "L_A (2 d r + r + d) + 2 L_LN d", adapter_h(2 * L, 0, D, a)),
        "LoRA" => {
            let matrices = ["", "r_v", "r_q=r_v", "", "r_q=r_k=r_v=r_o"][b as usize];
            (format!("{matrices}={a}"), "2 L_LoRA d r", lora(b * L, D, a))
        }
        _ => (String::new(), "all", presets::gpt3().layout().parameters),
    };
    PaperRow {
        method,
        setting,
        expression,
        formula,
        printed,
        printed_parameters: thousands * 1000,
        wikisql,
        mnli,
        note,
    }
}
