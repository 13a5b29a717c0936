//! [`Wgpu`]: a GPU through Vulkan, Metal or Direct3D 12: no toolkit, only the driver that draws the desktop.
//!
//! Everything is computed in `f32`. Frozen weights may be kept in bf16, which every adapter unpacks; weights in 4 bits are decoded
//! within products. What is asked for is noted and handed over in batches; nothing but a read waits.

mod product;
mod shader;
mod work;

use super::kernels::{KERNELS, THREADS_MAX};
use super::machine::{Buffer, Element, Formats, Launch, Machine, Product, Region};
use crate::device::{self, Adapter, Api, Choice, Memory};
use crate::error::{Error, Result};
use crate::model::ComputeDtype;
use ::wgpu as api;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use work::{Command, Kind, State};

/// A GPU of any maker, or a driver that computes on the processor.
pub struct Wgpu {
    name: String,
    device: api::Device,
    queue: api::Queue,
    limits: api::Limits,
    /// Its memory is the processor's.
    shared: bool,
    state: Mutex<State>,
    /// What went wrong first, told by the driver at its own time.
    failed: Arc<Mutex<Option<String>>>,
}

/// Buffers that a kernel takes at most, beside its numbers.
const BUFFERS: u32 = 11;
/// Workgroups in a dimension of a dispatch.
const ACROSS: usize = 65_535;
/// The fewest threads of a group.
const FEWEST: usize = 32;
/// Bytes that go over before the queue is waited for: the driver keeps a copy of each until then.
const UNDERWAY: usize = 64 << 20;
/// Bytes that are read at once.
const READ: usize = 64 << 20;
/// What drivers allow that do not tell.
const BUFFER_MOST: u64 = 1 << 31;

impl std::fmt::Debug for Wgpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wgpu({})", self.name)
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wgpu {
    /// The adapter of this number.
    ///
    /// # Errors
    /// Bad input with the reason when there is none that can be used.
    pub fn open(api: Api, number: usize) -> Result<Arc<Self>> {
        Self::on(&device::adapter(api, number)?)
    }

    /// On an adapter.
    ///
    /// # Errors
    /// Bad input with the reason when it cannot be used.
    pub fn on(adapter: &Adapter) -> Result<Arc<Self>> {
        let choice = adapter.choice();
        let name = format!("{} ({choice})", adapter.name());
        let refused = |why: String| Error::usage(format!("device {choice} cannot be used: {why}"));
        let limits = adapter.raw.limits();
        if limits.max_storage_buffers_per_shader_stage < BUFFERS {
            let found = limits.max_storage_buffers_per_shader_stage;
            return Err(refused(format!("its driver binds {found} buffers at once, {BUFFERS} are needed")));
        }
        let descriptor = api::DeviceDescriptor {
            label: Some("rankscope"),
            required_features: adapter.raw.features() & api::Features::SUBGROUP,
            required_limits: limits.clone(),
            experimental_features: api::ExperimentalFeatures::disabled(),
            // The arena cuts its slabs itself: what the driver's allocator keeps beside them is lost.
            memory_hints: api::MemoryHints::MemoryUsage,
            trace: api::Trace::Off,
        };
        let opened = pollster::block_on(adapter.raw.request_device(&descriptor));
        let (device, queue) = opened.map_err(|error| refused(format!("its driver says: {error}")))?;
        let failed = Arc::<Mutex<Option<String>>>::default();
        let note = |failed: &Arc<Mutex<Option<String>>>, what: String| {
            let mut failed = locked(failed);
            if failed.is_none() {
                *failed = Some(what);
            }
        };
        let of = Arc::clone(&failed);
        device.on_uncaptured_error(Arc::new(move |error: api::Error| note(&of, error.to_string())));
        let of = Arc::clone(&failed);
        device.set_device_lost_callback(move |reason, message| {
            note(&of, format!("the GPU is lost ({reason:?}): {message}"));
        });
        let state = Mutex::new(State::new(&device));
        let shared = adapter.shares_memory();
        Ok(Arc::new(Self { name, device, queue, limits, shared, state, failed }))
    }

    /// Gives the device up, as a driver does that is restarted or a GPU that is pulled out: what is asked for afterwards ends in a
    /// sentence.
    pub fn lose(&self) {
        self.device.destroy();
    }

    fn said(&self, what: &str) -> Error {
        Error::failure(format!("{} says: {what}", self.name))
    }

    /// What the driver has told by now.
    fn sound(&self) -> Result<()> {
        locked(&self.failed).as_ref().map_or(Ok(()), |what| Err(self.said(what)))
    }

    fn wait(&self) -> Result<()> {
        self.device.poll(api::PollType::wait_indefinitely()).map_err(|error| self.said(&error.to_string()))?;
        self.sound()
    }

    /// Hands over what was noted.
    fn flush(&self, state: &mut State) {
        state.flush(&self.device, &self.queue);
    }

    /// Bytes of a buffer that one operation may see.
    fn bound(&self) -> usize {
        let most = self.limits.max_storage_buffer_binding_size.min(BUFFER_MOST - 4);
        // Bindings begin at multiples: the rest must have room, too.
        (most as usize).saturating_sub(self.limits.min_storage_buffer_offset_alignment as usize) & !255
    }

    /// Where a region is bound: from the multiple below, and how many elements lie before it.
    fn binding(&self, state: &State, region: &Region, element: Element) -> Result<(Command, u32)> {
        let alignment = u64::from(self.limits.min_storage_buffer_offset_alignment.max(4));
        let offset = region.offset as u64 / alignment * alignment;
        let size = (region.offset as u64 + region.bytes as u64 - offset).max(4).next_multiple_of(4);
        if region.bytes > self.bound() {
            return Err(Error::failure(format!(
                "{} sees {} of a buffer at once, {} are needed: a smaller --batch or --seq needs less",
                self.name,
                crate::units::bytes(self.bound() as u64),
                crate::units::bytes(region.bytes as u64)
            )));
        }
        let before = (region.offset as u64 - offset) / element.bytes() as u64;
        Ok((state.bound(region.buffer, offset, size)?, before as u32))
    }

    /// Notes one dispatch.
    fn dispatch(
        &self,
        kind: Kind,
        bound: &[Option<(Region, Element)>],
        mut numbers: Vec<u8>,
        groups: [usize; 3],
    ) -> Result<()> {
        self.sound()?;
        let mut state = locked(&self.state);
        let mut places = Vec::with_capacity(bound.len());
        for region in bound {
            let (place, before) = match region {
                Some((region, element)) => self.binding(&state, region, *element)?,
                None => (state.absent(), 0),
            };
            places.push(place);
            numbers.extend(before.to_le_bytes());
        }
        let groups = groups.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        state.dispatch(&self.device, kind, &places, &numbers, groups).map_err(|what| self.said(&what))?;
        if state.is_full() {
            self.flush(&mut state);
        }
        Ok(())
    }

    /// A launch whose buffers can all be seen at once.
    fn launch_part(&self, launch: &Launch, from_first: usize) -> Result<()> {
        let threads = launch.groups.busy.next_power_of_two().clamp(FEWEST, THREADS_MAX);
        let across = launch.groups.count.min(ACROSS);
        let present = launch.regions.iter().enumerate().filter(|(_, region)| region.is_some());
        let tail = shader::Tail {
            groups: launch.groups.count as u32,
            across: across as u32,
            present: present.fold(0, |bits, (number, _)| bits | 1 << number),
            from_first: from_first as u32,
        };
        let mut numbers = launch.scalars.to_vec();
        tail.pack(&mut numbers);
        let bound: Vec<_> = launch
            .regions
            .iter()
            .zip(launch.elements)
            .map(|(region, element)| region.map(|region| (region, *element)))
            .collect();
        let kind = Kind::Kernel { kernel: launch.kernel, elements: launch.elements.to_vec(), threads };
        self.dispatch(kind, &bound, numbers, [across, launch.groups.count.div_ceil(across), 1])
    }

    /// A product whose operands can all be seen at once.
    fn product_part(&self, product: &Product) -> Result<()> {
        let form = product::Form::of(product);
        let operand = |of: &super::machine::Operand| Some((of.region, of.element));
        let mut bound = vec![operand(&product.a), operand(&product.b), operand(&product.c)];
        if let Some(of) = product.b.four_bit {
            let floats = |region| (region, Element::F32);
            bound.extend([
                Some(floats(of.absmax)),
                Some(floats(of.levels)),
                of.scales.map(|region| (region, Element::U8)),
                of.map.map(floats),
            ]);
        }
        let [tile_m, tile_n] = form.tile();
        let groups = [product.n.div_ceil(tile_n), product.m.div_ceil(tile_m), product.batch];
        self.dispatch(Kind::Product(form), &bound, product::numbers(product), groups)
    }

    /// Rows, columns or matrices of a product that is too large for one dispatch, in two parts.
    fn halved(&self, product: &Product) -> Option<[Product; 2]> {
        let Product { m, n, k, batch, a, b, c, .. } = *product;
        let wide = |operand: &super::machine::Operand| operand.region.bytes > self.bound();
        let tiles = product::Form::of(product).tile();
        let [many_m, many_n] = [m.div_ceil(tiles[0]) > ACROSS, n.div_ceil(tiles[1]) > ACROSS];
        if !(wide(&a) || wide(&b) || wide(&c) || many_m || many_n || batch > ACROSS) {
            return None;
        }
        let later = |operand: super::machine::Operand, elements: usize, extent: [usize; 3]| {
            let part = part_of(&operand, extent);
            let skipped = elements * operand.element.bytes();
            let region = Region { offset: operand.region.offset + skipped, bytes: part, ..operand.region };
            super::machine::Operand { region, ..operand }
        };
        // Codes begin with a whole word: their weight is never cut within a row of words.
        let cuts = b.four_bit.is_none();
        let make = |sizes: [usize; 4], from: [usize; 4], keep: bool| {
            let [m, n, k, batch] = sizes;
            let [m0, n0, k0, batch0] = from;
            Product {
                m,
                n,
                k,
                batch,
                keep,
                a: later(a, batch0 * a.step + m0 * a.row + k0 * a.col, [batch, m, k]),
                b: if cuts { later(b, batch0 * b.step + k0 * b.row + n0 * b.col, [batch, k, n]) } else { b },
                c: later(c, batch0 * c.step + m0 * c.row + n0, [batch, m, n]),
                ..*product
            }
        };
        let keep = product.keep;
        if batch > 1 {
            let half = batch / 2;
            return Some([make([m, n, k, half], [0; 4], keep), make([m, n, k, batch - half], [0, 0, 0, half], keep)]);
        }
        let rows = (wide(&a) && a.row >= a.col || wide(&c) || many_m) && m > 1;
        if rows {
            let half = m / 2;
            return Some([make([half, n, k, 1], [0; 4], keep), make([m - half, n, k, 1], [half, 0, 0, 0], keep)]);
        }
        if (wide(&b) && b.col >= b.row || many_n) && n > 1 && cuts {
            let half = n / 2;
            return Some([make([m, half, k, 1], [0; 4], keep), make([m, n - half, k, 1], [0, half, 0, 0], keep)]);
        }
        if k > 1 && cuts {
            let half = k / 2;
            return Some([make([m, n, half, 1], [0; 4], keep), make([m, n, k - half, 1], [0, 0, half, 0], true)]);
        }
        None
    }
}

/// Bytes from the first to the last element of so many matrices, rows and columns.
fn part_of(operand: &super::machine::Operand, [batch, rows, cols]: [usize; 3]) -> usize {
    let last = [(batch, operand.step), (rows, operand.row), (cols, operand.col)];
    let elements = last.iter().map(|&(count, stride)| count.saturating_sub(1) * stride).sum::<usize>() + 1;
    elements * operand.element.bytes()
}

/// Kernels that go over `count` values one by one: a long launch goes in parts.
const ONE_BY_ONE: [&str; 7] = ["convert", "add", "scale", "dropout", "cap_logits", "squares", "adamw"];

impl Machine for Wgpu {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn formats(&self, dtype: ComputeDtype) -> Formats {
        Formats::adapter(dtype, self.bound())
    }

    fn largest_buffer(&self) -> usize {
        usize::try_from(self.limits.max_buffer_size.min(BUFFER_MOST)).unwrap_or(usize::MAX) & !255
    }

    /// Two `f32`: a sum, and what its rounding left out.
    fn double(&self, bytes: [u8; 8]) -> f64 {
        let [a, b, c, d, e, f, g, h] = bytes;
        f64::from(f32::from_le_bytes([a, b, c, d])) + f64::from(f32::from_le_bytes([e, f, g, h]))
    }

    fn memory(&self) -> Option<Memory> {
        // Other drivers do not tell what is free.
        if self.shared { crate::room::memory() } else { None }
    }

    fn allocate(&self, bytes: usize) -> Result<Option<Buffer>> {
        self.sound()?;
        if bytes > self.largest_buffer() || self.memory().is_some_and(|memory| bytes as u64 > memory.free) {
            return Ok(None);
        }
        let mut state = locked(&self.state);
        if let Some(buffer) = state.allocate(&self.device, bytes) {
            return Ok(Some(buffer));
        }
        // What was given back is free when the work on it is done.
        self.flush(&mut state);
        self.wait()?;
        let found = state.allocate(&self.device, bytes);
        self.sound()?;
        Ok(found)
    }

    unsafe fn release(&self, buffer: Buffer) {
        locked(&self.state).release(buffer);
    }

    unsafe fn write(&self, to: Region, bytes: &[u8]) -> Result<()> {
        self.sound()?;
        let mut state = locked(&self.state);
        // What was asked for before sees what was there before.
        self.flush(&mut state);
        let Some(buffer) = state.buffer(to.buffer) else { return Err(self.said("a buffer is gone")) };
        for (number, part) in bytes.chunks(UNDERWAY).enumerate() {
            let at = (to.offset + number * UNDERWAY) as u64;
            let whole = part.len() / 4 * 4;
            self.queue.write_buffer(&buffer, at, &part[..whole]);
            if whole < part.len() {
                // Copies are of whole words; behind the last byte of a tensor nobody has any.
                let mut word = [0; 4];
                word[..part.len() - whole].copy_from_slice(&part[whole..]);
                self.queue.write_buffer(&buffer, at + whole as u64, &word);
            }
            state.written += part.len();
            if state.written >= UNDERWAY {
                state.written = 0;
                self.queue.submit([]);
                self.wait()?;
            }
        }
        self.sound()
    }

    unsafe fn read(&self, from: Region, bytes: &mut [u8]) -> Result<()> {
        let mut state = locked(&self.state);
        let many = bytes.len();
        for first in (0..many).step_by(READ) {
            let count = READ.min(many - first);
            let out = &mut bytes[first..first + count];
            let at = from.offset + first;
            let slice = state.fetch(&self.device, &self.queue, from.buffer, at, count);
            let (staging, skipped) = slice.map_err(|what| self.said(&what))?;
            self.wait()?;
            let view = staging.slice(..).get_mapped_range().map_err(|error| self.said(&error.to_string()))?;
            out.copy_from_slice(&view[skipped..skipped + count]);
            drop(view);
            staging.unmap();
        }
        self.sound()
    }

    unsafe fn copy(&self, to: Region, from: Region) -> Result<()> {
        self.sound()?;
        // Within one buffer nothing but a shader copies.
        for first in (0..to.bytes).step_by(self.bound()) {
            let bytes = self.bound().min(to.bytes - first);
            let part = |region: Region| Region { offset: region.offset + first, bytes, ..region };
            let words = bytes.div_ceil(4);
            let bound = [Some((part(to), Element::I32)), Some((part(from), Element::I32))];
            let numbers = (words as u32).to_le_bytes().to_vec();
            let across = words.div_ceil(THREADS_MAX);
            self.dispatch(Kind::Copy, &bound, numbers, [across.min(ACROSS), across.div_ceil(ACROSS), 1])?;
        }
        Ok(())
    }

    unsafe fn clear(&self, at: Region) -> Result<()> {
        self.sound()?;
        let mut state = locked(&self.state);
        state.clear(at.buffer, at.offset, at.bytes).map_err(|what| self.said(&what))
    }

    unsafe fn launch(&self, launch: &Launch) -> Result<()> {
        let bound = self.bound();
        let wide = |region: &Region| region.bytes > bound;
        if !launch.regions.iter().flatten().any(wide) || !ONE_BY_ONE.contains(&launch.kernel.name) {
            return self.launch_part(launch, 0);
        }
        let count =
            counted(launch).ok_or_else(|| Error::failure(format!("{} has no count of values", launch.kernel.name)))?;
        let at_once = bound / 8 / 256 * 256;
        for first in (0..count.values).step_by(at_once) {
            let many = at_once.min(count.values - first);
            let mut scalars = launch.scalars.to_vec();
            scalars[count.at..count.at + 8].copy_from_slice(&(many as u64).to_ne_bytes());
            let regions: Vec<Option<Region>> = launch
                .regions
                .iter()
                .zip(launch.elements)
                .map(|(region, element)| {
                    region.map(|region| match region.bytes == count.values * element.bytes() {
                        true => Region {
                            offset: region.offset + first * element.bytes(),
                            bytes: many * element.bytes(),
                            ..region
                        },
                        false => region,
                    })
                })
                .collect();
            self.launch_part(&Launch { regions: &regions, scalars: &scalars, ..*launch }, first)?;
        }
        Ok(())
    }

    unsafe fn product(&self, product: &Product) -> Result<()> {
        match self.halved(product) {
            None => self.product_part(product),
            // SAFETY: each part lies within the whole.
            Some(parts) => parts.iter().try_for_each(|part| unsafe { self.product(part) }),
        }
    }
}

/// The number of values of a launch, and where it lies in its numbers.
struct Counted {
    values: usize,
    at: usize,
}

fn counted(launch: &Launch) -> Option<Counted> {
    let mut at = 0usize;
    for (name, kind) in launch.kernel.scalars {
        let bytes = if *kind == "u64" { 8 } else { 4 };
        at = at.next_multiple_of(bytes);
        if *name == "count" {
            let found = launch.scalars.get(at..at + bytes)?.as_array::<8>()?;
            return Some(Counted { values: usize::try_from(u64::from_ne_bytes(*found)).ok()?, at });
        }
        at += bytes;
    }
    None
}

/// How to ask for it.
impl Adapter {
    fn choice(&self) -> Choice {
        Choice::Adapter(self.api, self.number)
    }
}
