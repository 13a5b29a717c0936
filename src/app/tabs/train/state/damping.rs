//! [`Damping`]: the new directions of an adapter, what scaling them down does to both losses, and the adapter that results.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::app::view::Round;
use crate::checkpoint::{Checkpoint, Dtype};
use crate::error::Result;
use crate::job::{Job, Running, Stream, Wake};
use crate::spectrum::subspaces::EPSILON;
use crate::train::damp::{Intruders, Scaled};
use crate::train::{Rows, data};

/// Directions of every tuned weight that are looked at.
pub const TOP: usize = 10;
/// Rows of each kind that the losses are taken over: enough to see a tenth of a nat, few enough to wait for.
const ROWS: usize = 64;
/// What the directions are scaled by, in the order in which that is measured: the ends first.
const SCALES: [f64; 11] = [1.0, 0.0, 0.5, 0.8, 0.2, 0.9, 0.7, 0.6, 0.4, 0.3, 0.1];

/// What is looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// The base.
    pub base: PathBuf,
    /// The adapter.
    pub adapter: PathBuf,
    /// Rows of its task.
    pub task: Option<PathBuf>,
    /// They were held out; otherwise they are those that it was trained on.
    pub held_out: bool,
    /// Text of the base's own kind.
    pub own: Option<PathBuf>,
    /// Longest sequence.
    pub seq: usize,
}

enum News {
    Found(Arc<Intruders>),
    /// How many rows of the task and of the base's own text the losses are taken over.
    Rows([Option<usize>; 2]),
    Measured(Scaled),
}

/// What is known, and the work behind it.
pub struct Damping {
    wake: Wake,
    subject: Option<Subject>,
    stream: Option<Stream<News>>,
    found: Option<Arc<Intruders>>,
    rows: [Option<usize>; 2],
    points: Vec<Scaled>,
    problem: Option<String>,
    writing: Option<Job<String>>,
}

impl Damping {
    /// Nothing yet; `wake` makes the window look again.
    pub fn new(wake: Wake) -> Self {
        Self {
            wake,
            subject: None,
            stream: None,
            found: None,
            rows: [None; 2],
            points: Vec::new(),
            problem: None,
            writing: None,
        }
    }

    /// Begins to look for the directions, then measures both losses at each scale.
    pub fn begin(&mut self, subject: Subject) {
        *self = Self { subject: Some(subject.clone()), ..Self::new(Arc::clone(&self.wake)) };
        self.stream = Some(Stream::spawn("New directions", Arc::clone(&self.wake), move |progress, send| {
            let found = Arc::new(Intruders::find(&subject.base, &subject.adapter, TOP, EPSILON, progress)?);
            send(News::Found(Arc::clone(&found)));
            let rows = |path: &Option<PathBuf>| -> Result<Option<Rows>> {
                path.as_ref().map(|path| some_of(path, found.base(), subject.seq, progress)).transpose()
            };
            let (task, own) = (rows(&subject.task)?, rows(&subject.own)?);
            send(News::Rows([&task, &own].map(|rows| rows.as_ref().map(|rows| rows.rows.len()))));
            if found.count() > 0 && (task.is_some() || own.is_some()) {
                let mut each = |scaled| send(News::Measured(scaled));
                found.losses(&SCALES, task.as_ref(), own.as_ref(), &mut each, progress)?;
            }
            Ok(())
        }));
    }

    /// Ends it where it is.
    pub fn stop(&self) {
        if let Some(stream) = &self.stream {
            stream.job().cancel();
        }
    }

    /// Writes the adapter with its new directions scaled.
    pub fn write(&mut self, scale: f64, out: PathBuf) {
        let Some(found) = self.found.clone() else { return };
        self.writing = Some(Job::spawn("Writing an adapter", Arc::clone(&self.wake), move |_| {
            found.write(scale, Dtype::F32, &out)?;
            Ok(format!("The adapter with its new directions scaled by {scale:.1} is in {}.", out.display()))
        }));
    }

    /// Takes in what has come.
    pub fn logic(&mut self, round: &mut Round<'_>) {
        if let Some(text) = round.finished(&mut self.writing) {
            round.say(text);
        }
        let Some(stream) = &mut self.stream else { return };
        let end = stream.take();
        for news in stream.items() {
            match news {
                News::Found(found) => self.found = Some(found),
                News::Rows(rows) => self.rows = rows,
                News::Measured(point) => self.points.push(point),
            }
        }
        self.points.sort_by(|a, b| a.scale.total_cmp(&b.scale));
        if let Some(result) = end {
            self.stream = None;
            self.problem = result.err().filter(|error| !error.is_cancelled()).map(|error| error.to_string());
        }
    }

    /// What was looked at last.
    pub fn subject(&self) -> Option<&Subject> {
        self.subject.as_ref()
    }

    /// The directions.
    pub fn found(&self) -> Option<&Intruders> {
        self.found.as_deref()
    }

    /// How many rows of the task and of the base's own text the losses are taken over: the first ones of each file.
    pub fn rows(&self) -> [Option<usize>; 2] {
        self.rows
    }

    /// The losses that are known, by scale.
    pub fn points(&self) -> &[Scaled] {
        &self.points
    }

    /// Why there is nothing.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The work, while there is some.
    pub fn running(&self) -> Option<&dyn Running> {
        self.stream.as_ref().map(|stream| stream.job() as &dyn Running)
    }
}

/// The first rows of a file.
fn some_of(path: &Path, base: &Checkpoint, seq: usize, progress: &dyn crate::progress::Progress) -> Result<Rows> {
    let mut rows = data::read(path, base, seq, progress)?.rows;
    rows.rows.truncate(ROWS);
    Ok(rows)
}
