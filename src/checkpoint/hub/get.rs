//! [`get`]: a repository of the hub, into the hub's own cache, as `huggingface_hub` lays it out.
//!
//! ```text
//! models--owner--name/ blobs/<hash>            the files, by their content
//!                      blobs/<hash>.incomplete  what has come of one so far
//!                      snapshots/<commit>/<file> -> ../../blobs/<hash>
//!                      refs/<revision>          the commit
//! ```
//!
//! Only weights, config and tokenizer are fetched. Every file is checked by the hash that the hub states for it (SHA-256 of large files,
//! git's SHA-1 of others) before it gets its name. What was broken off goes on where it stopped.

use super::root;
use crate::checkpoint::BESIDE;
use crate::error::{Error, Result};
use crate::guard;
use crate::progress::Progress;
use serde_json::Value;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use ureq::Agent;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// `owner/name`.
    pub repository: String,
    /// A branch, tag or commit; `main` when empty.
    pub revision: Option<String>,
    /// Where the hub is; otherwise `HF_ENDPOINT`, or huggingface.co.
    pub endpoint: Option<String>,
    /// The cache; otherwise the hub's own.
    pub cache: Option<PathBuf>,
    /// Of a repository with several GGUF files: the one that is meant, or a part of its name.
    pub file: Option<String>,
}

impl Ask {
    /// From `owner/name`, with `:part-of-a-gguf-name` and `@revision` behind it, or the repository's page; `None` for what is no
    /// repository's name.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text =
            ["https://huggingface.co/", "hf.co/"].iter().find_map(|begin| text.strip_prefix(begin)).unwrap_or(text);
        let (text, revision) = text.split_once('@').map_or((text, None), |(text, revision)| (text, Some(revision)));
        let (text, file) = text.split_once(':').map_or((text, None), |(text, file)| (text, Some(file)));
        let repository = text.trim_end_matches('/');
        let owned = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let (owner, name) = repository.split_once('/')?;
        let sound = is_name(owner) && is_name(name);
        sound.then(|| Self {
            repository: repository.to_owned(),
            revision: owned(revision),
            file: owned(file),
            ..Self::default()
        })
    }
}

/// Whether this can be the name of an owner or a repository.
fn is_name(part: &str) -> bool {
    !part.is_empty() && !part.starts_with('.') && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// What is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// The folder to open; of a GGUF repository the file.
    pub path: PathBuf,
    /// The commit.
    pub commit: String,
    /// Files of the snapshot.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that had to be fetched.
    pub fetched: u64,
}

/// One file of the repository.
struct Remote {
    name: String,
    size: u64,
    /// SHA-256 of a large file, else git's hash of its content.
    hash: String,
    large: bool,
}

/// Largest file of a repository: the hub itself takes no more than 50 GB.
const LARGEST: u64 = 1 << 44;
/// Longest answer about a repository.
const MOST_ANSWER: u64 = 64 << 20;
/// Bytes that are asked for at once: what a cancellation waits for at most is a part of it.
const PIECE: u64 = 32 << 20;
/// Tries of one piece.
const TRIES: u32 = 4;

/// What says how the weights are to be read; a model's other files are [`BESIDE`].
const CONFIGS: [&str; 4] = ["config.json", "adapter_config.json", "quantize_config.json", "quant_config.json"];

struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

/// Fetches a repository. Progress counts bytes.
///
/// # Errors
/// Without a network, for a repository that is not there or needs a token, a file whose hash is another, and where the cache cannot
/// be written; and cancellation, after which the next call goes on.
pub fn get(ask: &Ask, progress: &dyn Progress) -> Result<Got> {
    let parts: Vec<&str> = ask.repository.split('/').collect();
    if parts.len() > 2 || !parts.iter().all(|part| is_name(part)) {
        return Err(Error::usage(format!("found {:?}, expected a repository as owner/name", ask.repository)));
    }
    let revision = ask.revision.as_deref().unwrap_or("main");
    let sound = !revision.is_empty() && revision.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    if !sound || revision.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        return Err(Error::usage(format!("found revision {revision:?}, expected a branch, tag or commit")));
    }
    let cache = ask
        .cache
        .clone()
        .or_else(root)
        .ok_or_else(|| Error::failure("there is no home folder to keep the cache in"))?;
    let folder = cache.join(format!("models--{}", ask.repository.replace('/', "--")));
    if std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false" | "no")) {
        return offline(&folder, revision, ask);
    }
    let client = Client::new(ask.endpoint.clone());
    let (commit, files) = client.list(&ask.repository, revision)?;
    let files = chosen(files, ask)?;
    let snapshot = folder.join("snapshots").join(&commit);
    let total: u64 = files.iter().map(|file| file.size).sum();
    let (mut done, mut fetched) = (0u64, 0u64);
    for file in &files {
        progress.stage(&file.name);
        let blob = folder.join("blobs").join(&file.hash);
        if blob.metadata().map(|about| about.len()).ok() != Some(file.size) {
            let url = format!("{}/{}/resolve/{commit}/{}", client.endpoint, ask.repository, encoded(&file.name));
            let step = |bytes: u64| progress.step(done + bytes, total.max(1));
            fetched += client.fetch(&url, file, &blob, &step)?;
        }
        link(&blob, &snapshot.join(&file.name))?;
        done += file.size;
        progress.step(done, total.max(1))?;
    }
    let reference = folder.join("refs").join(revision);
    if revision != commit {
        crate::checkpoint::write::write_whole(&reference, commit.as_bytes())?;
    }
    let gguf = files
        .iter()
        .find(|file| file.name.ends_with(".gguf"))
        .filter(|_| !files.iter().any(|file| file.name.ends_with(".safetensors")));
    let path = gguf.map_or_else(|| snapshot.clone(), |file| snapshot.join(&file.name));
    Ok(Got { path, commit, files: files.len(), bytes: total, fetched })
}

/// What the cache has.
fn offline(folder: &Path, revision: &str, ask: &Ask) -> Result<Got> {
    let missing = || {
        let message =
            format!("{} is not in the cache, and HF_HUB_OFFLINE says that nothing may be fetched", ask.repository);
        Error::file(folder, message)
    };
    let commit = guard::text(&folder.join("refs").join(revision), 1 << 10)
        .map_or_else(|_| revision.to_owned(), |text| text.trim().to_owned());
    let path = folder.join("snapshots").join(&commit);
    let files = std::fs::read_dir(&path).map_err(|_| missing())?;
    let sizes: Vec<u64> = files.filter_map(|file| file.ok()?.path().metadata().ok().map(|about| about.len())).collect();
    Ok(Got { path, commit, files: sizes.len(), bytes: sizes.iter().sum(), fetched: 0 })
}

/// The commit and the files, with their sizes, that [`get`] would fetch by a hub's answer about a repository.
///
/// # Errors
/// An answer that is none, and a repository without weights that open here, or with several to choose from.
pub fn offered(answer: &[u8], ask: &Ask) -> Result<(String, Vec<(String, u64)>)> {
    let (commit, files) = repository_files(answer).map_err(Error::failure)?;
    Ok((commit, chosen(files, ask)?.into_iter().map(|file| (file.name, file.size)).collect()))
}

/// The commit of an answer about a repository, and its files.
fn repository_files(answer: &[u8]) -> std::result::Result<(String, Vec<Remote>), String> {
    let answer: Value = serde_json::from_slice(answer).map_err(|error| format!("the answer is no JSON: {error}"))?;
    let commit = answer["sha"].as_str().filter(|sha| is_hash(sha)).ok_or("found no commit")?;
    let mut files = Vec::new();
    for one in answer["siblings"].as_array().into_iter().flatten() {
        let Some(name) = one["rfilename"].as_str().filter(|name| inside(name)) else { continue };
        let large = one["lfs"].is_object();
        let hash = if large { &one["lfs"]["sha256"] } else { &one["blobId"] };
        let size = one["lfs"]["size"].as_u64().or_else(|| one["size"].as_u64());
        // What states no hash cannot be checked, and is left; so is a size that no file has.
        let (hash, size) = (hash.as_str().filter(|hash| is_hash(hash)), size.filter(|size| *size <= LARGEST));
        let (Some(hash), Some(size)) = (hash, size) else { continue };
        files.push(Remote { name: name.to_owned(), size, hash: hash.to_owned(), large });
    }
    Ok((commit.to_owned(), files))
}

/// The files that open here: weights of one format, and what belongs to them.
fn chosen(all: Vec<Remote>, ask: &Ask) -> Result<Vec<Remote>> {
    let top = |file: &Remote| !file.name.contains('/');
    let ends = |file: &Remote, end: &str| top(file) && file.name.ends_with(end);
    let ggufs: Vec<&str> =
        all.iter().filter(|file| file.name.ends_with(".gguf")).map(|file| file.name.as_str()).collect();
    let meant = |name: &str| {
        ask.file.as_deref().is_none_or(|part| name.to_ascii_lowercase().contains(&part.to_ascii_lowercase()))
    };
    let safetensors = all.iter().any(|file| ends(file, ".safetensors"));
    let pickles = |file: &Remote| {
        ["pytorch_model", "adapter_model"].iter().any(|begin| file.name.starts_with(begin))
            && (ends(file, ".bin") || ends(file, ".bin.index.json"))
    };
    let any_pickle = all.iter().any(pickles);
    let by_gguf = ask.file.is_some() && ggufs.iter().any(|name| meant(name)) || (!safetensors && !any_pickle);
    if by_gguf {
        let some: Vec<&str> = ggufs.iter().copied().filter(|name| meant(name)).collect();
        // Parts of one split file count once.
        let series = |name: &str| name.split("-000").next().unwrap_or(name).to_owned();
        let first = some.first().map(|name| series(name));
        if some.is_empty() {
            let what = if ggufs.is_empty() {
                "no weights that open here (safetensors, .bin, .gguf)".to_owned()
            } else {
                format!("no GGUF file of that name; there are {}", ggufs.join(", "))
            };
            return Err(Error::usage(format!("{} has {what}", ask.repository)));
        }
        if some.iter().any(|name| Some(series(name)) != first) {
            let message = format!(
                "{} has {} GGUF files, expected --file (in the window owner/name:file) with one of {}",
                ask.repository,
                some.len(),
                some.join(", ")
            );
            return Err(Error::usage(message));
        }
        let some: Vec<String> = some.into_iter().map(str::to_owned).collect();
        return Ok(all.into_iter().filter(|file| some.contains(&file.name)).collect());
    }
    let weights = |file: &Remote| {
        if safetensors { ends(file, ".safetensors") || ends(file, ".safetensors.index.json") } else { pickles(file) }
    };
    let beside = |name: &str| BESIDE.contains(&name) || CONFIGS.contains(&name);
    // Mistral's own single file repeats what transformers' files hold.
    let twice = |file: &Remote| {
        file.name.starts_with("consolidated") && all.iter().any(|other| other.name.starts_with("model"))
    };
    let twice: Vec<String> = all.iter().filter(|file| twice(file)).map(|file| file.name.clone()).collect();
    Ok(all.into_iter().filter(|file| (weights(file) && !twice.contains(&file.name)) || beside(&file.name)).collect())
}

impl Client {
    fn new(endpoint: Option<String>) -> Self {
        let endpoint = endpoint.or_else(|| std::env::var("HF_ENDPOINT").ok().filter(|value| !value.is_empty()));
        let endpoint = endpoint.unwrap_or_else(|| "https://huggingface.co".to_owned()).trim_end_matches('/').to_owned();
        let agent = Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_recv_body(Some(Duration::from_secs(600)))
            .http_status_as_error(false)
            .user_agent(concat!("rankscope/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: agent.into(), endpoint, token: token() }
    }

    fn call(&self, url: &str, from: Option<(u64, u64)>) -> Result<ureq::http::Response<ureq::Body>> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some((first, last)) = from {
            request = request.header("Range", format!("bytes={first}-{last}"));
        }
        let response = request.call().map_err(|error| {
            Error::failure(format!(
                "cannot reach {}: {error}; without a network only what is in the cache opens",
                self.endpoint
            ))
        })?;
        let asked = if self.token.is_some() {
            "this token has no access to it"
        } else {
            "log in (HF_TOKEN, or `hf auth login`) and ask for access"
        };
        match response.status().as_u16() {
            200 | 206 | 416 => Ok(response),
            401 | 403 => Err(Error::usage(format!("{url}: private, gated or not there: {asked}"))),
            404 => Err(Error::usage(format!("{url}: there is no such repository, revision or file"))),
            code => Err(Error::failure(format!("{url}: the hub answered {code}"))),
        }
    }

    /// The commit of a revision and its files.
    fn list(&self, repository: &str, revision: &str) -> Result<(String, Vec<Remote>)> {
        let url =
            format!("{}/api/models/{repository}/revision/{}?blobs=true", self.endpoint, revision.replace('/', "%2F"));
        let mut response = self.call(&url, None)?;
        let wrong = |what: String| Error::failure(format!("{url}: {what}"));
        let bytes = response.body_mut().with_config().limit(MOST_ANSWER).read_to_vec();
        let bytes = bytes.map_err(|error| wrong(format!("the answer broke off: {error}")))?;
        repository_files(&bytes).map_err(wrong)
    }

    /// Fetches a file to its name in `blobs`, from where it stopped; how many bytes came.
    fn fetch(&self, url: &str, file: &Remote, blob: &Path, step: &dyn Fn(u64) -> Result<()>) -> Result<u64> {
        let folder = blob.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(|error| Error::write(folder, &error))?;
        let partial = blob.with_file_name(format!("{}.incomplete", file.hash));
        let failed = |error: std::io::Error| Error::write(&partial, &error);
        let mut out =
            File::options().create(true).read(true).write(true).truncate(false).open(&partial).map_err(failed)?;
        if out.try_lock().is_err() {
            return Err(Error::file(&partial, "another program is fetching this file; wait for its end"));
        }
        let mut at = out.metadata().map_err(failed)?.len();
        if at > file.size {
            out.set_len(0).map_err(failed)?;
            at = 0;
        }
        out.seek(SeekFrom::Start(at)).map_err(failed)?;
        let (mut came, mut tries) = (0u64, 0);
        while at < file.size {
            step(at)?;
            let last = (at + PIECE).min(file.size) - 1;
            match self.piece(url, (at, last), &mut out, &mut at, file, step) {
                Ok(bytes) => (came, tries) = (came + bytes, 0),
                Err(error) if error.is_cancelled() || error.status() == 2 => return Err(error),
                Err(error) => {
                    tries += 1;
                    if tries >= TRIES {
                        return Err(error.and("what has come is kept, the next try goes on there"));
                    }
                    std::thread::sleep(Duration::from_millis(200 << tries));
                    at = out.stream_position().map_err(failed)?;
                }
            }
        }
        out.sync_all().map_err(failed)?;
        let found = hash(&mut out, file, &partial, step)?;
        if found != file.hash {
            drop(out);
            std::fs::remove_file(&partial).map_err(failed)?;
            return Err(Error::file(
                &partial,
                format!("what came of {} has the hash {found}, expected {}", file.name, file.hash),
            ));
        }
        drop(out);
        std::fs::rename(&partial, blob).map_err(|error| Error::write(blob, &error))?;
        Ok(came)
    }

    fn piece(
        &self,
        url: &str,
        range: (u64, u64),
        out: &mut File,
        at: &mut u64,
        file: &Remote,
        step: &dyn Fn(u64) -> Result<()>,
    ) -> Result<u64> {
        const BUFFER: usize = 1 << 18;
        let response = self.call(url, Some(range))?;
        let failed = |error: std::io::Error| Error::failure(format!("{url}: cannot write: {error}"));
        if response.status().as_u16() == 200 && *at > 0 {
            // A server that knows no ranges begins anew.
            out.set_len(0).map_err(failed)?;
            out.seek(SeekFrom::Start(0)).map_err(failed)?;
            *at = 0;
        }
        let mut reader = response.into_body().into_reader();
        let mut buffer = vec![0; BUFFER];
        let mut came = 0;
        loop {
            let count =
                reader.read(&mut buffer).map_err(|error| Error::failure(format!("{url}: broken off: {error}")))?;
            if count == 0 {
                break;
            }
            if *at + count as u64 > file.size {
                return Err(Error::usage(format!("{url}: more bytes came than the {} that the hub states", file.size)));
            }
            out.write_all(&buffer[..count]).map_err(failed)?;
            *at += count as u64;
            came += count as u64;
            step(*at)?;
        }
        if came == 0 { Err(Error::failure(format!("{url}: nothing came"))) } else { Ok(came) }
    }
}

/// The hash of what has come, as the hub states it for such a file.
fn hash(file: &mut File, about: &Remote, path: &Path, step: &dyn Fn(u64) -> Result<()>) -> Result<String> {
    const BUFFER: usize = 1 << 20;
    let failed = |error: std::io::Error| Error::read(path, "read", &error);
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let (mut large, mut small) = (Sha256::new(), Sha1::new());
    small.update(format!("blob {}\0", about.size));
    let mut buffer = vec![0; BUFFER];
    loop {
        step(about.size)?;
        let count = file.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            break;
        }
        if about.large { large.update(&buffer[..count]) } else { small.update(&buffer[..count]) }
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok(if about.large { hex(&large.finalize()) } else { hex(&small.finalize()) })
}

/// Gives a blob the name that it has in the snapshot.
fn link(blob: &Path, name: &Path) -> Result<()> {
    let failed = |error: std::io::Error| Error::write(name, &error);
    if name.metadata().is_ok() {
        return Ok(());
    }
    let folder = name.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    if name.symlink_metadata().is_ok() {
        std::fs::remove_file(name).map_err(failed)?;
    }
    #[cfg(unix)]
    {
        let snapshots = |path: &Path| path.file_name().is_some_and(|name| name == "snapshots");
        let depth = folder.ancestors().take_while(|path| !snapshots(path)).count();
        let hash = blob.file_name().unwrap_or_default();
        let target = std::iter::repeat_n("..", depth + 1).collect::<PathBuf>().join("blobs").join(hash);
        std::os::unix::fs::symlink(target, name).map_err(failed)
    }
    // Where links need rights that a person does not have, the file itself stands there, as huggingface_hub does it.
    #[cfg(not(unix))]
    std::fs::rename(blob, name).map_err(failed)
}

/// The token that other tools have stored, from the usual places.
fn token() -> Option<String> {
    let by_name = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].iter().find_map(|name| std::env::var(name).ok());
    let file = || super::var("HF_TOKEN_PATH").or_else(|| super::home().map(|home| home.join("token")));
    let token = by_name.or_else(|| guard::text(&file()?, 1 << 12).ok())?;
    let token = token.trim().to_owned();
    (!token.is_empty() && token.chars().all(|c| c.is_ascii_graphic())).then_some(token)
}

/// A relative path without `..`: it cannot leave the folder.
fn inside(name: &str) -> bool {
    !name.is_empty()
        && !name.contains('\\')
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

fn is_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A file's name in an address.
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_as_it_is_typed() {
        let ask = |text: &str| Ask::parse(text).map(|ask| (ask.repository, ask.file, ask.revision));
        let plain = |name: &str| Some((name.to_owned(), None, None));
        assert_eq!(ask(" Qwen/Qwen3-0.6B "), plain("Qwen/Qwen3-0.6B"));
        assert_eq!(ask("https://huggingface.co/org/tiny/"), plain("org/tiny"));
        let whole = Some(("org/tiny-GGUF".to_owned(), Some("Q4_K_M".to_owned()), Some("v1".to_owned())));
        assert_eq!(ask("org/tiny-GGUF:Q4_K_M@v1"), whole);
        for path in ["/models/llama", "./llama", "../x", "C:\\x", "a/b/c", "model", "~/x", "a/", "a b/c"] {
            assert_eq!(ask(path), None, "{path}");
        }
    }

    fn names(all: &[&str], file: Option<&str>) -> Result<Vec<String>> {
        let remote = |name: &&str| Remote { name: (*name).to_owned(), size: 1, hash: String::new(), large: false };
        let ask = Ask { repository: "o/n".into(), file: file.map(str::to_owned), ..Ask::default() };
        Ok(chosen(all.iter().map(remote).collect(), &ask)?.into_iter().map(|file| file.name).collect())
    }

    #[test]
    fn weights_of_one_format_are_chosen() {
        let all = [
            "config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "onnx/model.onnx",
            "original/consolidated.00.pth",
            "tokenizer.json",
            "x.png",
        ];
        assert_eq!(names(&all, None).unwrap(), ["config.json", "model.safetensors", "tokenizer.json"]);
        assert_eq!(names(&["config.json", "pytorch_model.bin"], None).unwrap(), ["config.json", "pytorch_model.bin"]);
        let both = ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "consolidated.safetensors"];
        assert_eq!(names(&both, None).unwrap(), both[..2]);
        let ggufs = ["a-Q4_K_M.gguf", "a-Q8_0.gguf", "README.md"];
        assert_eq!(names(&ggufs, Some("q4_k")).unwrap(), ["a-Q4_K_M.gguf"]);
        assert!(
            names(&ggufs, None)
                .unwrap_err()
                .to_string()
                .contains("expected --file (in the window owner/name:file) with one of a-Q4_K_M.gguf, a-Q8_0.gguf")
        );
        let split = ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"];
        assert_eq!(names(&split, None).unwrap(), split);
        assert!(names(&["x.onnx"], None).unwrap_err().to_string().contains("no weights that open here"));
    }

    #[test]
    fn names_stay_in_their_folder() {
        assert!(inside("a/b.json") && !inside("../b") && !inside("/b") && !inside("a\\b") && !inside(""));
        assert_eq!(encoded("a b/é.json"), "a%20b/%C3%A9.json");
        for repository in ["", "a/b/c", "../x", "a/..", "a b/c"] {
            assert!(get(&Ask { repository: repository.into(), ..Ask::default() }, &()).is_err(), "{repository}");
        }
    }
}
