//! Trainable parameters: `Σ r (d_in + d_out)` over the adapted matrices (LoRA, arXiv 2106.09685, §4.1).

use super::layout::{Layout, Weight};
use super::targets::Targets;
use crate::error::{Error, Result};

/// The modules of a layout that get an adapter, found once and asked for every rank.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Places in [`Layout::weights`], in order.
    pub places: Vec<usize>,
    /// `Σ (d_in + d_out)`: trainable parameters for each unit of rank.
    pub per_rank: u64,
    /// What should be said about the choice, each a sentence: a fused projection, a name that matches nothing.
    pub notes: Vec<String>,
    /// The smallest of the matrices: its name, `[d_out, d_in]`; it bounds the rank.
    pub narrowest: (String, [usize; 2]),
    parameters: u64,
}

/// What LoRA of one rank adds to a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Count {
    /// The rank.
    pub r: usize,
    /// `Σ r (d_in + d_out)`.
    pub trainable: u64,
    /// `100 · trainable / parameters of the model`.
    pub percent: f64,
    /// Two bytes for each: the adapter's tensors stored as f16 or bf16.
    pub adapter_bytes_f16: u64,
}

impl Selection {
    /// The modules of `layout` that `targets` mean.
    ///
    /// # Errors
    /// Bad input when there are none, or a target is a broken regular expression.
    pub fn new(layout: &Layout, targets: &Targets) -> Result<Self> {
        let (places, notes) = targets.matcher()?.select(layout)?;
        let weights = || places.iter().map(|&place| &layout.weights[place]);
        let per_rank = weights().map(|weight| weight.d_in as u64 + weight.d_out as u64).sum();
        let narrowest = weights()
            .min_by_key(|weight| weight.max_rank())
            .map(|weight| (weight.name.clone(), [weight.d_out, weight.d_in]))
            .ok_or_else(|| Error::usage(format!("{} has no such module", layout.name)))?;
        Ok(Self { per_rank, notes, narrowest, parameters: layout.parameters, places })
    }

    /// The selected weights.
    pub fn weights<'a>(&'a self, layout: &'a Layout) -> impl Iterator<Item = &'a Weight> {
        self.places.iter().filter_map(|&place| layout.weights.get(place))
    }

    /// The largest rank that every selected matrix can have: the smallest `min(d_out, d_in)`.
    pub fn max_rank(&self) -> usize {
        self.narrowest.1[0].min(self.narrowest.1[1])
    }

    /// The parameters of LoRA at rank `r`.
    ///
    /// # Errors
    /// Bad input when `r` is 0 or over `min(d_out, d_in)` of a selected matrix, which the sentence names.
    pub fn count(&self, r: usize) -> Result<Count> {
        let (name, [d_out, d_in]) = &self.narrowest;
        let most = self.max_rank();
        if r == 0 || r > most {
            let wrong = if r == 0 { "it would adapt nothing" } else { "no update of that rank fits" };
            return Err(Error::usage(format!(
                "rank {r}: {wrong}; {name} is {d_out} × {d_in}, so a rank is from 1 to {most}"
            )));
        }
        let trainable = self.per_rank * r as u64;
        let percent = 100.0 * trainable as f64 / self.parameters.max(1) as f64;
        Ok(Count { r, trainable, percent, adapter_bytes_f16: 2 * trainable })
    }
}

/// [`Selection::new`] and [`Selection::count`] in one.
///
/// # Errors
/// As those two.
pub fn count(layout: &Layout, targets: &Targets, r: usize) -> Result<Count> {
    Selection::new(layout, targets)?.count(r)
}
