//! Manual pages and completions for packages: `cargo run --example manual -- DIR` writes `DIR/man` and `DIR/completions`.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap_complete::Shell;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::args_os().nth(1).ok_or("where to? manual DIR")?);
    let (man, completions) = (out.join("man"), out.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    let mut command = rankscope::cli::command();
    // `rankscope-train.1` beside `rankscope.1`, each naming the others.
    clap_mangen::generate_to(command.clone(), &man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell] {
        clap_complete::generate_to(shell, &mut command, "rankscope", &completions)?;
    }
    println!("{} manual pages, 4 completions", fs::read_dir(man)?.count());
    Ok(())
}
