//! Folders in the hub's format.

use std::collections::BTreeMap;
use std::path::Path;

use half::bf16;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::matrix::Matrix;

/// One tensor's bytes.
#[derive(Clone)]
pub struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    /// As BF16.
    pub fn half(m: &Matrix) -> Self {
        let bytes = m.data().iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
        Self { dtype: Dtype::BF16, shape: m.shape().to_vec(), bytes }
    }

    /// As F32.
    pub fn single(m: &Matrix) -> Self {
        let bytes = m.data().iter().flat_map(|x| x.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, shape: m.shape().to_vec(), bytes }
    }

    /// The same values, one-dimensional.
    pub fn vector(mut self) -> Self {
        self.shape = vec![self.shape.iter().product()];
        self
    }
}

/// The tensors of one file.
#[derive(Default)]
pub struct Tensors {
    by_name: BTreeMap<String, Stored>,
}

impl Tensors {
    /// Adds a tensor.
    pub fn push(&mut self, name: String, stored: Stored) {
        self.by_name.insert(name, stored);
    }

    /// Writes a folder with one weights file and its config.
    pub fn write(&self, dir: &Path, weights: &str, config: &str, value: &Value) -> Result<()> {
        std::fs::create_dir_all(dir).map_err(|e| Error::write(dir, &e))?;
        let path = dir.join(weights);
        let views: Vec<(&String, TensorView<'_>)> = self
            .by_name
            .iter()
            .map(|(name, s)| Ok((name, TensorView::new(s.dtype, s.shape.clone(), &s.bytes)?)))
            .collect::<std::result::Result<_, safetensors::SafeTensorError>>()
            .map_err(|e| Error::failure(e.to_string()))?;
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| Error::failure(e.to_string()))?;
        std::fs::write(&path, bytes).map_err(|e| Error::write(&path, &e))?;
        let path = dir.join(config);
        std::fs::write(&path, format!("{value:#}\n")).map_err(|e| Error::write(&path, &e))
    }
}
