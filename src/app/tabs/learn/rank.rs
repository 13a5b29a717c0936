//! Chapter 5: independent columns, by elimination and by singular values, step by step.

use eframe::egui::{FontFamily, FontId, Rect, RichText, Sense, Ui, Vec2, vec2};

use super::View;
use super::state::{Action, Chapter, Rank};
use crate::app::look::theme;
use crate::figure::number::short;
use crate::spectrum::by_hand::{Operation, THRESHOLD, Three, largest};

use super::flow::{GAP, flow, within};
use super::grid::Grid;
use super::parts::Part;
use super::pieces::{beside, choice, said, stage, weak};

/// How the rank is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    #[default]
    Elimination,
    Svd,
}

/// Which step is looked at.
#[derive(Default)]
pub struct Looks {
    way: Way,
    step: usize,
}

/// Steps of the way through singular values.
const SVD_STEPS: usize = 5;

/// Cells of the steps.
const SMALL: Vec2 = vec2(46.0, 30.0);
/// No cell is narrower.
const LEAST: f32 = 30.0;
/// What brackets and gaps take of the width of a matrix.
const AROUND: f32 = 34.0;

/// Paints it.
pub fn ui(ui: &mut Ui, view: &mut View<'_>, looks: &mut Looks) {
    let rank = &view.state.rank;
    let rows = *rank.rows();
    let mut edit = None;
    stage(ui, |ui| {
        let value = |i: usize, j: usize| rows[i][j];
        let pivots: Vec<usize> = rank.elimination().independent().collect();
        let framed = |_: usize, j: usize| pivots.contains(&j);
        let grid = Grid::new("M", Part::Delta, [3, 3], &value).scale(largest(&rows).max(1.0)).framed(&framed).edit();
        let left = vec2(grid.size().x.max(190.0), grid.size().y + 62.0);
        let wide = ui.available_width() > left.x + 420.0;
        let right =
            vec2(if wide { (ui.available_width() - left.x - 40.0).min(600.0) } else { ui.available_width() }, 252.0);
        let at = flow(ui, &[left, right]);
        let place = Rect::from_min_size(at[0].min + vec2((left.x - grid.size().x) / 2.0, 0.0), grid.size());
        edit = grid.ui(ui, place);
        within(ui, at[0].with_min_y(place.bottom() + 10.0), "count", |ui| {
            let count = rank.elimination().rank();
            ui.vertical_centered(|ui| {
                let font = FontId::new(24.0, FontFamily::Name(theme::STRONG.into()));
                ui.label(RichText::new(format!("rank {count}")).font(font).color(Part::Delta.color(ui)));
                let columns = if count == 1 { "independent column" } else { "independent columns" };
                weak(ui, format!("{columns} framed"));
            });
        });
        within(ui, at[1], "steps", |ui| steps(ui, rank, looks));
    });
    let now =
        format!("Now the rank is {}, with {} of the nine numbers changed.", rank.elimination().rank(), rank.changed());
    let sigma = rank.svd().sigma;
    let truth = format!(
        "An exact zero is rare. Here σ₃ is {} of σ₁, and a program counts it {} {} of σ₁, the rounding of 32-bit numbers. Set \
         the last cell to 9.001: the rank is 3, by a thousandth.",
        short(sigma[2] / sigma[0].max(1e-300), 2),
        if rank.svd().rank() == 3 { "as it is above" } else { "as zero below" },
        short(THRESHOLD, 2),
    );
    beside(
        ui,
        |ui| super::goal(ui, view, Chapter::Rank, &now),
        |ui| said(ui, "the rank of a matrix is one clear number.", &truth),
    );
    if let Some((i, j, value)) = edit {
        view.actions.push(Action::Rank(i, j, value));
    }
}

fn steps(ui: &mut Ui, rank: &Rank, looks: &mut Looks) {
    let last = match looks.way {
        Way::Elimination => rank.elimination().steps.len(),
        Way::Svd => SVD_STEPS - 1,
    };
    looks.step = looks.step.min(last);
    ui.horizontal_wrapped(|ui| {
        if let Some(way) = choice(ui, looks.way, &[(Way::Elimination, "Elimination"), (Way::Svd, "Singular values")]) {
            *looks = Looks { way, step: 0 };
        }
        ui.add_space(10.0);
        ui.add_enabled_ui(looks.step > 0, |ui| {
            if ui.button("←").on_hover_text("The step before").accessible_name("Step back").clicked() {
                looks.step -= 1;
            }
        });
        ui.label(format!("step {} of {last}", looks.step));
        ui.add_enabled_ui(looks.step < last, |ui| {
            if ui.button("→").on_hover_text("The next step").accessible_name("Step on").clicked() {
                looks.step += 1;
            }
        });
    });
    ui.add_space(4.0);
    match looks.way {
        Way::Elimination => elimination(ui, rank, looks.step),
        Way::Svd => singular(ui, rank, looks.step),
    }
}

fn elimination(ui: &mut Ui, rank: &Rank, step: usize) {
    let found = rank.elimination();
    let words = match step.checked_sub(1).map(|i| found.steps[i].operation) {
        None if found.steps.is_empty() => "There is nothing to make zero: the pivots stand already.".to_owned(),
        None => {
            "Subtract multiples of a row from the rows below it, until there are zeros below each pivot.".to_owned()
        }
        Some(Operation::Swap(a, b)) => {
            format!("Row {} and row {} change places: the pivot must not be zero.", a + 1, b + 1)
        }
        Some(Operation::Subtract { row, pivot, factor }) => {
            format!("row {} ← row {} − ({}) · row {}", row + 1, row + 1, short(factor, 4), pivot + 1)
        }
    };
    ui.label(RichText::new(words).strong());
    ui.add_space(6.0);
    let before = found.after(step.saturating_sub(1));
    let after = found.after(step);
    let last = step == found.steps.len();
    let framed = |i: usize, j: usize| last && found.pivots.contains(&[i, j]);
    let (then, now) = (|i: usize, j: usize| before[i][j], |i: usize, j: usize| after[i][j]);
    let scale = largest(rank.rows()).max(1.0);
    let then = Grid::new("before", Part::Wish, [3, 3], &then).scale(scale).cell(SMALL);
    let now = Grid::new(if step == 0 { "start" } else { "after" }, Part::Delta, [3, 3], &now);
    let now = now.scale(scale).cell(SMALL).framed(&framed);
    if step == 0 {
        let at = flow(ui, &[now.size()]);
        now.ui(ui, at[0]);
    } else {
        let at = flow(ui, &[then.size(), now.size()]);
        then.ui(ui, at[0]);
        now.ui(ui, at[1]);
    }
    if last {
        let count = found.rank();
        let pivots = if count == 1 { "1 pivot".to_owned() } else { format!("{count} pivots") };
        ui.label(format!("Zeros below each pivot: {pivots}, so the rank is {count}."));
    }
}

fn singular(ui: &mut Ui, rank: &Rank, step: usize) {
    let svd = rank.svd();
    let list = |values: [f64; 3]| values.map(|v| short(v, 4)).join(",  ");
    let show = |ui: &mut Ui, all: &[(&str, Part, Three)]| {
        let values: Vec<Box<dyn Fn(usize, usize) -> f64>> = all
            .iter()
            .map(|&(_, _, m)| Box::new(move |i: usize, j: usize| m[i][j]) as Box<dyn Fn(usize, usize) -> f64>)
            .collect();
        // All of them in one line, on smaller cells where there is little room.
        let count = all.len() as f32;
        let side = ((ui.available_width() - GAP * (count - 1.0)) / count - AROUND) / 3.0;
        let cell = vec2(SMALL.x.min(side).max(LEAST), SMALL.y);
        let grids: Vec<Grid<'_>> = all
            .iter()
            .zip(&values)
            .map(|((name, part, m), value)| Grid::new(name, *part, [3, 3], &**value).scale(largest(m)).cell(cell))
            .collect();
        let at = flow(ui, &grids.iter().map(Grid::size).collect::<Vec<_>>());
        for (grid, at) in grids.iter().zip(at) {
            grid.ui(ui, at);
        }
    };
    let strong = |ui: &mut Ui, text: &str| {
        ui.label(RichText::new(text).strong());
        ui.add_space(6.0);
    };
    let columns = |vectors: &Three| -> Three { std::array::from_fn(|i| std::array::from_fn(|j| vectors[j][i])) };
    match step {
        0 => {
            strong(ui, "Multiply M's transpose by M: MᵗM has the strengths of M's directions, squared.");
            show(ui, &[("MᵗM", Part::Delta, svd.gram)]);
        }
        1 => {
            strong(ui, "Its eigenvalues λ are the roots of det(MᵗM − λI) = 0.");
            ui.label(equation(svd.polynomial));
            ui.label(format!("λ = {}", list(svd.lambda)));
        }
        2 => {
            strong(ui, "Their square roots are the singular values.");
            bars(ui, svd.sigma);
            let count = svd.rank();
            ui.label(format!("{count} of 3 above {} of σ₁: the rank is {count}.", short(THRESHOLD, 2)));
        }
        3 => {
            strong(ui, "To each belongs a direction in, vᵢ, and a direction out, uᵢ = M vᵢ / σᵢ.");
            show(ui, &[("u₁ u₂ u₃", Part::B, columns(&svd.u)), ("v₁ v₂ v₃", Part::A, columns(&svd.v))]);
        }
        _ => {
            strong(ui, "M is the sum of σᵢ uᵢ vᵢᵗ. Keep the first, and there is the best rank 1.");
            let last = [("σ₁u₁v₁ᵗ", svd.term(0)), ("σ₂u₂v₂ᵗ", svd.term(1)), ("σ₃u₃v₃ᵗ", svd.term(2))];
            show(ui, &last.map(|(name, m)| (name, Part::Delta, m)));
        }
    }
}

/// λ³ − c₁ λ² + c₂ λ − c₃ = 0, without what is zero.
fn equation(coefficients: [f64; 3]) -> String {
    let powers = [(" −", " λ²"), (" +", " λ"), (" −", "")];
    let terms = coefficients.into_iter().zip(powers).filter(|(c, _)| c.abs() > 1e-9);
    let left: String = terms.map(|(c, (sign, power))| format!("{sign} {}{power}", short(c, 5))).collect();
    format!("λ³{left} = 0")
}

/// σ as bars.
fn bars(ui: &mut Ui, sigma: [f64; 3]) {
    let color = Part::Delta.color(ui);
    let names = ["σ₁", "σ₂", "σ₃"];
    for (name, value) in names.into_iter().zip(sigma) {
        ui.horizontal(|ui| {
            ui.label(name);
            let share = (value / sigma[0].max(1e-300)) as f32;
            let width = (ui.available_width() - 90.0).max(40.0);
            let (rect, _) = ui.allocate_exact_size(vec2(width, 14.0), Sense::hover());
            ui.painter().rect_filled(rect.with_max_x(rect.left() + (rect.width() * share).max(1.0)), 2, color);
            ui.label(short(value, 4));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equation_has_no_zeros() {
        assert_eq!(equation([285.0, 324.0, 0.0]), "λ³ − 285 λ² + 324 λ = 0");
        assert_eq!(equation([3.0, 0.0, 1.5]), "λ³ − 3 λ² − 1.5 = 0");
    }
}
