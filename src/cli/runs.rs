//! `rankscope runs`: the runs in a folder, of this program and of others, and what those that go on write.

use super::screen::Screen;
use super::text::Table;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::train::Method;
use crate::train::foreign::EXPECTED;
use crate::train::history::{Follow, Past, Phase, Written};
use crate::train::list::Lister;
use crate::train::run::Event;
use clap::Args;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub struct Runs {
    /// Folders of runs, or runs: Rankscope, Trainer, TRL, Unsloth, LLaMA-Factory, axolotl, mlx-lm, torchtune, event files
    #[arg(value_name = "DIR", default_value = ".")]
    folders: Vec<PathBuf>,

    /// Report new steps and checkpoints of the runs that go on, until none does
    #[arg(long)]
    follow: bool,
}

impl Runs {
    pub fn run(self, screen: &Screen) -> Result<()> {
        for folder in &self.folders {
            std::fs::read_dir(folder).map_err(|error| Error::read(folder, "open", &error))?;
        }
        let mut lister = Lister::default();
        let mut runs = lister.list(&self.folders);
        if runs.is_empty() && !self.follow {
            let places: Vec<String> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
            return Err(Error::usage(format!("{}: found no run, expected {EXPECTED}", places.join(", "))));
        }
        if self.follow {
            runs = follow(&mut lister, &self.folders, screen)?;
        }
        if screen.json {
            let runs: Vec<Value> = runs.iter().map(document).collect();
            return screen.document(&json!({"runs": runs}));
        }
        screen.print(&table(&runs))
    }
}

/// Looks until no run goes on, and none has just ended.
fn follow(lister: &mut Lister, folders: &[PathBuf], screen: &Screen) -> Result<Vec<Past>> {
    let mut followed: HashMap<PathBuf, Follow> = HashMap::new();
    loop {
        let runs = lister.list(folders);
        let going: Vec<&Past> = runs.iter().filter(|past| past.phase == Phase::Running).collect();
        for past in &going {
            followed.entry(past.folder.clone()).or_insert_with(|| Follow::new(&past.folder));
        }
        for past in &runs {
            let Some(follow) = followed.get_mut(&past.folder) else { continue };
            follow.look(&mut |written| {
                if let Written::Event(event) = written {
                    tell(screen, past, &event);
                }
            });
        }
        // What comes at a run's end comes file by file.
        if going.is_empty() && !followed.values().any(Follow::goes_on) {
            return Ok(runs);
        }
        screen.step(0, 1)?;
        std::thread::sleep(LOOK);
    }
}

fn tell(screen: &Screen, past: &Past, event: &Event) {
    let name = past.name();
    match event {
        Event::Step(record) => {
            let step = record.step;
            let known =
                |name: &str, value: f64| if value.is_finite() { format!("  {name} {value:.4}") } else { String::new() };
            let (loss, eval) = (known("loss", step.loss), known("held-out", record.eval_loss.unwrap_or(f64::NAN)));
            screen.message(&format!("{name}: step {:>5}{loss}{eval}", step.step));
        }
        Event::Frame(frame) => {
            let largest = frame.modules.iter().filter_map(|(module, sigma)| Some((module, *sigma.first()?)));
            if let Some((module, sigma)) = largest.max_by(|a, b| a.1.total_cmp(&b.1)) {
                let count = frame.modules.len();
                screen.message(&format!(
                    "{name}: checkpoint {}, {count} modules, largest σ {sigma:.4} in {module}",
                    frame.step
                ));
            }
        }
        Event::Note(note) => screen.message(note),
        _ => {}
    }
}

fn document(past: &Past) -> Value {
    let settings = &past.settings;
    let method = past.is_described().then(|| settings.method.as_str());
    let rank = Some(settings.rank).filter(|_| past.is_described() && settings.method != Method::Full);
    json!({
        "path": past.folder,
        "made_by": past.made_by(),
        "state": past.phase.word(),
        "steps": past.done,
        "steps_in_all": Some(past.steps).filter(|&steps| steps > 0),
        "last_loss": past.last.map(|record| record.step.loss),
        "eval_loss": past.eval_loss,
        "eval_sure": past.eval_sure,
        "checkpoints": past.checkpoints,
        "model": settings.model,
        "method": method,
        "r": rank,
    })
}

fn table(runs: &[Past]) -> String {
    let mut table =
        Table::new(&["run", "made by", "state", ">steps", ">loss", ">held-out", ">checkpoints", "method", ">r"]);
    let loss = |loss: Option<f64>| loss.map_or_else(|| "–".to_owned(), |loss| format!("{loss:.4}"));
    for past in runs {
        let steps = if past.steps > 0 { format!("{}/{}", past.done, past.steps) } else { past.done.to_string() };
        let (method, rank) = match past.settings.method {
            _ if !past.is_described() => ("–".to_owned(), String::new()),
            Method::Full => ("full".to_owned(), String::new()),
            method => (method.as_str().to_owned(), past.settings.rank.to_string()),
        };
        table.push(vec![
            past.name(),
            past.made_by().to_owned(),
            past.phase.word().to_owned(),
            steps,
            loss(past.last.map(|record| record.step.loss)),
            loss(past.eval_loss),
            past.checkpoints.len().to_string(),
            method,
            rank,
        ]);
    }
    table.render()
}
