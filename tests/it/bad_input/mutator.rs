//! Damages files: bytes, and what lies in them (numbers at their bounds, lengths, nesting, pieces of other files). Where a format frames
//! its contents (a header's length, a checksum), most changes keep the frame right, so that they get past the first check.

use serde_json::{Map, Value, json};

/// xorshift64*: the same numbers each time.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn word(&mut self) -> u64 {
        (self.below(1 << 30) as u64) << 34 ^ (self.below(1 << 30) as u64) << 10 ^ self.below(1 << 12) as u64
    }

    /// A few changes of bytes, of the kinds that break parsers.
    pub(super) fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            match self.below(11) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = b"0123456789,[]{}\":-"[self.below(18)],
                2 => {
                    let piece = *self.pick(&PIECES);
                    bytes.splice(at..at, piece.bytes());
                }
                3 => {
                    let end = (at + 1 + self.below(20)).min(bytes.len());
                    bytes.drain(at..end);
                }
                4 => {
                    let end = (at + 1 + self.below(60)).min(bytes.len());
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
                5 => bytes.truncate(at.max(1)),
                6 | 7 => self.integer(bytes, at),
                8 | 9 => self.digits(bytes, at),
                _ => {
                    let (open, close) =
                        *self.pick(&[("[", "]"), ("{\"a\":", "}"), ("(", ")"), ("not ", ""), ("-", "")]);
                    let deep = 1 << self.below(11);
                    let piece = [open.repeat(deep), close.repeat(deep * self.below(2))].concat();
                    bytes.splice(at..at, piece.into_bytes());
                }
            }
        }
    }

    /// A little-endian integer of 1 to 8 bytes, at its place as often as not: a bound, a neighbour, or the file's own length.
    fn integer(&mut self, bytes: &mut [u8], at: usize) {
        let width = 1 << self.below(4);
        let at = if self.below(2) == 0 { at } else { at / width * width };
        let Some(place) = bytes.get(at..at + width) else { return };
        let mut now = [0u8; 8];
        now[..width].copy_from_slice(place);
        let now = u64::from_le_bytes(now);
        let length = bytes.len() as u64;
        let bounds = [
            0,
            1,
            2,
            u64::MAX,
            u64::MAX >> 1,
            (u64::MAX >> 1) + 1,
            u64::from(u32::MAX),
            1 << 31,
            (1 << 31) - 1,
            1 << 32,
            1 << 16,
            0x7fff,
            0x80,
            length,
            length - at as u64,
            length + 1,
            now.wrapping_add(1),
            now.wrapping_sub(1),
            now << 1,
            now >> 1,
            now.wrapping_neg(),
            now << 8,
            1 << self.below(64),
            u64::MAX << self.below(64),
            self.word(),
        ];
        let value = *self.pick(&bounds);
        bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }

    /// A number that is written out, at or after a place: another one.
    fn digits(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let Some(begin) = (at..bytes.len()).find(|&at| bytes[at].is_ascii_digit()) else { return };
        let end = (begin..bytes.len()).find(|&at| !bytes[at].is_ascii_digit()).unwrap_or(bytes.len());
        let now: Option<u64> = std::str::from_utf8(&bytes[begin..end]).ok().and_then(|text| text.parse().ok());
        let number = match (self.below(3), now) {
            (0, Some(now)) => {
                let by = *self.pick(&[1, 2, 7, 256, 1 << 20, 1 << 33]);
                let near = [now.wrapping_add(by), now.wrapping_sub(by), now.wrapping_mul(by), now / by, now ^ by];
                self.pick(&near).to_string()
            }
            _ => (*self.pick(&NUMBERS)).to_owned(),
        };
        bytes.splice(begin..end, number.into_bytes());
    }
}

const PIECES: [&str; 30] = [
    "0",
    "-1",
    "18446744073709551615",
    "9223372036854775807",
    "1e9",
    "[",
    "]",
    "{",
    "}",
    "\"",
    ",",
    "null",
    "F64",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\r\n",
    "\n\n",
    "\0",
    "NaN",
    "{{",
    "}}",
    "{%",
    "%}",
    "true",
    "../",
    "\u{1b}[31m",
    "\u{202e}",
    "'",
    ":",
];

const NUMBERS: [&str; 30] = [
    "0",
    "-0",
    "1",
    "-1",
    "2",
    "127",
    "128",
    "255",
    "256",
    "32768",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
    "1e308",
    "1e309",
    "-1e308",
    "1e-320",
    "0.5",
    "1e3",
    "NaN",
    "Infinity",
    "1.0",
];

/// How a file frames what it holds.
enum Frame {
    /// A header of JSON behind its length, then data.
    Safetensors(Value, Vec<u8>),
    Json(Value),
    /// A document of JSON a line.
    Lines(Vec<Vec<u8>>),
    /// Stored entries, without compression.
    Zip(Vec<(String, Vec<u8>)>),
    /// The footer's length and a magic word at the end.
    Parquet(usize),
    /// Records with checksums.
    Events(Vec<Vec<u8>>),
    /// Most of what decides is at the beginning.
    Gguf,
    Bytes,
}

/// A good file, and what is known of it.
pub(super) struct Seed {
    whole: Vec<u8>,
    frame: Frame,
}

impl Seed {
    /// By the file's name.
    pub(super) fn new(name: &str, whole: Vec<u8>) -> Self {
        let frame = match name.rsplit_once('.').map_or(name, |(_, end)| end) {
            "safetensors" => parts(&whole).map(|(header, data)| Frame::Safetensors(header, data)),
            "json" | "jsonl" => serde_json::from_slice(&whole).ok().map(Frame::Json).or_else(|| lines(&whole)),
            "bin" => entries(&whole).map(Frame::Zip),
            "parquet" => Some(Frame::Parquet(footer(&whole))),
            "gguf" => Some(Frame::Gguf),
            _ if name.contains("tfevents") => Some(Frame::Events(records(&whole))),
            _ => None,
        };
        Self { whole, frame: frame.unwrap_or(Frame::Bytes) }
    }

    /// The file, damaged; `other` is a file of the same kind that pieces are taken from.
    pub(super) fn damaged(&self, other: &Self, random: &mut Random) -> Vec<u8> {
        let raw = |random: &mut Random| {
            let mut bytes = self.whole.clone();
            if random.below(4) == 0 {
                splice(&mut bytes, &other.whole, random);
            }
            random.mutate(&mut bytes);
            bytes
        };
        if random.below(4) == 0 {
            return raw(random);
        }
        match &self.frame {
            Frame::Safetensors(header, data) => {
                let mut data = data.clone();
                let text = match random.below(8) {
                    0 | 1 => {
                        random.integer(&mut data, 0);
                        let at = random.below(data.len());
                        random.integer(&mut data, at);
                        header.to_string().into_bytes()
                    }
                    2..5 => consistent(header, random).to_string().into_bytes(),
                    _ => document(header, other.document(), random),
                };
                [&(text.len() as u64).to_le_bytes()[..], &text, &data].concat()
            }
            Frame::Json(value) => document(value, other.document(), random),
            Frame::Lines(lines) => {
                let mut lines = lines.clone();
                let at = random.below(lines.len());
                match random.below(6) {
                    0 => drop(lines.remove(at)),
                    1 => lines.insert(at, lines[random.below(lines.len())].clone()),
                    2 => random.mutate(&mut lines[at]),
                    _ => {
                        if let Ok(value) = serde_json::from_slice(&lines[at]) {
                            lines[at] = document(&value, other.document(), random);
                        }
                    }
                }
                lines.join(&b'\n')
            }
            Frame::Zip(entries) => {
                let mut entries = entries.clone();
                let at = random.below(entries.len());
                match random.below(8) {
                    0 => drop(entries.remove(at)),
                    1 => entries.push((entries[at].0.clone(), entries[random.below(entries.len())].1.clone())),
                    2 => entries[at].0 = ["../x", "data.pkl", "archive/data.pkl", ""][random.below(4)].to_owned(),
                    3 => random.mutate(&mut entries[at].1),
                    _ => {
                        // The program that says what the others are.
                        let at = entries.iter().position(|(name, _)| name.ends_with("data.pkl")).unwrap_or(at);
                        random.mutate(&mut entries[at].1);
                    }
                }
                zip(&entries)
            }
            Frame::Parquet(footer) => {
                let mut bytes = self.whole.clone();
                let from = bytes.len() - 8 - footer;
                let mut part =
                    if random.below(4) == 0 { bytes[..from].to_vec() } else { bytes[from..from + footer].to_vec() };
                let within_footer = part.len() == *footer;
                random.mutate(&mut part);
                let length = if within_footer { part.len() } else { *footer } as u32;
                let behind = [&length.to_le_bytes()[..], b"PAR1"].concat();
                bytes = if within_footer {
                    [&bytes[..from], &part, &behind].concat()
                } else {
                    [&part, &bytes[from..from + footer], &behind].concat()
                };
                bytes
            }
            Frame::Events(records) => {
                let mut records = records.clone();
                let at = random.below(records.len());
                match random.below(4) {
                    0 => records.insert(at, records[random.below(records.len())].clone()),
                    1 => drop(records.remove(at)),
                    _ => random.mutate(&mut records[at]),
                }
                records.iter().flat_map(|record| framed(record)).collect()
            }
            Frame::Gguf => {
                let mut bytes = self.whole.clone();
                let head = (bytes.len() / 3).min(2048);
                for _ in 0..=random.below(3) {
                    let at = random.below(head);
                    random.integer(&mut bytes, at);
                }
                bytes
            }
            Frame::Bytes => {
                if random.below(2) == 0 {
                    return raw(random);
                }
                tokens(&self.whole, &other.whole, random)
            }
        }
    }

    fn document(&self) -> &Value {
        match &self.frame {
            Frame::Safetensors(value, _) | Frame::Json(value) => value,
            _ => &Value::Null,
        }
    }
}

/// A header that is as sound as before: names, types and shapes are others.
fn consistent(header: &Value, random: &mut Random) -> Value {
    let Value::Object(mut all) = header.clone() else { return header.clone() };
    let names: Vec<String> = all.keys().filter(|name| *name != "__metadata__").cloned().collect();
    for _ in 0..=random.below(3) {
        let Some(name) = names.get(random.below(names.len())) else { break };
        let Some(mut tensor) = all.remove(name) else { continue };
        let mut to = name.clone();
        match random.below(5) {
            0 => {
                // A part of another name in the place of one of its own.
                let other = random.pick(&names);
                let part = *random.pick(&other.split('.').collect::<Vec<_>>());
                let mut parts: Vec<&str> = name.split('.').collect();
                let at = random.below(parts.len());
                parts[at] = part;
                to = parts.join(".");
            }
            1 => {
                let at = random.below(to.len());
                to = to.chars().enumerate().filter(|(place, _)| *place != at).map(|(_, c)| c).collect();
            }
            2 => {
                let alike: &[&str] = match tensor["dtype"].as_str().unwrap_or_default() {
                    "F32" | "I32" | "U32" => &["F32", "I32", "U32"],
                    "F16" | "BF16" | "I16" | "U16" => &["F16", "BF16", "I16", "U16"],
                    _ => &["U8", "I8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"],
                };
                tensor["dtype"] = json!(*random.pick(alike));
            }
            _ => {
                let shape: Vec<u64> =
                    tensor["shape"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
                let product: u64 = shape.iter().product();
                let mut other = shape.clone();
                match random.below(4) {
                    0 => other.reverse(),
                    1 => other = vec![product],
                    2 => other.insert(random.below(other.len() + 1), 1),
                    _ => {
                        let by = *random.pick(&[2, 4, 3, 16]);
                        other = vec![product / by, by];
                    }
                }
                if other.iter().product::<u64>() == product {
                    tensor["shape"] = json!(other);
                }
            }
        }
        all.insert(to, tensor);
    }
    Value::Object(all)
}

fn splice(bytes: &mut Vec<u8>, from: &[u8], random: &mut Random) {
    let (begin, at) = (random.below(from.len()), random.below(bytes.len()));
    let piece = &from[begin..(begin + 1 + random.below(200)).min(from.len())];
    let end = (at + random.below(2) * piece.len()).min(bytes.len());
    bytes.splice(at..end, piece.iter().copied());
}

/// A text with words, signs and lines exchanged, doubled and left out.
fn tokens(text: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let split = |text: &[u8]| -> Vec<Vec<u8>> {
        let kind = |byte: u8| if byte.is_ascii_alphanumeric() || byte == b'_' { 0 } else { byte };
        text.chunk_by(|&a, &b| kind(a) == kind(b)).map(<[u8]>::to_vec).collect()
    };
    let (mut all, others) = (split(text), split(other));
    for _ in 0..=random.below(6) {
        if all.is_empty() {
            break;
        }
        let (at, by) = (random.below(all.len()), random.below(all.len()));
        match random.below(7) {
            0 => all.swap(at, by),
            1 => drop(all.remove(at)),
            2 => all.insert(at, all[by].clone()),
            3 => all[at] = random.pick(&others).clone(),
            4 => all[at] = NUMBERS[random.below(NUMBERS.len())].as_bytes().to_vec(),
            5 => {
                let end = (at + 1 + random.below(40)).min(all.len());
                let piece = all[at..end].to_vec();
                let times = 1 + random.below(3);
                all.splice(at..at, std::iter::repeat_n(piece, times).flatten());
            }
            _ => drop(all.drain(at..(at + 1 + random.below(30)).min(all.len()))),
        }
    }
    all.concat()
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(all) => all.iter().map(count).sum(),
        Value::Object(all) => all.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// The value at a place, counted from the root on.
fn node<'a>(value: &'a mut Value, at: &mut usize) -> Option<&'a mut Value> {
    if *at == 0 {
        return Some(value);
    }
    *at -= 1;
    match value {
        Value::Array(all) => all.iter_mut().find_map(|value| node(value, at)),
        Value::Object(all) => all.values_mut().find_map(|value| node(value, at)),
        _ => None,
    }
}

fn at_random(value: &Value, random: &mut Random) -> Value {
    let mut copy = value.clone();
    let mut at = random.below(count(value));
    node(&mut copy, &mut at).cloned().unwrap_or_default()
}

/// A document with a few values exchanged, keys renamed, left out or doubled.
fn document(value: &Value, other: &Value, random: &mut Random) -> Vec<u8> {
    let mut value = value.clone();
    for _ in 0..=random.below(3) {
        let mut at = random.below(count(&value));
        let odd = match random.below(6) {
            0 => at_random(&value, random),
            1 => at_random(other, random),
            _ => odd(random),
        };
        let Some(found) = node(&mut value, &mut at) else { continue };
        match (random.below(4), found) {
            (0, Value::Object(all)) if !all.is_empty() => {
                let key = all.keys().nth(random.below(all.len())).cloned().unwrap_or_default();
                let gone = all.remove(&key);
                if random.below(2) == 0 {
                    let name = odd.as_str().map_or_else(|| format!("{key}x"), str::to_owned);
                    all.insert(name, gone.unwrap_or_default());
                }
            }
            (0, Value::Array(all)) if !all.is_empty() => match random.below(3) {
                0 => drop(all.remove(random.below(all.len()))),
                1 => all.push(odd),
                _ => all.push(all[random.below(all.len())].clone()),
            },
            (1, Value::Number(number)) => {
                let now = number.as_i64().unwrap_or(1);
                let near = [
                    now.wrapping_add(1),
                    now.wrapping_sub(1),
                    now.wrapping_mul(2),
                    now / 2,
                    now.wrapping_neg(),
                    now.wrapping_mul(1 << 32),
                ];
                *number = (*random.pick(&near)).into();
            }
            (1, Value::String(text)) => match random.below(3) {
                0 => text.push_str(PIECES[random.below(PIECES.len())]),
                1 => *text = text.repeat(1 + random.below(300)),
                _ => *text = text.chars().skip(1).collect(),
            },
            (_, found) => *found = odd,
        }
    }
    let mut text = value.to_string().into_bytes();
    if random.below(8) == 0 {
        let at = random.below(text.len());
        random.digits(&mut text, at);
    }
    text
}

fn odd(random: &mut Random) -> Value {
    match random.below(16) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(""),
        3 => json!([]),
        4 => json!({}),
        5 => json!("a\0b\u{1b}[2J\n"),
        6 => json!("x".repeat(1 << random.below(12))),
        7 => (0..1 << random.below(7)).fold(json!(1), |value, _| json!([value])),
        8 => (0..1 << random.below(7))
            .fold(json!(1), |value, _| Value::Object(Map::from_iter([("a".to_owned(), value)]))),
        9 => json!(*random.pick(&[1e308, -1e308, 1e-308, 0.5, -0.0, 1e19, 3.5e38])),
        10 => json!(*random.pick(&[-1i64, i64::MIN, -2])),
        11 => json!(vec![1u8; random.below(70)]),
        12 => json!(*random.pick(&[
            "../../etc/passwd",
            "(a|b|ab)*c",
            "\\p{L}{200}",
            "(?i)x{1,1000}",
            "all-linear",
            "float8_e4m3fn",
            "F64"
        ])),
        _ => json!(*random.pick(&[
            0u64,
            1,
            2,
            3,
            7,
            8,
            31,
            64,
            255,
            65_536,
            1 << 31,
            1 << 32,
            1 << 40,
            1 << 53,
            1 << 63,
            u64::MAX
        ])),
    }
}

fn parts(whole: &[u8]) -> Option<(Value, Vec<u8>)> {
    let (length, rest) = whole.split_first_chunk::<8>()?;
    let (header, data) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
    Some((serde_json::from_slice(header).ok()?, data.to_vec()))
}

fn lines(whole: &[u8]) -> Option<Frame> {
    Some(Frame::Lines(whole.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect()))
}

fn entries(whole: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(whole)).ok()?;
    let count = archive.len();
    let read = |at: usize| {
        let mut entry = archive.by_index(at).ok()?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).ok()?;
        Some((entry.name().ok()?.into_owned(), bytes))
    };
    (0..count).map(read).collect()
}

fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in entries {
        // Of two entries with one name the writer takes the first.
        if out.start_file(name, options).is_ok() {
            std::io::Write::write_all(&mut out, bytes).unwrap();
        }
    }
    out.finish().unwrap().into_inner()
}

fn footer(whole: &[u8]) -> usize {
    let at = whole.len() - 8;
    u32::from_le_bytes(whole[at..at + 4].try_into().unwrap()) as usize
}

fn records(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<8>() {
        let length = u64::from_le_bytes(*length) as usize;
        all.push(behind[4..4 + length].to_vec());
        rest = &behind[4 + length + 4..];
    }
    all
}

fn framed(record: &[u8]) -> Vec<u8> {
    let length = (record.len() as u64).to_le_bytes();
    [&length[..], &masked(&length).to_le_bytes(), record, &masked(record).to_le_bytes()].concat()
}

/// CRC-32C as TFRecord keeps it.
fn masked(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _: u32| (crc >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1));
    let crc = bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step));
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A frame that is kept right gets to what it holds.
#[test]
fn frames_stay_right() {
    let event = framed(b"\x09\0\0\0\0\0\0\0\0");
    assert_eq!(records(&event), [b"\x09\0\0\0\0\0\0\0\0".to_vec()]);
    let entries_in = vec![("archive/data.pkl".to_owned(), vec![0x80, 2]), ("archive/data/0".to_owned(), vec![0; 9])];
    assert_eq!(entries(&zip(&entries_in)).unwrap(), entries_in);
    let (header, data) = parts(&crate::support::file("{\"a\": 1}", &[7])).unwrap();
    assert_eq!((header, data), (json!({"a": 1}), vec![7]));
    let value = json!({"a": [1, {"b": 2}], "c": "d"});
    assert_eq!(count(&value), 6);
    assert_eq!(node(&mut value.clone(), &mut 4).cloned(), Some(json!(2)));
}
