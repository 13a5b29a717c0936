//! [`SystemInfo`]: what there is to compute on, and what lies in the hub's cache.

use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::hub::{self, Cached};
use crate::device;
use crate::error::{Error, Result};
use crate::job::{Job, Wake};
use crate::model::gpu;

/// What is learnt about the machine at the start.
#[derive(Default)]
pub struct SystemInfo {
    /// The device in a few words.
    pub device: String,
    /// All devices, with the reasons of those that cannot be used.
    pub devices: String,
    /// The hub's local cache.
    pub hub: Vec<Cached>,
    /// The report of a defect that an earlier start has left.
    pub defect: Option<String>,
}

/// Shows a folder in the system's file manager.
///
/// # Errors
/// Where there is no program that does.
pub fn open_folder(folder: &Path) -> Result<()> {
    let program = if cfg!(windows) {
        "explorer"
    } else if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let quiet = std::process::Stdio::null;
    let mut command = std::process::Command::new(program);
    command.arg(folder).stdin(quiet()).stdout(quiet()).stderr(quiet());
    let failed = |why: String| Error::file(folder, format!("cannot be shown: {program} {why}"));
    let status = command.status().map_err(|error| failed(format!("does not start ({error})")))?;
    // Explorer gives 1 where all went well.
    if status.success() || cfg!(windows) { Ok(()) } else { Err(failed(format!("ended with {status}"))) }
}

impl SystemInfo {
    /// Begins to look; `home` is the program's own folder.
    pub fn read(wake: &Wake, home: &Path) -> Job<Self> {
        let home = home.to_path_buf();
        Job::spawn("Looking at the machine", Arc::clone(wake), move |_| {
            let all = device::devices();
            let line = |(choice, device): &(device::Choice, crate::error::Result<device::Device>)| match device {
                Ok(device) => format!("✓ {device}"),
                Err(reason) => format!("– {choice}: {reason}"),
            };
            let best = gpu::auto().device();
            let device = match best.cores {
                Some(cores) => format!("CPU · {cores} threads"),
                None => best.name,
            };
            let devices = all.iter().map(line).collect::<Vec<_>>().join("\n");
            Ok(Self { device, devices, hub: hub::cached(), defect: crate::defect::find(&home) })
        })
    }
}
