//! The tensors of a `.safetensors` file, or of those in a folder, as `f64`.

use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::Path;

/// One tensor.
pub struct Tensor {
    pub dtype: String,
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

/// Reads them all.
pub fn read(path: &str) -> Result<BTreeMap<String, Tensor>, String> {
    let path = Path::new(path);
    let mut files = Vec::new();
    if path.is_file() {
        files.push(path.to_path_buf());
    } else if let Ok(entries) = std::fs::read_dir(path) {
        files.extend(entries.flatten().map(|entry| entry.path()));
        files.retain(|file| file.extension().is_some_and(|end| end == "safetensors"));
        files.sort();
    }
    if files.is_empty() {
        return Err(format!("there is no {}", path.file_name().unwrap_or_default().to_string_lossy()));
    }
    let mut all = BTreeMap::new();
    for file in files {
        let bytes = std::fs::read(&file).map_err(|error| error.to_string())?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| error.to_string())?;
        for (name, view) in tensors.tensors() {
            let values = values(view.dtype(), view.data());
            all.insert(name, Tensor { dtype: format!("{:?}", view.dtype()), shape: view.shape().to_vec(), values });
        }
    }
    Ok(all)
}

fn values(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.as_chunks::<N>().0.iter().map(|&chunk| value(chunk)).collect()
    }
    match dtype {
        Dtype::F64 => each(bytes, f64::from_le_bytes),
        Dtype::F32 => each(bytes, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::F16 => each(bytes, |b| half::f16::from_le_bytes(b).to_f64()),
        Dtype::BF16 => each(bytes, |b| half::bf16::from_le_bytes(b).to_f64()),
        Dtype::I64 => each(bytes, |b| i64::from_le_bytes(b) as f64),
        Dtype::I32 => each(bytes, |b| f64::from(i32::from_le_bytes(b))),
        _ => each(bytes, |[b]: [u8; 1]| f64::from(b)),
    }
}
