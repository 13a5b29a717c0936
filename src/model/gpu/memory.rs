//! [`Tensor`]: numbers in a machine's memory that go back to their [`Shelf`] when nobody needs them; [`Span`]: some of them.

use super::machine::{Kind, Machine};
use crate::error::{Error, Result};
use crate::units;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

/// A machine's memory, in slabs that are cut to size and put together again: whatever lengths of sequences come, little lies
/// idle, and from the second step on nothing is allocated. Work is done in the order in which it is asked for, so memory may be
/// used again as soon as nobody will ask for work on it.
#[derive(Debug)]
pub struct Shelf {
    machine: Arc<dyn Machine>,
    /// Every tensor lies in a slab of its own: who writes beside it is found by whoever looks after the machine's memory.
    apart: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By address.
    slabs: BTreeMap<u64, Slab>,
    /// Bytes allocated: in use or waiting.
    held: usize,
    /// Bytes in use.
    used: usize,
    most: usize,
}

#[derive(Debug)]
struct Slab {
    bytes: usize,
    /// Bytes that nobody uses from an address on; no two touch.
    free: BTreeMap<u64, usize>,
}

/// Smallest and largest slab that is allocated for many tensors; between them an eighth of what is held.
const SLAB: [usize; 2] = [1 << 20, 64 << 20];

#[derive(Clone, Copy, Debug)]
struct Block {
    address: u64,
    bytes: usize,
}

impl State {
    /// Cuts a block from the smallest place that has room for it.
    fn cut(&mut self, bytes: usize) -> Option<u64> {
        let places = self.slabs.iter().flat_map(|(&slab, of)| of.free.iter().map(move |(&at, &room)| (room, at, slab)));
        let (room, at, slab) = places.filter(|&(room, ..)| room >= bytes).min()?;
        let free = &mut self.slabs.get_mut(&slab)?.free;
        free.remove(&at);
        if room > bytes {
            free.insert(at + bytes as u64, room - bytes);
        }
        self.used += bytes;
        self.most = self.most.max(self.used);
        Some(at)
    }

    /// Puts a block back, together with what is free on either side.
    fn put(&mut self, block: Block) {
        let Some((_, slab)) = self.slabs.range_mut(..=block.address).next_back() else { return };
        let Block { mut address, mut bytes } = block;
        self.used -= bytes;
        if let Some(room) = slab.free.remove(&(address + bytes as u64)) {
            bytes += room;
        }
        if let Some((&before, &room)) = slab.free.range(..address).next_back()
            && before + room as u64 == address
        {
            (address, bytes) = (before, bytes + room);
        }
        slab.free.insert(address, bytes);
    }

    fn add(&mut self, address: u64, bytes: usize) {
        self.slabs.insert(address, Slab { bytes, free: BTreeMap::from([(address, bytes)]) });
        self.held += bytes;
    }

    /// Takes out the slabs that nobody uses any of.
    fn idle(&mut self) -> Vec<u64> {
        let idle = |(&at, slab): (&u64, &Slab)| (slab.free.get(&at) == Some(&slab.bytes)).then_some(at);
        let idle: Vec<u64> = self.slabs.iter().filter_map(idle).collect();
        for at in &idle {
            self.held -= self.slabs.remove(at).map_or(0, |slab| slab.bytes);
        }
        idle
    }
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
        Arc::new(Self { machine, apart: false, state: Mutex::default() })
    }

    /// Of a machine that is asked for each tensor's memory by itself.
    pub fn apart(machine: Arc<dyn Machine>) -> Arc<Self> {
        Arc::new(Self { machine, apart: true, state: Mutex::default() })
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
        let mut state = self.state();
        let address = match state.cut(bytes) {
            Some(address) => address,
            None => {
                self.grow(&mut state, bytes)?;
                state.cut(bytes).ok_or_else(|| Error::failure("memory that was just allocated is gone"))?
            }
        };
        Ok(Tensor { block: Block { address, bytes }, count, kind, shelf: Arc::clone(self) })
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

    /// Allocates a slab with room for so many bytes.
    fn grow(&self, state: &mut State, bytes: usize) -> Result<()> {
        let slab = if self.apart { bytes } else { bytes.max((state.held / 8).clamp(SLAB[0], SLAB[1])) };
        let mut found = self.machine.allocate(slab)?.map(|address| (address, slab));
        if found.is_none() {
            // Where memory is short, none lies idle.
            for address in state.idle() {
                // SAFETY: it was allocated here, and nobody uses it.
                unsafe { self.machine.release(address) };
            }
            found = self.machine.allocate(bytes)?.map(|address| (address, bytes));
        }
        let Some((address, slab)) = found else { return Err(self.full(state.held, bytes)) };
        state.add(address, slab);
        Ok(())
    }

    fn full(&self, held: usize, bytes: usize) -> Error {
        let held = units::bytes(held as u64);
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

    /// Allocates at once what will be needed beside what is in use, where there is so much: cut from one slab, little lies idle.
    ///
    /// # Errors
    /// When the machine does not answer.
    pub fn reserve(&self, bytes: usize) -> Result<()> {
        let mut state = self.state();
        let free = state.held - state.used;
        if !self.apart && free < bytes {
            let slab = (bytes - free).next_multiple_of(256);
            if let Some(address) = self.machine.allocate(slab)? {
                state.add(address, slab);
            }
        }
        Ok(())
    }

    /// The most bytes that were ever in use at once.
    pub fn peak_bytes(&self) -> usize {
        self.state().most
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let slabs = std::mem::take(&mut self.state().slabs);
        for address in slabs.into_keys() {
            // SAFETY: it was allocated here, and every tensor of it is gone: each keeps the shelf.
            unsafe { self.machine.release(address) };
        }
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        let mut state = self.shelf.state();
        state.put(self.block);
        if self.shelf.apart {
            for address in state.idle() {
                // SAFETY: it was allocated here, and nobody uses it.
                unsafe { self.shelf.machine.release(address) };
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_are_cut_to_size_and_put_together_again() {
        let mut state = State::default();
        state.add(1 << 20, 4096);
        state.add(1 << 30, 1024);
        // The smallest place that has room, from its beginning.
        assert_eq!(state.cut(512), Some(1 << 30));
        assert_eq!(state.cut(1024), Some(1 << 20));
        assert_eq!(state.cut(4096), None);
        assert_eq!(state.cut(512), Some((1 << 30) + 512));
        assert_eq!(state.cut(256), Some((1 << 20) + 1024));
        assert!(state.idle().is_empty());
        // Given back in any order, neighbours are one place again; slabs stay apart.
        for (at, bytes) in [(1 << 20, 1024), ((1 << 30) + 512, 512), ((1 << 20) + 1024, 256), (1 << 30, 512)] {
            state.put(Block { address: at, bytes });
        }
        let free: Vec<_> = state.slabs.values().map(|slab| slab.free.clone()).collect();
        assert_eq!(free, [BTreeMap::from([(1 << 20, 4096)]), BTreeMap::from([(1 << 30, 1024)])]);
        assert_eq!((state.held, state.used, state.most), (5120, 0, 2304));
        assert_eq!((state.idle(), state.held), (vec![1 << 20, 1 << 30], 0));
    }
}
