//! The job behind the heatmaps: a first sketch, the weight, its scales, the pictures, the numbers.

use std::sync::Arc;

use super::cells::{Quantity, Seen};
use crate::app::widgets::derived::{Cells, Derived, Sketch};
use crate::app::widgets::picture::{Picture, Reduction};
use crate::checkpoint::{Checkpoint, Module};
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
}

impl Default for Choice {
    /// QLoRA's format, and the largest of many cells: an error is not hidden by its neighbours.
    fn default() -> Self {
        Self { a: Recipe::default(), b: None, errors: true, reduction: Reduction::Extreme, absolute: false }
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
    /// The scales of the format, and of the other one.
    Fits(Arc<Fit>, Option<Arc<Fit>>),
    /// The numbers of the format, and then of the other one.
    Facts(Box<Facts>),
}

/// From so many cells on a sketch comes first.
const SKETCHED: usize = 1 << 22;

/// Reads a module (unless its weight is there already) and makes everything that the tab shows of it.
pub fn look(
    base: &Checkpoint,
    name: &str,
    known: Option<Arc<Matrix>>,
    choice: Choice,
    progress: &dyn Progress,
    send: &mut dyn FnMut(Found),
) -> Result<()> {
    let module = module(base, name)?;
    let shape = module.matrix_shape();
    for recipe in [Some(choice.a), choice.b].into_iter().flatten() {
        if let Some(problem) = recipe.problem(shape) {
            return Err(Error::tensor(base.path(), name, problem));
        }
    }
    let weight = match known {
        Some(weight) => weight,
        None => {
            if shape[0] * shape[1] >= SKETCHED {
                send(Found::Shots(sketch(base, module, choice)?));
            }
            let weight = Arc::new(base.matrix(module, &Part::new(progress, 0, 4))?);
            send(Found::Weight(Arc::clone(&weight)));
            weight
        }
    };
    let fit = |recipe: Recipe| Fit::new(weight.data(), weight.shape(), recipe).map(Arc::new);
    progress.step(1, 4)?;
    let (a, b) = (fit(choice.a)?, choice.b.map(fit).transpose()?);
    send(Found::Fits(Arc::clone(&a), b.clone()));
    let part = Part::new(progress, 1, 4);
    let mut made = 0;
    let maps = quantities(choice, &a, b.as_ref()).map(|(title, quantity)| {
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

fn quantities(choice: Choice, a: &Arc<Fit>, b: Option<&Arc<Fit>>) -> [(String, Quantity); 3] {
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
fn sketch(base: &Checkpoint, module: &Module, choice: Choice) -> Result<Shots> {
    let shape = module.matrix_shape();
    let numbers = Sketch::rows(shape);
    let reader = base.reader(module)?;
    let mut rows = Matrix::zeros(numbers.len(), shape[1]);
    let parts: Vec<(usize, &mut [f32])> = numbers.iter().copied().zip(rows.data_mut().chunks_mut(shape[1])).collect();
    for (row, out) in parts {
        reader.rows(row..row + 1, out)?;
    }
    let rows = Arc::new(rows);
    let fit = |recipe: Recipe| Fit::new(rows.data(), rows.shape(), recipe).map(Arc::new);
    let (a, b) = (fit(choice.a)?, choice.b.map(fit).transpose()?);
    let [first, second, third] = quantities(choice, &a, b.as_ref()).map(|(title, quantity)| {
        let cells = Seen { weight: Arc::clone(&rows), quantity, absolute: choice.absolute };
        let mut values = Matrix::zeros(rows.rows(), rows.cols());
        for (row, out) in values.data_mut().chunks_mut(shape[1].max(1)).enumerate() {
            cells.row(row, 0..shape[1], out);
        }
        Shot { title, picture: Arc::new(Sketch::new(shape, &values, choice.reduction)) }
    });
    Ok(Shots { maps: [first, second, third], sketch: true })
}
