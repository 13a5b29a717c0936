//! [`Emulated`]: a machine that is this processor. The kernels are the GPU's own source, compiled as C.

use rankscope::device::Memory;
use rankscope::error::{Error, Result};
use rankscope::model::gpu::{Args, Groups, Kind, Machine, Operand, Product};
use rankscope::model::ops::gemm::{Out, View, parallel};
use std::alloc::{Layout, alloc, dealloc};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}

type Emulate = unsafe extern "C" fn(*const c_void, c_int, c_int, *const Args) -> c_int;

/// The kernels, compiled. One group runs after the other, and one kernel at a time: shared memory is static.
#[derive(Debug)]
struct Kernels {
    library: usize,
    turn: Mutex<()>,
}

/// Threads of a group: few, so that it is quick, and more than one, so that it proves something.
const THREADS: c_int = 4;
/// Behind every allocation, to see whether somebody wrote there.
const GUARD: usize = 256;
const MARK: u8 = 0xa5;

#[derive(Debug)]
pub struct Emulated {
    kernels: [&'static Kernels; 2],
    allocated: Mutex<HashMap<u64, usize>>,
    /// Bytes that there are.
    memory: usize,
}

/// Compiles the kernels with the C compiler that building needs anyway; `None`, with a word, where there is none.
fn compiled(real: Kind) -> Option<&'static Kernels> {
    static LIBRARIES: [OnceLock<Option<Kernels>>; 2] = [OnceLock::new(), OnceLock::new()];
    let library = LIBRARIES[usize::from(real == Kind::Bf16)].get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("kernels.so");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let kernels = format!("-DKERNELS=\"{}\"", root.join("src/model/gpu/kernels.cu").display());
        let mut command = Command::new(&compiler);
        command.args(["-std=c11", "-O2", "-U_FORTIFY_SOURCE", "-shared", "-fPIC", &kernels]);
        if real == Kind::Bf16 {
            command.arg("-DBF16");
        }
        let Ok(output) = command.arg("-o").arg(&to).arg(root.join("tests/gpu/emulate.c")).arg("-lm").output() else {
            eprintln!("no C compiler {compiler}: the GPU's kernels are not tested");
            return None;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = CString::new(to.to_str().unwrap()).unwrap();
        // SAFETY: a library that was just compiled from sources without constructors.
        let library = unsafe { dlopen(path.as_ptr(), 2) };
        // SAFETY: dlerror gives a text after a failure.
        assert!(!library.is_null(), "{:?}", unsafe { CStr::from_ptr(dlerror()) });
        Some(Kernels { library: library as usize, turn: Mutex::new(()) })
    });
    library.as_ref()
}

impl Emulated {
    pub fn new() -> Option<Arc<Self>> {
        Self::with_memory(1 << 32)
    }

    pub fn with_memory(memory: usize) -> Option<Arc<Self>> {
        let kernels = [compiled(Kind::F32)?, compiled(Kind::Bf16)?];
        Some(Arc::new(Self { kernels, allocated: Mutex::default(), memory }))
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes + GUARD, 256).unwrap()
}

/// A matrix of an operand, as `f32`, row after row.
unsafe fn values(of: &Operand, number: usize, rows: usize, cols: usize) -> Vec<f32> {
    let at = |r: usize, c: usize| {
        let place = r * of.row + c * of.col + number * of.step;
        let address = of.address as usize + place * of.kind.bytes();
        // SAFETY: the caller says that the elements are there.
        unsafe {
            match of.kind {
                Kind::F32 => *(address as *const f32),
                Kind::Bf16 => f32::from_bits(u32::from(*(address as *const u16)) << 16),
            }
        }
    };
    (0..rows * cols).map(|i| at(i / cols, i % cols)).collect()
}

impl Machine for Emulated {
    fn name(&self) -> String {
        "this processor as a GPU".to_owned()
    }

    fn memory(&self) -> Option<Memory> {
        let used: usize = self.allocated.lock().unwrap().values().sum();
        Some(Memory { total: self.memory as u64, free: (self.memory - used) as u64 })
    }

    fn allocate(&self, bytes: usize) -> Result<Option<u64>> {
        let mut allocated = self.allocated.lock().unwrap();
        if allocated.values().sum::<usize>() + bytes > self.memory {
            return Ok(None);
        }
        // SAFETY: never empty; every byte is written before it is given out: NaN in either kind.
        let address = unsafe {
            let pointer = alloc(layout(bytes));
            pointer.write_bytes(0xff, bytes);
            pointer.add(bytes).write_bytes(MARK, GUARD);
            pointer as u64
        };
        allocated.insert(address, bytes);
        Ok(Some(address))
    }

    unsafe fn release(&self, address: u64) {
        let bytes = self.allocated.lock().unwrap().remove(&address).expect("memory that was never given out");
        // SAFETY: it came from `allocate`.
        unsafe {
            let guard = std::slice::from_raw_parts((address as *const u8).add(bytes), GUARD);
            assert!(guard.iter().all(|&byte| byte == MARK), "somebody wrote behind {bytes} bytes");
            dealloc(address as *mut u8, layout(bytes));
        }
    }

    unsafe fn write(&self, to: u64, bytes: &[u8]) -> Result<()> {
        // SAFETY: the caller says that they are there.
        unsafe { (to as *mut u8).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    unsafe fn read(&self, from: u64, bytes: &mut [u8]) -> Result<()> {
        // SAFETY: as above.
        unsafe { (from as *const u8).copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        // SAFETY: as above.
        unsafe { (to as *mut u8).copy_from_nonoverlapping(from as *const u8, bytes) };
        Ok(())
    }

    unsafe fn clear(&self, at: u64, bytes: usize) -> Result<()> {
        // SAFETY: as above.
        unsafe { (at as *mut u8).write_bytes(0, bytes) };
        Ok(())
    }

    unsafe fn launch(&self, kernel: &'static str, real: Kind, groups: Groups, args: &Args) -> Result<()> {
        let kernels = self.kernels[usize::from(real == Kind::Bf16)];
        let symbol = |name: &str| {
            let name = CString::new(name).unwrap();
            // SAFETY: the library stays open.
            let found = unsafe { dlsym(kernels.library as *mut c_void, name.as_ptr()) };
            if found.is_null() { Err(Error::failure(format!("no kernel {name:?}"))) } else { Ok(found) }
        };
        let (kernel_at, emulate) = (symbol(kernel)?, symbol("emulate")?);
        let _turn = kernels.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // SAFETY: `emulate` is declared so in emulate.c; the caller answers for the memory.
        let result = unsafe {
            let emulate: Emulate = std::mem::transmute(emulate);
            emulate(kernel_at, c_int::try_from(groups.count).unwrap(), THREADS, args)
        };
        assert_eq!(result, 0, "{kernel}: threads of a group do not meet at the same places");
        Ok(())
    }

    unsafe fn product(&self, product: &Product) -> Result<()> {
        let Product { m, n, k, batch, alpha, keep, a, b, c } = *product;
        for number in 0..batch {
            // SAFETY: the caller says that the elements are there.
            let (a, b, mut out) =
                unsafe { (values(&a, number, m, k), values(&b, number, k, n), values(&c, number, m, n)) };
            let to = Out::dense(&mut out, m, n);
            parallel(to, keep, alpha, View::dense(&a, m, k), View::dense(&b, k, n));
            for (i, &value) in out.iter().enumerate() {
                let place = i / n * c.row + i % n * c.col + number * c.step;
                let address = c.address as usize + place * c.kind.bytes();
                // SAFETY: as above.
                unsafe {
                    match c.kind {
                        Kind::F32 => *(address as *mut f32) = value,
                        Kind::Bf16 => *(address as *mut u16) = half::bf16::from_f32(value).to_bits(),
                    }
                }
            }
        }
        Ok(())
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.allocated.lock().unwrap().is_empty(), "memory was not given back");
        }
    }
}
