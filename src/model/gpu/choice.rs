//! What `auto` means: a GPU where one is faster, otherwise the processor; and why.

#[cfg(feature = "wgpu")]
use super::{machine::Machine, ops::Gpu, ops::Mat, wgpu::Wgpu};
#[cfg(feature = "wgpu")]
use crate::device::Adapter;
use crate::device::{Choice, Device};
#[cfg(feature = "wgpu")]
use crate::error::Result;
#[cfg(feature = "wgpu")]
use crate::model::ComputeDtype;
#[cfg(feature = "wgpu")]
use crate::model::ops::gemm::{Out, View, parallel};
#[cfg(feature = "wgpu")]
use std::sync::Arc;
use std::sync::OnceLock;
#[cfg(feature = "wgpu")]
use std::time::{Duration, Instant};

/// What was chosen, and why.
#[derive(Clone, Debug)]
pub struct Auto {
    /// Never [`Choice::Auto`].
    pub choice: Choice,
    /// A sentence, where there was anything to choose from.
    pub why: Option<String>,
    /// There is no GPU on this computer, and no driver for one.
    pub none: bool,
}

impl Auto {
    /// The device that was chosen.
    pub fn device(&self) -> Device {
        self.choice.detect().unwrap_or_else(|_| Device::cpu())
    }
}

/// CUDA where it works; then a GPU with memory of its own; then an integrated one, if products on it are measured to be faster. A
/// driver that computes on the processor is never taken. Looked for once.
pub fn auto() -> Auto {
    static FOUND: OnceLock<Auto> = OnceLock::new();
    FOUND.get_or_init(look).clone()
}

fn look() -> Auto {
    let cuda = match Choice::Cuda(0).detect() {
        Ok(_) => return Auto { choice: Choice::Cuda(0), why: None, none: false },
        Err(why) => why,
    };
    let processor = |why, none| Auto { choice: Choice::Cpu, why, none };
    match adapter() {
        Some(Ok(chosen)) => chosen,
        Some(Err(why)) => processor(Some(why), false),
        // Nobody misses CUDA on a Mac.
        None => {
            let missed = cfg!(feature = "cuda") && !cfg!(target_os = "macos");
            processor(missed.then(|| cuda.to_string()), !driver())
        }
    }
}

/// NVIDIA's is installed.
#[cfg(feature = "cuda")]
fn driver() -> bool {
    crate::device::cuda_library("cuda")
}

#[cfg(not(feature = "cuda"))]
fn driver() -> bool {
    false
}

#[cfg(not(feature = "wgpu"))]
fn adapter() -> Option<std::result::Result<Auto, String>> {
    None
}

/// The first GPU that Vulkan, Metal or Direct3D 12 show and that is worth it, or why it is not; `None` where they show none.
#[cfg(feature = "wgpu")]
fn adapter() -> Option<std::result::Result<Auto, String>> {
    let mut refused = None;
    for adapter in crate::device::gpus() {
        match Wgpu::on(&adapter).and_then(|machine| judged(&adapter, machine)) {
            Ok(Ok(chosen)) => return Some(Ok(chosen)),
            Ok(Err(why)) => refused = Some(why),
            Err(error) => refused = Some(error.to_string()),
        }
    }
    refused.map(Err)
}

/// An integrated GPU must be this much faster: it takes memory from the processor, and time from the desktop.
#[cfg(feature = "wgpu")]
const WORTH: f64 = 1.2;

#[cfg(feature = "wgpu")]
fn judged(adapter: &Adapter, machine: Arc<Wgpu>) -> Result<std::result::Result<Auto, String>> {
    let choice = adapter.device().choice;
    if adapter.is_discrete() {
        // It must multiply, and be right.
        rate(machine)?;
        return Ok(Ok(Auto { choice, why: None, none: false }));
    }
    let name = machine.name();
    let (there, here) = (rate(machine)? / 1e9, processor() / 1e9);
    let figures = format!("products at {there:.0} GFLOP/s on {name}, {here:.0} on the processor");
    if there < WORTH * here {
        return Ok(Err(figures));
    }
    Ok(Ok(Auto { choice, why: Some(figures), none: false }))
}

/// Side of the products that are measured.
#[cfg(feature = "wgpu")]
const SIDE: usize = 512;
/// How long.
#[cfg(feature = "wgpu")]
const MEASURED: Duration = Duration::from_millis(100);

#[cfg(feature = "wgpu")]
fn operations(times: u32, since: Instant) -> f64 {
    2.0 * (SIDE as f64).powi(3) * f64::from(times) / since.elapsed().as_secs_f64()
}

/// Operations a second of products on a machine, which must be right.
#[cfg(feature = "wgpu")]
fn rate(machine: Arc<dyn Machine>) -> Result<f64> {
    let name = machine.name();
    let gpu = Gpu::new(machine, ComputeDtype::F32);
    let count = SIDE * SIDE;
    let a = gpu.arena.upload(&vec![0.5; count])?;
    let b = gpu.arena.upload(&vec![0.25; count])?;
    let c = gpu.arena.upload(&vec![0.0; count])?;
    let square = |of| Mat::dense(of, SIDE, SIDE);
    let once = || gpu.product(square(c.all()), false, 1.0, square(a.all()), square(b.all()).t(), 1);
    // The first compiles.
    once()?;
    let found = c.all().values()?;
    if found.iter().any(|&value| (value - SIDE as f32 * 0.125).abs() > 1e-3) {
        return Err(crate::error::Error::failure(format!("{name} multiplies wrongly: its driver cannot be used")));
    }
    let (begin, mut times) = (Instant::now(), 0);
    while begin.elapsed() < MEASURED {
        for _ in 0..4 {
            once()?;
        }
        times += 4;
        c.from(count - 1).values()?;
    }
    Ok(operations(times, begin))
}

/// The same on the processor.
#[cfg(feature = "wgpu")]
fn processor() -> f64 {
    let (a, b) = (vec![0.5f32; SIDE * SIDE], vec![0.25f32; SIDE * SIDE]);
    let mut c = vec![0f32; SIDE * SIDE];
    let view = |values| View::dense(values, SIDE, SIDE);
    let mut once = || parallel(Out::dense(&mut c, SIDE, SIDE), false, 1.0, view(&a), view(&b));
    once();
    let (begin, mut times) = (Instant::now(), 0);
    while begin.elapsed() < MEASURED {
        once();
        times += 1;
    }
    operations(times, begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_on_the_processor_is_never_taken() {
        let auto = auto();
        assert_ne!(auto.choice, Choice::Auto);
        #[cfg(feature = "wgpu")]
        if let Choice::Adapter(api, number) = auto.choice {
            assert!(!crate::device::adapter(api, number).unwrap().is_software());
        }
        assert_eq!(auto.device().choice, auto.choice);
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn what_an_adapter_multiplies_is_right_and_timed() {
        let Ok(machine) = Wgpu::open(crate::device::Api::Vulkan, 0) else { return };
        let (there, here) = (rate(machine).unwrap(), processor());
        assert!(there > 1e6 && here > 1e6, "{there} {here}");
    }
}
