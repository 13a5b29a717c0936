//! Heads of attention on [`OnGpu`]: where their rows lie, and room for those that there are no kernels for.

use super::{OnGpu, Place};
use crate::error::Result;
use crate::model::decoder::Attention;
use crate::model::gpu::{HeadsOf, Tensor};
use crate::model::ops::attention::Row;

impl OnGpu<'_> {
    pub(super) fn heads<'a>(
        &'a self,
        attention: &'a Attention,
        place: Place<'a, Self>,
        capacity: usize,
    ) -> Result<HeadsOf<'a>> {
        let norms = match (&attention.q_norm, &attention.k_norm) {
            (Some(q), Some(k)) => Some((self.weights.norm(q)?, self.weights.norm(k)?)),
            _ => None,
        };
        // Queries in groups with their key and value are read where they lie.
        let (d, group) = (attention.spec.head_dim, attention.spec.heads / attention.spec.kv_heads);
        let (row, q_group) = match (attention.row(), attention.is_regrouped()) {
            // Values of another width than keys: thought of as wide as these, see `widened`.
            (_, false) if attention.spec.value_dim != d => {
                let (heads, kv_heads) = (attention.spec.heads, attention.spec.kv_heads);
                (
                    Row {
                        stride: (heads + 2 * kv_heads) * d,
                        q: (0, d),
                        k: (heads * d, d),
                        v: ((heads + kv_heads) * d, d),
                    },
                    None,
                )
            }
            (row, false) => (row, None),
            (Row { stride, .. }, true) => {
                let step = (group + 2) * d;
                (Row { stride, q: (0, d), k: (group * d, step), v: ((group + 1) * d, step) }, Some(step))
            }
        };
        Ok(HeadsOf {
            row,
            q_group,
            rules: attention.rules(),
            angles: attention.spec.rope.and_then(|rope| place.angles.get(rope)),
            norms,
            seq: place.seq,
            first: place.first,
            capacity,
            positions: place.positions,
            starts: place.starts,
        })
    }

    /// Room for rows whose values are as wide as their keys, where those of the family are not: there are no kernels for these, and
    /// what they would take is at most this.
    pub(super) fn widened(&self, attention: &Attention, of: &Tensor, from: usize, to: usize) -> Result<Option<Tensor>> {
        if attention.spec.value_dim == attention.spec.head_dim {
            return Ok(None);
        }
        self.only_thought_of("attention whose values have another width than its keys")?;
        self.gpu.alloc(of.len() / from * to).map(Some)
    }
}
