//! [`open`]: the machine that is meant by `--device`.

use super::choice::{Auto, auto};
use super::machine::Machine;
use super::ops::Gpu;
use crate::device::Choice;
use crate::error::{Error, Result};
use crate::model::ComputeDtype;
use crate::model::ops::bf16::Unit;
use std::sync::Arc;

/// What computes a decoder.
#[derive(Clone, Debug)]
pub struct Opened {
    /// A machine of its own, with weights and activations kept as this; or the processor.
    pub machine: Option<(Arc<dyn Machine>, ComputeDtype)>,
    /// What multiplies bf16 on the processor, where products are computed in it.
    pub unit: Option<Unit>,
    /// Which it is and why, where a person would ask.
    pub note: Option<String>,
    /// The processor, for there is no GPU on this computer.
    pub ordinary: bool,
}

impl Opened {
    /// The note, where it says something: none where nobody would have thought of a GPU.
    pub fn brief(&self) -> Option<&str> {
        self.note.as_deref().filter(|_| !self.ordinary)
    }

    /// A place for a decoder, if that is not the processor.
    pub fn gpu(&self) -> Option<Gpu> {
        self.machine.as_ref().map(|(machine, dtype)| Gpu::new(Arc::clone(machine), *dtype))
    }
}

/// The processor (in f32 where nothing is said), or a GPU that computes in `dtype` (bf16 where nothing is said). `auto` takes a GPU where one
/// is faster ([`auto`]), and says why not where there is one; a GPU that is asked for by name is never replaced.
///
/// # Errors
/// Bad input with the reason, when a device that is asked for cannot be used, and for bf16 on a processor that does not multiply it.
pub fn open(choice: Choice, dtype: Option<ComputeDtype>) -> Result<Opened> {
    let mut ordinary = true;
    let (machine, note) = match choice {
        Choice::Cpu => (None, None),
        Choice::Cuda(number) => (Some(cuda(number)?), None),
        Choice::Adapter(..) => (Some(on_adapter(choice)?), None),
        Choice::Auto => match auto() {
            Auto { choice: Choice::Cpu | Choice::Auto, why, none } => {
                ordinary = none;
                (None, why.map(|why| format!("computing on the processor: {why}")))
            }
            Auto { choice, .. } => return open(choice, dtype),
        },
    };
    let Some(machine) = machine else {
        if dtype != Some(ComputeDtype::Bf16) {
            return Ok(Opened { machine: None, unit: None, note, ordinary });
        }
        let unit = Unit::all().first().copied().ok_or_else(|| {
            Error::usage("this processor multiplies no bf16 (AVX512-BF16 or AMX); expected --dtype f32, or a GPU")
        })?;
        let how = format!("products in bf16 ({}), sums and everything else in f32", unit.name());
        let note = note.map_or_else(|| how.clone(), |note| format!("{note}; {how}"));
        return Ok(Opened { machine: None, unit: Some(unit), note: Some(note), ordinary: false });
    };
    let dtype = dtype.unwrap_or(ComputeDtype::Bf16);
    let note = format!("computing on {} in {}", machine.name(), dtype.name());
    Ok(Opened { machine: Some((machine, dtype)), unit: None, note: Some(note), ordinary: false })
}

#[cfg(feature = "cuda")]
fn cuda(number: usize) -> Result<Arc<dyn Machine>> {
    Ok(super::cuda::Cuda::open(number)?)
}

#[cfg(not(feature = "cuda"))]
fn cuda(number: usize) -> Result<Arc<dyn Machine>> {
    // Says that this build has no CUDA.
    Choice::Cuda(number).detect()?;
    Err(Error::failure("this build has no CUDA support"))
}

#[cfg(feature = "wgpu")]
fn on_adapter(choice: Choice) -> Result<Arc<dyn Machine>> {
    match choice {
        Choice::Adapter(api, number) => Ok(super::wgpu::Wgpu::open(api, number)?),
        other => Err(Error::failure(format!("{other} is no adapter"))),
    }
}

#[cfg(not(feature = "wgpu"))]
fn on_adapter(choice: Choice) -> Result<Arc<dyn Machine>> {
    // Says that this build has none.
    choice.detect()?;
    Err(Error::failure("this build has no Vulkan, Metal or Direct3D 12"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_computes_in_f32_or_in_what_it_multiplies() {
        assert!(open(Choice::Cpu, None).unwrap().gpu().is_none());
        assert!(open(Choice::Cpu, Some(ComputeDtype::F32)).unwrap().note.is_none());
        match (open(Choice::Cpu, Some(ComputeDtype::Bf16)), Unit::all().first()) {
            (Ok(opened), Some(unit)) => assert!(opened.unit == Some(*unit) && opened.note.is_some(), "{opened:?}"),
            (Err(error), None) => assert!(error.to_string().contains("multiplies no bf16"), "{error}"),
            other => panic!("{other:?}"),
        }
        // Whether there is a GPU or not, the answer is a place or a sentence.
        match open(Choice::Cuda(999), None) {
            Ok(opened) => panic!("{opened:?}"),
            Err(error) => assert!(error.to_string().starts_with("device cuda:999 cannot be used: "), "{error}"),
        }
        let auto = open(Choice::Auto, None).unwrap();
        let cuda = cfg!(all(feature = "cuda", not(target_os = "macos")));
        assert!(auto.machine.is_some() || auto.note.is_some() || !cuda, "{auto:?}");
        assert!(!auto.ordinary || auto.brief().is_none(), "{auto:?}");
    }
}
