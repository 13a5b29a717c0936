//! Chapter 8: a block of eight weights in 4 bits, and what QLoRA quantizes: the base, not A and B.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

use crate::error::Result;
use crate::matrix::Matrix;
use crate::progress::Progress;
use crate::quant::{QuantType, Quantized, Scheme};

/// Weights of the block.
pub const COUNT: usize = 8;
/// They are between −REACH and REACH.
pub const REACH: f64 = 2.0;
/// Sixteen levels, or fifteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// −7…7 steps of `absmax / 7`.
    Int4,
    /// Quantiles of the normal distribution.
    Nf4,
    /// A sign and eight magnitudes.
    Fp4,
}

/// The formats that are compared.
pub const FORMATS: [Format; 3] = [Format::Int4, Format::Nf4, Format::Fp4];

impl Format {
    /// As a person reads it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Int4 => "INT4",
            Self::Nf4 => "NF4",
            Self::Fp4 => "FP4",
        }
    }

    /// Its levels in rising order, as shares of the block's absmax.
    fn levels(self) -> Vec<f32> {
        let kind = match self {
            Self::Int4 => return (-7..=7i8).map(|code| f32::from(code) / 7.0).collect(),
            Self::Nf4 => QuantType::Nf4,
            Self::Fp4 => QuantType::Fp4,
        };
        let mut levels = kind.levels().to_vec();
        levels.sort_by(f32::total_cmp);
        // FP4 has two zeros.
        levels.dedup_by(|a, b| *a == *b);
        levels
    }

    /// What becomes of values in blocks of `block`.
    fn rounded(self, values: &[f32], block: usize) -> Result<Vec<f32>> {
        let quant_type = match self {
            Self::Int4 => return Ok(values.chunks(block).flat_map(even).collect()),
            Self::Nf4 => QuantType::Nf4,
            Self::Fp4 => QuantType::Fp4,
        };
        let scheme = Scheme { quant_type, blocksize: block, double_quant: false };
        let mut back = vec![0.0; values.len()];
        Quantized::new(values, [1, values.len()], scheme)?.dequantize(&mut back);
        Ok(back)
    }
}

/// Symmetric INT4: `ŵ = q · absmax / 7`, `q = round(7 w / absmax)`.
fn even(values: &[f32]) -> Vec<f32> {
    let step = values.iter().fold(0.0f32, |most, w| most.max(w.abs())) / 7.0;
    values.iter().map(|w| if step > 0.0 { (w / step).round_ties_even() * step } else { 0.0 }).collect()
}

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
        match (error(Format::Int4), error(Format::Nf4)) {
            (Some(int4), Some(nf4)) => int4 < nf4,
            _ => false,
        }
    }
}

fn track(weights: &[f64; COUNT], format: Format) -> Result<Track> {
    let values = weights.map(|w| w as f32);
    let absmax = values.iter().fold(0.0f32, |most, w| most.max(w.abs()));
    let back = format.rounded(&values, COUNT)?;
    let size = weights.iter().map(|w| w * w).sum::<f64>().sqrt();
    let off = weights.iter().zip(&back).map(|(w, back)| (w - f64::from(*back)).powi(2)).sum::<f64>().sqrt();
    Ok(Track {
        format,
        levels: format.levels().into_iter().map(|share| f64::from(share * absmax)).collect(),
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
    let mut back = Matrix::zeros(LAYER, LAYER);
    let packed = Quantized::new(base.data(), base.shape(), Scheme::default())?;
    packed.dequantize(back.data_mut());
    let base_error = distance(&base, &back) / base.frobenius();
    progress.step(2, 4)?;
    // B in groups down its columns and A along its rows: each direction has scales of its own.
    let b4 = in_int4(&b.transposed())?.transposed();
    let a4 = in_int4(&a)?;
    let (delta, delta4) = (product(&b, &a), product(&b4, &a4));
    progress.step(3, 4)?;
    let delta_error = distance(&delta, &delta4) / delta.frobenius();
    // 4 bits and a scale of 32 for each direction; else 16 bits.
    let numbers = (2 * LAYER * r) as f64;
    let [plain, small] = [2.0 * numbers, numbers / 2.0 + 4.0 * 2.0 * r as f64];
    let costs = Story::ALL.map(|story| {
        let base = matches!(story, Story::Base | Story::Both);
        let factors = matches!(story, Story::Factors | Story::Both);
        Cost {
            story,
            base: if base { packed.bytes() as f64 } else { 2.0 * (LAYER * LAYER) as f64 },
            factors: if factors { small } else { plain },
            base_error: if base { base_error } else { 0.0 },
            delta_error: if factors { delta_error } else { 0.0 },
        }
    });
    Ok((r, costs.to_vec()))
}

fn in_int4(w: &Matrix) -> Result<Matrix> {
    Matrix::new(w.rows(), w.cols(), Format::Int4.rounded(w.data(), w.cols())?)
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
