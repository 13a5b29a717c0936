//! [`Watch`]: where on its way forward a pass first meets NaN or Inf.

use std::sync::Mutex;
use std::sync::PoisonError;

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

/// The module that another one is part of.
pub(super) fn parent(module: &str) -> String {
    module.rsplit_once('.').map_or(module, |(parent, _)| parent).to_owned()
}
