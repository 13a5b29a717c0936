//! Fetching from the hub, against a small server.

use rankscope::checkpoint::Checkpoint;
use rankscope::checkpoint::hub::{Ask, get};
use rankscope::error::{Error, Result};
use rankscope::progress::Progress;
use serde_json::json;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What was asked for: path and range.
type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// A hub with one repository; every request is kept.
struct Hub {
    address: String,
    asked: Asked,
}

/// What a hub does with a request for a file: how many bytes it gives before it breaks off.
type Limit = Arc<Mutex<Option<usize>>>;

fn hub(files: Vec<(&'static str, Vec<u8>, serde_json::Value)>, limit: Limit) -> Hub {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked: Asked = Arc::default();
    let list: Vec<serde_json::Value> = files
        .iter()
        .map(|(name, _, about)| {
            let mut one = about.clone();
            one["rfilename"] = json!(name);
            one
        })
        .collect();
    let answer = json!({"sha": COMMIT, "siblings": list}).to_string().into_bytes();
    let contents: HashMap<String, Vec<u8>> =
        files.into_iter().map(|(name, bytes, _)| (format!("/org/tiny/resolve/{COMMIT}/{name}"), bytes)).collect();
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            if reader.read_line(&mut line).is_err() {
                continue;
            }
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut range = None;
            loop {
                let mut header = String::new();
                if reader.read_line(&mut header).is_err() || header.trim().is_empty() {
                    break;
                }
                if let Some((name, value)) = header.split_once(':')
                    && name.eq_ignore_ascii_case("range")
                {
                    range = Some(value.trim().to_owned());
                }
            }
            log.lock().unwrap().push((path.clone(), range.clone()));
            let (status, body) = if path.starts_with("/api/models/org/tiny/revision/main") {
                ("200 OK", answer.clone())
            } else if path.starts_with("/api/models/org/gated") {
                ("403 Forbidden", Vec::new())
            } else if let Some(bytes) = contents.get(&path) {
                let first =
                    range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
                let rest = bytes[first.unwrap_or(0usize).min(bytes.len())..].to_vec();
                (if first.is_some() { "206 Partial Content" } else { "200 OK" }, rest)
            } else {
                ("404 Not Found", Vec::new())
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let whole = limit.lock().unwrap().filter(|_| path.contains("/resolve/") && path.ends_with(".safetensors"));
            let given = whole.map_or(body.len(), |most| most.min(body.len()));
            let _ = stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(&body[..given]))
                .and_then(|()| stream.flush());
        }
    });
    Hub { address, asked }
}

/// Git's hash of `{}`: `printf '{}' | git hash-object --stdin`; and SHA-256 of the weights, by Python's hashlib.
const EMPTY: &str = "9e26dfeeb6e641a33dae4961196235bdb965b21b";

fn weights() -> Vec<u8> {
    crate::support::tensors(&[crate::support::f32s("model.norm.weight", &[64], &[1.0; 64])])
}

fn files() -> Vec<(&'static str, Vec<u8>, serde_json::Value)> {
    let bytes = weights();
    let (size, sha256) = (bytes.len(), "SHA");
    let sha256 = if sha256 == "SHA" { sha256_of(&bytes) } else { sha256.to_owned() };
    vec![
        ("config.json", b"{}".to_vec(), json!({"size": 2, "blobId": EMPTY})),
        ("model.safetensors", bytes, json!({"size": size, "blobId": "x", "lfs": {"sha256": sha256, "size": size}})),
        ("pytorch_model.bin", vec![0; 9], json!({"size": 9, "blobId": EMPTY})),
        ("pictures/cat.png", vec![0; 9], json!({"size": 9, "blobId": EMPTY})),
        ("../outside.json", vec![0; 9], json!({"size": 9, "blobId": EMPTY})),
    ]
}

/// By the system's own tool: an independent reference.
fn sha256_of(bytes: &[u8]) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let out = std::process::Command::new("sha256sum").arg(file.path()).output().unwrap();
    String::from_utf8(out.stdout).unwrap()[..64].to_owned()
}

#[test]
fn a_repository_lies_in_the_cache_as_other_tools_keep_it() {
    let (hub, cache) = (hub(files(), Limit::default()), tempfile::tempdir().unwrap());
    let ask = Ask {
        repository: "org/tiny".into(),
        endpoint: Some(hub.address.clone()),
        cache: Some(cache.path().into()),
        ..Ask::default()
    };
    let got = get(&ask, &()).unwrap();
    let folder = cache.path().join("models--org--tiny");
    assert_eq!(got.path, folder.join("snapshots").join(COMMIT));
    assert_eq!((got.files, got.fetched), (2, got.bytes));
    assert_eq!(std::fs::read_to_string(folder.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(std::fs::read_to_string(folder.join("blobs").join(EMPTY)).unwrap(), "{}");
    assert_eq!(std::fs::read(got.path.join("model.safetensors")).unwrap(), weights());
    assert!(std::fs::symlink_metadata(got.path.join("config.json")).unwrap().is_symlink());
    // By the top of the cache folder, as every command takes it.
    assert_eq!(Checkpoint::open(&folder).unwrap().name(), "org/tiny");
    let asked = hub.asked.lock().unwrap().len();
    assert_eq!(get(&ask, &()).unwrap().fetched, 0, "it is there");
    assert_eq!(hub.asked.lock().unwrap().len(), asked + 1, "nothing but the list is asked for again");
}

/// Cancels once so many bytes have come.
struct Until(AtomicU64);

impl Progress for Until {
    fn stage(&self, _: &str) {}

    fn step(&self, done: u64, _: u64) -> Result<()> {
        if done > self.0.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

#[test]
fn what_was_broken_off_goes_on_where_it_stopped() {
    let limit = Limit::default();
    let (hub, cache) = (hub(files(), Arc::clone(&limit)), tempfile::tempdir().unwrap());
    let ask = Ask {
        repository: "org/tiny".into(),
        endpoint: Some(hub.address.clone()),
        cache: Some(cache.path().into()),
        ..Ask::default()
    };
    // Each answer breaks off after 100 bytes, and a person cancels once 150 of both files have come.
    *limit.lock().unwrap() = Some(100);
    assert!(get(&ask, &Until(AtomicU64::new(150))).unwrap_err().is_cancelled());
    *limit.lock().unwrap() = None;
    let got = get(&ask, &()).unwrap();
    assert_eq!(std::fs::read(got.path.join("model.safetensors")).unwrap(), weights());
    assert!(got.fetched < weights().len() as u64, "{}", got.fetched);
    let ranges: Vec<String> = hub
        .asked
        .lock()
        .unwrap()
        .iter()
        .filter(|(path, _)| path.ends_with("model.safetensors"))
        .filter_map(|(_, range)| range.clone())
        .collect();
    assert!(
        ranges[0].starts_with("bytes=0-") && ranges.iter().any(|range| !range.starts_with("bytes=0-")),
        "{ranges:?}"
    );
    assert!(
        !cache.path().join("models--org--tiny/blobs").read_dir().unwrap().any(|file| file
            .unwrap()
            .path()
            .extension()
            .is_some())
    );
}

#[test]
fn what_is_not_what_the_hub_says_is_refused() {
    let mut files = files();
    files[1].1[100] ^= 1;
    let (hub, cache) = (hub(files, Limit::default()), tempfile::tempdir().unwrap());
    let ask = |repository: &str| Ask {
        repository: repository.into(),
        endpoint: Some(hub.address.clone()),
        cache: Some(cache.path().into()),
        ..Ask::default()
    };
    let error = get(&ask("org/tiny"), &()).unwrap_err().to_string();
    assert!(error.contains("model.safetensors has the hash") && error.contains("expected"), "{error}");
    assert!(!cache.path().join(format!("models--org--tiny/snapshots/{COMMIT}/model.safetensors")).exists());
    let error = get(&ask("org/gated"), &()).unwrap_err();
    assert!(error.to_string().contains("private, gated or not there") && error.status() == 2, "{error}");
    assert!(get(&ask("org/none"), &()).unwrap_err().to_string().contains("no such repository"));
    let nowhere = Ask { endpoint: Some("http://127.0.0.1:9".into()), ..ask("org/tiny") };
    let error = get(&nowhere, &()).unwrap_err();
    assert!(
        error.to_string().contains("without a network only what is in the cache opens") && error.status() == 1,
        "{error}"
    );
}
