//! Chapter 3: W₀ + ΔW = W, and what comes out of it.

use eframe::egui::Ui;

use super::View;
use super::state::{Action, ChangeEdit, Chapter, INPUT, WISH};
use crate::figure::number::short;
use crate::units;

use super::flow::flow;
use super::grid::{Grid, sign, sign_size};
use super::parts::Part;
use super::pieces::{beside, said, stage, weak};

/// Numbers of this magnitude are painted strongest.
const SCALE: f64 = 5.0;

/// Paints it.
pub fn ui(ui: &mut Ui, view: &mut View<'_>) {
    let change = &view.state.change;
    let (base, delta, tuned) = (*change.base(), *change.delta(), change.tuned());
    let [from_base, from_delta, answer] = change.answers();
    let mut edit = None;
    stage(ui, |ui| {
        let (w0, dw, w) =
            (|i: usize, j: usize| base[i][j], |i: usize, j: usize| delta[i][j], |i: usize, j: usize| tuned[i][j]);
        let w0 = Grid::new("W₀  frozen", Part::Base, [3, 3], &w0).scale(SCALE);
        let dw = Grid::new("ΔW", Part::Delta, [3, 3], &dw).scale(SCALE).edit();
        let w = Grid::new("W", Part::Sum, [3, 3], &w).scale(SCALE).edit();
        let at = flow(ui, &[w0.size(), sign_size(), dw.size(), sign_size(), w.size()]);
        w0.ui(ui, at[0]);
        sign(ui, at[1], "+");
        if let Some((i, j, value)) = dw.ui(ui, at[2]) {
            edit = Some(ChangeEdit::Delta(i, j, value));
        }
        sign(ui, at[3], "=");
        if let Some((i, j, value)) = w.ui(ui, at[4]) {
            edit = Some(ChangeEdit::Tuned(i, j, value));
        }
        ui.add_space(2.0);
        ui.vertical_centered(|ui| weak(ui, format!("Send x = ({}) through both:", list(INPUT))));
        let [b, d, y, wish] = [from_base, from_delta, answer, WISH].map(|v| move |_: usize, j: usize| v[j]);
        let row =
            |name, part, value| Grid::new(name, part, [1, 3], value).scale(SCALE).cell(eframe::egui::vec2(40.0, 30.0));
        let all = [
            row("W₀ x", Part::Base, &b as &dyn Fn(usize, usize) -> f64),
            row("ΔW x", Part::Delta, &d),
            row("W x", Part::Sum, &y),
            row("wanted", Part::Wish, &wish),
        ];
        let size = all[0].size();
        let at = flow(ui, &[size, sign_size(), size, sign_size(), size, size]);
        all[0].ui(ui, at[0]);
        sign(ui, at[1], "+");
        all[1].ui(ui, at[2]);
        sign(ui, at[3], "=");
        all[2].ui(ui, at[4]);
        all[3].ui(ui, at[5]);
    });
    weak(ui, "Drag a framed cell sideways, or go to it with Tab and type; arrow keys step.");
    let now = format!("Now W x is ({}).", list(answer));
    let truth = format!(
        "ΔW has as many numbers as W₀: nine here, {} in a layer of 4096 × 4096. Yours differs from zero in {} of nine cells, and \
         its norm is {} of the base's. What can make a change small to store is its rank: that comes next.",
        units::exact(4096 * 4096),
        change.changed(),
        units::percent(change.size())
    );
    beside(
        ui,
        |ui| super::goal(ui, view, Chapter::Change, &now),
        |ui| said(ui, "a tuned model is a small patch.", &truth),
    );
    if let Some(edit) = edit {
        view.actions.push(Action::Change(edit));
    }
}

fn list(values: [f64; 3]) -> String {
    values.map(|value| short(value, 3)).join(", ")
}
