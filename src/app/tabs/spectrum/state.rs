//! Updates beside each other and beside their base: subspace similarity, amplification, intruders.

use std::path::PathBuf;
use std::sync::Arc;

use crate::adapter::Adapter;
use crate::checkpoint::{Checkpoint, Kind};
use crate::delta::{DeltaSet, Source};
use crate::job::{Job, Running, Wake};
use crate::plan::compare::{self, DIRECTIONS, Side, Similarity};
use crate::plan::extract::Changed;
use crate::spectrum::subspaces::{Amplification, Familiar};

use crate::app::view::Round;

/// φ of one module.
#[derive(Clone, Debug, PartialEq)]
pub struct Alike {
    /// What it is of: module and side.
    pub of: (String, Side),
    /// φ.
    pub found: Similarity,
}

/// One module's update against its base.
#[derive(Clone, Debug, PartialEq)]
pub struct Against {
    /// The module.
    pub name: String,
    /// How many directions.
    pub r: usize,
    /// ‖ΔW‖ against what the base has in its directions.
    pub amplification: Amplification,
}

/// The base's nearest direction for each of the tuned weight's.
pub type Intruders = (String, Vec<Familiar>);

/// What the tab asks for.
#[derive(Clone, Debug)]
pub enum Action {
    /// Compare with another update of the same base.
    Compare(PathBuf),
    /// No longer.
    Forget,
    /// Left or right singular vectors.
    Side(Side),
    /// Directions of the current module's tuned weight that its base does not know.
    Intruders,
}

/// What is known, and what is under way.
pub struct Updates {
    wake: Wake,
    generation: u64,
    /// Which vectors φ is of.
    pub side: Side,
    other: Option<(PathBuf, Arc<DeltaSet>)>,
    opening: Option<Job<(PathBuf, Arc<DeltaSet>)>>,
    alike: Option<Alike>,
    alike_wanted: Option<(String, Side)>,
    comparing: Option<Job<Alike>>,
    against: Option<Against>,
    against_wanted: Option<(String, usize)>,
    amplifying: Option<Job<Against>>,
    intruders: Option<Intruders>,
    looking: Option<Job<Intruders>>,
}

/// Intruders are looked for among so many directions of the tuned weight.
const TOP: usize = 10;
/// `min(out, in)` up to which the amplification is computed unasked.
const UNASKED: usize = 4096;

impl Updates {
    /// Nothing yet; `wake` makes the window look again.
    pub fn new(wake: &Wake) -> Self {
        Self {
            wake: Arc::clone(wake),
            generation: 0,
            side: Side::default(),
            other: None,
            opening: None,
            alike: None,
            alike_wanted: None,
            comparing: None,
            against: None,
            against_wanted: None,
            amplifying: None,
            intruders: None,
            looking: None,
        }
    }

    /// Carries out what was asked for.
    pub fn carry_out(&mut self, action: Action, round: &mut Round<'_>) {
        match action {
            Action::Compare(path) => self.open(path, round),
            Action::Forget => self.close(),
            Action::Side(side) => self.side = side,
            Action::Intruders => self.look_for_intruders(round),
        }
    }

    /// The other update.
    pub fn other(&self) -> Option<&PathBuf> {
        self.other.as_ref().map(|(path, _)| path)
    }

    /// φ, as it was last found.
    pub fn alike(&self) -> Option<&Alike> {
        self.alike.as_ref()
    }

    /// What the current module's update does to its base.
    pub fn against(&self) -> Option<&Against> {
        self.against.as_ref()
    }

    /// Directions of a module's tuned weight.
    pub fn intruders(&self) -> Option<&Intruders> {
        self.intruders.as_ref()
    }

    /// True while intruders are looked for.
    pub fn is_looking(&self) -> bool {
        self.looking.is_some()
    }

    /// True while another update is opened or compared.
    pub fn is_comparing(&self) -> bool {
        self.opening.is_some() || self.comparing.is_some()
    }

    /// No longer compared.
    fn close(&mut self) {
        (self.other, self.opening, self.alike, self.alike_wanted, self.comparing) = (None, None, None, None, None);
    }

    /// Begins to open another update of the same base.
    fn open(&mut self, path: PathBuf, round: &mut Round<'_>) {
        let Some(base) = round.workspace.base().cloned() else {
            round.say("No model is open.");
            return;
        };
        self.opening = Some(Job::spawn("Opening another update", Arc::clone(&self.wake), move |_| {
            let checkpoint = Arc::new(Checkpoint::open(&path)?);
            let source = match checkpoint.kind() {
                Kind::Adapter => Source::Adapter(Arc::new(Adapter::from_checkpoint(checkpoint)?)),
                Kind::Model => Source::Tuned(checkpoint),
            };
            Ok((path, Arc::new(DeltaSet::new(base, source)?)))
        }));
    }

    /// Begins to look for directions of the current module that its base does not know.
    fn look_for_intruders(&mut self, round: &mut Round<'_>) {
        let current = round.workspace.selection().current().map(str::to_owned);
        let (Some(delta), Some(name)) = (round.workspace.delta().cloned(), current) else { return };
        if matches!(delta.source(), Source::Weight) {
            round.say("Nothing changed here: open a tuned model or an adapter beside the base.");
            return;
        }
        let side = self.side;
        self.looking = Some(Job::spawn(format!("Intruders of {name}"), Arc::clone(&self.wake), move |progress| {
            let found = compare::familiar(&delta, &name, TOP, side, progress)?;
            Ok((name, found))
        }));
    }

    /// Takes in what has come and begins what is wanted.
    pub fn logic(&mut self, round: &mut Round<'_>) {
        if self.generation != round.workspace.generation() {
            *self = Self { side: self.side, generation: round.workspace.generation(), ..Self::new(&self.wake) };
        }
        if let Some(found) = round.finished(&mut self.opening) {
            self.other = Some(found);
            (self.alike, self.alike_wanted) = (None, None);
        }
        round.quietly(&mut self.comparing, &mut self.alike);
        round.quietly(&mut self.amplifying, &mut self.against);
        if let Some(found) = round.finished(&mut self.looking) {
            self.intruders = Some(found);
        }
        let Some(delta) = round.workspace.delta().cloned() else { return };
        let Some(name) = round.workspace.selection().current().map(str::to_owned) else { return };
        let changed = !matches!(delta.source(), Source::Weight);
        let entry = delta.entry(&name).filter(|entry| changed && entry.problem.is_none());
        let small = entry.is_some_and(|entry| entry.shape[0].min(entry.shape[1]) <= UNASKED);
        // The spectrum first: it is what is looked at.
        let there = round.workspace.latest(&name).is_some();
        let wanted = (name.clone(), self.side);
        if let Some((_, other)) = &self.other
            && small
            && there
            && self.comparing.is_none()
            && self.alike_wanted.as_ref() != Some(&wanted)
            && other.entry(&name).is_some_and(|entry| entry.problem.is_none())
        {
            self.alike_wanted = Some(wanted.clone());
            let (delta, other) = (Arc::clone(&delta), Arc::clone(other));
            self.comparing = Some(Job::spawn(format!("Comparing {name}"), Arc::clone(&self.wake), move |progress| {
                let (a, b) = (Changed::Models(&delta), Changed::Models(&other));
                let found = compare::similarity(&a, &b, (&wanted.0, &wanted.0), DIRECTIONS, wanted.1, progress)?;
                Ok(Alike { of: wanted, found })
            }));
        }
        let r = round.workspace.dial().r;
        if small && there && self.amplifying.is_none() && self.against_wanted.as_ref() != Some(&(name.clone(), r)) {
            self.against_wanted = Some((name.clone(), r));
            let delta = Arc::clone(&delta);
            self.amplifying =
                Some(Job::spawn(format!("Amplification of {name}"), Arc::clone(&self.wake), move |progress| {
                    let amplification = compare::amplification(&delta, &name, r, progress)?;
                    Ok(Against { name, r, amplification })
                }));
        }
    }

    /// The jobs that a person can see and stop: those that take long.
    pub fn running(&self) -> Vec<&dyn Running> {
        let opening = self.opening.iter().map(|job| job as &dyn Running);
        opening.chain(self.looking.iter().map(|job| job as &dyn Running)).collect()
    }
}
