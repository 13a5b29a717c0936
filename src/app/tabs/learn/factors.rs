//! Chapter 4: B beside ΔW, A above it, each cell the product of the two.

use eframe::egui::{Align2, FontFamily, FontId, Rect, Ui, pos2, vec2};

use super::View;
use super::state::{Action, Chapter, FactorsEdit, Wish};
use crate::app::look::theme;
use crate::figure::number::short;
use crate::units;

use super::flow::flow;
use super::grid::{Grid, sign, sign_size};
use super::parts::Part;
use super::pieces::{beside, choice, said, stage};

const SCALE: f64 = 6.0;

/// Paints it.
pub fn ui(ui: &mut Ui, view: &mut View<'_>) {
    let factors = &view.state.factors;
    let (b, a, delta, rest) = (factors.b(), factors.a(), factors.delta(), factors.rest());
    let wish = factors.wish().matrix();
    let mut edit = None;
    stage(ui, |ui| {
        ui.horizontal_wrapped(|ui| {
            ui.label("Target ΔW:");
            let of = [(Wish::Outer, "rank 1"), (Wish::Diagonal, "rank 3")];
            edit = choice(ui, factors.wish(), &of).map(FactorsEdit::Wish);
        });
        let (in_b, in_a) = (|i: usize, _: usize| b[i], |_: usize, j: usize| a[j]);
        let b_grid = Grid::new("B", Part::B, [3, 1], &in_b).scale(SCALE / 2.0).edit();
        let a_grid = Grid::new("A", Part::A, [1, 3], &in_a).scale(SCALE / 2.0).edit();
        let (in_delta, in_wish, in_rest) =
            (|i: usize, j: usize| delta[i][j], |i: usize, j: usize| wish[i][j], |i: usize, j: usize| rest[i][j]);
        let d_grid = Grid::new("ΔW", Part::Delta, [3, 3], &in_delta).scale(SCALE);
        let w_grid = Grid::new("target", Part::Wish, [3, 3], &in_wish).scale(SCALE);
        let r_grid = Grid::new("target − B A", Part::Sum, [3, 3], &in_rest).scale(SCALE);
        // B stands left of ΔW and A above it, so that each cell sees its two factors.
        let cross = vec2(b_grid.size().x + 10.0 + d_grid.size().x, a_grid.size().y + d_grid.size().y + 10.0);
        let at = flow(ui, &[cross, w_grid.size(), sign_size(), r_grid.size()]);
        let left = at[0].left() + b_grid.size().x + 10.0;
        let a_at = Rect::from_min_size(pos2(left, at[0].top()), a_grid.size());
        let d_at = Rect::from_min_size(pos2(left, a_at.bottom() - 14.0), d_grid.size());
        let b_at = Rect::from_min_size(pos2(at[0].left(), d_at.top()), b_grid.size());
        if let Some((i, _, value)) = b_grid.ui(ui, b_at) {
            edit = Some(FactorsEdit::B(i, value));
        }
        if let Some((_, j, value)) = a_grid.ui(ui, a_at) {
            edit = Some(FactorsEdit::A(j, value));
        }
        d_grid.untitled(ui, d_at);
        let below = pos2(d_at.center().x, d_at.bottom() + 13.0);
        let name = FontId::new(15.0, FontFamily::Name(theme::STRONG.into()));
        ui.painter().text(below, Align2::CENTER_CENTER, "ΔW = B A", name, Part::Delta.color(ui));
        w_grid.ui(ui, at[1]);
        sign(ui, at[2], "→");
        r_grid.ui(ui, at[3]);
    });
    let steps = factors.steps();
    let error = format!(
        "‖target − B A‖ = {}; no rank-1 matrix comes closer than √(σ₂² + σ₃²) = {}.",
        short(factors.error(), 3),
        short(factors.floor(), 3)
    );
    let now = match steps {
        [false, _] => format!("First target: not yet. {error}"),
        [true, false] => format!("First target: done. Second target: not yet. {error}"),
        [true, true] => format!("Both done. {error}"),
    };
    beside(ui, |ui| super::goal(ui, view, Chapter::Factors, &now), |ui| said(ui, "LoRA always saves.", &saving()));
    if let Some(edit) = edit {
        view.actions.push(Action::Factors(edit));
    }
}

/// What else is often said.
pub fn more(ui: &mut Ui) {
    said(
        ui,
        "LoRA computes ΔW and then decomposes it.",
        "Training never sees ΔW. A starts with random numbers and B with zeros, so that B A is 0 and the model starts as its base. \
         Then gradients move A and B themselves: six numbers are trained, not nine. To decompose a ΔW that is there already is \
         another use of the same idea (`extract`).",
    );
}

/// What B and A cost beside ΔW, small and large.
fn saving() -> String {
    let cost = |n: u64, r: u64| (r * (n + n), n * n);
    let ((one, all), (two, _), (eight, large)) = (cost(3, 1), cost(3, 2), cost(4096, 8));
    format!(
        "Here rank 1 takes {one} numbers for {all}, but rank 2 would take {two}. At 4096 × 4096 rank 8 takes {} for {}: {}. \
         B A is smaller only below rank {}.",
        units::exact(eight),
        units::exact(large),
        units::percent(eight as f64 / large as f64),
        4096 / 2
    )
}
