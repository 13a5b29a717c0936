//! `rankscope sweep`: a run for each of several ranks, and the largest one truncated to the others.

use super::screen::Screen;
use super::train::{Train, tell};
use crate::device::Choice;
use crate::error::Result;
use crate::train::Settings;
use crate::train::sweep::{Row, Told, ranks, sweep};
use clap::Args;
use serde_json::json;

#[derive(Debug, Args)]
pub struct Sweep {
    #[command(flatten)]
    train: Train,

    /// Ranks, such as 1,2,4,8; each gets a run of its own in --out
    #[arg(long)]
    ranks: String,
}

impl Sweep {
    pub fn run(self, screen: &Screen, device: Choice) -> Result<()> {
        let ranks = ranks(&self.ranks)?;
        let force = self.train.force;
        let settings = Settings { device, ..self.train.settings()? };
        let rows = sweep(&settings, &ranks, force, screen, &mut |told| {
            match told {
                Told::Run(r, settings) => screen.message(&format!("r = {r}: {}", settings.out.display())),
                Told::Event(event) => tell(screen, &event),
                Told::Rows(_) => {}
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
