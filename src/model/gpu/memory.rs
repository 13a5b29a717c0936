//! [`Tensor`]: values in a machine's memory that go back to their [`Arena`] when nobody needs them; [`Span`]: some of them.

use super::machine::{Buffer, Element, Machine, Region};
use crate::error::{Error, Result};
use crate::units;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A machine's memory, in slabs that are cut to size and put together again: whatever lengths of sequences come, little lies
/// idle, and from the second step on nothing is allocated. Work is done in the order in which it is asked for, so memory may be
/// used again as soon as nobody will ask for work on it.
#[derive(Debug)]
pub struct Arena {
    machine: Arc<dyn Machine>,
    /// Every tensor lies in a slab of its own: who writes beside it is found by whoever looks after the machine's memory.
    isolated: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    slabs: BTreeMap<Buffer, Slab>,
    /// Bytes allocated: in use or waiting.
    held: usize,
    /// Bytes in use.
    used: usize,
    peak: usize,
}

#[derive(Debug)]
struct Slab {
    bytes: usize,
    /// Bytes that nobody uses from an offset on; no two touch.
    free: BTreeMap<usize, usize>,
}

/// Smallest and largest slab that is allocated for many tensors; between them an eighth of what is held.
const SLAB: [usize; 2] = [1 << 20, 64 << 20];

impl State {
    /// Cuts a block from the smallest place that has room for it.
    fn cut(&mut self, bytes: usize) -> Option<Region> {
        let places = self.slabs.iter().flat_map(|(&slab, of)| of.free.iter().map(move |(&at, &room)| (room, slab, at)));
        let (room, buffer, offset) = places.filter(|&(room, ..)| room >= bytes).min()?;
        let free = &mut self.slabs.get_mut(&buffer)?.free;
        free.remove(&offset);
        if room > bytes {
            free.insert(offset + bytes, room - bytes);
        }
        self.used += bytes;
        self.peak = self.peak.max(self.used);
        Some(Region { buffer, offset, bytes })
    }

    /// Takes a block back, and joins it with what is free on either side.
    fn free(&mut self, block: Region) {
        let Region { buffer, mut offset, mut bytes } = block;
        let Some(slab) = self.slabs.get_mut(&buffer) else { return };
        self.used -= bytes;
        if let Some(room) = slab.free.remove(&(offset + bytes)) {
            bytes += room;
        }
        if let Some((&before, &room)) = slab.free.range(..offset).next_back()
            && before + room == offset
        {
            (offset, bytes) = (before, bytes + room);
        }
        slab.free.insert(offset, bytes);
    }

    fn add(&mut self, buffer: Buffer, bytes: usize) {
        self.slabs.insert(buffer, Slab { bytes, free: BTreeMap::from([(0, bytes)]) });
        self.held += bytes;
    }

    /// Takes out the slabs that nobody uses any of.
    fn idle(&mut self) -> Vec<Buffer> {
        let idle = |(&buffer, slab): (&Buffer, &Slab)| (slab.free.get(&0) == Some(&slab.bytes)).then_some(buffer);
        let idle: Vec<Buffer> = self.slabs.iter().filter_map(idle).collect();
        for buffer in &idle {
            self.held -= self.slabs.remove(buffer).map_or(0, |slab| slab.bytes);
        }
        idle
    }
}

/// Values of one type.
#[derive(Debug)]
pub struct Tensor {
    block: Region,
    count: usize,
    element: Element,
    /// One more than the largest, where they are rows or ids.
    below: usize,
    arena: Arc<Arena>,
}

/// Some values of a [`Tensor`].
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    tensor: &'a Tensor,
    first: usize,
    count: usize,
}

impl Arena {
    /// Of a machine.
    pub fn new(machine: Arc<dyn Machine>) -> Arc<Self> {
        Arc::new(Self { machine, isolated: false, state: Mutex::default() })
    }

    /// Of a machine that is asked for each tensor's memory by itself.
    pub fn isolated(machine: Arc<dyn Machine>) -> Arc<Self> {
        Arc::new(Self { machine, isolated: true, state: Mutex::default() })
    }

    /// The machine.
    pub fn machine(&self) -> &dyn Machine {
        &*self.machine
    }

    /// Values of unknown content.
    ///
    /// # Errors
    /// When the machine's memory does not suffice.
    pub fn alloc(self: &Arc<Self>, element: Element, count: usize) -> Result<Tensor> {
        let bytes = count.checked_mul(element.bytes()).and_then(|bytes| bytes.max(1).checked_next_multiple_of(256));
        let mut state = self.state();
        let bytes = bytes.ok_or_else(|| self.full(state.held, usize::MAX))?;
        let block = match state.cut(bytes) {
            Some(block) => block,
            None => {
                self.grow(&mut state, bytes)?;
                state.cut(bytes).ok_or_else(|| Error::failure("memory that was just allocated is gone"))?
            }
        };
        // What is in whole numbers before they are written is no row of anything.
        let below = if element == Element::I32 { usize::MAX } else { 0 };
        Ok(Tensor { block, count, element, below, arena: Arc::clone(self) })
    }

    /// Zeros.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    pub fn zeros(self: &Arc<Self>, element: Element, count: usize) -> Result<Tensor> {
        let tensor = self.alloc(element, count)?;
        tensor.all().clear()?;
        Ok(tensor)
    }

    /// `f32` values, kept as they are.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    pub fn upload(self: &Arc<Self>, values: &[f32]) -> Result<Tensor> {
        let tensor = self.alloc(Element::F32, values.len())?;
        tensor.all().write(&bytes_of(values))?;
        Ok(tensor)
    }

    /// Rows, token ids, or begins of rows.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc), and for numbers of more than 31 bits.
    pub fn upload_indices(self: &Arc<Self>, numbers: impl Iterator<Item = usize>) -> Result<Tensor> {
        let (mut bytes, mut below) = (Vec::new(), 0);
        for number in numbers {
            let short = i32::try_from(number)
                .map_err(|_| Error::failure(format!("row {number} is too large for one GPU operation")))?;
            bytes.extend(short.to_ne_bytes());
            below = below.max(number + 1);
        }
        let mut tensor = self.alloc(Element::I32, bytes.len() / 4)?;
        tensor.all().write(&bytes)?;
        tensor.below = below;
        Ok(tensor)
    }

    /// So many zeros, as indices.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    pub fn zero_indices(self: &Arc<Self>, count: usize) -> Result<Tensor> {
        let mut tensor = self.zeros(Element::I32, count)?;
        tensor.below = 1;
        Ok(tensor)
    }

    /// Bytes.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    pub fn upload_bytes(self: &Arc<Self>, bytes: &[u8]) -> Result<Tensor> {
        let tensor = self.alloc(Element::U8, bytes.len())?;
        tensor.all().write(bytes)?;
        Ok(tensor)
    }

    /// Allocates a slab with room for so many bytes.
    fn grow(&self, state: &mut State, bytes: usize) -> Result<()> {
        let most = self.machine.largest_buffer();
        if bytes > most {
            return Err(Error::failure(format!(
                "{} takes {} in one piece at most, {} are needed: a smaller --batch or --seq, or --method lora, need less",
                self.machine.name(),
                units::bytes(most as u64),
                units::bytes(bytes as u64)
            )));
        }
        let slab = if self.isolated { bytes } else { bytes.max((state.held / 8).clamp(SLAB[0], SLAB[1])).min(most) };
        let mut found = self.machine.allocate(slab)?.map(|buffer| (buffer, slab));
        if found.is_none() {
            // Where memory is short, none lies idle.
            for buffer in state.idle() {
                // SAFETY: it was allocated here, and no tensor lies in it.
                unsafe { self.machine.release(buffer) };
            }
            found = self.machine.allocate(bytes)?.map(|buffer| (buffer, bytes));
        }
        let Some((buffer, slab)) = found else { return Err(self.full(state.held, bytes)) };
        state.add(buffer, slab);
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
        if !self.isolated && free < bytes {
            let slab = (bytes - free).next_multiple_of(256).min(self.machine.largest_buffer());
            if let Some(buffer) = self.machine.allocate(slab)? {
                state.add(buffer, slab);
            }
        }
        Ok(())
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> usize {
        self.state().used
    }

    /// The most bytes that were ever in use at once.
    pub fn peak_bytes(&self) -> usize {
        self.state().peak
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let slabs = std::mem::take(&mut self.state().slabs);
        for buffer in slabs.into_keys() {
            // SAFETY: it was allocated here, and every tensor in it is gone: each keeps the arena.
            unsafe { self.machine.release(buffer) };
        }
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        let mut state = self.arena.state();
        state.free(self.block);
        if self.arena.isolated {
            for buffer in state.idle() {
                // SAFETY: it was allocated here, and no tensor lies in it.
                unsafe { self.arena.machine.release(buffer) };
            }
        }
    }
}

impl Tensor {
    /// All values.
    pub fn all(&self) -> Span<'_> {
        Span { tensor: self, first: 0, count: self.count }
    }

    /// How many values.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// From value `first` on.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn from(&self, first: usize) -> Span<'_> {
        self.all().from(first)
    }
}

impl<'a> Span<'a> {
    /// From value `first` on.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn from(self, first: usize) -> Self {
        assert!(first <= self.count, "value {first} of {}", self.count);
        Self { first: self.first + first, count: self.count - first, ..self }
    }

    /// The first `count`.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn first(self, count: usize) -> Self {
        assert!(count <= self.count, "{count} values of {}", self.count);
        Self { count, ..self }
    }

    /// How many values.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Their type.
    pub fn element(&self) -> Element {
        self.tensor.element
    }

    /// One more than the largest, where they are rows or ids.
    pub(super) fn below(&self) -> usize {
        self.tensor.below
    }

    /// True when they lie in this memory.
    pub(super) fn is_of(&self, arena: &Arc<Arena>) -> bool {
        Arc::ptr_eq(&self.tensor.arena, arena)
    }

    /// Where they lie. It is there as long as the tensor is.
    pub(super) fn region(&self) -> Region {
        let Region { buffer, offset, .. } = self.tensor.block;
        let each = self.element().bytes();
        Region { buffer, offset: offset + self.first * each, bytes: self.count * each }
    }

    fn machine(&self) -> &dyn Machine {
        &*self.tensor.arena.machine
    }

    pub(in crate::model) fn clear(self) -> Result<()> {
        // SAFETY: the tensor is borrowed, so its memory is there.
        unsafe { self.machine().clear(self.region()) }
    }

    pub(super) fn write(self, bytes: &[u8]) -> Result<()> {
        let region = self.region();
        assert!(bytes.len() <= region.bytes, "{} bytes into {}", bytes.len(), region.bytes);
        // SAFETY: as above.
        unsafe { self.machine().write(region, bytes) }
    }

    pub(in crate::model) fn read(self, bytes: &mut [u8]) -> Result<()> {
        let region = self.region();
        assert!(bytes.len() <= region.bytes, "{} bytes from {}", bytes.len(), region.bytes);
        // SAFETY: as above.
        unsafe { self.machine().read(region, bytes) }
    }

    /// The values, of a span of `f32` or bf16.
    pub(in crate::model) fn values(self) -> Result<Vec<f32>> {
        let mut bytes = vec![0; self.region().bytes];
        self.read(&mut bytes)?;
        match self.element() {
            Element::F32 => Ok(bytes.as_chunks::<4>().0.iter().map(|&four| f32::from_ne_bytes(four)).collect()),
            Element::Bf16 => {
                let halves = bytes.as_chunks::<2>().0.iter();
                Ok(halves.map(|&two| half::bf16::from_ne_bytes(two).to_f32()).collect())
            }
            other => Err(Error::failure(format!("{} read as numbers with a point", other.name()))),
        }
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
        let (one, two) = (Buffer::new(1), Buffer::new(2));
        let mut state = State::default();
        state.add(one, 4096);
        state.add(two, 1024);
        // The smallest place that has room, from its beginning.
        let cut = [(512, two, 0), (1024, one, 0), (512, two, 512), (256, one, 1024)];
        let cut = cut.map(|(bytes, buffer, offset)| Region { buffer, offset, bytes });
        for region in cut {
            assert_eq!(state.cut(region.bytes), Some(region));
        }
        assert_eq!(state.cut(4096), None);
        assert!(state.idle().is_empty());
        // Given back in any order, neighbours are one place again; slabs stay apart.
        for at in [1, 2, 3, 0] {
            state.free(cut[at]);
        }
        let free: Vec<_> = state.slabs.values().map(|slab| slab.free.clone()).collect();
        assert_eq!(free, [BTreeMap::from([(0, 4096)]), BTreeMap::from([(0, 1024)])]);
        assert_eq!((state.held, state.used, state.peak), (5120, 0, 2304));
        assert_eq!((state.idle(), state.held), (vec![one, two], 0));
    }
}
