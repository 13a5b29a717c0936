//! Trainable parameters: `Σ r (d_in + d_out)` over the adapted matrices (LoRA, arXiv 2106.09685, §4.1).

use super::layout::{Layout, Weight};
use super::targets::Targets;
use crate::error::{Error, Result};
use crate::units::exact;

/// The modules of a layout that get an adapter, found once and asked for every rank.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Places in [`Layout::weights`], in order.
    pub places: Vec<usize>,
    /// `Σ (d_in + d_out)`: trainable parameters for each unit of rank.
    pub per_rank: u64,
    /// What should be said about the choice, each a sentence: a fused projection, a name that matches nothing.
    pub notes: Vec<String>,
    /// The smallest of the matrices: its name, `[d_out, d_in]`; above its smaller side a rank adds nothing there.
    pub narrowest: (String, [usize; 2]),
    /// The largest `min(d_out, d_in)`: no update of a higher rank fits into any of the matrices.
    pub widest: usize,
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
        let per_rank = weights().map(Weight::cost).sum();
        let named = |weight: &Weight| (weight.name.clone(), [weight.d_out, weight.d_in]);
        let narrowest = weights().min_by_key(|weight| weight.max_rank()).map(named);
        let narrowest = narrowest.ok_or_else(|| Error::usage(format!("{} has no such module", layout.name)))?;
        let widest = weights().map(Weight::max_rank).max().unwrap_or(0);
        Ok(Self { per_rank, notes, narrowest, widest, parameters: layout.parameters, places })
    }

    /// The selected weights.
    pub fn weights<'a>(&'a self, layout: &'a Layout) -> impl Iterator<Item = &'a Weight> {
        self.places.iter().filter_map(|&place| layout.weights.get(place))
    }

    /// The largest rank that every selected matrix can have: the smallest `min(d_out, d_in)`.
    pub fn max_rank(&self) -> usize {
        self.narrowest.1[0].min(self.narrowest.1[1])
    }

    /// The parameters of LoRA at rank `r`, as PEFT's `print_trainable_parameters` counts them: also where a matrix is too small
    /// for an update of that rank (see [`clipped`](Self::clipped)).
    ///
    /// # Errors
    /// Bad input when `r` is 0, or so large that its parameters cannot be counted.
    pub fn count(&self, r: usize) -> Result<Count> {
        if r == 0 {
            return Err(Error::usage("rank 0: it would adapt nothing; expected 1 or more"));
        }
        let trainable = self.per_rank.checked_mul(r as u64).ok_or_else(|| {
            let (name, [d_out, d_in]) = &self.narrowest;
            let most = d_out.min(d_in);
            Error::usage(format!("rank {r}: more parameters than can be counted; {name} is {d_out} × {d_in}, a rank above {most} adds nothing there"))
        })?;
        let percent = 100.0 * trainable as f64 / self.parameters.max(1) as f64;
        Ok(Count { r, trainable, percent, adapter_bytes_f16: trainable.saturating_mul(2) })
    }

    /// The sentence about matrices that rank `r` is too large for.
    pub fn clipped(&self, r: usize, layout: &Layout) -> Option<String> {
        let small = self.weights(layout).filter(|weight| weight.max_rank() < r).count();
        let (name, [d_out, d_in]) = &self.narrowest;
        (small > 0).then(|| {
            format!(
                "rank {r} is above the smaller side of {small} modules, such as {name} of {d_out} × {d_in}: PEFT trains that many \
                 all the same; here a pair has the smaller side as its rank there ({} in this one), and {} parameters are trained in all",
                d_out.min(d_in),
                exact(self.weights(layout).map(|weight| weight.clipped_cost(r)).sum())
            )
        })
    }
}

/// [`Selection::new`] and [`Selection::count`] in one.
///
/// # Errors
/// As those two.
pub fn count(layout: &Layout, targets: &Targets, r: usize) -> Result<Count> {
    Selection::new(layout, targets)?.count(r)
}
