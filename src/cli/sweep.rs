//! `rankscope sweep`: a run for each of several ranks, and the largest one truncated to the others.

use super::Common;
use super::screen::Screen;
use super::train::{Train, show};
use crate::error::Result;
use crate::train::sweep::{Row, SweepEvent, ranks, sweep};
use clap::Args;
use serde_json::json;

#[derive(Debug, Args)]
pub struct Sweep {
    #[command(flatten)]
    train: Train,

    /// Ranks to train, such as 1,2,4,8; each is a run of its own in --out
    #[arg(long)]
    ranks: String,
}

impl Sweep {
    pub fn run(self, screen: &Screen, common: &Common) -> Result<()> {
        let ranks = ranks(&self.ranks)?;
        let force = self.train.force;
        let settings = self.train.settings(screen, common)?;
        let rows = sweep(&settings, &ranks, force, screen, &mut |event| {
            match event {
                SweepEvent::Run(r, settings) => screen.message(&format!("r = {r}: {}", settings.out.display())),
                SweepEvent::Event(event) => show(screen, &event),
                SweepEvent::Rows(_) => {}
            }
            Ok(())
        });
        screen.finish();
        let rows = rows?;
        if screen.json { screen.document(&json!({"rows": rows})) } else { screen.print(&table(&rows)) }
    }
}

fn table(rows: &[Row]) -> String {
    let loss = |loss: Option<f64>| loss.map_or_else(|| "–".to_owned(), |loss| format!("{loss:.4}"));
    let mut text = format!(
        "{:>5} {:>12} {:>10} {:>10} {:>10} {:>12}\n",
        "r", "trainable", "last loss", "held-out", "truncated", "95 % energy"
    );
    for row in rows {
        text += &format!(
            "{:>5} {:>12} {:>10.4} {:>10} {:>10} {:>12.1}\n",
            row.r,
            row.trainable,
            row.last_loss,
            loss(row.eval_loss),
            loss(row.truncated_eval_loss),
            row.energy_95
        );
    }
    text + "truncated: the held-out loss of the largest rank's adapter, cut to this rank\n"
}
