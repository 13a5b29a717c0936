//! What the Quantization tab is about: a weight in a few bits, its error, and what that does to ΔW.
//!
//! ```text
//! Action::Look(choice) ─ look ─ sketch, weight, scales, pictures, numbers of the current module
//! Action::Need(what)   ─ lists ─ formats · block sizes · all modules · against ΔW · what QLoRA quantizes
//! ```

mod cells;
mod lists;
mod look;
mod work;

use std::sync::Arc;

use crate::error::Error;
use crate::job::{Running, Status, Wake};
use crate::matrix::Matrix;
use crate::progress::{Part, Progress};
use crate::quant::{CellCode, Fit, Format, Recipe};
use crate::train::Settings;
use crate::workspace::Workspace;

use crate::app::view::Round;

pub use lists::{AgainstItem, BlockPoint, FormatRow, ModuleRow, Roles, RolesItem, SWEPT};
use lists::{Squares, Subject};
use look::Found;
pub use look::{Choice, Facts, Shots, stored};
use work::Work;

/// What the tab asks for.
#[derive(Clone, Debug)]
pub enum Action {
    /// Show the current module so.
    Look(Choice),
    /// Compute something for the lower half.
    Need(Need),
    /// Compute it again: it was stopped, or has failed.
    Again(Need),
}

/// What the lower half shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Need {
    /// The pictures.
    Look(Choice),
    /// Every format beside this one, at its bits per weight or at its block.
    Formats {
        /// The one.
        like: Recipe,
        /// At its bits.
        matched: bool,
    },
    /// Every block size.
    Blocks {
        /// Scales in 8 bits.
        double_quant: bool,
    },
    /// Every module.
    Modules {
        /// In these formats.
        recipes: Vec<Recipe>,
    },
    /// The error beside ΔW.
    Against {
        /// In this format.
        recipe: Recipe,
        /// Of LoftQ.
        iterations: usize,
        /// The run whose data say how large the inputs are: repairs are then judged by outputs too.
        data: Option<Arc<Settings>>,
    },
    /// What QLoRA quantizes.
    Roles {
        /// In this format.
        recipe: Recipe,
        /// Rank of the pair.
        r: usize,
    },
}

/// A need of a module of a model.
#[derive(Clone, PartialEq)]
struct Key {
    generation: u64,
    name: String,
    need: Need,
}

/// The weight that is looked at.
struct Layer {
    generation: u64,
    name: String,
    weight: Arc<Matrix>,
}

/// What is under the cursor.
#[derive(Clone, Copy, Debug)]
pub struct CellFacts {
    /// `w`.
    pub weight: f32,
    /// `ŵ`.
    pub rounded: f32,
    /// Code, block, scale.
    pub code: CellCode,
}

/// What is computed and known for the tab; panels look at it and push [`Action`]s.
pub struct Quantization {
    wake: Wake,
    layer: Option<Layer>,
    look: Work<Key, Found>,
    shots: Option<Shots>,
    /// The weight as the tuned model stores it.
    stored: Option<Arc<Matrix>>,
    /// The model and the module that the pictures are of.
    shown_of: Option<(u64, String)>,
    fits: Option<(Arc<Fit>, Option<Arc<Fit>>)>,
    facts: Vec<Facts>,
    /// Counts modules and ways of looking at them: pictures of another subject are never newer.
    subject: u64,
    /// Counts pictures.
    version: u64,
    formats: Work<Key, FormatRow>,
    blocks: Work<Key, BlockPoint>,
    modules: Work<Key, ModuleRow>,
    against: Work<Key, AgainstItem>,
    roles: Work<Key, RolesItem>,
    squares: Arc<Squares>,
}

impl Quantization {
    /// Nothing yet; `wake` makes the window look again.
    pub fn new(wake: Wake) -> Self {
        Self {
            wake,
            layer: None,
            look: Work::new(),
            shots: None,
            stored: None,
            shown_of: None,
            fits: None,
            facts: Vec::new(),
            subject: 0,
            version: 0,
            formats: Work::new(),
            blocks: Work::new(),
            modules: Work::new(),
            against: Work::new(),
            roles: Work::new(),
            squares: Arc::default(),
        }
    }

    /// Takes in what has come.
    pub fn logic(&mut self) {
        if self.look.logic() {
            self.take();
        }
        self.formats.logic();
        self.blocks.logic();
        self.modules.logic();
        self.against.logic();
        self.roles.logic();
    }

    fn take(&mut self) {
        let Some((generation, name)) = self.look.key().map(|key| (key.generation, key.name.clone())) else { return };
        for found in std::mem::take(&mut self.look.items) {
            match found {
                Found::Weight(weight) => {
                    self.layer = Some(Layer { generation, name: name.clone(), weight });
                    (self.fits, self.stored) = (None, None);
                }
                Found::Stored(stored) => self.stored = Some(stored),
                Found::Fits(a, b) => {
                    self.fits = Some((a, b));
                    self.facts.clear();
                }
                Found::Shots(shots) => {
                    let of = Some((generation, name.clone()));
                    if self.shown_of != of {
                        self.shown_of = of;
                        self.subject += 1;
                    }
                    self.version += 1;
                    self.shots = Some(shots);
                }
                Found::Facts(facts) => self.facts.push(*facts),
            }
        }
    }

    /// Carries out what was asked for.
    pub fn carry_out(&mut self, action: Action, round: &mut Round<'_>) {
        match action {
            Action::Look(choice) => self.need(Need::Look(choice), round.workspace, false),
            Action::Need(need) => self.need(need, round.workspace, false),
            Action::Again(need) => self.need(need, round.workspace, true),
        }
    }

    fn need(&mut self, need: Need, workspace: &Workspace, again: bool) {
        if !again && !self.is_missing(&need, workspace) {
            return;
        }
        // Pictures first: a list that was not stopped by a person is asked for again in the next frame.
        let first = matches!(need, Need::Look(_));
        if !first && !again && self.look.running().is_some() {
            return;
        }
        let (Some(set), Some(key)) = (workspace.delta().cloned(), key(&need, workspace)) else { return };
        let wake = Arc::clone(&self.wake);
        let name = key.name.clone();
        let layer = self.layer.as_ref().filter(|layer| (layer.generation, &layer.name) == (key.generation, &name));
        let weight = layer.map(|layer| Arc::clone(&layer.weight));
        let subject = Subject { set: Arc::clone(&set), name: name.clone(), weight: weight.clone() };
        match need {
            Need::Look(choice) => {
                if weight.is_none() {
                    // Another module: nothing of the old one is said of it.
                    (self.layer, self.fits, self.stored) = (None, None, None);
                    self.facts.clear();
                }
                self.formats.stop();
                self.blocks.stop();
                self.against.stop();
                let title = match choice.stored {
                    true => format!("{name} as it is stored"),
                    false => format!("{} of {name}", choice.a),
                };
                self.look.begin(key, title, wake, move |progress, send| {
                    look::look(&set, &name, weight, choice, progress, send)
                });
            }
            Need::Formats { like, matched } => {
                self.formats.begin(key, format!("Formats of {name}"), wake, move |progress, send| {
                    let weight = subject.weight(&())?;
                    lists::stored(&subject, &weight, like, progress, send)?;
                    lists::formats(&weight, like, matched, progress, send)
                });
            }
            Need::Blocks { double_quant } => {
                self.blocks.begin(key, format!("Block sizes of {name}"), wake, move |progress, send| {
                    let weight = subject.weight(&())?;
                    lists::blocks(&weight, double_quant, progress, send)
                });
            }
            Need::Modules { recipes } => {
                let with_delta = has_delta(workspace);
                let count = set.entries().len();
                self.modules.begin(key, format!("Errors of {count} modules"), wake, move |progress, send| {
                    lists::modules(&set, &recipes, with_delta, progress, send)
                });
            }
            Need::Against { recipe, iterations, data } => {
                let squares = Arc::clone(&self.squares);
                self.against.begin(key, format!("Error against ΔW of {name}"), wake, move |progress, send| {
                    let weight = subject.weight(&())?;
                    let inputs = data.map(|data| move |progress: &dyn Progress| squares.computed(&data, progress));
                    let asked = lists::Repairs { recipe, iterations, inputs: inputs.as_ref().map(|of| of as _) };
                    lists::against(&set, &name, &weight, &asked, progress, send)
                });
            }
            Need::Roles { recipe, r } => {
                self.roles.begin(key, format!("Two ways to quantize {name}"), wake, move |progress, send| {
                    let weight = subject.weight(&())?;
                    let costs = lists::costs(&set, &name, &weight, recipe, r, &Part::new(progress, 0, 4))?;
                    send(RolesItem::Cost(costs));
                    lists::losses(&set, recipe, r, progress, send)
                });
            }
        }
    }

    /// True when this was never asked for: neither there, nor on its way, nor failed.
    pub fn is_missing(&self, need: &Need, workspace: &Workspace) -> bool {
        let Some(key) = key(need, workspace) else { return false };
        !match need {
            Need::Look(_) => self.look.is_for(&key),
            Need::Formats { .. } => self.formats.is_for(&key),
            Need::Blocks { .. } => self.blocks.is_for(&key),
            Need::Modules { .. } => self.modules.is_for(&key),
            Need::Against { .. } => self.against.is_for(&key),
            Need::Roles { .. } => self.roles.is_for(&key),
        }
    }

    /// Why this is not there, if it was asked for.
    pub fn error(&self, need: &Need) -> Option<&Error> {
        match need {
            Need::Look(_) => self.look.error.as_ref(),
            Need::Formats { .. } => self.formats.error.as_ref(),
            Need::Blocks { .. } => self.blocks.error.as_ref(),
            Need::Modules { .. } => self.modules.error.as_ref(),
            Need::Against { .. } => self.against.error.as_ref(),
            Need::Roles { .. } => self.roles.error.as_ref(),
        }
    }

    /// The three pictures, with what they are of and their number.
    pub fn shots(&self) -> Option<(u64, u64, &Shots)> {
        self.shots.as_ref().map(|shots| (self.subject, self.version, shots))
    }

    /// True when the pictures are of the current module.
    pub fn is_shown(&self, workspace: &Workspace) -> bool {
        let current = workspace.selection().current();
        self.shown_of
            .as_ref()
            .is_some_and(|(generation, name)| *generation == workspace.generation() && Some(name.as_str()) == current)
    }

    /// How far the pictures are, while they are being made.
    pub fn looking(&self) -> Option<Status> {
        self.look.running().map(|job| job.status())
    }

    /// The numbers of the formats that are shown, as far as they are there.
    pub fn facts(&self) -> &[Facts] {
        &self.facts
    }

    /// The scales of the formats that are shown.
    pub fn fits(&self) -> Option<(&Arc<Fit>, Option<&Arc<Fit>>)> {
        self.fits.as_ref().map(|(a, b)| (a, b.as_ref()))
    }

    /// One cell in the format, and in the other one.
    pub fn cell(&self, row: usize, col: usize) -> Option<(CellFacts, Option<CellFacts>)> {
        let (layer, (a, b)) = (self.layer.as_ref()?, self.fits.as_ref()?);
        let weight = &layer.weight;
        if weight.shape() != a.shape() || row >= weight.rows() || col >= weight.cols() {
            return None;
        }
        let at = row * weight.cols() + col;
        let of = |fit: &Arc<Fit>| {
            let mut rounded = [f32::NAN];
            fit.read(weight.data(), at..at + 1, &mut rounded);
            let value = weight.get(row, col);
            CellFacts { weight: value, rounded: rounded[0], code: fit.cell(at, value) }
        };
        Some((of(a), b.as_ref().map(of)))
    }

    /// One cell as the tuned model stores it.
    pub fn stored_at(&self, row: usize, col: usize) -> Option<f32> {
        let stored = self.stored.as_ref()?;
        (row < stored.rows() && col < stored.cols()).then(|| stored.get(row, col))
    }

    /// The table of formats.
    pub fn formats(&self) -> &[FormatRow] {
        &self.formats.items
    }

    /// The errors by block size.
    pub fn blocks(&self) -> &[BlockPoint] {
        &self.blocks.items
    }

    /// The modules, as far as they are there.
    pub fn modules(&self) -> &[ModuleRow] {
        &self.modules.items
    }

    /// The error beside ΔW.
    pub fn against(&self) -> &[AgainstItem] {
        &self.against.items
    }

    /// What the two ways of quantizing cost.
    pub fn roles(&self) -> &[RolesItem] {
        &self.roles.items
    }

    /// True when the list belongs to what is asked for, and not to what was looked at before.
    pub fn is_current(&self, need: &Need, workspace: &Workspace) -> bool {
        let Some(key) = key(need, workspace) else { return false };
        match need {
            Need::Look(_) => self.look.is_for(&key),
            Need::Formats { .. } => self.formats.is_of(&key),
            Need::Blocks { .. } => self.blocks.is_of(&key),
            Need::Modules { .. } => self.modules.is_of(&key),
            Need::Against { .. } => self.against.is_of(&key),
            Need::Roles { .. } => self.roles.is_of(&key),
        }
    }

    /// The jobs that a person can see and stop.
    pub fn running(&self) -> Vec<&dyn Running> {
        let all = [
            self.look.running(),
            self.formats.running(),
            self.blocks.running(),
            self.modules.running(),
            self.against.running(),
            self.roles.running(),
        ];
        all.into_iter().flatten().collect()
    }
}

/// What a need is computed for: the current module, or all of them.
fn key(need: &Need, workspace: &Workspace) -> Option<Key> {
    workspace.delta()?;
    let name = match need {
        Need::Modules { .. } => String::new(),
        _ => workspace.selection().current()?.to_owned(),
    };
    Some(Key { generation: workspace.generation(), name, need: need.clone() })
}

/// True when there is something beside the base.
pub fn has_delta(workspace: &Workspace) -> bool {
    workspace.delta().is_some_and(|set| !matches!(set.source(), crate::delta::Source::Weight))
}

/// The formats of the map: the one that is shown, and QLoRA's neighbours of the same block.
pub fn mapped(a: Recipe) -> Vec<Recipe> {
    let mut recipes = vec![a];
    for format in [Format::Nf4, Format::Fp4, Format::Int4Symmetric, Format::Q4_0, Format::Int8] {
        let recipe = Recipe::with(format, a.group, a.double_quant);
        if !recipes.contains(&recipe) {
            recipes.push(recipe);
        }
    }
    recipes
}
