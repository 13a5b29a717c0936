//! [`SystemInfo`]: what there is to compute on, and what lies in the hub's cache.

use std::sync::Arc;

use crate::checkpoint::hub::{self, Cached};
use crate::device;
use crate::job::{Job, Wake};

/// What is learnt about the machine at the start.
#[derive(Default)]
pub struct SystemInfo {
    /// The device in a few words.
    pub device: String,
    /// All devices, with the reasons of those that cannot be used.
    pub devices: String,
    /// The hub's local cache.
    pub hub: Vec<Cached>,
}

impl SystemInfo {
    /// Begins to look.
    pub fn read(wake: &Wake) -> Job<Self> {
        Job::spawn("Looking at the machine", Arc::clone(wake), |_| {
            let all = device::devices();
            let line = |(choice, device): &(device::Choice, crate::error::Result<device::Device>)| match device {
                Ok(device) => format!("✓ {device}"),
                Err(reason) => format!("– {choice}: {reason}"),
            };
            let best = device::Choice::Auto.detect();
            let device = best.map_or_else(
                |_| "CPU".to_owned(),
                |device| match device.cores {
                    Some(cores) => format!("CPU · {cores} threads"),
                    None => device.name,
                },
            );
            let devices = all.iter().map(line).collect::<Vec<_>>().join("\n");
            Ok(Self { device, devices, hub: hub::cached() })
        })
    }
}
