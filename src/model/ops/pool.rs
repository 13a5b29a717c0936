//! [`Buf`]: a buffer of values that goes back to its [`Pool`] when it is dropped.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers that wait to be used again: from the second step on, a training loop allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Pool(Arc<Mutex<Shelf>>);

#[derive(Debug, Default)]
struct Shelf {
    waiting: Vec<Vec<f32>>,
    out: usize,
    most: usize,
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
        let mut shelf = self.shelf();
        // The smallest that is large enough and not wastefully so.
        let fits = |data: &Vec<f32>| data.capacity() >= count && data.capacity() / 2 <= count;
        let best = (0..shelf.waiting.len())
            .filter(|&at| fits(&shelf.waiting[at]))
            .min_by_key(|&at| shelf.waiting[at].capacity());
        let mut data = best.map(|at| shelf.waiting.swap_remove(at)).unwrap_or_default();
        shelf.out += count.max(data.capacity());
        let waiting: usize = shelf.waiting.iter().map(Vec::capacity).sum();
        shelf.most = shelf.most.max(shelf.out + waiting);
        drop(shelf);
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

    /// The most bytes that were ever in use or waiting at once.
    pub fn peak_bytes(&self) -> usize {
        4 * self.shelf().most
    }

    fn shelf(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        let mut shelf = self.pool.shelf();
        shelf.out = shelf.out.saturating_sub(data.capacity());
        shelf.waiting.push(data);
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
}
