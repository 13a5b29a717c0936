//! [`Emulated`]: a machine that is this processor. The kernels are the GPU's own source, compiled as C.

use rankscope::device::Memory;
use rankscope::error::{Error, Result};
use rankscope::model::ComputeDtype;
use rankscope::model::gpu::{self, Buffer, Element, Launch, Machine, Operand, Product, Region};
use rankscope::model::ops::gemm::{Out, View, parallel};
use std::alloc::{Layout, alloc, dealloc};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}

type Emulate = unsafe extern "C" fn(*const c_void, c_int, c_int, *const c_void) -> c_int;

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
    allocated: Mutex<HashMap<Buffer, usize>>,
    /// Bytes that there are.
    memory: usize,
}

/// Compiles the kernels with the C compiler that building needs anyway; `None`, with a word, where there is none.
fn compiled(dtype: ComputeDtype) -> Option<&'static Kernels> {
    static LIBRARIES: [OnceLock<Option<Kernels>>; 2] = [OnceLock::new(), OnceLock::new()];
    let library = LIBRARIES[usize::from(dtype == ComputeDtype::Bf16)].get_or_init(|| {
        let root = super::support::root();
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("kernels.so");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let source = folder.path().join("kernels.c");
        std::fs::write(&source, gpu::source()).unwrap();
        let kernels = format!("-DKERNELS=\"{}\"", source.display());
        let mut command = Command::new(&compiler);
        command.args(["-std=c11", "-O2", "-Werror=switch", "-U_FORTIFY_SOURCE", "-shared", "-fPIC", &kernels]);
        if dtype == ComputeDtype::Bf16 {
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
        let kernels = [compiled(ComputeDtype::F32)?, compiled(ComputeDtype::Bf16)?];
        Some(Arc::new(Self { kernels, allocated: Mutex::default(), memory }))
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes + GUARD, 256).unwrap()
}

/// Buffers are named by their addresses.
fn address(region: &Region) -> u64 {
    region.buffer.id() + region.offset as u64
}

fn pointer(region: &Region) -> *mut u8 {
    address(region) as *mut u8
}

/// Where element (r, c) of number `number` is.
fn element(of: &Operand, number: usize, r: usize, c: usize) -> *mut u8 {
    let place = r * of.row + c * of.col + number * of.step;
    assert!((place + 1) * of.element.bytes() <= of.region.bytes, "an element outside its region");
    pointer(&of.region).wrapping_add(place * of.element.bytes())
}

/// A matrix of an operand, as `f32`, row after row.
unsafe fn values(of: &Operand, number: usize, rows: usize, cols: usize) -> Vec<f32> {
    let at = |r: usize, c: usize| {
        let place = element(of, number, r, c);
        // SAFETY: the caller says that the region is there.
        unsafe {
            match of.element {
                Element::F32 => *place.cast::<f32>(),
                Element::Bf16 => f32::from_bits(u32::from(*place.cast::<u16>()) << 16),
                other => panic!("a product of {other:?}"),
            }
        }
    };
    (0..rows * cols).map(|i| at(i / cols, i % cols)).collect()
}

impl Emulated {
    /// What the arena promises: the bytes are within one allocation.
    fn there(&self, region: &Region) {
        let allocated = self.allocated.lock().unwrap();
        let bytes = allocated.get(&region.buffer).unwrap_or_else(|| panic!("{region:?} in memory that was released"));
        assert!(region.offset + region.bytes <= *bytes, "{region:?} in {bytes} bytes");
    }
}

impl Machine for Emulated {
    fn name(&self) -> String {
        "this processor as a GPU".to_owned()
    }

    fn memory(&self) -> Option<Memory> {
        let used: usize = self.allocated.lock().unwrap().values().sum();
        Some(Memory { total: self.memory as u64, free: (self.memory - used) as u64 })
    }

    fn allocate(&self, bytes: usize) -> Result<Option<Buffer>> {
        let mut allocated = self.allocated.lock().unwrap();
        if allocated.values().sum::<usize>() + bytes > self.memory {
            return Ok(None);
        }
        // SAFETY: never empty; every byte is written before it is given out: NaN in either type.
        let buffer = unsafe {
            let pointer = alloc(layout(bytes));
            pointer.write_bytes(0xff, bytes);
            pointer.add(bytes).write_bytes(MARK, GUARD);
            Buffer::new(pointer as u64)
        };
        allocated.insert(buffer, bytes);
        Ok(Some(buffer))
    }

    unsafe fn release(&self, buffer: Buffer) {
        let bytes = self.allocated.lock().unwrap().remove(&buffer).expect("memory that was never given out");
        // SAFETY: it came from `allocate`.
        unsafe {
            let begin = buffer.id() as *mut u8;
            let guard = std::slice::from_raw_parts(begin.add(bytes), GUARD);
            assert!(guard.iter().all(|&byte| byte == MARK), "somebody wrote behind {bytes} bytes");
            dealloc(begin, layout(bytes));
        }
    }

    unsafe fn write(&self, to: Region, bytes: &[u8]) -> Result<()> {
        self.there(&to);
        assert!(bytes.len() <= to.bytes);
        // SAFETY: they are there.
        unsafe { pointer(&to).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    unsafe fn read(&self, from: Region, bytes: &mut [u8]) -> Result<()> {
        self.there(&from);
        assert!(bytes.len() <= from.bytes);
        // SAFETY: they are there.
        unsafe { pointer(&from).copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    unsafe fn copy(&self, to: Region, from: Region) -> Result<()> {
        self.there(&to);
        self.there(&from);
        assert!(to.bytes == from.bytes && !to.overlaps(&from));
        // SAFETY: they are there, and apart.
        unsafe { pointer(&to).copy_from_nonoverlapping(pointer(&from), from.bytes) };
        Ok(())
    }

    unsafe fn clear(&self, at: Region) -> Result<()> {
        self.there(&at);
        // SAFETY: they are there.
        unsafe { pointer(&at).write_bytes(0, at.bytes) };
        Ok(())
    }

    unsafe fn launch(&self, launch: &Launch) -> Result<()> {
        launch.regions.iter().flatten().for_each(|region| self.there(region));
        let kernels = self.kernels[usize::from(launch.dtype == ComputeDtype::Bf16)];
        let symbol = |name: &str| {
            let name = CString::new(name).unwrap();
            // SAFETY: the library stays open.
            let found = unsafe { dlsym(kernels.library as *mut c_void, name.as_ptr()) };
            if found.is_null() { Err(Error::failure(format!("no kernel {name:?}"))) } else { Ok(found) }
        };
        let name = launch.kernel.name;
        let (kernel_at, emulate, bytes) = (symbol(name)?, symbol("emulate")?, symbol(&format!("{name}_bytes"))?);
        let args = launch.packed(address);
        // SAFETY: emulate.c gives every kernel such a number.
        let bytes = unsafe { *bytes.cast::<usize>() };
        assert!((bytes - 7..=bytes).contains(&args.len()), "{name}: {} bytes of parameters, not {bytes}", args.len());
        let args: Vec<u64> = args
            .chunks(8)
            .map(|chunk| {
                let mut eight = [0; 8];
                eight[..chunk.len()].copy_from_slice(chunk);
                u64::from_ne_bytes(eight)
            })
            .collect();
        let _turn = kernels.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // SAFETY: `emulate` is declared so in emulate.c; the regions are there, and as long as the kernel goes.
        let result = unsafe {
            let emulate: Emulate = std::mem::transmute(emulate);
            emulate(kernel_at, c_int::try_from(launch.groups.count).unwrap(), THREADS, args.as_ptr().cast())
        };
        assert_eq!(result, 0, "{name}: threads of a group do not meet at the same places");
        Ok(())
    }

    unsafe fn product(&self, product: &Product) -> Result<()> {
        let Product { m, n, k, batch, alpha, keep, a, b, c } = *product;
        [a, b, c].iter().for_each(|operand| self.there(&operand.region));
        for number in 0..batch {
            // SAFETY: the regions are there.
            let (a, b, mut out) =
                unsafe { (values(&a, number, m, k), values(&b, number, k, n), values(&c, number, m, n)) };
            let to = Out::dense(&mut out, m, n);
            parallel(to, keep, alpha, View::dense(&a, m, k), View::dense(&b, k, n));
            for (i, &value) in out.iter().enumerate() {
                let place = element(&c, number, i / n, i % n);
                // SAFETY: as above.
                unsafe {
                    match c.element {
                        Element::Bf16 => *place.cast::<u16>() = half::bf16::from_f32(value).to_bits(),
                        _ => *place.cast::<f32>() = value,
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
