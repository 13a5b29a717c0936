//! Thirty QLoRA steps of the bundled model on pirate talk: `cargo run --release --example qlora -- OUT`.

use std::path::PathBuf;

use rankscope::error::Result;
use rankscope::train::run::{Event, Start, run};
use rankscope::train::{Method, Settings};

fn main() -> Result<()> {
    let settings = Settings {
        model: "assets/demo/tales-2m".into(),
        data: "assets/demo/data/pirate.train.jsonl".into(),
        out: std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("rankscope-qlora"), PathBuf::from),
        method: Method::Qlora,
        rank: 8,
        lr: 3e-3,
        seq: 128,
        steps: Some(30),
        ..Settings::default()
    };
    let mut listen = |event| {
        if let Event::Step(record) = event {
            println!("step {:2}   loss {:.4}", record.step.step, record.step.loss);
        }
        Ok(())
    };
    let done = run(settings, Start::default(), &(), &mut listen)?;
    println!("the adapter is in {}", done.adapter.display());
    Ok(())
}
