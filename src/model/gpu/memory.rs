//! [`Tensor`]: numbers in a machine's memory that go back to their [`Shelf`] when nobody needs them; [`Span`]: some of them.

use super::machine::{Kind, Machine};
use crate::error::{Error, Result};
use crate::units;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

/// Memory that waits to be used again: from the second step on nothing is allocated. Work is done in the order in which it
/// is asked for, so memory may be used again as soon as nobody will ask for work on it.
#[derive(Debug)]
pub struct Shelf {
    machine: Arc<dyn Machine>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Block>,
    /// Bytes allocated: in use or waiting.
    held: usize,
    most: usize,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    address: u64,
    bytes: usize,
}

/// Numbers of one kind.
#[derive(Debug)]
pub struct Tensor {
    block: Block,
    count: usize,
    kind: Kind,
    shelf: Arc<Shelf>,
}

/// Some numbers of a [`Tensor`].
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    pub(super) address: u64,
    pub(super) count: usize,
    pub(super) kind: Kind,
    tensor: PhantomData<&'a Tensor>,
}

impl Shelf {
    /// Of a machine.
    pub fn new(machine: Arc<dyn Machine>) -> Arc<Self> {
        Arc::new(Self { machine, state: Mutex::default() })
    }

    /// The machine.
    pub fn machine(&self) -> &dyn Machine {
        &*self.machine
    }

    /// Numbers of unknown content.
    ///
    /// # Errors
    /// When the machine's memory does not suffice.
    pub fn take(self: &Arc<Self>, kind: Kind, count: usize) -> Result<Tensor> {
        let bytes = (count * kind.bytes()).max(1).next_multiple_of(256);
        let waiting = {
            let mut state = self.state();
            let fits = |block: &Block| block.bytes >= bytes && block.bytes / 2 <= bytes;
            let all = state.waiting.iter().enumerate().filter(|(_, block)| fits(block));
            let best = all.min_by_key(|(_, block)| block.bytes).map(|(at, _)| at);
            best.map(|at| state.waiting.swap_remove(at))
        };
        let block = match waiting {
            Some(block) => block,
            None => self.allocate(bytes)?,
        };
        Ok(Tensor { block, count, kind, shelf: Arc::clone(self) })
    }

    /// Zeros.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn zeros(self: &Arc<Self>, kind: Kind, count: usize) -> Result<Tensor> {
        let tensor = self.take(kind, count)?;
        tensor.all().clear(&*self.machine)?;
        Ok(tensor)
    }

    /// `f32` values, kept as they are.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn put(self: &Arc<Self>, values: &[f32]) -> Result<Tensor> {
        self.put_bytes(Kind::F32, values.len(), &bytes_of(values))
    }

    /// Whole numbers; they lie where `f32` numbers do.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn put_numbers(self: &Arc<Self>, numbers: impl Iterator<Item = i32>) -> Result<Tensor> {
        let bytes: Vec<u8> = numbers.flat_map(i32::to_ne_bytes).collect();
        self.put_bytes(Kind::F32, bytes.len() / 4, &bytes)
    }

    /// `count` numbers of a kind, from bytes of any length up to theirs.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn put_bytes(self: &Arc<Self>, kind: Kind, count: usize, bytes: &[u8]) -> Result<Tensor> {
        let tensor = self.take(kind, count)?;
        tensor.all().write(&*self.machine, bytes)?;
        Ok(tensor)
    }

    fn allocate(&self, bytes: usize) -> Result<Block> {
        let mut found = self.machine.allocate(bytes)?;
        if found.is_none() {
            // What waits is of other sizes: it goes back, all of it.
            let mut state = self.state();
            for block in std::mem::take(&mut state.waiting) {
                state.held -= block.bytes;
                // SAFETY: it was allocated here, and what waits is nobody's.
                unsafe { self.machine.release(block.address) };
            }
            drop(state);
            found = self.machine.allocate(bytes)?;
        }
        let Some(address) = found else { return Err(self.full(bytes)) };
        let mut state = self.state();
        state.held += bytes;
        state.most = state.most.max(state.held);
        Ok(Block { address, bytes })
    }

    fn full(&self, bytes: usize) -> Error {
        let held = units::bytes(self.state().held as u64);
        let free = self.machine.memory().map_or_else(String::new, |memory| {
            format!(", {} of {} are free", units::bytes(memory.free), units::bytes(memory.total))
        });
        Error::failure(format!(
            "the memory of {} does not suffice: {} more are needed beside {held}{free}; a smaller --batch or --seq, \
             --checkpointing on or --method qlora need less",
            self.machine.name(),
            units::bytes(bytes as u64),
        ))
    }

    /// The most bytes that were ever in use or waiting at once.
    pub fn peak_bytes(&self) -> usize {
        self.state().most
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        for block in std::mem::take(&mut self.state().waiting) {
            // SAFETY: as in `allocate`.
            unsafe { self.machine.release(block.address) };
        }
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        self.shelf.state().waiting.push(self.block);
    }
}

impl Tensor {
    /// All of them.
    pub fn all(&self) -> Span<'_> {
        Span { address: self.block.address, count: self.count, kind: self.kind, tensor: PhantomData }
    }

    /// How many numbers.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// From number `first` on.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn from(&self, first: usize) -> Span<'_> {
        self.all().from(first)
    }
}

impl<'a> Span<'a> {
    /// From number `first` on.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn from(self, first: usize) -> Self {
        assert!(first <= self.count, "number {first} of {}", self.count);
        Self { address: self.address + (first * self.kind.bytes()) as u64, count: self.count - first, ..self }
    }

    /// The first `count`.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn first(self, count: usize) -> Self {
        assert!(count <= self.count, "{count} numbers of {}", self.count);
        Self { count, ..self }
    }

    fn bytes(&self) -> usize {
        self.count * self.kind.bytes()
    }

    pub(super) fn clear(self, machine: &dyn Machine) -> Result<()> {
        // SAFETY: the span's tensor is alive and has these bytes.
        unsafe { machine.clear(self.address, self.bytes()) }
    }

    pub(super) fn write(self, machine: &dyn Machine, bytes: &[u8]) -> Result<()> {
        assert!(bytes.len() <= self.bytes(), "{} bytes into {}", bytes.len(), self.bytes());
        // SAFETY: as above.
        unsafe { machine.write(self.address, bytes) }
    }

    pub(super) fn read(self, machine: &dyn Machine, bytes: &mut [u8]) -> Result<()> {
        assert!(bytes.len() <= self.bytes(), "{} bytes from {}", bytes.len(), self.bytes());
        // SAFETY: as above.
        unsafe { machine.read(self.address, bytes) }
    }

    /// The values, of an `f32` span.
    pub(super) fn values(self, machine: &dyn Machine) -> Result<Vec<f32>> {
        assert_eq!(self.kind, Kind::F32, "only f32 is read");
        let mut bytes = vec![0; self.bytes()];
        self.read(machine, &mut bytes)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|&four| f32::from_ne_bytes(four)).collect())
    }
}

/// The bytes of `f32` values.
pub(super) fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}
