//! The job behind the heatmaps: a first sketch, the weight, its scales, the pictures, the numbers.

use std::sync::Arc;

use super::cells::{Quantity, Seen};
use crate::app::widgets::derived::{Cells, Derived, Sketch};
use crate::app::widgets::picture::{Picture, Reduction};
use crate::checkpoint::{Checkpoint, Module};
use crate::delta::{DeltaSet, Source};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::progress::{Part, Progress};
use crate::quant::{Detail, Fit, Measures, Recipe, Usage, measure};

/// What a person has chosen to see.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The format.
    pub a: Recipe,
    /// Another one beside it.
    pub b: Option<Recipe>,
    /// With two formats: their errors and not their values.
    pub errors: bool,
    /// What a texel shows that stands for many cells.
    pub reduction: Reduction,
    /// Magnitudes only.
    pub absolute: bool,
    /// Beside the weight what the open tuned model stores of it, in place of a format.
    pub stored: bool,
}

impl Default for Choice {
    /// QLoRA's format, and the largest of many cells: an error is not hidden by its neighbours.
    fn default() -> Self {
        Self {
            a: Recipe::default(),
            b: None,
            errors: true,
            reduction: Reduction::Extreme,
            absolute: false,
            stored: false,
        }
    }
}

/// One of the three heatmaps.
#[derive(Clone)]
pub struct Shot {
    /// What it is.
    pub title: String,
    /// Its cells.
    pub picture: Arc<dyn Picture>,
}

/// The three heatmaps.
#[derive(Clone)]
pub struct Shots {
    /// From left to right.
    pub maps: [Shot; 3],
    /// Made from a part of the rows: the exact ones are on their way.
    pub sketch: bool,
}

/// The numbers of a format.
#[derive(Clone)]
pub struct Facts {
    /// Which format.
    pub recipe: Recipe,
    /// Bits per weight.
    pub bits: f64,
    /// How far off.
    pub measures: Measures,
    /// Where the weights lie among the levels.
    pub usage: Usage,
    /// Where the error is.
    pub detail: Detail,
}

/// What the job finds, one after the other.
pub enum Found {
    /// The pictures, sketched or exact.
    Shots(Shots),
    /// The weight itself.
    Weight(Arc<Matrix>),
    /// The weight as the tuned model stores it.
    Stored(Arc<Matrix>),
    /// The scales of the format, and of the other one.
    Fits(Arc<Fit>, Option<Arc<Fit>>),
    /// The numbers of the format, and then of the other one.
    Facts(Box<Facts>),
}

/// From so many cells on a sketch comes first.
const SKETCHED: usize = 1 << 22;

/// Reads a module (unless its weight is there already) and makes everything that the tab shows of it.
pub fn look(
    set: &DeltaSet,
    name: &str,
    known: Option<Arc<Matrix>>,
    choice: Choice,
    progress: &dyn Progress,
    send: &mut dyn FnMut(Found),
) -> Result<()> {
    let base = set.base();
    let module = module(base, name)?;
    let shape = module.matrix_shape();
    let other = match choice.stored {
        true => Some(stored(set, name).ok_or_else(|| {
            let message = "found no file in few bits beside it; open one as a tuned version of the base";
            Error::tensor(base.path(), name, message)
        })?),
        false => None,
    };
    for recipe in [Some(choice.a), choice.b].into_iter().flatten() {
        if let Some(problem) = recipe.problem(shape) {
            return Err(Error::tensor(base.path(), name, problem));
        }
    }
    let weight = match known {
        Some(weight) => weight,
        None => {
            if shape[0] * shape[1] >= SKETCHED {
                send(Found::Shots(sketch(base, module, other, choice)?));
            }
            let weight = Arc::new(base.matrix(module, &Part::new(progress, 0, 4))?);
            send(Found::Weight(Arc::clone(&weight)));
            weight
        }
    };
    let other = match other {
        Some((model, module)) => {
            let stored = Arc::new(model.matrix(module, &Part::new(progress, 1, 4))?);
            send(Found::Stored(Arc::clone(&stored)));
            Some(stored)
        }
        None => None,
    };
    let fit = |recipe: Recipe| Fit::new(weight.data(), weight.shape(), recipe).map(Arc::new);
    progress.step(1, 4)?;
    let (a, b) = (fit(choice.a)?, choice.b.map(fit).transpose()?);
    send(Found::Fits(Arc::clone(&a), b.clone()));
    let part = Part::new(progress, 1, 4);
    let mut made = 0;
    let maps = quantities(choice, &a, b.as_ref(), other).map(|(title, quantity)| {
        let cells: Arc<dyn Cells> = Arc::new(Seen { weight: Arc::clone(&weight), quantity, absolute: choice.absolute });
        made += 1;
        let picture = Derived::build(cells, choice.reduction, &Part::new(&part, made - 1, 3))?;
        Ok(Shot { title, picture: Arc::new(picture) })
    });
    let [first, second, third] = maps;
    send(Found::Shots(Shots { maps: [first?, second?, third?], sketch: false }));
    for (index, fit) in [Some(&a), b.as_ref()].into_iter().flatten().enumerate() {
        let part = Part::new(progress, 2 + index as u64, 4);
        let measures = measure(weight.data(), fit, &Part::new(&part, 0, 2))?;
        let detail = Detail::new(weight.data(), fit, &measures, &Part::new(&part, 1, 2))?;
        let usage = Usage::new(weight.data(), fit);
        send(Found::Facts(Box::new(Facts { recipe: fit.recipe(), bits: fit.bits(), measures, usage, detail })));
    }
    Ok(())
}

/// A matrix of the model, or why it is none.
pub fn module<'a>(base: &'a Checkpoint, name: &str) -> Result<&'a Module> {
    let module = base.module(name);
    let module = module.ok_or_else(|| Error::tensor(base.path(), name, "there is no such weight in the base model"))?;
    if !module.is_matrix() {
        let message = format!("found shape {:?}, expected a matrix with two sizes", module.shape);
        return Err(Error::tensor(base.path(), name, message));
    }
    Ok(module)
}

/// What the open tuned model stores of a module, where that is a file in few bits: model and module.
pub fn stored<'a>(set: &'a DeltaSet, name: &str) -> Option<(&'a Checkpoint, &'a Module)> {
    let Source::Tuned(tuned) = set.source() else { return None };
    let entry = set.entry(name).filter(|entry| entry.problem.is_none() && entry.base() == entry.name)?;
    let module = tuned.module(entry.other())?;
    let few = module.dtype.is_packed() || module.dtype.bits() <= 8;
    few.then_some((tuned, module))
}

fn quantities(
    choice: Choice,
    a: &Arc<Fit>,
    b: Option<&Arc<Fit>>,
    stored: Option<Arc<Matrix>>,
) -> [(String, Quantity); 3] {
    if let Some(stored) = stored {
        return [
            ("W".to_owned(), Quantity::Weight),
            ("as stored".to_owned(), Quantity::Stored(Arc::clone(&stored))),
            ("error ŵ − w".to_owned(), Quantity::StoredError(stored)),
        ];
    }
    let fit_a = Arc::clone(a);
    let Some(b) = b else {
        return [
            ("W".to_owned(), Quantity::Weight),
            (a.recipe().to_string(), Quantity::Rounded(Arc::clone(&fit_a))),
            ("error ŵ − w".to_owned(), Quantity::Error(fit_a)),
        ];
    };
    let b = || Arc::clone(b);
    if choice.errors {
        return [
            ("error of A".to_owned(), Quantity::Error(Arc::clone(&fit_a))),
            ("error of B".to_owned(), Quantity::Error(b())),
            ("|error A| − |error B|".to_owned(), Quantity::Gap(fit_a, b())),
        ];
    }
    [
        ("ŵ of A".to_owned(), Quantity::Rounded(Arc::clone(&fit_a))),
        ("ŵ of B".to_owned(), Quantity::Rounded(b())),
        ("A − B".to_owned(), Quantity::Difference(fit_a, b())),
    ]
}

/// Every row that is looked at is rounded by itself: its blocks begin with it, and a scale of the whole weight is one of the row.
fn sketch(base: &Checkpoint, module: &Module, other: Option<(&Checkpoint, &Module)>, choice: Choice) -> Result<Shots> {
    let shape = module.matrix_shape();
    let numbers = Sketch::rows(shape);
    let read = |model: &Checkpoint, module: &Module| -> Result<Arc<Matrix>> {
        let reader = model.reader(module)?;
        let mut rows = Matrix::zeros(numbers.len(), shape[1]);
        for (&row, out) in numbers.iter().zip(rows.data_mut().chunks_mut(shape[1])) {
            reader.rows(row..row + 1, out)?;
        }
        Ok(Arc::new(rows))
    };
    let rows = read(base, module)?;
    let other = other.map(|(model, module)| read(model, module)).transpose()?;
    let fit = |recipe: Recipe| Fit::new(rows.data(), rows.shape(), recipe).map(Arc::new);
    let (a, b) = (fit(choice.a)?, choice.b.map(fit).transpose()?);
    let [first, second, third] = quantities(choice, &a, b.as_ref(), other).map(|(title, quantity)| {
        let cells = Seen { weight: Arc::clone(&rows), quantity, absolute: choice.absolute };
        let mut values = Matrix::zeros(rows.rows(), rows.cols());
        for (row, out) in values.data_mut().chunks_mut(shape[1].max(1)).enumerate() {
            cells.row(row, 0..shape[1], out);
        }
        Shot { title, picture: Arc::new(Sketch::new(shape, &values, choice.reduction)) }
    });
    Ok(Shots { maps: [first, second, third], sketch: true })
}
