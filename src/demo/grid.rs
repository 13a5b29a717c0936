//! Rank × learning rate × α on each data set: what the best rate is at each rank under each convention for α, and how far advice
//! that was taken before any training is from the best point.
//!
//! For each rank and convention the rate goes along a ladder, with the first seed, from where it is expected until both neighbours of the
//! best are worse. The points that come close to the best, and the one that was advised, are run with the other two seeds as well, so
//! that the best is a mean of three. Every run is a line of a CSV file; lines that are there are not computed again.

use super::append;
use super::sets::{HELD_OUT, Set};
use super::study::{SEEDS, rows};
use super::tune::{SEQ, Tune, train};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::model::Processor;
use crate::plan::advise::rate;
use crate::progress::Progress;
use crate::train::advise::{Question, advise};
use crate::train::store::write_whole;
use crate::train::{Alpha, Method, Rows, Settings, Text, evaluate};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Ranks of the grid.
pub const RANKS: [usize; 3] = [4, 16, 64];

/// The ladder of rates: quarter powers of ten.
pub const RATES: [f64; 7] = [1e-3, 1.8e-3, 3e-3, 5.6e-3, 1e-2, 1.8e-2, 3e-2];

/// The rank at which all conventions of [`Alpha::USUAL`] are one: it is run under the first.
const MEET: usize = 16;

/// How one set is trained and judged in a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// The set.
    pub set: Set,
    /// Rows to train on.
    pub rows: u64,
    /// Steps.
    pub steps: usize,
    /// Sequences of a step.
    pub batch: usize,
    /// Rows are cut to so many tokens.
    pub seq: usize,
    /// Rows that are judged.
    pub judged: u64,
}

/// Runs of minutes: the three bundled sets, then two that were not looked at while the advice was written. After so many steps a loss no
/// longer hangs on whether a run has just found the trick of its task or not, but of backwards, where it does at any length.
pub const TASKS: [Task; 5] = [
    Task { set: Set::Pirate, rows: 400, steps: 160, batch: 4, seq: 48, judged: 24 },
    Task { set: Set::Extract, rows: 400, steps: 160, batch: 4, seq: SEQ, judged: 40 },
    Task { set: Set::Facts, rows: 64, steps: 160, batch: 8, seq: SEQ, judged: 64 },
    Task { set: Set::Tongue, rows: 400, steps: 160, batch: 4, seq: SEQ, judged: 60 },
    Task { set: Set::Backwards, rows: 400, steps: 160, batch: 4, seq: SEQ, judged: 60 },
];

/// The same in runs of seconds, which end while losses still fall steeply.
pub const BRIEF: [Task; 5] = [
    Task { steps: 40, ..TASKS[0] },
    Task { steps: 40, ..TASKS[1] },
    Task { steps: 60, ..TASKS[2] },
    Task { steps: 60, ..TASKS[3] },
    Task { steps: 50, ..TASKS[4] },
];

impl Task {
    /// Rows that are judged: held-out ones; of facts, which cannot be known otherwise, those that were trained.
    fn judged(&self) -> std::ops::Range<u64> {
        let from = if self.set == Set::Facts { 0 } else { HELD_OUT };
        from..from + self.judged
    }

    /// A run of it.
    pub fn settings(&self, point: Point, seed: u64) -> Settings {
        let Self { steps, batch, .. } = *self;
        let tune = Tune { method: Method::Lora, rank: point.rank, lr: point.lr, steps, batch, seed };
        let mut settings = Settings { seq: self.seq, film_every: 0, ..tune.settings() };
        point.alpha.set(&mut settings);
        settings
    }

    /// Writes its rows as a person has them: `STEM.train.jsonl`, and those that are judged as `STEM.eval.jsonl`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<[PathBuf; 2]> {
        let stem = self.set.stem();
        let files = [folder.join(format!("{stem}.train.jsonl")), folder.join(format!("{stem}.eval.jsonl"))];
        write_whole(&files[0], self.set.lines(0..self.rows).as_bytes())?;
        write_whole(&files[1], self.set.lines(self.judged()).as_bytes())?;
        Ok(files)
    }

    /// What is advised for it before any training: of the model, the rows and the length of the run alone.
    ///
    /// # Errors
    /// As [`advise`].
    pub fn advised(&self, base: &Path, folder: &Path, progress: &dyn Progress) -> Result<Point> {
        let [data, eval] = self.write(folder)?;
        let point = Point { rank: MEET, alpha: Alpha::USUAL[0], lr: 1.0 };
        let settings = self.settings(point, SEEDS[0]);
        let settings =
            Settings { model: base.to_path_buf(), data, eval_data: Some(eval), lr: Settings::default().lr, ..settings };
        let (_, advice) = advise(&Question { settings, ..Question::default() }, progress)?;
        let alpha =
            if advice.rslora { Alpha::Rslora(advice.alpha) } else { Alpha::Times(advice.alpha / advice.r as f64) };
        Ok(Point { rank: advice.r, alpha, lr: advice.lr })
    }
}

/// A point of the grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// r.
    pub rank: usize,
    /// How α follows it.
    pub alpha: Alpha,
    /// Peak learning rate.
    pub lr: f64,
}

impl Point {
    /// The same run under the convention that the grid lists it by.
    fn known(self) -> Self {
        if self.rank == MEET && self.alpha.scaling(MEET) == Alpha::USUAL[0].scaling(MEET) {
            Self { alpha: Alpha::USUAL[0], ..self }
        } else {
            self
        }
    }

    /// All that the grid may hold.
    fn all() -> impl Iterator<Item = Self> {
        curves().flat_map(|(rank, alpha)| RATES.map(|lr| Self { rank, alpha, lr }))
    }
}

/// Ranks with the conventions under which they are run: where these are one, once.
fn curves() -> impl Iterator<Item = (usize, Alpha)> {
    let one = |rank: usize| {
        Alpha::USUAL.into_iter().filter(move |&alpha| Point { rank, alpha, lr: RATES[0] }.known().alpha == alpha)
    };
    RANKS.into_iter().flat_map(move |rank| one(rank).map(move |alpha| (rank, alpha)))
}

/// One run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// What was trained.
    pub task: Task,
    /// Where in the grid.
    pub point: Point,
    /// Seed.
    pub seed: u64,
    /// Loss on the rows that are judged; infinite where the run diverged.
    pub loss: f64,
    /// How long it took.
    pub seconds: f64,
}

const HEADER: &str = "set,rows,steps,batch,rank,alpha,lr,seed,loss,seconds";

impl Line {
    fn text(&self) -> String {
        let Self { task: Task { set, rows, steps, batch, .. }, point, seed, loss, seconds } = self;
        let Point { rank, alpha, lr } = point;
        format!("{},{rows},{steps},{batch},{rank},{alpha},{lr},{seed},{loss:.5},{seconds:.1}", set.stem())
    }

    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split(',').collect();
        let [set, rows, steps, batch, rank, alpha, lr, seed, loss, seconds] = fields[..] else { return None };
        let (set, rows) = (Set::find(set)?, rows.parse().ok()?);
        let (steps, batch) = (steps.parse().ok()?, batch.parse().ok()?);
        let same = |task: &&Task| (task.set, task.rows, task.steps, task.batch) == (set, rows, steps, batch);
        let task = TASKS.iter().chain(&BRIEF).find(same).copied().unwrap_or(Task {
            set,
            rows,
            steps,
            batch,
            seq: SEQ,
            judged: 100,
        });
        let point = Point { rank: rank.parse().ok()?, alpha: alpha.parse().ok()?, lr: lr.parse().ok()? };
        let (seed, loss) = (seed.parse().ok()?, loss.parse().ok()?);
        Some(Self { task, point, seed, loss, seconds: seconds.parse().ok()? })
    }
}

/// The file of results.
#[derive(Debug)]
pub struct Grids {
    path: PathBuf,
    /// What is known.
    pub lines: Vec<Line>,
}

/// A point with its seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Where.
    pub point: Point,
    /// Mean loss.
    pub mean: f64,
    /// The furthest seed from it.
    pub spread: f64,
    /// Standard error of the mean; 0 of one seed.
    pub error: f64,
    /// How many seeds.
    pub seeds: usize,
}

impl Grids {
    /// Opens the file, or begins it.
    ///
    /// # Errors
    /// When it cannot be read or written, or holds something else.
    pub fn open(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                write_whole(path, format!("{HEADER}\n").as_bytes())?;
                return Ok(Self { path: path.to_path_buf(), lines: Vec::new() });
            }
            Err(error) => return Err(Error::read(path, "read", &error)),
        };
        if text.lines().next() != Some(HEADER) {
            return Err(Error::file(path, format!("its first line is another than expected: {HEADER}")));
        }
        // A line that was being written when the power went is done again.
        Ok(Self { path: path.to_path_buf(), lines: text.lines().skip(1).filter_map(Line::parse).collect() })
    }

    fn find(&self, task: &Task, point: Point, seed: u64) -> Option<Line> {
        let point = point.known();
        let same = |line: &&Line| (line.task, line.point, line.seed) == (*task, point, seed);
        self.lines.iter().find(same).copied()
    }

    /// What is known of a point.
    pub fn outcome(&self, task: &Task, point: Point) -> Option<Outcome> {
        let losses: Vec<f64> = SEEDS.iter().filter_map(|&seed| Some(self.find(task, point, seed)?.loss)).collect();
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        let spread = losses.iter().map(|loss| (loss - mean).abs()).fold(0.0, f64::max);
        let squares = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>();
        let count = losses.len() as f64;
        let error = if count > 1.0 { (squares / (count - 1.0) / count).sqrt() } else { 0.0 };
        (!losses.is_empty()).then_some(Outcome { point: point.known(), mean, spread, error, seeds: losses.len() })
    }

    /// The same of the first seed alone, by which points are chosen.
    fn first(&self, task: &Task, point: Point) -> Option<Outcome> {
        let mean = self.find(task, point, SEEDS[0])?.loss;
        Some(Outcome { point: point.known(), mean, spread: 0.0, error: 0.0, seeds: 1 })
    }

    /// The points of the grid that were run, the lowest loss first.
    pub fn best_first(&self, task: &Task) -> Vec<Outcome> {
        let mut found: Vec<Outcome> = Point::all().filter_map(|point| self.outcome(task, point)).collect();
        found.sort_by(|a, b| a.mean.total_cmp(&b.mean));
        found
    }

    /// Points whose first seed comes close to the best, the best first.
    fn contenders(&self, task: &Task) -> Vec<Point> {
        let mut found: Vec<Outcome> = Point::all().filter_map(|point| self.first(task, point)).collect();
        found.sort_by(|a, b| a.mean.total_cmp(&b.mean));
        let close = |of: &Outcome| found.first().is_some_and(|best| of.mean <= best.mean * CLOSE);
        found
            .iter()
            .enumerate()
            .filter(|(at, of)| *at < 2 || (close(of) && *at < MOST))
            .map(|(_, of)| of.point)
            .collect()
    }

    /// The best rate of a rank under a convention, with the first seed; `None` before both its neighbours are known to be worse.
    fn best_rate(&self, task: &Task, rank: usize, alpha: Alpha) -> Option<Outcome> {
        self.next_rate(task, rank, alpha).err()
    }

    /// The rate that is to be tried next; the best one where that is known.
    fn next_rate(&self, task: &Task, rank: usize, alpha: Alpha) -> std::result::Result<f64, Outcome> {
        let at = |lr: f64| self.first(task, Point { rank, alpha, lr });
        let tried = RATES.into_iter().enumerate().filter_map(|(rung, lr)| Some((rung, at(lr)?)));
        let Some((rung, best)) = tried.min_by(|a, b| a.1.mean.total_cmp(&b.1.mean)) else {
            let expected = rate::moved(EXPECTED, (MEET, Alpha::USUAL[0].scaling(MEET)), (rank, alpha.scaling(rank)));
            let far = |lr: &f64| (lr / expected).ln().abs();
            return Ok(RATES.into_iter().min_by(|a, b| far(a).total_cmp(&far(b))).unwrap_or(EXPECTED));
        };
        let neighbours = [rung.checked_sub(1), Some(rung + 1)].into_iter().flatten();
        match neighbours.filter_map(|rung| RATES.get(rung)).find(|&&lr| at(lr).is_none()) {
            Some(&lr) => Ok(lr),
            None => Err(best),
        }
    }

    /// The best point with all seeds.
    pub fn best(&self, task: &Task) -> Option<Outcome> {
        self.best_first(task).into_iter().find(|outcome| outcome.seeds == SEEDS.len())
    }

    fn add(&mut self, line: Line) -> Result<()> {
        append(&self.path, &line.text())?;
        self.lines.push(line);
        Ok(())
    }
}

/// Points within this factor of the best get all seeds, up to so many; two do in any case.
const CLOSE: f64 = 1.03;
const MOST: usize = 5;

/// A rate near the best one of a bundled set at [`MEET`], where the ladder begins.
const EXPECTED: f64 = 5.6e-3;

/// Runs what is missing of a task's grid; `advised` gets all seeds, wherever it lies.
///
/// # Errors
/// A file that cannot be read or written; and cancellation. A run that diverges is a line with an infinite loss.
pub fn grid(
    base: &Path,
    task: &Task,
    advised: Option<Point>,
    grids: &mut Grids,
    say: &mut dyn FnMut(String),
    progress: &dyn Progress,
) -> Result<()> {
    let (checkpoint, text) = (Checkpoint::open(base)?, Text::open(base)?);
    let mut all = |grids: &mut Grids, points: &[Point], seeds: &[u64]| -> Result<()> {
        for &point in points {
            for &seed in seeds {
                if grids.find(task, point, seed).is_none() {
                    let line = one(&checkpoint, &text, task, point.known(), seed, progress)?;
                    grids.add(line)?;
                    say(line.text());
                }
            }
        }
        Ok(())
    };
    for (rank, alpha) in curves() {
        while let Ok(lr) = grids.next_rate(task, rank, alpha) {
            all(grids, &[Point { rank, alpha, lr }], &SEEDS[..1])?;
        }
    }
    let contenders: Vec<Point> = grids.contenders(task);
    all(grids, &contenders, &SEEDS)?;
    all(grids, advised.as_slice(), &SEEDS)
}

fn one(
    checkpoint: &Checkpoint,
    text: &Text,
    task: &Task,
    point: Point,
    seed: u64,
    progress: &dyn Progress,
) -> Result<Line> {
    let begin = Instant::now();
    let cut = |seeds| -> Result<Rows> {
        let mut rows = rows(task.set, text, seeds)?;
        rows.rows.iter_mut().for_each(|row| row.truncate(task.seq));
        Ok(rows)
    };
    let (data, judged) = (cut(0..task.rows)?, cut(task.judged())?);
    let trained = train(checkpoint, data, task.settings(point, seed), &mut |_, _| Ok(()), progress);
    let loss = match trained {
        Ok(trainer) => evaluate(&Processor::default(), &trainer.decoder, &judged, 16, progress)?.mean(),
        // A rate that is too high is a result too.
        Err(error) if error.to_string().contains("diverged") => f64::INFINITY,
        Err(error) => return Err(error),
    };
    Ok(Line { task: *task, point, seed, loss, seconds: begin.elapsed().as_secs_f64() })
}

/// The best rate at each rank under each convention for α, as Markdown: what "how the rate moves with the rank" means depends on it.
/// Where the ladder has not come to its end, there is none.
pub fn by_convention(task: &Task, grids: &Grids) -> Option<String> {
    let best = |rank, alpha| grids.best_rate(task, rank, Point { rank, alpha, lr: RATES[0] }.known().alpha);
    let any = |alpha: &Alpha| RANKS.iter().filter(|&&rank| best(rank, *alpha).is_some()).count() > 1;
    let alphas: Vec<Alpha> = Alpha::USUAL.into_iter().filter(any).collect();
    if alphas.is_empty() {
        return None;
    }
    let mut text = String::from("| r |");
    alphas.iter().for_each(|alpha| text += &format!(" α = {alpha}: best lr | loss |"));
    text += &format!("\n|---|{}\n", "---|---|".repeat(alphas.len()));
    for rank in RANKS {
        text += &format!("| {rank} |");
        for &alpha in &alphas {
            text += &match best(rank, alpha) {
                Some(best) => format!(" {:e} | {:.3} |", best.point.lr, best.mean),
                None => " – | – |".to_owned(),
            };
        }
        text.push('\n');
    }
    Some(text)
}

/// What was advised before any training beside the best point of the grid, as Markdown; with the standard error of the difference, as far as
/// seeds tell it. The best of many points is also the luckiest: what stands there is too much rather than too little.
pub fn check(advised: &[(Task, Point)], grids: &Grids) -> String {
    let mut text =
        String::from("| set | advised | loss | best of the grid | loss | off |\n|---|---|---|---|---|---|\n");
    let named = |point: Point| format!("r {}, α {}, {:e}", point.rank, point.alpha, point.lr);
    let loss = |of: Outcome| match of.seeds {
        1 => format!("{:.3}, one seed", of.mean),
        2 => format!("{:.3} ± {:.3}, two seeds", of.mean, of.spread),
        _ => format!("{:.3} ± {:.3}", of.mean, of.spread),
    };
    for (task, point) in advised {
        let (Some(own), Some(best)) = (grids.outcome(task, *point), grids.best(task)) else { continue };
        let off = 100.0 * (own.mean / best.mean - 1.0);
        let error = 100.0 * own.error.hypot(best.error) / best.mean;
        let error = if own.point == best.point || error == 0.0 { String::new() } else { format!(" (± {error:.1})") };
        let (set, at) = (task.set.stem(), named(best.point));
        text +=
            &format!("| {set} | {} | {} | {at} | {} | {off:+.1} %{error} |\n", named(*point), loss(own), loss(best));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_conventions_are_one_at_16() {
        assert_eq!(curves().count(), 3 + 1 + 3);
        assert_eq!(Point::all().count(), RATES.len() * 7);
        let at = |alpha| Point { rank: 16, alpha, lr: 1e-2 }.known();
        assert!(Alpha::USUAL.into_iter().all(|alpha| at(alpha) == at(Alpha::USUAL[0])));
        assert_ne!(at(Alpha::Fixed(16.0)), at(Alpha::USUAL[0]));
    }

    #[test]
    fn lines_come_back_and_the_best_has_all_seeds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grid.csv");
        let mut grids = Grids::open(&path).unwrap();
        let task = TASKS[1];
        let add = |grids: &mut Grids, lr: f64, seed: u64, loss: f64| {
            let point = Point { rank: 16, alpha: Alpha::USUAL[1], lr }.known();
            grids.add(Line { task, point, seed, loss, seconds: 1.5 }).unwrap();
        };
        // One lucky seed is not the best.
        add(&mut grids, 1e-2, 1, 0.1);
        for (seed, loss) in SEEDS.into_iter().zip([0.2, 0.3, 0.4]) {
            add(&mut grids, 3e-3, seed, loss);
        }
        add(&mut grids, 3e-2, 1, f64::INFINITY);
        let again = Grids::open(&path).unwrap();
        assert_eq!(again.lines, grids.lines);
        let best = again.best(&task).unwrap();
        assert_eq!((best.point.lr, best.seeds), (3e-3, 3));
        assert!((best.mean - 0.3).abs() < 1e-9 && (best.spread - 0.1).abs() < 1e-9);
        assert!((best.error - 0.1 / 3f64.sqrt()).abs() < 1e-9, "{}", best.error);
        assert_eq!(by_convention(&task, &again), None, "nothing is shown before its neighbours are known");
    }

    #[test]
    fn a_ladder_ends_where_both_neighbours_are_worse() {
        let folder = tempfile::tempdir().unwrap();
        let mut grids = Grids::open(&folder.path().join("grid.csv")).unwrap();
        let (task, alpha) = (TASKS[0], Alpha::USUAL[0]);
        // The loss is least at 1e-2, as it is often at rank 4.
        let loss = |lr: f64| 1.0 + (lr / 1e-2).ln().powi(2);
        let mut tried = Vec::new();
        while let Ok(lr) = grids.next_rate(&task, 4, alpha) {
            let point = Point { rank: 4, alpha, lr };
            grids.add(Line { task, point, seed: SEEDS[0], loss: loss(lr), seconds: 1.0 }).unwrap();
            tried.push(lr);
        }
        assert_eq!(grids.best_rate(&task, 4, alpha).unwrap().point.lr, 1e-2);
        assert_eq!(tried.len(), 3, "{tried:?}");
        // At the end of the ladder one neighbour is enough.
        for lr in [1e-3, 1.8e-3] {
            let point = Point { rank: 64, alpha, lr };
            grids.add(Line { task, point, seed: SEEDS[0], loss: lr, seconds: 1.0 }).unwrap();
        }
        assert_eq!(grids.best_rate(&task, 64, alpha).unwrap().point.lr, 1e-3);
        // Those within 3 % of the best are run again.
        assert_eq!(grids.contenders(&task).len(), 2);
    }
}
