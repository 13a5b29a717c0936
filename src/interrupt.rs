//! Ctrl-C, and the signals by which a system ends a program: the work ends at its next step with exit status 130, a run with a
//! checkpoint, and the window closes; a second one ends the program at once.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Exit status of what was interrupted, as a shell has it.
const STATUS: i32 = 130;

/// Listens from now on: to SIGINT, and on Unix to SIGTERM and SIGHUP; calls `heard` at the first of them, on a thread of its own.
/// Where the system does not allow it, they end the program as they always do.
pub fn listen(heard: impl Fn() + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "asked twice: whoever waits is not to wait for what does not listen")]
    let listening = keep_nohup(|| {
        ctrlc::set_handler(move || {
            if REQUESTED.swap(true, Ordering::Relaxed) {
                std::process::exit(STATUS);
            }
            heard();
        })
    });
    if let Err(error) = listening {
        log::debug!("signals are not caught: {error}");
    }
}

/// Sets handlers but leaves SIGHUP ignored where it is, as under `nohup`: closing the terminal must not end the work then.
#[cfg(unix)]
fn keep_nohup<T>(set: impl FnOnce() -> T) -> T {
    // SAFETY: `signal` with a number and a disposition of the C library's own; no handler of ours is installed by it.
    let before = unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    let result = set();
    if before == libc::SIG_IGN {
        // SAFETY: as above.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    }
    result
}

#[cfg(not(unix))]
fn keep_nohup<T>(set: impl FnOnce() -> T) -> T {
    set()
}

/// `Err(Cancelled)` once the work was asked to end.
pub fn check() -> Result<()> {
    if REQUESTED.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
}
