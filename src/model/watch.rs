//! [`Watch`]: where on its way forward a pass first meets NaN or Inf. [`InputSquares`]: how large what goes into a module is, channel by
//! channel.

use super::linear::Linear;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Remembers the first module whose output was not finite.
#[derive(Debug, Default)]
pub struct Watch(Mutex<Option<String>>);

impl Watch {
    /// The output of a module; `values` are looked at where nothing was found before.
    pub fn see<'a>(&self, module: impl FnOnce() -> String, values: impl IntoIterator<Item = &'a f32>) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.is_none() && values.into_iter().any(|x| !x.is_finite()) {
            *found = Some(module());
        }
    }

    /// What was found.
    pub fn found(self) -> Option<String> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows seen, and the sum of their squares by channel; by module.
type Sums = HashMap<String, (usize, Vec<f64>)>;

/// Adds up `Σ x²` of every channel of what goes into watched linear layers.
#[derive(Debug, Default)]
pub struct InputSquares(Mutex<Sums>);

impl InputSquares {
    /// `rows` rows of `in_features` that go into a layer, `stride` numbers from one to the next.
    pub fn see(&self, linear: &Linear, x: &[f32], stride: usize, rows: usize) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, sums) = all.entry(linear.module.clone()).or_insert_with(|| (0, vec![0.0; linear.shape[1]]));
        for row in x.chunks(stride.max(1)).take(rows) {
            *count += 1;
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x) * f64::from(*x));
        }
    }

    /// `E[x²]` by module, `[in_features]`; of layers that are one product in memory, by the product's own name.
    pub fn means(self) -> HashMap<String, Vec<f64>> {
        let all = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mean = |(name, (count, sums)): (String, (usize, Vec<f64>))| {
            (name, sums.into_iter().map(|sum| sum / count.max(1) as f64).collect())
        };
        all.into_iter().map(mean).collect()
    }
}

/// The module that another one is part of.
pub(super) fn parent(module: &str) -> String {
    module.rsplit_once('.').map_or(module, |(parent, _)| parent).to_owned()
}
