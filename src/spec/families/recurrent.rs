//! Parts of hybrids: mixers with a state, in the place of a block's attention.

use super::build::{Modules, Traits};
use super::keys::Keys;
use crate::error::Result;
use crate::spec::{
    ConvSpec, GatedNormSpec, Mixer, ModelSpec, ModuleSpec, PartSpec, RecurrenceKind, RecurrenceSpec, Role,
};

/// Parts of a row, one after the other.
pub(super) fn parts(modules: impl IntoIterator<Item = ModuleSpec>) -> Vec<PartSpec> {
    let mut offset = 0;
    let part = |module: ModuleSpec| {
        offset += module.shape[0];
        PartSpec { offset: offset - module.shape[0], module }
    };
    modules.into_iter().map(part).collect()
}

/// Sizes of a recurrence that fit together.
pub(super) struct Heads {
    pub key_heads: usize,
    pub value_heads: usize,
    pub key_dim: usize,
    pub value_dim: usize,
}

impl Heads {
    /// That one divides the other, and that they are not larger than any model's.
    pub(super) fn check(self, keys: &Keys) -> Result<Self> {
        let Self { key_heads, value_heads, key_dim, value_dim } = self;
        if !value_heads.is_multiple_of(key_heads) {
            let message = format!("{value_heads} heads of values do not share {key_heads} heads of keys evenly");
            return Err(keys.wrong(message));
        }
        let most = 1usize << 20;
        if value_heads.saturating_mul(value_dim) > most || key_heads.saturating_mul(key_dim) > most {
            return Err(
                keys.wrong(format!("{value_heads} heads of {key_dim} × {value_dim} are larger than any model's"))
            );
        }
        Ok(self)
    }
}

/// Names within a block of a gated DeltaNet's modules.
pub(super) struct DeltaNames {
    /// Around all of them.
    pub around: &'static str,
    pub projections: &'static [(&'static str, Role)],
    /// Which of them come in groups, with z between the values and b before a.
    pub grouped: bool,
    pub conv: &'static [&'static str],
    pub norm: &'static str,
    pub o: &'static str,
}

/// Heads of a gated DeltaNet: of keys and of values, and their widths; `defaults` in that order.
pub(super) fn delta_heads(keys: &Keys, defaults: [usize; 4]) -> Result<Heads> {
    let [key_heads, value_heads, key_dim, value_dim] = defaults;
    let heads = Heads {
        key_heads: keys.size_or(&["linear_num_key_heads"], key_heads)?,
        value_heads: keys.size_or(&["linear_num_value_heads"], value_heads)?,
        key_dim: keys.size_or(&["linear_key_head_dim"], key_dim)?,
        value_dim: keys.size_or(&["linear_value_head_dim"], value_dim)?,
    };
    heads.check(keys)
}

/// A gated DeltaNet.
pub(super) fn delta(
    keys: &Keys,
    m: &Modules,
    names: &DeltaNames,
    heads: &Heads,
    hidden: usize,
    beta: f32,
    eps: f32,
) -> Result<Mixer> {
    let Heads { key_heads, value_heads, key_dim, value_dim } = *heads;
    let (key, value) = (key_heads * key_dim, value_heads * value_dim);
    let name = |end: &str| format!("{}{end}", names.around);
    let widths = match names.projections.len() {
        2 => vec![2 * key + 2 * value, 2 * value_heads],
        4 => vec![2 * key + value, value, value_heads, value_heads],
        _ => vec![key, key, value, value, value_heads, value_heads],
    };
    let projections = names.projections.iter().zip(widths);
    let projections = projections.map(|((end, role), out)| m.linear(&name(end), *role, [out, hidden], false));
    Ok(Mixer::Recurrence(RecurrenceSpec {
        kind: RecurrenceKind::Delta { beta },
        key_heads,
        value_heads,
        key_dim,
        value_dim,
        projections: parts(projections),
        grouped: names.grouped,
        scales: Vec::new(),
        conv: ConvSpec {
            names: names.conv.iter().map(|end| m.name(&name(end))).collect(),
            kernel: keys.size_or(&["linear_conv_kernel_dim"], 4)?,
            bias: false,
        },
        vectors: ["A_log", "dt_bias"].iter().map(|end| m.name(&name(end))).collect(),
        norm: Some(GatedNormSpec {
            name: m.name(&name(names.norm)),
            group: value_dim,
            width: value_dim,
            eps,
            first: true,
        }),
        o: m.linear(&name(names.o), Role::O, [hidden, value], false),
    }))
}

/// What a Mamba-2 mixer is made of.
pub(super) struct Mamba {
    pub heads: Heads,
    pub kernel: usize,
    pub conv_bias: bool,
    pub bias: bool,
    pub o_bias: bool,
    pub limit: [f32; 2],
    /// The norm's ε, and whether it comes before the gate; `None` without a norm.
    pub norm: Option<(f32, bool)>,
    pub scales: Vec<f32>,
}

/// Keys of a Mamba-2 mixer: heads, their width, groups, the state's width, the convolution's.
const MAMBA: [&[&str]; 5] = [
    &["mamba_n_heads", "mamba_num_heads"],
    &["mamba_d_head", "mamba_head_dim"],
    &["mamba_n_groups", "n_groups"],
    &["mamba_d_state", "ssm_state_size"],
    &["mamba_d_conv", "conv_kernel"],
];

impl Mamba {
    /// What the config says; a norm of `eps` after the gate. A head's width that the config leaves open is its share of `inner` columns.
    pub(super) fn read(keys: &Keys, defaults: [usize; 5], inner: usize, eps: f32) -> Result<Self> {
        let mut sizes = defaults;
        for (size, names) in sizes.iter_mut().zip(MAMBA) {
            if *size == 0 && (keys.get(names[0]).is_none() || keys.text(names[0]) == Some("auto")) {
                continue;
            }
            *size = keys.size_or(names, *size)?;
        }
        let [value_heads, value_dim, key_heads, key_dim, kernel] = sizes;
        let value_dim = if value_dim == 0 { inner / value_heads } else { value_dim };
        if value_dim == 0 {
            return Err(keys.wrong(format!("{value_heads} heads do not fit {inner} columns")));
        }
        let bias = keys.flag_or("mamba_proj_bias", false)? || keys.flag_or("use_bias", false)?;
        if keys.text("hidden_act").or(keys.text("mamba_hidden_act")).is_some_and(|name| name != "silu") {
            keys.refuse("a Mamba-2 mixer whose activation is not silu is not supported");
        }
        Ok(Self {
            heads: Heads { key_heads, value_heads, key_dim, value_dim }.check(keys)?,
            kernel,
            conv_bias: keys.flag_or("mamba_conv_bias", true)? && keys.flag_or("use_conv_bias", true)?,
            bias,
            o_bias: bias,
            limit: keys.limits("time_step_limit")?,
            norm: Some((eps, false)),
            scales: Vec::new(),
        })
    }

    /// The mixer, its modules called `around` and so on.
    pub(super) fn spec(&self, m: &Modules, around: &str, hidden: usize) -> RecurrenceSpec {
        let Heads { key_heads, value_heads, key_dim, value_dim } = self.heads;
        let (inner, states) = (value_heads * value_dim, key_heads * key_dim);
        let name = |end: &str| format!("{around}{end}");
        let all = 2 * inner + 2 * states + value_heads;
        RecurrenceSpec {
            kind: RecurrenceKind::State { limit: self.limit },
            key_heads,
            value_heads,
            key_dim,
            value_dim,
            projections: parts([m.linear(&name("in_proj"), Role::In, [all, hidden], self.bias)]),
            grouped: false,
            scales: self.scales.clone(),
            conv: ConvSpec { names: vec![m.name(&name("conv1d"))], kernel: self.kernel, bias: self.conv_bias },
            vectors: ["A_log", "dt_bias", "D"].iter().map(|end| m.name(&name(end))).collect(),
            norm: self.norm.map(|(eps, first)| GatedNormSpec {
                name: m.name(&name("norm")),
                group: inner / key_heads,
                width: inner,
                eps,
                first,
            }),
            o: m.linear(&name("out_proj"), Role::O, [hidden, inner], self.o_bias),
        }
    }
}

impl ModelSpec {
    /// Puts mixers with a state in the place of some blocks' attention.
    pub(super) fn put_mixers(
        &mut self,
        traits: &Traits,
        of: impl Fn(usize) -> bool,
        mixer: impl Fn(&Modules) -> Result<Mixer>,
    ) -> Result<()> {
        for layer in (0..self.blocks.len()).filter(|layer| of(*layer)) {
            self.blocks[layer].mixer = Some(mixer(&Modules::of(&self.embedding, traits, layer))?);
        }
        Ok(())
    }
}
