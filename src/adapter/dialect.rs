//! [`Dialect`]: how a program writes an adapter. Each is one file here and one line in [`DIALECTS`].

use super::PeftConfig;
use super::{diffusers, gguf, kohya, mlx, peft};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use std::path::Path;

/// Whether a factor belongs to a linear layer (or a convolution) or to an embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FactorOf {
    Linear,
    Embedding,
}

/// What a tensor of an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    A(FactorOf),
    B(FactorOf),
    /// The bias of B.
    Bias,
    /// DoRA's magnitudes.
    Magnitude,
    /// KaSA's singular values between B and A.
    Diagonal,
    /// The kernel of a convolution between A and B.
    Core,
    /// A factor of LoHa or LoKr: see [`lycoris`](super::lycoris).
    Factor(&'static str),
    /// α of this module, one number.
    Alpha,
    /// What only training needs.
    Unused,
    /// A part that is named and not understood.
    Foreign,
}

/// A tensor's name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    /// The module, without wrappers.
    pub(super) module: String,
    pub(super) part: Piece,
    /// The adapter's own name, where the file has it: `.lora_A.default.weight`.
    pub(super) adapter: Option<&'a str>,
}

/// How a pair's factor `s` is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// Rank, α and scaling are the config's; a rank that differs from it is an error.
    Config,
    /// `s` as it is, for every module.
    Fixed(f64),
    /// `α / r` with the α in the file; 1 where there is none.
    Alpha,
    /// `α / r` with one α for all modules; 1 where it is 0.
    Shared(f64),
}

/// What is known of an adapter before its tensors are looked at.
pub(super) struct Settings {
    pub(super) config: PeftConfig,
    pub(super) scale: Scale,
}

/// One program's way of writing adapters.
pub(super) struct Dialect {
    /// What a person calls it.
    pub(super) name: &'static str,
    /// Factors are stored as their transposes.
    pub(super) transposed: bool,
    /// Whether a checkpoint is written so.
    pub(super) is: fn(&Checkpoint) -> bool,
    /// Reads the config, where there is one. The second argument is the adapter's folder.
    pub(super) settings: fn(&Checkpoint, &Path) -> Result<Settings>,
    /// Takes a tensor's name apart; `None` for a tensor that is no part of a pair.
    pub(super) parse: for<'a> fn(&'a str) -> Option<Name<'a>>,
}

/// All of them; the first that fits is taken.
pub(super) const DIALECTS: [&Dialect; 5] =
    [&gguf::DIALECT, &mlx::DIALECT, &kohya::DIALECT, &diffusers::DIALECT, &peft::DIALECT];

impl Dialect {
    /// The dialect of a checkpoint: PEFT's where nothing else fits.
    pub(super) fn of(checkpoint: &Checkpoint) -> &'static Self {
        DIALECTS.into_iter().find(|dialect| (dialect.is)(checkpoint)).unwrap_or(&peft::DIALECT)
    }
}
