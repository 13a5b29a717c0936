//! [`Cuda`]: an NVIDIA GPU through the driver, cuBLAS and NVRTC, which are looked for when the program runs: building needs
//! none of them.

mod compile;

use super::kernels::THREADS_MAX;
use super::machine::{Buffer, Element, Launch, Machine, Operand, Product, Region};
use crate::device::{self, Memory};
use crate::error::{Error, Result};
use crate::model::ComputeDtype;
use cudarc::cublas::{CudaBlas, result as blas, sys as blas_sys};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, DriverError, result, sys};
use cudarc::nvrtc::Ptx;
use std::collections::HashMap;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

pub use compile::compile;

/// An NVIDIA GPU. All work goes to one stream of its own.
pub struct Cuda {
    name: String,
    stream: Arc<CudaStream>,
    blas: CudaBlas,
    /// What cuBLAS may use meanwhile; freed after it.
    workspace: sys::CUdeviceptr,
    /// Compiled when the first kernel for its number type is asked for.
    modules: Mutex<HashMap<ComputeDtype, Arc<CudaModule>>>,
    functions: Mutex<HashMap<(&'static str, ComputeDtype), CudaFunction>>,
}

/// Threads that do the same at once.
const WARP: usize = 32;
/// What stands before the address and before the length of packed parameters: `CU_LAUNCH_PARAM_BUFFER_POINTER` and `_SIZE`.
const PACKED_AT: *mut c_void = ptr::without_provenance_mut(sys::CU_LAUNCH_PARAM_BUFFER_POINTER_AS_INT as usize);
const PACKED_BYTES: *mut c_void = ptr::without_provenance_mut(sys::CU_LAUNCH_PARAM_BUFFER_SIZE_AS_INT as usize);
/// What cuBLAS asks for on the newest GPUs.
const WORKSPACE: usize = 32 << 20;
/// So many bytes the driver takes along with the call; for more from ordinary memory, the host may have to wait for the stream.
const ALONG: usize = 64 << 10;
/// Up to so many bytes go in parts of that size.
const IN_PARTS: usize = 1 << 20;

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cuda({})", self.name)
    }
}

fn driver(error: DriverError) -> Error {
    let told = |text: std::result::Result<&CStr, DriverError>| {
        text.map_or_else(|_| format!("{:?}", error.0), |text| text.to_string_lossy().into_owned())
    };
    Error::failure(format!("the GPU says: {} ({})", told(error.error_string()), told(error.error_name())))
}

fn multiplied(error: blas::CublasError) -> Error {
    Error::failure(format!("cuBLAS says: {:?}", error.0))
}

impl Cuda {
    /// The GPU of this number.
    ///
    /// # Errors
    /// Bad input with the reason when there is none that can be used.
    pub fn open(number: usize) -> Result<Arc<Self>> {
        let context = device::cuda_context(number)?;
        let name = format!("{} (cuda:{number})", context.name().unwrap_or_else(|_| "NVIDIA GPU".to_owned()));
        let (major, _) = context.compute_capability().map_err(driver)?;
        if major < 8 {
            let message = format!(
                "{name} cannot be used: its compute capability is {major}.x, bf16 needs 8.0 (Ampere) or newer; --device cpu \
                 computes on the processor"
            );
            return Err(Error::usage(message));
        }
        // Everything is on one stream, in the order in which it is asked for: nothing has to be tracked.
        let stream = context.new_stream().map_err(driver)?;
        let blas = CudaBlas::new(Arc::clone(&stream)).map_err(multiplied)?;
        context.bind_to_thread().map_err(driver)?;
        // SAFETY: freed in `drop`, after everything that uses it.
        let workspace = unsafe { result::malloc_sync(WORKSPACE) }.map_err(driver)?;
        // SAFETY: the memory is there as long as the handle.
        unsafe { blas_sys::cublasSetWorkspace_v2(*blas.handle(), workspace as *mut c_void, WORKSPACE) }
            .result()
            .map_err(multiplied)?;
        let (modules, functions) = (Mutex::default(), Mutex::default());
        Ok(Arc::new(Self { name, stream, blas, workspace, modules, functions }))
    }

    fn context(&self) -> &Arc<CudaContext> {
        self.stream.context()
    }

    fn bound(&self) -> Result<()> {
        self.context().bind_to_thread().map_err(driver)
    }

    fn function(&self, kernel: &'static str, dtype: ComputeDtype) -> Result<CudaFunction> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(&(kernel, dtype)) {
            return Ok(function.clone());
        }
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let module = match modules.get(&dtype) {
            Some(module) => Arc::clone(module),
            None => {
                let image = compile(dtype, self.context().compute_capability().map_err(driver)?)?;
                let module = self.context().load_module(Ptx::from_binary(image)).map_err(driver)?;
                modules.insert(dtype, Arc::clone(&module));
                module
            }
        };
        let function = module.load_function(kernel).map_err(driver)?;
        functions.insert((kernel, dtype), function.clone());
        Ok(function)
    }
}

fn data_type(operand: &Operand) -> Result<blas_sys::cudaDataType> {
    match operand.element {
        Element::F32 => Ok(blas_sys::cudaDataType::CUDA_R_32F),
        Element::Bf16 => Ok(blas_sys::cudaDataType::CUDA_R_16BF),
        other => Err(Error::failure(format!("cuBLAS multiplies no {}", other.name()))),
    }
}

/// Buffers are named by their addresses.
fn address(region: &Region) -> u64 {
    region.buffer.id() + region.offset as u64
}

/// A row-major factor is, column by column, its transpose: whether it must be turned, and the distance of its lines.
fn turned(operand: &Operand, lines: usize, length: usize) -> (blas_sys::cublasOperation_t, usize) {
    // A matrix of one line or one column has the distance that cuBLAS wants, whatever its own is.
    if operand.col == 1 {
        (blas_sys::cublasOperation_t::CUBLAS_OP_N, operand.row.max(length))
    } else {
        (blas_sys::cublasOperation_t::CUBLAS_OP_T, operand.col.max(lines))
    }
}

impl Machine for Cuda {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn memory(&self) -> Option<Memory> {
        let (free, total) = self.context().mem_get_info().ok()?;
        Some(Memory { total: total as u64, free: free as u64 })
    }

    fn allocate(&self, bytes: usize) -> Result<Option<Buffer>> {
        self.bound()?;
        // SAFETY: nobody reads the memory before it was written: that is what the arena promises.
        match unsafe { result::malloc_sync(bytes) } {
            Ok(address) => Ok(Some(Buffer::new(address))),
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Ok(None),
            Err(error) => Err(driver(error)),
        }
    }

    unsafe fn release(&self, buffer: Buffer) {
        if self.bound().is_ok() {
            // SAFETY: it came from `allocate`; the driver waits for what was asked for before. Where that fails, the GPU is
            // lost anyway.
            let _ = unsafe { result::free_sync(buffer.id()) };
        }
    }

    unsafe fn write(&self, to: Region, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.bound()?;
        let part = if bytes.len() <= IN_PARTS { ALONG } else { bytes.len() };
        for (number, bytes) in bytes.chunks(part).enumerate() {
            let to = address(&to) + (number * part) as u64;
            // SAFETY: the region is there; from ordinary memory the driver copies before it returns.
            unsafe { result::memcpy_htod_async(to, bytes, self.stream.cu_stream()) }.map_err(driver)?;
        }
        Ok(())
    }

    unsafe fn read(&self, from: Region, bytes: &mut [u8]) -> Result<()> {
        self.bound()?;
        // SAFETY: the region is there; the bytes are borrowed until the stream is through.
        unsafe { result::memcpy_dtoh_async(bytes, address(&from), self.stream.cu_stream()) }.map_err(driver)?;
        self.stream.synchronize().map_err(driver)
    }

    unsafe fn copy(&self, to: Region, from: Region) -> Result<()> {
        self.bound()?;
        // SAFETY: both regions are there, of one length.
        unsafe { result::memcpy_dtod_async(address(&to), address(&from), from.bytes, self.stream.cu_stream()) }
            .map_err(driver)
    }

    unsafe fn clear(&self, at: Region) -> Result<()> {
        if at.bytes == 0 {
            return Ok(());
        }
        self.bound()?;
        // SAFETY: the region is there.
        unsafe { result::memset_d8_async(address(&at), 0, at.bytes, self.stream.cu_stream()) }.map_err(driver)
    }

    unsafe fn launch(&self, launch: &Launch) -> Result<()> {
        let (kernel, groups) = (launch.kernel.name, launch.groups);
        let function = self.function(kernel, launch.dtype)?;
        self.bound()?;
        let count = u32::try_from(groups.count);
        let count = count.map_err(|_| Error::failure(format!("{} groups of {kernel}", groups.count)))?;
        let threads = groups.busy.next_power_of_two().clamp(WARP, THREADS_MAX) as u32;
        let mut args = launch.packed(address);
        let mut bytes = args.len();
        // The driver copies a kernel's parameters from where they are packed as C lays them out.
        let mut packed: [*mut c_void; 5] =
            [PACKED_AT, args.as_mut_ptr().cast(), PACKED_BYTES, (&raw mut bytes).cast(), ptr::null_mut()];
        let (function, stream) = (function.cu_function(), self.stream.cu_stream());
        // SAFETY: the kernel's parameters are these, by its description; the regions are there, and as long as it goes.
        unsafe {
            let none = ptr::null_mut();
            sys::cuLaunchKernel(function, count, 1, 1, threads, 1, 1, 0, stream, none, packed.as_mut_ptr())
        }
        .result()
        .map_err(driver)
    }

    unsafe fn product(&self, product: &Product) -> Result<()> {
        let Product { m, n, k, batch, alpha, keep, a, b, c } = product;
        self.bound()?;
        let number = |x: usize| {
            c_int::try_from(x)
                .map_err(|_| Error::failure(format!("a matrix with a side of {x} is too large for cuBLAS")))
        };
        let ((turn_a, line_a), (turn_b, line_b)) = (turned(a, *m, *k), turned(b, *k, *n));
        let beta: f32 = if *keep { 1.0 } else { 0.0 };
        let (alpha, beta) = (ptr::from_ref(alpha).cast(), (&raw const beta).cast());
        let [rows, cols, inner, count] = [number(*m)?, number(*n)?, number(*k)?, number(*batch)?];
        let [at_a, at_b, at_c] = [a, b, c].map(|operand| address(&operand.region) as *mut c_void);
        let (type_a, type_b, type_c) = (data_type(a)?, data_type(b)?, data_type(c)?);
        let (line_a, line_b, line_c) = (number(line_a)?, number(line_b)?, number(c.row.max(*n))?);
        let (handle, sums) = (*self.blas.handle(), blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F);
        let algorithm = blas_sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT;
        // cuBLAS counts columns first: it computes cᵀ = bᵀ aᵀ. A single product has more ways to be shared out.
        // SAFETY: the operands' regions are there and hold every element; alpha and beta are read before the call returns.
        unsafe {
            if *batch == 1 {
                blas::gemm_ex(
                    handle, turn_b, turn_a, cols, rows, inner, alpha, at_b, type_b, line_b, at_a, type_a, line_a, beta,
                    at_c, type_c, line_c, sums, algorithm,
                )
            } else {
                let (step_a, step_b, step_c) = (a.step as i64, b.step as i64, c.step as i64);
                blas::gemm_strided_batched_ex(
                    handle, turn_b, turn_a, cols, rows, inner, alpha, at_b, type_b, line_b, step_b, at_a, type_a,
                    line_a, step_a, beta, at_c, type_c, line_c, step_c, count, sums, algorithm,
                )
            }
        }
        .map_err(multiplied)
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        let _ = self.stream.synchronize();
        // SAFETY: nothing runs any more, and the handle is not used again.
        unsafe { self.release(Buffer::new(self.workspace)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_as_cublas_counts() {
        let region = Region { buffer: Buffer::new(0), offset: 0, bytes: 0 };
        let operand = |row, col| Operand { region, element: Element::F32, row, col, step: 0, four_bit: None };
        use blas_sys::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
        // [3, 5] with rows 8 apart; its transpose; a single column; a single row.
        assert_eq!(turned(&operand(8, 1), 3, 5), (CUBLAS_OP_N, 8));
        assert_eq!(turned(&operand(1, 8), 5, 3), (CUBLAS_OP_T, 8));
        assert_eq!(turned(&operand(1, 1), 3, 1), (CUBLAS_OP_N, 1));
        assert_eq!(turned(&operand(5, 1), 1, 5), (CUBLAS_OP_N, 5));
    }
}
