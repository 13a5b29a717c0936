//! What there is to compute on: the processor, NVIDIA GPUs through CUDA, any GPU through Vulkan, Metal or Direct3D 12; and for
//! what cannot be used, why.

#[cfg(feature = "wgpu")]
mod adapter;

use crate::error::{Error, Result};
pub use crate::room::Memory;
use crate::room::{self, status, system_value};
#[cfg(feature = "wgpu")]
pub use adapter::{Adapter, adapter, gpus};
use std::fmt;
use std::str::FromStr;
#[cfg(feature = "cuda")]
use {cudarc::driver::CudaContext, std::sync::Arc};

/// An interface that shows GPUs of any maker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// Linux, Windows, Android.
    Vulkan,
    /// macOS.
    Metal,
    /// Windows.
    Dx12,
}

impl Api {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Vulkan, Self::Metal, Self::Dx12];

    /// Those of this system.
    pub fn here() -> &'static [Self] {
        match std::env::consts::OS {
            "macos" | "ios" => &[Self::Metal],
            "windows" => &[Self::Dx12, Self::Vulkan],
            _ => &[Self::Vulkan],
        }
    }

    /// That it is one of them, or a sentence.
    fn is_here(self) -> std::result::Result<(), String> {
        if Self::here().contains(&self) {
            return Ok(());
        }
        Err(format!("{} is not of this system ({})", self.title(), std::env::consts::OS))
    }

    /// As on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Dx12 => "dx12",
        }
    }

    /// As its makers write it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Vulkan => "Vulkan",
            Self::Metal => "Metal",
            Self::Dx12 => "Direct3D 12",
        }
    }
}

/// What a person asks for: `auto`, `cpu`, `cuda`, `cuda:1`, `vulkan`, `metal`, `dx12`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// A GPU where there is one that can be used, otherwise the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The NVIDIA GPU of this number.
    Cuda(usize),
    /// What an interface shows under this number.
    Adapter(Api, usize),
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(format!(
                "device \"{text}\"; expected auto, cpu, cuda, cuda:N, vulkan[:N], metal[:N] or dx12[:N]"
            ))
        };
        let text = text.to_ascii_lowercase();
        let (name, number) = match text.split_once(':') {
            Some((name, number)) => (name, Some(number.parse().map_err(|_| wrong())?)),
            None => (text.as_str(), None),
        };
        match (name, number) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", number) => Ok(Self::Cuda(number.unwrap_or(0))),
            (name, number) => {
                let api = Api::ALL.into_iter().find(|api| api.as_str() == name).ok_or_else(wrong)?;
                Ok(Self::Adapter(api, number.unwrap_or(0)))
            }
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Adapter(api, 0) => f.write_str(api.as_str()),
            Self::Adapter(api, number) => write!(f, "{}:{number}", api.as_str()),
        }
    }
}

/// Something that can be computed on.
#[derive(Clone, Debug)]
pub struct Device {
    /// How to ask for it; never [`Choice::Auto`].
    pub choice: Choice,
    /// Its maker's name for it.
    pub name: String,
    /// Threads that run at once; `None` for a GPU.
    pub cores: Option<usize>,
    /// Its memory, where the system tells.
    pub memory: Option<Memory>,
}

impl Device {
    /// The processor: it is always there.
    pub fn cpu() -> Self {
        Self {
            choice: Choice::Cpu,
            name: cpu_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().ok().map(Into::into),
            memory: room::memory(),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.name, self.choice)?;
        if let Some(cores) = self.cores {
            write!(f, ", {cores} thread{}", if cores == 1 { "" } else { "s" })?;
        }
        if let Some(memory) = self.memory {
            write!(f, ", {:.1} of {:.1} GiB free", gib(memory.free), gib(memory.total))?;
        }
        f.write_str(")")
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

/// Every kind of device, each with the device or the reason why it cannot be used.
pub fn devices() -> Vec<(Choice, Result<Device>)> {
    let mut all: Vec<_> = [Choice::Cpu, Choice::Cuda(0)].into_iter().map(|choice| (choice, choice.detect())).collect();
    for api in Api::here() {
        match shown(*api) {
            Ok(found) => all.extend(found.into_iter().map(|device| (device.choice, Ok(device)))),
            Err(why) => {
                let choice = Choice::Adapter(*api, 0);
                all.push((choice, Err(choice.unusable(&why))));
            }
        }
    }
    all
}

/// What an interface shows.
#[cfg(feature = "wgpu")]
fn shown(api: Api) -> std::result::Result<Vec<Device>, String> {
    Ok(adapter::adapters(api)?.iter().map(Adapter::device).collect())
}

#[cfg(not(feature = "wgpu"))]
fn shown(api: Api) -> std::result::Result<Vec<Device>, String> {
    api.is_here()?;
    Err(format!("this build has no {} (build with --features wgpu)", api.title()))
}

impl Choice {
    /// The device that is meant.
    ///
    /// # Errors
    /// Bad input when it is asked for by name and cannot be used; the sentence says why. `auto` and `cpu` never fail.
    pub fn detect(self) -> Result<Device> {
        let reason = |why: String| self.unusable(&why);
        match self {
            Self::Cpu => Ok(Device::cpu()),
            Self::Cuda(number) => cuda(number).map_err(reason),
            Self::Adapter(api, number) => {
                let mut found = shown(api).map_err(reason)?;
                let many = found.len();
                if number >= many {
                    let plural = if many == 1 { "" } else { "s" };
                    return Err(reason(format!("{} shows {many} adapter{plural}, numbered from 0", api.title())));
                }
                Ok(found.swap_remove(number))
            }
            // What may have to be measured first is chosen by `model::gpu::auto`.
            Self::Auto => Ok(cuda(0).unwrap_or_else(|_| Device::cpu())),
        }
    }
}

impl Choice {
    fn unusable(self, why: &str) -> Error {
        Error::usage(format!("device {self} cannot be used: {why}"))
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda(_number: usize) -> std::result::Result<Device, String> {
    Err("this build has no CUDA support (build with --features cuda)".to_owned())
}

#[cfg(feature = "cuda")]
fn cuda(number: usize) -> std::result::Result<Device, String> {
    let context = context(number)?;
    let name = context.name().unwrap_or_else(|_| "NVIDIA GPU".to_owned());
    let memory = context.mem_get_info().ok().map(|(free, total)| Memory { total: total as u64, free: free as u64 });
    Ok(Device { choice: Choice::Cuda(number), name, cores: None, memory })
}

/// What computes on the NVIDIA GPU of this number.
///
/// # Errors
/// Bad input with the reason when it cannot be used.
#[cfg(feature = "cuda")]
pub fn cuda_context(number: usize) -> Result<Arc<CudaContext>> {
    context(number).map_err(|why| Choice::Cuda(number).unusable(&why))
}

/// The libraries are opened now, not linked: a program with CUDA starts where there is none. cudarc panics where one is
/// missing, so each is tried first, and what comes all the same is caught.
#[cfg(feature = "cuda")]
fn context(number: usize) -> std::result::Result<Arc<CudaContext>, String> {
    if !cuda_library("cuda") {
        return Err("NVIDIA's driver is not installed (libcuda could not be opened)".to_owned());
    }
    for library in ["cublas", "nvrtc"] {
        if !cuda_library(library) {
            return Err(format!(
                "lib{library} could not be opened: it comes with the CUDA toolkit 12 or 13, and must be where the system's \
                 loader looks (LD_LIBRARY_PATH)"
            ));
        }
    }
    let opened = crate::guard::caught(|| {
        if let Some(((driver, minor), nvrtc)) = cuda_versions()
            && driver < nvrtc
        {
            return Err(format!(
                "NVIDIA's driver supports CUDA {driver}.{minor}, and the CUDA libraries that were found are of version \
                 {nvrtc}: a newer driver is needed, or the libraries of CUDA {driver}"
            ));
        }
        let count = CudaContext::device_count().map_err(|error| format!("the driver says {:?}", error.0))?;
        if number >= usize::try_from(count).unwrap_or(0) {
            return Err(format!("there are {count} GPUs, numbered from 0"));
        }
        CudaContext::new(number).map_err(|error| format!("the driver says {:?}", error.0))
    });
    opened.unwrap_or_else(|words| Err(format!("the CUDA libraries could not be used ({words})")))
}

/// The newest CUDA that the driver supports, and the major version of NVRTC.
#[cfg(feature = "cuda")]
fn cuda_versions() -> Option<((i32, i32), i32)> {
    let (mut driver, mut major, mut minor) = (0, 0, 0);
    // SAFETY: each writes whole numbers where it is told to; the libraries are there.
    unsafe {
        cudarc::driver::sys::cuDriverGetVersion(&raw mut driver).result().ok()?;
        cudarc::nvrtc::sys::nvrtcVersion(&raw mut major, &raw mut minor).result().ok()?;
    }
    Some(((driver / 1000, driver % 1000 / 10), major))
}

/// True when this library of CUDA's can be opened: `cuda`, `cublas` or `nvrtc`.
#[cfg(feature = "cuda")]
pub fn cuda_library(name: &str) -> bool {
    // SAFETY: NVIDIA's libraries may be opened at any time; nothing else of that name is looked for.
    unsafe {
        match name {
            "cuda" => cudarc::driver::sys::is_culib_present(),
            "cublas" => cudarc::cublas::sys::is_culib_present(),
            _ => cudarc::nvrtc::sys::is_culib_present(),
        }
    }
}

fn cpu_name() -> Option<String> {
    if cfg!(target_os = "macos") {
        return system_value("machdep.cpu.brand_string");
    }
    if cfg!(windows) {
        return std::env::var("PROCESSOR_IDENTIFIER").ok();
    }
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name") || line.starts_with("Model"))?;
    line.split_once(':').map(|(_, name)| name.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Bytes of memory that this process has now, where the system tells.
pub fn resident() -> Option<u64> {
    status("VmRSS:")
}

/// The most that this process had since it began, or since [`forget_peak`], where the system tells.
pub fn peak() -> Option<u64> {
    status("VmHWM:")
}

/// Lets [`peak`] begin anew from what the process has now, where the system can.
pub fn forget_peak() {
    if let Err(error) = std::fs::write("/proc/self/clear_refs", "5") {
        log::debug!("the peak of the memory begins with the process: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_devices() {
        for (text, choice) in [
            ("auto", Choice::Auto),
            ("cpu", Choice::Cpu),
            ("cuda", Choice::Cuda(0)),
            ("CUDA:3", Choice::Cuda(3)),
            ("metal", Choice::Adapter(Api::Metal, 0)),
            ("vulkan", Choice::Adapter(Api::Vulkan, 0)),
            ("Vulkan:2", Choice::Adapter(Api::Vulkan, 2)),
            ("dx12", Choice::Adapter(Api::Dx12, 0)),
        ] {
            assert_eq!(text.parse::<Choice>().unwrap(), choice);
            assert_eq!(choice.to_string().parse::<Choice>().unwrap(), choice);
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "vulkan:", "gl"] {
            let error = text.parse::<Choice>().unwrap_err();
            assert_eq!(error.status(), 2);
            assert!(error.to_string().contains("expected auto, cpu, cuda, cuda:N, vulkan[:N], metal"), "{error}");
        }
    }

    #[test]
    fn the_processor_is_always_there() {
        let cpu = Choice::Cpu.detect().unwrap();
        assert!(!cpu.name.is_empty());
        assert!(cpu.cores.unwrap() >= 1);
        if let Some(memory) = cpu.memory {
            assert!(memory.free <= memory.total && memory.total > 1 << 26, "{memory:?}");
        }
        assert!(Choice::Auto.detect().is_ok());
        let all = devices();
        assert!(all.len() >= 2 + Api::here().len(), "{all:?}");
        for (choice, device) in &all {
            match device {
                Ok(device) => assert_eq!(device.choice, *choice),
                Err(why) => assert!(why.to_string().starts_with(&format!("device {choice} cannot be used: ")), "{why}"),
            }
        }
        let elsewhere = Api::ALL.into_iter().find(|api| !Api::here().contains(api)).unwrap();
        assert!(Choice::Adapter(elsewhere, 0).detect().is_err());
        assert!(Choice::Adapter(Api::here()[0], 99).detect().is_err());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn cuda_says_why_not() {
        let error = Choice::Cuda(1).detect().unwrap_err();
        assert_eq!(
            error.to_string(),
            "device cuda:1 cannot be used: this build has no CUDA support (build with --features cuda)"
        );
        assert_eq!(error.status(), 2);
    }
}
