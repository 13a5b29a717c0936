//! Several runs, one after the other: three methods, one rank beside a rank for each module, a sweep.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use crate::app::effect::Effect;
use crate::app::view::{Round, Spread};
use crate::error::{Error, Result};
use crate::plan::Targets;
use crate::train::run::Start;
use crate::train::sweep::{self, Group};
use crate::train::{Method, Settings};

use super::{Draft, FreeFolder, Task, Training};

/// Seeds of every kind of run in a comparison of ranks: without them a difference says nothing.
const SEEDS: u64 = 3;

/// Takes the folder for runs that are compared. For background tasks: it asks the disk.
fn comparison(free: FreeFolder) -> Result<PathBuf> {
    let out = free.claim();
    Group { kind: "comparison".to_owned(), ..Group::default() }.write(&out)?;
    Ok(out)
}

impl Training {
    pub(super) fn start_methods(&mut self, round: &mut Round<'_>) {
        let Some(draft) = self.ready(round) else { return };
        let model = Self::made_up(&Settings { method: Method::Full, ..draft.settings.clone() });
        let free = self.free_folder(&draft.name, &model.replace("-full", "-methods"));
        self.in_background(
            "Looking for a folder",
            move || comparison(free),
            move |training, out, round| {
                training.begin_methods(&draft, &out, round);
            },
        );
    }

    fn begin_methods(&mut self, draft: &Draft, out: &Path, round: &mut Round<'_>) {
        let one = |method: Method| {
            let (name, lr) = match method {
                Method::Lora => ("lora", draft.settings.lr),
                Method::Qlora => ("qlora", draft.settings.lr),
                Method::Full => ("full", draft.full_lr),
            };
            let settings = Settings { method, lr, out: out.join(name), ..draft.settings.clone() };
            Task::Run(Box::new(settings), Start::default())
        };
        self.begin_all([Method::Lora, Method::Qlora, Method::Full].map(one).into(), round);
    }

    /// One rank for all and a rank for each, in turns, so that there is something to compare after the first two runs.
    pub(super) fn start_spread(&mut self, spread: Spread, round: &mut Round<'_>) {
        let Some(draft) = self.ready(round) else { return };
        let model = Self::made_up(&Settings { method: Method::Full, ..draft.settings.clone() });
        let free = self.free_folder("", &model.replace("-full", "-ranks"));
        self.in_background(
            "Looking for a folder",
            move || comparison(free),
            move |training, out, round| {
                let mut tasks: VecDeque<Task> = VecDeque::new();
                for number in 0..SEEDS {
                    // Judged on the same rows, whatever the seed.
                    let split_seed = draft.settings.split_seed.or(Some(draft.settings.seed));
                    let common = Settings { seed: draft.settings.seed + number, split_seed, ..draft.settings.clone() };
                    let one = Settings {
                        rank: spread.uniform,
                        rank_pattern: BTreeMap::new(),
                        out: out.join(format!("one-rank-seed-{}", common.seed)),
                        ..common.clone()
                    };
                    let each = Settings {
                        rank: spread.uniform,
                        rank_pattern: spread.ranks.clone(),
                        targets: Targets::Custom(spread.ranks.keys().cloned().collect()).to_string(),
                        out: out.join(format!("rank-for-each-seed-{}", common.seed)),
                        ..common
                    };
                    let runs = [one, each].map(|settings| Task::Run(Box::new(settings), Start::default()));
                    tasks.extend(runs);
                }
                training.begin_all(tasks, round);
            },
        );
    }

    /// Begins these, one after the other, and lays them over each other.
    fn begin_all(&mut self, mut tasks: VecDeque<Task>, round: &mut Round<'_>) {
        let folders = tasks.iter().map(|task| task.folder().clone()).collect();
        if let Some(first) = tasks.pop_front()
            && self.begin_next(first, tasks, round)
        {
            self.compared = folders;
        }
    }

    pub(super) fn start_sweep(&mut self, round: &mut Round<'_>) {
        let Some(mut draft) = self.ready(round) else { return };
        let grid = sweep::ranks(&draft.ranks).and_then(|ranks| {
            let rates = sweep::rates(&draft.rates)?;
            Ok(sweep::Grid { ranks, rates, alpha: None, seeds: draft.seeds, halving: draft.halving })
        });
        match grid {
            Ok(grid) => {
                let name = Self::made_up(&Settings { method: Method::Full, ..draft.settings.clone() });
                let free = self.free_folder(&draft.name, &name.replace("-full", "-sweep"));
                self.in_background(
                    "Looking for a folder",
                    move || Ok(free.claim()),
                    |training, out, round| {
                        draft.settings.out = out;
                        let task = Task::Sweep(Box::new(draft.settings), Box::new(grid));
                        training.begin_next(task, VecDeque::new(), round);
                    },
                );
            }
            Err(error) => round.effects.push(Effect::Complain(error)),
        }
    }

    /// A sweep goes on from what its folder says.
    pub(super) fn resume_sweep(&mut self, folder: PathBuf, round: &mut Round<'_>) {
        if !self.is_free(round) {
            return;
        }
        let device = self.draft.as_ref().map(|draft| draft.settings.device).unwrap_or_default();
        let read = move || {
            let plan = Group::read(&folder).and_then(|group| group.plan);
            let plan = plan.ok_or_else(|| Error::file(&folder, "the folder does not say what its sweep was to do"))?;
            Ok((Settings { out: folder, device, ..plan.settings }, plan.grid))
        };
        self.in_background("Reading a sweep", read, |training, (settings, grid), round| {
            training.begin_next(Task::Sweep(Box::new(settings), Box::new(grid)), VecDeque::new(), round);
        });
    }
}
