//! TensorBoard's event files: scalars are read as a run adds them, and written.
//!
//! ```text
//! record   u64 length · u32 crc of the length · bytes · u32 crc of the bytes         (TFRecord, little-endian)
//! bytes    Event { 1: wall_time f64, 2: step, 3: file_version, 5: Summary { 1: Value { 1: tag, 2: f32 | 8: Tensor } }, 7: SessionLog }
//! ```
//!
//! The checksums are CRC-32C, rotated and offset (tensorflow/core/lib/hash/crc32c.h); the messages protobuf's (event.proto,
//! summary.proto, tensor.proto of TensorBoard 2.21). Of a record that is being written the reader waits for the rest.

use crate::error::{Error, Result};
use crate::guard;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A file of events has this in its name.
pub const MARK: &str = "tfevents";
/// A record of scalars is smaller; longer ones hold pictures and are passed over.
const LONGEST: u64 = 1 << 20;
/// Length and its checksum before a record, the record's behind it.
const BEFORE: u64 = 12;
const BEHIND: u64 = 4;

/// A value of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// What it is of, such as `train/loss`.
    pub tag: String,
    /// Its step.
    pub step: i64,
    /// Seconds since 1970.
    pub wall: f64,
    /// The value.
    pub value: f64,
}

/// CRC-32C (Castagnoli, reflected 0x82F63B78), rotated by 15 and offset as TFRecord keeps it.
fn masked(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1));
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// How far a file was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Far {
    /// Bytes that were read.
    pub at: u64,
    /// Bytes behind them that are no whole record: it is being written, or the file was cut.
    pub left: u64,
}

/// Hands over the scalars of the whole records of a file from byte `at` on.
///
/// # Errors
/// When the file cannot be read, and where a record's checksum is wrong though there is more behind it.
pub fn read(path: &Path, at: u64, take: &mut dyn FnMut(Scalar)) -> Result<Far> {
    let file = guard::regular(path)?;
    let failed = |error: &std::io::Error| Error::read(path, "read", error);
    let size = file.metadata().map_err(|error| failed(&error))?.len();
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(at)).map_err(|error| failed(&error))?;
    let mut at = at;
    while size.saturating_sub(at) >= BEFORE {
        let mut before = [0u8; BEFORE as usize];
        reader.read_exact(&mut before).map_err(|error| failed(&error))?;
        let [a, b, c, d, e, f, g, h, crc @ ..] = before;
        let (length, crc) = (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u32::from_le_bytes(crc));
        let wrong = |what: &str| {
            Error::file(
                path,
                format!(
                    "found a wrong checksum of the {what} of the record at byte {at}: the file is damaged from there on"
                ),
            )
        };
        if masked(&before[..8]) != crc {
            return Err(wrong("length"));
        }
        let rest = size - at - BEFORE;
        if length > rest || rest - length < BEHIND {
            break;
        }
        if length > LONGEST {
            reader.seek_relative((length + BEHIND) as i64).map_err(|error| failed(&error))?;
        } else {
            let mut bytes = vec![0u8; length as usize];
            let mut behind = [0u8; BEHIND as usize];
            reader
                .read_exact(&mut bytes)
                .and_then(|()| reader.read_exact(&mut behind))
                .map_err(|error| failed(&error))?;
            if masked(&bytes) != u32::from_le_bytes(behind) {
                // The last one may be on its way to the disk.
                if rest == length + BEHIND {
                    break;
                }
                return Err(wrong("bytes"));
            }
            event(&bytes, take);
        }
        at += BEFORE + length + BEHIND;
    }
    Ok(Far { at, left: size.saturating_sub(at) })
}

/// A field of a message.
enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// Takes the first bytes off.
fn split<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (first, behind) = rest.split_at_checked(count)?;
    *rest = behind;
    Some(first)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *split(rest, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Hands over the fields of a message; what comes after one that cannot be read is left.
fn fields<'a>(mut rest: &'a [u8], take: &mut dyn FnMut(u64, Field<'a>)) {
    let mut next = || -> Option<(u64, Field<'a>)> {
        let key = varint(&mut rest)?;
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut rest)?),
            1 => Field::Fixed64(u64::from_le_bytes(split(&mut rest, 8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                Field::Bytes(split(&mut rest, length)?)
            }
            5 => Field::Fixed32(u32::from_le_bytes(split(&mut rest, 4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((key >> 3, field))
    };
    while let Some((number, field)) = next() {
        take(number, field);
    }
}

fn event(bytes: &[u8], take: &mut dyn FnMut(Scalar)) {
    let (mut wall, mut step, mut values) = (0.0, 0, Vec::new());
    fields(bytes, &mut |number, field| match (number, field) {
        (1, Field::Fixed64(bits)) => wall = f64::from_bits(bits),
        (2, Field::Varint(value)) => step = value as i64,
        (5, Field::Bytes(summary)) => fields(summary, &mut |number, field| {
            if let (1, Field::Bytes(value)) = (number, field) {
                values.push(value);
            }
        }),
        _ => {}
    });
    for value in values {
        let (mut tag, mut found) = (String::new(), None);
        fields(value, &mut |number, field| match (number, field) {
            (1, Field::Bytes(text)) => tag = String::from_utf8_lossy(text).into_owned(),
            (2, Field::Fixed32(bits)) => found = Some(f64::from(f32::from_bits(bits))),
            (8, Field::Bytes(tensor)) => found = number_of(tensor).or(found),
            _ => {}
        });
        if let Some(value) = found {
            take(Scalar { tag, step, wall, value });
        }
    }
}

/// The value of a tensor that holds one number.
fn number_of(tensor: &[u8]) -> Option<f64> {
    let (mut dtype, mut found) = (0, None);
    let of = |bytes: &[u8], wide: bool| match (bytes.len(), wide) {
        (4, false) => Some(f64::from(f32::from_le_bytes(bytes.try_into().ok()?))),
        (8, true) => Some(f64::from_le_bytes(bytes.try_into().ok()?)),
        _ => None,
    };
    fields(tensor, &mut |number, field| match (number, field) {
        (1, Field::Varint(value)) => dtype = value,
        // DT_FLOAT is 1, DT_DOUBLE is 2.
        (4, Field::Bytes(bytes)) => found = of(bytes, dtype == 2).filter(|_| matches!(dtype, 1 | 2)),
        (5, Field::Bytes(bytes)) => found = of(bytes, false),
        (5, Field::Fixed32(bits)) => found = Some(f64::from(f32::from_bits(bits))),
        (6, Field::Bytes(bytes)) => found = of(bytes, true),
        (6, Field::Fixed64(bits)) => found = Some(f64::from_bits(bits)),
        _ => {}
    });
    found
}

/// A file of events that grows.
pub struct Writer {
    path: PathBuf,
    file: File,
}

impl Writer {
    /// A new file in a folder. Where a run goes on after `done` steps, what an older file says about later ones counts no more.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(folder: &Path, done: usize) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let path = folder.join(format!("events.out.{MARK}.{}.rankscope.{}.0", now.as_secs(), now.subsec_nanos()));
        let file = OpenOptions::new().create_new(true).append(true).open(&path);
        let mut writer = Self { file: file.map_err(|error| Error::write(&path, &error))?, path };
        writer.event(0, |event| bytes(event, 3, b"brain.Event:2"))?;
        if done > 0 {
            // SessionLog { status: START }: TensorBoard drops the steps from this one on.
            writer.event(done + 1, |event| bytes(event, 7, &[0x08, 0x01]))?;
        }
        Ok(writer)
    }

    /// Adds values of a step.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn scalars(&mut self, step: usize, values: &[(&str, f64)]) -> Result<()> {
        self.event(step, |event| {
            let mut summary = Vec::new();
            for (tag, value) in values {
                let mut one = Vec::new();
                bytes(&mut one, 1, tag.as_bytes());
                one.push(2 << 3 | 5);
                one.extend((*value as f32).to_le_bytes());
                bytes(&mut summary, 1, &one);
            }
            bytes(event, 5, &summary);
        })
    }

    fn event(&mut self, step: usize, fill: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut event = vec![1 << 3 | 1];
        event.extend(now.as_secs_f64().to_le_bytes());
        event.push(2 << 3);
        put(&mut event, step as u64);
        fill(&mut event);
        let length = (event.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked(&length).to_le_bytes());
        record.extend(&event);
        record.extend(masked(&event).to_le_bytes());
        // In one piece: a reader sees all of it or waits.
        self.file.write_all(&record).map_err(|error| Error::write(&self.path, &error))
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    put(out, bytes.len() as u64);
    out.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_tensorflows() {
        // crc32c of 32 zero bytes is 0x8a9136aa (RFC 3720, B.4); masked as tensorflow/core/lib/hash/crc32c.h does.
        let crc = 0x8a91_36aau32;
        assert_eq!(masked(&[0; 32]), crc.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    #[test]
    fn what_is_written_is_read_also_half_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(folder.path(), 0).unwrap();
        writer.scalars(1, &[("train/loss", 2.5), ("train/lr", 1e-4)]).unwrap();
        let whole = std::fs::metadata(&writer.path).unwrap().len();
        writer.scalars(300, &[("train/loss", 2.25)]).unwrap();
        let all = |path: &Path, at| {
            let mut found = Vec::new();
            let far = read(path, at, &mut |scalar| found.push((scalar.tag, scalar.step, scalar.value)));
            far.map(|far| (far, found))
        };
        let (far, found) = all(&writer.path, 0).unwrap();
        assert_eq!((far.left, found.len()), (0, 3));
        assert_eq!(found[2], ("train/loss".to_owned(), 300, 2.25));
        assert_eq!(found[1].2, f64::from(1e-4f32));
        let bytes = std::fs::read(&writer.path).unwrap();
        for cut in [whole as usize + 5, bytes.len() - 1] {
            let path = folder.path().join("cut");
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let (half, found) = all(&path, 0).unwrap();
            assert_eq!((half.at, half.left, found.len()), (whole, cut as u64 - whole, 2));
            // The rest has come.
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(all(&path, half.at).unwrap().1.len(), 1);
        }
        let mut damaged = bytes;
        damaged[14] ^= 1;
        let path = folder.path().join("damaged");
        std::fs::write(&path, damaged).unwrap();
        assert!(all(&path, 0).unwrap_err().to_string().contains("wrong checksum"));
    }
}
