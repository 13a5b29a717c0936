//! [`Machine`]: something with memory of its own that runs the kernels and multiplies matrices.
//!
//! Two of them exist: an NVIDIA GPU (feature `cuda`), and in the tests a processor that runs the same kernel source.
//! Everything above works on either, so that the order of operations is tested where there is no GPU.
//!
//! Memory is named by handles: a [`Region`] is a buffer, an offset and a length, so that a machine may have addresses or
//! bindings.

use super::describe::Kernel;
use crate::device::Memory;
use crate::error::Result;
use crate::model::ComputeDtype;
use std::fmt::Debug;

/// Number type of a tensor in a machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// 32-bit float.
    F32,
    /// The upper half of an `f32`.
    Bf16,
    /// 64-bit float: sums over everything.
    F64,
    /// Whole numbers: token ids, rows.
    I32,
    /// Bytes: codes of quantized weights.
    U8,
}

impl Element {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::Bf16 => 2,
            Self::U8 => 1,
        }
    }

    /// As in a message.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F64 => "f64",
            Self::I32 => "i32",
            Self::U8 => "u8",
        }
    }
}

impl From<ComputeDtype> for Element {
    fn from(dtype: ComputeDtype) -> Self {
        match dtype {
            ComputeDtype::F32 => Self::F32,
            ComputeDtype::Bf16 => Self::Bf16,
        }
    }
}

/// Memory that [`Machine::allocate`] gave, by the machine's own name for it. Nothing above a machine computes with the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Buffer(u64);

impl Buffer {
    /// Of this name; only machines make them.
    pub fn new(id: u64) -> Self {
        Self(id)
    }

    /// The name.
    pub fn id(self) -> u64 {
        self.0
    }
}

/// Some bytes of a [`Buffer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where they are.
    pub buffer: Buffer,
    /// Bytes of the buffer before them.
    pub offset: usize,
    /// How many.
    pub bytes: usize,
}

impl Region {
    /// True when some byte belongs to both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.buffer == other.buffer
            && self.offset < other.offset + other.bytes
            && other.offset < self.offset + self.bytes
    }
}

/// Workgroups of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// How many.
    pub count: usize,
    /// Threads of a group that have something to do; more would only wait.
    pub busy: usize,
}

/// One call of a kernel, checked: every region is as long as the kernel goes.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// What runs.
    pub kernel: &'static Kernel,
    /// What it is compiled for.
    pub dtype: ComputeDtype,
    /// How its work is shared out, in groups of as many threads as the machine likes: a power of two, 256 or fewer.
    pub groups: Groups,
    /// For every buffer of the kernel, in its order; `None` for one that may be absent and is.
    pub regions: &'a [Option<Region>],
    /// Number types of the buffers, in their order.
    pub elements: &'a [Element],
    /// The numbers of the kernel, in its order, each at a multiple of its size as C lays out a struct.
    pub scalars: &'a [u8],
}

impl Launch<'_> {
    /// The kernel's parameters as C has them, for a machine whose memory has addresses: pointers, then numbers.
    pub fn packed(&self, address: impl Fn(&Region) -> u64) -> Vec<u8> {
        let pointers = self.regions.iter().map(|region| region.as_ref().map_or(0, &address));
        pointers.flat_map(u64::to_ne_bytes).chain(self.scalars.iter().copied()).collect()
    }
}

/// Matrices one after the other in a region: element (r, c) of number n is at `r · row + c · col + n · step`, counted in
/// elements. Of `row` and `col`, one is 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operand {
    /// From element (0, 0) of the first matrix to the last element of the last.
    pub region: Region,
    /// Number type.
    pub element: Element,
    /// From row to row.
    pub row: usize,
    /// From column to column.
    pub col: usize,
    /// From matrix to matrix.
    pub step: usize,
    /// What stands beside codes of 4 bits: `region` holds those, two in a byte, and rows and columns are counted in values.
    pub four_bit: Option<FourBitOperand>,
}

/// What codes of 4 bits are decoded with, as kernel `dequantize` does it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FourBitOperand {
    /// Scales in 8 bits, where they are quantized themselves.
    pub scales: Option<Region>,
    /// Scales, or those of the scales.
    pub absmax: Region,
    /// What scales in 8 bits stand for.
    pub map: Option<Region>,
    /// What codes stand for.
    pub levels: Region,
    /// Values of a row.
    pub in_features: usize,
    /// Values of one scale.
    pub block: usize,
    /// One more than from the first scale of a row to that of the next; 0 where they run on over the rows.
    pub by_row: usize,
    /// Added to scales in 8 bits.
    pub offset: f32,
}

/// What a machine keeps numbers in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// Activations, and trained values as they are multiplied.
    pub compute: ComputeDtype,
    /// Frozen weights that are not in 4 bits.
    pub weight: ComputeDtype,
    /// Weights in 4 bits are decoded within a product; otherwise each is dequantized for it.
    pub decodes: bool,
    /// Bytes that one operation may see of a buffer.
    pub largest: usize,
}

impl Formats {
    /// Of a machine that computes in `f32` and decodes weights, and sees so many bytes of a buffer at once.
    pub fn adapter(weight: ComputeDtype, largest: usize) -> Self {
        Self { compute: ComputeDtype::F32, weight, decodes: true, largest }
    }

    /// Attention scores and logits that are held at once.
    pub fn pieces(&self) -> [usize; 2] {
        let most = self.largest / Element::F32.bytes();
        [SCORES.min(most), LOGITS.min(most)]
    }
}

/// Attention scores that are held at once: 128 MB of them, and as many again three times on the way back.
const SCORES: usize = 1 << 25;
/// Logits that are held at once: 128 MB, and their gradient.
const LOGITS: usize = 1 << 25;

impl From<ComputeDtype> for Formats {
    /// Of a machine that keeps everything in one type.
    fn from(dtype: ComputeDtype) -> Self {
        Self { compute: dtype, weight: dtype, decodes: false, largest: usize::MAX }
    }
}

/// `c = keep·c + alpha · a·b`, `batch` times over; sums in `f32`. Rows of `c` lie one after the other (`col` is 1);
/// `a` and `b` are of one type, but for a `b` in a machine's own type for weights, or in 4 bits where it decodes them.
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
/// A region is *there* when it lies within a buffer that this machine gave and that was not released. `super::memory` gives
/// buffers owners, and `super::launch` and `super::ops` check every region before anything is called.
pub trait Machine: Debug + Send + Sync {
    /// Its maker's name for it, and how to ask for it.
    fn name(&self) -> String;

    /// Its memory, where it tells.
    fn memory(&self) -> Option<Memory>;

    /// What it keeps numbers in, when `dtype` is asked for.
    fn formats(&self, dtype: ComputeDtype) -> Formats {
        dtype.into()
    }

    /// The largest buffer that it allocates.
    fn largest_buffer(&self) -> usize {
        usize::MAX
    }

    /// A number of [`Element::F64`], as it is kept.
    fn double(&self, bytes: [u8; 8]) -> f64 {
        f64::from_ne_bytes(bytes)
    }

    /// It has no memory and computes nothing: only what is asked of it counts.
    fn is_dry(&self) -> bool {
        false
    }

    /// Bytes of unknown content, at a multiple of 256; `None` where there is no room.
    ///
    /// # Errors
    /// When the machine does not answer.
    fn allocate(&self, bytes: usize) -> Result<Option<Buffer>>;

    /// Gives back what [`allocate`](Self::allocate) gave.
    ///
    /// # Safety
    /// The buffer came from there, and nobody uses it afterwards.
    unsafe fn release(&self, buffer: Buffer);

    /// Copies into the machine: as many bytes as the region has, or fewer.
    ///
    /// # Errors
    /// When the machine does not answer.
    ///
    /// # Safety
    /// The region is there.
    unsafe fn write(&self, to: Region, bytes: &[u8]) -> Result<()>;

    /// Copies out of the machine, after everything that was asked for before: as many bytes as the region has, or fewer.
    ///
    /// # Errors
    /// When the machine does not answer, or something before went wrong.
    ///
    /// # Safety
    /// The region is there.
    unsafe fn read(&self, from: Region, bytes: &mut [u8]) -> Result<()>;

    /// Copies within the machine.
    ///
    /// # Errors
    /// When the machine does not answer.
    ///
    /// # Safety
    /// Both regions are there, of one length, and do not overlap.
    unsafe fn copy(&self, to: Region, from: Region) -> Result<()>;

    /// Sets bytes to zero.
    ///
    /// # Errors
    /// When the machine does not answer.
    ///
    /// # Safety
    /// The region is there.
    unsafe fn clear(&self, at: Region) -> Result<()>;

    /// Runs a kernel.
    ///
    /// # Errors
    /// When there is no such kernel, or the machine does not answer.
    ///
    /// # Safety
    /// The regions are there, and the kernel touches nothing outside them.
    unsafe fn launch(&self, launch: &Launch) -> Result<()>;

    /// Multiplies matrices.
    ///
    /// # Errors
    /// When the machine does not answer.
    ///
    /// # Safety
    /// The regions of the three operands are there and hold every element; that of `c` overlaps neither other.
    unsafe fn product(&self, product: &Product) -> Result<()>;
}
