//! `rankscope quantize --repair`: what a pair of a low rank leaves of the error of rounding, weight by weight.

use super::screen::Screen;
use super::text::{Table, or_dash};
use crate::checkpoint::{Checkpoint, Module};
use crate::error::Result;
use crate::progress::Part;
use crate::quant::Recipe;
use crate::spectrum::rounding::{Left, repair, weighted};
use crate::train::Settings;
use crate::train::calibrate::input_squares;
use serde_json::{Value, json};
use std::path::Path;

/// LoftQ's paper uses so many.
const ITERATIONS: usize = 5;

/// One module at one rank.
struct Row<'a> {
    module: &'a str,
    r: usize,
    plain: Left,
    loftq: Left,
    qera: Option<f64>,
}

/// Prints what is left at each of `ranks`, of the weights and, where there are data, of the outputs.
///
/// # Errors
/// A weight that cannot be written so, data that cannot be used; and cancellation.
pub(super) fn repairs(
    model: &Checkpoint,
    modules: &[&Module],
    recipe: Recipe,
    ranks: &[usize],
    data: Option<&Path>,
    screen: &Screen,
) -> Result<()> {
    let squares = match data {
        Some(data) => {
            let settings =
                Settings { model: model.path().to_path_buf(), data: data.to_path_buf(), ..Settings::default() };
            Some(input_squares(&settings, screen)?)
        }
        None => None,
    };
    let mut rows = Vec::new();
    for (at, module) in modules.iter().enumerate() {
        let part = Part::new(screen, at as u64, modules.len() as u64);
        if let Some(problem) = recipe.problem(module.matrix_shape()) {
            screen.message(&format!("skipped: {}: {problem}", module.name));
            continue;
        }
        let weight = model.matrix(module, &Part::new(&part, 0, 10))?;
        let squares = squares.as_ref().and_then(|all| all.get(&module.name)).map(Vec::as_slice);
        if data.is_some() && squares.is_none() {
            screen.message(&format!("{}: no token goes through it as through a linear layer", module.name));
        }
        let qera = squares.map(|squares| weighted(&weight, recipe, ranks, squares, &Part::new(&part, 1, 10)));
        let qera = qera.transpose()?;
        for (at, &r) in ranks.iter().enumerate() {
            let all = Part::rest(&part, 2, 10);
            let found =
                repair(&weight, recipe, r, ITERATIONS, squares, &Part::new(&all, at as u64, ranks.len() as u64))?;
            let [Some(&plain), Some(&loftq)] = [found.first(), found.last()] else { continue };
            let qera = qera.as_ref().and_then(|left| left.get(at)).copied();
            rows.push(Row { module: &module.name, r, plain, loftq, qera });
        }
    }
    screen.finish();
    if screen.json {
        let row = |row: &Row<'_>| {
            let one = |left: Left| json!({"weights": left.weights, "outputs": left.outputs});
            json!({"module": row.module, "r": row.r, "svd": one(row.plain), "loftq": one(row.loftq), "qera": {"outputs": row.qera}})
        };
        let rows: Vec<Value> = rows.iter().map(row).collect();
        return screen.document(&json!({"format": recipe.format.as_str(), "iterations": ITERATIONS, "rows": rows}));
    }
    screen.print(&text(recipe, &rows))
}

fn text(recipe: Recipe, rows: &[Row<'_>]) -> String {
    let mut table = Table::new(&[
        "module",
        ">r",
        ">SVD, weight",
        ">LoftQ, weight",
        ">SVD, output",
        ">LoftQ, output",
        ">QERA, output",
    ]);
    let share = |share: f64| format!("{share:.4}");
    for Row { module, r, plain, loftq, qera } in rows {
        let outputs = [plain.outputs, loftq.outputs, *qera].map(|left| or_dash(left.map(share)));
        let first = [(*module).to_owned(), r.to_string(), share(plain.weights), share(loftq.weights)];
        table.push(first.into_iter().chain(outputs).collect());
    }
    format!(
        "{}what is left of the error of {} after a repair of rank r, as a share; LoftQ in {ITERATIONS} iterations; by output: weighted by \
         the mean squares of what your data send in\n",
        table.render(),
        recipe.format
    )
}
