//! Real GPUs and their memory, to hold a prediction against.

use crate::model::gpu::Formats;

/// A GPU that one can buy or rent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its maker's name for it.
    pub name: &'static str,
    /// Memory as its maker states it, in GiB.
    pub gib: u64,
}

impl Gpu {
    /// Bytes of its memory.
    pub const fn bytes(&self) -> u64 {
        self.gib << 30
    }
}

/// Memory sizes by the makers' data sheets, smallest first.
pub const GPUS: [Gpu; 16] = [
    Gpu { name: "GeForce RTX 4060", gib: 8 },
    Gpu { name: "GeForce RTX 3060", gib: 12 },
    Gpu { name: "T4", gib: 16 },
    Gpu { name: "GeForce RTX 4080", gib: 16 },
    Gpu { name: "Radeon RX 7900 XTX", gib: 24 },
    Gpu { name: "GeForce RTX 3090, 4090", gib: 24 },
    Gpu { name: "L4, A10G", gib: 24 },
    Gpu { name: "GeForce RTX 5090", gib: 32 },
    Gpu { name: "A100 40 GB", gib: 40 },
    Gpu { name: "L40S, RTX 6000 Ada", gib: 48 },
    Gpu { name: "A100, H100", gib: 80 },
    Gpu { name: "RTX PRO 6000 Blackwell", gib: 96 },
    Gpu { name: "H200", gib: 141 },
    Gpu { name: "B200", gib: 180 },
    Gpu { name: "MI300X", gib: 192 },
    Gpu { name: "MI325X", gib: 256 },
];

/// What a driver's context, cuBLAS and the kernels take on a GPU before any tensor: an estimate, nothing here has measured
/// it.
pub const CONTEXT: u64 = 600_000_000;

/// What a driver of Vulkan, Metal or Direct3D 12 and the kernels that it compiled take beside tensors: measured with llvmpipe
/// (Mesa, LLVM 15), where a process of QLoRA was 105 MB larger than the same run on the processor.
pub const ADAPTER: u64 = 110_000_000;

/// What is taken before any tensor on a GPU that keeps numbers so.
pub fn context(formats: &Formats) -> u64 {
    if formats.decodes { ADAPTER } else { CONTEXT }
}

/// Whether a run fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// With a tenth to spare.
    Fits,
    /// With less than that.
    Tight,
    /// Not at all.
    DoesNot,
}

impl Verdict {
    /// Of a need against what there is. A prediction may be a tenth too small.
    pub fn of(need: u64, room: u64) -> Self {
        if need > room {
            Self::DoesNot
        } else if need.saturating_mul(10) > room.saturating_mul(9) {
            Self::Tight
        } else {
            Self::Fits
        }
    }

    /// As a person says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fits => "fits",
            Self::Tight => "tight",
            Self::DoesNot => "does not fit",
        }
    }
}
