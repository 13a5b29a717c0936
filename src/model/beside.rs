//! What blocks read beside the stream, of one batch: per-layer inputs, and keys and values of earlier blocks; and the gradients by them,
//! which later blocks add up before earlier ones take them.

use super::backend::Buffers;
use crate::error::{Error, Result};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// See above. Blocks run one after the other: cells are enough.
pub(super) struct Beside<B: Buffers> {
    inputs: RefCell<Option<B::Buf>>,
    d_inputs: RefCell<Option<B::Buf>>,
    keys: RefCell<BTreeMap<usize, B::Buf>>,
    d_keys: RefCell<BTreeMap<usize, B::Buf>>,
}

impl<B: Buffers> Default for Beside<B> {
    fn default() -> Self {
        Self {
            inputs: RefCell::default(),
            d_inputs: RefCell::default(),
            keys: RefCell::default(),
            d_keys: RefCell::default(),
        }
    }
}

impl<B: Buffers> Beside<B> {
    /// The per-layer inputs of the batch.
    pub(super) fn set_inputs(&self, inputs: B::Buf) {
        *self.inputs.borrow_mut() = Some(inputs);
    }

    /// Looks at them.
    pub(super) fn inputs<T>(&self, look: impl FnOnce(&B::Buf) -> Result<T>) -> Result<T> {
        look(self.inputs.borrow().as_ref().ok_or_else(|| missing("per-layer inputs"))?)
    }

    /// Adds to the gradient by them, which begins as `zeros`.
    pub(super) fn add_inputs_gradient(
        &self,
        zeros: impl FnOnce() -> Result<B::Buf>,
        add: impl FnOnce(&mut B::Buf) -> Result<()>,
    ) -> Result<()> {
        let mut gradient = self.d_inputs.borrow_mut();
        match &mut *gradient {
            Some(gradient) => add(gradient),
            none => add(none.insert(zeros()?)),
        }
    }

    /// The gradient by them, once.
    pub(super) fn take_inputs_gradient(&self) -> Option<B::Buf> {
        self.d_inputs.borrow_mut().take()
    }

    /// Keys and values of a block, for later ones.
    pub(super) fn share_keys(&self, block: usize, keys: B::Buf) {
        self.keys.borrow_mut().insert(block, keys);
    }

    /// Looks at them.
    pub(super) fn keys_of(&self, block: usize, look: impl FnOnce(&B::Buf) -> Result<()>) -> Result<()> {
        look(self.keys.borrow().get(&block).ok_or_else(|| missing("keys and values of an earlier block"))?)
    }

    /// Adds to the gradient by them, which begins as `zeros`.
    pub(super) fn add_gradient(
        &self,
        block: usize,
        zeros: impl FnOnce() -> Result<B::Buf>,
        add: impl FnOnce(&mut B::Buf) -> Result<()>,
    ) -> Result<()> {
        let mut gradients = self.d_keys.borrow_mut();
        if let std::collections::btree_map::Entry::Vacant(entry) = gradients.entry(block) {
            entry.insert(zeros()?);
        }
        gradients.get_mut(&block).map_or(Ok(()), add)
    }

    /// The gradient by them, once: nobody reads them any more.
    pub(super) fn take_gradient(&self, block: usize) -> Option<B::Buf> {
        self.keys.borrow_mut().remove(&block);
        self.d_keys.borrow_mut().remove(&block)
    }
}

fn missing(what: &str) -> Error {
    Error::failure(format!("{what} are read before they are there"))
}
