//! [`Profile`]: where the time of a step goes on a machine.
//!
//! Every operation is waited for, which a run never does: what is found is how the time is shared out, not how long a step takes.
//! The wait itself, measured once, is taken off.

use super::machine::{Buffer, Formats, Launch, Machine, Operand, Product, Region};
use crate::device::Memory;
use crate::error::{Error, Result};
use crate::model::ComputeDtype;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time of one kind of operation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// How often it was asked for.
    pub calls: u64,
    /// Seconds, without the waits.
    pub seconds: f64,
    /// Multiplications and additions of products, two a pair; 0 of everything else.
    pub flops: f64,
}

/// A machine that waits after each operation and writes down how long that took.
#[derive(Debug)]
pub struct Profile {
    machine: Arc<dyn Machine>,
    /// A few bytes whose reading waits for all that came before.
    mark: Region,
    /// Seconds of a wait with nothing to wait for.
    wait: f64,
    spent: Mutex<BTreeMap<String, Spent>>,
}

/// Waits of which the shortest half is averaged.
const WAITS: usize = 64;
/// Bytes of the mark.
const MARK: usize = 256;

impl Profile {
    /// Over a machine.
    ///
    /// # Errors
    /// When it does not answer, or has no room for a few bytes.
    pub fn new(machine: Arc<dyn Machine>) -> Result<Arc<Self>> {
        let buffer = machine.allocate(MARK)?;
        let buffer =
            buffer.ok_or_else(|| Error::failure(format!("{} has no room for {MARK} bytes", machine.name())))?;
        let mark = Region { buffer, offset: 0, bytes: MARK };
        // SAFETY: the region is the whole of a buffer that was just given.
        unsafe { machine.clear(mark)? };
        let mut profile = Self { machine, mark, wait: 0.0, spent: Mutex::default() };
        let mut waits = (0..WAITS).map(|_| profile.waited().map(|it| it.as_secs_f64())).collect::<Result<Vec<_>>>()?;
        waits.sort_by(f64::total_cmp);
        profile.wait = waits[..WAITS / 2].iter().sum::<f64>() / (WAITS / 2) as f64;
        Ok(Arc::new(profile))
    }

    fn waited(&self) -> Result<Duration> {
        let begin = Instant::now();
        let mut bytes = [0; 4];
        // SAFETY: the mark is there as long as this machine.
        unsafe { self.machine.read(self.mark, &mut bytes)? };
        Ok(begin.elapsed())
    }

    fn timed(&self, name: String, flops: f64, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let begin = Instant::now();
        work()?;
        self.waited()?;
        let seconds = (begin.elapsed().as_secs_f64() - self.wait).max(0.0);
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let of = spent.entry(name).or_default();
        *of = Spent { calls: of.calls + 1, seconds: of.seconds + seconds, flops: of.flops + flops };
        Ok(())
    }

    /// What was asked for since the last call of this, the dearest first: kernels by name, products by shape and number types.
    pub fn take(&self) -> Vec<(String, Spent)> {
        let spent = std::mem::take(&mut *self.spent.lock().unwrap_or_else(PoisonError::into_inner));
        let mut spent: Vec<_> = spent.into_iter().collect();
        spent.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
        spent
    }
}

/// A product as it is listed: sizes, and in what number types its factors and its result are.
fn named(product: &Product) -> String {
    let Product { m, n, k, batch, a, b, c, .. } = product;
    let kind = |of: &Operand| if of.four_bit.is_some() { "4-bit" } else { of.element.name() };
    let batch = if *batch == 1 { String::new() } else { format!("{batch} of ") };
    format!("product, {batch}{m}×{k} by {k}×{n}, {} by {} to {}", kind(a), kind(b), kind(c))
}

impl Machine for Profile {
    fn name(&self) -> String {
        self.machine.name()
    }

    fn memory(&self) -> Option<Memory> {
        self.machine.memory()
    }

    fn formats(&self, dtype: ComputeDtype) -> Formats {
        self.machine.formats(dtype)
    }

    fn largest_buffer(&self) -> usize {
        self.machine.largest_buffer()
    }

    fn double(&self, bytes: [u8; 8]) -> f64 {
        self.machine.double(bytes)
    }

    fn is_dry(&self) -> bool {
        self.machine.is_dry()
    }

    fn allocate(&self, bytes: usize) -> Result<Option<Buffer>> {
        self.machine.allocate(bytes)
    }

    unsafe fn release(&self, buffer: Buffer) {
        // SAFETY: what is promised here is promised there.
        unsafe { self.machine.release(buffer) };
    }

    unsafe fn write(&self, to: Region, bytes: &[u8]) -> Result<()> {
        // SAFETY: as above.
        self.timed("copy in".into(), 0.0, || unsafe { self.machine.write(to, bytes) })
    }

    unsafe fn read(&self, from: Region, bytes: &mut [u8]) -> Result<()> {
        // SAFETY: as above.
        self.timed("copy out".into(), 0.0, || unsafe { self.machine.read(from, bytes) })
    }

    unsafe fn copy(&self, to: Region, from: Region) -> Result<()> {
        // SAFETY: as above.
        self.timed("copy".into(), 0.0, || unsafe { self.machine.copy(to, from) })
    }

    unsafe fn clear(&self, at: Region) -> Result<()> {
        // SAFETY: as above.
        self.timed("clear".into(), 0.0, || unsafe { self.machine.clear(at) })
    }

    unsafe fn launch(&self, launch: &Launch) -> Result<()> {
        // SAFETY: as above.
        self.timed(format!("kernel {}", launch.kernel.name), 0.0, || unsafe { self.machine.launch(launch) })
    }

    unsafe fn product(&self, product: &Product) -> Result<()> {
        let flops = 2.0 * [product.m, product.n, product.k, product.batch].map(|x| x as f64).iter().product::<f64>();
        // SAFETY: as above.
        self.timed(named(product), flops, || unsafe { self.machine.product(product) })
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // SAFETY: the buffer came from this machine, and nobody else has it.
        unsafe { self.machine.release(self.mark.buffer) };
    }
}
