//! What a kernel or a product must not get is refused before it runs.

use super::kernels::*;
use super::machine::Groups;
use super::ops::Gpu;
use super::{Buffer, Element, Launch, Machine, Mat, Product, Profile, Region, Tensor};
use crate::device::Memory;
use crate::error::{Error, Result};
use crate::model::ComputeDtype;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Computes nothing, and remembers what it was asked for.
#[derive(Debug, Default)]
struct Listener {
    buffers: AtomicU64,
    launches: Mutex<Vec<(&'static str, Groups, Vec<u8>)>>,
    products: Mutex<Vec<Product>>,
}

impl Machine for Listener {
    fn name(&self) -> String {
        "a listener".to_owned()
    }
    fn memory(&self) -> Option<Memory> {
        None
    }
    fn allocate(&self, _: usize) -> Result<Option<Buffer>> {
        Ok(Some(Buffer::new((self.buffers.fetch_add(1, Ordering::Relaxed) + 1) << 32)))
    }
    unsafe fn release(&self, _: Buffer) {}
    unsafe fn write(&self, _: Region, _: &[u8]) -> Result<()> {
        Ok(())
    }
    unsafe fn read(&self, _: Region, _: &mut [u8]) -> Result<()> {
        Ok(())
    }
    unsafe fn copy(&self, _: Region, _: Region) -> Result<()> {
        Ok(())
    }
    unsafe fn clear(&self, _: Region) -> Result<()> {
        Ok(())
    }
    unsafe fn launch(&self, launch: &Launch) -> Result<()> {
        let packed = launch.packed(|region| region.buffer.id() + region.offset as u64);
        self.launches.lock().unwrap().push((launch.kernel.name, launch.groups, packed));
        Ok(())
    }
    unsafe fn product(&self, product: &Product) -> Result<()> {
        self.products.lock().unwrap().push(*product);
        Ok(())
    }
}

fn listening() -> (Arc<Listener>, Gpu) {
    let machine = Arc::new(Listener::default());
    let gpu = Gpu::new(Arc::<Listener>::clone(&machine), ComputeDtype::Bf16);
    (machine, gpu)
}

fn said(result: Result<()>) -> String {
    result.map_err(|error: Error| error.to_string()).unwrap_err()
}

fn halves(gpu: &Gpu, count: usize) -> Tensor {
    gpu.arena.alloc(Element::Bf16, count).unwrap()
}

/// One group a row.
fn groups(rows: usize, width: usize) -> GroupLayout {
    GroupLayout { rows, many: 1, width, stride: width, step: 0 }
}

fn floats(gpu: &Gpu, count: usize) -> Tensor {
    gpu.arena.alloc(Element::F32, count).unwrap()
}

#[test]
fn what_a_kernel_must_not_get_is_refused_before_a_launch() {
    let (machine, gpu) = listening();
    let (x, y, weight) = (halves(&gpu, 64), halves(&gpu, 64), floats(&gpu, 16));
    let right = NormForward {
        x: x.all(),
        weight: weight.all(),
        bias: None,
        y: y.all(),
        groups: groups(4, 16),
        centred: false,
        plus: 0.0,
        eps: 1e-5,
    };
    let short = NormForward { x: x.all().first(63), ..right }.launch(&gpu);
    assert_eq!(said(short), "norm_forward: x has 63 bf16 values, expected 64");
    let optional = NormForward { bias: Some(weight.from(1)), ..right }.launch(&gpu);
    assert_eq!(said(optional), "norm_forward: bias has 15 f32 values, expected 16");
    let other = NormForward { weight: x.all(), ..right }.launch(&gpu);
    assert_eq!(said(other), "norm_forward: weight is bf16, expected f32");
    let same = NormForward { y: x.all(), ..right }.launch(&gpu);
    assert_eq!(said(same), "norm_forward: y overlaps x");
    let both = halves(&gpu, 80);
    let over = NormForward { x: both.all(), y: both.from(16), ..right }.launch(&gpu);
    assert_eq!(said(over), "norm_forward: y overlaps x");
    let large = NormForward { groups: groups(1 << 31, 1 << 62), ..right }.launch(&gpu);
    assert!(said(large).starts_with("norm_forward: x has 64 bf16 values, expected "));
    let (_, elsewhere) = listening();
    let foreign = halves(&elsewhere, 64);
    let foreign = NormForward { x: foreign.all(), ..right }.launch(&gpu);
    assert_eq!(said(foreign), "norm_forward: x is in the memory of another machine");

    let rows = gpu.arena.upload_indices([3, 0, 4].into_iter()).unwrap();
    let gathered = halves(&gpu, 48);
    let gather = |index, from_rows| {
        Gather { index, from: x.all(), out: gathered.all(), rows: 3, width: 16, from_rows }.launch(&gpu)
    };
    assert_eq!(said(gather(rows.all(), 4)), "gather: index has a row 4, expected rows below 4");
    let unknown = gpu.arena.alloc(Element::I32, 3).unwrap();
    assert!(said(gather(unknown.all(), 4)).contains("expected rows below 4"));
    assert_eq!(gpu.arena.upload_indices([1 << 31].into_iter()).unwrap_err().status(), 1);

    let (codes, levels) = (gpu.arena.alloc(Element::U8, 64).unwrap(), floats(&gpu, 16));
    let dequantize = |codes, block| {
        let (scales, absmax, map, levels, out) = (None, weight.all(), None, levels.all(), y.all());
        let (in_features, by_row, count, offset) = (16, 0, 64, 0.0);
        Dequantize { codes, scales, absmax, map, levels, out, in_features, block, by_row, count, offset }.launch(&gpu)
    };
    assert_eq!(said(dequantize(codes.from(1), 16)), "dequantize: codes begins at byte 1793, expected a multiple of 4");
    assert!(said(dequantize(codes.all(), 0)).starts_with("dequantize: absmax has 16 f32 values, expected "));
    let add_bias =
        AddBias { to: x.all(), bias: weight.all(), weights: None, rows: 4, width: 16, stride: 15 }.launch(&gpu);
    assert_eq!(said(add_bias), "add_bias: width <= stride does not hold");
    assert!(machine.launches.lock().unwrap().is_empty());

    // What is right is launched, with its parameters as C has them: four pointers, six whole numbers, two floats.
    right.launch(&gpu).unwrap();
    NormForward { groups: groups(0, 16), ..right }.launch(&gpu).unwrap();
    let launches = machine.launches.lock().unwrap();
    let [(name, groups, packed)] = &launches[..] else { panic!("{launches:?}") };
    assert_eq!((*name, *groups), ("norm_forward", Groups { count: 4, busy: 16 }));
    let address = |tensor: &Tensor| {
        let region = tensor.all().region();
        region.buffer.id() + region.offset as u64
    };
    let pointers = [address(&x), address(&weight), 0, address(&y)].map(u64::to_ne_bytes).concat();
    let numbers = [4, 1, 16, 16, 0, 0].map(i32::to_ne_bytes).concat();
    let fractions = [0f32, 1e-5].map(f32::to_ne_bytes).concat();
    assert_eq!(*packed, [pointers, numbers, fractions].concat());
}

#[test]
fn a_product_outside_its_memory_is_refused() {
    let (machine, gpu) = listening();
    let (a, b, c) = (halves(&gpu, 24), halves(&gpu, 32), floats(&gpu, 12));
    let of = |c, a, b| gpu.product(c, false, 1.0, a, b, 1);
    let (left, right, out) = (Mat::dense(a.all(), 3, 8), Mat::dense(b.all(), 8, 4), Mat::dense(c.all(), 3, 4));
    let short = of(out, Mat::dense(a.from(1), 3, 8), right);
    assert_eq!(said(short), "product: a has 23 values, expected 1 of 3 x 8, 8, 1 and 0 apart");
    assert_eq!(said(of(out, left, right.t())), "product: 3 x 8 times 4 x 8 is no 3 x 4");
    let wide = floats(&gpu, 32);
    assert_eq!(said(of(out, left, Mat::dense(wide.all(), 8, 4))), "product: bf16 times f32 into f32");
    let joined = halves(&gpu, 36);
    let over = of(Mat::dense(joined.from(12), 3, 4), Mat::dense(joined.all(), 3, 8), right);
    assert_eq!(said(over), "product: c overlaps a factor");
    let batch = gpu.product(out.every(6), false, 1.0, left, right, 2);
    assert_eq!(said(batch), "product: strides that no machine multiplies with");
    assert!(machine.products.lock().unwrap().is_empty());
    of(out, left, right).unwrap();
    of(Mat::dense(joined.from(24), 3, 4), Mat::dense(joined.all(), 3, 8), right).unwrap();
    let products = machine.products.lock().unwrap();
    assert_eq!(products.iter().map(|p| (p.m, p.n, p.k)).collect::<Vec<_>>(), [(3, 4, 8); 2]);
}

#[test]
fn a_profile_lists_what_was_asked_for() {
    let profile = Profile::new(Arc::new(Listener::default())).unwrap();
    let gpu = Gpu::new(Arc::<Profile>::clone(&profile), ComputeDtype::Bf16);
    let (a, b, c) = (halves(&gpu, 24), halves(&gpu, 32), floats(&gpu, 12));
    profile.take();
    for _ in 0..3 {
        let (left, right) = (Mat::dense(a.all(), 3, 8), Mat::dense(b.all(), 8, 4));
        gpu.product(Mat::dense(c.all(), 3, 4), false, 1.0, left, right, 1).unwrap();
    }
    AddBias { to: a.all(), bias: c.all().first(8), weights: None, rows: 3, width: 8, stride: 8 }.launch(&gpu).unwrap();
    let mut found: Vec<_> = profile.take().into_iter().map(|(name, of)| (name, of.calls, of.flops)).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let product = "product, 3×8 by 8×4, bf16 by bf16 to f32".to_owned();
    assert_eq!(found, [("kernel add_bias".to_owned(), 1, 0.0), (product, 3, 3.0 * 2.0 * 96.0)]);
    assert!(profile.take().is_empty(), "what was taken is gone");
}

#[test]
fn the_source_has_every_kernel_that_is_described() {
    let text = [include_str!("kernels.cu"), include_str!("kernels_rows.cu"), include_str!("kernels_state.cu")].concat();
    let written: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("KERNEL(")?.split_once(')')).map(|(name, _)| name).collect();
    let mut described: Vec<&str> = KERNELS.iter().map(|kernel| kernel.name).collect();
    assert_eq!(written.len(), described.len());
    described.retain(|name| !written.contains(name));
    assert!(described.is_empty(), "{described:?}");
    let source = source();
    for part in [
        "struct norm_forward_args { const floatX *x; const float *weight; const float *bias; floatX *y; struct \
         group_layout groups; int centred; float plus; float eps; };",
        "#define add_PARAMETERS floatX *RESTRICT to, const floatX *RESTRICT from, const u64 count",
        "enum activation { SILU, GELU_TANH, GELU, RELU, RELU2, XIELU, CLAMPED };",
        "#define HEAD_DIM_MAX 512",
    ] {
        assert!(source.contains(part), "{part}");
    }
}
