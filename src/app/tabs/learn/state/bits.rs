//! Chapter 8: a block of eight weights in 4 bits, and what QLoRA quantizes: the base, not A and B.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

use crate::error::Result;
use crate::matrix::Matrix;
use crate::progress::Progress;
use crate::quant::{Fit, Format, Group, Recipe};

/// Weights of the block.
pub const COUNT: usize = 8;
/// They are between −REACH and REACH.
pub const REACH: f64 = 2.0;
/// The formats that are compared.
pub const FORMATS: [Format; 3] = [Format::Int4Symmetric, Format::Nf4, Format::Fp4];

/// As normally distributed weights lie: quantiles of N(0, ½).
const BELL: [f64; COUNT] = [-1.05, -0.56, -0.3, -0.09, 0.1, 0.31, 0.58, 0.98];

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Edit {
    /// A weight is moved.
    Move(usize, f64),
    /// All of them.
    All(Preset),
    /// The rank of the adapter on the second page.
    Rank(usize),
}

/// Ways in which weights lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Like a bell: many near zero.
    Bell,
    /// One is far out.
    Outlier,
}

/// One format's view of the block.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    /// Which.
    pub format: Format,
    /// Its levels, as weights.
    pub levels: Vec<f64>,
    /// What becomes of each weight.
    pub values: [f64; COUNT],
    /// ‖ŵ − w‖ / ‖w‖.
    pub error: f64,
}

/// The block, and the story on the second page.
pub struct Bits {
    weights: [f64; COUNT],
    tracks: Vec<Track>,
    /// The rank on the second page.
    pub r: usize,
    problem: Option<String>,
}

impl Default for Bits {
    fn default() -> Self {
        let mut bits = Self { weights: BELL, tracks: Vec::new(), r: 8, problem: None };
        bits.look();
        bits
    }
}

impl Bits {
    /// Takes in what was asked for.
    pub fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Move(at, value) => {
                if let Some(weight) = self.weights.get_mut(at) {
                    *weight = value.clamp(-REACH, REACH);
                }
            }
            Edit::All(Preset::Bell) => self.weights = BELL,
            Edit::All(Preset::Outlier) => {
                self.weights = BELL.map(|w| w * 0.4);
                self.weights[COUNT - 1] = REACH;
            }
            Edit::Rank(r) => self.r = r.clamp(1, 64),
        }
        self.look();
    }

    fn look(&mut self) {
        match FORMATS.into_iter().map(|format| track(&self.weights, format)).collect() {
            Ok(tracks) => (self.tracks, self.problem) = (tracks, None),
            Err(error) => self.problem = Some(error.to_string()),
        }
    }

    /// The weights.
    pub fn weights(&self) -> &[f64; COUNT] {
        &self.weights
    }

    /// What each of [`FORMATS`] makes of them.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// The scale that they share: the largest magnitude.
    pub fn absmax(&self) -> f64 {
        self.weights.iter().fold(0.0, |most, w| most.max(w.abs()))
    }

    /// Why there are no tracks.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// INT4 is closer than NF4.
    pub fn reached(&self) -> bool {
        let error = |format| self.tracks.iter().find(|track| track.format == format).map(|track| track.error);
        match (error(Format::Int4Symmetric), error(Format::Nf4)) {
            (Some(int4), Some(nf4)) => int4 < nf4,
            _ => false,
        }
    }
}

fn track(weights: &[f64; COUNT], format: Format) -> Result<Track> {
    let values = weights.map(|w| w as f32);
    let absmax = values.iter().fold(0.0f32, |most, w| most.max(w.abs()));
    let fit = Fit::new(&values, [1, COUNT], Recipe::with(format, Group::Block(COUNT), false))?;
    let shares = fit.levels().map(|levels| levels.levels).unwrap_or_default();
    let back = fit.dequantize(&values);
    let size = weights.iter().map(|w| w * w).sum::<f64>().sqrt();
    let off = weights.iter().zip(&back).map(|(w, back)| (w - f64::from(*back)).powi(2)).sum::<f64>().sqrt();
    Ok(Track {
        format,
        levels: shares.into_iter().map(|share| f64::from(share * absmax)).collect(),
        values: std::array::from_fn(|i| f64::from(back[i])),
        error: if size > 0.0 { off / size } else { 0.0 },
    })
}

/// Rows and columns of the layer on the second page.
pub const LAYER: usize = 512;

/// What is stored in 4 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// Nothing.
    Nothing,
    /// The frozen base: QLoRA.
    Base,
    /// A and B: as often told.
    Factors,
    /// All of it.
    Both,
}

impl Story {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Base, Self::Factors, Self::Both];
}

/// What a story costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Which.
    pub story: Story,
    /// Bytes of W₀.
    pub base: f64,
    /// Bytes of A and B.
    pub factors: f64,
    /// ‖error of W₀‖ / ‖W₀‖.
    pub base_error: f64,
    /// ‖error of B A‖ / ‖B A‖.
    pub delta_error: f64,
}

/// The stories of one layer: normally distributed weights, and B A of rank `r` with a twentieth of their norm.
///
/// # Errors
/// Cancellation.
pub fn stories(r: usize, progress: &dyn Progress) -> Result<(usize, Vec<Cost>)> {
    let mut rng = StdRng::seed_from_u64(11);
    let mut normal = |rows: usize, cols: usize, std: f32| {
        Matrix::from_fn(rows, cols, |_, _| {
            let x: f32 = StandardNormal.sample(&mut rng);
            std * x
        })
    };
    let side = (LAYER as f32).sqrt();
    let base = normal(LAYER, LAYER, 1.0 / side);
    // ‖B A‖ ≈ √r · n · s_b s_a, a twentieth of ‖W₀‖ = √n.
    let std = (0.05 / side / (r as f32).sqrt()).sqrt();
    let (b, a) = (normal(LAYER, r, std), normal(r, LAYER, std));
    progress.step(1, 4)?;
    let nf4 = Recipe::default();
    let base_error = distance(&base, &rounded(&base, nf4)?) / base.frobenius();
    progress.step(2, 4)?;
    // B in groups down its columns and A along its rows: each direction has scales of its own.
    let int4 = Recipe::with(Format::Int4Symmetric, Group::Row, false);
    let (b4, a4) = (rounded(&b.transposed(), int4)?.transposed(), rounded(&a, int4)?);
    let (delta, delta4) = (product(&b, &a), product(&b4, &a4));
    progress.step(3, 4)?;
    let delta_error = distance(&delta, &delta4) / delta.frobenius();
    // Everything that is stored counts: codes and scales.
    let bytes = |numbers: usize, bits: f64| numbers as f64 * bits / 8.0;
    let (all, few) = (LAYER * LAYER, 2 * LAYER * r);
    let base_bits = [16.0, nf4.bits(base.shape())];
    let factor_bits = [16.0, int4.bits([r, LAYER])];
    let costs = Story::ALL.map(|story| {
        let base = matches!(story, Story::Base | Story::Both);
        let factors = matches!(story, Story::Factors | Story::Both);
        Cost {
            story,
            base: bytes(all, base_bits[usize::from(base)]),
            factors: bytes(few, factor_bits[usize::from(factors)]),
            base_error: if base { base_error } else { 0.0 },
            delta_error: if factors { delta_error } else { 0.0 },
        }
    });
    Ok((r, costs.to_vec()))
}

fn rounded(w: &Matrix, recipe: Recipe) -> Result<Matrix> {
    let back = Fit::new(w.data(), w.shape(), recipe)?.dequantize(w.data());
    Matrix::new(w.rows(), w.cols(), back)
}

/// ‖X − Y‖.
fn distance(x: &Matrix, y: &Matrix) -> f64 {
    x.data().iter().zip(y.data()).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>().sqrt()
}

fn product(b: &Matrix, a: &Matrix) -> Matrix {
    let mut out = Matrix::zeros(b.rows(), a.cols());
    for (row, out) in out.data_mut().chunks_mut(a.cols()).enumerate() {
        for (k, &b) in b.row(row).iter().enumerate() {
            out.iter_mut().zip(a.row(k)).for_each(|(out, a)| *out += b * a);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_suits_nf4_and_even_spacing_int4() {
        let mut bits = Bits::default();
        assert!(bits.tracks().iter().all(|t| t.values.iter().all(|v| t.levels.iter().any(|l| (l - v).abs() < 1e-6))));
        assert!(!bits.reached(), "{:?}", bits.tracks());
        for i in 0..COUNT {
            bits.edit(Edit::Move(i, (2.0 * i as f64 - 7.0) / 7.0));
        }
        assert!(bits.reached());
        assert!(bits.tracks()[0].error < 1e-6, "every weight is on a level of INT4");
        bits.edit(Edit::All(Preset::Outlier));
        let error = bits.tracks()[1].error;
        bits.edit(Edit::All(Preset::Bell));
        assert!(bits.absmax() < 1.1 && bits.tracks()[1].error < 0.2 && error > 0.0);
    }

    #[test]
    fn quantizing_the_base_saves_and_quantizing_the_factors_only_costs() {
        let (_, costs) = stories(8, &()).unwrap();
        let total = |cost: &Cost| cost.base + cost.factors;
        let [plain, base, factors, both] = &costs[..] else { panic!("four stories") };
        assert!(total(base) < 0.3 * total(plain), "{costs:?}");
        assert!(total(factors) > 0.97 * total(plain), "A and B are 3 % of the layer");
        // .0918 is NF4's error on N(0, 1) at block 64 (bitsandbytes); B A gets the errors of both factors.
        assert!((base.base_error - 0.0918).abs() < 0.003, "{}", base.base_error);
        assert!(factors.delta_error > 0.15 && factors.delta_error < 0.25, "{}", factors.delta_error);
        assert_eq!((both.base_error, both.delta_error), (base.base_error, factors.delta_error));
    }
}
