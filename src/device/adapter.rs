//! Adapters: GPUs as Vulkan, Metal and Direct3D 12 show them, and drivers that compute on the processor in their place.

use super::{Api, Choice, Device};
use crate::error::{Error, Result};
use crate::room;
use wgpu::{Backend, Backends, DeviceType, InstanceDescriptor};

/// What one of the interfaces shows.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// The interface.
    pub api: Api,
    /// Its place among those that the interface shows.
    pub number: usize,
    /// The adapter itself.
    pub raw: wgpu::Adapter,
}

impl Adapter {
    /// Its maker's name for it.
    pub fn name(&self) -> String {
        self.raw.get_info().name
    }

    /// It is the processor, whatever it says.
    pub fn is_software(&self) -> bool {
        self.raw.get_info().device_type == DeviceType::Cpu
    }

    /// It has memory of its own.
    pub fn is_discrete(&self) -> bool {
        self.raw.get_info().device_type == DeviceType::DiscreteGpu
    }

    /// Its memory is the processor's.
    pub fn shares_memory(&self) -> bool {
        matches!(self.raw.get_info().device_type, DeviceType::Cpu | DeviceType::IntegratedGpu)
    }

    /// For a list.
    pub fn device(&self) -> Device {
        let kind = match self.raw.get_info().device_type {
            DeviceType::Cpu => ", a driver that computes on the processor",
            DeviceType::IntegratedGpu => ", integrated",
            DeviceType::VirtualGpu => ", virtual",
            DeviceType::DiscreteGpu | DeviceType::Other => "",
        };
        Device {
            choice: Choice::Adapter(self.api, self.number),
            name: format!("{}{kind}", self.name()),
            cores: None,
            memory: if self.shares_memory() { room::memory() } else { None },
        }
    }
}

impl Api {
    fn backend(self) -> (Backend, Backends) {
        match self {
            Self::Vulkan => (Backend::Vulkan, Backends::VULKAN),
            Self::Metal => (Backend::Metal, Backends::METAL),
            Self::Dx12 => (Backend::Dx12, Backends::DX12),
        }
    }
}

/// All that an interface shows, GPUs before drivers that only stand in for one.
///
/// # Errors
/// Why there is none.
pub(super) fn adapters(api: Api) -> std::result::Result<Vec<Adapter>, String> {
    api.is_here()?;
    let (backend, backends) = api.backend();
    // A driver may do anything while it is loaded.
    let found = crate::guard::caught(|| {
        let instance =
            wgpu::Instance::new(InstanceDescriptor { backends, ..InstanceDescriptor::new_without_display_handle() });
        pollster::block_on(instance.enumerate_adapters(backends))
    });
    let mut found = found.map_err(|words| format!("{} could not be started ({words})", api.title()))?;
    found.retain(|adapter| {
        let compute = wgpu::DownlevelFlags::COMPUTE_SHADERS;
        adapter.get_info().backend == backend && adapter.get_downlevel_capabilities().flags.contains(compute)
    });
    found.sort_by_key(|adapter| match adapter.get_info().device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu | DeviceType::Other => 2,
        DeviceType::Cpu => 3,
    });
    if found.is_empty() {
        return Err(format!("{} shows no GPU that computes (is its driver installed?)", api.title()));
    }
    Ok(found.into_iter().enumerate().map(|(number, raw)| Adapter { api, number, raw }).collect())
}

/// The adapter of this number.
///
/// # Errors
/// Bad input with the reason when there is none.
pub fn adapter(api: Api, number: usize) -> Result<Adapter> {
    let refused = |why: String| Error::usage(format!("device {} cannot be used: {why}", Choice::Adapter(api, number)));
    let mut found = adapters(api).map_err(refused)?;
    if number >= found.len() {
        let many = found.len();
        return Err(refused(format!(
            "{} shows {many} adapter{}, numbered from 0",
            api.title(),
            if many == 1 { "" } else { "s" }
        )));
    }
    Ok(found.swap_remove(number))
}

/// Every GPU that some interface of this system shows, without drivers that only stand in for one: those with memory of their own
/// first.
pub fn gpus() -> Vec<Adapter> {
    let all = Api::here().iter().flat_map(|api| adapters(*api).unwrap_or_default());
    let mut all: Vec<Adapter> = all.filter(|adapter| !adapter.is_software()).collect();
    all.sort_by_key(|adapter| !adapter.is_discrete());
    all
}
