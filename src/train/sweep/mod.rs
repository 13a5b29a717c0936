//! [`sweep`]: a run for each point of rank × learning rate × seed on the same data; and what the largest rank's adapter is worth
//! when it is cut down.
//!
//! ```text
//! out/group.json      what the folder is: settings, grid, the rows so far
//! out/r-8/            the run at r = 8, as any other run; out/r-8-lr-1e-3-seed-2/ in a grid
//! ```
//!
//! A sweep that was stopped, or whose program was gone, goes on from its folder alone: what is finished is taken as it is, what was
//! begun goes on after its last checkpoint.

mod cut;
mod grid;
mod rungs;

pub use cut::{Cut, Cutter};
pub use grid::{Grid, Point, Rates, ranks, rates};

use super::history::{self, Phase};
use super::run::{self, Event, Start};
use super::run_folder::GROUP;
use super::store::write_whole;
use super::{Method, Settings, film};
use crate::adapter::Adapter;
use crate::checkpoint::{Checkpoint, json};
use crate::error::{Error, Result};
use crate::progress::{Part, Progress};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The rank.
    pub r: usize,
    /// Its peak learning rate.
    #[serde(default)]
    pub lr: f64,
    /// α.
    #[serde(default)]
    pub alpha: f64,
    /// The seed.
    #[serde(default)]
    pub seed: u64,
    /// Elements that were trained.
    pub trainable: usize,
    /// Loss of the last step.
    pub last_loss: f64,
    /// Loss on the held-out rows after the run.
    pub eval_loss: Option<f64>,
    /// Share of the held-out predictions that got more than half of the probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_sure: Option<f64>,
    /// Loss on text of the base's own kind, before the run and after, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_loss: Option<[f64; 2]>,
    /// Directions that hold 95 % of the energy of ΔW: the mean over the modules.
    pub energy_95: f64,
    /// Loss on the held-out rows of the largest rank's adapter, truncated to this rank.
    pub truncated_eval_loss: Option<f64>,
    /// Steps after which it was given up, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<usize>,
    /// Where the run is.
    pub adapter: PathBuf,
}

/// What a sweep says while it goes on.
#[derive(Clone, Debug)]
pub enum SweepEvent {
    /// A run begins: its rank and its settings.
    Run(usize, Box<Settings>),
    /// Something about it.
    Event(Event),
    /// What is known so far, in the order of the ranks.
    Rows(Vec<Row>),
}

/// Takes what a sweep says; an error ends the sweep.
pub type OnSweep<'a> = &'a mut (dyn FnMut(SweepEvent) -> Result<()> + Send);

/// What `group.json` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// `sweep` or `comparison`.
    pub kind: String,
    /// What every run of a sweep has in common, and which runs there are to be: with them it can go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// Rows of a sweep.
    pub rows: Vec<Row>,
    /// The largest rank's best adapter, cut by one threshold over all modules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<Cut>,
    /// Steps that halving has saved.
    #[serde(skip_serializing_if = "is_zero")]
    pub saved_steps: usize,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// What a sweep is to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Of every run.
    pub settings: Settings,
    /// Its runs.
    pub grid: Grid,
}

impl Group {
    /// Reads what a folder is; `None` where it is no group of runs.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_str(&json::text(&folder.join(GROUP)).ok()?).ok()
    }

    /// Marks a folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::failure(error.to_string()))?;
        write_whole(&folder.join(GROUP), &text)
    }

    /// Runs that are still to be done: those of the plan without a row.
    pub fn missing(&self) -> usize {
        let Some(Plan { settings, grid }) = &self.plan else { return 0 };
        grid.points(settings).map_or(0, |points| points.len().saturating_sub(self.rows.len()))
    }

    /// The row with the lowest held-out loss, as a mean over the seeds of its point: rank, rate and mean.
    pub fn best(&self) -> Option<Mean> {
        means(&self.rows).into_iter().min_by(|a, b| a.loss.total_cmp(&b.loss))
    }
}

/// A point of a sweep over its seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mean {
    /// Rank.
    pub r: usize,
    /// Learning rate.
    pub lr: f64,
    /// α.
    pub alpha: f64,
    /// Mean held-out loss.
    #[serde(rename = "eval_loss")]
    pub loss: f64,
    /// The furthest seed from it.
    pub spread: f64,
    /// How many seeds.
    pub seeds: usize,
}

/// The points of some rows, in their order, with what their seeds came to. Runs that were given up do not count.
pub fn means(rows: &[Row]) -> Vec<Mean> {
    let mut points: Vec<(Mean, Vec<f64>)> = Vec::new();
    for row in rows.iter().filter(|row| row.given_up.is_none()) {
        let Some(loss) = row.eval_loss else { continue };
        match points.iter_mut().find(|(mean, _)| (mean.r, mean.lr, mean.alpha) == (row.r, row.lr, row.alpha)) {
            Some((_, losses)) => losses.push(loss),
            None => {
                points.push((Mean { r: row.r, lr: row.lr, alpha: row.alpha, loss, spread: 0.0, seeds: 1 }, vec![loss]))
            }
        }
    }
    let mean = |(point, losses): (Mean, Vec<f64>)| {
        let loss = losses.iter().sum::<f64>() / losses.len() as f64;
        let spread = losses.iter().map(|one| (one - loss).abs()).fold(0.0, f64::max);
        Mean { loss, spread, seeds: losses.len(), ..point }
    };
    points.into_iter().map(mean).collect()
}

/// The best rate of every rank, in the order of the ranks.
pub fn best_of_ranks(rows: &[Row]) -> Vec<Mean> {
    let mut best: Vec<Mean> = Vec::new();
    for mean in means(rows) {
        match best.iter_mut().find(|known| known.r == mean.r) {
            Some(known) if known.loss > mean.loss => *known = mean,
            Some(_) => {}
            None => best.push(mean),
        }
    }
    best.sort_by_key(|mean| mean.r);
    best
}

/// Steps between evaluations where nobody says.
const EVAL_EVERY: usize = 50;

/// Trains at each point, the largest rank first, in folders of their own in `settings.out`; then truncates. A sweep that was
/// stopped goes on: runs that are there are taken as they are.
///
/// # Errors
/// As [`run::run`]; `full` has no rank.
pub fn sweep(
    settings: &Settings,
    grid: &Grid,
    force: bool,
    progress: &dyn Progress,
    on_event: OnSweep<'_>,
) -> Result<Group> {
    if settings.method == Method::Full {
        return Err(Error::usage("a full fine-tune has no rank; expected method lora or qlora"));
    }
    let out = settings.out.clone();
    if out.as_os_str().is_empty() {
        return Err(Error::usage("no folder to write to; expected --out DIR"));
    }
    let points = grid.points(settings)?;
    let most = points[0].r;
    let checkpoint = Checkpoint::open(&settings.model)?;
    let plan = Plan { settings: settings.clone(), grid: grid.clone() };
    let mut group = Group { kind: "sweep".to_owned(), plan: Some(plan), ..Group::default() };
    group.write(&out)?;
    let units = points.len() as u64 + 1;
    let settings_of = |point: Point| {
        let mut one = grid.settings(settings, point);
        if one.eval_every == 0 && one.eval_data.is_none() {
            one.eval_every = EVAL_EVERY;
        }
        one
    };
    if grid.halving {
        let all: Vec<Settings> = points.iter().map(|&point| settings_of(point)).collect();
        let halved = rungs::halving(&all, &checkpoint, force, &Part::new(progress, 0, 1), on_event)?;
        group.saved_steps = halved.saved;
        for (one, given_up) in halved.runs {
            group.rows.push(row(&one, given_up)?);
        }
        group.sort();
    } else {
        for (index, &point) in points.iter().enumerate() {
            let one = settings_of(point);
            go_on(&one, force, &Part::new(progress, index as u64, units), on_event)?;
            group.rows.push(row(&one, None)?);
            group.sort();
            group.write(&out)?;
            on_event(SweepEvent::Rows(group.rows.clone()))?;
        }
    }
    let largest = Settings { eval_every: EVAL_EVERY.max(settings.eval_every), ..settings.clone() };
    let best = means(&group.rows).into_iter().filter(|mean| mean.r == most).min_by(|a, b| a.loss.total_cmp(&b.loss));
    let of_best = |row: &&Row| best.is_some_and(|best| (row.r, row.lr) == (best.r, best.lr)) && row.given_up.is_none();
    if let (Some(best), (_, Some(rows))) =
        (group.rows.iter().find(of_best), run::read(&largest, &checkpoint, progress)?)
    {
        let mut smaller: Vec<usize> = grid.ranks.iter().copied().filter(|&r| r < most).collect();
        smaller.sort_unstable();
        let part = Part::new(progress, units - 1, units);
        let mut cutter = Cutter::new(&checkpoint, settings, &best.adapter, most)?;
        let losses = cutter.at_ranks(&smaller, &rows, &Part::new(&part, 0, 2))?;
        group.cuts = cutter.by_threshold(&rows, &Part::new(&part, 1, 2))?;
        for row in &mut group.rows {
            let at = smaller.iter().position(|&r| r == row.r);
            row.truncated_eval_loss = at.and_then(|at| losses.get(at).copied());
        }
    }
    group.write(&out)?;
    on_event(SweepEvent::Rows(group.rows.clone()))?;
    progress.step(1, 1)?;
    Ok(group)
}

impl Group {
    fn sort(&mut self) {
        self.rows.sort_by(|a, b| a.r.cmp(&b.r).then(a.lr.total_cmp(&b.lr)).then(a.seed.cmp(&b.seed)));
    }
}

/// A run to its end, from wherever it is.
fn go_on(settings: &Settings, force: bool, progress: &dyn Progress, on_event: OnSweep<'_>) -> Result<()> {
    on_event(SweepEvent::Run(settings.rank, Box::new(settings.clone())))?;
    let before = history::Past::read(&settings.out).ok();
    if before.as_ref().is_none_or(|past| past.phase != Phase::Finished) {
        let start = Start { resume: before.is_some(), force };
        run::run(settings.clone(), start, progress, &mut |event| on_event(SweepEvent::Event(event)))?;
    }
    Ok(())
}

/// What a run came to.
fn row(settings: &Settings, given_up: Option<usize>) -> Result<Row> {
    let past = history::Past::read(&settings.out)?;
    let last_loss = past.last.map_or(f64::NAN, |record| record.step.loss);
    let adapter = past
        .newest_weights()
        .ok_or_else(|| Error::file(&settings.out, "the run has neither a result nor a checkpoint"))?;
    let spectra = cut::spectra(&Adapter::open(&adapter)?, 0)?;
    let needed = spectra.iter().map(|(_, spectrum)| {
        film::energy_rank(&spectrum.sigma.iter().map(|&s| s as f32).collect::<Vec<_>>(), 0.95) as f64
    });
    let energy_95 = needed.sum::<f64>() / spectra.len().max(1) as f64;
    Ok(Row {
        r: settings.rank,
        lr: settings.lr,
        alpha: settings.alpha(),
        seed: settings.seed,
        trainable: past.trainable,
        last_loss,
        eval_loss: past.eval_loss,
        eval_sure: past.eval_sure,
        forget_loss: past.forgetting,
        energy_95,
        truncated_eval_loss: None,
        given_up,
        adapter,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut to the rank that it was trained at, an adapter loses nothing; cut further, it is the best of that rank, not the same.
    #[test]
    fn a_sweep_trains_and_truncates() {
        let folder = tempfile::tempdir().unwrap();
        let line = |row: u32| {
            let ids: Vec<u32> = (0..20).map(|at| (row * 31 + at * 7) % 300 + 3).collect();
            format!("{{\"input_ids\": {ids:?}}}\n")
        };
        let data = folder.path().join("data.jsonl");
        std::fs::write(&data, (0..9).map(line).collect::<String>()).unwrap();
        let settings = Settings {
            model: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama"),
            data,
            out: folder.path().join("sweep"),
            targets: "q_proj,v_proj".into(),
            lr: 2e-2,
            batch: 2,
            steps: Some(10),
            ..Settings::default()
        };
        let mut runs = Vec::new();
        let grid = Grid::of_ranks(vec![1, 4]);
        let group = sweep(&settings, &grid, false, &(), &mut |event| {
            if let SweepEvent::Run(r, _) = event {
                runs.push(r);
            }
            Ok(())
        });
        let group = group.unwrap();
        let rows = group.rows.clone();
        assert_eq!((runs, rows[0].r, rows[1].r), (vec![4, 1], 1, 4));
        assert_eq!(4 * rows[0].trainable, rows[1].trainable);
        assert_eq!(Group::read(&settings.out).unwrap(), group);
        assert_eq!((group.missing(), group.best().unwrap().seeds), (0, 1));
        assert!(rows[1].truncated_eval_loss.is_none() && rows[0].truncated_eval_loss.is_some());
        let checkpoint = Checkpoint::open(&settings.model).unwrap();
        let held_out = run::read(&Settings { eval_every: 1, ..settings.clone() }, &checkpoint, &()).unwrap().1.unwrap();
        let adapter = settings.out.join("r-4");
        let mut cutter = Cutter::new(&checkpoint, &settings, &adapter, 4).unwrap();
        let losses = cutter.at_ranks(&[1, 4], &held_out, &()).unwrap();
        let trained = rows[1].eval_loss.unwrap();
        assert!((losses[1] - trained).abs() < 1e-4, "{} {trained}", losses[1]);
        assert!((losses[0] - trained).abs() > 1e-4, "one direction of four is not all of them");
        assert_eq!(Some(losses[0]), rows[0].truncated_eval_loss);
        // One threshold over all modules: what keeps everything costs nothing, and less is left each time.
        let cuts = &group.cuts;
        assert!((cuts[0].eval_loss - trained).abs() < 1e-4 && (cuts[0].energy - 1.0).abs() < 1e-9, "{cuts:?}");
        assert_eq!(cuts[0].parameters, rows[1].trainable as u64);
        assert!(
            cuts.windows(2)
                .all(|pair| pair[1].parameters < pair[0].parameters && pair[1].threshold > pair[0].threshold)
        );
        assert!(cuts.len() > 3 && 2 * cuts[1].parameters <= cuts[0].parameters, "{cuts:?}");
        // A sweep that is there is taken as it is.
        assert_eq!(sweep(&settings, &grid, false, &(), &mut |_| Ok(())).unwrap(), group);
        let full = Settings { method: Method::Full, ..settings.clone() };
        assert!(sweep(&full, &grid, false, &(), &mut |_| Ok(())).unwrap_err().to_string().contains("has no rank"));
    }

    /// Halving gives up three quarters of the points and says what that saved; a grid with seeds is judged by their means.
    #[test]
    fn a_grid_is_halved_and_goes_on_where_it_was_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data.jsonl");
        let line = |row: u32| {
            format!("{{\"input_ids\": {:?}}}\n", (0..12).map(|at| (row * 31 + at * 7) % 300 + 3).collect::<Vec<_>>())
        };
        std::fs::write(&data, (0..10).map(line).collect::<String>()).unwrap();
        let settings = Settings {
            model: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama"),
            out: folder.path().join("sweep"),
            forget_data: Some(data.clone()),
            data,
            targets: "q_proj".into(),
            batch: 2,
            steps: Some(8),
            save_every: 0,
            ..Settings::default()
        };
        let rates = Rates::Each(vec![1e-5, 1e-4, 1e-3, 2e-2]);
        let grid = Grid { ranks: vec![2], rates, seeds: 2, halving: true, ..Grid::default() };
        // The queue is on the disk: stopped after the third run began, the same call finishes it.
        let mut begun = 0;
        let stopped = sweep(&settings, &grid, false, &(), &mut |event| {
            begun += usize::from(matches!(event, SweepEvent::Run(..)));
            if begun > 2 { Err(Error::Cancelled) } else { Ok(()) }
        });
        assert!(stopped.unwrap_err().is_cancelled());
        let plan = Group::read(&settings.out).unwrap().plan.unwrap();
        let group = sweep(&plan.settings, &plan.grid, false, &(), &mut |_| Ok(())).unwrap();
        let given_up: Vec<Option<usize>> = group.rows.iter().map(|row| row.given_up).collect();
        assert_eq!(given_up.iter().filter(|one| one.is_none()).count(), 2, "{given_up:?}");
        assert_eq!((given_up.iter().filter(|one| **one == Some(2)).count(), group.saved_steps), (4, 4 * 6 + 2 * 4));
        let best = group.best().unwrap();
        assert!((best.lr - 2e-2).abs() < 1e-12 && best.seeds == 2, "{best:?}");
        assert!(group.rows.iter().all(|row| row.forget_loss.is_some_and(|[before, _]| before > 0.0)));
    }
}
