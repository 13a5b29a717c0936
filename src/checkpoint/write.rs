//! Files that are there whole or not at all, and `.safetensors` files tensor by tensor.

use super::Dtype;
use crate::error::{Error, Result};
use std::borrow::Cow;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

/// Writes a file under another name, flushes it to the disk and renames it: it is there whole or not at all.
///
/// # Errors
/// When it cannot be written; nothing is left behind then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_at(path, |path| File::create(path)?.write_all(bytes))
}

fn write_at(path: &Path, fill: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        std::fs::create_dir_all(folder)?;
        let temporary = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder)?.into_temp_path();
        fill(&temporary)?;
        let file = File::open(&temporary)?;
        readable(&file)?;
        file.sync_all()?;
        temporary.persist(path).map_err(|error| error.error)?;
        // The new name is on the disk once its folder is.
        File::open(folder).and_then(|folder| folder.sync_all())
    };
    write().map_err(|error| Error::write(path, &error))
}

/// Temporary files are their owner's alone; a result is everybody's to read, as the user's mask allows.
#[cfg(unix)]
fn readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable(_: &File) -> std::io::Result<()> {
    Ok(())
}

/// A tensor on its way into a file.
pub struct Tensor<'a> {
    /// Its name in the file.
    pub name: String,
    /// Sizes.
    pub shape: Vec<usize>,
    /// F32, F16, BF16 or U8.
    pub dtype: Dtype,
    /// Little-endian values.
    pub bytes: Cow<'a, [u8]>,
}

impl Tensor<'_> {
    /// Values as `dtype`.
    pub fn new(name: String, shape: Vec<usize>, values: &[f32], dtype: Dtype) -> Tensor<'static> {
        let bytes: Vec<u8> = match dtype {
            Dtype::BF16 => values.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect(),
            Dtype::F16 => values.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        };
        let dtype = if matches!(dtype, Dtype::BF16 | Dtype::F16) { dtype } else { Dtype::F32 };
        Tensor { name, shape, dtype, bytes: Cow::Owned(bytes) }
    }
}

impl safetensors::View for &Tensor<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        stored(self.dtype)
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes a `.safetensors` file, whole or not at all, with transformers' mark.
///
/// # Errors
/// When it cannot be written.
pub fn write_tensors(path: &Path, tensors: &[Tensor]) -> Result<()> {
    let mark = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)), Some(mark));
    let bytes = bytes.map_err(|error| Error::failure(format!("cannot put tensors together: {error}")))?;
    write_whole(path, &bytes)
}

/// Name, sizes and type of a tensor that will be made when its turn comes.
pub type Planned = (String, Vec<usize>, Dtype);

/// As [`write_tensors`], but each tensor is made only when it is written: one is in memory at a time.
///
/// # Errors
/// What `make` says, and when the file cannot be written.
pub fn write_lazily(
    path: &Path,
    planned: &[Planned],
    make: &(dyn Fn(usize) -> Result<Tensor<'static>> + Sync),
) -> Result<()> {
    let failed = Mutex::new(None);
    let lazy = |at: usize| (planned[at].0.as_str(), Lazy { planned: &planned[at], at, make, failed: &failed });
    let mark = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let written = write_at(path, |path| {
        let result = safetensors::serialize_to_file((0..planned.len()).map(lazy), Some(mark), path);
        result.map_err(|error| match error {
            // The disk's own words, without the crate's before them.
            safetensors::SafeTensorError::IoError(error) => error,
            other => std::io::Error::other(other.to_string()),
        })?;
        if failed.lock().is_ok_and(|failed| failed.is_some()) {
            Err(std::io::Error::other("a tensor could not be made"))
        } else {
            Ok(())
        }
    });
    match failed.into_inner().ok().flatten() {
        Some(error) => Err(error),
        None => written,
    }
}

struct Lazy<'a> {
    planned: &'a Planned,
    at: usize,
    make: &'a (dyn Fn(usize) -> Result<Tensor<'static>> + Sync),
    failed: &'a Mutex<Option<Error>>,
}

impl safetensors::View for Lazy<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        stored(self.planned.2)
    }

    fn shape(&self) -> &[usize] {
        &self.planned.1
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let failed = || self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let made = if failed().is_some() { None } else { Some((self.make)(self.at)) };
        match made {
            Some(Ok(tensor)) if tensor.bytes.len() == self.data_len() => tensor.bytes,
            // The file is thrown away; only its length must be right until then.
            other => {
                if let Some(other) = other {
                    let error = other
                        .err()
                        .unwrap_or_else(|| Error::failure(format!("{} has another size than planned", self.planned.0)));
                    *failed() = Some(error);
                }
                Cow::Owned(vec![0; self.data_len()])
            }
        }
    }

    fn data_len(&self) -> usize {
        self.planned.1.iter().product::<usize>() * self.planned.2.size()
    }
}

/// The name in a file's header. Types that are not in the table are refused before they get here.
fn stored(dtype: Dtype) -> safetensors::Dtype {
    STORED.iter().find(|(own, _)| *own == dtype).map_or(safetensors::Dtype::F32, |(_, theirs)| *theirs)
}

/// Whether tensors of this type can be written.
pub fn can_store(dtype: Dtype) -> bool {
    STORED.iter().any(|(own, _)| *own == dtype)
}

const STORED: [(Dtype, safetensors::Dtype); 15] = [
    (Dtype::F64, safetensors::Dtype::F64),
    (Dtype::F32, safetensors::Dtype::F32),
    (Dtype::F16, safetensors::Dtype::F16),
    (Dtype::BF16, safetensors::Dtype::BF16),
    (Dtype::F8E4M3, safetensors::Dtype::F8_E4M3),
    (Dtype::F8E5M2, safetensors::Dtype::F8_E5M2),
    (Dtype::I64, safetensors::Dtype::I64),
    (Dtype::I32, safetensors::Dtype::I32),
    (Dtype::I16, safetensors::Dtype::I16),
    (Dtype::I8, safetensors::Dtype::I8),
    (Dtype::U64, safetensors::Dtype::U64),
    (Dtype::U32, safetensors::Dtype::U32),
    (Dtype::U16, safetensors::Dtype::U16),
    (Dtype::U8, safetensors::Dtype::U8),
    (Dtype::Bool, safetensors::Dtype::BOOL),
];
