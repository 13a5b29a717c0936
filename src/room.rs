//! What memory there is, and large buffers that are only taken where it suffices.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Bytes of a device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All of it; within a container or a control group, what that may use.
    pub total: u64,
    /// What could be allocated now.
    pub free: u64,
}

/// Buffers from this size on are looked at before they are taken: smaller ones come and go by the thousand.
const LARGE: usize = 32 << 20;

/// What the processor's memory has for this process, where the system tells: the least of the machine, every control group that
/// the process is in, and the limit of its address space.
pub fn memory() -> Option<Memory> {
    if cfg!(target_os = "macos") {
        let total = system_value("hw.memsize")?.parse().ok()?;
        return Some(Memory { total, free: total });
    }
    let machine = meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = groups(&own).into_iter().filter_map(|group| group.memory());
    let least = |a: Memory, b: Memory| Memory { total: a.total.min(b.total), free: a.free.min(b.free) };
    Some(groups.chain(address_space()).fold(machine, least))
}

/// One control group's folder, and the names that its version has for limit and use.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    names: [&'static str; 3],
}

impl Group {
    /// `None` where it has no limit.
    fn memory(&self) -> Option<Memory> {
        let text = |name: &str| std::fs::read_to_string(self.folder.join(name)).ok();
        let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
        let total = number(self.names[0])?;
        // What it holds of files can be given up.
        let files = text("memory.stat").and_then(|stat| {
            let line = stat.lines().find_map(|line| line.strip_prefix(self.names[2]))?;
            line.trim().parse::<u64>().ok()
        });
        let used = number(self.names[1]).unwrap_or(0).saturating_sub(files.unwrap_or(0));
        // Version 1 says "no limit" by a number beyond every memory.
        (total < 1 << 60).then(|| Memory { total, free: total.saturating_sub(used) })
    }
}

/// The groups of a process by `/proc/self/cgroup`, each with all that it stands in.
fn groups(own: &str) -> Vec<Group> {
    const V1: [&str; 3] = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "];
    const V2: [&str; 3] = ["memory.max", "memory.current", "inactive_file "];
    let mut found = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(kinds), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, names) = match kinds {
            "" => ("/sys/fs/cgroup", V2),
            kinds if kinds.split(',').any(|kind| kind == "memory") => ("/sys/fs/cgroup/memory", V1),
            _ => continue,
        };
        for within in Path::new(path.trim_start_matches('/')).ancestors() {
            found.push(Group { folder: Path::new(root).join(within), names });
        }
    }
    found
}

/// `ulimit -v`.
#[cfg(target_os = "linux")]
fn address_space() -> Option<Memory> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes two numbers where it is told to.
    let told = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) } == 0;
    if !told || limit.rlim_cur == libc::RLIM_INFINITY {
        return None;
    }
    let used = status("VmSize:").unwrap_or(0);
    Some(Memory { total: limit.rlim_cur, free: limit.rlim_cur.saturating_sub(used) })
}

#[cfg(not(target_os = "linux"))]
fn address_space() -> Option<Memory> {
    None
}

/// `MemTotal` and `MemAvailable` of `/proc/meminfo`, which are in KiB.
fn meminfo(text: &str) -> Option<Memory> {
    let value = |key: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Memory { total: value("MemTotal:")?, free: value("MemAvailable:")? })
}

/// A line of `/proc/self/status` in bytes.
pub(crate) fn status(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// One value of macOS's `sysctl`.
pub(crate) fn system_value(key: &str) -> Option<String> {
    let output = std::process::Command::new("sysctl").args(["-n", key]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Looks whether there is room for `bytes` before they are taken.
///
/// # Errors
/// A sentence with what is needed and what is free.
pub fn check(bytes: usize) -> Result<()> {
    // Asking the system takes longer than filling a small buffer.
    if bytes < LARGE {
        return Ok(());
    }
    match memory().filter(|memory| bytes as u64 > memory.free) {
        Some(memory) => Err(short(bytes, Some(memory.free))),
        None => Ok(()),
    }
}

/// `count` zeros, where there is room for them.
///
/// # Errors
/// As [`check`], and when the system refuses.
pub fn zeros(count: usize) -> Result<Vec<f32>> {
    let bytes = count.checked_mul(size_of::<f32>()).ok_or_else(|| short(usize::MAX, None))?;
    check(bytes)?;
    let mut values: Vec<f32> = Vec::new();
    if bytes < LARGE {
        // Zeros straight from the system, without a pass over them.
        return Ok(vec![0.0; count]);
    }
    values.try_reserve_exact(count).map_err(|_| short(bytes, None))?;
    values.resize(count, 0.0);
    Ok(values)
}

/// Looks whether the address space has room for `bytes` that are set aside and hardly used: `ulimit -v` counts them all the same.
///
/// # Errors
/// As [`check`].
pub fn check_addresses(bytes: u64) -> Result<()> {
    match address_space().filter(|space| bytes > space.free) {
        Some(space) => Err(short(usize::try_from(bytes).unwrap_or(usize::MAX), Some(space.free))),
        None => Ok(()),
    }
}

/// Bytes of the processor's third-level cache, where Linux tells.
pub fn cache() -> Option<u64> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cache/index3/size").ok()?;
    text.trim().strip_suffix('K')?.parse::<u64>().ok()?.checked_mul(1024)
}

fn short(bytes: usize, free: Option<u64>) -> Error {
    let free = free.map_or_else(String::new, |free| format!(", and {:.2} GB are free", free as f64 / 1e9));
    Error::failure(format!("not enough memory: {:.2} GB are needed at once{free}", bytes as f64 / 1e9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kibibytes_become_bytes() {
        let memory = meminfo("MemTotal:       16 kB\nMemFree: 1 kB\nMemAvailable:   8 kB\n").unwrap();
        assert_eq!(memory, Memory { total: 16 << 10, free: 8 << 10 });
        assert_eq!(meminfo("MemTotal: x kB"), None);
    }

    #[test]
    fn a_process_is_in_all_groups_above_its_own() {
        let folders = |own: &str| groups(own).into_iter().map(|group| group.folder).collect::<Vec<_>>();
        let v2 = ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup/"].map(PathBuf::from);
        assert_eq!(folders("0::/a/b\n"), v2);
        let v1 = ["/sys/fs/cgroup/memory/rk", "/sys/fs/cgroup/memory/"].map(PathBuf::from);
        assert_eq!(folders("5:cpu:/x\n4:memory:/rk\n"), v1);
        assert!(folders("").is_empty());
    }

    #[test]
    fn a_group_s_limit_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let group =
            Group { folder: folder.path().to_owned(), names: ["memory.max", "memory.current", "inactive_file "] };
        write("memory.max", "max\n");
        assert_eq!(group.memory(), None);
        write("memory.max", "1000\n");
        write("memory.current", "700\n");
        write("memory.stat", "anon 1\ninactive_file 200\n");
        assert_eq!(group.memory(), Some(Memory { total: 1000, free: 500 }));
    }

    #[test]
    fn too_much_is_a_sentence() {
        assert_eq!(zeros(3).unwrap(), [0.0; 3]);
        let error = zeros(1 << 50).unwrap_err();
        assert!(error.to_string().starts_with("not enough memory"), "{error}");
        assert!(zeros(usize::MAX).is_err());
    }
}
