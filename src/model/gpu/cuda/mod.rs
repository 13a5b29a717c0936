//! [`Cuda`]: an NVIDIA GPU through the driver, cuBLAS and NVRTC, which are looked for when the program runs: building needs
//! none of them.

mod compile;

use super::machine::{Args, Groups, Kind, Machine, Operand, Product};
use crate::device::{self, Memory};
use crate::error::{Error, Result};
use cudarc::cublas::{CudaBlas, result as blas, sys as blas_sys};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, DriverError, result, sys};
use cudarc::nvrtc::Ptx;
use std::collections::HashMap;
use std::ffi::{CStr, c_int, c_void};
use std::sync::{Arc, Mutex, PoisonError};

pub use compile::compile;

/// An NVIDIA GPU. All work goes to one stream of its own.
pub struct Cuda {
    name: String,
    stream: Arc<CudaStream>,
    blas: CudaBlas,
    /// What cuBLAS may use meanwhile; freed after it.
    workspace: sys::CUdeviceptr,
    /// Compiled when the first kernel of its kind is asked for.
    modules: Mutex<HashMap<Kind, Arc<CudaModule>>>,
    functions: Mutex<HashMap<(&'static str, Kind), CudaFunction>>,
}

/// Threads of a group at most.
const THREADS: usize = 256;
/// Threads that do the same at once.
const WARP: usize = 32;
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

    fn function(&self, kernel: &'static str, real: Kind) -> Result<CudaFunction> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(&(kernel, real)) {
            return Ok(function.clone());
        }
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let module = match modules.get(&real) {
            Some(module) => Arc::clone(module),
            None => {
                let image = compile(real, self.context().compute_capability().map_err(driver)?)?;
                let module = self.context().load_module(Ptx::from_binary(image)).map_err(driver)?;
                modules.insert(real, Arc::clone(&module));
                module
            }
        };
        let function = module.load_function(kernel).map_err(driver)?;
        functions.insert((kernel, real), function.clone());
        Ok(function)
    }
}

fn kind(operand: &Operand) -> blas_sys::cudaDataType {
    match operand.kind {
        Kind::F32 => blas_sys::cudaDataType::CUDA_R_32F,
        Kind::Bf16 => blas_sys::cudaDataType::CUDA_R_16BF,
    }
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

    fn allocate(&self, bytes: usize) -> Result<Option<u64>> {
        self.bound()?;
        // SAFETY: nobody reads the memory before it was written: that is what the shelf promises.
        match unsafe { result::malloc_sync(bytes) } {
            Ok(address) => Ok(Some(address)),
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Ok(None),
            Err(error) => Err(driver(error)),
        }
    }

    unsafe fn release(&self, address: u64) {
        if self.bound().is_ok() {
            // SAFETY: it came from `allocate`; the driver waits for what was asked for before. Where that fails, the GPU is
            // lost anyway.
            let _ = unsafe { result::free_sync(address) };
        }
    }

    unsafe fn write(&self, to: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.bound()?;
        let part = if bytes.len() <= IN_PARTS { ALONG } else { bytes.len() };
        for (number, bytes) in bytes.chunks(part).enumerate() {
            let to = to + (number * part) as u64;
            // SAFETY: the caller answers for the memory; from ordinary memory the driver copies before it returns.
            unsafe { result::memcpy_htod_async(to, bytes, self.stream.cu_stream()) }.map_err(driver)?;
        }
        Ok(())
    }

    unsafe fn read(&self, from: u64, bytes: &mut [u8]) -> Result<()> {
        self.bound()?;
        // SAFETY: the caller answers for the memory; the bytes are borrowed until the stream is through.
        unsafe { result::memcpy_dtoh_async(bytes, from, self.stream.cu_stream()) }.map_err(driver)?;
        self.stream.synchronize().map_err(driver)
    }

    unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        self.bound()?;
        // SAFETY: the caller answers for the memory.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }.map_err(driver)
    }

    unsafe fn clear(&self, at: u64, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.bound()?;
        // SAFETY: the caller answers for the memory.
        unsafe { result::memset_d8_async(at, 0, bytes, self.stream.cu_stream()) }.map_err(driver)
    }

    unsafe fn launch(&self, kernel: &'static str, real: Kind, groups: Groups, args: &Args) -> Result<()> {
        let function = self.function(kernel, real)?;
        self.bound()?;
        let count = u32::try_from(groups.count);
        let count = count.map_err(|_| Error::failure(format!("{} groups of {kernel}", groups.count)))?;
        let threads = groups.busy.next_power_of_two().clamp(WARP, THREADS) as u32;
        let mut args = *args;
        let mut parameters = [(&raw mut args).cast::<c_void>()];
        // SAFETY: every kernel takes one `struct args`, which the driver copies; the caller answers for the memory.
        unsafe {
            let stream = self.stream.cu_stream();
            result::launch_kernel(function.cu_function(), (count, 1, 1), (threads, 1, 1), 0, stream, &mut parameters)
        }
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
        let (alpha, beta) = (std::ptr::from_ref(alpha).cast(), (&raw const beta).cast());
        let [rows, cols, inner, count] = [number(*m)?, number(*n)?, number(*k)?, number(*batch)?];
        let (at_a, at_b, at_c) = (a.address as *const c_void, b.address as *const c_void, c.address as *mut c_void);
        let (kind_a, kind_b, kind_c) = (kind(a), kind(b), kind(c));
        let (line_a, line_b, line_c) = (number(line_a)?, number(line_b)?, number(c.row.max(*n))?);
        let (handle, sums) = (*self.blas.handle(), blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F);
        let algorithm = blas_sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT;
        // cuBLAS counts columns first: it computes cᵀ = bᵀ aᵀ. A single product has more ways to be shared out.
        // SAFETY: the caller answers for the memory; alpha and beta are read before the call returns.
        unsafe {
            if *batch == 1 {
                blas::gemm_ex(
                    handle, turn_b, turn_a, cols, rows, inner, alpha, at_b, kind_b, line_b, at_a, kind_a, line_a, beta,
                    at_c, kind_c, line_c, sums, algorithm,
                )
            } else {
                let (step_a, step_b, step_c) = (a.step as i64, b.step as i64, c.step as i64);
                blas::gemm_strided_batched_ex(
                    handle, turn_b, turn_a, cols, rows, inner, alpha, at_b, kind_b, line_b, step_b, at_a, kind_a,
                    line_a, step_a, beta, at_c, kind_c, line_c, step_c, count, sums, algorithm,
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
        unsafe { self.release(self.workspace) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_as_cublas_counts() {
        let operand = |row, col| Operand { address: 0, kind: Kind::F32, row, col, step: 0 };
        use blas_sys::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
        // [3, 5] with rows 8 apart; its transpose; a single column; a single row.
        assert_eq!(turned(&operand(8, 1), 3, 5), (CUBLAS_OP_N, 8));
        assert_eq!(turned(&operand(1, 8), 5, 3), (CUBLAS_OP_T, 8));
        assert_eq!(turned(&operand(1, 1), 3, 1), (CUBLAS_OP_N, 1));
        assert_eq!(turned(&operand(5, 1), 1, 5), (CUBLAS_OP_N, 5));
    }
}
