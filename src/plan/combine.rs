//! Two adapters of one base in one: what they share, module by module, and their weighted sum.
//!
//! ```text
//! ΔW = w_A s_A B_A A_A + w_B s_B B_B A_B = [w_A s_A B_A | w_B s_B B_B] · [A_A ; A_B]
//! ```
//!
//! The sum has rank `r_A + r_B` and is exact; cut to a smaller rank it keeps its strongest directions. Nothing of the size of a weight
//! is made.

use super::extract::{Changed, Cut, extract};
use crate::adapter::{Adapter, LoraLayer, NewAdapter, NewLayer, Pair, TargetModules};
use crate::checkpoint::Dtype;
use crate::delta::{DeltaWeight, LowRank, common};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::{Part, Progress};
use crate::spectrum;
use serde::Serialize;
use std::path::Path;

/// What two updates of one module share.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shared {
    /// The module.
    pub name: String,
    /// The smallest angle between the spaces of outputs that the two write into, over their ten strongest directions, in degrees: 0 where
    /// a direction is shared, 90 where none is. `None` where only one of them changes the module.
    pub angle: Option<f64>,
    /// σ₁ of the first, of the second, and of their sum: where the sum's is near both added, they pull the same way.
    pub sigma_1: [f64; 3],
    /// `⟨ΔW_A, ΔW_B⟩ / (‖ΔW_A‖ ‖ΔW_B‖)`: −1 where they cancel, 0 where they do not meet, 1 where they are one.
    pub interference: Option<f64>,
}

/// Two adapters in one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Combined {
    /// Module by module.
    pub modules: Vec<Shared>,
    /// In a sentence.
    pub verdict: String,
    /// Elements of the result.
    pub trainable: u64,
}

/// Directions of either that angles are taken between.
const TOP: usize = 10;

/// One of the two: the adapter and its weight in the sum.
pub type Weighted<'a> = (&'a Adapter, f64);

/// Writes the weighted sum of two adapters into `out`: cut to `rank` in every module, or with all of its directions.
///
/// # Errors
/// Adapters of other kinds than plain pairs on linear layers, or of two bases; a file that cannot be written; and cancellation.
pub fn combine(
    a: Weighted<'_>,
    b: Weighted<'_>,
    rank: Option<usize>,
    dtype: Dtype,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Combined> {
    for (adapter, weight) in [a, b] {
        if !weight.is_finite() {
            return Err(Error::usage(format!("weight {weight}; expected a number")));
        }
        check(adapter)?;
    }
    let modules = pairs(a.0, b.0)?;
    let mut shared = Vec::new();
    for (at, module) in modules.iter().enumerate() {
        progress.step(at as u64, 2 * modules.len() as u64)?;
        shared.push(module.shared(a, b)?);
    }
    let layers = modules.iter().map(|module| NewLayer {
        module: module.name.clone(),
        shape: module.shape,
        r: module.width(),
        lora_alpha: module.width() as f64,
        ..NewLayer::default()
    });
    let mut config = a.0.config.clone();
    // α = r in every layer: s = 1.
    config.scaling = crate::adapter::Scaling::Rank;
    // Those of either adapter.
    config.target_modules = TargetModules::Unsaid;
    let adapter = NewAdapter {
        names: a.0.peft_names().with(b.0.peft_names()),
        layers: layers.collect(),
        modules: a.0.layers.iter().chain(&b.0.layers).map(|layer| layer.module.clone()).collect(),
        config,
        ..NewAdapter::default()
    };
    let sum = |at: usize| -> Result<Pair> {
        let low = modules[at].sum(a, b)?;
        Ok((low.b, low.a).into())
    };
    let trainable = match rank {
        None => {
            adapter.write(out, dtype, &sum)?;
            adapter.trainable()
        }
        Some(rank) => {
            let whole = tempfile::tempdir().map_err(|error| Error::write(&std::env::temp_dir(), &error))?;
            adapter.write(whole.path(), Dtype::F32, &sum)?;
            let whole = Adapter::open(whole.path())?;
            let half = Part::new(progress, 1, 2);
            extract(Changed::Adapter(&whole), None, Cut::Rank(rank), dtype, out, &half)?.trainable
        }
    };
    progress.step(1, 1)?;
    Ok(Combined { verdict: verdict(&shared), modules: shared, trainable })
}

/// Plain pairs alone can be added: a magnitude or a weight that is saved whole has no sum that means both.
fn check(adapter: &Adapter) -> Result<()> {
    let beside = adapter
        .layers
        .iter()
        .find(|layer| layer.dora || layer.embedding || layer.experts.is_some() || !layer.kernel.is_empty());
    if let Some(layer) = beside {
        let message = format!(
            "{}: only plain pairs on linear layers can be added (no DoRA, embeddings, experts, convolutions)",
            layer.module
        );
        return Err(Error::file(adapter.path(), message));
    }
    if adapter.saved.iter().any(|saved| saved.trained) || !adapter.tokens.is_empty() {
        return Err(Error::file(
            adapter.path(),
            "holds weights that were trained whole (modules_to_save, tokens): they have no sum that means both",
        ));
    }
    Ok(())
}

/// A module of the sum.
struct Module<'a> {
    name: String,
    shape: [usize; 2],
    a: Option<&'a LoraLayer>,
    b: Option<&'a LoraLayer>,
}

/// The modules of either; names of the first where both have one.
fn pairs<'a>(a: &'a Adapter, b: &'a Adapter) -> Result<Vec<Module<'a>>> {
    let names = |adapter: &Adapter| adapter.layers.iter().map(|layer| layer.module.clone()).collect::<Vec<_>>();
    let both = common(&names(a), &names(b));
    if both.is_empty() {
        return Err(Error::usage(format!(
            "{} and {} have no module in common; expected two adapters of one base",
            a.path().display(),
            b.path().display()
        )));
    }
    let mut modules = Vec::new();
    for layer in &a.layers {
        let other = both.iter().find(|(name, _)| *name == layer.module).and_then(|(_, other)| b.layer(other));
        if let Some(other) = other.filter(|other| other.shape != layer.shape) {
            return Err(Error::usage(format!(
                "{} is {} × {} in one and {} × {} in the other; expected two adapters of one base",
                layer.module, layer.shape[0], layer.shape[1], other.shape[0], other.shape[1]
            )));
        }
        modules.push(Module { name: layer.module.clone(), shape: layer.shape, a: Some(layer), b: other });
    }
    for layer in b.layers.iter().filter(|layer| both.iter().all(|(_, other)| *other != layer.module)) {
        modules.push(Module { name: layer.module.clone(), shape: layer.shape, a: None, b: Some(layer) });
    }
    Ok(modules)
}

/// `s B A` of a layer, times a weight.
fn low_rank(adapter: &Adapter, layer: &LoraLayer, weight: f64) -> Result<LowRank> {
    let (b, a) = adapter.factors(layer)?;
    Ok(LowRank { b, a, scaling: weight * layer.scaling, epsilon: f64::from(f32::EPSILON) })
}

impl Module<'_> {
    fn width(&self) -> usize {
        self.a.map_or(0, |layer| layer.r) + self.b.map_or(0, |layer| layer.r)
    }

    /// The weighted sum, scaled by 1.
    fn sum(&self, (a, of_a): Weighted<'_>, (b, of_b): Weighted<'_>) -> Result<LowRank> {
        let mut parts = Vec::new();
        for (adapter, layer, weight) in [(a, self.a, of_a), (b, self.b, of_b)] {
            parts.extend(layer.map(|layer| low_rank(adapter, layer, weight)).transpose()?);
        }
        let [out, inner] = self.shape;
        let width = self.width();
        // Where a column of the sum comes from.
        let place = |i: usize| {
            let first = parts[0].a.rows();
            if i < first { (&parts[0], i) } else { (&parts[1], i - first) }
        };
        let b = Matrix::from_fn(out, width, |row, i| {
            let (part, i) = place(i);
            part.b.get(row, i) * part.scaling as f32
        });
        let a = Matrix::from_fn(width, inner, |i, col| {
            let (part, i) = place(i);
            part.a.get(i, col)
        });
        Ok(LowRank { b, a, scaling: 1.0, epsilon: f64::from(f32::EPSILON) })
    }

    fn shared(&self, a: Weighted<'_>, b: Weighted<'_>) -> Result<Shared> {
        let of = |(adapter, weight): Weighted<'_>, layer: Option<&LoraLayer>| -> Result<_> {
            let Some(layer) = layer else { return Ok(None) };
            let low = low_rank(adapter, layer, weight)?;
            let top = spectrum::leading(&DeltaWeight::LowRank(low.clone()), TOP.min(layer.r), &())?;
            Ok(Some((low, top)))
        };
        let (first, second) = (of(a, self.a)?, of(b, self.b)?);
        let sum = spectrum::leading(&DeltaWeight::LowRank(self.sum(a, b)?), 1, &())?.0;
        let largest = |sigma: &[f64]| sigma.first().copied().unwrap_or(0.0);
        let one = |of: &Option<(LowRank, (Vec<f64>, spectrum::Vectors))>| {
            of.as_ref().map_or(0.0, |(_, (sigma, _))| largest(sigma))
        };
        let sigma_1 = [one(&first), one(&second), largest(&sum)];
        let (mut angle, mut interference) = (None, None);
        if let (Some((x, (_, u))), Some((y, (_, v)))) = (&first, &second) {
            angle = smallest_angle(&u.u, &v.u)?;
            let (xx, yy, xy) = (inner(x, x), inner(y, y), inner(x, y));
            interference = (xx > 0.0 && yy > 0.0).then(|| (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0));
        }
        Ok(Shared { name: self.name.clone(), angle, sigma_1, interference })
    }
}

/// `⟨s B A, s' B' A'⟩ = s s' Σ (BᵀB') ∘ (A A'ᵀ)`.
fn inner(x: &LowRank, y: &LowRank) -> f64 {
    let dot = |a: &mut dyn Iterator<Item = (f32, f32)>| a.map(|(a, b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let mut total = 0.0;
    for i in 0..x.a.rows() {
        for j in 0..y.a.rows() {
            let left = dot(&mut (0..x.b.rows()).map(|row| (x.b.get(row, i), y.b.get(row, j))));
            let right = dot(&mut x.a.row(i).iter().copied().zip(y.a.row(j).iter().copied()));
            total += left * right;
        }
    }
    total * x.scaling * y.scaling
}

/// The smallest principal angle between two sets of orthonormal columns, in degrees: its cosine is the largest singular value of `UᵀV`.
fn smallest_angle(u: &Matrix, v: &Matrix) -> Result<Option<f64>> {
    if u.cols() == 0 || v.cols() == 0 {
        return Ok(None);
    }
    let cross = Matrix::from_fn(u.cols(), v.cols(), |i, j| {
        (0..u.rows()).map(|row| f64::from(u.get(row, i)) * f64::from(v.get(row, j))).sum::<f64>() as f32
    });
    let dense = crate::delta::Dense {
        matrix: std::sync::Arc::new(cross),
        epsilon: f64::from(f32::EPSILON),
        rounding_std: None,
    };
    let cosine = spectrum::leading(&DeltaWeight::Dense(dense), 1, &())?.0.first().copied().unwrap_or(0.0);
    Ok(Some(cosine.clamp(0.0, 1.0).acos().to_degrees()))
}

/// From this on two updates pull the same way, or against each other.
const NOTABLE: f64 = 0.2;

fn verdict(modules: &[Shared]) -> String {
    let both: Vec<f64> = modules.iter().filter_map(|module| module.interference).collect();
    let mean = both.iter().sum::<f64>() / both.len().max(1) as f64;
    let count = |test: fn(f64) -> bool| both.iter().filter(|&&x| test(x)).count();
    let (same, against) = (count(|x| x > NOTABLE), count(|x| x < -NOTABLE));
    let n = both.len();
    if against > 0 && against >= same {
        format!(
            "In {against} of {n} modules the two pull against each other (mean interference {mean:.2}): what one has learned the other takes back; train on both data sets together."
        )
    } else if same * 2 > n {
        format!(
            "In {same} of {n} modules the two pull the same way (mean interference {mean:.2}): their sum overshoots; weights of 0.5 each keep its size."
        )
    } else {
        format!(
            "The two hardly meet (mean interference {mean:.2}; {same} of {n} modules pull the same way): their sum holds both."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
    }

    fn dense(adapter: &Adapter, name: &str) -> Matrix {
        let layer = adapter.layer(name).unwrap();
        DeltaWeight::LowRank(low_rank(adapter, layer, 1.0).unwrap()).dense(&()).unwrap().into_owned()
    }

    #[test]
    fn a_sum_is_a_sum_and_twice_the_same_is_one_direction() {
        let adapter = Adapter::open(&fixture("llama-adapter")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("sum");
        let found = combine((&adapter, 1.0), (&adapter, 0.5), None, Dtype::F32, &out, &()).unwrap();
        let sum = Adapter::open(&out).unwrap();
        for module in &found.modules {
            let [one, other, both] = module.sigma_1;
            assert!((both - 1.5 * one).abs() < 1e-4 * one && (other - 0.5 * one).abs() < 1e-4 * one, "{module:?}");
            assert!((module.interference.unwrap() - 1.0).abs() < 1e-6 && module.angle.unwrap() < 0.1, "{module:?}");
            let (expected, found) = (dense(&adapter, &module.name), dense(&sum, &module.name));
            let off = expected.data().iter().zip(found.data()).map(|(x, y)| (1.5 * x - y).abs()).fold(0.0, f32::max);
            assert!(off < 1e-4, "{}: {off}", module.name);
        }
        assert!(found.verdict.contains("pull the same way"), "{}", found.verdict);
        // Against itself nothing is left; cut to the rank of one, the sum loses nothing.
        let against = combine(
            (&adapter, 1.0),
            (&adapter, -0.5),
            adapter.layers.iter().map(|layer| layer.r).max(),
            Dtype::F32,
            &folder.path().join("cut"),
            &(),
        )
        .unwrap();
        assert!(against.modules.iter().all(|module| (module.interference.unwrap() + 1.0).abs() < 1e-6));
        assert!(
            against.verdict.contains("against each other") && against.trainable < found.trainable,
            "{}",
            against.verdict
        );
        let cut = Adapter::open(&folder.path().join("cut")).unwrap();
        let name = &found.modules[0].name;
        let off = dense(&adapter, name)
            .data()
            .iter()
            .zip(dense(&cut, name).data())
            .map(|(x, y)| (0.5 * x - y).abs())
            .fold(0.0, f32::max);
        assert!(off < 1e-4, "{off}");
        let wrong = combine((&adapter, f64::NAN), (&adapter, 1.0), None, Dtype::F32, &folder.path().join("x"), &());
        assert!(wrong.unwrap_err().to_string().contains("weight NaN"));
    }
}
