//! Plots that look alike: axes, grids and readouts for linear and logarithmic values.
//!
//! egui_plot knows linear axes only, so a logarithmic axis shows log₁₀ of its values: what is put into such a plot goes through [`Axis::place`].

use std::ops::RangeInclusive;

use eframe::egui::{FontId, Ui};
use egui_plot::{AxisHints, GridInput, GridMark, HPlacement, Plot};

use super::legend::SMALL;
use crate::figure::{Axis, number};

impl Axis {
    /// Grid marks; a number beside the next one needs `room` of egui's smallest steps.
    fn marks(&self, input: &GridInput, room: f64) -> Vec<GridMark> {
        if !self.names.is_empty() {
            return (0..self.names.len()).map(|i| GridMark { value: i as f64, step_size: 1.0 }).collect();
        }
        if let Some(places) = self.marks_at() {
            return places.into_iter().map(|value| GridMark { value, step_size: 1.0 }).collect();
        }
        if self.log { log_marks(input, room) } else { linear_marks(input) }
    }

    /// What is written at a grid mark; nothing at the finer ones.
    fn tick(&self, mark: GridMark, range: &RangeInclusive<f64>) -> String {
        if self.log && mark.step_size <= FINE {
            return String::new();
        }
        self.label_at(mark.value, range.end() - range.start())
    }
}

/// Smallest steps, of six points each, that a number takes across and up.
const ROOM: [f64; 2] = [8.0, 2.4];
/// The step of marks on a logarithmic axis that get no number: less than from 9 to 10.
const FINE: f64 = 0.045;

/// Powers of ten, and 2…9 times them as finer marks.
fn log_marks(input: &GridInput, room: f64) -> Vec<GridMark> {
    let (low, high) = input.bounds;
    if !(high - low).is_finite() || high <= low {
        return vec![];
    }
    // Hardly a power of ten in sight: round values.
    if high - low < 0.5 {
        let values = three(10f64.powf(low), 10f64.powf(high), 4);
        return values.into_iter().map(|value| GridMark { value: value.log10(), step_size: 0.3 }).collect();
    }
    let mut marks = vec![];
    // Where there is room for a number at each of them.
    let dense = (5.0f64 / 4.0).log10() > 2.4 * input.base_step_size;
    let some = 2f64.log10() > room * input.base_step_size;
    // Far out only every so many powers.
    let every = ((high - low) / 12.0).ceil().max(1.0);
    let mut power = (low / every).floor() * every;
    while power <= high {
        marks.push(GridMark { value: power, step_size: every });
        if every == 1.0 {
            // The step is the way to the next mark, as on log paper.
            marks.extend((2..10).map(|i| {
                let step = match high - low {
                    span if span < 1.2 && dense => (f64::from(i + 1) / f64::from(i)).log10(),
                    // Named too: see `Axis::label_at`.
                    _ if some && (i == 2 || i == 5) => 0.3,
                    _ => FINE,
                };
                GridMark { value: power + f64::from(i).log10(), step_size: step }
            }));
        }
        power += every;
    }
    // A mark outside of what is seen would be named beyond the frame.
    marks.retain(|mark| (low..=high).contains(&mark.value));
    marks
}

/// Round values, about `count` but three at least: one or two say nothing of how far apart things are.
fn three(low: f64, high: f64, count: usize) -> Vec<f64> {
    let finer = (0..4).map(|more| number::ticks(low, high, count << more));
    finer.fold(Vec::new(), |ticks: Vec<f64>, finer| if ticks.len() < 3 { finer } else { ticks })
}

fn linear_marks(input: &GridInput) -> Vec<GridMark> {
    let (low, high) = input.bounds;
    // egui's recommendation is the smallest step that can be seen; numbers need about six times that.
    let count = ((high - low) / (input.base_step_size * 7.0)).clamp(2.0, 12.0) as usize;
    let ticks = three(low, high, count);
    let step = ticks.get(1).map_or(high - low, |second| second - ticks[0]);
    ticks.into_iter().map(|value| GridMark { value, step_size: step }).collect()
}

/// A plot with these axes in the common look. Wheel without Ctrl scrolls the page; drag moves, Ctrl and wheel zooms, a double click
/// resets, a drag with the right button zooms into a box.
pub fn plot<'a>(ui: &Ui, id: &str, x: &Axis, y: &Axis) -> Plot<'a> {
    let (text, font) = (ui.visuals().text_color(), FontId::proportional(SMALL));
    let hints = |hints: AxisHints<'a>, axis: &Axis| {
        let axis = axis.clone();
        let label = eframe::egui::RichText::new(axis.label.clone()).font(FontId::proportional(12.0));
        hints
            .label(label)
            .tick_label_color(text)
            .tick_label_font(font.clone())
            .label_spacing(8.0..=9.0)
            .formatter(move |mark, range| axis.tick(mark, range))
    };
    let (across, up) = (x.clone(), y.clone());
    Plot::new(id)
        .custom_x_axes(vec![hints(AxisHints::new_x(), x)])
        .custom_y_axes(vec![hints(AxisHints::new_y(), y).placement(HPlacement::Left).min_thickness(52.0)])
        .x_grid_spacer(move |input| across.marks(&input, ROOM[0]))
        .y_grid_spacer(move |input| up.marks(&input, ROOM[1]))
        .grid_color(ui.visuals().text_color().gamma_multiply(0.8))
        .grid_spacing(6.0..=1200.0)
        .show_background(false)
        .show_crosshair(false)
        .allow_scroll(false)
        .set_margin_fraction(eframe::egui::vec2(0.02, 0.05))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_axis_has_three_marks() {
        for bounds in [(0.8, 10.1), (0.0, 1.0), (-3.0, 4.5), (5_632.0, 50_000.0)] {
            let marks = linear_marks(&GridInput { bounds, base_step_size: (bounds.1 - bounds.0) / 3.0 });
            assert!(marks.len() >= 3, "{bounds:?}: {marks:?}");
        }
    }

    #[test]
    fn a_short_logarithmic_axis_has_three_marks() {
        let marks = log_marks(&GridInput { bounds: (2.2f64.log10(), 3.05f64.log10()), base_step_size: 0.01 }, 2.4);
        assert!(marks.len() >= 3, "{marks:?}");
    }

    #[test]
    fn log_marks_are_those_of_log_paper() {
        let marks = log_marks(&GridInput { bounds: (-1.0, 1.0), base_step_size: 0.01 }, 2.4);
        let powers: Vec<f64> = marks.iter().filter(|m| m.step_size == 1.0).map(|m| m.value).collect();
        assert_eq!(powers, [-1.0, 0.0, 1.0]);
        assert!(marks.iter().any(|m| (m.value - 0.5f64.log10()).abs() < 1e-12));
        let far = log_marks(&GridInput { bounds: (-40.0, 10.0), base_step_size: 1.0 }, 2.4);
        assert!(far.len() <= 14 && far.iter().all(|m| m.step_size == 5.0));
        assert!(log_marks(&GridInput { bounds: (0.0, f64::INFINITY), base_step_size: 1.0 }, 2.4).is_empty());
    }
}
