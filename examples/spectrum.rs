//! The singular values of what tuning changed, module by module: `cargo run --release --example spectrum -- BASE TUNED`.

use std::path::PathBuf;
use std::sync::Arc;

use rankscope::checkpoint::Checkpoint;
use rankscope::delta::{DeltaSet, Source};
use rankscope::error::Result;
use rankscope::spectrum::{Options, spectrum};

fn main() -> Result<()> {
    let path = |at: usize, bundled: &str| std::env::args_os().nth(at).map_or_else(|| bundled.into(), PathBuf::from);
    let base = Arc::new(Checkpoint::open(&path(1, "assets/demo/tales-2m"))?);
    let tuned = Arc::new(Checkpoint::open(&path(2, "assets/demo/tales-2m-pirate"))?);
    let set = DeltaSet::new(base, Source::Tuned(tuned))?;
    for entry in set.entries().iter().filter(|entry| !entry.misfit) {
        // The last argument is told how far it is, and may stop it; `&()` does neither.
        let found = spectrum(&set.load(entry, &())?, &Options::default(), &())?;
        let half = found.energy_rank(0.9).map_or_else(|| "more".to_owned(), |rank| rank.to_string());
        println!("{:45} σ₁ {:8.4}   90 % of its energy in rank {half}", entry.name, found.largest());
    }
    Ok(())
}
