use rankscope::cli;
use rankscope::error::{Error, Result};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    env_logger::init();
    cli::run(std::env::args_os(), window)
}

fn window(_window: cli::Window) -> Result<()> {
    Err(Error::failure("this build has no window"))
}
