//! `rankscope export-job`: a folder that trains the same elsewhere.

use super::Common;
use super::screen::Screen;
use super::settings::Given;
use crate::error::{Error, Result};
use crate::export::job::{ENGINES, Engine, Job, LAUNCHERS, Launcher, Strategy, Variant, export};
use crate::train::Settings;
use crate::train::history::Past;
use crate::train::run_folder::read_settings;
use crate::train::sweep::{Grid, ranks, rates};
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct ExportJob {
    /// Run whose settings are exported, of this program or another
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,

    /// Settings from a file as a run writes it; flags beside it count more
    #[arg(long, value_name = "RUN.TOML", conflicts_with = "run")]
    config: Option<PathBuf>,

    /// Engine that trains
    #[arg(long = "for", value_name = "ENGINE", value_parser = PossibleValuesParser::new(ENGINES.map(|engine| engine.name)))]
    engine: String,

    /// What starts it
    #[arg(long, default_value = "python", value_parser = PossibleValuesParser::new(LAUNCHERS.map(|launcher| launcher.name)))]
    launcher: String,

    /// Machines
    #[arg(long, default_value_t = 1)]
    nodes: usize,

    /// GPUs of each machine
    #[arg(long, default_value_t = 1)]
    gpus: usize,

    /// How the model is spread over GPUs [default: ddp, a whole copy on each]
    #[arg(long, value_parser = super::choice::one_of(Strategy::ALL))]
    strategy: Option<Strategy>,

    /// Data as texts for the engine's own tokenizer, not as token ids and labels
    #[arg(long)]
    texts: bool,

    /// Take the initial A and B along, so that the run begins exactly as it would here
    #[arg(long)]
    initial_adapter: bool,

    /// Sweep over these ranks, such as 1,8,64: an array of runs
    #[arg(long)]
    ranks: Option<String>,

    /// Sweep over these learning rates, such as 1e-4,1e-3; auto for three around what --lr is worth at each rank
    #[arg(long)]
    lrs: Option<String>,

    /// Sweep over so many seeds
    #[arg(long, default_value_t = 1)]
    seeds: usize,

    #[command(flatten)]
    given: Given,
}

impl ExportJob {
    pub fn run(self, screen: &Screen, common: &Common) -> Result<()> {
        let mut settings = match (&self.run, &self.config) {
            (Some(run), _) => {
                let past = Past::read(run)?;
                if !past.is_described() {
                    return Err(Error::file(
                        run,
                        "says nothing of model and method, expected a run with an adapter or run.toml",
                    ));
                }
                Settings { out: PathBuf::new(), ..past.settings }
            }
            (None, Some(path)) => Settings { out: PathBuf::new(), ..read_settings(path)? },
            (None, None) => Settings::default(),
        };
        self.given.apply(&mut settings)?;
        settings.device = common.device;
        for (name, path) in [("model", &settings.model), ("--data FILE", &settings.data), ("--out DIR", &settings.out)]
        {
            if path.as_os_str().is_empty() {
                return Err(Error::usage(format!("no {name}")));
            }
        }
        let world = self.nodes * self.gpus;
        let job = Job {
            engine: Engine::named(&self.engine)?,
            launcher: Launcher::named(&self.launcher)?,
            nodes: self.nodes,
            gpus: self.gpus,
            strategy: self.strategy.or((world > 1).then_some(Strategy::Ddp)),
            texts: self.texts,
            initial_adapter: self.initial_adapter,
            variants: self.variants(&settings)?,
            out: settings.out.clone(),
        };
        let written = export(&settings, &job, screen);
        screen.finish();
        let written = written?;
        if screen.json {
            return screen.document(&json!({
                "out": written.out,
                "files": written.files,
                "differs": written.differs,
                "command": written.command,
                "notes": written.notes,
            }));
        }
        for note in &written.notes {
            screen.message(note);
        }
        let mut text = format!("{}: {}\n", written.out.display(), written.files.join(", "));
        for one in &written.differs {
            text += &format!("{}: here {}, there {}: {}\n", one.setting, one.here, one.there, one.why);
        }
        screen.print(&format!("{text}{}\n", written.command))
    }

    /// Runs of a sweep; none where no list is given.
    fn variants(&self, settings: &Settings) -> Result<Vec<Variant>> {
        if self.ranks.is_none() && self.lrs.is_none() && self.seeds <= 1 {
            return Ok(Vec::new());
        }
        let ranks = self.ranks.as_deref().map_or_else(|| Ok(vec![settings.rank]), ranks)?;
        let rates = rates(self.lrs.as_deref().unwrap_or_default())?;
        Variant::all(&Grid { ranks, rates, alpha: None, seeds: self.seeds, halving: false }, settings)
    }
}
