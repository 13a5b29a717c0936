//! [`Check`]: what is looked at before a kernel runs.

use super::describe::{Access, Kernel, ParamElement};
use super::machine::{Element, Groups, Launch, Region};
use super::memory::Span;
use super::ops::Gpu;
use crate::error::{Error, Result};
use std::ops::{Add, Mul, Rem, Sub};

/// A number for lengths, with arithmetic that ends at the largest: what is too large to be true is longer than any buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size(pub usize);

impl<T: Into<Self>> Add<T> for Size {
    type Output = Self;
    fn add(self, other: T) -> Self {
        Self(self.0.saturating_add(other.into().0))
    }
}

impl<T: Into<Self>> Sub<T> for Size {
    type Output = Self;
    fn sub(self, other: T) -> Self {
        Self(self.0.saturating_sub(other.into().0))
    }
}

impl<T: Into<Self>> Mul<T> for Size {
    type Output = Self;
    fn mul(self, other: T) -> Self {
        Self(self.0.saturating_mul(other.into().0))
    }
}

impl<T: Into<Self>> Rem<T> for Size {
    type Output = Self;
    fn rem(self, other: T) -> Self {
        Self(self.0.checked_rem(other.into().0).unwrap_or(self.0))
    }
}

impl From<usize> for Size {
    fn from(size: usize) -> Self {
        Self(size)
    }
}

impl PartialEq<usize> for Size {
    fn eq(&self, other: &usize) -> bool {
        self.0 == *other
    }
}

impl PartialOrd<usize> for Size {
    fn partial_cmp(&self, other: &usize) -> Option<std::cmp::Ordering> {
        self.0.partial_cmp(other)
    }
}

impl Size {
    /// Rounded up; the largest number where `by` is 0.
    pub fn div_ceil(self, by: impl Into<Self>) -> Self {
        let by = by.into().0;
        if by == 0 { Self(usize::MAX) } else { Self(self.0.div_ceil(by)) }
    }
}

/// Elements of a matrix whose rows begin `stride` apart.
pub(super) fn strided(rows: Size, width: Size, stride: Size) -> Size {
    if rows == 0 { rows } else { (rows - 1) * stride + width }
}

/// A thread a value, until the machine is full.
pub(super) fn each(count: Size) -> Groups {
    Groups { count: count.0.div_ceil(256).min(1 << 14), busy: 256 }
}

/// A workgroup a row of so many values.
pub(super) fn per_row(rows: Size, width: Size) -> Groups {
    Groups { count: rows.0, busy: width.0 }
}

/// A workgroup so many columns.
pub(super) fn per_columns(width: Size, columns: usize) -> Groups {
    Groups { count: width.0.div_ceil(columns), busy: 256 }
}

/// A number of workgroups that no size changes.
pub(super) fn fixed(count: usize) -> Groups {
    Groups { count, busy: 256 }
}

/// A number that a kernel takes.
pub(super) trait Scalar: Copy {
    /// Its type in the kernels' source.
    const C: &'static str;
    /// What lengths are computed with.
    type Checked;
    /// The same, for lengths.
    fn checked(self) -> Self::Checked;
    /// Appends it as C lays out a struct.
    ///
    /// # Errors
    /// When it does not fit.
    fn pack(self, name: &str, to: &mut Vec<u8>) -> Result<()>;
}

/// Appends at a multiple of its length.
pub(super) fn append<const N: usize>(to: &mut Vec<u8>, bytes: [u8; N]) {
    to.resize(to.len().next_multiple_of(N), 0);
    to.extend_from_slice(&bytes);
}

impl Scalar for usize {
    const C: &'static str = "int";
    type Checked = Size;
    fn checked(self) -> Size {
        Size(self)
    }
    fn pack(self, name: &str, to: &mut Vec<u8>) -> Result<()> {
        let number = i32::try_from(self);
        let number =
            number.map_err(|_| Error::failure(format!("{name} of {self} is too large for one GPU operation")))?;
        append(to, number.to_ne_bytes());
        Ok(())
    }
}

impl Scalar for u64 {
    const C: &'static str = "u64";
    type Checked = Size;
    fn checked(self) -> Size {
        Size(usize::try_from(self).unwrap_or(usize::MAX))
    }
    fn pack(self, _: &str, to: &mut Vec<u8>) -> Result<()> {
        append(to, self.to_ne_bytes());
        Ok(())
    }
}

impl Scalar for bool {
    const C: &'static str = "int";
    type Checked = Self;
    fn checked(self) -> Self {
        self
    }
    fn pack(self, _: &str, to: &mut Vec<u8>) -> Result<()> {
        append(to, i32::from(self).to_ne_bytes());
        Ok(())
    }
}

impl Scalar for f32 {
    const C: &'static str = "float";
    type Checked = Self;
    fn checked(self) -> Self {
        self
    }
    fn pack(self, _: &str, to: &mut Vec<u8>) -> Result<()> {
        append(to, self.to_ne_bytes());
        Ok(())
    }
}

/// A buffer, or one that may be absent.
pub(super) trait Bind {
    fn span(&self) -> Option<Span<'_>>;
}

impl Bind for Span<'_> {
    fn span(&self) -> Option<Span<'_>> {
        Some(*self)
    }
}

impl Bind for Option<Span<'_>> {
    fn span(&self) -> Option<Span<'_>> {
        *self
    }
}

/// A launch that is being checked.
pub(super) struct Check<'g> {
    gpu: &'g Gpu,
    kernel: &'static Kernel,
    regions: Vec<Option<Region>>,
    elements: Vec<Element>,
    pub scalars: Vec<u8>,
}

impl<'g> Check<'g> {
    pub fn new(gpu: &'g Gpu, kernel: &'static Kernel) -> Self {
        let many = kernel.buffers.len();
        let (regions, elements) = (Vec::with_capacity(many), Vec::with_capacity(many));
        Self { gpu, kernel, regions, elements, scalars: Vec::new() }
    }

    fn refused(&self, what: &str) -> Error {
        Error::failure(format!("{}: {what}", self.kernel.name))
    }

    pub fn require(&self, holds: bool, what: &str) -> Result<()> {
        if holds { Ok(()) } else { Err(self.refused(&format!("{what} does not hold"))) }
    }

    /// Takes the next buffer of the kernel: of `length` values at least, and where it holds rows or ids, all less than
    /// `below`.
    pub fn bind(&mut self, span: Option<Span>, length: Size, below: Option<Size>) -> Result<()> {
        let Some(param) = self.kernel.buffers.get(self.regions.len()) else {
            return Err(self.refused("more buffers than the kernel takes"));
        };
        let expected = param.element.of(self.gpu.compute_dtype);
        let Some(span) = span else {
            self.regions.push(None);
            self.elements.push(expected);
            return Ok(());
        };
        let name = param.name;
        let as_kept = param.element == ParamElement::Weight && span.element() == self.gpu.formats.weight.into();
        if !span.is_of(&self.gpu.arena) {
            return Err(self.refused(&format!("{name} is in the memory of another machine")));
        }
        if span.element() != expected && !as_kept {
            let (found, expected) = (span.element().name(), expected.name());
            return Err(self.refused(&format!("{name} is {found}, expected {expected}")));
        }
        if span.len() < length.0 {
            let (found, expected, element) = (span.len(), length.0, expected.name());
            return Err(self.refused(&format!("{name} has {found} {element} values, expected {expected}")));
        }
        if let Some(below) = below.filter(|below| span.below() > below.0) {
            let (found, below) = (span.below() - 1, below.0);
            return Err(self.refused(&format!("{name} has a row {found}, expected rows below {below}")));
        }
        let region = span.first(length.0).region();
        if param.words && !region.offset.is_multiple_of(4) {
            return Err(self.refused(&format!("{name} begins at byte {}, expected a multiple of 4", region.offset)));
        }
        for (other, earlier) in self.kernel.buffers.iter().zip(&self.regions) {
            let written = param.access != Access::Read || other.access != Access::Read;
            if written && earlier.is_some_and(|earlier| earlier.overlaps(&region)) {
                return Err(self.refused(&format!("{name} overlaps {}", other.name)));
            }
        }
        self.regions.push(Some(region));
        self.elements.push(span.element());
        Ok(())
    }

    /// Runs what was checked.
    pub fn run(self, groups: Groups) -> Result<()> {
        if i32::try_from(groups.count).is_err() {
            return Err(self.refused(&format!("{} workgroups, expected fewer than 2^31", groups.count)));
        }
        let Self { gpu, kernel, regions, elements, scalars } = self;
        let dtype = gpu.compute_dtype;
        let launch = Launch { kernel, dtype, groups, regions: &regions, elements: &elements, scalars: &scalars };
        // SAFETY: `bind` has found every region in a tensor of this machine, which the caller's spans keep alive, of the type
        // and as long as the description says that the kernel goes, rows and ids within what they point into, and what
        // is written apart from everything else.
        unsafe { gpu.machine().launch(&launch) }
    }
}
