//! [`compile`]: the kernels as code for a GPU, made by NVRTC. Needs no GPU.

use crate::error::{Error, Result};
use crate::model::ComputeDtype;
use crate::model::gpu::source;
use cudarc::nvrtc::{result, sys};
use std::ffi::{CString, c_int};

/// What NVRTC is asked for, by ten times a compute capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// Code for just these GPUs.
    Machine(c_int),
    /// Code that the driver translates for these and all later ones.
    Portable(c_int),
}

impl Target {
    /// A GPU that is newer than NVRTC gets the newest code that NVRTC knows.
    fn of(capability: c_int, known: &[c_int]) -> Option<Self> {
        if known.contains(&capability) {
            return Some(Self::Machine(capability));
        }
        known.iter().copied().filter(|&older| older < capability).max().map(Self::Portable)
    }
}

fn failed(what: &str) -> Error {
    Error::failure(format!("the GPU's kernels could not be compiled: {what}"))
}

fn told(result: sys::nvrtcResult) -> Result<()> {
    result.result().map_err(|error| failed(&format!("{:?}", error.0)))
}

/// Ten times the compute capabilities that NVRTC makes machine code for.
fn known() -> Result<Vec<c_int>> {
    let mut count = 0;
    // SAFETY: NVRTC writes one number, and then so many as it said.
    unsafe {
        told(sys::nvrtcGetNumSupportedArchs(&raw mut count))?;
        let mut known = vec![0; usize::try_from(count).unwrap_or(0)];
        told(sys::nvrtcGetSupportedArchs(known.as_mut_ptr()))?;
        Ok(known)
    }
}

/// The kernels for a compute capability such as `(9, 0)`, as the driver loads them.
///
/// # Errors
/// When NVRTC refuses, with what it says.
pub fn compile(dtype: ComputeDtype, (major, minor): (c_int, c_int)) -> Result<Vec<u8>> {
    let known = known()?;
    let target = Target::of(10 * major + minor, &known).ok_or_else(|| {
        failed(&format!(
            "NVRTC makes code for {known:?} and later, and this GPU's compute capability is {major}.{minor}"
        ))
    })?;
    let mut options = vec![match target {
        Target::Machine(number) => format!("--gpu-architecture=sm_{number}"),
        Target::Portable(number) => format!("--gpu-architecture=compute_{number}"),
    }];
    if dtype == ComputeDtype::Bf16 {
        options.push("-DBF16".to_owned());
    }
    let source = CString::new(source()).map_err(|error| failed(&error.to_string()))?;
    let program =
        result::create_program(&source, Some(c"kernels.cu")).map_err(|error| failed(&format!("{:?}", error.0)))?;
    // SAFETY: the program was made above, is used by nobody else and destroyed once.
    unsafe {
        let image = image(program, &options, target);
        let _ = result::destroy_program(program);
        image
    }
}

/// # Safety
/// The program is one.
unsafe fn image(program: sys::nvrtcProgram, options: &[String], target: Target) -> Result<Vec<u8>> {
    // SAFETY: the caller answers for the program; what is written has the length that NVRTC says.
    unsafe {
        if let Err(error) = result::compile_program(program, options) {
            let log = result::get_program_log(program).unwrap_or_default();
            let log: String = log.iter().map(|&c| char::from(c as u8)).filter(|&c| c != '\0').collect();
            return Err(failed(&format!("{:?}\n{log}", error.0)));
        }
        let mut length = 0;
        told(match target {
            Target::Machine(_) => sys::nvrtcGetCUBINSize(program, &raw mut length),
            Target::Portable(_) => sys::nvrtcGetPTXSize(program, &raw mut length),
        })?;
        let mut image = vec![0u8; length];
        told(match target {
            Target::Machine(_) => sys::nvrtcGetCUBIN(program, image.as_mut_ptr().cast()),
            Target::Portable(_) => sys::nvrtcGetPTX(program, image.as_mut_ptr().cast()),
        })?;
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;

    #[test]
    fn code_for_a_gpu_or_for_an_older_one() {
        let known = [75, 80, 86, 90, 120];
        assert_eq!(Target::of(90, &known), Some(Target::Machine(90)));
        assert_eq!(Target::of(89, &known), Some(Target::Portable(86)));
        assert_eq!(Target::of(130, &known), Some(Target::Portable(120)));
        assert_eq!(Target::of(70, &known), None);
    }

    /// Where NVRTC is installed, the very call is tested that a run makes: for an A100, an H200, and a GPU of the future.
    #[test]
    fn kernels_compile_for_every_architecture() {
        if !device::cuda_library("nvrtc") {
            eprintln!("NVRTC is not installed: the kernels are not compiled");
            return;
        }
        for (capability, begins) in [((8, 0), &b"\x7fELF"[..]), ((9, 0), b"\x7fELF"), ((99, 0), b"//")] {
            for dtype in [ComputeDtype::F32, ComputeDtype::Bf16] {
                let image = compile(dtype, capability).unwrap();
                let begins = image.trim_ascii_start().starts_with(begins);
                assert!(begins && image.len() > 10_000, "{capability:?}: {} bytes", image.len());
            }
        }
    }
}
