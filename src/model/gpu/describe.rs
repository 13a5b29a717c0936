//! How a kernel is described: `kernels!` makes from one description the struct by whose named fields it is called, the checks
//! before a launch, and its parameters in the kernels' source.
//!
//! The descriptions are in [`super::kernels`], the checks in [`super::launch`].

use super::machine::Element;
use crate::model::ComputeDtype;
use std::fmt::Write as _;

/// What a kernel does with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads it.
    Read,
    /// Writes it, and reads nothing of what was there.
    Write,
    /// Reads and writes it, or leaves some of it as it was.
    Update,
}

/// Number type of a kernel's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamElement {
    /// What the kernel is compiled for: activations, and weights on most machines.
    Compute,
    /// A weight: as activations, or as the machine keeps frozen weights.
    Weight,
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// Whole numbers of any size.
    I32,
    /// Rows or ids, from 0 up to a limit that the description says.
    Index,
    /// Bytes.
    U8,
}

impl ParamElement {
    /// In a kernel that is compiled for `dtype`.
    pub fn of(self, dtype: ComputeDtype) -> Element {
        match self {
            Self::Compute | Self::Weight => dtype.into(),
            Self::F32 => Element::F32,
            Self::F64 => Element::F64,
            Self::I32 | Self::Index => Element::I32,
            Self::U8 => Element::U8,
        }
    }

    /// In the kernels' source.
    fn c(self) -> &'static str {
        match self {
            Self::Compute | Self::Weight => "floatX",
            Self::F32 => "float",
            Self::F64 => "double",
            Self::I32 | Self::Index => "int",
            Self::U8 => "u8",
        }
    }
}

/// A buffer that a kernel takes.
#[derive(Clone, Copy, Debug)]
pub struct BufferParam {
    /// As the kernel names it.
    pub name: &'static str,
    /// What the kernel does with it.
    pub access: Access,
    /// Of its values.
    pub element: ParamElement,
    /// Read or written four bytes at a time: it begins at a multiple of four.
    pub words: bool,
}

/// A kernel: its name and its parameters, buffers first.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// As the source has it.
    pub name: &'static str,
    /// Its buffers.
    pub buffers: &'static [BufferParam],
    /// Names and C types of its numbers.
    pub scalars: &'static [(&'static str, &'static str)],
}

/// A struct of whole numbers that several kernels take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub name: &'static str,
    pub fields: &'static [&'static str],
}

/// The type of a buffer's field.
macro_rules! span_type {
    ($life:lifetime) => { Span<$life> };
    ($life:lifetime $none:ident) => { Option<Span<$life>> };
}
pub(super) use span_type;

/// Kernels, each as
///
/// ```text
/// /// What it computes.
/// Struct = name_in_c(scalar: type, …) {
///     buffer: read|write|update Element[length] [or none] [in words],
/// } over [workgroups] where [condition; …];
/// ```
///
/// Lengths, workgroups and conditions are expressions over the kernel's numbers as [`Size`]s, and over its buffers as
/// `Option<Span>`s. `Index(n)` is rows or ids below n.
macro_rules! kernels {
    ($LIST:ident; $(
        $(#[$doc:meta])*
        $Kernel:ident = $kernel:ident($($scalar:ident: $kind:ty),* $(,)?) {
            $($buffer:ident: $access:ident $element:ident$(($below:expr))?[$length:expr] $(or $none:ident)? $(in $words:ident)?,)*
        } over [$groups:expr] $(where [$($condition:expr);* $(;)?])?;
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub(super) struct $Kernel<'a> {
                $(pub $buffer: span_type!('a $($none)?),)*
                $(pub $scalar: $kind,)*
            }

            impl $Kernel<'_> {
                const KERNEL: &'static Kernel = &Kernel {
                    name: stringify!($kernel),
                    buffers: &[$(BufferParam {
                        name: stringify!($buffer),
                        access: kernels!(@access $access),
                        element: ParamElement::$element,
                        words: kernels!(@words $($words)?),
                    }),*],
                    scalars: &[$((stringify!($scalar), <$kind as Scalar>::C)),*],
                };

                /// Runs it, when every buffer is as the description says.
                #[allow(unused_variables)]
                pub(super) fn launch(&self, gpu: &Gpu) -> Result<()> {
                    $(let $scalar = Scalar::checked(self.$scalar);)*
                    $(let $buffer = Bind::span(&self.$buffer);)*
                    let groups: Groups = $groups;
                    if groups.count == 0 {
                        return Ok(());
                    }
                    let mut check = Check::new(gpu, Self::KERNEL);
                    $($(check.require($condition, stringify!($condition))?;)*)?
                    $(check.bind($buffer, $length, kernels!(@below $($below)?))?;)*
                    $(Scalar::pack(self.$scalar, stringify!($scalar), &mut check.scalars)?;)*
                    check.run(groups)
                }
            }
        )*

        /// The kernels of this description.
        pub(super) const $LIST: &[&Kernel] = &[$($Kernel::KERNEL),*];
    };
    (@access read) => { Access::Read };
    (@access write) => { Access::Write };
    (@access update) => { Access::Update };
    (@words) => { false };
    (@words words) => { true };
    (@below) => { None };
    (@below $below:expr) => { Some($below) };
}
pub(super) use kernels;

/// Structs of whole numbers: in Rust of a type that lengths may be computed with, in C of `int`s.
macro_rules! records {
    ($LIST:ident; $(
        $(#[$doc:meta])*
        $Record:ident = $record:ident { $($(#[$about:meta])* $field:ident,)* }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub(super) struct $Record<T = usize> {
                $($(#[$about])* pub $field: T,)*
            }

            impl Scalar for $Record {
                const C: &'static str = concat!("struct ", stringify!($record));
                type Checked = $Record<Size>;
                fn checked(self) -> Self::Checked {
                    $Record { $($field: Size(self.$field)),* }
                }
                fn pack(self, _: &str, to: &mut Vec<u8>) -> Result<()> {
                    $(Scalar::pack(self.$field, stringify!($field), to)?;)*
                    Ok(())
                }
            }
        )*

        /// The structs of this description.
        pub(super) const $LIST: &[Record] = &[$(Record { name: stringify!($record), fields: &[$(stringify!($field)),*] }),*];
    };
}
pub(super) use records;

/// Enums of this side, and what the kernels' source calls their values.
macro_rules! enums {
    ($($Enum:ident = $name:ident { $($Value:ident = $value:ident),* $(,)? })*) => {
        $(
            impl Scalar for $Enum {
                const C: &'static str = concat!("enum ", stringify!($name));
                type Checked = Self;
                fn checked(self) -> Self {
                    self
                }
                fn pack(self, _: &str, to: &mut Vec<u8>) -> Result<()> {
                    /// Numbered as C does.
                    enum Number { $($Value),* }
                    // What the kernels have no name for is refused before a model gets this far.
                    #[allow(unreachable_patterns)]
                    let number = match self {
                        $(Self::$Value => Number::$Value,)*
                        other => return Err(crate::error::Error::failure(format!("{other:?} is not computed on a GPU here"))),
                    };
                    append(to, (number as i32).to_ne_bytes());
                    Ok(())
                }
            }
        )*

        pub(super) const ENUMS: &[Record] = &[$(Record { name: stringify!($name), fields: &[$(stringify!($value)),*] }),*];
    };
}
pub(super) use enums;

/// Numbers that both sides know.
macro_rules! constants {
    ($($(#[$doc:meta])* $NAME:ident = $value:expr;)*) => {
        $($(#[$doc])* pub(super) const $NAME: usize = $value;)*

        pub(super) const CONSTANTS: &[(&str, usize)] = &[$((stringify!($NAME), $value)),*];
    };
}
pub(super) use constants;

/// Types of buffers in the kernels' source.
const TYPES: &str = "\
typedef unsigned char u8;
typedef unsigned long long u64;
#ifdef BF16
typedef unsigned short floatX;
#else
typedef float floatX;
#endif
";

/// The parameters of all kernels, as the kernels' source takes them: for a kernel `name`, `name_PARAMETERS` declares them;
/// `struct name_args` holds them as [`Launch::packed`] lays them out, and `name_UNPACKED` reads them from it.
pub(super) fn declarations(
    constants: &[(&str, usize)],
    enums: &[Record],
    records: &[Record],
    kernels: &[&Kernel],
) -> String {
    let mut text = TYPES.to_owned();
    for (name, value) in constants {
        _ = writeln!(text, "#define {name} {value}");
    }
    for Record { name, fields } in enums {
        _ = writeln!(text, "enum {name} {{ {} }};", fields.join(", "));
    }
    for Record { name, fields } in records {
        _ = writeln!(text, "struct {name} {{ int {}; }};", fields.join(", "));
    }
    for kernel in kernels {
        let name = kernel.name;
        let (mut members, mut parameters, mut unpacked) = (String::new(), Vec::new(), Vec::new());
        for param in kernel.buffers {
            let constant = if param.access == Access::Read { "const " } else { "" };
            let pointer = format!("{constant}{} *", param.element.c());
            _ = write!(members, " {pointer}{};", param.name);
            parameters.push(format!("{pointer}RESTRICT {}", param.name));
            unpacked.push(format!("(a)->{}", param.name));
        }
        for (scalar, kind) in kernel.scalars {
            _ = write!(members, " {kind} {scalar};");
            parameters.push(format!("const {kind} {scalar}"));
            unpacked.push(format!("(a)->{scalar}"));
        }
        _ = writeln!(text, "struct {name}_args {{{members} }};");
        _ = writeln!(text, "#define {name}_PARAMETERS {}", parameters.join(", "));
        _ = writeln!(text, "#define {name}_UNPACKED(a) {}", unpacked.join(", "));
    }
    text
}
