//! [`Dry`]: a machine without memory and without work. A pass of [`OnGpu`](super::OnGpu) on it asks for the same memory as on
//! a real one: that is how a run on a GPU is predicted.

use crate::device::Memory;
use crate::error::Result;
use crate::model::ComputeDtype;
use crate::model::gpu::{Buffer, Formats, Launch, Machine, Product, Region};

/// Gives room for everything, as a machine would that keeps numbers so.
#[derive(Debug)]
pub struct Dry(pub Formats);

impl Machine for Dry {
    fn name(&self) -> String {
        "a GPU that is only thought of".to_owned()
    }

    fn memory(&self) -> Option<Memory> {
        None
    }

    fn formats(&self, _dtype: ComputeDtype) -> Formats {
        self.0
    }

    fn is_dry(&self) -> bool {
        true
    }

    fn allocate(&self, _bytes: usize) -> Result<Option<Buffer>> {
        Ok(Some(Buffer::new(0)))
    }

    unsafe fn release(&self, _buffer: Buffer) {}

    unsafe fn write(&self, _to: Region, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    unsafe fn read(&self, _from: Region, _bytes: &mut [u8]) -> Result<()> {
        Ok(())
    }

    unsafe fn copy(&self, _to: Region, _from: Region) -> Result<()> {
        Ok(())
    }

    unsafe fn clear(&self, _at: Region) -> Result<()> {
        Ok(())
    }

    unsafe fn launch(&self, _launch: &Launch) -> Result<()> {
        Ok(())
    }

    unsafe fn product(&self, _product: &Product) -> Result<()> {
        Ok(())
    }
}
