//! `rankscope sweep`: a run for each point of rank × learning rate × seed, and the largest rank cut down.

use super::Common;
use super::screen::Screen;
use super::settings::Swept;
use super::text::Table;
use super::train::{Train, show};
use crate::error::{Error, Result};
use crate::train::sweep::{Cut, Grid, Group, Plan, Row, SweepEvent, ranks, rates, sweep};
use crate::train::{Alpha, Settings};
use crate::units::{exact, percent};
use clap::Args;
use serde_json::{Value, json};

#[derive(Debug, Args)]
pub struct Sweep {
    #[command(flatten)]
    train: Train<Swept>,

    /// Ranks to train, such as 1,2,4,8; each is a run of its own in --out
    #[arg(long, required_unless_present = "resume")]
    ranks: Option<String>,

    /// How α follows the rank: 2r, a number for all ranks, or rslora (α 8, divided by √r) [default: 2r]
    #[arg(long, value_name = "2r|32|rslora")]
    alpha: Option<Alpha>,

    #[command(flatten)]
    points: Points,
}

/// The rest of a grid.
#[derive(Debug, Args)]
pub(super) struct Points {
    /// Learning rates of every rank, such as 1e-4,3e-4,1e-3; auto for three around what --lr is worth at each rank
    #[arg(long, value_name = "LIST")]
    pub(super) lrs: Option<String>,

    /// Seeds of every point, from --seed on: their means are compared, their spread is said
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seeds: usize,

    /// Give up the worse half of the points after a quarter and after half of the steps (successive halving)
    #[arg(long)]
    pub(super) halving: bool,
}

impl Points {
    /// The grid with these ranks.
    ///
    /// # Errors
    /// Lists that cannot be read.
    pub(super) fn grid(&self, ranks: Vec<usize>, alpha: Option<Alpha>) -> Result<Grid> {
        let rates = rates(self.lrs.as_deref().unwrap_or_default())?;
        if !(1..=1000).contains(&self.seeds) {
            return Err(Error::usage(format!("seeds {}; expected a number from 1 to 1000", self.seeds)));
        }
        Ok(Grid { ranks, rates, alpha, seeds: self.seeds, halving: self.halving })
    }
}

impl Sweep {
    pub fn run(self, screen: &Screen, common: &Common) -> Result<()> {
        let force = self.train.force;
        let (settings, grid) = match (self.train.resumed()?, &self.ranks) {
            (Some(out), None) => {
                let plan = Group::read(&out).and_then(|group| group.plan);
                let Plan { settings, grid } =
                    plan.ok_or_else(|| Error::file(&out, "there is no sweep that could go on; expected --ranks"))?;
                (Settings { out, device: common.device, ..settings }, grid)
            }
            (_, ranks_given) => {
                let ranks = ranks(ranks_given.as_deref().unwrap_or_default())?;
                (self.train.settings(screen, common)?, self.points.grid(ranks, self.alpha)?)
            }
        };
        let group = sweep(&settings, &grid, force, screen, &mut |event| {
            match event {
                SweepEvent::Run(r, settings) => {
                    screen.message(&format!("r = {r}, lr {:e}: {}", settings.lr, settings.out.display()));
                }
                SweepEvent::Event(event) => show(screen, &event),
                SweepEvent::Rows(_) => {}
            }
            Ok(())
        });
        screen.finish();
        let group = group?;
        if screen.json { screen.document(&document(&group)) } else { screen.print(&text(&group)) }
    }
}

/// A sweep as JSON.
pub(super) fn document(group: &Group) -> Value {
    json!({"rows": group.rows, "best": group.best(), "cuts": group.cuts, "saved_steps": group.saved_steps})
}

fn text(group: &Group) -> String {
    let loss = |loss: Option<f64>| loss.map_or_else(|| "–".to_owned(), |loss| format!("{loss:.4}"));
    let mut table = Table::new(&[
        ">r",
        ">lr",
        ">seed",
        ">trainable",
        ">last loss",
        ">held-out",
        ">p > ½",
        ">truncated",
        ">forgot",
        ">95 % energy",
    ]);
    for Row {
        r,
        lr,
        seed,
        trainable,
        last_loss,
        eval_loss,
        eval_sure,
        forget_loss,
        energy_95,
        truncated_eval_loss,
        given_up,
        ..
    } in &group.rows
    {
        let held_out = match given_up {
            Some(step) => format!("{} at {step}", loss(*eval_loss)),
            None => loss(*eval_loss),
        };
        table.push(vec![
            r.to_string(),
            format!("{lr:e}"),
            seed.to_string(),
            exact(*trainable as u64),
            format!("{last_loss:.4}"),
            held_out,
            eval_sure.map_or_else(|| "–".to_owned(), percent),
            loss(*truncated_eval_loss),
            forget_loss.map_or_else(|| "–".to_owned(), |[before, after]| format!("{:+.4}", after - before)),
            format!("{energy_95:.1}"),
        ]);
    }
    let mut text = table.render();
    text += "p > ½: answer tokens that get more than half of the probability, which greedy decoding says right\n";
    text += "truncated: the held-out loss of the largest rank's adapter, cut to this rank\n";
    if let Some(best) = group.best() {
        text += &format!(
            "best: r = {} at {:e}, {:.4} ± {:.4} over {} seeds\n",
            best.r, best.lr, best.loss, best.spread, best.seeds
        );
    }
    if !group.cuts.is_empty() {
        let mut table = Table::new(&[">σ at least", ">parameters", ">energy", ">largest r", ">held-out"]);
        for Cut { threshold, parameters, energy, largest, eval_loss } in &group.cuts {
            table.push(vec![
                format!("{threshold:.3e}"),
                exact(*parameters),
                percent(*energy),
                largest.to_string(),
                format!("{eval_loss:.4}"),
            ]);
        }
        text +=
            &format!("\nthe largest rank's best adapter, cut by one threshold over all modules\n{}", table.render());
    }
    if group.saved_steps > 0 {
        text += &format!("halving saved {} steps\n", exact(group.saved_steps as u64));
    }
    text
}
