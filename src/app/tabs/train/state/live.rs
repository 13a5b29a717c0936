//! [`Live`]: the work that goes on in this window: a run or a sweep, with a pause.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::error::Result;
use crate::job::{self, Job, JobId, Running, Status, Wake};
use crate::progress::Progress;
use crate::train::run::{self, Event, Start};
use crate::train::sweep::{self, SweepEvent};
use crate::train::{Settings, history};

use super::pause::{Pausable, PauseToken};

/// Something to be trained.
#[derive(Clone, Debug)]
pub enum Task {
    /// One run.
    Run(Box<Settings>, Start),
    /// A run for each point of a grid.
    Sweep(Box<Settings>, Box<sweep::Grid>),
}

impl Task {
    /// Where it writes.
    pub fn folder(&self) -> &PathBuf {
        match self {
            Self::Run(settings, _) | Self::Sweep(settings, _) => &settings.out,
        }
    }
}

/// What comes from the work.
pub enum LiveEvent {
    /// A run begins.
    Begins(Box<Settings>),
    /// It tells something.
    Event(Event),
    /// What is known of a sweep's ranks.
    Rows(Vec<sweep::Row>),
}

/// Work that goes on, and what waits behind it.
pub struct Live {
    job: Job<()>,
    /// What it is called while it is held.
    paused: String,
    inbox: Receiver<LiveEvent>,
    pause: Arc<PauseToken>,
    /// What goes on.
    pub task: Task,
    /// The folder of the run that goes on now.
    pub current: Option<PathBuf>,
    /// What comes next.
    pub queue: VecDeque<Task>,
    /// Seconds left by the clock of the run that goes on, which its header shows.
    pub time_left: Option<[Duration; 2]>,
}

impl Live {
    /// Starts the first task.
    pub fn start(task: Task, queue: VecDeque<Task>, wake: Wake) -> Self {
        let (sender, inbox) = channel();
        let pause = Arc::new(PauseToken::default());
        let held = Arc::clone(&pause);
        let work = task.clone();
        let name = history::name(task.folder());
        let (title, paused) = (format!("Training {name}"), format!("Paused: {name}"));
        // What a run tells does not wake the window by itself: its progress does, some ten times a second at most.
        let job = Job::spawn(title, wake, move |progress| {
            let pausable = Pausable { progress, pause: &held };
            job::beside(|| carry_out(work, &pausable, &sender))
        });
        Self { job, paused, inbox, pause, task, current: None, queue, time_left: None }
    }

    /// Holds it between two steps, or lets it go on.
    pub fn hold(&self, held: bool) {
        self.pause.hold(held);
    }

    /// True while it is held.
    pub fn is_held(&self) -> bool {
        self.pause.is_held()
    }

    /// What it does where it takes no steps: it reads, loads, evaluates, samples, saves; empty otherwise.
    pub fn stage(&self) -> String {
        self.job.stage()
    }

    /// True once it was asked to stop: it ends after this step, with a checkpoint, and nothing that waits behind it begins.
    pub fn is_stopping(&self) -> bool {
        self.job.is_cancelled()
    }

    /// The end, once; then what came before it.
    pub fn end(&mut self) -> Option<Result<()>> {
        self.job.take()
    }

    /// What has come.
    pub fn events(&self) -> Vec<LiveEvent> {
        self.inbox.try_iter().collect()
    }
}

impl Running for Live {
    fn id(&self) -> JobId {
        self.job.id()
    }

    fn title(&self) -> &str {
        if self.is_held() { &self.paused } else { self.job.title() }
    }

    /// Of a single run the time that its header shows; of a sweep, whose runs differ, that of its progress.
    fn status(&self) -> Status {
        let status = self.job.status();
        let remaining = match &self.task {
            Task::Run(..) => self.time_left,
            Task::Sweep(..) => status.remaining,
        };
        Status { remaining: remaining.filter(|_| !self.is_held()), ..status }
    }

    /// Ends it after this step, with a checkpoint.
    fn cancel(&self) {
        self.job.cancel();
        self.pause.end();
    }
}

fn carry_out(task: Task, progress: &dyn Progress, sender: &Sender<LiveEvent>) -> Result<()> {
    // Nobody listens any more only when the window is gone.
    let send = |news: LiveEvent| drop(sender.send(news));
    match task {
        Task::Run(settings, start) => {
            send(LiveEvent::Begins(settings.clone()));
            let on_event = &mut |event| {
                send(LiveEvent::Event(event));
                Ok(())
            };
            run::run(*settings, start, progress, on_event).map(drop)
        }
        Task::Sweep(settings, grid) => {
            let on_event = &mut |event| {
                send(match event {
                    SweepEvent::Run(_, settings) => LiveEvent::Begins(settings),
                    SweepEvent::Event(event) => LiveEvent::Event(event),
                    SweepEvent::Rows(rows) => LiveEvent::Rows(rows),
                });
                Ok(())
            };
            sweep::sweep(&settings, &grid, false, progress, on_event).map(drop)
        }
    }
}
