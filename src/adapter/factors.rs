//! [`Factors`]: the tensors of one layer, found by their names and checked against each other.

use super::{LoraConfig, LoraLayer};
use crate::checkpoint::{Checkpoint, Dtype, Role, Tensor, layer_of};
use crate::error::{Error, Result};

/// In front of every name that PEFT writes.
pub(super) const PREFIX: &str = "base_model.model.";

/// What a tensor of an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FactorOf {
    Linear,
    Embedding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    A(FactorOf),
    B(FactorOf),
    Bias,
    Magnitude,
}

/// A tensor's name, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub(super) module: &'a str,
    pub(super) part: Piece,
    /// The adapter's own name, where the file has it: `.lora_A.default.weight`.
    pub(super) adapter: Option<&'a str>,
}

impl<'a> Name<'a> {
    /// `None` for a tensor that is no part of a LoRA layer.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        let rest = name.strip_prefix(PREFIX).unwrap_or(name);
        let (module, rest) = rest.rsplit_once(".lora_")?;
        let (kind, rest) = rest.split_once('.').unwrap_or((rest, ""));
        let (rest, bias) = match rest.strip_suffix("bias") {
            Some(rest) if kind == "B" => (rest, true),
            _ => (rest.strip_suffix("weight").unwrap_or(rest), false),
        };
        let adapter = Some(rest.trim_end_matches('.')).filter(|adapter| !adapter.is_empty());
        let part = match kind {
            "A" => Piece::A(FactorOf::Linear),
            "B" if bias => Piece::Bias,
            "B" => Piece::B(FactorOf::Linear),
            "embedding_A" => Piece::A(FactorOf::Embedding),
            "embedding_B" => Piece::B(FactorOf::Embedding),
            "magnitude_vector" => Piece::Magnitude,
            _ => return None,
        };
        Some(Self { module, part, adapter })
    }
}

/// The tensors of one layer.
#[derive(Default)]
pub(super) struct Factors<'a> {
    a: Option<(&'a Tensor, FactorOf)>,
    b: Option<(&'a Tensor, FactorOf)>,
    dora: bool,
    parameters: u64,
}

impl<'a> Factors<'a> {
    pub(super) fn add(&mut self, checkpoint: &Checkpoint, part: Piece, tensor: &'a Tensor) -> Result<()> {
        self.parameters = self.parameters.saturating_add(tensor.elements());
        let (slot, of) = match part {
            Piece::A(of) => (&mut self.a, of),
            Piece::B(of) => (&mut self.b, of),
            Piece::Magnitude => {
                self.dora = true;
                return Ok(());
            }
            Piece::Bias => return Ok(()),
        };
        let wrong = |message: String| Err(Error::tensor(checkpoint.file_of(tensor), &tensor.name, message));
        if let Some((other, _)) = slot {
            return wrong(format!("{} is the same factor, expected it once", other.name));
        }
        if tensor.shape.len() != 2 {
            return wrong(format!("found shape {:?}, expected two sizes", tensor.shape));
        }
        if tensor.shape.contains(&0) {
            return wrong(format!("the tensor is empty: found shape {:?}, expected a rank of 1 or more", tensor.shape));
        }
        if !tensor.dtype.is_readable() {
            return wrong(format!("found values of type {}, expected floating-point ones", tensor.dtype));
        }
        *slot = Some((tensor, of));
        Ok(())
    }

    pub(super) fn layer(self, module: &str, config: &LoraConfig, checkpoint: &Checkpoint) -> Result<LoraLayer> {
        let about =
            |tensor: &Tensor, message: String| Err(Error::tensor(checkpoint.file_of(tensor), &tensor.name, message));
        let ((a, of), (b, of_b)) = match (self.a, self.b) {
            (Some(a), Some(b)) => (a, b),
            (Some((a, _)), None) => return about(a, format!("found A without B for {module}, expected both")),
            (None, Some((b, _))) => return about(b, format!("found B without A for {module}, expected both")),
            (None, None) => {
                let message = "found neither A nor B beside it, expected both";
                return Err(Error::tensor(checkpoint.path(), module, message));
            }
        };
        if of != of_b {
            return about(
                a,
                format!("found one factor of an embedding and {} of a linear layer, expected two of one kind", b.name),
            );
        }
        let (r, columns) = (a.shape[0], b.shape[1]);
        if r != columns {
            return about(a, format!("found rank {r} (its rows), expected rank {columns}, the columns of {}", b.name));
        }
        let expected = config.rank_of(module);
        if r != expected {
            return about(
                a,
                format!(
                    "found rank {r} (its rows), expected {expected}, which adapter_config.json says in r and rank_pattern"
                ),
            );
        }
        let embedding = of == FactorOf::Embedding;
        let lora_alpha = config.alpha_of(module);
        let coarser = |a: Dtype, b: Dtype| if a.epsilon() < b.epsilon() { b } else { a };
        let role = Role::of(module);
        Ok(LoraLayer {
            module: module.to_owned(),
            shape: if embedding { [a.shape[1], b.shape[0]] } else { [b.shape[0], a.shape[1]] },
            r,
            lora_alpha,
            scaling: config.scaling(lora_alpha, r),
            dtype: coarser(a.dtype, b.dtype),
            embedding,
            layer: layer_of(module),
            role,
            parameters: self.parameters,
            dora: self.dora,
            a: a.name.clone(),
            b: b.name.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart() {
        let linear = |module, part, adapter| Some(Name { module, part, adapter });
        let a = Piece::A(FactorOf::Linear);
        assert_eq!(
            Name::parse("base_model.model.model.layers.0.q_proj.lora_A.weight"),
            linear("model.layers.0.q_proj", a, None)
        );
        assert_eq!(
            Name::parse("base_model.model.h.0.c_attn.lora_A.default.weight"),
            linear("h.0.c_attn", a, Some("default"))
        );
        assert_eq!(Name::parse("h.0.lora_B.a.b.weight"), linear("h.0", Piece::B(FactorOf::Linear), Some("a.b")));
        assert_eq!(Name::parse("h.0.lora_B.bias"), linear("h.0", Piece::Bias, None));
        let embedding = Piece::A(FactorOf::Embedding);
        assert_eq!(Name::parse("base_model.model.wte.lora_embedding_A"), linear("wte", embedding, None));
        assert_eq!(
            Name::parse("base_model.model.wte.lora_embedding_A.default"),
            linear("wte", embedding, Some("default"))
        );
        assert_eq!(Name::parse("h.0.lora_magnitude_vector"), linear("h.0", Piece::Magnitude, None));
        assert_eq!(Name::parse("base_model.model.lm_head.weight"), None);
        assert_eq!(Name::parse("lora_unet_x.lora_down.weight"), None);
    }
}
