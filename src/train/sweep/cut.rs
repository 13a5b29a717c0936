//! "Train high, truncate later": what an adapter is worth when it is cut down, to one rank everywhere or by one threshold on σ
//! over all modules (PARA, arXiv 2604.27796).
//!
//! Truncated to rank k, a pair's `s · B A` keeps the first k of its singular directions: by Eckart–Young no pair of rank k
//! comes closer to it. What that costs in loss is measured on the held-out rows, on the base as it was trained on.

use crate::adapter::Adapter;
use crate::checkpoint::Checkpoint;
use crate::delta::{DeltaWeight, LowRank};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::model::{Decoder, Frozen, Processor};
use crate::progress::{Part, Progress};
use crate::spectrum::{self, Options, Spectrum};
use crate::train::{Rows, Settings, evaluate};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// An adapter cut by one threshold over all modules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// Directions with a σ of at least this stay.
    pub threshold: f64,
    /// Parameters that are left, `Σ r (d_in + d_out)`.
    pub parameters: u64,
    /// Share of the energy that is left.
    pub energy: f64,
    /// The largest rank that is left in a module.
    pub largest: usize,
    /// Loss on the held-out rows.
    pub eval_loss: f64,
}

/// Shares of the parameters that are tried.
const KEPT: [f64; 6] = [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125];

/// Spectra of an adapter's modules, with so many singular vectors.
pub(super) fn spectra(adapter: &Adapter, vectors: usize) -> Result<Vec<(String, Spectrum)>> {
    let one = |layer: &crate::adapter::LoraLayer| {
        let (b, a) = adapter.factors(layer)?;
        let delta = DeltaWeight::LowRank(LowRank { b, a, scaling: layer.scaling, epsilon: f64::from(f32::EPSILON) });
        let found = spectrum::spectrum(&delta, &Options { vectors, ..Options::default() }, &())?;
        Ok((layer.module.clone(), found))
    };
    adapter.layers.iter().map(one).collect()
}

/// A base with an adapter that can be cut.
pub struct Cutter {
    decoder: Decoder,
    spectra: Vec<(String, Spectrum)>,
    path: PathBuf,
    batch: usize,
}

impl Cutter {
    /// The adapter on its base as `settings` train it, with so many directions of every module.
    ///
    /// # Errors
    /// An adapter that cannot be read, or does not fit the model.
    pub fn new(checkpoint: &Checkpoint, settings: &Settings, adapter: &Path, most: usize) -> Result<Self> {
        let spectra = spectra(&Adapter::open(adapter)?, most)?;
        let frozen = settings.scheme().map_or(Frozen::AsStored, Frozen::FourBit);
        let decoder = Decoder::load(checkpoint, frozen, &())?;
        Ok(Self { decoder, spectra, path: adapter.to_path_buf(), batch: settings.batch })
    }

    /// Puts pairs on the base that keep so many directions of each module.
    fn keep(&mut self, ranks: &[usize]) -> Result<()> {
        for ((module, spectrum), &k) in self.spectra.iter().zip(ranks) {
            let Some(vectors) = &spectrum.vectors else { continue };
            let at = self.decoder.linears().position(|linear| linear.module == *module);
            let at = at.ok_or_else(|| Error::tensor(&self.path, module, "the model has no such linear layer"))?;
            // B = U_k √S_k, A = √S_k V_kᵀ, s = 1. A module of which nothing is left keeps a pair of zeros.
            let (k, width) = (k.min(vectors.count()), k.clamp(1, vectors.count().max(1)));
            let root =
                |i: usize| if i < k { spectrum.sigma.get(i).map_or(0.0, |sigma| sigma.sqrt()) as f32 } else { 0.0 };
            let value = |of: &Matrix, row: usize, i: usize| if i < of.cols() { of.get(row, i) * root(i) } else { 0.0 };
            let b = Matrix::from_fn(vectors.u.rows(), width, |row, i| value(&vectors.u, row, i));
            let a = Matrix::from_fn(width, vectors.v.rows(), |i, col| value(&vectors.v, col, i));
            self.decoder.branch(at, a, b, width as f64, 1.0, None);
        }
        Ok(())
    }

    fn loss(&self, rows: &Rows, progress: &dyn Progress) -> Result<f64> {
        Ok(evaluate(&Processor::default(), &self.decoder, rows, self.batch, progress)?.mean())
    }

    /// Losses on `rows` at one rank everywhere.
    ///
    /// # Errors
    /// A module that the model does not have; and cancellation.
    pub fn at_ranks(&mut self, ranks: &[usize], rows: &Rows, progress: &dyn Progress) -> Result<Vec<f64>> {
        let mut losses = Vec::new();
        for (index, &k) in ranks.iter().enumerate() {
            self.keep(&vec![k; self.spectra.len()])?;
            losses.push(self.loss(rows, &Part::new(progress, index as u64, ranks.len() as u64))?);
        }
        Ok(losses)
    }

    /// Losses on `rows` when one threshold over all modules leaves a share of the parameters, from all to a thirtieth.
    ///
    /// # Errors
    /// As [`at_ranks`](Self::at_ranks).
    pub fn by_threshold(&mut self, rows: &Rows, progress: &dyn Progress) -> Result<Vec<Cut>> {
        let mut directions: Vec<(f64, u64)> = Vec::new();
        for (_, spectrum) in &self.spectra {
            let cost = (spectrum.shape[0] + spectrum.shape[1]) as u64;
            directions.extend(spectrum.known().filter(|&sigma| sigma > 0.0).map(|sigma| (sigma, cost)));
        }
        directions.sort_by(|a, b| b.0.total_cmp(&a.0));
        let all: u64 = directions.iter().map(|(_, cost)| cost).sum();
        let energy: f64 = directions.iter().map(|(sigma, _)| sigma * sigma).sum();
        let mut cuts = Vec::new();
        for (index, share) in KEPT.into_iter().enumerate() {
            let (mut left, mut threshold) = (0, f64::INFINITY);
            for &(sigma, cost) in &directions {
                if left + cost > (share * all as f64).ceil() as u64 {
                    break;
                }
                (left, threshold) = (left + cost, sigma);
            }
            if left == 0 || cuts.last().is_some_and(|last: &Cut| last.threshold == threshold) {
                continue;
            }
            let count = |spectrum: &Spectrum| spectrum.known().filter(|&sigma| sigma >= threshold).count();
            let ranks: Vec<usize> = self.spectra.iter().map(|(_, spectrum)| count(spectrum)).collect();
            self.keep(&ranks)?;
            let kept = directions.iter().filter(|(sigma, _)| *sigma >= threshold);
            cuts.push(Cut {
                threshold,
                parameters: kept.clone().map(|(_, cost)| cost).sum(),
                energy: kept.map(|(sigma, _)| sigma * sigma).sum::<f64>() / energy.max(f64::MIN_POSITIVE),
                largest: ranks.iter().copied().max().unwrap_or(0),
                eval_loss: self.loss(rows, &Part::new(progress, index as u64, KEPT.len() as u64))?,
            });
        }
        Ok(cuts)
    }
}
