//! WGSL for a kernel: `kernels.wgsl` has the bodies, the descriptions of [`super::super::kernels`] everything around them.

use crate::error::{Error, Result};
use crate::model::gpu::describe::Kernel;
use crate::model::gpu::kernels::{CONSTANTS, ENUMS, RECORDS};
use crate::model::gpu::machine::Element;
use std::fmt::Write as _;

/// Bodies and helpers.
const TEXT: &str =
    concat!(include_str!("kernels.wgsl"), include_str!("kernels_rows.wgsl"), include_str!("kernels_state.wgsl"));

/// What stands under `//# name`.
fn section(name: &str) -> Option<&'static str> {
    let mut at = TEXT;
    loop {
        at = at.split_once("\n//# ")?.1;
        let (head, rest) = at.split_once('\n')?;
        if head == name {
            return Some(rest.split_once("\n//# ").map_or(rest, |(body, _)| body));
        }
    }
}

/// Names of sections, in their order.
fn sections() -> impl Iterator<Item = &'static str> {
    TEXT.split("\n//# ").skip(1).filter_map(|section| section.split('\n').next())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// Adds the helpers that a text names, and those that they name.
fn helped(body: &str, kernels: &[&str], subgroups: bool) -> String {
    let section = |name: &str| {
        let with = subgroups.then(|| section(&format!("{name} with subgroups"))).flatten();
        with.or_else(|| section(name))
    };
    let mut chosen: Vec<&str> = Vec::new();
    let mut open = vec![body];
    while let Some(text) = open.pop() {
        for word in words(text) {
            if kernels.contains(&word) || chosen.contains(&word) {
                continue;
            }
            if let Some(helper) = sections().find(|name| *name == word).and_then(&section) {
                chosen.push(word);
                open.push(helper);
            }
        }
    }
    sections().filter(|name| chosen.contains(name)).filter_map(&section).collect::<Vec<_>>().join("\n")
}

/// `EACH(at, count)` as the head of a loop.
fn expanded(text: &str) -> String {
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let each = line.split_once("EACH(").and_then(|(before, rest)| {
            let (name, rest) = rest.split_once(", ")?;
            let (count, rest) = rest.split_once(") {")?;
            Some((before, name, count, rest))
        });
        match each {
            Some((before, name, count, rest)) => {
                let step = "GROUPS * THREADS";
                _ = write!(
                    out,
                    "{before}for (var {name} = GROUP * THREADS + THREAD; {name} < {count}; {name} += {step}) {{{rest}"
                );
            }
            None => out.push_str(line),
        }
    }
    out
}

/// What `a` holds after a kernel's own numbers, before the beginnings of its buffers.
pub(super) struct Tail {
    /// Workgroups of the launch.
    pub groups: u32,
    /// Of them in a row of the dispatch.
    pub across: u32,
    /// A bit for each buffer that is there.
    pub present: u32,
    /// Values that earlier parts of a long launch went over.
    pub from_first: u32,
}

impl Tail {
    pub(super) fn pack(&self, to: &mut Vec<u8>) {
        let Self { groups, across, present, from_first } = self;
        [groups, across, present, from_first].into_iter().for_each(|word| to.extend(word.to_le_bytes()));
    }
}

/// The declaration and the functions of a buffer: as it is kept, `f32` (or a whole number) as it is computed with.
pub(super) fn buffer(number: usize, name: &str, element: Element) -> String {
    let (stored, computed, load) = match element {
        Element::F32 => ("f32", "f32", format!("return b_{name}[a.at_{name} + i];")),
        Element::F64 => ("vec2<f32>", "vec2<f32>", format!("return b_{name}[a.at_{name} + i];")),
        Element::I32 => ("i32", "i32", format!("return b_{name}[a.at_{name} + i];")),
        Element::Bf16 => (
            "u32",
            "f32",
            format!(
                "let at = a.at_{name} + i; let word = b_{name}[at >> 1u]; return bitcast<f32>(select(word << 16u, \
                 word & 0xffff0000u, (at & 1u) == 1u));"
            ),
        ),
        Element::U8 => {
            ("u32", "u32", format!("let at = a.at_{name} + i; return (b_{name}[at >> 2u] >> (8u * (at & 3u))) & 255u;"))
        }
    };
    // Tensors are cut from slabs: one dispatch often reads and writes one buffer, which is then bound in one way alone.
    let mut text = format!("@group(0) @binding({}) var<storage, read_write> b_{name}: array<{stored}>;\n", number + 1);
    _ = writeln!(text, "fn has_{name}() -> bool {{ return (a.present & {}u) != 0u; }}", 1u64 << number);
    _ = writeln!(text, "fn load_{name}(i: u32) -> {computed} {{ {load} }}");
    if stored == computed {
        _ = writeln!(text, "fn store_{name}(i: u32, value: {computed}) {{ b_{name}[a.at_{name} + i] = value; }}");
    }
    text
}

/// The whole module of a kernel whose buffers are of these types, in groups of so many threads, with what the adapter can; its entry
/// is `main`.
///
/// # Errors
/// When there is no such kernel.
pub(super) fn module(
    kernel: &Kernel,
    elements: &[Element],
    threads: usize,
    subgroups: bool,
    kernels: &[&str],
) -> Result<String> {
    let body = section(kernel.name)
        .ok_or_else(|| Error::failure(format!("{} has no form for this kind of GPU", kernel.name)))?;
    let helpers = helped(body, kernels, subgroups);
    let subgroups = helpers.contains("SUBGROUP");
    // Naga has the functions without `enable subgroups;`, and refuses that.
    let mut text = format!("const THREADS = {threads}u;\n");
    for (name, value) in CONSTANTS {
        _ = writeln!(text, "const {name} = {value}u;");
    }
    let mut members = Vec::new();
    for (name, kind) in kernel.scalars {
        match (*kind, kind.strip_prefix("struct "), kind.strip_prefix("enum ")) {
            ("float", ..) => members.push(format!("{name}: f32")),
            ("u64", ..) => members.push(format!("{name}: vec2<u32>")),
            (_, Some(record), _) => {
                let fields = RECORDS.iter().find(|of| of.name == record).map_or(&[][..], |of| of.fields);
                members.extend(fields.iter().map(|field| format!("{name}_{field}: u32")));
            }
            (_, _, Some(values)) => {
                let values = ENUMS.iter().find(|of| of.name == values).map_or(&[][..], |of| of.fields);
                for (number, value) in values.iter().enumerate() {
                    _ = writeln!(text, "const {value} = {number}u;");
                }
                members.push(format!("{name}: u32"));
            }
            _ => members.push(format!("{name}: u32")),
        }
    }
    members.extend(["groups", "across", "present", "from_first"].map(|name| format!("{name}: u32")));
    members.extend(kernel.buffers.iter().map(|buffer| format!("at_{}: u32", buffer.name)));
    _ = writeln!(text, "struct Numbers {{ {} }}", members.join(", "));
    text.push_str("@group(0) @binding(0) var<uniform> a: Numbers;\n");
    text.push_str("var<private> THREAD: u32;\nvar<private> GROUP: u32;\nvar<private> GROUPS: u32;\n");
    for (number, (param, element)) in kernel.buffers.iter().zip(elements).enumerate() {
        text.push_str(&buffer(number, param.name, *element));
    }
    text.push_str(&helpers);
    let (declared, params, set) = if subgroups { SUBGROUPS } else { ("", "", "") };
    _ = write!(
        text,
        "
{declared}
fn kernel() {{
{}
}}

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>{params}) {{
    THREAD = thread;
    // Groups go in rows, for one dimension of a dispatch is short.
    GROUP = group.x + group.y * a.across;
    GROUPS = a.groups;
    {set}
    if GROUP < a.groups {{ kernel(); }}
}}
",
        expanded(body)
    );
    Ok(text)
}

/// What a module with subgroups has beside: variables, parameters of its entry, and how the ones get the others.
const SUBGROUPS: (&str, &str, &str) = (
    "var<private> SUBGROUP: u32;\nvar<private> SUBGROUPS: u32;\nvar<private> SUBGROUP_THREAD: u32;\n",
    ", @builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) subgroups: u32, \
     @builtin(subgroup_invocation_id) subgroup_thread: u32",
    "SUBGROUP = subgroup;\n    SUBGROUPS = subgroups;\n    SUBGROUP_THREAD = subgroup_thread;",
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ComputeDtype;
    use crate::model::gpu::KERNELS;

    #[test]
    fn every_kernel_that_is_described_has_a_body() {
        let names: Vec<&str> = KERNELS.iter().map(|kernel| kernel.name).collect();
        for kernel in KERNELS {
            let elements: Vec<Element> = kernel.buffers.iter().map(|of| of.element.of(ComputeDtype::F32)).collect();
            let [text, _] = [false, true].map(|subgroups| module(kernel, &elements, 64, subgroups, &names).unwrap());
            // What a body calls is there.
            for word in words(&text) {
                let (called, of) = (word.split_once('_'), kernel.buffers);
                if let Some(("load" | "store" | "has", name)) = called {
                    assert!(
                        of.iter().any(|buffer| buffer.name == name) || text.contains(&format!("fn {word}(")),
                        "{}: {word}",
                        kernel.name
                    );
                }
            }
            assert!(!text.contains("EACH("), "{text}");
        }
    }
}
