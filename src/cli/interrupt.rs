//! Ctrl-C: the work ends at its next step with exit status 130; a second Ctrl-C ends the program at once.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Exit status of what was interrupted, as a shell has it.
const STATUS: i32 = 130;

/// Listens from now on. Where the system does not allow it, Ctrl-C ends the program as it always does.
pub fn listen() {
    #[expect(clippy::disallowed_methods, reason = "asked twice: whoever waits is not to wait for what does not listen")]
    let heard = ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(STATUS);
        }
    });
    if let Err(error) = heard {
        log::debug!("Ctrl-C is not caught: {error}");
    }
}

/// `Err(Cancelled)` once Ctrl-C was pressed.
pub fn check() -> Result<()> {
    if REQUESTED.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
}
