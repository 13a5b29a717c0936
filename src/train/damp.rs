//! Damping: what scaling an adapter's intruders down does to its task and to what the base could do; and the adapter that results.

use super::{Rows, Settings, evaluate};
use crate::adapter::{Adapter, NewAdapter, NewLayer, Scaling};
use crate::checkpoint::{Checkpoint, Dtype};
use crate::delta::{DeltaSet, LowRank, Source};
use crate::error::{Error, Result};
use crate::model::{Decoder, Frozen, Processor};
use crate::plan::intruders::{self, Intruder};
use crate::progress::{Part, Progress};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

/// The intruders of an adapter, module by module, with the ΔW that they belong to.
pub struct Intruders {
    checkpoint: Arc<Checkpoint>,
    adapter: Arc<Adapter>,
    /// Module, ΔW, its intruders.
    modules: Vec<(String, LowRank, Vec<Intruder>)>,
}

/// What a scale came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scaled {
    /// What the intruders were scaled by: 1 leaves them, 0 takes them out.
    pub scale: f64,
    /// Held-out loss of the task.
    pub loss: Option<f64>,
    /// Loss on text of the base's own kind.
    pub forget_loss: Option<f64>,
}

impl Intruders {
    /// Those among the top `k` directions of every tuned weight whose cosine with every direction of the base is under `epsilon`.
    /// Takes every singular vector of the base's weights: minutes for a large model.
    ///
    /// # Errors
    /// An adapter that does not fit the base, or has more than plain pairs; and cancellation.
    pub fn find(base: &Path, adapter: &Path, k: usize, epsilon: f64, progress: &dyn Progress) -> Result<Self> {
        let checkpoint = Arc::new(Checkpoint::open(base)?);
        let adapter = Arc::new(Adapter::open(adapter)?);
        if let Some(why) = adapter.layers.iter().find(|layer| layer.dora || layer.embedding || layer.experts.is_some())
        {
            let message = format!("{}: intruders are scaled in plain pairs on linear layers only", why.module);
            return Err(Error::file(adapter.path(), message));
        }
        let set = DeltaSet::new(Arc::clone(&checkpoint), Source::Adapter(Arc::clone(&adapter)))?;
        set.check_adapter()?;
        let mut modules = Vec::new();
        for (at, layer) in adapter.layers.iter().enumerate() {
            let part = Part::new(progress, at as u64, adapter.layers.len() as u64);
            let (b, a) = adapter.factors(layer)?;
            let low = LowRank { b, a, scaling: layer.scaling, epsilon: f64::from(f32::EPSILON) };
            let name = set.entries().iter().find(|entry| entry.name == layer.module).map(|entry| entry.name.clone());
            let name = name.ok_or_else(|| Error::tensor(base, &layer.module, "there is no such module"))?;
            modules.push((name.clone(), low, intruders::find(&set, &name, k, epsilon, &part)?));
        }
        Ok(Self { checkpoint, adapter, modules })
    }

    /// Module by module.
    pub fn modules(&self) -> impl Iterator<Item = (&str, &[Intruder])> {
        self.modules.iter().map(|(name, _, found)| (name.as_str(), found.as_slice()))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.modules.iter().map(|(.., found)| found.len()).sum()
    }

    /// The base the adapter is for.
    pub fn base(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Losses with the intruders scaled by each of `scales`; `each` has every one of them as soon as it is there.
    ///
    /// # Errors
    /// A scale that is no share, a module that the model does not have; and cancellation.
    pub fn losses(
        &self,
        scales: &[f64],
        task: Option<&Rows>,
        own: Option<&Rows>,
        each: &mut dyn FnMut(Scaled),
        progress: &dyn Progress,
    ) -> Result<Vec<Scaled>> {
        let mut decoder = Decoder::load(&self.checkpoint, Frozen::AsStored, &())?;
        let batch = Settings::default().batch;
        let mut found = Vec::new();
        for (at, &scale) in scales.iter().enumerate() {
            for (name, low, intruders) in &self.modules {
                let place = decoder.linears().position(|linear| linear.module == *name);
                let place = place
                    .ok_or_else(|| Error::tensor(self.adapter.path(), name, "the model has no such linear layer"))?;
                let LowRank { b, a, .. } = intruders::damped(low, intruders, scale)?;
                let width = a.rows() as f64;
                decoder.branch(place, a, b, width, 1.0, None);
            }
            let part = Part::new(progress, at as u64, scales.len() as u64);
            let loss = |rows: Option<&Rows>| {
                rows.map(|rows| Ok(evaluate(&Processor::default(), &decoder, rows, batch, &part)?.mean())).transpose()
            };
            let scaled = Scaled { scale, loss: loss(task)?, forget_loss: loss(own)? };
            each(scaled);
            found.push(scaled);
        }
        Ok(found)
    }

    /// Writes the adapter with its intruders scaled: a direction more for each of them.
    ///
    /// # Errors
    /// A scale that is no share; a file that cannot be written.
    pub fn write(&self, scale: f64, dtype: Dtype, out: &Path) -> Result<u64> {
        let damped: Vec<LowRank> =
            self.modules.iter().map(|(_, low, found)| intruders::damped(low, found, scale)).collect::<Result<_>>()?;
        let layers = self.modules.iter().zip(&damped).map(|((name, ..), low)| NewLayer {
            module: name.clone(),
            shape: [low.b.rows(), low.a.cols()],
            r: low.a.rows(),
            lora_alpha: low.a.rows() as f64,
            ..NewLayer::default()
        });
        let mut config = self.adapter.config.clone();
        // α = r in every layer: s = 1.
        config.scaling = Scaling::Rank;
        let mut adapter = NewAdapter::of(&self.checkpoint, layers.collect(), config);
        adapter.carry(&self.adapter);
        adapter.write(out, dtype, &|at| {
            let LowRank { b, a, .. } = damped[at].clone();
            Ok((b, a).into())
        })?;
        Ok(adapter.trainable())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left as they are, the losses are the adapter's; what is written is what was measured.
    #[test]
    fn what_is_measured_is_what_is_written() {
        let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        let base = fixture("llama");
        // Every direction counts as an intruder: the fixture is too small to have any.
        let found = Intruders::find(&base, &fixture("llama-adapter"), 2, 1.1, &()).unwrap();
        assert_eq!(found.count(), 2 * found.modules().count());
        let ids = (0..6u32).map(|row| (0..12).map(|at| (row * 31 + at * 7) % 300 + 3).collect());
        let rows = Rows { rows: ids.map(super::super::Row::all).collect() };
        let losses = found.losses(&[1.0, 0.25], Some(&rows), Some(&rows), &mut |_| {}, &()).unwrap();
        let loss = |adapter: &Path| {
            let decoder =
                Decoder::with_adapter(found.base(), &Adapter::open(adapter).unwrap(), Frozen::AsStored, &()).unwrap();
            evaluate(&Processor::default(), &decoder, &rows, 4, &()).unwrap().mean()
        };
        assert!((losses[0].loss.unwrap() - loss(&fixture("llama-adapter"))).abs() < 1e-5);
        let out = tempfile::tempdir().unwrap();
        let out = out.path().join("mended");
        found.write(0.25, Dtype::F32, &out).unwrap();
        assert!((losses[1].loss.unwrap() - loss(&out)).abs() < 1e-5, "{losses:?}");
        assert!(
            (losses[1].loss.unwrap() - losses[0].loss.unwrap()).abs() > 1e-4 && losses[1].loss == losses[1].forget_loss
        );
        assert!(found.losses(&[2.0], None, None, &mut |_| {}, &()).unwrap_err().to_string().contains("scale 2"));
    }
}
