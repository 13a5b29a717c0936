//! The decoder on a GPU: the same passes as on the processor, over a [`Machine`]'s memory.
//!
//! ```text
//! Decoder ─ upload ─► Model ─ OnGpu ─► the passes of `model`, over
//!
//! attention, norm ─ ops ─ memory ─ Machine ─┬─ cuda: NVRTC, cuBLAS (feature `cuda`)
//!                     └─ kernels ─ launch ──┼─ wgpu: Vulkan, Metal, Direct3D 12 (feature `wgpu`)
//!                                           └─ the tests: CUDA's source, compiled as C
//! ```
//!
//! Weights and activations are bf16 (or f32); trained values, gradients and moments are f32, and every sum is. What is
//! written by hand is what a product is not; products are the machine's own. A kernel is described once, in `kernels.rs`: how it
//! is called, what is checked before, and its parameters in `kernels.cu` come from there. Nothing waits for the machine but
//! an update, which reads two numbers.

mod attention;
mod choice;
#[cfg(feature = "cuda")]
pub mod cuda;
mod describe;
mod kernels;
mod kernels_rows;
mod kernels_state;
mod launch;
mod machine;
mod memory;
mod model;
mod norm;
mod open;
mod ops;
mod optimizer;
mod profile;
mod resident;
mod rows;
mod state;
#[cfg(test)]
mod tests;
mod weights;
#[cfg(feature = "wgpu")]
pub mod wgpu;

pub use super::ComputeDtype as Kind;
pub use super::backend::GpuGrads;
pub use choice::{Auto, auto};
pub use describe::{Access, BufferParam, Kernel, ParamElement};
pub use kernels::{KERNELS, source};
pub use machine::{Buffer, Element, Formats, FourBitOperand, Groups, Launch, Machine, Operand, Product, Region};
pub use memory::{Arena, Span, Tensor};
pub use model::Model;
pub use open::{Opened, open};
pub use ops::{Gpu, Mat};
pub use profile::{Profile, Spent};
pub use resident::Resident;

pub(super) use attention::{Angles, Attention as HeadsOf, SplitQkv};
pub(super) use norm::Parts;
pub(super) use rows::{Apart, Positions, Turning};
pub(super) use state::{Channels, FactorsOf, Gating, Scanning};
pub(super) use weights::{Ctx, ParamStore};
