//! [`Buf`]: a buffer of values that goes back to its [`Pool`] when it is dropped.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers that wait to be used again: from the second step on, a training loop allocates nothing. Where sequences are
/// of other lengths from step to step, what an earlier step has left and no longer fits makes room for what is new, so
/// that a pool holds what one step needs, not what each of them needed.
#[derive(Clone, Debug, Default)]
pub struct Pool(Arc<Mutex<Shelf<Vec<f32>>>>);

/// What a [`Shelf`] keeps: room for some values.
pub(crate) trait Room {
    /// For so many.
    fn new(count: usize) -> Self;
    /// For how many.
    fn capacity(&self) -> usize;
}

impl Room for Vec<f32> {
    fn new(count: usize) -> Self {
        Vec::with_capacity(count)
    }

    fn capacity(&self) -> usize {
        self.capacity()
    }
}

/// Which buffer is used again, which is made and which is let go: the same for a pool's buffers and for their sizes alone.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    waiting: Vec<Waiting<T>>,
    step: u64,
    out: usize,
    most: usize,
    rounded: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    room: T,
    /// The step in which it was given back.
    step: u64,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { waiting: Vec::new(), step: 0, out: 0, most: 0, rounded: 0 }
    }
}

/// What the allocator rounds a block of so many bytes up by: nothing that counts below 64 KiB, an eighth at most, and 320 kB in the
/// mean of large ones (measured with mimalloc on Linux).
pub(crate) fn rounded(bytes: u64) -> u64 {
    const LARGE: u64 = 1 << 16;
    const ROUNDED: u64 = 320_000;
    if bytes < LARGE { 0 } else { ROUNDED.min(bytes / 8) }
}

impl<T: Room> Shelf<T> {
    /// Room for `count` values: the smallest that waits, is large enough and not wastefully so; or new.
    pub fn take(&mut self, count: usize) -> T {
        let fits = |capacity: usize| capacity >= count && capacity / 2 <= count;
        let best = (0..self.waiting.len())
            .filter(|&at| fits(self.waiting[at].room.capacity()))
            .min_by_key(|&at| self.waiting[at].room.capacity());
        let room = match best {
            Some(at) => self.waiting.swap_remove(at).room,
            None => {
                self.make_room(count);
                self.rounded += rounded(4 * count as u64);
                T::new(count)
            }
        };
        self.out += count.max(room.capacity());
        let waiting: usize = self.waiting.iter().map(|one| one.room.capacity()).sum();
        self.most = self.most.max(self.out + waiting);
        room
    }

    /// Takes it back.
    pub fn give(&mut self, room: T) {
        self.out = self.out.saturating_sub(room.capacity());
        self.waiting.push(Waiting { room, step: self.step });
    }

    /// Lets go of what earlier steps have left, until as much is free as is wanted: first what is too small, the
    /// largest of it before the others, then what is too large.
    fn make_room(&mut self, count: usize) {
        let mut wanted = count;
        while wanted > 0 {
            let old = (0..self.waiting.len()).filter(|&at| self.waiting[at].step < self.step);
            let order = |&at: &usize| {
                let capacity = self.waiting[at].room.capacity();
                (capacity <= count, if capacity <= count { capacity } else { usize::MAX - capacity })
            };
            let Some(at) = old.max_by_key(order) else { break };
            wanted = wanted.saturating_sub(self.waiting.swap_remove(at).room.capacity().max(1));
        }
    }

    /// The most values that were ever in use or waiting at once.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Bytes that the allocator has rounded up all buffers by that were made.
    pub fn rounded(&self) -> u64 {
        self.rounded
    }
}

/// Values from a [`Pool`]; what is in them at first is whatever was in them last.
#[derive(Debug)]
pub struct Buf {
    data: Vec<f32>,
    pool: Pool,
}

impl Pool {
    /// A buffer of `count` values, of unknown content.
    pub fn take(&self, count: usize) -> Buf {
        let mut data = self.shelf().take(count);
        data.resize(count, 0.0);
        Buf { data, pool: self.clone() }
    }

    /// A buffer of zeros.
    pub fn zeros(&self, count: usize) -> Buf {
        let mut buf = self.take(count);
        buf.fill(0.0);
        buf
    }

    /// A copy.
    pub fn copy(&self, of: &[f32]) -> Buf {
        let mut buf = self.take(of.len());
        super::copy(&mut buf, of);
        buf
    }

    /// A step begins: what waits now is of earlier ones.
    pub fn begin_step(&self) {
        self.shelf().step += 1;
    }

    /// The most bytes that were ever in use or waiting at once.
    pub fn peak_bytes(&self) -> usize {
        4 * self.shelf().most
    }

    fn shelf(&self) -> std::sync::MutexGuard<'_, Shelf<Vec<f32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        self.pool.shelf().give(data);
    }
}

impl Deref for Buf {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.data
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back() {
        let pool = Pool::default();
        let first = pool.take(1000);
        let address = first.as_ptr();
        drop(first);
        let again = pool.take(900);
        assert_eq!((again.as_ptr(), again.len()), (address, 900));
        let other = pool.zeros(10);
        assert!(other.iter().all(|&x| x == 0.0));
        assert_eq!(pool.peak_bytes(), 4 * 1010);
    }

    #[test]
    fn what_earlier_steps_left_makes_room() {
        let pool = Pool::default();
        // Steps that grow and shrink: sixteen buffers of each size at once, as activations are.
        for count in [1000, 1300, 100, 1500, 700, 1500] {
            pool.begin_step();
            let _all: Vec<Buf> = (0..16).map(|_| pool.take(count)).collect();
        }
        assert!(pool.peak_bytes() <= 4 * 17 * 1500, "{}", pool.peak_bytes());
        // Within a step nothing is let go: it may be wanted again.
        let pool = Pool::default();
        pool.begin_step();
        let small = pool.take(10);
        let address = small.as_ptr();
        drop(small);
        drop(pool.take(1000));
        assert_eq!(pool.take(10).as_ptr(), address);
    }
}
