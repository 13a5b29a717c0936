//! [`State`]: a device's buffers and pipelines, and what was asked for and not handed over yet.

use super::product;
use super::shader;
use super::{FEWEST, KERNELS};
use crate::error::{Error, Result};
use crate::model::gpu::describe::Kernel;
use crate::model::gpu::machine::{Buffer, Element};
use ::wgpu as api;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

/// What a dispatch runs.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A kernel for buffers of these types, in groups of so many threads.
    Kernel { kernel: &'static Kernel, elements: Vec<Element>, threads: usize },
    /// A product.
    Product(product::Form),
    /// Words from one place to another.
    Copy,
}

/// What tells pipelines apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Kernel(&'static str, Vec<Element>, usize),
    Product(product::Form),
    Copy,
}

/// Bytes of a buffer as a dispatch sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bound {
    buffer: u64,
    offset: u64,
    size: u64,
}

/// What is handed over.
#[derive(Debug)]
enum Noted {
    Dispatch { pipeline: Arc<api::ComputePipeline>, group: Arc<api::BindGroup>, numbers: u32, groups: [u32; 3] },
    Clear { buffer: api::Buffer, offset: u64, bytes: u64 },
}

#[derive(Debug)]
struct Layout {
    bindings: api::BindGroupLayout,
    pipeline: api::PipelineLayout,
}

#[derive(Debug)]
pub(super) struct State {
    next: u64,
    buffers: HashMap<u64, api::Buffer>,
    /// Layouts by the number of buffers: all are bound in one way.
    layouts: HashMap<usize, Layout>,
    pipelines: HashMap<Key, Arc<api::ComputePipeline>>,
    /// From the second step on, every dispatch has been there before.
    groups: HashMap<Vec<Bound>, Arc<api::BindGroup>>,
    pending: Vec<Noted>,
    /// The numbers of what is pending, a slot each.
    numbers: Vec<u8>,
    slots: api::Buffer,
    staging: Option<api::Buffer>,
    subgroups: bool,
    /// Bytes written since the queue was last waited for.
    pub written: usize,
}

/// Bytes between the numbers of two dispatches, and of each as they are seen.
const SLOT: usize = 256;
/// Dispatches that are handed over at once: so many that handing over costs little, so few that a desktop's watchdog does not bite.
const BATCH: usize = 64;
/// Groups of bindings that are kept: more than a step of the largest model has.
const GROUPS: usize = 1 << 15;
/// The buffer that stands where a kernel has none.
const NONE: u64 = 0;

const COPY: &str = "
struct Numbers { words: u32, at_to: u32, at_from: u32 }
@group(0) @binding(0) var<uniform> a: Numbers;
@group(0) @binding(1) var<storage, read_write> b_to: array<u32>;
@group(0) @binding(2) var<storage, read_write> b_from: array<u32>;
@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let at = id.x + id.y * groups.x * 256u;
    if at < a.words { b_to[a.at_to + at] = b_from[a.at_from + at]; }
}
";

pub(super) type Command = Bound;

impl State {
    pub fn new(device: &api::Device) -> Self {
        let buffer = |size: usize, usage| {
            device.create_buffer(&api::BufferDescriptor {
                label: None,
                size: size as u64,
                usage,
                mapped_at_creation: false,
            })
        };
        let slots = buffer(BATCH * SLOT, api::BufferUsages::UNIFORM | api::BufferUsages::COPY_DST);
        let none = buffer(SLOT, api::BufferUsages::STORAGE);
        Self {
            next: NONE + 1,
            buffers: HashMap::from([(NONE, none)]),
            layouts: HashMap::new(),
            pipelines: HashMap::new(),
            groups: HashMap::new(),
            pending: Vec::new(),
            numbers: Vec::new(),
            slots,
            staging: None,
            subgroups: device.features().contains(api::Features::SUBGROUP),
            written: 0,
        }
    }

    /// A buffer; `None` where there is no room.
    pub fn allocate(&mut self, device: &api::Device, bytes: usize) -> Option<Buffer> {
        let (memory, other) = (
            device.push_error_scope(api::ErrorFilter::OutOfMemory),
            device.push_error_scope(api::ErrorFilter::Internal),
        );
        let usage = api::BufferUsages::STORAGE | api::BufferUsages::COPY_SRC | api::BufferUsages::COPY_DST;
        let size = (bytes as u64).next_multiple_of(4);
        let buffer =
            device.create_buffer(&api::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        let refused = [pollster::block_on(other.pop()), pollster::block_on(memory.pop())];
        if refused.iter().any(Option::is_some) {
            return None;
        }
        let name = self.next;
        self.next += 1;
        self.buffers.insert(name, buffer);
        Some(Buffer::new(name))
    }

    pub fn release(&mut self, buffer: Buffer) {
        self.buffers.remove(&buffer.id());
        self.groups.retain(|places, _| places.iter().all(|place| place.buffer != buffer.id()));
    }

    pub fn buffer(&self, buffer: Buffer) -> Option<api::Buffer> {
        self.buffers.get(&buffer.id()).cloned()
    }

    fn there(&self, buffer: Buffer) -> std::result::Result<api::Buffer, String> {
        self.buffer(buffer).ok_or_else(|| format!("buffer {} is gone", buffer.id()))
    }

    pub fn bound(&self, buffer: Buffer, offset: u64, size: u64) -> Result<Bound> {
        match self.buffers.get(&buffer.id()) {
            Some(of) if offset + size <= of.size() => Ok(Bound { buffer: buffer.id(), offset, size }),
            _ => Err(Error::failure(format!(
                "bytes {offset} to {} of buffer {} are not there",
                offset + size,
                buffer.id()
            ))),
        }
    }

    pub fn absent(&self) -> Bound {
        Bound { buffer: NONE, offset: 0, size: SLOT as u64 }
    }

    fn layout(&mut self, device: &api::Device, buffers: usize) -> &Layout {
        self.layouts.entry(buffers).or_insert_with(|| {
            // What a binding must hold at least differs between kernels that share a layout: the driver looks at each dispatch.
            let entry = |binding, ty, has_dynamic_offset| api::BindGroupLayoutEntry {
                binding,
                visibility: api::ShaderStages::COMPUTE,
                ty: api::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
                count: None,
            };
            let storage = api::BufferBindingType::Storage { read_only: false };
            let mut entries = vec![entry(0, api::BufferBindingType::Uniform, true)];
            entries.extend((1..=buffers as u32).map(|binding| entry(binding, storage, false)));
            let bindings =
                device.create_bind_group_layout(&api::BindGroupLayoutDescriptor { label: None, entries: &entries });
            let pipeline = device.create_pipeline_layout(&api::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&bindings)],
                immediate_size: 0,
            });
            Layout { bindings, pipeline }
        })
    }

    /// Compiles what runs, the first time.
    fn pipeline(
        &mut self,
        device: &api::Device,
        kind: Kind,
        buffers: usize,
    ) -> std::result::Result<Arc<api::ComputePipeline>, String> {
        let key = match &kind {
            Kind::Kernel { kernel, elements, threads } => {
                Key::Kernel(kernel.name, elements.clone(), (*threads).max(FEWEST))
            }
            Kind::Product(form) => Key::Product(*form),
            Kind::Copy => Key::Copy,
        };
        if let Some(pipeline) = self.pipelines.get(&key) {
            return Ok(Arc::clone(pipeline));
        }
        let (label, text) = match &kind {
            Kind::Kernel { kernel, elements, threads } => {
                let names: Vec<&str> = KERNELS.iter().map(|kernel| kernel.name).collect();
                let text = shader::module(kernel, elements, *threads, self.subgroups, &names)
                    .map_err(|error| error.to_string())?;
                (kernel.name, text)
            }
            Kind::Product(form) => ("product", form.module()),
            Kind::Copy => ("copy", COPY.to_owned()),
        };
        let scopes =
            [api::ErrorFilter::Validation, api::ErrorFilter::Internal].map(|filter| device.push_error_scope(filter));
        let layout = self.layout(device, buffers).pipeline.clone();
        let descriptor =
            api::ShaderModuleDescriptor { label: Some(label), source: api::ShaderSource::Wgsl(text.into()) };
        // SAFETY: every index lies within what the kernel's description says, and launches are checked by that before they get
        // here; every loop ends, and nothing is divided by 0.
        let module = unsafe { device.create_shader_module_trusted(descriptor, api::ShaderRuntimeChecks::unchecked()) };
        let pipeline = device.create_compute_pipeline(&api::ComputePipelineDescriptor {
            label: Some(label),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            // Nothing is read there before it is written.
            compilation_options: api::PipelineCompilationOptions {
                constants: &[],
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        let refused = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop())).last();
        if let Some(error) = refused {
            return Err(format!("kernel {label} was refused: {error}"));
        }
        let pipeline = Arc::new(pipeline);
        self.pipelines.insert(key, Arc::clone(&pipeline));
        Ok(pipeline)
    }

    fn group(&mut self, device: &api::Device, places: &[Bound]) -> std::result::Result<Arc<api::BindGroup>, String> {
        if let Some(group) = self.groups.get(places) {
            return Ok(Arc::clone(group));
        }
        self.layout(device, places.len());
        let layout = self.layouts.get(&places.len()).ok_or("a layout is gone")?;
        let mut entries = vec![api::BindGroupEntry {
            binding: 0,
            resource: api::BindingResource::Buffer(api::BufferBinding {
                buffer: &self.slots,
                offset: 0,
                size: NonZeroU64::new(SLOT as u64),
            }),
        }];
        for (number, place) in places.iter().enumerate() {
            let buffer = self.buffers.get(&place.buffer).ok_or_else(|| format!("buffer {} is gone", place.buffer))?;
            let binding = api::BufferBinding { buffer, offset: place.offset, size: NonZeroU64::new(place.size) };
            entries.push(api::BindGroupEntry {
                binding: number as u32 + 1,
                resource: api::BindingResource::Buffer(binding),
            });
        }
        let descriptor = api::BindGroupDescriptor { label: None, layout: &layout.bindings, entries: &entries };
        let group = Arc::new(device.create_bind_group(&descriptor));
        if self.groups.len() >= GROUPS {
            self.groups.clear();
        }
        self.groups.insert(places.to_vec(), Arc::clone(&group));
        Ok(group)
    }

    /// Notes a dispatch.
    pub fn dispatch(
        &mut self,
        device: &api::Device,
        kind: Kind,
        places: &[Bound],
        numbers: &[u8],
        groups: [u32; 3],
    ) -> std::result::Result<(), String> {
        if numbers.len() > SLOT {
            return Err(format!("{} bytes of numbers in a slot of {SLOT}", numbers.len()));
        }
        let pipeline = self.pipeline(device, kind, places.len())?;
        let group = self.group(device, places)?;
        let slot = self.numbers.len();
        self.numbers.extend_from_slice(numbers);
        self.numbers.resize(slot + SLOT, 0);
        self.pending.push(Noted::Dispatch { pipeline, group, numbers: slot as u32, groups });
        Ok(())
    }

    pub fn clear(&mut self, buffer: Buffer, offset: usize, bytes: usize) -> std::result::Result<(), String> {
        if bytes > 0 {
            let buffer = self.there(buffer)?;
            // Behind the last byte of a tensor nobody has any.
            self.pending.push(Noted::Clear {
                buffer,
                offset: offset as u64,
                bytes: (bytes as u64).next_multiple_of(4),
            });
        }
        Ok(())
    }

    /// As much is noted as is handed over at once.
    pub fn is_full(&self) -> bool {
        self.numbers.len() >= BATCH * SLOT
    }

    /// Hands over what was noted.
    pub fn flush(&mut self, device: &api::Device, queue: &api::Queue) {
        if let Some(encoder) = self.encoded(device, queue) {
            queue.submit([encoder.finish()]);
        }
    }

    fn encoded(&mut self, device: &api::Device, queue: &api::Queue) -> Option<api::CommandEncoder> {
        if self.pending.is_empty() {
            return None;
        }
        queue.write_buffer(&self.slots, 0, &self.numbers);
        self.numbers.clear();
        let mut encoder = device.create_command_encoder(&api::CommandEncoderDescriptor { label: None });
        let mut pending = self.pending.drain(..).peekable();
        while let Some(noted) = pending.peek() {
            match noted {
                Noted::Clear { buffer, offset, bytes } => {
                    encoder.clear_buffer(buffer, *offset, Some(*bytes));
                    pending.next();
                }
                Noted::Dispatch { .. } => {
                    let mut pass = encoder.begin_compute_pass(&api::ComputePassDescriptor::default());
                    while let Some(Noted::Dispatch { pipeline, group, numbers, groups }) =
                        pending.next_if(|noted| matches!(noted, Noted::Dispatch { .. }))
                    {
                        pass.set_pipeline(&pipeline);
                        pass.set_bind_group(0, &*group, &[numbers]);
                        pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
                    }
                }
            }
        }
        drop(pending);
        Some(encoder)
    }

    /// Hands over what was noted and a copy of some bytes; when the queue has been waited for, they lie in the buffer, behind so
    /// many others.
    pub fn fetch(
        &mut self,
        device: &api::Device,
        queue: &api::Queue,
        from: Buffer,
        at: usize,
        bytes: usize,
    ) -> std::result::Result<(api::Buffer, usize), String> {
        let buffer = self.there(from)?;
        let skipped = at % 4;
        let size = ((skipped + bytes) as u64).next_multiple_of(4).max(4);
        let usage = api::BufferUsages::MAP_READ | api::BufferUsages::COPY_DST;
        if self.staging.as_ref().is_none_or(|staging| staging.size() < size) {
            let size = size.next_power_of_two().max(1 << 12);
            let descriptor = api::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
            self.staging = Some(device.create_buffer(&descriptor));
        }
        let staging = self.staging.clone().ok_or("no buffer to read from")?;
        let mut encoder = match self.encoded(device, queue) {
            Some(encoder) => encoder,
            None => device.create_command_encoder(&api::CommandEncoderDescriptor { label: None }),
        };
        encoder.copy_buffer_to_buffer(&buffer, (at - skipped) as u64, &staging, 0, size);
        queue.submit([encoder.finish()]);
        self.written = 0;
        staging.slice(..).map_async(api::MapMode::Read, |_| ());
        Ok((staging, skipped))
    }
}
