//! WGSL for matrix products: tiles in workgroup memory, sums in `f32`, 4-bit weights decoded on their way into a tile.

use super::shader::{Tail, buffer};
use crate::model::gpu::machine::{Element, Operand, Product};
use std::fmt::Write as _;

/// Threads of a workgroup, as a square of rows and columns.
const SIDE: usize = 16;
pub(super) const THREADS: usize = SIDE * SIDE;
/// Columns of `a`, rows of `b` of a tile.
const DEPTH: usize = 16;

/// What a product's text depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Form {
    /// Number type of `a`.
    left: Element,
    /// Number type of `b`; bytes are codes of 4 bits.
    right: Element,
    /// Rows and columns of a tile, for each thread.
    each: [usize; 2],
}

impl Form {
    pub(super) fn of(product: &Product) -> Self {
        // Branches of a low rank are narrow: no tile is mostly empty.
        let each = |side: usize| if side > SIDE { 4 } else { 1 };
        Self { left: product.a.element, right: product.b.element, each: [each(product.m), each(product.n)] }
    }

    /// Rows and columns of a tile.
    pub(super) fn tile(&self) -> [usize; 2] {
        self.each.map(|each| SIDE * each)
    }

    /// The whole module; its entry is `main`.
    pub(super) fn module(&self) -> String {
        let Self { left, right, each: [rows, cols] } = *self;
        let [tile_m, tile_n] = self.tile();
        let (line_m, line_n) = (tile_m + 1, tile_n + 1);
        let mut members: Vec<String> =
            ["m", "n", "k", "keep"].iter().map(|name| format!("{name}: u32")).chain(["alpha: f32".into()]).collect();
        for name in ["left", "right", "out"] {
            members.extend(["row", "col", "step"].map(|of| format!("{name}_{of}: u32")));
        }
        members.extend(["in_features", "block", "by_row"].map(|name| format!("{name}: u32")));
        members.push("offset: f32".to_owned());
        members.extend(["groups", "across", "present", "from_first"].map(|name| format!("{name}: u32")));
        let mut buffers = vec![("left", left), ("right", right), ("out", Element::F32)];
        if right == Element::U8 {
            buffers.extend([
                ("absmax", Element::F32),
                ("levels", Element::F32),
                ("scales", Element::U8),
                ("map", Element::F32),
            ]);
        }
        members.extend(buffers.iter().map(|(name, _)| format!("at_{name}: u32")));
        let mut text = format!("struct Numbers {{ {} }}\n", members.join(", "));
        text.push_str("@group(0) @binding(0) var<uniform> a: Numbers;\n");
        for (number, (name, element)) in buffers.iter().enumerate() {
            text.push_str(&buffer(number, name, *element));
        }
        _ = write!(
            text,
            "var<workgroup> left_tile: array<f32, {}>;\nvar<workgroup> right_tile: array<f32, {}>;\n",
            DEPTH * line_m,
            DEPTH * line_n
        );
        let (load_left, load_right) = (
            dense("left", "m", tile_m, line_m),
            match right {
                Element::U8 => {
                    text.push_str(SCALES);
                    four_bit(tile_n, line_n)
                }
                _ => dense("right", "n", tile_n, line_n),
            },
        );
        let start = if right == Element::U8 { "if thread < 16u { level[thread] = load_levels(thread); }" } else { "" };
        _ = write!(
            text,
            "
@compute @workgroup_size({THREADS})
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {{
    let first_m = group.y * {tile_m}u;
    let first_n = group.x * {tile_n}u;
    let tm = thread / {SIDE}u;
    let tn = thread % {SIDE}u;
    {start}
    workgroupBarrier();
"
        );
        let each = |text: &mut String, line: &dyn Fn(usize, usize) -> String| {
            for i in 0..rows {
                for j in 0..cols {
                    text.push_str(&line(i, j));
                }
            }
        };
        each(&mut text, &|i, j| format!("    var c_{i}_{j} = 0.0;\n"));
        _ = write!(
            text,
            "    for (var first_k = 0u; first_k < a.k; first_k += {DEPTH}u) {{\n{load_left}{load_right}        \
             workgroupBarrier();\n        for (var kk = 0u; kk < {DEPTH}u; kk++) {{\n"
        );
        for i in 0..rows {
            _ = writeln!(text, "            let a_{i} = left_tile[kk * {line_m}u + tm + {}u];", i * SIDE);
        }
        for j in 0..cols {
            _ = writeln!(text, "            let b_{j} = right_tile[kk * {line_n}u + tn + {}u];", j * SIDE);
        }
        each(&mut text, &|i, j| format!("            c_{i}_{j} = fma(a_{i}, b_{j}, c_{i}_{j});\n"));
        text.push_str("        }\n        workgroupBarrier();\n    }\n    let keep = a.keep != 0u;\n");
        text.push_str("    let begin = group.z * a.out_step;\n");
        each(&mut text, &|i, j| {
            format!("    put(keep, begin, first_m + tm + {}u, first_n + tn + {}u, c_{i}_{j});\n", i * SIDE, j * SIDE)
        });
        text.push_str("}\n");
        text.push_str(PUT);
        text
    }
}

/// A value of the result.
const PUT: &str = "
fn put(keep: bool, begin: u32, m: u32, n: u32, sum: f32) {
    if m >= a.m || n >= a.n { return; }
    let at = begin + m * a.out_row + n;
    var value = a.alpha * sum;
    if keep { value += load_out(at); }
    store_out(at, value);
}
";

/// Scales of 4-bit codes; what the codes stand for.
const SCALES: &str = "
var<workgroup> level: array<f32, 16>;

fn scale_of(at: u32) -> f32 {
    let number = select(at / a.block, at / a.in_features * (a.by_row - 1u) + at % a.in_features / a.block, a.by_row > 0u);
    if has_scales() { return load_map(load_scales(number)) * load_absmax(number / 256u) + a.offset; }
    return load_absmax(number);
}

fn code_of(at: u32) -> u32 {
    return (load_right(at / 2u) >> (4u * (1u - at % 2u))) & 15u;
}
";

/// Fills a tile from values; neighbouring threads read neighbouring values.
fn dense(name: &str, side: &str, tile: usize, line: usize) -> String {
    let (across, along) = if side == "m" { ("col", "row") } else { ("row", "col") };
    format!(
        "        for (var e = thread; e < {}u; e += {THREADS}u) {{
            var side = e % {tile}u;
            var kk = e / {tile}u;
            if a.{name}_{across} == 1u {{ kk = e % {DEPTH}u; side = e / {DEPTH}u; }}
            let at = first_{side} + side;
            let k = first_k + kk;
            var value = 0.0;
            if at < a.{side} && k < a.k {{
                value = load_{name}(group.z * a.{name}_step + at * a.{name}_{along} + k * a.{name}_{across});
            }}
            {name}_tile[kk * {line}u + side] = value;
        }}
",
        tile * DEPTH
    )
}

/// Fills a tile from codes, a word of eight at once where a row and a block are whole words.
fn four_bit(tile: usize, line: usize) -> String {
    format!(
        "        for (var e = thread; e < {}u; e += {THREADS}u) {{
            let by_k = a.right_row == 1u;
            var side = (e % {}u) * 8u;
            var kk = e / {}u;
            if by_k {{ kk = (e % {}u) * 8u; side = e / {}u; }}
            let even = a.in_features % 8u == 0u && a.block % 8u == 0u;
            let first = (first_k + kk) * a.right_row + (first_n + side) * a.right_col;
            var word = 0u;
            var scale = 0.0;
            let inside = first_k + kk < a.k && first_n + side < a.n;
            if even && inside {{
                word = b_right[(a.at_right + first / 2u) / 4u];
                scale = scale_of(first);
            }}
            for (var i = 0u; i < 8u; i++) {{
                var k = kk;
                var n = side;
                if by_k {{ k += i; }} else {{ n += i; }}
                var value = 0.0;
                if even {{
                    value = level[(word >> (8u * (i / 2u) + 4u * (1u - i % 2u))) & 15u] * scale;
                }} else if first_k + k < a.k && first_n + n < a.n {{
                    value = level[code_of(first + i)] * scale_of(first + i);
                }}
                right_tile[k * {line}u + n] = value;
            }}
        }}
",
        tile * DEPTH / 8,
        tile / 8,
        tile / 8,
        DEPTH / 8,
        DEPTH / 8
    )
}

/// The numbers of a product, as the module has them, before where its buffers begin.
pub(super) fn numbers(product: &Product) -> Vec<u8> {
    let Product { m, n, k, keep, alpha, a, b, c, .. } = *product;
    let mut bytes = Vec::new();
    // What is larger was refused when the operands were found within what is bound.
    let mut word = |value: usize| bytes.extend((value as u32).to_le_bytes());
    [m, n, k, usize::from(keep)].into_iter().for_each(&mut word);
    word(alpha.to_bits() as usize);
    for Operand { row, col, step, .. } in [a, b, c] {
        [row, col, step].into_iter().for_each(&mut word);
    }
    let four_bit = b.four_bit;
    let of = |number: fn(&crate::model::gpu::machine::FourBitOperand) -> usize| four_bit.as_ref().map_or(1, number);
    [of(|it| it.in_features), of(|it| it.block), of(|it| it.by_row)].into_iter().for_each(&mut word);
    word(four_bit.map_or(0.0, |it| it.offset).to_bits() as usize);
    let present = if four_bit.is_some_and(|it| it.scales.is_some()) { 0x7f } else { 0x1f };
    Tail { groups: 0, across: 0, present, from_first: 0 }.pack(&mut bytes);
    bytes
}
