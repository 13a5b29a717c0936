//! [`Job`]: work beside the window. The only place that starts threads.
//!
//! A job that panics is an error on screen, never a dead window: `poll-promise` panics the polling thread when its
//! sender is dropped without a value, so the worker runs under `catch_unwind` and always sends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use poll_promise::Promise;

use crate::error::{Error, Result};
use crate::progress::Progress;

/// Called by a worker when it has news, so that whoever shows it looks again.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Shortest time between two wakes for progress alone.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

struct Shared {
    cancelled: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
    stage: Mutex<String>,
    woken: Mutex<Instant>,
    wake: Wake,
}

impl Progress for Shared {
    fn stage(&self, name: &str) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if *stage != name {
            name.clone_into(&mut stage);
        }
    }

    fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn step(&self, done: u64, total: u64) -> Result<()> {
        self.check()?;
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        // `try_lock`: whoever finds it taken is not the first with this news.
        if let Ok(mut woken) = self.woken.try_lock()
            && woken.elapsed() >= PROGRESS_INTERVAL
        {
            *woken = Instant::now();
            (self.wake)();
        }
        Ok(())
    }
}

/// How far a job is.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// Share done, 0 to 1; `None` before the first report.
    pub fraction: Option<f32>,
    /// Time since the start.
    pub elapsed: Duration,
    /// The least and the most time that is left, by the speed so far; `None` while too little is known.
    pub remaining: Option<[Duration; 2]>,
}

/// Tells a job from every other job of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobId(u64);

impl JobId {
    fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// A job as a list of running jobs shows it, whatever it computes.
pub trait Running {
    /// Which one.
    fn id(&self) -> JobId;
    /// What it does, as shown to a person.
    fn title(&self) -> &str;
    /// How far it is.
    fn status(&self) -> Status;
    /// Asks the work to stop.
    fn cancel(&self);
}

/// Runs `work` on threads that leave one processor to the window, where there are more than two: long work beside a window
/// that is to stay quick. On the threads of all where that cannot be.
pub fn beside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let all = rayon::current_num_threads();
    let threads = if all > 2 { all - 1 } else { all };
    match rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|n| format!("beside {n}")).build() {
        Ok(pool) => pool.install(work),
        Err(error) => {
            log::warn!("cannot start threads: {error}");
            work()
        }
    }
}

/// One piece of work on a thread of its own. Dropping it cancels the work.
pub struct Job<T: Send + 'static> {
    id: JobId,
    title: String,
    started: Instant,
    shared: Arc<Shared>,
    promise: Option<Promise<Result<T>>>,
}

impl<T: Send + 'static> Job<T> {
    /// Starts `work`; `wake` is called when it reports progress and when it ends.
    pub fn spawn(
        title: impl Into<String>,
        wake: Wake,
        work: impl FnOnce(&dyn Progress) -> Result<T> + Send + 'static,
    ) -> Self {
        let title = title.into();
        let shared = Arc::new(Shared {
            cancelled: AtomicBool::new(false),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            stage: Mutex::default(),
            woken: Mutex::new(Instant::now()),
            wake,
        });
        let (sender, promise) = Promise::new();
        let worker = Arc::clone(&shared);
        let name = title.clone();
        let spawned = std::thread::Builder::new().name("job".into()).spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| work(worker.as_ref())))
                .unwrap_or_else(|panic| Err(Error::failure(format!("{name} stopped on a defect: {}", words(&*panic)))));
            sender.send(result);
            (worker.wake)();
        });
        // Without a thread the sender is gone and polling would panic: answer at once instead.
        let promise = match spawned {
            Ok(_) => promise,
            Err(error) => {
                Promise::from_ready(Err(Error::failure(format!("cannot start a thread for {title}: {error}"))))
            }
        };
        Self { id: JobId::next(), title, started: Instant::now(), shared, promise: Some(promise) }
    }

    /// Which job this is.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// What the job does, as shown to a person.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The result, once, when it is there.
    pub fn take(&mut self) -> Option<Result<T>> {
        match self.promise.take()?.try_take() {
            Ok(result) => Some(result),
            Err(promise) => {
                self.promise = Some(promise);
                None
            }
        }
    }

    /// Asks the work to stop; it ends with [`Error::Cancelled`] at its next step.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
    }

    /// True once [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::Relaxed)
    }

    /// What it is at, in words; empty in its usual course.
    pub fn stage(&self) -> String {
        self.shared.stage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How far it is.
    pub fn status(&self) -> Status {
        let (done, total) = (self.shared.done.load(Ordering::Relaxed), self.shared.total.load(Ordering::Relaxed));
        let elapsed = self.started.elapsed();
        let fraction = (total > 0).then(|| (done as f64 / total as f64).clamp(0.0, 1.0));
        let remaining = fraction
            .filter(|&f| f > 0.02 && elapsed > Duration::from_millis(500))
            // The mean speed of all that was done is known, not how it varied.
            .map(|f| [0.8, 1.25].map(|around| elapsed.mul_f64(around * (1.0 - f) / f)));
        Status { fraction: fraction.map(|f| f as f32), elapsed, remaining }
    }
}

impl<T: Send + 'static> Running for Job<T> {
    fn id(&self) -> JobId {
        self.id
    }

    fn title(&self) -> &str {
        self.title()
    }

    fn status(&self) -> Status {
        self.status()
    }

    fn cancel(&self) {
        self.cancel();
    }
}

impl<T: Send + 'static> Drop for Job<T> {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// A job that hands over results while it works.
pub struct Stream<I: Send + 'static> {
    job: Job<()>,
    items: Receiver<I>,
}

impl<I: Send + 'static> Stream<I> {
    /// Starts `work`, which passes each item to its second argument as soon as it is there.
    pub fn spawn(
        title: impl Into<String>,
        wake: Wake,
        work: impl FnOnce(&dyn Progress, &mut dyn FnMut(I)) -> Result<()> + Send + 'static,
    ) -> Self {
        let (sender, items) = channel();
        let news = Arc::clone(&wake);
        let job = Job::spawn(title, wake, move |progress| {
            work(progress, &mut |item| {
                // Nobody listens any more: the next progress step ends the work.
                if sender.send(item).is_ok() {
                    news();
                }
            })
        });
        Self { job, items }
    }

    /// The items that have come since the last call.
    pub fn items(&self) -> impl Iterator<Item = I> {
        self.items.try_iter()
    }

    /// The end of the work, once. Take the [`items`](Self::items) after it, so that none is missed.
    pub fn take(&mut self) -> Option<Result<()>> {
        self.job.take()
    }

    /// The work itself: title, status, cancel.
    pub fn job(&self) -> &Job<()> {
        &self.job
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Wake {
        Arc::new(|| {})
    }

    fn wait<T: Send>(job: &mut Job<T>) -> Result<T> {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if let Some(result) = job.take() {
                return result;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("the job did not end");
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let mut job = Job::<()>::spawn("dividing", quiet(), |_| panic!("by zero"));
        assert_eq!(wait(&mut job).unwrap_err().to_string(), "dividing stopped on a defect: by zero");
        assert!(job.take().is_none(), "a result is handed over once");
    }

    #[test]
    fn cancelling_ends_the_work() {
        let mut job = Job::<()>::spawn("endless", quiet(), |progress| {
            loop {
                progress.step(1, 10)?;
                std::thread::yield_now();
            }
        });
        while job.status().fraction.is_none() {
            std::thread::yield_now();
        }
        job.cancel();
        assert!(wait(&mut job).unwrap_err().is_cancelled());
    }

    #[test]
    fn jobs_of_one_title_are_told_apart() {
        let jobs = [0, 1].map(|_| {
            Job::<()>::spawn("endless", quiet(), |progress| {
                loop {
                    progress.step(0, 1)?;
                    std::thread::yield_now();
                }
            })
        });
        let all: Vec<&dyn Running> = jobs.iter().map(|job| job as &dyn Running).collect();
        assert_ne!(all[0].id(), all[1].id());
        let second = jobs[1].id();
        all.iter().filter(|job| job.id() == second).for_each(|job| job.cancel());
        assert!(!jobs[0].is_cancelled() && jobs[1].is_cancelled());
    }

    #[test]
    fn dropping_cancels() {
        let (sender, ended) = channel();
        let job = Job::<()>::spawn("endless", quiet(), move |progress| {
            loop {
                if let Err(error) = progress.step(0, 1) {
                    sender.send(error.is_cancelled()).unwrap();
                    return Err(error);
                }
                std::thread::yield_now();
            }
        });
        drop(job);
        assert!(ended.recv_timeout(Duration::from_secs(20)).unwrap());
    }

    #[test]
    fn a_stream_loses_nothing_and_wakes() {
        let wakes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&wakes);
        let wake: Wake = Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let mut stream = Stream::spawn("counting", wake, |_, send| {
            (0..100).for_each(send);
            Ok(())
        });
        let end = Instant::now() + Duration::from_secs(20);
        while stream.take().is_none() {
            assert!(Instant::now() < end);
            std::thread::yield_now();
        }
        assert!(stream.items().eq(0..100));
        assert!(wakes.load(Ordering::Relaxed) >= 100);
    }
}
