//! [`check`]: whether a merged model is what was trained. The same rows are read by the base with the adapter beside it, by the
//! merged model, and by the merged model with its linear weights in 4 bits; where they differ, what is measured says why.

use super::data::Rows;
use super::history;
use crate::adapter::Adapter;
use crate::checkpoint::{Checkpoint, Dtype};
use crate::error::Result;
use crate::model::gpu::Opened;
use crate::model::{Applied, Decoder, Frozen, Loss};
use crate::progress::{Part, Progress};
use crate::quant::{Fit, Format, Group, Recipe, Scheme};
use crate::units::real;

/// What is compared.
pub struct Compared<'a> {
    /// The base, as it was merged.
    pub base: &'a Checkpoint,
    /// The adapter.
    pub adapter: &'a Adapter,
    /// What was written.
    pub merged: &'a Checkpoint,
    /// The rows that all of them read.
    pub rows: &'a Rows,
    /// Rows that are computed at once.
    pub batch: usize,
    /// What computes.
    pub place: &'a Opened,
}

/// What each of them says of the rows. Losses are means over the predicted tokens, in nats; agreements are shares of them at
/// which the most likely token is that of the base with the adapter beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// Rows that were read.
    pub rows: usize,
    /// Tokens that were predicted.
    pub tokens: usize,
    /// Of the base alone.
    pub base_loss: f64,
    /// Of the base with the adapter beside it: what was trained.
    pub adapter_loss: f64,
    /// Of the merged model.
    pub merged_loss: f64,
    /// Of the merged model with linear weights in 4 bits.
    pub requantized_loss: f64,
    /// Of the merged model with the adapter.
    pub agreement: f64,
    /// Of the merged model in 4 bits.
    pub requantized_agreement: f64,
    /// How it was quantized again: `NF4 · 64 · double`.
    pub requantized_as: String,
    /// Why the three differ, as far as they do.
    pub causes: Vec<String>,
}

/// Modules whose rounding is measured.
const MEASURED: usize = 8;
/// A loss that is as good as another, in nats.
const SAME: f64 = 0.01;
/// What a rounding may take of ΔW, in root mean square, before it is said.
const TAKES: f64 = 0.1;

/// Reads the rows four or five times.
///
/// # Errors
/// A model that is not computed here, rows that do not fit it; and cancellation.
pub fn check(compared: &Compared, progress: &dyn Progress) -> Result<Checked> {
    let Compared { base, adapter, merged, .. } = *compared;
    let scheme = stored_scheme(base).unwrap_or_default();
    let beside = trained_in_4_bits(base, adapter).then_some(scheme);
    let total = if beside.is_some() { 6 } else { 5 };
    let part = |number: u64| Part::new(progress, number, total);
    progress.stage("the base");
    let (alone, _) = compared.read(&Decoder::load(base, Frozen::AsStored, &())?, &part(0))?;
    progress.stage("base and adapter");
    let beside_it = Decoder::with_adapter(base, adapter, Frozen::AsStored, &())?;
    let (trained, first) = compared.read(&beside_it, &part(1))?;
    drop(beside_it);
    progress.stage("merged");
    let (whole, merged_first) = compared.read(&Decoder::load(merged, Frozen::AsStored, &())?, &part(2))?;
    progress.stage("merged, in 4 bits");
    let (again, again_first) = compared.read(&Decoder::load(merged, Frozen::FourBit(scheme), &())?, &part(3))?;
    let on_4_bits = match beside {
        Some(scheme) => {
            progress.stage("base in 4 bits and adapter");
            let decoder = Decoder::with_adapter(base, adapter, Frozen::FourBit(scheme), &())?;
            Some(compared.read(&decoder, &part(4))?.0.mean())
        }
        None => None,
    };
    progress.stage("rounding");
    let rounding = Rounding::measure(compared, scheme, &part(total - 1))?;
    progress.step(1, 1)?;
    let same = |other: &[u32]| {
        let equal = first.iter().zip(other).filter(|(a, b)| a == b).count();
        equal as f64 / first.len().max(1) as f64
    };
    let mut checked = Checked {
        rows: compared.rows.rows.len(),
        tokens: trained.count,
        base_loss: alone.mean(),
        adapter_loss: trained.mean(),
        merged_loss: whole.mean(),
        requantized_loss: again.mean(),
        agreement: same(&merged_first),
        requantized_agreement: same(&again_first),
        requantized_as: recipe(scheme).to_string(),
        causes: Vec::new(),
    };
    checked.causes = checked.explain(compared, &rounding, on_4_bits);
    Ok(checked)
}

impl Compared<'_> {
    fn read(&self, decoder: &Decoder, progress: &dyn Progress) -> Result<(Loss, Vec<u32>)> {
        let engine = self.place.engine(decoder)?;
        let (mut loss, mut choices) = (Loss::default(), Vec::new());
        let all: Vec<_> = self.rows.rows.iter().collect();
        for (index, some) in all.chunks(self.batch.max(1)).enumerate() {
            progress.step((index * self.batch) as u64, all.len() as u64)?;
            let (more, most_likely) = engine.choices(decoder, Rows::pad(some).batch())?;
            loss = loss + more;
            choices.extend(most_likely);
        }
        Ok((loss, choices))
    }
}

impl Checked {
    fn explain(&self, compared: &Compared, rounding: &Rounding, on_4_bits: Option<f64>) -> Vec<String> {
        let Compared { base, adapter, .. } = *compared;
        let mut causes = Vec::new();
        let (before, after) = (real(self.base_loss, 4), real(self.adapter_loss, 4));
        if self.adapter_loss >= self.base_loss - SAME / 10.0 {
            let named = adapter.config.base_model_name_or_path.as_deref().unwrap_or("no base");
            causes.push(format!(
                "wrong base or other data: the loss is {before} without the adapter and {after} with it; the adapter names {named}, \
                 the base here is {}",
                base.name()
            ));
        }
        if let Some(loss) = on_4_bits.filter(|loss| *loss < self.adapter_loss - SAME) {
            causes.push(format!(
                "4-bit base: the adapter was trained beside weights in {}, where its loss is {}; on the weights as they are here it \
                 is {after}. Merge it into the 4-bit base to keep what was trained",
                self.requantized_as,
                real(loss, 4)
            ));
        }
        let Rounding { written, again, dtype, worst } = rounding;
        if *written > TAKES {
            causes.push(format!(
                "{} rounding: the numbers that were written are off by {} % of what the adapter changes, the most in {worst}; --dtype f32 keeps it",
                dtype.name(),
                real(100.0 * written, 2)
            ));
        }
        if self.requantized_loss > self.merged_loss + SAME || self.requantized_agreement < 1.0 - SAME {
            causes.push(format!(
                "4 bits again: rounding to {} moves the merged weights {} times as far as the adapter did",
                self.requantized_as,
                real(*again, 2)
            ));
        }
        causes
    }
}

/// What rounding takes of what the adapter changes, as ratios of root mean squares over some modules.
struct Rounding {
    /// Between what merging computes and what was written.
    written: f64,
    /// Between what was written and its 4-bit rounding.
    again: f64,
    /// The type that was written.
    dtype: Dtype,
    /// Where `written` is largest.
    worst: String,
}

impl Rounding {
    fn measure(compared: &Compared, scheme: Scheme, progress: &dyn Progress) -> Result<Self> {
        let Compared { base, adapter, merged, .. } = *compared;
        let applied = Applied::new(base, adapter)?;
        let names: Vec<&str> = applied.changed().filter(|(_, _, added)| !added).map(|(name, ..)| name).collect();
        let each = names.len().div_ceil(MEASURED).max(1);
        let mut sums = [0f64; 3];
        let (mut most, mut worst, mut dtype) = (0.0, String::new(), Dtype::F32);
        for (at, name) in names.iter().step_by(each).enumerate() {
            progress.step(at as u64, MEASURED as u64)?;
            let module = name.strip_suffix(".weight").unwrap_or(name);
            let (Some(before), Some(after)) = (base.module(module), merged.module(module)) else { continue };
            if !after.linear || before.shape != after.shape || before.is_transposed() {
                continue;
            }
            let Some(exact) = applied.values(name, &())? else { continue };
            let (before, written) = (base.matrix(before, &())?, merged.matrix(after, &())?);
            let fit = Fit::new(written.data(), written.shape(), recipe(scheme))?;
            let again = fit.dequantize(written.data());
            let squares = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
            };
            let found =
                [squares(&exact, before.data()), squares(written.data(), &exact), squares(&again, written.data())];
            if found[0] > 0.0 && found[1] / found[0] > most {
                (most, worst, dtype) = (found[1] / found[0], module.to_owned(), after.dtype);
            }
            sums.iter_mut().zip(found).for_each(|(sum, more)| *sum += more);
        }
        let ratio = |of: f64| if sums[0] > 0.0 { (of / sums[0]).sqrt() } else { 0.0 };
        Ok(Self { written: ratio(sums[1]), again: ratio(sums[2]), dtype, worst })
    }
}

fn recipe(scheme: Scheme) -> Recipe {
    let format = if scheme.quant_type == crate::quant::QuantType::Nf4 { Format::Nf4 } else { Format::Fp4 };
    Recipe::with(format, Group::Block(scheme.blocksize), scheme.double_quant)
}

/// How the base's own 4-bit weights are stored.
fn stored_scheme(base: &Checkpoint) -> Option<Scheme> {
    let module = base.modules().iter().find(|module| matches!(module.dtype, Dtype::NF4 | Dtype::FP4))?;
    crate::quant::Quantized::stored(base, module).ok().flatten().map(|weight| weight.scheme())
}

/// Whether the adapter was trained beside 4-bit weights that this base does not have: as its run says, or the base that it names.
fn trained_in_4_bits(base: &Checkpoint, adapter: &Adapter) -> bool {
    if stored_scheme(base).is_some() {
        return false;
    }
    let named = adapter.config.base_model_name_or_path.as_deref().unwrap_or_default().to_ascii_lowercase();
    let by_run = history::settings(adapter.path()).ok().and_then(|settings| settings.scheme()).is_some();
    by_run || ["bnb-4bit", "4bit"].iter().any(|word| named.contains(word))
}

/// The result in a sentence or two.
impl std::fmt::Display for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        write!(
            f,
            "on {} rows the loss is {} with the adapter beside the base, {} merged, {} merged and in {}; the most likely token is the \
             same at {} and {} of {} places",
            self.rows,
            real(self.adapter_loss, 4),
            real(self.merged_loss, 4),
            real(self.requantized_loss, 4),
            self.requantized_as,
            percent(self.agreement),
            percent(self.requantized_agreement),
            self.tokens
        )
    }
}
