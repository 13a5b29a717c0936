//! `rankscope demo`: the bundled models and data, from nothing.

use super::screen::Screen;
use crate::demo::Set;
use crate::demo::grid::{BRIEF, Grids, TASKS, by_convention, check, grid};
use crate::demo::make::{Scale, build};
use crate::demo::study::{LONG, RANKS, Results, SHORT, name, study, table};
use crate::demo::study_plot::plot;
use crate::error::{Error, Result};
use crate::train::store::write_whole;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Demo {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Build the base model, its fine-tune, an adapter and three data sets; the same bytes each time on one machine
    Build(Build),
    /// Measure loss against rank on the three data sets; one line of study.csv per run, resumable
    Study(Study),
}

#[derive(Debug, Args)]
struct Build {
    /// Output folder; a build that was stopped resumes there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// The same steps in seconds, with a model that has learned next to nothing
    #[arg(long, conflicts_with = "steps")]
    tiny: bool,

    /// Pre-training steps, of 1,024 tokens each
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
}

#[derive(Debug, Args)]
struct Study {
    /// Base model, as written by `demo build`
    #[arg(long, value_name = "MODEL")]
    base: PathBuf,

    /// Output folder for study.csv, the tables and the plot
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Also run facts for three times as many steps, to tell capacity from speed
    #[arg(long)]
    long: bool,

    /// A grid of rank × learning rate × α instead, in short runs; with tongue and backwards, on which advice is checked
    #[arg(long, conflicts_with_all = ["long", "ranks"])]
    grid: bool,

    /// The grid in runs of 40 to 60 steps in place of 160
    #[arg(long, requires = "grid")]
    brief: bool,

    /// Only this data set
    #[arg(long, value_parser = ["pirate", "extract", "facts", "tongue", "backwards"])]
    set: Option<String>,

    /// Only write the data of the grid, and what is advised for it
    #[arg(long, requires = "grid")]
    dry: bool,

    /// Only these ranks, from 1,2,4,8,16,64,full
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    ranks: Vec<String>,
}

impl Demo {
    pub fn run(self, screen: &Screen) -> Result<()> {
        match self.what {
            What::Build(build) => build.run(screen),
            What::Study(study) => study.run(screen),
        }
    }
}

impl Study {
    fn run(self, screen: &Screen) -> Result<()> {
        if self.grid {
            return self.run_grid(screen);
        }
        if let Some(set) = self.set.as_ref().filter(|set| !Set::ALL.iter().any(|known| known.stem() == *set)) {
            return Err(Error::usage(format!(
                "set {set} is in the grid only; expected --grid, or pirate, extract or facts"
            )));
        }
        let mut lengths = SHORT.to_vec();
        if self.long {
            lengths.extend(LONG);
        }
        lengths.retain(|length| self.set.as_ref().is_none_or(|set| set == length.set.stem()));
        let mut results = Results::open(&self.out.join("study.csv"))?;
        let mut ranks = RANKS.to_vec();
        if let Some(unknown) = self.ranks.iter().find(|one| !RANKS.iter().any(|&rank| name(rank) == **one)) {
            return Err(Error::usage(format!("rank \"{unknown}\"; expected some of 1,2,4,8,16,64,full")));
        }
        ranks.retain(|&rank| self.ranks.is_empty() || self.ranks.contains(&name(rank)));
        let done = study(&self.base, &lengths, &ranks, &mut results, &mut |sentence| screen.message(&sentence), screen);
        screen.finish();
        done?;
        let mut text = String::new();
        for length in &lengths {
            if let Some(table) = table(length, &results) {
                text += &format!("{}, {} steps\n\n{table}\n", length.set.stem(), length.steps);
            }
        }
        write_whole(&self.out.join("study.md"), text.as_bytes())?;
        if let Some(drawing) = plot(&lengths, &results) {
            write_whole(&self.out.join("study.svg"), drawing.as_bytes())?;
        }
        if screen.json { screen.document(&json!({"runs": results.lines.len()})) } else { screen.print(&text) }
    }
}

impl Study {
    fn run_grid(self, screen: &Screen) -> Result<()> {
        let mut grids = Grids::open(&self.out.join("grid.csv"))?;
        let (mut text, mut all) = (String::new(), Vec::new());
        let tasks = if self.brief { &BRIEF } else { &TASKS };
        for task in tasks.iter().filter(|task| self.set.as_ref().is_none_or(|set| set == task.set.stem())) {
            let advised = task.advised(&self.base, &self.out.join("data"), screen)?;
            screen.message(&format!(
                "{}: r {}, α {}, {:e} is advised",
                task.set.stem(),
                advised.rank,
                advised.alpha,
                advised.lr
            ));
            if self.dry {
                continue;
            }
            let done = grid(&self.base, task, Some(advised), &mut grids, &mut |line| screen.message(&line), screen);
            screen.finish();
            done?;
            all.push((*task, advised));
            if let Some(table) = by_convention(task, &grids) {
                text += &format!("{}, {} steps\n\n{table}\n", task.set.stem(), task.steps);
            }
        }
        text += &check(&all, &grids);
        write_whole(&self.out.join("grid.md"), text.as_bytes())?;
        if screen.json { screen.document(&json!({"runs": grids.lines.len()})) } else { screen.print(&text) }
    }
}

impl Build {
    fn run(self, screen: &Screen) -> Result<()> {
        let Build { out, tiny, steps } = self;
        if out.join("demo.json").exists() {
            return Err(Error::file(&out, "a finished build is in this folder; expected another folder"));
        }
        let mut scale = if tiny { Scale::tiny() } else { Scale::full() };
        scale.recipe.steps = steps.unwrap_or(scale.recipe.steps);
        if scale.recipe.steps == 0 {
            return Err(Error::usage("steps 0; expected 1 or more"));
        }
        let report = build(&out, &scale, &mut |sentence| screen.message(&sentence), screen);
        screen.finish();
        let report = report?;
        if screen.json { screen.document(&report) } else { screen.print(&format!("{report:#}\n{}\n", out.display())) }
    }
}
