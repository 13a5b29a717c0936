//! [`Live`]: the work that goes on in this window: a run or a sweep, with a brake.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::error::Result;
use crate::job::{self, Job, Status, Wake};
use crate::progress::Progress;
use crate::train::run::{self, Event, Start};
use crate::train::sweep::{self, Told};
use crate::train::{Settings, history};

use super::pause::{Brake, Braked};

/// Something to be trained.
#[derive(Clone, Debug)]
pub enum Task {
    /// One run.
    Run(Box<Settings>, Start),
    /// A run for each rank.
    Sweep(Box<Settings>, Vec<usize>),
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
pub enum News {
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
    inbox: Receiver<News>,
    brake: Arc<Brake>,
    /// What goes on.
    pub task: Task,
    /// The folder of the run that goes on now.
    pub current: Option<PathBuf>,
    /// What comes next.
    pub queue: VecDeque<Task>,
    /// A person has asked it to stop.
    pub stopping: bool,
}

impl Live {
    /// Starts the first task.
    pub fn start(task: Task, queue: VecDeque<Task>, wake: Wake) -> Self {
        let (sender, inbox) = channel();
        let brake = Arc::new(Brake::default());
        let held = Arc::clone(&brake);
        let work = task.clone();
        let title = format!("Training {}", history::name(task.folder()));
        // What a run tells does not wake the window by itself: its progress does, some ten times a second at most.
        let job = Job::spawn(title, wake, move |progress| {
            let braked = Braked { progress, brake: &held };
            job::beside(|| carry_out(work, &braked, &sender))
        });
        Self { job, inbox, brake, task, current: None, queue, stopping: false }
    }

    /// What the status bar shows.
    pub fn title(&self) -> &str {
        self.job.title()
    }

    /// How far it is.
    pub fn status(&self) -> Status {
        self.job.status()
    }

    /// Holds it between two steps, or lets it go on.
    pub fn hold(&self, held: bool) {
        self.brake.hold(held);
    }

    /// True while it is held.
    pub fn is_held(&self) -> bool {
        self.brake.is_held()
    }

    /// Ends it after this step, with a checkpoint; nothing that waits behind it begins.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.queue.clear();
        self.job.cancel();
        self.brake.end();
    }

    /// The end, once; then what came before it.
    pub fn end(&mut self) -> Option<Result<()>> {
        self.job.take()
    }

    /// What has come.
    pub fn news(&self) -> Vec<News> {
        self.inbox.try_iter().collect()
    }
}

fn carry_out(task: Task, progress: &dyn Progress, sender: &Sender<News>) -> Result<()> {
    // Nobody listens any more only when the window is gone.
    let send = |news: News| drop(sender.send(news));
    match task {
        Task::Run(settings, start) => {
            send(News::Begins(settings.clone()));
            let told = &mut |event| {
                send(News::Event(event));
                Ok(())
            };
            run::run(*settings, start, progress, told).map(drop)
        }
        Task::Sweep(settings, ranks) => {
            let told = &mut |told| {
                send(match told {
                    Told::Run(_, settings) => News::Begins(settings),
                    Told::Event(event) => News::Event(event),
                    Told::Rows(rows) => News::Rows(rows),
                });
                Ok(())
            };
            sweep::sweep(&settings, &ranks, false, progress, told).map(drop)
        }
    }
}
