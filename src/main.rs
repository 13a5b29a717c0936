//! Opens the window, or runs a subcommand.

use std::process::ExitCode;

use rankscope::cli::{self, Window};
use rankscope::error::{Error, Result};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    give_back_soon();
    ignore_file_size_signal();
    ask_no_desktop();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,rankscope=info")).init();
    cli::run(std::env::args_os(), window)
}

/// What is freed goes back to the system after a hundredth of a second, not after a whole one: a run's memory is then what
/// it needs, and what was predicted, not what it needed lately as well.
fn give_back_soon() {
    /// `mi_option_purge_delay` of mimalloc 3, which the crate does not name.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: an option's number within the allocator's own table, set before any other thread runs.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 10) };
}

/// A file that grows beyond what the system allows is an error to be said, not the end of the program.
#[cfg(unix)]
fn ignore_file_size_signal() {
    // SAFETY: a signal's own number and SIG_IGN, set before any other thread runs.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

#[cfg(not(unix))]
fn ignore_file_size_signal() {}

/// Mesa's layer that sorts GPUs for a desktop complains on stderr where there is no desktop.
#[allow(
    clippy::disallowed_methods,
    reason = "the first thing that the program does: no other thread reads the environment"
)]
fn ask_no_desktop() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

#[cfg(feature = "gui")]
fn window(asked: Window) -> Result<()> {
    use rankscope::app::{self, Start};
    use rankscope::workspace::Request;

    rankscope::defect::install();
    let mut paths = asked.paths.into_iter();
    let base = asked.base.or_else(|| paths.next());
    let other = asked.tuned.or(asked.adapter).or_else(|| paths.next());
    let request = match (base, other) {
        (Some(base), Some(other)) => Some(Request::Pair(base, other)),
        (Some(one), None) | (None, Some(one)) => Some(Request::Any(one)),
        (None, None) => None,
    };
    let renderer = match std::env::var("RANKSCOPE_RENDERER") {
        Ok(name) => Some(name.parse().map_err(Error::usage)?),
        Err(_) => None,
    };
    app::run(&Start { request, renderer, ..Start::default() }).map_err(Error::failure)
}

#[cfg(not(feature = "gui"))]
fn window(_: Window) -> Result<()> {
    Err(Error::usage(
        "this build has no window, it was made without the feature gui; rankscope --help lists the commands",
    ))
}
