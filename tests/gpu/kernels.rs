//! Every kernel by itself: what a machine computes is what the emulated one does, whose source is CUDA's.

use super::emulated::Emulated;
use super::machines;
use rankscope::model::ComputeDtype;
use rankscope::model::gpu::{
    Access, Buffer, Element, FourBitOperand, Groups, KERNELS, Launch, Machine, Operand, ParamElement, Product, Region,
};
use std::sync::Arc;

/// A number of a kernel.
#[derive(Clone, Copy)]
enum Number {
    Whole(u32),
    Long(u64),
    Real(f32),
}
use Number::{Long, Real, Whole};

/// A launch: the kernel's numbers, the lengths of its buffers (0: absent), and how its work is shared out.
struct Case {
    name: &'static str,
    numbers: Vec<Number>,
    lengths: Vec<usize>,
    groups: usize,
    busy: usize,
}

fn case(name: &'static str, numbers: &[Number], lengths: &[usize], groups: usize, busy: usize) -> Case {
    Case { name, numbers: numbers.to_vec(), lengths: lengths.to_vec(), groups, busy }
}

/// Rows or ids are below this, and 5 divides it not: so many in a row differ.
const BELOW: usize = 6;

fn cases() -> Vec<Case> {
    // Two sequences of three tokens, four query heads over two of keys, eight wide, six of them turned: halves or neighbours,
    // queries apart or in groups with their keys.
    let layouts = [
        [2, 3, 0, 4, 70, 0, 8, 16, 32, 8, 50, 8, 4, 2, 8, 3, 0, 5].map(Whole),
        [2, 3, 0, 4, 70, 0, 8, 32, 16, 32, 24, 32, 4, 2, 8, 3, 1, 5].map(Whole),
    ];
    let whole = |numbers: &[u32]| numbers.iter().map(|&n| Whole(n)).collect::<Vec<_>>();
    let with = |head: &[Number], tail: &[Number]| [head, tail].concat();
    let (x, q, kv, angles) = (6 * 70, 6 * 4 * 8, 2 * 2 * 4 * 8, 15);
    // Rows 1 and 2 of sequences of three, two query heads a group, keys from 0 on, three of them seen.
    let block = whole(&[2, 2, 2, 3, 1, 2, 1, 0, 3, 2, 100]);
    // The same where a row sees nothing before the multiple of two that it reaches.
    let chunks = whole(&[2, 2, 2, 3, 1, 2, 1, 0, 3, 3, 2]);
    let rows = 2 * 2 * 2 * 2;
    let mut cases = vec![
        case("dequantize", &[Whole(24), Whole(8), Whole(0), Long(95), Real(0.1)], &[48, 12, 1, 256, 16, 95], 2, 256),
        case("dequantize", &[Whole(24), Whole(16), Whole(4), Long(96), Real(0.1)], &[48, 0, 12, 0, 16, 96], 1, 256),
        case("convert", &[Long(300)], &[300, 300], 1, 256),
        case("embed", &with(&whole(&[6, 8, 6, 3, 1, 4]), &[Real(1.5)]), &[6, 48, 32, 48, 6], 1, 256),
        case("embed", &with(&whole(&[6, 8, 6, 3, 1, 0]), &[Real(1.5)]), &[6, 48, 0, 48, 0], 1, 256),
        case("embed_backward", &with(&whole(&[6, 70, 6, 3]), &[Real(0.5)]), &[6, 420, 420, 0], 2, 256),
        case("embed_backward", &with(&whole(&[6, 70, 6, 3]), &[Real(0.5)]), &[0, 420, 420, 6], 2, 256),
        case("gather", &whole(&[5, 7, 6]), &[5, 42, 35], 1, 256),
        case("scatter", &whole(&[5, 7, 6]), &[5, 35, 42], 1, 256),
        case("add", &[Long(777), Real(-0.5)], &[777, 777], 4, 256),
        case("scale", &[Long(777), Real(-0.5)], &[777], 4, 256),
        case("add_bias", &whole(&[5, 7, 9]), &[43, 7, 0], 1, 256),
        case("add_bias", &whole(&[5, 7, 9]), &[43, 7, 5], 1, 256),
        case("column_sums", &whole(&[9, 70, 72]), &[646, 0, 0, 0, 70], 3, 256),
        case(
            "norm_forward",
            &with(&whole(&[5, 1, 33, 33, 0, 1]), &[Real(0.0), Real(1e-5)]),
            &[165, 33, 33, 165],
            5,
            33,
        ),
        case(
            "norm_forward",
            &with(&whole(&[5, 1, 300, 300, 0, 0]), &[Real(1.0), Real(1e-5)]),
            &[1500, 300, 0, 1500],
            5,
            300,
        ),
        // Two groups of seven values, nine apart, in rows of twenty.
        case("norm_forward", &with(&whole(&[3, 2, 7, 20, 9, 0]), &[Real(1.0), Real(1e-5)]), &[56, 7, 7, 56], 6, 7),
        case(
            "norm_backward",
            &with(&whole(&[5, 1, 33, 33, 0, 1, 1]), &[Real(0.0), Real(1e-5)]),
            &[165, 33, 165, 165, 10],
            5,
            33,
        ),
        case(
            "norm_backward",
            &with(&whole(&[5, 1, 33, 33, 0, 0, 0]), &[Real(1.0), Real(1e-5)]),
            &[165, 33, 165, 165, 0],
            5,
            33,
        ),
        case(
            "norm_backward",
            &with(&whole(&[3, 2, 7, 20, 9, 0, 0]), &[Real(1.0), Real(1e-5)]),
            &[56, 7, 0, 56, 0],
            6,
            7,
        ),
        case("norm_weights", &whole(&[9, 1, 70, 70, 0]), &[630, 630, 18, 70], 3, 256),
        case("norm_weights", &whole(&[3, 2, 7, 20, 9]), &[56, 56, 12, 7], 1, 256),
        case("copy_columns", &whole(&[3, 2, 5, 20, 9, 12, 6, 0]), &[54, 35], 1, 256),
        case("copy_columns", &whole(&[3, 2, 5, 20, 0, 12, 6, 1]), &[45, 35], 1, 256),
        case("fold_columns", &whole(&[3, 4, 5, 40, 9, 7]), &[112, 19], 1, 256),
        case("reorder", &whole(&[5, 6, 0]), &[6, 30, 30], 1, 256),
        case("reorder", &whole(&[5, 6, 1]), &[6, 30, 30], 1, 256),
        case("copy_weight", &[Long(300)], &[300, 300], 1, 256),
        case("clip", &[Long(300), Real(0.4)], &[300], 1, 256),
        case("clip_backward", &[Long(300), Real(0.4)], &[300, 300], 1, 256),
        case("turn", &with(&whole(&[6, 2, 3, 0, 20, 9, 3, 0, 5]), &[Real(1.0)]), &[115, 15, 15, 0], 1, 256),
        case("turn", &with(&whole(&[6, 2, 3, 1, 20, 9, 3, 1, 5]), &[Real(-1.0)]), &[115, 15, 15, 6], 1, 256),
        case("scale_queries", &with(&whole(&[6, 5, 8, 3, 0, 1, 2]), &[Real(0.3)]), &[45, 0], 1, 256),
        case("scale_queries", &with(&whole(&[6, 5, 8, 3, 1, 0, 2]), &[Real(0.3)]), &[45, 6], 1, 256),
        case("sink_sums", &whole(&[2, 2, 3, 2]), &[24, 4], 1, 256),
        case("gate_forward", &whole(&[300, 1]), &[300, 300, 300], 1, 256),
        case("gate_forward", &whole(&[300, 20]), &[300, 15, 300], 1, 256),
        case("gate_backward", &whole(&[300]), &[300, 300, 300], 1, 256),
        case("gate_rows_backward", &whole(&[15, 20]), &[300, 15, 300], 15, 20),
        case("combine", &whole(&[3, 2, 7, 6, 1]), &[6, 42, 21], 1, 256),
        case("combine", &whole(&[3, 2, 7, 6, 0]), &[6, 42, 21], 1, 256),
        case("scale_rows", &whole(&[6, 7]), &[42, 6, 0], 1, 256),
        case("scale_rows", &whole(&[6, 7]), &[42, 6, 6], 1, 256),
        case("weigh_backward", &whole(&[6, 7]), &[42, 42, 6, 6], 6, 7),
        case("bias_along", &whole(&[6, 7]), &[42, 7, 6], 6, 7),
        case("column_sums", &whole(&[9, 70, 72]), &[646, 9, 0, 0, 70], 3, 256),
        case("column_sums", &whole(&[9, 70, 72]), &[646, 0, 630, 70, 70], 3, 256),
        case("row_norms", &whole(&[6, 70]), &[420, 6], 6, 70),
        case("scale_columns", &whole(&[6, 7, 9]), &[52, 7, 7, 42], 1, 256),
        case("scale_columns", &whole(&[6, 7, 9]), &[52, 7, 0, 42], 1, 256),
        case("multiply_columns", &whole(&[6, 7, 9, 8, 10]), &[52, 47, 57], 1, 256),
        case("join_heads", &whole(&[2, 3, 4, 2, 8]), &[q, q], 1, 256),
        case("split_heads", &whole(&[2, 3, 4, 2, 8]), &[q, q, q, 24], 24, 8),
        case(
            "dropout",
            &[Whole(1), Long(777), Long(0x0123_4567_89ab_cdef), Real(1.25), Real(0.2)],
            &[777, 777],
            4,
            256,
        ),
        case("dropout", &[Whole(0), Long(777), Long(0xfedc_ba98_7654_3210), Real(2.0), Real(0.5)], &[777, 777], 4, 256),
        case("cross_entropy", &with(&whole(&[5, 300]), &[Real(0.0), Real(0.1)]), &[1500, 5, 5, 1500], 5, 300),
        case("cross_entropy", &with(&whole(&[5, 300]), &[Real(2.0), Real(0.1)]), &[1500, 5, 5, 0], 5, 300),
        case("cap_logits", &[Long(300), Real(0.7)], &[300], 2, 256),
        case("sum", &[Whole(1), Long(1000)], &[1000, 2], 1, 256),
        case("squares", &[Long(5000)], &[5000, 512], 512, 256),
        case("sum_parts", &[Whole(1), Whole(512)], &[512, 2], 1, 256),
        case("add_logit_bias", &whole(&[5, 300]), &[1500, 300], 4, 256),
        case("softmax", &with(&block, &[Real(0.0), Real(0.7), Whole(0)]), &[rows * 3, rows * 3, 6, 0], rows, 3),
        case("softmax", &with(&block, &[Real(1.5), Real(0.0), Whole(0)]), &[rows * 3, rows * 3, 0, 0], rows, 3),
        case("softmax", &with(&chunks, &[Real(0.0), Real(0.0), Whole(0)]), &[rows * 3, rows * 3, 0, 4], rows, 3),
        case("softmax", &with(&block, &[Real(0.0), Real(0.7), Whole(1)]), &[rows * 3, rows * 3, 0, 0], rows, 3),
        case(
            "softmax_backward",
            &with(&block, &[Real(1.5), Real(0.0), Whole(0)]),
            &[rows * 3, rows * 3, 24, rows * 3, rows * 3, 6, 0, 0],
            rows,
            3,
        ),
        case(
            "softmax_backward",
            &with(&block, &[Real(0.0), Real(0.7), Whole(0)]),
            &[rows * 3, rows * 3, 24, rows * 3, rows * 3, 0, 0, 0],
            rows,
            3,
        ),
        case(
            "softmax_backward",
            &with(&chunks, &[Real(0.0), Real(0.0), Whole(0)]),
            &[rows * 3, rows * 3, 24, rows * 3, rows * 3, 0, 4, rows],
            rows,
            3,
        ),
        case(
            "softmax_backward",
            &with(&block, &[Real(0.0), Real(0.7), Whole(1)]),
            &[rows * 3, rows * 3, 24, rows * 3, rows * 3, 0, 0, 0],
            rows,
            3,
        ),
    ];
    // Two sequences of 36 rows, two key heads and four value heads, five and three wide; and five channels of a convolution.
    let (sequences, seq) = (2, 36);
    let rows = (sequences * seq) as usize;
    for starts in [0, rows] {
        for delta in [0, 1] {
            let scan = whole(&[sequences, seq, 2, 4, 5, 3, 40, 0, 12, 24, delta]);
            let (states, keys) = (8 * 15, rows * 4 * 10);
            let skip = if delta == 0 { 4 } else { 0 };
            let (x, factors, y) = (rows * 40, rows * 8, rows * 12);
            for resume in [0, 1] {
                let numbers = with(&scan, &[Whole(resume)]);
                let kept = if resume == 0 { states * 2 } else { 0 };
                cases.push(case("scan_forward", &numbers, &[x, factors, skip, starts, states, kept, y], 8, 3));
            }
            let lengths = [x, factors, skip, starts, states * 2, y, states * 32, states, x, factors, keys];
            cases.push(case("scan_backward", &scan, &lengths, 8, 3));
            cases.push(case("scan_keys_backward", &scan, &[x, keys, x], rows * 4, 5));
            cases.push(case("skip_sums", &scan, &[x, y, 4], 4, 256));
            let numbers = with(&whole(&[rows as u32, 4, 40, delta]), &[Real(2.0), Real(0.3), Real(1.2)]);
            cases.push(case("scan_factors", &numbers, &[x, 4, 4, factors], 2, 256));
            cases.push(case("scan_factors_backward", &numbers, &[x, 4, 4, factors, x], 2, 256));
        }
        let conv = whole(&[rows as u32, 5, 4, 9, 7, seq]);
        let (x, given) = (71 * 9 + 5, 71 * 7 + 5);
        for (bias, before, silu) in [(5, 0, 1), (0, 3 * 7, 0)] {
            let numbers = with(&conv, &[Whole(silu)]);
            let before = if starts > 0 { 0 } else { before };
            cases.push(case("conv_forward", &numbers, &[x, 20, bias, before, starts, given], 2, 256));
        }
        cases.push(case("conv_slopes", &conv, &[x, 20, 5, starts, given], 2, 256));
        cases.push(case("conv_backward", &conv, &[20, starts, given, x], 2, 256));
        cases.push(case("conv_weights", &conv, &[x, starts, given, 20], 20, 256));
    }
    cases.push(case("sum_floats", &whole(&[9, 7, 10]), &[87, 7], 7, 9));
    for (group, scales, first) in [(6, 6, 1), (6, 12, 0), (12, 0, 0), (4, 4, 0)] {
        let numbers = with(&whole(&[5, 12, 20, group, scales.max(group), first]), &[Real(1e-5)]);
        let groups = 5 * 12 / group as usize;
        let scales = scales as usize;
        cases.push(case("gated_forward", &numbers, &[60, 92, scales, 60], groups, 8));
        cases.push(case("gated_backward", &numbers, &[60, 92, scales, 60, 92, scales * 60 / scales.max(1)], groups, 8));
    }
    for layout in layouts {
        for normed in [8, 0] {
            let numbers = with(&layout, &[Real(0.0), Real(1.0), Real(1e-6)]);
            cases.push(case("heads_forward", &numbers, &[x, normed, normed, angles, angles, q, kv, kv, 6], 48, 8));
            let lengths = [x, normed, normed, angles, angles, q, kv, kv, x, 36, 0];
            cases.push(case("heads_backward", &numbers, &lengths, 48, 8));
        }
        for of_keys in [0, 1] {
            let gradient = if of_keys == 1 { kv } else { q };
            let numbers = with(&layout, &[Whole(of_keys)]);
            cases.push(case("heads_weights", &numbers, &[x, angles, angles, gradient, 36, 8, 6], 8, 256));
        }
    }
    for function in 0..ACTIVATIONS {
        // What is clamped has its gate and up as neighbours.
        for gated in if function == ACTIVATIONS - 1 { 1..2 } else { 0..2 } {
            let up = 5 * 33 * (1 + gated as usize);
            let numbers = with(&whole(&[5, 33, gated, function]), &[Real(0.8), Real(0.6)]);
            cases.push(case("activation_forward", &numbers, &[up, 165], 1, 256));
            cases.push(case("activation_backward", &numbers, &[up, 165], 1, 256));
        }
    }
    for max_norm in [0.0, 0.3] {
        let numbers = [Long(777), Real(max_norm), Real(0.01), Real(0.99), Real(0.1), Real(0.01), Real(1e-8), Real(0.8)];
        cases.push(case("adamw", &numbers, &[777, 777, 777, 777, 0, 2], 4, 256));
    }
    cases
}

/// How many nonlinearities the kernels compute.
const ACTIVATIONS: u32 = 7;

impl Case {
    /// The numbers as C lays out a struct.
    fn packed(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in &self.numbers {
            match number {
                Whole(number) => bytes.extend(number.to_ne_bytes()),
                Real(number) => bytes.extend(number.to_ne_bytes()),
                Long(number) => {
                    bytes.resize(bytes.len().next_multiple_of(8), 0);
                    bytes.extend(number.to_ne_bytes());
                }
            }
        }
        bytes
    }
}

/// Values that look random; of what is a square or a scale, positive ones.
fn value(name: &str, seed: usize, at: usize) -> f64 {
    let mixed = (seed * 7919 + at).wrapping_mul(2_654_435_761) % 10_007;
    let value = mixed as f64 / 5003.0 - 1.0;
    if ["absmax", "v", "parts", "totals", "stats", "norms", "by"].contains(&name) { value.abs() + 0.01 } else { value }
}

fn bytes_of(machine: &dyn Machine, name: &str, kind: ParamElement, seed: usize, count: usize) -> Vec<u8> {
    let native = machine.double(1f64.to_ne_bytes()) == 1.0;
    (0..count)
        .flat_map(|at| match (kind, kind.of(ComputeDtype::F32)) {
            (ParamElement::Index, _) => ((at * 5 + 3) as i32 % BELOW as i32).to_ne_bytes().to_vec(),
            // Rows of data begin no later than the token that asks.
            (_, Element::I32) => ((at % 3) as i32 / 2).to_ne_bytes().to_vec(),
            (_, Element::U8) => vec![(seed * 31 + at * 97) as u8],
            (_, Element::F64) if native => (value(name, seed, at) as f32 as f64).to_ne_bytes().to_vec(),
            (_, Element::F64) => [(value(name, seed, at) as f32).to_ne_bytes(), [0; 4]].concat(),
            _ => (value(name, seed, at) as f32).to_ne_bytes().to_vec(),
        })
        .collect()
}

fn numbers_of(machine: &dyn Machine, element: Element, bytes: &[u8]) -> Vec<f64> {
    match element {
        Element::F64 => bytes.as_chunks::<8>().0.iter().map(|&eight| machine.double(eight)).collect(),
        _ => bytes.as_chunks::<4>().0.iter().map(|&four| f64::from(f32::from_ne_bytes(four))).collect(),
    }
}

/// A region in the middle of a buffer of its own, so that where it begins is no multiple of what machines bind at.
struct Held<'m> {
    machine: &'m dyn Machine,
    region: Region,
}

impl<'m> Held<'m> {
    fn new(machine: &'m dyn Machine, bytes: &[u8], before: usize) -> Self {
        let length = (before + bytes.len()).next_multiple_of(256) + 256;
        let buffer: Buffer = machine.allocate(length).unwrap().unwrap();
        let region = Region { buffer, offset: before, bytes: bytes.len() };
        // SAFETY: it was just allocated.
        unsafe { machine.write(region, bytes).unwrap() };
        Self { machine, region }
    }

    fn read(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.region.bytes];
        // SAFETY: it is there as long as this.
        unsafe { self.machine.read(self.region, &mut bytes).unwrap() };
        bytes
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: it was allocated here, and what was asked of it was waited for.
        unsafe { self.machine.release(self.region.buffer) };
    }
}

/// What a case leaves in every buffer that its kernel writes.
fn run(machine: &dyn Machine, case: &Case) -> Vec<(&'static str, Vec<f64>)> {
    let kernel = KERNELS.iter().find(|kernel| kernel.name == case.name).unwrap();
    assert_eq!(kernel.buffers.len(), case.lengths.len(), "{}", case.name);
    let held: Vec<Option<Held>> = kernel
        .buffers
        .iter()
        .zip(&case.lengths)
        .enumerate()
        .map(|(seed, (param, &length))| {
            let bytes = bytes_of(machine, param.name, param.element, seed, length);
            (length > 0)
                .then(|| Held::new(machine, &bytes, if param.element == ParamElement::U8 { 4 } else { 8 * seed }))
        })
        .collect();
    let regions: Vec<Option<Region>> = held.iter().map(|held| held.as_ref().map(|held| held.region)).collect();
    let elements: Vec<Element> = kernel.buffers.iter().map(|param| param.element.of(ComputeDtype::F32)).collect();
    let scalars = case.packed();
    let groups = Groups { count: case.groups, busy: case.busy };
    let launch =
        Launch { kernel, dtype: ComputeDtype::F32, groups, regions: &regions, elements: &elements, scalars: &scalars };
    // SAFETY: buffers are as long as the description says for these numbers.
    unsafe { machine.launch(&launch).unwrap() };
    let written = kernel.buffers.iter().zip(&held).filter(|(param, _)| param.access != Access::Read);
    written
        .filter_map(|(param, held)| {
            let element = param.element.of(ComputeDtype::F32);
            Some((param.name, numbers_of(machine, element, &held.as_ref()?.read())))
        })
        .collect()
}

fn compare(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().map(|x| x.abs()).fold(0.0, f64::max).max(1e-6);
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        // What a kernel leaves as it was may be anything.
        let same = (a - b).abs() <= tolerance * size || a.to_bits() == b.to_bits();
        assert!(same, "{what}, value {at}: {a} against {b}");
    }
}

#[test]
fn every_kernel_computes_what_the_emulated_one_does() {
    let Some(reference) = Emulated::new() else { return };
    let cases = cases();
    for kernel in KERNELS {
        assert!(cases.iter().any(|case| case.name == kernel.name), "{} is not tested", kernel.name);
    }
    for machine in machines() {
        for (number, case) in cases.iter().enumerate() {
            for ((name, mut found), (_, mut expected)) in run(&*machine, case).into_iter().zip(run(&*reference, case)) {
                assert!(!expected.is_empty(), "{}", case.name);
                if case.name == "squares" {
                    // Which part a value goes to depends on the number of threads.
                    (found, expected) = (vec![found.iter().sum()], vec![expected.iter().sum()]);
                }
                compare(&format!("{}: case {number}, {}: {name}", machine.name(), case.name), &found, &expected, 2e-6);
            }
        }
    }
}

/// A product of `m × k` and `k × n`, whose factors lie in rows or in columns.
fn multiplied(machine: &dyn Machine, [m, n, k, batch]: [usize; 4], turned: [bool; 2], keep: bool) -> Vec<f64> {
    let floats = |seed: usize, count: usize| bytes_of(machine, "x", ParamElement::F32, seed, count);
    let (pad, step) = (3, 7);
    let of = |rows: usize, cols: usize, turned: bool| {
        let line = if turned { rows } else { cols } + pad;
        let (row, col, lines) = if turned { (1, line, cols) } else { (line, 1, rows) };
        (row, col, lines * line + step)
    };
    let operand = |seed: usize, rows: usize, cols: usize, turned: bool| {
        let (row, col, step) = of(rows, cols, turned);
        let held = Held::new(machine, &floats(seed, step * batch), 16 * seed);
        let operand = Operand { region: held.region, element: Element::F32, row, col, step, four_bit: None };
        (held, operand)
    };
    let (_a, a) = operand(1, m, k, turned[0]);
    let (_b, b) = operand(2, k, n, turned[1]);
    let (held, c) = operand(3, m, n, false);
    // SAFETY: every element is within its buffer.
    unsafe { machine.product(&Product { m, n, k, batch, alpha: 0.5, keep, a, b, c }).unwrap() };
    numbers_of(machine, Element::F32, &held.read())
}

#[test]
fn products_of_every_form_are_the_same() {
    let Some(reference) = Emulated::new() else { return };
    for machine in machines() {
        for sizes in [[1, 1, 1, 1], [5, 3, 7, 2], [17, 33, 40, 1], [70, 16, 65, 3], [4, 130, 19, 1], [65, 65, 130, 1]] {
            for (turned, keep) in
                [([false, false], false), ([true, false], true), ([false, true], true), ([true, true], false)]
            {
                let found = multiplied(&*machine, sizes, turned, keep);
                let expected = multiplied(&*reference, sizes, turned, keep);
                compare(&format!("{}: {sizes:?} {turned:?} {keep}", machine.name()), &found, &expected, 2e-6);
            }
        }
    }
}

#[test]
fn weights_in_four_bits_are_decoded_within_a_product() {
    let Some(reference) = Emulated::new() else { return };
    for machine in machines().iter().filter(|machine| machine.formats(ComputeDtype::F32).decodes) {
        // Rows of whole words, and of none; scales of their own a row; scales in 8 bits.
        for (out, width, block, by_row, nested) in [
            (40usize, 64usize, 16usize, 0usize, false),
            (33, 80, 64, 0, true),
            (7, 21, 8, 0, true),
            (9, 24, 16, 3, false),
            (20, 10, 8, 3, true),
            // Rows shorter than a block, each read with the first one's scale.
            (9, 32, 64, 1, false),
        ] {
            for back in [false, true] {
                let rows = 35;
                let count = out * width;
                let scales =
                    if by_row > 0 { (out - 1) * (by_row - 1) + width.div_ceil(block) } else { count.div_ceil(block) };
                let made =
                    |machine: &dyn Machine, name: &str, kind, seed, count| bytes_of(machine, name, kind, seed, count);
                // The emulated machine dequantizes, and multiplies what it got.
                let numbers =
                    [Whole(width as u32), Whole(block as u32), Whole(by_row as u32), Long(count as u64), Real(0.1)];
                let lengths = [
                    count.div_ceil(2),
                    if nested { scales } else { 0 },
                    if nested { scales.div_ceil(256) } else { scales },
                    if nested { 256 } else { 0 },
                    16,
                    count,
                ];
                let case = case("dequantize", &numbers, &lengths, 1, 256);
                let (_, weight) = run(&*reference, &case).remove(0);
                let (m, n, k) = if back { (rows, width, out) } else { (rows, out, width) };
                let x = numbers_of(&**machine, Element::F32, &made(&**machine, "x", ParamElement::F32, 9, m * k));
                let mut expected = vec![0.0; m * n];
                for (at, value) in expected.iter_mut().enumerate() {
                    let weight = |i: usize| weight[if back { i * width + at % n } else { at % n * width + i }];
                    *value = (0..k).map(|i| x[at / n * k + i] * weight(i)).sum();
                }
                let kernel = KERNELS.iter().find(|kernel| kernel.name == "dequantize").unwrap();
                let held: Vec<Option<Held>> = (0..5)
                    .map(|at| {
                        let (param, count) = (kernel.buffers[at], lengths[at]);
                        let bytes = made(&**machine, param.name, param.element, at, count);
                        (count > 0).then(|| Held::new(&**machine, &bytes, 16 * at))
                    })
                    .collect();
                let region = |at: usize| held[at].as_ref().map(|held: &Held| held.region);
                let four_bit = FourBitOperand {
                    scales: region(1),
                    absmax: region(2).unwrap(),
                    map: region(3),
                    levels: region(4).unwrap(),
                    in_features: width,
                    block,
                    by_row,
                    offset: 0.1,
                };
                let a = Held::new(&**machine, &made(&**machine, "x", ParamElement::F32, 9, m * k), 0);
                let c = Held::new(&**machine, &vec![0; 4 * m * n], 0);
                let (row, col) = if back { (width, 1) } else { (1, width) };
                let dense = |held: &Held, row| Operand {
                    region: held.region,
                    element: Element::F32,
                    row,
                    col: 1,
                    step: 0,
                    four_bit: None,
                };
                let b = Operand {
                    region: region(0).unwrap(),
                    element: Element::U8,
                    row,
                    col,
                    step: 0,
                    four_bit: Some(four_bit),
                };
                let product =
                    Product { m, n, k, batch: 1, alpha: 1.0, keep: false, a: dense(&a, k), b, c: dense(&c, n) };
                // SAFETY: every element is within its buffer.
                unsafe { machine.product(&product).unwrap() };
                let found = numbers_of(&**machine, Element::F32, &c.read());
                compare(&format!("{out} x {width}, blocks of {block}, back {back}"), &found, &expected, 2e-6);
            }
        }
    }
}

/// Many products and launches one after the other, of which each needs what the one before wrote.
#[test]
fn work_is_done_in_the_order_in_which_it_is_asked_for() {
    for machine in machines() {
        let machine: &Arc<dyn Machine> = &machine;
        let kernel = KERNELS.iter().find(|kernel| kernel.name == "add").unwrap();
        let ones: Vec<u8> = (0..100).flat_map(|_| 1f32.to_ne_bytes()).collect();
        let (x, y) = (Held::new(&**machine, &ones, 0), Held::new(&**machine, &ones, 64));
        let scalars = [&100u64.to_ne_bytes()[..], &1f32.to_ne_bytes()].concat();
        for _ in 0..10 {
            for (to, from) in [(&x, &y), (&y, &x)] {
                let regions = [Some(to.region), Some(from.region)];
                let (groups, elements) = (Groups { count: 1, busy: 256 }, [Element::F32; 2]);
                let launch = Launch {
                    kernel,
                    dtype: ComputeDtype::F32,
                    groups,
                    regions: &regions,
                    elements: &elements,
                    scalars: &scalars,
                };
                // SAFETY: both hold a hundred values.
                unsafe { machine.launch(&launch).unwrap() };
            }
        }
        // Two of Fibonacci's numbers.
        assert!(numbers_of(&**machine, Element::F32, &y.read()).iter().all(|&x| x == 17_711.0));
        // SAFETY: both are there, and of one length.
        unsafe {
            machine.copy(x.region, y.region).unwrap();
            machine.clear(y.region).unwrap();
        }
        assert!(numbers_of(&**machine, Element::F32, &x.read()).iter().all(|&x| x == 17_711.0));
        assert!(y.read().iter().all(|&byte| byte == 0));
    }
}
