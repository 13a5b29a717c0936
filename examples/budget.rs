//! The best rank of each module under a budget of trainable parameters: `cargo run --release --example budget -- 100000`.

use std::path::Path;
use std::sync::Arc;

use rankscope::checkpoint::Checkpoint;
use rankscope::delta::{DeltaSet, Source};
use rankscope::error::Result;
use rankscope::plan::budget;
use rankscope::plan::extract::{Changed, Cut, plan};

fn main() -> Result<()> {
    let most = budget::parse(&std::env::args().nth(1).unwrap_or_else(|| "100K".to_owned()), 4)?;
    let open = |path| Checkpoint::open(Path::new(path)).map(Arc::new);
    let (base, tuned) = (open("assets/demo/tales-2m")?, open("assets/demo/tales-2m-pirate")?);
    let set = DeltaSet::new(base, Source::Tuned(tuned))?;
    let (offers, ranks) = plan(Changed::Models(&set), None, Cut::Budget(most), &())?;
    for (offer, r) in offers.iter().zip(&ranks.r) {
        println!("{:45} r = {r}", offer.name);
    }
    println!("{} parameters keep {:.1} % of the energy of ΔW", ranks.trainable, 100.0 * ranks.energy);
    if let Some((r, all)) = budget::uniform(&offers, most) {
        println!("rank {r} for all: {} parameters keep {:.1} %", all.trainable, 100.0 * all.energy);
    }
    Ok(())
}
