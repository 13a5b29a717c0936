//! [`input_squares`]: how large what goes into every linear layer is, channel by channel, on a person's own data: what a repair of
//! rounding is weighted by ([`weighted`](crate::spectrum::rounding::weighted)).

use super::{Settings, data};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::model::{Batch, Cpu, Decoder, Frozen, Pool};
use crate::progress::{Part, Progress};
use std::collections::HashMap;

/// Rows that are looked at: means of squares settle early.
pub const ROWS: usize = 16;

/// `E[x²]` of every linear layer's input, `[in_features]` by module, over the first [`ROWS`] rows of `settings.data`, without padding.
///
/// # Errors
/// A model or data that cannot be used; and cancellation.
pub fn input_squares(settings: &Settings, progress: &dyn Progress) -> Result<HashMap<String, Vec<f64>>> {
    let checkpoint = Checkpoint::open(&settings.model)?;
    let read = data::read_with(&settings.data, &checkpoint, settings.seq, &settings.data_options(), progress)?;
    let rows: Vec<_> = read.rows.rows.iter().take(ROWS).map(|row| super::Rows::pad(&[row])).collect();
    if rows.is_empty() {
        return Err(Error::file(&settings.data, "no row can be used; expected rows with tokens"));
    }
    let mut decoder = Decoder::load(&checkpoint, Frozen::AsStored, &Part::new(progress, 0, 4))?;
    decoder.watch(|_| true);
    let batches: Vec<Batch> = rows.iter().map(super::data::Padded::batch).collect();
    let pool = Pool::default();
    decoder.input_squares(&Cpu::new(&decoder.params, &pool), &batches, &Part::rest(progress, 1, 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The first layer reads the normed embeddings: of one row they are computed by hand here.
    #[test]
    fn the_first_layer_reads_normed_embeddings() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data.jsonl");
        let ids = [5u32, 9, 30, 7, 5];
        std::fs::write(&data, format!("{{\"input_ids\": {ids:?}}}\n")).unwrap();
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama");
        let settings = Settings { model: model.clone(), data, ..Settings::default() };
        let found = input_squares(&settings, &()).unwrap();
        let checkpoint = Checkpoint::open(&model).unwrap();
        let matrix = |name: &str| {
            let tensor = checkpoint.tensor(name).unwrap();
            checkpoint.tensor_matrix(tensor, &()).unwrap()
        };
        let embedding = matrix("model.embed_tokens.weight");
        let norm = matrix("model.layers.0.input_layernorm.weight");
        let width = embedding.cols();
        let mut expected = vec![0f64; width];
        for id in ids {
            let row: Vec<f64> = embedding.row(id as usize).iter().map(|x| f64::from(*x)).collect();
            let root = (row.iter().map(|x| x * x).sum::<f64>() / width as f64 + 1e-5).sqrt();
            for (j, x) in row.iter().enumerate() {
                expected[j] += (x / root * f64::from(norm.data()[j])).powi(2) / ids.len() as f64;
            }
        }
        for part in ["q_proj", "k_proj", "v_proj"] {
            let squares = &found[&format!("model.layers.0.self_attn.{part}")];
            let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-4 * b.abs().max(1e-6);
            assert!(squares.len() == width && squares.iter().zip(&expected).all(close), "{part}");
        }
        let down = &found["model.layers.0.mlp.down_proj"];
        assert!(down.iter().all(|square| square.is_finite() && *square >= 0.0) && down.iter().any(|x| *x > 0.0));
    }
}
