//! The work beside the window: what runs, what it has found, how to stop it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::delta::{DeltaSet, DeltaWeight};
use crate::demo;
use crate::error::{Error, Result};
use crate::job::{Job, JobId, Running, Stream, Wake};
use crate::progress::{Part, Progress};
use crate::spectrum::{self, Method, Options, Spectrum};
use crate::workspace::{Opened, Request};

use crate::app::widgets::low_rank::{Factors, LowRank};
use crate::app::widgets::picture::{Picture, Reduction};
use crate::app::widgets::pyramid::Pyramid;

/// One finished piece of the analysis of the current module.
pub enum Found {
    /// ΔW, ready to be looked at.
    Picture(Arc<dyn Picture>),
    /// Its spectrum, and its singular vectors as pictures need them.
    Spectrum(Arc<Spectrum>, Option<Arc<Factors>>),
}

/// What opening was about, for the message and the recent files.
pub struct Opening {
    request: Option<Request>,
    job: Job<Opened>,
}

/// The analysis of the current module.
pub struct Analysis {
    /// The module.
    pub name: String,
    stream: Stream<Found>,
}

/// The spectra of many modules.
pub struct Sweep {
    /// The modules, in the order of the work.
    pub names: Vec<String>,
    stream: Stream<(String, Result<Arc<Spectrum>>)>,
}

/// What has come in since the last frame.
pub enum Event {
    /// A model was opened, or could not be; the request as it was asked for (`None`: the sample).
    Opened(Option<Request>, Result<Opened>),
    /// Part of the analysis of a module.
    Found(String, Found),
    /// The analysis of a module ended.
    Analysed(String, Result<()>),
    /// One spectrum of the sweep.
    Swept(String, Result<Arc<Spectrum>>),
    /// The sweep over these modules ended.
    SweepEnded(Vec<String>, Result<()>),
}

/// Everything that runs.
pub struct Jobs {
    wake: Wake,
    opening: Option<Opening>,
    analysis: Option<Analysis>,
    sweep: Option<Sweep>,
}

impl Jobs {
    /// `wake` makes the window look again.
    pub fn new(wake: Wake) -> Self {
        Self { wake, opening: None, analysis: None, sweep: None }
    }

    /// Makes the window look again.
    pub fn wake(&self) -> Wake {
        Arc::clone(&self.wake)
    }

    /// Opens a model; an opening under way is dropped.
    pub fn open(&mut self, request: Request, base: Option<Arc<Checkpoint>>) {
        let title = match (&request, request.path()) {
            (Request::Hub(ask), _) => format!("Getting {}", ask.repository),
            (_, Some(path)) => format!("Opening {}", path.display()),
            (_, None) => "Opening weights".to_owned(),
        };
        let asked = request.clone();
        let job = Job::spawn(title, self.wake(), move |progress| Opened::read(&asked, base, progress));
        self.opening = Some(Opening { request: Some(request), job });
    }

    /// Opens the bundled sample, written under `dir` first where it is not there yet.
    pub fn open_sample(&mut self, dir: PathBuf) {
        let job = Job::spawn("Opening the bundled sample", self.wake(), move |progress| {
            let sample = demo::sample(&dir, progress)?;
            Opened::read(&Request::Pair(sample.base, sample.tuned), None, progress)
        });
        self.opening = Some(Opening { request: None, job });
    }

    /// Analyses one module: its ΔW as a picture (unless it is `pictured` already), then its spectrum with singular vectors.
    pub fn analyse(&mut self, delta: Arc<DeltaSet>, name: &str, options: Options, pictured: bool) {
        let module = name.to_owned();
        let title = match options.method {
            Method::Exact => format!("All singular values of {name}"),
            _ => format!("Spectrum of {name}"),
        };
        let stream = Stream::spawn(title, self.wake(), move |progress, send| {
            let entry = delta.entry(&module).ok_or_else(|| Error::usage(format!("{module} is not in the model")))?;
            let weight = delta.load(entry, &Part::new(progress, 0, 10))?;
            if !pictured {
                send(Found::Picture(picture(&weight, &Part::new(progress, 1, 10))?));
            }
            let spectrum = spectrum::spectrum(&weight, &options, &Part::rest(progress, 2, 10))?;
            let factors = spectrum.vectors.as_ref().map(|v| Arc::new(Factors::of_svd(&v.u, &spectrum.sigma, &v.v)));
            send(Found::Spectrum(Arc::new(spectrum), factors));
            Ok(())
        });
        self.analysis = Some(Analysis { name: name.to_owned(), stream });
    }

    /// Computes the spectra of `names`, one after the other.
    pub fn sweep(&mut self, delta: Arc<DeltaSet>, names: Vec<String>, options: Options) {
        let modules = names.clone();
        let stream =
            Stream::spawn(format!("Spectra of {} modules", names.len()), self.wake(), move |progress, send| {
                spectrum::sweep(&delta, &modules, &options, progress, &mut |name, result| {
                    send((name.to_owned(), result.map(Arc::new)));
                })
            });
        self.sweep = Some(Sweep { names, stream });
    }

    /// The module that is being analysed.
    pub fn analysing(&self) -> Option<&str> {
        self.analysis.as_ref().map(|a| a.name.as_str())
    }

    /// True while all modules are being computed.
    pub fn is_sweeping(&self) -> bool {
        self.sweep.is_some()
    }

    /// True while a model is being opened.
    pub fn is_opening(&self) -> bool {
        self.opening.is_some()
    }

    /// Asks one of them to stop; true when it is one of these.
    pub fn cancel(&self, id: JobId) -> bool {
        let found = self.running().into_iter().find(|job| job.id() == id);
        found.inspect(|job| job.cancel()).is_some()
    }

    /// Drops the analysis of a module that nobody looks at any more.
    pub fn leave(&mut self) {
        self.analysis = None;
    }

    /// Drops what belongs to a model that is no longer open.
    pub fn forget(&mut self) {
        self.analysis = None;
        self.sweep = None;
    }

    /// What runs, for the status bar.
    pub fn running(&self) -> Vec<&dyn Running> {
        let opening = self.opening.iter().map(|o| &o.job as &dyn Running);
        let analysis = self.analysis.iter().map(|a| a.stream.job() as &dyn Running);
        let sweep = self.sweep.iter().map(|s| s.stream.job() as &dyn Running);
        opening.chain(analysis).chain(sweep).collect()
    }

    /// What has come in.
    pub fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        if let Some(opening) = &mut self.opening
            && let Some(result) = opening.job.take()
        {
            events.push(Event::Opened(opening.request.take(), result));
            self.opening = None;
        }
        if let Some(analysis) = &mut self.analysis {
            let end = analysis.stream.take();
            let name = &analysis.name;
            events.extend(analysis.stream.items().map(|found| Event::Found(name.clone(), found)));
            if let Some(result) = end {
                events.push(Event::Analysed(name.clone(), result));
                self.analysis = None;
            }
        }
        if let Some(sweep) = &mut self.sweep {
            let end = sweep.stream.take();
            events.extend(sweep.stream.items().map(|(name, result)| Event::Swept(name, result)));
            if let Some(result) = end {
                events.push(Event::SweepEnded(std::mem::take(&mut sweep.names), result));
                self.sweep = None;
            }
        }
        events
    }
}

/// ΔW to be looked at. An adapter's is never formed: its cells are products of the factors.
fn picture(weight: &DeltaWeight, progress: &dyn Progress) -> Result<Arc<dyn Picture>> {
    match weight {
        DeltaWeight::Dense(dense) => {
            Ok(Arc::new(Pyramid::build(Arc::clone(&dense.matrix), Reduction::Mean, progress)?))
        }
        DeltaWeight::LowRank(low) => {
            let mut b = low.b.clone();
            b.data_mut().iter_mut().for_each(|x| *x *= low.scaling as f32);
            let factors = Arc::new(Factors::new(b, low.a.clone()));
            let rank = factors.terms();
            Ok(Arc::new(LowRank::new(factors, rank, Reduction::Mean)))
        }
    }
}
