//! Files that are there whole or not at all, and `.safetensors` files tensor by tensor.
//!
//! A file is written under another name, flushed to the disk and renamed. What a program that was killed leaves behind under
//! such a name is removed by the next one that writes into the folder: the name is locked while it is written, and the system
//! lets go of the lock when the program ends, however it ends.

use super::Dtype;
use crate::error::{Error, Result};
use crate::progress::{Progress, Still};
use safetensors::tensor::{Metadata, TensorInfo};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// Names of files that are being written begin with it.
const WRITING: &str = ".writing-";

/// Bytes that are gathered before the system is asked to write them.
const BUFFER: usize = 1 << 20;
/// Bytes that are written between two questions whether to go on, and those after which they are flushed to the disk: what is
/// left to flush at the end takes a moment only.
const PIECE: usize = 1 << 22;
const FLUSHED: usize = 1 << 25;
/// Values that become bytes between two such questions.
const VALUES: usize = 1 << 20;

/// Writes a file under another name, flushes it to the disk and renames it: it is there whole or not at all.
///
/// # Errors
/// When it cannot be written; nothing is left behind then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_at(path, |out| out.write(bytes, &()))
}

/// Gives the bytes of a piece by its number.
pub(crate) type Pieces<'a> = dyn FnMut(usize, &dyn Progress) -> Result<Vec<u8>> + 'a;

/// Writes a file of `count` pieces, one in memory at a time, whole or not at all.
///
/// # Errors
/// What `make` says, cancellation, and when the file cannot be written; nothing is left behind then.
pub(crate) fn write_pieces(path: &Path, count: usize, progress: &dyn Progress, make: &mut Pieces<'_>) -> Result<()> {
    write_at(path, |out| {
        for at in 0..count {
            let still = Still::new(progress, at as u64, count as u64)?;
            out.write(&make(at, &still)?, &still)?;
        }
        Ok(())
    })
}

/// A file that is being written.
struct Out<'a> {
    path: &'a Path,
    file: BufWriter<&'a File>,
    /// Bytes since they were flushed to the disk.
    since: usize,
}

impl Out<'_> {
    fn write(&mut self, bytes: &[u8], progress: &dyn Progress) -> Result<()> {
        let failed = |error: std::io::Error| Error::write(self.path, &error);
        for piece in bytes.chunks(PIECE) {
            if piece.len() == PIECE {
                progress.step(0, 1)?;
            }
            self.file.write_all(piece).map_err(failed)?;
            self.since += piece.len();
            if self.since >= FLUSHED {
                self.since = 0;
                self.file.flush().and_then(|()| self.file.get_ref().sync_data()).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn write_at(path: &Path, fill: impl FnOnce(&mut Out<'_>) -> Result<()>) -> Result<()> {
    let failed = |error: std::io::Error| Error::write(path, &error);
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    sweep(folder);
    let temporary = temporary(folder).map_err(failed)?;
    let mut out = Out { path, file: BufWriter::with_capacity(BUFFER, temporary.as_file()), since: 0 };
    fill(&mut out)?;
    out.file.flush().map_err(failed)?;
    drop(out);
    temporary.as_file().sync_all().map_err(failed)?;
    temporary.persist(path).map_err(|error| failed(error.error))?;
    flush_folder(folder).map_err(failed)
}

/// A new name is on the disk once its folder is.
#[cfg(unix)]
fn flush_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all())
}

/// Elsewhere a folder is no file that could be flushed.
#[cfg(not(unix))]
fn flush_folder(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// A new file of another name, locked; its mode is what the user's mask allows.
fn temporary(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(WRITING);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Temporary files are their owner's alone otherwise; the system takes away what the mask forbids.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    loop {
        let file = builder.tempfile_in(folder)?;
        // A file system without locks: what is left behind stays.
        if file.as_file().lock().is_err() || file.path().exists() {
            return Ok(file);
        }
        // Swept away before it was locked: another one.
    }
}

/// Removes what programs that are gone have left in a folder.
fn sweep(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.filter_map(std::result::Result::ok) {
        let ours = entry.file_name().to_string_lossy().starts_with(WRITING);
        if !(ours && entry.file_type().is_ok_and(|kind| kind.is_file())) {
            continue;
        }
        let Ok(file) = File::options().write(true).open(entry.path()) else { continue };
        if file.try_lock().is_ok()
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            log::warn!("{}: cannot remove what was left behind: {error}", entry.path().display());
        }
    }
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
        let dtype = if matches!(dtype, Dtype::BF16 | Dtype::F16) { dtype } else { Dtype::F32 };
        let mut bytes = Vec::with_capacity(values.len() * dtype.size());
        values.chunks(VALUES).for_each(|some| extend(&mut bytes, some, dtype));
        Tensor { name, shape, dtype, bytes: Cow::Owned(bytes) }
    }

    /// The same of many values.
    ///
    /// # Errors
    /// Cancellation.
    pub fn of_many((name, shape, dtype): Planned, values: &[f32], progress: &dyn Progress) -> Result<Tensor<'static>> {
        let mut tensor = Tensor::new(name, shape, &[], dtype);
        let mut bytes = Vec::with_capacity(values.len() * tensor.dtype.size());
        for some in values.chunks(VALUES) {
            progress.step(0, 1)?;
            extend(&mut bytes, some, tensor.dtype);
        }
        tensor.bytes = Cow::Owned(bytes);
        Ok(tensor)
    }
}

/// Values as little-endian bytes.
fn extend(bytes: &mut Vec<u8>, values: &[f32], dtype: Dtype) {
    match dtype {
        Dtype::BF16 => values.iter().for_each(|&x| bytes.extend_from_slice(&half::bf16::from_f32(x).to_le_bytes())),
        Dtype::F16 => values.iter().for_each(|&x| bytes.extend_from_slice(&half::f16::from_f32(x).to_le_bytes())),
        _ => values.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes())),
    }
}

/// Writes a `.safetensors` file, whole or not at all, with transformers' mark.
///
/// # Errors
/// When it cannot be written.
pub fn write_tensors(path: &Path, tensors: &[Tensor]) -> Result<()> {
    let planned: Vec<Planned> =
        tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone(), tensor.dtype)).collect();
    write_each(path, &planned, [0, planned.len()], &(), &mut |at, _, put| put(&tensors[at].bytes))
}

/// Name, sizes and type of a tensor that will be made when its turn comes.
pub type Planned = (String, Vec<usize>, Dtype);

/// Makes a tensor by its number; asks now and then whether to go on.
pub type Make<'a> = &'a (dyn Fn(usize, &dyn Progress) -> Result<Tensor<'static>> + Sync);

/// As [`write_tensors`], but each tensor is made only when it is written: one is in memory at a time. `progress` hears of each.
///
/// # Errors
/// What `make` says, which ends the writing at once; cancellation; and when the file cannot be written.
pub fn write_lazily(path: &Path, planned: &[Planned], progress: &dyn Progress, make: Make<'_>) -> Result<()> {
    write_each(path, planned, [0, planned.len()], progress, &mut |at, still, put| put(&make(at, still)?.bytes))
}

/// As [`write_lazily`], into `model.safetensors` of a folder, or where the tensors take more than `limit` bytes into files of up to
/// that size with an index, in the order given, as transformers names them. The index comes last.
///
/// # Errors
/// As [`write_lazily`]; files that were written before are removed then.
pub fn write_sharded(
    folder: &Path,
    planned: &[Planned],
    limit: u64,
    progress: &dyn Progress,
    make: Make<'_>,
) -> Result<()> {
    let size = |at: usize| planned[at].1.iter().product::<usize>() as u64 * planned[at].2.size() as u64;
    let mut shards: Vec<(Vec<usize>, u64)> = vec![(Vec::new(), 0)];
    for at in 0..planned.len() {
        let full = shards.last().is_some_and(|(tensors, bytes)| !tensors.is_empty() && bytes + size(at) > limit);
        if full {
            shards.push((Vec::new(), 0));
        }
        if let Some((tensors, bytes)) = shards.last_mut() {
            tensors.push(at);
            *bytes += size(at);
        }
    }
    if shards.len() == 1 {
        return write_lazily(&folder.join("model.safetensors"), planned, progress, make);
    }
    let count = shards.len();
    let name = |number: usize| format!("model-{:05}-of-{count:05}.safetensors", number + 1);
    let mut map = serde_json::Map::new();
    for (number, (tensors, _)) in shards.iter().enumerate() {
        let some: Vec<Planned> = tensors.iter().map(|&at| planned[at].clone()).collect();
        let place = [tensors.first().copied().unwrap_or(0), planned.len()];
        let written = write_each(&folder.join(name(number)), &some, place, progress, &mut |at, still, put| {
            put(&make(tensors[at], still)?.bytes)
        });
        if let Err(error) = written {
            for written in 0..number {
                if let Err(error) = std::fs::remove_file(folder.join(name(written))) {
                    log::warn!("{}: cannot remove what was written: {error}", folder.join(name(written)).display());
                }
            }
            return Err(error);
        }
        map.extend(some.into_iter().map(|(tensor, ..)| (tensor, name(number).into())));
    }
    let total: u64 = shards.iter().map(|(_, bytes)| bytes).sum();
    let index = serde_json::json!({"metadata": {"total_size": total}, "weight_map": map});
    let text = serde_json::to_string_pretty(&index).map_err(|error| Error::failure(error.to_string()))?;
    write_whole(&folder.join("model.safetensors.index.json"), text.as_bytes())
}

/// Takes the bytes of a tensor.
type Put<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// Puts a tensor by its number.
type Each<'a> = &'a mut dyn FnMut(usize, &dyn Progress, Put<'_>) -> Result<()>;

/// The format: the header's length in 8 bytes, the header, the tensors in the order in which the `safetensors` crate puts them.
/// `progress` hears of each tensor, the first being number `from` of `total`.
fn write_each(
    path: &Path,
    planned: &[Planned],
    [from, total]: [usize; 2],
    progress: &dyn Progress,
    each: Each<'_>,
) -> Result<()> {
    const ALIGNED: usize = 8;
    let mut order: Vec<usize> = (0..planned.len()).collect();
    // By type, the widest first, then by name.
    let key = |at: usize| (std::cmp::Reverse(stored(planned[at].2)), planned[at].0.as_str());
    order.sort_by(|&a, &b| key(a).cmp(&key(b)));
    let size = |at: usize| planned[at].1.iter().product::<usize>() * planned[at].2.size();
    let mut end = 0;
    let infos = order.iter().map(|&at| {
        let (name, shape, dtype) = &planned[at];
        let begin = end;
        end += size(at);
        (name.clone(), TensorInfo { dtype: stored(*dtype), shape: shape.clone(), data_offsets: (begin, end) })
    });
    let mark = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let wrong = |error: String| Error::file(path, format!("cannot put tensors together: {error}"));
    let header = Metadata::new(Some(mark), infos.collect()).map_err(|error| wrong(error.to_string()))?;
    let mut header = serde_json::to_vec(&header).map_err(|error| wrong(error.to_string()))?;
    header.resize(header.len().next_multiple_of(ALIGNED), b' ');
    write_at(path, |out| {
        out.write(&(header.len() as u64).to_le_bytes(), &())?;
        out.write(&header, &())?;
        for (number, at) in order.into_iter().enumerate() {
            let still = Still::new(progress, (from + number) as u64, total as u64)?;
            each(at, &still, &mut |bytes| {
                if bytes.len() != size(at) {
                    let message = format!("{} bytes were made, {} planned", bytes.len(), size(at));
                    return Err(Error::tensor(path, &planned[at].0, message));
                }
                out.write(bytes, &still)
            })?;
        }
        Ok(())
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn left(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.starts_with('.')).collect()
    }

    /// The crate's own writer makes the same bytes.
    #[test]
    fn the_format_is_that_of_safetensors() {
        struct View<'a>(&'a Tensor<'a>);
        impl safetensors::View for View<'_> {
            fn dtype(&self) -> safetensors::Dtype {
                stored(self.0.dtype)
            }
            fn shape(&self) -> &[usize] {
                &self.0.shape
            }
            fn data(&self) -> Cow<'_, [u8]> {
                Cow::Borrowed(&self.0.bytes)
            }
            fn data_len(&self) -> usize {
                self.0.bytes.len()
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let tensors = [
            Tensor::new("z".into(), vec![3], &[1.0, 2.0, 3.0], Dtype::F32),
            Tensor::new("b".into(), vec![1, 2], &[4.0, 5.0], Dtype::BF16),
            Tensor::new("a".into(), vec![2], &[6.0, 7.0], Dtype::F32),
            Tensor { name: "u".into(), shape: vec![5], dtype: Dtype::U8, bytes: vec![1, 2, 3, 4, 5].into() },
        ];
        let views = tensors.iter().map(|tensor| (tensor.name.as_str(), View(tensor)));
        let mark = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let expected = safetensors::serialize(views, Some(mark)).unwrap();
        write_tensors(&path, &tensors).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), expected);
    }

    #[test]
    fn an_error_ends_the_writing_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let planned: Vec<Planned> = (0..3).map(|at| (format!("t{at}"), vec![4], Dtype::F32)).collect();
        let made = std::sync::atomic::AtomicUsize::new(0);
        let cancelled = write_lazily(&path, &planned, &(), &|at, _| {
            made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if at == 1 { Err(Error::Cancelled) } else { Ok(Tensor::new("t0".into(), vec![4], &[0.0; 4], Dtype::F32)) }
        });
        assert!(cancelled.unwrap_err().is_cancelled());
        assert_eq!(made.into_inner(), 2);
        assert!(!path.exists() && left(folder.path()).is_empty());
        let short =
            write_lazily(&path, &planned, &(), &|_, _| Ok(Tensor::new("t0".into(), vec![1], &[0.0], Dtype::F32)));
        assert!(short.unwrap_err().to_string().contains("4 bytes were made, 16 planned"));
    }

    /// Within a tensor that is large, while it is made and while it is written.
    #[test]
    fn a_large_tensor_is_left_at_once() {
        struct Until(std::sync::atomic::AtomicUsize);
        impl Progress for Until {
            fn step(&self, _: u64, _: u64) -> Result<()> {
                let left = self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
                if left == 0 { Err(Error::Cancelled) } else { Ok(()) }
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let planned: Vec<Planned> = vec![("t".to_owned(), vec![6 * VALUES], Dtype::F32)];
        // One for the tensor, six for its values, six for its pieces; then it is written whole.
        for (steps, ends) in [(0, true), (3, true), (9, true), (12, true), (13, false)] {
            let made = write_lazily(&path, &planned, &Until(steps.into()), &|at, still| {
                Tensor::of_many(planned[at].clone(), &vec![1.0; 6 * VALUES], still)
            });
            assert_eq!(made.is_err(), ends, "{steps}");
            assert!(left(folder.path()).is_empty() && path.exists() != ends);
        }
    }

    #[test]
    fn what_dead_programs_left_is_removed_and_what_is_being_written_is_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".writing-dead"), "half a model").unwrap();
        std::fs::write(folder.path().join(".writing.txt"), "somebody's own").unwrap();
        let held = temporary(folder.path()).unwrap();
        write_whole(&folder.path().join("file"), b"1").unwrap();
        let mut found = left(folder.path());
        found.sort();
        let own = held.path().file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(found, [own, ".writing.txt".to_owned()]);
    }

    /// As a file has that any program makes with this user's mask.
    #[cfg(unix)]
    #[test]
    fn the_mask_is_kept() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        std::fs::write(folder.path().join("plain"), "1").unwrap();
        write_whole(&folder.path().join("whole"), b"1").unwrap();
        assert_eq!(mode("whole"), mode("plain"));
    }
}
