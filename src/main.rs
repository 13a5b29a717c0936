//! Opens the window, or runs a subcommand.

use std::process::ExitCode;

use rankscope::app::{self, Start};
use rankscope::cli::{self, Window};
use rankscope::error::{Error, Result};
use rankscope::workspace::Request;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,rankscope=info")).init();
    cli::run(std::env::args_os(), window)
}

fn window(asked: Window) -> Result<()> {
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
    app::run(&Start { request, renderer, data_dir: None }).map_err(Error::failure)
}
