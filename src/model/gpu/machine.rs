//! [`Machine`]: something with memory of its own that runs the kernels and multiplies matrices.
//!
//! Two of them exist: an NVIDIA GPU (feature `cuda`), and in the tests a processor that runs the same kernel source.
//! Everything above works on either, so that the order of operations is tested where there is no GPU.

use crate::device::Memory;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// The kernels, as CUDA C; `BF16` is defined or not.
pub const KERNELS: &str = include_str!("kernels.cu");

/// How a number is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// 32 bits.
    F32,
    /// The upper half of an `f32`.
    Bf16,
}

impl Kind {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// What a kernel is given: `struct args` of the kernels' source.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Args {
    /// Addresses.
    pub p: [u64; 12],
    /// Long words.
    pub l: [u64; 2],
    /// Whole numbers.
    pub i: [i32; 16],
    /// Fractions.
    pub f: [f32; 8],
}

/// How a kernel's work is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// How many groups.
    pub count: usize,
    /// Threads of a group that have something to do; more would only wait.
    pub busy: usize,
}

impl From<usize> for Groups {
    /// As many threads as a group may have.
    fn from(count: usize) -> Self {
        Self { count, busy: 256 }
    }
}

impl Groups {
    /// A group a row of so many numbers.
    pub fn of_rows(count: usize, width: usize) -> Self {
        Self { count, busy: width }
    }
}

/// Matrices one after the other in the machine's memory: element (r, c) of number n is at `r · row + c · col + n · step`,
/// counted in numbers of its kind. Of `row` and `col`, one is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Of the first element.
    pub address: u64,
    /// Of the numbers.
    pub kind: Kind,
    /// From row to row.
    pub row: usize,
    /// From column to column.
    pub col: usize,
    /// From matrix to matrix.
    pub step: usize,
}

/// `c = keep·c + alpha · a·b`, `batch` times over; sums in `f32`. Rows of `c` lie one after the other (`col` is 1), and
/// `a` and `b` are of one kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// Rows of `a` and `c`.
    pub m: usize,
    /// Columns of `b` and `c`.
    pub n: usize,
    /// Columns of `a`, rows of `b`.
    pub k: usize,
    /// How many.
    pub batch: usize,
    /// A factor.
    pub alpha: f32,
    /// Whether what is in `c` stays.
    pub keep: bool,
    /// First factor.
    pub a: Operand,
    /// Second factor.
    pub b: Operand,
    /// Where it goes.
    pub c: Operand,
}

/// A machine. Work is done in the order in which it is asked for; nothing but [`read`](Self::read) waits for it.
///
/// Addresses are plain numbers here: [`super::memory`] gives them owners and lengths, and [`super::ops`] checks both before
/// anything is called.
pub trait Machine: Debug + Send + Sync {
    /// Its maker's name for it, and how to ask for it.
    fn name(&self) -> String;

    /// Its memory, where it tells.
    fn memory(&self) -> Option<Memory>;

    /// Bytes of unknown content, at a multiple of 256; `None` where there is no room.
    ///
    /// # Errors
    /// When the machine does not answer.
    fn allocate(&self, bytes: usize) -> Result<Option<u64>>;

    /// Gives back what [`allocate`](Self::allocate) gave.
    ///
    /// # Safety
    /// The address came from there, and nobody uses it afterwards.
    unsafe fn release(&self, address: u64);

    /// Copies into the machine.
    ///
    /// # Errors
    /// When the machine does not answer.
    ///
    /// # Safety
    /// There are so many bytes at `to`.
    unsafe fn write(&self, to: u64, bytes: &[u8]) -> Result<()>;

    /// Copies out of the machine, after everything that was asked for before.
    ///
    /// # Errors
    /// When the machine does not answer, or something before went wrong.
    ///
    /// # Safety
    /// There are so many bytes at `from`.
    unsafe fn read(&self, from: u64, bytes: &mut [u8]) -> Result<()>;

    /// Copies within the machine.
    ///
    /// # Errors
    /// When the machine does not answer.
    ///
    /// # Safety
    /// There are so many bytes at both, and they do not overlap.
    unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()>;

    /// Sets bytes to zero.
    ///
    /// # Errors
    /// When the machine does not answer.
    ///
    /// # Safety
    /// There are so many bytes at `at`.
    unsafe fn clear(&self, at: u64, bytes: usize) -> Result<()>;

    /// Runs a kernel, compiled for `real`, in groups of as many threads as the machine likes: a power of two, 256 or fewer.
    ///
    /// # Errors
    /// When there is no such kernel, or the machine does not answer.
    ///
    /// # Safety
    /// The kernel touches only memory that is there.
    unsafe fn launch(&self, kernel: &'static str, real: Kind, groups: Groups, args: &Args) -> Result<()>;

    /// Multiplies matrices.
    ///
    /// # Errors
    /// When the machine does not answer.
    ///
    /// # Safety
    /// Every element of the three operands is there, and those of `c` overlap nothing.
    unsafe fn product(&self, product: &Product) -> Result<()>;
}
