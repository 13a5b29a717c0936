//! The jobs behind the lower half: formats, block sizes, all modules, ΔW, what QLoRA quantizes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::look::module;
use crate::checkpoint::Checkpoint;
use crate::delta::{DeltaSet, DeltaWeight, LowRank, Source};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::{Part, Progress};
use crate::quant::{Fit, Format, Group, Measures, Recipe, Scheme, measure, measure_stored, q4_0_rule};
use crate::spectrum::leading;
use crate::spectrum::rounding::{self, Against, Left};
use crate::train::Settings;
use crate::train::calibrate::input_squares;
use crate::train::roles::{self, RoleLosses};

/// One format in the table.
#[derive(Clone)]
pub struct FormatRow {
    /// Which, with its block; of a stored weight the one that it stands beside.
    pub recipe: Recipe,
    /// How the open tuned model stores the weight, where the row is about that.
    pub stored: Option<String>,
    /// Bits per weight.
    pub bits: f64,
    /// How far off, or why it cannot be said.
    pub result: std::result::Result<Measures, String>,
}

/// The weight as the open tuned model stores it, where that is in few bits.
pub fn stored(
    subject: &Subject,
    weight: &Matrix,
    like: Recipe,
    progress: &dyn Progress,
    send: &mut dyn FnMut(FormatRow),
) -> Result<()> {
    let Some((model, module)) = super::look::stored(&subject.set, &subject.name) else { return Ok(()) };
    let rounded = model.matrix(module, progress)?;
    let bits = 8.0 * model.stored_bytes(module) as f64 / weight.data().len().max(1) as f64;
    let result = Ok(measure_stored(weight.data(), rounded.data(), weight.cols(), progress)?);
    send(FormatRow { recipe: like, stored: Some(module.dtype.to_string()), bits, result });
    Ok(())
}

/// Every format; at so many bits per weight where that is given.
pub fn formats(
    weight: &Matrix,
    like: Recipe,
    matched: bool,
    progress: &dyn Progress,
    send: &mut dyn FnMut(FormatRow),
) -> Result<()> {
    let shape = weight.shape();
    let all = Format::ALL;
    for (index, format) in all.into_iter().enumerate() {
        let part = Part::new(progress, index as u64, all.len() as u64);
        let recipe = match matched {
            _ if format == like.format => like,
            true => Recipe::matched(format, like.bits(shape), shape, like.double_quant),
            false => Recipe::with(format, like.group, like.double_quant),
        };
        let result = match recipe.problem(shape) {
            Some(problem) => Err(problem),
            None => Ok(measure(weight.data(), &Fit::new(weight.data(), shape, recipe)?, &part)?),
        };
        send(FormatRow { recipe, stored: None, bits: recipe.bits(shape), result });
    }
    Ok(())
}

/// The error of a format at a block size.
#[derive(Clone, Copy)]
pub struct BlockPoint {
    /// Which format.
    pub format: Format,
    /// Weights that share a scale.
    pub block: usize,
    /// `‖Ŵ − W‖ / ‖W‖`.
    pub relative: f64,
}

/// The formats that are swept over block sizes.
pub const SWEPT: [Format; 5] = [Format::Nf4, Format::Fp4, Format::Int4Symmetric, Format::Int4Affine, Format::Q4_0];

/// The 4-bit formats at every block size; llama.cpp's by its rule, which no file has in other blocks than 32.
pub fn blocks(
    weight: &Matrix,
    double_quant: bool,
    progress: &dyn Progress,
    send: &mut dyn FnMut(BlockPoint),
) -> Result<()> {
    let shape = weight.shape();
    let total = (SWEPT.len() * Format::BLOCKS.len()) as u64;
    let mut done = 0;
    for format in SWEPT {
        for block in Format::BLOCKS {
            let part = Part::new(progress, done, total);
            done += 1;
            let recipe = match format {
                Format::Q4_0 => q4_0_rule(block),
                _ => Recipe::with(format, Group::Block(block), double_quant),
            };
            if recipe.problem(shape).is_some() {
                continue;
            }
            let found = measure(weight.data(), &Fit::new(weight.data(), shape, recipe)?, &part)?;
            send(BlockPoint { format, block, relative: found.relative_rmse });
        }
    }
    Ok(())
}

/// A module of the map.
#[derive(Clone)]
pub struct ModuleRow {
    /// Its name.
    pub name: String,
    /// The error of every format, in the order that was asked for; or why there is none.
    pub errors: std::result::Result<Vec<Option<Measures>>, String>,
    /// `‖ΔW‖_F`, where there is one and it can be computed.
    pub delta: Option<f64>,
}

/// Every module of the model, format by format, and the size of its ΔW.
pub fn modules(
    set: &DeltaSet,
    recipes: &[Recipe],
    with_delta: bool,
    progress: &dyn Progress,
    send: &mut dyn FnMut(ModuleRow),
) -> Result<()> {
    let entries = set.entries();
    for (index, entry) in entries.iter().enumerate() {
        let part = Part::new(progress, index as u64, entries.len() as u64);
        let weight =
            module(set.base(), &entry.name).and_then(|module| set.base().matrix(module, &Part::new(&part, 0, 3)));
        let weight = match weight {
            Ok(weight) => weight,
            Err(error) if error.is_cancelled() => return Err(error),
            Err(error) => {
                send(ModuleRow { name: entry.name.clone(), errors: Err(error.to_string()), delta: None });
                continue;
            }
        };
        let mut errors = Vec::with_capacity(recipes.len());
        for recipe in recipes {
            errors.push(match recipe.problem(weight.shape()) {
                Some(_) => None,
                None => {
                    let fit = Fit::new(weight.data(), weight.shape(), *recipe)?;
                    Some(measure(weight.data(), &fit, &Part::new(&part, 1, 3))?)
                }
            });
        }
        let delta = match with_delta {
            true => size(set, &entry.name, &Part::new(&part, 2, 3))?,
            false => None,
        };
        send(ModuleRow { name: entry.name.clone(), errors: Ok(errors), delta });
    }
    Ok(())
}

/// `‖ΔW‖_F` of a module; `None` where it cannot be computed.
fn size(set: &DeltaSet, name: &str, progress: &dyn Progress) -> Result<Option<f64>> {
    let Some(entry) = set.entry(name) else { return Ok(None) };
    match set.load(entry, progress) {
        Ok(DeltaWeight::Dense(dense)) => Ok(Some(dense.matrix.frobenius())),
        // ‖s B A‖² = s² Σ (BᵀB)ᵢⱼ (A Aᵀ)ᵢⱼ: the product is not formed.
        Ok(DeltaWeight::LowRank(LowRank { b, a, scaling, .. })) => {
            let r = a.rows();
            let mut square = 0f64;
            for i in 0..r {
                for j in 0..r {
                    let left: f64 = (0..b.rows()).map(|row| f64::from(b.get(row, i)) * f64::from(b.get(row, j))).sum();
                    let right: f64 = a.row(i).iter().zip(a.row(j)).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
                    square += left * right;
                }
            }
            Ok(Some(scaling.abs() * square.max(0.0).sqrt()))
        }
        Err(error) if error.is_cancelled() => Err(error),
        Err(_) => Ok(None),
    }
}

/// What is found about the error beside ΔW.
pub enum AgainstItem {
    /// Norms, shares, the spectrum of the error.
    Facts(Box<Against>),
    /// What a repair of rank r leaves after each iteration.
    Repair(usize, Vec<Left>),
    /// What the best repairs for the inputs of a person's data leave of the output, by rank; or why that is not known.
    Weighted(std::result::Result<Vec<(usize, f64)>, String>),
}

/// Mean squares of every module's input, `[in_features]`, by module.
type Inputs = Arc<HashMap<String, Vec<f64>>>;

/// Those of the last data that were asked about.
#[derive(Default)]
pub struct Squares(Mutex<Option<(Arc<Settings>, Inputs)>>);

impl Squares {
    /// Computes them, unless they are known.
    ///
    /// # Errors
    /// As [`input_squares`].
    pub fn computed(&self, settings: &Arc<Settings>, progress: &dyn Progress) -> Result<Inputs> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, inputs)) = known().as_ref().filter(|(of, _)| of == settings) {
            return Ok(Arc::clone(inputs));
        }
        let inputs = Arc::new(input_squares(settings, progress)?);
        *known() = Some((Arc::clone(settings), Arc::clone(&inputs)));
        Ok(inputs)
    }
}

/// What gives [`Inputs`].
type Asked<'a> = &'a dyn Fn(&dyn Progress) -> Result<Inputs>;

/// What is repaired, and how.
pub struct Repairs<'a> {
    /// The format.
    pub recipe: Recipe,
    /// Of LoftQ.
    pub iterations: usize,
    /// How large the inputs are, where there are data.
    pub inputs: Option<Asked<'a>>,
}

/// Ranks of the repair.
const RANKS: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

/// The error of a module beside its ΔW, and what a low rank repairs of it.
pub fn against(
    set: &DeltaSet,
    name: &str,
    weight: &Matrix,
    asked: &Repairs<'_>,
    progress: &dyn Progress,
    send: &mut dyn FnMut(AgainstItem),
) -> Result<()> {
    let Repairs { recipe, iterations, inputs } = *asked;
    let entry = set.entry(name).ok_or_else(|| Error::usage(format!("{name} has no ΔW")))?;
    let delta = set.load(entry, &Part::new(progress, 0, 10))?;
    let facts = rounding::against(weight, &delta, recipe, &Part::new(progress, 1, 10))?;
    send(AgainstItem::Facts(Box::new(facts)));
    let side = weight.rows().min(weight.cols());
    let ranks: Vec<usize> = RANKS.into_iter().filter(|&r| r <= side / 2).collect();
    let mut squares = None;
    if let Some(inputs) = inputs {
        progress.stage("looking at the inputs of your data");
        let found = inputs(&Part::new(progress, 2, 10)).and_then(|all| {
            let squares = all
                .get(name)
                .cloned()
                .ok_or_else(|| Error::failure(format!("{name} is no linear layer that a token goes through")))?;
            let left = rounding::weighted(weight, recipe, &ranks, &squares, &Part::new(progress, 3, 10))?;
            Ok((squares, ranks.iter().copied().zip(left).collect()))
        });
        match found {
            Err(error) if error.is_cancelled() => return Err(error),
            Err(error) => send(AgainstItem::Weighted(Err(error.to_string()))),
            Ok((of, left)) => {
                squares = Some(of);
                send(AgainstItem::Weighted(Ok(left)));
            }
        }
    }
    for (index, &r) in ranks.iter().enumerate() {
        let whole = Part::rest(progress, 4, 10);
        let part = Part::new(&whole, index as u64, ranks.len() as u64);
        let left = rounding::repair(weight, recipe, r, iterations, squares.as_deref(), &part)?;
        send(AgainstItem::Repair(r, left));
    }
    Ok(())
}

/// What the two ways of quantizing cost a module.
#[derive(Clone, Copy, Debug)]
pub struct Roles {
    /// Rank of the pair.
    pub r: usize,
    /// `‖ΔW‖_F`.
    pub delta: f64,
    /// Error of the base weight in the format: `‖Ŵ − W‖_F`.
    pub base: Measures,
    /// `‖B A − ΔW‖_F`: what the rank itself leaves out.
    pub cut: f64,
    /// `‖B̂ Â − B A‖_F`: both factors in the format, each in its own blocks.
    pub pair: f64,
    /// `‖B A‖_F`.
    pub pair_norm: f64,
    /// Bits per weight of the base in the format.
    pub base_bits: f64,
    /// Bits per weight of the factors in the format.
    pub pair_bits: f64,
    /// Elements of W.
    pub weights: u64,
    /// Elements of B and A.
    pub pair_weights: u64,
}

/// What is found about the two ways of quantizing.
pub enum RolesItem {
    /// Memory and error.
    Cost(Roles),
    /// The loss of each on held-out data that lies beside the model; or why it cannot be said.
    Losses(std::result::Result<RoleLosses, String>),
}

/// Held-out rows that the loss is computed over at most.
const ROWS: usize = 96;

/// The loss of each way, where there is data beside the model and the format is one that a model can be held in.
pub fn losses(
    set: &DeltaSet,
    recipe: Recipe,
    r: usize,
    progress: &dyn Progress,
    send: &mut dyn FnMut(RolesItem),
) -> Result<()> {
    let other = match set.source() {
        Source::Tuned(tuned) => tuned.name(),
        Source::Adapter(adapter) => adapter.path().display().to_string(),
        Source::Weight => return Ok(()),
    };
    let Some(file) = roles::data_beside(set.base(), &other) else { return Ok(()) };
    let (Some(quant_type), Group::Block(blocksize)) = (recipe.format.quant_type(), recipe.group) else {
        send(RolesItem::Losses(Err("A model is held in NF4 or FP4: choose one of them to see the loss.".to_owned())));
        return Ok(());
    };
    let scheme = Scheme { quant_type, blocksize, double_quant: recipe.double_quant };
    match roles::role_losses(set, scheme, r, &file, ROWS, progress) {
        Err(error) if error.is_cancelled() => return Err(error),
        found => send(RolesItem::Losses(found.map_err(|error| error.to_string()))),
    }
    Ok(())
}

/// Base in the format and adapter as it is, against the other way round: on one module, at rank r.
pub fn costs(
    set: &DeltaSet,
    name: &str,
    weight: &Matrix,
    recipe: Recipe,
    r: usize,
    progress: &dyn Progress,
) -> Result<Roles> {
    let entry = set.entry(name).ok_or_else(|| Error::usage(format!("{name} has no ΔW")))?;
    let delta = set.load(entry, &Part::new(progress, 0, 4))?;
    let fit = Fit::new(weight.data(), weight.shape(), recipe)?;
    let base = measure(weight.data(), &fit, &Part::new(progress, 1, 4))?;
    let (b, a, cut) = pair(&delta, r, &Part::new(progress, 2, 4))?;
    let recipe_of = |m: &Matrix| match recipe.problem(m.shape()) {
        None => recipe,
        // A K-quant or llama.cpp's block may not fit into thin factors: NF4 of the same block does.
        Some(_) => Recipe::with(Format::Nf4, Group::Block(64), false),
    };
    let rounded = |m: &Matrix| -> Result<Matrix> {
        let fit = Fit::new(m.data(), m.shape(), recipe_of(m))?;
        Matrix::new(m.rows(), m.cols(), fit.dequantize(m.data()))
    };
    let product = |b: Matrix, a: Matrix| -> Result<Matrix> {
        let pair = DeltaWeight::LowRank(LowRank { b, a, scaling: 1.0, epsilon: f64::from(f32::EPSILON) });
        Ok(pair.dense(&())?.into_owned())
    };
    let (b4, a4) = (rounded(&b)?, rounded(&a)?);
    let [weights, pair_weights] = [weight.data().len(), b.data().len() + a.data().len()].map(|n| n as u64);
    let bits = |m: &Matrix| recipe_of(m).bits(m.shape()) * m.data().len() as f64;
    let pair_bits = (bits(&b) + bits(&a)) / pair_weights.max(1) as f64;
    let exact = product(b, a)?;
    let coarse = product(b4, a4)?;
    let apart: f64 = exact.data().iter().zip(coarse.data()).map(|(x, y)| f64::from(x - y).powi(2)).sum();
    progress.step(4, 4)?;
    let total = match &delta {
        DeltaWeight::Dense(dense) => dense.matrix.frobenius(),
        DeltaWeight::LowRank(_) => (exact.frobenius().powi(2) + cut * cut).sqrt(),
    };
    Ok(Roles {
        r,
        delta: total,
        base,
        cut,
        pair: apart.sqrt(),
        pair_norm: exact.frobenius(),
        base_bits: fit.bits(),
        pair_bits,
        weights,
        pair_weights,
    })
}

/// `B = U_r √S_r`, `A = √S_r V_rᵀ`, and what they leave out.
fn pair(delta: &DeltaWeight, r: usize, progress: &dyn Progress) -> Result<(Matrix, Matrix, f64)> {
    let [rows, cols] = delta.shape();
    let r = r.min(rows.min(cols)).max(1);
    let (sigma, vectors) = leading(delta, r, progress)?;
    let count = vectors.count().min(sigma.len()).min(r);
    let root: Vec<f32> = sigma.iter().map(|sigma| sigma.sqrt() as f32).collect();
    let b = Matrix::from_fn(rows, count, |row, i| vectors.u.get(row, i) * root[i]);
    let a = Matrix::from_fn(count, cols, |i, col| vectors.v.get(col, i) * root[i]);
    let kept: f64 = sigma.iter().take(count).map(|s| s * s).sum();
    let total = match delta {
        DeltaWeight::Dense(dense) => dense.matrix.frobenius().powi(2),
        DeltaWeight::LowRank(low) => {
            // All of it has the rank of its factors.
            let all = low.a.rows().min(rows.min(cols));
            leading(delta, all, &())?.0.iter().map(|s| s * s).sum()
        }
    };
    Ok((b, a, (total - kept).max(0.0).sqrt()))
}

/// The base model and what is looked at in it.
pub struct Subject {
    /// The modules with their ΔW.
    pub set: Arc<DeltaSet>,
    /// The module.
    pub name: String,
    /// Its weight, where it has been read.
    pub weight: Option<Arc<Matrix>>,
}

impl Subject {
    /// The weight, read now if it must be.
    pub fn weight(&self, progress: &dyn Progress) -> Result<Arc<Matrix>> {
        match &self.weight {
            Some(weight) => Ok(Arc::clone(weight)),
            None => Ok(Arc::new(read(self.set.base(), &self.name, progress)?)),
        }
    }
}

fn read(base: &Checkpoint, name: &str, progress: &dyn Progress) -> Result<Matrix> {
    base.matrix(module(base, name)?, progress)
}
